"""The commands about editors of agendas: look at an endpoint, serve an invented one, see how those we poll do."""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from sas_matcher.cli.french import FailureError, FrenchCommand, FrenchGroup, InputError
from sas_matcher.cli.options import DEFAULT_URL, Json, Key, Url
from sas_matcher.cli.speaking import say, with_client

fhir = typer.Typer(
    cls=FrenchGroup,
    help="Le contrat national SAS (FHIR) : vérifier le point d'accès d'un éditeur.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
editor = typer.Typer(rich_markup_mode=None)
editors = typer.Typer(
    cls=FrenchGroup,
    help="Éditeurs d'agendas interrogés : vérifier leur fichier, voir comment ils vont.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@fhir.callback()
def fhir_top() -> None:
    """Le contrat national SAS (FHIR) : vérifier le point d'accès d'un éditeur."""


@fhir.command("check", cls=FrenchCommand)
def check(
    url: Annotated[str, typer.Argument(metavar="URL", help="Point d'accès : ce qui précède /Slot.")],
    rpps: Annotated[
        list[str] | None,
        typer.Option(metavar="RPPS", help="Professionnel que l'éditeur connaît ; répétable, 25 au plus."),
    ] = None,
    siret: Annotated[
        list[str] | None, typer.Option(metavar="SIRET", help="Association SOS Médecins ; répétable, 10 au plus.")
    ] = None,
    cpts: Annotated[bool, typer.Option("--cpts", help="Vérifie aussi INT_R04 (CPTS).")] = False,
    certificate: Annotated[Path | None, typer.Option(metavar="PEM", help="Certificat client.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="PEM", help="Sa clé.")] = None,
    authorities: Annotated[Path | None, typer.Option(metavar="PEM", help="Autorités du serveur.")] = None,
    bearer: Annotated[
        str,
        typer.Option(envvar="SAS_KEY_FHIR", metavar="CLÉ", help="Clé d'accès, là où il n'y a pas de certificat."),
    ] = "",
) -> None:
    """Dit, règle par règle, ce qui ne va pas dans un point d'accès d'éditeur ; 1 s'il manque à l'une d'elles.

    Chaque règle est précédée du chapitre du contrat (docs/fhir.md). Aucune écriture n'est faite chez l'éditeur.
    """
    from sas_matcher.cli import endpoint  # noqa: PLC0415 - see the package

    if not rpps and not siret:
        raise InputError("donnez --rpps (un professionnel que l'éditeur connaît), ou --siret (SOS Médecins)")
    if not url.startswith(("http://", "https://")):
        raise InputError(f"« {url} » n'est pas une adresse http:// ou https://")
    wish = endpoint.Wish(url.rstrip("/"), rpps or [], siret or [], cpts, certificate, key, authorities, bearer)
    broken = asyncio.run(endpoint.check(wish, datetime.now(UTC), typer.echo))
    if broken:
        raise FailureError(f"{broken} règle(s) non respectée(s)")


@editors.command("list", cls=FrenchCommand)
def editors_list(url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Dit de chaque éditeur s'il répond, depuis quand il est muet, ce qu'il montre et la part de ses fantômes."""
    found = with_client(url, key, lambda sas: sas.editors())
    none = "Aucun éditeur ; donnez leur fichier à SAS_EDITORS (docs/fhir.md)."
    say(found, _editor_lines, as_json=as_json, none=none)


def _editor_lines(editor: Mapping[str, Any]) -> Iterator[str]:
    """Yield how an editor does."""
    yield f"{editor['name']} : {editor['sentence']}"
    share = f", {editor['phantoms']} fantômes sur {editor['tried']} places tentées" if editor["tried"] else ""
    lost = sum(editor["dropped"].values())
    yield f"  {editor['places']} places{share}" + (f", {lost} créneaux inutilisables" if lost else "")


@editors.command("check", cls=FrenchCommand)
def editors_check(
    file: Annotated[Path, typer.Argument(metavar="FICHIER", help="Fichier TOML donné à SAS_EDITORS.")],
) -> None:
    """Vérifie le fichier des éditeurs et les listes et certificats qu'il nomme, sans interroger personne."""
    from sas_matcher.bootstrap.editors import check_editors, editors_of  # noqa: PLC0415
    from sas_matcher.config import Settings  # noqa: PLC0415 - see the package

    settings = Settings(editors=str(file))
    check_editors(settings)
    for read in editors_of(settings):
        people = sum(len(batch.identifiers) for batch in read.batches)
        typer.echo(
            f"{read.config.name} : {people} identifiants, {len(read.batches)} appels par tour, {read.config.url}"
        )


@editor.command("mock-editor", cls=FrenchCommand)
def mock_editor(
    departement: Annotated[
        str, typer.Option("--departement", "-d", metavar="CODE", help="Département : 01 à 95, 2A, 2B, 971 à 976.")
    ] = "69",
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="PORT", help="Port d'écoute.")] = 8071,
    share: Annotated[
        float, typer.Option(min=0.01, max=1.0, metavar="PART", help="Part des professionnels fictifs chez cet éditeur.")
    ] = 1.0,
    latency: Annotated[float, typer.Option(min=0.0, metavar="SECONDES", help="Temps de réponse ordinaire.")] = 0.15,
    outage: Annotated[
        str, typer.Option(metavar="TOUTES/DURÉE", help="Pannes : 600/60 répond 503 une minute toutes les dix.")
    ] = "",
    phantoms: Annotated[
        float, typer.Option(min=0.0, max=1.0, metavar="PART", help="Créneaux pris, montrés quand même.")
    ] = 0.06,
    lies: Annotated[
        float, typer.Option(min=0.0, max=1.0, metavar="PART", help="Réponses contraires au contrat.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Graine de ce qui arrive par hasard.")] = 0,
    write: Annotated[
        Path | None, typer.Option(metavar="DOSSIER", help="Écrit aussi editeurs.toml, à donner à SAS_EDITORS.")
    ] = None,
    platform: Annotated[
        str, typer.Option(metavar="URL", help="Point d'accès FHIR à qui annoncer les rendez-vous (INT_R03).")
    ] = "",
    platform_key: Annotated[
        str, typer.Option(envvar="SAS_KEY_MOCK", metavar="CLÉ", help="Clé de rôle fhir pour ces annonces.")
    ] = "",
) -> None:
    """Sert un éditeur d'agendas fictif : les trois flux, une page de réservation, et des pannes si l'on veut."""
    from adapters.fhir.mock import Manners  # noqa: PLC0415 - see the package
    from adapters.system import SystemClock  # noqa: PLC0415
    from sas_matcher.cli import mock  # noqa: PLC0415

    every, length = _outage(outage)
    places = mock.agendas(departement.strip().upper(), SystemClock().now(), share)
    known = mock.identifiers(places)
    typer.echo(f"Éditeur fictif : http://127.0.0.1:{port}/fhir, {len(places)} créneaux, {len(known)} identifiants.")
    typer.echo(f"Exemple : sas-matcher fhir check http://127.0.0.1:{port}/fhir --rpps {known[-1]}")
    if write is not None:
        target = mock.write_configuration(write, f"http://127.0.0.1:{port}", places, platform_key)
        typer.echo(f"À interroger par le service : SAS_EDITORS={target}")
    manners = Manners(latency, every, length, phantoms, lies, seed)
    mock.serve(places, manners, port, platform.rstrip("/"), platform_key, typer.echo)


def _outage(text: str) -> tuple[float, float]:
    """Read "600/60" as (each 600 s, for 60 s).

    Raises:
        InputError: it does not read so.
    """
    if not text:
        return 0.0, 0.0
    every, _, length = text.partition("/")
    try:
        found = float(every), float(length)
    except ValueError:
        found = (0.0, 0.0)
    if not 0 < found[1] <= found[0]:
        raise InputError("--outage : attendu TOUTES/DURÉE en secondes, par exemple 600/60")
    return found
