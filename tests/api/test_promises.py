"""Promises in the running service: kept until told, moved in silence, broken aloud by the crisis only."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from tests.api.running import Caller, Running, eventually, next_spot, rpps, slot, wish
from tests.api.test_bad_input import problem
from tests.api.test_settings import WHY

PARIS: Final = ZoneInfo("Europe/Paris")


@dataclass
class Promising:
    """A territory of its own that promises, and its keys."""

    service: Running
    spot: Any
    cpts: Caller
    regulator: Caller
    practice: Caller

    def at(self, minutes: float) -> datetime:
        return (self.service.clock.now() + timedelta(minutes=minutes)).replace(microsecond=0)

    def slot(self, minutes: float, **changes: Any) -> dict[str, Any]:
        return slot(self.spot, self.at(minutes), **changes)

    async def ask(self, **changes: Any) -> dict[str, Any]:
        return await self.regulator.ask(wish(self.spot, **changes))

    async def promised(self, **changes: Any) -> dict[str, Any]:
        """Ask, and wait for the promise: on a busy machine a matcher that has just begun may hear of a place later."""
        asked = await self.ask(**changes)
        return await self.regulator.until(asked["request_id"], lambda d: d["status"] == "promised")

    async def take_any(self, request_id: str, slots: Sequence[int]) -> dict[str, Any]:
        """Take whichever of these places is open; all are tried again while promises move among them."""
        for slot_id in itertools.islice(itertools.cycle(slots), 10 * len(slots)):
            answer = await self.regulator.post(f"/v1/requests/{request_id}/take", {"slot_id": slot_id})
            if answer.status_code == 200:
                taken: dict[str, Any] = answer.json()
                return taken
            problem(answer, 409, "slot_full")
        raise AssertionError("none of these places was open")

    async def policy(self, name: str, **more: Any) -> None:
        body = {"policy": dict.fromkeys(("T0", "T1", "T2", "T3"), name), "why": WHY, **more}
        answer = await self.cpts.patch(f"/v1/territories/{self.spot.territory}/settings", body)
        assert answer.status_code == 200, answer.text
        # the matcher looks at the settings every few seconds: a call is answered under the new ones from then on
        await self.service.stop_core()
        await self.service.start_core()


@pytest.fixture
async def here(alone: Running) -> Promising:
    """A service of one's own: the clock is moved, and the policy is the territory's."""
    spot = next_spot(alone.geography)
    scene = Promising(
        alone,
        spot,
        await alone.key("cpts", territories=(spot.territory,)),
        await alone.regulator(spot.territory),
        await alone.practice(),
    )
    await scene.policy("promise")
    return scene


async def test_a_promise_says_by_when_and_is_told_in_time(here: Promising) -> None:
    (slot_id,) = await here.practice.publish(here.slot(120))
    async with await here.regulator.listen() as heard, await here.practice.listen() as shown:
        asked = await here.promised(delay="4H")
        assert (asked["status"], asked["decision"]["policy"]) == ("promised", "promise")
        promise = asked["promise"]
        deadline = datetime.fromisoformat(asked["deadline"])
        assert datetime.fromisoformat(promise["seen_before"]) == deadline
        assert datetime.fromisoformat(promise["told_by"]) == deadline - timedelta(minutes=30)
        # nothing of the place, which may move
        assert asked["decision"]["place"] is None and asked["decision"]["sentence"].startswith("Sera vu avant")
        given = await here.service.rows("select state from booking where slot_id = $1", slot_id)
        assert [row["state"] for row in given] == ["promised"]
        await heard.event("request.promised", request_id=asked["request_id"])
        # told at the last instant that leaves the notice of half an hour
        here.service.clock.ahead += timedelta(minutes=80)
        await asyncio.sleep(0.5)
        assert (await here.regulator.request(asked["request_id"]))["status"] == "promised"
        here.service.clock.ahead += timedelta(minutes=9, seconds=35)
        told = (await heard.event("request.told", request_id=asked["request_id"]))["data"]
        assert (told["status"], told["booking"]["slot_id"]) == ("firm", slot_id)
        assert told["decision"]["place"]["slot_id"] == slot_id
        await shown.event("booking.firm", slot_id=slot_id)


async def test_a_promise_that_could_not_be_told_in_time_is_told_late_rather_than_broken(here: Promising) -> None:
    """The matcher was away when it should have told: what is left of the notice is the patient's."""
    (slot_id,) = await here.practice.publish(here.slot(120))
    asked = await here.promised(delay="4H")
    assert asked["status"] == "promised"
    await here.service.stop_core()
    here.service.clock.ahead += timedelta(minutes=100)
    await here.service.start_core()
    told = await here.regulator.until(asked["request_id"], lambda d: d["status"] != "promised")
    assert (told["status"], told["booking"]["slot_id"], told["promise"]["broken"]) == ("firm", slot_id, 0)


