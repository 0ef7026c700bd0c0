"""The life of a request and of its booking: every action in every state, and what is announced of it."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import asyncpg
import orjson
import pytest

from sas_matcher.domain.lifecycle import ACTIVE_BOOKINGS, BookingState, RequestStatus, may_move
from sas_matcher.ports.ledger import Announcement
from tests.conftest import Recorder
from tests.contract.conftest import postgres_only
from tests.ledger_cases import HOLD, KEY, NOW, SOURCE, Desk, minutes, new_id, slot_row

SEEN = NOW + minutes(70)  # after the start of the first slot
LATE = NOW + timedelta(hours=5)  # after the deadline


class Case:
    """A request brought into a state, with the slot it had and another one to go to."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.request = ""
        self.booking: str | None = None
        self.other = 0
        self.now = NOW

    async def reach(self, state: str) -> "Case":
        """Bring a request into a state."""
        slot, self.other = await self.desk.publish(slot_row("a"), slot_row("b", at=180))
        if state in ("waiting", "unserved"):
            self.request = await self.desk.ask()
        else:
            self.request, self.booking = await self.desk.hold(slot)
        if state in ("firm", "begun", "fulfilled", "noshow"):
            await self.desk.confirm(self.request)
        if state in ("begun", "fulfilled", "noshow"):
            self.now = SEEN
        if state in ("fulfilled", "noshow"):
            assert (await self.desk.of_booking("outcome", str(self.booking), state, now=SEEN)).word == state
        if state in ("expired", "lapsed"):
            self.now = NOW + HOLD
        if state == "lapsed":
            await self.desk.ledger.lapse_holds(self.now)
        if state == "cancelled":
            await self.desk.cancel(self.request)
        if state == "unserved":
            self.now = LATE
            await self.desk.ledger.close_unserved(LATE)
        return self

    async def do(self, action: str) -> str:
        """Try an action; returns its word."""
        desk, now = self.desk, self.now
        regulator: dict[str, Callable[[], Awaitable[str]]] = {
            "confirm": lambda: desk.confirm(self.request, now),
            "decline": lambda: desk.decline(self.request, now=now),
            "cancel": lambda: desk.cancel(self.request, now),
            "resume": lambda: desk.resume(self.request, now),
            "take": lambda: desk.take(self.request, self.other, now),
        }
        if action in regulator:
            return await regulator[action]()
        if action == "claim":
            return (await desk.claims((self.request, self.other), now=now))[0]
        if action == "none":
            return (await desk.claims((self.request, None), now=now))[0]
        if action == "lapse":
            return str(await desk.ledger.lapse_holds(now) > 0)
        if action == "close":
            return str(await desk.ledger.close_unserved(LATE) > 0)
        if action == "withdraw":
            return str((await desk.withdraw("a", now=now))[0]["outcome"])
        if action == "refuse":
            return await desk.refuse(str(self.booking or new_id()), keep=True, now=now)
        return (await desk.of_booking("outcome", str(self.booking or new_id()), action, now=now)).word


