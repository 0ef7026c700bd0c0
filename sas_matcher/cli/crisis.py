"""The commands about crises: levels, plans, proposals, calls for extra capacity, the log and the review."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sas_matcher.cli.french import FrenchCommand, FrenchGroup, InputError
from sas_matcher.cli.options import DEFAULT_URL, Json, Key, Url, checked_key
from sas_matcher.cli.speaking import read_file, with_client

crisis = typer.Typer(
    cls=FrenchGroup,
    help="Crise : niveaux, plans préparés, exercices, propositions, appels aux cabinets, journal et bilan.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
ScopeName = Annotated[str, typer.Argument(metavar="PÉRIMÈTRE", help="Un département (69), region:NOM ou nation.")]
Territory = Annotated[str, typer.Argument(metavar="CODE", help="Département : 01 à 95, 2A, 2B, 971 à 976.")]
Why = Annotated[str, typer.Option("--why", metavar="MOTIF", help="Pourquoi ; gardé au journal, sans identité.")]
Drill = Annotated[bool, typer.Option("--drill", help="Exercice : rien ne change pour personne.")]


def _when(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone():%d/%m à %H h %M}"


def _value(value: Any) -> str:
    return f"{len(value)} étape(s)" if isinstance(value, list) else json.dumps(value, ensure_ascii=False)


def entry_lines(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield a declared level: who, when, why, and what it changed where."""
    mark = "EXERCICE · " if entry["drill"] else ""
    by = f"{_when(entry['at'])} · {entry['role']} {entry['key_id']} · « {entry['why']} »" if "at" in entry else ""
    yield f"{mark}{entry['scope']} : {entry.get('was', '')} → {entry['level']} · {by}"
    for moved in entry["territories"]:
        verb = "changerait" if entry["drill"] else "change"
        changes = ", ".join(f"{name} → {_value(value)}" for name, value in moved["changes"].items())
        kept = f" ; laissé tel que changé entre-temps : {', '.join(moved['kept'])}" if moved["kept"] else ""
        plan = "" if moved["plan"] else " (aucun plan préparé)"
        yield f"  {moved['territory']} : {moved['was']} → {moved['level']}{plan} ; {verb} {changes or 'rien'}{kept}"


def standing_lines(standing: Mapping[str, Any]) -> Iterator[str]:
    """Yield where a territory stands."""
    since = f" depuis le {_when(standing['since'])}" if standing["since"] else ""
    yield f"{standing['territory']} : {standing['level']}{since}"
    if standing["exercise"]:
        yield f"  EXERCICE : {standing['exercise']['level']} depuis le {_when(standing['exercise']['since'])}"
    for name, value in standing["applied"].items():
        yield f"  {name} = {_value(value)} (avant : {_value(standing['before'][name])})"
    for scope in standing.get("scopes", ()):
        mark = "EXERCICE, " if scope["drill"] else ""
        yield f"  {mark}{scope['scope']} : {scope['level']} depuis le {_when(scope['changed_at'])} · « {scope['why']} »"
    if (proposal := standing.get("proposal")) is not None:
        yield f"  Proposé : {proposal['level']} · {proposal['proposal_id']} · {' ; '.join(proposal['reasons'])}"


def _echo(document: Mapping[str, Any], lines: Iterator[str], *, as_json: bool) -> None:
    for line in [json.dumps(document, ensure_ascii=False)] if as_json else lines:
        typer.echo(line)


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_file(path))
    except ValueError as wrong:
        raise InputError(f"{path} : JSON incorrect ({wrong})") from wrong
    if not isinstance(document, dict):
        raise InputError(f"{path} : un objet JSON est attendu")
    return document


