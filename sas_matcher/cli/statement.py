"""The command that says what taking part gives back: hours, patients, and the facts of each act's pay."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sas_matcher.cli.french import FrenchCommand, InputError
from sas_matcher.cli.options import DEFAULT_URL, Json, Key, Url
from sas_matcher.cli.speaking import with_client

if TYPE_CHECKING:
    from sas_matcher.client import StatementWeek

releve = typer.Typer()


def week_line(week: "StatementWeek") -> str:
    """Return a week of a professional or structure in one line."""
    who = f"{week.name or week.id} ({week.id})"
    rule = "" if week.two_hours else " · moins de 2 h"
    doubt = f", {week.to_check} à vérifier" if week.to_check else ""
    return (
        f"{week.week} · {who} · {week.hours_offered:g} h offertes, {week.hours_filled:g} h remplies{rule} · "
        f"{week.patients} patients, {week.not_own} d'autres médecins · {week.supplements} suppléments{doubt}"
    )


def _day(text: str, option: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text), datetime.min.time()).astimezone()
    except ValueError:
        raise InputError(f"{option} « {text} » : attendu un jour comme 2026-11-01") from None


@releve.command("statement", cls=FrenchCommand)
def statement(
    url: Url = DEFAULT_URL,
    key: Key = "",
    start: Annotated[str | None, typer.Option("--from", metavar="JOUR", help="Depuis ; sinon 28 jours.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="JOUR", help="Avant ce jour ; sinon maintenant.")] = None,
    acts: Annotated[Path | None, typer.Option(metavar="FICHIER", help="Écrit les actes (JSON, un par ligne).")] = None,
    as_json: Json = False,
) -> None:
    """Relevé : heures offertes et remplies, patients, et pour chaque acte les faits que son supplément demande."""
    until = datetime.now(UTC) if end is None else _day(end, "--to")
    since = until - timedelta(days=28) if start is None else _day(start, "--from")
    found = with_client(url, key, lambda sas: sas.statement(since, until))
    if acts is not None:
        acts.write_text("".join(f"{json.dumps(act, ensure_ascii=False)}\n" for act in found.acts), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(found.raw, ensure_ascii=False))
        return
    for week in found.weeks:
        typer.echo(week_line(week))
    if not found.weeks:
        typer.echo("Rien sur cette période.")
