"""From what an editor offers to slots as the service publishes them; what cannot be placed is counted, not guessed.

The wire has no coordinates: a place stands at the town hall of its commune (postcode and city name). It has no offers
(child, wheelchair …) either: a request that needs some is not matched to it.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from adapters.fhir.asking import Flow, booking_page
from adapters.fhir.identifiers import Kind
from adapters.fhir.reading import Offered, Searchset
from sas_matcher.domain.vocabulary import PROFESSION_LABELS, SPECIALTIES, Profession
from sas_matcher.ports.editors import EditorAnswer
from sas_matcher.ports.world import CommuneRecord, Directory, Geography

_NARROWEST: Final = ("snp", "cpts", "pro", "public")  # a slot has one visibility here; regulators see all four
_PROFESSION_OF: Final = {label.casefold(): code for code, label in PROFESSION_LABELS.items()}
_MOST_TEXT: Final = 160
_MOST_URL: Final = 2_048  # what every browser opens


class Placing:
    """Places what editors offer, with what directory and gazetteer know."""

    def __init__(self, geography: Geography, directory: Directory) -> None:
        self._geography = geography
        self._directory = directory
        # France has 35 000 communes: an editor that invents names does not fill the memory
        self._commune_of = lru_cache(maxsize=40_000)(self._find)
        # the gazetteer's two indexes are made at the first search: half a second that must not come between answers
        geography.search("01000", 1)
        geography.search("BOURG", 1)

    def answer(self, read: Searchset, flow: Flow, origin: str) -> EditorAnswer:
        """Return the places of an answer; a slot of several consultation types is one place for each."""
        dropped = Counter(read.dropped)
        slots: list[Mapping[str, Any]] = []
        for offered in read.offered:
            wrong = self._unplaceable(offered)
            if wrong is not None:
                dropped[wrong] += 1
            else:
                slots += self._slots(offered, flow, origin)
        return EditorAnswer(slots, dropped)

    def _unplaceable(self, offered: Offered) -> str | None:
        if self._commune(offered) is None:
            return "no_commune"
        if self._profession(offered) is None:
            return "no_profession"
        # a visit or a consultation takes no five hours: a plage, which this contract has no way to say
        return "too_long" if (offered.end - offered.start).total_seconds() > 4 * 3600 else None

    def _slots(self, offered: Offered, flow: Flow, origin: str) -> Iterator[Mapping[str, Any]]:
        commune, profession = self._commune(offered), self._profession(offered)
        if commune is None or profession is None:  # pragma: no cover - asked before
            raise LookupError(offered.slot_id)
        specialty = self._specialty(offered, profession)
        seen = {code.lower() for code in offered.visibilities}
        # whatever else came is not a page to send a regulator to
        page = (offered.url or "").startswith(("https://", "http://")) and len(offered.url or "") <= _MOST_URL
        url = offered.url if offered.bookable and page else None
        common: dict[str, Any] = {
            "professional": self._professional(offered),
            "structure": self._structure(offered, flow),
            "source_kind": "sos" if flow is Flow.SOS else "cpts" if offered.structures else "liberal",
            "location": {
                "lat": commune.lat,
                "lon": commune.lon,
                "insee": commune.code,
                "label": _short(offered.site.name or offered.site.line),
                "phone": offered.site.phone,
            },
            "start": offered.start,
            "end": offered.end,
            "capacity": 1,
            "booking_kind": "routine" if offered.bookable else "walkin",
            "profession": profession,
            "specialty": specialty,
            "offers": [],
            "link": booking_page(url, origin) if url else None,
            "visibility": next(name for name in _NARROWEST if name in seen),
        }
        for mode in offered.modes:
            name = offered.slot_id if mode == offered.modes[0] else f"{offered.slot_id}|{mode}"
            yield {**common, "external_id": name, "mode": mode}

    def _professional(self, offered: Offered) -> dict[str, str] | None:
        if offered.practitioner is None:
            return None
        name = f"{offered.given} {offered.family}".strip()
        if not name and (person := self._directory.person(offered.practitioner.bare)) is not None:
            name = f"{person.given} {person.family}".strip()
        return {"rpps": offered.practitioner.bare, "name": name[:_MOST_TEXT] or offered.practitioner.prefixed}

    def _structure(self, offered: Offered, flow: Flow) -> dict[str, str] | None:
        structure = offered.site.structure
        if structure is None or (structure.kind is not Kind.FINESS and flow is not Flow.SOS):
            return None
        name = _short(offered.site.name) or structure.prefixed
        return {"finess": structure.bare, "name": name}

    def _profession(self, offered: Offered) -> str | None:
        """Return the profession: by a specialty's code, its text, the directory; a site of SOS Médecins has doctors."""
        for code in offered.specialties:
            if code in SPECIALTIES:
                return str(SPECIALTIES[code][1])
        for text in offered.specialty_texts:
            if text.casefold() in _PROFESSION_OF:
                return str(_PROFESSION_OF[text.casefold()])
        if offered.practitioner is None:
            return str(Profession.MG)
        person = self._directory.person(offered.practitioner.bare)
        known = SPECIALTIES.get(person.specialty or "") if person is not None else None
        return str(known[1]) if known else None

    def _specialty(self, offered: Offered, profession: str) -> str | None:
        codes = [code for code in offered.specialties if code in SPECIALTIES and SPECIALTIES[code][1] == profession]
        return codes[0] if codes else None

    def _commune(self, offered: Offered) -> CommuneRecord | None:
        return self._commune_of(offered.site.postcode or "", _short(offered.site.city) or "")

    def _find(self, postcode: str, city: str) -> CommuneRecord | None:
        name = plain_name(city)
        near = self._geography.search(postcode, 60) if re.fullmatch(r"\d[0-9AB]\d{3}", postcode) else ()
        of_code = [commune for commune in near if postcode in commune.postcodes]
        named = [(commune, plain_name(commune.name)) for commune in of_code]
        # a part of Paris, Lyon or Marseille before the whole city, which has all their postcodes
        parts = [commune for commune, plain in named if re.fullmatch(rf"{name} \d+ER? ARRONDISSEMENT", plain)]
        same = [commune for commune, plain in named if plain == name]
        if of_code:
            return (parts or same or of_code)[0]
        # a postcode of a company ("CEDEX") is in no gazetteer
        alike = [commune for commune in self._geography.search(name, 20) if plain_name(commune.name) == name]
        inside = [commune for commune in alike if any(code[:2] == postcode[:2] for code in commune.postcodes)]
        return inside[0] if inside else None


def plain_name(city: str) -> str:
    """Return a city's name as it compares: no accents, capitals, "ST" written out, no CEDEX."""
    text = unicodedata.normalize("NFD", city.upper())
    words = re.sub(r"[^A-Z0-9]+", " ", "".join(c for c in text if not unicodedata.combining(c))).split()
    if "CEDEX" in words:
        words = words[: words.index("CEDEX")]
    return " ".join({"ST": "SAINT", "STE": "SAINTE"}.get(word, word) for word in words)


def _short(text: str | None) -> str | None:
    return text[:_MOST_TEXT] if text else None
