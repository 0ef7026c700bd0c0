"""SMART Scheduling Links: fifty files are one agenda, or nothing of it when one of them is broken."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
import pytest

from adapters.agenda import feeds
from adapters.agenda.feeds import FeedReader
from adapters.agenda.fetch import Fetcher
from adapters.agenda.smart import MOST_FILES, files_of, read_smart
from sas_matcher.domain.agenda import FeedError

DAY = date(2026, 11, 23)
URL = "https://places.example/demo/$bulk-publish"
CAPACITY = "https://fhir.example/StructureDefinition/slot-capacity"


def slot(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "Slot",
        "id": f"s{number}",
        "schedule": {"reference": "Schedule/1"},
        "status": "free",
        "start": "2026-11-23T09:00:00+01:00",
        "end": "2026-11-23T09:20:00+01:00",
        **changes,
    }


def ndjson(*documents: Any) -> bytes:
    return b"\n".join(orjson.dumps(one) for one in documents) + b"\n"


def schedule(number: int, location: int) -> dict[str, Any]:
    return {"resourceType": "Schedule", "id": str(number), "actor": [{"reference": f"Location/{location}"}]}


def read(*slots: Any, schedules: tuple[str, ...] = (), more: tuple[tuple[str, bytes], ...] = ()) -> Any:
    return read_smart([*more, ("Slot", ndjson(*slots))], "Europe/Paris", DAY, 15, schedules)


def test_free_slots_become_hours_on_the_clock_of_the_place() -> None:
    seats = [{"url": CAPACITY, "valueInteger": 6}, {"url": "http://autre", "valueString": "x"}]
    found = read(
        slot(1),
        slot(2, status="busy"),
        slot(3, start="2026-11-23T10:00:00-05", end="2026-11-23T19:00:00+01:00", extension=seats, inconnu=1),
        slot(4, start="2027-01-01T09:00:00Z", end="2027-01-01T10:00:00Z"),
        slot(5, start="2026-11-22T09:00:00Z", end="2026-11-22T10:00:00Z"),
    )
    assert found.errors == [] and found.lines == 5
    assert [(one["start"], one["end"], one["each_min"], one["capacity"]) for one in found.hours] == [
        ("09:00", "09:20", 20, None),
        ("16:00", "19:00", None, 6),
    ]
    assert read(slot(1)).hours[0]["id"] == found.hours[0]["id"] != found.hours[1]["id"]
    overseas = read_smart([("Slot", ndjson(slot(1)))], "Indian/Reunion", DAY, 15, ())
    assert overseas.hours[0]["start"] == "12:00"


def test_of_several_locations_the_schedules_must_be_named() -> None:
    files = (("Schedule", ndjson(schedule(1, 1), schedule(2, 2))),)
    slots = slot(1), slot(2, schedule={"reference": "Schedule/2"})
    (error,) = read(*slots, more=files).errors
    assert "plusieurs lieux" in error.message
    named = read(*slots, more=files, schedules=("2",))
    assert named.errors == [] and len(named.hours) == 1
    assert len(read(*slots, more=(("Schedule", ndjson(schedule(1, 1), schedule(2, 1))),)).hours) == 2


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (slot(id=None), "sans id"),
        (slot(schedule="Schedule/1"), "schedule.reference"),
        (slot(start="2026-11-23T09:00:00"), "start n'est pas un instant"),
        (slot(end=17), "end n'est pas un instant"),
        (slot(end="2026-11-23T08:00:00Z"), "de 5 min à 16 h"),
        (slot(end="2026-11-25T08:00:00Z"), "de 5 min à 16 h"),
        (slot(extension=[{"url": CAPACITY, "valueInteger": True}]), "1 à 200"),
        (slot(text="x" * 20_000), "16 Kio"),
        ([1], "n'est pas un objet"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(wrong: Any, word: str) -> None:
    found = read(slot(7), wrong)
    assert [(one.line, one.column) for one in found.errors] == [(2, "Slot")] and word in found.errors[0].message


@pytest.mark.parametrize("actor", ["x", 5, None, ["x"], {"reference": "Location/1"}])
def test_a_schedule_without_a_list_of_actors_is_named_by_its_line(actor: Any) -> None:
    found = read(slot(1), more=(("Schedule", ndjson({"resourceType": "Schedule", "id": "1", "actor": actor})),))
    assert [(one.line, one.column) for one in found.errors] == [(1, "Schedule")] and "actor" in found.errors[0].message


def test_the_second_of_two_equal_hours_is_left_out() -> None:
    files = [
        ("Slot", ndjson(*(slot(n, start=f"2026-10-25T0{n}:30:00Z", end=f"2026-10-25T0{n}:45:00Z") for n in (0, 1, 2))))
    ]
    found = read_smart(files, "Europe/Paris", date(2026, 10, 25), 1, ())
    assert [one["start"] for one in found.hours] == ["02:30", "03:30"]


# -- the manifest ----------------------------------------------------------------------------------------------------


def manifest(*urls: str, kind: str = "Slot") -> bytes:
    return orjson.dumps(
        {"transactionTime": "x", "request": URL, "output": [{"type": kind, "url": url} for url in urls]}
    )


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"<html>", "pas un manifeste"),
        (b"[]", "pas un manifeste"),
        (b'{"output":[{"type":"Slot"}]}', "pas un manifeste"),
        (manifest("https://ailleurs.example/1.ndjson"), "autre serveur"),
        (manifest("http://places.example/1.ndjson"), "autre serveur"),
        (manifest("file:///etc/passwd"), "autre serveur"),
        (manifest(*["1.ndjson"] * (MOST_FILES + 1)), "100 fichiers"),
    ],
)
def test_a_manifest_that_is_none_or_leads_elsewhere(body: bytes, word: str) -> None:
    with pytest.raises(FeedError, match=word):
        files_of(body, URL)


class Web(Fetcher):
    """Gives files by address."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__()
        self.files = files

    async def fetch(self, url: str) -> bytes:
        if url not in self.files:
            raise FeedError("l'adresse répond 404")
        return self.files[url]