# state → action → (word, status after). "expired" is held past its deadline, before any sweeper came by; "begun" is
# firm past the start of its place, before the practice said whether the patient came.
MOVES: dict[str, dict[str, tuple[str, str]]] = {
    "waiting": {
        "confirm": ("hold_ended", "waiting"),
        "decline": ("hold_ended", "waiting"),
        "cancel": ("cancelled", "cancelled"),
        "resume": ("conflict", "waiting"),
        "take": ("held", "held"),
        "claim": ("held", "held"),
        "none": ("told", "waiting"),
        "lapse": ("False", "waiting"),
        "close": ("True", "unserved"),
        "withdraw": ("withdrawn", "waiting"),
        "refuse": ("not_found", "waiting"),
        "fulfilled": ("not_found", "waiting"),
    },
    "held": {
        "confirm": ("firm", "firm"),
        "decline": ("declined", "waiting"),
        "cancel": ("cancelled", "cancelled"),
        "resume": ("conflict", "held"),
        "take": ("held", "held"),
        "claim": ("not_waiting", "held"),
        "none": ("not_waiting", "held"),
        "lapse": ("False", "held"),
        "close": ("False", "held"),
        "withdraw": ("withdrawn", "waiting"),
        "refuse": ("refused", "waiting"),
        "fulfilled": ("conflict", "held"),
    },
    "expired": {
        "confirm": ("hold_ended", "held"),
        "decline": ("hold_ended", "held"),
        "cancel": ("cancelled", "cancelled"),
        "resume": ("waiting", "waiting"),
        "take": ("held", "held"),
        "claim": ("not_waiting", "held"),
        "none": ("not_waiting", "held"),
        "lapse": ("True", "lapsed"),
        "close": ("False", "held"),
        "withdraw": ("withdrawn", "waiting"),
        "refuse": ("refused", "waiting"),
        "fulfilled": ("conflict", "held"),
    },
    "firm": {
        "confirm": ("already", "firm"),
        "decline": ("conflict", "firm"),
        "cancel": ("cancelled", "cancelled"),
        "resume": ("conflict", "firm"),
        "take": ("conflict", "firm"),
        "claim": ("not_waiting", "firm"),
        "none": ("not_waiting", "firm"),
        "lapse": ("False", "firm"),
        "close": ("False", "firm"),
        "withdraw": ("withdrawn", "waiting"),
        "refuse": ("refused", "waiting"),
        "fulfilled": ("too_early", "firm"),
    },
    "begun": {
        "confirm": ("already", "firm"),
        "decline": ("conflict", "firm"),
        "cancel": ("begun", "firm"),
        "resume": ("conflict", "firm"),
        "take": ("conflict", "firm"),
        "claim": ("not_waiting", "firm"),
        "none": ("not_waiting", "firm"),
        "lapse": ("False", "firm"),
        "close": ("False", "firm"),
        "withdraw": ("begun", "firm"),
        "refuse": ("begun", "firm"),
        "fulfilled": ("fulfilled", "fulfilled"),
        "noshow": ("noshow", "noshow"),
    },
    "lapsed": {
        "confirm": ("hold_ended", "lapsed"),
        "decline": ("hold_ended", "lapsed"),
        "cancel": ("cancelled", "cancelled"),
        "resume": ("waiting", "waiting"),
        "take": ("held", "held"),
        "claim": ("not_waiting", "lapsed"),
        "none": ("not_waiting", "lapsed"),
        "lapse": ("False", "lapsed"),
        "close": ("False", "lapsed"),
        "withdraw": ("withdrawn", "lapsed"),
        "refuse": ("conflict", "lapsed"),
        "fulfilled": ("conflict", "lapsed"),
    },
    "unserved": {
        "confirm": ("conflict", "unserved"),
        "decline": ("conflict", "unserved"),
        "cancel": ("conflict", "unserved"),
        "resume": ("conflict", "unserved"),
        "take": ("conflict", "unserved"),
        "claim": ("not_waiting", "unserved"),
        "none": ("not_waiting", "unserved"),
        "close": ("False", "unserved"),
    },
    "cancelled": {
        "confirm": ("conflict", "cancelled"),
        "decline": ("conflict", "cancelled"),
        "cancel": ("already", "cancelled"),
        "resume": ("conflict", "cancelled"),
        "take": ("conflict", "cancelled"),
        "claim": ("not_waiting", "cancelled"),
        "none": ("not_waiting", "cancelled"),
        "lapse": ("False", "cancelled"),
        "close": ("False", "cancelled"),
        "withdraw": ("withdrawn", "cancelled"),
        "refuse": ("conflict", "cancelled"),
        "fulfilled": ("conflict", "cancelled"),
    },
    "fulfilled": {
        "confirm": ("conflict", "fulfilled"),
        "decline": ("conflict", "fulfilled"),
        "cancel": ("conflict", "fulfilled"),
        "resume": ("conflict", "fulfilled"),
        "take": ("conflict", "fulfilled"),
        "claim": ("not_waiting", "fulfilled"),
        "none": ("not_waiting", "fulfilled"),
        "lapse": ("False", "fulfilled"),
        "close": ("False", "fulfilled"),
        "withdraw": ("begun", "fulfilled"),
        "refuse": ("conflict", "fulfilled"),
        "fulfilled": ("already", "fulfilled"),
        "noshow": ("noshow", "noshow"),
    },
    "noshow": {
        "confirm": ("conflict", "noshow"),
        "decline": ("conflict", "noshow"),
        "cancel": ("conflict", "noshow"),
        "resume": ("conflict", "noshow"),
        "take": ("conflict", "noshow"),
        "claim": ("not_waiting", "noshow"),
        "none": ("not_waiting", "noshow"),
        "lapse": ("False", "noshow"),
        "close": ("False", "noshow"),
        "withdraw": ("begun", "noshow"),
        "refuse": ("conflict", "noshow"),
        "noshow": ("already", "noshow"),
        "fulfilled": ("fulfilled", "fulfilled"),
    },
}
STATES = {"expired": "held", "begun": "firm"}


