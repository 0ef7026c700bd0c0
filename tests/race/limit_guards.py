"""Scenarios of ``guards`` about limits of practices."""

from typing import TYPE_CHECKING

import orjson

from sas_matcher.ports.ledger import PracticeLimit
from tests.ledger_cases import NOW, SOURCE, slot_row

if TYPE_CHECKING:
    from tests.race.guards import Stage


async def _two_slots_for_one(on: "Stage") -> tuple[int, int]:
    """Return two slots of a centre that takes one patient a day."""
    one, two = await on.desk.publish(slot_row("a"), slot_row("b", at=90))
    centre = ("s:1690000001",)
    await on.desk.ledger.put_limit(
        NOW, PracticeLimit(SOURCE, "cap", "patients", "day", 1, None, "Europe/Paris", own_only=False, members=centre)
    )
    return one, two


async def a_batch_over_a_limit(on: "Stage") -> list[str]:
    """A matcher that knows nothing of the limit claims both places."""
    one, two = await _two_slots_for_one(on)
    await on.desk.claims((await on.desk.ask(), one), (await on.desk.ask(), two))
    return await on.wrong()


async def a_place_chosen_over_a_limit(on: "Stage") -> list[str]:
    """A regulator clicks on the second place."""
    one, two = await _two_slots_for_one(on)
    await on.desk.hold(one)
    await on.desk.take(await on.desk.ask(), two)
    return await on.wrong()


async def two_claims_under_one_limit(on: "Stage") -> list[str]:
    """One has counted and not yet taken its place when the other claims another place."""
    one, two = await _two_slots_for_one(on)
    first, second = await on.desk.ask(), await on.desk.ask()
    await on.interleave("before insert on booking", on.slow.claims((first, one)), on.desk.claims((second, two)))
    return await on.wrong()


async def a_claim_beside_a_choice_under_one_limit(on: "Stage") -> list[str]:
    """The matcher has counted and not yet taken its place when a regulator chooses another place."""
    one, two = await _two_slots_for_one(on)
    first, second = await on.desk.ask(), await on.desk.ask()
    await on.interleave("before insert on booking", on.slow.claims((first, one)), on.desk.take(second, two))
    return await on.wrong()


async def a_place_published_while_its_limit_is_reached(on: "Stage") -> list[str]:
    """The publication has counted the seats left when the last turn of the day goes; whoever comes later tells last."""
    one, _ = await _two_slots_for_one(on)
    request = await on.desk.ask()
    on.recorder.take()
    await on.interleave(
        "before insert on outbox", on.slow.publish(slot_row("c", at=120)), on.desk.claims((request, one))
    )
    late: int = await on.control.fetchval("select id from slot where external_id = 'c'")
    news = [(a.type, orjson.loads(a.data)) for a in on.recorder.take()]
    told = [
        *((record["version"], left) for kind, items in news if kind == "published" for record, left in items),
        *((version, left) for kind, items in news if kind == "state" for slot, left, version in items if slot == late),
    ]
    left = max(told)[1]
    return [] if left == await on.desk.left(late) else [f"slot {late} was last told with {left} left"]
