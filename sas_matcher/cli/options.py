"""Options that several commands have."""

from pathlib import Path
from typing import Annotated, Final

import typer

from sas_matcher.cli.french import InputError

DEFAULT_URL: Final = "http://127.0.0.1:8069"

Url = Annotated[str, typer.Option("--url", envvar="SAS_URL", metavar="URL", help="Adresse du service.")]
Key = Annotated[str, typer.Option("--key", envvar="SAS_KEY", metavar="CLÉ", help="Clé d'accès (sas_…).")]
Territory = Annotated[str, typer.Argument(metavar="CODE", help="Département : 01 à 95, 2A, 2B, 971 à 976.")]
Json = Annotated[bool, typer.Option("--json", help="Affiche les documents JSON tels quels.")]

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DOSSIER", help="Dossier des serveurs embarqués (sinon SAS_DATA_DIR, ou .data)."),
]


def checked_key(key: str) -> str:
    """Return the key.

    Raises:
        InputError: there is none.
    """
    if not key:
        raise InputError(
            "il manque la clé d'accès : donnez --key, ou la variable SAS_KEY (voir sas-matcher keys issue)"
        )
    return key
