"""The desk of one territory and day in the service's words: ids instead of rows, instants instead of seconds.

It also knows what the desk need not: which seat the ledger keeps behind each promise. The seats that the market calls
free and those behind the promises of this territory are together what the desk may deal out.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from sas_matcher.matching.candidates import Candidates, OpenRequest
from sas_matcher.matching.commitment import Commitment
from sas_matcher.matching.desk import Desk, Verdict
from sas_matcher.matching.forecast import HistoryDay, Learned
from sas_matcher.matching.limits import LimitBook
from sas_matcher.matching.market import Market
from sas_matcher.matching.pairs import MODE_BITS, Codes, Ints, Pairs
from sas_matcher.matching.places import PlaceRow
from sas_matcher.matching.planning import FieldPlan, Planner, Task
from sas_matcher.matching.sharing import RELEASE_S, lots
from sas_matcher.matching.terms import TIER_RANK, Terms

MOST_PAIRS: Final = 1_000
"""Pairs of one request that are kept, the cheapest; what the others may add counts into the gap."""

MOST_WANTED: Final = 30
"""Slots that other desks are asked for on behalf of one who finds nothing; more would be looked through in vain."""


class Decision(NamedTuple):
    """A verdict in ids: ``what`` is firm, promise, move, displace or none; prices and gaps in tenths of a minute."""

    what: str
    request_id: str
    slot_id: int | None
    price: float = 0.0
    planned: bool = False
    gap: int = 0


class TerritoryDesk:
    """A territory's desk for one day.

    Args:
        midnight: when the day begins, epoch seconds; ``weekday``: which day, 0 is Monday.
        terms: of the territory.
        policy: how it commits.
        history: gives earlier days in the numbers of the codes handed to it.
        seed: of the futures drawn.
        market: where the limits of practices over its places are known; without it there are none.
    """

    def __init__(
        self,
        midnight: float,
        weekday: int,
        terms: Terms,
        policy: Commitment,
        history: Callable[[Codes], Sequence[HistoryDay]] = lambda _: (),
        seed: int = 0,
        market: Market | None = None,
    ) -> None:
        self.midnight, self.terms, self.policy = midnight, terms, policy
        self._codes = Codes()
        learned = history(self._codes)
        self.planner = Planner.learned(learned, terms, seed, weekday)
        self.learned = Learned.of(learned)
        self._row_of_slot: dict[int, int] = {}
        self._slot_ids: list[int] = []
        self._child: list[bool] = []
        limits = None if market is None else _Limits(market, self._slot_ids, self._child)
        self._desk = Desk(terms, self._codes, policy, learned, limits)
        self._places: dict[int, PlaceRow] = {}
        self._row: dict[str, int] = {}
        self._ids: list[str] = []
        # as the ledger has it: the seat behind each promise, the seats free
        self._kept: dict[str, int] = {}
        self._kept_on: Counter[int] = Counter()
        self._free: dict[int, int] = {}
        self._touched: set[int] = set()
        # when a plan is due and whether somebody asks, until something happens: a hundred desks are asked that after
        # every piece of news (a quarter of the matcher's processor in a crisis, measured)
        self._due: float | None = None
        self._asked: bool | None = None

    # -- places --------------------------------------------------------------------------------------------------

    def place(self, now: float, place: PlaceRow) -> None:
        """A slot of this territory is on the market, or has changed."""
        known = self._places.get(place.slot_id)
        if known is not None and known.version > place.version:
            return
        self._places[place.slot_id] = place
        if known is not None and _shape(known) == _shape(place):
            self.left(place.slot_id, place.left)
            return
        self.gone(place.slot_id)
        self._places[place.slot_id] = place
        self._stale()
        if place.own:
            return  # for own patients only: whoever calls and may have it brings it along (``found``)
        row = self._desk.publish(
            now - self.midnight,
            capacity=place.left,
            lat=place.lat,
            lon=place.lon,
            start=place.start - self.midnight,
            profession=self._codes.name(place.profession),
            mode=MODE_BITS[place.mode],
            offer=self._codes.offer(place.offers),
            professional=self._codes.name(place.professional),
            specialty=self._codes.specialty(place.specialty),
            landmass=place.landmass,
        )
        self._known(place.slot_id, row, place.left)
        if place.start - now > RELEASE_S and lots(np.array([place.slot_id]))[0] < self.terms.urgent_reserve_pct:
            self._desk.keep_for_urgent(row)

    def release(self, slot_id: int) -> None:
        """A place that was kept for urgent requests is everybody's."""
        row = self._row_of_slot.get(slot_id)
        if row is not None:
            self._stale()
            self._desk.release(row)

    def called(self, calls: Sequence[float]) -> None:
        """When the requests of today were made before this desk opened (epoch seconds, in order)."""
        self._desk.called = np.array(calls, np.float64) - self.midnight

    def was_called(self) -> bool:
        """Whether anybody has called today."""
        return bool(self._row) or self._desk.called.size > 0

    def _known(self, slot_id: int, row: int, left: int) -> None:
        self._row_of_slot[slot_id] = row
        self._slot_ids.append(slot_id)
        self._free[row] = left

    def left(self, slot_id: int, left: int) -> None:
        """So many seats of a slot are free; below zero when more are given than are offered."""
        row = self._row_of_slot.get(slot_id)
        if row is not None:
            self._free[row] = left
            self._touched.add(row)

    def gone(self, slot_id: int) -> None:
        """A slot is off the market."""
        row = self._row_of_slot.pop(slot_id, None)
        self._places.pop(slot_id, None)
        if row is not None:
            self._stale()
            self._desk.gone(row)
            self._free.pop(row, None)
            self._touched.discard(row)

    def _stale(self) -> None:
        """Something has happened: what is due, and who asks, is looked at again."""
        self._due = self._asked = None

    def _catch_up(self) -> None:
        """Bring the desk's seats in line with the ledger's."""
        if self._touched:
            self._stale()
        for row in sorted(self._touched):
            if row in self._free:
                seats = self._free[row] + self._kept_on[row]
                if seats != self._desk.left[row]:
                    self._desk.free(row, seats - self._desk.left[row])
        self._touched.clear()

    # -- requests ------------------------------------------------------------------------------------------------

    def take_in(self, now: float, request: OpenRequest, found: Candidates) -> None:
        """A request is open, again or for the first time; ``found``: all that it could be given, full or not."""
        self._stale()
        row = self._row.get(request.id)
        if row is None:
            row = self._call(now - self.midnight, request, found)
            if request.was_promised:
                self._desk.once_promised(row)
            self._bar(row, request, found)
        else:
            self._keep(request.id, None)
            self._desk.reopen(row, request.was_promised, ask=True)
            self._bar(row, request, found)
        behind = None if request.promised is None else self._row_of_slot.get(request.promised)
        if behind is not None:
            self._keep(request.id, behind)
            self._catch_up()
            self._desk.promised(row, behind)

    def _call(self, now: float, request: OpenRequest, found: Candidates) -> int:
        tier = self.terms.tiers[request.tier]
        cost = found.cost.astype(np.float64)
        if self.terms.mt_first:
            cost -= tier.value * found.is_mt
        order = np.lexsort((found.slot_id, cost))
        kept, beyond = order[:MOST_PAIRS], np.inf
        if order.size > MOST_PAIRS:
            beyond = float(cost[order[MOST_PAIRS]])
        rows = []
        for slot_id, start, left in zip(
            found.slot_id[kept].tolist(), found.start[kept].tolist(), found.left[kept].tolist(), strict=True
        ):
            slot = self._row_of_slot.get(slot_id)
            if slot is None:
                slot = self._desk.see(now, start - self.midnight, left)
                self._known(slot_id, slot, left)
            rows.append(slot)
        pairs = Pairs(np.zeros(len(rows), np.intp), np.array(rows, np.intp), 60 * found.travel_min[kept], cost[kept])
        row = self._desk.call(
            pairs,
            beyond,
            created=request.created_at - self.midnight,
            lat=request.lat,
            lon=request.lon,
            deadline=request.deadline - self.midnight,
            radius_km=request.radius_km,
            value=tier.value,
            wait_weight=tier.wait_weight,
            profession=self._codes.name(request.profession),
            modes=sum(MODE_BITS[mode] for mode in set(request.modes)),
            need=self._codes.need(request.needs),
            mt=self._codes.name(request.mt),
            tier=TIER_RANK[request.tier],
            specialty=self._codes.specialty(request.specialty),
            landmass=request.landmass,
        )
        self._row[request.id] = row
        self._ids.append(request.id)
        self._child.append(request.child)
        return row

    def _bar(self, row: int, request: OpenRequest, found: Candidates) -> None:
        """Keep a request from what it has declined, and from places that a limit closes to patients like this one."""
        barred = set(request.not_slots)
        if found.under is not None:
            barred |= set(found.slot_id[(found.left > 0) & ~found.free].tolist())
        if barred or request.not_professionals:
            slots = [self._row_of_slot[s] for s in barred if s in self._row_of_slot]
            self._desk.bar(row, slots, [self._codes.name(name) for name in request.not_professionals])

    def close(self, request_id: str) -> None:
        """A request is closed: firm and confirmed, cancelled, or past its deadline."""
        row = self._row.get(request_id)
        if row is not None:
            self._stale()
            self._desk.close(row)
            self._keep(request_id, None)

    def _keep(self, request_id: str, slot: int | None) -> None:
        """Note the seat that the ledger has behind a promise."""
        before = self._kept.pop(request_id, None)
        if slot is not None:
            self._kept[request_id] = slot
        for row, change in ((before, -1), (slot, 1)):
            if row is not None:
                self._kept_on[row] += change
                self._touched.add(row)

    def is_kept(self, request_id: str) -> bool:
        """Whether the ledger has a seat behind a promise for this request."""
        return request_id in self._kept

    # -- deciding ------------------------------------------------------------------------------------------------

    def due(self) -> float:
        """When a plan is due, epoch seconds."""
        self._catch_up()
        if self._due is None:
            self._due = self.midnight + self._desk.due()
        return self._due

    def task(self, now: float, professions: Sequence[str] | None = None) -> Task:
        """What a plan is to be made from; ``professions``: of which, in a recorded round that is decided again."""
        self._catch_up()
        self._stale()
        of = None if professions is None else {self._codes.name(profession) for profession in professions}
        return self._desk.task(now - self.midnight, of)

    def professions(self, task: Task) -> list[str]:
        """The professions for which a plan is made, in its order."""
        names = {number: name for name, number in self._codes.names.items()}
        return [names[item.profession] for item in task.fields]

    def adopt(self, task: Task, plans: Sequence[FieldPlan], now: float) -> list[Decision]:
        """Take a plan over."""
        self._catch_up()
        self._stale()
        verdicts = self._desk.adopt(task, plans, now - self.midnight)
        last = {v.request: n for n, v in enumerate(verdicts) if v.what != "displace"}
        # a seat that moves and is told at once is told: one claim for a request, but for a displaced one
        return [self._said(v) for n, v in enumerate(verdicts) if last.get(v.request, n) == n or v.what == "displace"]

    def is_asked(self) -> bool:
        """Whether somebody wants an answer."""
        self._catch_up()
        if self._asked is None:
            self._asked = bool(self._desk.asked())
        return self._asked

    def asked(self) -> list[str]:
        """Who wants an answer, in the order in which they get it."""
        return [self._ids[row] for row in self._desk.asked()] if self.is_asked() else []

    def answer(self, now: float, names: Sequence[str] | None = None) -> list[Decision]:
        """Decide for whom has just called; ``none`` for those who wait; first who moves to make room for them.

        Args:
            now: of the round.
            names: who gets an answer, in order: those of ``asked``, unless a recorded round is decided again.
        """
        self._catch_up()
        rows = [self._row[name] for name in (self.asked() if names is None else names) if name in self._row]
        asked = [row for row in rows if self._desk.waits(row)]
        if not asked:
            self._desk.nobody_asks(now - self.midnight)
            return []
        self._stale()
        verdicts = {v.request: v for v in self._desk.answer(now - self.midnight, asked)}
        callers = set(asked)
        moved = [self._said(verdict) for row, verdict in verdicts.items() if row not in callers]
        answers = [self._said(verdicts[r]) if r in verdicts else Decision("none", self._ids[r], None) for r in asked]
        return moved + answers

    # -- between territories ------------------------------------------------------------------------------------

    def in_vain(self, now: float) -> list[tuple[str, list[int]]]:
        """Urgent people to whom the last answer gave nothing, and the slots that another desk might leave them.

        These are full, for this desk, with what is not firm behind them only elsewhere; the best first.
        """
        wanted = []
        for row in self._desk.in_vain():
            slots = self._desk.out_of_reach(row, now - self.midnight)[:MOST_WANTED]
            live = [self._slot_ids[s] for s in slots if self._row_of_slot.get(self._slot_ids[s]) == s]
            wanted.append((self._ids[row], live))
        return wanted

    def holds(self, slot_id: int) -> bool:
        """Whether a promise of this desk leans on a slot."""
        row = self._row_of_slot.get(slot_id)
        return row is not None and self._desk.reserved[row] > 0

    def make_way(self, slot_ids: Sequence[int], now: float) -> tuple[int, list[Decision]] | None:
        """Give away a seat of one of these slots whose holder can be seen elsewhere; the slot, and who moves."""
        self._catch_up()
        self._stale()
        rows = [self._row_of_slot[slot_id] for slot_id in slot_ids]
        found = self._desk.make_way(rows, now - self.midnight)
        return found and (self._slot_ids[found[0]], [self._said(verdict) for verdict in found[1]])

    def yields(self, slot_id: int, tier: int) -> tuple[int, str] | None:
        """Who would be displaced from a slot by somebody of a tier (its rank): the rank of his, and his request."""
        self._catch_up()
        row = self._desk.yields(self._row_of_slot[slot_id], tier, {self._row[name] for name in self._kept})
        return None if row is None else (int(self._desk.requests.tier[row]), self._ids[row])

    def displaced(self, request_id: str) -> Decision:
        """Let a promised request lose its seat to another desk."""
        self._stale()
        return self._said(self._desk.displaced(self._row[request_id]))

    def may_displace(self, request_id: str) -> bool:
        """Whether promises may be broken for a request: where its own might be."""
        return self.policy.displace[self.rank(request_id)]

    def rank(self, request_id: str) -> int:
        """The rank of a request's tier."""
        return int(self._desk.requests.tier[self._row[request_id]])

    def given(self, request_id: str, slot_id: int, now: float) -> list[Decision]:
        """Answer a request again that another desk has just left a seat."""
        self._stale()
        return [
            self._said(verdict)
            for verdict in self._desk.given(self._row[request_id], self._row_of_slot[slot_id], now - self.midnight)
        ]

    def _said(self, verdict: Verdict) -> Decision:
        slot_id = None if verdict.slot < 0 else self._slot_ids[verdict.slot]
        return Decision(verdict.what, self._ids[verdict.request], slot_id, verdict.price, verdict.planned, verdict.gap)

    def price(self, slot_id: int) -> float | None:
        """The price of a seat in the mean of the futures, tenths of a minute; None where there is none."""
        row = self._row_of_slot.get(slot_id)
        return None if row is None else self._desk.price(row)

    def settle(self, decision: Decision, word: str) -> None:
        """Take in what the ledger said to a decision: a word of ``Ledger.claim``, or ``unknown`` for no answer."""
        self._stale()
        row = self._row[decision.request_id]
        slot = None if decision.slot_id is None else self._row_of_slot.get(decision.slot_id)
        if slot is not None:
            self._touched.add(slot)
        if word in ("promised", "moved"):
            self._keep(decision.request_id, slot)
        elif word in ("told_firm", "displaced", "held"):
            self._keep(decision.request_id, None)
        elif word in ("seat_lost", "unknown"):
            self._lost(row, decision, slot if word == "seat_lost" else None)
        elif word == "not_waiting":
            self.close(decision.request_id)

    def _lost(self, row: int, decision: Decision, slot: int | None) -> None:
        """A seat was not had: one that was refused is not asked for again, and what was promised before stands."""
        behind = self._kept.get(decision.request_id)
        if behind is not None:
            self._touched.add(behind)  # it may have been ceded to another desk, and was not
        self._desk.reopen(row, behind is not None, ask=behind is None)
        if slot is not None:
            self._desk.bar(row, [slot], self._desk.barred(row))
        if behind is not None:
            self._desk.promised(row, behind)


class _Limits(NamedTuple):
    """The limits over a desk's slots (``desk.Limiting``): ids of its slots, and who is a child, by row."""

    market: Market
    slot_ids: list[int]
    child: list[bool]

    @property
    def book(self) -> LimitBook:
        """The practices' limits, and what is taken of each."""
        return self.market.limits

    def combos(self, slots: Ints) -> Ints:
        """The number of the combination of limits over each slot, by its row."""
        return np.array([self.market.limits_over(self.slot_ids[row]) for row in slots.tolist()], np.int64)

    def is_child(self, request: int) -> bool:
        """Whether limits on children count a request, by its row."""
        return self.child[request]


def _shape(place: PlaceRow) -> tuple[object, ...]:
    """What makes a slot another one for those who want it; seats apart."""
    return (
        *(place.start, place.lat, place.lon, place.profession, place.mode, place.professional, place.specialty),
        *(place.landmass, frozenset(place.offers), place.own),
    )
