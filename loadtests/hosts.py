"""Which hosts may be loaded: this machine only."""

from typing import Final
from urllib.parse import urlsplit

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def refuse_foreign(url: str) -> None:
    """Let addresses of this machine pass.

    A load test invents places and takes them: on a service that people use it would send patients nowhere.

    Raises:
        SystemExit: with a French message.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in LOOPBACK:
        raise SystemExit(
            f"« {url} » n'est pas une adresse de cette machine (http://127.0.0.1:…). Le test de charge invente des "
            "places et les prend : il ne tourne jamais contre un service ouvert à d'autres."
        )
