"""Médecin traitant first, in the ledger: who may have a place is asked before another place is taken."""

from typing import Any

import orjson
import pytest

from sas_matcher.ports.ledger import Idempotency, SettingChange
from tests.asking_cases import Asker
from tests.conftest import Recorder
from tests.ledger_cases import KEY, NOW, SOURCE, TERRITORY, Desk, minutes, new_id, slot_row


async def sets(desk: Desk, **changes: Any) -> None:
    change = SettingChange(TERRITORY, changes, "essai", None)
    await desk.ledger.change_setting(NOW, change, Idempotency(KEY, new_id(), b"body"))


@pytest.fixture
async def asker(desk: Desk) -> Asker:
    """Who asks, where the médecin traitant goes first and has three minutes."""
    await sets(desk, mt_rule="first")
    return Asker(desk)


async def first(desk: Desk, request_id: str) -> Any:
    """Return what the request's document says of its médecin traitant."""
    return orjson.loads(await desk.ledger.request_document(request_id, KEY) or "{}")["mt_first"]


async def questions(asker: Asker) -> list[Any]:
    return [orjson.loads(q) for q in await asker.book.questions(SOURCE, [], [], None, 100)]


async def test_who_may_have_a_place_is_asked_at_once_and_has_his_time(asker: Asker, recorder: Recorder) -> None:
    await asker.consent("a", "b")
    recorder.take()
    request = await asker.desk.ask(mt="8a")
    said = recorder.take()
    assert sorted((a.stream, a.type) for a in said) == [("events", "question.asked"), ("requests", "open")]
    (opened,) = [a for a in said if a.type == "open"]
    told = await first(asker.desk, request)
    assert told["said"] == "asked" and orjson.loads(opened.data)["mt_first"] == told
    assert told["until"] == (NOW + minutes(3)).isoformat()
    (question,) = await questions(asker)
    assert (question["professional"], question["own_patient"], question["state"]) == ("8a", True, "asked")
    # others are not asked meanwhile, and he is not asked again by the ladder
    await asker.ladder()
    assert await asker.book.due(NOW, 10) == []
    await asker.desk.no_place(request, '{"none": {"reason": "X"}}')
    (due,) = await asker.book.due(NOW, 10)
    assert [p["professional"] for p in due.persons] == ["8b"]


@pytest.mark.parametrize(
    ("consent", "asked", "expected"),
    [
        ({}, {"tier": "T0", "deadline": NOW + minutes(60)}, "too_short"),
        ({}, {"deadline": NOW + minutes(29)}, "too_short"),
        ({}, {"deadline": NOW + minutes(30)}, "asked"),
        ({"professional": "8z"}, {}, "not_askable"),
        ({"days": [2, 3]}, {}, "not_askable"),
        ({"from_minute": 9 * 60 + 1}, {}, "not_askable"),
        ({"from_minute": 9 * 60}, {}, "asked"),  # it is nine in Paris
        ({"to_minute": 9 * 60}, {}, "not_askable"),
        ({"modes": ["tele"]}, {}, "not_askable"),
        ({"profession": "IDE"}, {}, "not_askable"),
        ({"offers": ["pmr"]}, {"needs": ["enfant"]}, "not_askable"),
        ({}, {"specialty": "SM04"}, "not_askable"),
        ({"lat": 48.85, "lon": 2.35}, {}, "asked"),  # wherever he is
    ],
)
async def test_what_the_medecin_traitant_may_give(
    asker: Asker, consent: dict[str, Any], asked: dict[str, Any], expected: str
) -> None:
    await asker.consent("a", **consent)
    request = await asker.desk.ask(mt="8a", **asked)
    assert (await first(asker.desk, request))["said"] == expected
    assert len(await questions(asker)) == (expected == "asked")


async def test_a_free_place_of_his_goes_first_and_nobody_is_asked(asker: Asker) -> None:
    await asker.consent("a")
    (mine, _) = await asker.desk.publish(slot_row("a", at=120), slot_row("other"))
    request = await asker.desk.ask(mt="8a", tier="T0", deadline=NOW + minutes(130))
    assert await first(asker.desk, request) == {"said": "place", "until": None}
    assert await questions(asker) == []
    # taken, it is none
    await asker.desk.hold(mine)
    assert (await first(asker.desk, await asker.desk.ask(mt="8a")))["said"] == "asked"
    # and one after the deadline never was
    late = await asker.desk.ask(mt="8a", deadline=NOW + minutes(119))
    assert (await first(asker.desk, late))["said"] == "asked"


