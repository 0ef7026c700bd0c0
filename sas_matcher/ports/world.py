"""Time, ids, geography and directory: what services are told of the world."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> datetime:
        """Return the present instant, timezone-aware (UTC)."""
        ...


class Ids(Protocol):
    """Where ids come from."""

    def uuid(self) -> str:
        """Return a new UUID, ordered by time."""
        ...


class CommuneRecord(Protocol):
    """A commune as the gazetteer knows it; ``landmass`` numbers what can be reached by road."""

    @property
    def code(self) -> str: ...  # noqa: D102 - INSEE code
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def territory(self) -> str: ...  # noqa: D102 - département
    @property
    def postcodes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def population(self) -> int: ...  # noqa: D102
    @property
    def lat(self) -> float: ...  # noqa: D102 - town hall
    @property
    def lon(self) -> float: ...  # noqa: D102
    @property
    def landmass(self) -> int: ...  # noqa: D102


class TerritoryRecord(Protocol):
    """A département."""

    @property
    def code(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def region(self) -> str: ...  # noqa: D102 - as INSEE writes it
    @property
    def timezone(self) -> str: ...  # noqa: D102 - IANA name
    @property
    def default_radius_km(self) -> float: ...  # noqa: D102 - the national platform's, 0 where it sets none


class Geography(Protocol):
    """Where communes and territories are."""

    def by_code(self, code: str) -> CommuneRecord | None:
        """Return a commune by its INSEE code."""
        ...

    def nearest(self, lat: float, lon: float) -> CommuneRecord:
        """Return the commune whose town hall is nearest."""
        ...

    def search(self, text: str, limit: int = 10, territory: str | None = None) -> Sequence[CommuneRecord]:
        """Return communes by name, postcode or code."""
        ...

    @property
    def territories(self) -> Mapping[str, TerritoryRecord]:
        """All territories by code."""
        ...


class PersonRecord(NamedTuple):
    """A practitioner as a directory knows them. ``cpts``: bare FINESS of the CPTS they belong to."""

    family: str
    given: str
    specialty: str | None
    cpts: tuple[str, ...]


class StructureRecord(NamedTuple):
    """A structure as a directory knows it: at least one of FINESS and SIRET, bare."""

    finess: str | None
    siret: str | None
    name: str
    line: str | None
    postcode: str | None
    city: str | None
    phone: str | None


class Directory(Protocol):
    """Who is who: practitioners and structures (file import now, national directories later)."""

    def person(self, rpps: str) -> PersonRecord | None:
        """Return a practitioner by bare RPPS."""
        ...

    def structure(self, finess: str) -> StructureRecord | None:
        """Return a structure by bare FINESS."""
        ...

    def finess_of(self, siret: str) -> tuple[str, ...]:
        """Return the FINESS of the sites that bear a SIRET."""
        ...