@pytest.mark.parametrize("state", MOVES)
async def test_every_action_in_every_state(desk: Desk, state: str) -> None:
    """The word, the state after, and that the domain's state machine knows the move; nothing else changes."""
    for action, (word, after) in MOVES[state].items():
        await desk.clear()
        case = await Case(desk).reach(state)
        before = await desk.document(case.request)
        assert before["status"] == STATES.get(state, state)
        assert (await case.do(action), await desk.status(case.request)) == (word, after), (state, action)
        document = await desk.document(case.request)
        if after != before["status"]:
            assert may_move(RequestStatus(before["status"]), RequestStatus(after))
            assert document["version"] > before["version"]
        elif word in ("conflict", "hold_ended", "already", "not_waiting", "not_found", "too_early", "False"):
            assert document == before, (state, action)
        await _consistent(desk)


async def _consistent(desk: Desk) -> None:
    """A request points at its active booking or at none, and says the same of it."""
    for status, pointed_at, booking, state in await desk.standing():
        assert pointed_at == booking
        if booking is not None:
            assert state == status
            assert BookingState(state or "") in ACTIVE_BOOKINGS
        else:
            assert status in ("waiting", "lapsed", "cancelled", "unserved")


async def test_another_key_sees_and_changes_nothing(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    request, _ = await desk.hold(slot)
    for action, arguments in {
        "confirm": (None,),
        "decline": (None, "slot"),
        "cancel": ("x",),
        "resume": (),
        "hand": ("another",),
        "take": (slot, new_id(), NOW, "{}"),
    }.items():
        assert await desk.act(action, request, *arguments, key="someone") == "not_found"
    assert await desk.ledger.request_document(request, "someone") is None
    assert await desk.ledger.request_for_choice(request, "someone") is None
    assert await desk.status(request) == "held"


async def test_a_hold_of_the_past_is_not_confirmed_by_its_id(desk: Desk) -> None:
    slot, other = await desk.publish(slot_row("a"), slot_row("b"))
    request, first = await desk.hold(slot)
    assert await desk.take(request, other) == "held"
    assert await desk.act("confirm", request, first) == "hold_ended"
    assert await desk.act("decline", request, first, "slot") == "hold_ended"
    assert await desk.confirm(request) == "firm"
    assert await desk.act("confirm", request, first) == "conflict"


async def test_a_hold_ends_at_its_deadline_to_the_microsecond(desk: Desk) -> None:
    slot, other = await desk.publish(slot_row("a"), slot_row("b"))
    in_time, _ = await desk.hold(slot)
    too_late, _ = await desk.hold(other)
    assert await desk.confirm(in_time, NOW + HOLD - timedelta(microseconds=1)) == "firm"
    assert await desk.confirm(too_late, NOW + HOLD) == "hold_ended"


async def test_an_expired_hold_gives_its_seat_to_the_next_without_a_sweeper(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    first, booking = await desk.hold(slot)
    second = await desk.ask()
    assert await desk.claims((second, slot), now=NOW + HOLD - minutes(1)) == ["seat_lost"]
    assert await desk.claims((second, slot), now=NOW + HOLD) == ["held"]
    assert await desk.status(first) == "lapsed"
    assert (await desk.booking(booking))["end_reason"] == "hold_ended"
    assert await desk.confirm(first, NOW + HOLD) == "hold_ended"


async def test_an_expired_hold_on_an_overlapping_slot_stands_in_nobodys_way(desk: Desk) -> None:
    slot, overlapping = await desk.publish(slot_row("a", professional="81"), slot_row("b", at=70, professional="81"))
    first, _ = await desk.hold(slot)
    second, third = await desk.ask(), await desk.ask()
    assert await desk.claims((second, overlapping)) == ["seat_lost"]
    assert await desk.claims((second, overlapping), now=NOW + HOLD) == ["held"]
    assert await desk.status(first) == "lapsed"
    assert await desk.take(third, slot, NOW + HOLD + HOLD) == "held"
    assert await desk.status(second) == "lapsed"


@pytest.mark.parametrize("by", ["claim", "choice"])
async def test_no_hold_outlives_the_start_of_its_place(desk: Desk, by: str) -> None:
    """A téléconsultation in two minutes, held for three: nobody confirms a place that has begun."""
    slot, far = await desk.publish(slot_row("a", at=2), slot_row("b", at=60))
    if by == "claim":
        request, _ = await desk.hold(slot)
    else:
        request = await desk.ask()
        assert await desk.take(request, slot) == "held"
    booking = (await desk.document(request))["booking"]
    assert datetime.fromisoformat(booking["hold_until"]) == NOW + minutes(2), "what the countdown shows"
    assert await desk.confirm(request, NOW + minutes(2.5)) == "hold_ended"
    await desk.ledger.lapse_holds(NOW + minutes(2))
    assert await desk.status(request) == "lapsed"
    # until then it may be confirmed, and a place that is far enough is held as long as ever
    other, _ = await desk.hold(far)
    assert datetime.fromisoformat((await desk.document(other))["booking"]["hold_until"]) == NOW + HOLD


async def test_a_place_held_until_it_begins_is_confirmed_before(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a", at=2))
    request, _ = await desk.hold(slot)
    assert await desk.confirm(request, NOW + minutes(1.9)) == "firm"


async def test_an_expired_hold_does_not_stop_a_regulator_from_taking_the_place(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    first, _ = await desk.hold(slot)
    second = await desk.ask()
    assert await desk.take(second, slot) == "slot_full"
    assert await desk.take(second, slot, NOW + HOLD) == "held"
    assert await desk.status(first) == "lapsed"


# -- declining, taking another place ------------------------------------------------------------------------------


async def test_a_declined_slot_is_never_given_again(desk: Desk) -> None:
    """Even to a matcher that has not heard of it."""
    first, second = await desk.publish(slot_row("a", professional="81"), slot_row("b", at=90, professional="81"))
    request, _ = await desk.hold(first)
    assert await desk.decline(request) == "declined"
    assert (await desk.document(request))["excluded"] == [f"s{first}"]
    assert await desk.claims((request, first)) == ["seat_lost"]
    assert await desk.claims((request, second)) == ["held"]
    assert await desk.decline(request, "professional") == "declined"
    assert set((await desk.document(request))["excluded"]) == {f"s{first}", f"s{second}", "p81"}
    (third,) = await desk.publish(slot_row("c", at=120, professional="81"))
    assert await desk.claims((request, third)) == ["seat_lost"]
    other = await desk.ask()
    assert await desk.claims((other, first)) == ["held"]


async def test_taking_another_place_frees_the_first(desk: Desk) -> None:
    slot, other = await desk.publish(slot_row("a"), slot_row("b"))
    request, booking = await desk.hold(slot)
    assert await desk.take(request, other) == "held"
    assert (await desk.booking(booking))["state"] == "replaced"
    assert (await desk.left(slot), await desk.left(other)) == (1, 0)
    assert (await desk.document(request))["decision"] == {"by": "hand"}


async def test_the_original_place_is_kept_when_the_new_one_is_gone(desk: Desk) -> None:
    slot, full, gone, past, late = await desk.publish(
        slot_row("a"), slot_row("b"), slot_row("c"), slot_row("d", at=-10), slot_row("e", at=300)
    )
    await desk.firm(full)
    await desk.withdraw("c")
    request, booking = await desk.hold(slot)
    before = await desk.document(request)
    for wanted in (full, gone, past, late, 10**12):
        assert await desk.take(request, wanted) == "slot_full"
        assert await desk.document(request) == before
    assert (await desk.booking(booking))["ended_at"] is None
    assert await desk.confirm(request) == "firm"


async def test_taking_the_place_one_has_changes_nothing(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    request, _ = await desk.hold(slot)
    before = await desk.document(request)
    assert await desk.take(request, slot) == "held"
    assert await desk.document(request) == before


async def test_a_sibling_of_the_held_place_can_be_taken(desk: Desk) -> None:
    """The old place is freed first in the transaction, so its overlap is not in the way."""
    slot, overlapping = await desk.publish(slot_row("a", professional="81"), slot_row("b", at=70, professional="81"))
    request, _ = await desk.hold(slot)
    assert await desk.take(request, overlapping) == "held"
    assert (await desk.document(request))["booking"]["slot_id"] == overlapping


async def test_nothing_is_taken_after_the_deadline(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a", at=180))
    request = await desk.ask(deadline=NOW + minutes(120))
    assert await desk.take(request, slot) == "slot_full"
    assert await desk.take(request, slot, NOW + minutes(120)) == "conflict"


# -- the practice's acts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["withdraw", "refuse"])
async def test_what_the_practice_takes_back_reopens_the_request(desk: Desk, recorder: Recorder, act: str) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    request, booking = await desk.firm(slot)
    recorder.take()
    if act == "withdraw":
        assert await desk.withdraw("a") == [{"external_id": "a", "outcome": "withdrawn"}]
    else:
        assert await desk.refuse(booking, keep=False) == "refused"
    document = await desk.document(request)
    assert (document["status"], document["booking"], document["excluded"]) == ("waiting", None, [f"s{slot}"])
    told = [a for a in recorder.take() if a.aggregate == request]
    assert {(a.stream, a.type) for a in told} == {("events", "request.reopened"), ("requests", "open")}
    if act == "refuse":
        assert await desk.refuse(booking, keep=False) == "already"


async def test_a_decline_after_the_deadline_leaves_the_request_unserved(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    request, _ = await desk.hold(slot, deadline=NOW + minutes(61))
    await desk.hold_until(NOW + timedelta(hours=2))
    recorder.take()
    assert await desk.decline(request, now=NOW + minutes(61)) == "declined"
    assert await desk.status(request) == "unserved"
    assert [a.type for a in recorder.take() if a.stream == "events"] == ["request.unserved"]


async def test_a_refused_place_stays_good_for_others_only_if_the_practice_says_so(desk: Desk) -> None:
    slot, other = await desk.publish(slot_row("a"), slot_row("b"))
    (_, kept), (_, lost) = await desk.firm(slot), await desk.firm(other)
    await desk.refuse(kept, keep=True)
    await desk.refuse(lost, keep=False)
    first, second = await desk.ask(), await desk.ask()
    assert await desk.claims((first, slot), (second, other)) == ["held", "seat_lost"]
    # an older publication, that came late, does not bring it back
    assert await desk.verdict(slot_row("b", valid_at=NOW - minutes(1))) == "stale"


@pytest.mark.parametrize(("capacity", "verdict"), [(1, "seat_lost"), (2, "held")])
async def test_who_refuses_one_patient_closes_his_hour_and_not_a_plage(desk: Desk, capacity: int, verdict: str) -> None:
    (slot,) = await desk.publish(slot_row("a", capacity=capacity))
    _, booking = await desk.firm(slot)
    assert (await desk.of_booking("refuse", booking, "overbooked", None)).word == "refused"
    assert await desk.claims((await desk.ask(), slot)) == [verdict]


async def test_an_outcome_is_said_from_the_start_and_may_be_corrected(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    request, booking = await desk.firm(slot)
    start = NOW + minutes(60)
    expected = [("fulfilled", start - timedelta(microseconds=1), "too_early"), ("fulfilled", start, "fulfilled")]
    expected += [("fulfilled", start, "already"), ("noshow", start, "noshow"), ("fulfilled", start, "fulfilled")]
    for state, now, word in expected:
        assert (await desk.of_booking("outcome", booking, state, now=now)).word == word
    assert await desk.status(request) == "fulfilled"
    assert await desk.left(slot) == 0
    assert (await desk.of_booking("outcome", new_id(), "noshow")).word == "not_found"


async def test_the_practice_hears_of_a_booking_only_once_it_is_firm(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    request, booking = await desk.hold(slot)
    await desk.decline(request)
    assert not [a for a in recorder.take() if a.type.startswith("booking.")]
    (other,) = await desk.publish(slot_row("b"))
    assert await desk.claims((request, other)) == ["held"]
    await desk.confirm(request)
    await desk.cancel(request)
    told = [a for a in recorder.take() if a.type.startswith("booking.")]
    assert [a.type for a in told] == ["booking.firm", "booking.cancelled"]
    assert all(a.aggregate != booking for a in told)
    assert set(told[0].audience) == {f"src:{SOURCE}", "p:8b", "s:1690000001"}
    listed = await desk.ledger.bookings_of_practice(SOURCE, [], [], (NOW, LATE), 10)
    assert [orjson.loads(text)["state"] for text in listed] == ["cancelled"]


async def test_a_booking_tells_the_practice_nothing_about_the_patient(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await desk.publish(slot_row("a", offers=["ecg"]))
    await desk.firm(slot, case_ref="DR-CANARY", lat=45.123456, lon=4.654321, insee="69999", needs=["ecg"])
    told = [a for a in recorder.take() if a.type == "booking.firm"]
    assert len(told) == 1
    for secret in ("CANARY", "45.123456", "4.654321", "69999"):
        assert secret not in told[0].data
    assert orjson.loads(told[0].data)["needs"] == ["ecg"]


# -- announcements ------------------------------------------------------------------------------------------------


def _told(heard: list[Announcement]) -> list[tuple[str, str, str, int]]:
    return [(a.stream, a.type, a.owner, a.version) for a in heard]


async def test_each_change_announces_itself_on_the_right_streams_with_rising_versions(
    desk: Desk, recorder: Recorder
) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    assert _told(recorder.take()) == [("places", "published", "", 0)]
    request = await desk.ask()
    assert _told(recorder.take()) == [("requests", "open", "regul69", 1)]
    await desk.claims((request, None))
    assert _told(recorder.take()) == [("events", "request.waiting", "regul69", 2)]
    await desk.claims((request, slot))
    assert _told(recorder.take()) == [("events", "request.held", "regul69", 3), ("places", "state", "", 0)]
    await desk.confirm(request)
    assert _told(recorder.take()) == [("events", "request.firm", "regul69", 4), ("events", "booking.firm", "", 2)]
    await desk.refuse((await desk.document(request))["booking"]["booking_id"], keep=True)
    assert _told(recorder.take()) == [
        ("events", "booking.refused", "", 3),
        ("places", "state", "", 0),
        ("events", "request.reopened", "regul69", 5),
        ("requests", "open", "regul69", 5),
    ]
    await desk.cancel(request)
    assert _told(recorder.take()) == [
        ("events", "request.cancelled", "regul69", 6),
        ("requests", "closed", "regul69", 6),
    ]
    await desk.withdraw("a")
    assert _told(recorder.take()) == [("places", "gone", "", 0)]


async def test_what_is_announced_is_what_the_outbox_keeps_until_it_is_published(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    await desk.firm(slot)
    await desk.withdraw("a")
    heard = recorder.take()
    kept = await desk.ledger.leftovers(NOW, 100)
    assert kept == sorted(heard, key=lambda a: a.id)
    assert len({a.id for a in kept}) == len(kept) > 8
    assert await desk.ledger.leftovers(NOW - timedelta(microseconds=1), 100) == []
    assert await desk.ledger.leftovers(NOW, 3) == kept[:3]
    await desk.ledger.mark_published([a.id for a in kept[1:]])
    assert await desk.ledger.leftovers(NOW, 100) == kept[:1]


async def test_a_refused_change_announces_nothing(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    request, booking = await desk.firm(slot)
    recorder.take()
    for word in (
        await desk.confirm(request),
        await desk.decline(request),
        await desk.resume(request),
        await desk.take(request, slot),
        (await desk.of_booking("outcome", booking, "noshow")).word,
    ):
        assert word in ("already", "conflict", "too_early")
    assert recorder.take() == []


async def test_the_sweepers_do_all_that_is_due_and_nothing_else(desk: Desk, recorder: Recorder) -> None:
    one, two, three = await desk.publish(slot_row("a"), slot_row("b"), slot_row("c"))
    (due, _), (firm, _) = await desk.hold(one), await desk.firm(two)
    young, _ = await desk.hold(three, NOW + minutes(1))
    recorder.take()
    assert await desk.ledger.lapse_holds(NOW + HOLD) == 2
    assert {(a.type, a.aggregate) for a in recorder.take()} == {("request.lapsed", due), ("state", "")}
    assert [await desk.status(r) for r in (due, firm, young)] == ["lapsed", "firm", "held"]
    waiting = await desk.ask(deadline=NOW + minutes(30))
    patient = await desk.ask()
    recorder.take()
    assert await desk.ledger.close_unserved(NOW + minutes(30)) == 2
    assert _told(recorder.take()) == [
        ("events", "request.unserved", "regul69", 2),
        ("requests", "closed", "regul69", 2),
    ]
    assert [await desk.status(r) for r in (waiting, patient)] == ["unserved", "waiting"]


@pytest.mark.parametrize("state", ["waiting", "held", "lapsed", "firm", "cancelled", "unserved", "fulfilled"])
async def test_a_request_is_handed_to_a_colleague_with_its_place(desk: Desk, recorder: Recorder, state: str) -> None:
    await desk.add_key("colleague")
    case = await Case(desk).reach(state)
    before = await desk.document(case.request)
    recorder.take()
    word = await desk.act("hand", case.request, "colleague", now=case.now)
    if state in ("cancelled", "unserved", "fulfilled"):
        assert word == "conflict" and await desk.document(case.request) == before
        return
    assert word == "handed"
    after = orjson.loads(await desk.ledger.request_document(case.request, "colleague") or "")
    assert after["booking"] == before["booking"] and after["status"] == before["status"]
    assert after["version"] == before["version"] + 1
    assert await desk.ledger.request_document(case.request, KEY) is None
    (told,) = recorder.take()
    assert (told.type, told.owner, tuple(told.audience)) == ("request.handed", "colleague", (f"k:{KEY}",))
    # what was theirs is no longer to be acted on by the first
    assert await desk.act("cancel", case.request, "x", now=case.now) == "not_found"
    assert await desk.act("cancel", case.request, "x", now=case.now, key="colleague") == "cancelled"


@postgres_only
async def test_closing_looks_at_who_is_due_and_not_at_all_requests_of_the_day(desk: Desk) -> None:
    """It runs twice a second: with a day's requests in the ledger it took 40 ms of PostgreSQL each time."""
    # ids in the order of time, deadlines in none, decisions of some length, as ours are; one in ten still waits
    await desk.rows(
        "insert into request select made.* from request r, generate_series(1, 6000) n, json_populate_record(r,"
        " json_build_object('id', lpad(to_hex(n + 100000), 32, '0'),"
        " 'deadline', r.deadline + n * 7919 % 2879 * interval '1 minute',"
        " 'status', case when n % 10 = 0 then 'waiting' else 'lapsed' end,"
        " 'decision', (select json_agg(md5(n::text || k)) from generate_series(1, 40) k))) made where r.id = $1",
        await desk.ask(),
    )
    await desk.rows("analyze request")
    connection = await asyncpg.connect(desk.url)

    async def looked_at() -> int:
        await connection.execute("select pg_stat_force_next_flush()")
        seen: int = await connection.fetchval(
            "select idx_tup_fetch + seq_tup_read from pg_stat_user_tables where relname = 'request'"
        )
        return seen

    try:
        await connection.execute("set plan_cache_mode = force_generic_plan")  # as it does sooner or later by itself
        before = await looked_at()
        for _ in range(10):
            assert await connection.fetch("select * from close_unserved($1, 500)", NOW) == []
        assert await looked_at() - before < 1_000
    finally:
        await connection.close()