async def test_his_questions_of_a_day_are_counted(asker: Asker) -> None:
    await asker.consent("a", most_a_day=2)
    said = [(await first(asker.desk, await asker.desk.ask(mt="8a")))["said"] for _ in range(3)]
    assert said == ["asked", "asked", "not_askable"]


@pytest.mark.parametrize("changes", [{"mt_rule": "bonus"}, {"mt_ask_min": 0}])
async def test_nobody_is_asked_where_the_territory_does_not_want_it(asker: Asker, changes: dict[str, Any]) -> None:
    await asker.consent("a")
    await sets(asker.desk, **changes)
    told = await first(asker.desk, await asker.desk.ask(mt="8a"))
    assert told is None if "mt_rule" in changes else told["said"] == "not_askable"
    assert await first(asker.desk, await asker.desk.ask()) is None
    assert await questions(asker) == []


async def test_a_no_lets_others_be_looked_for_at_once(asker: Asker, recorder: Recorder) -> None:
    await asker.consent("a")
    request = await asker.desk.ask(mt="8a")
    (question,) = await questions(asker)
    recorder.take()
    assert await asker.refuse(question["question_id"], now=NOW + minutes(1)) == "refused"
    (opened,) = [a for a in recorder.take() if a.stream == "requests"]
    assert (opened.type, opened.aggregate, opened.version) == ("open", request, 2)
    assert orjson.loads(opened.data)["mt_first"]["said"] == "refused"
    # a no that comes late changes nothing
    later = await asker.desk.ask(mt="8a")
    (open_one,) = [q for q in await questions(asker) if q["state"] == "asked"]
    assert await asker.refuse(open_one["question_id"], now=NOW + minutes(4)) == "refused"
    assert (await first(asker.desk, later))["said"] == "asked"
    assert [a for a in recorder.take() if a.stream == "requests" and a.version > 1] == []


async def test_the_no_of_somebody_else_is_not_his(asker: Asker, recorder: Recorder) -> None:
    await asker.consent("a", "b")
    await asker.ladder()
    request = await asker.desk.ask(mt="8a")
    (his,) = await questions(asker)
    await asker.desk.no_place(request, '{"none": {"reason": "X"}}')
    _, (hers,) = await asker.put(request, await asker.ids(request))
    before = await asker.desk.document(request)
    recorder.take()
    assert await asker.refuse(hers, now=NOW + minutes(1)) == "refused"
    # he still has his time, and others wait for him
    assert (await asker.desk.document(request), recorder.take()[-1].type) == (before, "question.refused")
    assert before["mt_first"] == {"said": "asked", "until": (NOW + minutes(3)).isoformat()}
    assert await asker.accept(his["question_id"], now=NOW + minutes(2)) == "accepted"
    assert (await first(asker.desk, request))["said"] == "accepted"


async def test_a_yes_is_a_place_and_ends_the_waiting(asker: Asker, recorder: Recorder) -> None:
    await asker.consent("a")
    request = await asker.desk.ask(mt="8a")
    (question,) = await questions(asker)
    recorder.take()
    assert await asker.accept(question["question_id"], now=NOW + minutes(1)) == "accepted"
    news = recorder.take()
    assert ("requests", "closed", request) in [(a.stream, a.type, a.aggregate) for a in news]
    assert "request.held" in {a.type for a in news}
    document = orjson.loads(await asker.desk.ledger.request_document(request, KEY) or "{}")
    assert document["status"] == "held"
    assert document["mt_first"] == {"said": "accepted", "until": None}


async def test_whether_patients_have_one_is_counted_by_commune(asker: Asker) -> None:
    desk = asker.desk
    await desk.ask(mt="8a", insee="69123")
    await desk.ask(has_mt="no", insee="69123")
    await desk.ask(insee="69382")
    await desk.ask(has_mt="no", insee="01004", territory="01")
    window = (NOW, NOW + minutes(1))
    assert await desk.ledger.mt_counts(TERRITORY, window, None) == [("69123", 1, 1, 0), ("69382", 0, 0, 1)]
    assert await desk.ledger.mt_counts(TERRITORY, window, ["69382"]) == [("69382", 0, 0, 1)]
    assert await desk.ledger.mt_counts(TERRITORY, (NOW + minutes(1), NOW + minutes(2)), None) == []
