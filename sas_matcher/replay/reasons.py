"""Why a request of a day log stayed unserved: the first reason of the format that is true of the day's slots."""

import numpy as np

from sas_matcher.domain.vocabulary import Mode
from sas_matcher.replay.daylog import DayLog, RequestCreated
from sas_matcher.travel import haversine_km, travel_min


class Reasons:
    """Judges the requests of one day by the slots published before their deadlines (day log, *Command*)."""

    def __init__(self, day: DayLog) -> None:
        slots = [event.slot for event in day.slots]
        self._meta = day.meta
        self._published = np.array([float(event.t) for event in day.slots])
        self._start = np.array([float(slot.start) for slot in slots])
        self._lat = np.array([slot.lat for slot in slots])
        self._lon = np.array([slot.lon for slot in slots])
        self._profession = np.array([slot.profession for slot in slots], np.str_)
        self._mode = np.array([slot.mode for slot in slots], np.str_)
        self._offers = [frozenset(slot.offers) for slot in slots]

    def of(self, made: RequestCreated) -> str:
        """Return the reason code of a request that got no place.

        A slot counts as before the deadline when it could still be reached after the call and its own publication.
        """
        request = made.request
        rows = np.flatnonzero((self._published <= request.deadline) & (self._profession == request.profession))
        if not rows.size:
            return "NO_SLOT_FOR_PROFESSION"
        rows = rows[np.isin(self._mode[rows], request.modes)]
        if not rows.size:
            return "MODE_NOT_OFFERED"
        needs = frozenset(request.needs)
        rows = rows[[needs <= self._offers[row] for row in rows.tolist()]]
        if not rows.size:
            return "NEED_NOT_OFFERED"
        tele = self._mode[rows] == Mode.TELE
        km = haversine_km(request.lat, request.lon, self._lat[rows], self._lon[rows])
        near = tele | (km <= request.radius_km)
        rows, tele, km = rows[near], tele[near], km[near]
        if not rows.size:
            return "NO_SLOT_IN_RADIUS"
        start = self._start[rows]
        trip = np.where(tele, 0.0, 60 * travel_min(km, self._meta.base_min, self._meta.min_per_km))
        lead = start - np.maximum(float(made.t), self._published[rows])
        in_time = (start <= request.deadline) & (start >= made.t) & (lead >= trip)
        return "ALL_TAKEN" if in_time.any() else "NO_SLOT_BEFORE_DEADLINE"
