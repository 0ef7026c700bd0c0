"""The matcher and its desks while settings change: nothing that is being committed is lost, nobody decides for two."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from adapters.geo import Gazetteer
from adapters.memory import MemoryBus, MemoryLedger
from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.commitment import PRESETS
from sas_matcher.matching.planning import FieldPlan, Planner, Task
from sas_matcher.matching.terms import Terms
from sas_matcher.matching.territory import TerritoryDesk
from sas_matcher.ports.ledger import Announcement, Claim, Idempotency, SettingChange
from sas_matcher.replay.expected import EXPECTED, ExpectedDays
from sas_matcher.replay.history import KnownDays, one_landmass
from sas_matcher.replay.run import Inbox
from sas_matcher.services.matcher.desks import RETRY_S, Desks
from sas_matcher.services.matcher.holding import History
from sas_matcher.services.matcher.match import Matcher
from tests.ledger_cases import KEY, NOW, TERRITORY, StillClock, TwinDesk, new_id, slot_row

GO_ON_S = 5.0


class GatedLedger(MemoryLedger):
    """A ledger whose claims wait for a gate, as those of a busy one do."""

    gate: asyncio.Event
    asked: asyncio.Event
    full: asyncio.Event

    async def live_records(self, now: datetime, territory: str) -> list[Any]:
        records = await super().live_records(now, territory)
        await self.full.wait()
        return records

    async def claim(
        self, now: datetime, fences: Mapping[str, int], claims: Sequence[Claim]
    ) -> tuple[list[str], list[Announcement]]:
        self.asked.set()
        await self.gate.wait()
        return await super().claim(now, fences, claims)


class Numbers:
    """Ids one after the other."""

    def uuid(self) -> str:
        return new_id()


class Stage:
    """A matcher at the twins, for one territory, that is told of what happens by hand."""

    def __init__(self, history: History | None = None) -> None:
        self.clock, self.inbox = StillClock(NOW), Inbox()
        self.ledger = GatedLedger(self.inbox, self.clock)
        self.ledger.gate, self.ledger.asked, self.ledger.full = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.ledger.gate.set()
        self.ledger.full.set()
        self.people = TwinDesk(self.ledger, self.clock)
        self.matcher = Matcher(
            ledger=self.ledger,
            bus=MemoryBus(self.clock),
            clock=self.clock,
            ids=Numbers(),
            holder="matcher",
            territories=[TERRITORY],
            zone_of=lambda _: UTC,
            landmass_of=lambda _: 0,
            history=history,
        )

    async def begin(self) -> None:
        await self.people.add_key(KEY)
        await self.setting("promise")
        await self.matcher.load()

    async def setting(self, policy: str) -> None:
        change = SettingChange(TERRITORY, {"policy": dict.fromkeys(map(str, Tier), policy)}, "test")
        once = Idempotency(KEY, new_id(), b"")
        assert (await self.ledger.change_setting(self.clock.now(), change, once)).word == "changed"

    async def step(self) -> None:
        """Hear, decide, hear again."""
        for _ in range(3):
            self.matcher.hear(self.inbox.take())
            await self.matcher.step()


@pytest.fixture
async def stage() -> Stage:
    made = Stage()
    await made.begin()
    return made


async def test_a_promise_that_is_being_committed_is_known_to_the_desk_that_comes_after(stage: Stage) -> None:
    """The policy changes between the claim and the ledger's word."""
    await stage.people.publish(slot_row("a", at=120))
    request = await stage.people.ask()
    stage.matcher.hear(stage.inbox.take())
    stage.ledger.asked.clear()
    stage.ledger.gate.clear()
    deciding = asyncio.create_task(stage.matcher.step())
    await asyncio.wait_for(stage.ledger.asked.wait(), GO_ON_S)
    await stage.setting("firm")
    changing = asyncio.create_task(stage.matcher.refresh())
    await asyncio.sleep(0.05)
    stage.ledger.gate.set()
    await asyncio.wait_for(asyncio.gather(deciding, changing), GO_ON_S)
    assert await stage.people.status(request) == "promised"
    await stage.step()
    # a promise wants a desk, whatever the policy; it tells it in time
    await stage.matcher.refresh()
    stage.clock.instant = NOW + timedelta(minutes=90)
    await stage.step()
    assert await stage.people.status(request) == "firm"
    assert (await stage.people.document(request))["promise"]["broken"] == 0


async def test_the_old_desk_decides_until_the_new_one_knows_its_places(stage: Stage) -> None:
    """A call that comes while a desk is being filled is answered as before, not told that there is nothing."""
    await stage.people.publish(slot_row("a", at=120), slot_row("b", at=140))
    await stage.step()
    stage.ledger.full.clear()
    changing = asyncio.create_task(stage.matcher.open_desks_anew())
    await asyncio.sleep(0.05)
    request = await stage.people.ask()
    await stage.people.publish(slot_row("c", at=150))
    await stage.step()
    assert await stage.people.status(request) == "promised"
    stage.ledger.full.set()
    await asyncio.wait_for(changing, GO_ON_S)
    # what was published meanwhile is known to the new one, and the seat that was promised is not given twice
    for _ in range(2):
        other = await stage.people.ask()
        await stage.step()
        assert await stage.people.status(other) == "promised"
    documents = [r.booking_id for r in stage.ledger.tables.requests.values()]
    assert len({stage.ledger.tables.bookings[str(b)].slot_id for b in documents}) == 3


