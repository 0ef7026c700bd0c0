"""Requests that go to the matcher before they are written: who is sent, and what the matcher makes of them."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from structlog.testing import capture_logs

from sas_matcher.domain.errors import RefusedArrivalError
from sas_matcher.ports.bus import ARRIVAL
from sas_matcher.ports.ledger import Announcement, Claim, Idempotency, request_row
from sas_matcher.services import arrivals
from sas_matcher.services.arrivals import Arrivals
from sas_matcher.services.matcher.known import ARRIVES_S
from tests.ledger_cases import StillClock
from tests.matching_cases import NOW
from tests.unit.test_matcher import FakeLedger, Stage, settled, until

INSTANT = datetime.fromtimestamp(NOW, UTC)


class Told:
    """A publisher that keeps what it was told."""

    def __init__(self) -> None:
        self.said: list[Announcement] = []

    def announce(self, announcements: Sequence[Announcement]) -> None:
        self.said += announcements


def _once(key: str) -> Idempotency:
    return Idempotency("k1", key, b"body")


# -- who is sent -------------------------------------------------------------------------------------------------


def test_a_request_is_sent_as_it_is_to_be_written() -> None:
    told = Told()
    wish = {"id": "r1", "territory": "69", "mt": None, "needs": ["pmr"], "deadline": INSTANT}
    assert Arrivals(told, StillClock(INSTANT)).send(wish, _once("a"))
    (news,) = told.said
    assert (news.id, news.stream, news.type, news.aggregate, news.territory) == (0, "requests", ARRIVAL, "r1", "69")
    row = orjson.loads(news.data)
    assert row["id"] == "r1" and row["needs"] == ["pmr"] and row["created_at"] == INSTANT.isoformat()
    assert (row["key_id"], row["idem_key"], bytes.fromhex(row["body_hash"])) == ("k1", "a", b"body")


def test_whose_medecin_traitant_may_go_first_is_written_first() -> None:
    told = Told()
    assert not Arrivals(told, StillClock(INSTANT)).send(
        {"id": "r1", "territory": "69", "mt": "10001234567"}, _once("a")
    )
    assert told.said == []


def test_a_repeated_call_is_answered_from_the_ledger(monkeypatch: Any) -> None:
    monkeypatch.setattr(arrivals, "REMEMBERED", 2)
    told, wish = Told(), {"id": "r1", "territory": "69", "mt": None}
    sending = Arrivals(told, StillClock(INSTANT))
    assert sending.send(wish, _once("a"))
    assert not sending.send(wish | {"id": "r2"}, _once("a"))
    assert (sending.sent(_once("a")), sending.sent(_once("b"))) == ("r1", None)
    assert sending.send(wish, Idempotency("k2", "a", b"body"))  # another caller's
    assert sending.send(wish, _once("c"))
    assert sending.send(wish, _once("a"))  # so long ago that it is forgotten
    assert len(told.said) == 4


# -- what the matcher makes of them ------------------------------------------------------------------------------


class WritingLedger(FakeLedger):
    """Writes what arrives with a claim; refuses whom it is told to."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage.bus, stage.clock)
        self.written: list[str] = []
        self.refused: set[str] = set()

    async def claim(
        self, now: datetime, fences: Mapping[str, int], claims: Sequence[Claim]
    ) -> tuple[list[str], list[Announcement]]:
        arriving = [claim.request_id for claim in claims if claim.arrives is not None]
        if self.refused & set(arriving):
            raise RefusedArrivalError(self.refused & set(arriving))
        for claim in claims:
            if claim.arrives is not None and claim.request_id not in self.requests:
                row = orjson.loads(claim.arrives)
                self.ask(claim.request_id, quiet=True, **{k: row[k] for k in ("territory", "created_at")})
        said = await super().claim(now, fences, claims)
        self.written += arriving
        return said


class Line(Stage):
    """A stage whose requests arrive before they are written."""

    def __init__(self) -> None:
        super().__init__()
        self.books = WritingLedger(self)
        self.ledger = self.books
        self.matcher = self.new_matcher()

    def send(self, name: str, *, age: float = 0.0, **fields: Any) -> None:
        """A worker sends a request that it made ``age`` seconds ago."""
        at = self.clock.now().timestamp() - age
        self.books.ask(name, quiet=True, **fields)
        row = {**self.books.requests.pop(name), "id": name}
        made = request_row(datetime.fromtimestamp(at, UTC), row, _once(name))
        text = orjson.dumps(made).decode()
        self.bus.publish([Announcement(0, self.clock.now(), "69", "requests", ARRIVAL, name, 1, "k1", (), text)])


