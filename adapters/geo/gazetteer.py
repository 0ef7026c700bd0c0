"""Gazetteer of the communes of France, metropole and overseas départements, from the package's own data.

Nothing is fetched: ``adapters/geo/data`` is reached through ``importlib.resources``, so it works from a wheel
too. Names, postcodes and populations are INSEE's and La Poste's (2026); a commune's point is its town hall,
good for rural search, poor in cities: use the caller's coordinates when there are some.

Paris, Lyon and Marseille stand in the official code as a commune *and* as arrondissements. Both are found by
code and by name, but ``communes_of``, ``nearest`` and every population count the arrondissements only.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from importlib import resources
from math import cos, floor, radians, sin
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from adapters.geo.landmass import landmass_of_commune
from sas_matcher.travel import EARTH_RADIUS_KM, haversine_km

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

WHOLE_CITIES = frozenset({"13055", "69123", "75056"})
"""Marseille, Lyon and Paris as one commune; their arrondissements have codes of their own."""

_CELL_DEG = 0.2
_SMALL_CELL_DEG = 0.02  # 2 km: half a dozen communes may be nearest to its points, of a large cell's two hundred
_CACHED_CELLS = 50_000  # all of France needs about 3 000; coordinates come from outside
_WINDOW_DEG = 0.6
_ABBREVIATIONS = {"st": "saint", "ste": "sainte", "sts": "saints", "stes": "saintes"}
_LONGEST = 80  # characters of a text that is looked up: the longest name has 45
_MOST_WORDS = 8  # and different words of it: no name has more than 7
_NUMBER = re.compile(r"[0-9][0-9AB]?[0-9]{0,3}")
_NOT_WORD = re.compile(r"[^a-z0-9]+")


class Commune(NamedTuple):
    """A commune or municipal arrondissement.

    ``code`` is the INSEE code, ``population`` the legal population, ``lat`` and ``lon`` degrees WGS 84 of the
    town hall, ``landmass`` the group of communes that it can reach by road (``adapters.geo.landmass``).
    """

    code: str
    name: str
    territory: str
    postcodes: tuple[str, ...]
    population: int
    lat: float
    lon: float
    landmass: int


class Territory(NamedTuple):
    """A département, the area of one SAS.

    ``timezone`` is an IANA name; ``default_radius_km`` the national platform's search radius, 0 where it sets
    none; ``bbox`` (south, west, north, east) in degrees of its town halls; ``population`` counts every
    inhabitant once.
    """

    code: str
    name: str
    region: str
    timezone: str
    default_radius_km: float
    bbox: tuple[float, float, float, float]
    population: int


def _typed_words(text: str) -> list[str]:
    """Words in lower case without accents or ligatures; every other sign separates."""
    plain = text.casefold().replace("œ", "oe").replace("æ", "ae")
    if not plain.isascii():
        plain = unicodedata.normalize("NFKD", plain).replace("’", " ").encode("ascii", "ignore").decode()
    return [word for word in _NOT_WORD.split(plain) if word]


def normalise(text: str) -> str:
    """Bring a typed or official name to the form in which names are compared.

    Lower case, no accents or ligatures, every other sign a space, "st" and "ste" written out:
    ``normalise("St-Étienne") == "saint etienne"``.
    """
    return " ".join(_ABBREVIATIONS.get(word, word) for word in _typed_words(text))


class _Names:
    """Sorted lists of normalised names and of their words, for prefix search by bisection."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = [normalise(name) for name in names]
        self.compact = sorted((name.replace(" ", ""), i) for i, name in enumerate(self.names))
        self.words = sorted({(word, i) for i, name in enumerate(self.names) for word in name.split()})
        self.word_rows = [index for _, index in self.words]

    @staticmethod
    def _bounds(entries: list[tuple[str, int]], prefix: str) -> tuple[int, int]:
        return bisect_left(entries, (prefix,)), bisect_left(entries, (prefix + "\x7f",))

    @staticmethod
    def _range(entries: list[tuple[str, int]], prefix: str) -> list[int]:
        low, high = _Names._bounds(entries, prefix)
        return [index for _, index in entries[low:high]]

    def matches(self, text: str) -> dict[int, int]:
        """Rows that fit ``text``: 0 the whole name, 1 its beginning, 2 beginnings of its words."""
        wanted, typed = normalise(text), dict.fromkeys(_typed_words(text))
        if not typed or len(typed) > _MOST_WORDS:
            return {}
        # "st" begins "Stains" as well as "Saint-Denis"
        found = dict.fromkeys(self._with_words([{word, _ABBREVIATIONS.get(word, word)} for word in typed]), 2)
        joined = wanted.replace(" ", "")
        beginnings = {joined}
        if joined.startswith("st"):  # "stetienne": written in one go
            beginnings.add("saint" + joined[2:])
        for beginning in beginnings:
            for index in self._range(self.compact, beginning):
                found[index] = 0 if self.names[index].replace(" ", "") == beginning else 1
        return found

    def _with_words(self, tokens: list[set[str]]) -> set[int]:
        """Rows of which some word begins with each token, whichever way it is read."""
        ranges = [[self._bounds(self.words, start) for start in token] for token in tokens]
        ranges.sort(key=lambda some: sum(high - low for low, high in some))
        found: set[int] | None = None
        for some in ranges:
            rows = {row for low, high in some for row in self.word_rows[low:high]}
            found = rows if found is None else found & rows
            if not found:
                break
        return found or set()


