"""Slots, requests and a desk that works on a ledger: shared by its contract, race and guard tests."""

import itertools
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import asyncpg
import orjson

from adapters.memory import MemoryLedger
from adapters.memory.questions import AskingTables
from adapters.memory.tables import Tables
from adapters.postgres.ledger import PostgresLedger
from sas_matcher.domain.lifecycle import ClaimKind
from sas_matcher.ports.ledger import PLACE_NUMBERS, Announcement, Claim, Idempotency, KeyRecord, Outcome

NOW: Final = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
KEY: Final = "regul69"
SOURCE: Final = "cds-lyon"
TERRITORY: Final = "69"
HOLD: Final = timedelta(minutes=3)
_COUNTER: Final = itertools.count(1)


def minutes(number: float) -> timedelta:
    """Return so many minutes."""
    return timedelta(minutes=number)


def new_id() -> str:
    """Return a UUID that no test has used."""
    return str(uuid.UUID(int=next(_COUNTER)))


def slot_row(external_id: str, *, at: float = 60, lasts: float = 15, **columns: Any) -> dict[str, Any]:
    """Return a slot as a source publishes it; ``at`` and ``lasts`` in minutes, the start counted from ``NOW``."""
    starts = NOW + minutes(at)
    return {
        "external_id": external_id,
        "territory": TERRITORY,
        "professional": f"8{external_id}",
        "professional_name": None,
        "structure": "1690000001",
        "structure_name": "Centre de santé",
        "source_kind": "cds",
        "lat": 45.76,
        "lon": 4.84,
        "landmass": 0,
        "insee": "69123",
        "label": None,
        "phone": None,
        "starts": starts,
        "ends": starts + minutes(lasts),
        "capacity": 1,
        "mode": "cabinet",
        "booking_kind": "routine",
        "profession": "MG",
        "specialty": None,
        "offers": [],
        "visibility": "snp",
        "valid_at": NOW,
        **columns,
    }


def request_row(**columns: Any) -> dict[str, Any]:
    """Return a request as the service hands it to the ledger."""
    return {
        "id": new_id(),
        "territory": TERRITORY,
        "lat": 45.75,
        "lon": 4.85,
        "insee": "69123",
        "profession": "MG",
        "specialty": None,
        "modes": ["cabinet"],
        "tier": "T1",
        "delay": "4H",
        "deadline": NOW + timedelta(hours=4),
        "radius_km": 10.0,
        "needs": [],
        "age_band": None,
        "mt": None,
        "priority": "P2",
        "on_phone": True,
        "case_ref": None,
        **columns,
    }


