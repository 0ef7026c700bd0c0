"""What is kept of a practice: its agenda, its consent and what was shown of its places, what taking part gave back."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol


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
