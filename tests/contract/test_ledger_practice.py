"""What a practice does with its bookings, and what time does for it: acceptance, moves, plages, places handed back."""

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest

from sas_matcher.domain.lifecycle import ClaimKind
from sas_matcher.ports.ledger import Idempotency
from tests.conftest import Recorder
from tests.contract.conftest import postgres_only
from tests.ledger_cases import NOW, SOURCE, Desk, minutes, new_id, slot_row

EXPLICIT: dict[str, Any] = {"acceptance": "explicit", "accept_min": 15}
TACIT: dict[str, Any] = {"acceptance": "tacit", "accept_min": 15}


def back(before: float, **columns: Any) -> dict[str, Any]:
    """Return the columns of a slot at 60 minutes whose unused seats go back so many minutes before."""
    return {"back_at": NOW + minutes(60 - before), **columns}


def events(recorder: Recorder, *kinds: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the news to people since the last look, of some kinds."""
    return [(a.type, orjson.loads(a.data)) for a in recorder.take() if a.stream == "events" and a.type in kinds]


async def acceptance(desk: Desk, request: str) -> Any:
    """Return what the regulator sees of the acceptance."""
    booking = (await desk.document(request))["booking"]
    return booking and booking["acceptance"]


async def count(desk: Desk, slot: int, arrived: int, *, over: bool = False, after: float = 90) -> tuple[str, Any]:
    """Count a plage; returns the word and the document."""
    done = await desk.ledger.count_plage(
        NOW + minutes(after), slot, arrived, over, Idempotency(SOURCE, new_id(), b"body")
    )
    return done.word, done.document and orjson.loads(done.document)


# -- acceptance


async def test_a_place_that_nobody_need_accept_is_accepted(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    request, booking = await desk.firm(slot)
    assert await acceptance(desk, request) is None
    assert (await desk.of_booking("accept", booking)).word == "already"
    assert await desk.ledger.settle_acceptance(NOW + minutes(50)) == 0


async def test_both_sides_see_until_when_the_practice_accepts(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await desk.publish(slot_row("a", **EXPLICIT))
    request, booking = await desk.hold(slot)
    assert await acceptance(desk, request) == {"kind": "explicit", "until": None, "accepted_at": None}
    recorder.take()
    await desk.confirm(request)
    until = (NOW + minutes(15)).isoformat()
    ((_, told),) = events(recorder, "booking.firm")
    assert (await acceptance(desk, request))["until"] == told["acceptance"]["until"] == until
    assert (await desk.of_booking("accept", booking, now=NOW + minutes(14))).word == "accepted"
    (_, told), (_, seen) = events(recorder, "booking.accepted", "request.accepted")
    at = (NOW + minutes(14)).isoformat()
    for document in (told, seen, await desk.document(request)):
        known = document.get("acceptance") or document["booking"]["acceptance"]
        assert known == {"kind": "explicit", "until": until, "accepted_at": at}
    assert (await desk.of_booking("accept", booking, now=NOW + minutes(40))).word == "already"
    assert await desk.ledger.settle_acceptance(NOW + minutes(50)) == 0
    assert await desk.status(request) == "firm"


async def test_no_acceptance_takes_more_than_half_of_the_time_that_is_left(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a", at=20, **EXPLICIT))
    request, _ = await desk.firm(slot)
    assert (await acceptance(desk, request))["until"] == (NOW + minutes(10)).isoformat()


async def test_silence_accepts_where_it_is_tacit(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await desk.publish(slot_row("a", **TACIT))
    request, booking = await desk.firm(slot)
    assert await desk.ledger.settle_acceptance(NOW + minutes(14)) == 0
    recorder.take()
    assert await desk.ledger.settle_acceptance(NOW + minutes(15)) == 2
    assert [kind for kind, _ in events(recorder, "booking.accepted", "request.accepted")] == [
        "request.accepted",
        "booking.accepted",
    ]
    assert (await acceptance(desk, request))["accepted_at"] == (NOW + minutes(15)).isoformat()
    assert (await desk.booking(booking))["state"] == "firm"
    assert await desk.ledger.settle_acceptance(NOW + minutes(16)) == 0


async def test_an_unanswered_request_is_matched_again_at_once_and_both_are_told(desk: Desk, recorder: Recorder) -> None:
    """The hour goes off the market, the professional is not proposed to that patient again."""
    slot, other = await desk.publish(
        slot_row("a", professional="81", **EXPLICIT), slot_row("b", at=90, professional="81")
    )
    request, booking = await desk.firm(slot)
    recorder.take()
    await desk.ledger.settle_acceptance(NOW + minutes(15))
    (reopened, seen), (refused, told) = sorted(events(recorder, "request.reopened", "booking.refused"), reverse=True)
    assert (reopened, refused) == ("request.reopened", "booking.refused")
    assert (seen["status"], seen["booking"]) == ("waiting", None)
    assert seen["refusal"] == {"reason": "not_accepted", "at": (NOW + minutes(15)).isoformat()}
    assert (told["booking_id"], told["end_reason"]) == (booking, "not_accepted")
    assert await desk.left(slot) == 0 and await desk.left(other) == 1
    assert await desk.claims((request, slot), (request, other), now=NOW + minutes(15)) == ["seat_lost", "seat_lost"]
    # the deadline is judged in the row
    assert (await desk.of_booking("accept", booking, now=NOW + minutes(15))).word == "accept_ended"


async def test_an_answer_after_the_deadline_is_too_late_before_any_sweep(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a", **EXPLICIT))
    _, booking = await desk.firm(slot)
    assert (await desk.of_booking("accept", booking, now=NOW + minutes(15))).word == "accept_ended"


async def test_an_unanswered_plage_stays_open_to_others(desk: Desk) -> None:
    (plage,) = await desk.publish(slot_row("a", capacity=3, professional=None, **EXPLICIT))
    await desk.firm(plage)
    await desk.ledger.settle_acceptance(NOW + minutes(15))
    assert await desk.left(plage) == 3


async def test_a_promise_that_is_told_is_to_be_accepted_as_well(desk: Desk) -> None:
    stays, moves = await desk.publish(slot_row("a", **EXPLICIT), slot_row("b", at=65, **EXPLICIT))
    one, two = await desk.promise(stays), await desk.promise(moves)
    verdicts, _ = await desk.claim_kinds([(ClaimKind.TELL, one, moves), (ClaimKind.TELL, two, stays)], NOW)
    assert verdicts == ["told_firm", "told_firm"]
    assert [(await acceptance(desk, r))["until"] for r in (one, two)] == [(NOW + minutes(15)).isoformat()] * 2


async def test_what_the_practice_no_longer_asks_need_not_be_accepted(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a", **EXPLICIT))
    request, _ = await desk.hold(slot)
    assert await desk.verdict(slot_row("a")) == "updated"
    await desk.confirm(request)
    assert await acceptance(desk, request) is None


@pytest.mark.parametrize(
    ("reason", "verdict"), [("overbooked", "held"), ("outside_competence", "seat_lost"), ("too_far", "seat_lost")]
)
async def test_the_reason_of_a_refusal_says_whether_another_hour_would_do(
    desk: Desk, reason: str, verdict: str
) -> None:
    one, two = await desk.publish(slot_row("a", professional="81"), slot_row("b", at=90, professional="81"))
    request, booking = await desk.firm(one)
    assert (await desk.of_booking("refuse", booking, reason, False)).word == "refused"
    assert (await desk.document(request))["refusal"]["reason"] == reason
    assert await desk.claims((request, two)) == [verdict]


# -- cancelled and moved by the practice


async def test_a_patient_who_calls_the_practice_off_is_matched_no_more(desk: Desk, recorder: Recorder) -> None:
    one, two = await desk.publish(slot_row("a"), slot_row("b"))
    for slot, keep, left in ((one, True, 1), (two, False, 0)):
        request, booking = await desk.firm(slot)
        recorder.take()
        assert (await desk.of_booking("cancel", booking, "patient", keep)).word == "cancelled"
        assert {kind for kind, _ in events(recorder, "booking.cancelled", "request.cancelled")} == {
            "booking.cancelled",
            "request.cancelled",
        }
        assert (await desk.status(request), await desk.left(slot)) == ("cancelled", left)
        assert (await desk.of_booking("cancel", booking, "patient", keep)).word == "already"


async def test_a_booking_that_has_begun_is_not_called_off_nor_moved(desk: Desk) -> None:
    slot, later = await desk.publish(slot_row("a"), slot_row("b", at=90))
    _, booking = await desk.firm(slot)
    at = NOW + minutes(60)
    assert (await desk.of_booking("cancel", booking, "patient", True, now=at)).word == "begun"
    assert (await desk.of_booking("move", booking, later, now=at)).word == "begun"
    await desk.of_booking("outcome", booking, "fulfilled", now=at)
    assert (await desk.of_booking("cancel", booking, "patient", True, now=at)).word == "conflict"
    assert (await desk.of_booking("move", booking, later, now=at)).word == "conflict"


async def test_a_hold_is_the_regulators_alone(desk: Desk) -> None:
    slot, other = await desk.publish(slot_row("a"), slot_row("b"))
    _, booking = await desk.hold(slot)
    for action, arguments in (("accept", ()), ("cancel", ("patient", True)), ("move", (other,))):
        assert (await desk.of_booking(action, booking, *arguments)).word == "not_found"


async def test_a_practice_moves_a_patient_and_everybody_sees_the_new_hour(desk: Desk, recorder: Recorder) -> None:
    old, new = await desk.publish(slot_row("a", professional="81", **EXPLICIT), slot_row("b", at=90, professional="81"))
    request, booking = await desk.firm(old)
    recorder.take()
    assert (await desk.of_booking("move", booking, new)).word == "moved"
    news = dict(events(recorder, "booking.moved", "request.moved"))
    start = (NOW + minutes(90)).isoformat()
    assert (news["booking.moved"]["booking_id"], news["booking.moved"]["start"]) == (booking, start)
    assert (news["request.moved"]["booking"]["slot_id"], news["request.moved"]["status"]) == (new, "firm")
    # who chose the hour has accepted it
    assert (await acceptance(desk, request))["accepted_at"] == NOW.isoformat()
    assert await desk.ledger.settle_acceptance(NOW + minutes(50)) == 0
    assert (await desk.left(old), await desk.left(new)) == (1, 0)
    assert (await desk.of_booking("move", booking, new)).word == "already"
    assert await desk.ledger.doubles() == {"seat": 0, "request": 0, "overlap": 0, "capacity": 0}


async def test_who_loses_a_patient_by_a_move_is_told_and_nobody_else(desk: Desk, recorder: Recorder) -> None:
    old, new = await desk.publish(
        slot_row("a", professional="8S", structure="1690000007"), slot_row("b", at=90, professional="8T")
    )
    _, booking = await desk.firm(old)
    recorder.take()
    await desk.of_booking("move", booking, new)
    (moved,) = [a for a in recorder.take() if a.type == "booking.moved"]
    assert sorted(moved.audience) == ["p:8S", "p:8T", "s:1690000001", "s:1690000007", f"src:{SOURCE}"]


async def test_an_hour_moves_by_less_than_its_length(desk: Desk) -> None:
    """Old and new overlap: the old one does not stand in its own way."""
    old, new = await desk.publish(slot_row("a", professional="81"), slot_row("b", at=70, professional="81"))
    _, booking = await desk.firm(old)
    assert await desk.left(new) == 0
    assert (await desk.of_booking("move", booking, new)).word == "moved"
    assert await desk.left(old) == 0  # overlaps the new one


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({"at": 300}, "late_for_patient"),
        ({"profession": "PED"}, "slot_full"),
        ({"offers": []}, "slot_full"),
        ({}, "slot_full"),
    ],
    ids=["deadline", "profession", "need", "taken"],
)
async def test_a_move_that_cannot_be_leaves_the_patient_where_he_is(
    desk: Desk, columns: dict[str, Any], word: str
) -> None:
    old, new = await desk.publish(
        slot_row("a", offers=["pmr"]), slot_row("b", **{"at": 90, "offers": ["pmr"], **columns})
    )
    request, booking = await desk.firm(old, needs=["pmr"])
    if not columns:
        await desk.firm(new)
    assert (await desk.of_booking("move", booking, new)).word == word
    assert (await desk.of_booking("move", booking, 10**6)).word == "slot_full"
    assert (await desk.document(request))["booking"]["slot_id"] == old
    assert await desk.left(old) == 0


async def test_nobody_is_moved_in_or_out_of_another_editors_agenda(desk: Desk) -> None:
    (here,) = await desk.publish(slot_row("a", professional="81"))
    (there,) = await desk.publish(slot_row("b", at=90, professional="81"), source="fhir:editor")
    _, booking = await desk.firm(here)
    assert (await desk.of_booking("move", booking, there)).word == "at_editor"


# -- plages


async def test_a_plage_counts_who_came(desk: Desk, recorder: Recorder) -> None:
    (plage,) = await desk.publish(slot_row("a", capacity=5, professional=None))
    requests = [(await desk.firm(plage, NOW + timedelta(seconds=n)))[0] for n in range(3)]
    await desk.hold(plage)  # nobody is expected for a hold
    word, document = await count(desk, plage, 1, after=59)
    assert (word, document["taken"]) == ("too_early", 3)
    assert (await count(desk, plage, 4))[0] == "too_many"
    recorder.take()
    assert await count(desk, plage, 2) == (
        "counted",
        {"slot_id": plage, "capacity": 5, "taken": 3, "arrived": 2, "missed": 0},
    )
    assert [kind for kind, _ in events(recorder, "booking.fulfilled", "request.fulfilled")].count(
        "booking.fulfilled"
    ) == 2
    assert [await desk.status(r) for r in requests] == ["fulfilled", "fulfilled", "firm"]
    _, document = await count(desk, plage, 2, over=True)
    assert (document["arrived"], document["missed"]) == (2, 1)
    _, document = await count(desk, plage, 3)  # the last one was late
    assert (document["arrived"], document["missed"]) == (3, 0)
    assert (await count(desk, 10**6, 1))[0] == "not_found"


# -- places handed back


async def test_unused_places_go_back_at_their_hour_and_the_practice_is_told(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await desk.publish(slot_row("a", label="Cabinet", **back(30)))
    assert await desk.ledger.hand_back(NOW + minutes(29)) == 0
    recorder.take()
    await desk.ledger.hand_back(NOW + minutes(30))
    ((_, told),) = events(recorder, "places.handed_back")
    assert (told["slot_id"], told["external_id"], told["seats"], told["label"]) == (slot, "a", 1, "Cabinet")
    assert await desk.left(slot) == 0
    request = await desk.ask()
    assert await desk.claims((request, slot), now=NOW + minutes(30)) == ["seat_lost"]
    assert await desk.take(request, slot, NOW + minutes(30)) == "slot_full"
    assert await desk.ledger.hand_back(NOW + minutes(31)) == 0
    assert not any((await desk.live_left(NOW + minutes(31))).values())


async def test_who_has_a_seat_or_is_promised_it_keeps_it(desk: Desk, recorder: Recorder) -> None:
    (plage,) = await desk.publish(slot_row("a", capacity=4, professional=None, **back(30)))
    held, _ = await desk.hold(plage, NOW + minutes(29))
    promised = await desk.promise(plage)
    recorder.take()
    await desk.ledger.hand_back(NOW + minutes(30))
    ((_, told),) = events(recorder, "places.handed_back")
    assert told["seats"] == 2
    assert await desk.confirm(held, NOW + minutes(31)) == "firm"
    verdicts, _ = await desk.claim_kinds([(ClaimKind.TELL, promised, plage)], NOW + minutes(31))
    assert verdicts == ["told_firm"]
    assert events(recorder, "places.handed_back") == []


async def test_a_seat_that_is_freed_later_goes_back_as_well(desk: Desk, recorder: Recorder) -> None:
    plage, elsewhere = await desk.publish(
        slot_row("a", capacity=3, professional=None, **back(30)), slot_row("b", at=90)
    )
    await desk.hold(plage, NOW + minutes(28))
    firm, _ = await desk.firm(plage, NOW + minutes(28))
    promised = await desk.promise(plage)
    recorder.take()
    await desk.ledger.hand_back(NOW + minutes(30))
    assert events(recorder, "places.handed_back") == []
    # a promise moves away, a hold runs out, a patient cancels
    verdicts, _ = await desk.claim_kinds([(ClaimKind.PROMISE, promised, elsewhere)], NOW + minutes(30))
    assert verdicts == ["moved"]
    await desk.ledger.lapse_holds(NOW + minutes(31))
    await desk.cancel(firm, NOW + minutes(32))
    assert [told["seats"] for _, told in events(recorder, "places.handed_back")] == [1, 1, 1]
    assert await desk.left(plage) == 0


async def test_each_seat_that_goes_back_is_news_of_its_own(desk: Desk, recorder: Recorder) -> None:
    """Also two of one instant, and those of a slot published anew: whoever hears them drops an equal version."""
    (plage,) = await desk.publish(slot_row("a", capacity=3, professional=None, **back(30)))
    firm = [(await desk.firm(plage))[0] for _ in range(3)]
    recorder.take()
    await desk.ledger.hand_back(NOW + minutes(30))
    for request in firm[:2]:
        await desk.cancel(request, NOW + minutes(31))
    await desk.withdraw("a", now=NOW + minutes(31))
    await desk.publish(slot_row("a", capacity=3, professional=None, **back(20, valid_at=NOW + minutes(32))))
    await desk.ledger.hand_back(NOW + minutes(40))
    news = [a for a in recorder.take() if a.type == "places.handed_back"]
    assert [orjson.loads(a.data)["seats"] for a in news] == [1, 1, 3]
    assert {a.aggregate for a in news} == {f"slot:{plage}"}
    assert [a.version for a in news] == sorted({a.version for a in news}) and news[0].version > 0


async def test_no_promise_moves_into_a_place_that_was_handed_back(desk: Desk) -> None:
    slot, other = await desk.publish(slot_row("a", **back(30)), slot_row("b", at=90))
    promised = await desk.promise(other)
    await desk.ledger.hand_back(NOW + minutes(30))
    verdicts, _ = await desk.claim_kinds([(ClaimKind.PROMISE, promised, slot)], NOW + minutes(30))
    assert verdicts == ["seat_lost"]
    assert await desk.status(promised) == "promised"


async def test_an_hour_whose_professional_is_taken_is_not_unused(desk: Desk, recorder: Recorder) -> None:
    one, _ = await desk.publish(slot_row("a", professional="81"), slot_row("b", at=65, professional="81", **back(30)))
    await desk.firm(one)
    recorder.take()
    await desk.ledger.hand_back(NOW + minutes(35))
    assert events(recorder, "places.handed_back") == []


async def test_other_words_do_not_take_a_place_out_of_its_practices_hands(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await desk.publish(slot_row("a", **back(30)))
    at = NOW + minutes(31)
    await desk.ledger.hand_back(at)
    recorder.take()
    assert await desk.verdict(slot_row("a", label="2e", valid_at=at, **back(30)), at) == "updated"
    assert await desk.left(slot) == 0
    # published with another rule it is offered again
    assert await desk.verdict(slot_row("a", label="2e", valid_at=at, **back(10)), at) == "updated"
    assert await desk.left(slot) == 1
    await desk.ledger.hand_back(NOW + minutes(50))
    assert len(events(recorder, "places.handed_back")) == 1


async def test_a_practice_may_use_what_was_handed_back_to_it(desk: Desk) -> None:
    old, new = await desk.publish(slot_row("a", at=90), slot_row("b", **back(30)))
    _, booking = await desk.firm(old)
    await desk.ledger.hand_back(NOW + minutes(30))
    assert (await desk.of_booking("move", booking, new, now=NOW + minutes(31))).word == "moved"


async def test_what_has_begun_is_handed_back_to_nobody(desk: Desk, recorder: Recorder) -> None:
    await desk.publish(slot_row("a", **back(30)))
    recorder.take()
    await desk.ledger.hand_back(NOW + minutes(60))
    assert events(recorder, "places.handed_back") == []
    assert await desk.ledger.hand_back(NOW + minutes(61)) == 0


@postgres_only
async def test_two_sweepers_hand_a_place_back_once(desk: Desk, recorder: Recorder) -> None:

    await desk.publish(*(slot_row(f"s{n}", professional=f"8{n}", **back(30)) for n in range(40)))
    recorder.take()
    await asyncio.gather(*(desk.ledger.hand_back(NOW + minutes(30)) for _ in range(4)))
    assert len(events(recorder, "places.handed_back")) == 40
