"""A request is told before its decision only once it is safe from a crash; with its decision it is so already."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import pytest

from sas_matcher.api import waiting
from sas_matcher.api.waiting import ask_and_wait
from sas_matcher.api.wire import Wire
from sas_matcher.ports.ledger import Idempotency, Outcome

ONCE = Idempotency("key", "once", b"body")
UNDECIDED = {"status": "waiting", "decision": None}
HELD = {"status": "held", "decision": {"reasons": []}}


class Desk:
    """A worker's services: what is known of a request, what is pushed, and the order in which the ledger was asked."""

    def __init__(self, known: dict[str, Any], pushed: dict[str, Any] | None, word: str, *, sent: bool = False) -> None:
        self.asked: list[str] = []
        self.following, self._sent = True, sent
        self._known, self._pushed, self._word = known, pushed, word
        self.hub = self.admission = self.regulating = self.arrivals = self

    @asynccontextmanager
    async def admit(self, *_: object) -> Any:
        yield

    def expect(self, *_: object) -> "asyncio.Future[bytes]":
        future = asyncio.get_running_loop().create_future()
        if self._pushed is not None:
            future.set_result(orjson.dumps(self._pushed))
        return future

    def release(self, *_: object) -> None:
        pass

    def sent(self, *_: object) -> None:
        return None

    def send(self, *_: object) -> bool:
        return self._sent

    async def ask(self, *_: object) -> Outcome:
        self.asked.append("ask")
        return Outcome(self._word, "r1", replayed=self._word == "replayed")

    async def document(self, *_: object) -> str:
        self.asked.append("document")
        return orjson.dumps(self._known).decode()

    async def secure(self) -> None:
        self.asked.append("secure")


@pytest.mark.parametrize(
    ("known", "pushed", "word", "asked"),
    [
        (UNDECIDED, HELD, "created", ["ask"]),
        (UNDECIDED, None, "created", ["ask", "document", "secure"]),
        (HELD, None, "created", ["ask", "document"]),
        (HELD, None, "replayed", ["ask", "document"]),
        (UNDECIDED, HELD, "replayed", ["ask", "document"]),
        (UNDECIDED, None, "replayed", ["ask", "document", "secure"]),
    ],
)
async def test_what_is_told_is_safe(
    known: dict[str, Any],
    pushed: dict[str, Any] | None,
    word: str,
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "WAIT_S", 0.01)
    desk = Desk(known, pushed, word)
    told = await ask_and_wait(cast(Wire, desk), {"id": "r1", "tier": "T1"}, ONCE)
    assert desk.asked == asked
    assert told.decided == (known is HELD or pushed is not None)
    assert told.replayed == (word == "replayed")


@pytest.mark.parametrize(
    ("pushed", "word", "asked"),
    [
        (HELD, "created", []),  # it was committed with its decision
        (None, "created", ["ask", "document", "secure"]),
        (None, "replayed", ["ask", "document", "secure"]),
    ],
)
async def test_what_was_sent_and_not_decided_is_committed(
    pushed: dict[str, Any] | None, word: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "WAIT_S", 0.02)
    monkeypatch.setattr(waiting, "PATIENCE_S", 0.01)
    desk = Desk(UNDECIDED, pushed, word, sent=True)
    told = await ask_and_wait(cast(Wire, desk), {"id": "r1", "tier": "T1"}, ONCE)
    assert (desk.asked, told.decided, told.replayed) == (asked, pushed is not None, word == "replayed")


async def test_nothing_is_sent_while_nothing_is_heard() -> None:
    desk = Desk(UNDECIDED, HELD, "created", sent=True)
    desk.following = False
    await ask_and_wait(cast(Wire, desk), {"id": "r1", "tier": "T1"}, ONCE)
    assert desk.asked == ["ask"]
