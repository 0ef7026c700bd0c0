"""When a place becomes firm: the policies of the day log as one desk over arrays.

Nothing is promised that the rest of the day would miss too much. Every few minutes what is open now is solved together
with some imagined futures (``forecast``), which prices every seat in each of them (``prices``). Who calls is told at
once if the loss that this means, averaged over the futures, is a small share of what serving him is worth; the seats
that he leans on in each future count as spent until the next solve (matching study §7.1). Everyone else waits. A
promised place is told, and a waiting request served, at the last instant at which the patient can still be called
back: until then the plan may move.

The desk decides only; who calls it commits. Times are seconds since the midnight at which the day begins, costs tenths
of a minute, as in the day log. Same calls in the same order, same verdicts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sas_matcher.matching.forecast import Forecast, Future
from sas_matcher.matching.pairs import Codes, Floats, Pairs, Requests, Slots, feasible
from sas_matcher.matching.prices import FAR, seat_losses
from sas_matcher.matching.terms import Terms
from solver import Problem, request_utilities, slot_prices, solve_flow

CHEAPEST: Final = 24
SPREAD: Final = 12
"""Arcs of one request that are solved with: cheapest, and evenly over the rest (matching study §3)."""

WAITING, PROMISED, FIRM, CLOSED = range(4)

KEPT: Final = 1e6
"""Penalty of leaving a promised request without a place: above all values together on one chain of exchanges."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One way to commit.

    Attributes:
        promise: who is accepted is promised a seat that may still move; else his place is firm at once.
        displace: a promised request may lose its place to others, at ``broken`` tenths of a minute above its value.
        regret: share of a tier's value that accepting at once may lose in the mean of the futures, by rank of tier.
        step_s: seconds between two solves.
        futures: futures of one solve.
    """

    promise: bool = True
    displace: bool = False
    broken: float = 3000.0
    # chosen on two study days of the city at three times the demand: (0.05, …) throughout told more and lost 1 pt
    regret: tuple[float, ...] = (0.05, 0.02, 0.0, 0.0)
    # 600 s and 3 futures lose 1 pt there, and take a third of the time
    step_s: float = 300.0
    futures: int = 4


class Verdict(NamedTuple):
    """``what``: firm, promise, displace. Rows of request and slot; ``price`` of the seat in the mean of the futures."""

    what: str
    request: int
    slot: int
    price: float


@dataclass(slots=True, eq=False)
class _Outlook:
    """One future as solved last.

    Attributes:
        price: by slot, for who comes new; ``spare``: seats that can still be spent at it.
        utility: what each open request costs at best; ``coming``: the same by row of the history day.
    """

    future: Future | None
    price: Floats
    utility: Floats
    coming: Floats
    spare: npt.NDArray[np.int64]


@dataclass(slots=True, eq=False)
class _Field:
    """What the desk knows of one profession."""

    parts: list[Pairs] = field(default_factory=list)
    outlooks: list[_Outlook] = field(default_factory=list)

    def pairs(self) -> Pairs:
        """All pairs so far."""
        joined = Pairs.join(self.parts)
        self.parts = [joined]
        return joined


class Desk:
    """Holds open requests and live slots of a territory, and says what becomes firm, promised or displaced."""

    def __init__(
        self, terms: Terms, codes: Codes, policy: Policy, forecast: Forecast | None = None, weekday: int = 0
    ) -> None:
        self.terms, self.codes, self.policy = terms, codes, policy
        self.forecast = forecast if forecast else None
        self.weekday = weekday
        self.slots, self.requests = Slots(), Requests()
        self.left: list[int] = []
        self.reserved: list[int] = []
        self.status: list[int] = []
        self.seat: dict[int, int] = {}
        self._fields: dict[int, _Field] = {}
        self._fresh: list[int] = []
        self._next = -np.inf
        self._notice = 60.0 * terms.notice_min

    # -- what happens --------------------------------------------------------------------------------------------

    def publish(self, now: float, *, capacity: int, **columns: float) -> int:
        """A slot is on the market; returns its row."""
        row = self.slots.append(published=now, capacity=capacity, **columns)
        self.left.append(capacity)
        self.reserved.append(0)
        if self.forecast is not None:
            self.forecast.publish(self.slots, row, now)
        place = self._field(int(self.slots.profession[row]))
        waiting = np.array([r for r, s in enumerate(self.status) if s in (WAITING, PROMISED)], np.intp)
        pairs = Pairs.join([])
        if waiting.size:
            pairs = feasible(self.requests, waiting, self.slots, np.array([row]), self.codes, self.terms)
            place.parts.append(pairs)
        for other in self._fields.values():
            for outlook in other.outlooks:
                self._price_new(outlook, row, pairs if other is place else None)
        self._hurry(row)
        return row

    def call(self, now: float, **columns: float) -> int:
        """A request is made; returns its row."""
        row = self.requests.append(created=now, **columns)
        self.status.append(WAITING)
        if self.forecast is not None:
            self.forecast.call(now)
        place = self._field(int(self.requests.profession[row]))
        live = np.flatnonzero(self.slots.start > now) if len(self.slots) else np.empty(0, np.intp)
        if live.size:
            place.parts.append(feasible(self.requests, np.array([row]), self.slots, live, self.codes, self.terms))
        self._fresh.append(row)
        return row

    def close(self, request: int) -> None:
        """A request is cancelled, or its deadline has passed; a firm seat is given back by the caller (``free``)."""
        self.status[request] = CLOSED
        self._give_back(request)

    def free(self, slot: int, seats: int) -> None:
        """Seats of a slot come or go (negative: fewer)."""
        self.left[slot] += seats
        if seats > 0:
            self._hurry(slot)

    def gone(self, slot: int) -> list[int]:
        """A slot is off the market; returns the promised requests that leaned on it (they keep their promise)."""
        self.left[slot] = -(10**6)
        lost = [r for r, s in self.seat.items() if s == slot]
        for request in lost:
            self._give_back(request)
        self._next = -np.inf if lost else self._next
        return lost

    def reopen(self, request: int, promised: bool) -> None:
        """A firm place was lost to the practice: the request is open again."""
        self.status[request] = PROMISED if promised else WAITING
        self._next = -np.inf

    # -- deciding ------------------------------------------------------------------------------------------------

    def due(self) -> float:
        """When the desk wants to decide next if nothing happens."""
        return self._next

    def decide(self, now: float) -> list[Verdict]:
        """Decide what the instant has brought."""
        verdicts: list[Verdict] = []
        if now >= self._next:
            self._next = now + self.policy.step_s
            for profession in self._fields:
                verdicts += self._plan(profession, now)
        fresh, self._fresh = self._fresh, []
        for row in sorted(fresh, key=lambda r: (int(self.requests.tier[r]), self.requests.created[r], r)):
            verdict = self._answer(row, now) if self.status[row] == WAITING else None
            if verdict is not None:
                verdicts.append(verdict)
        return verdicts

    def _hurry(self, slot: int) -> None:
        """Plan at once where a new seat could not be told any more at the next plan."""
        if self.slots.start[slot] - self._notice <= self._next:
            self._next = -np.inf

    def _field(self, profession: int) -> _Field:
        return self._fields.setdefault(profession, _Field())

    def _give_back(self, request: int) -> None:
        slot = self.seat.pop(request, None)
        if slot is not None:
            self.reserved[slot] -= 1

    def _take(self, request: int, slot: int) -> None:
        self._give_back(request)
        self.seat[request] = slot
        self.reserved[slot] += 1

    def _firm(self, request: int, slot: int, price: float) -> Verdict:
        self._give_back(request)
        self.status[request] = FIRM
        self.left[slot] -= 1
        return Verdict("firm", request, slot, price)

    def _lead(self, travel_s: Floats) -> Floats:
        """Seconds that a later telling needs before the start."""
        return np.maximum(travel_s, self._notice) if self.policy.promise else travel_s

    # -- who calls -----------------------------------------------------------------------------------------------

    def _price_new(self, outlook: _Outlook, row: int, pairs: Pairs | None) -> None:
        """Price a slot published since the last solve: what the best of those who could use it would gain."""
        best = 0.0
        if pairs is None:
            outlook.price = np.append(outlook.price, 0.0)
            outlook.spare = np.append(outlook.spare, 0)
            return
        if pairs.request.size:
            known = pairs.request < outlook.utility.size
            if known.any():
                best = float((outlook.utility[pairs.request[known]] - pairs.cost[known]).max())
        if outlook.future is not None and self.forecast is not None:
            part = self.forecast.parts(int(self.slots.profession[row]))[outlook.future.day].with_live[-1]
            drawn = outlook.coming[part.request] - part.cost
            if drawn.size:
                best = max(best, float(drawn.max()))
        outlook.price = np.append(outlook.price, max(0.0, best))
        outlook.spare = np.append(outlook.spare, 0)

    def _arcs_of(self, row: int, now: float) -> Pairs:
        place = self._field(int(self.requests.profession[row]))
        if len(place.parts) > 400:
            place.pairs()
        pairs = Pairs.join([p.where(p.request == row) for p in place.parts if p.request.size])
        if not pairs.slot.size:
            return pairs
        left = np.array([self.left[s] for s in pairs.slot.tolist()])
        keep = (self.slots.start[pairs.slot] - now >= pairs.travel_s) & (left > 0)
        return pairs.where(keep)

    def _answer(self, row: int, now: float) -> Verdict | None:
        """Tell a caller at once, if that loses little."""
        pairs = self._arcs_of(row, now)
        if not pairs.slot.size:
            return None
        value = float(self.requests.value[row])
        outlooks = self._field(int(self.requests.profession[row])).outlooks
        prices = np.array([o.price[pairs.slot] for o in outlooks]) if outlooks else np.zeros((1, pairs.slot.size))
        costs = pairs.cost + prices
        best = costs.argmin(axis=1)
        regret = float(np.maximum(0.0, costs.min(axis=1) - value).mean())
        if regret > self.policy.regret[int(self.requests.tier[row])] * value:
            return None
        room = np.array([self.left[s] - self.reserved[s] for s in pairs.slot.tolist()]) > 0
        mean = np.minimum(costs, 2 * KEPT).mean(axis=0)
        soon = self.slots.start[pairs.slot] - (now + self.policy.step_s) < self._lead(pairs.travel_s)
        order = mean.argsort(kind="stable")
        for arc in order.tolist():
            if room[arc]:
                slot = int(pairs.slot[arc])
                break
        else:
            return None
        # in each future the caller takes the seat that is cheapest there
        for outlook, at in zip(outlooks, best.tolist(), strict=True):
            _spend(outlook, int(pairs.slot[at]))
        price = float(prices[:, arc].mean())
        if soon[arc] or not self.policy.promise:
            return self._firm(row, slot, price)
        self.status[row] = PROMISED
        self._take(row, slot)
        return Verdict("promise", row, slot, price)

    # -- the plan ------------------------------------------------------------------------------------------------

    def _plan(self, profession: int, now: float) -> list[Verdict]:
        """Solve what is open with each future, price the seats, plan anew, and tell what cannot wait longer."""
        place = self._fields[profession]
        pairs = place.pairs()
        status = np.array(self.status, np.int64)
        left = np.array(self.left, np.int64)
        travel_s = pairs.travel_s
        ahead = self.slots.start[pairs.slot] - now
        place.parts = [pairs.where((status[pairs.request] < CLOSED) & (ahead > 0))] if pairs.slot.size else [pairs]
        keep = (status[pairs.request] <= PROMISED) & (left[pairs.slot] > 0) & (ahead >= self._lead(travel_s))
        pairs = pairs.where(keep)
        futures = self._futures(profession, now)
        value = self.requests.value if len(self.requests) else np.zeros(0)
        promised = status == PROMISED
        if self.policy.displace:
            penalty = value + np.where(promised, self.policy.broken, 0.0)
        else:
            penalty = np.where(promised, KEPT, value)
        live = pruned(pairs)
        place.outlooks = []
        least: list[Floats] = []
        for future in futures:
            outlook, low = self._solve(live, future, penalty, np.maximum(left, 0))
            place.outlooks.append(outlook)
            least.append(low)
        return self._settle(live, np.mean(least, axis=0), penalty, left, status, now)

    def _futures(self, profession: int, now: float) -> Sequence[Future | None]:
        """Futures to plan with; one without anybody to come where there is no history."""
        if self.forecast is None:
            return [None]
        days = self.forecast.pick_days(now, self.policy.futures, self.weekday)
        return [self.forecast.future(profession, day, now) for day in days]

    def _solve(
        self, live: Pairs, future: Future | None, penalty: Floats, left: npt.NDArray[np.int64]
    ) -> tuple[_Outlook, Floats]:
        """One future: the greatest prices for who comes new, the least for who is here."""
        here, seats = penalty.size, left.size
        request, slot, cost = [live.request], [live.slot], [live.cost]
        capacity, worth = left, penalty
        if future is not None:
            coming = pruned(Pairs.join([future.live, _moved(future.own, seats)]))
            request.append(coming.request + here)
            slot.append(coming.slot)
            cost.append(coming.cost)
            capacity = np.concatenate((left, future.slots.capacity))
            worth = np.concatenate((penalty, future.requests.value[future.draws]))
        arcs = Problem(
            arc_request=np.concatenate(request).astype(np.int32),
            arc_slot=np.concatenate(slot).astype(np.int32),
            arc_cost=np.rint(np.concatenate(cost)).astype(np.int64),
            penalty=np.rint(worth).astype(np.int64),
            rank=np.zeros(worth.size, np.int64),
            capacity=np.maximum(capacity, 0),
            request_key=np.arange(worth.size, dtype=np.uint64),
            slot_key=np.arange(capacity.size, dtype=np.uint64),
        )
        plan = solve_flow(arcs)
        low = slot_prices(arcs, plan)
        high = seat_losses(arcs.arc_request, arcs.arc_slot, arcs.arc_cost.astype(float), worth, arcs.capacity, plan.arc)
        utility = request_utilities(arcs, low).astype(np.float64)
        used = np.bincount(arcs.arc_slot[plan.arc[plan.arc >= 0]], minlength=capacity.size)
        by_row = np.zeros(0)
        if future is not None:
            by_row = np.zeros(len(future.requests))
            by_row[future.draws] = utility[here:]
        spare = np.where(high[:seats] < FAR, np.maximum(1, (arcs.capacity - used)[:seats]), 0)
        # what others here would pay shows when they are planned together; only who is still to come must be priced
        wanted = np.zeros(seats, np.bool_)
        taken = plan.arc[here:]
        by_coming = arcs.arc_slot[taken[taken >= 0]]
        wanted[by_coming[by_coming < seats]] = True
        outlook = _Outlook(future, high[:seats].copy(), utility[:here], by_row, spare)
        return outlook, np.where(wanted, low[:seats], 0.0)

    def _settle(
        self,
        live: Pairs,
        price: Floats,
        penalty: Floats,
        left: npt.NDArray[np.int64],
        status: npt.NDArray[np.int64],
        now: float,
    ) -> list[Verdict]:
        """Plan the open requests at the mean prices; tell those whose seat cannot wait for the next plan."""
        verdicts: list[Verdict] = []
        problem = Problem(
            arc_request=live.request.astype(np.int32),
            arc_slot=live.slot.astype(np.int32),
            arc_cost=np.rint(live.cost + price[live.slot]).astype(np.int64),
            penalty=np.rint(penalty).astype(np.int64),
            rank=np.zeros(penalty.size, np.int64),
            capacity=np.maximum(left, 0),
            request_key=np.arange(penalty.size, dtype=np.uint64),
            slot_key=np.arange(left.size, dtype=np.uint64),
        )
        plan = solve_flow(problem)
        asked = set(live.request.tolist())
        before = dict(self.seat)
        for row in [r for r in self.seat if r in asked]:
            self._give_back(row)
        for row in sorted(asked):
            arc = int(plan.arc[row])
            if arc < 0:
                if status[row] == PROMISED and self.policy.displace:
                    self.status[row] = WAITING
                    verdicts.append(Verdict("displace", row, -1, 0.0))
                continue
            slot = int(live.slot[arc])
            if before.get(row, slot) != slot:
                verdicts.append(Verdict("move", row, slot, float(price[slot])))
            last = self.slots.start[slot] - self._lead(live.travel_s[arc : arc + 1])[0]
            if last < now + self.policy.step_s:
                verdicts.append(self._firm(row, slot, float(price[slot])))
            elif status[row] == PROMISED:
                self._take(row, slot)
        return verdicts


def _spend(outlook: _Outlook, slot: int) -> None:
    """One seat less; a full slot can be spent once at its loss, then it is out of reach until the next plan."""
    outlook.spare[slot] -= 1
    if outlook.spare[slot] < 0:
        outlook.price[slot] = FAR


def _moved(pairs: Pairs, by: int) -> Pairs:
    return Pairs(pairs.request, pairs.slot + by, pairs.travel_s, pairs.cost)


def pruned(pairs: Pairs) -> Pairs:
    """The cheapest arcs of each request, and some spread over the rest."""
    if not pairs.request.size:
        return pairs
    order = np.lexsort((pairs.slot, pairs.cost, pairs.request))
    request = pairs.request[order]
    first = np.flatnonzero(np.r_[True, request[1:] != request[:-1]])
    counts = np.diff(np.r_[first, request.size])
    rank = np.arange(request.size) - np.repeat(first, counts)
    stride = np.repeat(np.maximum(1, -(-(counts - CHEAPEST) // SPREAD)), counts)
    keep = (rank < CHEAPEST) | ((rank - CHEAPEST) % stride == 0)
    rows = order[keep]
    return Pairs(pairs.request[rows], pairs.slot[rows], pairs.travel_s[rows], pairs.cost[rows])


PRESETS: Final[Mapping[str, Policy]] = {
    "firm": Policy(promise=False),
    "promise": Policy(),
    # a day log declares no crisis, so that nothing is ever broken on it
    "auto": Policy(),
    "crisis": Policy(displace=True),
}
"""Policies of the day log that this desk knows; ``fcfs-nearest`` and ``official`` price nothing: not its own."""
