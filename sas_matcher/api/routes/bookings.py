"""Routes of the practices about patients who have a place: accept, refuse, call off, move, say what became of them."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from sas_matcher.api.inputs.queries import WindowQuery
from sas_matcher.api.inputs.schemas import ArrivedIn, CallOffIn, MoveIn, Nothing, OutcomeIn, RefuseIn
from sas_matcher.api.openapi import OF_ACTION, OF_LIST, OF_ONE, takes
from sas_matcher.api.problems import parse_query
from sas_matcher.api.wire import keeper, raw, read_action, slot_of, uuid_of, wire

router = APIRouter(prefix="/v1", tags=["cabinets et centres"])


@router.get(
    "/bookings",
    summary="Bookings on my slots",
    responses=OF_LIST,
    openapi_extra=takes(query=WindowQuery),
)
async def bookings(request: Request) -> Response:
    """Return the bookings of slots that start in a window."""
    who = await keeper(request)
    query = parse_query(WindowQuery, request)
    found = await wire(request).bookings.page(who.publisher, (query.from_, query.to), query.limit)
    return raw('{"bookings":[' + ",".join(found) + "]}")


@router.get("/bookings/{booking_id}", summary="One booking", responses=OF_ONE)
async def booking(request: Request, booking_id: str) -> Response:
    """Return a booking on one of the caller's slots."""
    who = await keeper(request)
    return raw(await wire(request).bookings.one(uuid_of(booking_id, "booking_id"), who.owns))


@router.post(
    "/bookings/{booking_id}/accept",
    summary="Accept a booking",
    responses=OF_ACTION,
    openapi_extra=takes(Nothing, once=True),
)
async def accept(request: Request, booking_id: str) -> Response:
    """Accept a booking of a slot that asks for it (`acceptance`), before its deadline; again does no harm."""
    who = await keeper(request)
    _, named = await read_action(request, who, Nothing, bare=True)
    target = uuid_of(booking_id, "booking_id")
    return raw(await wire(request).bookings.act("accept", target, (), who.owns, named))


@router.post(
    "/bookings/{booking_id}/refuse",
    summary="Refuse a booking",
    responses=OF_ACTION,
    openapi_extra=takes(RefuseIn, once=True),
)
async def refuse(request: Request, booking_id: str) -> Response:
    """Refuse a booking, before it begins: its request is matched again at once.

    `keep_slot` says whether its place stays open for others; unsaid, an hour is closed and a plage stays. When a plage
    closes, who has a seat in it keeps it.

    A reason that another hour would not change (`outside_competence`, `too_far`) keeps this professional from being
    proposed to that patient again.
    """
    who = await keeper(request)
    asked, named = await read_action(request, who, RefuseIn, bare=True)
    target = uuid_of(booking_id, "booking_id")
    return raw(await wire(request).bookings.act("refuse", target, (asked.reason, asked.keep_slot), who.owns, named))


@router.post(
    "/bookings/{booking_id}/cancel",
    summary="The patient does not come: call a booking off",
    responses=OF_ACTION,
    openapi_extra=takes(CallOffIn, once=True),
)
async def cancel(request: Request, booking_id: str) -> Response:
    """Call a booking off because the patient told the practice so: the request ends, nobody looks for a place for it.

    Before it begins; from then on say `noshow`. The place is free for others unless ``keep_slot`` is false.
    """
    who = await keeper(request)
    asked, named = await read_action(request, who, CallOffIn, bare=True)
    target = uuid_of(booking_id, "booking_id")
    return raw(await wire(request).bookings.act("cancel", target, ("patient", asked.keep_slot), who.owns, named))


@router.post(
    "/bookings/{booking_id}/move",
    summary="Move a patient to another of my hours",
    responses=OF_ACTION,
    openapi_extra=takes(MoveIn, once=True),
)
async def move(request: Request, booking_id: str) -> Response:
    """Move a booking, with the patient's consent, to another open hour of the practice, before the request's deadline.

    The new place is taken and the old one freed at once, or nothing changes. The regulator is told.
    """
    who = await keeper(request)
    asked, named = await read_action(request, who, MoveIn)
    target = uuid_of(booking_id, "booking_id")
    return raw(await wire(request).bookings.move(target, asked.slot_id, who.owns, named))


@router.post(
    "/bookings/{booking_id}/outcome",
    summary="Say whether the patient came",
    responses=OF_ACTION,
    openapi_extra=takes(OutcomeIn, once=True),
)
async def outcome(request: Request, booking_id: str) -> Response:
    """Record fulfilled or noshow, from the start of the slot on; may be corrected."""
    who = await keeper(request)
    asked, named = await read_action(request, who, OutcomeIn)
    target = uuid_of(booking_id, "booking_id")
    return raw(await wire(request).bookings.act("outcome", target, (asked.outcome,), who.owns, named))


@router.post(
    "/slots/{slot_id}/arrived",
    summary="Count the patients of a plage",
    responses=OF_ACTION,
    openapi_extra=takes(ArrivedIn, once=True),
)
async def arrived(request: Request, slot_id: str) -> Response:
    """Say how many patients of a plage have come, from its start on; `over`: the others did not. May be corrected.

    Which patient it was need not be said: bookings count as honoured in the order of their making.
    """
    who = await keeper(request)
    asked, named = await read_action(request, who, ArrivedIn)
    counted = await wire(request).bookings.count(slot_of(slot_id), asked.arrived, asked.over, who.owns, named)
    return raw(counted)
