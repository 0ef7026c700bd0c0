"""Areas of communes for maps: of each, the points that are nearer to its town hall than to any other.

That is how the service itself names the commune of a point (``Gazetteer.nearest``), so a map drawn with these areas
shows each request where it was counted. They are no administrative outlines: none could be had whose licence is clear
and whose size an old PC loads at once. Where no neighbour ends an area (coasts, borders) a circle does.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import orjson

from adapters.geo.gazetteer import WHOLE_CITIES, Gazetteer

KM_PER_DEGREE: Final = 111.195  # of a great circle, mean Earth radius
MARGIN_DEG: Final = 0.25  # neighbours in other territories end an area as well
NEIGHBOURS: Final = 40  # a commune has six on average; the far ones of forty never cut anything off
CIRCLE: Final = 18  # corners of the circle
_WIDEST_KM, _LEAST_KM = 20.0, 1.0

Point = tuple[float, float]


def _clip(polygon: list[Point], x: float, y: float) -> list[Point]:
    """Cut off what is nearer to (x, y) than to the origin."""
    half = (x * x + y * y) / 2
    sides = [half - (px * x + py * y) for px, py in polygon]
    kept: list[Point] = []
    for number, (here, side) in enumerate(zip(polygon, sides, strict=True)):
        before, past = polygon[number - 1], sides[number - 1]
        if (side >= 0) != (past >= 0):
            share = past / (past - side)
            kept.append((before[0] + share * (here[0] - before[0]), before[1] + share * (here[1] - before[1])))
        if side >= 0:
            kept.append(here)
    return kept


def _area(others: Sequence[Point]) -> list[Point]:
    """Return the area around the origin, in km east and north, among other points sorted by distance."""
    # as wide as its neighbours are far: a village of the plain is not drawn out into the sea
    sixth = math.hypot(*others[min(5, len(others) - 1)]) if others else _WIDEST_KM
    radius = min(_WIDEST_KM, max(_LEAST_KM, sixth))
    corners = [2 * math.pi * n / CIRCLE for n in range(CIRCLE)]
    polygon = [(radius * math.cos(angle), radius * math.sin(angle)) for angle in corners]
    for x, y in others:
        if math.hypot(x, y) > 2 * max(math.hypot(*corner) for corner in polygon):
            break
        polygon = _clip(polygon, x, y)
    return polygon


def zones(gazetteer: Gazetteer, territory: str) -> bytes:
    """Return the areas of a territory's communes as JSON: ``[{"insee": "69382", "ring": [[lat, lon], …]}, …]``."""
    mine = gazetteer.communes_of(territory)
    if not mine:
        return b"[]"
    low, high = min(c.lat for c in mine) - MARGIN_DEG, max(c.lat for c in mine) + MARGIN_DEG
    left, right = min(c.lon for c in mine) - MARGIN_DEG, max(c.lon for c in mine) + MARGIN_DEG
    near = [c for c in gazetteer if low <= c.lat <= high and left <= c.lon <= right and c.code not in WHOLE_CITIES]
    lats, lons = np.array([c.lat for c in near]), np.array([c.lon for c in near])
    found = []
    for commune in mine:
        wide = KM_PER_DEGREE * math.cos(math.radians(commune.lat))
        x, y = (lons - commune.lon) * wide, (lats - commune.lat) * KM_PER_DEGREE
        away = x * x + y * y
        # two town halls in one place (a sector of Marseille) have one area
        nearest = [n for n in np.argsort(away)[: NEIGHBOURS + 1].tolist() if away[n] > 0]
        others = [(float(x[n]), float(y[n])) for n in nearest]
        ring = [
            [round(commune.lat + north / KM_PER_DEGREE, 4), round(commune.lon + east / wide, 4)]
            for east, north in _area(others)
        ]
        found.append({"insee": commune.code, "ring": ring})
    return orjson.dumps(found)
