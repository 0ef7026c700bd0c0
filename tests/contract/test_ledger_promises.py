"""Promises: given, moved in silence, told, displaced; whoever loses a seat keeps the promise or is told at once."""

import asyncio
import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest

from sas_matcher.domain.errors import FencedError
from sas_matcher.domain.lifecycle import ClaimKind
from tests.conftest import Recorder
from tests.contract.conftest import postgres_only
from tests.ledger_cases import HOLD, NOW, TERRITORY, Desk, minutes, new_id, slot_row

HOLD_IT, PROMISE, TELL, DISPLACE, NONE = (
    ClaimKind.HOLD,
    ClaimKind.PROMISE,
    ClaimKind.TELL,
    ClaimKind.DISPLACE,
    ClaimKind.NONE,
)


async def _slot_of(desk: Desk, request: str) -> int:
    slot: int = (await desk.document(request))["booking"]["slot_id"]
    return slot


async def _promise_of(desk: Desk, request: str) -> dict[str, Any]:
    promise: dict[str, Any] = (await desk.document(request))["promise"]
    return promise


def _events(recorder: Recorder) -> list[str]:
    return [a.type for a in recorder.take() if a.stream == "events"]


async def test_a_promise_takes_a_seat_and_tells_the_regulator_only(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    request = await desk.ask()
    assert (await desk.document(request))["promise"] is None
    recorder.take()
    assert (await desk.claim_kinds([(PROMISE, request, slot)]))[0] == ["promised"]
    assert _events(recorder) == ["request.promised"]
    document = await desk.document(request)
    assert (document["status"], document["booking"]["state"]) == ("promised", "promised")
    promise = document["promise"]
    assert promise["seen_before"] == document["deadline"]
    assert (promise["moves"], promise["broken"], promise["lost_to_practice"]) == (0, 0, 0)
    assert promise["told_by"] > promise["since"]
    assert await desk.left(slot) == 0
    assert await desk.claims((await desk.ask(), slot)) == ["seat_lost"]
    window = (NOW, NOW + timedelta(days=1))
    assert await desk.ledger.bookings_of_practice(None, ["8a"], [], window, 9) == []
    booking = document["booking"]["booking_id"]
    assert await desk.ledger.booking_document(booking) is None
    assert await desk.refuse(booking, keep=True) == "not_found"


async def test_a_promise_moves_in_silence_and_is_counted(desk: Desk, recorder: Recorder) -> None:
    one, two = await desk.publish(slot_row("a"), slot_row("b"))
    request = await desk.promise(one)
    first = (await desk.document(request))["booking"]["booking_id"]
    before = await _promise_of(desk, request)
    recorder.take()
    verdicts, _ = await desk.claim_kinds([(PROMISE, request, two)], NOW + minutes(1), told_by=NOW + minutes(30))
    assert (verdicts, _events(recorder)) == (["moved"], [])
    assert (await desk.left(one), await desk.left(two)) == (1, 0)
    # what was said to the regulator stays: since when, and by when told
    assert await _promise_of(desk, request) == {**before, "moves": 1}
    assert await _slot_of(desk, request) == two
    assert (await desk.claim_kinds([(PROMISE, request, one)], told_by=NOW + minutes(1)))[0] == ["moved"]
    assert (await _promise_of(desk, request))["told_by"] < before["told_by"]
    assert first != (await desk.document(request))["booking"]["booking_id"]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same slot", "another slot"])
async def test_a_told_promise_is_firm_and_the_practice_hears_of_it(
    desk: Desk, recorder: Recorder, elsewhere: bool
) -> None:
    one, two = await desk.publish(slot_row("a"), slot_row("b"))
    request = await desk.promise(one)
    recorder.take()
    target = two if elsewhere else one
    assert (await desk.claim_kinds([(TELL, request, target)]))[0] == ["told_firm"]
    assert _events(recorder) == ["request.told", "booking.firm"]
    document = await desk.document(request)
    assert (document["status"], document["booking"]["state"]) == ("firm", "firm")
    assert document["booking"]["slot_id"] == target
    assert document["promise"]["moves"] == int(elsewhere)
    window = (NOW, NOW + timedelta(days=1))
    assert len(await desk.ledger.bookings_of_practice(None, ["8a", "8b"], [], window, 9)) == 1
    assert (await desk.left(one), await desk.left(two)) == ((1, 0) if elsewhere else (0, 1))


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same slot", "another slot"])
async def test_a_told_promise_on_another_editors_place_is_held_not_firm(
    desk: Desk, recorder: Recorder, elsewhere: bool
) -> None:
    one, two = await desk.publish(slot_row("a"), slot_row("b"), source="fhir:agenda")
    request = await desk.promise(one)
    recorder.take()
    target = two if elsewhere else one
    assert (await desk.claim_kinds([(TELL, request, target)]))[0] == ["held"]
    assert _events(recorder) == ["request.held"]
    document = await desk.document(request)
    assert (document["status"], document["booking"]["state"]) == ("held", "held")
    assert document["booking"]["slot_id"] == target and document["booking"]["firm_at"] is None
    # held for as long as the territory holds, then given back: the regulator did not book it there
    until = datetime.fromisoformat(document["booking"]["hold_until"])
    assert until == NOW + timedelta(seconds=180)
    await desk.ledger.lapse_holds(until)
    assert await desk.status(request) == "lapsed" and await desk.left(target) == 1


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same slot", "another slot"])
async def test_what_is_told_late_on_another_editors_place_is_held_until_it_begins(desk: Desk, elsewhere: bool) -> None:
    one, two = await desk.publish(slot_row("a", at=2), slot_row("b", at=2), source="fhir:agenda")
    request = await desk.promise(one)
    assert (await desk.claim_kinds([(TELL, request, two if elsewhere else one)]))[0] == ["held"]
    assert datetime.fromisoformat((await desk.document(request))["booking"]["hold_until"]) == NOW + minutes(2)
    assert await desk.confirm(request, NOW + minutes(2.5)) == "hold_ended"


async def test_a_place_that_its_editor_has_no_more_is_nobodys(desk: Desk) -> None:
    (there,) = await desk.publish(slot_row("a"), source="fhir:agenda")
    (ours,) = await desk.publish(slot_row("b"))
    for slot, state, left in ((there, "refused", 0), (ours, "declined", 1)):
        request, booking = await desk.hold(slot)
        assert await desk.decline(request, "gone") == "declined"
        assert await desk.status(request) == "waiting"
        assert (await desk.booking(booking))["state"] == state
        assert await desk.left(slot) == left


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_seats_change_round_in_one_batch(desk: Desk, order: tuple[int, ...]) -> None:
    slots = await desk.publish(*(slot_row(name) for name in "abc"))
    requests = [await desk.promise(slot) for slot in slots]
    wanted = [(PROMISE, requests[n], slots[order[n]]) for n in range(3)]
    verdicts, _ = await desk.claim_kinds(wanted)
    assert verdicts == ["promised" if order[n] == n else "moved" for n in range(3)]
    assert [await _slot_of(desk, request) for request in requests] == [slots[n] for n in order]
    assert [(await _promise_of(desk, r))["moves"] for r in requests] == [int(order[n] != n) for n in range(3)]


async def test_who_gets_no_new_seat_keeps_the_old_one_down_the_whole_chain(desk: Desk) -> None:
    first, second, third, fourth = await desk.publish(*(slot_row(name) for name in "abcd"))
    one, two = await desk.promise(first), await desk.promise(second)
    await desk.firm(third)
    bystander = await desk.promise(fourth)
    fresh = await desk.ask()
    wanted = [(HOLD_IT, fresh, first), (PROMISE, one, second), (PROMISE, two, third), (PROMISE, bystander, fourth)]
    assert (await desk.claim_kinds(wanted))[0] == ["seat_lost", "seat_lost", "seat_lost", "promised"]
    assert [await _slot_of(desk, r) for r in (one, two, bystander)] == [first, second, fourth]
    assert [await desk.status(r) for r in (fresh, one, two)] == ["waiting", "promised", "promised"]
    assert (await _promise_of(desk, one))["moves"] == 0


async def test_a_seat_that_a_promise_leaves_goes_to_another_in_the_same_batch(desk: Desk) -> None:
    one, two = await desk.publish(slot_row("a"), slot_row("b", at=70, professional="8a"))
    (free,) = await desk.publish(slot_row("c"))
    moving, urgent = await desk.promise(one), await desk.ask()
    # "b" overlaps "a" in time: freed with it
    verdicts, _ = await desk.claim_kinds([(HOLD_IT, urgent, two), (PROMISE, moving, free)])
    assert verdicts == ["held", "moved"]


async def test_a_displaced_request_is_told_at_once_and_may_be_promised_anew(desk: Desk, recorder: Recorder) -> None:
    one, two = await desk.publish(slot_row("a"), slot_row("b"))
    weak, urgent = await desk.promise(one), await desk.ask()
    recorder.take()
    verdicts, _ = await desk.claim_kinds([(DISPLACE, weak, None), (PROMISE, weak, two), (HOLD_IT, urgent, one)])
    assert verdicts == ["displaced", "promised", "held"]
    assert _events(recorder) == ["request.displaced", "request.held", "request.promised"]
    promise = await _promise_of(desk, weak)
    assert (promise["broken"], promise["moves"]) == (1, 0)
    recorder.take()
    assert (await desk.claim_kinds([(DISPLACE, weak, None)]))[0] == ["displaced"]
    assert (await desk.status(weak), await desk.left(two)) == ("waiting", 1)
    assert (await _promise_of(desk, weak))["told_by"] is None
    assert (await desk.claim_kinds([(DISPLACE, weak, None)]))[0] == ["not_waiting"]
    assert (await _promise_of(desk, weak))["broken"] == 2


async def test_a_seat_withdrawn_under_a_promise_opens_its_request_again(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    request = await desk.promise(slot)
    recorder.take()
    await desk.withdraw("a")
    assert _events(recorder) == ["request.reopened"]
    document = await desk.document(request)
    assert (document["status"], document["booking"]) == ("waiting", None)
    assert (document["promise"]["lost_to_practice"], document["promise"]["broken"]) == (1, 0)
    (again,) = await desk.publish(slot_row("b"))
    assert (await desk.claim_kinds([(PROMISE, request, again)]))[0] == ["promised"]
    assert (await _promise_of(desk, request))["since"] == document["promise"]["since"]


@pytest.mark.parametrize("act", ["refuse", "cancel"])
async def test_a_plage_that_is_closed_with_one_patient_opens_the_requests_promised_there(
    desk: Desk, recorder: Recorder, act: str
) -> None:
    """At once, as a withdrawal does: not when it begins, and not as broken by the service."""
    (plage,) = await desk.publish(slot_row("a", at=120, capacity=5, professional="81"))
    (_, booking), (other, _) = await desk.firm(plage), await desk.firm(plage)
    held, _ = await desk.hold(plage)
    promised = await desk.promise(plage)
    recorder.take()
    if act == "refuse":
        assert (await desk.of_booking("refuse", booking, "too_far", False)).word == "refused"
    else:
        assert (await desk.of_booking("cancel", booking, "patient", False)).word == "cancelled"
    told = [(a.stream, a.type) for a in recorder.take() if a.aggregate == promised]
    assert told == [("events", "request.reopened"), ("requests", "open")]
    document = await desk.document(promised)
    # only of the one who was refused does the reason speak
    assert (document["status"], document["booking"], document["excluded"]) == ("waiting", None, [f"s{plage}"])
    assert (document["promise"]["broken"], document["promise"]["lost_to_practice"]) == (0, 1)
    assert (await desk.status(other), await desk.status(held)) == ("firm", "held"), "who has a seat keeps it"
    assert await desk.confirm(held) == "firm"


async def test_a_promise_does_not_come_back_to_a_place_that_is_gone(desk: Desk, recorder: Recorder) -> None:
    plage, quiet = await desk.publish(slot_row("a", at=120, capacity=5), slot_row("b", at=130))
    _, booking = await desk.firm(plage)
    promised = await desk.promise(quiet)
    assert await desk.take(promised, plage) == "held"
    await desk.refuse(booking, keep=False)
    recorder.take()
    await desk.ledger.lapse_holds(NOW + HOLD)
    told = [(a.stream, a.type) for a in recorder.take() if a.aggregate == promised]
    assert told == [("events", "request.reopened"), ("requests", "open")]
    document = await desk.document(promised)
    assert (document["status"], document["booking"], document["excluded"]) == ("waiting", None, [f"s{plage}"])
    assert (document["promise"]["broken"], document["promise"]["lost_to_practice"]) == (0, 1)
    assert await desk.confirm(promised, NOW + HOLD) == "hold_ended"
    assert await desk.claims((promised, quiet), now=NOW + HOLD) == ["held"]


async def test_a_promise_does_not_come_back_to_a_place_that_has_begun(desk: Desk, recorder: Recorder) -> None:
    soon, quiet = await desk.publish(slot_row("a", at=2), slot_row("b", at=130))
    promised = await desk.promise(quiet)
    assert await desk.take(promised, soon) == "held"
    recorder.take()
    await desk.ledger.lapse_holds(NOW + minutes(2))
    told = [(a.stream, a.type) for a in recorder.take() if a.aggregate == promised]
    assert told == [("events", "request.displaced"), ("requests", "open")]
    document = await desk.document(promised)
    assert (document["status"], document["booking"], document["promise"]["broken"]) == ("waiting", None, 1)


async def test_another_place_is_taken_in_the_stead_of_one_that_is_gone(desk: Desk) -> None:
    plage, quiet, other = await desk.publish(
        slot_row("a", at=120, capacity=5), slot_row("b", at=130), slot_row("c", at=140)
    )
    _, booking = await desk.firm(plage)
    promised = await desk.promise(quiet)
    await desk.take(promised, plage)
    await desk.refuse(booking, keep=False)
    # its own hold has run out, and nobody swept: choosing judges it
    assert await desk.take(promised, other, NOW + HOLD) == "held"
    assert await desk.confirm(promised, NOW + HOLD) == "firm"


async def test_a_promise_is_cancelled_with_its_seat_but_not_declined(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    request = await desk.promise(slot)
    recorder.take()
    assert await desk.decline(request) == "conflict"
    assert await desk.confirm(request) == "conflict"
    assert await desk.status(request) == "promised"
    assert await desk.cancel(request) == "cancelled"
    assert (await desk.left(slot), _events(recorder)) == (1, ["request.cancelled"])
    assert (await desk.claim_kinds([(TELL, request, slot), (PROMISE, request, slot)]))[0] == ["not_waiting"] * 2


async def test_a_place_chosen_by_hand_ends_the_promise_only_when_confirmed(desk: Desk) -> None:
    one, two = await desk.publish(slot_row("a"), slot_row("b"))
    request = await desk.promise(one)
    assert await desk.take(request, two) == "held"
    assert (await desk.left(one), await desk.left(two)) == (1, 0)
    assert await desk.ledger.lapse_holds(NOW + HOLD)
    document = await desk.document(request)
    assert (document["status"], document["booking"]["slot_id"]) == ("promised", two)
    assert await desk.take(request, one, now=NOW + HOLD) == "held"
    assert await desk.confirm(request, now=NOW + HOLD) == "firm"


async def test_a_chosen_place_that_is_full_leaves_the_promise_as_it_was(desk: Desk) -> None:
    one, two = await desk.publish(slot_row("a"), slot_row("b"))
    request = await desk.promise(one)
    await desk.firm(two)
    before = await desk.document(request)
    assert await desk.take(request, two) == "slot_full"
    assert await desk.document(request) == before


async def test_a_promise_that_nobody_told_is_broken_aloud(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await desk.publish(slot_row("a", at=60))
    request = await desk.promise(slot)
    recorder.take()
    await desk.ledger.close_unserved(NOW + minutes(59))
    assert await desk.status(request) == "promised"
    await desk.ledger.close_unserved(NOW + minutes(60))
    assert (await desk.status(request), _events(recorder)) == ("waiting", ["request.displaced"])
    assert (await _promise_of(desk, request))["broken"] == 1


async def test_what_was_said_of_a_promise_stands_wherever_its_seat_moves(desk: Desk) -> None:
    late, early = await desk.publish(slot_row("a", at=90), slot_row("b", at=60))
    request = await desk.ask()
    for slot, wished, said in ((late, 120, 120), (early, 180, 120), (late, 100, 100)):
        await desk.claim_kinds([(PROMISE, request, slot)], told_by=NOW + minutes(wished))
        told_by = datetime.fromisoformat((await _promise_of(desk, request))["told_by"])
        assert told_by == NOW + minutes(said)
    # the seat behind it begins all the same
    await desk.claim_kinds([(PROMISE, request, early)])
    await desk.ledger.close_unserved(NOW + minutes(60))
    assert await desk.status(request) == "waiting"


async def test_a_booked_slot_keeps_its_time_and_a_lowered_capacity_keeps_promises(desk: Desk) -> None:
    single, plage = await desk.publish(slot_row("a"), slot_row("b", capacity=3))
    alone, both = await desk.promise(single), [await desk.promise(plage), await desk.promise(plage)]
    assert await desk.verdict(slot_row("a", at=90)) == "booked"
    assert await desk.verdict(slot_row("b", capacity=2)) == "updated"
    assert await desk.left(plage) == 0
    assert [await desk.status(r) for r in (alone, *both)] == ["promised"] * 3


async def test_claims_that_do_not_fit_the_state_change_nothing(desk: Desk) -> None:
    one, two = await desk.publish(slot_row("a"), slot_row("b"))
    waiting, promised = await desk.ask(), await desk.promise(one)
    before = [await desk.document(r) for r in (waiting, promised)]
    wanted = [(TELL, waiting, two), (DISPLACE, waiting, None), (HOLD_IT, promised, two), (NONE, promised, None)]
    for claim in wanted:
        assert (await desk.claim_kinds([claim]))[0] == ["not_waiting"]
    assert (await desk.claim_kinds([(PROMISE, new_id(), two)]))[0] == ["not_waiting"]
    assert [await desk.document(r) for r in (waiting, promised)] == before
    with pytest.raises(FencedError):
        await desk.claim_kinds([(PROMISE, promised, two)], fences={TERRITORY: -1})
    assert await desk.document(promised) == before[1]


async def test_a_restarted_matcher_finds_the_seats_behind_promises(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    promised, waiting = await desk.promise(slot), await desk.ask()
    loaded = await desk.ledger.waiting_requests(NOW, [TERRITORY])
    assert len(loaded) == 2
    assert {promised, waiting} == {r for r in (promised, waiting) if any(r in text for text in loaded)}


async def test_batches_that_exchange_seats_at_once_leave_each_promise_one(desk: Desk) -> None:
    slots = await desk.publish(*(slot_row(name) for name in "abcd"))
    requests = [await desk.promise(slot) for slot in slots[:3]]
    await asyncio.gather(
        *(
            desk.claim_kinds([(PROMISE, r, slots[(n + turn) % 4]) for n, r in enumerate(requests)])
            for turn in (1, 2, 3)
        ),
        desk.take(requests[0], slots[3]),
        desk.take(await desk.ask(), slots[3]),
    )
    assert not any((await desk.ledger.doubles()).values())
    held = [(await desk.document(r))["booking"] for r in requests]
    assert all(held) and len({booking["slot_id"] for booking in held}) == 3


async def test_a_promise_on_a_seat_that_is_no_longer_offered_is_lost_to_the_practice(
    desk: Desk, recorder: Recorder
) -> None:
    """The practice offers one seat fewer, and there was nowhere to go: not the service broke the word."""
    (plage,) = await desk.publish(slot_row("a", at=60, capacity=3))
    requests = [await desk.promise(plage) for _ in range(3)]
    await desk.publish(slot_row("a", at=60, capacity=2, valid_at=NOW + minutes(1)))
    recorder.take()
    await desk.ledger.close_unserved(NOW + minutes(60))
    counts = [(p["broken"], p["lost_to_practice"]) for p in [await _promise_of(desk, r) for r in requests]]
    assert sorted(counts) == [(0, 1), (1, 0), (1, 0)]
    assert sorted(_events(recorder)) == ["request.displaced", "request.displaced", "request.reopened"]


async def test_a_seat_that_came_back_when_it_was_too_late_was_lost_to_the_practice_too(desk: Desk) -> None:
    (plage,) = await desk.publish(slot_row("a", at=60, capacity=3))
    requests = [await desk.promise(plage) for _ in range(3)]
    for number, seats in enumerate((2, 3)):
        await desk.publish(slot_row("a", at=60, capacity=seats, valid_at=NOW + minutes(1 + number)))
    await desk.ledger.close_unserved(NOW + minutes(60))
    counts = [(p["broken"], p["lost_to_practice"]) for p in [await _promise_of(desk, r) for r in requests]]
    assert sorted(counts) == [(0, 1), (1, 0), (1, 0)]


async def test_who_was_told_has_a_seat_that_is_still_offered_and_not_whoever_was_promised_one_first(desk: Desk) -> None:
    (plage,) = await desk.publish(slot_row("a", at=60, capacity=3))
    requests = [await desk.promise(plage) for _ in range(3)]
    await desk.publish(slot_row("a", at=60, capacity=2, valid_at=NOW + minutes(1)))
    for told in requests[1:]:
        assert (await desk.claim_kinds([(TELL, told, plage)]))[0] == ["told_firm"]
    await desk.ledger.close_unserved(NOW + minutes(60))
    lost = await _promise_of(desk, requests[0])
    assert (lost["broken"], lost["lost_to_practice"]) == (0, 1)


@pytest.mark.parametrize("firm", [0, 1])
async def test_nobody_is_told_a_seat_that_the_practice_offers_no_more(desk: Desk, firm: int) -> None:
    """In one batch, in its order; who keeps no seat is still promised, and is found another or lost aloud."""
    (plage,) = await desk.publish(slot_row("a", at=120, capacity=4))
    for _ in range(firm):
        await desk.firm(plage)
    requests = [await desk.promise(plage) for _ in range(3)]
    await desk.publish(slot_row("a", at=120, capacity=2, valid_at=NOW + minutes(1)))
    verdicts, _ = await desk.claim_kinds([(TELL, request, plage) for request in reversed(requests)], NOW + minutes(5))
    told = 2 - firm
    assert verdicts == ["told_firm"] * told + ["seat_lost"] * (3 - told)
    assert [await desk.status(r) for r in reversed(requests)] == ["firm"] * told + ["promised"] * (3 - told)
    # one by one neither; a promise that only stays where it is may
    for request in requests[: 3 - told]:
        assert (await desk.claim_kinds([(TELL, request, plage)], NOW + minutes(6)))[0] == ["seat_lost"]
        assert (await desk.claim_kinds([(PROMISE, request, plage)], NOW + minutes(6)))[0] == ["promised"]
    assert not any((await desk.ledger.doubles()).values())


@postgres_only
async def test_the_auditor_sees_who_was_told_beyond_a_lowered_capacity(desk: Desk) -> None:
    (plage,) = await desk.publish(slot_row("a", at=120, capacity=3))
    requests = [await desk.promise(plage) for _ in range(3)]
    await desk.publish(slot_row("a", at=120, capacity=2, valid_at=NOW + minutes(1)))
    assert (await desk.claim_kinds([(TELL, request, plage) for request in requests[:2]]))[0] == ["told_firm"] * 2
    assert (await desk.ledger.doubles())["capacity"] == 0
    await desk.rows("update booking set state = 'firm', firm_at = $1 where state = 'promised'", NOW)
    await desk.rows("update request set status = 'firm' where status = 'promised'")
    assert (await desk.ledger.doubles())["capacity"] == 1


async def test_a_place_published_anew_after_its_withdrawal_was_never_cut(desk: Desk) -> None:
    (plage,) = await desk.publish(slot_row("a", at=60, capacity=3))
    await desk.publish(slot_row("a", at=60, capacity=2, valid_at=NOW + minutes(1)))
    await desk.withdraw("a")
    await desk.publish(slot_row("a", at=60, capacity=3, valid_at=NOW + minutes(2)))
    requests = [await desk.promise(plage) for _ in range(3)]
    await desk.ledger.close_unserved(NOW + minutes(60))
    assert [(await _promise_of(desk, r))["broken"] for r in requests] == [1, 1, 1]
