"""What the solvers are asked and what they answer: the assignment problem and its plan, as plain arrays.

Requests, slots and the arcs between them are rows of numpy arrays. Row numbers mean nothing outside one
problem, so whatever depends on an order goes by the stable keys: two problems that differ only in the order
of their rows get the same plan (the same pairs of public ids), on any machine.

Error tree::

    SolverError                every error of this package
    ├── ProblemError           the arrays form no problem; a defect of the caller
    │   └── CostRangeError     costs too large for exact 64-bit arithmetic; use a coarser unit
    ├── EngineError            OR-Tools returned no optimum although one always exists; a defect
    ├── PlanError              a plan breaks a rule of its problem (``check``)
    └── NotOptimalError        a plan is feasible but proven not optimal on its own arcs (``slot_prices``)
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from solver.limits import Limits

COST_LIMIT = 1 << 61
"""Bound of ``max|cost| · (nodes + 1)``, which the flow solver multiplies out inside.

The theoretical bound is 2⁶³; OR-Tools 9.15 answered ``BAD_COST_RANGE`` from 2⁶² on and was exact at 2⁶¹ on
three network shapes (own measurement, 1 000 requests × 300, 1 500 and 10 000 slots).
"""

_INT32, _INT64, _UINT64 = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.uint64)


class SolverError(Exception):
    """Base of every error of this package."""


class ProblemError(SolverError, ValueError):
    """The arrays given do not form a problem. The message names the array and the first offending row."""


class CostRangeError(ProblemError):
    """The costs times the size of the network exceed exact 64-bit arithmetic."""


class EngineError(SolverError, RuntimeError):
    """The flow solver returned no optimum, although leaving everyone unserved is always feasible."""


class PlanError(SolverError, ValueError):
    """A plan breaks a rule of its problem."""


class NotOptimalError(SolverError, ValueError):
    """A feasible plan has an improving exchange on the listed arcs, so no prices support it."""


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Assign each of R requests to at most one place of S slots along A arcs, at least total cost.

    Minimise Σ cost of the arcs used + Σ penalty of the requests left unserved, with at most ``capacity[s]``
    requests on slot ``s`` and at most ``group_capacity[g]`` on all slots of group ``g`` together. Serving at
    a cost equal to or above the penalty gains nothing, so such an arc is never used: cost == penalty means
    unserved.

    The arrays are checked once here and not copied: do not change them afterwards.

    Attributes:
        arc_request: int32[A], row of the request of each arc.
        arc_slot: int32[A], row of the slot of each arc; one arc at most per pair of request and slot.
        arc_cost: int64[A], cost of each arc in tenths of a minute; negative where the bonus of the médecin
            traitant exceeds travel and wait.
        penalty: int64[R], cost of leaving each request unserved (the tier's value in the day log), ≥ 0.
        rank: int64[R], order of service of the greedy fallback, most urgent lowest (T0 is 0).
        capacity: int64[S], places left in each slot, ≥ 0.
        request_key: uint64[R], distinct hashes of the public request ids.
        slot_key: uint64[S], hashes of the public slot ids, distinct among slots that have an arc.
        slot_group: int32[S], group (professional or structure under a quota) of each slot, −1 for none; or
            None.
        group_capacity: int64[G], places left in each group, ≥ 0; given exactly when ``slot_group`` is.
        limits: What practices limit beyond that (nested groups, cost of load, packing rows), instead of the two; or
            None. ``solve`` keeps them; what takes a problem alone (prices, certificates) is for problems without.
        arc_order: intp[A], the arcs sorted by (request key, slot key). Derived.
        request_order: intp[R], the requests sorted by key. Derived.
        slot_order: intp[U], the U slots that have an arc, sorted by key. Derived.

    Raises:
        ProblemError: An array has the wrong type, length, row number, sign or a repeated key.
        CostRangeError: ``max|cost| · (nodes + 1)`` reaches ``COST_LIMIT``.
    """

    arc_request: NDArray[np.int32]
    arc_slot: NDArray[np.int32]
    arc_cost: NDArray[np.int64]
    penalty: NDArray[np.int64]
    rank: NDArray[np.int64]
    capacity: NDArray[np.int64]
    request_key: NDArray[np.uint64]
    slot_key: NDArray[np.uint64]
    slot_group: NDArray[np.int32] | None = None
    group_capacity: NDArray[np.int64] | None = None
    limits: "Limits | None" = None
    arc_order: NDArray[np.intp] = field(init=False, repr=False)
    request_order: NDArray[np.intp] = field(init=False, repr=False)
    slot_order: NDArray[np.intp] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check every rule above and derive the canonical orders."""
        arcs, requests, slots = len(self.arc_request), len(self.penalty), len(self.capacity)
        _expect("arc_request", self.arc_request, _INT32, arcs)
        _expect("arc_slot", self.arc_slot, _INT32, arcs)
        _expect("arc_cost", self.arc_cost, _INT64, arcs)
        _expect("penalty", self.penalty, _INT64, requests)
        _expect("rank", self.rank, _INT64, requests)
        _expect("request_key", self.request_key, _UINT64, requests)
        _expect("capacity", self.capacity, _INT64, slots)
        _expect("slot_key", self.slot_key, _UINT64, slots)
        _expect_rows("arc_request", self.arc_request, 0, requests)
        _expect_rows("arc_slot", self.arc_slot, 0, slots)
        _expect_not_negative("penalty", self.penalty)
        _expect_not_negative("capacity", self.capacity)
        groups = self._check_groups(slots)
        self._derive_orders(requests, slots)
        largest = max(-lowest(self.arc_cost), highest(self.arc_cost), highest(self.penalty))
        nodes = requests + len(self.slot_order) + groups + 1
        if largest * (nodes + 1) >= COST_LIMIT:
            raise CostRangeError(
                f"Expected max|cost| * (nodes + 1) < 2**61, got {largest} * {nodes + 1}: use a coarser unit."
            )
        if self.limits is not None:
            self.limits.check(self)

    @property
    def quotas(self) -> tuple[NDArray[np.int32], NDArray[np.int64]] | None:
        """``slot_group`` and ``group_capacity``, or None when there are no groups."""
        if self.slot_group is None or self.group_capacity is None:
            return None
        return self.slot_group, self.group_capacity

    def _check_groups(self, slots: int) -> int:
        if (self.slot_group is None) != (self.group_capacity is None):
            raise ProblemError("Expected slot_group and group_capacity together, got one of them.")
        if self.quotas is None:
            return 0
        group, capacity = self.quotas
        _expect("slot_group", group, _INT32, slots)
        _expect("group_capacity", capacity, _INT64, len(capacity))
        _expect_rows("slot_group", group, -1, len(capacity))
        _expect_not_negative("group_capacity", capacity)
        return len(capacity)

    def _derive_orders(self, requests: int, slots: int) -> None:
        if requests == 1:  # the live path: one sort says all, and no array of the length of S is touched
            arc_order = self.slot_key[self.arc_slot].argsort()
            request_order = np.zeros(1, np.intp)
            slot_order: NDArray[np.intp] = self.arc_slot[arc_order].astype(np.intp)
            _expect_distinct("slot_key", self.slot_key, slot_order)
        else:
            request_order = self.request_key.argsort()
            _expect_distinct("request_key", self.request_key, request_order)
            used = np.zeros(slots, np.bool_)
            used[self.arc_slot] = True
            rows = used.nonzero()[0]
            slot_order = rows[self.slot_key[rows].argsort()]
            _expect_distinct("slot_key", self.slot_key, slot_order)
            pair = inverse(request_order, requests)[self.arc_request] * np.int64(max(1, slot_order.size))
            pair += inverse(slot_order, slots)[self.arc_slot]
            arc_order = pair.argsort()
            sorted_pair = pair[arc_order]
            repeated = (sorted_pair[1:] == sorted_pair[:-1]).nonzero()[0]
            if repeated.size:
                row = int(arc_order[repeated[0]])
                raise ProblemError(
                    "Expected one arc per pair of request and slot, got several for "
                    f"request {self.arc_request[row]} and slot {self.arc_slot[row]}."
                )
        object.__setattr__(self, "arc_order", arc_order)
        object.__setattr__(self, "request_order", request_order)
        object.__setattr__(self, "slot_order", slot_order)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Who gets a place of which slot.

    Attributes:
        slot: int32[R], row of the slot each request gets, −1 when unserved.
        arc: int32[R], row of the arc used, −1 when unserved.
        objective: Σ cost of the arcs used + Σ penalty of the unserved, in tenths of a minute.
        method: What found it: ``flow`` and ``single`` are optimal on the arcs given, ``greedy`` is a
            fallback; ``repair`` and ``cp-sat`` keep packing rows.
        relaxed: The optimal flow without the packing rows that this plan had to keep, where that is another one.
        slack: How far above ``relaxed``, tenths of a minute: what prices of that flow can prove.
        gap: How far above the proven optimum of the arcs given at the most, ≤ ``slack``.
        prices: Of a problem with limits, int64[S] of its slots and int64[G] of its groups, that support the flow.
    """

    slot: NDArray[np.int32]
    arc: NDArray[np.int32]
    objective: int
    method: Literal["flow", "greedy", "single", "repair", "cp-sat"]
    relaxed: "Plan | None" = None
    slack: int = 0
    gap: int = 0
    prices: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None


