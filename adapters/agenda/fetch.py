"""Fetches a calendar or a manifest from its address (see ``adapters.outside`` for what it never does)."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from adapters.outside import Outside, OutsideError, Resolve, resolve
from sas_matcher.domain.agenda import FeedError

if TYPE_CHECKING:
    import httpx

MOST_BYTES: Final = 8 * 1024 * 1024  # 5 000 events are about 2 MB
WHOLE_S: Final = 30.0
_HEADERS: Final = {"Accept": "text/calendar, application/fhir+ndjson, application/json"}


class Fetcher:
    """Asks for feeds; ``inside``: hosts (``host`` or ``host:port``) that may be of our network, and without TLS."""

    def __init__(
        self,
        inside: Collection[str] = (),
        *,
        resolve: Resolve = resolve,
        transport: "httpx.AsyncBaseTransport | None" = None,
    ) -> None:
        self._outside = Outside(inside, "SAS_FEED_HOSTS", WHOLE_S, resolve=resolve, transport=transport)

    async def fetch(self, url: str) -> bytes:
        """Return what is at an address.

        Raises:
            FeedError: in French, why it cannot be had; without the address, which may hold a secret.
        """
        try:
            answer = await self._outside.call("GET", url, _HEADERS, most=MOST_BYTES)
        except OutsideError as wrong:
            raise FeedError(str(wrong)) from None
        if answer.status != 200:
            raise FeedError(f"l'adresse répond {answer.status}")
        if not answer.whole:
            raise FeedError(f"plus de {MOST_BYTES // 1024 // 1024} Mio ; publiez un calendrier plus court")
        return answer.body
