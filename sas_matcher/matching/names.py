"""Numbers for names and for sets of offers: what a column of the market holds instead of text."""

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

NEEDS_KEPT: Final = 1_000  # combinations of needs whose answers are kept: a surge asks for a few dozen


class Names:
    """Numbers for names (professionals, specialties, sources), given out as they come."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []

    def number(self, name: str) -> int:
        """Return the number of a name, a new one for a new name."""
        number = self._numbers.setdefault(name, len(self._names))
        if number == len(self._names):
            self._names.append(name)
        return number

    def __len__(self) -> int:
        return len(self._names)

    def name(self, number: int) -> str:
        """Return the name that a number was given out for."""
        return self._names[number]

    @property
    def count(self) -> int:
        """How many names have a number."""
        return len(self._names)

    def known(self, name: str) -> int:
        """Return the number of a name, or −2 if no place ever bore it (−1 in a row says that it bears none)."""
        return self._numbers.get(name, -2)


class OfferSets:
    """Numbers for the sets of offers that places have, however many different offers there are.

    Places of one practice offer the same, so a department has a few hundred sets at the most: a need is looked up in
    each set once, and then in each row by its number.
    """

    def __init__(self) -> None:
        self._numbers: dict[frozenset[str], int] = {}
        self._sets: list[frozenset[str]] = []
        self._sorted: list[tuple[str, ...]] = []
        self._meeting: dict[frozenset[str], npt.NDArray[np.bool_]] = {}

    def number(self, offers: Iterable[str]) -> int:
        """Return the number of a set of offers, a new one for a new set."""
        wanted = frozenset(offers)
        number = self._numbers.setdefault(wanted, len(self._sets))
        if number == len(self._sets):
            self._sets.append(wanted)
            self._sorted.append(tuple(sorted(wanted)))
            self._meeting.clear()
        return number

    def names(self, number: int) -> list[str]:
        """Return the offers of a set, sorted."""
        return list(self._sorted[number])

    def meeting(self, needs: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Tell of each set, by its number, whether it holds all of the needs."""
        wanted = frozenset(needs)
        meeting = self._meeting.get(wanted)
        if meeting is None:
            meeting = np.fromiter((wanted <= offers for offers in self._sets), np.bool_, len(self._sets))
            if len(self._meeting) >= NEEDS_KEPT:
                self._meeting.clear()
            self._meeting[wanted] = meeting
        return meeting
