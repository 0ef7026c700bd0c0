"""Scenarios of ``guards`` about patients whom a practice accepts or moves, and places that are handed back to it."""

from typing import TYPE_CHECKING

from sas_matcher.ports.ledger import PracticeLimit
from tests.ledger_cases import NOW, SOURCE, minutes, slot_row

if TYPE_CHECKING:
    from tests.race.guards import Stage

LATER = NOW + minutes(1)


async def accepted_while_time_runs_out(on: "Stage") -> list[str]:
    """The sweeper is about to give the patient another place when the practice accepts him."""
    (slot,) = await on.desk.publish(slot_row("a", acceptance="explicit", accept_min=15))
    _, booking = await on.desk.firm(slot)
    await on.interleave(
        "before update on booking",
        on.slow.ledger.settle_acceptance(NOW + minutes(15)),
        on.desk.of_booking("accept", booking, now=NOW + minutes(14)),
    )
    row = await on.desk.booking(booking)
    return ["accepted, and given away"] if row["accepted_at"] and row["ended_at"] else []


async def moved_into_a_lowered_capacity(on: "Stage") -> list[str]:
    """Seat 0 is free, and the plage is full; its practice moves a patient into it."""
    plage, elsewhere = await on.desk.publish(slot_row("a", capacity=3), slot_row("b", at=120))
    held = [await on.desk.hold(plage) for _ in range(3)]
    await on.desk.cancel(held[0][0])
    await on.desk.publish(slot_row("a", capacity=2, valid_at=LATER))
    _, booking = await on.desk.firm(elsewhere)
    await on.desk.of_booking("move", booking, plage)
    return await on.wrong()


async def moved_over_a_limit(on: "Stage") -> list[str]:
    """The professional takes no more patients that day; a colleague of his moves one to him."""
    limit = PracticeLimit(SOURCE, "q", "patients", "day", 1, None, "Europe/Paris", False, ("p:8a",))
    await on.desk.ledger.put_limit(NOW, limit)
    taken, free, elsewhere = await on.desk.publish(
        slot_row("a"), slot_row("c", at=90, professional="8a"), slot_row("b", at=120)
    )
    await on.desk.firm(taken)
    _, booking = await on.desk.firm(elsewhere)
    word = (await on.desk.of_booking("move", booking, free)).word
    return [] if word == "limit_reached" else [f"moved over a limit: {word}"]


async def _handed_back(on: "Stage") -> int:
    (slot,) = await on.desk.publish(slot_row("a", back_at=NOW + minutes(30)))
    await on.desk.ledger.hand_back(NOW + minutes(30))
    return slot


async def claim_of_a_place_handed_back(on: "Stage") -> list[str]:
    """A matcher that has not heard that its practice has it again."""
    slot = await _handed_back(on)
    (verdict,) = await on.desk.claims((await on.desk.ask(), slot), now=NOW + minutes(31))
    return [] if verdict == "seat_lost" else [f"a place that was handed back: {verdict}"]


async def take_of_a_place_handed_back(on: "Stage") -> list[str]:
    """A regulator clicks on it."""
    slot = await _handed_back(on)
    word = await on.desk.take(await on.desk.ask(), slot, NOW + minutes(31))
    return [] if word == "slot_full" else [f"a place that was handed back: {word}"]
