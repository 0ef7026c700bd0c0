"""The commands about en sus: consent, questions, what was asked, a territory's ladder."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sas_matcher.cli.french import FrenchCommand, FrenchGroup, InputError
from sas_matcher.cli.options import DEFAULT_URL, Json, Key, Territory, Url
from sas_matcher.cli.speaking import day_names, instant_of, read_object, say, with_client

if TYPE_CHECKING:
    from sas_matcher.client import Question

en_sus = typer.Typer(
    cls=FrenchGroup,
    help="En sus : accords des cabinets, questions et réponses, échelle d'un territoire.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Name = Annotated[str, typer.Argument(metavar="NOM", help="Nom de l'accord : a-z, 0-9, - et _.")]
QuestionId = Annotated[str, typer.Argument(metavar="QUESTION", help="Identifiant de la question.")]
File = Annotated[Path, typer.Argument(metavar="FICHIER", help="Document JSON (docs/en-sus.md).")]
STATE: Final = {
    "asked": "attend votre réponse",
    "accepted": "acceptée",
    "refused": "refusée",
    "closed": "close",
    "released": "place finalement non prise",
}


def question_line(question: "Question") -> str:
    """Return a question in one line: what, how far, until when."""
    until = question.deadline.astimezone()
    what = f"{question.profession} {'/'.join(question.modes)}, {question.km} km, {question.minutes} min"
    return (
        f"{question.question_id}  {STATE.get(question.state, question.state)} · {what}, "
        f"avant le {until:%d/%m à %H h %M} · {question.tier}"
    )


def consent_line(consent: Mapping[str, Any]) -> str:
    """Return a consent in one line."""
    who = consent["professional"] or consent["structure"]
    hours = f"de {consent['ask_from']} à {consent['ask_to']} ({day_names(consent['days'])})"
    return f"{consent['name']} : {who}, {consent['most_a_day']} question(s) par jour au plus, {hours}"


def asking_lines(asking: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was asked for a request, step by step."""
    yield f"{asking['asked']} sollicité(s), {asking['refused']} refus, {asking['open']} sans réponse."
    for entry in asking["log"]:
        at = datetime.fromisoformat(entry["at"]).astimezone()
        yield f"  {at:%H h %M}  {entry['sentence']}"


def ladder_lines(ladder: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is done, step by step, for a request that finds no place."""
    yield f"Échelle du territoire {ladder['territory']}, version {ladder['version']}."
    for line in ladder["sentences"] or ["Aucune étape : personne n'est sollicité."]:
        yield f"  {line}"


@en_sus.command("consent", cls=FrenchCommand)
def consent(name: Name, file: File, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Accepte d'être sollicité, ou change quand et combien ; vaut aussitôt."""
    body = read_object(file)
    typer.echo(consent_line(with_client(url, key, lambda sas: sas.put_overflow(name, body))))


@en_sus.command("consents", cls=FrenchCommand)
def consents(url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Liste les accords de cette clé."""
    found = with_client(url, key, lambda sas: sas.overflow())
    none = "Aucun accord : personne n'est sollicité en sus pour cette clé."
    say(found, consent_line, as_json=as_json, none=none)


@en_sus.command("remove", cls=FrenchCommand)
def remove(name: Name, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Reprend un accord ; plus aucune question ne vient."""
    with_client(url, key, lambda sas: sas.remove_overflow(name))
    typer.echo(f"Accord {name} repris ; plus aucune question ne viendra.")


@en_sus.command("questions", cls=FrenchCommand)
def questions(
    url: Url = DEFAULT_URL,
    key: Key = "",
    everything: Annotated[bool, typer.Option("--all", help="Aussi celles qui ont une réponse.")] = False,
    as_json: Json = False,
) -> None:
    """Liste les questions qui attendent une réponse."""
    state = None if everything else "asked"
    found = with_client(url, key, lambda sas: sas.questions(state=state))
    say(found, question_line, as_json=as_json, none="Aucune question.")


@en_sus.command("accept", cls=FrenchCommand)
def accept(
    question: QuestionId,
    at: Annotated[
        str, typer.Option(metavar="INSTANT", help="Heure du patient, par exemple 2026-11-23T18:45:00+01:00.")
    ],
    url: Url = DEFAULT_URL,
    key: Key = "",
    mode: Annotated[
        str | None, typer.Option(metavar="MODE", help="cabinet, visite ou tele, s'il y a le choix.")
    ] = None,
) -> None:
    """Accepte le patient à une heure ; le premier oui l'emporte."""
    start = instant_of(at, "--at")
    done = with_client(url, key, lambda sas: sas.accept_question(question, start, mode=mode))
    typer.echo(f"{question_line(done)}\nLa place est gardée ; vous êtes averti quand le régulateur confirme.")


@en_sus.command("refuse", cls=FrenchCommand)
def refuse(question: QuestionId, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Refuse le patient ; d'autres sont sollicités."""
    typer.echo(question_line(with_client(url, key, lambda sas: sas.refuse_question(question))))


@en_sus.command("asking", cls=FrenchCommand)
def asking(
    request: Annotated[str, typer.Argument(metavar="DEMANDE", help="Identifiant de la demande.")],
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Dit qui a été sollicité pour une demande, combien, et la suite (régulateur)."""
    found = with_client(url, key, lambda sas: sas.asking(request))
    say([found], asking_lines, as_json=as_json)


@en_sus.command("ladder", cls=FrenchCommand)
def ladder(
    territory: Territory,
    url: Url = DEFAULT_URL,
    key: Key = "",
    file: Annotated[
        Path | None, typer.Option("--set", metavar="FICHIER", help='Remplace l\'échelle : {"steps": [{…}, …]}.')
    ] = None,
    why: Annotated[
        str | None, typer.Option(metavar="MOTIF", help="Pourquoi ; gardé au journal, sans identité.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Affiche l'échelle d'un territoire, ou la remplace."""
    if file is None:
        found = with_client(url, key, lambda sas: sas.ladder(territory))
    else:
        body = read_object(file)
        if not isinstance(body.get("steps"), list):
            raise InputError(f'{file} : attendu {{"steps": [{{…}}, …]}}')
        if not why:
            raise InputError("donnez --why : le motif est gardé au journal")
        steps = body["steps"]
        found = with_client(url, key, lambda sas: sas.change_ladder(territory, steps, why))
    say([found], ladder_lines, as_json=as_json)
