"""The desks of the running service: calls are answered while a plan is made, and the plan yields to what happened."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from adapters.solving import ProcessSolver
from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.book import BEYOND_S
from sas_matcher.matching.candidates import Candidates, OpenRequest, find_candidates
from sas_matcher.matching.commitment import PRESETS, Commitment
from sas_matcher.matching.forecast import HistoryDay
from sas_matcher.matching.market import Market
from sas_matcher.matching.pairs import Codes, Requests, Slots
from sas_matcher.matching.places import PlaceRow, site_json
from sas_matcher.matching.planning import FieldPlan, Planner, Task
from sas_matcher.matching.sharing import RELEASE_S, lots
from sas_matcher.matching.terms import Terms
from sas_matcher.matching.territory import Decision, TerritoryDesk
from sas_matcher.services.matcher.desks import RETRY_S, Desks, PlanLateError, PlannerProcess

MIDNIGHT = datetime(2026, 1, 12, tzinfo=UTC).timestamp()
NOW = MIDNIGHT + 10 * 3600
LAT, LON = 45.76, 4.84


def place(slot_id: int, minutes: float, left: int = 1, version: int = 1) -> PlaceRow:
    start = int(NOW + 60 * minutes)
    where = (start, start + 900, LAT, LON)
    return PlaceRow(
        slot_id, *where, (), left, left, f"p{slot_id}", None, "MG", "cabinet", False, 0, version, slot_id, b"{}"
    )


def request(name: str, tier: Tier = Tier.T2, created_at: float = NOW, minutes: float = 600) -> OpenRequest:
    return OpenRequest(
        id=name, key=hash(name) & 0xFFFF, territory="69", lat=LAT, lon=LON, landmass=0, profession="MG", specialty=None,
        modes=("cabinet",), tier=tier, created_at=created_at, deadline=NOW + 60 * minutes, radius_km=30.0, needs=(),
        mt=None, version=1,
    )  # fmt: skip


def earlier_day(codes: Codes) -> list[HistoryDay]:
    """A day on which thirty urgent calls came in the afternoon, for want of any place."""
    asked = Requests()
    for n in range(30):
        asked.append(
            created=(14 * 60 + n) * 60.0, lat=LAT, lon=LON, deadline=20 * 3600.0, radius_km=30.0, value=40_000,
            wait_weight=1.0, profession=codes.name("MG"), modes=1, need=codes.need(()), mt=-1, tier=0, specialty=-1,
            landmass=0,
        )  # fmt: skip
    return [HistoryDay(asked, Slots(), 0)]


class Scene:
    """One territory's desk among the desks, its market, and a ledger that always says yes."""

    def __init__(
        self,
        policy: Commitment,
        elsewhere: PlannerProcess | None = None,
        *,
        learned: bool = False,
        terms: Terms | None = None,
    ) -> None:
        self.market, self.woken = Market(), asyncio.Event()
        self.desks = Desks(elsewhere, self.woken.set)
        history = earlier_day if learned else lambda _: []
        self.desk = TerritoryDesk(MIDNIGHT, 0, terms or Terms(), policy, history, market=self.market)
        self.desks.prepare("69", self.desk)
        self.desks.open("69")
        self.said: list[Decision] = []

    def publish(self, *places: PlaceRow, now: float = NOW) -> None:
        self.market.put(places)
        for row in places:
            self.desks.place("69", now, row)

    def found(self, who: OpenRequest, now: float) -> Candidates:
        return find_candidates(self.market, who, now, Terms(), full=True)

    def call(self, *asked: OpenRequest, now: float = NOW) -> list[Decision]:
        for who in asked:
            self.desks.take_in(now, who, self.found(who, now))
        return self.decide(now)

    def decide(self, now: float) -> list[Decision]:
        decided = [decision for _, decision in self.desks.decide(now).decisions]
        words = {"promise": "promised", "move": "moved", "firm": "held", "displace": "displaced", "none": "told"}
        for decision in decided:
            told = decision.what == "firm" and self.desk.is_kept(decision.request_id)
            self.desk.settle(decision, "told_firm" if told else words[decision.what])
            if decision.what in ("promise", "firm") and decision.slot_id is not None and not told:
                left = self.market.left_of(decision.slot_id) - 1
                self.market.set_left(decision.slot_id, left, 10**9 + len(self.said))
                self.desks.left(decision.slot_id, left)
            self.said.append(decision)
        return decided


