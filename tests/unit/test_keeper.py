"""Housekeeping outlasts what fails in it: one step that fails takes neither the others nor the matcher with it."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from sas_matcher.domain.errors import UnavailableError
from sas_matcher.services import keeper as keeping
from sas_matcher.services.keeper import Keeper

NOW = datetime(2026, 11, 27, 8, tzinfo=UTC)


class World:
    """Ledger, bus, relay, clock and ids in one: counts what is called, and fails in what it is told to."""

    def __init__(self, **failures: Exception) -> None:
        self.failures = failures
        self.called: dict[str, int] = {}

    def now(self) -> datetime:
        return NOW

    def uuid(self) -> str:
        return "u"

    def __getattr__(self, name: str) -> Any:
        async def step(*args: Any) -> Any:
            self.called[name] = self.called.get(name, 0) + 1
            if name in self.failures:
                raise self.failures[name]
            return {"begin_epoch": "e", "live_territories": []}.get(name, [] if name == "ready_for" else 0)

        return step


async def kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_TIDY_S", "_EPOCH_S", "_PURGE_S"):
        monkeypatch.setattr(keeping, name, 0.001)
    anything = cast(Any, world)
    work = asyncio.create_task(Keeper(anything, anything, anything, anything, anything).run())
    await asyncio.sleep(0.1)
    assert not work.done()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


@pytest.mark.faults("keeper.sweep")
async def test_what_cannot_be_published_keeps_nothing_else_from_being_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of the outbox that no bus takes would else end the core again and again."""
    world = World(sweep=RuntimeError("unexpected"))
    await kept(world, monkeypatch)
    assert (
        min(world.called[name] for name in ("sweep", "lapse_holds", "open_for_all", "begin_epoch", "forget_exposures"))
        > 1
    )


@pytest.mark.faults("keeper.tidy")
async def test_what_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(settle_acceptance=RuntimeError("unexpected"))
    await kept(world, monkeypatch)
    assert min(world.called[name] for name in ("settle_acceptance", "sweep", "forget_idempotency")) > 1


async def test_a_store_that_is_away_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(sweep=UnavailableError("Redis"), begin_epoch=UnavailableError("Redis"))
    await kept(world, monkeypatch)
    assert min(world.called[name] for name in ("sweep", "begin_epoch", "lapse_holds")) > 1
