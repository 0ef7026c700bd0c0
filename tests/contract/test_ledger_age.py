"""What a question costs goes by what it asks for, not by how old the ledger is: the server's own plans tell."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.queries import QUERIES
from tests.contract.conftest import postgres_only
from tests.ledger_cases import KEY, NOW, SOURCE, TERRITORY, Desk, slot_row

pytestmark = postgres_only
PAST = 3_000  # slots, each with a patient who came: four months of one professional, who works all hours
OLD = """
with past as (
    insert into slot (source, external_id, territory, professional, structure, source_kind, lat, lon, landmass, insee, starts,
        ends, capacity, mode, booking_kind, profession, offers, visibility, valid_at, checked_at, changed_at, version)
    select $1, 'past-' || n, $2, '8a', '1690000001', 'cds', 45.76, 4.84, 0, '69123', $3::timestamptz - n * interval '1 hour',
        $3::timestamptz - n * interval '1 hour' + interval '15 minutes', 1, 'cabinet', 'routine', 'MG', '{}', 'snp', $3, $3, $3,
        nextval('change_seq')
    from generate_series(25, 24 + $5) n returning *
), asked as (
    insert into request (id, key_id, territory, lat, lon, insee, profession, modes, tier, delay, created_at, deadline,
        radius_km, needs, priority, on_phone, status, booking_id)
    select md5('r' || id)::uuid, $4, territory, lat, lon, insee, 'MG', '{cabinet}', 'T1', '4H', starts, ends, 10, '{}', 'P2',
        true, 'fulfilled', md5('b' || id)::uuid from past
)
insert into booking (id, request_id, slot_id, seat, territory, professional, during, state, slot_version, held_at, firm_at)
select md5('b' || id)::uuid, md5('r' || id)::uuid, id, 0, territory, professional, tstzrange(starts, ends), 'fulfilled',
    version, starts, starts
from past
"""


async def grow_old(desk: Desk) -> None:
    """Write what was."""
    await desk.rows(OLD, SOURCE, TERRITORY, NOW, KEY, PAST)
    await desk.rows("analyze")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the steps of a plan."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def seen(plan: dict[str, Any]) -> int:
    """Count the rows that the steps of a plan went through."""
    return sum(
        round(node["Actual Loops"] * (node["Actual Rows"] + sum(n for name, n in node.items() if "Removed" in name)))
        for node in nodes(plan)
    )


async def plan_of(connection: Any, sql: str, *arguments: Any) -> dict[str, Any]:
    """Run a statement; returns its plan, with what became of it."""
    told = await connection.fetchval(f"explain (analyze, format json) {sql}", *arguments)
    plan: dict[str, Any] = orjson.loads(told)[0]["Plan"]
    return plan


@pytest.fixture
def live(desk: Desk) -> Callable[[str], Any]:
    """How all places are read: the plan of a query of the loading."""

    async def plan(name: str) -> dict[str, Any]:
        assert isinstance(desk.ledger, PostgresLedger)
        async with desk.ledger._snapshot() as (connection, _):
            return await plan_of(connection, QUERIES[name], NOW, None, 0)

    return plan


async def test_places_are_loaded_whatever_was_before(desk: Desk, live: Callable[[str], Any]) -> None:
    """A core that starts after months: what is over, with its firm bookings, is not looked at."""
    slots = await desk.publish(*(slot_row(f"a{n}", at=20 * n, professional="8a") for n in range(1, 20)))
    await desk.firm(slots[0])
    (overlapping,) = await desk.publish(slot_row("b", at=25, professional="8a"))
    before = {name: seen(await live(name)) for name in ("live_sites", "live_kinds", "live_places")}
    left = await desk.live_left()
    assert (left[slots[0]], left[overlapping], sum(left.values())) == (0, 0, 18)
    await grow_old(desk)
    after = {name: seen(await live(name)) for name in before}
    assert all(after[name] <= 2 * before[name] for name in before), (before, after)
    assert await desk.live_left() == left


async def test_a_patient_kept_in_hours_taken_back_keeps_his_professional_busy(desk: Desk) -> None:
    """He began before now, in a slot that is open no more; who is over keeps nobody busy."""
    began, over = await desk.publish(
        slot_row("a", at=60, lasts=60, professional="8a"), slot_row("b", at=10, professional="8a")
    )
    await desk.firm(began)
    await desk.firm(over)
    await desk.rows("update slot set status = 'withdrawn' where id = any($1)", [began, over])
    during, after = await desk.publish(
        slot_row("c", at=105, professional="8a"), slot_row("d", at=120, professional="8a"), now=NOW
    )
    assert await desk.live_left(NOW + timedelta(minutes=90)) == {during: 0, after: 1}
