"""Scenarios of ``guards`` about en sus."""

from datetime import timedelta
from typing import TYPE_CHECKING

import orjson

from tests.asking_cases import Asker
from tests.ledger_cases import NOW, SOURCE

if TYPE_CHECKING:
    from tests.race.guards import Stage

LATER = NOW + timedelta(minutes=31)


async def _states(asker: Asker) -> list[str]:
    return sorted(orjson.loads(q)["state"] for q in await asker.book.questions(SOURCE, [], [], None, 100))


async def two_say_yes_at_once(on: "Stage") -> list[str]:
    """One has been found in time and has not yet its booking when the other says yes."""
    asker = Asker(on.desk)
    await asker.ladder()
    await asker.consent("a", "b")
    request = await asker.waits()
    _, (one, two) = await asker.put(request, await asker.ids(request))
    await on.interleave("before insert on booking", asker.accept(one, desk=on.slow), asker.accept(two, at=120))
    states = await _states(asker)
    return await on.wrong() + ([] if states == ["accepted", "closed"] else [f"questions are {states}"])


async def asked_by_two_for_two_requests(on: "Stage") -> list[str]:
    """One has counted the questions of the day and not yet committed its own when the other counts."""
    asker, slow = Asker(on.desk), Asker(on.slow)
    await asker.ladder()
    await asker.consent("a", most_a_day=1)
    first, second = await asker.waits(), await asker.waits()
    (doctor,) = await asker.ids(first)
    await on.interleave("before insert on outbox", slow.put(first, [doctor]), asker.put(second, [doctor]))
    asked = len(await _states(asker))
    return [] if asked == 1 else [f"asked {asked} times a day, allowed once"]


async def two_climb_for_one_request(on: "Stage") -> list[str]:
    """Two that read the same rung step up at once."""
    asker, slow = Asker(on.desk), Asker(on.slow)
    await asker.ladder()
    await asker.consent("a", "b")
    request = await asker.waits()
    a, b = await asker.ids(request)
    await on.interleave("before insert on outbox", slow.put(request, [a]), asker.put(request, [b]))
    asked = len(await _states(asker))
    return [] if asked == 1 else [f"one wave asked {asked}, wanted 1"]


async def asked_twice_for_one_request(on: "Stage") -> list[str]:
    """A matcher that has forgotten whom it asked."""
    asker = Asker(on.desk)
    await asker.ladder()
    await asker.consent("a")
    request = await asker.waits()
    (doctor,) = await asker.ids(request)
    await asker.put(request, [doctor])
    await asker.put(request, [doctor], was=1)
    asked = len(await _states(asker))
    return [] if asked == 1 else [f"asked {asked} times for one request"]


async def _place_left_behind(on: "Stage") -> tuple[str, int]:
    """Return another request, and a place that was given en sus and whose hold has run out."""
    asker = Asker(on.desk)
    await asker.ladder()
    await asker.consent("a")
    request = await asker.waits()
    _, (question,) = await asker.put(request, await asker.ids(request))
    await asker.accept(question)
    slot = (await on.desk.document(request))["booking"]["slot_id"]
    await on.desk.ledger.lapse_holds(LATER)
    return await on.desk.ask(LATER), slot


async def a_place_en_sus_claimed_for_another(on: "Stage") -> list[str]:
    """The matcher gives the place to somebody for whom nobody was asked."""
    other, slot = await _place_left_behind(on)
    verdicts = await on.desk.claims((other, slot), now=LATER)
    return [] if verdicts == ["seat_lost"] else [f"another patient: {verdicts}"]


async def a_place_en_sus_chosen_for_another(on: "Stage") -> list[str]:
    """A regulator picks the place for somebody for whom nobody was asked."""
    other, slot = await _place_left_behind(on)
    word = await on.desk.take(other, slot, LATER)
    return [] if word == "slot_full" else [f"another patient: {word}"]
