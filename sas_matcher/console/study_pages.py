"""Pilotage, recorded days: the day against hindsight, policies compared; worked out elsewhere, watched here."""

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from starlette.responses import Response

from sas_matcher.api.routes.figures import csv_answer
from sas_matcher.api.wire import uuid_of
from sas_matcher.console.site import Pages
from sas_matcher.console.steering import WHO, Steering
from sas_matcher.console.visit import Visit
from sas_matcher.domain.errors import InvalidInputError, NotFoundError, SasError
from sas_matcher.services.studies import MOST_DAYS, RECORDED, WAYS
from sas_matcher.services.study_tables import tiers_table, ways_table

pages = Pages(scopes=WHO)
_OFFERED = 31  # days that can be ticked; older ones by the command ``compare``


def _today(look: Steering) -> date:
    return look.visit.now.astimezone(ZoneInfo(look.record.timezone)).date()


async def _everything(look: Steering) -> dict[str, Any]:
    studies = look.visit.wire.studies
    return {
        "days": (await studies.days(look.territory, _today(look)))[:_OFFERED],
        "recent": await studies.recent(look.territory),
        "ways": WAYS,
        "usual": (RECORDED, "firm", "promise"),
        "most": MOST_DAYS,
        "zone": ZoneInfo(look.record.timezone),
        "error": None,
    }


@pages.get("/pilotage/journees")
async def days(visit: Visit) -> Response:
    """Show the recorded days, and the studies of them."""
    look = Steering(visit)
    return look.show("studies.html", **await _everything(look))


@pages.get("/pilotage/journees/etudes")
async def running(visit: Visit) -> Response:
    """Show the studies again: how far they are."""
    look = Steering(visit)
    return look.show("_studies.html", **await _everything(look))


@pages.post("/pilotage/journees")
async def ask(visit: Visit) -> Response:
    """Queue a study."""
    look = Steering(visit)
    form = (await visit.form()).only("day", "way")
    try:
        wanted = [_day(text) for text in form.several("day")]
        await visit.wire.studies.ask(look.territory, _today(look), wanted, form.several("way"), visit.caller.key_id)
    except SasError as error:
        return look.show("studies.html", error.status, **{**await _everything(look), "error": error})
    return visit.go(look.link("/pilotage/journees"))


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as wrong:
        raise InvalidInputError.of("day", "n'est pas une date") from wrong


@pages.post("/pilotage/journees/arreter")
async def stop(visit: Visit) -> Response:
    """Stop a study; what it has worked out stays."""
    look = Steering(visit)
    study = uuid_of((await visit.form()).only("study").text("study"), "study")
    await visit.wire.studies.stop(study, look.territory)
    return visit.go(look.link("/pilotage/journees"))


@pages.get("/pilotage/journees/etude")
async def results(visit: Visit) -> Response:
    """Show what came of a study, or as much as there is."""
    look = Steering(visit, "etude", "tableau")
    said = visit.request.query_params
    study, cells = await visit.wire.studies.results(uuid_of(said.get("etude", ""), "etude"), look.territory)
    tables = {table.name: table for table in (ways_table(study, cells), tiers_table(study, cells))}
    if (name := said.get("tableau")) is not None:
        if name not in tables:
            raise NotFoundError(f"Il n'y a pas de tableau « {name} ».")
        return csv_answer(tables[name].csv(), f"{name}-{look.territory}")
    return look.show("study.html", study=study, tables=tables, zone=ZoneInfo(look.record.timezone))
