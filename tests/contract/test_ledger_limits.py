"""Limits of practices in the ledger: whatever is claimed or chosen, no more than they let in."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from sas_matcher.domain.lifecycle import ClaimKind
from sas_matcher.ports.ledger import PracticeLimit
from tests.conftest import Recorder
from tests.ledger_cases import HOLD, NOW, SOURCE, Desk, minutes, slot_row

DOCTOR, CENTRE = "10000000012", "690000001"
MIDNIGHT = datetime(2026, 11, 22, 23, tzinfo=UTC)  # in Paris
MIDDAY = MIDNIGHT + timedelta(hours=13)


def limit(
    most: int | None = 1, *, name: str = "quota", members: tuple[str, ...] = (f"p:{DOCTOR}",), **columns: Any
) -> PracticeLimit:
    """Return a quota of the doctor's day."""
    known = PracticeLimit(SOURCE, name, "patients", "day", most, None, "Europe/Paris", own_only=False, members=members)
    return known._replace(**columns)


async def publish(desk: Desk, *names: str, first: float = 60, **columns: Any) -> list[int]:
    """Publish one slot of the doctor's an hour under each name, from ``first`` minutes on."""
    rows = [
        slot_row(name, at=first + 60 * number, **{"professional": DOCTOR, "structure": CENTRE, **columns})
        for number, name in enumerate(names)
    ]
    return await desk.publish(*rows)


async def lefts(desk: Desk, slots: list[int]) -> list[int]:
    """Return the seats left of each slot."""
    return [await desk.left(slot) for slot in slots]


def told(recorder: Recorder) -> list[tuple[str, Any]]:
    """Return the news of places, without versions."""
    return [(a.type, orjson.loads(a.data)) for a in recorder.take() if a.stream == "places"]


async def periods(desk: Desk) -> list[tuple[int, int]]:
    """Return (most, taken) of the periods of the only limit."""
    (document,) = await desk.ledger.limits_of_source(NOW, SOURCE)
    return [(p["most"], p["taken"]) for p in orjson.loads(document)["periods"]]


async def test_a_quota_of_the_day_closes_the_other_slots_until_one_comes_back(desk: Desk, recorder: Recorder) -> None:
    slots = await publish(desk, "a", "b", "c")
    other, tomorrow = await desk.publish(
        slot_row("x", at=60), slot_row("t", at=24 * 60, professional=DOCTOR, structure=CENTRE)
    )
    await desk.ledger.put_limit(NOW, limit(2))
    await desk.firm(slots[0])
    assert await lefts(desk, slots) == [0, 1, 1]
    recorder.take()
    held, _ = await desk.hold(slots[1])
    assert await lefts(desk, [*slots, other, tomorrow]) == [0, 0, 0, 1, 1]
    closing = {slot: left for kind, items in told(recorder) if kind == "state" for slot, left, _ in items}
    assert closing == dict.fromkeys(slots, 0)
    assert await desk.claims((await desk.ask(), slots[2])) == ["limit_reached"]
    assert await desk.claims((await desk.ask(), slots[1])) == ["limit_reached"]
    assert await desk.take(await desk.ask(), slots[2]) == "limit_reached"
    recorder.take()
    await desk.cancel(held)
    assert await lefts(desk, slots) == [0, 1, 1]
    opening = {slot: left for kind, items in told(recorder) if kind == "state" for slot, left, _ in items}
    assert opening == {slots[0]: 0, slots[1]: 1, slots[2]: 1}
    assert await desk.claims((await desk.ask(), slots[2])) == ["held"]


async def test_in_one_batch_only_as_many_as_are_left(desk: Desk) -> None:
    slots = await publish(desk, "a", "b", "c")
    await desk.ledger.put_limit(NOW, limit(2))
    wanted = [(await desk.ask(), slot) for slot in slots]
    verdicts = await desk.claims(*wanted)
    assert verdicts == ["held", "held", "limit_reached"]


async def test_a_promise_counts_and_moves_within_its_limit(desk: Desk) -> None:
    slots = await publish(desk, "a", "b", "c")
    await desk.ledger.put_limit(NOW, limit(1))
    promised = await desk.promise(slots[0])
    assert await desk.claims((await desk.ask(), slots[1])) == ["limit_reached"]
    verdicts, _ = await desk.claim_kinds([(ClaimKind.PROMISE, promised, slots[1])])
    assert verdicts == ["moved"]
    # who takes a place by hand gives the old one back in the same breath
    assert await desk.take(promised, slots[2]) == "held"
    assert await lefts(desk, slots) == [0, 0, 0]


