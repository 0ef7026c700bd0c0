"""What a regulator types in one line, read as a need: "MG 69003 enfant < 4 h". Pure; communes are looked up elsewhere.

Words come in any order, with or without accents. Whatever is no word of the field is taken as the commune's name. An
age in figures becomes a band at once and is not kept.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from sas_matcher.domain.vocabulary import DELAY_SPAN, AgeBand, Mode, Offer, Profession

T = TypeVar("T")


class Phrase(NamedTuple):
    """A line as it was understood; what it does not say is None or empty.

    Attributes:
        profession: short code.
        specialty: TRE_R38 code; its profession goes with it.
        place: name, postcode or INSEE code of the commune, as typed.
        delay: the Hub's code.
        modes: what was named, in order.
        needs: what the place must offer.
        age_band: coarse age.
        radius_km: how far.
        mt: RPPS of the médecin traitant.
        priority: as typed (P2, R3 …); vital ones are refused later, by the door.
        notes: what was changed on the way, in French, to be shown.
    """

    profession: str | None = None
    specialty: str | None = None
    place: str = ""
    delay: str | None = None
    modes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    age_band: str | None = None
    radius_km: float | None = None
    mt: str | None = None
    priority: str | None = None
    notes: tuple[str, ...] = ()


_MINUTES: Final = sorted((int(span.total_seconds() // 60), str(code)) for code, span in DELAY_SPAN.items())
_CODE_OF_MINUTES: Final = {
    # 60 minutes have three codes: the plainest
    minutes: "1H" if minutes == 60 else code
    for minutes, code in _MINUTES
}
_NURSLING_MONTHS, _CHILD_YEARS, _SENIOR_YEARS = 24, 16, 75
"""Ages of the bands: nourrisson under 2, enfant under 16 (as for the médecin traitant, CSS art. L162-5-3), senior from
75 (age of the usual frailty screening); guess where the Hub's nomenclature gives no number."""
_MOST_WORDS: Final = 4
_LONGEST_NAME: Final = 8
"""Words of the commune whose name has most (INSEE 2026)."""
_LOOKED_AT: Final = 24
"""Words among which a commune is looked for. A line of 200 characters has about thirty; those of the field are out by
then, and each one more is eight look-ups."""
_UNITS: Final = {"h": 60, "m": 1, "j": 1440}

_PROFESSIONS: Final = {
    Profession.MG: "mg medecin generaliste|medecin|generaliste|docteur|medecine generale",
    Profession.PED: "ped pediatre|pediatrie",
    Profession.DENT: "dent dentiste|dentaire|chirurgien dentiste",
    Profession.SF: "sf sage femme|maieuticien",
    Profession.IDE: "ide infirmier|infirmiere|inf",
    Profession.KINE: "kine kinesitherapeute|masseur kinesitherapeute",
    Profession.PSY: "psy psychologue|psychiatre|psychiatrie",
    Profession.PODO: "podo podologue|pedicure|pedicure podologue",
    Profession.ORTHOPED: "orthoped orthopediste|orthesiste",
    Profession.ORTHOPHO: "orthopho orthophoniste",
    Profession.ORTHOPT: "orthopt orthoptiste",
}
_SPECIALTIES: Final = {
    "SM04": "cardio|cardiologue|cardiologie",
    "SM15": "dermato|dermatologue|dermatologie",
    "SM16": "endocrino|endocrinologue",
    "SM20": "gyneco|gynecologue|gynecologie",
    "SM32": "neuro|neurologue",
    "SM38": "ophtalmo|ophtalmologue|ophtalmologie",
    "SM39": "orl",
    "SM57": "allergo|allergologue",
}
_MODES: Final = {
    Mode.CABINET: "cabinet|au cabinet|sur place",
    Mode.TELE: "tele|teleconsultation|teleconsult|tlc|visio|video",
    Mode.VISITE: "visite|domicile|a domicile|vad",
}
_NAMED_NEEDS: Final = {
    Offer.ENFANT: "enfant|enfants",
    Offer.NOURRISSON: "nourrisson|bebe",
    Offer.PMR: "pmr|fauteuil|fauteuil roulant",
    Offer.SECTEUR1: "secteur1|secteur 1|s1",
    Offer.TIERS_PAYANT: "tp|tiers payant",
    Offer.ECG: "ecg",
    Offer.SUTURE: "suture|sutures|points",
    Offer.RADIO: "radio|radiographie",
    Offer.ECHO: "echo|echographie",
    Offer.BIOLOGIE: "biologie|bio|prise de sang",
    Offer.VACCINATION: "vaccin|vaccination",
    Offer.PLATRE: "platre",
    Offer.LSF: "lsf|langue des signes",
}
# the languages are called as their codes
_NEEDS: Final = {offer: _NAMED_NEEDS.get(offer, offer.value) for offer in Offer}
_AGES: Final = {
    AgeBand.NOURRISSON: "nourrisson|bebe",
    AgeBand.ENFANT: "enfant|enfants",
    AgeBand.ADULTE: "adulte",
    AgeBand.SENIOR: "senior|age|agee|personne agee",
}
_DELAYS: Final = {
    "ASAP": "asap|des que possible|au plus vite|urgent",
    "24H": "demain|24 heures",
    "48H": "apres demain|2 jours|deux jours",
}


