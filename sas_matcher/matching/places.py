"""One place as the market takes it, and where and when it is."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from sas_matcher.domain.vocabulary import matching_specialty

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


class Spot(NamedTuple):
    """Where and when there is a place: enough to tell whom it might help."""

    slot_id: int
    profession: str
    mode: str
    lat: float
    lon: float
    start: int


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
    source: str = ""
    own: bool = False

    @property
    def spot(self) -> Spot:
        """Where it is."""
        return Spot(self.slot_id, self.profession, self.mode, self.lat, self.lon, self.start)


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
        source=record["source"],
        own=record.get("own_until") is not None,
    )


def site_json(values: Sequence[Any]) -> bytes:
    """Return the JSON of a site from its values in the order of SITE_FIELDS."""
    return exactly(orjson.dumps(dict(zip(SITE_FIELDS, values, strict=True))))


def exactly(text: bytes) -> bytes:
    """Return a copy in as much memory as it needs: orjson's bytes keep the 4 KiB they were written into."""
    return bytes(memoryview(text))
