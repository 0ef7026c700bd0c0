"""The need as the regulation page holds it: fields of its form, filled by hand or from the line, and their request."""

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from sas_matcher.api.inputs.reading import parse
from sas_matcher.api.inputs.schemas import RequestIn
from sas_matcher.console.phrase import find_place, read_phrase
from sas_matcher.console.visit import Form
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.domain.vocabulary import SPECIALTIES, Mode, Profession
from sas_matcher.ports.world import CommuneRecord, Geography

GIVEN: Final = ("commune", "profession", "delay", "mt", "priority")
"""What a regulator's software may say of its patient: it stays as given where a line says nothing of it."""
BY_HAND: Final = (
    "commune",
    "profession",
    "delay",
    "modes",
    "needs",
    "age_band",
    "radius_km",
    "mt",
    "priority",
    "deferred",
)
"""What may be set by hand beside a line, and counts until the line changes."""
FIELDS: Final = (
    "phrase",
    "read",
    *BY_HAND,
    "case_ref",
    "by_hand",
    *(f"given_{name}" for name in GIVEN),
)
_CODE = re.compile(r"\((\d[\dAB]\d{3})\)\s*$")
_SHOWN: Final = 6
LONGEST_PHRASE: Final = 200
"""Characters, as the page lets type."""
_USUAL_DELAY: Final = "24H"


@dataclass(frozen=True)
class Wanted:
    """What is asked for, as the form shows it.

    Attributes:
        phrase: the line as typed.
        commune: "Nom (code)", as the completion writes it; ``others`` are communes that answer to the same words.
        profession: short code, or TRE_R38 code of a specialty.
        deferred: the patient is called back later (not on the phone).
        case_ref: number of the patient's file in a regulator's software.
        notes: what reading the line changed or left out, in French.
    """

    phrase: str = ""
    commune: str = ""
    others: tuple[str, ...] = ()
    profession: str = str(Profession.MG)
    delay: str = _USUAL_DELAY
    modes: tuple[str, ...] = (str(Mode.CABINET),)
    needs: tuple[str, ...] = ()
    age_band: str = ""
    radius_km: str = ""
    mt: str = ""
    priority: str = "P2"
    deferred: bool = False
    case_ref: str = ""
    notes: tuple[str, ...] = ()


def labelled(commune: CommuneRecord) -> str:
    """Return a commune as the form writes it."""
    return f"{commune.name} ({commune.code})"


def communes(geography: Geography, text: str, territories: Collection[str]) -> Sequence[CommuneRecord]:
    """Return communes that answer to what was typed, those of one's own territories first."""
    anywhere = geography.search(text, _SHOWN)
    if not anywhere:
        return ()
    own = [
        found
        for code in sorted(territories)
        if code in geography.territories
        for found in geography.search(text, _SHOWN, code)
    ]
    known = {commune.code for commune in own}
    rest = [found for found in anywhere if found.code not in known]
    return [*own, *rest][:_SHOWN]


def from_phrase(text: str, geography: Geography, territories: Collection[str], before: Wanted | None = None) -> Wanted:
    """Return what a line asks for; what it does not say is as usual, or as it was (``before``)."""
    told = [f"ligne coupée à {LONGEST_PHRASE} caractères"] if len(text) > LONGEST_PHRASE else []
    text = text[:LONGEST_PHRASE]
    said, start = read_phrase(text), before or Wanted()
    found, left_out = find_place(said.place, lambda words: communes(geography, words, territories))
    notes = told + list(said.notes)
    if said.place and not found:
        notes.append(f"commune inconnue : « {said.place} »")
    elif left_out:
        # a motive is not kept anywhere: say that it was not understood, nothing else
        notes.append(f"non compris : « {left_out} »")
    names = [labelled(commune) for commune in found]
    return replace(
        start,
        phrase=text,
        commune=names[0] if names else start.commune,
        others=tuple(names[1:]),
        profession=said.specialty or said.profession or start.profession,
        delay=said.delay or start.delay,
        modes=said.modes or start.modes,
        needs=said.needs or start.needs,
        age_band=said.age_band or start.age_band,
        radius_km=f"{said.radius_km:g}" if said.radius_km else start.radius_km,
        mt=said.mt or start.mt,
        priority=said.priority or start.priority,
        notes=tuple(notes),
    )


