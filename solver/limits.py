"""What practices limit beyond the places of a slot: quotas of nested groups, fair load, and packing rows over arcs.

Nested groups (slot → professional's day → centre's day → CPTS, or visits inside a professional's day) form a forest.
Their quotas, and a convex cost of load for each, keep the flow network integral. A packing row (at most so many of
*these arcs*) does not in general: "at most one child a day" forgets the child once it is on a slot, and overlapping
slots of one professional form cliques that cross. Rows are therefore left out of the flow, which is then a bound, and
put back by ``solver.limited``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solver.problem import COST_LIMIT, CostRangeError, Plan, Problem, ProblemError, highest


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """Limits over the places of one problem (of S slots and A arcs): G groups and K packing rows.

    Attributes:
        slot_group: int32[S], innermost group of each slot, −1 for none.
        group_parent: int32[G], the group around each group, −1 for none; always a higher row, so no circle.
        group_capacity: int64[G], places left in each group, ≥ 0.
        group_step: int64[G], fairness in cost units, ≥ 0: the n-th patient of the day costs (n − 1) · step more, so
            loads are spread; 0 for none.
        group_load: int64[G], patients the group has already today, ≥ 0; only ``group_step`` looks at it.
        row_arc: int32[M], an arc that counts in a packing row.
        row_of: int32[M], the row it counts in, in [0, K).
        row_capacity: int64[K], most arcs of each row, ≥ 0.
    """

    slot_group: NDArray[np.int32]
    group_parent: NDArray[np.int32]
    group_capacity: NDArray[np.int64]
    group_step: NDArray[np.int64]
    group_load: NDArray[np.int64]
    row_arc: NDArray[np.int32]
    row_of: NDArray[np.int32]
    row_capacity: NDArray[np.int64]

    def check(self, problem: Problem) -> None:
        """Check every rule above for a problem.

        Raises:
            ProblemError: an array has a wrong length, row number or sign, or the problem has quotas of its own.
            CostRangeError: the cost of load exceeds exact arithmetic.
        """
        groups, rows = self.group_parent.size, self.row_capacity.size
        if problem.quotas is not None:
            raise ProblemError("Expected quotas in the limits only, got slot_group in the problem too.")
        for name, array, size in (
            ("slot_group", self.slot_group, problem.capacity.size),
            ("group_capacity", self.group_capacity, groups),
            ("group_step", self.group_step, groups),
            ("group_load", self.group_load, groups),
            ("row_of", self.row_of, self.row_arc.size),
        ):
            if array.shape != (size,):
                raise ProblemError(f"Expected {size} values in {name}, got shape {array.shape}.")
        for name, array in (
            ("group_capacity", self.group_capacity),
            ("group_step", self.group_step),
            ("group_load", self.group_load),
            ("row_capacity", self.row_capacity),
        ):
            if array.size and array.min() < 0:
                raise ProblemError(f"Expected {name} >= 0, got {array.min()}.")
        for name, array, least, size in (
            ("slot_group", self.slot_group, -1, groups),
            ("group_parent", self.group_parent, -1, groups),
            ("row_arc", self.row_arc, 0, problem.arc_cost.size),
            ("row_of", self.row_of, 0, rows),
        ):
            if array.size and not least <= array.min() <= array.max() < size:
                raise ProblemError(f"Expected {least} <= {name} < {size}.")
        inside = self.group_parent >= 0
        if (self.group_parent[inside] <= inside.nonzero()[0]).any():
            raise ProblemError("Expected every group_parent at a higher row than its group.")
        most_load = highest(self.group_load) + problem.penalty.size
        # a path crosses every group around its slot at the most
        if highest(self.group_step) * most_load * (groups + 1) * (groups + problem.penalty.size + 2) >= COST_LIMIT:
            raise CostRangeError("Expected group_step * load within exact arithmetic: use a coarser unit.")

    def loads(self, slot_taken: NDArray[np.int64]) -> NDArray[np.int64]:
        """Patients of each group by those of each slot: int64[G], all that is nested inside included."""
        taken = np.zeros(self.group_parent.size + 1, np.int64)  # the last one is for −1, no group
        np.add.at(taken, self.slot_group, slot_taken)
        for group, parent in enumerate(self.group_parent.tolist()):
            taken[parent] += taken[group] if parent >= 0 else 0
        return taken[:-1]

    def load_cost(self, taken: NDArray[np.int64]) -> int:
        """What the convex cost of load adds for so many new patients of each group: Σ step · (load + 0, 1, 2…)."""
        n, load = taken, self.group_load
        return int((self.group_step * (n * load + n * (n - 1) // 2)).sum())

    def row_counts(self, plan: Plan) -> NDArray[np.int64]:
        """Arcs that a plan uses of each packing row: int64[K]."""
        used = np.zeros(int(self.row_arc.max(initial=-1)) + 1, np.bool_)
        arcs = plan.arc[(plan.arc >= 0) & (plan.arc < used.size)]
        used[arcs] = True
        return np.bincount(self.row_of[used[self.row_arc]], minlength=self.row_capacity.size)


def overlap_cliques(
    professional: NDArray[np.integer], start: NDArray[np.integer], end: NDArray[np.integer]
) -> list[NDArray[np.intp]]:
    """Largest sets of slots of one professional that share an instant: at most one of each may be booked.

    For intervals these sets say as much as all pairs together, in far fewer rows. Slots that only touch do not
    overlap. Slots without a professional (−1) and sets of one are left out.

    Args:
        professional: int[n], who receives; −1 for nobody named.
        start: int[n], epoch seconds.
        end: int[n], epoch seconds, after the start.
    """
    cliques: list[NDArray[np.intp]] = []
    named = (professional >= 0).nonzero()[0]
    order = named[np.lexsort((named, start[named], professional[named]))]
    active: list[int] = []
    grew = False

    def close() -> None:
        if grew and len(active) > 1:
            cliques.append(np.array(active, np.intp))

    for slot in order.tolist():
        same = bool(active) and professional[active[0]] == professional[slot]
        rest = [other for other in active if end[other] > start[slot]] if same else []
        if len(rest) < len(active):  # someone leaves: what was there is as large as it gets
            close()
        active, grew = [*rest, slot], True
    close()
    return cliques
