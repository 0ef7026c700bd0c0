"""The commands about en sus: consent, questions, what was asked, a territory's ladder."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sas_matcher.cli.french import FrenchCommand, FrenchGroup, InputError
from sas_matcher.cli.options import DEFAULT_URL, Json, Key, Url, checked_key
from sas_matcher.cli.speaking import read_file, with_client

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
Territory = Annotated[str, typer.Argument(metavar="CODE", help="Département : 01 à 95, 2A, 2B, 971 à 976.")]
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
    days = ", ".join(("lun", "mar", "mer", "jeu", "ven", "sam", "dim")[day - 1] for day in consent["days"])
    hours = f"de {consent['ask_from']} à {consent['ask_to']} ({days})"
    return f"{consent['name']} : {who}, {consent['most_a_day']} question(s) par jour au plus, {hours}"


def asking_lines(asking: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was asked for a request, step by step."""
    yield f"{asking['asked']} sollicité(s), {asking['refused']} refus, {asking['open']} sans réponse."
    for entry in asking["log"]:
        at = datetime.fromisoformat(entry["at"]).astimezone()
        yield f"  {at:%H h %M}  {entry['sentence']}"


def _document(path: Path) -> Any:
    try:
        return json.loads(read_file(path))
    except ValueError as wrong:
        raise InputError(f"{path} : JSON incorrect ({wrong})") from wrong


@en_sus.command("consent", cls=FrenchCommand)
def consent(name: Name, file: File, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Accepte d'être sollicité, ou change quand et combien ; vaut aussitôt."""
    body = _document(file)
    if not isinstance(body, dict):
        raise InputError(f"{file} : un objet JSON est attendu")
    typer.echo(consent_line(with_client(url, checked_key(key), lambda sas: sas.put_overflow(name, body))))


@en_sus.command("consents", cls=FrenchCommand)
def consents(url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Liste les accords de cette clé."""
    found = with_client(url, checked_key(key), lambda sas: sas.overflow())
    for document in found:
        typer.echo(json.dumps(document, ensure_ascii=False) if as_json else consent_line(document))
    if not found and not as_json:
        typer.echo("Aucun accord : personne n'est sollicité en sus pour cette clé.")


@en_sus.command("remove", cls=FrenchCommand)
def remove(name: Name, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Reprend un accord ; plus aucune question ne vient."""
    with_client(url, checked_key(key), lambda sas: sas.remove_overflow(name))
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
    found = with_client(url, checked_key(key), lambda sas: sas.questions(state=state))
    for question in found:
        typer.echo(json.dumps(question.raw, ensure_ascii=False) if as_json else question_line(question))
    if not found and not as_json:
        typer.echo("Aucune question.")


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
    try:
        start = datetime.fromisoformat(at)
    except ValueError:
        raise InputError(f"--at « {at} » : attendu un instant comme 2026-11-23T18:45:00+01:00") from None
    # without an offset: the hour of this machine's clock
    start = start if start.tzinfo else start.astimezone()
    done = with_client(url, checked_key(key), lambda sas: sas.accept_question(question, start, mode=mode))
    typer.echo(f"{question_line(done)}\nLa place est gardée ; vous êtes averti quand le régulateur confirme.")


@en_sus.command("refuse", cls=FrenchCommand)
def refuse(question: QuestionId, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Refuse le patient ; d'autres sont sollicités."""
    typer.echo(question_line(with_client(url, checked_key(key), lambda sas: sas.refuse_question(question))))


@en_sus.command("asking", cls=FrenchCommand)
def asking(
    request: Annotated[str, typer.Argument(metavar="DEMANDE", help="Identifiant de la demande.")],
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Dit qui a été sollicité pour une demande, combien, et la suite (régulateur)."""
    found = with_client(url, checked_key(key), lambda sas: sas.asking(request))
    for line in [json.dumps(found, ensure_ascii=False)] if as_json else asking_lines(found):
        typer.echo(line)


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
        found = with_client(url, checked_key(key), lambda sas: sas.ladder(territory))
    else:
        body = _document(file)
        if not isinstance(body, dict) or not isinstance(body.get("steps"), list):
            raise InputError(f'{file} : attendu {{"steps": [{{…}}, …]}}')
        if not why:
            raise InputError("donnez --why : le motif est gardé au journal")
        steps = body["steps"]
        found = with_client(url, checked_key(key), lambda sas: sas.change_ladder(territory, steps, why))
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    typer.echo(f"Échelle du territoire {found['territory']}, version {found['version']}.")
    for line in found["sentences"] or ["Aucune étape : personne n'est sollicité."]:
        typer.echo(f"  {line}")