def plan_of(problem: Problem, arc: NDArray[np.int32], method: Literal["flow", "greedy", "repair", "cp-sat"]) -> Plan:
    """Complete a plan from the arc row of each request (int32[R], −1 when unserved)."""
    served = arc >= 0
    used = arc[served]
    slot = np.full(arc.size, -1, np.int32)
    slot[served] = problem.arc_slot[used]
    objective = int(problem.arc_cost[used].sum()) + int(problem.penalty[~served].sum())
    return Plan(slot, arc, objective, method)


def worthwhile(problem: Problem, arcs: NDArray[np.intp]) -> NDArray[np.intp]:
    """Those of the arc rows that a plan may use, in the same order: a place is left, and cost < penalty."""
    slot = problem.arc_slot[arcs]
    usable = problem.arc_cost[arcs] < problem.penalty[problem.arc_request[arcs]]
    usable &= problem.capacity[slot] > 0
    if problem.quotas is not None:
        group, capacity = problem.quotas
        usable &= np.append(capacity, 1)[group[slot]] > 0  # the one at the end is for −1, no group
    return arcs[usable]


def tie_mix(problem: Problem, arcs: NDArray[np.intp]) -> NDArray[np.uint64]:
    """A 64-bit number per arc row, uint64[n], that decides between equal costs.

    It depends on the keys alone, differs between any two arcs of one request (for a fixed request it is a
    bijection of the slot key), and is not linear in them: a linear one cancels over an assignment and decides
    nothing (110 of 1 000 assignments changed with the order of the arcs, measured).
    """
    requests = _mix64(problem.request_key)
    return _mix64(problem.slot_key[problem.arc_slot[arcs]] ^ requests[problem.arc_request[arcs]])