def given_by(form: Form) -> Wanted:
    """Return what a regulator's software said of the patient whom the form is about; as usual where it said nothing."""
    said: dict[str, Any] = {name: form.text(f"given_{name}") for name in GIVEN}
    return Wanted(case_ref=form.text("case_ref"), **{name: text for name, text in said.items() if text})


def from_form(form: Form, geography: Geography, territories: Collection[str]) -> Wanted:
    """Return what the form asks for: its fields, unless the line has changed since they were filled from it.

    Raises:
        InvalidInputError: a field that is not of it, or a line that would be read in part only.
    """
    form.only(*FIELDS)
    if len(form.text("phrase")) > LONGEST_PHRASE:
        raise InvalidInputError.of("phrase", f"la ligne a plus de {LONGEST_PHRASE} caractères")
    filled = Wanted(
        phrase=form.text("phrase"),
        commune=form.text("commune"),
        profession=form.text("profession", str(Profession.MG)),
        delay=form.text("delay", _USUAL_DELAY),
        modes=tuple(form.several("modes")) or (str(Mode.CABINET),),
        needs=tuple(form.several("needs")),
        age_band=form.text("age_band"),
        radius_km=form.text("radius_km"),
        mt=form.text("mt").replace(" ", ""),
        priority=form.text("priority", "P2"),
        deferred=bool(form.text("deferred")),
        case_ref=form.text("case_ref"),
    )
    if filled.phrase and (filled.phrase != form.text("read") or not filled.commune):
        # Enter came before the answer of the reading: the line is what was meant, and what was set by hand since
        read = from_phrase(filled.phrase, geography, territories, given_by(form))
        by_hand = [
            name for name in form.several("by_hand") if name in BY_HAND and (filled.commune or name != "commune")
        ]
        return replace(read, **{name: getattr(filled, name) for name in by_hand})
    return filled


def code_of(wanted: Wanted, geography: Geography, territories: Collection[str]) -> str:
    """Return the INSEE code of the commune.

    Raises:
        InvalidInputError: none is given, or none answers to it.
    """
    chosen = _CODE.search(wanted.commune)
    if chosen is not None:
        return chosen[1]
    if not wanted.commune.strip():
        unknown = next((note for note in wanted.notes if note.startswith("commune inconnue")), None)
        raise InvalidInputError.of("commune", unknown or "indiquez la commune du patient (nom ou code postal)")
    found = communes(geography, wanted.commune, territories)
    if not found:
        raise InvalidInputError.of("commune", f"« {wanted.commune} » est inconnue ; tapez un nom ou un code postal")
    return found[0].code


def request_of(wanted: Wanted, geography: Geography, territories: Collection[str]) -> dict[str, Any]:
    """Return the request, checked as the API checks it.

    Raises:
        VitalPriorityError: the priority is vital.
        InvalidInputError: a field is wrong.
    """
    try:
        radius = float(wanted.radius_km.replace(",", ".")) if wanted.radius_km else None
        if radius is not None and not math.isfinite(radius):
            raise ValueError("JSON has none: it would be asked for without one")
    except ValueError as wrong:
        raise InvalidInputError.of("radius_km", "doit être un nombre de kilomètres") from wrong
    specialty = wanted.profession if wanted.profession in SPECIALTIES else None
    body = {
        "insee": code_of(wanted, geography, territories),
        "profession": None if specialty else wanted.profession,
        "specialty": specialty,
        "modes": wanted.modes,
        "delay": wanted.delay,
        "radius_km": radius,
        "needs": wanted.needs,
        "age_band": wanted.age_band or None,
        "mt": wanted.mt or None,
        "priority": wanted.priority,
        "on_phone": not wanted.deferred,
        "case_ref": wanted.case_ref or None,
    }
    return parse(RequestIn, orjson.dumps(body)).model_dump()
