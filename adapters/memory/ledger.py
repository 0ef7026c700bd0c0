"""The ledger in memory (port ``Ledger``): the meaning of ``adapters.postgres.ledger``, without a server."""

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import combinations
from typing import Any, Final

import orjson

from adapters.memory import practice, requests, slots
from adapters.memory.claims import claim_seats
from adapters.memory.documents import place_json
from adapters.memory.limits import Limit
from adapters.memory.questions import AskingTables, accept_question, ask_mt, refuse_question
from adapters.memory.requests import Answer
from adapters.memory.rows import BEHIND_PROMISES, Booking, Request, Slot
from adapters.memory.settings import change_setting
from adapters.memory.tables import Tables
from sas_matcher.domain.errors import FencedError, IdempotencyError, RefusedArrivalError
from sas_matcher.ports.ledger import (
    Announcement,
    Claim,
    Idempotency,
    KeyRecord,
    Outcome,
    PlacesPage,
    PracticeLimit,
    Publisher,
    SettingChange,
)
from sas_matcher.ports.world import Clock

_SHOWN: Final = timedelta(days=7)  # of the coming periods of a limit

_REQUEST_ACTIONS: Final[dict[str, Callable[..., Answer]]] = {
    "confirm": requests.confirm_hold,
    "decline": requests.decline_hold,
    "cancel": requests.cancel_request,
    "resume": requests.resume_request,
    "hand": requests.hand_request,
    "take": requests.take_place,
}
_BOOKING_ACTIONS: Final[dict[str, Callable[..., Answer]]] = {
    "refuse": slots.refuse_booking,
    "outcome": slots.set_outcome,
    "accept": practice.accept_booking,
    "cancel": practice.cancel_booking,
    "move": practice.move_booking,
}
_QUESTION_ACTIONS: Final[dict[str, Callable[..., Answer]]] = {
    "accept_question": accept_question,
    "refuse_question": refuse_question,
}


@dataclass(slots=True)
class _Lease:
    holder: str
    fence: int
    until: datetime


@dataclass(slots=True)
class _Answered:
    """An Idempotency-Key that was used: for a request, or for a change with its answer."""

    body_hash: bytes
    at: datetime
    request_id: str | None = None
    answer: Answer | None = None


