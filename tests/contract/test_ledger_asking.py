"""En sus in the ledger: who may be asked, one yes each, the others told, nobody asked more than they allow."""

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest

from sas_matcher.ports.ledger import PracticeLimit
from tests.asking_cases import STEP, Asker, overflow_row
from tests.conftest import Recorder
from tests.contract.conftest import postgres_only
from tests.ledger_cases import KEY, NOW, SOURCE, TERRITORY, Desk, minutes, slot_row


@pytest.fixture
async def asker(desk: Desk) -> Asker:
    """Who asks, in a territory with a ladder."""
    asker = Asker(desk)
    await asker.ladder()
    return asker


def told(recorder: Recorder) -> list[tuple[str, Any]]:
    """Return the news about questions and askings."""
    return [(a.type, orjson.loads(a.data)) for a in recorder.take() if a.type.split(".")[0] in ("question", "asking")]


async def states(asker: Asker) -> list[str]:
    """Return where all questions stand, by consent."""
    found = map(orjson.loads, await asker.book.questions(SOURCE, [], [], None, 100))
    return [q["state"] for q in sorted(found, key=lambda q: q["overflow"])]


async def test_only_a_request_without_a_place_in_a_territory_with_a_ladder_is_due(desk: Desk) -> None:
    asker = Asker(desk)
    await asker.consent("a")
    waits = await asker.waits()
    assert await asker.book.due(NOW, 10) == []
    await asker.ladder()
    await desk.ask()
    (due,) = await asker.book.due(NOW, 10)
    assert (due.request["request_id"], due.asking, due.steps) == (waits, None, [STEP])
    assert await asker.book.due(NOW + timedelta(hours=5), 10) == []
    await asker.put(waits, [due.persons[0]["id"]])
    assert await asker.book.due(NOW + minutes(4), 10) == []
    (again,) = await asker.book.due(NOW + minutes(5), 10)
    assert again.asking is not None and (again.asking["version"], again.persons) == (1, [])


@pytest.mark.parametrize(
    "columns",
    [{"profession": "IDE"}, {"modes": ["tele"]}, {"offers": []}, {"professional": "8x"}],
    ids=["profession", "mode", "need", "excluded"],
)
async def test_who_does_not_fit_is_no_candidate(asker: Asker, columns: dict[str, Any]) -> None:
    await asker.consent("a", offers=["pmr", "enfant"])
    await asker.book.put_overflow(NOW, overflow_row("b", **{"offers": ["pmr"], **columns}))
    slot = (await asker.desk.publish(slot_row("x", professional="8x", offers=["pmr"])))[0]
    request, _ = await asker.desk.hold(slot, needs=["pmr"])
    await asker.desk.decline(request, "professional")
    await asker.desk.no_place(request, '{"none": {"reason": "X"}}')
    (due,) = await asker.book.due(NOW, 10)
    assert [p["professional"] for p in due.persons] == ["8a"]


async def test_a_question_says_what_is_needed_and_goes_to_who_is_asked(asker: Asker, recorder: Recorder) -> None:
    await asker.consent("a", modes=["tele", "cabinet"])
    request = await asker.waits(mt="8a", needs=[], age_band="enfant", case_ref="SECRET-1")
    recorder.take()
    word, (question,) = await asker.put(request, await asker.ids(request))
    assert word == "advanced"
    news = recorder.take()
    (asked,) = [a for a in news if a.type == "question.asked"]
    assert (asked.aggregate, asked.owner, list(asked.audience)) == (question, "", [f"src:{SOURCE}", "p:8a"])
    document = orjson.loads(asked.data)
    assert document == {
        **{"question_id": question, "state": "asked", "version": 1, "reason": None, "overflow": "a", "km": 2},
        **{"territory": TERRITORY, "professional": "8a", "structure": None, "minutes": 15, "modes": ["cabinet"]},
        **{"profession": "MG", "needs": [], "age_band": "enfant", "tier": "T1", "own_patient": True},
        **{"deadline": document["deadline"], "asked_at": document["asked_at"], "answered_at": None, "booking_id": None},
        "answer_by": document["answer_by"],
    }
    assert document["answer_by"] > document["asked_at"]
    assert "SECRET-1" not in asked.data and "lat" not in document and "insee" not in document
    (climbed,) = [a for a in news if a.type == "asking.changed"]
    assert (climbed.aggregate, climbed.owner, list(climbed.audience)) == (f"asking:{request}", KEY, [])
    seen = orjson.loads(climbed.data)
    assert (seen["asked"], seen["open"], seen["state"]) == (1, 1, "open")
    assert [(e["name"], e["asked"], e["of"]) for e in seen["log"]] == [("Cabinets proches", 1, 9)]
    assert orjson.loads(await asker.book.asking(request, KEY) or "") == seen
    assert await asker.book.asking(request, "other") is None


