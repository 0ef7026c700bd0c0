"""Routes of the practices: publish and withdraw slots, set limits."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from sas_matcher.api.auth import Caller
from sas_matcher.api.edge import SMALL
from sas_matcher.api.inputs.queries import WindowQuery
from sas_matcher.api.inputs.reading import parse
from sas_matcher.api.inputs.schemas import MOST_SLOTS, LimitIn, SlotsIn, WithdrawIn
from sas_matcher.api.openapi import OF_ACTION, OF_LIST, OF_ONE, OF_OWN, problems, takes
from sas_matcher.api.problems import parse_query
from sas_matcher.api.wire import json, keeper, name_of, raw, wire
from sas_matcher.domain.errors import InvalidInputError, TooLargeError

router = APIRouter(prefix="/v1", tags=["cabinets et centres"])
_STEP: Final = 250  # slots validated between two breaths of the event loop: about 5 ms


async def read_slots(body: bytes) -> list[dict[str, Any]]:
    """Validate a bulk of slots as ``SlotsIn`` would, letting other calls through meanwhile.

    Raises:
        InvalidInputError: names slot and field of the first fifty errors.
        TooLargeError: more than 10 000 slots.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    items = document.get("slots") if isinstance(document, dict) else None
    if not isinstance(items, list) or len(document) != 1 or len(items) <= _STEP:
        return [slot.model_dump() for slot in parse(SlotsIn, body).slots]
    if len(items) > MOST_SLOTS:
        raise TooLargeError(f"{MOST_SLOTS} créneaux au plus par envoi ; découpez-le.")
    slots: list[dict[str, Any]] = []
    errors: list[dict[str, str]] = []
    for at in range(0, len(items), _STEP):
        try:
            part = parse(SlotsIn, _written(items[at : at + _STEP]))
            slots += [slot.model_dump() for slot in part.slots]
        except InvalidInputError as wrong:
            errors += [{**error, "field": _shifted(error["field"], at)} for error in wrong.extra["errors"]]
        await asyncio.sleep(0)
    if errors:
        raise InvalidInputError(
            f"Rien n'a été publié. {errors[0]['field']} : {errors[0]['message']}.", errors=errors[:50]
        )
    return slots


def _written(items: Sequence[Any]) -> bytes:
    """Return some slots as JSON.

    Raises:
        InvalidInputError: one is nested deeper than JSON is written (but was read).
    """
    try:
        return orjson.dumps({"slots": items})
    except orjson.JSONEncodeError:
        # what a slot may hold is two deep: these are wrong, and the others are checked when they come without
        wrong = [number for number, item in enumerate(items) if not _is_writable(item)]
        message = "objets ou listes imbriqués trop profondément"
        raise InvalidInputError("", errors=[{"field": f"slots.{n}", "message": message} for n in wrong]) from None


def _is_writable(item: Any) -> bool:
    try:
        orjson.dumps({"slots": [item]})
    except orjson.JSONEncodeError:
        return False
    return True


def _shifted(field: str, by: int) -> str:
    """Return a field path of a part as it reads in the whole: ``slots.3.start`` → ``slots.253.start``."""
    head, number, *rest = field.split(".")
    return ".".join([head, str(int(number) + by), *rest])


def _counts(results: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return dict(Counter(result["outcome"] for result in results))


@router.post(
    "/slots",
    summary="Publish or change slots",
    responses=problems(401, 403, 409, 413, 422, 429, 503),
    openapi_extra=takes(SlotsIn),
)
async def publish(request: Request) -> Response:
    """Publish slots, idempotent by source and external id: all are valid, or none is published.

    Outcomes: created, updated, unchanged, stale (an older valid_at than what is known), booked (time, place or person
    of a booked slot cannot change: withdraw it), other_territory (withdraw it, then publish it there), not_yours (the
    source knows this external id as a slot of somebody whom the key may not speak for; no slot_id is told).
    """
    who = await keeper(request)
    if not _is_bulk(request):
        return await _published(request, who)
    async with wire(request).bulk.turn():
        return await _published(request, who)


def _is_bulk(request: Request) -> bool:
    """Tell whether a body is large, or may be: those wait for one another."""
    length = request.headers.get("content-length", "")
    return not length.isdigit() or int(length) > SMALL


async def _published(request: Request, who: Caller) -> Response:
    slots = await read_slots(await request.body())
    results = await wire(request).publishing.publish(who.publisher, slots)
    return json({"counts": _counts(results), "results": results})


@router.get(
    "/slots",
    summary="What I have published",
    responses=OF_LIST,
    openapi_extra=takes(query=WindowQuery),
)
async def slots(request: Request) -> Response:
    """Return the caller's slots that start in a window, with the seats left.

    `counts`: seats taken for sure, patients arrived and missed, seats handed back to the practice.
    """
    who = await keeper(request)
    query = parse_query(WindowQuery, request)
    rows = await wire(request).publishing.published(who.publisher, (query.from_, query.to), query.after, query.limit)
    found = [
        {**orjson.loads(record), "left": left, "status": status, "counts": counts}
        for record, left, status, counts in rows
    ]
    after = found[-1]["slot_id"] if len(found) == query.limit else None
    return json({"slots": found, "next_after": after})


@router.post(
    "/slots/withdraw",
    summary="Withdraw slots",
    responses=problems(401, 403, 413, 422, 429, 503),
    openapi_extra=takes(WithdrawIn),
)
async def withdraw(request: Request) -> Response:
    """Withdraw slots by name or in a window; bookings on them end and their requests are matched again.

    What has begun stays, and so do its patients: a window leaves it out, one named is `begun` (say who came:
    `outcome`). Others: withdrawn, not_found (unknown, someone else's, or withdrawn before).
    """
    who = await keeper(request)
    asked = parse(WithdrawIn, await request.body())
    window = (asked.from_, asked.to) if asked.from_ is not None and asked.to is not None else None
    results = await wire(request).publishing.withdraw(who.publisher, asked.external_ids, window, asked.reason)
    return json({"counts": _counts(results), "results": results})


@router.get("/limits", summary="My limits", responses=OF_OWN)
async def limits(request: Request) -> Response:
    """Return the limits that this key may change, with what is taken of them in the next seven days."""
    who = await keeper(request)
    return json({"limits": await wire(request).limiting.all(who.publisher)})


@router.get("/limits/{name}", summary="One limit", responses=OF_ONE)
async def limit(request: Request, name: str) -> Response:
    """Return a limit, with what is taken of it in the next seven days."""
    who = await keeper(request)
    return json(await wire(request).limiting.one(who.publisher, name_of(name)))


@router.put(
    "/limits/{name}",
    summary="Set or change a limit",
    responses=OF_ACTION,
    openapi_extra=takes(LimitIn),
)
async def put_limit(request: Request, name: str) -> Response:
    """Set how many patients, visits or children some members take together in a day or half a day.

    In force at once: nothing is proposed or booked over it from here on; what is booked already stays.
    """
    who = await keeper(request)
    wish = parse(LimitIn, await request.body()).model_dump()
    return raw(await wire(request).limiting.put(who.publisher, name_of(name), wish))


@router.delete("/limits/{name}", summary="Take a limit back", responses=OF_ONE)
async def remove_limit(request: Request, name: str) -> Response:
    """Take a limit back: the places that it closed are open again at once."""
    who = await keeper(request)
    await wire(request).limiting.remove(who.publisher, name_of(name))
    return json({"removed": name})