async def test_a_promise_outlives_its_place_and_its_matcher(here: Promising) -> None:
    (first,) = await here.practice.publish(named := here.slot(120))
    asked = await here.promised(delay="4H")
    assert asked["booking"]["slot_id"] == first
    (second,) = await here.practice.publish(here.slot(150))
    await here.service.stop_core()
    await here.service.start_core()
    answer = await here.practice.post("/v1/slots/withdraw", {"external_ids": [named["external_id"]]})
    assert answer.status_code == 200, answer.text
    kept = await here.regulator.until(asked["request_id"], lambda d: d["status"] == "promised")
    assert kept["booking"]["slot_id"] == second
    assert (kept["promise"]["since"], kept["promise"]["lost_to_practice"]) == (asked["promise"]["since"], 1)


async def test_fewer_places_than_promised_move_a_promise(here: Promising) -> None:
    (plage,) = await here.practice.publish(named := here.slot(120, capacity=3, lasting=60))
    asked = [await here.promised(delay="4H") for _ in range(3)]
    assert [a["booking"]["slot_id"] for a in asked] == [plage] * 3
    (other,) = await here.practice.publish(here.slot(180))
    (same,) = await here.practice.publish({**named, "capacity": 2})
    assert same == plage

    async def moved() -> bool:
        now = [(await here.regulator.request(a["request_id"]))["booking"]["slot_id"] for a in asked]
        return sorted(now) == sorted((plage, plage, other))

    await eventually(moved)


async def test_only_a_crisis_that_is_allowed_breaks_a_promise_and_says_so(here: Promising) -> None:
    await here.practice.publish(here.slot(60))
    minor = await here.promised(delay="48H")
    assert minor["status"] == "promised"
    # calm: the place is promised, and stays so
    waits = await here.ask(delay="4H")
    assert waits["status"] == "waiting"
    ars = await here.service.key("ars", territories=(here.spot.territory,))
    answer = await ars.patch(f"/v1/territories/{here.spot.territory}/settings", {"crisis_allowed": True, "why": WHY})
    assert answer.status_code == 200, answer.text
    async with await here.regulator.listen() as heard:
        await here.policy("auto", crisis=True)
        broken = (await heard.event("request.displaced", request_id=minor["request_id"]))["data"]
        assert broken["promise"]["broken"] == 1 and broken["decision"]["none"]["reason"] == "DISPLACED"
        served = await here.regulator.until(waits["request_id"], lambda d: d["status"] != "waiting")
        assert served["status"] in ("held", "promised")


@pytest.mark.parametrize("counts", ["patients", "children"])
async def test_a_promise_takes_its_turn_of_a_practices_limit(here: Promising, counts: str) -> None:
    """What is promised counts; who would be too many waits and is told why, until a turn comes back."""
    doctor = rpps()
    practice = await here.service.practice(professionals=(doctor,))
    person = {"rpps": doctor, "name": "Dr Fictif"}
    first = 60 if here.at(60).astimezone(PARIS).date() == here.at(100).astimezone(PARIS).date() else 110
    slots = await practice.publish(
        *(here.slot(first + 20 * n, professional=person, offers=["enfant"]) for n in range(3))
    )
    limit = {"professionals": [doctor], "counts": counts, "most": 1}
    assert (await practice.http.put("/v1/limits/un", json=limit)).status_code == 200
    one = await here.promised(delay="4H", age_band="enfant")
    assert one["status"] == "promised"
    two = await here.ask(delay="4H", age_band="enfant")
    two = await here.regulator.until(two["request_id"], lambda d: d["decision"] is not None)
    assert two["status"] == "waiting" and two["decision"]["none"]["reason"] == "LIMIT_REACHED"
    # it is not asked for again and again
    await asyncio.sleep(0.5)
    assert (await here.regulator.request(two["request_id"]))["version"] == two["version"]
    # nor does it keep others from what the limit leaves them
    three = await here.ask(delay="4H", age_band="senior")
    assert three["status"] == ("waiting" if counts == "patients" else "promised")
    await here.regulator.act("cancel", one["request_id"])
    # the promise that is left may move to the place that came free at any moment: whichever is open then is taken
    taken = await here.take_any(two["request_id"], slots)
    assert taken["status"] == "held"
