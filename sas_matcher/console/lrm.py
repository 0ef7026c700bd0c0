"""Opening from a regulator's software by URL (INT_L01 V1.3): what is read of it, and what is dropped at once.

The street is not kept anywhere: not in the page, not in an address, not in a log. Without a geocoder the point is the
commune's; the page says so. Names of parameters as the national code reads them; ``delay``, ``priority`` and
``caseref`` are ours and optional.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from sas_matcher.console.wanted import labelled
from sas_matcher.domain.errors import InvalidInputError, NotAllowedError
from sas_matcher.domain.vocabulary import SPECIALTIES, Delay, Priority, Profession
from sas_matcher.ports.world import Geography

LIFE_S: Final = 900
"""So long an opening waits for its regulator to sign in."""
_OID = re.compile(r"urn:oid:\d+(?:\.\d+)+\|([A-Za-z0-9]+)")
_RPPS = re.compile(r"urn:oid:1\.2\.250\.1\.71\.4\.2\.1\|8(\d{11})")
_REF = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
# the national code maps arrondissements to their city; we keep them, they are nearer


class Opening(NamedTuple):
    """What an opening asks for: fields of the form, and what to tell of what was dropped."""

    fields: dict[str, Any]
    notes: tuple[str, ...]


def is_opening(query: Mapping[str, str]) -> bool:
    """Tell whether an address is an opening: ``origin`` says which software calls."""
    return "origin" in query


def read_opening(query: Mapping[str, str], origins: Collection[str], geography: Geography) -> Opening:
    """Read an opening.

    Raises:
        NotAllowedError: the software is not known here ("flux désactivé").
        InvalidInputError: neither code nor name gives a commune.
    """
    if query["origin"] not in origins:
        raise NotAllowedError("Flux désactivé : ce logiciel de régulation n'est pas déclaré ici (SAS_LRM_ORIGINS).")
    named = geography.search(query.get("city", ""), 1)
    commune = geography.by_code(query.get("inseecode", "")) or next(iter(named), None)
    if commune is None:
        raise InvalidInputError.of("inseecode", "ni ce code ni ce nom ne sont ceux d'une commune")
    fields: dict[str, Any] = {"commune": labelled(commune)}
    notes = []
    if query.get("streetname") or query.get("streetnumber"):
        notes.append("adresse non reprise : la distance est comptée depuis la commune")
    specialty = query.get("specialty") or query.get("speciality")
    if specialty:
        coded = _OID.fullmatch(specialty)
        code = coded[1] if coded else specialty
        if code in SPECIALTIES or code in set(Profession):
            fields["profession"] = code
        else:
            notes.append("spécialité inconnue : médecine générale")
    doctor = query.get("practitioner")
    if doctor:
        rpps = _RPPS.fullmatch(doctor)
        if rpps is not None:
            fields["mt"] = rpps[1]
        else:
            # sas_pf_001 of the national code; a free name identifies nobody surely
            notes.append("médecin traitant non repris : son RPPS n'est pas lisible")
    if query.get("delay") in set(Delay):
        fields["delay"] = query["delay"]
    if query.get("priority") in set(Priority):
        fields["priority"] = query["priority"]
    if _REF.fullmatch(query.get("caseref", "")):
        fields["case_ref"] = query["caseref"]
    return Opening(fields, tuple(notes))
