"""The twin's tables with their indexes, documents and announcements: what ``001_tables.sql`` and ``002_views.sql`` say.

One transaction is one uninterrupted run of code: whoever calls checks first and writes after, nothing is rolled back.
"""

import heapq
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from adapters.memory import documents
from adapters.memory.consent import ShareTable
from adapters.memory.limits import LimitTable, Over
from adapters.memory.rows import Booking, Request, Slot
from sas_matcher.domain.policy import DEFAULT_SETTING
from sas_matcher.ports.ledger import Announcement

PAGE: Final = 200  # places a message (``announce_places``)
_TO_DECIDE: Final = frozenset({"waiting", "promised"})  # what is the matcher's
_TOLD_TO_MATCHER: Final = _TO_DECIDE | {"cancelled", "unserved"}


class Tables:
    """Slots, requests, bookings and the outbox.

    Args:
        day_log: each slot stands for itself, as a day log wants it: overlapping times of one professional do not
            exclude each other, and a capacity may be any number from 0 on.
        number_of: gives a new slot the number that its name stands for; without it they are counted.
    """

    def __init__(self, *, day_log: bool, number_of: Callable[[str], int] | None = None) -> None:
        self.day_log = day_log
        self._number_of = number_of
        self.slots: dict[int, Slot] = {}
        self.slot_of: dict[tuple[str, str], Slot] = {}
        self.requests: dict[str, Request] = {}
        self.bookings: dict[str, Booking] = {}
        self.outbox: dict[int, Announcement] = {}
        # by territory: its setting as a document, and its changes as JSON, oldest first
        self.settings: dict[str, dict[str, Any]] = {}
        self.setting_log: dict[str, list[str]] = {}
        # active bookings: by slot and seat, by professional (those that exclude others), and those that are holds
        self.seats: dict[int, dict[int, Booking]] = {}
        self.busy: dict[str, dict[str, Booking]] = {}
        self.holds: dict[str, Booking] = {}
        # those whose practice has yet to accept, and slots with an hour for handing back
        self.to_accept: dict[str, Booking] = {}
        self.to_hand_back: dict[int, Slot] = {}
        self.limits = LimitTable(self.slots, self.seats, self.requests)
        self.sharing = ShareTable()
        self.waiting: dict[str, Request] = {}
        self.promised: dict[str, Request] = {}
        self._due: list[tuple[datetime, str]] = []
        self._individual: dict[str, dict[int, Slot]] = {}
        self._slot_ids = itertools.count(1)
        self._outbox_ids = itertools.count(1)
        self._changes = itertools.count(1)
        self._said: list[Announcement] = []

    # -- slots ---------------------------------------------------------------------------------------------------

    def new_slot_id(self, name: str) -> int:
        """Return the id of a new slot of this name."""
        return next(self._slot_ids) if self._number_of is None else self._number_of(name)

    def change(self) -> int:
        """Return the next number of the one counter of changes of places."""
        return next(self._changes)

    def individual(self, slot: Slot) -> bool:
        """Tell whether a booking of the slot excludes overlapping times of its professional."""
        return slot.capacity == 1 and slot.professional is not None and not self.day_log

    def during(self, slot: Slot) -> tuple[datetime, datetime] | None:
        """Return the time that a booking of the slot takes of its professional, if it excludes others."""
        return (slot.starts, slot.ends) if self.individual(slot) else None

    def has_begun(self, now: datetime, slot: Slot) -> bool:
        """Tell whether who has a seat of the slot is being seen, or was; in a day log bookings end when it says so."""
        return slot.starts <= now and not self.day_log

    def file(self, slot: Slot) -> None:
        """Put a slot where it is found, after any change of its columns."""
        self.slots[slot.id] = slot
        self.slot_of[slot.source, slot.external_id] = slot
        self.to_hand_back.pop(slot.id, None)
        if slot.back_at is not None and slot.handed_back is None and slot.status == "open":
            self.to_hand_back[slot.id] = slot
        if self.day_log:
            return
        for slots in self._individual.values():
            if slots.pop(slot.id, None):
                break
        if self.individual(slot) and slot.status == "open":
            self._individual.setdefault(slot.professional or "", {})[slot.id] = slot

    def blocked(self, slot: Slot, but: Collection[str] = ()) -> bool:
        """Tell whether the slot's professional has a booking (``but`` these) at an individual time over it."""
        during = self.during(slot)
        return during is not None and any(
            b.during is not None and b.during[0] < during[1] and b.during[1] > during[0] and b.id not in but
            for b in self.busy.get(slot.professional or "", {}).values()
        )

    def left(self, slot: Slot) -> int:
        """Return the seats that a request could take (``place_left``); negative when fewer are offered than given."""
        if slot.status != "open" or slot.for_request is not None or slot.shut or self.blocked(slot):
            return 0
        left = slot.capacity - len(self.seats.get(slot.id, ()))
        closed = slot.handed_back is not None or (self.limits.closed and self.limits.is_closed(slot))
        return min(0, left) if closed else left

    def tell_handed_back(self, now: datetime, slots: Iterable[Slot]) -> None:
        """Tell practices which seats are theirs again, beyond those that they were told of."""
        for slot in sorted(slots, key=lambda slot: slot.id):
            told, slot.handed_back = slot.handed_back, None
            unused = self.left(slot)
            slot.handed_back = told
            if told is None or slot.status != "open" or slot.starts <= now or unused <= told:
                continue
            slot.handed_back = unused
            # each tells of other seats: none may have the version of the one before, not even in one instant
            slot.back_told += 1
            about = (f"slot:{slot.id}", slot.back_told, "", documents.audience(slot))
            data = documents.handed_back(slot, unused - told)
            self.say(now, slot.territory, "events", "places.handed_back", data, *about)

    def with_siblings(self, slots: Iterable[Slot]) -> dict[int, Slot]:
        """Return the slots and the open individual slots of the same professionals that overlap them, by id."""
        found = {slot.id: slot for slot in slots}
        for slot in list(found.values()):
            if self.individual(slot):
                for near in self._individual.get(slot.professional or "", {}).values():
                    if near.starts < slot.ends and near.ends > slot.starts:
                        found[near.id] = near
        return dict(sorted(found.items()))

    # -- requests and bookings -----------------------------------------------------------------------------------

    def set_status(self, request: Request, status: str) -> None:
        """Change where a request stands; counts a version."""
        request.status = status
        request.version += 1
        self.note_waiting(request)

    def note_waiting(self, request: Request) -> None:
        """Keep the indexes of waiting and of promised requests."""
        if request.status == "promised":
            self.promised[request.id] = request
        else:
            self.promised.pop(request.id, None)
        if request.status != "waiting":
            self.waiting.pop(request.id, None)
        elif request.id not in self.waiting:
            self.waiting[request.id] = request
            heapq.heappush(self._due, (request.deadline, request.id))

    def past_deadline(self, now: datetime, limit: int) -> list[Request]:
        """Take out the waiting requests whose deadline has passed, by deadline."""
        late: list[Request] = []
        while self._due and self._due[0][0] <= now and len(late) < limit:
            request = self.waiting.get(heapq.heappop(self._due)[1])
            # one that came back waiting is in the heap twice
            if request is not None and request not in late:
                late.append(request)
        return late

    def free_seats(self, slot: Slot) -> list[int]:
        """Return the free seats below the slot's capacity, lowest first."""
        taken = self.seats.get(slot.id, {})
        return [seat for seat in range(slot.capacity) if seat not in taken]

    def insert(self, booking: Booking) -> None:
        """Take a seat that is free.

        Raises:
            ValueError: a unique row stands against it (booking, seat, request or overlapping time).
        """
        seats = self.seats.setdefault(booking.slot_id, {})
        held = self.active(self.requests[booking.request_id])
        blocked = booking.during is not None and self.blocked(self.slots[booking.slot_id])
        if booking.id in self.bookings or booking.seat in seats or held is not None or blocked:
            raise ValueError(f"Expected a free seat for booking {booking.id}, got seat {booking.seat} taken.")
        self.bookings[booking.id] = booking
        seats[booking.seat] = booking
        if booking.during is not None:
            self.busy.setdefault(booking.professional or "", {})[booking.id] = booking
        if booking.state == "held":
            self.holds[booking.id] = booking
        self.requests[booking.request_id].booking_id = booking.id

    def end(self, booking: Booking, now: datetime, state: str, reason: str) -> None:
        """Give the seat of an active booking back."""
        booking.state, booking.ended_at, booking.end_reason = state, now, reason
        booking.version += 1
        del self.seats[booking.slot_id][booking.seat]
        self.holds.pop(booking.id, None)
        self.to_accept.pop(booking.id, None)
        if booking.during is not None:
            del self.busy[booking.professional or ""][booking.id]

    def reseat(self, booking: Booking, slot: Slot, seat: int) -> None:
        """Give an active booking a free seat of another slot, and its own back."""
        del self.seats[booking.slot_id][booking.seat]
        if booking.during is not None:
            del self.busy[booking.professional or ""][booking.id]
        booking.slot_id, booking.seat, booking.slot_version = slot.id, seat, slot.version
        booking.territory, booking.professional, booking.during = slot.territory, slot.professional, self.during(slot)
        self.seats.setdefault(slot.id, {})[seat] = booking
        if booking.during is not None:
            self.busy.setdefault(booking.professional or "", {})[booking.id] = booking

    def withdraw(self, now: datetime, slot: Slot) -> None:
        """Take an open slot off the market."""
        slot.status, slot.changed_at, slot.valid_at = "withdrawn", now, max(slot.valid_at, now)
        slot.version = self.change()
        self.to_hand_back.pop(slot.id, None)
        self.file(slot)

    def hold(self, booking: Booking, until: datetime) -> None:
        """Turn the seat behind a promise into a hold."""
        booking.state, booking.hold_until = "held", until
        self.holds[booking.id] = booking

    def make_firm(self, booking: Booking, now: datetime) -> None:
        """Turn a booking firm; where its practice accepts, say until when."""
        booking.state, booking.firm_at = "firm", now
        self.holds.pop(booking.id, None)
        slot = self.slots[booking.slot_id]
        if booking.acceptance is None or slot.accept_min is None:
            booking.acceptance = None
            return
        # half of the time that is left is for finding another place, and for the way there
        span = min(timedelta(minutes=slot.accept_min), (slot.starts - now) / 2)
        booking.accept_until = now + max(timedelta(), span)
        self.to_accept[booking.id] = booking

    def hold_end(self, now: datetime, request: Request, slot: Slot) -> datetime:
        """Return until when the territory of a request holds a place: no hold outlives the start of its place."""
        setting = self.settings.get(request.territory, DEFAULT_SETTING)
        return min(now + timedelta(seconds=setting["hold_seconds"]), slot.starts)

    def active(self, request: Request) -> Booking | None:
        """Return the booking that a request has."""
        booking = None if request.booking_id is None else self.bookings[request.booking_id]
        return booking if booking is not None and booking.ended_at is None else None

    def request_json(self, request: Request) -> str:
        """Return what its regulator sees of a request."""
        booking = None if request.booking_id is None else self.bookings[request.booking_id]
        return documents.request_json(request, booking)

    def booking_json(self, booking: Booking) -> str:
        """Return what the practice sees of a booking."""
        return documents.booking_json(booking, self.slots[booking.slot_id], self.requests[booking.request_id])

    # -- announcements -------------------------------------------------------------------------------------------

    def take_said(self) -> list[Announcement]:
        """Return what this transaction has announced."""
        said, self._said = self._said, []
        return said

    def say(self, now: datetime, territory: str, stream: str, kind: str, data: str, *about: Any) -> None:
        """Write an outbox row; ``about``: aggregate, version, owner, audience."""
        aggregate, version, owner, audience = about or ("", 0, "", ())
        row = Announcement(
            next(self._outbox_ids), now, territory, stream, kind, aggregate, version, owner, audience, data
        )
        self.outbox[row.id] = row
        self._said.append(row)

    def announce_places(self, now: datetime, slots: Iterable[Slot]) -> None:
        """Announce whole places (published or changed)."""
        for territory, whole in _by_territory(slots):
            for first in range(0, len(whole), PAGE):
                items = [(documents.place(slot), self.left(slot)) for slot in whole[first : first + PAGE]]
                self.say(now, territory, "places", "published", orjson.dumps(items).decode())

    def announce_states(self, now: datetime, slots: Iterable[Slot]) -> None:
        """Announce the seats left of some slots and of their siblings, and of the limits over them."""
        about = list(slots)
        self.announce_limits(now, about)
        self.tell_handed_back(now, {slot.id: slot for slot in about if slot.handed_back is not None}.values())
        self._tell_states(now, self.with_siblings(about).values())

    def _tell_states(self, now: datetime, slots: Iterable[Slot]) -> None:
        for territory, changed in _by_territory(slot for slot in slots if slot.status == "open"):
            items = [(slot.id, self.left(slot), self.change()) for slot in changed]
            self.say(now, territory, "places", "state", orjson.dumps(items).decode())

    def announce_limits(self, now: datetime, slots: Sequence[Slot]) -> None:
        """Announce what is left of the limits over some slots, and the places that close or open with them."""
        if not self.limits.rows or not slots:
            return
        news: list[tuple[int, int, int, int]] = []
        changed: dict[int, Slot] = {}
        for limit_id, starts in sorted(self.limits.together(slots)):
            left, turned = self.limits.settle(Over(self.limits.rows[limit_id], starts))
            news.append((limit_id, int(starts.timestamp()), left, self.change()))
            changed |= {slot.id: slot for slot in turned}
        if news:
            territory = min(slots, key=lambda slot: slot.id).territory
            self.say(now, territory, "places", "limit_left", orjson.dumps(news).decode())
            self._tell_states(now, changed.values())

    def announce_limit(self, now: datetime, definition: Mapping[str, Any]) -> None:
        """Announce a limit to the matchers."""
        self.say(now, "", "places", "limit", orjson.dumps(definition).decode())

    def announce_gone(self, now: datetime, slots: Iterable[Slot]) -> None:
        """Announce that slots are no longer there."""
        about = list(slots)
        for territory, gone in _by_territory(about):
            self.say(
                now, territory, "places", "gone", orjson.dumps([(slot.id, slot.version) for slot in gone]).decode()
            )
        self.announce_limits(now, about)

    def announce_requests(self, now: datetime, requests: Iterable[Request], kind: str | None = None) -> None:
        """Announce what requests became, to their regulator and, where it concerns it, to the matcher.

        Args:
            now: the instant of the change.
            requests: whose state changed.
            kind: names the event of those that wait; it cannot be said of one whose deadline has passed.
        """
        for r in sorted(requests, key=lambda r: r.id):
            named = kind if r.status == "waiting" and kind else f"request.{r.status}"
            document = self.request_json(r)
            self._say_request(now, r, "events", named, document)
            if r.promise_behind or r.status in _TOLD_TO_MATCHER:
                mine = r.status in _TO_DECIDE
                self._say_request(now, r, "requests", "open" if mine else "closed", document if mine else "")

    def announce_open(self, now: datetime, request: Request) -> None:
        """Announce a new request: to the matcher only."""
        self.tell_matcher(now, request, "open")

    def tell_matcher(self, now: datetime, request: Request, kind: str) -> None:
        """Tell only the matcher what became of a request: ``open`` or ``closed``."""
        self._say_request(now, request, "requests", kind, "" if kind == "closed" else self.request_json(request))

    def tell_regulators(self, now: datetime, requests: Iterable[str], kind: str) -> None:
        """Announce to regulators only: what the matcher decided, it knows."""
        for name in sorted(requests):
            self._say_request(now, self.requests[name], "events", kind, self.request_json(self.requests[name]))

    def announce_handed(self, now: datetime, r: Request, before: str) -> None:
        """Announce a request to the regulator whose it is now, and to the one whose it was."""
        about = (r.id, r.version, r.key_id, (f"k:{before}",))
        self.say(now, r.territory, "events", "request.handed", self.request_json(r), *about)

    def _say_request(self, now: datetime, r: Request, stream: str, kind: str, data: str) -> None:
        self.say(now, r.territory, stream, kind, data, r.id, r.version, r.key_id, ())

    def announce_setting(self, now: datetime, change: Mapping[str, Any]) -> None:
        """Keep the trace of a change of a territory's setting, and announce it to all keys of the territory."""
        territory, data = change["territory"], orjson.dumps(change).decode()
        self.setting_log.setdefault(territory, []).append(data)
        about = (f"settings:{territory}", change["version"], change["key_id"], (f"t:{territory}", "t:*"))
        self.say(now, territory, "events", "settings.changed", data, *about)
        self.say(now, territory, "requests", "settings", "{}", *about[:3], ())

    def announce_booking(self, now: datetime, b: Booking, kind: str | None = None, before: Slot | None = None) -> None:
        """Announce what a booking became to the practice, and to whoever hears of the slot that it had before.

        Args:
            now: the instant of the change.
            b: the booking.
            kind: names the event; by default its state does.
            before: where it was moved from.
        """
        slot = self.slots[b.slot_id]
        audience = dict.fromkeys(documents.audience(slot) + (documents.audience(before) if before else ()))
        about = (b.id, b.version, "", tuple(audience))
        self.say(now, slot.territory, "events", kind or f"booking.{b.state}", self.booking_json(b), *about)


def _by_territory(slots: Iterable[Slot]) -> Iterator[tuple[str, list[Slot]]]:
    """Yield the slots of each territory, both in order."""
    grouped: dict[str, list[Slot]] = {}
    for slot in sorted(slots, key=lambda slot: slot.id):
        grouped.setdefault(slot.territory, []).append(slot)
    yield from sorted(grouped.items())