async def test_the_first_yes_gets_it_and_the_others_are_told(asker: Asker, recorder: Recorder) -> None:
    await asker.consent("a", "b", "c")
    request = await asker.waits()
    _, (a, b, c) = await asker.put(request, await asker.ids(request))
    recorder.take()
    assert await asker.accept(b) == "accepted"
    news = recorder.take()
    assert [(x.type, x.aggregate) for x in news if x.type.startswith("question.")] == [
        ("question.accepted", b),
        ("question.closed", a),
        ("question.closed", c),
    ]
    assert [x.aggregate for x in news if x.type == "request.held"] == [request]
    document = await asker.desk.document(request)
    assert document["status"] == "held"
    slot = document["booking"]["slot_id"]
    assert document["decision"]["place"]["slot_id"] == slot
    # nobody else is given that place, nor sees it
    assert await asker.desk.left(slot) == 0
    assert [await asker.accept(q) for q in (a, b, c)] == ["too_late", "already", "too_late"]
    assert await asker.refuse(b) == "conflict"
    assert await asker.desk.confirm(request) == "firm"
    told_practice = [x for x in recorder.take() if x.type == "booking.firm"]
    assert [orjson.loads(x.data)["professional"] for x in told_practice] == ["8b"]


async def test_a_place_given_en_sus_is_for_that_patient_alone(asker: Asker, recorder: Recorder) -> None:
    await asker.consent("a")
    request = await asker.waits()
    _, (question,) = await asker.put(request, await asker.ids(request))
    await asker.accept(question)
    slot = (await asker.desk.document(request))["booking"]["slot_id"]
    later = NOW + timedelta(minutes=31)
    await asker.desk.ledger.lapse_holds(later)
    other = await asker.desk.ask(later)
    assert await asker.desk.claims((other, slot), now=later) == ["seat_lost"]
    assert await asker.desk.take(other, slot, later) == "slot_full"
    assert await asker.desk.live_left() == {}
    recorder.take()
    # and who said yes is let go
    assert await asker.book.settle(later) > 0
    assert [(kind, d["reason"]) for kind, d in told(recorder)] == [("question.released", "not_taken")]
    assert [s["status"] for s in await asker.desk.slots()] == ["withdrawn"]
    assert await asker.book.settle(later) == 0


@pytest.mark.parametrize("how", ["cancel", "refuse"])
async def test_who_is_let_go_after_a_move_loses_the_hour_of_the_yes_and_nothing_else(
    asker: Asker, recorder: Recorder, how: str
) -> None:
    """The plage that the practice moved the patient into has other patients: it stays open."""
    await asker.consent("a")
    (plage,) = await asker.desk.publish(slot_row("p", at=90, lasts=60, capacity=4, professional="8a"))
    neighbour, _ = await asker.desk.firm(plage)
    promised = await asker.desk.promise(plage)
    request = await asker.waits()
    _, (question,) = await asker.put(request, await asker.ids(request))
    await asker.accept(question)
    assert await asker.desk.confirm(request) == "firm"
    booking = (await asker.desk.document(request))["booking"]["booking_id"]
    assert (await asker.desk.of_booking("move", booking, plage)).word == "moved"
    arguments = ("patient", True) if how == "cancel" else ("complet", True)
    await asker.desk.of_booking(how, booking, *arguments)
    recorder.take()
    await asker.book.settle(NOW + minutes(1))
    news = recorder.take()
    (released,) = [a for a in news if a.type == "question.released"]
    assert released.aggregate == question
    en_sus = next(s for s in await asker.desk.slots() if s["external_id"] == f"en-sus-{question}")
    assert {s["id"]: s["status"] for s in await asker.desk.slots()} == {plage: "open", en_sus["id"]: "withdrawn"}
    assert [orjson.loads(a.data) for a in news if a.type == "gone"] == [[[en_sus["id"], en_sus["version"]]]]
    assert (await asker.desk.status(neighbour), await asker.desk.status(promised)) == ("firm", "promised")
    assert await asker.desk.left(plage) == 2


async def test_a_yes_at_an_hour_that_is_taken_or_too_late_is_refused_and_may_be_said_again(asker: Asker) -> None:
    await asker.consent("a")
    (slot,) = await asker.desk.publish(slot_row("x", professional="8a", at=60))
    await asker.desk.firm(slot)
    request = await asker.waits()
    _, (question,) = await asker.put(request, await asker.ids(request))
    assert await asker.accept(question, at=65) == "slot_full"
    assert await asker.accept(question, at=4 * 60 + 1) == "slot_full"
    assert await asker.accept(question, at=-1) == "slot_full"
    assert await asker.accept(question, at=120, mode="tele") == "slot_full"
    assert len(await asker.desk.slots()) == 1
    assert await asker.desk.status(request) == "waiting"
    assert await asker.accept(question, at=75) == "accepted"


