"""PostgreSQL as the ledger: one method, one transaction; the verdicts are unique rows (see ``migrations/sql``)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg
import orjson

from adapters.postgres.group_commit import GroupCommit
from adapters.postgres.loading import Loading
from adapters.postgres.queries import QUERIES
from adapters.postgres.transactions import announcements
from sas_matcher.domain.errors import IdempotencyError, RefusedArrivalError
from sas_matcher.ports.ledger import (
    Announcement,
    Claim,
    Idempotency,
    KeyRecord,
    Outcome,
    PracticeLimit,
    Publisher,
    SettingChange,
    request_row,
)

_KNOWN: Final = "SAS05"  # the Idempotency-Key of an arriving request came before

# What each action of a regulator runs: function and number of arguments after (now, key, request).
_REQUEST_ACTIONS: Final = {
    "confirm": "select * from confirm_hold($1, $2, $3, $4)",
    "decline": "select * from decline_hold($1, $2, $3, $4, $5)",
    "cancel": "select * from cancel_request($1, $2, $3, $4)",
    "resume": "select * from resume_request($1, $2, $3)",
    "hand": "select * from hand_request($1, $2, $3, $4)",
    "take": "select * from take_place($1, $2, $3, $4, $5, $6, $7)",
}
_BOOKING_ACTIONS: Final = {
    "refuse": "select * from refuse_booking($1, $2, $3, $4)",
    "outcome": "select * from set_outcome($1, $2, $3)",
    "accept": "select * from accept_booking($1, $2)",
    "cancel": "select * from cancel_booking($1, $2, $3, $4)",
    "move": "select * from move_booking($1, $2, $3)",
    "accept_question": "select * from accept_question($1, $2, $3, $4, $5, $6, $7)",
    "refuse_question": "select * from refuse_question($1, $2, $3)",
}


class PostgresLedger(Loading):
    """The truth (port ``Ledger``)."""

    def __init__(self, pool: asyncpg.Pool, publisher: Publisher) -> None:
        super().__init__(pool, publisher)
        # 200 requests in one insert: the point where the statement costs more than the fsync it saves
        self._intake = GroupCommit(self._create_many, 200)

    # -- requests ------------------------------------------------------------------------------------------------

    async def create_request(self, now: datetime, row: Mapping[str, Any], once: Idempotency) -> Outcome:
        """Take in one request. ``word``: created, or replayed with the request it stands for as document id.

        It is safe from a crash with its decision, which is committed after it, or after ``secure``: whoever tells of it
        earlier calls that first.

        Raises:
            IdempotencyError: the key came before with another body.
            UnavailableError: the ledger is away; it may have committed, the same key tells.
        """
        created: bool = await self._intake.submit((now, request_row(now, row, once)))
        if created:
            return Outcome("created", str(row["id"]))
        known = await self._retry(lambda c: c.fetchrow("select * from idempotency_of($1, $2)", once.key_id, once.key))
        if known is None or known["body_hash"] != once.body_hash or known["request_id"] is None:
            raise IdempotencyError
        if str(known["request_id"]) == str(row["id"]):
            return Outcome("created", str(row["id"]))  # it came with a claim meanwhile
        return Outcome("replayed", str(known["request_id"]), replayed=True)

    async def _create_many(self, batch: list[tuple[datetime, dict[str, Any]]]) -> list[bool]:
        now = max(when for when, _ in batch)
        payload = orjson.dumps([doc for _, doc in batch]).decode()
        row = await self._change("select * from create_requests($1, $2)", now, payload)
        created = {verdict["n"]: verdict["created"] for verdict in orjson.loads(row["verdicts"])}
        return [created[number] for number in range(len(batch))]

    async def secure(self) -> None:
        """Return once every request that was taken in before is safe from a crash: see ``create_requests``."""
        await self._retry(lambda c: c.execute(QUERIES["secure"]))

    async def change_request(
        self, action: str, now: datetime, request_id: str, arguments: Sequence[Any], once: Idempotency
    ) -> Outcome:
        """Run an action of ``_REQUEST_ACTIONS`` once for its Idempotency-Key; a replay gives the first answer."""
        return await self._once(_REQUEST_ACTIONS[action], now, (once.key_id, request_id, *arguments), once)

    async def change_booking(
        self, action: str, now: datetime, booking_id: str, arguments: Sequence[Any], once: Idempotency
    ) -> Outcome:
        """Run an action of ``_BOOKING_ACTIONS`` once for its Idempotency-Key."""
        return await self._once(_BOOKING_ACTIONS[action], now, (booking_id, *arguments), once)

    async def request_document(self, request_id: str, key_id: str | None) -> str | None:
        """Return the request as its key sees it (any key when None)."""
        document: str | None = await self._value("request_document", request_id, key_id)
        return document

    async def requests_of_key(
        self, key_id: str, statuses: Sequence[str] | None, before: datetime | None, limit: int
    ) -> list[str]:
        """Return a page of a key's requests, newest first."""
        return [row["document"] for row in await self._rows("requests_of_key", key_id, statuses, before, limit)]

    async def requests_at_hand(self, key_id: str, since: datetime, limit: int) -> list[str]:
        """Return a key's open requests, then those that ended, or whose place began, after an instant."""
        return [row["document"] for row in await self._rows("requests_at_hand", key_id, since, limit)]

    async def request_for_choice(self, request_id: str, key_id: str) -> dict[str, Any] | None:
        """Return the columns of a request of this key."""
        row = await self._retry(lambda c: c.fetchrow(QUERIES["request_for_choice"], request_id, key_id))
        return None if row is None else dict(row)

    async def waiting_requests(self, now: datetime, territories: Sequence[str]) -> list[str]:
        """Return the documents of the requests that wait or are promised in some territories."""
        rows = await self._rows("waiting_requests", now, list(territories))
        return [row["document"] for row in rows]

    async def calls_since(self, since: datetime, territory: str) -> list[datetime]:
        """Return when each request of a territory was made from an instant on, in order."""
        return [row["created_at"] for row in await self._rows("calls_since", since, territory)]

    async def mt_counts(
        self, territory: str, window: tuple[datetime, datetime], communes: Sequence[str] | None
    ) -> list[tuple[str, int, int, int]]:
        """Count requests by commune: patients with, without, and perhaps with a médecin traitant."""
        return [tuple(row) for row in await self._rows("mt_counts", territory, *window, communes)]

    # -- the matcher ---------------------------------------------------------------------------------------------

    async def claim(
        self, now: datetime, fences: Mapping[str, int], claims: Sequence[Claim]
    ) -> tuple[list[str], list[Announcement]]:
        """Decide a batch in one transaction. Verdict per claim: see the port.

        Raises:
            FencedError: one of the territories has another matcher now; nothing was written.
            RefusedArrivalError: an arriving request cannot be written; nothing was.
            UnavailableError: the ledger is away; what was committed shows in the requests' documents.
        """
        columns: list[list[Any]] = [list(column) for column in zip(*claims, strict=True)]
        requests, slots, bookings, until, decisions, kinds, shown, arriving = columns
        rows = [row for row in arriving if row is not None]
        claimed = self._change(
            "select * from claim_seats($1, $2, $3, $4::text[]::uuid[], $5, $6::text[]::uuid[], $7, $8, $9, $10, $11)",
            now,
            list(fences),
            list(fences.values()),
            requests,
            slots,
            bookings,
            until,
            decisions,
            kinds,
            [f"{{{','.join(map(str, slots))}}}" for slots in shown],
            f"[{','.join(rows)}]" if rows else None,
        )
        try:
            row = await claimed
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as failure:
            if not rows:
                raise
            raise RefusedArrivalError from failure
        except asyncpg.PostgresError as failure:
            if failure.sqlstate != _KNOWN:
                raise
            raise RefusedArrivalError((failure.detail or "").split()) from failure
        return list(row["verdicts"]), announcements(row["published"])

    async def lapse_holds(self, now: datetime) -> int:
        """Give up holds that ran out; returns the number of announcements."""
        return await self._announced("select * from lapse_holds($1, null, 500)", now)

    async def close_unserved(self, now: datetime) -> int:
        """Close requests whose deadline passed; returns the number of announcements."""
        return await self._announced("select * from close_unserved($1, 500)", now)

    async def settle_acceptance(self, now: datetime) -> int:
        """Settle acceptances whose deadline has passed; returns the number of announcements."""
        return await self._announced("select * from settle_acceptance($1, 500)", now)

    async def open_for_all(self, now: datetime) -> int:
        """Let everybody have the places that own patients had first until now; returns the number of announcements."""
        return await self._announced("select * from open_for_all($1, 500)", now)

    async def forget_exposures(self, before: datetime) -> None:
        """Drop what was shown before an instant."""
        await self._rows("forget_exposures", before)

    async def hand_back(self, now: datetime) -> int:
        """Give unused places back whose hour for it has come; returns the number of announcements."""
        return await self._announced("select * from hand_back($1, 500)", now)

    async def take_leases(self, holder: str, territories: Sequence[str], seconds: float) -> dict[str, int]:
        """Take or renew leases; returns the fence of each territory that this holder has."""
        return {
            row["territory"]: row["fence"]
            for row in await self._rows("take_leases", holder, list(territories), seconds)
        }

    async def matched_territories(self) -> list[str]:
        """Return the territories that some matcher decides for right now."""
        return [row["territory"] for row in await self._rows("matched_territories")]

    async def shares(self) -> dict[str, int]:
        """Return which matcher's territories were moved to, by territory."""
        return {row["territory"]: row["share"] for row in await self._rows("shares")}

    async def move_territory(self, territory: str, share: int, now: datetime) -> None:
        """Say that another matcher shall decide for a territory."""
        await self._retry(lambda c: c.execute(QUERIES["move_territory"], territory, share, now))

    async def leave_territories(self, holder: str, territories: Sequence[str]) -> None:
        """Give some leases back, so that whom the territories were moved to starts at once."""
        await self._retry(lambda c: c.execute(QUERIES["leave_territories"], holder, list(territories)))

    async def drop_leases(self, holder: str) -> None:
        """Give leases back at a clean stop, so that another matcher starts at once."""
        await self._retry(lambda c: c.execute(QUERIES["drop_leases"], holder))

    # -- the practice --------------------------------------------------------------------------------------------

    async def upsert_slots(
        self,
        now: datetime,
        source: str,
        rows: Sequence[Mapping[str, Any]],
        owners: tuple[Sequence[str], Sequence[str]] | None = None,
    ) -> list[dict[str, Any]]:
        """Publish slots; verdict per row in order (see ``upsert_slots`` in SQL)."""
        payload = orjson.dumps(rows).decode()
        row = await self._change(
            "select * from upsert_slots($1, $2, $3, $4, $5)", now, source, payload, *(owners or (None, None)), bulk=True
        )
        verdicts: list[dict[str, Any]] = orjson.loads(row["verdicts"] or b"[]")
        return verdicts

    async def withdraw_slots(
        self,
        now: datetime,
        source: str,
        only: Sequence[str] | None,
        window: tuple[datetime, datetime] | None,
        owners: tuple[Sequence[str], Sequence[str]] | None,
        reason: str,
    ) -> list[dict[str, Any]]:
        """Withdraw named slots of a source, or all in a window; owners limit to (professionals, structures)."""
        start, end = window or (None, None)
        professionals, structures = owners or (None, None)
        row = await self._change(
            "select * from withdraw_slots($1, $2, $3, $4, $5, $6, $7, $8)",
            now,
            source,
            only,
            start,
            end,
            professionals,
            structures,
            reason,
            bulk=True,
        )
        verdicts: list[dict[str, Any]] = orjson.loads(row["verdicts"] or b"[]")
        return verdicts

    async def slots_of_source(
        self,
        source: str,
        window: tuple[datetime, datetime],
        owners: tuple[Sequence[str], Sequence[str]] | None,
        after: int,
        limit: int,
    ) -> list[tuple[str, int, str, dict[str, Any]]]:
        """Return (record, seats left, status, counts) of what a source published, a page at a time."""
        professionals, structures = owners or (None, None)
        rows = await self._rows("slots_of_source", source, *window, professionals, structures, after, limit)
        return [(row["record"], row["left"], row["status"], orjson.loads(row["counts"])) for row in rows]

    async def offers(self, *args: Any) -> list[tuple[str, int]]:
        """Return (record, seats left) of live places; arguments as in the query ``offers``."""
        return [(row["record"], row["left"]) for row in await self._rows("offers", *args)]

    async def put_limit(self, now: datetime, limit: PracticeLimit) -> str:
        """Set or change a limit; returns how it looks to its practice."""
        row = await self._change(
            "select * from put_limit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", now, *limit, bulk=True
        )
        document: str = row["document"]
        return document

    async def remove_limit(self, now: datetime, source: str, name: str) -> bool:
        """Take a limit back; False when there is none of that name."""
        row = await self._change("select * from remove_limit($1, $2, $3)", now, source, name, bulk=True)
        return bool(row["outcome"] == "removed")

    async def limits_of_source(self, now: datetime, source: str) -> list[str]:
        """Return the limits that a source has set, by name."""
        return [row["document"] for row in await self._rows("limits_of_source", source, now)]

    async def limits(self, now: datetime) -> list[tuple[str, str]]:
        """Return all limits with what is left: see the port."""
        return [tuple(row.values()) for row in await self._rows("limits", now)]

    async def count_plage(self, now: datetime, slot_id: int, arrived: int, over: bool, once: Idempotency) -> Outcome:
        """Say how many patients of a plage have come, once for an Idempotency-Key; words as in the port."""
        return await self._once("select * from count_plage($1, $2, $3, $4)", now, (slot_id, arrived, over), once)

    async def slot_record(self, slot_id: int) -> Any | None:
        """Return record, seats left, start, end (epoch seconds) and status of a slot."""
        return await self._retry(lambda c: c.fetchrow(QUERIES["slot_record"], slot_id))

    async def booking_document(self, booking_id: str) -> Any | None:
        """Return (document, source, professional, structure) of a booking."""
        return await self._retry(lambda c: c.fetchrow(QUERIES["booking_document"], booking_id))

    async def bookings_of_practice(
        self,
        source: str | None,
        professionals: Sequence[str],
        structures: Sequence[str],
        window: tuple[datetime, datetime],
        limit: int,
    ) -> list[str]:
        """Return the bookings a practice has (or had, once firm) in a window of starts."""
        rows = await self._rows("bookings_of_practice", source, list(professionals), list(structures), *window, limit)
        return [row["document"] for row in rows]

    # -- the mirror and the outbox -------------------------------------------------------------------------------

    async def live_records(self, now: datetime, territory: str) -> list[Any]:
        """Return (id, version, start, left, record) of a territory's live places."""
        return await self._rows("live_records", now, territory)

    async def live_territories(self, now: datetime) -> list[str]:
        """Return the territories that have live places."""
        return [row["territory"] for row in await self._rows("live_territories", now)]

    async def leftovers(self, before: datetime, limit: int) -> list[Announcement]:
        """Return announcements older than an instant that nobody has published yet."""
        return announcements(await self._rows("leftovers", before, limit))

    async def mark_published(self, ids: Sequence[int]) -> None:
        """Drop published announcements; losing this on a crash only publishes them again."""
        await self._retry(lambda c: c.execute(QUERIES["published"], list(ids)))

    async def forget_idempotency(self, before: datetime) -> None:
        """Drop Idempotency-Keys older than an instant."""
        await self._retry(lambda c: c.execute(QUERIES["forget_idempotency"], before))

    # -- keys, settings, audit -----------------------------------------------------------------------------------

    async def key(self, key_id: str) -> KeyRecord | None:
        """Return an API key."""
        row = await self._retry(lambda c: c.fetchrow(QUERIES["key"], key_id))
        return None if row is None else KeyRecord(*row.values())

    async def keys(self) -> list[KeyRecord]:
        """Return all API keys, newest first."""
        return [KeyRecord(*row.values()) for row in await self._rows("keys")]

    async def add_key(self, record: KeyRecord, now: datetime) -> None:
        """Store a new API key."""
        await self._retry(
            lambda c: c.execute(
                QUERIES["add_key"],
                record.id,
                record.secret_hash,
                record.name,
                record.role,
                list(record.territories),
                list(record.structures),
                list(record.professionals),
                record.source,
                now,
                record.expires_at,
            )
        )

    async def revoke_key(self, key_id: str, now: datetime) -> bool:
        """Revoke a key; False when there is none in force."""
        return await self._value("revoke_key", key_id, now) is not None

    async def allow_ingest(self, key_id: str, password_hash: str) -> bool:
        """Let a key publish through Redis; False when there is no such key in force."""
        return await self._value("allow_ingest", key_id, password_hash) is not None

    async def settings(self) -> dict[str, dict[str, Any]]:
        """Return the settings of the territories that have changed any."""
        found = [orjson.loads(row["document"]) for row in await self._rows("settings")]
        return {setting["territory"]: setting for setting in found}

    async def change_setting(self, now: datetime, change: SettingChange, once: Idempotency) -> Outcome:
        """Change a territory's setting once for its Idempotency-Key; words as in the port."""
        named = orjson.dumps(change.changes).decode()
        args = (change.territory, once.key_id, named, change.why, change.version)
        return await self._once("select * from change_setting($1, $2, $3, $4, $5, $6)", now, args, once)

    async def setting_changes(self, territory: str, before: int | None, limit: int) -> list[str]:
        """Return a page of the changes of a territory's setting, newest first."""
        return [row["document"] for row in await self._rows("setting_changes", territory, before, limit)]

    async def overview(self, territories: Sequence[str], since: datetime, now: datetime) -> list[dict[str, Any]]:
        """Return counts of requests and places of some territories."""
        return [dict(row) for row in await self._rows("overview", list(territories), since, now)]

    async def doubles(self) -> dict[str, int]:
        """Return what must never be more than zero: {seat, request, overlap, capacity}."""
        return {row["what"]: row["count"] for row in await self._rows("doubles")}

    async def is_drill(self, drill: bool) -> bool:
        """Return whether this ledger is an exercise's; the first who asks says so, for ever."""
        await self._retry(
            lambda c: c.execute("insert into ledger_kind (drill) values ($1) on conflict do nothing", drill)
        )
        return bool(await self._retry(lambda c: c.fetchval("select drill from ledger_kind where one")))

    async def ping(self) -> None:
        """Raise UnavailableError when the ledger does not answer."""
        await self._retry(lambda c: c.fetchval("select 1"))
