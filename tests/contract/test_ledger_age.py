"""What a question costs goes by what it asks for, not by how old the ledger is: the server's own plans tell."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib.resources import files
from typing import Any

import orjson
import pytest

from adapters.postgres.figures import PostgresFigures
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.queries import QUERIES, load_queries
from adapters.postgres.transactions import _SURVEY
from tests.contract.conftest import postgres_only
from tests.ledger_cases import KEY, NOW, SOURCE, TERRITORY, Desk, slot_row

pytestmark = postgres_only
PAST = 3_000  # slots, each with a patient who came or cancelled: four months of one professional, who works all hours
OLD = """
with past as (
    insert into slot (source, external_id, territory, professional, structure, source_kind, lat, lon, landmass, insee,
        starts, ends, capacity, mode, booking_kind, profession, offers, visibility, valid_at, checked_at, changed_at,
        version)
    select $1, 'past-' || n, $2, '8a', '1690000001', 'cds', 45.76, 4.84, 0, '69123',
        began, began + interval '15 minutes', 1, 'cabinet', 'routine', 'MG', '{}', 'snp', $3, $3, $3,
        nextval('change_seq')
    from generate_series(25, 24 + $5) n cross join lateral (select $3::timestamptz - n * interval '1 hour' as began) t
    returning *
), asked as (
    insert into request (id, key_id, territory, lat, lon, insee, profession, modes, tier, delay, created_at, deadline,
        radius_km, needs, priority, on_phone, status, booking_id)
    select md5('r' || id)::uuid, $4, territory, lat, lon, insee, 'MG', '{cabinet}', 'T1', '4H', starts, ends, 10, '{}',
        'P2', true, case when id % 3 > 0 then 'fulfilled' else 'cancelled' end, md5('b' || id)::uuid from past
)
insert into booking (id, request_id, slot_id, seat, territory, professional, during, state, slot_version, held_at,
    firm_at, ended_at)
select md5('b' || id)::uuid, md5('r' || id)::uuid, id, 0, territory, professional, tstzrange(starts, ends),
    case when id % 3 > 0 then 'fulfilled' else 'cancelled' end, version, starts, starts,
    case when id % 3 = 0 then starts end
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
    now = NOW + timedelta(minutes=90)
    assert await desk.live_left(now) == {during: 0, after: 1}
    assert isinstance(desk.ledger, PostgresLedger)
    (free,) = await PostgresFigures(desk.ledger).free_places([TERRITORY], now, None)
    assert free["hours_4"] == 1


# -- what is asked all the time -----------------------------------------------------------------------------------

WINDOW = (NOW - timedelta(hours=1), NOW + timedelta(hours=12))
MINE = {"source": (SOURCE, [], []), "professional": (None, ["8a"], []), "structure": (None, [], ["1690000001"])}
OF_PRACTICE = {
    f"{name} by {owner}": (file, name, (*owners, *WINDOW, 100))
    for file, name in (("queries", "bookings_of_practice"), ("queries", "exposures_of"), ("statement", "acts"))
    for owner, owners in MINE.items()
}
OTHERS: dict[str, tuple[str, str, tuple[Any, ...]]] = {
    "slots of a source": ("queries", "slots_of_source", (SOURCE, *WINDOW, None, None, 0, 100)),
    "waiting": ("queries", "waiting_requests", (NOW, [TERRITORY])),
    "mirror": ("queries", "live_records", (NOW, TERRITORY)),
    "territories": ("queries", "live_territories", (NOW,)),
    "limits": ("queries", "limits", (NOW,)),
    "editors": ("editors", "figures", ([SOURCE], WINDOW[0], NOW)),
    "phantoms": (
        "editors",
        "hidden",
        (SOURCE, '[{"external_id": "a1", "professional": "8a", "insee": "69123", "mode": "cabinet"}]', NOW),
    ),
    "free places": ("figures", "free_places", ([TERRITORY], NOW, None)),
    "asked en sus": ("asking", "due", (NOW, 100)),
}
READ = """
select coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint
from pg_stat_xact_user_tables where relname like $1
"""
SURVEYS = {"figures", "statement"}
SWEEPS = ("lapse_holds($1, null, 500)", "close_unserved($1, 500)", "settle_acceptance($1, 500)", "hand_back($1, 500)")


