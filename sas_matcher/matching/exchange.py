"""Room for a caller among promised places: who moves where, so that everybody promised still has a seat.

The shortest chain of moves that ends on a slot with room. It costs one look through the pairs of those who were
promised a place, in the instant of the call; what it costs in travel and waiting the next plan mends.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from sas_matcher.matching.pairs import Pairs


class Move(NamedTuple):
    """A request that was promised a place goes over to another slot."""

    request: int
    slot: int


def make_room(
    wanted: list[int], promised: Pairs, seat: Mapping[int, int], has_room: Callable[[int], bool]
) -> tuple[int, list[Move]] | None:
    """Find a slot for a caller where every slot he could have is promised to others.

    Args:
        wanted: his slots, the best first.
        promised: what each of those promised a place could have instead.
        seat: the slot that each of them leans on.
        has_room: whether a slot has a seat that nobody leans on.

    Returns:
        The caller's slot and the moves that free it, to be made in this order; None where no chain ends on room.
    """
    promised = promised.where(np.lexsort((promised.slot, promised.cost, promised.request)))
    holders: dict[int, list[int]] = {}
    for request in sorted(seat):
        holders.setdefault(seat[request], []).append(request)
    # each slot found, with the move that would fill it: who comes, and from which slot
    came_from: dict[int, tuple[int, int] | None] = dict.fromkeys(wanted)
    queue = list(came_from)
    for slot in queue:
        if has_room(slot):
            moves, freed = [], slot
            while (step := came_from[freed]) is not None:
                moves.append(Move(step[0], freed))
                freed = step[1]
            return freed, moves
        for request in holders.get(slot, ()):
            first, last = promised.request.searchsorted([request, request + 1])
            for other in promised.slot[first:last].tolist():
                if other not in came_from:
                    came_from[other] = (request, slot)
                    queue.append(other)
    return None
