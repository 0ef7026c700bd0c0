"""What a matcher knows of the limits of practices: which are over a place, and how much they leave.

A limit that lets nobody in any more closes its places in the ledger, which tells them with no seat left; so only what
depends on the patient (children), or on how many one batch takes together, is looked up here. Memory is a hint as
everywhere: the ledger judges each claim again.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from sas_matcher.domain.limits import Counts, period_start
from solver import Limits

Ints = npt.NDArray[np.int64]
_PERIODS_KEPT: Final = 4_096  # half days of a quarter in all zones of France


class Limit(NamedTuple):
    """A limit in force."""

    id: int
    version: int
    counts: str
    period: str
    zone: str
    source: str | None
    members: frozenset[str]

    def is_over(self, professional: str | None, structure: str | None, source: str) -> bool:
        """Tell whether it counts on the slots of a publisher's professional or structure."""
        mine = f"p:{professional}" in self.members or f"s:{structure}" in self.members
        return mine and self.source in (None, source)


class Turn(NamedTuple):
    """A limit in one of its periods, by the period's start in epoch seconds; ``child``: it counts children only."""

    limit: int
    start: int
    child: bool


Turns = tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Under:
    """Which limits count one request on each of n places.

    ``of`` is int64[n], a row of ``turns``, −1 where none does.
    """

    book: "LimitBook"
    turns: tuple[Turns, ...]
    of: npt.NDArray[np.int64]

    def at(self, row: int) -> Turns:
        """Return the limits that count on a place."""
        number = int(self.of[row])
        return self.turns[number] if number >= 0 else ()

    def taken(self, rows: npt.NDArray[np.intp]) -> "Under":
        """Return the same for some of the places."""
        return Under(self.book, self.turns, self.of[rows])

    def reached(self) -> npt.NDArray[np.bool_]:
        """Tell of each place whether a limit leaves nothing there."""
        none_left = [any(self.book.left(turn) <= 0 for turn in turns) for turns in self.turns]
        return np.array([*none_left, False])[self.of]  # the last one is for −1

    def priced(self, price: Mapping[Turn, int]) -> npt.NDArray[np.int64]:
        """Return what the limits of each place cost together, at prices of some."""
        return np.array([*(sum(price.get(t, 0) for t in turns) for turns in self.turns), 0], np.int64)[self.of]


class Room:
    """What the limits leave while places are dealt out one by one."""

    def __init__(self) -> None:
        self._used: Counter[Turn] = Counter()

    def fits(self, under: Under | None, row: int) -> bool:
        """Tell whether one more may have a place."""
        return under is None or all(under.book.left(turn) > self._used[turn] for turn in under.at(row))

    def take(self, under: Under | None, row: int) -> None:
        """Give somebody a place."""
        if under is not None:
            self._used.update(under.at(row))


@lru_cache(_PERIODS_KEPT)
def _start(period: str, zone: str, quarter: int) -> int:
    """The start of the period that a quarter of an hour lies in: no zone begins a day within one."""
    return int(period_start(period, zone, datetime.fromtimestamp(900 * quarter, UTC)).timestamp())