def _half_diagonal_km(lat: float, lon: float, cell_deg: float) -> float:
    """Return how far a point of a cell may be from its centre, with a little to spare for roundings."""
    return float(haversine_km(lat, lon, lat + cell_deg / 2, lon + cell_deg / 2)) * 1.01 + 0.01


class _Grid:
    """Nearest commune by cells; what a cell's points may be nearest to is worked out when first asked.

    A cell's candidates are the communes no farther from its centre than the nearest one plus twice the cell's
    half diagonal: by the triangle inequality no other can be nearest to a point of the cell.
    """

    def __init__(self, lat: Floats, lon: Floats, rows: Rows) -> None:
        order = np.argsort(lat[rows], kind="stable")
        self.rows = rows[order]
        self.lat, self.lon = lat[self.rows], lon[self.rows]
        self._candidates: dict[int, Rows] = {}
        self._near: dict[tuple[int, int], list[tuple[int, float, float, float]]] = {}

    @staticmethod
    def keys(lat: Floats, lon: Floats) -> npt.NDArray[np.int64]:
        """Number of the cell of each point."""
        south, west = np.floor((lat + 90.0) / _CELL_DEG), np.floor((lon + 180.0) / _CELL_DEG)
        return south.astype(np.int64) * 4096 + west.astype(np.int64)

    def candidates(self, key: int) -> Rows:
        """Positions, in this grid's order, of the communes that a point of the cell may be nearest to."""
        known = self._candidates.get(key)
        if known is not None:
            return known
        lat = (key // 4096 + 0.5) * _CELL_DEG - 90.0
        lon = (key % 4096 + 0.5) * _CELL_DEG - 180.0
        half = _half_diagonal_km(lat, lon, _CELL_DEG)
        low, high = np.searchsorted(self.lat, (lat - _WINDOW_DEG, lat + _WINDOW_DEG))
        km = haversine_km(lat, lon, self.lat[low:high], self.lon[low:high])
        band_km = np.radians(_WINDOW_DEG) * EARTH_RADIUS_KM
        if high == low or float(km.min()) + 2 * half > band_km:  # far at sea: look at all
            low, high = 0, self.lat.size
            km = haversine_km(lat, lon, self.lat, self.lon)
        found: Rows = low + np.flatnonzero(km <= km.min() + 2 * half)
        if len(self._candidates) >= _CACHED_CELLS:
            self._candidates.clear()
        self._candidates[key] = found
        return found

    def nearest_to(self, lat: float, lon: float) -> int:
        """Row of the nearest commune of one point, as ``nearest`` finds it; no numpy once its small cell is known."""
        cell = floor((lat + 90.0) / _SMALL_CELL_DEG), floor((lon + 180.0) / _SMALL_CELL_DEG)
        near = self._near.get(cell) or self._look_around(cell)
        y, x, cos_y = radians(lat), radians(lon), cos(radians(lat))
        # grows with the distance (haversine): which is smallest needs no more
        return min(near, key=lambda p: sin((p[1] - y) / 2.0) ** 2 + cos_y * p[3] * sin((p[2] - x) / 2.0) ** 2)[0]

    def _look_around(self, cell: tuple[int, int]) -> list[tuple[int, float, float, float]]:
        """Work out what a small cell's points may be nearest to: row, latitude and longitude in radians, cosine."""
        lat, lon = (cell[0] + 0.5) * _SMALL_CELL_DEG - 90.0, (cell[1] + 0.5) * _SMALL_CELL_DEG - 180.0
        among = self.candidates(floor((lat + 90.0) / _CELL_DEG) * 4096 + floor((lon + 180.0) / _CELL_DEG))
        km = haversine_km(lat, lon, self.lat[among], self.lon[among])
        places = among[km <= km.min() + 2 * _half_diagonal_km(lat, lon, _SMALL_CELL_DEG)]
        columns = (column[places].tolist() for column in (self.rows, self.lat, self.lon))
        if len(self._near) >= _CACHED_CELLS:
            self._near.clear()
        found = [(row, radians(y), radians(x), cos(radians(y))) for row, y, x in zip(*columns, strict=True)]
        self._near[cell] = found
        return found

    def nearest(self, key: int, lat: Floats, lon: Floats) -> Rows:
        """Row of the nearest commune of each point; all points lie in the cell ``key``."""
        near = self.candidates(key)
        km = haversine_km(lat[:, None], lon[:, None], self.lat[near], self.lon[near])
        rows: Rows = self.rows[near[np.argmin(km, axis=1)]]
        return rows


class Gazetteer:
    """The communes and territories of France; build it with ``Gazetteer.load()``.

    The columns ``lat``, ``lon``, ``population`` and ``landmass`` are numpy arrays in the order of ``codes``.
    """

    def __init__(self, communes: bytes, territories: str) -> None:
        """Read the tables.

        Args:
            communes: Gzipped CSV ``code,nom,dep,cp,pop,lat,lon``, sorted by code.
            territories: CSV ``code,name,region,timezone,default_radius_km``.
        """
        rows = list(csv.reader(io.StringIO(gzip.decompress(communes).decode())))[1:]
        self.codes, self._names, self._territory, self._postcodes, population, lat, lon = zip(*rows, strict=True)
        self.population: npt.NDArray[np.int64] = np.array(population, dtype=np.int64)
        self.lat: Floats = np.array(lat, dtype=np.float64)
        self.lon: Floats = np.array(lon, dtype=np.float64)
        self.landmass: npt.NDArray[np.int16] = np.fromiter(
            map(landmass_of_commune, self.codes, self._territory), dtype=np.int16, count=len(rows)
        )
        self._row = {code: index for index, code in enumerate(self.codes)}
        self._territory_table = list(csv.DictReader(io.StringIO(territories)))

    @staticmethod
    @cache
    def load() -> Gazetteer:
        """Return the gazetteer shipped with the package; read once per process."""
        data = resources.files("adapters.geo") / "data"
        return Gazetteer((data / "communes.csv.gz").read_bytes(), (data / "territories.csv").read_text("utf-8"))

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[Commune]:
        return map(self._commune, range(len(self.codes)))

    def _commune(self, row: int) -> Commune:
        return Commune(
            self.codes[row],
            self._names[row],
            self._territory[row],
            tuple(self._postcodes[row].split()),
            int(self.population[row]),
            float(self.lat[row]),
            float(self.lon[row]),
            int(self.landmass[row]),
        )

    def by_code(self, code: str) -> Commune | None:
        """Return the commune or arrondissement with this INSEE code, ``None`` if there is none."""
        row = self._row.get(code)
        return None if row is None else self._commune(row)

    @cached_property
    def _counted(self) -> Rows:
        """Rows that hold each inhabitant once: all but the three cities that have arrondissements."""
        return np.array([i for i, code in enumerate(self.codes) if code not in WHOLE_CITIES], dtype=np.intp)

    @cached_property
    def _rows_of(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {entry["code"]: [] for entry in self._territory_table}
        for row in self._counted.tolist():
            rows[self._territory[row]].append(row)
        return rows

    def communes_of(self, territory: str) -> list[Commune]:
        """Communes of a territory by code, arrondissements instead of whole cities; empty if unknown."""
        return [self._commune(row) for row in self._rows_of.get(territory, ())]

    @cached_property
    def territories(self) -> Mapping[str, Territory]:
        """Territories by code: 96 of the metropole, 5 overseas."""
        found = {}
        for entry in self._territory_table:
            rows = self._rows_of[entry["code"]]
            lat, lon = self.lat[rows], self.lon[rows]
            bbox = (float(lat.min()), float(lon.min()), float(lat.max()), float(lon.max()))
            found[entry["code"]] = Territory(
                entry["code"],
                entry["name"],
                entry["region"],
                entry["timezone"],
                float(entry["default_radius_km"]),
                bbox,
                int(self.population[rows].sum()),
            )
        return MappingProxyType(found)

    @cached_property
    def _index(self) -> _Names:
        return _Names(self._names)

    @cached_property
    def _numbers(self) -> list[tuple[str, int]]:
        """Postcodes and INSEE codes, sorted, with the row of each."""
        codes = {(code, i) for i, code in enumerate(self.codes)}
        return sorted(codes | {(p, i) for i, text in enumerate(self._postcodes) for p in text.split()})

    def search(self, text: str, limit: int = 10, territory: str | None = None) -> list[Commune]:
        """Find communes by name, postcode or INSEE code, as a regulator types them.

        Accents, case, hyphens, apostrophes and "st"/"ste" do not matter; the beginning of the name or of its
        words is enough. Whole names come first, then beginnings of names, then of words; in each class the
        most populous first. Numbers of 2 to 5 figures are read as the beginning of a postcode or INSEE code;
        an arrondissement then stands before its city. What is longer than any name finds nothing, at no cost.

        Args:
            text: What was typed.
            limit: Largest number of answers.
            territory: Keep this territory only.

        Returns:
            At most ``limit`` communes; empty for a blank text.
        """
        if len(text) > _LONGEST:
            return []
        typed = text.strip().upper().replace(" ", "")
        if len(typed) > 1 and _NUMBER.fullmatch(typed):
            rows = _Names._range(self._numbers, typed)
            ranks = {row: int(self.codes[row] in WHOLE_CITIES) for row in rows}
        else:
            ranks = self._index.matches(text)
        found = [row for row in ranks if territory is None or self._territory[row] == territory]
        found.sort(key=lambda row: (ranks[row], -self.population[row], self.codes[row]))
        return [self._commune(row) for row in found[: max(0, limit)]]

    @cached_property
    def _grid(self) -> _Grid:
        return _Grid(self.lat, self.lon, self._counted[self.population[self._counted] > 0])

    def nearest(self, lat: float, lon: float) -> Commune:
        """Return the inhabited commune or arrondissement whose town hall is nearest to a point.

        Raises:
            ValueError: If a coordinate is not finite or out of range.
        """
        if not (abs(lat) <= 90.0 and abs(lon) <= 180.0):
            raise ValueError("Expected |lat| <= 90 and |lon| <= 180, in degrees.")
        return self._commune(self._grid.nearest_to(lat, lon))

    def nearest_of(self, lat: Floats, lon: Floats) -> list[Commune]:
        """Return the nearest inhabited commune of each of many points (degrees, shape (n,))."""
        rows = self._nearest_rows(lat, lon)
        known = {row: self._commune(row) for row in np.unique(rows).tolist()}
        return [known[row] for row in rows.tolist()]

    def landmass_of(self, lat: npt.ArrayLike, lon: npt.ArrayLike) -> npt.NDArray[np.int16]:
        """Landmass of each point: that of the nearest commune.

        A commune's own ``landmass`` is surer when its code is known: on a shore that faces a small island the
        island's town hall may be the nearer one.

        Args:
            lat: Latitudes in degrees, shape (n,) or a number.
            lon: Longitudes, same shape.

        Returns:
            int16 of shape (n,).

        Raises:
            ValueError: If shapes differ, or a coordinate is not finite or out of range.
        """
        lats, lons = self._points(lat, lon)
        result = np.empty(lats.size, dtype=np.int16)
        for key, rows in _by_cell(_Grid.keys(lats, lons)):
            near = self.landmass[self._grid.rows[self._grid.candidates(key)]]
            if (near == near[0]).all():  # nearly every cell: no distance needed
                result[rows] = near[0]
            else:
                result[rows] = self.landmass[self._grid.nearest(key, lats[rows], lons[rows])]
        return result

    def _nearest_rows(self, lats: Floats, lons: Floats) -> Rows:
        result = np.empty(lats.size, dtype=np.intp)
        for key, rows in _by_cell(_Grid.keys(lats, lons)):
            result[rows] = self._grid.nearest(key, lats[rows], lons[rows])
        return result

    @staticmethod
    def _points(lat: npt.ArrayLike, lon: npt.ArrayLike) -> tuple[Floats, Floats]:
        lats, lons = np.atleast_1d(np.asarray(lat, dtype=float)), np.atleast_1d(np.asarray(lon, dtype=float))
        if lats.shape != lons.shape or lats.ndim != 1:
            raise ValueError("Expected lat and lon of one and the same length.")
        if not (np.all(np.abs(lats) <= 90.0) and np.all(np.abs(lons) <= 180.0)):
            raise ValueError("Expected |lat| <= 90 and |lon| <= 180, in degrees.")
        return lats, lons


def _by_cell(keys: npt.NDArray[np.int64]) -> Iterator[tuple[int, Rows]]:
    """Yield each cell with the positions of its points."""
    order = np.argsort(keys, kind="stable")
    cells, starts = np.unique(keys[order], return_index=True)
    return zip(cells.tolist(), np.split(order, starts[1:]), strict=True) if cells.size else iter(())
