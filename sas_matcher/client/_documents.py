"""What the API answers, as frozen dataclasses; ``raw`` keeps the whole document, with keys this client ignores.

Instants are timezone-aware, distances in km, durations in minutes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


@dataclass(frozen=True, slots=True)
class Site:
    """Who receives, and where."""

    professional_name: str | None
    structure_name: str | None
    label: str | None
    phone: str | None
    insee: str | None
    lat: float
    lon: float
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "Site":
        """Read a document."""
        return cls(
            document.get("professional_name"),
            document.get("structure_name"),
            document.get("label"),
            document.get("phone"),
            document.get("insee"),
            document["lat"],
            document["lon"],
            document,
        )

    @property
    def name(self) -> str:
        """Professional and address as one would say them."""
        parts = (self.professional_name, self.label or self.structure_name)
        return ", ".join(part for part in parts if part) or "Lieu non précisé"


@dataclass(frozen=True, slots=True)
class Place:
    """A place, as proposed in a decision; distance is ``None`` for a téléconsultation."""

    slot_id: int
    start: datetime
    end: datetime
    mode: str
    distance_km: float | None
    travel_min: float
    travel_source: str
    wait_min: float
    is_mt: bool
    site: Site
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "Place":
        """Read a document."""
        return cls(
            document["slot_id"],
            datetime.fromisoformat(document["start"]),
            datetime.fromisoformat(document["end"]),
            document["mode"],
            document["distance_km"],
            document["travel_min"],
            document["travel_source"],
            document["wait_min"],
            document["is_mt"],
            Site.of(document["site"]),
            document,
        )


@dataclass(frozen=True, slots=True)
class Relaxation:
    """What would find a place: what is given up (codes), how much that is, what to ask for instead, and the place."""

    concessions: tuple[str, ...]
    size_min: float
    ask: Mapping[str, Any]
    sentence: str
    place: Place
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "Relaxation":
        """Read a document."""
        return cls(
            tuple(document["concessions"]),
            document["size_min"],
            document["ask"],
            document["sentence"],
            Place.of(document["place"]),
            document,
        )


@dataclass(frozen=True, slots=True)
class NoPlace:
    """Why there is no place: a stable code, what was counted, one French sentence; and what would help, smallest first.

    ``would_help`` is ``None`` when it was not looked for (a surge), empty when nothing would.
    """

    reason: str
    sentence: str
    counts: Mapping[str, int]
    would_help: tuple[Relaxation, ...] | None
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "NoPlace":
        """Read a document."""
        ways = document.get("would_help")
        return cls(
            document["reason"],
            document["sentence"],
            document.get("counts", {}),
            None if ways is None else tuple(Relaxation.of(way) for way in ways),
            document,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """What the matcher decided and why: ``place``, or ``none``; a promise has neither, its place may still move.

    ``price_min``: what the place is worth to those still expected, in minutes; ``None`` where no desk decided.
    ``recorded_days`` and ``expected_days``: from how many recorded, and drawn for want of these, that is known.
    ``mt``: what came of the médecin traitant, where the territory puts him first, as a sentence.
    """

    place: Place | None
    none: NoPlace | None
    reasons: tuple[str, ...]
    sentence: str
    alternatives: tuple[Place, ...]
    decided_at: datetime
    method: str
    batch_size: int
    gap_min: float | None
    price_min: float | None
    recorded_days: int
    expected_days: int
    mt: str | None
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "Decision":
        """Read a document."""
        return cls(
            Place.of(document["place"]) if document["place"] else None,
            NoPlace.of(document["none"]) if document.get("none") else None,
            tuple(document["reasons"]),
            document["sentence"],
            tuple(Place.of(place) for place in document["alternatives"]),
            datetime.fromisoformat(document["decided_at"]),
            document["method"],
            document["batch_size"],
            document["gap_min"],
            document.get("price_min"),
            document.get("learned_days", {}).get("recorded", 0),
            document.get("learned_days", {}).get("expected", 0),
            (document.get("mt") or {}).get("sentence"),
            document,
        )


@dataclass(frozen=True, slots=True)
class Hold:
    """The seat kept for a request; ``hold_until`` is set while its state is ``held``.

    ``link``: page of another editor where the regulator books the place himself.
    """

    booking_id: str
    slot_id: int
    state: str
    hold_until: datetime | None
    link: str | None
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "Hold":
        """Read a document."""
        until = _instant(document.get("hold_until"))
        link = document.get("link")
        return cls(document["booking_id"], document["slot_id"], document["state"], until, link, document)


@dataclass(frozen=True, slots=True)
class Promise:
    """To be seen in time: since when it stands, until when the patient is seen, by when place and hour are told.

    ``told_by`` is ``None`` while no place stands behind it: it was broken by the crisis or lost to the practice.
    """

    since: datetime
    seen_before: datetime
    told_by: datetime | None
    moves: int
    broken: int
    lost_to_practice: int

    @classmethod
    def of(cls, document: Json) -> "Promise":
        """Read a document."""
        return cls(
            datetime.fromisoformat(document["since"]),
            datetime.fromisoformat(document["seen_before"]),
            datetime.fromisoformat(document["told_by"]) if document["told_by"] else None,
            document["moves"],
            document["broken"],
            document["lost_to_practice"],
        )


@dataclass(frozen=True, slots=True)
class Request:
    """A patient's need and what became of it."""

    request_id: str
    status: str
    version: int
    territory: str
    tier: str
    delay: str
    created_at: datetime
    deadline: datetime
    profession: str
    modes: tuple[str, ...]
    booking: Hold | None
    decision: Decision | None
    promise: Promise | None
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "Request":
        """Read a document."""
        return cls(
            document["request_id"],
            document["status"],
            document["version"],
            document["territory"],
            document["tier"],
            document["delay"],
            datetime.fromisoformat(document["created_at"]),
            datetime.fromisoformat(document["deadline"]),
            document["profession"],
            tuple(document["modes"]),
            Hold.of(document["booking"]) if document["booking"] else None,
            Decision.of(document["decision"]) if document["decision"] else None,
            # a service of before promises says nothing of them
            Promise.of(document["promise"]) if document.get("promise") else None,
            document,
        )

    @property
    def place(self) -> Place | None:
        """The place that is kept for it now, if any."""
        return self.decision.place if self.booking and self.decision else None


