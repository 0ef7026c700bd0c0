"""Limits of practices, and times of professionals that exclude each other, as a batch has to keep them."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sas_matcher.matching.limits import NOBODY, Ints, LimitBook, Under
from solver import Limits, overlap_cliques


class Fair(NamedTuple):
    """Loads to be spread: the professional of each slot (int[S], −1 for nobody), and what one patient more costs."""

    professional: Ints
    step: int


class Places(Protocol):
    """Places that one request could have, row by row (see ``candidates.Candidates``)."""

    @property
    def start(self) -> Ints: ...  # noqa: D102 - epoch seconds
    @property
    def professional(self) -> Ints: ...  # noqa: D102 - number of who receives
    @property
    def until(self) -> Ints: ...  # noqa: D102 - until when he sees nobody else
    @property
    def under(self) -> Under | None: ...  # noqa: D102


class Room:
    """What the limits and the professionals' times leave while places are dealt out one by one."""

    def __init__(self, *, exclusive_times: bool) -> None:
        self._exclusive = exclusive_times
        self._used: Counter[int] = Counter()
        self._busy: dict[int, list[tuple[int, int]]] = {}

    def fits(self, places: Places, row: int, instead_of: int = -1) -> bool:
        """Tell whether one more may have a place; ``instead_of``: the row that he gives back for it, −1 for none."""
        under = places.under
        if under is not None:
            own = under.at(instead_of) if instead_of >= 0 else ()
            if any(under.book.left(turn) <= self._used[turn] - (turn in own) for turn in under.at(row)):
                return False
        busy = self._busy.get(int(places.professional[row])) if self._busy else None
        if busy is None:
            return True
        start, until = int(places.start[row]), int(places.until[row])
        if until == start:
            return True
        given_back = None
        if instead_of >= 0 and places.professional[instead_of] == places.professional[row]:
            given_back = int(places.start[instead_of]), int(places.until[instead_of])
        return all(end <= start or until <= begin or (begin, end) == given_back for begin, end in busy)

    def take(self, places: Places, row: int) -> None:
        """Give somebody a place."""
        if places.under is not None:
            self._used.update(places.under.at(row))
        if self._exclusive and (until := int(places.until[row])) > (start := int(places.start[row])):
            self._busy.setdefault(int(places.professional[row]), []).append((start, until))


def overlapping(professional: Ints, start: Ints, until: Ints) -> list[npt.NDArray[np.intp]]:
    """Sets of slots (rows) of which one professional can have one patient at the most: they share an instant.

    Args:
        professional: int[n], who receives; −1 for nobody named.
        start: int[n], epoch seconds.
        until: int[n], until when he sees nobody else; the start where he may.
    """
    alone = (until > start).nonzero()[0]
    order = alone[np.lexsort((start[alone], professional[alone]))]
    doctor = professional[order]
    meets = (doctor[1:] == doctor[:-1]) & (start[order][1:] < until[order][:-1])
    if not meets.any():
        return []
    rows = alone[np.isin(professional[alone], doctor[:-1][meets])]
    return [rows[clique] for clique in overlap_cliques(professional[rows], start[rows], until[rows])]


def limits_between(
    listed: Sequence[Under | None],
    arc_request: npt.NDArray[np.int32],
    arc_slot: npt.NDArray[np.int32],
    capacity: Ints,
    cliques: Sequence[npt.NDArray[np.intp]] = (),
    fair: Fair | None = None,
) -> tuple[Limits | None, tuple[int, ...]]:
    """Pose the limits over the arcs of a problem to the solver.

    Limits on places nest as a rule (a professional's day in his centre's in the CPTS's) and become groups of the flow,
    the largest first; one that crosses those, or counts some patients only, becomes a packing row.

    Args:
        listed: of each request, on the places listed for it, in the order of its arcs.
        arc_request: row of the request of each arc (int32[A]), ascending.
        arc_slot: row of the slot of each arc (int32[A]).
        capacity: places left in each slot (int64[S]).
        cliques: sets of slots of which one can be given at the most, each a packing row (see ``overlapping``).
        fair: makes each further patient of one professional dearer, where his places nest with the limits.

    Returns:
        The limits that can be reached here, or None; and the number of the turn that each of their groups is, 0 for one
        that only spreads loads.
    """
    book = next((under.book for under in listed if under is not None), None)
    arcs_of: dict[int, Ints] = {}
    wanted: list[_Group] = []
    if book is not None:
        arcs, turns = _pairs(listed, arc_request)
        binding = _reachable(book, arcs, turns, arc_request, arc_slot, capacity)
        arcs_of = _gathered(arcs, turns, sorted(binding, key=book.turns.__getitem__))
        for turn in arcs_of:
            if not book.turns[turn].child:
                slots = set(arc_slot[arcs_of[turn]].tolist())
                wanted.append(_Group(slots, max(0, book.left(turn)), 0, turn))
    groups, inside = _nested([*wanted, *([] if fair is None else _loads(fair, capacity))], capacity.size)
    in_flow = {group.turn for group, _ in groups}
    rows = [turn for turn in arcs_of if turn not in in_flow]
    row_arcs = [*(arcs_of[turn] for turn in rows), *(np.isin(arc_slot, clique).nonzero()[0] for clique in cliques)]
    if not groups and not row_arcs:
        return None, ()
    most = [*(max(0, book.left(turn)) for turn in rows if book is not None), *([1] * len(cliques))]
    # outer groups have higher rows
    last, ordered = len(groups) - 1, groups[::-1]
    limits = Limits(
        slot_group=np.where(inside >= 0, last - inside, -1).astype(np.int32),
        group_parent=np.array([last - parent if parent >= 0 else -1 for _, parent in ordered], np.int32),
        group_capacity=np.array([group.most for group, _ in ordered], np.int64),
        group_step=np.array([group.step for group, _ in ordered], np.int64),
        group_load=np.zeros(len(groups), np.int64),
        row_arc=np.concatenate([np.empty(0, np.int32), *row_arcs]).astype(np.int32),
        row_of=np.repeat(np.arange(len(row_arcs), dtype=np.int32), [arcs.size for arcs in row_arcs]),
        row_capacity=np.array(most, np.int64),
    )
    return limits, tuple(group.turn for group, _ in ordered)


