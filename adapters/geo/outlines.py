"""Developer tool: draw the outline of each territory from the town halls of its communes (never run by the service).

    python -m adapters.geo.outlines OUT

No outline of a département comes with our data, so one is made: the land that is nearer to one of its town halls than
to any other, no farther than ``REACH_KM`` (at sea there are none), smoothed. Good to one or two kilometres: a drawing
to find one's way on, never a measure. Writes one JSON a territory, the same bytes every time: ``rings`` of [lat, lon]
and ``towns``, the largest communes as [lat, lon, name].
"""

import json
import sys
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from adapters.geo.build import WHOLE_CITIES
from adapters.geo.gazetteer import Gazetteer

KM_PER_DEGREE: Final = 111.195  # mean sphere of 6 371 km
STEP_KM: Final = 1.2
REACH_KM: Final = {"973": 60.0}
"""How far land goes on behind the last town hall; in the forest of Guyane far."""
_REACH_KM: Final = 7.0
TOWNS: Final = 60
"""Named on the map, as far as there is room."""
_FEWEST: Final = 12
"""Corners of the smallest island that is drawn."""
_TOLERANCE: Final = 0.7
"""Of a step: what a corner may lie off the line that replaces it (Douglas and Peucker)."""

Cells = npt.NDArray[np.bool_]
Ring = list[tuple[float, float]]


def inside(geography: Gazetteer, code: str) -> tuple[Cells, tuple[float, float], tuple[float, float]]:
    """Return which cells of a grid belong to a territory, the grid's corner (south, west) and its steps in degrees."""
    territory = geography.territories[code]
    reach = REACH_KM.get(code, _REACH_KM)
    south, west, north, east = territory.bbox
    step_lat = STEP_KM * (4 if code == "973" else 1) / KM_PER_DEGREE
    step_lon = step_lat / np.cos(np.radians((south + north) / 2))
    margin = int(reach / STEP_KM) + 2
    lats = np.arange(south - margin * step_lat, north + margin * step_lat, step_lat)
    lons = np.arange(west - margin * step_lon, east + margin * step_lon, step_lon)
    grid_lat, grid_lon = np.meshgrid(lats, lons, indexing="ij")
    communes = geography.nearest_of(grid_lat.ravel(), grid_lon.ravel())
    own = np.array([c.territory == code for c in communes])
    c_lat, c_lon = np.array([c.lat for c in communes]), np.array([c.lon for c in communes])
    north_km = (c_lat - grid_lat.ravel()) * KM_PER_DEGREE
    east_km = (c_lon - grid_lon.ravel()) * KM_PER_DEGREE * np.cos(np.radians(grid_lat.ravel()))
    cells = own & (np.hypot(north_km, east_km) <= reach)
    return cells.reshape(grid_lat.shape), (float(lats[0]), float(lons[0])), (float(step_lat), float(step_lon))


def rings(cells: Cells) -> list[Ring]:
    """Return the borders of what is inside, as closed walks along the edges of cells with the inside on the left."""
    padded = np.pad(cells, 1)
    onward: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for row, column in np.argwhere(padded).tolist():
        for (d_row, d_column), start, end in (
            ((-1, 0), (row, column), (row, column + 1)),
            ((0, 1), (row, column + 1), (row + 1, column + 1)),
            ((1, 0), (row + 1, column + 1), (row + 1, column)),
            ((0, -1), (row + 1, column), (row, column)),
        ):
            if not padded[row + d_row, column + d_column]:
                onward.setdefault(start, []).append(end)
    found = []
    while onward:
        start = min(onward)
        ring, at = [start], start
        while True:
            ends = onward[at]
            at = ends.pop()
            if not ends:
                del onward[ring[-1]]
            if at == start:
                break
            ring.append(at)
        # back by the padding, and to the middle between cells
        found.append([(row - 1.5, column - 1.5) for row, column in ring])
    return found


def smoothed(ring: Ring, tolerance: float = _TOLERANCE) -> Ring:
    """Return a ring without its staircase: corners cut twice (Chaikin), then those left out that hardly matter."""
    corners = np.array(ring)
    after = np.roll(corners, -1, axis=0)
    cut = np.stack((0.75 * corners + 0.25 * after, 0.25 * corners + 0.75 * after), axis=1).reshape(-1, 2)
    after = np.roll(cut, -1, axis=0)
    cut = np.stack((0.75 * cut + 0.25 * after, 0.25 * cut + 0.75 * after), axis=1).reshape(-1, 2)
    half = len(cut) // 2
    kept = _simple(cut[: half + 1], tolerance)[:-1] + _simple(np.vstack((cut[half:], cut[:1])), tolerance)[:-1]
    return [(float(row), float(column)) for row, column in kept]


def _simple(line: npt.NDArray[np.float64], tolerance: float) -> list[npt.NDArray[np.float64]]:
    first, last = line[0], line[-1]
    along = last - first
    length = float(np.hypot(*along))
    off = line - first
    far = np.abs(along[0] * off[:, 1] - along[1] * off[:, 0]) / length if length else np.hypot(off[:, 0], off[:, 1])
    at = int(far.argmax())
    if far[at] <= tolerance or len(line) < 3:
        return [first, last]
    return _simple(line[: at + 1], tolerance)[:-1] + _simple(line[at:], tolerance)


def outline(geography: Gazetteer, code: str) -> list[list[list[float]]]:
    """Return the rings of a territory, [lat, lon] to three decimals, the largest first; islets are left out."""
    cells, (south, west), (step_lat, step_lon) = inside(geography, code)
    drawn = [smoothed(ring) for ring in rings(cells) if len(ring) >= _FEWEST]
    placed = [
        [[round(south + row * step_lat, 3), round(west + column * step_lon, 3)] for row, column in ring]
        for ring in drawn
        if len(ring) > 3
    ]
    return sorted(placed, key=len, reverse=True)


def main(out: Path) -> None:
    """Write all outlines."""
    geography = Gazetteer.load()
    out.mkdir(parents=True, exist_ok=True)
    for code in sorted(geography.territories):
        towns = sorted(geography.communes_of(code), key=lambda c: (-c.population, c.code))
        shown = [[round(c.lat, 3), round(c.lon, 3), c.name] for c in towns if c.code not in WHOLE_CITIES][:TOWNS]
        document = {"rings": outline(geography, code), "towns": shown}
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        (out / f"{code}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