def _mix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64, a bijection (Steele, Lea and Flood, OOPSLA 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def inverse(order: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Position of each row in ``order``: intp[size], meaningless for rows that are not in it."""
    position = np.empty(size, np.intp)
    position[order] = np.arange(order.size)
    return position


def lowest(values: NDArray[Any]) -> int:
    """Least of the values, 0 when there are none (argmin costs a sixth of ``min`` on 32 values)."""
    return int(values[values.argmin()]) if values.size else 0


def highest(values: NDArray[Any]) -> int:
    """Greatest of the values, 0 when there are none."""
    return int(values[values.argmax()]) if values.size else 0


def _expect(name: str, array: NDArray[Any], dtype: np.dtype[Any], size: int) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
        got = f"{array.dtype}{list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ProblemError(f"Expected {name} to be a numpy array {dtype}[n], got {got}.")
    if array.size != size:
        raise ProblemError(f"Expected {size} values in {name}, got {array.size}.")


def _expect_rows(name: str, rows: NDArray[np.int32], least: int, size: int) -> None:
    if rows.size and not (lowest(rows) >= least and highest(rows) < size):
        at = int(((rows < least) | (rows >= size)).argmax())
        raise ProblemError(f"Expected {least} <= {name} < {size}, got {rows[at]} at {at}.")


def _expect_not_negative(name: str, values: NDArray[np.int64]) -> None:
    if lowest(values) < 0:
        at = int(values.argmin())
        raise ProblemError(f"Expected {name} >= 0, got {values[at]} at {at}.")


def _expect_distinct(name: str, keys: NDArray[np.uint64], order: NDArray[np.intp]) -> None:
    ordered = keys[order]
    same = (ordered[1:] == ordered[:-1]).nonzero()[0]
    if same.size:
        first, second = order[same[0]], order[same[0] + 1]
        if first == second:
            raise ProblemError(f"Expected one arc per pair of request and slot, got several for slot {first}.")
        raise ProblemError(f"Expected distinct values of {name}, rows {first} and {second} share one.")