async def test_a_promise_keeps_its_seat_where_the_new_one_is_under_a_full_limit(desk: Desk) -> None:
    mine = await publish(desk, "a", "b")
    (other,) = await desk.publish(slot_row("x", at=60))
    await desk.ledger.put_limit(NOW, limit(1))
    await desk.firm(mine[0])
    promised = await desk.promise(other)
    verdicts, _ = await desk.claim_kinds([(ClaimKind.PROMISE, promised, mine[1])])
    assert verdicts == ["limit_reached"]
    assert (await desk.document(promised))["booking"]["slot_id"] == other


async def test_halves_of_a_day_meet_at_thirteen_on_the_practices_clock(desk: Desk) -> None:
    # NOW is nine in Paris: the slots begin at ten, eleven, twelve and thirteen
    slots = await publish(desk, "a", "b", "c", "d")
    await desk.ledger.put_limit(NOW, limit(1, period="half_day"))
    await desk.hold(slots[0])
    assert await lefts(desk, slots) == [0, 0, 0, 1]
    await desk.hold(slots[3])
    (row,) = await desk.ledger.limits(NOW)
    assert orjson.loads(row[1]) == [[int(MIDNIGHT.timestamp()), 0], [int(MIDDAY.timestamp()), 0]]


async def test_a_day_begins_on_the_clock_of_its_zone(desk: Desk) -> None:
    """At nine in Paris, on La Réunion it is noon: eleven hours later there, the next day has begun."""
    today, tomorrow = await desk.publish(
        slot_row("a", at=11 * 60, professional=DOCTOR), slot_row("b", at=13 * 60, professional=DOCTOR)
    )
    await desk.ledger.put_limit(NOW, limit(1, zone="Indian/Reunion"))
    await desk.hold(today, deadline=NOW + timedelta(hours=24))
    assert await lefts(desk, [today, tomorrow]) == [0, 1]
    await desk.ledger.put_limit(NOW, limit(1))
    assert await lefts(desk, [today, tomorrow]) == [0, 0]


async def test_a_centre_shares_its_cap_and_a_professional_keeps_his_own(desk: Desk) -> None:
    mine = await publish(desk, "a", "b", "c")
    hers = await publish(desk, "d", "e", "f", professional="10000000020")
    await desk.ledger.put_limit(NOW, limit(3, name="centre", members=(f"s:{CENTRE}",)))
    await desk.ledger.put_limit(NOW, limit(2))
    assert await desk.claims(*[(await desk.ask(), slot) for slot in mine]) == ["held", "held", "limit_reached"]
    assert await lefts(desk, hers) == [1, 1, 1]
    await desk.hold(hers[0])
    assert await lefts(desk, [*mine, *hers]) == [0] * 6


async def test_a_cpts_counts_the_patients_of_several_members_once_each(desk: Desk) -> None:
    mine = await publish(desk, "a", "b")
    hers = await publish(desk, "c", "d", professional="10000000020", structure="690000002")
    both = (f"p:{DOCTOR}", f"s:{CENTRE}", "s:690000002")
    await desk.ledger.put_limit(NOW, limit(2, name="cpts", members=both))
    await desk.hold(mine[0])
    assert await periods(desk) == [(2, 1)]
    await desk.hold(hers[0])
    assert await lefts(desk, [*mine, *hers]) == [0] * 4


async def test_one_child_a_day_leaves_the_places_to_others(desk: Desk) -> None:
    slots = await publish(desk, "a", "b", "c", offers=["enfant"])
    await desk.ledger.put_limit(NOW, limit(1, counts="children"))
    by_age, by_need = await desk.ask(age_band="nourrisson"), await desk.ask(needs=["enfant"])
    assert await desk.claims((by_age, slots[0]), (by_need, slots[1])) == ["held", "limit_reached"]
    assert await desk.take(by_need, slots[1]) == "limit_reached"
    assert await lefts(desk, slots) == [0, 1, 1]
    assert await desk.claims((await desk.ask(age_band="adulte"), slots[1])) == ["held"]


