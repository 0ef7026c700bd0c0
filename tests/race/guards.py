"""Every guard of the ledger and of the mirror: how to take it away, and what then goes wrong.

A guard that can be taken away unnoticed is either not needed or not tested. ``test_guards.py`` runs each scenario twice
in scratch databases: with the guard, and nothing may go wrong; without it, and something must. Where one guard stands
behind another, ``behind`` names what has to go as well; with only one of the two gone nothing may go wrong either.
"""

import asyncio
import hashlib
import inspect
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import asyncpg
import pytest
from redis.asyncio import Redis

from adapters.postgres.ledger import PostgresLedger
from adapters.redis import RedisBus, keys
from adapters.redis import bus as bus_module
from sas_matcher.domain.errors import FencedError, IdempotencyError
from sas_matcher.domain.lifecycle import ClaimKind
from sas_matcher.ports.bus import EVENTS_STREAM, PLACES_STREAM, REQUESTS_STREAM
from sas_matcher.ports.ledger import Idempotency
from sas_matcher.services.relay import GRACE, Relay
from tests.conftest import Recorder
from tests.ledger_cases import HOLD, KEY, NOW, TERRITORY, Desk, minutes, request_row, slot_row
from tests.race.asking_guards import (
    a_place_en_sus_chosen_for_another,
    a_place_en_sus_claimed_for_another,
    asked_by_two_for_two_requests,
    asked_twice_for_one_request,
    two_climb_for_one_request,
    two_say_yes_at_once,
)
from tests.race.history import judge, record
from tests.race.limit_guards import (
    a_batch_over_a_limit,
    a_claim_beside_a_choice_under_one_limit,
    a_place_chosen_over_a_limit,
    a_place_published_while_its_limit_is_reached,
    two_claims_under_one_limit,
)
from tests.race.practice_guards import (
    accepted_while_time_runs_out,
    claim_of_a_place_handed_back,
    moved_into_a_lowered_capacity,
    moved_over_a_limit,
    take_of_a_place_handed_back,
)

LATER: Final = NOW + minutes(1)

# -- taking guards away -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drop:
    """Run a statement that removes the guard."""

    sql: str

    async def apply(self, url: str, patch: pytest.MonkeyPatch) -> None:
        """Remove it in a scratch database."""
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(self.sql)
        finally:
            await connection.close()


@dataclass(frozen=True)
class Edit:
    """Replace a text that stands once in a function of the database."""

    function: str
    old: str
    new: str

    async def apply(self, url: str, patch: pytest.MonkeyPatch) -> None:
        """Replace it in a scratch database."""
        connection = await asyncpg.connect(url)
        try:
            text = await connection.fetchval("select pg_get_functiondef($1::regproc)", self.function)
            await connection.execute(_replaced(text, self.old, self.new))
        finally:
            await connection.close()


@dataclass(frozen=True)
class EditPython:
    """Replace a text that stands once in a method of the ledger."""

    method: str
    old: str
    new: str

    async def apply(self, url: str, patch: pytest.MonkeyPatch) -> None:
        """Replace it for the test."""
        method = getattr(PostgresLedger, self.method)
        found: dict[str, Any] = {}
        exec(_replaced(textwrap.dedent(inspect.getsource(method)), self.old, self.new), method.__globals__, found)
        patch.setattr(PostgresLedger, self.method, found[self.method])


@dataclass(frozen=True)
class EditLua:
    """Replace a text that stands once in the script of the mirror."""

    old: str
    new: str

    async def apply(self, url: str, patch: pytest.MonkeyPatch) -> None:
        """Replace it for the test."""
        script = _replaced(bus_module._SCRIPT, self.old, self.new)
        patch.setattr(bus_module, "_SCRIPT", script)
        patch.setattr(bus_module, "_SHA", _sha1(script))


