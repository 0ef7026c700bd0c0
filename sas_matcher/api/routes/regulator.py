"""Routes of the regulators: requests, their life, the list of offers."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from sas_matcher.api.inputs.queries import OffersQuery, RequestsQuery
from sas_matcher.api.inputs.schemas import CancelIn, ConfirmIn, DeclineIn, HandIn, Nothing, RequestIn, TakeIn
from sas_matcher.api.openapi import OF_ACTION, OF_LIST, OF_ONE, OF_OWN, answers, problems, takes
from sas_matcher.api.problems import parse_query
from sas_matcher.api.waiting import ask_and_wait
from sas_matcher.api.wire import caller, json, raw, read_action, uuid_of, wire
from sas_matcher.domain.vocabulary import Scope, Visibility

router = APIRouter(prefix="/v1", tags=["régulation"])


@router.post(
    "/requests",
    status_code=201,
    summary="Ask for a place",
    responses={
        201: answers("Asked", "Decided: the place held, or the reason for none and what would help"),
        202: answers("Asked", "Committed; the decision is pushed"),
        **problems(401, 403, 409, 413, 422, 429, 503),
    },
    openapi_extra=takes(RequestIn, once=True),
)
async def ask(request: Request) -> Response:
    """Take a request in and wait, at most 2 s, for the place held or the reason why there is none."""
    services = wire(request)
    who = await caller(request, Scope.REGULATOR)
    wish, named = await read_action(request, who, RequestIn)
    row = services.regulating.new_request(wish.model_dump(), who.territories)
    asked = await ask_and_wait(services, row, named)
    answer = raw(asked.document, 201 if asked.decided else 202)
    if asked.replayed and asked.decided:
        answer.headers["Idempotent-Replay"] = "true"
    return answer


@router.get(
    "/requests",
    summary="My requests, newest first",
    responses=OF_LIST,
    openapi_extra=takes(query=RequestsQuery),
)
async def requests(request: Request) -> Response:
    """Return a page of the caller's requests."""
    who = await caller(request, Scope.REGULATOR)
    query = parse_query(RequestsQuery, request)
    found = await wire(request).regulating.page(who.key_id, query.status, query.before, query.limit)
    return raw('{"requests":[' + ",".join(found) + "]}")


@router.get("/requests/{request_id}", summary="One request", responses=OF_ONE)
async def one(request: Request, request_id: str) -> Response:
    """Return a request of the caller."""
    who = await caller(request, Scope.REGULATOR)
    return raw(await wire(request).regulating.document(uuid_of(request_id, "request_id"), who.key_id))


def _action(name: str, summary: str, description: str, model: type[Any], arguments: Any) -> None:
    @router.post(
        f"/requests/{{request_id}}/{name}",
        name=name,
        summary=summary,
        description=description,
        responses=OF_ACTION,
        openapi_extra=takes(model, once=True),
    )
    async def act(request: Request, request_id: str) -> Response:
        who = await caller(request, Scope.REGULATOR)
        asked, named = await read_action(request, who, model, bare=True)
        target = uuid_of(request_id, "request_id")
        return raw(await wire(request).regulating.act(name, target, arguments(asked), named))


_action(
    "confirm",
    "Confirm the hold: the booking is firm",
    "Make the place held firm and tell the practice; refused (hold_ended) once the hold has run out.",
    ConfirmIn,
    lambda asked: [asked.booking_id],
)
_action(
    "decline",
    "Decline the hold: the next place",
    "Give the place held back; the next one is decided at once and pushed, never the same again.",
    DeclineIn,
    lambda asked: [asked.booking_id, asked.scope],
)
_action(
    "cancel",
    "Cancel the request",
    "Close the request in any open state; its place goes back and the practice is told of a firm one. Once a firm "
    "place has begun it is a conflict: its practice says whether the patient came.",
    CancelIn,
    lambda asked: [asked.reason],
)
_action(
    "resume",
    "Open a lapsed request again",
    "Let a request whose hold ran out wait again, until its deadline; the decision is pushed.",
    Nothing,
    lambda asked: [],
)


@router.get("/colleagues", summary="To whom a request may be handed", responses=OF_OWN)
async def colleagues(request: Request) -> Response:
    """Return the other regulators of the caller's territories: key, name and role."""
    who = await caller(request, Scope.REGULATOR)
    found = await wire(request).regulating.colleagues(who.key_id, who.territories)
    return json({"colleagues": [{"key": key.id, "name": key.name, "role": key.role} for key in found]})


@router.post(
    "/requests/{request_id}/hand",
    summary="Hand the request to a colleague",
    responses=OF_ACTION,
    openapi_extra=takes(HandIn, once=True),
)
async def hand(request: Request, request_id: str) -> Response:
    """Hand an open request, with its place or promise: from here on it is theirs alone, and both hear of it."""
    who = await caller(request, Scope.REGULATOR)
    asked, named = await read_action(request, who, HandIn)
    target = uuid_of(request_id, "request_id")
    return raw(await wire(request).regulating.hand(target, asked.to, named))


@router.post(
    "/requests/{request_id}/take",
    summary="Hold a place of one's own choice",
    responses=OF_ACTION,
    openapi_extra=takes(TakeIn, once=True),
)
async def take(request: Request, request_id: str) -> Response:
    """Hold an alternative, or a place from the list; the one held before is kept if this one is gone."""
    who = await caller(request, Scope.REGULATOR)
    asked, named = await read_action(request, who, TakeIn)
    target = uuid_of(request_id, "request_id")
    return raw(await wire(request).regulating.take(target, asked.slot_id, named))


@router.get(
    "/offers",
    summary="Free places around a point, by card and by bucket of the next 72 hours",
    responses=OF_LIST,
    openapi_extra=takes(query=OffersQuery),
)
async def offers(request: Request) -> Response:
    """Browse as on the national platform; a place found here can be taken for a request."""
    who = await caller(request, Scope.REGULATOR, Scope.COORDINATOR)
    query = parse_query(OffersQuery, request)
    wish = {**query.model_dump(), "visibility": [str(kind) for kind in Visibility]}
    services = wire(request)
    return json({**await services.regulating.offers(wish, who.key_id), "mute_editors": await services.editors.mute()})