class Slow:
    """Makes plans when it is told to."""

    def __init__(self) -> None:
        self.go, self.asked = asyncio.Event(), 0
        self.fails = False

    async def plan(self, key: str, planner: Planner, task: Task) -> list[FieldPlan]:
        self.asked += 1
        await self.go.wait()
        if self.fails:
            raise PlanLateError(key)
        return planner.plan(task)


def of(decided: list[Decision], what: str) -> list[str]:
    return [decision.request_id for decision in decided if decision.what == what]


async def test_a_call_is_answered_while_a_plan_is_made() -> None:
    slow = Slow()
    scene = Scene(PRESETS["promise"], slow, learned=True)
    scene.publish(place(1, 300), place(2, 320))
    assert scene.decide(NOW) == [] and not scene.desks.has_work(NOW)
    await asyncio.sleep(0)
    assert slow.asked == 1
    # before there is a price, who calls is told at once
    assert of(scene.call(request("a")), "promise") == ["a"]
    slow.go.set()
    await asyncio.wait_for(scene.woken.wait(), 5)
    assert scene.desks.has_work(NOW + 1)
    assert of(scene.decide(NOW + 1), "displace") == []
    # thirty urgent calls are expected for two places: the next one waits
    assert scene.desk.price(2) is not None
    assert of(scene.call(request("b"), now=NOW + 2), "none") == ["b"]


async def test_a_plan_that_does_not_come_is_asked_for_again_later() -> None:
    slow = Slow()
    slow.fails = True
    scene = Scene(PRESETS["promise"], slow, learned=True)
    scene.publish(place(1, 300))
    scene.call(request("a"))
    slow.go.set()
    await asyncio.wait_for(scene.woken.wait(), 5)
    assert not scene.desks.has_work(NOW + RETRY_S - 1)
    scene.desk.left(1, 0)
    scene.desk.left(1, 1)
    later = NOW + 400
    assert scene.desks.has_work(later)
    scene.decide(later)
    await asyncio.sleep(0)
    assert slow.asked == 2


async def test_a_plan_that_comes_late_yields_to_what_has_happened() -> None:
    """The seat it meant for one who waits has been promised to who called meanwhile: nobody gets it twice."""
    slow = Slow()
    never = Commitment(regret=(0.05, -1.0, -1.0, -1.0))  # only the most urgent are told at once
    scene = Scene(never, slow, learned=True)
    scene.publish(place(1, 50))
    assert of(scene.call(request("waits", minutes=55)), "none") == ["waits"]
    await asyncio.sleep(0)
    assert slow.asked == 1
    urgent = scene.call(request("urgent", Tier.T0, minutes=55), now=NOW + 1)
    assert [d.slot_id for d in urgent if d.request_id == "urgent"] == [1]
    slow.go.set()
    await asyncio.wait_for(scene.woken.wait(), 5)
    scene.decide(NOW + 1200)
    assert [d.request_id for d in scene.said if d.slot_id == 1] == ["urgent"]


async def test_a_plan_that_comes_after_a_place_has_begun_sends_nobody_there() -> None:
    """Nobody decided for an hour: who was promised that place is not told of it any more."""
    slow = Slow()
    scene = Scene(PRESETS["promise"], slow, learned=True)
    scene.publish(place(1, 55), place(2, 300))
    assert of(scene.call(request("a", Tier.T0, minutes=60)), "promise") == ["a"]
    assert of(scene.call(request("b", Tier.T0, minutes=600)), "promise") == ["b"]
    await asyncio.sleep(0)
    slow.go.set()
    await asyncio.wait_for(scene.woken.wait(), 5)
    scene.decide(NOW + 1)
    slow.go.clear()
    scene.woken.clear()
    scene.decide(NOW + 600)  # the plan that has them both in it is begun
    await asyncio.sleep(0)
    assert slow.asked == 2
    slow.go.set()
    await asyncio.wait_for(scene.woken.wait(), 5)
    scene.decide(NOW + 3600)
    assert of(scene.said, "firm") == []
    assert scene.desk.is_kept("b")


async def test_for_whom_there_is_no_other_place_no_plan_is_made_again_and_again() -> None:
    """A practice takes the only place back: the plan that has nothing for him is no reason for another one."""
    slow = Slow()
    slow.go.set()
    scene = Scene(PRESETS["promise"], slow, learned=True)

    async def plan(now: float) -> None:
        scene.decide(now)
        await asyncio.wait_for(scene.woken.wait(), 5)
        scene.woken.clear()
        scene.decide(now + 1)

    scene.publish(place(1, 300))
    assert of(scene.call(request("a")), "promise") == ["a"]
    await plan(NOW + 1)
    scene.desks.gone(1)
    await plan(NOW + 10)
    assert scene.desk.is_kept("a") and not scene.desks.has_work(NOW + 12)


