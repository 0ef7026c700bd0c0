"""The commands of a practice about its agendas: the week, more places, stop, tables."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from sas_matcher.cli.french import FrenchCommand, FrenchGroup, InputError
from sas_matcher.cli.options import DEFAULT_URL, Json, Key, Url
from sas_matcher.cli.speaking import read_file, read_object, say, with_client

if TYPE_CHECKING:
    from sas_matcher.client import Agenda

T = TypeVar("T")
agenda = typer.Typer(
    cls=FrenchGroup,
    help="Agendas tenus ici : la semaine type, des places en plus, tout arrêter, un fichier CSV.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Name = Annotated[str, typer.Argument(metavar="NOM", help="Nom de l'agenda : a-z, 0-9, - et _.")]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NOM]…", help="Noms des agendas ; tous ceux de la clé sinon.")
]
_CHANGED: Final = {
    "created": "créés",
    "updated": "remis ou modifiés",
    "unchanged": "inchangés",
    "closed": "retirés",
    "refused": "patients à replacer",
    "kept": "patients gardés hors agenda",
    "booked": "réservés, donc laissés tels quels",
}


def agenda_lines(found: "Agenda") -> Iterator[str]:
    """Yield an agenda in a few lines: where it is published, what changed last."""
    until = "" if found.shown_until is None else f", publié jusqu'au {found.shown_until:%d/%m/%Y}"
    yield f"{found.name} (version {found.version}, heure {found.zone}{until})"
    parts = ", ".join(f"{found.report[word]} {text}" for word, text in _CHANGED.items() if found.report.get(word))
    yield f"  créneaux : {parts or 'aucun'}"
    for hours in found.raw["quick"]["hours"]:
        when = f"le {hours['first']} de {hours['start']} à {hours['end']}"
        yield f"  ajout {hours['id']} : {hours['capacity']} place(s) {when}"
    for stop in found.raw["quick"]["stops"]:
        yield f"  arrêt du {stop['from'].replace('T', ' à ')} au {stop['to'].replace('T', ' à ')}"
    if found.failed:
        yield f"  non publié : {found.failed}"


def _say(found: "list[Agenda]", *, as_json: bool = False) -> None:
    say(found, agenda_lines, as_json=as_json, none="Aucun agenda ; créez-en un avec sas-matcher agenda set.")


@agenda.command("list", cls=FrenchCommand)
def list_agendas(url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Liste les agendas de cette clé."""
    _say(with_client(url, key, lambda sas: sas.agendas()), as_json=as_json)


@agenda.command("show", cls=FrenchCommand)
def show(name: Name, url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Montre un agenda (--json : le document entier)."""
    _say([with_client(url, key, lambda sas: sas.agenda(name))], as_json=as_json)


@agenda.command("set", cls=FrenchCommand)
def set_agenda(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FICHIER", help="Agenda en JSON (docs/agenda.md).")],
    url: Url = DEFAULT_URL,
    key: Key = "",
    check: Annotated[
        bool, typer.Option("--check", help="Montre les créneaux qu'il donnerait, sans rien écrire.")
    ] = False,
) -> None:
    """Fixe ou change un agenda ; ses sept prochains jours sont publiés aussitôt."""
    body = read_object(file)
    if check:
        _say_slots(with_client(url, key, lambda sas: sas.preview_agenda(name, body)))
        return
    _say([with_client(url, key, lambda sas: sas.put_agenda(name, body))])


def _say_slots(slots: Any) -> None:
    for slot in slots:
        start, end = datetime.fromisoformat(slot["start"]), datetime.fromisoformat(slot["end"])
        typer.echo(f"{start:%d/%m/%Y %H:%M} à {end:%H:%M}, {slot['capacity']} place(s)")
    typer.echo(f"{len(slots)} créneaux sur sept jours ; rien n'a été écrit (--check).")


@agenda.command("add", cls=FrenchCommand)
def add(
    name: Name,
    count: Annotated[int, typer.Argument(min=1, max=50, metavar="N", help="Places en plus.")],
    start: Annotated[str, typer.Argument(metavar="DEBUT", help="Par exemple 14:00, à l'heure du lieu.")],
    end: Annotated[str, typer.Argument(metavar="FIN", help="Par exemple 16:00.")],
    url: Url = DEFAULT_URL,
    key: Key = "",
    day: Annotated[str | None, typer.Option(metavar="JOUR", help="Par exemple 2026-11-27 ; aujourd'hui sinon.")] = None,
) -> None:
    """Ajoute des places : « add cabinet 2 14:00 16:00 »."""
    places = {"count": count, "start": start, "end": end, "day": day}
    _say([with_client(url, key, lambda sas: sas.add_places(name, places))])


@agenda.command("take-back", cls=FrenchCommand)
def take_back(
    name: Name,
    places: Annotated[str, typer.Argument(metavar="AJOUT", help="Nom de l'ajout (plus-…, voyez show).")],
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """Retire des places ajoutées ; qui en a une la garde."""
    _say([with_client(url, key, lambda sas: sas.remove_places(name, places))])


@agenda.command("stop", cls=FrenchCommand)
def stop(
    names: Names = None,
    url: Url = DEFAULT_URL,
    key: Key = "",
    until: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="Fin, avec décalage (2026-11-27T12:00+01:00) ; minuit sinon.")
    ] = None,
    refuse: Annotated[bool, typer.Option("--refuse", help="Les patients qui ont une place sont replacés.")] = False,
) -> None:
    """Arrête tout maintenant : plus aucune place libre n'est proposée."""
    try:
        end = None if until is None else datetime.fromisoformat(until)
    except ValueError:
        end = None
    if until is not None and (end is None or end.tzinfo is None):
        raise InputError(f"« {until} » n'est pas un instant avec décalage, par exemple 2026-11-27T12:00+01:00")
    _say(with_client(url, key, lambda sas: sas.stop(names or None, until=end, refuse=refuse)))


@agenda.command("go-on", cls=FrenchCommand)
def go_on(names: Names = None, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Met fin à un arrêt ; les places reviennent aussitôt."""
    _say(with_client(url, key, lambda sas: sas.go_on(names or None)))


@agenda.command("csv", cls=FrenchCommand)
def take_csv(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FICHIER", help="Tableau CSV : date, debut, fin, duree ou places…")],
    url: Url = DEFAULT_URL,
    key: Key = "",
    check: Annotated[
        bool, typer.Option("--check", help="Montre ce qu'il ferait et ses erreurs, sans rien écrire.")
    ] = False,
) -> None:
    """Reprend les places d'un tableau ; elles remplacent celles du tableau précédent."""
    table = read_file(file)
    if not check:
        _say([with_client(url, key, lambda sas: sas.take_table(name, table))])
        return
    found = with_client(url, key, lambda sas: sas.preview_table(name, table))
    for error in found.errors:
        typer.echo(f"{file}, {error['field']} : {error['message']}", err=True)
    _say_slots(found.slots)
    if found.errors:
        raise InputError(f"{len(found.errors)} erreur(s) sur {found.lines} lignes ; corrigez-les avant l'envoi")


@agenda.command("remove", cls=FrenchCommand)
def remove(name: Name, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Supprime un agenda ; ses places libres sont retirées, qui en a une la garde."""
    report = with_client(url, key, lambda sas: sas.remove_agenda(name))
    typer.echo(f"Agenda {name} supprimé : {report['closed']} créneaux retirés, {report['kept']} patients gardés.")
