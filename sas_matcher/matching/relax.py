"""What would help a request without a place: the smallest concessions that find one, each with the place it gives.

A concession changes one thing that was asked for: farther, later, another mode, a need given up, another profession
that may serve. Only free places count, under every other rule of eligibility. One concession is always tried before
two; two are tried only where no single one finds anything.

Sizes compare in minutes of travel, the unit in which places are compared too: what is farther counts the minutes on
the road beyond the radius, what is later the minutes beyond the deadline at the tier's own weight of waiting. What has
no minutes of its own counts ``MODE_MIN``, ``NEED_MIN`` or ``PROFESSION_MIN``. Sizes serve the order only: whoever
regulates decides what a patient can do without.
"""

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeAlias

import numpy as np

from sas_matcher.domain.vocabulary import DELAY_SPAN, MAY_SERVE, Delay, Mode, Offer
from sas_matcher.matching.candidates import Asking, Candidates, OpenRequest, find_all
from sas_matcher.matching.market import Market
from sas_matcher.matching.partitions import Floats, Ints
from sas_matcher.matching.terms import Terms

MOST_KM: Final = 150.0  # the widest radius that the API takes
LATEST_S: Final = DELAY_SPAN[Delay.H48].total_seconds()  # beyond, care is no longer "unscheduled": 48 h after the call
MODE_MIN: Final = 15.0  # our guess: a téléconsultation instead of a trip of 6 km
NEED_MIN: Final = 30.0  # our guess: twice another mode, as something is missing when the patient is there
PROFESSION_MIN: Final = 60.0  # our guess: twice a need, as it is other care
FIRST_MIN: Final = 15.0  # how far and late is looked at first, then WIDER times as far: few look at all of it
WIDER: Final = 4.0
SHOWN: Final = 4  # as many as alternatives


class Concession(StrEnum):
    """What is given up, from what changes the care least to what changes it most."""

    RADIUS = "radius"
    DEADLINE = "deadline"
    MODE = "mode"
    NEED = "need"
    PROFESSION = "profession"


CHILDREN: Final = frozenset({Offer.ENFANT.value, Offer.NOURRISSON.value})


@dataclass(frozen=True, slots=True)
class Relaxation:
    """One way to a place.

    Attributes:
        concessions: what is given up, one or two, in the order of ``Concession``.
        request: the request as it would have to be for the place: the least radius (km) and deadline (epoch s).
        candidates: the places that this would open up (or more).
        row: the one to take, into ``candidates``.
        size_min: how much is given up, in minutes of travel.
    """

    concessions: tuple[Concession, ...]
    request: OpenRequest
    candidates: Candidates
    row: int
    size_min: float


@dataclass(frozen=True, slots=True)
class _Change:
    """A request in which something without a measure was changed (or nothing), and how much that counts."""

    concession: Concession | None
    request: OpenRequest
    base_min: float


def _changes(request: OpenRequest) -> Iterator[_Change]:
    """Yield the request with one thing changed that has no measure: mode, need, profession."""
    for mode in Mode:
        if mode not in request.modes:
            yield _Change(Concession.MODE, replace(request, modes=(mode.value,)), MODE_MIN)
    for need in dict.fromkeys(request.needs):
        rest = tuple(other for other in request.needs if other != need)
        yield _Change(Concession.NEED, replace(request, needs=rest), NEED_MIN)
    for other in may_serve(request):
        # a specialty is one of the profession that was asked for
        yield _Change(Concession.PROFESSION, replace(request, profession=other, specialty=None), PROFESSION_MIN)


def may_serve(request: OpenRequest) -> list[str]:
    """Return the professions that may serve a request instead of its own (``MAY_SERVE``)."""
    child = not CHILDREN.isdisjoint(request.needs)
    return [str(other) for other, only_children in MAY_SERVE.get(request.profession, ()) if child or not only_children]


def relaxations(
    market: Market,
    request: OpenRequest,
    found: Candidates,
    now: float,
    terms: Terms,
    taken: Mapping[int, int] | None = None,
) -> list[Relaxation]:
    """Return the smallest concessions that would find a free place for a request, at most SHOWN, the smallest first.

    Args:
        market: the live places.
        request: a request that got no place.
        found: what it could have had as it is (others need it more): no concession.
        now: the instant, epoch seconds.
        terms: costs; a place at a cost of the tier's value or more is no help.
        taken: seats that the batch in hand has given to others, by slot.

    Returns:
        For each single concession the place of least (size, cost, slot id); where there is none at all, the same for
        two concessions of which at least one is farther or later. Equal sizes: the cheaper place first.
    """
    search = _Search(market, now, terms, taken or {}, found.slot_id)
    same, others = _Change(None, request, 0.0), list(_changes(request))
    singles = [search.smallest(same, farther=True), search.smallest(same, later=True)]
    helping = search.together(singles + [search.smallest(change) for change in others])
    if not helping:
        doubles = [search.smallest(same, farther=True, later=True)]
        for change in others:
            doubles += [search.smallest(change, farther=True), search.smallest(change, later=True)]
        helping = search.together(doubles)
    helping.sort(key=lambda one: (one.size_min, int(one.candidates.cost[one.row]), one.concessions))
    return helping[:SHOWN]