async def test_urgent_people_who_wait_are_promised_what_comes_and_the_others_wait_for_the_plan() -> None:
    """A place is published, or a seat comes free, hours ahead: no plan is due, and the urgent need not wait for one."""
    scene = Scene(PRESETS["promise"])
    scene.publish(place(1, 300))
    assert of(scene.call(request("first")), "promise") == ["first"]
    waiting = (request("urgent", Tier.T1), request("late", Tier.T0), request("patient", Tier.T3))
    assert of(scene.call(*waiting), "none") == ["late", "urgent", "patient"]
    scene.publish(place(2, 310), now=NOW + 5)
    assert scene.desks.has_work(NOW + 5)
    assert of(scene.decide(NOW + 5), "promise") == ["late"]
    scene.desk.close("first")
    scene.market.set_left(1, 1, 10**9 + 50)
    scene.desks.left(1, 1)
    assert scene.desks.has_work(NOW + 10)
    assert of(scene.decide(NOW + 10), "promise") == ["urgent"]
    scene.publish(place(3, 320), now=NOW + 15)
    scene.decide(NOW + 15)
    assert "patient" not in of(scene.said, "promise")


async def test_seats_that_come_free_beyond_the_territory_are_planned_for_together() -> None:
    """A hundred territories share what is given by video: each seat of it must not make all of them plan at once."""
    scene = Scene(PRESETS["promise"])
    scene.market.put([place(1, 300)])
    assert of(scene.call(request("a", Tier.T3)), "promise") == ["a"]
    scene.call(request("b", Tier.T3), now=NOW + 1)
    scene.decide(NOW + 2)
    assert not scene.desks.has_work(NOW + 3)
    scene.desks.left(1, 2)
    assert not scene.desks.has_work(NOW + 2)
    assert scene.desks.has_work(NOW + 2 + BEYOND_S)
    # two who were promised it, one seat left: somebody must move now
    scene.decide(NOW + 2 + BEYOND_S)
    scene.desks.left(1, 0)
    scene.desks.left(1, -1)
    assert scene.desks.has_work(NOW + 3 + BEYOND_S)


async def test_in_a_crisis_an_urgent_caller_does_not_wait_for_the_next_look() -> None:
    """All is promised to others: the plan that takes a place back for him is made at once."""
    scene = Scene(PRESETS["crisis"])
    scene.publish(place(1, 300), place(2, 310))
    assert of(scene.call(request("a", Tier.T3), request("b", Tier.T3)), "promise") == ["a", "b"]
    scene.decide(NOW + 1)
    decided = scene.call(request("urgent", Tier.T0), now=NOW + 2)
    assert scene.desks.has_work(NOW + 2)
    decided += scene.decide(NOW + 2)
    assert len(of(decided, "displace")) == 1
    assert of(decided, "promise") == ["urgent"]


def _all_promised_to_t3(terms: Terms | None = None) -> Scene:
    scene = Scene(PRESETS["crisis"], terms=terms)
    scene.publish(place(1, 300), place(2, 310))
    assert of(scene.call(request("a", Tier.T3), request("b", Tier.T3)), "promise") == ["a", "b"]
    return scene


@pytest.mark.parametrize("ageing_per_h", [0.0, 0.25])
async def test_in_a_crisis_urgent_people_alone_break_promises(ageing_per_h: float) -> None:
    """A T2 is worth twice a T3, and more for each hour that he waits; he takes no promised place all the same."""
    scene = _all_promised_to_t3(Terms(ageing_per_h=ageing_per_h))
    scene.call(request("t2", Tier.T2), now=NOW + 1)
    later = NOW + 2 * 3600
    assert of(scene.decide(later), "displace") == []
    decided = scene.call(request("t1", Tier.T1, created_at=later), now=later + 1)
    decided += scene.decide(later + 1)
    assert len(of(decided, "displace")) == 1
    assert of(decided, "promise") == ["t1"]


async def test_in_a_crisis_no_promise_is_broken_for_an_equal_who_is_nearer() -> None:
    scene = Scene(PRESETS["crisis"])
    scene.publish(place(1, 200))
    far = replace(request("far", Tier.T1), lat=LAT + 0.2)
    assert of(scene.call(far), "promise") == ["far"]
    scene.call(request("near", Tier.T1), now=NOW + 1)
    decided = scene.decide(NOW + 1)
    assert scene.desk.is_kept("far") and of(decided, "displace") == []


