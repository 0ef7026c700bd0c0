"""What a matcher knows of the limits of practices: which are over a place, and how much they leave.

A limit that lets nobody in any more closes its places in the ledger, which tells them with no seat left; so only what
depends on the patient (children), or on how many one batch takes together, is looked up here. Memory is a hint as
everywhere: the ledger judges each claim again.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from sas_matcher.domain.limits import Counts, period_start

Ints = npt.NDArray[np.int64]
NO_LIMITS: Final = 0  # the number of the empty combination
NOBODY: Final = 0  # the number of a turn that counts nobody
_PLENTY: Final = 1 << 30
_PERIODS_KEPT: Final = 4_096  # quarters of an hour of six weeks


class Limit(NamedTuple):
    """A limit in force."""

    id: int
    version: int
    counts: str
    period: str
    zone: str
    source: str | None
    members: frozenset[str]


class Turn(NamedTuple):
    """A limit in one of its periods, by the period's start in epoch seconds; ``child``: it counts children only."""

    limit: int
    start: int
    child: bool


@lru_cache(_PERIODS_KEPT)
def _start(period: str, zone: str, quarter: int) -> int:
    """The start of the period that a quarter of an hour lies in: no zone begins a day within one."""
    return int(period_start(period, zone, datetime.fromtimestamp(900 * quarter, UTC)).timestamp())


