"""What the outside must offer to the services: the ledger (truth), the bus and mirror (speed), and a clock.

The in-memory twins that replay needs implement these same protocols.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, Protocol

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


class Outcome(NamedTuple):
    """What a change did: a word, the document after it, and whether an Idempotency-Key replayed it."""

    word: str
    document: str | None
    replayed: bool = False


class Claim(NamedTuple):
    """One line of a matcher's batch: what it wants for a request (``kind``), and on which slot.

    ``slot_id`` is None for ``none`` (no place, with the reason) and ``displace``. ``hold_until`` is the end of a hold;
    of a promise the instant by which place and hour are told, where a later one never replaces an earlier one.
    ``shown``: the slots that the decision names, which their practices can trace.
    """

    request_id: str
    slot_id: int | None
    booking_id: str
    hold_until: datetime | None
    decision: str
    kind: ClaimKind
    shown: Sequence[int] = ()


class Idempotency(NamedTuple):
    """Who asks, under which Idempotency-Key, with which body (SHA-256)."""

    key_id: str
    key: str
    body_hash: bytes


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


class ShareRule(NamedTuple):
    """What a practice lets leave: which of its members' places, for whom, and when.

    Attributes:
        source: whose rule it is; ``name`` is unique among its rules.
        own_only: rules the slots of this source only.
        zone: IANA name, whose clock ``from_minute`` (included), ``to_minute`` (not) and ISO ``days`` are on: places
            that start then may leave.
        professions: only places of these; None for all.
        channels: ``sas`` (matched, and shown to regulators), ``platform`` (the national one, over FHIR).
        own_first_min: for own patients only until so many minutes before they start; None: for everybody at once.
        members: ``p:`` professional (RPPS) or ``s:`` structure (FINESS).
    """

    source: str
    name: str
    own_only: bool
    zone: str
    from_minute: int
    to_minute: int
    days: tuple[int, ...]
    professions: tuple[str, ...] | None
    channels: tuple[str, ...]
    own_first_min: int | None
    members: tuple[str, ...]


class Exposure(NamedTuple):
    """What became known of a practice's place, and to whom.

    Attributes:
        what: ``offers`` (shown in a list), ``platform`` (over FHIR), ``proposed`` (held, or an alternative), ``asked``
            (en sus) or ``booked``.
        role, key_id: who.
        slot_id, external_id, starts: the place; None for ``asked``.
        rule: that let it leave; empty for its publication.
    """

    at: datetime
    what: str
    role: str | None
    key_id: str | None
    slot_id: int | None
    external_id: str | None
    starts: datetime | None
    rule: str | None


class AgendaRecord(NamedTuple):
    """An agenda as stored.

    Attributes:
        source: whose it is; ``name`` is unique among its agendas.
        professional, structure: whose places they are.
        document: JSON in the shape of the API's agenda, and ``quick`` (what the quick actions added).
        version: 1, 2, …
        shown_version, shown_until, shown_at: which version is published, until when it was cut into slots, since when.
        report: JSON, what publishing it changed.
        failed: why the newest version could not be published; None when it is.
        changed_by: key that wrote the version.
        feed_good_at, feed_failed: when the subscribed calendar was last read; why it cannot be now.
    """

    source: str
    name: str
    professional: str | None
    structure: str | None
    document: str
    version: int
    changed_at: datetime
    shown_version: int
    shown_until: datetime | None
    shown_at: datetime | None
    report: str | None
    failed: str | None
    changed_by: str
    feed_good_at: datetime | None
    feed_failed: str | None


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


class Entry(NamedTuple):
    """One stream entry: its stream, id and fields."""

    stream: str
    id: str
    fields: dict[bytes, bytes]


def entry_order(entry_id: str) -> tuple[int, int]:
    """Return a stream id as numbers that compare."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> datetime:
        """Return the present instant, timezone-aware (UTC)."""
        ...


class Ids(Protocol):
    """Where ids come from."""

    def uuid(self) -> str:
        """Return a new UUID, ordered by time."""
        ...


