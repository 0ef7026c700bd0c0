"""Travel estimate: great-circle distance, and minutes by car from it, on numbers or numpy arrays.

No road is known here: every figure is an estimate and says so (``TRAVEL_SOURCE``). Rivers, mountains and
water are where it fails; crossings of the sea are refused by landmass (``adapters.geo.landmass``), not by
distance.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

EARTH_RADIUS_KM = 6371.0088
"""Mean Earth radius (IUGG R1), fixed by the day-log format."""

KM_PER_DEGREE: Final = math.pi * EARTH_RADIUS_KM / 180
"""Of latitude."""

_SLACK: Final = 1 + 1e-9  # boxes around a circle must not lose its rim to rounding

BASE_MIN = 3.0
"""Minutes to set out and to park: day-log format ``sas-daylog/1``."""

MIN_PER_KM = 1.95
"""Minutes per straight kilometre: day-log format. Equal to a detour of 1.3 at 40 km/h."""

TRAVEL_SOURCE = "estimate"

LOW_FACTOR = (1.2 / 50.0) / (1.3 / 40.0)
"""≈ 0.74: detour 1.2 at 50 km/h instead of 1.3 at 40. Detours of 1.2 to 1.4 are published for France and its
neighbours; the speeds 30 and 50 km/h (town, open country) are our guess."""

HIGH_FACTOR = (1.4 / 30.0) / (1.3 / 40.0)
"""≈ 1.44: detour 1.4 at 30 km/h; see ``LOW_FACTOR``."""

Number = npt.ArrayLike
Km = TypeVar("Km", float, npt.NDArray[np.float64])


def haversine_km(lat1: Number, lon1: Number, lat2: Number, lon2: Number) -> npt.NDArray[np.float64]:
    """Great-circle distance in km between points in degrees; arguments broadcast against each other.

    Returns:
        float64 of the broadcast shape (a 0-d array for four numbers).
    """
    la1, lo1, la2, lo2 = [np.radians(degrees, dtype=np.float64) for degrees in (lat1, lon1, lat2, lon2)]
    h = np.sin((la2 - la1) / 2.0) ** 2 + np.cos(la1) * np.cos(la2) * np.sin((lo2 - lo1) / 2.0) ** 2
    return np.asarray(2.0 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(h)))


def travel_min(km: Number, base_min: float = BASE_MIN, min_per_km: float = MIN_PER_KM) -> npt.NDArray[np.float64]:
    """Estimated minutes by car over ``km`` straight kilometres: ``base_min + min_per_km · km``.

    Téléconsultation has no travel: callers set it to 0 for mode ``tele``.
    """
    return np.asarray(base_min + min_per_km * np.asarray(km, dtype=np.float64))


def travel_range_min(km: Km, base_min: float = BASE_MIN, min_per_km: float = MIN_PER_KM) -> tuple[Km, Km]:
    """Honest range around ``travel_min``: (low, high) minutes, the part on the road scaled, the base kept.

    Not a confidence interval: it spans the detours and speeds named at ``LOW_FACTOR`` and ``HIGH_FACTOR``.
    """
    return base_min + min_per_km * LOW_FACTOR * km, base_min + min_per_km * HIGH_FACTOR * km


class Box(NamedTuple):
    """What holds a circle, in degrees."""

    south: float
    north: float
    west: float
    east: float


def box_around(lat: float, lon: float, radius_km: float) -> Box:
    """Return the box around a circle; none of it is lost to rounding."""
    d_lat = _SLACK * radius_km / KM_PER_DEGREE
    # meridians converge: a kilometre is more degrees of longitude, most at the circle's far side
    d_lon = d_lat / math.cos(math.radians(min(89.0, abs(lat) + d_lat)))
    return Box(lat - d_lat, lat + d_lat, lon - d_lon, lon + d_lon)