@crisis.command("show", cls=FrenchCommand)
def show(
    territory: Annotated[str | None, typer.Argument(metavar="[CODE]", help="Un département ; tous sinon.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Affiche le niveau d'un territoire, ou de tous ceux de la clé."""
    if territory is not None:
        code = territory
        found = with_client(url, checked_key(key), lambda sas: sas.crisis(code))
        _echo(found, standing_lines(found), as_json=as_json)
        return
    for standing in with_client(url, checked_key(key), lambda sas: sas.crisis_levels()):
        _echo(standing, standing_lines(standing), as_json=as_json)


@crisis.command("declare", cls=FrenchCommand)
def declare(
    scope: ScopeName,
    level: Annotated[
        Literal["normal", "tension", "crise"], typer.Argument(metavar="NIVEAU", help="normal, tension ou crise.")
    ],
    why: Why,
    url: Url = DEFAULT_URL,
    key: Key = "",
    drill: Drill = False,
    as_json: Json = False,
) -> None:
    """Déclare un niveau ; le plan préparé de chaque territoire s'applique, et revient tel quel ensuite."""
    found = with_client(url, checked_key(key), lambda sas: sas.declare_level(scope, level, why, drill=drill))
    _echo(found, entry_lines(found), as_json=as_json)


@crisis.command("log", cls=FrenchCommand)
def log(
    scope: ScopeName,
    url: Url = DEFAULT_URL,
    key: Key = "",
    count: Annotated[int, typer.Option(min=1, max=200, metavar="N", help="Les N dernières déclarations.")] = 20,
    as_json: Json = False,
) -> None:
    """Affiche qui a déclaré quoi, quand et pourquoi ; pour un département, tout ce qui l'a concerné."""
    whole = scope == "nation" or scope.startswith("region:")
    territory = None if whole else scope
    wide = scope if whole else None
    page = with_client(url, checked_key(key), lambda sas: sas.crisis_log(territory=territory, scope=wide, limit=count))
    for entry in page["entries"]:
        _echo(entry, entry_lines(entry), as_json=as_json)
    if not page["entries"] and not as_json:
        typer.echo("Rien n'a jamais été déclaré ici.")


@crisis.command("plan", cls=FrenchCommand)
def plan(
    territory: Territory,
    url: Url = DEFAULT_URL,
    key: Key = "",
    file: Annotated[
        Path | None, typer.Option("--set", metavar="FICHIER", help="Remplace le plan (docs/crisis.md).")
    ] = None,
    why: Annotated[str, typer.Option("--why", metavar="MOTIF", help="Pourquoi ; gardé au journal.")] = "",
) -> None:
    """Affiche le plan préparé d'un territoire (JSON), ou le remplace."""
    if file is None:
        found = with_client(url, checked_key(key), lambda sas: sas.crisis_plan(territory))
    else:
        if not why:
            raise InputError("donnez --why : le motif est gardé au journal")
        body = _document(file)
        found = with_client(url, checked_key(key), lambda sas: sas.change_crisis_plan(territory, body, why))
    typer.echo(json.dumps(found, ensure_ascii=False, indent=2))


@crisis.command("proposals", cls=FrenchCommand)
def proposals(
    url: Url = DEFAULT_URL,
    key: Key = "",
    everything: Annotated[bool, typer.Option("--all", help="Aussi celles qui ont une réponse.")] = False,
    as_json: Json = False,
) -> None:
    """Liste les niveaux que la détection propose ; une personne accepte ou refuse."""
    state = None if everything else "open"
    found = with_client(url, checked_key(key), lambda sas: sas.crisis_proposals(state=state))
    for one in found:
        line = f"{one['proposal_id']}  {one['territory']} : {one['was']} → {one['level']} · {one['state']}"
        _echo(one, iter([f"{line} · {' ; '.join(one['reasons'])}"]), as_json=as_json)
    if not found and not as_json:
        typer.echo("Aucune proposition.")


Proposal = Annotated[str, typer.Argument(metavar="PROPOSITION", help="Identifiant de la proposition.")]


@crisis.command("accept", cls=FrenchCommand)
def accept(proposal: Proposal, why: Why, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Accepte une proposition : son niveau est déclaré."""
    found = with_client(url, checked_key(key), lambda sas: sas.accept_proposal(proposal, why))
    _echo(found, entry_lines(found), as_json=False)


@crisis.command("refuse", cls=FrenchCommand)
def refuse(proposal: Proposal, why: Why, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Refuse une proposition ; le même niveau n'est plus proposé pendant une heure."""
    with_client(url, checked_key(key), lambda sas: sas.refuse_proposal(proposal, why))
    typer.echo("Proposition refusée ; rien n'a changé.")


@crisis.command("call", cls=FrenchCommand)
def call(
    territory: Territory,
    text: Annotated[str, typer.Option(metavar="TEXTE", help="Ce qui est demandé aux cabinets.")],
    url: Url = DEFAULT_URL,
    key: Key = "",
    hours: Annotated[int | None, typer.Option(min=1, max=72, metavar="N", help="Validité en heures.")] = None,
    drill: Drill = False,
) -> None:
    """Appelle les cabinets qui l'acceptent à ouvrir des places."""
    found = with_client(
        url, checked_key(key), lambda sas: sas.call_practices(territory, text, hours=hours, drill=drill)
    )
    mark = "EXERCICE · " if found["drill"] else ""
    typer.echo(f"{mark}{found['called']} cabinet(s) appelé(s), jusqu'au {_when(found['until'])} · {found['call_id']}")


@crisis.command("calls", cls=FrenchCommand)
def calls(url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Liste les appels : ceux reçus par le cabinet, ou ceux du territoire avec leurs réponses."""
    found = with_client(url, checked_key(key), lambda sas: sas.crisis_calls())
    for one in found:
        answer = one.get("state") or f"{one['yes']} oui, {one['no']} non, {one['places']} place(s)"
        line = f"{one['call_id']}  {one['territory']} · {one['text']} · jusqu'au {_when(one['until'])} · {answer}"
        _echo(one, iter([line]), as_json=as_json)
    if not found and not as_json:
        typer.echo("Aucun appel.")


@crisis.command("answer", cls=FrenchCommand)
def answer(
    call_id: Annotated[str, typer.Argument(metavar="APPEL", help="Identifiant de l'appel.")],
    url: Url = DEFAULT_URL,
    key: Key = "",
    places: Annotated[
        int | None, typer.Option(min=1, max=200, metavar="N", help="Places ouvertes en plus ; aucune sinon.")
    ] = None,
) -> None:
    """Répond à un appel ; publiez ensuite les places comme d'habitude."""
    with_client(url, checked_key(key), lambda sas: sas.answer_crisis_call(call_id, places))
    typer.echo("Réponse notée : " + (f"{places} place(s) en plus." if places else "aucune place."))


@crisis.command("review", cls=FrenchCommand)
def review(
    scope: ScopeName,
    url: Url = DEFAULT_URL,
    key: Key = "",
    since: Annotated[str | None, typer.Option("--from", metavar="INSTANT", help="Sinon, la dernière crise.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="INSTANT", help="Sinon, sa fin, ou maintenant.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FICHIER", help="Écrit la page à imprimer.")] = None,
    drill: Drill = False,
) -> None:
    """Écrit le bilan d'une crise ou d'un exercice : demandes, réponses, décisions (JSON, ou page à imprimer)."""
    span = [None if text is None else _instant(text) for text in (since, until)]
    found = with_client(
        url, checked_key(key), lambda sas: sas.crisis_review(scope, since=span[0], until=span[1], drill=drill)
    )
    if html is None:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    from sas_matcher.services.crisis_review import printable  # noqa: PLC0415 - see the package

    html.write_text(printable(found), encoding="utf-8")
    typer.echo(f"Bilan écrit dans {html}.")


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"« {text} » : attendu un instant comme 2026-11-23T18:45:00+01:00") from None
    return at if at.tzinfo else at.astimezone()
