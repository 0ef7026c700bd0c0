"""Agendas in the ledger: one version at a time, published and taken back in one transaction."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson
import pytest

from adapters.postgres.agenda import PostgresAgendas
from adapters.postgres.ledger import PostgresLedger
from sas_matcher.ports.ledger import PracticeLimit
from sas_matcher.ports.practice import AgendaRecord
from tests.conftest import Recorder
from tests.contract.conftest import postgres_only
from tests.ledger_cases import KEY, NOW, SOURCE, Desk, minutes, slot_row

pytestmark = postgres_only
NAME = "cabinet"
OWNER = ("10000000012", None)
UNTIL = NOW + timedelta(days=7)


class Kept:
    """An agenda at a fresh ledger."""

    def __init__(self, desk: Desk) -> None:
        assert isinstance(desk.ledger, PostgresLedger)
        self.store = PostgresAgendas(desk.ledger)
        self.ledger = desk.ledger

    async def put(self, version: int = 0, **document: Any) -> bool:
        return await self.store.put(NOW, KEY, SOURCE, NAME, OWNER, {"feed": None, **document}, version)

    async def record(self) -> AgendaRecord:
        found = await self.store.agenda(SOURCE, NAME)
        assert found is not None
        return found

    async def show(self, *rows: dict[str, Any], away: Sequence[Any] = (), at: float = 0) -> dict[str, int] | None:
        now = NOW + minutes(at)
        rows = tuple({**row, "external_id": f"agenda/{NAME}/{row['external_id']}", "valid_at": now} for row in rows)
        return await self.store.show(now, await self.record(), UNTIL, rows, away)

    async def state(self, desk: Desk) -> dict[str, str]:
        rows = await self.ledger.fetch("select external_id, status from slot order by external_id")
        return {row["external_id"].rpartition("/")[2]: row["status"] for row in rows}


@pytest.fixture
async def kept(desk: Desk) -> Kept:
    """The first version of an agenda."""
    found = Kept(desk)
    assert await found.put()
    return found


async def test_a_version_is_written_over_the_one_that_was_read_only(kept: Kept) -> None:
    assert not await kept.put(0) and not await kept.put(2)
    assert await kept.put(1, hours=[]) and (await kept.record()).version == 2
    both = await asyncio.gather(kept.put(2, one=1), kept.put(2, one=2))
    assert sorted(both) == [False, True] and (await kept.record()).version == 3


async def test_what_is_shown_no_longer_is_taken_back_with_it(kept: Kept, desk: Desk, recorder: Recorder) -> None:
    assert await kept.show(slot_row("a"), slot_row("b", at=120)) == {
        **dict.fromkeys(("updated", "unchanged", "booked", "closed", "refused", "kept"), 0),
        "created": 2,
    }
    recorder.take()
    report = await kept.show(slot_row("b", at=120), slot_row("c", at=180), at=1)
    assert report is not None
    assert (report["created"], report["unchanged"], report["closed"]) == (1, 1, 1)
    assert await kept.state(desk) == {"a": "withdrawn", "b": "open", "c": "open"}
    assert {heard.type for heard in recorder.take()} == {"gone", "published"}
    again = await kept.show(slot_row("b", at=120), slot_row("c", at=180), at=2)
    assert again is not None and again["unchanged"] == 2 and recorder.take() == []
    # what has begun is history
    assert await kept.show(slot_row("c", at=180), at=121) is not None
    assert (await kept.state(desk))["b"] == "open"


async def test_an_hour_that_was_refused_comes_back_when_it_is_said_anew(kept: Kept, desk: Desk) -> None:
    await kept.show(slot_row("a"), slot_row("b", at=120))
    _, booking = await desk.firm((await desk.slots())[0]["id"])
    assert await desk.refuse(booking, keep=False) == "refused"
    # by the same week it does not
    await kept.show(slot_row("a"), slot_row("b", at=120), at=1)
    assert await kept.state(desk) == {"a": "withdrawn", "b": "open"}
    await kept.show(slot_row("b", at=120), at=2)
    await kept.show(slot_row("a"), slot_row("b", at=120), at=3)
    assert await kept.state(desk) == {"a": "open", "b": "open"}


async def test_an_hour_that_was_refused_comes_back_when_it_is_put_back(kept: Kept, desk: Desk) -> None:
    rows = slot_row("a"), slot_row("b", at=120), slot_row("c", at=180)
    await kept.show(*rows)
    for slot in await desk.slots():
        _, booking = await desk.firm(slot["id"])
        await desk.refuse(booking, keep=False)
    await kept.store.put_back(SOURCE, NAME, [(row["starts"], row["ends"]) for row in (rows[0], rows[2])])
    await kept.store.put_back(SOURCE, "autre", [(NOW, UNTIL)])
    await kept.show(*rows, at=1)
    assert await kept.state(desk) == {"a": "open", "b": "withdrawn", "c": "open"}


async def test_an_old_version_changes_nothing(kept: Kept, desk: Desk) -> None:
    old = await kept.record()
    assert await kept.put(1)
    assert await kept.show(slot_row("a")) is not None
    rows = [{**slot_row("z"), "external_id": f"agenda/{NAME}/z"}]
    assert await kept.store.show(NOW, old, UNTIL, rows, []) is None
    assert await kept.state(desk) == {"a": "open"}


async def test_slots_of_others_and_of_another_agenda_stay(kept: Kept, desk: Desk) -> None:
    await desk.ledger.upsert_slots(NOW, SOURCE, [slot_row("frei")])
    assert await kept.store.put(NOW, KEY, SOURCE, "autre", OWNER, {"feed": None}, 0)
    other = await kept.store.agenda(SOURCE, "autre")
    assert other is not None
    await kept.store.show(NOW, other, UNTIL, [{**slot_row("x"), "external_id": "agenda/autre/x"}], [])
    assert await kept.show(slot_row("a")) is not None and await kept.show(at=1) is not None
    assert await kept.state(desk) == {"a": "withdrawn", "frei": "open", "x": "open"}


async def test_a_change_is_told_to_whoever_works_there_and_time_going_on_is_not(kept: Kept, recorder: Recorder) -> None:
    await kept.show(slot_row("a"))
    (told,) = [heard for heard in recorder.take() if heard.type == "agenda.changed"]
    assert (told.stream, told.aggregate, told.version) == ("events", f"agenda:{SOURCE}/{NAME}", 1)
    assert list(told.audience) == [f"src:{SOURCE}", f"p:{OWNER[0]}"]
    assert orjson.loads(told.data)["report"]["created"] == 1
    await kept.show(slot_row("a"), slot_row("b", at=120), at=1)
    assert "agenda.changed" not in {heard.type for heard in recorder.take()}


async def test_a_move_to_another_territory_is_taken_back_and_published_there(kept: Kept, desk: Desk) -> None:
    await kept.show(slot_row("a"))
    report = await kept.show(slot_row("a", territory="01"), at=1)
    assert report is not None and report["updated"] == 1 and report["closed"] == 1
    rows = await kept.ledger.fetch("select territory, status from slot")
    assert [tuple(row) for row in rows] == [("01", "open")]


async def test_a_clock_that_is_behind_publishes_all_the_same(kept: Kept, desk: Desk) -> None:
    """The order of versions is the ledger's, not that of the workers' clocks."""
    await kept.show(slot_row("a"), at=3)
    await kept.show(at=3)
    report = await kept.show(slot_row("a"), at=1)
    assert report is not None and report["updated"] == 1
    assert await kept.state(desk) == {"a": "open"}


@pytest.mark.parametrize("member", ["p:10000000012", "s:690000001"])
async def test_a_patient_who_is_kept_counts_under_a_limit(kept: Kept, desk: Desk, member: str) -> None:
    """Else whoever changes their week has a full day anew."""
    who: dict[str, Any] = {"professional": "10000000012", "structure": "690000001"}
    await kept.show(slot_row("a", **who), slot_row("b", at=120, **who))
    ids = {row["external_id"].rpartition("/")[2]: row["id"] for row in await kept.ledger.fetch("select * from slot")}
    quota = PracticeLimit(
        SOURCE, "quota", "patients", "day", 1, None, "Europe/Paris", own_only=False, members=(member,)
    )
    await desk.ledger.put_limit(NOW, quota)
    booking, _ = await desk.firm(ids["a"])
    report = await kept.show(slot_row("b", at=120, **who), at=1)
    assert report is not None and report["kept"] == 1
    assert await desk.left(ids["b"]) == 0
    assert await desk.claims((await desk.ask(), ids["b"])) == ["limit_reached"]
    (document,) = await desk.ledger.limits_of_source(NOW, SOURCE)
    assert [(at["taken"], at["most"]) for at in orjson.loads(document)["periods"]] == [(1, 1)]
    await desk.cancel(booking)
    assert await desk.claims((await desk.ask(), ids["b"])) == ["held"]


async def test_due_are_the_versions_that_are_not_shown_or_not_far_enough(kept: Kept) -> None:
    store = kept.store
    # whoever wrote it publishes it: to others it is due when that has not come in half a minute
    assert await store.due(NOW, NOW, 10) == [] == await store.due(NOW + minutes(0.4), NOW, 10)
    assert await store.due(NOW + minutes(0.5), NOW, 10) == [(SOURCE, NAME)]
    await kept.show()
    assert await store.due(NOW, UNTIL, 10) == []
    assert await store.due(NOW, UNTIL + minutes(1), 10) == [(SOURCE, NAME)]
    await store.failed(await kept.record(), "fichu", NOW + minutes(15))
    assert (await kept.record()).failed == "fichu"
    assert await store.due(NOW + minutes(14), UNTIL + minutes(1), 10) == []
    assert await store.due(NOW + minutes(15), UNTIL + minutes(1), 10) == [(SOURCE, NAME)]
    # another version does not wait for that
    assert await kept.put(1) and await store.due(NOW + minutes(0.5), NOW, 10) == [(SOURCE, NAME)]


async def test_forgotten_is_only_what_shows_its_last_version(kept: Kept) -> None:
    await kept.store.forget(await kept.record())
    assert (await kept.record()).version == 1
    await kept.show()
    await kept.store.forget(await kept.record())
    assert await kept.store.agenda(SOURCE, NAME) is None


async def test_a_feed_is_taken_by_one_reader_and_told_of_itself_only(kept: Kept) -> None:
    first, second = {"url": "https://a.example/"}, {"url": "https://b.example/"}
    assert await kept.store.feeds_due(NOW, NOW + minutes(5), 10) == []
    assert await kept.put(1, feed=first)
    both = await asyncio.gather(*(kept.store.feeds_due(NOW, NOW + minutes(5), 10) for _ in range(2)))
    assert sorted(map(len, both)) == [0, 1]
    record = await kept.record()
    await kept.store.feed_told(record, first, NOW, NOW + minutes(10), None)
    assert (await kept.record()).feed_good_at == NOW
    await kept.store.feed_told(record, first, NOW + minutes(10), NOW + minutes(20), "away")
    told = await kept.record()
    assert (told.feed_good_at, told.feed_failed) == (NOW, "away")
    # another address is read at once, and what the first one says is nobody's any more
    assert await kept.put(2, feed=second)
    await kept.store.feed_told(record, first, NOW, NOW + minutes(20), None)
    told = await kept.record()
    assert (told.feed_good_at, told.feed_failed) == (None, None)
    assert await kept.store.feeds_due(NOW, NOW + minutes(5), 10) == [(SOURCE, NAME)]
    assert orjson.loads(told.document)["feed"] == second
