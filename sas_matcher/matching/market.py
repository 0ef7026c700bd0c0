"""The live places as numpy arrays, kept by the stream of changes.

Places are partitioned by (profession, mode, square of half a degree), each partition sorted by start, so that a
request reads a handful of short slices: the cost of a decision hardly depends on how many places France has.
Téléconsultation has no distance and lives in one partition per profession. What a person would read of a place (names,
address, phone) is kept once per site as ready JSON, not once per slot.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from sas_matcher.domain.vocabulary import Mode, matching_specialty
from sas_matcher.travel import EARTH_RADIUS_KM

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CELL_DEGREES: Final = 0.5  # 55 km north-south: a radius of 50 km touches 3 × 4 squares in France
KM_PER_DEGREE: Final = math.pi * EARTH_RADIUS_KM / 180

_ROW = np.dtype(
    [
        ("slot_id", np.int64),
        ("start", np.int64),
        ("end", np.int64),
        ("lat", np.float64),
        ("lon", np.float64),
        ("offers", np.int64),
        ("left", np.int32),
        ("capacity", np.int32),
        ("professional", np.int32),
        ("specialty", np.int32),
        ("site", np.int32),
        ("landmass", np.int16),
        ("walkin", np.bool_),
        ("version", np.int64),
        ("key", np.uint64),
    ]
)
_COLUMNS: Final = tuple(_ROW.names or ())
SITE_FIELDS: Final = (
    "territory",
    "professional",
    "professional_name",
    "structure",
    "structure_name",
    "source_kind",
    "lat",
    "lon",
    "insee",
    "label",
    "phone",
)


class Names:
    """Numbers for names (offers as bits, professionals and specialties as integers), given out as they come."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """Return the number of a name, a new one for a new name."""
        return self._numbers.setdefault(name, len(self._numbers))

    def known(self, name: str) -> int:
        """Return the number of a name, or −1 if no place ever bore it."""
        return self._numbers.get(name, -1)

    def names(self) -> list[str]:
        """Return the names in the order of their numbers."""
        return list(self._numbers)


class PlaceRow(NamedTuple):
    """One place as the market takes it. Times in whole epoch seconds; ``site`` is the JSON of SITE_FIELDS."""

    slot_id: int
    start: int
    end: int
    lat: float
    lon: float
    offers: tuple[str, ...]
    left: int
    capacity: int
    professional: str | None
    specialty: str | None
    profession: str
    mode: str
    walkin: bool
    landmass: int
    version: int
    key: int
    site: bytes


def stable_key(text: str) -> int:
    """Return a 64-bit key of a public id: equal everywhere and always, so that ties break the same way."""
    value = 0xCBF29CE484222325  # FNV-1a offset basis and prime (public domain)
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def place_row(record: Mapping[str, Any], left: int, start: int, end: int) -> PlaceRow:
    """Build a row from a place record (``place_json`` of the ledger) and the seats left."""
    return PlaceRow(
        slot_id=record["slot_id"],
        start=start,
        end=end,
        lat=record["lat"],
        lon=record["lon"],
        offers=tuple(record["offers"]),
        left=left,
        capacity=record["capacity"],
        professional=record["professional"],
        specialty=matching_specialty(record["specialty"]),
        profession=record["profession"],
        mode=record["mode"],
        walkin=record["booking_kind"] == "walkin",
        landmass=record["landmass"],
        version=record["version"],
        key=record["slot_id"],
        site=site_json([record[name] for name in SITE_FIELDS]),
    )


def site_json(values: Sequence[Any]) -> bytes:
    """Return the JSON of a site from its values in the order of SITE_FIELDS."""
    return orjson.dumps(dict(zip(SITE_FIELDS, values, strict=True)))


class Partition:
    """Places of one (profession, mode, square), sorted by start in columns that grow by doubling."""

    def __init__(self) -> None:
        self.size = 0
        self._data: dict[str, npt.NDArray[Any]] = {name: np.empty(0, _ROW[name]) for name in _COLUMNS}

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return the live part of a column; writing to it writes the market."""
        return self._data[name][: self.size]

    def window(self, low: int, high: int) -> slice:
        """Return the rows whose start lies in [low, high]."""
        starts = self._data["start"][: self.size]
        return slice(int(starts.searchsorted(low, "left")), int(starts.searchsorted(high, "right")))

    def find(self, slot_id: int) -> int:
        """Return the row of a slot, or −1."""
        rows = np.flatnonzero(self._data["slot_id"][: self.size] == slot_id)
        return int(rows[0]) if rows.size else -1

    def insert(self, rows: npt.NDArray[Any]) -> None:
        """Add rows (structured, any order), keeping the order by start and then by slot id."""
        rows = rows[np.lexsort((rows["slot_id"], rows["start"]))]
        at = self._data["start"][: self.size].searchsorted(rows["start"], "right")
        new_size = self.size + len(rows)
        room = len(self._data["start"])
        if new_size > room:
            room = max(16, 2 * room, new_size)
        target = at + np.arange(len(rows))
        if len(rows) == 1 and room == len(self._data["start"]):
            # the common case: shift the tail by one, in place
            position = int(target[0])
            for name, column in self._data.items():
                column[position + 1 : new_size] = column[position : self.size]
                column[position] = rows[name][0]
        else:
            kept = np.ones(new_size, np.bool_)
            kept[target] = False
            for name, column in self._data.items():
                grown = np.empty(room, column.dtype)
                grown[:new_size][kept] = column[: self.size]
                grown[:new_size][target] = rows[name]
                self._data[name] = grown
        self.size = new_size

    def remove(self, row: int) -> None:
        """Take a row out."""
        for column in self._data.values():
            column[row : self.size - 1] = column[row + 1 : self.size]
        self.size -= 1

    def drop_before(self, start: int) -> Ints:
        """Take out rows that start before an instant; return their slot ids."""
        count = int(self._data["start"][: self.size].searchsorted(start, "left"))
        gone: Ints = self._data["slot_id"][:count].copy()
        if count:
            for column in self._data.values():
                column[: self.size - count] = column[count : self.size].copy()
            self.size -= count
        return gone


