"""Routes for everyone: who am I, communes, vocabulary, tickets, steering counts, health, metrics."""

import asyncio
from datetime import timedelta

from fastapi import APIRouter, Request
from fastapi.responses import Response

from sas_matcher import __version__
from sas_matcher.api.inputs.queries import CommunesQuery, OverviewQuery
from sas_matcher.api.inputs.reading import parse
from sas_matcher.api.inputs.schemas import Nothing
from sas_matcher.api.metrics import CONTENT_TYPE_LATEST, exposition
from sas_matcher.api.openapi import OF_LIST, OF_OWN, problems, takes
from sas_matcher.api.problems import parse_query
from sas_matcher.api.wire import asked_territories, caller, json, wire
from sas_matcher.domain.errors import UnavailableError
from sas_matcher.domain.vocabulary import (
    DELAY_SPAN,
    PROFESSION_LABELS,
    REFUSAL_LABELS,
    SPECIALTIES,
    Mode,
    Offer,
    Scope,
    Visibility,
    tier_of,
)

router = APIRouter()


@router.get("/v1/me", tags=["service"], summary="Who am I", responses=problems(401, 429, 503))
async def me(request: Request) -> Response:
    """Return what this key is and may do."""
    who = await caller(request)
    return json(
        {
            "key_id": who.key_id,
            "name": who.name,
            "role": who.role,
            "scope": who.scope,
            "territories": sorted(who.territories),
            "structures": sorted(who.structures),
            "professionals": sorted(who.professionals),
            "source": who.source,
        }
    )


@router.get(
    "/v1/communes",
    tags=["service"],
    summary="Find a commune",
    responses=problems(401, 422, 429, 503),
    openapi_extra=takes(query=CommunesQuery),
)
async def communes(request: Request) -> Response:
    """Find communes by name, postcode or INSEE code, tolerant of accents and abbreviations."""
    await caller(request)
    query = parse_query(CommunesQuery, request)
    found = wire(request).geography.search(query.q, query.limit, query.territory)
    return json(
        {
            "communes": [
                {
                    "code": c.code,
                    "name": c.name,
                    "territory": c.territory,
                    "postcodes": c.postcodes,
                    "population": c.population,
                    "lat": c.lat,
                    "lon": c.lon,
                }
                for c in found
            ]
        }
    )


@router.get("/v1/vocabulary", tags=["service"], summary="Closed vocabularies", responses=problems(401, 429, 503))
async def vocabulary(request: Request) -> Response:
    """Return the codes that the API takes, with their labels."""
    await caller(request)
    return json(
        {
            "professions": {str(code): label for code, label in PROFESSION_LABELS.items()},
            "specialties": {code: {"label": label, "profession": p} for code, (label, p) in SPECIALTIES.items()},
            "delays": {
                str(code): {"minutes": int(span.total_seconds() // 60), "tier": tier_of(code)}
                for code, span in DELAY_SPAN.items()
            },
            "modes": list(Mode),
            "offers": list(Offer),
            "visibilities": list(Visibility),
            "refusals": {str(code): label for code, label in REFUSAL_LABELS.items()},
        }
    )


@router.post(
    "/v1/ws-tickets",
    tags=["service"],
    status_code=201,
    summary="One-time ticket for the websocket",
    responses=problems(401, 413, 422, 429, 503),
    openapi_extra=takes(Nothing),
)
async def ticket(request: Request) -> Response:
    """Return a ticket, good once and for 30 s, to send as the first message on ``/v1/ws``."""
    who = await caller(request)
    parse(Nothing, await request.body() or b"{}")
    tickets = wire(request).tickets
    return json({"ticket": await tickets.issue(who), "expires_in": tickets.LIFE_S}, 201)


@router.get(
    "/v1/overview",
    tags=["pilotage"],
    summary="Requests and places of a territory now",
    responses=OF_LIST,
    openapi_extra=takes(query=OverviewQuery),
)
async def overview(request: Request) -> Response:
    """Count the requests of the last 24 hours by tier and status, and live places by profession and mode."""
    who = await caller(request, Scope.COORDINATOR, Scope.ADMIN)
    query = parse_query(OverviewQuery, request)
    services = wire(request)
    known = services.geography.territories
    territories = asked_territories(who, query.territory, known, known)
    now = services.clock.now()
    rows = await services.ledger.overview(territories, now - timedelta(days=1), now)
    answer: dict[str, dict[str, dict[str, int]]] = {"requests": {}, "places": {}}
    for row in rows:
        answer[row["what"]].setdefault(row["name"], {})[row["part"]] = row["count"]
    return json({"territories": territories, **answer})


@router.get(
    "/v1/ingest/poison",
    tags=["administration"],
    summary="Entries of the ingest streams that could not be read",
    responses=OF_OWN,
)
async def poison(request: Request) -> Response:
    """Return the newest entries that were set aside, with the reason."""
    await caller(request, Scope.ADMIN)
    return json({"entries": await wire(request).bus.set_aside(100)})


@router.get("/healthz", tags=["service"], summary="Alive")
async def healthz() -> Response:
    """Say that this process answers."""
    return json({"status": "ok", "version": __version__})


@router.get("/readyz", tags=["service"], summary="Able to serve", responses=problems(503))
async def readyz(request: Request) -> Response:
    """Say whether ledger, Redis and a matcher for every territory are there."""
    services = wire(request)
    states: dict[str, str] = {}
    for name, check in (("ledger", services.ledger.ping), ("redis", services.bus.ping)):
        try:
            async with asyncio.timeout(2):
                await check()
            states[name] = "ok"
        except (UnavailableError, TimeoutError):
            states[name] = "away"
    if states["ledger"] == "ok":
        matched = set(await services.ledger.matched_territories())
        missing = [t for t in services.territories if t not in matched]
        states["matcher"] = "ok" if not missing else f"missing for {len(missing)} territories"
    if any(state != "ok" for state in states.values()):
        raise UnavailableError("Le service n'est pas prêt.", components=states, retry_after=1)
    return json({"status": "ready", "components": states, "version": __version__})


@router.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    """Return the metrics; let only your monitoring reach this address."""
    return Response(exposition(), media_type=CONTENT_TYPE_LATEST)
