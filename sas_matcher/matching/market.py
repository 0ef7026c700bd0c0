"""The live places as numpy arrays, kept by the stream of changes.

Places are partitioned by (profession, mode, square of half a degree), each partition sorted by start, so that a
request reads a handful of short slices: the cost of a decision hardly depends on how many places France has.
Téléconsultation has no distance and lives in one partition per profession. What a person would read of a place (names,
address, phone) is kept once per site as ready JSON, not once per slot.

News may come in any order (a writer that crashed is published later): what is older than what is known changes nothing.
The seats left have a version of their own, as a record may come after the state that followed it.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from sas_matcher.domain.vocabulary import Mode
from sas_matcher.matching.limits import NO_LIMITS, LimitBook, owner_of
from sas_matcher.matching.names import Names, OfferSets
from sas_matcher.matching.partitions import ROW, Arena, Ints, Partition
from sas_matcher.matching.places import PlaceRow, Spot
from sas_matcher.travel import Box, box_around

CELL_DEGREES: Final = 0.5  # 55 km north-south: a radius of 50 km touches 3 × 4 squares in France
DAY_S: Final = 86_400
TRACES: Final = 10_000  # slots remembered only to refuse older news: minutes at 33 publications a second


class Market:
    """All live places that one matcher sees. Not thread-safe: one task owns it."""

    def __init__(self) -> None:
        self.offers = OfferSets()
        self.professionals = Names()
        self.specialties = Names()
        self.sources = Names()
        self.limits = LimitBook()
        self._doubts: dict[str, float] = {}
        # percent of its places that a territory keeps for urgent requests
        self.reserves: dict[str, int] = {}
        self._territories = Names()
        self._territory_of_site = np.empty(0, np.int64)
        self.arena = Arena()
        self._partitions: dict[tuple[str, str, int, int], Partition] = {}
        self._where: dict[int, tuple[str, str, int, int]] = {}
        self._sites: list[bytes] = []
        self._site_number: dict[bytes, int] = {}
        self._modes_of: dict[str, set[str]] = {}
        # slot → (version it went with, seats left, version of those), for slots that are not here
        self._traces: dict[int, tuple[int, int, int]] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, slot_id: int) -> bool:
        return slot_id in self._where

    def doubt(self, minutes: Mapping[str, float]) -> None:
        """Set by how many minutes a place of some sources is worth less (see ``doubts``)."""
        self._doubts = {name: value for name, value in minutes.items() if value}

    def doubts(self) -> npt.NDArray[np.float64] | None:
        """Return these minutes by number of source; None where nobody is doubted."""
        if not self._doubts:
            return None
        by_number = np.zeros(len(self.sources))
        for name, minutes in self._doubts.items():
            number = self.sources.known(name)
            if number >= 0:
                by_number[number] = minutes
        return by_number

    def reserve(self, shares: Mapping[str, int]) -> None:
        """Set the percent of its places that each territory keeps for urgent requests (see ``sharing``)."""
        self.reserves = {name: share for name, share in shares.items() if share}

    def by_territory(self, shares: Mapping[str, int], sites: Ints) -> Ints:
        """Return the number that each site's territory has in ``shares``, 0 where it has none."""
        new = [orjson.loads(site)["territory"] for site in self._sites[self._territory_of_site.size :]]
        if new:
            numbers = np.array([self._territories.number(name) for name in new], np.int64)
            self._territory_of_site = np.concatenate((self._territory_of_site, numbers))
        by_number = np.zeros(self._territories.count + 1, np.int64)
        for name, share in shares.items():
            number = self._territories.known(name)
            if number >= 0:
                by_number[number] = share
        found: Ints = by_number[self._territory_of_site[sites]]
        return found

    def starting(self, after: float, until: float) -> list[Spot]:
        """Return the slots with a seat left that start in (after, until]."""
        spots = []
        for (profession, mode, _, _), part in self._partitions.items():
            window = part.window(math.floor(after) + 1, math.floor(until))
            columns = [part.column(name)[window].tolist() for name in ("slot_id", "lat", "lon", "start", "left")]
            spots += [Spot(s, profession, mode, *at) for s, *at, left in zip(*columns, strict=True) if left > 0]
        return spots

    @staticmethod
    def _cell(mode: str, lat: float, lon: float) -> tuple[int, int]:
        if mode == Mode.TELE:
            return (0, 0)
        return (math.floor(lat / CELL_DEGREES), math.floor(lon / CELL_DEGREES))

    def put(self, places: Iterable[PlaceRow]) -> dict[int, int]:
        """Add or replace places, unless what is known is newer; returns the seats left of those taken in, by slot."""
        newest: dict[int, PlaceRow] = {}
        for place in places:
            if place.slot_id not in newest or newest[place.slot_id].version <= place.version:
                newest[place.slot_id] = place
        grouped: dict[tuple[str, str, int, int], list[tuple[Any, ...]]] = {}
        taken: dict[int, int] = {}
        for slot_id, place in newest.items():
            located = self.find(slot_id)
            version, left, seats_version = self._known(slot_id, located)
            if version > place.version:
                continue
            if seats_version <= place.version:
                left, seats_version = place.left, place.version
            taken[slot_id] = left
            key = (place.profession, place.mode, *self._cell(place.mode, place.lat, place.lon))
            row = self._pack(place, left, seats_version)
            if located is not None and self._where[slot_id] == key and located[0].replace(located[1], row):
                continue
            self._forget(slot_id, located)
            grouped.setdefault(key, []).append(row)
            self._where[slot_id] = key
        for key, rows in grouped.items():
            self._modes_of.setdefault(key[0], set()).add(key[1])
            self._partition(key).insert(np.array(rows, ROW))
        return taken

    def _partition(self, key: tuple[str, str, int, int]) -> Partition:
        if key not in self._partitions:
            self._partitions[key] = Partition(self.arena)
        return self._partitions[key]

    def site_number(self, text: bytes) -> int:
        """Return the number of a site by its JSON."""
        number = self._site_number.setdefault(text, len(self._sites))
        if number == len(self._sites):
            self._sites.append(text)
        return number

    def adopt(self, key: tuple[str, str, int, int], part: Partition) -> None:
        """Take a whole partition of slots that are not here.

        Args:
            key: profession, mode and ``cells`` of the square.
            part: of this market's arena.
        """
        self._partitions[key] = part
        self._where.update(dict.fromkeys(part.column("slot_id").tolist(), key))
        self._modes_of.setdefault(key[0], set()).add(key[1])

    def _known(self, slot_id: int, located: tuple[Partition, int] | None) -> tuple[int, int, int]:
        """Return what is known of a slot, here or gone: version, seats left, version of those (−1 for nothing)."""
        if located is None:
            return self._traces.get(slot_id, (-1, 0, -1))
        part, row = located
        return (
            int(part.column("version")[row]),
            int(part.column("left")[row]),
            int(part.column("seats_version")[row]),
        )

    def _forget(self, slot_id: int, located: tuple[Partition, int] | None) -> None:
        if located is not None:
            part, row = located
            part.remove(row)
            del self._where[slot_id]
        self._traces.pop(slot_id, None)

    def _trace(self, slot_id: int, known: tuple[int, int, int]) -> None:
        self._traces.pop(slot_id, None)
        self._traces[slot_id] = known
        if len(self._traces) > TRACES:
            del self._traces[next(iter(self._traces))]

    def _pack(self, place: PlaceRow, left: int, seats_version: int) -> tuple[Any, ...]:
        return (
            place.slot_id,
            place.start,
            place.end,
            place.end if place.capacity == 1 and place.professional is not None else place.start,
            place.lat,
            place.lon,
            self.offers.number(place.offers),
            left,
            place.capacity,
            -1 if place.professional is None else self.professionals.number(place.professional),
            -1 if place.specialty is None else self.specialties.number(place.specialty),
            self.site_number(place.site),
            self.sources.number(place.source),
            self._limits_over(place) if self.limits else NO_LIMITS,
            place.landmass,
            place.walkin,
            place.own,
            place.version,
            seats_version,
            place.key,
        )

    def _limits_over(self, place: PlaceRow) -> int:
        professional, structure = owner_of(place.site)
        return self.limits.over(professional, structure, place.source, place.start, visit=place.mode == Mode.VISITE)

    def load_limits(self, rows: Iterable[tuple[str, str]]) -> None:
        """Take in all limits of practices (see the ledger's ``limits``)."""
        members: set[str] = set()
        for text, periods in rows:
            definition = orjson.loads(text)
            members |= self.limits.define(definition)
            for start, left in orjson.loads(periods):
                self.limits.set_left(definition["id"], start, left, 0)
        self._renumber(members)

    def hear_limits(self, kind: str, data: Any) -> None:
        """Take in news of limits of practices."""
        self._renumber(self.limits.hear(kind, data))

    def _renumber(self, members: Collection[str]) -> None:
        """Find the limits over the places of some members again."""
        if not members:
            return
        owners = [owner_of(site) for site in self._sites]
        mine = np.array([f"p:{p}" in members or f"s:{s}" in members for p, s in owners], np.bool_)
        for (_, mode, _, _), part in self._partitions.items():
            site, source, start = (part.column(name) for name in ("site", "source", "start"))
            combos, known = part.column("limits"), dict[tuple[int, int, int], int]()
            for row in mine[site].nonzero()[0].tolist():
                key = (int(site[row]), int(source[row]), int(start[row]))
                if key not in known:
                    name = self.sources.name(key[1])
                    known[key] = self.limits.over(*owners[key[0]], name, key[2], visit=mode == Mode.VISITE)
                combos[row] = known[key]

    def set_left(self, slot_id: int, left: int, version: int) -> bool:
        """Take in the seats left of a slot; False if it is not here or this is not newer."""
        located = self.find(slot_id)
        if located is None:
            known_version, _, seats_version = self._known(slot_id, None)
            if seats_version < version:
                self._trace(slot_id, (known_version, left, version))
            return False
        part, row = located
        if part.column("seats_version")[row] >= version:
            return False
        part.column("left")[row] = left
        part.column("seats_version")[row] = version
        return True

    def discard(self, slot_id: int, version: int) -> None:
        """Forget a slot, unless it is known in a newer version."""
        located = self.find(slot_id)
        known_version, left, seats_version = self._known(slot_id, located)
        if known_version <= version:
            self._forget(slot_id, located)
            self._trace(slot_id, (version, left, seats_version))

    def drop_before(self, start: int) -> int:
        """Forget slots that start before an instant; returns how many."""
        dropped = 0
        for partition in self._partitions.values():
            for slot_id in partition.drop_before(start).tolist():
                del self._where[slot_id]
                dropped += 1
        return dropped

    def loads(self, parts: Iterable[Partition], now: float) -> Ints:
        """Return how many patients each professional has in some partitions within a day, by his number; last: nobody.

        A slot that is closed by another one, or by a limit, counts as taken.
        """
        counts = np.zeros(self.professionals.count + 1, np.int64)
        for part in parts:
            window = part.window(math.ceil(now), math.floor(now) + DAY_S)
            taken = np.maximum(0, part.column("capacity")[window] - part.column("left")[window])
            np.add.at(counts, part.column("professional")[window], taken)
        counts[-1] = 0
        return counts

    def left_of(self, slot_id: int) -> int:
        """Return the seats left of a slot as known here (0 if unknown)."""
        located = self.find(slot_id)
        return 0 if located is None else int(located[0].column("left")[located[1]])

    def limits_over(self, slot_id: int) -> int:
        """Return the number of the combination of limits over a slot (``limits``)."""
        located = self.find(slot_id)
        return NO_LIMITS if located is None else int(located[0].column("limits")[located[1]])

    def find(self, slot_id: int) -> tuple[Partition, int] | None:
        """Return the partition and row of a slot."""
        key = self._where.get(slot_id)
        if key is None:
            return None
        partition = self._partitions[key]
        return partition, partition.find(slot_id)

    def find_at(self, slot_id: int, start: int) -> tuple[Partition, int] | None:
        """Return the partition and row of a slot that starts at an instant; None if it is not here, or not then."""
        key = self._where.get(slot_id)
        if key is None:
            return None
        partition = self._partitions[key]
        row = partition.find_at(slot_id, start)
        return None if row < 0 else (partition, row)

    def spot(self, slot_id: int) -> Spot | None:
        """Return where a slot is; None for one that is not here."""
        located = self.find(slot_id)
        if located is None:
            return None
        part, row = located
        profession, mode, _, _ = self._where[slot_id]
        lat, lon = float(part.column("lat")[row]), float(part.column("lon")[row])
        return Spot(slot_id, profession, mode, lat, lon, int(part.column("start")[row]))

    def mode_of(self, slot_id: int) -> str:
        """Return the mode of a known slot."""
        return self._where[slot_id][1]

    def profession_of(self, slot_id: int) -> str:
        """Return the profession of a known slot."""
        return self._where[slot_id][0]

    def site(self, number: int) -> bytes:
        """Return the JSON of a site."""
        return self._sites[number]

    def near(self, profession: str, mode: str, lat: float, lon: float, radius_km: float) -> list[Partition]:
        """Return the partitions that a circle may touch (all of the country for téléconsultation)."""
        return self.within(profession, mode, box_around(lat, lon, radius_km))

    def within(self, profession: str, mode: str, box: Box) -> list[Partition]:
        """Return the partitions that a box touches (all of the country for téléconsultation)."""
        known = self._partitions
        return [part for key in self._keys_within(profession, mode, box) if (part := known.get(key)) and part.size]

    def _keys_within(self, profession: str, mode: str, box: Box) -> Collection[tuple[str, str, int, int]]:
        if mode == Mode.TELE:
            return ((profession, mode, 0, 0),)
        south, north, west, east = (math.floor(edge / CELL_DEGREES) for edge in box)
        if (north - south + 1) * (east - west + 1) <= len(self._partitions):
            return [
                (profession, mode, row, column) for row in range(south, north + 1) for column in range(west, east + 1)
            ]
        # a circle of more squares than there are any places in: look at those instead
        return [
            key
            for key in self._partitions
            if key[:2] == (profession, mode) and south <= key[2] <= north and west <= key[3] <= east
        ]

    def modes_of(self, profession: str) -> set[str]:
        """Return the modes in which a profession has ever had a place here."""
        return self._modes_of.get(profession, set())