_Steps: TypeAlias = Generator[Asking, Candidates | None, Relaxation | None]
"""Looks for one kind of concession: asks for places, step by step, and is sent what there are (nothing at first)."""


@dataclass(frozen=True, slots=True)
class _Search:
    """Looks for the smallest concession of each kind in one market at one instant."""

    market: Market
    now: float
    terms: Terms
    taken: Mapping[int, int]
    without_concession: Ints

    def together(self, kinds: Sequence[_Steps]) -> list[Relaxation]:
        """Take the steps of several kinds at once, as places are found for all together; returns what was found."""
        helping: list[Relaxation] = []
        found: Sequence[Candidates | None] = [None] * len(kinds)
        while kinds:
            asked: list[tuple[_Steps, Asking]] = []
            for steps, places in zip(kinds, found, strict=True):
                try:
                    asked.append((steps, steps.send(places)))
                except StopIteration as done:
                    if done.value is not None:
                        helping.append(done.value)
            kinds = [steps for steps, _ in asked]
            found = find_all(self.market, [asking for _, asking in asked], self.now)
        return helping

    def smallest(self, change: _Change, *, farther: bool = False, later: bool = False) -> _Steps:
        """Find the least of a kind, in a box of places that grows: all in it are smaller than any outside."""
        request = change.request
        weight = self.terms.tiers[request.tier].wait_weight
        most_km = (
            max(MOST_KM, request.radius_km) if farther and set(request.modes) != {Mode.TELE} else request.radius_km
        )
        latest = max(request.deadline, request.created_at + LATEST_S) if later else request.deadline
        if (farther and most_km == request.radius_km) or (later and latest == request.deadline):
            return None
        # two are looked for where one finds nothing: few places are there, or hardly any is free; then the whole box
        two = farther + later + (change.concession is not None) > 1
        reach = math.inf if two or not (farther or later) else FIRST_MIN
        while True:
            radius_km = min(most_km, request.radius_km + _per(reach, self.terms.min_per_km))
            deadline = min(latest, request.deadline + 60 * _per(reach, weight))
            whole = radius_km == most_km and deadline == latest
            found = yield Asking(request, self.terms, radius_km, deadline)
            if found is not None and len(found):
                size = self._sizes(request, found, weight)
                row = self._least(request, found, size)
                if row is not None:
                    return self._relaxation(change, found, row, float(size[row]))
            if whole:
                return None
            # later in the same circle there are few places to look at, and where none is free none as a rule follows
            reach = reach * WIDER if farther else math.inf

    def _sizes(self, request: OpenRequest, found: Candidates, weight: float) -> Floats:
        """What each place asks for beyond radius and deadline, in minutes of travel."""
        beyond = np.maximum(0.0, found.km - request.radius_km) * self.terms.min_per_km
        late: Floats = np.maximum(0.0, found.start - request.deadline) / 60 * weight
        return np.asarray(beyond + late)

    def _least(self, request: OpenRequest, found: Candidates, size: Floats) -> int | None:
        """The free place of least (size, cost, slot id) that is worth it."""
        worth = found.cost < self.terms.tiers[request.tier].value
        if self.without_concession.size:
            worth &= ~np.isin(found.slot_id, self.without_concession)
        rows = worth.nonzero()[0]
        order = rows[np.lexsort((found.slot_id[rows], found.cost[rows], size[rows]))]
        for row in order.tolist():
            if found.left[row] > self.taken.get(int(found.slot_id[row]), 0):
                return int(row)
        return None

    def _relaxation(self, change: _Change, found: Candidates, row: int, size: float) -> Relaxation | None:
        request, concessions = change.request, []
        if found.km[row] > request.radius_km:
            concessions.append(Concession.RADIUS)
        if found.start[row] > request.deadline:
            concessions.append(Concession.DEADLINE)
        if change.concession is not None:
            concessions.append(change.concession)
        least = replace(
            request,
            radius_km=max(request.radius_km, float(found.km[row])),
            deadline=max(request.deadline, float(found.start[row])),
        )
        return Relaxation(tuple(concessions), least, found, row, change.base_min + size)


def _per(minutes: float, weight: float) -> float:
    """How much of something of this weight in minutes makes so many minutes."""
    return minutes / weight if weight > 0 else math.inf
