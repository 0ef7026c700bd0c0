"""Requests and slots as columns, and what each pair of them costs: the day log's feasibility on whole arrays.

Forecasts set hundreds of imagined requests against every published slot, so pairs are judged many at a time. The rules
are those of the day log (*Feasibility*, *Score*); the live path has its own, faster for one request (``engine``).
Times are seconds on any one clock, costs tenths of a minute.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from sas_matcher.matching.terms import UNITS_PER_MIN, Terms
from sas_matcher.travel import haversine_km, travel_min

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MODE_BITS: Final = {"cabinet": 1, "tele": 2, "visite": 4}
TELE: Final = MODE_BITS["tele"]


@dataclass(slots=True)
class Codes:
    """Small numbers for names, shared by the columns that are to be compared; any number of distinct offers."""

    names: dict[str, int] = field(default_factory=dict)
    needs: dict[frozenset[str], int] = field(default_factory=dict)
    offers: dict[frozenset[str], int] = field(default_factory=dict)
    _meets: Bools = field(default_factory=lambda: np.zeros((0, 0), np.bool_))

    def name(self, text: str | None) -> int:
        """A number for a name, −1 for none."""
        return -1 if text is None else self.names.setdefault(text, len(self.names))

    def specialty(self, text: str | None) -> int:
        """A number for a specialty, apart from other names; −1 for none."""
        return self.name(None if text is None else f"specialty {text}")

    def need(self, needs: Iterable[str]) -> int:
        """A number for a set of needs."""
        return self.needs.setdefault(frozenset(needs), len(self.needs))

    def offer(self, offers: Iterable[str]) -> int:
        """A number for a set of offers."""
        return self.offers.setdefault(frozenset(offers), len(self.offers))

    @property
    def meets(self) -> Bools:
        """``meets[need, offer]``: is every need offered."""
        if self._meets.shape != (len(self.needs), len(self.offers)):
            self._meets = np.array([[n <= o for o in self.offers] for n in self.needs], np.bool_).reshape(
                len(self.needs), len(self.offers)
            )
        return self._meets


class _Columns:
    """Rows of numbers that grow; ``self.<column>`` is an array of exactly the rows there are."""

    FLOATS: tuple[str, ...] = ()
    INTS: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._size = 0
        self._store: dict[str, npt.NDArray[Any]] = {
            **{name: np.empty(64, np.float64) for name in self.FLOATS},
            **{name: np.empty(64, np.int64) for name in self.INTS},
        }

    def __len__(self) -> int:
        return self._size

    def __getattr__(self, name: str) -> npt.NDArray[Any]:
        # only columns come here; asked for before there is a store (copies, pickles) there is none
        store = self.__dict__.get("_store", {})
        if name not in store:
            raise AttributeError(name)
        column: npt.NDArray[Any] = store[name]
        return column[: self._size]

    def append(self, **values: float) -> int:
        """Add a row; returns its number."""
        for name, value in values.items():
            column = self._store[name]
            if self._size == column.size:
                column = self._store[name] = np.concatenate((column, np.empty_like(column)))
            column[self._size] = value
        self._size += 1
        return self._size - 1

    def only(self, rows: npt.NDArray[Any]) -> Self:
        """A copy of some rows."""
        copy = type(self)()
        copy._size = len(rows)
        copy._store = {name: column[: self._size][rows] for name, column in self._store.items()}
        return copy


class Slots(_Columns):
    """Slots: where, when (``start``, ``published``), whose, how many places, and codes of what they are.

    ``specialty`` −1 for none; ``landmass`` as the gazetteer numbers what can be reached by road.
    """

    FLOATS = ("lat", "lon", "start", "published")
    INTS = ("profession", "mode", "offer", "professional", "capacity", "specialty", "landmass")


class Requests(_Columns):
    """Requests: where, when (``created``, ``deadline``), how far, and codes of what they need (specialty −1: any)."""

    FLOATS = ("lat", "lon", "created", "deadline", "radius_km", "value", "wait_weight")
    INTS = ("profession", "modes", "need", "mt", "tier", "specialty", "landmass")


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Feasible pairs as parallel arrays: rows of request and slot, travel in seconds, cost in tenths of a minute."""

    request: npt.NDArray[np.intp]
    slot: npt.NDArray[np.intp]
    travel_s: Floats
    cost: Floats

    @classmethod
    def join(cls, parts: Sequence["Pairs"]) -> "Pairs":
        """All pairs one after the other."""
        if not parts:
            none = np.empty(0, np.intp)
            return cls(none, none, np.empty(0), np.empty(0))
        columns = ([getattr(p, name) for p in parts] for name in ("request", "slot", "travel_s", "cost"))
        return cls(*(np.concatenate(column) for column in columns))

    def where(self, keep: Bools | npt.NDArray[np.intp]) -> "Pairs":
        """Those marked, or those rows."""
        return Pairs(self.request[keep], self.slot[keep], self.travel_s[keep], self.cost[keep])


