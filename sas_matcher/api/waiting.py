"""Asking, and waiting a moment for the matcher's answer: what a regulator's call and page have in common."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from sas_matcher import metrics
from sas_matcher.api.wire import Wire
from sas_matcher.ports.ledger import Idempotency
from sas_matcher.services.arrivals import PATIENCE_S

WAIT_S: Final = 2.0
"""Then the decision is pushed."""


class Asked(NamedTuple):
    """A request as its key sees it; ``decided``: not waiting for its first decision; ``replayed``: asked before."""

    document: bytes | str
    decided: bool
    replayed: bool


async def ask_and_wait(services: Wire, row: Mapping[str, Any], once: Idempotency) -> Asked:
    """Ask for a place and wait, at most ``WAIT_S``, for the place held or the reason why there is none.

    The request is committed with its decision, or else before its caller is answered.

    Args:
        services: of this worker.
        row: as of ``Regulating.new_request``.
        once: who asks; a repeated key gives the request as it stands.

    Raises:
        OverloadedError: see ``Admission.admit``.
    """
    async with services.admission.admit(row["tier"], (once.key_id, once.key)):
        return await _ask(services, row, once)


async def _ask(services: Wire, row: Mapping[str, Any], once: Idempotency) -> Asked:
    first = services.arrivals.sent(once)
    if first is not None and services.hub.awaits(first):
        # the same call is under way: written by this one, its own request would be nobody's
        await _until_decided(services, first)
    decision = services.hub.expect(row["id"])
    began = asyncio.get_running_loop().time()
    try:
        if services.hub.following and services.arrivals.send(row, once):
            await asyncio.wait((decision,), timeout=PATIENCE_S)
            if decision.done():
                metrics.ARRIVALS.labels("decided").inc()
                return Asked(decision.result(), True, False)
        outcome = await services.regulating.ask(row, once)
        metrics.ARRIVALS.labels("replayed" if outcome.replayed else "before").inc()
        if outcome.replayed:
            return await _replayed(services, str(outcome.document), once.key_id)
        async with asyncio.timeout_at(began + WAIT_S):
            return Asked(await decision, True, False)
    except TimeoutError:
        # the ledger may know what the stream has not told yet (Redis away)
        document = await services.regulating.document(row["id"], once.key_id)
        return Asked(document, await _decided(services, document), False)
    finally:
        services.hub.release(row["id"], decision)


async def _until_decided(services: Wire, request_id: str) -> None:
    """Wait until a request that was sent is decided, or written by its sender."""
    decision = services.hub.expect(request_id)
    try:
        await asyncio.wait((decision,), timeout=PATIENCE_S)
    finally:
        services.hub.release(request_id, decision)


def _undecided(document: str) -> bool:
    """Tell whether a request still waits for its first decision."""
    request = orjson.loads(document)
    return bool(request["status"] == "waiting" and request["decision"] is None)


async def _decided(services: Wire, document: str) -> bool:
    """Tell whether a request has its first decision; if not, only now is it safe from a crash, and may be told."""
    if _undecided(document):
        await services.regulating.secure()
        return False
    return True


async def _replayed(services: Wire, request_id: str, key_id: str) -> Asked:
    """Return a request as it stands, decided if that takes no longer than usual."""
    waiting = services.hub.expect(request_id)
    try:
        document = await services.regulating.document(request_id, key_id)
        if _undecided(document):
            async with asyncio.timeout(WAIT_S):
                document = (await waiting).decode()
    except TimeoutError:
        return Asked(document, await _decided(services, document), True)
    finally:
        services.hub.release(request_id, waiting)
    return Asked(document, True, True)


async def act_and_wait(
    services: Wire, action: str, request_id: str, arguments: Sequence[Any], once: Idempotency
) -> bytes | str:
    """Do what makes a request wait again (decline, resume), and wait at most ``WAIT_S`` for the next decision.

    Returns:
        The request, decided anew if that came in time.
    """
    document: bytes | str = await services.regulating.act(action, request_id, arguments, once)
    version = orjson.loads(document)["version"]
    decision = services.hub.expect(request_id, version)
    try:
        # it may have been decided before we listened
        now = await services.regulating.document(request_id, once.key_id)
        if orjson.loads(now)["version"] > version:
            return now
        async with asyncio.timeout(WAIT_S):
            return await decision
    except TimeoutError:
        return await services.regulating.document(request_id, once.key_id)
    finally:
        services.hub.release(request_id, decision)