class LimitBook:
    """All limits and what they leave, kept by the ledger's news."""

    def __init__(self) -> None:
        self._limits: dict[int, Limit] = {}
        self._left: dict[tuple[int, int], tuple[int, int]] = {}
        self._gone: dict[int, int] = {}
        self._over: dict[tuple[int, int], tuple[Limit, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._limits)

    def load(self, rows: Sequence[tuple[str, str]]) -> None:
        """Take in all limits from the ledger (see its ``limits``)."""
        for text, periods in rows:
            definition = orjson.loads(text)
            self.define(definition)
            for start, left in orjson.loads(periods):
                self.set_left(definition["id"], start, left, 0)

    def hear(self, kind: str, data: Any) -> None:
        """Take in news of the stream of places: ``limit`` or ``limit_left``."""
        if kind == "limit":
            self.define(data)
        else:
            for limit_id, start, left, version in data:
                self.set_left(limit_id, start, left, version)

    def define(self, document: Mapping[str, Any]) -> None:
        """Take in what a limit is now, or that it is gone; older news changes nothing."""
        limit_id, version = document["id"], document["version"]
        known = self._limits.get(limit_id)
        if max(known.version if known else -1, self._gone.get(limit_id, -1)) >= version:
            return
        self._over.clear()
        if document.get("gone"):
            self._gone[limit_id] = version
            self._limits.pop(limit_id, None)
            return
        self._limits[limit_id] = Limit(
            id=limit_id,
            version=version,
            counts=document["counts"],
            period=document["period"],
            zone=document["zone"],
            source=document["source"],
            members=frozenset(document["members"]),
        )

    def set_left(self, limit_id: int, start: int, left: int, version: int) -> None:
        """Take in what a limit leaves in a period; older news changes nothing."""
        if self._left.get((limit_id, start), (0, -1))[1] < version:
            self._left[limit_id, start] = (left, version)

    def left(self, turn: Turn) -> int:
        """Return how many more a limit lets in, as far as known: the ledger judges, so one where nothing is."""
        known = self._left.get((turn.limit, turn.start))
        return 1 if known is None else known[0]

    def under(
        self,
        site: npt.NDArray[np.integer[Any]],
        source: npt.NDArray[np.integer[Any]],
        start: npt.NDArray[np.int64],
        visit: npt.NDArray[np.bool_],
        names: tuple[Callable[[int], bytes], Callable[[int], str]],
        *,
        child: bool,
    ) -> Under | None:
        """Return which limits count a request on each of n places; None where none counts anywhere.

        Args:
            site: number of each place's site (int[n]), as ``names`` knows it.
            source: number of each place's source (int[n]).
            start: epoch seconds (int64[n]).
            visit: whether the professional comes to the patient (bool[n]).
            names: the JSON of a site, and the name of a source, by number.
            child: whether the request is for a child.
        """
        pairs = list(zip(site.tolist(), source.tolist(), strict=True))
        limited = {pair for pair in set(pairs) if self._limits_over(pair, names)}
        if not limited:
            return None
        numbers: dict[Turns, int] = {}
        of = np.full(len(pairs), -1, np.int64)
        for row, pair in enumerate(pairs):
            if pair in limited:
                turns = self._turns(self._over[pair], int(start[row]), visit=bool(visit[row]), child=child)
                of[row] = numbers.setdefault(turns, len(numbers)) if turns else -1
        return Under(self, tuple(numbers), of) if numbers else None

    def _limits_over(
        self, pair: tuple[int, int], names: tuple[Callable[[int], bytes], Callable[[int], str]]
    ) -> tuple[Limit, ...]:
        known = self._over.get(pair)
        if known is None:
            site, source = orjson.loads(names[0](pair[0])), names[1](pair[1])
            known = self._over[pair] = tuple(
                limit
                for limit in self._limits.values()
                if limit.is_over(site["professional"], site["structure"], source)
            )
        return known

    @staticmethod
    def _turns(limits: Sequence[Limit], start: int, *, visit: bool, child: bool) -> Turns:
        counting = {Counts.PATIENTS: True, Counts.VISITS: visit, Counts.CHILDREN: child}
        return tuple(
            Turn(limit.id, _start(limit.period, limit.zone, start // 900), limit.counts == Counts.CHILDREN)
            for limit in limits
            if counting[Counts(limit.counts)]
        )


def limits_between(
    listed: Sequence[Under | None], arc_request: npt.NDArray[np.int32], arc_slot: npt.NDArray[np.int32], capacity: Ints
) -> tuple[Limits | None, tuple[Turn, ...]]:
    """Pose the limits over the arcs of a problem to the solver.

    Limits on places nest as a rule (a professional's day in his centre's in the CPTS's) and become groups of the flow,
    the largest first; one that crosses those, or counts some patients only, becomes a packing row.

    Args:
        listed: of each request, on the places listed for it, in the order of its arcs.
        arc_request: row of the request of each arc (int32[A]), ascending.
        arc_slot: row of the slot of each arc (int32[A]).
        capacity: places left in each slot (int64[S]).

    Returns:
        The limits that can be reached here, or None; and the turn that each of their groups is.
    """
    slots_of: dict[Turn, set[int]] = {}
    arcs_of: dict[Turn, list[int]] = {}
    book, first = None, 0
    sizes = np.bincount(arc_request, minlength=len(listed)).tolist()
    for under, size in zip(listed, sizes, strict=True):
        if under is not None:
            book = under.book
            for at in (under.of >= 0).nonzero()[0].tolist():
                for turn in under.at(at):
                    arcs_of.setdefault(turn, []).append(first + at)
                    if not turn.child:
                        slots_of.setdefault(turn, set()).add(int(arc_slot[first + at]))
        first += size
    if book is None:
        return None, ()
    left = {turn: max(0, book.left(turn)) for turn in arcs_of}
    for turn, arcs in list(arcs_of.items()):
        seats = int(capacity[list(slots_of[turn])].sum()) if turn in slots_of else len(arcs)
        if left[turn] >= min(seats, len(set(arc_request[arcs].tolist()))):
            # nobody here can reach it
            del arcs_of[turn]
            slots_of.pop(turn, None)
    if not arcs_of:
        return None, ()
    inside = np.full(capacity.size, -1, np.int32)
    groups: list[tuple[Turn, int]] = []
    for turn in sorted(slots_of, key=lambda turn: (-len(slots_of[turn]), turn)):
        around = {int(inside[slot]) for slot in slots_of[turn]}
        if len(around) == 1:
            inside[list(slots_of[turn])] = len(groups)
            groups.append((turn, around.pop()))
            del arcs_of[turn]
    # outer groups have higher rows
    last = len(groups) - 1
    parents = [last - parent if parent >= 0 else -1 for _, parent in reversed(groups)]
    turns = tuple(turn for turn, _ in reversed(groups))
    rows = sorted(arcs_of)
    return Limits(
        slot_group=np.where(inside >= 0, last - inside, -1).astype(np.int32),
        group_parent=np.array(parents, np.int32),
        group_capacity=np.array([left[turn] for turn in turns], np.int64),
        group_step=np.zeros(len(turns), np.int64),
        group_load=np.zeros(len(turns), np.int64),
        row_arc=np.array([arc for turn in rows for arc in arcs_of[turn]], np.int32),
        row_of=np.repeat(np.arange(len(rows), dtype=np.int32), [len(arcs_of[turn]) for turn in rows]),
        row_capacity=np.array([left[turn] for turn in rows], np.int64),
    ), turns