async def test_a_limit_of_the_practice_stands(asker: Asker) -> None:
    await asker.consent("a")
    (slot,) = await asker.desk.publish(slot_row("x", professional="8a", at=60))
    limit = PracticeLimit(SOURCE, "q", "patients", "day", 1, None, "Europe/Paris", own_only=False, members=("p:8a",))
    await asker.desk.ledger.put_limit(NOW, limit)
    await asker.desk.firm(slot)
    request = await asker.waits()
    _, (question,) = await asker.put(request, await asker.ids(request))
    assert await asker.accept(question, at=120) == "limit_reached"
    assert len(await asker.desk.slots()) == 1


async def test_nobody_is_asked_twice_for_a_request_nor_more_often_than_allowed(asker: Asker) -> None:
    await asker.consent("a", most_a_day=2)
    one, two, three = [await asker.waits() for _ in range(3)]
    (a,) = await asker.ids(one)
    assert (await asker.put(one, [a]))[0] == "advanced"
    assert (await asker.put(one, [a], was=1))[0] == "advanced"
    await asker.put(two, [a])
    await asker.put(three, [a])
    assert len(await states(asker)) == 2
    # its log tells how many were really asked
    log = orjson.loads(await asker.book.asking(three, None) or "")["log"]
    assert [entry["asked"] for entry in log] == [0]
    (due,) = [d for d in await asker.book.due(NOW + minutes(5), 10) if d.request["request_id"] == three]
    assert [(p["today"], p["answered"]) for p in due.persons] == [(2, 2)]
    tomorrow = await asker.waits(deadline=NOW + timedelta(days=2))
    (due,) = [d for d in await asker.book.due(NOW + timedelta(days=1), 10) if d.request["request_id"] == tomorrow]
    assert [p["today"] for p in due.persons] == [0]


async def test_of_two_who_climb_at_once_one_does(asker: Asker) -> None:
    await asker.consent("a", "b")
    request = await asker.waits()
    a, b = await asker.ids(request)
    assert (await asker.put(request, [a]))[0] == "advanced"
    assert (await asker.put(request, [b]))[0] == "conflict"
    await asker.desk.cancel(request)
    assert (await asker.put(request, [b], was=1))[0] == "not_waiting"
    assert await states(asker) == ["asked"]


async def test_when_all_have_refused_the_next_step_is_due_at_once(asker: Asker, recorder: Recorder) -> None:
    await asker.consent("a", "b")
    request = await asker.waits()
    _, (a, b) = await asker.put(request, await asker.ids(request))
    recorder.take()
    assert await asker.refuse(a, NOW + minutes(1)) == "refused"
    assert await asker.book.due(NOW + minutes(1), 10) == []
    assert await asker.refuse(b, NOW + minutes(2)) == "refused"
    assert [d.request["request_id"] for d in await asker.book.due(NOW + minutes(2), 10)] == [request]
    assert [kind for kind, _ in told(recorder)] == ["question.refused"] * 2
    assert (await asker.refuse(a), await asker.accept(a)) == ("already", "conflict")


async def test_rates_count_what_was_answered_and_who_had_their_time(asker: Asker) -> None:
    await asker.consent("a", "b", "c", "d", most_a_day=9)
    request = await asker.waits()
    ids = await asker.ids(request)
    _, (a, b, c, _) = await asker.put(request, ids)
    await asker.refuse(a)
    await asker.accept(b, now=NOW + minutes(1))
    # a yes that comes too late is a yes; whoever had no time to answer counts for nothing
    assert await asker.accept(c, now=NOW + minutes(2)) == "too_late"
    other = await asker.waits()
    (due,) = await asker.book.due(NOW + timedelta(hours=1), 10)
    assert due.request["request_id"] == other
    assert [(p["answered"], p["yes"]) for p in due.persons] == [(1, 0), (1, 1), (1, 1), (0, 0)]
    _, (_, _, _, d) = await asker.put(other, ids)
    third = await asker.waits()
    (due,) = [x for x in await asker.book.due(NOW + minutes(5), 10) if x.request["request_id"] == third]
    assert [p["answered"] for p in due.persons] == [2, 2, 2, 1]
    assert d


