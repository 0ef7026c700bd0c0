"""Routes about figures: of a territory for those who steer it, as JSON or CSV; and the few that everybody may know."""

from collections.abc import Sequence

from fastapi import APIRouter, Request
from fastapi.responses import Response

from sas_matcher.api.auth import Caller
from sas_matcher.api.inputs.queries import FiguresQuery, OverviewQuery, TerritoryQuery
from sas_matcher.api.openapi import OF_LIST, OF_ONE, problems, takes
from sas_matcher.api.problems import parse_query
from sas_matcher.api.wire import Wire, asked_territories, caller, json, peer_of, uuid_of, wire
from sas_matcher.domain.vocabulary import Scope
from sas_matcher.ports.steering import Span
from sas_matcher.services.study_tables import tiers_table, ways_table

router = APIRouter()


def structures_of(who: Caller) -> Sequence[str] | None:
    """Return whose places alone somebody sees: those of the structures that the key is bound to; None: all."""
    return sorted(who.structures) or None


def steered(services: Wire, who: Caller, territory: str | None) -> list[str]:
    """Return the territories that somebody steers, or the one that is named.

    Raises:
        InvalidInputError: there is no such territory.
        NotAllowedError: it is not theirs.
    """
    return asked_territories(who, territory, services.geography.territories, services.territories)


def _span(services: Wire, who: Caller, query: FiguresQuery) -> Span:
    (territory,) = steered(services, who, query.territory)
    return services.figures.span(territory, query.from_, query.to, structures_of(who))


@router.get(
    "/v1/figures/now",
    tags=["pilotage"],
    summary="What is open and free now",
    responses=OF_LIST,
    openapi_extra=takes(query=OverviewQuery),
)
async def now(request: Request) -> Response:
    """Return, by territory, open requests by tier and age, and seats free within 4, 24 and 72 hours by profession."""
    who = await caller(request, Scope.COORDINATOR, Scope.ADMIN)
    services = wire(request)
    territories = steered(services, who, parse_query(OverviewQuery, request).territory)
    return json(await services.figures.now(territories, structures_of(who)))


@router.get(
    "/v1/figures/totals",
    tags=["pilotage"],
    summary="Sums of a window of days",
    responses=OF_LIST,
    openapi_extra=takes(query=FiguresQuery),
)
async def totals(request: Request) -> Response:
    """Return what was asked in a window and what came of it, and how evenly patients and answers were spread."""
    who = await caller(request, Scope.COORDINATOR, Scope.ADMIN)
    services = wire(request)
    span = _span(services, who, parse_query(FiguresQuery, request))
    figures = services.figures
    answer = {"totals": await figures.totals(span), "fairness": await figures.fairness(span)}
    return json({"territory": span.territory, "from": span.since, "to": span.until, **answer})


@router.get(
    "/v1/figures/{table}",
    tags=["pilotage"],
    summary="One table of figures",
    responses={
        200: {"description": "The table", "content": {"application/json": {}, "text/csv": {}}},
        **OF_ONE,
    },
    openapi_extra=takes(query=FiguresQuery),
)
async def table(request: Request, table: str) -> Response:
    """Return a table: tiers, course, unmet, unmet-professions, unmet-hours, communes, supply or practices.

    Counts of fewer than five patients of a commune are null, and named in the row's ``hidden``. A key that is bound to
    structures sees the places of these alone.
    """
    who = await caller(request, Scope.COORDINATOR, Scope.ADMIN)
    services, query = wire(request), parse_query(FiguresQuery, request)
    span = _span(services, who, query)
    found = await services.figures.table(table, span)
    if query.format == "csv":
        return csv_answer(found.csv(), f"{found.name}-{span.territory}")
    return json({"territory": span.territory, "from": span.since, "to": span.until, **found.document()})


def csv_answer(body: bytes, name: str) -> Response:
    """Answer a file for spreadsheets."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"', "Cache-Control": "no-store"}
    return Response(body, 200, headers, "text/csv; charset=utf-8")


@router.get(
    "/v1/studies",
    tags=["pilotage"],
    summary="Studies of recorded days",
    responses=OF_LIST,
    openapi_extra=takes(query=TerritoryQuery),
)
async def studies(request: Request) -> Response:
    """Return the newest studies of a territory, and how far each is; they are asked for on the page."""
    who = await caller(request, Scope.COORDINATOR, Scope.ADMIN)
    services = wire(request)
    (territory,) = steered(services, who, parse_query(TerritoryQuery, request).territory)
    found = await services.studies.recent(territory)
    return json({"territory": territory, "studies": [{**s._asdict(), "percent": s.percent} for s in found]})


@router.get(
    "/v1/studies/{study_id}",
    tags=["pilotage"],
    summary="What came of a study",
    responses=OF_ONE,
    openapi_extra=takes(query=TerritoryQuery),
)
async def study(request: Request, study_id: str) -> Response:
    """Return each way to decide beside what hindsight could have done: means of the days, and by tier."""
    who = await caller(request, Scope.COORDINATOR, Scope.ADMIN)
    services = wire(request)
    (territory,) = steered(services, who, parse_query(TerritoryQuery, request).territory)
    found, cells = await services.studies.results(uuid_of(study_id, "study_id"), territory)
    tables = [ways_table(found, cells).document(), tiers_table(found, cells).document()]
    return json({"study": {**found._asdict(), "percent": found.percent}, "tables": tables})


@router.get(
    "/v1/public/figures",
    tags=["service"],
    summary="Figures that everybody may know",
    responses=problems(429, 503),
    openapi_extra={"security": []},
)
async def public(request: Request) -> Response:
    """Return seven whole days to the nearest ten, without anything small; at most ten minutes old. No key is needed."""
    services = wire(request)
    services.open_door.spend(peer_of(request))
    return Response(json(await services.public.week()).body, 200, PUBLIC, "application/json")


PUBLIC = {"Cache-Control": "public, max-age=600"}
"""Of open figures: whoever stands between may keep them as long as we do."""
