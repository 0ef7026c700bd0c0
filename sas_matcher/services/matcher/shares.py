"""Which territories are a matcher's, where several share them. Pure: what is known in, what to ask for out."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

ORPHANED: Final = 2
"""Looks in a row (three seconds apart) at which nobody decided for a territory, before whoever sees it takes it over.

Its own matcher, started again, is faster: it is back in four seconds, and a dead one's leases last ten."""


class Shares:
    """The share of one matcher: the n-th of every so many territories, those moved to it, and orphans."""

    def __init__(self, territories: Sequence[str], share: int, among: int) -> None:
        """Take the territories of all matchers, in the same order everywhere.

        Raises:
            ValueError: there is no such share.
        """
        if not 0 <= share < among:
            raise ValueError(f"share {share} of {among}")
        self._territories = list(territories)
        self._share, self._among = share, among
        self._unmatched: dict[str, int] = {}

    @property
    def alone(self) -> bool:
        """Whether there is nobody to share with."""
        return self._among == 1

    def wanted(self, moved: Mapping[str, int], matched: Collection[str], held: Collection[str]) -> list[str]:
        """Return the territories to ask for now.

        Args:
            moved: share that a territory was moved to; a share that nobody has counts as not moved.
            matched: territories that somebody decides for now.
            held: those that this matcher decides for. An orphan that it took stays until it is moved, or until this
                matcher ends: its own may come back at any moment, or never.
        """
        mine = []
        for number, territory in enumerate(self._territories):
            told = moved.get(territory, self._among)
            owner = told if told < self._among else number % self._among
            looks = 0 if territory in matched else self._unmatched.get(territory, 0) + 1
            self._unmatched[territory] = looks
            orphan = owner != self._share and (looks > ORPHANED or (territory in held and territory not in moved))
            if owner == self._share or orphan:
                mine.append(territory)
        return mine
