"""The load test's own parts: what its auditor holds for proven, whom it invents, whom it refuses to load."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from loadtests.__main__ import arguments
from loadtests.audit import Audit, Place
from loadtests.hosts import refuse_foreign
from loadtests.population import TOWNS, Commune, Population, read_population, slot

HOUR = 3600.0


def audit(capacity: int = 1) -> Audit:
    """Books with two slots of one professional, the second half an hour later, the third at the same time."""
    books = Audit()
    books.published(1, Place(capacity, "A", 0, HOUR))
    books.published(2, Place(capacity, "A", 2 * HOUR, 3 * HOUR))
    books.published(3, Place(capacity, "A", HOUR / 2, HOUR))
    return books


def firm(**changes: Any) -> dict[str, Any]:
    return {"status": "firm", "booking": {"booking_id": "b", "state": "firm"}} | changes


def test_two_confirmations_of_one_seat_are_a_fault() -> None:
    books = audit()
    books.confirmed("b", "r", 1, 3, now=10)
    assert books.doubles() == []
    books.confirmed("c", "s", 1, 3, now=20)
    assert books.doubles() == ["slot 1: 2 bookings at once on 1 seats"]


def test_a_hold_counts_until_it_runs_out() -> None:
    books = audit()
    books.held("b", "r", 1, now=10, hold_until=190)
    books.confirmed("c", "s", 1, 3, now=190)
    assert books.doubles() == []
    books.held("d", "t", 2, now=10, hold_until=190)
    books.confirmed("e", "u", 2, 3, now=189)
    assert books.doubles() == ["slot 2: 2 bookings at once on 1 seats"]


def test_a_plage_takes_as_many_as_it_has_seats() -> None:
    books = audit(capacity=2)
    books.confirmed("b", "r", 1, 3, now=10)
    books.confirmed("c", "s", 1, 3, now=10)
    assert books.doubles() == []
    books.confirmed("d", "t", 1, 3, now=10)
    assert books.doubles() == ["slot 1: 3 bookings at once on 2 seats"]


@pytest.mark.parametrize(
    "end",
    [
        lambda books: books.booking_ends("b", 20),
        lambda books: books.request_ends("r", 20),
        lambda books: books.slot_ends(1, 20),
    ],
)
def test_a_seat_may_be_given_again_once_somebody_asked_for_its_end(end: Any) -> None:
    books = audit()
    books.confirmed("b", "r", 1, 3, now=10)
    end(books)
    books.held("c", "s", 1, now=20, hold_until=200)
    assert books.doubles() == []
    assert books.lost({}) == []


def test_a_news_that_came_late_proves_nothing() -> None:
    """The end was asked for before anybody heard of the beginning: no certain time is left."""
    books = audit()
    books.request_ends("r", 5)
    books.held("b", "r", 1, now=10, hold_until=200)
    books.confirmed("c", "s", 1, 3, now=11)
    assert [stay.booking_id for stay in books.stays()] == ["c"]
    assert books.doubles() == []


def test_a_professional_is_not_booked_twice_at_a_time() -> None:
    books = audit()
    books.confirmed("b", "r", 1, 3, now=10)
    books.confirmed("c", "s", 2, 3, now=10)
    assert books.doubles() == []
    books.confirmed("d", "t", 3, 3, now=10)
    assert books.doubles() == ["professional A: slots 1 and 3 overlap and are both booked"]


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"r": firm(status="waiting", booking=None)},
        {"r": firm(status="cancelled")},
        {"r": firm(booking={"booking_id": "other", "state": "firm"})},
        {"r": firm(booking={"booking_id": "b", "state": "cancelled"})},
    ],
)
def test_a_confirmation_that_the_service_forgot_is_a_fault(found: dict[str, Any]) -> None:
    books = audit()
    books.confirmed("b", "r", 1, 3, now=10)
    assert books.promises == {"b": "r"}
    assert books.lost({"r": firm()}) == []
    (line,) = books.lost(found)
    assert line.startswith("request r: ")


def test_a_confirmation_that_no_event_told_of_is_a_fault() -> None:
    books = audit()
    books.confirmed("b", "r", 1, 3, now=10)
    books.event("r", 2)
    assert books.unheard() == [
        "request r: no event of its confirmation",
        "booking b: no event for the practice",
    ]
    books.event("r", 4)  # what came after it says it too
    books.event("b", 2)
    assert books.unheard() == []


def test_the_population_lives_where_the_service_says() -> None:
    asked: list[str] = []

    def get(path: str) -> dict[str, Any]:
        asked.append(path)
        town = {"code": "69123", "name": "Lyon", "population": 500_000, "lat": 45.75, "lon": 4.85, "postcodes": []}
        return {"communes": [town]}

    population = read_population(get, ["69"])
    assert asked == [f"/v1/communes?q=69&territory=69&limit={TOWNS}"]
    assert population.communes == [Commune("69123", "Lyon", 500_000, 45.75, 4.85)]
    with pytest.raises(LookupError, match="69"):
        read_population(lambda _: {"communes": []}, ["69"])


def test_the_same_chance_gives_the_same_people() -> None:
    population = Population([Commune("69123", "Lyon", 500_000, 45.75, 4.85), Commune("01053", "Bourg", 9_000, 46.2, 5)])
    now = datetime(2026, 11, 23, 9, 40, tzinfo=UTC)

    def drawn(seed: int) -> object:
        rng = random.Random(seed)
        staff = population.practice(rng, 3, 4)
        return staff, [slot(staff[0], rng, f"p-{n}", now) for n in range(20)], population.request(rng, "c")

    assert drawn(1) == drawn(1) != drawn(2)
    rng = random.Random(1)
    for item in (slot(population.practice(rng, 3, 4)[0], rng, "p", now) for _ in range(200)):
        start, end = datetime.fromisoformat(item["start"]), datetime.fromisoformat(item["end"])
        assert start > now
        assert (end - start).total_seconds() == 900 * item["capacity"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:8069", "http://localhost:1", "http://[::1]:8069"])
def test_this_machine_may_be_loaded(url: str) -> None:
    refuse_foreign(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://sas.example.fr",
        "http://10.0.0.3:8069",
        "http://127.0.0.1.example.fr",
        "http://127.0.0.1@example.fr:8069",
        "127.0.0.1:8069",
    ],
)
def test_no_other_machine_is_loaded(url: str) -> None:
    with pytest.raises(SystemExit, match="n'est pas une adresse de cette machine"):
        refuse_foreign(url)
    with pytest.raises(SystemExit, match="n'est pas une adresse de cette machine"):
        arguments(["--url", url])


def test_an_address_needs_its_keys(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAS_KEY_REGULATOR", raising=False)
    monkeypatch.delenv("SAS_KEY_PRACTICE", raising=False)
    with pytest.raises(SystemExit):
        arguments(["--url", "http://127.0.0.1:8069"])
    assert "--key-regulator" in capsys.readouterr().err
