"""The commands about crises: levels, plans, proposals, calls for extra capacity, the log and the review."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sas_matcher.cli.french import FrenchCommand, FrenchGroup, InputError
from sas_matcher.cli.options import DEFAULT_URL, Json, Key, Territory, Url
from sas_matcher.cli.speaking import instant_of, read_object, say, with_client

crisis = typer.Typer(
    cls=FrenchGroup,
    help="Crise : niveaux, plans préparés, exercices, propositions, appels aux cabinets, journal et bilan.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
ScopeName = Annotated[str, typer.Argument(metavar="PÉRIMÈTRE", help="Un département (69), region:NOM ou nation.")]
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
        what = f"{proposal['level']} · {proposal['proposal_id']} · {' ; '.join(proposal['reasons'])}"
        yield f"  Proposé pour {proposal['scope']} : {what}"


def proposal_line(proposal: Mapping[str, Any]) -> str:
    """Return a level that detection proposes, in one line."""
    change = f"{proposal['scope']} : {proposal['was']} → {proposal['level']} · {proposal['state']}"
    return f"{proposal['proposal_id']}  {change} · {' ; '.join(proposal['reasons'])}"


def call_line(call: Mapping[str, Any]) -> str:
    """Return a call for extra capacity in one line, with what was answered."""
    answer = call.get("state") or f"{call['yes']} oui, {call['no']} non, {call['places']} place(s)"
    return f"{call['call_id']}  {call['territory']} · {call['text']} · jusqu'au {_when(call['until'])} · {answer}"


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
        found = with_client(url, key, lambda sas: sas.crisis(code))
        say([found], standing_lines, as_json=as_json)
        return
    say(with_client(url, key, lambda sas: sas.crisis_levels()), standing_lines, as_json=as_json)


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
    found = with_client(url, key, lambda sas: sas.declare_level(scope, level, why, drill=drill))
    say([found], entry_lines, as_json=as_json)


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
    page = with_client(url, key, lambda sas: sas.crisis_log(territory=territory, scope=wide, limit=count))
    say(page["entries"], entry_lines, as_json=as_json, none="Rien n'a jamais été déclaré ici.")


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
        found = with_client(url, key, lambda sas: sas.crisis_plan(territory))
    else:
        if not why:
            raise InputError("donnez --why : le motif est gardé au journal")
        body = read_object(file)
        found = with_client(url, key, lambda sas: sas.change_crisis_plan(territory, body, why))
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
    found = with_client(url, key, lambda sas: sas.crisis_proposals(state=state))
    say(found, proposal_line, as_json=as_json, none="Aucune proposition.")


Proposal = Annotated[str, typer.Argument(metavar="PROPOSITION", help="Identifiant de la proposition.")]


@crisis.command("accept", cls=FrenchCommand)
def accept(proposal: Proposal, why: Why, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Accepte une proposition : son niveau est déclaré."""
    found = with_client(url, key, lambda sas: sas.accept_proposal(proposal, why))
    say([found], entry_lines, as_json=False)


@crisis.command("refuse", cls=FrenchCommand)
def refuse(proposal: Proposal, why: Why, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Refuse une proposition ; le même niveau n'est plus proposé pendant une heure."""
    with_client(url, key, lambda sas: sas.refuse_proposal(proposal, why))
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
    found = with_client(url, key, lambda sas: sas.call_practices(territory, text, hours=hours, drill=drill))
    mark = "EXERCICE · " if found["drill"] else ""
    typer.echo(f"{mark}{found['called']} cabinet(s) appelé(s), jusqu'au {_when(found['until'])} · {found['call_id']}")


@crisis.command("calls", cls=FrenchCommand)
def calls(url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Liste les appels : ceux reçus par le cabinet, ou ceux du territoire avec leurs réponses."""
    found = with_client(url, key, lambda sas: sas.crisis_calls())
    say(found, call_line, as_json=as_json, none="Aucun appel.")


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
    with_client(url, key, lambda sas: sas.answer_crisis_call(call_id, places))
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
    begin = None if since is None else instant_of(since, "--from")
    end = None if until is None else instant_of(until, "--to")
    found = with_client(url, key, lambda sas: sas.crisis_review(scope, since=begin, until=end, drill=drill))
    if html is None:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    from sas_matcher.services.crisis.review import printable  # noqa: PLC0415 - see the package

    html.write_text(printable(found), encoding="utf-8")
    typer.echo(f"Bilan écrit dans {html}.")
