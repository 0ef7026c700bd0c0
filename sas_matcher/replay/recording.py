"""The day log of one territory, line by line from what the live service announces; and what it decided, beside it.

Two files. The *day log* says what practices and regulators did, whatever the matcher made of it. Its *batches* say, in
the order in which the matcher heard and decided: which requests it decided together, after how many events of the day
log; and where the seats it saw differ from what a replay would have at that point (a declined or lapsed hold, a place
chosen by hand, a request from elsewhere, an overlapping slot of the same professional). With both, a replay decides on
what the live matcher decided on.

No identity: ids of requests are kept, random numbers that say nothing and by which equal choices are broken, so that
other ids would be other decisions; professionals and structures bear pseudonyms; points are those of the service,
rounded at its door. Pure: no clock, no file.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Any, Final

from sas_matcher.domain.lifecycle import RequestStatus
from sas_matcher.domain.vocabulary import matching_specialty
from sas_matcher.replay.batches import Batch, Mark, Seats, mark_line, slot_name, slot_number
from sas_matcher.replay.batches import Meta as BatchesMeta
from sas_matcher.replay.daylog import (
    DayLog,
    Event,
    Instant,
    Meta,
    Request,
    RequestCancelled,
    RequestCreated,
    Slot,
    SlotCapacity,
    SlotPublished,
    SlotWithdrawn,
)
from sas_matcher.replay.daylog_file import line_of
from sas_matcher.services.matcher.desks import Step

Json = Mapping[str, Any]

RESERVE: Final = "urgent_reserve_pct"
"""The setting by which places are kept for urgent requests."""

SPECIALTY: Final = "specialty:"
"""A day log has no specialties: who asks for one needs it, who has one offers it, by this word before its code."""

SEATED: Final = frozenset({"held", "promised", "moved", "told_firm"})
"""Verdicts of the ledger after which a request has a seat."""
FIRM: Final = frozenset({"held", "told_firm"})
"""Those after which it keeps it in a replay, where the regulator confirms at once."""
DISPLACED: Final = "displaced"
"""The verdict after which a promised request has none any more."""
LOST: Final = frozenset({"seat_lost", "limit_reached", "not_waiting"})
"""Verdicts after which it has not, although one was chosen for it."""


@dataclass(slots=True)
class _Place:
    """A slot of the log.

    Attributes:
        slot_id: its number in the ledger; ``name``: its id in the log.
        likeness: what it offers, but for the number of places.
        hidden: seats that requests unknown to the log had when it was published there.
        logged: places in all, by the log.
        total: places in all in a replay: ``logged``, or what a correction made of it.
        taken: seats that requests of the log have in a replay.
        start: when it begins, epoch seconds.
        lent: it is another territory's, in the log for those who were given it.
        left: seats left, as the matcher saw it, 0 where more are given than offered; with ``version`` of the slot and
            ``seats_version`` of that number.
    """

    slot_id: int
    name: str
    likeness: bytes
    hidden: int
    logged: int
    total: int
    left: int
    version: int = -1
    seats_version: int = -1
    taken: int = 0
    start: float = 0.0
    lent: bool = False


class Recording:
    """One territory and local day.

    Args:
        meta: the first line of the day log.
        zone: local time of the territory.
        pseudonym: a name for a professional or a structure, always the same.
    """

    def __init__(self, meta: Meta, zone: tzinfo, pseudonym: Callable[[str], str]) -> None:
        self.meta = meta
        self._zone = zone
        self._pseudonym = pseudonym
        self._places: dict[int, _Place] = {}
        # slots that are gone, by the version they went with; and how many names each has had
        self._gone: dict[int, int] = {}
        # those that are gone although the matcher has not heard it yet, with their names
        self._unheard: dict[int, str] = {}
        self._names: dict[int, int] = {}
        self._holds: dict[str, _Place] = {}  # the seat that each request has in a replay
        self._firm: set[str] = set()
        self._open: set[str] = set()
        self._closed: set[str] = set()
        # when those called whose line bears a later instant, until somebody decides for them
        self._made: dict[str, Instant] = {}
        # who waits again since he was last decided for
        self._waits_again: set[str] = set()
        self._events = 0
        self._last = meta.start
        self._day: list[bytes] = []
        self._marks: list[bytes] = []

    def begin(self) -> None:
        """Write the first lines of both files."""
        self._day.append(line_of(self.meta))
        self._marks.append(mark_line(BatchesMeta(self.meta.territory, self.meta.start)))

    def take(self) -> tuple[bytes, bytes]:
        """Return the lines written since the last look, of the day log and of its batches."""
        day, marks = b"".join(self._day), b"".join(self._marks)
        self._day, self._marks = [], []
        return day, marks

    @classmethod
    def resumed(cls, day: DayLog, marks: Iterable[Mark], zone: tzinfo, pseudonym: Callable[[str], str]) -> "Recording":
        """Return a recording that goes on after what its files say."""
        it = cls(day.meta, zone, pseudonym)
        waiting = list(marks)
        for number, event in enumerate(day.events):
            while waiting and waiting[0].after <= number:
                it._recall_mark(waiting.pop(0))
            it._recall(event)
        for mark in waiting:
            it._recall_mark(mark)
        for place in it._places.values():
            # what was written was settled
            place.left = max(0, place.total - place.taken)
        return it

    def _recall(self, event: Event) -> None:
        self._events += 1
        self._last = event.t
        match event:
            case SlotPublished(slot=slot):
                slot_id = _slot_id(slot.id)
                self._names[slot_id] = self._names.get(slot_id, 0) + 1
                places = slot.capacity
                self._places[slot_id] = _Place(
                    slot_id, slot.id, _likeness(slot), 0, places, places, places, start=slot.start
                )
            case SlotCapacity(slot_id=name, capacity=capacity):
                place = self._places[_slot_id(name)]
                place.logged = place.total = capacity
            case SlotWithdrawn(slot_id=name):
                self._lose(self._places[_slot_id(name)])
            case RequestCreated(request=request):
                self._open.add(request.id)
            case RequestCancelled(request_id=name):
                self._close(name)

    def _recall_mark(self, mark: Mark) -> None:
        if isinstance(mark, Seats):
            place = self._places[_slot_id(mark.slot_id)]
            place.hidden += mark.hidden
            place.total = place.taken + mark.left
        else:
            self._unheard = {_slot_id(name): name for name in mark.unheard}
            for name, slot_name, said in zip(mark.requests, mark.slots, mark.said, strict=True):
                self._settle_one(name, None if slot_name is None else _slot_id(slot_name), said)

    # -- what practices do ---------------------------------------------------------------------------------------

    def places(self, kind: str, items: Iterable[Any], t: float) -> None:
        """Take in a change of places (``ports.bus.PLACES_STREAM``), in the order in which the matcher heard it."""
        for item in items:
            if kind == "published":
                self.published(item[0], item[1], t)
            elif kind == "state":
                slot_id, left, version = item
                place = self._places.get(slot_id)
                if place is not None and place.seats_version < version:
                    place.left, place.seats_version = max(0, left), version
            elif kind == "gone":
                slot_id, version = item
                self._unheard.pop(slot_id, None)
                place = self._places.get(slot_id)
                if place is not None and place.version <= version:
                    self._write(SlotWithdrawn(self._instant(t), place.name))
                    self._lose(place)
                self._gone[slot_id] = max(version, self._gone.get(slot_id, -1))

    def gone_unheard(self, items: Iterable[Any], t: float) -> None:
        """Take in withdrawals before the matcher heard them: it has heard whom they sent away."""
        for slot_id, version in items:
            place = self._places.get(slot_id)
            if place is not None and place.version <= version:
                self.places("gone", [(slot_id, version)], t)
                self._unheard[slot_id] = place.name

    def learned(self, record: Json, left: int, t: float, *, begins: bool) -> None:
        """Take in a slot as the ledger has it now; when the log ``begins``, it knows but the seats left."""
        self.published(record, left, t, hidden=record["capacity"] - left if begins else 0)
        place = self._places.get(record["slot_id"])
        if place is not None:
            place.left = max(0, left)

    def published(self, record: Json, left: int, t: float, *, hidden: int = 0) -> None:
        """Take in a slot that was published or changed; ``hidden`` of its seats are not for this log."""
        slot_id, version = record["slot_id"], record["version"]
        place = self._places.get(slot_id)
        if version < max(self._gone.get(slot_id, -1), -1 if place is None else place.version):
            return
        slot = self._slot(record)
        likeness = _likeness(slot)
        if place is not None and place.likeness != likeness and not place.taken:
            # the log knows no change of a slot but that of its places: it goes, and another one comes. A booked slot
            # can only change what it offers to others, which is left out
            self._write(SlotWithdrawn(self._instant(t), place.name))
            self._lose(place)
            place = None
        if place is None:
            place = self._publish(slot_id, slot, hidden, t)
        elif (total := max(0, record["capacity"] - place.hidden)) != place.logged:
            self._resize(place, total, t)
        place.version = version
        if place.seats_version <= version:
            place.left, place.seats_version = max(0, left), version

    def keep_only(self, slots: Container[int], t: float) -> None:
        """Withdraw what is still to come and is not among these slots any more."""
        for place in [p for p in self._places.values() if p.slot_id not in slots and p.start > t and not p.lent]:
            self._write(SlotWithdrawn(self._instant(t), place.name))
            self._lose(place)

    def _publish(self, slot_id: int, slot: Slot, hidden: int, t: float) -> _Place:
        number = self._names.get(slot_id, 0)
        self._names[slot_id] = number + 1
        name = slot_name(slot_id, number)
        places = max(0, slot.capacity - hidden)
        # the format knows no slot without a place, only one that lost it
        self._write(SlotPublished(self._instant(t), replace(slot, id=name, capacity=max(1, places))))
        place = _Place(slot_id, name, _likeness(slot), hidden, max(1, places), max(1, places), places, start=slot.start)
        self._places[slot_id] = place
        if places < 1:
            self._resize(place, 0, t)
        if hidden:
            self._mark(Seats(self._last, self._events, name, places, hidden))
        return place

    def _resize(self, place: _Place, places: int, t: float) -> None:
        self._write(SlotCapacity(self._instant(t), place.name, places))
        place.logged = place.total = places

    def _lose(self, place: _Place) -> None:
        """Forget a slot; its requests are open again."""
        del self._places[place.slot_id]
        self._firm -= {name for name, held in self._holds.items() if held is place}
        self._holds = {name: held for name, held in self._holds.items() if held is not place}

    def _slot(self, record: Json) -> Slot:
        specialty = matching_specialty(record["specialty"])
        professional, structure = record["professional"], record["structure"]
        return Slot(
            id=str(record["slot_id"]),
            professional=self._pseudonym(professional or structure),
            structure=None if structure is None else self._pseudonym(structure),
            source=record["source_kind"],
            lat=record["lat"],
            lon=record["lon"],
            start=self._read_instant(record["start"]),
            end=self._read_instant(record["end"]),
            capacity=record["capacity"],
            mode=record["mode"],
            profession=record["profession"],
            offers=(*record["offers"], *_specialty_words(specialty)),
        )

    # -- what regulators do --------------------------------------------------------------------------------------

    def opened(self, document: Json) -> None:
        """Take in a request that waits, as its regulator sees it; one that is known waits again, which is no event."""
        name = document["request_id"]
        if self.is_known(name):
            if document["status"] == RequestStatus.WAITING:
                self._waits_again.add(name)
            return
        specialty = matching_specialty(document["specialty"])
        request = Request(
            id=name,
            lat=document["lat"],
            lon=document["lon"],
            profession=document["profession"],
            modes=tuple(document["modes"]),
            tier=document["tier"],
            deadline=self._read_instant(document["deadline"]),
            radius_km=document["radius_km"],
            needs=(*document["needs"], *_specialty_words(specialty)),
            mt=None if document["mt"] is None else self._pseudonym(document["mt"]),
            on_phone=document["on_phone"],
        )
        made = self._read_instant(document["created_at"])
        if made < self._last:
            self._made[name] = made
        self._write(RequestCreated(self._instant(made), request))
        self._open.add(name)

    def cancelled(self, name: str, t: float) -> None:
        """Take in a cancellation."""
        if name in self._open:
            self._write(RequestCancelled(self._instant(t), name))
            self._close(name)

    def _close(self, name: str) -> None:
        self._open.discard(name)
        self._closed.add(name)
        place = self._holds.pop(name, None)
        if place is not None:
            place.taken -= 1

    # -- what the matcher did ------------------------------------------------------------------------------------

    def open_requests(self) -> set[str]:
        """The requests of the log that were not cancelled."""
        return set(self._open)

    def is_known(self, name: str) -> bool:
        """Whether a request is in the log."""
        return name in self._open or name in self._closed

    def is_closed(self, name: str) -> bool:
        """Whether a request of the log was cancelled."""
        return name in self._closed

    def lost_seats(self, names: Iterable[str]) -> set[int]:
        """The slots on which requests that wait again have their seats in a replay."""
        return {self._holds[name].slot_id for name in names if name in self._waits_again and name in self._holds}

    def lacking(self, rows: Sequence[Sequence[Any]]) -> dict[int, int]:
        """How many seats a batch gave to requests of this log on slots that are not this territory's, by slot."""
        given = Counter(
            slot
            for name, slot, verdict, _ in rows
            if verdict in SEATED and name in self._open and name not in self._holds
        )
        return {slot: seats for slot, seats in given.items() if slot not in self._places or self._places[slot].lent}

    def lend(self, record: Json, seats: int, t: float) -> None:
        """Take in a slot of another territory for the requests of this one that are about to be given its seats."""
        place = self._places.get(record["slot_id"])
        if place is None:
            self._publish(record["slot_id"], replace(self._slot(record), capacity=seats), 0, t).lent = True
        else:
            self._resize(place, place.taken + seats, t)
            place.left = seats

    def batch(
        self,
        t: float,
        rows: Sequence[Sequence[Any]],
        *,
        mt_first: bool,
        measures: Mapping[str, Any] | None = None,
        asked: Sequence[str] | None = None,
        promised: Mapping[str, int] | None = None,
        step: Sequence[str] | None = None,
        released: float | None = None,
        planned: Sequence[str] | None = None,
        answered: Sequence[str] | None = None,
        opened: bool = False,
        expected: int = 0,
        ceded: Sequence[Sequence[Any]] = (),
    ) -> None:
        """Take in a batch.

        Args:
            t: of the decision, epoch seconds.
            rows: of each request its id, the slot chosen, the ledger's verdict (or None) and the policy.
            mt_first: whether a free place at the médecin traitant's came first.
            measures: what the territory had set beside that (``domain.policy.WEIGHED``), where it was not the default.
            asked: who had just called, in order; all of them where nothing is said.
            promised: the slot behind the promise of those of ``asked`` who had one.
            step: what became of the plan of the territory's desk, and under which policies it was made.
            released: for which instant (epoch seconds) places kept for urgent requests were released last.
            planned: the professions of a plan that was begun.
            answered: to whom the desk gave an answer, in this order.
            opened: whether that desk was new.
            expected: from how many days that were not recorded but drawn it learned then.
            ceded: its seats that went to other territories' desks: the slot, and which request was displaced (or None).
        """
        mine = [(name, slot, verdict) for name, slot, verdict, _ in rows if name in self._open]
        called = [name for name in ([row[0] for row in rows] if asked is None else asked) if name in self._open]
        if not mine and not called and step is None and not opened:
            return
        self.settle(t)
        slots = tuple(None if slot is None else self._name_of(slot) for _, slot, _ in mine)
        lost = frozenset(name for name, _, verdict in mine if verdict in LOST)
        # the instant of the decision: candidates and costs hang on it
        at = Instant(t, self._offset(t))
        policy = "+".join(sorted({row[3] for row in rows if row[0] in self._open})) or ("" if step is None else step[1])
        names, said = tuple(name for name, _, _ in mine), tuple(verdict for _, _, verdict in mine)
        self._mark(
            Batch(
                *(at, self._events, names, slots, lost, policy, mt_first, said, tuple(called)),
                None if step is None else Step(step[0]),
                dict(measures or {}),
                opened,
                tuple((self._places[slot].name, loser) for slot, loser in ceded if slot in self._places),
                None if planned is None else tuple(planned),
                None if answered is None else tuple(name for name in answered if name in self._open),
                tuple(self._unheard.values()),
                Instant(released, self._offset(released)) if released and (measures or {}).get(RESERVE) else None,
                {name: self._made.pop(name) for name in called if name in self._made},
                {name: slot for name in called if (slot := self._name_of((promised or {}).get(name, -1))) is not None},
                expected,
            )
        )
        self._waits_again -= set(called)
        for name, slot, verdict in mine:
            self._settle_one(name, slot, verdict)

    def _name_of(self, slot_id: int) -> str | None:
        """The name of a slot of the log that the matcher had not heard to be gone."""
        place = self._places.get(slot_id)
        return self._unheard.get(slot_id) if place is None else place.name

    def _settle_one(self, name: str, slot_id: int | None, verdict: str | None) -> None:
        """Give, move or take back the seat that a request has in a replay."""
        # in a replay who is firm keeps his seat, whatever he did with it in truth
        if name in self._firm:
            return
        if verdict == DISPLACED:
            self._unseat(name)
        elif slot_id is not None and verdict in SEATED:
            self._seat(name, slot_id)
            if verdict in FIRM:
                self._firm.add(name)

    def _seat(self, name: str, slot_id: int) -> None:
        place = self._places.get(slot_id)
        if place is None or self._holds.get(name) is place:
            return
        self._unseat(name)
        self._holds[name] = place
        place.taken += 1
        place.left = max(0, place.left - 1)

    def _unseat(self, name: str) -> None:
        place = self._holds.pop(name, None)
        if place is not None:
            place.taken -= 1
            place.left += 1

    def settle(self, t: float) -> None:
        """Note where the seats that the matcher saw are not those of a replay."""
        for place in self._places.values():
            if place.left != max(0, place.total - place.taken):
                place.total = place.taken + place.left
                self._mark(Seats(Instant(t, self._offset(t)), self._events, place.name, place.left, 0))

    # -- lines ---------------------------------------------------------------------------------------------------

    def _write(self, event: Event) -> None:
        self._events += 1
        self._last = event.t
        self._day.append(line_of(event))

    def _mark(self, mark: Mark) -> None:
        self._marks.append(mark_line(mark))

    def _offset(self, t: float) -> int:
        offset = datetime.fromtimestamp(t, self._zone).utcoffset()
        return 0 if offset is None else int(offset.total_seconds())

    def _instant(self, t: float) -> Instant:
        """An instant for the next line: never before the last one's (writers' clocks differ by milliseconds)."""
        seconds = max(t, self._last)
        return Instant(seconds, self._offset(seconds))

    def _read_instant(self, text: str) -> Instant:
        seconds = datetime.fromisoformat(text).timestamp()
        return Instant(seconds, self._offset(seconds))


def _slot_id(name: str) -> int:
    number = slot_number(name)
    if number is None:
        raise ValueError(f"Expected the name of a recorded slot, got {name}.")
    return number


def _likeness(slot: Slot) -> bytes:
    """What a slot offers, short enough to be kept for each."""
    line = line_of(SlotPublished(Instant(0.0), replace(slot, id="", capacity=1)))
    return hashlib.blake2b(line, digest_size=8).digest()


def _specialty_words(specialty: str | None) -> Iterator[str]:
    if specialty is not None:
        yield SPECIALTY + specialty


def specialty_of(words: Iterable[str]) -> tuple[str | None, tuple[str, ...]]:
    """Return the specialty among what a recorded slot offers, or a request needs, and the other words."""
    listed = tuple(words)
    specialty = next((word.removeprefix(SPECIALTY) for word in listed if word.startswith(SPECIALTY)), None)
    return specialty, tuple(word for word in listed if not word.startswith(SPECIALTY))