async def test_a_shut_desk_hears_no_more_of_its_plan() -> None:
    slow = Slow()
    scene = Scene(PRESETS["promise"], slow, learned=True)
    scene.publish(place(1, 300))
    scene.call(request("a"))
    scene.desks.shut("69")
    slow.go.set()
    await asyncio.sleep(0.01)
    assert "69" not in scene.desks and not scene.desks.has_work(NOW + 10_000)


async def test_a_promise_refused_by_the_ledger_is_not_asked_for_on_that_seat_again() -> None:
    scene = Scene(PRESETS["promise"])
    scene.publish(place(1, 300), place(2, 320))
    scene.desks.take_in(NOW, request("a"), scene.found(request("a"), NOW))
    (first,) = [d for _, d in scene.desks.decide(NOW).decisions if d.what == "promise"]
    scene.desk.settle(first, "seat_lost")
    again = scene.decide(NOW)
    assert [d.slot_id for d in again if d.what in ("promise", "firm")] == [3 - (first.slot_id or 0)]


# -- the process that plans ---------------------------------------------------------------------------------------


@pytest.fixture
async def elsewhere() -> AsyncIterator[ProcessSolver]:
    solver = ProcessSolver()
    yield solver
    solver.close()


def a_task(scene: Scene) -> Task:
    scene.publish(place(1, 300), place(2, 320))
    who = request("a")
    scene.desk.take_in(NOW, who, scene.found(who, NOW))
    return scene.desk.task(NOW)


def same(one: list[FieldPlan], other: list[FieldPlan]) -> bool:
    return all(
        np.array_equal(a.arc, b.arc)
        and np.array_equal(a.price, b.price)
        and all(np.array_equal(x.price, y.price) for x, y in zip(a.outlooks, b.outlooks, strict=True))
        for a, b in zip(one, other, strict=True)
    )


async def test_a_plan_made_elsewhere_is_the_plan_made_here(elsewhere: ProcessSolver) -> None:
    scene = Scene(PRESETS["promise"], learned=True)
    task = a_task(scene)
    here = scene.desk.planner.plan(task)
    assert same(await elsewhere.plan("69 1", scene.desk.planner, task), here)
    # it has learned: the planner itself need not come along again
    nothing = Planner()
    assert same(await elsewhere.plan("69 1", nothing, task), here)


async def test_a_planner_that_died_is_replaced_and_learns_anew(elsewhere: ProcessSolver) -> None:
    scene = Scene(PRESETS["promise"], learned=True)
    task = a_task(scene)
    here = await elsewhere.plan("69 1", scene.desk.planner, task)
    assert elsewhere._planning is not None
    for process in elsewhere._planning._processes.values():
        process.kill()
    with pytest.raises(PlanLateError):
        await elsewhere.plan("69 1", scene.desk.planner, task)
    assert same(await elsewhere.plan("69 1", scene.desk.planner, task), here)


async def test_a_territory_has_one_planner_the_newest(elsewhere: ProcessSolver) -> None:
    scene = Scene(PRESETS["promise"], learned=True)
    task = a_task(scene)
    await elsewhere.plan("69 1", Planner(), task)
    anew = await elsewhere.plan("69 2", scene.desk.planner, task)
    assert same(anew, scene.desk.planner.plan(task))
    # the older one is gone: it is sent again rather than the wrong one used
    assert same(await elsewhere.plan("69 1", Planner(), task), Planner().plan(task))


async def test_who_lost_his_place_does_not_take_that_of_another_promise() -> None:
    """Both are promised, one seat is left: whoever has it keeps it, and the desk comes to rest."""
    scene = Scene(PRESETS["promise"])
    scene.publish(place(1, 300), place(2, 320))
    scene.call(request("a"), request("b"))
    assert {d.slot_id for d in scene.said if d.what == "promise"} == {1, 2}
    (loser,) = [d.request_id for d in scene.said if d.slot_id == 1]
    (keeper,) = [d.request_id for d in scene.said if d.slot_id == 2]
    scene.desks.gone(1)
    lost = replace(request(loser), was_promised=True)
    scene.market.discard(1, 10)
    scene.desks.take_in(NOW + 1, lost, scene.found(lost, NOW + 1))
    for _ in range(3):
        decided = scene.decide(NOW + 1)
        assert all(d.slot_id != 2 or d.request_id == keeper for d in decided)
    assert not scene.desks.has_work(NOW + 1)


