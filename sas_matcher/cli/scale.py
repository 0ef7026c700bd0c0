"""The commands of scale-out: everything of it on one machine, and which matcher decides for a territory."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sas_matcher.cli.french import FrenchCommand, InputError

if TYPE_CHECKING:
    from sas_matcher.supervise import Service

scale = typer.Typer(rich_markup_mode=None)

Data = Annotated[Path | None, typer.Option(metavar="DOSSIER", help="Dossier des serveurs embarqués (SAS_DATA_DIR).")]


@scale.command(cls=FrenchCommand)
def cluster(
    host: Annotated[str | None, typer.Option(metavar="ADRESSE", help="Adresse d'écoute (SAS_HOST).")] = None,
    port: Annotated[int | None, typer.Option(metavar="PORT", help="Port d'écoute (SAS_PORT).")] = None,
    data: Data = None,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Processus qui servent l'API.")] = 2,
    matchers: Annotated[int, typer.Option(min=1, metavar="N", help="Apparieurs qui se partagent les territoires.")] = 2,
    log_level: Annotated[
        str | None, typer.Option(metavar="NIVEAU", help="debug, info, warning ou error ; journal JSON sur stderr.")
    ] = None,
) -> None:
    """Lance le service à l'échelle, sur cette machine : trois nœuds Valkey, PostgreSQL et sa réplique.

    Un nœud, un processus ou PostgreSQL tué est remplacé : la réplique est promue, l'ancien primaire ne revient pas.
    """
    from sas_matcher.cli import service  # noqa: PLC0415 - see the package

    service.serve(
        None,
        cluster=True,
        started=lambda running: typer.echo(_shape(running)),
        host=host,
        port=port,
        data_dir=data,
        api_workers=workers,
        matchers=matchers,
        log_level=log_level,
    )


def _shape(running: "Service") -> str:
    """Say what runs, and how to reach its stores from another terminal."""
    settings = running.settings
    names = ", ".join(f"{child.name} ({child.process.pid})" for child in running.children if child.process)
    return (
        f"http://{settings.host}:{settings.port} : {names}.\n"
        "Pour les autres commandes (keys, audit, record, move), dans un autre terminal :\n"
        f"  export SAS_DATABASE_URL='{settings.database_url}'\n  export SAS_REDIS_URL='{settings.redis_url}'"
    )


@scale.command(cls=FrenchCommand)
def move(
    territory: Annotated[str, typer.Argument(metavar="DÉPARTEMENT", help="Territoire à déplacer.")],
    to: Annotated[int, typer.Option("--to", min=0, metavar="N", help="Numéro de l'apparieur (SAS_SHARE), dès 0.")],
    data: Data = None,
) -> None:
    """Confie un territoire à un autre apparieur ; c'est fait en quelques secondes, sans rien perdre."""
    from adapters.geo import Gazetteer  # noqa: PLC0415 - see the package
    from sas_matcher.cli import service  # noqa: PLC0415

    code = territory.strip().upper()
    if code not in Gazetteer.load().territories:
        raise InputError(f"« {territory} » n'est pas un département")

    async def work(stores: Any) -> None:
        await stores.ledger.move_territory(code, to, stores.clock.now())

    service.with_stores(data, work)
    typer.echo(f"{code} : confié à l'apparieur {to}.")
