"""The pages of those who steer: what is open now, the map, needs and delays, supply and fairness, the ACI report."""

import asyncio
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from starlette.responses import Response

from sas_matcher.api.routes.figures import csv_answer
from sas_matcher.api.wire import JSON, json
from sas_matcher.console.charts import columns, course_parts, reach
from sas_matcher.console.site import Entry, Pages
from sas_matcher.console.steering import WHO, Steering
from sas_matcher.console.visit import Visit

pages = Pages(scopes=WHO, entries=(Entry("/pilotage", "Pilotage"),))


async def _moment(look: Steering) -> dict[str, Any]:
    return await look.visit.wire.moments.of(look.territory, look.structures)


@pages.get("/pilotage")
async def present(visit: Visit) -> Response:
    """Show what is open and free now; the page renews it by itself."""
    look = Steering(visit)
    return look.show("now.html", **await _moment(look))


@pages.get("/pilotage/maintenant")
async def present_part(visit: Visit) -> Response:
    """Show it again."""
    look = Steering(visit)
    return look.show("_now.html", **await _moment(look))


@pages.get("/pilotage/carte")
async def chart(visit: Visit) -> Response:
    """Show need and supply by commune."""
    look = Steering(visit)
    return look.show("map.html", table=await visit.wire.figures.table("communes", look.span))


@pages.get("/pilotage/carte/communes")
async def chart_rows(visit: Visit) -> Response:
    """Return the rows that the map is coloured by."""
    look = Steering(visit)
    return json((await visit.wire.figures.table("communes", look.span)).rows)


@pages.get("/pilotage/carte/zones")
async def chart_zones(visit: Visit) -> Response:
    """Return the areas of the territory's communes; they change with the release only."""
    look = Steering(visit)
    body = await asyncio.to_thread(visit.wire.zones, look.territory)
    return Response(body, media_type=JSON, headers={"Cache-Control": "private, max-age=86400"})


@pages.get("/pilotage/besoins")
async def needs(visit: Visit) -> Response:
    """Show requests, delays and what was not met, with reasons."""
    look, figures = Steering(visit), visit.wire.figures
    names = ("tiers", "course", "unmet", "unmet-professions", "unmet-hours")
    tables = {name: await figures.table(name, look.span) for name in names}
    return look.show(
        "needs.html",
        tables=tables,
        totals=await figures.totals(look.span),
        course=columns(course_parts(tables["course"].rows), ("met", "unmet", "rest")),
        hours=columns([{**row, "unmet": row["number"]} for row in tables["unmet-hours"].rows], ("unmet",)),
        reaches={row["tier"]: reach(row["tier"], row["seen_p50"], row["seen_p90"]) for row in tables["tiers"].rows},
    )


@pages.get("/pilotage/offre")
async def offer(visit: Visit) -> Response:
    """Show what is offered, filled, and how evenly it is spread."""
    look, figures = Steering(visit), visit.wire.figures
    tables = {name: await figures.table(name, look.span) for name in ("supply", "practices")}
    return look.show("offer.html", tables=tables, fairness=await figures.fairness(look.span))


@pages.get("/pilotage/aci")
async def report(visit: Visit) -> Response:
    """Show what a CPTS reports on unscheduled care, to be printed."""
    look, figures = Steering(visit), visit.wire.figures
    names = ("tiers", "unmet", "unmet-professions", "unmet-hours", "communes", "supply")
    tables = {name: await figures.table(name, look.span) for name in names}
    declared = await visit.wire.crises.log(None, look.territory, None, 200)
    return look.show(
        "report.html",
        tables=tables,
        totals=await figures.totals(look.span),
        fairness=await figures.fairness(look.span),
        declared=[entry for entry in reversed(declared) if _inside(entry, look)],
        zone=ZoneInfo(look.record.timezone),
    )


def _inside(entry: dict[str, Any], look: Steering) -> bool:
    return look.span.since <= datetime.fromisoformat(entry["at"]) < look.span.until


@pages.get("/pilotage/export")
async def export(visit: Visit) -> Response:
    """Return a table for a spreadsheet."""
    look = Steering(visit, "tableau")
    table = await visit.wire.figures.table(visit.request.query_params.get("tableau", ""), look.span)
    return csv_answer(table.csv(), f"{table.name}-{look.territory}-{look.days}j")
