"""The open requests of a matcher, each in the one place that says what happens to it next."""

import asyncio
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from sas_matcher.domain.vocabulary import Mode
from sas_matcher.matching.candidates import OpenRequest
from sas_matcher.matching.places import Spot
from sas_matcher.matching.terms import TIER_RANK
from sas_matcher.travel import KM_PER_DEGREE

BATCH: Final = 1_000  # what is proven optimal within `deciding.DECIDE_S` on 10 000 places
LOSSES: Final = 5  # lost seats in a row before a request waits for the next change


class OpenRequests:
    """Open requests by what they wait for.

    Attributes:
        new: the next batch.
        batch: the batch being decided, without those that were decided, closed or changed meanwhile.
        waiting: those that found no place; a change of places that may help brings them back.
        at_desk: those that a desk decides: they wait there, or are promised.
        for_mt: those whose médecin traitant has been asked and has time to answer.
        told: those that know that there is no place now.
        arriving: of those that the ledger may not have yet what is to be written of them (``request_row`` as JSON).
        alone: of the new those that are decided by themselves.
        claimed: those among them that a claim may have written, whatever was heard of it.
    """

    def __init__(self, work: asyncio.Event) -> None:
        self._work = work
        self.new: dict[str, OpenRequest] = {}
        self.batch: dict[str, OpenRequest] = {}
        self.waiting: dict[str, OpenRequest] = {}
        self.at_desk: dict[str, OpenRequest] = {}
        self.for_mt: dict[str, OpenRequest] = {}
        self.told: set[str] = set()
        self.arriving: dict[str, str] = {}
        self.claimed: set[str] = set()
        self.alone: set[str] = set()
        self._losses: dict[str, int] = {}
        self._freed: list[Spot] = []  # places freed while a batch is decided

    def __len__(self) -> int:
        return len(self.new) + len(self.waiting) + len(self.at_desk) + len(self.for_mt)

    def __iter__(self) -> Iterator[OpenRequest]:
        """All but those of the batch."""
        return iter([*self.new.values(), *self.waiting.values(), *self.at_desk.values(), *self.for_mt.values()])

    def version(self, request_id: str) -> int:
        """The version that is known of a request, 0 for none."""
        places = (self.new, self.waiting, self.batch, self.at_desk, self.for_mt)
        return next((request.version for place in places if (request := place.get(request_id)) is not None), 0)

    def add(self, request: OpenRequest) -> None:
        """A request wants to be decided."""
        self.new[request.id] = request
        self._work.set()

    def arrive(self, request: OpenRequest, row: str) -> None:
        """A request that the ledger may not have yet wants to be decided."""
        self.arriving[request.id] = row
        self.add(request)

    def claiming(self, request_ids: Iterable[str]) -> dict[str, str]:
        """A claim is sent for these; returns what is to be written of those that arrive."""
        arriving = {name: self.arriving[name] for name in request_ids if name in self.arriving}
        self.claimed.update(arriving)
        return arriving

    def written(self, request_id: str) -> None:
        """The ledger has a request."""
        self.arriving.pop(request_id, None)
        self.claimed.discard(request_id)

    def unwritten(self, before: float) -> list[str]:
        """Return those made before an instant that the ledger cannot have got from here."""
        if not self.arriving:
            return []
        mine = self.arriving.keys() - self.claimed
        return [r.id for r in self if r.id in mine and r.created_at < before]

    def wait_for_mt(self, request: OpenRequest) -> None:
        """A request waits for its médecin traitant's answer until ``mt_until``; nothing else is decided for it."""
        self.for_mt[request.id] = request
        self._work.set()  # whoever sleeps until the next instant that is due has to know of this one

    def stop_waiting(self, now: float) -> None:
        """Let those whose médecin traitant had his time be decided."""
        for request in [r for r in self.for_mt.values() if r.mt_until is None or r.mt_until <= now]:
            self.add(self.for_mt.pop(request.id))

    def due(self) -> float:
        """When the next one stops waiting for its médecin traitant; infinite for none."""
        return min((r.mt_until for r in self.for_mt.values() if r.mt_until is not None), default=float("inf"))

    def drop(self, request_id: str) -> None:
        """What is known of a request is out of date."""
        for place in (self.new, self.waiting, self.batch, self.at_desk, self.for_mt):
            place.pop(request_id, None)
        self.told.discard(request_id)
        self.alone.discard(request_id)
        self._losses.pop(request_id, None)
        self.written(request_id)

    def clear(self) -> None:
        """Forget all but the batch being decided."""
        for place in (self.new, self.waiting, self.at_desk, self.for_mt):
            place.clear()
        self.alone.clear()
        self.arriving.clear()
        self.claimed.clear()

    def move_to_new(self, place: dict[str, OpenRequest], territory: str) -> None:
        """Let those of a territory go round again."""
        for request in [r for r in place.values() if r.territory == territory]:
            self.add(place.pop(request.id))

    # -- batches -------------------------------------------------------------------------------------------------

    def next_batch(self, territories: Container[str], with_desk: Container[str]) -> list[OpenRequest]:
        """Take the new ones of some territories when there are too many for one batch: the most urgent first.

        Of equals the territories take turns, each by age: a crisis in one of them does not make the others wait.
        A promise is a desk's: it waits until its territory has one.
        """
        ready = [
            request
            for request in self.new.values()
            if request.territory in territories and (request.promised is None or request.territory in with_desk)
        ]
        if by_itself := next((r for r in ready if r.id in self.alone), None):
            self.alone.discard(by_itself.id)
            ready = [by_itself]
        # in whichever order they were heard of: of two made at one instant a desk serves the first first
        ready.sort(key=lambda r: (r.created_at, r.id))
        if len(ready) > BATCH:
            turns = Counter[tuple[str, str]]()
            ranked = []
            for request in ready:
                turns[request.territory, request.tier] += 1
                ranked.append((TIER_RANK[request.tier], turns[request.territory, request.tier], request))
            ready = [request for *_, request in sorted(ranked, key=lambda entry: entry[:2])[:BATCH]]
        for request in ready:
            del self.new[request.id]
        return ready

    def take(self, request_ids: Iterable[str], promised: Mapping[str, int]) -> list[OpenRequest]:
        """Take these, wherever they wait.

        Args:
            request_ids: who is asked for.
            promised: the slot behind the promise of whom a desk has already, where he was heard to have one.
        """
        taken = []
        for name in request_ids:
            place = next((p for p in (self.new, self.waiting, self.for_mt, self.at_desk) if name in p), None)
            if place is self.at_desk:
                taken.append(replace(place.pop(name), promised=promised.get(name)))
            elif place is not None:
                taken.append(place.pop(name))
        return taken

    def begin(self, batch: Sequence[OpenRequest]) -> None:
        """These are being decided."""
        self.batch = {request.id: request for request in batch}

    def end(self) -> None:
        """They are: what was freed meanwhile, whoever found no place has not seen."""
        freed, self._freed, self.batch = self._freed, [], {}
        self.wake(freed)

    def again(self, requests: Iterable[OpenRequest]) -> None:
        """Let requests of the batch go round again, unless they were closed or changed meanwhile."""
        for request in requests:
            if request.id in self.batch:
                self.add(request)

    def put_off(self, requests: Sequence[OpenRequest]) -> None:
        """A batch could not be decided: each of its requests by itself shows whether it was the one, which then waits.

        A change of places brings that one back, as whoever found none.
        """
        left = [request for request in requests if request.id in self.batch]
        for request in left:
            if len(left) == 1:
                self.waiting[request.id] = request
            else:
                self.alone.add(request.id)
                self.add(request)

    def park(self, request: OpenRequest) -> None:
        """Let a request of the batch wait for a change of places, unless it was closed or changed meanwhile."""
        if request.id in self.batch:
            self.waiting[request.id] = request

    def settle(self, request: OpenRequest, verdict: str, *, comes_back: bool) -> None:
        """Put a request of the batch where the ledger's verdict wants it; some policies have no waiting list."""
        self.written(request.id)
        here = self.batch.pop(request.id, None) is not None  # else it was closed or changed meanwhile
        if verdict == "seat_lost":
            lost = self._losses.get(request.id, 0) + 1
            self._losses[request.id] = lost
            if here and lost < LOSSES:
                self.add(request)
            elif here and comes_back:
                self.waiting[request.id] = request
            return
        self._losses.pop(request.id, None)
        if verdict != "told":
            self.told.discard(request.id)
        elif here:
            self.told.add(request.id)
            if comes_back:
                # the ledger counted this as a version of its own
                self.waiting[request.id] = replace(request, version=request.version + 1)

    def settle_at_desk(self, request: OpenRequest, verdict: str, slot_id: int | None) -> None:
        """Note what the ledger said of a desk's decision; ``slot_id``: the seat that was asked for."""
        self.written(request.id)
        self._losses.pop(request.id, None)
        here = request.id in self.at_desk
        if verdict == "told" and here:
            self.told.add(request.id)
        else:
            self.told.discard(request.id)
        if verdict in ("held", "told_firm", "not_waiting"):
            self.at_desk.pop(request.id, None)
        elif verdict == "seat_lost":
            self._work.set()
        elif here:
            behind = slot_id if verdict in ("promised", "moved") else None
            self.at_desk[request.id] = replace(
                request,
                version=request.version + 1,
                promised=behind,
                was_promised=request.was_promised or behind is not None,
            )

    # -- places --------------------------------------------------------------------------------------------------

    def wake(self, spots: Sequence[Spot]) -> None:
        """Let the waiting requests that one of these places might help go round again."""
        if self.batch:
            self._freed += spots
        if not (self.waiting and spots):
            return
        by_kind: dict[tuple[str, str], list[tuple[float, float, int]]] = {}
        for spot in spots:
            by_kind.setdefault((spot.profession, spot.mode), []).append((spot.lat, spot.lon, spot.start))
        arrays = {kind: np.array(places) for kind, places in by_kind.items()}
        for request in [r for r in self.waiting.values() if _may_help(arrays, r)]:
            self.add(self.waiting.pop(request.id))


def _may_help(
    arrays: Mapping[tuple[str, str], np.ndarray[tuple[int, int], np.dtype[np.float64]]], r: OpenRequest
) -> bool:
    for mode in r.modes:
        places = arrays.get((r.profession, mode))
        if places is None:
            continue
        might = places[:, 2] <= r.deadline
        if mode != Mode.TELE:
            might &= np.abs(places[:, 0] - r.lat) <= r.radius_km / KM_PER_DEGREE
        if might.any():
            return True
    return False
