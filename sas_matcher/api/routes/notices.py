"""Routes of notifications: subscriptions of a practice, and what was told to them."""

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from sas_matcher.api.inputs.queries import DeliveriesQuery
from sas_matcher.api.inputs.reading import parse
from sas_matcher.api.inputs.schemas import ConfirmAddressIn, SubscriptionIn
from sas_matcher.api.openapi import OF_ACTION, OF_ONE, OF_OWN, problems, takes
from sas_matcher.api.problems import parse_query
from sas_matcher.api.wire import KEEPERS, caller, json, name_of, wire

router = APIRouter(prefix="/v1", tags=["notifications"])


@router.get("/subscriptions", summary="My subscriptions", responses=OF_OWN)
async def subscriptions(request: Request) -> Response:
    """Return the subscriptions that this key may change, by name, with how each does."""
    who = await caller(request, *KEEPERS)
    return json({"subscriptions": await wire(request).notices.all(who.publisher)})


@router.get("/subscriptions/{name}", summary="One subscription", responses=OF_ONE)
async def subscription(request: Request, name: str) -> Response:
    """Return a subscription: what it is told, whether that arrives, and if not since when and why."""
    who = await caller(request, *KEEPERS)
    return json(await wire(request).notices.one(who.publisher, name_of(name)))


@router.put(
    "/subscriptions/{name}",
    summary="Set or change a subscription",
    responses=OF_ACTION,
    openapi_extra=takes(SubscriptionIn),
)
async def put_subscription(request: Request, name: str) -> Response:
    """Say who is told of what, and how; in force at once. A subscription that was disabled begins anew.

    A webhook gets a `secret` (Standard Webhooks, `whsec_…`) when it is made: it is shown this once. An address of mail
    is sent a code first (`unconfirmed`): answer with `confirm`; so many codes a minute for a source, and an hour for an
    address, then 429. Without professionals and structures it is about all
    that the key speaks for.
    """
    who = await caller(request, *KEEPERS)
    wish = parse(SubscriptionIn, await request.body()).model_dump()
    return json(await wire(request).notices.put(who.publisher, who.key_id, name_of(name), wish))


@router.delete("/subscriptions/{name}", summary="Drop a subscription", responses=OF_ONE)
async def remove_subscription(request: Request, name: str) -> Response:
    """Drop a subscription; what waited for it is told no more."""
    who = await caller(request, *KEEPERS)
    await wire(request).notices.remove(who.publisher, name_of(name))
    return json({"removed": name})


@router.post(
    "/subscriptions/{name}/rotate",
    summary="Change the secret of a webhook",
    responses=problems(401, 403, 404, 409, 422, 429, 503),
)
async def rotate(request: Request, name: str) -> Response:
    """Give a webhook another secret, shown this once; for 24 hours the one before signs beside it."""
    who = await caller(request, *KEEPERS)
    return json(await wire(request).notices.rotate(who.publisher, name_of(name)))


@router.post(
    "/subscriptions/{name}/confirm",
    summary="Confirm an address of mail",
    responses=OF_ACTION,
    openapi_extra=takes(ConfirmAddressIn),
)
async def confirm(request: Request, name: str) -> Response:
    """Answer with the code that a new address was sent; until then it is told nothing else."""
    who = await caller(request, *KEEPERS)
    asked = parse(ConfirmAddressIn, await request.body())
    return json(await wire(request).notices.confirm(who.publisher, name_of(name), asked.code))


@router.post(
    "/subscriptions/{name}/test",
    summary="Send a test",
    responses=problems(401, 403, 404, 409, 422, 429, 503),
)
async def test(request: Request, name: str) -> Response:
    """Tell a subscription nothing, to see whether it arrives: `GET /v1/deliveries` says what came of it."""
    who = await caller(request, *KEEPERS)
    return json(await wire(request).notices.test(who.publisher, name_of(name)))


@router.get(
    "/deliveries",
    summary="What was told to my subscriptions",
    responses=OF_ONE,
    openapi_extra=takes(query=DeliveriesQuery),
)
async def deliveries(request: Request) -> Response:
    """Return notices, newest first: state, tries, last error; ``next_before`` leads to older ones."""
    who = await caller(request, *KEEPERS)
    query = parse_query(DeliveriesQuery, request)
    found = await wire(request).notices.deliveries(
        who.publisher, query.subscription, query.state, query.before, query.limit
    )
    documents = [orjson.loads(one) for one in found]
    last = int(documents[-1]["id"].removeprefix("msg_")) if len(documents) == query.limit else None
    return json({"deliveries": documents, "next_before": last})
