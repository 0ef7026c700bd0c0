"""The ledger: the truth of requests, bookings and places, and what is written into it."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sas_matcher.domain.lifecycle import ClaimKind


class Announcement(NamedTuple):
    """One outbox row: written in the transaction of the change it tells, published at least once.

    ``stream`` is ``events`` (pushed to people), ``requests`` (work for the matcher) or ``places`` (the mirror);
    receivers drop what is not newer than what they know, by (aggregate, version). A fourth, ``batches``, is no outbox
    row: what the matcher decided together, for whoever records it.
    """

    id: int
    at: datetime
    territory: str
    stream: str
    type: str
    aggregate: str
    version: int
    owner: str
    audience: tuple[str, ...]
    data: str


PLACE_NUMBERS: Final = ("slot_id", "start", "end", "left", "capacity", "landmass", "version", "own", "site", "kind")
"""Columns of ``PlacesPage.places``: instants in epoch seconds, ``own`` 0 or 1, last the numbers of site and kind."""


class PlacesPage(NamedTuple):
    """Some of the live places. What many of them share is said once, under a number of its own.

    Attributes:
        sites: (number, territory, professional, its name, structure, its name, source_kind, lat, lon, insee, label,
            phone).
        kinds: (number, offers, specialty, profession, mode, booking_kind, source).
        places: int64[n, 10], columns ``PLACE_NUMBERS``.
    """

    sites: Sequence[Sequence[Any]]
    kinds: Sequence[Sequence[Any]]
    places: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: Iterable[tuple[Sequence[int], tuple[Any, ...], tuple[Any, ...]]]) -> "PlacesPage":
        """Return all live places as one page, of each its numbers but the last two, its site and its kind."""
        sites: dict[tuple[Any, ...], int] = {}
        kinds: dict[tuple[Any, ...], int] = {}
        places = [
            (*numbers, sites.setdefault(site, len(sites)), kinds.setdefault(kind, len(kinds)))
            for numbers, site, kind in rows
        ]
        return cls(
            [(number, *site) for site, number in sites.items()],
            [(number, *kind) for kind, number in kinds.items()],
            np.array(places, np.int64).reshape(len(places), len(PLACE_NUMBERS)),
        )


class Outcome(NamedTuple):
    """What a change did: a word, the document after it, and whether an Idempotency-Key replayed it."""

    word: str
    document: str | None
    replayed: bool = False


class Claim(NamedTuple):
    """One line of a matcher's batch: what it wants for a request (``kind``), and on which slot.

    ``slot_id`` is None for ``none`` (no place, with the reason) and ``displace``. ``hold_until`` is the end of a hold;
    of a promise the instant by which place and hour are told, where a later one never replaces an earlier one.
    ``shown``: the slots that the decision names, which their practices can trace. ``arrives``: the request itself
    (``request_row`` as JSON) where the ledger may not have it yet: it is written with the claim.
    """

    request_id: str
    slot_id: int | None
    booking_id: str
    hold_until: datetime | None
    decision: str
    kind: ClaimKind
    shown: Sequence[int] = ()
    arrives: str | None = None


class Idempotency(NamedTuple):
    """Who asks, under which Idempotency-Key, with which body (SHA-256)."""

    key_id: str
    key: str
    body_hash: bytes


def request_row(now: datetime, wish: Mapping[str, Any], once: Idempotency) -> dict[str, Any]:
    """Return what is written of a new request: its own columns, when it was made, by whom and under which key."""
    return {
        **wish,
        "key_id": once.key_id,
        "idem_key": once.key,
        "body_hash": once.body_hash.hex(),
        "created_at": now,
    }


def arriving_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document that a request (``request_row``) will have once it is written, as far as it is read."""
    unknown = dict.fromkeys(("mt_first", "booking", "promise", "refusal", "decision"))
    return {**row, **unknown, "request_id": row["id"], "status": "waiting", "version": 1, "excluded": []}


class SettingChange(NamedTuple):
    """What to change of a territory's setting (``changes``: by column; of ``policy``, tiers), and why; the rest stays.

    ``version`` is the one that was read; None changes whatever there is.
    """

    territory: str
    changes: Mapping[str, Any]
    why: str
    version: int | None = None


class PracticeLimit(NamedTuple):
    """What a practice sets: how many of its patients a day or half a day may have.

    Attributes:
        source: whose limit it is; ``name`` is unique among its limits.
        name: chosen by the practice.
        counts: ``patients`` (everyone), ``visits`` (home visits only) or ``children`` (age band or need says so).
        period: ``day`` or ``half_day`` (halves meet at 13 h), on the clock of ``zone``.
        most: so many at the most; None where ``share`` says it.
        share: so many percent of the places published for the period, rounded down; None where ``most`` says it.
        zone: IANA name.
        own_only: count and close the slots of this source only.
        members: whose patients count together: ``p:`` professional (RPPS) or ``s:`` structure (FINESS).
    """

    source: str
    name: str
    counts: str
    period: str
    most: int | None
    share: int | None
    zone: str
    own_only: bool
    members: tuple[str, ...]