async def test_files_that_break_their_reader_harm_nobody_else() -> None:
    """The process that matches patients reads none of them: a fault of the reader would be its own."""
    feed: dict[str, Any] = {"kind": "smart", "url": URL, "each_min": None, "schedules": []}
    address = f"{URL.rpartition('/')[0]}/1.ndjson"
    found = await FeedReader(Web({URL: manifest(address), address: ndjson(slot(1))})).read(feed, "Nulle/Part", DAY, 15)
    assert found.hours == [] and [one.line for one in found.errors] == [0] and "illisible" in found.errors[0].message


async def test_a_server_that_dawdles_keeps_the_readers_of_others_for_two_minutes_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "LONGEST_S", 0.2)

    class Slow(Web):
        async def fetch(self, url: str) -> bytes:
            await asyncio.sleep(0.05)
            return await super().fetch(url)

    addresses = [f"{URL.rpartition('/')[0]}/{n}.ndjson" for n in range(80)]
    slow = Slow({URL: manifest(*addresses), **{address: ndjson(slot(1)) for address in addresses}})
    feed: dict[str, Any] = {"kind": "smart", "url": URL, "each_min": None, "schedules": []}
    with pytest.raises(FeedError, match="trop lent"):
        await FeedReader(slow).read(feed, "Europe/Paris", DAY, 15)


async def test_fifty_files_are_read_whole_or_not_at_all() -> None:
    start = datetime(2026, 11, 23, 7, tzinfo=UTC)
    at = (start + timedelta(hours=n % 10, minutes=n % 4 * 15, days=n % 12) for n in range(5_000))
    slots = [
        slot(n, start=begin.isoformat(), end=(begin + timedelta(minutes=15)).isoformat()) for n, begin in enumerate(at)
    ]
    base = URL.rpartition("/")[0]
    files = {f"{base}/slots-{n}.ndjson": ndjson(*slots[n * 100 : n * 100 + 100]) for n in range(50)}
    files |= {URL: manifest(*(f"slots-{n}.ndjson" for n in range(50))), f"{base}/other.ndjson": b"x"}
    feed: dict[str, Any] = {"kind": "smart", "url": URL, "each_min": None, "schedules": []}
    reader = FeedReader(Web(files))
    first = await reader.read(feed, "Europe/Paris", DAY, 15)
    assert len(first.hours) == 5_000 and first.errors == []
    assert await reader.read(feed, "Europe/Paris", DAY, 15) == first
    half = f"{base}/slots-25.ndjson"
    files[half] = files[half][:-40]
    broken = await reader.read(feed, "Europe/Paris", DAY, 15)
    assert [(one.line, one.column) for one in broken.errors] == [(25 * 101 + 100, "Slot")]
    del files[half]
    with pytest.raises(FeedError, match="404"):
        await reader.read(feed, "Europe/Paris", DAY, 15)