async def test_a_territory_that_another_matcher_has_now_has_no_desk_here(stage: Stage) -> None:
    await stage.people.publish(slot_row("a", at=120))
    await stage.people.ask()
    await stage.step()
    stage.matcher.known.fences = {}
    await stage.matcher.refresh()
    assert stage.matcher.due() == float("inf")


def nothing_recorded() -> ExpectedDays:
    geography = Gazetteer.load()
    return ExpectedDays(KnownDays([], {}), geography.communes_of, geography.territories, one_landmass)


async def the_one_place(stage: Stage) -> tuple[str, str, Any]:
    """On a busy morning a T2 calls for the only place, a T1 an hour later: how they are, and what the T2 heard."""
    await stage.begin()
    await stage.setting("auto")
    await stage.matcher.refresh()
    await stage.people.publish(slot_row("a", at=150))
    for _ in range(100):  # for other things; so many calls so early say how busy the day will be
        await stage.people.ask(profession="DENT")
    await stage.step()
    await stage.matcher.foresee()
    await stage.step()
    today = await stage.people.ask(tier="T2", deadline=NOW + timedelta(hours=12))
    await stage.step()
    heard = (await stage.people.document(today))["decision"]
    stage.clock.instant = NOW + timedelta(hours=1)
    urgent = await stage.people.ask(deadline=NOW + timedelta(hours=5))
    await stage.step()
    return await stage.people.status(today), await stage.people.status(urgent), heard


async def test_an_urgent_patient_finds_the_place_that_was_kept_as_the_model_expects_him() -> None:
    today, urgent, heard = await the_one_place(Stage(nothing_recorded()))
    assert (today, urgent) == ("waiting", "promised")
    assert heard["none"]["reason"] == "KEPT_FOR_OTHERS"
    assert heard["learned_days"] == {"recorded": 0, "expected": EXPECTED}, "it does not pretend to have learned"


async def test_where_nothing_is_expected_the_place_is_gone() -> None:
    today, urgent, heard = await the_one_place(Stage())
    assert (today, urgent) == ("promised", "waiting")
    assert heard["learned_days"] == {"recorded": 0, "expected": 0}


async def test_a_territory_that_nobody_called_draws_nothing_and_one_that_was_called_once_for_each_desk() -> None:
    drawn = []

    class Counted(ExpectedDays):
        def expect(self, territory: str, today: date) -> bool:
            drawn.append(today)
            return super().expect(territory, today)

    geography = Gazetteer.load()
    days = Counted(KnownDays([], {}), geography.communes_of, geography.territories, one_landmass)
    stage = Stage(days)
    await stage.begin()
    await stage.matcher.foresee()
    assert drawn == []
    await stage.people.ask()
    await stage.step()
    for _ in range(2):
        await stage.matcher.foresee()
    assert drawn == [NOW.date()]
    await stage.setting("auto")
    await stage.matcher.refresh()
    for _ in range(2):
        await stage.matcher.foresee()
    assert drawn == [NOW.date()] * 2, "what is set opens another desk, which begins without"
    stage.clock.instant = NOW + timedelta(days=1)
    await stage.matcher.refresh()
    await stage.people.ask(deadline=NOW + timedelta(days=1, hours=2))
    await stage.step()
    await stage.matcher.foresee()
    assert drawn == [NOW.date()] * 2 + [NOW.date() + timedelta(days=1)]


@pytest.mark.faults("matcher.desk")
@pytest.mark.parametrize("step", ["answer", "task", "adopt"])
async def test_a_desk_that_fails_is_closed_and_who_it_had_is_decided_without(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """It must not keep the others from deciding; the next refresh opens a new one."""
    await stage.people.publish(slot_row("a", at=120), slot_row("b", at=140))
    await stage.step()
    desk = stage.matcher.known.desks[TERRITORY]
    monkeypatch.setattr(desk, "due", lambda: 0.0)  # so that a plan is made in the next round

    def broken(*args: Any, **more: Any) -> Any:
        raise RuntimeError("unexpected")

    monkeypatch.setattr(desk, step, broken)
    request = await stage.people.ask()
    await stage.step()
    assert await stage.people.status(request) == "held" and TERRITORY not in stage.matcher.known.desks
    await stage.matcher.refresh()
    other = await stage.people.ask()
    await stage.step()
    assert await stage.people.status(other) == "promised"


@pytest.mark.faults("matcher.plan")
async def test_a_planner_that_fails_is_asked_again_after_a_while() -> None:
    """Not at once and for ever: calls are answered at the old prices meanwhile."""

    class Breaking:
        asked = 0

        async def plan(self, key: str, planner: Planner, task: Task) -> list[FieldPlan]:
            self.asked += 1
            raise RuntimeError("unexpected")

    now, planner, woken = NOW.timestamp(), Breaking(), asyncio.Event()
    desks, desk = Desks(planner, woken.set), TerritoryDesk(now, 0, Terms(), PRESETS["promise"])
    desks.prepare(TERRITORY, desk)
    desks.open(TERRITORY)
    await desks._plan(TERRITORY, desk, desk.task(now), now, planner)
    assert woken.is_set() and planner.asked == 1 and desks.due() >= now + RETRY_S