class TakenPlage(NamedTuple):
    """A range of an agenda that has patients, and how many seats they take."""

    external_id: str
    starts: datetime
    ends: datetime
    seats: int


class KeyRecord(NamedTuple):
    """An API key as stored: the secret only as a hash."""

    id: str
    secret_hash: bytes
    name: str
    role: str
    territories: tuple[str, ...]
    structures: tuple[str, ...]
    professionals: tuple[str, ...]
    source: str
    expires_at: datetime | None
    revoked_at: datetime | None
    ingest_hash: str | None = None


class Publisher(Protocol):
    """Takes what a committed transaction announced and makes it known at once; the sweeper catches what it misses."""

    def announce(self, announcements: Sequence[Announcement]) -> None:
        """Queue for publication; never blocks, never fails."""
        ...


class Ledger(Protocol):
    """The truth. Every method is one transaction; what a change announces goes to the ledger's ``Publisher``."""

    async def create_request(self, now: datetime, row: Mapping[str, Any], once: Idempotency) -> Outcome:
        """Take in a request: it is there for all, but safe from a crash only with its decision, or after ``secure``."""
        ...

    async def secure(self) -> None:
        """Return once every request that was taken in before is safe from a crash."""
        ...

    async def change_request(
        self, action: str, now: datetime, request_id: str, arguments: Sequence[Any], once: Idempotency
    ) -> Outcome:
        """Confirm, decline, cancel, resume a request or take a chosen place."""
        ...

    async def change_booking(
        self, action: str, now: datetime, booking_id: str, arguments: Sequence[Any], once: Idempotency
    ) -> Outcome:
        """Accept, refuse, cancel or move a booking, or say what became of it."""
        ...

    async def request_document(self, request_id: str, key_id: str | None) -> str | None:
        """Return a request as its key sees it."""
        ...

    async def request_for_choice(self, request_id: str, key_id: str) -> dict[str, Any] | None:
        """Return the columns of a request."""
        ...

    async def requests_of_key(
        self, key_id: str, statuses: Sequence[str] | None, before: datetime | None, limit: int
    ) -> list[str]:
        """Return a page of requests."""
        ...

    async def requests_at_hand(self, key_id: str, since: datetime, limit: int) -> list[str]:
        """Return a key's open requests, then those that ended, or whose place began, after an instant."""
        ...

    async def upsert_slots(
        self,
        now: datetime,
        source: str,
        rows: Sequence[Mapping[str, Any]],
        owners: tuple[Sequence[str], Sequence[str]] | None = None,
    ) -> list[dict[str, Any]]:
        """Publish or change slots; known ones of others than owners (professionals, structures) are ``not_yours``."""
        ...

    async def withdraw_slots(
        self,
        now: datetime,
        source: str,
        only: Sequence[str] | None,
        window: tuple[datetime, datetime] | None,
        owners: tuple[Sequence[str], Sequence[str]] | None,
        reason: str,
    ) -> list[dict[str, Any]]:
        """Withdraw slots that have not begun; of each named, or in the window, its outcome.

        Outcomes: withdrawn, begun (named ones only: nobody who is being seen is sent away), not_found.
        """
        ...

    async def slots_of_source(
        self,
        source: str,
        window: tuple[datetime, datetime],
        owners: tuple[Sequence[str], Sequence[str]] | None,
        after: int,
        limit: int,
    ) -> list[tuple[str, int, str, dict[str, Any]]]:
        """Return what a source has published: record, seats left, status, and counts.

        Counts: ``taken`` for sure, ``held`` and ``promised`` (either may yet go), ``arrived``, ``missed``,
        ``handed_back`` (None: not yet).
        """
        ...

    async def offers(self, *args: Any) -> list[tuple[str, int]]:
        """Return live places in a box."""
        ...

    async def slot_record(self, slot_id: int) -> Any | None:
        """Return one slot."""
        ...

    async def count_plage(self, now: datetime, slot_id: int, arrived: int, over: bool, once: Idempotency) -> Outcome:
        """Say how many patients of a plage have come (``over``: the others did not); may be corrected.

        Words: counted, too_early, too_many (more than are expected), not_found. The document is
        {slot_id, capacity, taken, arrived, missed}.
        """
        ...

    async def put_limit(self, now: datetime, limit: PracticeLimit) -> str:
        """Set or change a limit; returns its document, with the coming periods.

        What is booked already stays. From here on no claim and no choice goes over it: the ledger refuses them.
        """
        ...

    async def remove_limit(self, now: datetime, source: str, name: str) -> bool:
        """Take a limit back; False when there is none of that name."""
        ...

    async def limits_of_source(self, now: datetime, source: str) -> list[str]:
        """Return the documents of a source's limits, by name."""
        ...

    async def limits(self, now: datetime) -> list[tuple[str, str]]:
        """Return all limits as (definition, periods), both JSON.

        The definition has id, version, counts, period, zone, source (None: of all) and members; the periods are
        [start in epoch seconds, patients left]. News of both come on the places stream: ``limit`` (a definition, or
        one that is ``gone``) and ``limit_left`` ([[id, start, left, version]…]).
        """
        ...

    async def booking_document(self, booking_id: str) -> Any | None:
        """Return one booking with its owners."""
        ...

    async def bookings_of_practice(
        self,
        source: str | None,
        professionals: Sequence[str],
        structures: Sequence[str],
        window: tuple[datetime, datetime],
        limit: int,
    ) -> list[str]:
        """Return a practice's bookings."""
        ...

    async def claim(
        self, now: datetime, fences: Mapping[str, int], claims: Sequence[Claim]
    ) -> tuple[list[str], list[Announcement]]:
        """Decide a batch in one transaction; returns a verdict for each claim, and what was announced.

        Verdicts: held, promised, moved, told_firm, displaced, told (no place), seat_lost, limit_reached (of a
        practice), not_waiting. Promised seats
        that move are given back before any is taken; a promise that gets no new seat keeps its old one.
        Requests that arrive with their claim are written first, unless their sender was faster.

        Raises:
            FencedError: one of the territories has another matcher now; nothing was written.
            RefusedArrivalError: an arriving request cannot be written, or its Idempotency-Key came before; nothing was
                written.
            UnavailableError: the ledger is away; it may have committed.
        """
        ...

    async def waiting_requests(self, now: datetime, territories: Sequence[str]) -> list[str]:
        """Return the requests that are the matcher's to decide: they wait, or their promised seat may move."""
        ...

    async def calls_since(self, since: datetime, territory: str) -> list[datetime]:
        """Return when each request of a territory was made from an instant on, in order; whatever became of it."""
        ...

    def live_places(self, now: datetime, territories: Sequence[str] | None) -> AsyncIterator[PlacesPage]:
        """Yield the live places in pages, as of one instant."""
        ...

    async def live_records(self, now: datetime, territory: str) -> list[Any]:
        """Return a territory's live places as records, in the order of their numbers."""
        ...

    async def live_territories(self, now: datetime) -> list[str]:
        """Return territories with live places."""
        ...

    async def take_leases(self, holder: str, territories: Sequence[str], seconds: float) -> dict[str, int]:
        """Take or renew leases."""
        ...

    async def matched_territories(self) -> list[str]:
        """Return territories that a matcher decides for."""
        ...

    async def shares(self) -> dict[str, int]:
        """Return which matcher's territories were moved to (number of its share), by territory."""
        ...

    async def leave_territories(self, holder: str, territories: Sequence[str]) -> None:
        """Give some leases back, so that whom the territories were moved to starts at once."""
        ...

    async def drop_leases(self, holder: str) -> None:
        """Give leases back."""
        ...

    async def lapse_holds(self, now: datetime) -> int:
        """Give up holds that ran out."""
        ...

    async def close_unserved(self, now: datetime) -> int:
        """Close requests past their deadline."""
        ...

    async def settle_acceptance(self, now: datetime) -> int:
        """Settle acceptances past their deadline: silence accepts (tacit), or the request waits again (explicit)."""
        ...

    async def open_for_all(self, now: datetime) -> int:
        """Let everybody have the places that own patients had first until now; returns the number of announcements."""
        ...

    async def forget_exposures(self, before: datetime) -> None:
        """Drop what was shown before an instant."""
        ...

    async def hand_back(self, now: datetime) -> int:
        """Give back what is unused at the hour its practice set; who has a seat, or is promised it, keeps it."""
        ...

    async def leftovers(self, before: datetime, limit: int) -> list[Announcement]:
        """Return unpublished announcements."""
        ...

    async def mark_published(self, ids: Sequence[int]) -> None:
        """Drop published announcements."""
        ...

    async def forget_idempotency(self, before: datetime) -> None:
        """Drop old Idempotency-Keys."""
        ...

    async def key(self, key_id: str) -> KeyRecord | None:
        """Return an API key."""
        ...

    async def keys(self) -> list[KeyRecord]:
        """Return all API keys."""
        ...

    async def settings(self) -> dict[str, dict[str, Any]]:
        """Return the settings of the territories that have changed any (others: ``DEFAULT_SETTING`` of the domain)."""
        ...

    async def change_setting(self, now: datetime, change: SettingChange, once: Idempotency) -> Outcome:
        """Change a territory's setting.

        Words: changed (traced and announced), unchanged, conflict (another version), crisis_not_allowed. The document
        is the setting as it stands after.
        """
        ...

    async def setting_changes(self, territory: str, before: int | None, limit: int) -> list[str]:
        """Return the changes of a territory's setting, newest first, from below a version on."""
        ...

    async def mt_counts(
        self, territory: str, window: tuple[datetime, datetime], communes: Sequence[str] | None
    ) -> list[tuple[str, int, int, int]]:
        """Count requests made in a window by commune: patients with, without, and perhaps with a médecin traitant."""
        ...

    async def overview(self, territories: Sequence[str], since: datetime, now: datetime) -> list[dict[str, Any]]:
        """Return counts of requests and places."""
        ...

    async def ping(self) -> None:
        """Raise UnavailableError when away."""
        ...
