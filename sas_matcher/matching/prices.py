"""Shadow prices: what a seat is worth to the rest of the day, in one imagined future at a time.

Each future is solved exactly together with what is open now (matching study §8). The price of a slot is the *loss* of
one of its seats, the greatest dual: the least that must be given up when somebody else takes it. Where a slot has more
seats than the future needs, it is 0. Prices of several futures are kept apart: a promise may lean on another seat in
each, a firm place costs their mean.
"""

import numpy as np
import numpy.typing as npt

from sas_matcher.matching.pairs import Floats

FAR: float = 1e12
"""More than anything costs: no such seat."""


def seat_losses(
    request: npt.NDArray[np.int32],
    slot: npt.NDArray[np.int32],
    cost: Floats,
    penalty: Floats,
    capacity: npt.NDArray[np.int64],
    arc: npt.NDArray[np.int32],
) -> Floats:
    """What an optimal plan loses when one seat of each slot goes: float[S], the greatest prices that support it.

    A slot with a free seat loses nothing. For a full one somebody on it gives up its place: for nothing, or for the
    next best slot at the price of that. Iterated downward to the fixed point.
    """
    taken_by = arc >= 0
    held = np.zeros(capacity.size, np.int64)
    np.add.at(held, slot[arc[taken_by]], 1)
    price = np.zeros(capacity.size)
    full = (held >= capacity) & (held > 0)
    price[full | (capacity <= 0)] = FAR
    if not full.any():
        return price
    own = np.full(penalty.size, -1, np.intp)
    own[taken_by] = slot[arc[taken_by]]
    own_cost = np.zeros(penalty.size)
    own_cost[taken_by] = cost[arc[taken_by]]
    here = own[request]
    bound = (here >= 0) & (here != slot)
    bound[bound] = full[here[bound]] & (capacity[slot[bound]] > 0)
    source, target = here[bound], slot[bound]
    extra = cost[bound] - own_cost[request[bound]]
    rows = np.flatnonzero(taken_by)
    rows = rows[full[own[rows]]]
    np.minimum.at(price, own[rows], penalty[rows] - own_cost[rows])
    order = np.argsort(source, kind="stable")
    source, target, extra = source[order], target[order], extra[order]
    if not source.size:
        return price
    first = np.flatnonzero(np.r_[True, source[1:] != source[:-1]])
    heads = source[first]
    for _ in range(int(full.sum()) + 1):
        best = np.minimum.reduceat(price[target] + extra, first)
        lower = best < price[heads] - 1e-6
        if not lower.any():
            break
        price[heads[lower]] = best[lower]
    return np.maximum(price, 0.0)