async def test_it_is_decided_and_written_with_the_claim() -> None:
    line = Line()
    async with line.running() as ledger:
        ledger.publish_place(1)
        line.send("a")
        await until(lambda: ledger.requests.get("a", {}).get("status") == "held")
        assert line.books.written == ["a"] and ledger.held("a") == 1
        line.send("b")
        await until(lambda: "b" in ledger.told)
        ledger.publish_place(2)
        await until(lambda: ledger.requests["b"]["status"] == "held")
        assert line.books.written == ["a", "b"]  # what is written is not sent to the ledger again


async def test_one_that_its_sender_has_given_up_is_left_alone() -> None:
    """And it is logged, once a minute: if all come late, a clock is wrong."""
    line = Line()
    async with line.running() as ledger:
        ledger.publish_place(1)
        with capture_logs() as told:
            line.send("late", age=ARRIVES_S + 0.1)
            line.send("later", age=ARRIVES_S + 0.1)
            line.send("a")
            await until(lambda: "a" in ledger.requests)
        assert line.books.written == ["a"] and "late" not in ledger.requests
        assert [one["event"] for one in told] == ["matcher.arrival_late"]


async def test_one_that_nobody_writes_is_forgotten() -> None:
    line = Line()
    async with line.running() as ledger:
        # the matcher is busy with another claim for as long as the senders wait
        ledger.gate.clear()
        line.send("first")
        await until(lambda: bool(ledger.batches))
        line.send("a")
        line.send("b")
        await until(lambda: line.matcher.is_open("a") and line.matcher.is_open("b"))
        ledger.requests["b"] = {**_document(line, "b"), "status": "waiting"}
        ledger.announce(("requests", "open", "b", ledger.requests["b"]))  # its sender is there, and writes it
        await settled()
        line.clock.ahead += ARRIVES_S
        line.matcher.known.tidy()
        assert not line.matcher.is_open("a") and line.matcher.is_open("b")
        ledger.publish_place(1)
        ledger.publish_place(2)
        ledger.gate.set()
        await until(lambda: ledger.requests["b"]["status"] == "held")
        assert line.books.written == ["first"] and "a" not in ledger.requests


async def test_one_that_a_claim_may_have_written_is_not_forgotten() -> None:
    line = Line()
    async with line.running() as ledger:
        ledger.failures = 10**6  # claims are sent, and nobody says what became of them
        line.send("a")
        await until(lambda: line.matcher.is_open("a") and bool(ledger.batches))
        line.clock.ahead += ARRIVES_S
        line.matcher.known.tidy()
        assert line.matcher.is_open("a")
        ledger.publish_place(1)
        ledger.failures = 0
        await until(lambda: ledger.requests.get("a", {}).get("status") == "held")
        assert line.matcher.known.open.claimed == set()


async def test_a_seat_meant_for_who_does_not_wait_is_given_to_who_was_told_none() -> None:
    line = Line()
    async with line.running() as ledger:
        ledger.publish_place(1)
        ledger.ask("gone", quiet=True, tier="T0")
        ledger.requests["gone"]["status"] = "cancelled"
        ledger.ask("waits", quiet=True, tier="T3")
        gone = {**ledger.requests["gone"], "status": "waiting"}
        ledger.announce(("requests", "open", "gone", gone), ("requests", "open", "waits", ledger.requests["waits"]))
        await until(lambda: ledger.held("waits") == 1)


def _document(line: Line, name: str) -> dict[str, Any]:
    line.books.ask(name, quiet=True)
    return line.books.requests.pop(name)


async def test_one_that_cannot_be_written_does_not_end_the_matcher() -> None:
    line = Line()
    async with line.running() as ledger:
        ledger.publish_place(1)
        ledger.gate.clear()
        line.send("first")
        await until(lambda: bool(ledger.batches))
        # the next batch is one that is refused for one of its two
        line.books.refused = {"bad"}
        line.send("bad")
        ledger.ask("good")
        await until(lambda: line.matcher.is_open("bad") and line.matcher.is_open("good"))
        ledger.gate.set()
        await until(lambda: "good" in ledger.told or ledger.requests["good"]["status"] == "held")
        await settled()
        assert not line.matcher.is_open("bad") and line.books.written == ["first"]


async def test_one_whose_key_came_before_goes_nowhere() -> None:
    line = Line()
    async with line.running() as ledger:
        ledger.publish_place(1)
        ledger.ask("a", quiet=True)
        ledger.requests["a"]["status"] = "cancelled"
        line.bus.publish([])
        row = request_row(line.clock.now(), {**ledger.requests["a"], "id": "a"}, _once("a"))
        text = orjson.dumps(row).decode()
        line.bus.publish([Announcement(0, line.clock.now(), "69", "requests", ARRIVAL, "a", 1, "k1", (), text)])
        await until(lambda: line.watch.verdicts == ["not_waiting"])
        await asyncio.sleep(0.02)
        assert len(line.matcher.known.open) == 0 and line.matcher.known.open.arriving == {}
