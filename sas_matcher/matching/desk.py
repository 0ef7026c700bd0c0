"""When a place becomes firm: the policies of the day log as one desk over arrays.

Nothing is promised that the rest of the day would miss too much. Every few minutes what is open now is solved together
with some imagined futures (``planning``), which prices every seat in each of them. Who calls is told at once if the
loss that this means, averaged over the futures, is a small share of what serving him is worth; the seats that he leans
on in each future count as spent until the next solve (matching study §7.1). Everyone else waits. A promised place is
told, and a waiting request served, at the last instant at which the patient can still be called back: until then the
plan may move.

The desk decides only; who calls it commits. Times are seconds since the midnight at which the day begins, costs tenths
of a minute, as in the day log. Same calls in the same order, same verdicts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from sas_matcher.matching.commitment import Commitment
from sas_matcher.matching.exchange import make_room
from sas_matcher.matching.field import Field
from sas_matcher.matching.forecast import HistoryDay
from sas_matcher.matching.limiting import Limiter, Limiting
from sas_matcher.matching.limits import Over
from sas_matcher.matching.pairs import Codes, Floats, Ints, Pairs, Requests, Slots, feasible
from sas_matcher.matching.planning import FieldPlan, FieldTask, Task
from sas_matcher.matching.sharing import URGENT
from sas_matcher.matching.terms import Terms

WAITING, PROMISED, FIRM, CLOSED = range(4)

KEPT: Final = 1e6
"""Penalty of leaving a promised request without a place: above all values together on one chain of exchanges."""

TELL_S: Final = 20.0
"""Seconds before the last instant at which who waits is told: the plan of that instant takes its time."""

BEYOND_S: Final = 5.0
"""Seats that come free beyond the territory wait for a plan this long: a hundred desks share those by video, and were
they to plan at each of them, they would all plan many times a second and take the seat from one another."""

SAME_S: Final = 1.0
"""A decision made within this many seconds of its request counts as made in its instant (day log, *Feasibility*)."""


class Verdict(NamedTuple):
    """What is decided for one request.

    Attributes:
        what: firm, promise, move (of the seat behind a promise), displace.
        request: its row; ``slot``: the slot's row, −1 for none.
        price: of the seat in the mean of the futures, tenths of a minute.
        planned: by the plan, else in answer to the call.
        gap: what the plan may miss of the optimum, tenths of a minute.
    """

    what: str
    request: int
    slot: int
    price: float
    planned: bool = False
    gap: int = 0


class Desk:
    """Holds open requests and live slots of a territory, and says what becomes firm, promised or displaced.

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

    # -- deciding ------------------------------------------------------------------------------------------------

    def due(self) -> float:
        """When the desk wants a plan next if nothing happens; never, where nobody is open and nothing forecast."""
        if not self._history and not self._open:
            return float(np.inf)
        return min((self._due(place) for place in self._fields.values()), default=float(np.inf))

    def _due(self, place: Field) -> float:
        return min(place.edge, place.looked + self.policy.step_s)

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

    def _waits_urgently(self, row: int) -> bool:
        return self.status[row] == WAITING and int(self.requests.tier[row]) <= URGENT

    def asked(self) -> list[int]:
        """The requests that want an answer, in the order in which they get it."""
        if self._pending and any(map(self._waits_urgently, self._open)):
            self._absorb()  # else a bulk is looked at once, when somebody calls
        open_ones = {row for row in self._fresh if self.status[row] == WAITING}
        return sorted(open_ones, key=lambda r: (int(self.requests.tier[r]), self.requests.created[r], r))

    def answer(self, now: float) -> list[Verdict]:
        """Tell whom of those that called can be told at once."""
        self._absorb()
        self._now = now
        asked, self._fresh = self.asked(), []
        self._limiter.begin_round()
        verdicts: list[Verdict] = []
        for row in asked:
            verdicts += self._answer(row, now)
            if self._displace.any() and self._waits_urgently(row):
                self._field_of(row).edge = now  # the plan may displace somebody for him: not only at the next look
        return verdicts

    def price(self, slot: int) -> float | None:
        """The price of a seat in the mean of the futures; None before there is a plan."""
        self._absorb()
        place = self._fields.get(int(self.slots.profession[slot]))
        if place is None or not place.outlooks:
            return None
        return float(place.prices(np.array([slot])).mean())

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

    def _firm(self, request: int, slot: int) -> None:
        self._give_back(request)
        self.status[request] = FIRM
        self._open.pop(request, None)
        self._own.pop(request, None)
        self.left[slot] -= 1

    def _lead(self, pairs: Pairs) -> Floats:
        """Seconds that telling needs before the start, when it is later than the call."""
        if not pairs.request.size:
            return np.zeros(0)
        noticed = np.array(self._noticed)[pairs.request]
        return np.where(noticed, np.maximum(pairs.travel_s, self._notice), pairs.travel_s)

    def _tell_at(self, pairs: Pairs) -> Floats:
        """When whoever waits for each seat is told of it; whole seconds, as clocks are woken at."""
        return np.floor(self.slots.start[pairs.slot] - self._lead(pairs)) - TELL_S if pairs.slot.size else np.zeros(0)

    # -- who calls -----------------------------------------------------------------------------------------------

    def arcs(self, row: int, now: float) -> Pairs:
        """What a request could be given now, in seats that are not firm."""
        pairs = self._own.get(row)
        if pairs is None:
            pairs = self._field_of(row).pairs_of(row)
        if not pairs.slot.size:
            return pairs
        left = np.array([self.left[s] for s in pairs.slot.tolist()])
        keep = (self.slots.start[pairs.slot] - now >= pairs.travel_s) & (left > 0)
        return pairs.where(keep)

    def _answer(self, row: int, now: float) -> Sequence[Verdict]:
        """Tell a caller at once, if that loses little; others who were promised a place may make room for him."""
        pairs = self.arcs(row, now)
        if now - self.requests.created[row] > SAME_S and pairs.slot.size:
            # asked again, later than the call: there must be time to call back
            pairs = pairs.where(self.slots.start[pairs.slot] - now >= self._lead(pairs))
        pairs = self._limiter.within(row, pairs)
        if not pairs.slot.size:
            return ()
        value = float(self.requests.value[row])
        tier = int(self.requests.tier[row])
        place = self._field_of(row)
        last = self._tell_at(pairs)
        place.edge = min(place.edge, float(np.min(last, where=last > now, initial=np.inf)))
        prices = place.prices(pairs.slot)
        costs = pairs.cost + prices
        regret = float(np.maximum(0.0, costs.min(axis=1) - value).mean())
        if regret > self.policy.regret[tier] * value:
            return ()
        mean = np.minimum(costs, 2 * KEPT).mean(axis=0)
        arc = next((a for a in mean.argsort(kind="stable").tolist() if self._room(int(pairs.slot[a]))), None)
        moves: Sequence[Verdict] = ()
        if arc is None and self.policy.promise[tier]:
            arc, moves = self._exchange(row, pairs.where(mean.argsort(kind="stable")), pairs.slot, now)
        if arc is None:
            return ()
        slot, price = int(pairs.slot[arc]), float(prices[:, arc].mean())
        place.spend(pairs)
        self._accepted.append(row)
        self._limiter.count(row, slot)
        # what would have to be told within a step anyway is told now: little is lost, and nothing can happen to it
        if not self._may_promise(row, slot, float(pairs.travel_s[arc])):
            self._firm(row, slot)
            return (*moves, Verdict("firm", row, slot, price))
        self._promise(row, slot)
        return (*moves, Verdict("promise", row, slot, price))

    def _may_promise(self, row: int, slot: int, travel_s: float) -> bool:
        """Whether his tier is promised places, and this one need not be told within a step."""
        told_at = float(self.slots.start[slot]) - max(travel_s, self._notice) - TELL_S
        return self.policy.promise[int(self.requests.tier[row])] and told_at > self._now + self.policy.step_s

    def _exchange(self, row: int, ranked: Pairs, slots: Ints, now: float) -> tuple[int | None, Sequence[Verdict]]:
        """Make room for a caller among those who were promised a place.

        Args:
            row: the caller.
            ranked: his pairs, the best first; all their seats are promised to others.
            slots: the same slots in the order in which the answer counts them.
            now: of the call.

        Returns:
            Which of ``slots`` he gets, None for none; and who moves for him.
        """
        place = self._field_of(row)
        theirs = place.pairs()
        left, ahead = np.array(self.left), self.slots.start[theirs.slot] - now
        promised = np.array(self.status)[theirs.request] == PROMISED
        theirs = theirs.where(promised & (left[theirs.slot] > 0) & (ahead >= self._lead(theirs)))
        found = make_room(ranked.slot.tolist(), theirs, self.seat, self._room)
        if found is None:
            return None, ()
        for request, slot in found[1]:
            self._take(request, slot)
        place.edge = now  # whoever has moved may have to be told
        moves = [Verdict("move", request, slot, self.price(slot) or 0.0) for request, slot in found[1]]
        return int(np.flatnonzero(slots == found[0])[0]), moves

    # -- the plan ------------------------------------------------------------------------------------------------

    def task(self, now: float) -> Task:
        """What a plan is to be made from: of the professions for which one is due."""
        self._absorb()
        self._own.clear()
        self._now = now
        self._accepted, self._published = [], []
        status, left = np.array(self.status, np.int64), np.array(self.left, np.int64)
        value = self.requests.value if len(self.requests) else np.zeros(0)
        tier = self.requests.tier if len(self.requests) else np.zeros(0, np.int64)
        waited_h = (now - self.requests.created) / 3600.0 if len(self.requests) else np.zeros(0)
        waiting = value * (1.0 + self.terms.ageing_per_h * waited_h)
        seated = np.zeros(status.size, np.bool_)
        seated[list(self.seat)] = True
        # who still has the seat of his promise keeps one before who lost his to the practice gets another
        promised = np.where(
            self._displace[tier], value + np.where(seated, self.policy.broken, 0.0), KEPT * (1.0 + seated)
        )
        penalty = np.where(status == PROMISED, promised, waiting)
        fields = []
        for profession, place in self._fields.items():
            if self._due(place) > now:
                continue
            looks = place.looked + self.policy.step_s <= now
            place.edge = np.inf
            if looks:
                place.looked = now
            pairs = place.pairs()
            ahead = self.slots.start[pairs.slot] - now if len(self.slots) else np.zeros(0)
            place.keep(pairs.where((status[pairs.request] < CLOSED) & (ahead > 0)))
            keep = (status[pairs.request] <= PROMISED) & (left[pairs.slot] > 0) & (ahead >= self._lead(pairs))
            floor = np.append(place.floor, np.zeros(left.size - place.floor.size))
            fields.append(FieldTask(profession, pairs.where(keep), penalty, None if looks else floor))
        beyond = np.full(penalty.size, np.inf)
        for row, cost in self._beyond.items():
            beyond[row] = cost
        slots = self.slots.only(np.arange(len(self.slots)))
        created = self.requests.created if len(self.requests) else np.zeros(0)
        new = created[created > self.called[-1]] if self.called.size else created
        calls = np.concatenate((self.called, np.sort(new)))
        over = self._over(fields)
        return Task(now, slots, self.codes.meets, left, calls, self.policy.futures, tuple(fields), beyond, over)

    def _over(self, fields: Sequence[FieldTask]) -> Over | None:
        """The limits over all that a plan may deal out."""
        planned = {item.profession for item in fields}
        seats = {r: s for r, s in self.seat.items() if int(self.requests.profession[r]) in planned}
        slots = np.unique(np.concatenate([np.array([*seats.values()], np.intp), *(item.live.slot for item in fields)]))
        return self._limiter.over(slots, seats, (len(self.requests), len(self.slots)))

    def adopt(self, task: Task, plans: Sequence[FieldPlan], now: float) -> list[Verdict]:
        """Take a plan over; tell those whose seat cannot wait for the next one.

        Where the plan took a while, what has happened since stands: who was answered keeps that, and the plan's seats
        go to whom they were meant for as far as they are still there.
        """
        self._absorb()
        self._now = now
        verdicts = self._overdue(now)
        for item, plan in zip(task.fields, plans, strict=True):
            if item.price is None:
                self._fields[plan.profession].take_over(plan)
            verdicts += self._settle(item, plan, task.now, now)
        for row in self._open if task.now < now else ():
            if self.status[row] == PROMISED and row not in self.seat:
                # his seat went to another while the plan was made
                self._field_of(row).edge = now
        for rows, pairs in self._published:
            self._price(rows, pairs)
        looked = {item.profession for item in task.fields if item.price is None}
        for row in self._accepted:
            if int(self.requests.profession[row]) in looked and (pairs := self.arcs(row, now)).slot.size:
                self._field_of(row).spend(pairs)
        return verdicts

    def _overdue(self, now: float) -> list[Verdict]:
        """Tell those who should have been told already (nobody decided for a while): late rather than never.

        Not on a seat that its practice has taken back: that promise is lost to the practice.
        """
        late = [r for r, s in self.seat.items() if now < self.slots.start[s] < now + self._notice]
        verdicts = []
        for row in sorted(late):
            slot = self.seat[row]
            if self.left[slot] > 0:
                self._firm(row, slot)
                verdicts.append(Verdict("firm", row, slot, 0.0))
        return verdicts

    def _settle(self, item: FieldTask, plan: FieldPlan, plan_made: float, now: float) -> list[Verdict]:
        since = set(self._accepted)
        rows = [r for r in np.unique(item.live.request).tolist() if self.status[r] <= PROMISED and r not in since]
        before = {row: self.seat.get(row) for row in rows}
        for row in rows:
            self._give_back(row)
        last = self._tell_at(item.live)
        verdicts, place = [], self._fields[item.profession]
        # who was promised a place comes first, should seats have gone since the plan began
        for row in sorted(rows, key=lambda r: (self.status[r] != PROMISED, r)):
            arc, old, kept = int(plan.arc[row]), before[row], self.status[row] == PROMISED
            slot = int(item.live.slot[arc]) if arc >= 0 else -1
            if slot >= 0 and self.slots.start[slot] <= now:
                slot = -1  # it has begun since: nobody decided for a while, and nobody is sent there any more
            if kept and arc < 0 and self.policy.displace[int(self.requests.tier[row])]:
                self.status[row] = WAITING
                verdicts.append(Verdict("displace", row, -1, 0.0, planned=True, gap=plan.gap))
            elif slot >= 0 and self._room(slot):
                price = float(plan.price[slot])
                if kept and slot != old:
                    verdicts.append(Verdict("move", row, slot, price, planned=True, gap=plan.gap))
                if last[arc] <= now:
                    self._firm(row, slot)
                    verdicts.append(Verdict("firm", row, slot, price, planned=True, gap=plan.gap))
                    continue
                place.edge = min(place.edge, float(last[arc]))
                if kept:
                    self._take(row, slot)
                elif self._waits_urgently(row) and self._may_promise(row, slot, float(item.live.travel_s[arc])):
                    self._promise(row, slot)
                    verdicts.append(Verdict("promise", row, slot, price, planned=True, gap=plan.gap))
            elif kept and old is not None and self._room(old):
                self._take(row, old)
                if plan_made < now < self.slots.start[old]:
                    place.edge = now  # the plan was made for what has changed since
        return verdicts


_ELSEWHERE: Final[Mapping[str, float]] = {
    "lat": 0.0, "lon": 0.0, "profession": -1, "mode": 0, "offer": 0, "professional": -1, "specialty": -1, "landmass": 0,
}  # fmt: skip
