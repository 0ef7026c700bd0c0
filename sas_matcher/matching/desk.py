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

from collections.abc import Container, Sequence
from typing import Final, NamedTuple

import numpy as np

from sas_matcher.matching.book import CLOSED, FIRM, PROMISED, WAITING, Book
from sas_matcher.matching.exchange import make_room
from sas_matcher.matching.field import Field
from sas_matcher.matching.limits import Over
from sas_matcher.matching.pairs import Floats, Ints, Pairs
from sas_matcher.matching.planning import FieldPlan, FieldTask, Task
from sas_matcher.matching.sharing import URGENT

KEPT: Final = 1e6
"""Penalty of leaving a promised request without a place: above all values together on one chain of exchanges."""

TELL_S: Final = 20.0
"""Seconds before the last instant at which who waits is told: the plan of that instant takes its time."""

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


class Desk(Book):
    """Says what becomes firm, promised or displaced of what is in its book."""

    # -- deciding ------------------------------------------------------------------------------------------------

    def due(self) -> float:
        """When the desk wants a plan next if nothing happens; never, where nobody is open and nothing forecast."""
        if not self._history and not self._open:
            return float(np.inf)
        return min((self._due(place) for place in self._fields.values()), default=float(np.inf))

    def _due(self, place: Field) -> float:
        return min(place.edge, place.looked + self.policy.step_s)

    def asked(self) -> list[int]:
        """The requests that want an answer, in the order in which they get it."""
        if self._pending and any(map(self._waits_urgently, self._open)):
            self._absorb()  # else a bulk is looked at once, when somebody calls
        open_ones = {row for row in self._fresh if self.status[row] == WAITING}
        return sorted(open_ones, key=lambda r: (int(self.requests.tier[r]), self.requests.created[r], r))

    def answer(self, now: float, asked: Sequence[int] | None = None) -> list[Verdict]:
        """Tell whom of those that called can be told at once.

        Args:
            now: of the call.
            asked: who gets an answer, in order: those of ``asked``, unless a recorded round is decided again.
        """
        self._absorb()
        self._now = now
        asked, self._fresh = self.asked() if asked is None else asked, []
        self._limiter.begin_round()
        verdicts: list[Verdict] = []
        for row in asked:
            verdicts += self._answer(row, now)
        self._in_vain = [row for row in asked if self._waits_urgently(row)]
        for row in self._in_vain if self._displace.any() else ():
            self._field_of(row).edge = now  # the plan may displace somebody for him: not only at the next look
        return verdicts

    def nobody_asks(self, now: float) -> None:
        """The moment of an answer passes without anybody who wants one."""
        self._absorb()
        self._now = now
        self._in_vain.clear()
        self._limiter.begin_round()

    def price(self, slot: int) -> float | None:
        """The price of a seat in the mean of the futures; None before there is a plan."""
        self._absorb()
        place = self._fields.get(int(self.slots.profession[slot]))
        if place is None or not place.outlooks:
            return None
        return float(place.prices(np.array([slot])).mean())

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
        pairs = self._in_time(row, now)
        return pairs.where(self._seats(pairs) > 0)

    def _in_time(self, row: int, now: float) -> Pairs:
        """What a request could still travel to, full or not."""
        pairs = self._own.get(row)
        if pairs is None:
            pairs = self._field_of(row).pairs_of(row)
        return pairs.where(self.slots.start[pairs.slot] - now >= pairs.travel_s) if pairs.slot.size else pairs

    def _seats(self, pairs: Pairs) -> Ints:
        return np.array([self.left[s] for s in pairs.slot.tolist()], np.int64)

    def _in_notice(self, row: int, pairs: Pairs, now: float) -> Pairs:
        """Those of which there is time to call back, where he is told later than he called."""
        if now - self.requests.created[row] <= SAME_S or not pairs.slot.size:
            return pairs
        return pairs.where(self.slots.start[pairs.slot] - now >= self._lead(pairs))

    def _answer(self, row: int, now: float) -> Sequence[Verdict]:
        """Tell a caller at once, if that loses little; others who were promised a place may make room for him."""
        pairs = self._limiter.within(row, self._in_notice(row, self.arcs(row, now), now))
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
        found = self._moved_away(self._field_of(row), ranked.slot.tolist(), now)
        return (None, ()) if found is None else (int(np.flatnonzero(slots == found[0])[0]), found[1])

    def _moved_away(self, place: Field, wanted: list[int], now: float) -> tuple[int, list[Verdict]] | None:
        """Free a seat of one of some slots, the first at best, by moving those of a profession who were promised one.

        Returns:
            The slot, and who moves; None where nobody can.
        """
        theirs = place.pairs()
        left, ahead = np.array(self.left), self.slots.start[theirs.slot] - now
        promised = np.array(self.status)[theirs.request] == PROMISED
        theirs = theirs.where(promised & (left[theirs.slot] > 0) & (ahead >= self._lead(theirs)))
        found = make_room(wanted, theirs, self.seat, self._room)
        if found is None:
            return None
        for request, slot in found[1]:
            self._take(request, slot)
        place.edge = now  # whoever has moved may have to be told
        return found[0], [Verdict("move", request, slot, self.price(slot) or 0.0) for request, slot in found[1]]

    # -- between territories ------------------------------------------------------------------------------------

    def in_vain(self) -> list[int]:
        """Urgent people to whom the last answer gave nothing, and who could only hope for another desk's seats."""
        return [row for row in self._in_vain if self._waits_urgently(row)]

    def out_of_reach(self, row: int, now: float) -> list[int]:
        """Slots that would serve a request, had they a seat that is neither firm nor another desk's; the best first."""
        pairs = self._in_notice(row, self._in_time(row, now), now)
        pairs = self._limiter.within(row, pairs.where(self._seats(pairs) <= 0))
        order = pairs.cost.argsort(kind="stable")
        return [int(slot) for slot in pairs.slot[order][pairs.cost[order] < self.requests.value[row]]]

    def make_way(self, slots: list[int], now: float) -> tuple[int, list[Verdict]] | None:
        """Give away a seat behind a promise whose holder can be seen elsewhere: no promise is broken.

        Args:
            slots: any of these, the first at best.
            now: of the round.

        Returns:
            The slot, and who moves; None where nobody can.
        """
        for place in self._fields.values():
            theirs = {s for r, s in self.seat.items() if self.requests.profession[r] == place.profession}
            held = [slot for slot in slots if slot in theirs and self._is_whole(slot)]
            found = self._moved_away(place, held, now) if held else None
            if found is not None:
                self.left[found[0]] -= 1
                return found
        return None

    def yields(self, slot: int, tier: int, known: Container[int]) -> int | None:
        """Who would lose a seat of a slot to somebody of a tier: of those ``known`` to be promised it, the lowest."""
        theirs = [
            (int(self.requests.tier[r]), float(self.requests.created[r]), r)
            for r, s in self.seat.items()
            if s == slot and r in known and int(self.requests.tier[r]) > tier and self._displace[self.requests.tier[r]]
        ]
        return max(theirs)[2] if theirs and self._is_whole(slot) else None

    def displaced(self, row: int) -> Verdict:
        """Let a promised request lose its seat to another desk."""
        self.left[self.seat[row]] -= 1
        self._give_back(row)
        self.status[row] = WAITING
        self._stir(int(self.requests.profession[row]))
        return Verdict("displace", row, -1, 0.0)

    def given(self, row: int, slot: int, now: float) -> Sequence[Verdict]:
        """Answer a request again that another desk has just left a seat."""
        self.left[slot] += 1
        self._field_of(row).unforeseen(slot)
        return self._answer(row, now)

    def _is_whole(self, slot: int) -> bool:
        """Whether there are as many seats as are promised: only then is one that is left a free one."""
        return self.left[slot] >= self.reserved[slot]

    # -- the plan ------------------------------------------------------------------------------------------------

    def task(self, now: float, professions: Container[int] | None = None) -> Task:
        """What a plan is to be made from.

        Args:
            now: when it is begun.
            professions: of which: those for which one is due, unless a recorded round is decided again.
        """
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
        calm = tier > URGENT
        # urgent people alone break promises: who is not urgent keeps his before all who are not, of whatever tier
        weightiest = np.max(waiting, where=calm & (status == WAITING), initial=self._calm)
        dear = np.where(calm, np.maximum(value, weightiest), value) + self.policy.broken
        # who still has the seat of his promise keeps one before who lost his to the practice gets another
        promised = np.where(self._displace[tier], np.where(seated, dear, value), KEPT * (1.0 + seated))
        penalty = np.where(status == PROMISED, promised, waiting)
        fields = []
        for profession, place in self._fields.items():
            if self._due(place) > now if professions is None else profession not in professions:
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
        self._taken_back()
        verdicts = self._overdue(now)
        for item, plan in zip(task.fields, plans, strict=True):
            if item.price is None:
                self._fields[plan.profession].take_over(plan)
            verdicts += self._settle(item, plan, task.now, now)
        meant = {row for plan in plans for row in np.flatnonzero(plan.arc >= 0).tolist()} if task.now < now else set()
        for row in self._open.keys() & meant:
            if self.status[row] == PROMISED and row not in self.seat:
                # his seat went to another while the plan was made; for whom there was none the next plan has none
                self._field_of(row).edge = now
        for rows, pairs in self._published:
            self._price(rows, pairs)
        looked = {item.profession for item in task.fields if item.price is None}
        for row in self._accepted:
            if int(self.requests.profession[row]) in looked and (pairs := self.arcs(row, now)).slot.size:
                self._field_of(row).spend(pairs)
        return verdicts

    def _taken_back(self) -> None:
        """Whoever leans on a seat that its practice has taken back leans on none: it may come back when it is too late.

        He keeps his promise, and the plan that is due since then finds him another seat, or this one should it return
        while he can still be called back.
        """
        for request in [r for r, s in self.seat.items() if self.left[s] <= 0]:
            self._give_back(request)

    def _overdue(self, now: float) -> list[Verdict]:
        """Tell those who should have been told already (nobody decided for a while): late rather than never."""
        late = [r for r, s in self.seat.items() if now < self.slots.start[s] < now + self._notice]
        verdicts = []
        for row in sorted(late):
            slot = self.seat[row]
            if self.left[slot] > 0:  # two may be late for the one seat that is left
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
