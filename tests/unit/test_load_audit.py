"""The load test's own parts: what its auditor holds for proven, whom it invents, whom it refuses to load."""

import itertools
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from loadtests.__main__ import arguments
from loadtests.audit import Audit, Place
from loadtests.clock import told_to_wait
from loadtests.hosts import refuse_foreign
from loadtests.population import TOWNS, Commune, Population, read_population
from loadtests.scenarios import SCENARIOS

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


def test_a_place_that_was_told_and_then_withdrawn_is_no_broken_promise() -> None:
    books = audit()
    books.promised("r", "48")
    books.confirmed("b", "r", 1, 4, now=10)  # told by the service
    waiting = {"r": {"status": "waiting", "booking": None}}
    assert books.broken(waiting) == ["request r: promised, found waiting"]
    books.slot_ends(1, 20)
    assert books.broken(waiting) == [] and books.lost(waiting) == []


def test_nobody_listens_for_the_practice_of_an_editors_place() -> None:
    books = audit()
    books.confirmed("b", "r", 99, 3, now=10)
    books.event("r", 3)
    assert books.unheard() == []


def promised(**changes: Any) -> dict[str, Any]:
    """A request that is promised with the second place behind it, to be seen within four hours."""
    return {
        "status": "promised",
        "deadline": datetime.fromtimestamp(4 * HOUR, UTC).isoformat(),
        "promise": {"broken": 0, "lost_to_practice": 0},
        "booking": {"booking_id": "b", "slot_id": 2, "state": "promised"},
    } | changes


LATE = datetime.fromtimestamp(1.5 * HOUR, UTC).isoformat()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, "promised, and not there any more"),
        ({"r": promised(promise={"broken": 1, "lost_to_practice": 0}, status="waiting")}, "broken outside a crisis"),
        ({"r": promised(status="waiting", booking=None)}, "promised, found waiting"),
        ({"r": promised(status="unserved", booking=None)}, "promised, found unserved"),
        ({"r": promised(deadline=LATE)}, "place begins at"),
    ],
)
def test_a_broken_promise_is_a_fault(found: dict[str, Any], said: str) -> None:
    books = audit()
    books.promised("r", "69")
    assert books.broken({"r": promised()}) == []
    (line,) = books.broken(found)
    assert line.startswith("request r: ")
    assert said in line


def test_a_crisis_may_break_promises_where_it_is_declared_and_from_then_on() -> None:
    books = audit()
    books.promised("r", "69")
    books.crisis("69", since=100)
    gone = promised(promise={"broken": 1, "lost_to_practice": 0}, status="waiting", booking=None)
    books.displaced("r", "69", now=101)
    assert books.broken({"r": gone}) == []
    books.displaced("r", "69", now=99)
    books.displaced("s", "42", now=101)
    assert [line.partition(":")[0] for line in books.broken({"r": gone})] == ["request r", "request s"]


def test_what_people_end_themselves_is_no_broken_promise() -> None:
    books = audit()
    books.promised("r", "69")
    books.held("b", "r", 2, now=10, hold_until=190)
    books.slot_ends(2, now=20)
    assert books.broken({"r": promised(status="waiting", booking=None)}) == []
    other = audit()
    other.promised("r", "69")
    other.request_ends("r", now=5)
    assert other.broken({}) == []


def test_a_firm_place_that_its_editor_never_gave_is_a_fault() -> None:
    books = audit()
    books.firm_without_editor("r", 7)
    assert books.broken({}) == ["request r: slot 7 is firm, and was never booked at its editor"]


LYON, BOURG = Commune("69123", "Lyon", 500_000, 45.75, 4.85), Commune("01053", "Bourg", 9_000, 46.2, 5)


def test_the_population_lives_where_the_service_says() -> None:
    asked: list[str] = []

    def get(path: str) -> dict[str, Any]:
        asked.append(path)
        town = {"code": "69123", "name": "Lyon", "population": 500_000, "lat": 45.75, "lon": 4.85, "postcodes": []}
        return {"communes": [town]}

    population = read_population(get, ["69"], SCENARIOS["S0"])
    assert asked == [f"/v1/communes?q=69&territory=69&limit={TOWNS}"]
    assert population.towns == {"69": [LYON]}
    with pytest.raises(LookupError, match="69"):
        read_population(lambda _: {"communes": []}, ["69"], SCENARIOS["S0"])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_chance_gives_the_same_people(scenario: str) -> None:
    population = Population({"69": [LYON], "01": [BOURG]}, SCENARIOS[scenario])
    now = datetime(2026, 11, 23, 9, 40, tzinfo=UTC)

    def drawn(seed: int) -> object:
        rng, busy = random.Random(seed), set[int]()
        staff = population.practice(rng, 3, 4, ["69", "01"])
        slots = [population.slot(staff[0], rng, f"p-{n}", now, busy) for n in range(20)]
        return staff, slots, population.request(rng, "c", ["69"])

    assert drawn(1) == drawn(1) != drawn(2)
    rng, busy, spans = random.Random(1), set[int](), []
    person = population.practice(rng, 3, 4, ["01"])[0]
    for item in (population.slot(person, rng, "p", now, busy) for _ in range(50)):
        start, end = datetime.fromisoformat(item["start"]), datetime.fromisoformat(item["end"])
        assert start > now
        assert (end - start).total_seconds() == 900 * item["capacity"]
        spans.append((start, end))
    spans.sort()
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (503, {"retry-after": "2"}, 2.0),
        (429, {"retry-after": "0"}, 0.1),
        (503, {}, 0.0),
        (500, {"retry-after": "2"}, 0.0),
    ],
)
def test_a_clear_refusal_says_when_to_come_again(status: int, headers: dict[str, str], seconds: float) -> None:
    assert told_to_wait(status, headers) == seconds


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
