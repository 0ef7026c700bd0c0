"""Rows of the twin's tables, by the columns of ``001_tables.sql``; only code of this package changes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final


@dataclass(slots=True)
class Slot:
    """A slot that a source has published."""

    id: int
    source: str
    external_id: str
    territory: str
    professional: str | None
    professional_name: str | None
    structure: str | None
    structure_name: str | None
    source_kind: str
    lat: float
    lon: float
    landmass: int
    insee: str
    label: str | None
    phone: str | None
    starts: datetime
    ends: datetime
    capacity: int
    mode: str
    booking_kind: str
    profession: str
    specialty: str | None
    offers: list[str]
    visibility: str
    valid_at: datetime
    checked_at: datetime
    changed_at: datetime
    version: int
    status: str = "open"
    for_request: str | None = None
    shut: bool = False
    platform: bool = True
    own_until: datetime | None = None
    rule: str | None = None
    acceptance: str | None = None
    accept_min: int | None = None
    back_at: datetime | None = None
    handed_back: int | None = None
    back_told: int = 0
    refused: bool = False
    cut_to: int | None = None


@dataclass(slots=True)
class Request:
    """A request of a regulator; ``decision`` is JSON text."""

    id: str
    key_id: str
    territory: str
    lat: float
    lon: float
    insee: str
    profession: str
    specialty: str | None
    modes: list[str]
    tier: str
    delay: str
    created_at: datetime
    deadline: datetime
    radius_km: float
    needs: list[str]
    age_band: str | None
    mt: str | None
    priority: str
    on_phone: bool
    case_ref: str | None
    has_mt: str = "unknown"
    mt_said: str | None = None
    mt_until: datetime | None = None
    status: str = "waiting"
    version: int = 1
    excluded: list[str] = field(default_factory=list)
    booking_id: str | None = None
    decision: str | None = None
    promised_at: datetime | None = None
    told_by: datetime | None = None
    moves: int = 0
    broken: int = 0
    lost_to_practice: int = 0
    promise_behind: bool = False
    refused_for: str | None = None
    refused_at: datetime | None = None


@dataclass(slots=True)
class Booking:
    """A seat taken, or given back (``ended_at``); ``during`` only where overlapping times exclude each other."""

    id: str
    request_id: str
    slot_id: int
    seat: int
    territory: str
    professional: str | None
    during: tuple[datetime, datetime] | None
    state: str
    slot_version: int
    held_at: datetime
    hold_until: datetime | None
    firm_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: str | None = None
    rule: str | None = None
    version: int = 1
    acceptance: str | None = None
    accept_until: datetime | None = None
    accepted_at: datetime | None = None


def booked_elsewhere(slot: Slot) -> bool:
    """Tell whether a place is another editor's: that editor or the regulator says when it is firm."""
    return slot.source.startswith("fhir:")


def earliest(*instants: datetime | None) -> datetime | None:
    """Return the earliest of those that are known, as SQL's ``least``."""
    return min((instant for instant in instants if instant is not None), default=None)


# States of a booking that no practice is told of.
BEHIND_PROMISES: Final = frozenset({"promised", "moved", "displaced"})
# What a publisher or the door hands over; all else is the ledger's.
_OF_THE_LEDGER: Final = frozenset(
    {
        *("id", "source", "external_id", "key_id", "status", "version", "checked_at", "changed_at", "created_at"),
        *("excluded", "booking_id", "decision", "promised_at", "told_by", "moves", "broken", "lost_to_practice"),
        *("promise_behind", "for_request", "handed_back", "back_told", "cut_to", "refused", "refused_for"),
        *("refused_at", "has_mt", "mt_said", "mt_until", "shut", "platform", "own_until", "rule"),
    }
)
SLOT_COLUMNS: Final = tuple(f.name for f in fields(Slot) if f.name not in _OF_THE_LEDGER)
REQUEST_COLUMNS: Final = tuple(f.name for f in fields(Request) if f.name not in _OF_THE_LEDGER)
_NULLABLE: Final = frozenset(
    {
        *("professional", "professional_name", "structure", "structure_name", "label", "phone", "specialty"),
        *("age_band", "mt", "case_ref", "acceptance", "accept_min", "back_at"),
    }
)


def taken_in(row: Mapping[str, Any], columns: tuple[str, ...]) -> dict[str, Any]:
    """Return the columns of a row that was handed over.

    Raises:
        ValueError: a column that the tables require is missing.
    """
    values = {name: row.get(name) for name in columns}
    missing = [name for name, value in values.items() if value is None and name not in _NULLABLE]
    if missing:
        raise ValueError(f"Expected a value for {', '.join(missing)}.")
    return values
