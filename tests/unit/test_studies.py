"""Recorded days are decided again beside hindsight: exactly, once, stoppably."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.studies import PostgresStudies
from adapters.system import SystemClock, SystemIds
from sas_matcher.domain.errors import ConflictError, InvalidInputError, NotFoundError
from sas_matcher.replay.daylog_file import write_day
from sas_matcher.replay.studies import RecordedShelf
from sas_matcher.services.studies import MOST_OPEN, RECORDED, Studies, StudyRoom
from sas_matcher.services.study_tables import tiers_table, ways_table
from tests.daylog_cases import at, created, day_of, published
from tests.ledger_cases import KEY, add_regulator
from tests.unit.test_recorder import Live, a_busy_hour

DAY, TODAY = date(2026, 1, 12), date(2026, 1, 20)


def scarce() -> Any:
    """One place, wanted by a T3 and, a minute later, by a T1: whoever decides at once serves the first."""
    return day_of(
        published(at("08:00"), "s1", at("11:00"), at("11:15")),
        created(at("09:00"), "r1", at("09:00", 14), tier="T3"),
        created(at("09:01"), "r2", at("13:00"), tier="T1"),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "48").mkdir()
    write_day(tmp_path / "48" / "2026-01-12.jsonl", scarce())
    (tmp_path / "48" / "2026-01-12.batches.jsonl").write_bytes(b"")
    (tmp_path / "48" / "2026-01-20.jsonl").write_bytes(b"still written")
    (tmp_path / "48" / "notes.jsonl").write_bytes(b"")
    return tmp_path


class Counting(RecordedShelf):
    """A shelf that counts what is decided."""

    decided = 0

    def decide(self, territory: str, day: date, way: str, advance: Callable[[float], None]) -> dict[str, Any]:
        self.decided += 1
        return super().decide(territory, day, way, advance)


@pytest.fixture
async def book(ledger: PostgresLedger, database_url: str) -> PostgresStudies:
    await add_regulator(database_url)
    return PostgresStudies(ledger)


def test_a_shelf_holds_whole_days(folder: Path) -> None:
    shelf = RecordedShelf(folder)
    assert shelf.days("48", TODAY) == [DAY] and shelf.days("69", TODAY) == []
    before = shelf.digest("48", DAY)
    assert before and shelf.digest("48", date(2026, 1, 13)) is None
    with (folder / "48" / "2026-01-12.batches.jsonl").open("ab") as file:
        file.write(b"{}\n")
    assert shelf.digest("48", DAY) != before


async def test_a_day_is_compared_with_what_hindsight_could_do_and_worked_out_once(
    book: PostgresStudies, folder: Path
) -> None:
    shelf = Counting(folder)
    studies = Studies(book, shelf, SystemClock(), SystemIds())
    room = StudyRoom(book, shelf, SystemClock())
    assert not await room.work_once()
    for _ in range(2):
        study_id = await studies.ask("48", TODAY, [DAY], ["promise", "firm"], KEY)
        assert await room.work_once()
    assert shelf.decided == 2
    study, cells = await studies.results(study_id, "48")
    assert (study.state, study.done, study.percent, study.ways) == ("done", 2, 100, ["firm", "promise"])
    by_way = {cell.way: cell.figures for cell in cells}
    assert by_way["firm"]["best"] == {"T0": 0, "T1": 1, "T2": 0, "T3": 0}
    assert by_way["firm"]["served"] == {"T0": 0, "T1": 0, "T2": 0, "T3": 1}
    assert by_way["firm"]["urgent_pct"] == 0
    ways = {row["way"]: row for row in ways_table(study, cells).rows}
    assert ways["firm"]["days"] == 1 and ways["firm"]["told_pct"] == 100
    # a quarter of the value of a T1, and the waits of each weigh: what is served is worth less than what could be
    assert 20 < ways["firm"]["welfare_pct"] < 30
    served = {(row["label"], row["tier"]): row["served"] for row in tiers_table(study, cells).rows}
    assert served["Ferme", "T3"] == 1 and served["Ferme", "T1"] == 0
    with pytest.raises(NotFoundError):
        await studies.results(study_id, "69")


async def test_a_study_stops_when_it_is_told_to(book: PostgresStudies, folder: Path) -> None:
    begun, seen = threading.Event(), []

    class Endless(RecordedShelf):
        def decide(self, territory: str, day: date, way: str, advance: Callable[[float], None]) -> dict[str, Any]:
            begun.set()
            try:
                for _ in range(10_000):
                    advance(0.5)
                    threading.Event().wait(0.005)
            except BaseException as ended:
                seen.append(type(ended).__name__)
                raise
            return {}

    shelf = Endless(folder)
    studies = Studies(book, shelf, SystemClock(), SystemIds())
    study_id = await studies.ask("48", TODAY, [DAY], ["firm", "promise"], KEY)
    working = asyncio.create_task(StudyRoom(book, shelf, SystemClock()).work_once())
    await asyncio.to_thread(begun.wait, 20)
    await studies.stop(study_id, "48")
    assert await asyncio.wait_for(working, 20)
    study, cells = await studies.results(study_id, "48")
    assert (study.state, cells, seen) == ("stopped", [], ["StoppedError"])
    with pytest.raises(ConflictError):
        await studies.stop(study_id, "48")


async def test_what_cannot_be_decided_is_said_and_what_cannot_be_asked_is_refused(
    book: PostgresStudies, folder: Path
) -> None:
    studies = Studies(book, RecordedShelf(folder), SystemClock(), SystemIds())
    for days, ways in (([], ["firm"]), ([date(2026, 1, 13)], ["firm"]), ([DAY], []), ([DAY], ["magic"])):
        with pytest.raises(InvalidInputError):
            await studies.ask("48", TODAY, days, ways, KEY)
    asked = [await studies.ask("48", TODAY, [DAY], ["firm"], KEY) for _ in range(MOST_OPEN)]
    with pytest.raises(ConflictError):
        await studies.ask("48", TODAY, [DAY], ["firm"], KEY)
    (folder / "48" / "2026-01-12.jsonl").write_bytes(b"{}\n")
    await StudyRoom(book, RecordedShelf(folder), SystemClock()).work_once()
    study, _ = await studies.results(asked[0], "48")
    assert study.state == "failed" and "12/01/2026" in (study.failure or "")
    assert await Studies(book, None, SystemClock(), SystemIds()).days("48", TODAY) == []


async def test_a_study_whose_worker_died_is_taken_over(book: PostgresStudies, folder: Path) -> None:
    studies = Studies(book, RecordedShelf(folder), SystemClock(), SystemIds())
    study_id = await studies.ask("48", TODAY, [DAY], ["firm"], KEY)
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    dead = await book.take(long_ago, long_ago)
    assert dead is not None
    assert await StudyRoom(book, RecordedShelf(folder), SystemClock()).work_once()
    # it comes back, and has nothing more to say
    assert not await book.advance(dead, 0, 0.5, long_ago)
    await book.finish(dead, "failed", "too late", long_ago, 0)
    assert (await studies.results(study_id, "48"))[0].state == "done"


async def test_the_day_as_it_was_comes_from_its_batches(tmp_path: Path) -> None:
    live = await Live().open()
    recorder = live.recorder(tmp_path)
    await recorder.start()
    await a_busy_hour(live, recorder)
    shelf = RecordedShelf(tmp_path)
    (day,) = shelf.days("69", TODAY.replace(year=2027))
    parts: list[float] = []
    figures = await asyncio.to_thread(shelf.decide, "69", day, RECORDED, parts.append)
    assert sum(figures["served"].values()) > 0 and parts[-1] == 1
    assert figures["served"].keys() == figures["best"].keys()
    (tmp_path / "69" / f"{day}.batches.jsonl").unlink()
    with pytest.raises(InvalidInputError, match="lots"):
        shelf.decide("69", day, RECORDED, parts.append)