class _Group(NamedTuple):
    """Slots that take ``most`` patients together, each one ``step`` dearer than the one before; ``turn`` says why."""

    slots: set[int]
    most: int
    step: int
    turn: int


def _loads(fair: Fair, capacity: Ints) -> list[_Group]:
    """The slots of each professional who could take two patients."""
    slots_of: dict[int, set[int]] = {}
    for slot, professional in enumerate(fair.professional.tolist()):
        if professional >= 0:
            slots_of.setdefault(professional, set()).add(slot)
    places = {professional: int(capacity[list(slots)].sum()) for professional, slots in slots_of.items()}
    return [_Group(slots_of[p], places[p], fair.step, NOBODY) for p in sorted(slots_of) if places[p] > 1]


def _nested(wanted: Sequence[_Group], slots: int) -> tuple[list[tuple[_Group, int]], npt.NDArray[np.int32]]:
    """Return those of the groups that nest, the largest first, each with the one around it, and each slot's innermost.

    −1 stands for none.
    """
    inside = [-1] * slots
    groups: list[tuple[_Group, int]] = []
    for group in sorted(wanted, key=lambda group: -len(group.slots)):
        around = {inside[slot] for slot in group.slots}
        if len(around) == 1:
            for slot in group.slots:
                inside[slot] = len(groups)
            groups.append((group, around.pop()))
    return groups, np.array(inside, np.int32)


def _pairs(listed: Sequence[Under | None], arc_request: npt.NDArray[np.int32]) -> tuple[Ints, Ints]:
    """Arcs and the turns that count on them, pair by pair."""
    arcs, turns = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    first = 0
    for under, size in zip(listed, np.bincount(arc_request, minlength=len(listed)).tolist(), strict=True):
        if under is not None:
            counting = under.turns()
            row, column = (counting != NOBODY).nonzero()
            arcs.append(first + row)
            turns.append(counting[row, column])
        first += size
    return np.concatenate(arcs), np.concatenate(turns)


def _gathered(arcs: Ints, turns: Ints, wanted: Sequence[int]) -> dict[int, Ints]:
    """The arcs of some turns, in their order."""
    order = turns.argsort(kind="stable")
    numbers = np.array(wanted, np.int64)
    ordered = turns[order]
    first, end = ordered.searchsorted(numbers), ordered.searchsorted(numbers, "right")
    bounds = zip(numbers.tolist(), first.tolist(), end.tolist(), strict=True)
    return {turn: arcs[order[low:high]] for turn, low, high in bounds}


def _reachable(
    book: LimitBook,
    arcs: Ints,
    turns: Ints,
    arc_request: npt.NDArray[np.int32],
    arc_slot: npt.NDArray[np.int32],
    capacity: Ints,
) -> Collection[int]:
    """The turns that leave fewer than the requests, or the seats, that could come under them."""

    def sums(of: npt.NDArray[np.int32], weight: Ints | None) -> Ints:
        """Each turn's sum over what its arcs lead to, each counted once."""
        base = np.int64(of.max(initial=0)) + 1
        pairs = _distinct(turns * base + of[arcs])
        weights = None if weight is None else weight[pairs % base]
        return np.bincount(pairs // base, weights, minlength=len(book.turns)).astype(np.int64)

    could = np.minimum(sums(arc_request, None), sums(arc_slot, capacity))
    numbers = _distinct(turns)
    binding: list[int] = numbers[book.lefts(numbers) < could[numbers]].tolist()
    return binding


def _distinct(values: Ints) -> Ints:
    """Return the values, sorted, each once: ``np.unique`` loads a tenth of a second of numpy for it, the first time."""
    ordered = np.sort(values)
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))[: ordered.size]]
