"""Which places the national platform sees, and how: rows of the ledger, completed by directory and gazetteer."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

from adapters.fhir.identifiers import Kind, NationalId
from adapters.fhir.searchsets import Cpts, Place, Site, agenda_of
from sas_matcher.domain.vocabulary import PROFESSION_LABELS, Profession
from sas_matcher.ports.world import Clock, Directory, Geography
from sas_matcher.services.publish import HORIZON

Window = tuple[datetime, datetime]
SEEN: Final = ("public", "pro", "snp")
SEEN_BY_CPTS: Final = (*SEEN, "cpts")
SEEN_OF_SOS: Final = ("public", "snp")
_SPECIALTY_OF: Final = {Profession.MG: "SM54", Profession.PED: "SM40"}  # when only the profession is known
_TITLES: Final = frozenset({"dr", "dr.", "docteur", "pr", "pr.", "m.", "mme", "mr"})


class Shown(Protocol):
    """Where free places come from (the ledger); rows by column name."""

    async def places_of_practitioners(
        self, now: datetime, rpps: Sequence[str], window: Window, visibilities: Sequence[str]
    ) -> list[Any]:
        """Return the free places of practitioners, by start."""
        ...

    async def places_of_sos(
        self, now: datetime, structures: Sequence[str], window: Window, visibilities: Sequence[str]
    ) -> list[Any]:
        """Return the free places of SOS Médecins sites, by start."""
        ...

    async def place(self, slot_id: int, now: datetime, visibilities: Sequence[str]) -> Any | None:
        """Return one free place."""
        ...


class Agenda:
    """Answers the three searches with places, and what reads by id need."""

    def __init__(
        self, shown: Shown, clock: Clock, geography: Geography, directory: Directory, system: str, booking: str
    ) -> None:
        """Take the sources.

        Args:
            shown: the ledger.
            clock: the present; what has begun is never shown.
            geography: communes and time zones.
            directory: names, addresses, CPTS.
            system: OID or URL under which our site ids are unique.
            booking: URL of the booking pages, up to the agenda's name.
        """
        self._shown = shown
        self._clock = clock
        self._geography = geography
        self._directory = directory
        self._system = system
        self._booking = booking
        self._zone = lru_cache(maxsize=None)(lambda code: ZoneInfo(geography.territories[code].timezone))

    async def of_practitioners(self, rpps: Sequence[str], window: Window, *, for_cpts: bool) -> list[Place]:
        """Return what the practices of some practitioners (bare RPPS) chose to show."""
        seen = SEEN_BY_CPTS if for_cpts else SEEN
        rows = await self._shown.places_of_practitioners(self._clock.now(), rpps, window, seen)
        places = (self._place(row) for row in rows)
        # for CPTS members only, and no CPTS is known: nobody may see it
        return [place for place in places if place.cpts or place.visibilities != ("CPTS",)]

    async def of_sos(self, sirets: Sequence[str], window: Window) -> list[Place]:
        """Return what the sites of SOS Médecins associations show."""
        owner = {finess: siret for siret in sirets for finess in self._directory.finess_of(siret)}
        rows = await self._shown.places_of_sos(self._clock.now(), list(owner), window, SEEN_OF_SOS)
        return [self._sos_place(row, owner[row["structure"]]) for row in rows]

    async def slot(self, slot_id: int) -> Place | None:
        """Return a shown place by the id of its slot."""
        row = await self._shown.place(slot_id, self._clock.now(), SEEN)
        return None if row is None else self._place(row)

    async def any_of(self, rpps: str, agenda: str | None = None) -> Place | None:
        """Return some shown place of a practitioner (bare RPPS), of one of their agendas when it is named."""
        now = self._clock.now()
        places = await self.of_practitioners([rpps], (now, now + HORIZON), for_cpts=False)
        return next((place for place in places if agenda in (None, agenda_of(place))), None)

    def _place(self, row: Any) -> Place:
        person = self._directory.person(row["professional"])
        family, given = (person.family, person.given) if person else split_name(row["professional_name"] or "")
        site = self._site(row, row["structure"] and NationalId(Kind.FINESS, row["structure"]))
        cpts = tuple(self._cpts(person.cpts)) if person is not None and row["visibility"] == "cpts" else ()
        specialty = row["specialty"] or _SPECIALTY_OF.get(row["profession"]) or (person.specialty if person else None)
        return self._complete(row, row["professional"], family, given, site, specialty, cpts)

    def _sos_place(self, row: Any, siret: str) -> Place:
        site = self._site(row, NationalId(Kind.SIRET, siret))
        record = self._directory.structure(row["structure"])
        name = record.name if record is not None else row["structure_name"]
        return self._complete(row, None, name, "", site, row["specialty"] or _SPECIALTY_OF.get(row["profession"]), ())

    def _complete(
        self,
        row: Any,
        rpps: str | None,
        family: str,
        given: str,
        site: Site,
        specialty: str | None,
        cpts: tuple[Cpts, ...],
    ) -> Place:
        agenda = f"{rpps}-{site.id}" if rpps else site.id
        return Place(
            slot_id=str(row["id"]),
            rpps=rpps,
            family=family,
            given=given,
            site=site,
            start=row["starts"],
            end=row["ends"],
            zone=self._zone(row["territory"]),
            modes=(row["mode"],),
            visibilities=(row["visibility"].upper(),),
            booking_kind=row["booking_kind"],
            specialty=specialty,
            profession=PROFESSION_LABELS[Profession(row["profession"])],
            url=f"{self._booking}{agenda}",
            cpts=cpts,
        )

    def _site(self, row: Any, structure: NationalId | None) -> Site:
        commune = self._geography.by_code(row["insee"])
        record = self._directory.structure(row["structure"]) if row["structure"] else None
        label = row["label"] or row["structure_name"]
        city = commune.name if commune is not None else row["insee"]
        postcode = commune.postcodes[0] if commune is not None and commune.postcodes else row["insee"]
        return Site(
            id=_site_id(row["structure"] or "", row["insee"], row["lat"], row["lon"], row["label"] or ""),
            system=self._system,
            name=label or (record.name if record else city),
            # the wire wants a street; where nobody told it, the name of the place stands for it
            line=(record.line if record else None) or label or city,
            city=(record.city if record else None) or city,
            postcode=(record.postcode if record else None) or postcode,
            phone=row["phone"] or (record.phone if record else None),
            structure=structure,
        )

    def _cpts(self, numbers: Sequence[str]) -> Iterator[Cpts]:
        for finess in numbers:
            record = self._directory.structure(finess)
            if record is not None:
                yield Cpts(finess, record.name, record.phone)


@lru_cache(maxsize=50_000)
def _site_id(structure: str, insee: str, lat: float, lon: float, label: str) -> str:
    """Return the same id for the same place of practice, whoever asks and whenever."""
    text = f"{structure}|{insee}|{lat:.5f}|{lon:.5f}|{label}"
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()


def split_name(name: str) -> tuple[str, str]:
    """Split "Dr Marguerite Fictif" into (family, given): what is written in capitals, else the last word."""
    words = [word for word in name.split() if word.lower() not in _TITLES]
    capitals = [word for word in words if word.isupper() and len(word) > 1]
    family = capitals or words[-1:]
    return " ".join(family), " ".join(word for word in words if word not in family)
