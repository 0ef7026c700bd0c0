"""The auditor's books: was a seat given twice, a confirmation lost, a promise broken? Instants in, verdicts out.

Events of different bookings may overtake one another on their way, so their order proves nothing. What proves a double
booking are certain times: a booking is there at least from when somebody heard of it until somebody asked for its end,
or until its hold ran out. Two such times that overlap on one seat cannot be explained.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Any, Final, NamedTuple

_KEPT: Final = frozenset({"firm", "fulfilled", "noshow"})
_PROMISE_KEPT: Final = frozenset({"promised", "held", "lapsed", *_KEPT})
"""What may have become of a promise: a lapse is its regulator's, who did not confirm the place that was told."""
CRISIS_GRACE_S: Final = 5.0
"""What a territory sets is in force within three seconds (API guide); the end of a crisis counts from then on."""


def says_mute(answer: Mapping[str, Any]) -> bool:
    """Tell whether an answer of ``GET /v1/editors`` says of an editor that it is mute."""
    return any(editor["state"] == "mute" for editor in answer["editors"])


class Place(NamedTuple):
    """A published slot; start and end in epoch seconds."""

    capacity: int
    professional: str
    start: float
    end: float


class Stay(NamedTuple):
    """A booking's certain time on a slot, in epoch seconds."""

    booking_id: str
    slot_id: int
    since: float
    until: float


@dataclass(slots=True)
class _Booking:
    request_id: str
    slot_id: int
    since: float
    hold_until: float
    confirmed: bool = False
    ended: float = inf