def test_a_place_kept_for_urgent_requests_is_paired_with_the_others_when_it_is_released() -> None:
    """Who waits at a desk gets nothing of a kept place that comes; an urgent one does; released, it is everybody's."""
    kept = [n for n in range(1, 200) if lots(np.array([n]))[0] < 30][:2]
    scene = Scene(PRESETS["promise"])
    scene.desk.terms = replace(scene.desk.terms, urgent_reserve_pct=30)
    assert [d.what for d in scene.call(request("waits"))] == ["none"]
    scene.publish(*(place(n, 120) for n in kept))
    scene.market.reserve({"69": 30})
    later = NOW + 60
    assert [d.request_id for d in scene.decide(later) if d.what == "promise"] == []
    urgent = request("urgent", Tier.T1, created_at=later, minutes=240)
    assert [(d.what, d.slot_id in kept) for d in scene.call(urgent, now=later) if d.request_id == "urgent"] == [
        ("promise", True)
    ]
    free = next(n for n in kept if scene.market.left_of(n) > 0)
    hour_before = NOW + 120 * 60 - RELEASE_S
    scene.desks.release(free)
    given = [
        (d.what, d.slot_id) for now in (hour_before, NOW + 5400) for d in scene.decide(now) if d.request_id == "waits"
    ]
    assert given and given[-1][1] == free


@pytest.mark.parametrize(
    ("policy", "promised_once", "served"),
    [("auto", False, True), ("auto", True, False), ("promise", False, False), ("crisis", False, False)],
)
def test_who_waits_is_served_within_the_notice_only_under_auto_and_promised_nothing(
    policy: str, promised_once: bool, served: bool
) -> None:
    """The notice is for calling back whom one has told to expect a call; ``auto`` may ring the others at any time."""
    scene = Scene(PRESETS[policy])
    # one that lost its promise to a crisis waits like any other, but is called back in time
    who = replace(request("a"), was_promised=promised_once)
    scene.desks.take_in(NOW, who, scene.found(who, NOW))
    scene.decide(NOW)
    scene.publish(place(1, 25), now=NOW + 300)
    decided = [d for later in (301, 900, 1305) for d in scene.decide(NOW + later)]
    assert of(decided, "firm") == (["a"] if served else [])


# -- limits of practices ------------------------------------------------------------------------------------------

DOCTOR = "10000000012"


def limited(scene: Scene, left: int) -> None:
    """Three places of one doctor, who takes a few patients of the day together; one of another, later."""

    def site(doctor: str) -> bytes:
        return site_json(("69", doctor, "Dr Fictif", None, None, "liberal", LAT, LON, "69123", None, None))

    document = {"id": 1, "version": 1, "counts": "patients", "period": "day", "zone": "Europe/Paris", "source": None}
    scene.market.hear_limits("limit", {**document, "members": [f"p:{DOCTOR}"]})
    scene.market.limits.set_left(1, int(MIDNIGHT - 3600), left, 1)
    mine = [place(n, 41)._replace(professional=DOCTOR, site=site(DOCTOR)) for n in (1, 2, 3)]
    scene.publish(*mine, place(4, 300)._replace(site=site("10000000020")))


@pytest.mark.parametrize("name", ["promise", "firm"])
def test_calls_of_one_instant_are_counted_under_a_limit_before_the_ledger_is_asked(name: str) -> None:
    scene = Scene(PRESETS[name])
    limited(scene, 1)
    decided = scene.call(request("a"), request("b"))
    given = {d.slot_id for d in decided if d.what in ("promise", "firm")}
    assert 4 in given and len({1, 2, 3} & given) == 1


def test_a_plan_counts_under_a_limit_what_it_takes_together() -> None:
    """Two wait until the last instant for the doctor's places: one is told, the other is left to be told elsewhere."""
    scene = Scene(replace(PRESETS["promise"], regret=(-1.0,) * 4))
    limited(scene, 1)
    assert not of(scene.call(request("a"), request("b")), "promise")
    told = [d.slot_id for second in range(0, 660, 20) for d in scene.decide(NOW + second) if d.what == "firm"]
    assert len(told) == 1 and told[0] in {1, 2, 3}


def test_who_is_promised_a_place_under_a_limit_may_move_within_it() -> None:
    """The limit leaves nothing, since it counts his own seat: a plan counts that as given back."""
    scene = Scene(PRESETS["promise"])
    limited(scene, 1)
    (promise,) = [d for d in scene.call(request("a")) if d.what == "promise"]
    assert promise.slot_id in {1, 2, 3}
    scene.market.limits.set_left(1, int(MIDNIGHT - 3600), 0, 2)
    task = scene.desk.task(NOW + 310)
    assert task.over is not None
    assert not task.over.under(0, task.fields[0].live.slot).reached().any()
