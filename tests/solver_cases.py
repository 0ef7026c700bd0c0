"""Problems for the tests and benchmarks of the solver, and two independent ways to their optimum."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from ortools.graph.python.linear_sum_assignment import SimpleLinearSumAssignment

from solver import Limits, OmittedArcs, Plan, Problem

Arc = tuple[int, int, int]
"""Request row, slot row, cost."""


def make(
    arcs: Sequence[Arc],
    penalty: Sequence[int],
    capacity: Sequence[int],
    *,
    rank: Sequence[int] | None = None,
    request_key: Sequence[int] | None = None,
    slot_key: Sequence[int] | None = None,
    slot_group: Sequence[int] | None = None,
    group_capacity: Sequence[int] | None = None,
) -> Problem:
    """A problem from plain lists; keys are 1, 2, 3… and 101, 102, 103… unless given."""
    columns = np.array(arcs, np.int64).reshape(-1, 3)
    return Problem(
        arc_request=columns[:, 0].astype(np.int32),
        arc_slot=columns[:, 1].astype(np.int32),
        arc_cost=columns[:, 2].copy(),
        penalty=np.array(penalty, np.int64),
        rank=np.array(rank if rank is not None else [0] * len(penalty), np.int64),
        capacity=np.array(capacity, np.int64),
        request_key=np.array(request_key or range(1, len(penalty) + 1), np.uint64),
        slot_key=np.array(slot_key or range(101, len(capacity) + 101), np.uint64),
        slot_group=None if slot_group is None else np.array(slot_group, np.int32),
        group_capacity=None if group_capacity is None else np.array(group_capacity, np.int64),
    )


def arcs_of(problem: Problem) -> list[Arc]:
    """The arcs as a list of (request, slot, cost)."""
    return list(
        zip(
            problem.arc_request.tolist(),
            problem.arc_slot.tolist(),
            problem.arc_cost.tolist(),
            strict=True,
        )
    )


def with_arcs(problem: Problem, arcs: Sequence[Arc]) -> Problem:
    """The same requests and slots with other arcs."""
    columns = np.array(arcs, np.int64).reshape(-1, 3)
    return replace(
        problem,
        arc_request=columns[:, 0].astype(np.int32),
        arc_slot=columns[:, 1].astype(np.int32),
        arc_cost=columns[:, 2].copy(),
    )


def omitted_of(arcs: Sequence[Arc]) -> OmittedArcs:
    columns = np.array(arcs, np.int64).reshape(-1, 3)
    return OmittedArcs(columns[:, 0], columns[:, 1], columns[:, 2].copy())


def with_one_more_place(problem: Problem, slot: int) -> Problem:
    """The same problem with one more place in a slot, and in its group."""
    capacity = problem.capacity.copy()
    capacity[slot] += 1
    group_capacity = problem.group_capacity
    if problem.slot_group is not None and group_capacity is not None and problem.slot_group[slot] >= 0:
        group_capacity = group_capacity.copy()
        group_capacity[problem.slot_group[slot]] += 1
    return replace(problem, capacity=capacity, group_capacity=group_capacity)


def shuffled(problem: Problem, seed: int) -> Problem:
    """The same problem with requests, slots, groups and arcs in another order of rows."""
    random = np.random.default_rng(seed)
    request = random.permutation(problem.penalty.size)  # old row of each new row
    slot = random.permutation(problem.capacity.size)
    arc = random.permutation(problem.arc_cost.size)
    slot_group, group_capacity = problem.slot_group, problem.group_capacity
    if slot_group is not None and group_capacity is not None:
        group = random.permutation(group_capacity.size)
        slot_group = np.append(group.argsort(), -1)[slot_group[slot]].astype(np.int32)
        group_capacity = group_capacity[group]
    return Problem(
        request.argsort()[problem.arc_request[arc]].astype(np.int32),
        slot.argsort()[problem.arc_slot[arc]].astype(np.int32),
        problem.arc_cost[arc],
        problem.penalty[request],
        problem.rank[request],
        problem.capacity[slot],
        problem.request_key[request],
        problem.slot_key[slot],
        slot_group,
        group_capacity,
    )


def pairs(problem: Problem, plan: Plan) -> dict[int, int | None]:
    """Who gets what by key: request key → slot key, None when unserved."""
    keys = [*problem.slot_key.tolist(), None]
    return {int(r): keys[s] for r, s in zip(problem.request_key, plan.slot.tolist(), strict=True)}


def brute_force(problem: Problem) -> int:
    """The least objective by trying everything, request by request; for a handful of requests."""
    options: list[list[tuple[int, int]]] = [[] for _ in range(problem.penalty.size)]
    for r, s, c in arcs_of(problem):
        options[r].append((s, c))
    penalty = problem.penalty.tolist()
    groups = [-1] * problem.capacity.size if problem.slot_group is None else problem.slot_group.tolist()
    quotas = () if problem.group_capacity is None else tuple(problem.group_capacity.tolist())

    @cache
    def best(r: int, left: tuple[int, ...], quota: tuple[int, ...]) -> int:
        if r == len(options):
            return 0
        least: int = penalty[r] + best(r + 1, left, quota)
        for s, c in options[r]:
            g = groups[s]
            if left[s] and (g < 0 or quota[g]):
                after = (*left[:s], left[s] - 1, *left[s + 1 :])
                rest = quota if g < 0 else (*quota[:g], quota[g] - 1, *quota[g + 1 :])
                least = min(least, c + best(r + 1, after, rest))
        return least

    return best(0, tuple(problem.capacity.tolist()), quotas)


def linear_assignment(problem: Problem) -> int:
    """The least objective of a problem without groups, as a perfect matching by another algorithm.

    Right side: every seat, and a refusal of each request. A request takes a seat at its cost or its refusal at
    the penalty; a ghost of each seat takes the seat itself when it stays free, else the refusal of its holder.
    """
    assignment = SimpleLinearSumAssignment()
    requests = problem.penalty.size
    seats = np.repeat(np.arange(problem.capacity.size), problem.capacity).tolist()
    of_slot: dict[int, list[int]] = {}
    for seat, slot in enumerate(seats):
        of_slot.setdefault(slot, []).append(seat)
        assignment.add_arc_with_cost(requests + seat, seat, 0)
    for r, p in enumerate(problem.penalty.tolist()):
        assignment.add_arc_with_cost(r, len(seats) + r, p)
    for r, s, c in arcs_of(problem):
        for seat in of_slot.get(s, ()):
            assignment.add_arc_with_cost(r, seat, c)
            assignment.add_arc_with_cost(requests + seat, len(seats) + r, 0)
    assert assignment.solve() == SimpleLinearSumAssignment.OPTIMAL
    return int(assignment.optimal_cost())


def town(requests: int, slots: int, arcs: int, seed: int, *, capacity: int = 1) -> Problem:
    """A town of 50 × 50 km over ten hours, with the tiers, values and costs of the day log; random candidates.

    Tiers 6/22/42/30 %, straight lines, and times of ``start`` are those of the matching study's generator.
    """
    random = np.random.default_rng(seed)
    request = np.repeat(np.arange(requests), arcs).astype(np.int32)
    slot = np.concatenate([random.choice(slots, arcs, replace=False) for _ in range(requests)])
    km = np.hypot(*(50 * (random.random((requests, 2))[request] - random.random((slots, 2))[slot])).T)
    tier = random.choice(4, requests, p=[0.06, 0.22, 0.42, 0.30])
    wait_min = random.integers(0, 600, slots)[slot]
    wait_weight = np.array([1, 0.25, 0.05, 0.03])[tier][request]
    return Problem(
        request,
        slot.astype(np.int32),
        (10 * (3 + 1.95 * km + wait_weight * wait_min)).astype(np.int64),
        np.array([40_000, 20_000, 10_000, 5_000], np.int64)[tier],
        tier.astype(np.int64),
        random.integers(1, capacity + 1, slots),
        random.integers(0, 1 << 63, requests, dtype=np.uint64),
        random.integers(0, 1 << 63, slots, dtype=np.uint64),
    )


@st.composite
def problems(
    draw: st.DrawFn, *, requests: tuple[int, int] = (0, 6), slots: int = 6, cost: int = 60, groups: bool = True
) -> Problem:
    """Small problems with many ties, closed slots, useless arcs, negative costs, and quotas by chance."""
    r = draw(st.integers(*requests))
    s = draw(st.integers(0, slots))
    costs = draw(st.lists(st.one_of(st.none(), st.integers(-cost // 3, cost)), min_size=r * s, max_size=r * s))
    key = st.integers(0, (1 << 64) - 1)
    group = draw(st.integers(1, 3)) if groups and draw(st.booleans()) else 0
    return make(
        [(i // s, i % s, c) for i, c in enumerate(costs) if c is not None],
        draw(st.lists(st.integers(0, cost), min_size=r, max_size=r)),
        draw(st.lists(st.integers(0, 3), min_size=s, max_size=s)),
        rank=draw(st.lists(st.integers(0, 3), min_size=r, max_size=r)),
        request_key=draw(st.lists(key, min_size=r, max_size=r, unique=True)),
        slot_key=draw(st.lists(key, min_size=s, max_size=s, unique=True)),
        slot_group=draw(st.lists(st.integers(-1, group - 1), min_size=s, max_size=s)) if group else None,
        group_capacity=draw(st.lists(st.integers(0, 3), min_size=group, max_size=group)) if group else None,
    )


def no_limits(problem: Problem, **given: Sequence[int]) -> Limits:
    """Limits of a problem from plain lists; what is not given limits nothing."""

    def rows(name: str, usual: Sequence[int] = ()) -> NDArray[np.int32]:
        return np.array(given.get(name, usual), np.int32)

    def counts(name: str) -> NDArray[np.int64]:
        return np.array(given.get(name, ()), np.int64)

    return Limits(
        slot_group=rows("slot_group", [-1] * problem.capacity.size),
        group_parent=rows("group_parent"),
        group_capacity=counts("group_capacity"),
        group_step=counts("group_step"),
        group_load=counts("group_load"),
        row_arc=rows("row_arc"),
        row_of=rows("row_of"),
        row_capacity=counts("row_capacity"),
    )


def shuffled_limits(problem: Problem, limits: Limits, seed: int) -> tuple[Problem, Limits]:
    """The same problem and limits with requests, slots, arcs, groups and packing rows in another order of rows."""
    other = shuffled(problem, seed)
    random = np.random.default_rng(seed)  # as ``shuffled`` draws
    random.permutation(problem.penalty.size)
    slot, arc = random.permutation(problem.capacity.size), random.permutation(problem.arc_cost.size)
    row = random.permutation(limits.row_capacity.size)
    depth = [0] * limits.group_parent.size
    for group in range(len(depth) - 1, -1, -1):
        parent = int(limits.group_parent[group])
        depth[group] = depth[parent] + 1 if parent >= 0 else 0
    order = np.lexsort((random.random(len(depth)), -np.array(depth, np.int64)))  # inner ones stay before outer ones
    new_group = np.append(order.argsort(), -1)
    return other, Limits(
        slot_group=new_group[limits.slot_group[slot]].astype(np.int32),
        group_parent=new_group[limits.group_parent[order]].astype(np.int32),
        group_capacity=limits.group_capacity[order],
        group_step=limits.group_step[order],
        group_load=limits.group_load[order],
        row_arc=arc.argsort()[limits.row_arc].astype(np.int32),
        row_of=row.argsort()[limits.row_of].astype(np.int32),
        row_capacity=limits.row_capacity[row],
    )