@pytest.mark.parametrize("how", ["cancelled", "other_place", "unserved"])
async def test_questions_close_with_their_request(asker: Asker, recorder: Recorder, how: str) -> None:
    await asker.consent("a")
    request = await asker.waits()
    await asker.put(request, await asker.ids(request))
    now = NOW + minutes(1)
    if how == "cancelled":
        await asker.desk.cancel(request, now)
    elif how == "unserved":
        now = NOW + timedelta(hours=5)
        await asker.desk.ledger.close_unserved(now)
    else:
        (slot,) = await asker.desk.publish(slot_row("x"))
        await asker.desk.claims((request, slot), now=now)
    recorder.take()
    assert await asker.book.settle(now) == 1
    assert [(kind, d["reason"]) for kind, d in told(recorder)] == [("question.closed", how)]
    assert await asker.book.settle(now) == 0


async def test_a_consent_is_changed_and_taken_back(asker: Asker) -> None:
    await asker.consent("a", "b")
    first = orjson.loads(await asker.book.put_overflow(NOW, overflow_row("a", most_a_day=7)))
    assert {**first, "landmass": 0} == overflow_row("a", most_a_day=7)
    assert [orjson.loads(o)["name"] for o in await asker.book.overflows(SOURCE)] == ["a", "b"]
    assert await asker.book.remove_overflow(NOW, SOURCE, "a")
    assert not await asker.book.remove_overflow(NOW, SOURCE, "a")
    request = await asker.waits()
    assert len(await asker.ids(request)) == 1
    await asker.consent("a")
    assert len(await asker.ids(request)) == 2


@pytest.mark.parametrize(
    "columns",
    [{"from_minute": 600, "to_minute": 600}, {"most_a_day": 0}, {"minutes": 4}, {"modes": []}, {"days": [8]}],
    ids=str,
)
async def test_a_consent_that_makes_no_sense_is_refused(asker: Asker, columns: dict[str, Any]) -> None:
    with pytest.raises(asker.desk.refusals):
        await asker.book.put_overflow(NOW, overflow_row("a", **columns))


async def test_a_ladder_is_versioned_and_traced(desk: Desk, recorder: Recorder) -> None:
    asker = Asker(desk)
    assert await asker.book.ladder(TERRITORY) is None
    recorder.take()
    assert (await asker.ladder()).word == "changed"
    (news,) = recorder.take()
    assert (news.type, news.owner, list(news.audience)) == ("ladder.changed", KEY, [f"t:{TERRITORY}", "t:*"])
    assert (await asker.ladder()).word == "unchanged"
    assert (await asker.ladder({**STEP, "waves": 3}, version=0)).word == "conflict"
    assert (await asker.ladder({**STEP, "waves": 3}, version=1, why="plus de vagues")).word == "changed"
    newest, oldest = map(orjson.loads, await asker.book.ladder_changes(TERRITORY, None, 10))
    assert orjson.loads(news.data) == oldest
    assert (newest["version"], newest["why"], newest["before"]) == (2, "plus de vagues", oldest["after"])
    assert orjson.loads(await asker.book.ladder(TERRITORY) or "") == newest["after"]
    assert len(await asker.book.ladder_changes(TERRITORY, 2, 10)) == 1


async def test_what_is_not_there(asker: Asker) -> None:
    nobody = "00000000-0000-0000-0000-00000000dead"
    assert await asker.book.question(nobody) is None
    assert (await asker.accept(nobody), await asker.refuse(nobody)) == ("not_found", "not_found")
    assert await asker.book.asking(nobody, None) is None


@postgres_only
async def test_of_many_who_say_yes_at_once_one_gets_it(asker: Asker) -> None:
    await asker.consent(*(f"{n:02}" for n in range(20)))
    request = await asker.waits()
    _, questions = await asker.put(request, await asker.ids(request))
    words = await asyncio.gather(*map(asker.accept, questions))
    assert sorted(words) == ["accepted"] + ["too_late"] * 19
    assert sorted(await states(asker)) == ["accepted"] + ["closed"] * 19
    assert await asker.desk.rows("select from slot") and len(await asker.desk.slots()) == 1


async def test_who_is_far_and_of_elsewhere_is_no_candidate_and_old_answers_do_not_count(asker: Asker) -> None:
    await asker.consent("a", lat=47.2, territory="39")
    await asker.consent("b", lat=47.0, territory="71")
    await asker.consent("c", lat=48.9, territory="69")
    request = await asker.waits()
    (due,) = await asker.book.due(NOW, 10)
    assert [p["professional"] for p in due.persons] == ["8b", "8c"]
    await asker.put(request, [due.persons[0]["id"]])
    for days, answered in ((89, 1), (91, 0)):
        later = NOW + timedelta(days=days)
        again = await asker.waits(deadline=later + timedelta(hours=1))
        found = [d for d in await asker.book.due(later, 10) if d.request["request_id"] == again]
        assert [p["answered"] for p in found[0].persons] == [answered, 0]