@dataclass(slots=True)
class Audit:
    """Everything that was seen, and what follows from it."""

    places: dict[int, Place] = field(default_factory=dict)
    _bookings: dict[str, _Booking] = field(default_factory=dict)
    _request_ended: dict[str, float] = field(default_factory=dict)
    _slot_ended: dict[int, float] = field(default_factory=dict)
    _versions: dict[str, int] = field(default_factory=dict)
    _confirmed_version: dict[str, int] = field(default_factory=dict)
    _promised: dict[str, str] = field(default_factory=dict)
    _crises: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    _displaced: list[tuple[str, str, float]] = field(default_factory=list)
    _phantoms: list[str] = field(default_factory=list)

    # -- what is seen --------------------------------------------------------------------------------------------

    def published(self, slot_id: int, place: Place) -> None:
        """Somebody of ours published a slot."""
        self.places[slot_id] = place

    def event(self, aggregate: str, version: int) -> None:
        """An event about a request or a booking was read."""
        self._versions[aggregate] = max(version, self._versions.get(aggregate, 0))

    def held(self, booking_id: str, request_id: str, slot_id: int, now: float, hold_until: float) -> None:
        """Somebody heard that a seat is held until an instant."""
        self._bookings.setdefault(booking_id, _Booking(request_id, slot_id, now, hold_until))

    def confirmed(self, booking_id: str, request_id: str, slot_id: int, version: int, now: float) -> None:
        """The service answered a confirmation, or told the place behind a promise: from now on it has to stand.

        ``version`` is the request's.
        """
        self.held(booking_id, request_id, slot_id, now, now)
        self._bookings[booking_id].confirmed = True
        self._confirmed_version[booking_id] = version

    def booking_ends(self, booking_id: str, now: float) -> None:
        """Somebody is about to decline or refuse a booking."""
        booking = self._bookings.get(booking_id)
        if booking is not None:
            booking.ended = min(booking.ended, now)

    def request_ends(self, request_id: str, now: float) -> None:
        """Somebody is about to cancel a request."""
        self._request_ended[request_id] = min(now, self._request_ended.get(request_id, inf))

    def slot_ends(self, slot_id: int, now: float) -> None:
        """Somebody is about to withdraw a slot with all its bookings."""
        self._slot_ended[slot_id] = min(now, self._slot_ended.get(slot_id, inf))

    def promised(self, request_id: str, territory: str) -> None:
        """Somebody heard that a request is promised to be seen before its deadline."""
        self._promised.setdefault(request_id, territory)

    def crisis(self, territory: str, since: float, until: float = inf) -> None:
        """A crisis is declared in a territory from an instant on; promises may be broken there."""
        self._crises.setdefault(territory, []).append((since, until))

    def displaced(self, request_id: str, territory: str, now: float) -> None:
        """Somebody heard that a promise was taken back."""
        self._displaced.append((request_id, territory, now))

    def firm_without_editor(self, request_id: str, slot_id: int) -> None:
        """A place of another editor's became firm though nobody had booked it there, nor said so."""
        self._phantoms.append(f"request {request_id}: slot {slot_id} is firm, and was never booked at its editor")

    # -- verdicts ------------------------------------------------------------------------------------------------

    def _ended(self, booking: _Booking) -> float:
        return min(
            booking.ended,
            self._request_ended.get(booking.request_id, inf),
            self._slot_ended.get(booking.slot_id, inf),
        )

    def stays(self) -> list[Stay]:
        """Return the certain times of all bookings."""
        found = []
        for booking_id, booking in self._bookings.items():
            until = min(self._ended(booking), inf if booking.confirmed else booking.hold_until)
            if until > booking.since:
                found.append(Stay(booking_id, booking.slot_id, booking.since, until))
        return found

    def doubles(self) -> list[str]:
        """Name the seats that were certainly given twice, and professionals booked twice at a time."""
        by_slot: dict[int, list[Stay]] = defaultdict(list)
        by_professional: dict[str, list[Stay]] = defaultdict(list)
        for stay in self.stays():
            by_slot[stay.slot_id].append(stay)
            place = self.places.get(stay.slot_id)
            if place is not None and place.capacity == 1:
                by_professional[place.professional].append(stay)
        wrong = []
        for slot_id, stays in by_slot.items():
            capacity = self.places[slot_id].capacity if slot_id in self.places else None
            most = _most_at_once(stays)
            if capacity is not None and most > capacity:
                wrong.append(f"slot {slot_id}: {most} bookings at once on {capacity} seats")
        for professional, stays in by_professional.items():
            wrong += [
                f"professional {professional}: slots {a.slot_id} and {b.slot_id} overlap and are both booked"
                for a, b in _pairs(stays)
                if self._overlap(a.slot_id, b.slot_id)
            ]
        return wrong

    def _overlap(self, one: int, other: int) -> bool:
        a, b = self.places[one], self.places[other]
        return one != other and a.start < b.end and b.start < a.end

    @property
    def promises(self) -> dict[str, str]:
        """Booking → request of every confirmation that the service answered and nobody asked to end."""
        return {
            booking_id: booking.request_id
            for booking_id, booking in self._bookings.items()
            if booking.confirmed and self._ended(booking) == inf
        }

    def lost(self, requests: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Name the promises that the service's own documents no longer keep; ``requests`` by id, as read at the end."""
        wrong = []
        for booking_id, request_id in self.promises.items():
            document = requests.get(request_id)
            if document is None:
                wrong.append(f"request {request_id}: confirmed, and not there any more")
                continue
            booking = document.get("booking") or {}
            found = document["status"], booking.get("state"), booking.get("booking_id")
            if not {found[0], found[1]} <= _KEPT or found[2] != booking_id:
                wrong.append(f"request {request_id}: booking {booking_id} was confirmed, found {found}")
        return wrong

    def unheard(self) -> list[str]:
        """Name the confirmations that no event told of: neither the request's nor the booking's.

        Nobody listens for the practices of an editor's places, which were published by none of ours.
        """
        wrong = []
        for booking_id, version in self._confirmed_version.items():
            request_id, slot_id = self._bookings[booking_id].request_id, self._bookings[booking_id].slot_id
            if self._versions.get(request_id, 0) < version:
                wrong.append(f"request {request_id}: no event of its confirmation")
            if booking_id not in self._versions and slot_id in self.places:
                wrong.append(f"booking {booking_id}: no event for the practice")
        return wrong

    def _in_crisis(self, territory: str, now: float) -> bool:
        return any(since <= now <= until + CRISIS_GRACE_S for since, until in self._crises.get(territory, ()))

    def broken(self, requests: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Name the promises "seen before your deadline" that were broken outside a crisis.

        Args:
            requests: documents by id, as read at the end.
        """
        wrong = list(self._phantoms)
        ended = {b.request_id for b in self._bookings.values() if self._ended(b) < inf}  # by people
        for request_id, territory, now in self._displaced:
            if not self._in_crisis(territory, now):
                wrong.append(f"request {request_id}: promise taken back, and no crisis is declared in {territory}")
        for request_id, territory in self._promised.items():
            if request_id in self._request_ended:
                continue
            document = requests.get(request_id)
            if document is None:
                wrong.append(f"request {request_id}: promised, and not there any more")
                continue
            promise = document.get("promise") or {}
            if promise.get("broken") and territory not in self._crises:
                wrong.append(f"request {request_id}: promise broken outside a crisis")
            elif document["status"] not in _PROMISE_KEPT and not (
                promise.get("lost_to_practice") or promise.get("broken") or request_id in ended
            ):
                wrong.append(f"request {request_id}: promised, found {document['status']}")
            elif (late := self._too_late(document)) is not None:
                wrong.append(f"request {request_id}: promised before {late[0]}, place begins at {late[1]}")
        return wrong

    def _too_late(self, document: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return (deadline, start) of a promised place that begins after the request's deadline."""
        place = self.places.get((document.get("booking") or {}).get("slot_id", -1))
        if place is None or document.get("deadline") is None:
            return None
        until = datetime.fromisoformat(document["deadline"])
        if place.start <= until.timestamp():
            return None
        return until.isoformat(), datetime.fromtimestamp(place.start, UTC).isoformat()

    @property
    def counts(self) -> dict[str, int]:
        """How much was watched."""
        confirmed = len(self._confirmed_version)
        return {
            "slots": len(self.places),
            "bookings": len(self._bookings),
            "confirmed": confirmed,
            "promised": len(self._promised),
        }


def _most_at_once(stays: Iterable[Stay]) -> int:
    """Return how many stays overlap at the fullest instant; one that ends when another begins leaves first."""
    steps = sorted((instant, step) for stay in stays for instant, step in ((stay.since, 1), (stay.until, -1)))
    now = most = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def _pairs(stays: list[Stay]) -> Iterable[tuple[Stay, Stay]]:
    """Yield the pairs of stays that overlap in certain time."""
    ordered = sorted(stays, key=lambda stay: stay.since)
    for number, one in enumerate(ordered):
        for other in ordered[number + 1 :]:
            if other.since >= one.until:
                break
            yield one, other