@dataclass(frozen=True, slots=True)
class Booking:
    """A booking as the practice sees it."""

    booking_id: str
    state: str
    version: int
    end_reason: str | None
    slot_id: int
    external_id: str
    start: datetime
    end: datetime
    mode: str
    profession: str
    tier: str
    needs: tuple[str, ...]
    age_band: str | None
    own_patient: bool
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "Booking":
        """Read a document."""
        return cls(
            document["booking_id"],
            document["state"],
            document["version"],
            document.get("end_reason"),
            document["slot_id"],
            document["external_id"],
            datetime.fromisoformat(document["start"]),
            datetime.fromisoformat(document["end"]),
            document["mode"],
            document["profession"],
            document["tier"],
            tuple(document["needs"]),
            document.get("age_band"),
            document["own_patient"],
            document,
        )


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot as published, with the seats left."""

    slot_id: int
    external_id: str
    start: datetime
    end: datetime
    capacity: int
    left: int
    mode: str
    profession: str
    status: str
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "Slot":
        """Read a document."""
        return cls(
            document["slot_id"],
            document["external_id"],
            datetime.fromisoformat(document["start"]),
            datetime.fromisoformat(document["end"]),
            document["capacity"],
            document["left"],
            document["mode"],
            document["profession"],
            document["status"],
            document,
        )


@dataclass(frozen=True, slots=True)
class SlotPage:
    """A page of slots; ``next_after`` goes into the next call, ``None`` at the end."""

    slots: tuple[Slot, ...]
    next_after: int | None

    @classmethod
    def of(cls, document: Json) -> "SlotPage":
        """Read a document."""
        return cls(tuple(Slot.of(slot) for slot in document["slots"]), document["next_after"])


@dataclass(frozen=True, slots=True)
class SlotOutcome:
    """What publishing or withdrawing did to one slot; ``slot_id`` is ``None`` when there is none."""

    external_id: str
    outcome: str
    slot_id: int | None


@dataclass(frozen=True, slots=True)
class SlotOutcomes:
    """What publishing or withdrawing did: how many of each outcome, and slot by slot."""

    counts: Mapping[str, int]
    results: tuple[SlotOutcome, ...]
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "SlotOutcomes":
        """Read a document."""
        results = tuple(
            SlotOutcome(item["external_id"], item["outcome"], item.get("slot_id")) for item in document["results"]
        )
        return cls(document["counts"], results, document)


@dataclass(frozen=True, slots=True)
class LimitPeriod:
    """A coming day or half a day of a limit: how many it lets in, how many it has."""

    start: datetime
    end: datetime
    most: int
    taken: int


@dataclass(frozen=True, slots=True)
class Limit:
    """How many patients, visits or children some members take together; one of ``most`` and ``share`` (%) is set."""

    name: str
    counts: str
    period: str
    most: int | None
    share: int | None
    zone: str
    professionals: tuple[str, ...]
    structures: tuple[str, ...]
    periods: tuple[LimitPeriod, ...]
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "Limit":
        """Read a document."""
        periods = (
            LimitPeriod(datetime.fromisoformat(p["from"]), datetime.fromisoformat(p["to"]), p["most"], p["taken"])
            for p in document["periods"]
        )
        return cls(
            document["name"],
            document["counts"],
            document["period"],
            document["most"],
            document["share"],
            document["zone"],
            tuple(document["professionals"]),
            tuple(document["structures"]),
            tuple(periods),
            document,
        )


@dataclass(frozen=True, slots=True)
class Commune:
    """A commune or municipal arrondissement by its INSEE code."""

    code: str
    name: str
    territory: str
    postcodes: tuple[str, ...]
    population: int
    lat: float
    lon: float

    @classmethod
    def of(cls, document: Json) -> "Commune":
        """Read a document."""
        return cls(
            document["code"],
            document["name"],
            document["territory"],
            tuple(document["postcodes"]),
            document["population"],
            document["lat"],
            document["lon"],
        )


@dataclass(frozen=True, slots=True)
class Me:
    """Whose key this is and what it may do."""

    key_id: str
    name: str
    role: str
    scope: str
    territories: tuple[str, ...]
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "Me":
        """Read a document."""
        return cls(
            document["key_id"],
            document["name"],
            document["role"],
            document["scope"],
            tuple(document["territories"]),
            document,
        )