async def add_regulator(url: str, key_id: str = KEY) -> None:
    """Store an API key for requests to belong to."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "insert into api_key (id, secret_hash, name, role, source, created_at) values ($1, '', $1, $2, $1, $3)",
            key_id,
            "regulator",
            NOW,
        )
    finally:
        await connection.close()


class StillClock:
    """A clock that stands at ``instant``."""

    def __init__(self, instant: datetime) -> None:
        self.instant = instant

    def now(self) -> datetime:
        """Return where it stands."""
        return self.instant


class Desk:
    """A regulator, a practice and a matcher at one ledger.

    ``refusals`` is what the ledger raises for a row that breaks one of its rules.
    """

    refusals: tuple[type[Exception], ...] = (asyncpg.IntegrityConstraintViolationError,)

    def __init__(self, ledger: PostgresLedger, url: str) -> None:
        self.ledger = ledger
        self.url = url
        self.fences: dict[str, int] = {}

    async def open(self) -> "Desk":
        """Store the regulator's key and take the lease of the territory."""
        await self.add_key(KEY)
        self.fences = await self.ledger.take_leases("matcher", [TERRITORY], 600)
        return self

    async def add_key(self, key_id: str) -> None:
        """Store the API key of a regulator."""
        await add_regulator(self.url, key_id)

    # -- the practice

    async def publish(self, *rows: Mapping[str, Any], now: datetime = NOW, source: str = SOURCE) -> list[int]:
        """Publish slots; returns their ids."""
        return [verdict["slot_id"] for verdict in await self.ledger.upsert_slots(now, source, rows)]

    async def verdict(self, row: Mapping[str, Any], now: datetime = NOW, source: str = SOURCE) -> str:
        """Publish one slot; returns the outcome."""
        (verdict,) = await self.ledger.upsert_slots(now, source, [row])
        outcome: str = verdict["outcome"]
        return outcome

    async def withdraw(self, *external_ids: str, now: datetime = NOW) -> list[dict[str, Any]]:
        """Withdraw named slots."""
        return await self.ledger.withdraw_slots(now, SOURCE, external_ids, None, None, "absence")

    async def refuse(self, booking_id: str, *, keep: bool, now: datetime = NOW) -> str:
        """Refuse a booking; returns the word."""
        return (await self.of_booking("refuse", booking_id, "complet", keep, now=now)).word

    async def of_booking(self, action: str, booking_id: str, *arguments: Any, now: datetime = NOW) -> Outcome:
        """Change a booking under a key of its own."""
        return await self.ledger.change_booking(
            action, now, booking_id, arguments, Idempotency(SOURCE, new_id(), b"body")
        )

    # -- the regulator

    async def ask(self, now: datetime = NOW, **columns: Any) -> str:
        """Create a request; returns its id."""
        row = request_row(**columns)
        await self.ledger.create_request(now, row, Idempotency(KEY, new_id(), b"body"))
        request_id: str = row["id"]
        return request_id

    async def act(self, action: str, request_id: str, *arguments: Any, now: datetime = NOW, key: str = KEY) -> str:
        """Change a request under a key of its own; returns the word."""
        once = Idempotency(key, new_id(), b"body")
        return (await self.ledger.change_request(action, now, request_id, arguments, once)).word

    async def confirm(self, request_id: str, now: datetime = NOW) -> str:
        """Confirm the present hold."""
        return await self.act("confirm", request_id, None, now=now)

    async def decline(self, request_id: str, scope: str = "slot", now: datetime = NOW) -> str:
        """Decline the present hold."""
        return await self.act("decline", request_id, None, scope, now=now)

    async def cancel(self, request_id: str, now: datetime = NOW) -> str:
        """Cancel the request."""
        return await self.act("cancel", request_id, "regulator", now=now)

    async def resume(self, request_id: str, now: datetime = NOW) -> str:
        """Open a lapsed request again."""
        return await self.act("resume", request_id, now=now)

    async def take(self, request_id: str, slot_id: int, now: datetime = NOW) -> str:
        """Pick a place by hand."""
        return await self.act("take", request_id, slot_id, new_id(), now + HOLD, '{"by":"hand"}', now=now)

    async def document(self, request_id: str) -> dict[str, Any]:
        """Return the request as its regulator sees it."""
        text = await self.ledger.request_document(request_id, KEY)
        assert text is not None
        document: dict[str, Any] = orjson.loads(text)
        return document

    async def status(self, request_id: str) -> str:
        """Return where the request stands."""
        status: str = (await self.document(request_id))["status"]
        return status

    # -- the matcher

    async def claims(self, *wanted: tuple[str, int | None], now: datetime = NOW) -> list[str]:
        """Claim a batch of (request, slot); returns the verdicts."""
        return (await self.claim_batch(wanted, now))[0]

    async def claim_batch(
        self, wanted: Sequence[tuple[str, int | None]], now: datetime = NOW, fences: Mapping[str, int] | None = None
    ) -> tuple[list[str], list[Announcement]]:
        """Claim a batch; returns verdicts and announcements."""
        return await self.claim_kinds(
            [(ClaimKind.NONE if slot is None else ClaimKind.HOLD, request, slot) for request, slot in wanted],
            now,
            fences,
        )

    async def claim_kinds(
        self,
        wanted: Sequence[tuple[ClaimKind, str, int | None]],
        now: datetime = NOW,
        fences: Mapping[str, int] | None = None,
        told_by: datetime | None = None,
    ) -> tuple[list[str], list[Announcement]]:
        """Claim a batch of (kind, request, slot); returns verdicts and announcements."""
        until = told_by or now + HOLD
        batch = [Claim(request, slot, new_id(), until, '{"why":"test"}', kind) for kind, request, slot in wanted]
        return await self.ledger.claim(now, self.fences if fences is None else fences, batch)

    async def no_place(self, request_id: str, decision: str, now: datetime = NOW) -> None:
        """Tell a request that there is no place, with this decision."""
        await self.ledger.claim(now, self.fences, [Claim(request_id, None, new_id(), None, decision, ClaimKind.NONE)])

    async def promise(self, slot_id: int, now: datetime = NOW, **columns: Any) -> str:
        """Ask and get a promise with a seat on a slot; returns the request."""
        request_id = await self.ask(now, **columns)
        verdicts, _ = await self.claim_kinds([(ClaimKind.PROMISE, request_id, slot_id)], now)
        assert verdicts == ["promised"]
        return request_id

    async def hold(self, slot_id: int, now: datetime = NOW, **columns: Any) -> tuple[str, str]:
        """Ask and get a hold on a slot; returns (request, booking)."""
        request_id = await self.ask(now, **columns)
        assert await self.claims((request_id, slot_id), now=now) == ["held"]
        return request_id, (await self.document(request_id))["booking"]["booking_id"]

    async def firm(self, slot_id: int, now: datetime = NOW, **columns: Any) -> tuple[str, str]:
        """Ask, get a hold and confirm it; returns (request, booking)."""
        request_id, booking_id = await self.hold(slot_id, now, **columns)
        assert await self.confirm(request_id, now) == "firm"
        return request_id, booking_id

    # -- looking

    async def live_left(self, now: datetime = NOW, territories: Sequence[str] | None = None) -> dict[int, int]:
        """Return the seats left of the live places, as the matcher loads them."""
        slot_id, left = PLACE_NUMBERS.index("slot_id"), PLACE_NUMBERS.index("left")
        pages = [page.places async for page in self.ledger.live_places(now, territories)]
        return {row[slot_id]: row[left] for places in pages for row in places.tolist()}

    async def left(self, slot_id: int) -> int:
        """Return the seats left of a slot."""
        row = await self.ledger.slot_record(slot_id)
        assert row is not None
        left: int = row["left"]
        return left

    async def rows(self, sql: str, *arguments: Any) -> list[Any]:
        """Look into the tables."""
        connection = await asyncpg.connect(self.url)
        try:
            rows: list[Any] = await connection.fetch(sql, *arguments)
            return rows
        finally:
            await connection.close()

    async def booking(self, booking_id: str) -> Any:
        """Return the row of a booking."""
        (row,) = await self.rows("select * from booking where id = $1", booking_id)
        return row

    async def slots(self) -> list[dict[str, Any]]:
        """Return the rows of all slots, in order of creation."""
        return [dict(row) for row in await self.rows("select * from slot order by id")]

    async def seats(self, slot_id: int) -> list[int]:
        """Return the seats of a slot that were ever booked."""
        rows = await self.rows("select seat from booking where slot_id = $1 order by seat", slot_id)
        return [row["seat"] for row in rows]

    async def requests(self) -> int:
        """Return how many requests there are."""
        return len(await self.rows("select from request"))

    async def standing(self) -> list[tuple[str, str | None, str | None, str | None]]:
        """Return (status, booking it points at, its active booking, the state of that one) of each request."""
        rows = await self.rows(
            "select r.status, r.booking_id::text, b.id::text, b.state from request r "
            "left join booking b on b.request_id = r.id and b.ended_at is null"
        )
        return [tuple(row) for row in rows]

    # -- time and other hands

    async def clear(self) -> None:
        """Forget all slots, requests and bookings."""
        await self.rows("truncate slot, request, booking, outbox cascade")

    async def end_leases(self, *territories: str) -> None:
        """Let the leases of some territories (of all, when none is named) run out now."""
        await self.rows(
            "update lease set until = clock_timestamp() where $1::text[] = '{}' or territory = any($1)", territories
        )

    async def hold_until(self, instant: datetime) -> None:
        """Let all holds last until an instant."""
        await self.rows("update booking set hold_until = $1 where state = 'held'", instant)


