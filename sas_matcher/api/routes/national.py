"""The links to others: what the national platform was told of our bookings, how the editors that we poll do."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from sas_matcher.api.inputs.queries import MessagesQuery
from sas_matcher.api.openapi import OF_LIST, OF_OWN, takes
from sas_matcher.api.problems import parse_query
from sas_matcher.api.wire import caller, json, wire
from sas_matcher.domain.vocabulary import Scope

router = APIRouter(prefix="/v1", tags=["administration"])


@router.get(
    "/national/appointments",
    summary="What the national platform was told",
    responses=OF_LIST,
    openapi_extra=takes(query=MessagesQuery),
)
async def messages(request: Request) -> Response:
    """Return the messages of INT_R03, newest first: waiting (with tries and last error), sent, refused, impossible."""
    await caller(request, Scope.ADMIN)
    query = parse_query(MessagesQuery, request)
    services = wire(request)
    counts = await services.national.counts(services.clock.now())
    found = await services.national.messages(query.state, query.booking_id, query.limit)
    return json(
        {
            "counts": {state: count for state, (count, _) in counts.items()},
            "oldest_waiting_s": round(counts.get("waiting", (0, 0.0))[1]),
            "messages": [message._asdict() for message in found],
        }
    )


@router.get("/editors", summary="How the editors of agendas do", responses=OF_OWN)
async def editors(request: Request) -> Response:
    """Return each polled editor: ok, mute (since when, and why) or never asked; its places, its phantoms of 30 days.

    ``phantoms`` of ``tried``: places that a regulator went to book and that the editor then had no more.
    """
    await caller(request, Scope.ADMIN, Scope.COORDINATOR, Scope.REGULATOR)
    return json({"editors": await wire(request).editors.all()})
