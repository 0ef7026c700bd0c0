"""A day log as an independent judge of replays reads it: each question of the rules answered from the file alone.

Like ``lawful`` it shares nothing with ``matching`` and ``solver``.
"""

import math
from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import Final

from sas_matcher.replay.daylog import DayLog, Request, RequestCreated, Slot, SlotPublished

EARTH_RADIUS_KM: Final = 6371.0088
"""Fixed by the format."""

EPSILON: Final = 1e-6
"""Slack in km and minutes for the last digits of other people's sines."""


def distance_km(request: Request, slot: Slot) -> float:
    """Great-circle distance in km (haversine)."""
    north, south = math.radians(request.lat), math.radians(slot.lat)
    east = math.radians(slot.lon - request.lon)
    h = math.sin((south - north) / 2) ** 2 + math.cos(north) * math.cos(south) * math.sin(east / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(h))


class Facts:
    """A day log with what the rules ask of it, each question answered from the file alone."""

    def __init__(self, day: DayLog) -> None:
        self.meta = day.meta
        self.terms = {t.tier: t for t in day.meta.tiers}
        # the most urgent tier is the one that may wait least
        self.rank = {t.tier: t.max_delay_min for t in day.meta.tiers}
        self.requests = {event.request.id: event for event in day.requests}
        self.slots = {event.slot.id: event for event in day.slots}
        self.of_profession: dict[str, list[SlotPublished]] = {}
        for event in day.slots:
            self.of_profession.setdefault(event.slot.profession, []).append(event)
        for ordered in self.of_profession.values():
            ordered.sort(key=lambda published: published.slot.start)
        self._fitting: dict[str, list[SlotPublished]] = {}
        self.cancelled_at = day.cancelled_at
        self.withdrawn_at = day.withdrawn_at
        self.steps = day.capacities

    def travel_min(self, request: Request, slot: Slot) -> float:
        """Minutes to get there by the format's own formula; none for a téléconsultation."""
        if slot.mode == "tele":
            return 0.0
        return self.meta.base_min + self.meta.min_per_km * distance_km(request, slot)

    def fitting(self, made: RequestCreated) -> list[SlotPublished]:
        """Every slot that fits whatever the hour of booking, by start; phantom and withdrawn ones included."""
        request = made.request
        found = self._fitting.get(request.id)
        if found is None:
            ordered = self.of_profession.get(request.profession, [])
            low = bisect_left(ordered, made.t, key=lambda p: p.slot.start)
            high = bisect_right(ordered, request.deadline, key=lambda p: p.slot.start)
            found = [
                p
                for p in ordered[low:high]
                if p.slot.mode in request.modes
                and set(request.needs).issubset(p.slot.offers)
                and (p.slot.mode == "tele" or distance_km(request, p.slot) <= request.radius_km + EPSILON)
            ]
            self._fitting[request.id] = found
        return found

    def reachable(self, made: RequestCreated) -> list[SlotPublished]:
        """Those of the fitting slots that could be made firm in time at some instant."""

        def lead(p: SlotPublished) -> float:
            return p.slot.start - max(made.t, p.t)

        return [p for p in self.fitting(made) if lead(p) >= 60 * self.travel_min(made.request, p.slot)]

    def misfit(self, made: RequestCreated, published: SlotPublished) -> str | None:
        """Why the slot is not for this request; None when it is."""
        if published in self.fitting(made):
            return None
        request, slot = made.request, published.slot
        causes = (
            (slot.profession != request.profession, "le créneau est d'une autre profession"),
            (slot.mode not in request.modes, "le mode du créneau n'est pas demandé"),
            (not set(request.needs).issubset(slot.offers), "le créneau n'offre pas tout ce qui est demandé"),
            (slot.start < made.t, "le créneau commence avant la demande"),
            (slot.start > request.deadline, "le créneau commence après l'échéance"),
        )
        return next((text for holds, text in causes if holds), "le créneau est hors du rayon")

    def capacity(self, slot_id: str, at: float) -> int:
        """Places in all once the batch of the instant ``at`` is read; 0 before the publication."""
        steps = self.steps[slot_id]
        number = bisect_right(steps, at, key=lambda step: step[0])
        return steps[number - 1][1] if number else 0

    def shown(self, slot_id: str, at: float) -> bool:
        """Whether the slot is on the market, phantom or not, after the batch of the instant ``at``."""
        return self.slots[slot_id].t <= at < self.withdrawn_at.get(slot_id, math.inf)

    def unsteady(self, slot_id: str) -> bool:
        """Whether its practice may have taken places of the slot away again."""
        counts = [count for _, count in self.steps[slot_id]]
        shrinks = any(after < before for before, after in pairwise(counts))
        return shrinks or slot_id in self.withdrawn_at or self.slots[slot_id].slot.refused_after_min is not None