class Market:
    """All live places that one matcher sees. Not thread-safe: one task owns it."""

    def __init__(self) -> None:
        self.offers = Names()
        self.professionals = Names()
        self.specialties = Names()
        self._partitions: dict[tuple[str, str, int, int], Partition] = {}
        self._where: dict[int, tuple[str, str, int, int]] = {}
        self._sites: list[bytes] = []
        self._site_number: dict[bytes, int] = {}
        self._modes_of: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, slot_id: int) -> bool:
        return slot_id in self._where

    @staticmethod
    def _cell(mode: str, lat: float, lon: float) -> tuple[int, int]:
        if mode == Mode.TELE:
            return (0, 0)
        return (math.floor(lat / CELL_DEGREES), math.floor(lon / CELL_DEGREES))

    def put(self, places: Iterable[PlaceRow]) -> list[int]:
        """Add or replace places; an older version than the one held is ignored. Returns the slot ids taken in."""
        grouped: dict[tuple[str, str, int, int], dict[int, PlaceRow]] = {}
        for place in places:
            known = self._where.get(place.slot_id)
            if known is not None:
                partition = self._partitions[known]
                row = partition.find(place.slot_id)
                if partition.column("version")[row] > place.version:
                    continue
                partition.remove(row)
                del self._where[place.slot_id]
            cell = self._cell(place.mode, place.lat, place.lon)
            key = (place.profession, place.mode, *cell)
            grouped.setdefault(key, {})[place.slot_id] = place
        taken: list[int] = []
        for key, members in grouped.items():
            partition = self._partitions.setdefault(key, Partition())
            self._modes_of.setdefault(key[0], set()).add(key[1])
            partition.insert(np.array([self._pack(place) for place in members.values()], _ROW))
            for slot_id in members:
                self._where[slot_id] = key
            taken.extend(members)
        return taken

    def _pack(self, place: PlaceRow) -> tuple[Any, ...]:
        site = self._site_number.get(place.site)
        if site is None:
            site = self._site_number[place.site] = len(self._sites)
            self._sites.append(place.site)
        offers = 0
        for offer in place.offers:
            offers |= 1 << self.offers.number(offer)
        return (
            place.slot_id,
            place.start,
            place.end,
            place.lat,
            place.lon,
            offers,
            place.left,
            place.capacity,
            -1 if place.professional is None else self.professionals.number(place.professional),
            -1 if place.specialty is None else self.specialties.number(place.specialty),
            site,
            place.landmass,
            place.walkin,
            place.version,
            place.key,
        )

    def set_left(self, slot_id: int, left: int, version: int) -> bool:
        """Take in the seats left of a slot; False if unknown here or not newer."""
        key = self._where.get(slot_id)
        if key is None:
            return False
        partition = self._partitions[key]
        row = partition.find(slot_id)
        if partition.column("version")[row] >= version:
            return False
        partition.column("left")[row] = left
        partition.column("version")[row] = version
        return True

    def discard(self, slot_id: int, version: int) -> None:
        """Forget a slot, unless it is known in a newer version."""
        key = self._where.get(slot_id)
        if key is None:
            return
        partition = self._partitions[key]
        row = partition.find(slot_id)
        if partition.column("version")[row] <= version:
            partition.remove(row)
            del self._where[slot_id]

    def drop_before(self, start: int) -> int:
        """Forget slots that start before an instant; returns how many."""
        dropped = 0
        for partition in self._partitions.values():
            for slot_id in partition.drop_before(start).tolist():
                del self._where[slot_id]
                dropped += 1
        return dropped

    def left_of(self, slot_id: int) -> int:
        """Return the seats left of a slot as known here (0 if unknown)."""
        key = self._where.get(slot_id)
        if key is None:
            return 0
        partition = self._partitions[key]
        return int(partition.column("left")[partition.find(slot_id)])

    def find(self, slot_id: int) -> tuple[Partition, int] | None:
        """Return the partition and row of a slot."""
        key = self._where.get(slot_id)
        if key is None:
            return None
        partition = self._partitions[key]
        return partition, partition.find(slot_id)

    def mode_of(self, slot_id: int) -> str:
        """Return the mode of a known slot."""
        return self._where[slot_id][1]

    def profession_of(self, slot_id: int) -> str:
        """Return the profession of a known slot."""
        return self._where[slot_id][0]

    def site(self, number: int) -> bytes:
        """Return the JSON of a site."""
        return self._sites[number]

    def near(self, profession: str, mode: str, lat: float, lon: float, radius_km: float) -> Iterator[Partition]:
        """Yield the partitions that a circle may touch (all of the country for téléconsultation)."""
        if mode == Mode.TELE:
            partition = self._partitions.get((profession, mode, 0, 0))
            if partition is not None:
                yield partition
            return
        d_lat = radius_km / KM_PER_DEGREE
        # meridians converge: a kilometre is more degrees of longitude, most at the circle's far side
        d_lon = radius_km / (KM_PER_DEGREE * math.cos(math.radians(min(89.0, abs(lat) + d_lat))))
        rows = range(math.floor((lat - d_lat) / CELL_DEGREES), math.floor((lat + d_lat) / CELL_DEGREES) + 1)
        columns = range(math.floor((lon - d_lon) / CELL_DEGREES), math.floor((lon + d_lon) / CELL_DEGREES) + 1)
        for row in rows:
            for column in columns:
                partition = self._partitions.get((profession, mode, row, column))
                if partition is not None and partition.size:
                    yield partition

    def modes_of(self, profession: str) -> set[str]:
        """Return the modes in which a profession has ever had a place here."""
        return self._modes_of.get(profession, set())

    def need_mask(self, needs: Iterable[str]) -> int | None:
        """Return the bit mask of some needs; None when a need was never offered by anyone."""
        mask = 0
        for need in needs:
            number = self.offers.known(need)
            if number < 0:
                return None
            mask |= 1 << number
        return mask
