"""The fair human peer, written for the tests alone: ``fcfs-nearest`` on a day log, as lines of a result.

Whoever calls gets the nearest free place at once, firm; who finds none waits on a list that is tried again in order of
arrival at each change. Only the travel rule binds. Equally near places go by id, as in the format's sample, whose
result this reproduces line for line.
"""

import heapq
from itertools import groupby
from typing import Any

import numpy as np

from sas_matcher.replay.daylog import (
    DayLog,
    Instant,
    Request,
    RequestCancelled,
    RequestCreated,
    SlotCapacity,
    SlotPublished,
    SlotWithdrawn,
)

Json = dict[str, Any]


class _Peer:
    def __init__(self, day: DayLog, waiting_list: bool) -> None:
        self.day, self.waiting_list = day, waiting_list
        # equally near places go in the order of publication: rows in that order make a stable sort enough
        self.slots = [e.slot for e in day.slots]
        self.row = {s.id: n for n, s in enumerate(self.slots)}
        self.lat, self.lon = (np.radians([getattr(s, a) for s in self.slots]) for a in ("lat", "lon"))
        self.start = np.array([s.start for s in self.slots])
        self.tele = np.array([s.mode == "tele" for s in self.slots])
        kinds = [(s.profession, s.mode, frozenset(s.offers)) for s in self.slots]
        self.kinds = {kind: np.array([k == kind for k in kinds]) for kind in set(kinds)}
        self.left = [0] * len(self.slots)  # places not firm, below zero after a cut
        self.total = [0] * len(self.slots)
        self.shown = [False] * len(self.slots)
        self.fits: dict[str, dict[int, float]] = {}
        self.made: dict[str, RequestCreated] = {}
        self.firm: dict[str, tuple[int, Instant]] = {}
        self.refusals: dict[str, int] = {}
        self.waiting: list[str] = []
        self.lost: set[str] = set()
        self.refused: list[tuple[float, str]] = []
        self.changed: set[int] = set()

    def find(self, request: Request, t: float) -> dict[int, float]:
        """Rows that fit, with minutes of travel, nearest first."""
        fits = np.zeros(len(self.slots), np.bool_)
        for (profession, mode, offers), rows in self.kinds.items():
            if profession == request.profession and mode in request.modes and offers.issuperset(request.needs):
                fits |= rows
        fits &= (self.start >= t) & (self.start <= request.deadline)
        at = np.flatnonzero(fits)
        north, east = np.radians(request.lat), np.radians(request.lon)
        h = np.sin((self.lat[at] - north) / 2) ** 2
        h += np.cos(north) * np.cos(self.lat[at]) * np.sin((self.lon[at] - east) / 2) ** 2
        km = 2 * 6371.0088 * np.arcsin(np.sqrt(h))
        travel = np.where(self.tele[at], 0.0, self.day.meta.base_min + self.day.meta.min_per_km * km)
        inside = self.tele[at] | (km <= request.radius_km)
        at, travel = at[inside], travel[inside]
        order = np.argsort(travel, kind="stable")
        return dict(zip(at[order].tolist(), travel[order].tolist(), strict=True))

    def place(self, name: str, t: Instant, rows: Any = None) -> bool:
        fits = self.fits[name]
        for row in fits if rows is None else sorted(rows, key=lambda r: (fits[r], r)):
            if self.shown[row] and self.left[row] > 0 and self.start[row] - t >= 60 * fits[row]:
                self.left[row] -= 1
                self.firm[name] = (row, t)
                delay = self.slots[row].refused_after_min
                if delay is not None:
                    heapq.heappush(self.refused, (t + 60 * delay, name))
                return True
        return False

    def lose(self, name: str, refused: bool) -> None:
        """The practice cancels a booking: whoever held it waits again, whatever is left of the slot is gone."""
        row, _ = self.firm.pop(name)
        self.shown[row] = False
        self.refusals[name] = self.refusals.get(name, 0) + refused
        self.waiting.append(name)
        self.lost.add(name)

    def batch(self, t: Instant, events: list[Any]) -> None:
        new = []
        for event in events:
            match event:
                case SlotPublished(slot=slot):
                    row = self.row[slot.id]
                    self.shown[row], self.left[row], self.total[row] = True, slot.capacity, slot.capacity
                    self.changed.add(row)
                case SlotCapacity(slot_id=slot_id, capacity=places):
                    row = self.row[slot_id]
                    self.left[row] += places - self.total[row]
                    self.total[row] = places
                    self.changed.add(row)
                case SlotWithdrawn(slot_id=slot_id):
                    self.shown[self.row[slot_id]] = False
                    for name in [n for n, (row, _) in self.firm.items() if row == self.row[slot_id]]:
                        self.lose(name, refused=False)
                case RequestCreated(request=request):
                    self.made[request.id] = event
                    self.fits[request.id] = self.find(request, t)
                    new.append(request.id)
                case RequestCancelled(request_id=name):
                    if name in self.firm:
                        row, _ = self.firm.pop(name)
                        self.left[row] += 1
                        self.changed.add(row)
                    self.waiting = [other for other in self.waiting if other != name]
                    new = [other for other in new if other != name]
        self.retry(t)
        for name in new:
            if not self.place(name, t):
                self.waiting.append(name)

    def retry(self, t: Instant) -> None:
        """Try the list again: those who lost a place for any, the others for what has changed."""
        room = {row for row in self.changed if self.shown[row] and self.left[row] > 0}
        if self.waiting_list and (room or self.lost):
            still = []
            for name in sorted(self.waiting, key=lambda name: self.made[name].t):
                lost, fits = name in self.lost, self.fits[name]
                hits = None if lost else [row for row in room if row in fits]
                if not (lost or hits) or not self.place(name, t, hits):
                    still.append(name)
            # whose deadline is over cannot be served any more
            self.waiting = [name for name in still if self.made[name].request.deadline >= t]
        self.changed.clear()
        self.lost.clear()

    def refuse_until(self, t: float) -> None:
        while self.refused and self.refused[0][0] <= t:
            at, name = heapq.heappop(self.refused)
            row, _ = self.firm.get(name, (None, None))
            if row is not None and self.slots[row].refused_after_min is not None:
                self.lose(name, refused=True)
                self.retry(Instant(at, self.day.meta.start.offset_s))

    def line(self, name: str) -> Json:
        status = "cancelled" if name in self.day.cancelled_at else "served" if name in self.firm else "unserved"
        row, at = self.firm.get(name, (None, None))
        return {
            "request_id": name,
            "status": status,
            "slot_id": None if row is None else self.slots[row].id,
            "firm_at": None if at is None else at.iso(),
            "first_promised_at": None,
            "moves": 0,
            "broken_promises": 0,
            "refusals": self.refusals.get(name, 0),
            "reason": "ALL_TAKEN" if status == "unserved" else None,
        }


def fcfs_nearest(day: DayLog, *, waiting_list: bool = True) -> list[Json]:
    """The lines of the result, in order of creation."""
    peer = _Peer(day, waiting_list)
    for t, events in groupby(day.events, key=lambda event: event.t):
        peer.refuse_until(t)
        peer.batch(t, list(events))
    peer.refuse_until(float("inf"))
    return [peer.line(event.request.id) for event in day.requests]