class Publisher(Protocol):
    """Takes what a committed transaction announced and makes it known at once; the sweeper catches what it misses."""

    def announce(self, announcements: Sequence[Announcement]) -> None:
        """Queue for publication; never blocks, never fails."""
        ...


class Ledger(Protocol):
    """The truth. Every method is one transaction; what a change announces goes to the ledger's ``Publisher``."""

    async def create_request(self, now: datetime, row: Mapping[str, Any], once: Idempotency) -> Outcome:
        """Take in a request."""
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

    async def upsert_slots(self, now: datetime, source: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Publish or change slots."""
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
        """Withdraw slots."""
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
        """
        ...

    async def waiting_requests(self, now: datetime, territories: Sequence[str]) -> list[str]:
        """Return the requests that are the matcher's to decide: they wait, or their promised seat may move."""
        ...

    async def calls_since(self, since: datetime, territory: str) -> list[datetime]:
        """Return when each request of a territory was made from an instant on, in order; whatever became of it."""
        ...

    def live_places(self, now: datetime, territories: Sequence[str] | None) -> AsyncIterator[list[Any]]:
        """Yield pages of live places."""
        ...

    async def live_records(self, now: datetime, territory: str) -> list[Any]:
        """Return a territory's live places as records."""
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


class Bus(Protocol):
    """The mirror and the streams. Every method raises UnavailableError when the server does not answer."""

    async def publish(self, announcements: Sequence[Announcement]) -> None:
        """Publish in order."""
        ...

    async def read(self, positions: Mapping[str, str], block_ms: int, count: int = 500) -> list[Entry]:
        """Return entries after the positions, waiting at most ``block_ms``."""
        ...

    async def range(self, stream: str, after: str, until: str, count: int) -> list[Entry]:
        """Return entries with after < id ≤ until."""
        ...

    async def tails(self, streams: Iterable[str]) -> dict[str, str]:
        """Return the last id of each stream."""
        ...

    async def has_all_since(self, stream: str, after: str) -> bool:
        """Tell whether nothing after an id was dropped."""
        ...

    async def epoch(self) -> str | None:
        """Return the epoch; None after a wipe."""
        ...

    async def begin_epoch(self, epoch: str) -> str:
        """Return the epoch in force, beginning this one after a wipe or a restart of the server."""
        ...

    async def clear(self, territory: str) -> None:
        """Drop a territory's mirror: what is published from here on counts."""
        ...

    async def fill(self, territory: str, epoch: str, rows: Sequence[Any]) -> None:
        """Write a territory's live places."""
        ...

    async def ready_for(self, territories: Sequence[str]) -> list[str | None]:
        """Return for which epoch each territory is complete."""
        ...

    async def set_aside(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest poison entries of the ingest streams."""
        ...

    async def drop_past(self, territory: str, before: int) -> int:
        """Drop places that have started."""
        ...

    async def ping(self) -> None:
        """Raise UnavailableError when away."""
        ...


class CommuneRecord(Protocol):
    """A commune as the gazetteer knows it; ``landmass`` numbers what can be reached by road."""

    @property
    def code(self) -> str: ...  # noqa: D102 - INSEE code
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def territory(self) -> str: ...  # noqa: D102 - département
    @property
    def postcodes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def population(self) -> int: ...  # noqa: D102
    @property
    def lat(self) -> float: ...  # noqa: D102 - town hall
    @property
    def lon(self) -> float: ...  # noqa: D102
    @property
    def landmass(self) -> int: ...  # noqa: D102


class TerritoryRecord(Protocol):
    """A département."""

    @property
    def code(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def region(self) -> str: ...  # noqa: D102 - as INSEE writes it
    @property
    def timezone(self) -> str: ...  # noqa: D102 - IANA name
    @property
    def default_radius_km(self) -> float: ...  # noqa: D102 - the national platform's, 0 where it sets none


class Geography(Protocol):
    """Where communes and territories are."""

    def by_code(self, code: str) -> CommuneRecord | None:
        """Return a commune by its INSEE code."""
        ...

    def nearest(self, lat: float, lon: float) -> CommuneRecord:
        """Return the commune whose town hall is nearest."""
        ...

    def search(self, text: str, limit: int = 10, territory: str | None = None) -> Sequence[CommuneRecord]:
        """Return communes by name, postcode or code."""
        ...

    @property
    def territories(self) -> Mapping[str, TerritoryRecord]:
        """All territories by code."""
        ...


class PersonRecord(NamedTuple):
    """A practitioner as a directory knows them. ``cpts``: bare FINESS of the CPTS they belong to."""

    family: str
    given: str
    specialty: str | None
    cpts: tuple[str, ...]


class StructureRecord(NamedTuple):
    """A structure as a directory knows it: at least one of FINESS and SIRET, bare."""

    finess: str | None
    siret: str | None
    name: str
    line: str | None
    postcode: str | None
    city: str | None
    phone: str | None


class Directory(Protocol):
    """Who is who: practitioners and structures (file import now, national directories later)."""

    def person(self, rpps: str) -> PersonRecord | None:
        """Return a practitioner by bare RPPS."""
        ...

    def structure(self, finess: str) -> StructureRecord | None:
        """Return a structure by bare FINESS."""
        ...

    def finess_of(self, siret: str) -> tuple[str, ...]:
        """Return the FINESS of the sites that bear a SIRET."""
        ...


MessageState = Literal["waiting", "sent", "refused"]


class Message(NamedTuple):
    """One change to be told.

    Attributes:
        number: 1, 2, … of its booking.
        status: booked, pending, cancelled, fulfilled or noshow.
        tries: how often it was taken to be sent, this time included.
        system, value: the regulator as the platform knows him; None when his key is bound to nobody.
    """

    id: int
    booking_id: str
    number: int
    status: str
    territory: str
    professional: str | None
    sos: bool
    starts: datetime
    ends: datetime
    booked_at: datetime
    tries: int
    system: str | None
    value: str | None


class Queued(NamedTuple):
    """A message as people see it."""

    booking_id: str
    number: int
    status: str
    state: str
    tries: int
    booked_at: datetime
    settled_at: datetime | None
    last_error: str | None
    remote: str | None
    next_at: datetime | None


class Delivery(NamedTuple):
    """What the other side said of a message.

    Attributes:
        word: taken, refused (never again as it is), again.
        detail: why not, without anything that was sent.
        remote: where the other side keeps it.
        later: it could not even be tried, and is to be after so long.
        gone: the address is no more, and nothing will ever arrive there.
    """

    word: Literal["taken", "refused", "again"]
    detail: str | None = None
    remote: str | None = None
    later: timedelta | None = None
    gone: bool = False


class Subscription(NamedTuple):
    """Who wants to be told of what, and how.

    Attributes:
        source: whose it is; ``name`` is unique among its subscriptions.
        key_id: who set it: nothing is told once that key is revoked.
        way: ``websocket``, ``email`` or ``webhook``; ``address`` of the latter two.
        kinds: see ``NoticeKind``.
        most_reminders: in 24 hours.
        members: about whom: ``p:`` professional (RPPS), ``s:`` structure (FINESS), ``src:`` all of a source.
    """

    source: str
    name: str
    key_id: str
    way: str
    address: str | None
    kinds: Sequence[str]
    most_reminders: int
    members: Sequence[str]


class Notice(NamedTuple):
    """One thing to be told to one subscription.

    Attributes:
        kind: see ``NoticeKind``.
        about: the booking, question or place; what is told of one comes in order.
        at: when it happened.
        body: JSON, ids and times only.
        secrets: of a webhook, the newest first.
        members: of the subscription, as the audience of a websocket.
    """

    id: int
    kind: str
    about: str
    at: datetime
    territory: str
    body: str
    tries: int
    way: str
    address: str | None
    secrets: tuple[bytes, ...]
    members: tuple[str, ...]


class Due(NamedTuple):
    """A request whose next step on the ladder is due, as documents.

    ``asking`` is None before the first step; ``persons``: who may be asked and was not, with their counts.
    """

    request: dict[str, Any]
    asking: dict[str, Any] | None
    steps: list[dict[str, Any]]
    persons: list[dict[str, Any]]


class Advance(NamedTuple):
    """A step on the ladder.

    Attributes:
        was: version of the asking that was read; 0 for none.
        step, wave: where it leads.
        next_at: when the next one is due; None at the end.
        entry: what its regulator is told of it; the ledger adds ``at`` and ``asked``.
        questions: {id, overflow_id, km, answer_by} of each that is asked.
    """

    request_id: str
    was: int
    step: int
    wave: int
    next_at: datetime | None
    entry: Mapping[str, Any]
    questions: Sequence[Mapping[str, Any]]


class QuestionRecord(NamedTuple):
    """A question: its document for the practice, its request, and the consent that it was put under."""

    document: str
    request: dict[str, Any]
    overflow: dict[str, Any]


class ConsentBook(Protocol):
    """The ledger's part about what practices let leave, and about who was shown it."""

    async def put_rule(self, now: datetime, rule: ShareRule) -> str:
        """Set or change a rule, in force for every place that nobody has; returns its document."""
        ...

    async def remove_rule(self, now: datetime, source: str, name: str) -> bool:
        """Take a rule back; False when there is none of that name."""
        ...

    async def rules(self, source: str) -> list[str]:
        """Return the documents of a source's rules, by name."""
        ...

    async def note(self, now: datetime, channel: str, key_id: str | None, slots: Sequence[int]) -> None:
        """Write that a key was shown some places."""
        ...

    async def exposures(
        self,
        source: str | None,
        professionals: Sequence[str],
        structures: Sequence[str],
        window: tuple[datetime, datetime],
        limit: int,
    ) -> list[Exposure]:
        """Return what became known of a practice's places in a window, newest first."""
        ...


Owners = tuple[str | None, Sequence[str], Sequence[str]]
"""Whose places: of this source (None: none), of these professionals (RPPS), of these structures (FINESS)."""
Window = tuple[datetime, datetime]


class Act(NamedTuple):
    """A patient's place, with what its payment asks.

    Attributes:
        state: ``firm``, ``fulfilled`` or ``noshow``.
        en_sus: beyond the published places.
        regulated_at: when the request was made; ``role``: of the key that made it.
        own: whether the patient is one of this professional's (médecin traitant): ``yes``, ``no`` or ``unknown``.
    """

    booking_id: str
    state: str
    professional: str | None
    professional_name: str | None
    structure: str | None
    structure_name: str | None
    source_kind: str
    territory: str
    insee: str
    starts: datetime
    ends: datetime
    mode: str
    profession: str
    en_sus: bool
    regulated_at: datetime
    role: str
    own: str


class Offered(NamedTuple):
    """A slot that was offered, and how many of its seats patients have."""

    professional: str | None
    professional_name: str | None
    structure: str | None
    structure_name: str | None
    source_kind: str
    territory: str
    starts: datetime
    ends: datetime
    capacity: int
    taken: int


class StatementBook(Protocol):
    """Where what practices get back is read."""

    async def acts(self, owners: Owners, window: Window, limit: int) -> list[Act]:
        """Return what became a patient's place on slots that start in a window, by start."""
        ...

    async def offered(self, owners: Owners, window: Window, limit: int) -> list[Offered]:
        """Return the slots that were offered and start in a window, by start."""
        ...


class AskingBook(Protocol):
    """The ledger's part about en sus. Yes and no are ``change_booking("accept_question" | "refuse_question", …)``."""

    async def due(self, now: datetime, limit: int) -> list[Due]:
        """Return requests that wait without a place, where a ladder is set and its next step is due."""
        ...

    async def advance(self, now: datetime, move: Advance) -> str:
        """Take a step: advanced, conflict (somebody else did) or not_waiting.

        Nobody is asked twice for a request, nor more often a day than they allow, whatever the step wanted.
        """
        ...

    async def settle(self, now: datetime) -> int:
        """Close questions of requests that wait no more; let go of who said yes where the hold was not confirmed."""
        ...

    async def put_overflow(self, now: datetime, row: Mapping[str, Any]) -> str:
        """Set or change a consent; returns its document."""
        ...

    async def remove_overflow(self, now: datetime, source: str, name: str) -> bool:
        """Take a consent back; False when there is none of that name."""
        ...

    async def overflows(self, source: str) -> list[str]:
        """Return the consents of a source, by name."""
        ...

    async def question(self, question_id: str) -> QuestionRecord | None:
        """Return a question."""
        ...

    async def questions(
        self,
        source: str | None,
        professionals: Sequence[str],
        structures: Sequence[str],
        state: str | None,
        limit: int,
    ) -> list[str]:
        """Return the questions put to a practice, newest first."""
        ...

    async def asking(self, request_id: str, key_id: str | None) -> str | None:
        """Return how far a request has climbed."""
        ...

    async def ladder(self, territory: str) -> str | None:
        """Return the ladder of a territory that has set one."""
        ...

    async def change_ladder(
        self,
        now: datetime,
        territory: str,
        steps: Sequence[Mapping[str, Any]],
        why: str,
        version: int | None,
        once: Idempotency,
    ) -> Outcome:
        """Change a ladder: changed (traced and announced), unchanged or conflict (another version)."""
        ...

    async def ladder_changes(self, territory: str, before: int | None, limit: int) -> list[str]:
        """Return the changes of a ladder, newest first."""
        ...


# The streams, by the names that readers and writers share.
PLACES_STREAM: Final = "sas:{all}:places:log"
REQUESTS_STREAM: Final = "sas:{all}:requests"
EVENTS_STREAM: Final = "sas:{all}:events"
# News on the stream of places that are about limits of practices: for the matchers, not for the mirror.
LIMIT_NEWS: Final = frozenset({"limit", "limit_left"})
BATCHES_STREAM: Final = "sas:{all}:batches"


class EditorBatch(NamedTuple):
    """Whom an editor is asked for in one call.

    Attributes:
        key: names the batch among those of its editor.
        flow: ``ps``, ``cpts`` or ``sos``.
        identifiers: prefixed, at most 25 (10 of SOS Médecins).
        owners: the same as the ledger knows them (bare RPPS; structures of SOS Médecins).
    """

    key: str
    flow: str
    identifiers: tuple[str, ...]
    owners: tuple[str, ...]


class EditorAnswer(NamedTuple):
    """What an editor answered.

    Attributes:
        slots: free places in the shape of the API's slot; ``link``: where a regulator books it.
        dropped: how many slots could not be used, by reason.
    """

    slots: Sequence[Mapping[str, Any]]
    dropped: Mapping[str, int]


class EditorFailedError(Exception):
    """An editor gave no usable answer; the message says why, in French, without anything it sent."""


class EditorState(NamedTuple):
    """What is known of an editor. Instants None: never.

    Attributes:
        silent_since: of an editor whose last call failed: when it last answered, or was first found silent.
        failures: calls without a usable answer since the last good one.
        open_until: until then it is not asked (circuit breaker).
        error: of the last failed call, in French.
        dropped: slots of its last answers that could not be used, by reason.
    """

    name: str
    last_ok: datetime | None = None
    silent_since: datetime | None = None
    failures: int = 0
    open_until: datetime | None = None
    error: str | None = None
    dropped: Mapping[str, int] = {}


class EditorFigures(NamedTuple):
    """What the ledger says of an editor: live places, bookings tried since a time, phantoms among them, freshness.

    ``oldest``: when the place that was checked longest ago was checked.
    """

    places: int
    tried: int
    phantoms: int
    oldest: datetime | None


class Span(NamedTuple):
    """Which figures: of a territory, from an instant on and before another.

    Attributes:
        zone: IANA name of the territory's clock.
        structures: whose places alone count (FINESS); None: everybody's.
    """

    territory: str
    since: datetime
    until: datetime
    zone: str
    structures: tuple[str, ...] | None = None


class Screen(NamedTuple):
    """A screen on a wall: whose figures it shows, who opened it (a key) and until when."""

    id: str
    territory: str
    name: str
    key_id: str
    opened_at: datetime
    ends_at: datetime
