"""Who is let in when more come than can be decided: by tier and age, never by chance; nobody is forgotten."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sas_matcher.api import admission
from sas_matcher.api.admission import Admission, Bulk
from sas_matcher.domain.errors import OverloadedError


class Door:
    """An admission and those who come to it, by name."""

    def __init__(self, at_once: int = 2, room: int = 3, urgent_extra: int = 1) -> None:
        self.admission = Admission(at_once, room, urgent_extra)
        self.inside: list[str] = []
        self.refused: dict[str, OverloadedError] = {}
        self._go: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, *names: str) -> None:
        """Let callers come one after the other; a name begins with its tier."""
        for name in names:
            self._go[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._call(name))
            await settle()

    async def _call(self, name: str) -> None:
        try:
            async with self.admission.admit(name[:2], ("key", name)):
                self.inside.append(name)
                await self._go[name].wait()
                self.inside.remove(name)
        except OverloadedError as error:
            self.refused[name] = error

    async def go(self, *names: str) -> None:
        """Let some be done."""
        for name in names:
            self._go[name].set()
            await settle()

    async def hang_up(self, name: str) -> None:
        self._tasks[name].cancel()
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door()
    yield door
    for task in door._tasks.values():
        task.cancel()
    await asyncio.gather(*door._tasks.values(), return_exceptions=True)
    assert (door.admission.working, door.admission.waiting) == (0, 0)


async def test_who_waits_goes_in_by_tier_and_then_by_age(door: Door) -> None:
    await door.come("T2a", "T3b", "T3c", "T2d", "T2e")
    assert door.inside == ["T2a", "T3b"]
    await door.go("T2a")
    assert door.inside == ["T3b", "T2d"]
    await door.go("T3b")
    assert door.inside == ["T2d", "T2e"]
    await door.go("T2d")
    assert door.inside == ["T2e", "T3c"]


async def test_urgent_requests_do_not_wait_behind_others(door: Door) -> None:
    await door.come("T3a", "T3b", "T2c", "T1d")
    assert door.inside == ["T3a", "T3b", "T1d"]
    # beyond the extra they wait as well, first
    await door.come("T0e")
    assert "T0e" not in door.inside
    await door.go("T3a")
    assert door.inside == ["T3b", "T1d", "T0e"]


async def test_a_full_room_refuses_the_least_urgent_and_youngest_whoever_came(door: Door) -> None:
    await door.come("T2a", "T2b", "T3c", "T3d", "T2e")
    await door.come("T2f")
    assert list(door.refused) == ["T3d"]
    await door.come("T2g")
    assert list(door.refused) == ["T3d", "T3c"]
    await door.come("T3h")
    assert list(door.refused) == ["T3d", "T3c", "T3h"]
    error = door.refused["T3h"]
    assert (error.status, error.code) == (503, "overloaded")
    assert error.extra["retry_after"] >= 1 and "Idempotency-Key" in error.detail
    # and whoever is urgent pushes out one that is not
    await door.come("T1i", "T1j")
    assert list(door.refused) == ["T3d", "T3c", "T3h", "T2g"]


async def test_when_to_come_back_hangs_on_how_fast_others_are_served_not_on_quiet_minutes_before(door: Door) -> None:
    """Told after a quiet morning to come back in half a minute, a crowd left an idle service waiting for it."""
    for number in range(30):
        await door.come(f"T2-{number}")
        await asyncio.sleep(0.02)
        await door.go(f"T2-{number}")
    quiet = door.admission._gap_s
    assert quiet == 1 / 400
    await door.come("T2a", "T2b", "T2c")
    for gone in ("T2a", "T2b"):
        await asyncio.sleep(0.1)
        await door.go(gone)
    # from the first departure on somebody waited: the second one counts
    assert door.admission._gap_s > quiet
    assert door.admission._gap_s < 0.1


async def test_who_comes_back_is_as_old_as_the_first_try(door: Door) -> None:
    await door.come("T2a", "T2b", "T2c", "T2d", "T2e", "T2x")
    assert list(door.refused) == ["T2x"]
    await door.go("T2a")
    await door.come("T2y", "T2x")
    # the room was full again: the younger one leaves
    assert list(door.refused) == ["T2x", "T2y"]
    await door.go("T2b", "T2c", "T2d")
    assert door.inside == ["T2e", "T2x"]


async def test_nobody_waits_for_ever(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PATIENCE_S", 0.01)
    await door.come("T2a", "T2b", "T3c")
    await door._tasks["T3c"]
    assert "T3c" in door.refused
    assert door.admission.waiting == 0


async def test_fewer_are_let_in_while_they_take_too_long_and_more_when_they_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door = Door(at_once=40, room=200, urgent_extra=20)
    monkeypatch.setattr(admission, "TARGET_S", -1.0)
    for number in range(60):
        await door.come(f"T2-{number}")
        await door.go(f"T2-{number}")
    await door.come(*(f"T2+{number}" for number in range(40)), *(f"T1-{number}" for number in range(30)))
    # never fewer than some, and urgent ones half as many again
    assert (len(door.inside), door.inside[-1]) == (admission.FEWEST + 8, "T1-7")
    monkeypatch.setattr(admission, "TARGET_S", 60.0)
    for _ in range(800):
        name = door.inside[0]
        await door.go(name)
        await door.come(f"T2*{name}"[:24] + str(_))
    assert len([name for name in door.inside if name.startswith("T2")]) == 40
    for task in door._tasks.values():
        task.cancel()
    await asyncio.gather(*door._tasks.values(), return_exceptions=True)


async def test_who_hangs_up_leaves_the_place_to_the_next(door: Door) -> None:
    await door.come("T2a", "T2b", "T2c", "T2d")
    await door.hang_up("T2c")
    await door.hang_up("T2a")
    assert door.inside[-1] == "T2d" and door.admission.working == 2


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_the_bounds_hold_and_nobody_less_urgent_goes_first(seed: int) -> None:
    rng = random.Random(seed)
    door = Door(at_once=3, room=5, urgent_extra=2)
    for number in range(120):
        word = rng.random()
        if word < 0.6:
            await door.come(f"{rng.choice(['T0', 'T1', 'T2', 'T3'])}-{number}")
        elif door.inside and word < 0.95:
            await door.go(rng.choice(door.inside))
        elif door.admission.waiting:
            waiting = [n for n, t in door._tasks.items() if not t.done() and n not in door.inside]
            await door.hang_up(rng.choice(waiting))
        assert door.admission.working == len(door.inside) <= 5
        assert door.admission.waiting <= 5
        assert sum(name[:2] in ("T2", "T3") for name in door.inside) <= 3 + 2
    for name in list(door._go):
        await door.go(name)
    await asyncio.gather(*door._tasks.values(), return_exceptions=True)
    assert (door.admission.working, door.admission.waiting, door.inside) == (0, 0, [])
    done = sum(task.done() for task in door._tasks.values())
    assert done == len(door._tasks)


async def test_large_bodies_wait_for_one_another_and_too_many_are_told_when_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Bulk, "AT_ONCE", 1)
    monkeypatch.setattr(Bulk, "ROOM", 1)
    bulk, order, go = Bulk(), [], asyncio.Event()

    @asynccontextmanager
    async def upload(name: str) -> AsyncIterator[None]:
        async with bulk.turn():
            order.append(name)
            yield

    async def work(name: str) -> None:
        async with upload(name):
            await go.wait()

    tasks = [asyncio.create_task(work(name)) for name in ("a", "b")]
    await settle()
    assert order == ["a"]
    with pytest.raises(OverloadedError) as refused:
        async with upload("c"):
            pass
    assert refused.value.extra["retry_after"] == Bulk.RETRY_S
    go.set()
    await asyncio.gather(*tasks)
    assert order == ["a", "b"]
    async with upload("d"):
        assert order[-1] == "d"
