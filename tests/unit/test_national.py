"""The sender of INT_R03 against a platform that fails: each change delivered, in order, again as an update."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sas_matcher.ports.sending import Delivery, Message, MessageState
from sas_matcher.services.national import BACK_OFF, KEPT, NO_OPERATOR_S, Sending
from sas_matcher.services.publish import HORIZON
from sas_matcher.services.sending import AT_ONCE, LEASE, back_off
from tests.sending_cases import send_due

NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)
MESSAGE = Message(
    1, "b", 1, "booked", "69", "10000000001", False, NOW, NOW + timedelta(minutes=15), NOW, 1, "urn:oid:1", "x"
)


@dataclass
class Clock:
    at: datetime = NOW

    def now(self) -> datetime:
        return self.at


@dataclass
class Queue:
    """One message after the other; what was settled."""

    due: list[Message]
    settled: list[tuple[Any, ...]] = field(default_factory=list)

    async def claim(self, now: datetime, until: datetime, limit: int) -> list[Message]:
        assert until == now + LEASE and limit > 0
        due, self.due = self.due, []
        return due

    async def settle(
        self, message: Message, now: datetime, state: MessageState, next_at: datetime | None, told: Delivery
    ) -> bool:
        self.settled.append((message.id, state, next_at, told.detail, told.remote))
        return True

    async def counts(self, now: datetime) -> dict[str, tuple[int, float]]:
        return {}

    async def forget(self, before: datetime) -> None:
        self.settled.append(("forget", before))


@dataclass
class Platform:
    answer: Delivery
    heard: list[tuple[Message, bool]] = field(default_factory=list)

    async def tell(self, message: Message, *, first: bool) -> Delivery:
        self.heard.append((message, first))
        return self.answer


@dataclass
class Watch:
    words: list[str] = field(default_factory=list)

    def told(self, word: str) -> None:
        self.words.append(word)

    def queue(self, counts: dict[str, tuple[int, float]]) -> None:
        raise AssertionError("not asked here")


async def send(
    message: Message, answer: Delivery, operator: tuple[str, str] | None = None
) -> tuple[Queue, Platform, Watch]:
    queue, platform, watch = Queue([message]), Platform(answer), Watch()
    assert await send_due(Sending(queue, platform, Clock(), watch, operator)) == 1
    return queue, platform, watch


async def test_a_change_that_is_taken_is_done() -> None:
    queue, platform, watch = await send(MESSAGE, Delivery("taken", None, "https://p.example/Appointment/9"))
    assert queue.settled == [(1, "sent", None, None, "https://p.example/Appointment/9")]
    assert platform.heard == [(MESSAGE, True)] and watch.words == ["taken"]


async def test_what_may_have_arrived_is_sent_again_as_an_update() -> None:
    for changed in (MESSAGE._replace(tries=2), MESSAGE._replace(number=2)):
        _, platform, _ = await send(changed, Delivery("taken"))
        assert platform.heard[0][1] is False


async def test_a_failure_waits_longer_each_time_and_is_never_given_up() -> None:
    waits = []
    for tries in (1, 2, 3, 8, 50):
        message = MESSAGE._replace(tries=tries)
        queue, _, _ = await send(message, Delivery("again", "503"))
        ((_, state, next_at, error, _),) = queue.settled
        assert (state, error) == ("waiting", "503")
        waits.append(next_at - NOW)
        assert next_at == NOW + back_off(message, BACK_OFF)
    assert waits == sorted(waits) and waits[0] >= timedelta(seconds=1) and waits[-1] <= timedelta(minutes=10)
    assert len({back_off(MESSAGE._replace(id=n), BACK_OFF) for n in range(16)}) == 16, "not all at the same instant"


async def test_a_refusal_is_not_repeated_and_stays_visible() -> None:
    queue, _, watch = await send(MESSAGE, Delivery("refused", "422 participant : absent"))
    assert queue.settled == [(1, "refused", None, "422 participant : absent", None)] and watch.words == ["refused"]


async def test_without_an_operator_it_waits_for_one() -> None:
    nobody = MESSAGE._replace(system=None, value=None)
    queue, platform, _ = await send(nobody, Delivery("taken"))
    assert queue.settled == [(1, "waiting", NOW + timedelta(seconds=NO_OPERATOR_S), "no_operator", None)]
    assert platform.heard == []
    _, platform, _ = await send(nobody, Delivery("taken"), ("urn:oid:2", "y"))
    assert (platform.heard[0][0].system, platform.heard[0][0].value) == ("urn:oid:2", "y")
    _, platform, _ = await send(MESSAGE, Delivery("taken"), ("urn:oid:2", "y"))
    assert platform.heard[0][0].value == "x", "the key's own operator comes first"


async def test_what_is_over_is_forgotten_but_never_before_its_booking_may_end() -> None:
    queue = Queue([])
    await Sending(queue, Platform(Delivery("taken")), Clock(), Watch()).forget_old()
    assert queue.settled == [("forget", NOW - KEPT)] and HORIZON + timedelta(days=7) < KEPT


@pytest.mark.faults("national.message")
async def test_what_nobody_foresaw_of_one_ends_neither_the_sender_nor_the_others() -> None:
    class Breaking(Platform):
        async def tell(self, message: Message, *, first: bool) -> Delivery:
            if message.id == 1:
                raise RuntimeError("unexpected")
            return await super().tell(message, first=first)

    queue = Queue([MESSAGE, MESSAGE._replace(id=2, booking_id="c")])
    await send_due(Sending(queue, Breaking(Delivery("taken")), Clock(), Watch()))
    assert [entry[:2] for entry in queue.settled] == [(1, "waiting"), (2, "sent")]
    assert "RuntimeError" in queue.settled[0][3]


async def test_one_that_takes_its_time_keeps_nobody_else_waiting() -> None:
    """As many as may be are under way; whoever is told makes room at once, and what is cut off is nobody's any more."""
    slow, told = asyncio.Event(), asyncio.Event()

    class Slow(Platform):
        async def tell(self, message: Message, *, first: bool) -> Delivery:
            if message.id < AT_ONCE:
                await slow.wait()
            return await super().tell(message, first=first)

    class Full(Queue):
        """A queue that gives no more than is asked for."""

        async def claim(self, now: datetime, until: datetime, limit: int) -> list[Message]:
            due, self.due = self.due[:limit], self.due[limit:]
            return due

        async def settle(self, message: Message, *rest: Any) -> bool:
            if message.id == 3 * AT_ONCE:
                told.set()
            return await super().settle(message, *rest)

    queue = Full([MESSAGE._replace(id=n, booking_id=f"b{n}") for n in range(1, 3 * AT_ONCE + 1)])
    sending = Sending(queue, Slow(Delivery("taken")), Clock(), Watch())
    work = asyncio.create_task(sending._send_forever())
    await asyncio.wait_for(told.wait(), 5)
    assert sorted(entry[0] for entry in queue.settled) == [*range(AT_ONCE, 3 * AT_ONCE + 1)]
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    slow.set()
    await asyncio.sleep(0.01)
    assert not any(entry[0] == 1 for entry in queue.settled)
