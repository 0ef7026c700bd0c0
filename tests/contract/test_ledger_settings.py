"""What a territory sets: changed in part, traced, announced to its keys, and never a crisis without leave."""

import asyncio
import itertools
from typing import Any

import orjson
import pytest

from sas_matcher.domain.errors import IdempotencyError
from sas_matcher.domain.policy import DEFAULT_SETTING
from sas_matcher.ports.ledger import Idempotency, Outcome, SettingChange
from tests.conftest import Recorder
from tests.contract.conftest import postgres_only
from tests.ledger_cases import KEY, NOW, TERRITORY, Desk, minutes, new_id

WHY = "afflux à Lyon"


async def _change(
    desk: Desk, changes: dict[str, Any], *, at: float = 0, why: str = WHY, version: int | None = None
) -> Outcome:
    once = Idempotency(KEY, new_id(), b"body")
    return await desk.ledger.change_setting(NOW + minutes(at), SettingChange(TERRITORY, changes, why, version), once)


def _document(outcome: Outcome) -> dict[str, Any]:
    assert outcome.document is not None
    document: dict[str, Any] = orjson.loads(outcome.document)
    return document


async def _log(desk: Desk, before: int | None = None, limit: int = 10) -> list[dict[str, Any]]:
    return [orjson.loads(change) for change in await desk.ledger.setting_changes(TERRITORY, before, limit)]


async def test_what_is_named_changes_and_the_rest_is_the_default(desk: Desk) -> None:
    assert await desk.ledger.settings() == {}
    done = await _change(desk, {"hold_seconds": 60})
    assert done.word == "changed"
    expected = {
        "territory": TERRITORY,
        **DEFAULT_SETTING,
        "hold_seconds": 60,
        "version": 1,
        "changed_at": NOW.isoformat(),
    }
    assert _document(done) == expected
    assert await desk.ledger.settings() == {TERRITORY: expected}
    later = await _change(desk, {"policy": {"T2": "promise", "T3": "auto"}, "ageing_pct_per_h": 0.5}, at=1)
    assert _document(later) == {
        **expected,
        "policy": {"T0": "firm", "T1": "firm", "T2": "promise", "T3": "auto"},
        "ageing_pct_per_h": 0.5,
        "version": 2,
        "changed_at": (NOW + minutes(1)).isoformat(),
    }


async def test_each_change_leaves_a_trace_and_is_announced_to_the_keys_of_the_territory(
    desk: Desk, recorder: Recorder
) -> None:
    first = _document(await _change(desk, {"mt_rule": "first"}, why="essai"))
    recorder.take()
    second = _document(await _change(desk, {"crisis_allowed": True, "crisis": True}, at=5))
    told, matcher = recorder.take()
    assert (matcher.stream, matcher.type, matcher.territory) == ("requests", "settings", TERRITORY)
    assert (told.stream, told.type, told.territory) == ("events", "settings.changed", TERRITORY)
    assert (told.aggregate, told.version, told.owner) == (f"settings:{TERRITORY}", 2, KEY)
    assert list(told.audience) == [f"t:{TERRITORY}", "t:*"]
    newest, oldest = await _log(desk)
    assert orjson.loads(told.data) == newest
    assert newest == {
        "territory": TERRITORY,
        "version": 2,
        "at": (NOW + minutes(5)).isoformat(),
        "key_id": KEY,
        "why": WHY,
        "before": first,
        "after": second,
    }
    assert oldest["before"] == {"territory": TERRITORY, **DEFAULT_SETTING}
    assert (oldest["after"], oldest["why"]) == (first, "essai")


async def test_the_trace_is_read_page_by_page(desk: Desk) -> None:
    for seconds in (20, 30, 40, 50):
        await _change(desk, {"hold_seconds": seconds})
    assert [change["version"] for change in await _log(desk, limit=3)] == [4, 3, 2]
    assert [change["version"] for change in await _log(desk, before=2)] == [1]
    assert await _log(desk, before=1) == []
    assert await desk.ledger.setting_changes("01", None, 10) == []


async def test_a_change_that_changes_nothing_leaves_no_trace(desk: Desk, recorder: Recorder) -> None:
    recorder.take()
    same = await _change(desk, {"hold_seconds": 180, "policy": {"T0": "firm"}})
    assert (same.word, _document(same)["version"]) == ("unchanged", 0)
    assert (await _log(desk), recorder.take(), await desk.ledger.settings()) == ([], [], {})