def _sha1(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times"
    return text.replace(old, new)


Removal = Drop | Edit | EditPython | EditLua


# -- the stage ----------------------------------------------------------------------------------------------------


@dataclass
class Stage:
    """A desk on a recorded scratch database, a Redis, and a second ledger whose transactions can be made to pause."""

    desk: Desk
    recorder: Recorder
    slow: Desk
    control: asyncpg.Connection
    redis_url: str

    async def clear(self) -> None:
        """Make it as new, for the next scenario with the same guards."""
        await self.control.execute(
            "drop trigger if exists pause on booking; drop trigger if exists pause on outbox; "
            "truncate slot, request, booking, outbox, idempotency, lease, history, practice_limit, "
            "overflow, ladder cascade"
        )
        async with Redis.from_url(self.redis_url) as redis:
            await redis.flushdb()
        self.recorder.take()
        self.desk.fences = self.slow.fences = await self.desk.ledger.take_leases("matcher", [TERRITORY], 600)

    async def wrong(self) -> list[str]:
        """Return what the independent judge finds."""
        return await judge(self.desk.url)

    async def interleave(
        self, pause: str, slow: Coroutine[Any, Any, Any], fast: Coroutine[Any, Any, Any]
    ) -> tuple[Any, Any, bool]:
        """Stop ``slow`` in its transaction, let ``fast`` run as far as it can, then let both end.

        Args:
            pause: where the slow one stops, as "before insert on booking".
            slow: work of ``self.slow``.
            fast: work of ``self.desk``.

        Returns:
            Both results, and whether the fast one had to wait.
        """
        await self.control.execute(
            f"create or replace trigger pause {pause} for each row "
            "when (current_setting('application_name') = 'slow') execute function pause()"
        )
        await self.control.execute("select pg_advisory_lock(7)")
        first = asyncio.create_task(slow)
        await self._until("locktype = 'advisory'", first)
        second = asyncio.create_task(fast)
        await self._until("locktype <> 'advisory'", second)
        waited = not second.done()
        await self.control.execute("select pg_advisory_unlock(7)")
        return await first, await second, waited

    async def _until(self, blocked: str, task: asyncio.Task[Any]) -> None:
        """Wait until some transaction waits for such a lock, or the task has ended."""
        query = f"select count(*) from pg_locks where not granted and {blocked}"
        while not task.done() and not await self.control.fetchval(query):  # noqa: ASYNC110 - the server tells
            await asyncio.sleep(0.01)


@asynccontextmanager
async def stage(
    url: str, redis_url: str, recorder: Recorder, removed: tuple[Removal, ...], patch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    """Build a stage on a fresh database, without some guards."""
    for removal in removed:
        await removal.apply(url, patch)
    await record(url)
    control = await asyncpg.connect(url)
    await control.execute(
        "create function pause() returns trigger language plpgsql as $$ begin "
        "perform pg_advisory_xact_lock_shared(7); return new; end $$"
    )
    ledger = await PostgresLedger.connect(url, recorder)
    pool = await asyncpg.create_pool(
        url, min_size=1, max_size=2, server_settings={"application_name": "slow", "timezone": "UTC"}
    )
    second = PostgresLedger(pool, recorder)
    try:
        desk = await Desk(ledger, url).open()
        slow = Desk(second, url)
        slow.fences = desk.fences
        yield Stage(desk, recorder, slow, control, redis_url)
    finally:
        await second.close()
        await ledger.close()
        await control.close()


# -- scenarios: what goes wrong without the guard -----------------------------------------------------------------


async def two_claims_of_the_last_seat(on: Stage) -> list[str]:
    """One has counted the seats and not yet taken one when the other claims."""
    # nobody's slot: a professional's would be caught by the overlap with itself
    (slot,) = await on.desk.publish(slot_row("a", professional=None))
    first, second = await on.desk.ask(), await on.desk.ask()
    await on.interleave("before insert on booking", on.slow.claims((first, slot)), on.desk.claims((second, slot)))
    return await on.wrong()


async def one_request_twice_in_a_batch(on: Stage) -> list[str]:
    """A matcher that claims two places for one request."""
    one, two = await on.desk.publish(slot_row("a"), slot_row("b"))
    request = await on.desk.ask()
    await on.desk.claims((request, one), (request, two))
    return await on.wrong()


async def one_professional_at_two_places(on: Stage) -> list[str]:
    """Overlapping individual slots, one after the other."""
    one, two = await on.desk.publish(slot_row("a", professional="81"), slot_row("b", at=70, professional="81"))
    await on.desk.claims((await on.desk.ask(), one))
    await on.desk.claims((await on.desk.ask(), two))
    return await on.wrong()


async def _lowered_plage(on: Stage) -> int:
    """Return a plage of two seats with two patients, in the seats 1 and 2."""
    (plage,) = await on.desk.publish(slot_row("a", capacity=3))
    held = [await on.desk.hold(plage) for _ in range(3)]
    await on.desk.cancel(held[0][0])
    await on.desk.publish(slot_row("a", capacity=2, valid_at=LATER))
    return plage


async def claim_over_a_lowered_capacity(on: Stage) -> list[str]:
    """Seat 0 is free, and the plage is full."""
    plage = await _lowered_plage(on)
    await on.desk.claims((await on.desk.ask(), plage))
    return await on.wrong()


async def take_over_a_lowered_capacity(on: Stage) -> list[str]:
    """Seat 0 is free, and the plage is full; a regulator clicks on it."""
    plage = await _lowered_plage(on)
    await on.desk.take(await on.desk.ask(), plage)
    return await on.wrong()


async def capacity_lowered_during_a_claim(on: Stage) -> list[str]:
    """The practice is told that the capacity is lowered; then the claim that had counted before commits."""
    (plage,) = await on.desk.publish(slot_row("a", capacity=3))
    for _ in range(2):
        await on.desk.hold(plage)
    request = await on.desk.ask()
    await on.interleave(
        "before insert on booking",
        on.slow.claims((request, plage)),
        on.desk.verdict(slot_row("a", capacity=2, valid_at=LATER)),
    )
    return await on.wrong()


async def slot_moved_during_a_claim(on: Stage) -> list[str]:
    """The practice moves a slot while it is being booked."""
    (slot,) = await on.desk.publish(slot_row("a"))
    request = await on.desk.ask()
    await on.interleave(
        "after insert on booking",
        on.slow.claims((request, slot)),
        on.desk.verdict(slot_row("a", at=90, valid_at=LATER)),
    )
    return await on.wrong()


async def claim_with_an_old_fence(on: Stage) -> list[str]:
    """A matcher that slept through the loss of its lease."""
    (slot,) = await on.desk.publish(slot_row("a"))
    request = await on.desk.ask()
    await on.control.execute("update lease set until = clock_timestamp()")
    await on.desk.ledger.take_leases("second", [TERRITORY], 600)
    try:
        verdicts = await on.desk.claims((request, slot))
    except FencedError:
        return []
    return [f"an old fence wrote: {verdicts}"]


async def claim_for_another_territory(on: Stage) -> list[str]:
    """A matcher decides for a territory that is another's."""
    (slot,) = await on.desk.publish(slot_row("a"))
    request = await on.desk.ask(territory="01")
    try:
        verdicts = await on.desk.claims((request, slot))
    except FencedError:
        return []
    return [f"a foreign territory was decided: {verdicts}"]


async def lease_taken_during_a_claim(on: Stage) -> list[str]:
    """The new matcher has its lease, and the old one still writes."""
    (slot,) = await on.desk.publish(slot_row("a"))
    request = await on.desk.ask()
    await on.control.execute("update lease set until = clock_timestamp()")
    verdicts, _, waited = await on.interleave(
        "before insert on booking",
        on.slow.claims((request, slot)),
        on.desk.ledger.take_leases("second", [TERRITORY], 600),
    )
    return [] if waited else [f"an old fence wrote after the new one was given: {verdicts}"]


async def confirm_after_the_hold(on: Stage) -> list[str]:
    """Too late by the whole length of the hold, and no sweeper came by."""
    (slot,) = await on.desk.publish(slot_row("a"))
    request, _ = await on.desk.hold(slot)
    await on.desk.confirm(request, NOW + HOLD)
    return await on.wrong()


async def decline_during_a_confirmation(on: Stage) -> list[str]:
    """Two screens: one confirms, the other declines."""
    (slot,) = await on.desk.publish(slot_row("a"))
    request, booking = await on.desk.hold(slot)
    confirmed, declined, _ = await on.interleave(
        "before update on booking", on.slow.confirm(request), on.desk.decline(request)
    )
    row = await on.desk.booking(booking)
    return [f"told {confirmed} and {declined}, is {row['state']}"] if row["state"] != "firm" else []


async def a_key_sent_twice(on: Stage) -> list[str]:
    """A client that heard nothing tries again with the same key."""
    once = Idempotency(KEY, "k1", b"body")
    for _ in range(2):
        await on.desk.ledger.create_request(NOW, request_row(), once)
    count = await on.control.fetchval("select count(*) from request")
    return [f"{count} requests for one key"] if count != 1 else []


async def a_change_sent_twice(on: Stage) -> list[str]:
    """A regulator's click on "next one" that is sent twice declines once."""
    one, two = await on.desk.publish(slot_row("a"), slot_row("b"))
    request, _ = await on.desk.hold(one)
    once = Idempotency(KEY, "k1", b"body")
    await on.desk.ledger.change_request("decline", NOW, request, (None, "slot"), once)
    await on.desk.claims((request, two))
    await on.desk.ledger.change_request("decline", NOW, request, (None, "slot"), once)
    status = await on.desk.status(request)
    return [f"the second hold was declined unseen: {status}"] if status != "held" else []


async def a_key_with_another_body(on: Stage) -> list[str]:
    """Two different things under one key: the second must not pass for done."""
    one, two = await on.desk.publish(slot_row("a"), slot_row("b"))
    first, _ = await on.desk.hold(one)
    second, _ = await on.desk.hold(two)
    wrong = []
    try:
        await on.desk.ledger.change_request("confirm", NOW, first, (None,), Idempotency(KEY, "k1", b"1"))
        outcome = await on.desk.ledger.change_request("confirm", NOW, second, (None,), Idempotency(KEY, "k1", b"2"))
        wrong.append(f"{outcome.word} was said of a request that is {await on.desk.status(second)}")
    except IdempotencyError:
        pass
    return wrong


async def a_new_request_under_an_old_key(on: Stage) -> list[str]:
    """The same for two requests."""
    await on.desk.ledger.create_request(NOW, request_row(), Idempotency(KEY, "k1", b"1"))
    try:
        outcome = await on.desk.ledger.create_request(NOW, request_row(), Idempotency(KEY, "k1", b"2"))
    except IdempotencyError:
        return []
    return [f"{outcome.word} was said of a request that was not stored"]


async def a_late_publication(on: Stage) -> list[str]:
    """A publication from before the withdrawal comes after it, and the place is given."""
    (slot,) = await on.desk.publish(slot_row("a"))
    await on.desk.withdraw("a", now=LATER)
    await on.desk.publish(slot_row("a"), now=LATER)
    verdicts = await on.desk.claims((await on.desk.ask(), slot), now=LATER)
    return [f"a withdrawn place was given: {verdicts}"] if verdicts == ["held"] else []


async def an_open_slot_in_another_territory(on: Stage) -> list[str]:
    """The mirror of the old territory would go on showing it."""
    bus = RedisBus.connect(on.redis_url)
    try:
        await on.desk.publish(slot_row("a"))
        await on.desk.publish(slot_row("a", territory="01", valid_at=LATER))
        await bus.publish(on.recorder.take())
        shown = [t for t in ("69", "01") if await bus.redis.hlen(keys.places(t))]
    finally:
        await bus.close()
    return [f"one place is shown in {shown}"] if len(shown) != 1 else []


async def claim_for_a_cancelled_request(on: Stage) -> list[str]:
    """The matcher has not heard that the patient left."""
    (slot,) = await on.desk.publish(slot_row("a"))
    request = await on.desk.ask()
    await on.desk.cancel(request)
    await on.desk.claims((request, slot))
    status = await on.desk.status(request)
    return [f"a cancelled request is {status}"] if status != "cancelled" else []


async def a_promise_that_gets_no_new_seat(on: Stage) -> list[str]:
    """The seat that it was to move to has gone to somebody else meanwhile."""
    one, two = await on.desk.publish(slot_row("a"), slot_row("b"))
    request = await on.desk.promise(one)
    await on.desk.firm(two)
    await on.desk.claim_kinds([(ClaimKind.PROMISE, request, two)])
    seats = await on.desk.rows("select from booking where request_id = $1 and ended_at is null", request)
    return [] if seats else ["a promise has no seat"]


async def a_promised_request_held_by_a_stale_matcher(on: Stage) -> list[str]:
    """The matcher has not heard that the request has its promise."""
    one, two = await on.desk.publish(slot_row("a"), slot_row("b"))
    request = await on.desk.promise(one)
    await on.desk.claim_kinds([(ClaimKind.TELL, await on.desk.ask(), two)])
    await on.desk.claims((request, two))
    return [] if await on.desk.left(two) == 1 else ["a seat went to who may not have it"]


async def claim_of_a_declined_slot(on: Stage) -> list[str]:
    """The matcher has not heard that the slot was declined."""
    (slot,) = await on.desk.publish(slot_row("a"))
    request, _ = await on.desk.hold(slot)
    await on.desk.decline(request)
    verdicts = await on.desk.claims((request, slot))
    return ["the declined slot came back"] if verdicts == ["held"] else []


async def claim_of_a_withdrawn_slot(on: Stage) -> list[str]:
    """The matcher has not heard that the slot was withdrawn."""
    (slot,) = await on.desk.publish(slot_row("a"))
    await on.desk.withdraw("a")
    await on.desk.claims((await on.desk.ask(), slot))
    return await on.wrong()


async def take_of_a_withdrawn_slot(on: Stage) -> list[str]:
    """The regulator's list is a second old."""
    (slot,) = await on.desk.publish(slot_row("a"))
    await on.desk.withdraw("a")
    await on.desk.take(await on.desk.ask(), slot)
    return await on.wrong()


async def a_place_chosen_that_is_full(on: Stage) -> list[str]:
    """The one held before must be kept."""
    one, two = await on.desk.publish(slot_row("a"), slot_row("b"))
    await on.desk.firm(two)
    request, booking = await on.desk.hold(one)
    await on.desk.take(request, two)
    row = await on.desk.booking(booking)
    return [] if row["ended_at"] is None else ["the place held before was lost"]


async def _mirror_against_truth(on: Stage, slots: Mapping[str, int]) -> list[str]:
    """Feed the mirror with all that was announced, newest first, and compare."""
    bus = RedisBus.connect(on.redis_url)
    try:
        await bus.publish(on.recorder.take()[::-1])
        shown = {int(k): int(v.split()[0]) for k, v in (await bus.redis.hgetall(keys.left(TERRITORY))).items()}
        present = {int(k) for k in await bus.redis.hkeys(keys.places(TERRITORY))}
    finally:
        await bus.close()
    wrong = []
    for name, slot in slots.items():
        record = await on.desk.ledger.slot_record(slot)
        assert record is not None
        if (slot in present) != (record["status"] == "open"):
            wrong.append(f"{name} is {record['status']} and the mirror has {sorted(present)}")
        elif slot in present and shown[slot] != record["left"]:
            wrong.append(f"{name} has {record['left']} seats left and the mirror shows {shown[slot]}")
    return wrong


async def a_seat_freed_while_another_is_taken(on: Stage) -> list[str]:
    """Each counts without the other; the last to speak is wrong, and the free seat is never offered again."""
    (plage,) = await on.desk.publish(slot_row("a", capacity=2))
    leaving, _ = await on.desk.hold(plage)
    coming = await on.desk.ask()
    await on.interleave("before insert on outbox", on.slow.decline(leaving), on.desk.claims((coming, plage)))
    return await _mirror_against_truth(on, {"plage": plage})


async def news_that_come_in_reverse(on: Stage) -> list[str]:
    """A crashed writer's news come last: published, taken, withdrawn, published again."""
    one, two, three = await on.desk.publish(slot_row("a"), slot_row("b", capacity=3), slot_row("c"))
    await on.desk.hold(two)
    await on.desk.publish(slot_row("b", capacity=4, valid_at=LATER))
    await on.desk.hold(two)
    await on.desk.withdraw("a")
    await on.desk.withdraw("c")
    await on.desk.publish(slot_row("c", valid_at=LATER))
    return await _mirror_against_truth(on, {"one": one, "two": two, "three": three})


class _Crashed:
    """A writer that ends between its commit and its publication."""

    def announce(self, announcements: Any) -> None:
        """Say nothing any more."""


class _Clock:
    def now(self) -> Any:
        return NOW + GRACE + timedelta(seconds=1)


async def a_crash_between_commit_and_publication(on: Stage) -> list[str]:
    """The sweep of another process publishes what the crashed one had committed."""
    ledger = await PostgresLedger.connect(on.desk.url, _Crashed(), size=2)
    bus = RedisBus.connect(on.redis_url)
    try:
        crashed = Desk(ledger, on.desk.url)
        crashed.fences = on.desk.fences
        (slot,) = await crashed.publish(slot_row("a"))
        request, _ = await crashed.firm(slot)
        relay = Relay(bus, _Clock())
        relay.ledger = on.desk.ledger
        while await relay.sweep():
            pass
        entries = await bus.read(dict.fromkeys((EVENTS_STREAM, REQUESTS_STREAM, PLACES_STREAM), "0-0"), block_ms=1)
        left = await on.control.fetchval("select count(*) from outbox")
    finally:
        await bus.close()
        await ledger.close()
    heard = [e.fields.get(b"type", e.fields.get(b"kind", b"")).decode() for e in entries]
    missing = {"request.held", "request.firm", "booking.firm", "open", "published", "state"} - set(heard)
    return [f"never heard of {sorted(missing)} of {request}"] * bool(missing) + [f"{left} kept"] * bool(left)


# -- the table ----------------------------------------------------------------------------------------------------

Scenario = Callable[[Stage], Awaitable[list[str]]]


@dataclass(frozen=True)
class Guard:
    """A guard, how it is removed, what shows that it is gone, and the guards behind it that have to go as well."""

    name: str
    removal: Removal
    scenario: Scenario
    behind: tuple[Removal, ...] = ()


NO_SLOT_LOCK: Final = Edit("lock_places", "(p_slots) w) order by id for update", "(p_slots) w)")
NO_LIMIT_LOCK: Final = Edit("lock_places", "o) order by id for update", "o)")
NO_SEAT_INDEX: Final = Drop("drop index booking_one_seat")
NO_IDEMPOTENCY_KEY: Final = Drop("alter table idempotency drop constraint idempotency_pkey")

GUARDS: Final = (
    Guard(
        "request lock, yes",
        Edit("accept_question", "into r for update", "into r"),
        two_say_yes_at_once,
        behind=(Drop("drop index booking_one_request"),),
    ),
    Guard(
        "consent lock", Edit("advance_asking", "order by id for update", "order by id"), asked_by_two_for_two_requests
    ),
    Guard("request lock, climbing", Edit("advance_asking", "into r for update", "into r"), two_climb_for_one_request),
    Guard("question once", Drop("alter table question drop constraint question_once"), asked_twice_for_one_request),
    Guard(
        "en sus for one, claimed",
        Edit("suits", "and coalesce(s.for_request = r.id, true)", ""),
        a_place_en_sus_claimed_for_another,
    ),
    Guard(
        "en sus for one, chosen",
        Edit("take_place", "and coalesce(s.for_request = r.id, true)", ""),
        a_place_en_sus_chosen_for_another,
    ),
    Guard(
        "request lock, accepting",
        Edit("accept_booking", "where id = p_booking) for update;", "where id = p_booking);"),
        accepted_while_time_runs_out,
    ),
    Guard(
        "capacity in move_booking",
        Edit(
            "move_booking",
            "and (select count(*) from booking o where o.slot_id = s.id and o.ended_at is null) < s.capacity",
            "",
        ),
        moved_into_a_lowered_capacity,
    ),
    Guard(
        "limit in move_booking",
        Edit("move_booking", "raise exception 'limit_reached' using errcode = 'SAS04';", ""),
        moved_over_a_limit,
    ),
    Guard("handed back, claimed", Edit("suits", "and s.handed_back is null", ""), claim_of_a_place_handed_back),
    Guard("handed back, chosen", Edit("take_place", "and s.handed_back is null", ""), take_of_a_place_handed_back),
    Guard("unique seat", NO_SEAT_INDEX, two_claims_of_the_last_seat, behind=(NO_SLOT_LOCK,)),
    Guard("one place a request", Drop("drop index booking_one_request"), one_request_twice_in_a_batch),
    Guard(
        "no overlapping times",
        Drop("alter table booking drop constraint booking_no_overlap"),
        one_professional_at_two_places,
    ),
    Guard(
        "capacity in take_seats",
        Edit("take_seats", "where taken + rank <= capacity", "where true"),
        claim_over_a_lowered_capacity,
    ),
    Guard(
        "capacity in take_place",
        Edit(
            "take_place",
            "and (select count(*) from booking b where b.slot_id = s.id and b.ended_at is null) < s.capacity",
            "",
        ),
        take_over_a_lowered_capacity,
    ),
    Guard("slot lock, lowered capacity", NO_SLOT_LOCK, capacity_lowered_during_a_claim),
    Guard(
        "slot lock, seats told",
        Edit("release_booking", "perform lock_places(array(select slot_id from booking where id = p_booking));", ""),
        a_seat_freed_while_another_is_taken,
    ),
    Guard(
        "slot lock, moved slot",
        Edit("upsert_slots", "order by s.id for update", "order by s.id"),
        slot_moved_during_a_claim,
    ),
    Guard(
        "fence",
        Edit("claim_seats", "and l.fence = f.fence order by", "order by"),
        claim_with_an_old_fence,
    ),
    Guard("fence held to the end", Edit("claim_seats", "for key share of l", ""), lease_taken_during_a_claim),
    Guard(
        "fence in a key of its row",
        # FOR KEY SHARE stops only changes of keys
        Drop("alter table lease drop constraint lease_territory_fence_key"),
        lease_taken_during_a_claim,
    ),
    Guard(
        "fence of each territory",
        Edit(
            "claim_seats",
            "or exists (select from request where id = any(p_requests) and territory <> all(p_territories))",
            "",
        ),
        claim_for_another_territory,
    ),
    Guard(
        "deadline of a hold",
        Edit("confirm_hold", "elsif b.hold_until <= p_now then outcome := 'hold_ended';", ""),
        confirm_after_the_hold,
    ),
    Guard(
        "request lock",
        Edit(
            "decline_hold",
            "where id = p_request and key_id = p_key_id into r for update",
            "where id = p_request into r",
        ),
        decline_during_a_confirmation,
    ),
    Guard("idempotency key of a request", NO_IDEMPOTENCY_KEY, a_key_sent_twice),
    Guard("idempotency key of a change", NO_IDEMPOTENCY_KEY, a_change_sent_twice),
    Guard(
        "body of a change",
        EditPython("work_once", 'known["body_hash"] != once.body_hash or ', ""),
        a_key_with_another_body,
    ),
    Guard(
        "body of a request",
        EditPython("create_request", 'known["body_hash"] != once.body_hash or ', ""),
        a_new_request_under_an_old_key,
    ),
    Guard(
        "late publication",
        Edit("upsert_slots", "when i.valid_at < k.valid_at then 'stale'", ""),
        a_late_publication,
    ),
    Guard(
        "territory of an open slot",
        Edit("upsert_slots", "when k.status = 'open' and i.territory <> k.territory then 'other_territory'", ""),
        an_open_slot_in_another_territory,
    ),
    Guard(
        "status of the request",
        Edit(
            "may_claim",
            "p_kind in ('hold', 'promise') and r.status = 'waiting' then true",
            "p_kind in ('hold', 'promise') then true",
        ),
        claim_for_a_cancelled_request,
    ),
    Guard(
        "old seat of a promise",
        Edit("claim_seats", "if lost <> '{}' then raise exception 'seat_lost' using errcode = 'SAS03'; end if;", ""),
        a_promise_that_gets_no_new_seat,
    ),
    Guard(
        "who may be told",
        Edit("may_claim", "else p_kind in ('promise', 'tell') and r.id = any(p_movers) end", "else true end"),
        a_promised_request_held_by_a_stale_matcher,
    ),
    Guard(
        "declined slot",
        Edit("suits", "and not r.excluded && array['s' || s.id, 'p' || s.professional]", ""),
        claim_of_a_declined_slot,
    ),
    Guard(
        "withdrawn slot, claimed",
        Edit("suits", "s.status = 'open' and s.starts > p_now", "s.starts > p_now"),
        claim_of_a_withdrawn_slot,
    ),
    Guard(
        "withdrawn slot, chosen",
        Edit("take_place", "where s.status = 'open' and", "where"),
        take_of_a_withdrawn_slot,
    ),
    Guard(
        "limit in take_seats",
        Edit("take_seats", "and n <> all(over_limit)", ""),
        a_batch_over_a_limit,
    ),
    Guard(
        "limit in take_place",
        Edit("take_place", "raise exception 'limit_reached' using errcode = 'SAS04';", ""),
        a_place_chosen_over_a_limit,
    ),
    Guard("limit lock, two claims", NO_LIMIT_LOCK, two_claims_under_one_limit),
    Guard("limit lock, claim beside choice", NO_LIMIT_LOCK, a_claim_beside_a_choice_under_one_limit),
    Guard(
        "limit lock, publication",
        Edit("upsert_slots", "order by id for update;\n    end if;", "order by id;\n    end if;"),
        a_place_published_while_its_limit_is_reached,
    ),
    Guard(
        "original place kept",
        Edit("take_place", "if not found then raise exception 'slot_full' using errcode = 'SAS02'; end if;", ""),
        a_place_chosen_that_is_full,
    ),
    Guard(
        "version of a record in the mirror",
        EditLua("kind == 'published' and version >= record_version", "kind == 'published'"),
        news_that_come_in_reverse,
    ),
    Guard(
        "version of a withdrawal in the mirror",
        EditLua("kind == 'gone' and version > record_version", "kind == 'gone'"),
        news_that_come_in_reverse,
    ),
    Guard(
        "version of the seats in the mirror",
        EditLua("version > seats_version or (kind == 'published' and version == seats_version)", "true"),
        news_that_come_in_reverse,
    ),
    Guard(
        "outbox in the transaction",
        # as if announcements were only handed over in memory
        Drop(
            "create function forget() returns trigger language plpgsql as "
            "$$ begin delete from outbox where id = new.id; return null; end $$; "
            "create trigger forget after insert on outbox for each row execute function forget()"
        ),
        a_crash_between_commit_and_publication,
    ),
)