class TwinDesk(Desk):
    """The same people at the ledger in memory; its tables are looked into as they are."""

    refusals = (ValueError,)

    def __init__(self, ledger: MemoryLedger, clock: StillClock) -> None:
        # the same protocol; what only PostgreSQL has is asked of it by tests that say so
        super().__init__(cast(PostgresLedger, ledger), "")
        self.twin = ledger
        self.clock = clock

    async def add_key(self, key_id: str) -> None:
        """Store the API key of a regulator."""
        record = KeyRecord(key_id, b"", key_id, "regulator", (), (), (), key_id, None, None)
        await self.twin.add_key(record, NOW)

    async def booking(self, booking_id: str) -> Any:
        """Return the row of a booking."""
        return asdict(self.twin.tables.bookings[booking_id])

    async def slots(self) -> list[dict[str, Any]]:
        """Return the rows of all slots, in order of creation."""
        return [asdict(slot) for slot in self.twin.tables.slots.values()]

    async def seats(self, slot_id: int) -> list[int]:
        """Return the seats of a slot that were ever booked."""
        return sorted(b.seat for b in self.twin.tables.bookings.values() if b.slot_id == slot_id)

    async def requests(self) -> int:
        """Return how many requests there are."""
        return len(self.twin.tables.requests)

    async def standing(self) -> list[tuple[str, str | None, str | None, str | None]]:
        """Return (status, booking it points at, its active booking, the state of that one) of each request."""
        active = {b.request_id: b for b in self.twin.tables.bookings.values() if b.ended_at is None}
        return [
            (r.status, r.booking_id, b.id if (b := active.get(r.id)) else None, b.state if b else None)
            for r in self.twin.tables.requests.values()
        ]

    async def clear(self) -> None:
        """Forget all slots, requests and bookings."""
        self.twin.tables = Tables(day_log=False)
        self.twin.asking = AskingTables(self.twin.tables)

    async def end_leases(self, *territories: str) -> None:
        """Let the leases of some territories (of all, when none is named) run out now."""
        self.twin.end_leases(territories or await self.twin.matched_territories())

    async def hold_until(self, instant: datetime) -> None:
        """Let all holds last until an instant."""
        for booking in self.twin.tables.holds.values():
            booking.hold_until = instant