class MemoryLedger:
    """The truth of one process, for as long as it lives.

    Args:
        publisher: hears what each change announces.
        clock: what leases end by.
        day_log, number_of: slots as a day log means them, and their numbers (see ``Tables``).
    """

    def __init__(
        self,
        publisher: Publisher,
        clock: Clock,
        *,
        day_log: bool = False,
        number_of: Callable[[str], int] | None = None,
    ) -> None:
        self.tables = Tables(day_log=day_log, number_of=number_of)
        self.asking = AskingTables(self.tables)
        self._publisher = publisher
        self._clock = clock
        self._keys: dict[str, KeyRecord] = {}
        self._once: dict[tuple[str, str], _Answered] = {}
        self._leases: dict[str, _Lease] = {}
        self._shares: dict[str, int] = {}
        self._fences = itertools.count(1)

    def publish(self) -> list[Announcement]:
        """End the transaction: what it announced is made known."""
        said = self.tables.take_said()
        self._publisher.announce(said)
        return said

    # -- requests ------------------------------------------------------------------------------------------------

    async def create_request(self, now: datetime, row: Mapping[str, Any], once: Idempotency) -> Outcome:
        """Take in one request. ``word``: created, or replayed with the request it stands for as document id.

        Raises:
            IdempotencyError: the key came before with another body.
            ValueError: a column is missing, or the API key is unknown.
        """
        known = self._once.get(once[:2])
        if known is not None:
            if known.body_hash != once.body_hash or known.request_id is None:
                raise IdempotencyError
            if known.request_id == row["id"]:
                return Outcome("created", known.request_id)  # it came with a claim meanwhile
            return Outcome("replayed", known.request_id, replayed=True)
        if once.key_id not in self._keys:
            raise ValueError(f"Expected a known API key, got {once.key_id}.")
        requests.create_request(self.tables, now, row, once, partial(ask_mt, self.asking, now))
        self._once[once[:2]] = _Answered(once.body_hash, now, request_id=row["id"])
        self.publish()
        return Outcome("created", row["id"])

    async def change_request(
        self, action: str, now: datetime, request_id: str, arguments: Sequence[Any], once: Idempotency
    ) -> Outcome:
        """Run an action of a regulator once for its Idempotency-Key; a replay gives the first answer."""
        return self.change_once(_REQUEST_ACTIONS[action], now, (once.key_id, request_id, *arguments), once)

    async def change_booking(
        self, action: str, now: datetime, booking_id: str, arguments: Sequence[Any], once: Idempotency
    ) -> Outcome:
        """Run an action of a practice once for its Idempotency-Key."""
        if action in _QUESTION_ACTIONS:
            answered = partial(_QUESTION_ACTIONS[action], self.asking)
            return self.change_once(lambda _, *args: answered(*args), now, (booking_id, *arguments), once)
        return self.change_once(_BOOKING_ACTIONS[action], now, (booking_id, *arguments), once)

    def change_once(
        self, change: Callable[..., Answer], now: datetime, args: tuple[Any, ...], once: Idempotency
    ) -> Outcome:
        """Run one change on the tables once for its Idempotency-Key."""
        known = self._once.get(once[:2])
        if known is not None:
            if known.body_hash != once.body_hash or known.answer is None:
                raise IdempotencyError
            return Outcome(*known.answer, replayed=True)
        answer = change(self.tables, now, *args)
        self._once[once[:2]] = _Answered(once.body_hash, now, answer=answer)
        self.publish()
        return Outcome(*answer)

    async def request_document(self, request_id: str, key_id: str | None) -> str | None:
        """Return the request as its key sees it (any key when None)."""
        request = self.tables.requests.get(request_id)
        if request is None or key_id not in (None, request.key_id):
            return None
        return self.tables.request_json(request)

    async def requests_of_key(
        self, key_id: str, statuses: Sequence[str] | None, before: datetime | None, limit: int
    ) -> list[str]:
        """Return a page of a key's requests, newest first."""
        mine = [
            r
            for r in self.tables.requests.values()
            if r.key_id == key_id
            and (statuses is None or r.status in statuses)
            and (before is None or r.created_at < before)
        ]
        newest = sorted(mine, key=lambda r: r.created_at, reverse=True)
        return [self.tables.request_json(r) for r in newest[:limit]]

    async def requests_at_hand(self, key_id: str, since: datetime, limit: int) -> list[str]:
        """Return a key's open requests, then those that ended, or whose place began, after an instant."""

        def rank(r: Request) -> int | None:
            if r.status in ("waiting", "promised", "held"):
                return 0
            if r.status in ("lapsed", "unserved"):
                return 1 if r.deadline > since else None
            booking = self.tables.active(r) if r.status == "firm" else None
            return 2 if booking is not None and self.tables.slots[booking.slot_id].starts > since else None

        oldest = since - timedelta(hours=120)
        mine = [r for r in self.tables.requests.values() if r.key_id == key_id and r.created_at > oldest]
        ranked = sorted((place, r.deadline, r.id) for r in mine if (place := rank(r)) is not None)
        return [self.tables.request_json(self.tables.requests[number]) for _, _, number in ranked[:limit]]

    async def request_for_choice(self, request_id: str, key_id: str) -> dict[str, Any] | None:
        """Return the columns of a request of this key."""
        request = self.tables.requests.get(request_id)
        return asdict(request) if request is not None and request.key_id == key_id else None

    async def mt_counts(
        self, territory: str, window: tuple[datetime, datetime], communes: Sequence[str] | None
    ) -> list[tuple[str, int, int, int]]:
        """Count requests by commune: patients with, without, and perhaps with a médecin traitant."""
        counts: dict[str, Counter[str]] = {}
        for r in self.tables.requests.values():
            if r.territory == territory and window[0] <= r.created_at < window[1]:
                counts.setdefault(r.insee, Counter())[r.has_mt] += 1
        wanted = sorted(counts if communes is None else counts.keys() & set(communes))
        return [(insee, (c := counts[insee])["yes"], c["no"], c["unknown"]) for insee in wanted]

    async def waiting_requests(self, now: datetime, territories: Sequence[str]) -> list[str]:
        """Return the documents of the requests that wait or are promised in some territories."""
        open_ones = itertools.chain(self.tables.waiting.values(), self.tables.promised.values())
        return [self.tables.request_json(r) for r in open_ones if r.deadline > now and r.territory in territories]

    async def calls_since(self, since: datetime, territory: str) -> list[datetime]:
        """Return when each request of a territory was made from an instant on, in order."""
        asked = (r for r in self.tables.requests.values() if r.territory == territory and r.created_at >= since)
        return sorted(request.created_at for request in asked)

    # -- the matcher ---------------------------------------------------------------------------------------------

    async def claim(
        self, now: datetime, fences: Mapping[str, int], claims: Sequence[Claim]
    ) -> tuple[list[str], list[Announcement]]:
        """Decide a batch in one transaction. Verdict per claim: see the port.

        Raises:
            FencedError: one of the territories has another matcher now; nothing was written.
            RefusedArrivalError: an arriving request cannot be written; nothing was.
        """
        arriving = [orjson.loads(claim.arrives) for claim in claims if claim.arrives is not None]
        if any(row["territory"] not in fences for row in arriving):
            raise FencedError
        known = (self.tables.requests.get(c.request_id) for c in claims)
        if any(r is not None and r.territory not in fences for r in known):
            raise FencedError
        for territory, fence in fences.items():
            lease = self._leases.get(territory)
            if lease is None or lease.fence != fence:
                raise FencedError
        self._write_arriving(now, arriving)
        verdicts = claim_seats(self.tables, now, claims)
        return verdicts, self.publish()

    def _write_arriving(self, now: datetime, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write those that their sender has not written yet: all of them, or none."""
        keys: dict[tuple[str, str], str] = {}
        for row in rows:
            known = self._once.get((row["key_id"], row["idem_key"]))
            keys.setdefault((row["key_id"], row["idem_key"]), row["id"] if known is None else known.request_id or "")
        if came_before := [row["id"] for row in rows if keys[row["key_id"], row["idem_key"]] != row["id"]]:
            raise RefusedArrivalError(came_before)
        rows = [row for row in rows if (row["key_id"], row["idem_key"]) not in self._once]
        try:
            if unknown := [row["key_id"] for row in rows if row["key_id"] not in self._keys]:
                raise ValueError(f"Expected a known API key, got {unknown[0]}.")
            new = [
                requests.new_request(
                    self.tables,
                    datetime.fromisoformat(row["created_at"]),
                    {**row, "deadline": datetime.fromisoformat(row["deadline"])},
                    row["key_id"],
                )
                for row in rows
            ]
        except (KeyError, ValueError) as wrong:
            raise RefusedArrivalError from wrong
        for row, request in zip(rows, new, strict=True):
            requests.write_request(self.tables, request)
            name, body_hash = (row["key_id"], row["idem_key"]), bytes.fromhex(row["body_hash"])
            self._once[name] = _Answered(body_hash, now, request_id=row["id"])

    async def lapse_holds(self, now: datetime) -> int:
        """Give up holds that ran out; returns the number of announcements."""
        requests.lapse_holds(self.tables, now, None, 500)
        return len(self.publish())

    async def close_unserved(self, now: datetime) -> int:
        """Close requests whose deadline passed; returns the number of announcements."""
        requests.close_unserved(self.tables, now, 500)
        return len(self.publish())

    async def settle_acceptance(self, now: datetime) -> int:
        """Settle acceptances whose deadline has passed; returns the number of announcements."""
        practice.settle_acceptance(self.tables, now, 500)
        return len(self.publish())

    async def open_for_all(self, now: datetime) -> int:
        """Let everybody have the places that own patients had first until now; returns the number of announcements."""
        due = [
            s
            for s in self.tables.slots.values()
            if s.own_until is not None and s.own_until <= now and s.status == "open"
        ]
        for slot in due:
            slot.own_until, slot.version, slot.changed_at = None, self.tables.change(), now
        self.tables.announce_places(now, due)
        return len(self.publish())

    async def forget_exposures(self, before: datetime) -> None:
        """Drop what was shown before an instant."""
        shown = self.tables.sharing.shown
        shown[:] = [one for one in shown if one.at >= before]

    def role_of(self, key_id: str) -> str | None:
        """Return the role of a key."""
        return self._keys[key_id].role if key_id in self._keys else None

    async def hand_back(self, now: datetime) -> int:
        """Give unused places back whose hour for it has come; returns the number of announcements."""
        practice.hand_back(self.tables, now, 500)
        return len(self.publish())

    async def take_leases(self, holder: str, territories: Sequence[str], seconds: float) -> dict[str, int]:
        """Take or renew leases; returns the fence of each territory that this holder has."""
        now = self._clock.now()
        for territory in sorted(territories):
            lease = self._leases.get(territory)
            if lease is not None and lease.until > now and lease.holder != holder:
                continue
            goes_on = lease is not None and lease.until > now
            fence = lease.fence if lease is not None and goes_on else next(self._fences)
            self._leases[territory] = _Lease(holder, fence, now + timedelta(seconds=seconds))
        return {t: lease.fence for t in territories if (lease := self._leases[t]).holder == holder}

    async def matched_territories(self) -> list[str]:
        """Return the territories that some matcher decides for right now."""
        now = self._clock.now()
        return [territory for territory, lease in self._leases.items() if lease.until > now]

    async def shares(self) -> dict[str, int]:
        """Return which matcher's territories were moved to, by territory."""
        return dict(self._shares)

    async def move_territory(self, territory: str, share: int, now: datetime) -> None:
        """Say that another matcher shall decide for a territory."""
        self._shares[territory] = share

    async def leave_territories(self, holder: str, territories: Sequence[str]) -> None:
        """Give some leases back, so that whom the territories were moved to starts at once."""
        for territory in territories:
            if (lease := self._leases.get(territory)) is not None and lease.holder == holder:
                del self._leases[territory]

    async def drop_leases(self, holder: str) -> None:
        """Give leases back at a clean stop, so that another matcher starts at once."""
        self._leases = {t: lease for t, lease in self._leases.items() if lease.holder != holder}

    def end_leases(self, territories: Collection[str]) -> None:
        """Let leases run out now, as if their time were over."""
        for territory in territories:
            self._leases[territory].until = self._clock.now()

    def _live(self, now: datetime, territories: Sequence[str] | None) -> list[Slot]:
        return [
            s
            for s in self.tables.slots.values()
            if s.status == "open" and s.starts > now and (territories is None or s.territory in territories)
        ]

    async def live_places(self, now: datetime, territories: Sequence[str] | None) -> AsyncIterator[PlacesPage]:
        """Yield the live places as one page."""
        yield PlacesPage.of(
            (
                (
                    *(s.id, int(s.starts.timestamp()), int(s.ends.timestamp()), self.tables.left(s), s.capacity),
                    *(s.landmass, s.version, s.own_until is not None),
                ),
                (
                    *(s.territory, s.professional, s.professional_name, s.structure, s.structure_name, s.source_kind),
                    *(s.lat, s.lon, s.insee, s.label, s.phone),
                ),
                (tuple(s.offers), s.specialty, s.profession, s.mode, s.booking_kind, s.source),
            )
            for s in self._live(now, territories)
            if s.for_request is None
        )

    # -- the practice --------------------------------------------------------------------------------------------

    async def upsert_slots(
        self,
        now: datetime,
        source: str,
        rows: Sequence[Mapping[str, Any]],
        owners: tuple[Sequence[str], Sequence[str]] | None = None,
    ) -> list[dict[str, Any]]:
        """Publish slots; verdict per row in order; owners (professionals, structures) limit whose known ones change.

        Raises:
            ValueError: a row that no practice may publish; none was written.
        """
        verdicts = slots.upsert_slots(self.tables, now, source, rows, owners)
        self.publish()
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
        verdicts = slots.withdraw_slots(self.tables, now, source, only, window, owners, reason)
        self.publish()
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
        found = [
            s
            for s in self.tables.slots.values()
            if s.source == source
            and window[0] <= s.starts < window[1]
            and s.id > after
            and (owners is None or s.professional in owners[0] or s.structure in owners[1])
        ]
        return [(place_json(s), max(0, self.tables.left(s)), s.status, self._counts(s)) for s in found[:limit]]

    def _counts(self, slot: Slot) -> dict[str, Any]:
        counts = zip(("taken", "arrived", "missed"), practice.slot_counts(self.tables, slot.id), strict=True)
        states = [b.state for b in self.tables.seats.get(slot.id, {}).values()]
        unsure = {state: states.count(state) for state in ("held", "promised")}
        return {**dict(counts), **unsure, "handed_back": slot.handed_back}

    async def offers(self, *args: Any) -> list[tuple[str, int]]:
        """Return (record, seats left) of live places; arguments as in the query ``offers``."""
        profession, modes, after, until, south, north, west, east, specialty, needs, visibility, limit = args
        found = [
            s
            for s in self._live(after, None)
            if s.profession == profession
            and s.mode in modes
            and s.starts <= until
            and (s.mode == "tele" or (south <= s.lat <= north and west <= s.lon <= east))
            and specialty in (None, s.specialty)
            and set(needs) <= set(s.offers)
            and s.visibility in visibility
            and s.own_until is None
            and self.tables.left(s) > 0
        ]
        found.sort(key=lambda s: s.starts)
        return [(place_json(s), self.tables.left(s)) for s in found[:limit]]

    async def put_limit(self, now: datetime, limit: PracticeLimit) -> str:
        """Set or change a limit; returns how it looks to its practice."""
        limits = self.tables.limits
        known = limits.named(limit.source, limit.name)
        touched = {} if known is None else {s.id: s for s in limits.under(known, now, None)}
        put = limits.put(limit, self.tables.change())
        touched |= {s.id: s for s in limits.under(put, now, None)}
        self.tables.announce_limit(now, put.definition())
        self.tables.announce_states(now, touched.values())
        self.publish()
        return self._limit_json(put, now)

    def _limit_json(self, limit: Limit, now: datetime) -> str:
        limits = self.tables.limits
        return limits.document(limit, limits.periods(limit, now, now + _SHOWN))

    async def remove_limit(self, now: datetime, source: str, name: str) -> bool:
        """Take a limit back; False when there is none of that name."""
        limits = self.tables.limits
        known = limits.named(source, name)
        if known is None:
            return False
        touched = limits.under(known, now, None)
        limits.drop(known)
        self.tables.announce_limit(now, {"id": known.id, "version": self.tables.change(), "gone": True})
        self.tables.announce_states(now, touched)
        self.publish()
        return True

    async def limits_of_source(self, now: datetime, source: str) -> list[str]:
        """Return the limits that a source has set, by name."""
        mine = sorted((m for m in self.tables.limits.rows.values() if m.row.source == source), key=lambda m: m.row.name)
        return [self._limit_json(limit, now) for limit in mine]

    async def limits(self, now: datetime) -> list[tuple[str, str]]:
        """Return all limits with what is left: see the port."""
        limits = self.tables.limits
        return [
            (
                orjson.dumps(limit.definition()).decode(),
                orjson.dumps(
                    [(int(o.starts.timestamp()), limits.left(o)) for o in limits.periods(limit, now, None)]
                ).decode(),
            )
            for limit in limits.rows.values()
        ]

    async def count_plage(self, now: datetime, slot_id: int, arrived: int, over: bool, once: Idempotency) -> Outcome:
        """Say how many patients of a plage have come, once for an Idempotency-Key; words as in the port."""
        return self.change_once(practice.count_plage, now, (slot_id, arrived, over), once)

    async def slot_record(self, slot_id: int) -> Any | None:
        """Return record, seats left, start, end (epoch seconds) and status of a slot."""
        slot = self.tables.slots.get(slot_id)
        return slot and {**self._record(slot), "end": int(slot.ends.timestamp()), "status": slot.status}

    def _record(self, slot: Slot) -> dict[str, Any]:
        return {"record": place_json(slot), "left": self.tables.left(slot), "start": int(slot.starts.timestamp())}

    async def booking_document(self, booking_id: str) -> Any | None:
        """Return (document, source, professional, structure) of a booking."""
        booking = self.tables.bookings.get(booking_id)
        if booking is None or booking.state in BEHIND_PROMISES:
            return None
        slot = self.tables.slots[booking.slot_id]
        return self.tables.booking_json(booking), slot.source, slot.professional, slot.structure

    async def bookings_of_practice(
        self,
        source: str | None,
        professionals: Sequence[str],
        structures: Sequence[str],
        window: tuple[datetime, datetime],
        limit: int,
    ) -> list[str]:
        """Return the bookings a practice has (or had, once firm) in a window of starts."""
        found = [
            (slot.starts, b.id, b)
            for b in self.tables.bookings.values()
            if b.firm_at is not None
            and window[0] <= (slot := self.tables.slots[b.slot_id]).starts < window[1]
            and (slot.source == source or slot.professional in professionals or slot.structure in structures)
        ]
        return [self.tables.booking_json(booking) for _, _, booking in sorted(found, key=lambda f: f[:2])[:limit]]

    # -- the mirror and the outbox -------------------------------------------------------------------------------

    async def live_records(self, now: datetime, territory: str) -> list[Any]:
        """Return (id, version, start, left, record) of a territory's live places, by id."""
        live = sorted(self._live(now, [territory]), key=lambda s: s.id)
        return [{"id": s.id, "version": s.version, **self._record(s)} for s in live]

    async def live_territories(self, now: datetime) -> list[str]:
        """Return the territories that have live places."""
        return list(dict.fromkeys(s.territory for s in self._live(now, None)))

    async def leftovers(self, before: datetime, limit: int) -> list[Announcement]:
        """Return announcements older than an instant that nobody has published yet."""
        late = (a for a in self.tables.outbox.values() if a.at <= before)
        return list(itertools.islice(late, limit))

    async def mark_published(self, ids: Sequence[int]) -> None:
        """Drop published announcements."""
        for number in ids:
            self.tables.outbox.pop(number, None)

    async def forget_idempotency(self, before: datetime) -> None:
        """Drop Idempotency-Keys older than an instant."""
        self._once = {key: used for key, used in self._once.items() if used.at >= before}

    # -- keys, settings, audit -----------------------------------------------------------------------------------

    async def key(self, key_id: str) -> KeyRecord | None:
        """Return an API key."""
        return self._keys.get(key_id)

    async def keys(self) -> list[KeyRecord]:
        """Return all API keys, newest first."""
        return list(reversed(self._keys.values()))

    async def add_key(self, record: KeyRecord, now: datetime) -> None:
        """Store a new API key, the newest last.

        Raises:
            ValueError: there is one of that id.
        """
        if record.id in self._keys:
            raise ValueError(f"Expected a new API key, got {record.id} again.")
        self._keys[record.id] = record

    async def revoke_key(self, key_id: str, now: datetime) -> bool:
        """Revoke a key; False when there is none in force."""
        return self._change_key(key_id, revoked_at=now)

    async def allow_ingest(self, key_id: str, password_hash: str) -> bool:
        """Let a key publish through a stream; False when there is no such key in force."""
        return self._change_key(key_id, ingest_hash=password_hash)

    def _change_key(self, key_id: str, **columns: Any) -> bool:
        record = self._keys.get(key_id)
        if record is None or record.revoked_at is not None:
            return False
        self._keys[key_id] = record._replace(**columns)
        return True

    async def settings(self) -> dict[str, dict[str, Any]]:
        """Return the settings of the territories that have changed any."""
        return deepcopy(self.tables.settings)

    async def change_setting(self, now: datetime, change: SettingChange, once: Idempotency) -> Outcome:
        """Change a territory's setting once for its Idempotency-Key; words as in the port.

        Raises:
            ValueError: a value that no setting may have, or the API key is unknown.
        """
        if once.key_id not in self._keys:
            raise ValueError(f"Expected a known API key, got {once.key_id}.")
        return self.change_once(change_setting, now, (once.key_id, change), once)

    async def setting_changes(self, territory: str, before: int | None, limit: int) -> list[str]:
        """Return a page of the changes of a territory's setting, newest first."""
        # the n-th change made version n
        older = self.tables.setting_log.get(territory, [])[: None if before is None else max(0, before - 1)]
        return older[::-1][:limit]

    async def overview(self, territories: Sequence[str], since: datetime, now: datetime) -> list[dict[str, Any]]:
        """Return counts of requests and places of some territories."""
        counts: Counter[tuple[str, str, str]] = Counter()
        for r in self.tables.requests.values():
            if r.territory in territories and r.created_at > since:
                counts["requests", r.tier, r.status] += 1
        for s in self._live(now, territories):
            counts["places", s.profession, s.mode] += s.capacity
        return [{"what": what, "name": name, "part": part, "count": n} for (what, name, part), n in counts.items()]

    async def doubles(self) -> dict[str, int]:
        """Return what must never be more than zero: {seat, request, overlap, capacity}."""
        active = [b for b in self.tables.bookings.values() if b.ended_at is None]
        seats = Counter((b.slot_id, b.seat) for b in active)
        owners = Counter(b.request_id for b in active)
        timed = [(b.professional, *b.during) for b in active if b.during is not None]
        of_slot: dict[int, list[Booking]] = {}
        for b in active:
            of_slot.setdefault(b.slot_id, []).append(b)
        return {
            "seat": sum(n > 1 for n in seats.values()),
            "request": sum(n > 1 for n in owners.values()),
            "overlap": sum(a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a, b in combinations(timed, 2)),
            "capacity": sum(_overbooked(self.tables.slots[name], taken) for name, taken in of_slot.items()),
        }

    async def secure(self) -> None:
        """Do nothing: memory keeps nothing through a crash."""

    async def ping(self) -> None:
        """Answer: memory is never away."""


def _overbooked(slot: Slot, taken: Sequence[Booking]) -> bool:
    """Tell whether a seat was taken, or a promise told, beyond the capacity that the slot had then."""
    fresh = [b.state for b in taken if b.slot_version == slot.version]
    told = [b for b in taken if b.state != "promised"]
    over_all = len(taken) > slot.capacity and any(state in ("promised", "held") for state in fresh)
    return over_all or (len(told) > slot.capacity and any(state != "promised" for state in fresh))