@pytest.mark.parametrize("changes", [{"crisis": True}, {"policy": {"T3": "crisis"}}], ids=["declared", "chosen"])
async def test_no_crisis_without_leave(desk: Desk, changes: dict[str, Any]) -> None:
    refused = await _change(desk, changes)
    assert (refused.word, _document(refused)) == (
        "crisis_not_allowed",
        {"territory": TERRITORY, **DEFAULT_SETTING},
    )
    assert (await _log(desk), await desk.ledger.settings()) == ([], {})
    assert (await _change(desk, {**changes, "crisis_allowed": True})).word == "changed"
    # and the leave is not withdrawn while a crisis needs it
    assert (await _change(desk, {"crisis_allowed": False})).word == "crisis_not_allowed"
    back = {"crisis_allowed": False, "crisis": False, "policy": {"T3": "auto"}}
    assert (await _change(desk, back)).word == "changed"


async def test_who_has_read_an_older_version_changes_nothing(desk: Desk) -> None:
    assert (await _change(desk, {"hold_seconds": 60}, version=0)).word == "changed"
    late = await _change(desk, {"hold_seconds": 90}, version=0)
    assert (late.word, _document(late)["hold_seconds"]) == ("conflict", 60)
    assert (await _change(desk, {"hold_seconds": 90}, version=1)).word == "changed"


async def test_a_change_is_made_once_for_its_key(desk: Desk, recorder: Recorder) -> None:
    once = Idempotency(KEY, new_id(), b"body")
    change = SettingChange(TERRITORY, {"hold_seconds": 60}, WHY)
    done = await desk.ledger.change_setting(NOW, change, once)
    recorder.take()
    again = await desk.ledger.change_setting(NOW + minutes(1), change, once)
    assert again == done._replace(replayed=True)
    assert (len(await _log(desk)), recorder.take()) == (1, [])
    with pytest.raises(IdempotencyError):
        await desk.ledger.change_setting(NOW, change._replace(changes={}), once._replace(body_hash=b"other"))


@pytest.mark.parametrize(
    "changes",
    [
        {"hold_seconds": 14},
        {"hold_seconds": 1801},
        {"mt_rule": "never"},
        {"mt_ask_min": -1},
        {"mt_ask_min": 16},
        {"policy": {"T0": "official"}},
        {"policy": {"T9": "firm"}},
        {"ageing_pct_per_h": -0.1},
        {"ageing_pct_per_h": 2.1},
        {"fair_load_min": -1},
        {"fair_load_min": 30.1},
        {"radius_pct": 99},
        {"radius_pct": 301},
        {"urgent_reserve_pct": 81},
        {"tele_bonus_min": 60.5},
        {"borrow": {"01": 0}},
        {"borrow": {"01": 101}},
        {"borrow_km": 151},
    ],
    ids=str,
)
async def test_a_value_that_no_setting_may_have_is_refused(desk: Desk, changes: dict[str, Any]) -> None:
    with pytest.raises(desk.refusals):
        await _change(desk, changes)
    assert (await desk.ledger.settings(), await _log(desk)) == ({}, [])


async def test_no_change_without_a_reason_or_a_known_key(desk: Desk) -> None:
    with pytest.raises(desk.refusals):
        await _change(desk, {"hold_seconds": 60}, why="")
    with pytest.raises(desk.refusals):
        unknown = Idempotency("nobody", new_id(), b"body")
        await desk.ledger.change_setting(NOW, SettingChange(TERRITORY, {"hold_seconds": 60}, WHY), unknown)
    assert await desk.ledger.settings() == {}


async def test_what_was_read_cannot_be_written_to(desk: Desk) -> None:
    await _change(desk, {"hold_seconds": 60})
    (await desk.ledger.settings())[TERRITORY]["policy"]["T0"] = "crisis"
    assert (await desk.ledger.settings())[TERRITORY]["policy"]["T0"] == "firm"


@postgres_only
async def test_changes_at_once_all_count(desk: Desk) -> None:
    await asyncio.gather(*(_change(desk, {"hold_seconds": 100 + number}) for number in range(20)))
    log = await _log(desk, limit=50)
    assert [change["version"] for change in log] == list(range(20, 0, -1))
    for newer, older in itertools.pairwise(log):
        assert newer["before"] == older["after"]


@postgres_only
async def test_the_table_itself_refuses_a_crisis_without_leave(desk: Desk) -> None:
    await _change(desk, {"hold_seconds": 60})
    for column in ("crisis = true", """policy = policy || '{"T3": "crisis"}'"""):
        with pytest.raises(desk.refusals, match="crisis_needs_leave"):
            await desk.rows(f"update territory_setting set {column}")