def _table(*groups: tuple[str, dict[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Turn the lists above into word → [(kind, code)]."""
    table: dict[str, list[tuple[str, str]]] = {}
    for kind, codes in groups:
        for code, texts in codes.items():
            first, _, rest = texts.partition(" ") if kind == "profession" else ("", "", texts)
            for text in [first, *rest.split("|")]:
                if text:
                    table.setdefault(text, []).append((kind, str(code)))
    return table


def _codes(table: dict[Profession, str] | dict[Mode, str] | dict[Offer, str] | dict[AgeBand, str]) -> dict[str, str]:
    return {str(code): text for code, text in table.items()}


_WORDS: Final = _table(
    ("profession", _codes(_PROFESSIONS)),
    ("specialty", _SPECIALTIES),
    ("mode", _codes(_MODES)),
    ("need", _codes(_NEEDS)),
    ("age", _codes(_AGES)),
    ("delay", _DELAYS),
)
_BEFORE = r"(?:<=?|≤|avant|sous|dans(?: les)?|d'ici|en)"
_DELAY = re.compile(rf"(?:{_BEFORE} *)?\b(\d{{1,3}}) ?(?:(heures?|min|mn|minutes?|j|jours?)|h ?(\d\d)|(h))\b(?! ?km)")
_RADIUS = re.compile(r"(?:(?:<=?|≤|a moins de|moins de|rayon(?: de)?|a) *)?(\d{1,3}(?:[.,]\d)?) ?km\b")
_AGE = re.compile(r"\b(\d{1,3}) ?(ans?|mois)\b")
_MT = re.compile(r"\bmt *:? *(\d{11,12})\b")
_PRIORITY = re.compile(r"\b([pr][0-4])\b")


def plain(text: str) -> str:
    """Return text in lower case without accents or typographic signs, hyphens as spaces."""
    folded = unicodedata.normalize("NFKD", text.lower().replace("’", "'").replace("œ", "oe"))
    kept = "".join(sign for sign in folded if not unicodedata.combining(sign))
    return re.sub(r"[\s\-,;/+_]+", " ", kept).strip()


def delay_of(minutes: int) -> tuple[str, str | None]:
    """Return the Hub's code for a delay, never later than what was said; and a note when it is earlier."""
    known = [bound for bound in _CODE_OF_MINUTES if bound <= minutes]
    if not known:
        return "30M", "délai porté à 30 min, le plus court"
    bound = max(known)
    code = _CODE_OF_MINUTES[bound]
    return code, None if bound == minutes else f"délai ramené à {code.replace('H', ' h').replace('M', ' min')}"


def band_of(number: int, unit: str) -> AgeBand:
    """Return the age band of an age in years (``an``…) or months."""
    months = number if unit == "mois" else 12 * number
    if months < _NURSLING_MONTHS:
        return AgeBand.NOURRISSON
    if months < 12 * _CHILD_YEARS:
        return AgeBand.ENFANT
    return AgeBand.SENIOR if months >= 12 * _SENIOR_YEARS else AgeBand.ADULTE


class _Reader:
    """A line while it is read: what is understood leaves it, what stays at the end is the commune."""

    def __init__(self, text: str) -> None:
        self.text = f" {plain(text)} "
        self.found: dict[str, list[str]] = {}
        self.notes: list[str] = []

    def cut(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Take the first match out of the line."""
        match = pattern.search(self.text)
        if match is not None:
            self.text = f"{self.text[: match.start()]} {self.text[match.end() :]}"
        return match

    def note(self, kind: str, code: str) -> None:
        known = self.found.setdefault(kind, [])
        if code not in known:
            known.append(code)

    def words(self) -> None:
        """Take the field's words out, longest first."""
        words = self.text.split()
        left: list[str] = []
        while words:
            for length in range(min(_MOST_WORDS, len(words)), 0, -1):
                meanings = _WORDS.get(" ".join(words[:length]))
                if meanings is not None:
                    for kind, code in meanings:
                        self.note(kind, code)
                    del words[:length]
                    break
            else:
                left.append(words.pop(0))
        self.text = " ".join(left)

    def one(self, kind: str) -> str | None:
        """Return the last that was said of a kind."""
        said = self.found.get(kind)
        return said[-1] if said else None


def read_phrase(text: str) -> Phrase:
    """Read a line; everything in it that is not understood is in ``place``."""
    line = _Reader(text)
    mt, radius, age = line.cut(_MT), line.cut(_RADIUS), line.cut(_AGE)
    delay = line.cut(_DELAY)
    priority = line.cut(_PRIORITY)
    if delay is not None:
        unit = (delay[2] or "h")[0]
        code, note = delay_of(int(delay[1]) * _UNITS[unit] + int(delay[3] or 0))
        line.note("delay", code)
        line.notes += [note] if note else []
    if age is not None:
        band = str(band_of(int(age[1]), age[2]))
        line.note("age", band)
        if band in (AgeBand.NOURRISSON, AgeBand.ENFANT):
            line.note("need", band)
    line.words()
    # signs that introduced nothing, and the little words between what is left of a place
    place = re.sub(r"^(?:[<≤=:.]|a |au |aux |en |pour |un |une |de )+|[<≤=:.]+$", "", line.text).strip()
    return Phrase(
        profession=line.one("profession"),
        specialty=line.one("specialty"),
        place=place,
        delay=line.one("delay"),
        modes=tuple(line.found.get("mode", ())),
        needs=tuple(line.found.get("need", ())),
        age_band=line.one("age"),
        radius_km=None if radius is None else float(radius[1].replace(",", ".")),
        # a national identifier may be typed with its prefix 8
        mt=None if mt is None else mt[1][-11:],
        priority=None if priority is None else priority[1].upper(),
        notes=tuple(line.notes),
    )


def find_place(place: str, search: Callable[[str], Sequence[T]]) -> tuple[Sequence[T], str]:
    """Look up a commune in words among which there may be others; returns what was found and the words left out.

    The longest run of words that a commune answers to wins, the first of those: "fievre caluire" is Caluire. What is
    looked up is bounded, whatever the line; words after that are left out like others that are not understood.

    Args:
        place: as of ``Phrase``.
        search: communes by name, postcode or code.
    """
    words, unknown = place.split(), set[str]()
    among = min(len(words), _LOOKED_AT)
    for length in range(min(among, _LONGEST_NAME), 0, -1):
        for first in range(among - length + 1):
            run = " ".join(words[first : first + length])
            # one or two letters begin some commune's name everywhere
            if len(run) <= 2 or run in unknown:
                continue
            if found := search(run):
                return found, " ".join([*words[:first], *words[first + length :]])
            unknown.add(run)
    return (), place
