"""What a desk knows: who is open, which slots are live, who leans on which seat, and what wants its attention.

Nothing is decided here (``desk``). Times are seconds since the midnight at which the day begins, costs tenths of a
minute.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from sas_matcher.matching.commitment import Commitment
from sas_matcher.matching.field import Field
from sas_matcher.matching.forecast import HistoryDay
from sas_matcher.matching.limiting import Limiter, Limiting
from sas_matcher.matching.pairs import Codes, Floats, Ints, Pairs, Requests, Slots, feasible
from sas_matcher.matching.sharing import URGENT
from sas_matcher.matching.terms import TIER_RANK, Terms

WAITING, PROMISED, FIRM, CLOSED = range(4)


BEYOND_S: Final = 5.0
"""Seats that come free beyond the territory wait for a plan this long: a hundred desks share those by video, and were
they to plan at each of them, they would all plan many times a second and take the seat from one another."""


class Book:
    """Open requests and live slots of a territory; what happens to them, and what must be looked at for it.

    Args:
        terms: of the territory.
        codes: numbers for names, shared with ``history``.
        policy: how to commit.
        history: earlier days of this territory, the same as the planner's.
        limits: of practices, over its slots; None where there are none to be kept (a day log knows no limits).
    """

    def __init__(
        self,
        terms: Terms,
        codes: Codes,
        policy: Commitment,
        history: Sequence[HistoryDay] = (),
        limits: Limiting | None = None,
    ) -> None:
        self.terms, self.codes, self.policy = terms, codes, policy
        self.slots, self.requests = Slots(), Requests()
        self.left: list[int] = []
        self.reserved: list[int] = []
        self.status: list[int] = []
        self.seat: dict[int, int] = {}
        # who has to be called back in time: by the policy, or since he was promised a place
        self._noticed: list[bool] = []
        # when requests of today were made before this desk began, in order
        self.called: Floats = np.zeros(0)
        self._history, self._limiter = history, Limiter(limits)
        self._fields: dict[int, Field] = {}
        self._fresh: list[int] = []
        # urgent people who asked last time and got nothing
        self._in_vain: list[int] = []
        self._beyond: dict[int, float] = {}
        self._barred: dict[int, frozenset[int]] = {}
        # slots that only urgent requests may have for now
        self._kept: set[int] = set()
        # waiting or promised; what each could be given when it called, until something new comes
        self._open: dict[int, None] = {}
        self._own: dict[int, Pairs] = {}
        # slots that nobody has been paired with yet: a bulk is looked at once, when somebody asks
        self._pending: list[int] = []
        self._now = 0.0
        # since the last task: who was accepted, and which slots came
        self._accepted: list[int] = []
        self._published: list[tuple[Ints, Pairs]] = []
        self._notice = 60.0 * terms.notice_min
        self._displace = np.array(policy.displace)
        # what those who are not urgent are worth at most
        self._calm = float(max((of.value for tier, of in terms.tiers.items() if TIER_RANK[tier] > URGENT), default=0))

    # -- what happens --------------------------------------------------------------------------------------------

    def publish(self, now: float, *, capacity: int, **columns: float) -> int:
        """A slot is on the market; returns its row."""
        row = self.slots.append(published=now, capacity=capacity, **columns)
        self._arrives(row, now, capacity)
        place = self._field(int(self.slots.profession[row]))
        if self.slots.start[row] - self._notice <= now + self.policy.step_s:
            place.edge = -np.inf
        return row

    def _arrives(self, row: int, now: float, seats: int) -> None:
        self.left.append(seats)
        self.reserved.append(0)
        self._pending.append(row)
        self._now = now

    def _absorb(self) -> None:
        """Pair the slots that have come with those who are open, and price them."""
        if not self._pending:
            return
        rows, self._pending = np.array(self._pending, np.intp), []
        parts = []
        waiting = np.array(list(self._open), np.intp)
        for profession in np.unique(self.slots.profession[rows]).tolist():
            these = rows[self.slots.profession[rows] == profession]
            those = waiting[self.requests.profession[waiting] == profession] if waiting.size else waiting
            if profession >= 0 and those.size:
                i, j = np.repeat(those, these.size), np.tile(these, those.size)
                pairs = self._unbarred(feasible(self.requests, i, self.slots, j, self.codes.meets, self.terms))
                if self._kept:
                    urgent = self.requests.tier[pairs.request] <= URGENT
                    pairs = pairs.where(urgent | ~np.isin(pairs.slot, list(self._kept)))
                self._field(profession).add(pairs)
                parts.append(pairs)
        pairs = Pairs.join(parts)
        if pairs.request.size:
            self._own.clear()
            self._ask_again(np.unique(pairs.request).tolist())
        self._published.append((rows, pairs))
        self._price(rows, pairs)

    def _price(self, rows: Ints, pairs: Pairs) -> None:
        for place in self._fields.values():
            place.price_new(self.slots, rows, pairs, self._now, self.codes.meets, self.terms)

    def _unbarred(self, pairs: Pairs) -> Pairs:
        for request, owners in self._barred.items():
            if owners:
                theirs = np.isin(self.slots.professional[pairs.slot], list(owners))
                pairs = pairs.where((pairs.request != request) | ~theirs)
        return pairs

    def keep_for_urgent(self, slot: int) -> None:
        """Pair a slot that has just come with urgent requests only, until it is released."""
        self._kept.add(slot)

    def release(self, slot: int) -> None:
        """A slot that was kept for urgent requests is everybody's: pair it with the others who are open."""
        if slot not in self._kept:
            return
        self._absorb()
        self._kept.discard(slot)
        profession = int(self.slots.profession[slot])
        those = [r for r in self._open if self.requests.tier[r] > URGENT and self.requests.profession[r] == profession]
        if those and self.left[slot] > 0:
            one = np.array([slot], np.intp)
            waiting = np.array(those, np.intp)
            pairs = feasible(self.requests, waiting, self.slots, one, self.codes.meets, self.terms)
            self._field(profession).add(self._unbarred(pairs))
            self._own.clear()
            self._field(profession).edge = -np.inf

    def see(self, now: float, start: float, seats: int) -> int:
        """A slot from beyond the territory, known only by who may use it: nothing is forecast for it."""
        row = self.slots.append(published=now, capacity=seats, start=start, **_ELSEWHERE)
        self._arrives(row, now, seats)
        return row

    def call(self, pairs: Pairs, beyond: float, **columns: float) -> int:
        """A request is made; returns its row.

        Args:
            pairs: row of slot, travel, cost; the rows of requests do not matter.
            beyond: the least cost of what ``pairs`` leaves out, infinite for nothing.
            columns: of ``Requests``.
        """
        self._absorb()
        row = self.requests.append(**columns)
        self.status.append(WAITING)
        self._noticed.append(self.policy.notice[int(self.requests.tier[row])])
        self._open[row] = None
        self._fresh.append(row)
        mine = Pairs(np.full(pairs.slot.size, row, np.intp), pairs.slot, pairs.travel_s, pairs.cost)
        self._own[row] = mine.where(pairs.cost < self.requests.value[row])
        self._field_of(row).add(self._own[row])
        self._beyond[row] = beyond
        return row

    def promised(self, request: int, slot: int) -> None:
        """A request was promised before this desk began."""
        self._open[request] = None
        self._promise(request, slot)

    def _promise(self, request: int, slot: int) -> None:
        self.status[request] = PROMISED
        self.once_promised(request)
        self._take(request, slot)

    def once_promised(self, request: int) -> None:
        """A request has been promised a place, whatever became of that: it will be called back in time."""
        self._noticed[request] = True

    def barred(self, request: int) -> frozenset[int]:
        """The professionals that a request has declined."""
        return self._barred.get(request, frozenset())

    def bar(self, request: int, slots: Iterable[int], professionals: Iterable[int]) -> None:
        """A request has declined these slots and professionals: they are not proposed to it again."""
        self._absorb()
        self._own.clear()
        gone, owners = np.array(sorted(slots), np.intp), frozenset(professionals)
        self._barred[request] = owners
        place = self._field_of(request)
        pairs = place.pairs()
        theirs = np.isin(self.slots.professional[pairs.slot], list(owners)) if len(self.slots) else pairs.slot > 0
        place.keep(pairs.where((pairs.request != request) | ~(np.isin(pairs.slot, gone) | theirs)))

    def close(self, request: int) -> None:
        """A request is cancelled, or its deadline has passed; a firm seat is given back by the caller (``free``)."""
        self.status[request] = CLOSED
        self._open.pop(request, None)
        self._own.pop(request, None)
        slot = self.seat.get(request)
        self._give_back(request)
        if slot is not None:
            self._offer(slot)

    def free(self, slot: int, seats: int) -> None:
        """Seats of a slot come or go (negative: fewer)."""
        self.left[slot] += seats
        profession = int(self.slots.profession[slot])
        if self.left[slot] < self.reserved[slot] or (seats > 0 and profession >= 0):
            self._stir(profession)  # where more are promised than there are somebody must move
        elif seats > 0:
            for place in self._fields.values():
                place.edge = min(place.edge, self._now + BEYOND_S)
        if seats > 0:
            self._offer(slot)

    def gone(self, slot: int) -> list[int]:
        """A slot is off the market; returns the promised requests that leaned on it (they keep their promise)."""
        self.left[slot] = -(10**6)
        lost = [r for r, s in self.seat.items() if s == slot]
        for request in lost:
            self._give_back(request)
        if lost:
            self._stir(int(self.slots.profession[slot]))
        return lost

    def reopen(self, request: int, promised: bool, *, ask: bool = False) -> None:
        """A place was lost, or declined: the request is open again; ``ask``: it wants an answer at once."""
        self._give_back(request)
        self.status[request] = PROMISED if promised else WAITING
        self._noticed[request] |= promised
        self._open[request] = None
        self._stir(int(self.requests.profession[request]))
        if ask:
            self._fresh.append(request)

    # -- what wants attention ---------------------------------------------------------------------------------------

    def _ask_again(self, rows: Iterable[int]) -> None:
        """Urgent people who wait want an answer as soon as there is something new for them.

        Others who wait do not: told early, T2 and T3 took what T1 needs (2 to 4 points of welfare of a flash and ×3).
        """
        self._fresh += sorted({row for row in rows if self._waits_urgently(row)} - set(self._fresh))

    def _offer(self, slot: int) -> None:
        """A seat has come free: urgent people who wait and could use it want an answer."""
        if any(map(self._waits_urgently, self._open)):
            of_fields = [place.pairs() for place in self._fields.values()]
            self._ask_again(row for pairs in of_fields for row in pairs.request[pairs.slot == slot].tolist())

    def waits(self, row: int) -> bool:
        """Whether a request is open and was promised nothing."""
        return self.status[row] == WAITING

    def _waits_urgently(self, row: int) -> bool:
        return self.status[row] == WAITING and int(self.requests.tier[row]) <= URGENT

    def _stir(self, profession: int) -> None:
        """Something has happened that the plan must answer now, at the prices there are."""
        # a slot from beyond the territory has no profession here: whoever it may concern
        for place in [self._field(profession)] if profession >= 0 else self._fields.values():
            place.edge = -np.inf

    def _field(self, profession: int) -> Field:
        if profession not in self._fields:
            self._fields[profession] = Field(profession, self._history)
        return self._fields[profession]

    def _field_of(self, request: int) -> Field:
        return self._field(int(self.requests.profession[request]))

    def _give_back(self, request: int) -> None:
        slot = self.seat.pop(request, None)
        if slot is not None:
            self.reserved[slot] -= 1

    def _take(self, request: int, slot: int) -> None:
        self._give_back(request)
        self.seat[request] = slot
        self.reserved[slot] += 1

    def _room(self, slot: int) -> bool:
        return self.left[slot] > self.reserved[slot]


_ELSEWHERE: Final[Mapping[str, float]] = {
    "lat": 0.0, "lon": 0.0, "profession": -1, "mode": 0, "offer": 0, "professional": -1, "specialty": -1, "landmass": 0,
}  # fmt: skip