class LimitBook:
    """All limits and what they leave, kept by the ledger's news.

    Turns and their combinations over a place are numbered as they come, so that a place needs one number and a request
    reads what is left of all its places at once. Numbers stay good for as long as the book lives.
    """

    def __init__(self) -> None:
        self._limits: dict[int, Limit] = {}
        self._gone: dict[int, int] = {}
        self._of_member: dict[str, set[int]] = {}
        self._known_left: dict[tuple[int, int], tuple[int, int]] = {}
        self.turns: list[Turn] = [Turn(0, 0, child=False)]
        self._turn_number: dict[Turn, int] = {}
        self._left = np.full(1, _PLENTY, np.int64)
        self._child = np.zeros(1, np.bool_)
        self._combo_number: dict[tuple[int, ...], int] = {(): NO_LIMITS}
        self._combos: list[tuple[int, ...]] = [()]
        self._table = np.zeros((1, 1), np.int64)

    def __bool__(self) -> bool:
        return bool(self._limits)

    def hear(self, kind: str, data: Any) -> frozenset[str]:
        """Take in news of the stream of places, ``limit`` or ``limit_left``.

        Returns:
            The members whose places are to be renumbered.
        """
        if kind == "limit":
            return self.define(data)
        for limit_id, start, left, version in data:
            self.set_left(limit_id, start, left, version)
        return frozenset()

    def define(self, document: Mapping[str, Any]) -> frozenset[str]:
        """Take in what a limit is now, or that it is gone; older news changes nothing.

        Returns:
            The members whose places are to be renumbered.
        """
        limit_id, version = document["id"], document["version"]
        known = self._limits.get(limit_id)
        if max(known.version if known else -1, self._gone.get(limit_id, -1)) >= version:
            return frozenset()
        before = frozenset() if known is None else known.members
        for member in before:
            self._of_member[member].discard(limit_id)
        if document.get("gone"):
            self._gone[limit_id] = version
            self._limits.pop(limit_id, None)
            return before
        members = frozenset(document["members"])
        self._limits[limit_id] = Limit(
            id=limit_id,
            version=version,
            counts=document["counts"],
            period=document["period"],
            zone=document["zone"],
            source=document["source"],
            members=members,
        )
        for member in members:
            self._of_member.setdefault(member, set()).add(limit_id)
        return before | members

    def set_left(self, limit_id: int, start: int, left: int, version: int) -> None:
        """Take in what a limit leaves in a period; older news changes nothing."""
        if self._known_left.get((limit_id, start), (0, -1))[1] < version:
            self._known_left[limit_id, start] = (left, version)
            for child in (False, True):
                number = self._turn_number.get(Turn(limit_id, start, child))
                if number is not None:
                    self._left[number] = left

    def left(self, number: int) -> int:
        """Return how many more a turn lets in, as far as known: the ledger judges, so one where nothing is."""
        return int(self._left[number])

    def over(self, professional: str | None, structure: str | None, source: str, start: int, *, visit: bool) -> int:
        """Return the number of the combination of limits over a place; ``start`` in epoch seconds."""
        ids = self._of_member.get(f"p:{professional}", set()) | self._of_member.get(f"s:{structure}", set())
        numbers = []
        for limit_id in sorted(ids):
            limit = self._limits[limit_id]
            if limit.source in (None, source) and (visit or limit.counts != Counts.VISITS):
                start_of = _start(limit.period, limit.zone, start // 900)
                numbers.append(self._number(Turn(limit_id, start_of, limit.counts == Counts.CHILDREN)))
        return self._combined(tuple(numbers))

    def _number(self, turn: Turn) -> int:
        number = self._turn_number.get(turn)
        if number is None:
            number = self._turn_number[turn] = len(self.turns)
            self.turns.append(turn)
            if number >= len(self._left):
                self._left = np.concatenate((self._left, np.ones(len(self._left), np.int64)))
                self._child = np.concatenate((self._child, np.zeros(len(self._child), np.bool_)))
            self._left[number] = self._known_left.get((turn.limit, turn.start), (1, -1))[0]
            self._child[number] = turn.child
        return number

    def _combined(self, numbers: tuple[int, ...]) -> int:
        combo = self._combo_number.get(numbers)
        if combo is None:
            combo = self._combo_number[numbers] = len(self._combos)
            self._combos.append(numbers)
            rows, width = self._table.shape
            if combo >= rows or len(numbers) > width:
                wider = np.zeros((2 * rows if combo >= rows else rows, max(width, len(numbers))), np.int64)
                wider[:rows, :width] = self._table
                self._table = wider
            self._table[combo, : len(numbers)] = numbers
        return combo

    def counting(self, combos: npt.NDArray[Any], *, child: bool) -> Ints:
        """Return the numbers of the turns that count a request on each of n places: int64[n, k], padded."""
        turns: Ints = self._table[combos]
        return turns if child else np.where(self._child[turns], NOBODY, turns)

    def counting_one(self, combo: int, *, child: bool) -> Iterator[int]:
        """Yield the numbers of the turns that count a request on one place."""
        for turn in self._combos[combo]:
            if child or not self.turns[turn].child:
                yield turn

    def lefts(self, turns: Ints) -> Ints:
        """Return what turns leave, by their numbers."""
        lefts: Ints = self._left[turns]
        return lefts

    def freed(self, turns: Iterable[int]) -> "LimitBook":
        """A copy of what is left, with one place more for each time that a turn is named; it hears no more news."""
        copy = LimitBook()
        copy.turns, copy._child = list(self.turns), self._child.copy()
        copy._combos, copy._table = list(self._combos), self._table.copy()
        # what was booked before a limit was made smaller stays booked: never less than those who are named
        copy._left = np.maximum(0, self._left)
        np.add.at(copy._left, np.array(list(turns), np.int64), 1)
        return copy


@dataclass(frozen=True, slots=True)
class Under:
    """The limits over n places and the request that they may count: a child or not.

    ``combos`` is int[n], the number of the combination of limits over each place.
    """

    book: LimitBook
    combos: npt.NDArray[Any]
    child: bool

    def taken(self, rows: npt.NDArray[np.intp]) -> "Under":
        """Return the same for some of the places."""
        return Under(self.book, self.combos[rows], self.child)

    def turns(self) -> Ints:
        """Return the numbers of the turns that count the request on each place: int64[n, k], padded with 0."""
        return self.book.counting(self.combos, child=self.child)

    def at(self, row: int) -> list[int]:
        """Return the numbers of the turns that count the request on a place."""
        return list(self.book.counting_one(int(self.combos[row]), child=self.child))

    def reached(self) -> npt.NDArray[np.bool_]:
        """Tell of each place whether a limit leaves nothing there."""
        closed = self.book.lefts(self.turns()) <= 0
        reached: npt.NDArray[np.bool_] = np.logical_or.reduce(closed, axis=1)
        return reached

    def priced(self, price: Mapping[int, int]) -> Ints:
        """Return what the limits of each place cost together, at the prices of some turns (by number)."""
        prices = np.zeros(len(self.book.turns), np.int64)
        prices[list(price)] = list(price.values())
        total: Ints = prices[self.turns()].sum(axis=1)
        return total


@dataclass(frozen=True, slots=True, eq=False)
class Over:
    """The limits over the slots that some requests could have, by rows of both.

    ``combos`` is int[S], the number of the combination of limits over each slot; ``child`` bool[R].
    """

    book: LimitBook
    combos: Ints
    child: npt.NDArray[np.bool_]

    def under(self, request: int, slots: npt.NDArray[Any]) -> Under:
        """Return the limits over some slots for one request."""
        return Under(self.book, self.combos[slots], bool(self.child[request]))

    def priced(self, request: npt.NDArray[Any], slot: npt.NDArray[Any], price: Mapping[int, int]) -> Ints:
        """Return what the limits of each pair cost together, at the prices of some turns (by number)."""
        total = np.zeros(slot.size, np.int64)
        for child in (False, True):
            rows = (self.child[request] == child).nonzero()[0]
            total[rows] = Under(self.book, self.combos[slot[rows]], child).priced(price)
        return total


def owner_of(site: bytes) -> tuple[str | None, str | None]:
    """Return professional and structure of a site's JSON."""
    document = orjson.loads(site)
    return document["professional"], document["structure"]
