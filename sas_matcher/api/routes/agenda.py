"""Routes of agendas kept here: the week said once, more places, stop. A key sees those of the people it is bound to."""

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import Response

from sas_matcher.api.inputs.agenda import AgendaIn, GoOnIn, PlacesIn, StopIn
from sas_matcher.api.inputs.queries import PreviewQuery
from sas_matcher.api.inputs.reading import parse
from sas_matcher.api.openapi import OF_ACTION, OF_ONE, OF_OWN, problems, takes
from sas_matcher.api.problems import parse_query
from sas_matcher.api.wire import KEEPERS, caller, json, name_of, once, wire

router = APIRouter(prefix="/v1/agendas", tags=["cabinets et centres"])


@router.get("", summary="My agendas", responses=OF_OWN)
async def agendas(request: Request) -> Response:
    """Return the agendas that this key may change, by name, and what of each is published."""
    who = await caller(request, *KEEPERS)
    return json({"agendas": await wire(request).agendas.all(who.publisher)})


@router.post(
    "/stop",
    summary="Stop everything now",
    responses=OF_ACTION,
    openapi_extra=takes(StopIn),
)
async def stop(request: Request) -> Response:
    """Take every free place of all agendas of the key (or of those named) off, until midnight there or an instant.

    Who has a place keeps it (`keep`), or is matched again (`refuse`). Again does no harm.
    """
    who = await caller(request, *KEEPERS)
    asked = parse(StopIn, await request.body())
    done = await wire(request).agendas.stop(who.publisher, who.key_id, asked.names, asked.until, asked.booked)
    return json({"agendas": done})


@router.post(
    "/go-on",
    summary="End a stop",
    responses=OF_ACTION,
    openapi_extra=takes(GoOnIn),
)
async def go_on(request: Request) -> Response:
    """End the stops of all agendas of the key, or of those named; their places are back at once."""
    who = await caller(request, *KEEPERS)
    asked = parse(GoOnIn, await request.body())
    return json({"agendas": await wire(request).agendas.go_on(who.publisher, who.key_id, asked.names)})


@router.get("/{name}", summary="One agenda", responses=OF_ONE)
async def agenda(request: Request, name: str) -> Response:
    """Return an agenda, what the quick actions added, and what of it is published."""
    who = await caller(request, *KEEPERS)
    return json(await wire(request).agendas.one(who.publisher, name_of(name)))


@router.put(
    "/{name}",
    summary="Set or change an agenda",
    responses=OF_ACTION,
    openapi_extra=takes(AgendaIn),
)
async def put(request: Request, name: str) -> Response:
    """Say the week once: it is cut into slots and published for the next seven days, rolling.

    Times are on the wall clock of the place. In force when the call returns; `report` counts what that changed. Free
    places that are no longer said go; who has one keeps it, but within a closure that says `refuse`. What the quick
    actions added stays.
    """
    who = await caller(request, *KEEPERS)
    wish = parse(AgendaIn, await request.body()).model_dump(by_alias=True)
    return json(await wire(request).agendas.put(who.publisher, who.key_id, name_of(name), wish))


@router.delete("/{name}", summary="Take an agenda back", responses=problems(401, 403, 404, 409, 422, 429, 503))
async def remove(request: Request, name: str) -> Response:
    """Take an agenda back: its free places go, who has one keeps it."""
    who = await caller(request, *KEEPERS)
    return json(await wire(request).agendas.remove(who.publisher, who.key_id, name_of(name)))


@router.post(
    "/{name}/preview",
    summary="What an agenda would publish",
    responses=problems(401, 403, 413, 422, 429, 503),
    openapi_extra=takes(AgendaIn),
)
async def preview(request: Request, name: str) -> Response:
    """Return the slots that an agenda would have in the next seven days; nothing is written."""
    who = await caller(request, *KEEPERS)
    wish = parse(AgendaIn, await request.body()).model_dump(by_alias=True)
    return json({"slots": wire(request).agendas.preview(who.publisher, name_of(name), wish)})


@router.post(
    "/{name}/csv",
    summary="Places from a table",
    responses=OF_ACTION,
    openapi_extra={
        **takes(query=PreviewQuery),
        "requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}},
    },
)
async def take_csv(request: Request, name: str) -> Response:
    """Put the places of a CSV file into an agenda, in the place of those of the file before; all lines, or none.

    Columns: date, debut, fin, then duree or places, mode, type, offres, visibilite. With `preview=true` nothing is
    written: the answer lists what is wrong line by line, and the slots of the next seven days.
    """
    who = await caller(request, *KEEPERS)
    asked = parse_query(PreviewQuery, request)
    services = wire(request)
    async with services.bulk.turn():
        # ten thousand lines take a third of a second: others are served meanwhile
        read = await asyncio.to_thread(services.read_csv, await request.body())
        whose = (who.publisher, who.key_id, name_of(name))
        return json(await services.agendas.take_in(*whose, "csv", read, preview=asked.preview == "true"))


@router.post(
    "/{name}/places",
    summary="More places today",
    responses=OF_ACTION,
    openapi_extra=takes(PlacesIn, once=True),
)
async def add_places(request: Request, name: str) -> Response:
    """Add so many places in a range of one day (“+2 places between 14 h and 16 h”), published when the call returns."""
    who = await caller(request, *KEEPERS)
    body = await request.body()
    key = once(request, who, body).key
    wish = parse(PlacesIn, body).model_dump()
    return json(await wire(request).agendas.add_places(who.publisher, who.key_id, name_of(name), wish, key))


@router.delete(
    "/{name}/places/{places_id}",
    summary="Take added places back",
    responses=problems(401, 403, 404, 409, 422, 429, 503),
)
async def remove_places(request: Request, name: str, places_id: str) -> Response:
    """Take places back that a quick action added: free ones go, who has one keeps it."""
    who = await caller(request, *KEEPERS)
    agendas = wire(request).agendas
    return json(await agendas.remove_places(who.publisher, who.key_id, name_of(name), name_of(places_id, "places_id")))