async def test_visits_are_limited_by_number_or_by_share_of_the_places(desk: Desk) -> None:
    visits = await publish(desk, "a", "b", mode="visite")
    cabinet = await publish(desk, "c", "d", first=180)
    await desk.ledger.put_limit(NOW, limit(None, share=25, counts="visits"))
    await desk.hold(visits[0], modes=["visite"])
    assert await lefts(desk, [*visits, *cabinet]) == [0, 0, 1, 1]
    assert await periods(desk) == [(1, 1)]
    # four more places are four more of which a quarter may be visits
    await publish(desk, "e", "f", "g", "h", first=300)
    assert await lefts(desk, visits) == [0, 1]
    await desk.withdraw("e")
    assert await lefts(desk, visits) == [0, 0]
    assert await periods(desk) == [(1, 1)]
    await desk.ledger.put_limit(NOW, limit(2, counts="visits"))
    assert await lefts(desk, visits) == [0, 1]


async def test_a_slot_published_under_a_full_limit_is_closed_from_the_start(desk: Desk, recorder: Recorder) -> None:
    (first,) = await publish(desk, "a")
    await desk.ledger.put_limit(NOW, limit(1))
    await desk.hold(first)
    recorder.take()
    (late,) = await desk.publish(slot_row("z", at=90, professional=DOCTOR))
    (published,) = [items for kind, items in told(recorder) if kind == "published"]
    assert [left for _, left in published] == [0]
    assert await desk.live_left() == {first: 0, late: 0}


async def test_a_hold_that_ran_out_does_not_count(desk: Desk) -> None:
    one, two = await publish(desk, "a", "b")
    await desk.ledger.put_limit(NOW, limit(1))
    late, _ = await desk.hold(one)
    after = NOW + HOLD + minutes(1)
    assert await desk.claims((await desk.ask(after), two), now=after) == ["held"]
    assert await desk.status(late) == "lapsed"
    assert await desk.confirm(late, after) == "hold_ended"


async def test_a_refused_and_a_withdrawn_booking_give_the_turn_back(desk: Desk) -> None:
    slots = await publish(desk, "a", "b", "c")
    await desk.ledger.put_limit(NOW, limit(1))
    _, booking = await desk.firm(slots[0])
    assert await desk.refuse(booking, keep=False) == "refused"
    assert await lefts(desk, slots) == [0, 1, 1]
    await desk.firm(slots[1])
    await desk.withdraw("b")
    assert await lefts(desk, slots) == [0, 0, 1]


async def test_what_is_booked_stays_when_the_limit_is_made_smaller(desk: Desk) -> None:
    slots = await publish(desk, "a", "b", "c")
    kept = [(await desk.firm(slot))[0] for slot in slots[:2]]
    await desk.ledger.put_limit(NOW, limit(1))
    assert [await desk.status(request) for request in kept] == ["firm", "firm"]
    assert await periods(desk) == [(1, 2)]
    assert await lefts(desk, slots) == [0, 0, 0]
    await desk.cancel(kept[0])
    assert await lefts(desk, slots) == [0, 0, 0]
    await desk.cancel(kept[1])
    assert await lefts(desk, slots) == [1, 1, 1]


async def test_a_limit_made_smaller_leaves_the_moves_that_add_nobody(desk: Desk) -> None:
    slots = await publish(desk, "a", "b", "c", "d")
    tomorrow, later = await publish(desk, "t", "u", first=24 * 60)
    _, booking = await desk.firm(slots[0], deadline=NOW + timedelta(days=3))
    held, _ = await desk.hold(slots[1], deadline=NOW + timedelta(days=3))
    await desk.firm(tomorrow, deadline=NOW + timedelta(days=3))
    await desk.ledger.put_limit(NOW, limit(1))
    # within the day nobody is added; to another day that is full one would be
    assert (await desk.of_booking("move", booking, slots[2])).word == "moved"
    assert (await desk.of_booking("move", booking, later)).word == "limit_reached"
    assert await desk.take(held, slots[3]) == "held"
    assert await desk.take(held, later) == "limit_reached"
    assert await periods(desk) == [(1, 2), (1, 1)]
    assert await desk.take(await desk.ask(), slots[0]) == "limit_reached"


