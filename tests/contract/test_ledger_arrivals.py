"""Requests that arrive with their claim: written and decided in one transaction, whoever else writes them meanwhile."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from sas_matcher.domain.errors import FencedError, IdempotencyError, RefusedArrivalError
from sas_matcher.domain.lifecycle import ClaimKind
from sas_matcher.ports.ledger import Claim, Idempotency
from sas_matcher.ports.ledger import request_row as row_of
from tests.contract.conftest import postgres_only
from tests.ledger_cases import HOLD, KEY, NOW, Desk, new_id, request_row, slot_row

MADE = NOW - timedelta(milliseconds=5)  # it was on its way


def arriving(wish: Mapping[str, Any], slot_id: int | None, once: Idempotency) -> Claim:
    """Claim a slot, or no place, for a request that arrives with it."""
    row = orjson.dumps(row_of(MADE, wish, once)).decode()
    kind = ClaimKind.NONE if slot_id is None else ClaimKind.HOLD
    return Claim(wish["id"], slot_id, new_id(), NOW + HOLD, '{"why":"test"}', kind, arrives=row)


def named(key: str = KEY) -> Idempotency:
    """A new Idempotency-Key."""
    return Idempotency(key, new_id(), b"body")


async def test_it_is_written_with_what_was_claimed_for_it(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    wishes = [request_row(case_ref="A1"), request_row(), request_row()]
    claims = [arriving(wish, slot_id, named()) for wish, slot_id in zip(wishes, (slot, None, slot), strict=True)]
    verdicts, announced = await desk.ledger.claim(NOW, desk.fences, claims)
    assert verdicts == ["held", "told", "seat_lost"]
    held, told, lost = [await desk.document(wish["id"]) for wish in wishes]
    assert (held["status"], held["version"], held["case_ref"], held["booking"]["slot_id"]) == ("held", 2, "A1", slot)
    assert (told["status"], told["version"], lost["status"], lost["version"]) == ("waiting", 2, "waiting", 1)
    assert [a.type for a in announced if a.stream == "requests"] == []  # the matcher has it already
    # but for what became of it, it is as one that was taken in before
    plain = await desk.document(await desk.ask(MADE))
    differ = {"request_id"}
    assert {k: v for k, v in lost.items() if k not in differ} == {k: v for k, v in plain.items() if k not in differ}


@pytest.mark.parametrize("first", ["sender", "claim", "both"])
async def test_its_sender_writes_it_too(desk: Desk, first: str) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    wish, once = request_row(), named()
    claim = arriving(wish, slot, once)
    if first == "sender":
        assert (await desk.ledger.create_request(MADE, wish, once)).word == "created"
        verdicts, _ = await desk.ledger.claim(NOW, desk.fences, [claim])
    elif first == "claim":
        verdicts, _ = await desk.ledger.claim(NOW, desk.fences, [claim])
        said = await desk.ledger.create_request(NOW, wish, once)
        assert (said.word, said.document, said.replayed) == ("created", wish["id"], False)
    else:
        (verdicts, _), said = await asyncio.gather(
            desk.ledger.claim(NOW, desk.fences, [claim]), desk.ledger.create_request(NOW, wish, once)
        )
        assert said.word == "created"
    assert verdicts == ["held"]
    assert await desk.status(wish["id"]) == "held"
    # the same call under another id is a replay of it
    again = await desk.ledger.create_request(NOW, request_row(), once)
    assert (again.word, again.document) == ("replayed", wish["id"])
    with pytest.raises(IdempotencyError):
        await desk.ledger.create_request(NOW, request_row(), once._replace(body_hash=b"other"))


@pytest.mark.parametrize("first", ["committed", "arrived", "arrives too"])
async def test_one_whose_key_came_before_never_was_and_nobody_gives_way_to_it(desk: Desk, first: str) -> None:
    one, two, three = await desk.publish(slot_row("a"), slot_row("b"), slot_row("c"))
    once, known = named(), request_row()
    if first == "committed":
        await desk.ledger.create_request(NOW, known, once)
    elif first == "arrived":
        await desk.ledger.claim(NOW, desk.fences, [arriving(known, None, once)])
    promised = await desk.promise(one)
    again, fresh = request_row(), request_row()
    claims = [arriving(again, one, once), arriving(fresh, two, named())]
    claims.append(Claim(promised, None, new_id(), None, '{"why":"crisis"}', ClaimKind.DISPLACE))
    if first == "arrives too":
        claims.insert(0, arriving(known, three, once))
    with pytest.raises(RefusedArrivalError) as refused:
        await desk.ledger.claim(NOW, desk.fences, claims)
    assert refused.value.requests == {again["id"]}
    assert await desk.ledger.request_document(again["id"], None) is None
    assert await desk.ledger.request_document(fresh["id"], None) is None
    assert (await desk.status(promised), await desk.left(two)) == ("promised", 1)
    claims = [claim for claim in claims if claim.request_id in (known["id"], fresh["id"])]
    assert set((await desk.ledger.claim(NOW, desk.fences, claims))[0]) == {"held"}


@postgres_only
async def test_a_claim_and_the_senders_of_its_requests_do_not_wait_crosswise(desk: Desk) -> None:
    for _ in range(6):
        sent = [(request_row(), named()) for _ in range(16)]
        claims = [arriving(wish, None, once) for wish, once in sent]
        with capture_logs() as said:
            await asyncio.gather(
                desk.ledger.claim(NOW, desk.fences, claims),
                *(desk.ledger.create_request(NOW, wish, once) for wish, once in reversed(sent)),
            )
        assert [entry for entry in said if entry["event"] == "ledger.deadlock"] == []


async def test_of_a_claim_that_is_fenced_off_nothing_is_written(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    wish, once = request_row(), named()
    stale = {territory: fence - 1 for territory, fence in desk.fences.items()}
    for fences in (stale, {}):
        with pytest.raises(FencedError):
            await desk.ledger.claim(NOW, fences, [arriving(wish, slot, once)])
    assert await desk.ledger.request_document(wish["id"], None) is None
    assert (await desk.ledger.create_request(NOW, wish, once)).word == "created"


@pytest.mark.parametrize("wrong", [{"key_id": "nobody"}, {"profession": None}, {"deadline": "demain"}])
async def test_one_that_cannot_be_written_takes_nobody_along_by_halves(desk: Desk, wrong: dict[str, Any]) -> None:
    one, two = await desk.publish(slot_row("a"), slot_row("b"))
    bad, good, once = request_row(), request_row(), named()
    refused = arriving(bad, one, named())
    broken = orjson.loads(refused.arrives or "") | wrong
    claims = [arriving(good, two, once), refused._replace(arrives=orjson.dumps(broken).decode())]
    with pytest.raises(RefusedArrivalError) as error:
        await desk.ledger.claim(NOW, desk.fences, claims)
    assert error.value.requests == frozenset()  # which of them it is was not said
    assert (await desk.left(one), await desk.left(two)) == (1, 1)
    assert await desk.ledger.request_document(good["id"], None) is None
    assert (await desk.ledger.claim(NOW, desk.fences, claims[:1]))[0] == ["held"]
