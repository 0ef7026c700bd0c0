"""Limits of practices at a desk: who may still have which seat, and what a plan has to keep.

Memory is a hint here as in a batch (``limits``): what a limit leaves is the ledger's news, and the ledger judges each
claim again. A plan deals out anew what was promised, so that those seats count as given back to their limits in it.
"""

from collections import Counter
from collections.abc import Mapping
from itertools import chain
from typing import Protocol

import numpy as np

from sas_matcher.matching.limits import NO_LIMITS, LimitBook, Over, Under
from sas_matcher.matching.pairs import Bools, Ints, Pairs


class Limiting(Protocol):
    """The limits of practices over a desk's slots."""

    @property
    def book(self) -> LimitBook:
        """The practices' limits, and what is taken of each."""
        ...

    def combos(self, slots: Ints) -> Ints:
        """The number of the combination of limits over each slot, by its row."""
        ...

    def is_child(self, request: int) -> bool:
        """Whether limits on children count a request, by its row."""
        ...


class Limiter:
    """Keeps the limits while a desk deals out seats; ``limits`` is None where there are none to be kept."""

    def __init__(self, limits: Limiting | None) -> None:
        self._limits = limits
        # who was given a seat under each limit's turn in this round of answers: the ledger has not counted them yet
        self._counted: Counter[int] = Counter()

    @property
    def _known(self) -> Limiting | None:
        return self._limits if self._limits is not None and self._limits.book else None

    def begin_round(self) -> None:
        """The ledger has counted all who were given a seat."""
        self._counted.clear()

    def within(self, request: int, pairs: Pairs) -> Pairs:
        """Those of a request's pairs whose limits let one more in."""
        limits = self._known
        if limits is None or not pairs.slot.size:
            return pairs
        turns = Under(limits.book, limits.combos(pairs.slot), limits.is_child(request)).turns()
        counted = np.zeros(len(limits.book.turns), np.int64)
        counted[list(self._counted)] = list(self._counted.values())
        # the turn that counts nobody leaves plenty
        open_ones: Bools = np.logical_and.reduce(limits.book.lefts(turns) > counted[turns], axis=1)
        return pairs.where(open_ones)

    def count(self, request: int, slot: int) -> None:
        """A request was given a seat in this round."""
        limits = self._known
        if limits is not None:
            combos = limits.combos(np.array([slot]))
            self._counted.update(Under(limits.book, combos, limits.is_child(request)).at(0))

    def over(self, slots: Ints, seats: Mapping[int, int], sizes: tuple[int, int]) -> Over | None:
        """The limits over what a plan may deal out.

        Args:
            slots: rows of the slots that it may deal out, and of those behind ``seats``.
            seats: slot of each promised request that it deals out anew, by rows.
            sizes: how many requests and slots the desk has.
        """
        limits = self._known
        if limits is None:
            return None
        combos = np.full(sizes[1], NO_LIMITS, np.int64)
        combos[slots] = limits.combos(slots)
        child = np.array([limits.is_child(row) for row in range(sizes[0])], np.bool_)
        seated = (Under(limits.book, combos[[slot]], bool(child[row])).at(0) for row, slot in sorted(seats.items()))
        return Over(limits.book.freed(chain.from_iterable(seated)), combos, child)