def short_lists(pairs: Pairs, cheapest: int, spread: int) -> npt.NDArray[np.intp]:
    """Rows of the cheapest pairs of each request, and of ``spread`` more over the rest (matching study §3)."""
    if not pairs.request.size:
        return np.empty(0, np.intp)
    if np.bincount(pairs.request).max() <= cheapest:
        return np.arange(pairs.request.size)
    order = np.lexsort((pairs.slot, pairs.cost, pairs.request))
    request = pairs.request[order]
    first = np.flatnonzero(np.r_[True, request[1:] != request[:-1]])
    counts = np.diff(np.r_[first, request.size])
    rank = np.arange(request.size) - np.repeat(first, counts)
    stride = np.repeat(np.maximum(1, -(-(counts - cheapest) // spread)), counts)
    rows: npt.NDArray[np.intp] = order[(rank < cheapest) | ((rank - cheapest) % stride == 0)]
    return rows


def feasible(
    requests: Requests, i: npt.NDArray[np.intp], slots: Slots, j: npt.NDArray[np.intp], meets: Bools, terms: Terms
) -> Pairs:
    """Judge the pairs ``(i[n], j[n])`` (one of the two may have a single row): kept are those that could be firm.

    ``meets`` is that of the ``Codes`` of both.

    The lead is judged at the later of call and publication, as the hindsight optimum does; what the present adds to it
    is up to the caller. Pairs that cost more than the tier's value are left out.
    """
    if i.size != j.size:
        i, j = (np.broadcast_to(i, j.shape), j) if i.size == 1 else (i, np.broadcast_to(j, i.shape))
    keep = slots.profession[j] == requests.profession[i]
    keep &= (slots.mode[j] & requests.modes[i]) > 0
    keep &= meets[requests.need[i], slots.offer[j]]
    keep &= (slots.start[j] >= requests.created[i]) & (slots.start[j] <= requests.deadline[i])
    keep &= (requests.specialty[i] < 0) | (requests.specialty[i] == slots.specialty[j])
    i, j = i[keep], j[keep]
    tele = slots.mode[j] == TELE
    # no place across the sea
    here = tele | (slots.landmass[j] == requests.landmass[i])
    i, j, tele = i[here], j[here], tele[here]
    km = haversine_km(requests.lat[i], requests.lon[i], slots.lat[j], slots.lon[j])
    travel = np.where(tele, 0.0, travel_min(km, terms.base_min, terms.min_per_km))
    start = slots.start[j]
    lead = start - np.maximum(requests.created[i], slots.published[j])
    wait = (start - requests.created[i]) / 60.0
    own = (requests.mt[i] >= 0) & (requests.mt[i] == slots.professional[j])
    cost = UNITS_PER_MIN * (travel + requests.wait_weight[i] * wait - terms.mt_bonus_min * own)
    if terms.tele_bonus_min:
        cost -= UNITS_PER_MIN * terms.tele_bonus_min * tele
    if terms.mt_first:
        cost -= requests.value[i] * own  # worth twice a place: nothing else weighs as much within a tier
    keep = (tele | (km <= requests.radius_km[i])) & (lead >= 60.0 * travel) & (cost < requests.value[i])
    return Pairs(i[keep], j[keep], 60.0 * travel[keep], cost[keep])