async def test_a_patient_moved_into_a_visit_or_to_a_limit_of_their_own_is_added(desk: Desk) -> None:
    """Counted is what the old place counted for: a consultation was no visit."""
    visits = await publish(desk, "a", "b", mode="visite")
    (cabinet,) = await publish(desk, "c", first=180)
    await desk.firm(visits[0], modes=["visite"])
    _, booking = await desk.firm(cabinet)
    await desk.ledger.put_limit(NOW, limit(1, counts="visits"))
    assert (await desk.of_booking("move", booking, visits[1])).word == "limit_reached"
    await desk.ledger.remove_limit(NOW, SOURCE, "quota")
    mine = await publish(desk, "d", "e", first=300, offers=["enfant"])
    await desk.firm(mine[0], age_band="enfant", deadline=NOW + timedelta(hours=9))
    (hers,) = await publish(desk, "f", first=300, professional="10000000020", offers=["enfant"])
    _, child = await desk.firm(hers, age_band="enfant", deadline=NOW + timedelta(hours=9))
    await desk.ledger.put_limit(NOW, limit(1, counts="children"))
    assert (await desk.of_booking("move", child, mine[1])).word == "limit_reached"
    # under a limit of both she was counted
    await desk.ledger.put_limit(NOW, limit(1, counts="children", members=(f"p:{DOCTOR}", "p:10000000020")))
    assert (await desk.of_booking("move", child, mine[1])).word == "moved"


async def test_a_limit_changed_or_taken_back_opens_at_once_what_it_closed(desk: Desk, recorder: Recorder) -> None:
    slots = await publish(desk, "a", "b")
    await desk.ledger.put_limit(NOW, limit(1))
    await desk.hold(slots[0])
    recorder.take()
    await desk.ledger.put_limit(NOW, limit(2))
    news = told(recorder)
    assert [kind for kind, _ in news] == ["limit", "limit_left", "state"]
    assert [item[:3] for item in news[1][1]] == [[news[0][1]["id"], int(MIDNIGHT.timestamp()), 1]]
    assert await lefts(desk, slots) == [0, 1]
    await desk.ledger.put_limit(NOW, limit(0))
    assert await lefts(desk, slots) == [0, 0]
    assert await desk.ledger.remove_limit(NOW, SOURCE, "quota")
    assert await lefts(desk, slots) == [0, 1]
    assert not await desk.ledger.remove_limit(NOW, SOURCE, "quota")
    assert await desk.ledger.limits(NOW) == []


async def test_an_editor_limits_its_own_slots_only(desk: Desk) -> None:
    (mine,) = await publish(desk, "a")
    (theirs,) = await desk.publish(slot_row("b", at=120, professional=DOCTOR), source="other")
    await desk.ledger.put_limit(NOW, limit(0, own_only=True))
    assert await lefts(desk, [mine, theirs]) == [0, 1]
    assert await desk.claims((await desk.ask(), theirs), (await desk.ask(), mine)) == ["held", "limit_reached"]
    await desk.ledger.put_limit(NOW, limit(0))
    assert await lefts(desk, [mine, theirs]) == [0, 0]


async def test_every_booking_tells_the_matcher_what_is_left(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await publish(desk, "a", capacity=5)
    await desk.ledger.put_limit(NOW, limit(3))
    (row,) = await desk.ledger.limits(NOW)
    definition = orjson.loads(row[0])
    assert (definition["counts"], definition["period"], definition["members"]) == ("patients", "day", [f"p:{DOCTOR}"])
    recorder.take()
    request, _ = await desk.hold(slot)
    await desk.cancel(request)
    news = [item for kind, items in told(recorder) if kind == "limit_left" for item in items]
    assert [item[:3] for item in news] == [[definition["id"], int(MIDNIGHT.timestamp()), left] for left in (2, 3)]
    assert news[0][3] < news[1][3]


@pytest.mark.parametrize("columns", [{"counts": "animals"}, {"period": "year"}, {"share": 20}, {"most": None}])
async def test_what_is_no_limit_is_refused(desk: Desk, columns: dict[str, Any]) -> None:
    with pytest.raises(desk.refusals):
        await desk.ledger.put_limit(NOW, limit()._replace(**columns))