async def read_by(desk: Desk, sql: str, *arguments: Any, survey: bool = False) -> tuple[int, list[Any]]:
    """Run a statement as the ledger does; returns how many rows of tables were read for it, and its answer.

    A survey is planned by size: it is planned here as if there were very many, and its bookings are counted.
    """
    assert isinstance(desk.ledger, PostgresLedger)
    async with desk.ledger._connections.one() as connection, connection.transaction():
        if survey:
            await connection.execute(f"{_SURVEY}; set local enable_nestloop = off")
        # what was not yet reported of the transactions before is in it as well
        tables = "booking" if survey else "%"
        before = await connection.fetchval(READ, tables)
        rows = await connection.fetch(sql, *arguments)
        read = await connection.fetchval(READ, tables) - before
    return read, rows


@pytest.fixture
async def practice(desk: Desk) -> Desk:
    """A practice with patients, one of whom cancelled."""
    slots = await desk.publish(*(slot_row(f"a{n}", at=20 * n, professional="8a") for n in range(1, 20)))
    await desk.firm(slots[0])
    request, _ = await desk.firm(slots[1])
    await desk.cancel(request)
    return desk


@pytest.mark.parametrize("asked", OF_PRACTICE | OTHERS)
async def test_what_is_asked_reads_what_it_asks_for(practice: Desk, asked: str) -> None:
    file, name, arguments = (OF_PRACTICE | OTHERS)[asked]
    sql = load_queries(files("adapters.postgres").joinpath(f"{file}.sql").read_text(encoding="utf-8"))[name]
    await practice.rows("analyze")
    before, young = await read_by(practice, sql, *arguments, survey=file in SURVEYS)
    await grow_old(practice)
    after, old = await read_by(practice, sql, *arguments, survey=file in SURVEYS)
    assert after <= 2 * before + 20, (before, after)
    assert old == young
    if asked in OF_PRACTICE:
        assert len(old) == (1 if name == "acts" else 2), "who cancelled is among them, but for the statement"


@pytest.mark.parametrize("sweep", SWEEPS)
async def test_sweeps_read_what_is_due(practice: Desk, sweep: str) -> None:
    await grow_old(practice)
    read, announced = await read_by(practice, f"select * from {sweep}", NOW)
    assert (read <= 20, announced) == (True, []), read


NOTICES = """
with subscribed as (
    insert into subscription (source, name, key_id, way, address, kinds, most_reminders, secret, changed_at)
    values ('s', 's', $1, 'webhook', 'https://a', '{booking.made}', 0, '', $2) returning id
)
insert into notice (subscription_id, once, about, kind, at, territory, body, state, settled_at)
select id, n::text, '', 'booking.made', $2, '', '{}',
    case n when 1 then 'waiting' when 2 then 'refused' else 'sent' end,
    case when n > 1 then $2::timestamptz end
from subscribed, generate_series(1, 3000) n
"""
MESSAGES = """
insert into appointment_message (booking_id, number, status, territory, key_id, sos, starts, ends, booked_at, state)
select $1, n, 'booked', '', '', false, $2, $2, $2, case n when 1 then 'waiting' when 2 then 'refused' else 'sent' end
from generate_series(1, 3000) n
"""


async def test_queues_are_counted_by_what_was_not_sent(desk: Desk) -> None:
    await desk.rows(NOTICES, KEY, NOW)
    (slot,) = await desk.publish(slot_row("a"))
    _, booking = await desk.firm(slot)
    await desk.rows(MESSAGES, booking, NOW)
    await desk.rows("analyze")
    for file in ("notices", "national"):
        queries = load_queries(files("adapters.postgres").joinpath(f"{file}.sql").read_text(encoding="utf-8"))
        read, rows = await read_by(desk, queries["counts"], NOW + timedelta(seconds=5))
        counted = sorted((row["state"], row["count"], float(row["oldest"] or 0)) for row in rows)
        assert counted == [("refused", 1, 0.0), ("waiting", 1, 5.0)] and read <= 20, (file, read)
