"""The field's words as pages say them, and how hours, delays and distances are written in French."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from sas_matcher.domain.crisis import NATION, REGION
from sas_matcher.domain.errors import SasError
from sas_matcher.domain.vocabulary import PROFESSION_LABELS, SOURCE_LABELS, SPECIALTIES, Role

ROLES: Final[dict[str, str]] = {
    Role.REGULATOR: "Médecin régulateur",
    Role.OSNP: "Opérateur de soins non programmés (OSNP)",
    Role.ARM: "Assistant de régulation médicale (ARM)",
    Role.IOA: "Infirmier organisateur de l'accueil (IOA)",
    Role.PROFESSIONAL: "Professionnel",
    Role.DELEGATE: "Délégué, secrétariat",
    Role.MANAGER: "Responsable de structure",
    Role.CPTS: "Coordination de CPTS",
    Role.ARS: "ARS",
    Role.GESTIONNAIRE: "Gestionnaire de centres",
    Role.PREFECTURE: "Préfecture",
    Role.ADMIN: "Administration",
}
STATUSES: Final[dict[str, str]] = {
    "waiting": "En attente",
    "promised": "Promise",
    "held": "Place gardée",
    "firm": "Confirmée",
    "lapsed": "Garde terminée",
    "unserved": "Sans place",
    "cancelled": "Annulée",
    "fulfilled": "Venu",
    "noshow": "Pas venu",
}
MODES: Final[dict[str, str]] = {"cabinet": "Au cabinet", "tele": "Téléconsultation", "visite": "À domicile"}
SOURCES: Final = SOURCE_LABELS
DELAYS: Final[dict[str, str]] = {
    "ASAP": "Dès que possible (1 h au plus)",
    "30M": "30 minutes",
    "45M": "45 minutes",
    "1H": "1 heure",
    "2H": "2 heures",
    "4H": "4 heures",
    "8H": "8 heures",
    "12H": "12 heures",
    "24H": "24 heures",
    "48H": "48 heures",
}
NEEDS: Final[dict[str, str]] = {
    "enfant": "Enfant",
    "nourrisson": "Nourrisson",
    "pmr": "Accès PMR",
    "secteur1": "Secteur 1",
    "tiers_payant": "Tiers payant",
    "ecg": "ECG",
    "suture": "Suture",
    "radio": "Radiographie",
    "echo": "Échographie",
    "biologie": "Biologie",
    "vaccination": "Vaccination",
    "platre": "Plâtre",
    "lsf": "Langue des signes",
    "anglais": "Anglais",
    "allemand": "Allemand",
    "arabe": "Arabe",
    "creole": "Créole",
    "espagnol": "Espagnol",
    "italien": "Italien",
    "mandarin": "Mandarin",
    "portugais": "Portugais",
    "russe": "Russe",
    "shimaore": "Shimaoré",
    "turc": "Turc",
    "ukrainien": "Ukrainien",
}
AGES: Final[dict[str, str]] = {
    "nourrisson": "Nourrisson",
    "enfant": "Enfant",
    "adulte": "Adulte",
    "senior": "Personne âgée",
}
PLACES: Final[dict[str, str]] = {
    "free": "libre",
    "held": "un régulateur l'examine",
    "booked": "réservée",
    "closed": "fermée",
    "handed_back": "rendue au cabinet",
    "withdrawn": "retirée",
}
"""What a practice's place is (see ``cabinet.board.Place.state``)."""
VISIBILITIES: Final[dict[str, str]] = {
    "snp": "Régulateurs du SAS",
    "cpts": "Régulateurs et membres de la CPTS",
    "pro": "Tous les professionnels",
    "public": "Tout le monde",
}
CHANNELS: Final[dict[str, str]] = {"sas": "régulateurs du SAS", "platform": "plateforme nationale"}
SENT: Final[dict[str, str]] = {"waiting": "En attente", "sent": "Arrivé", "refused": "Abandonné"}
COUNTS: Final[dict[str, str]] = {"patients": "patients", "visits": "visites à domicile", "children": "enfants"}
PERIODS: Final[dict[str, str]] = {"day": "jour", "half_day": "demi-journée"}
GONE: Final[dict[str, str]] = {
    "cancelled": "Annulé",
    "refused": "Refusé",
    "withdrawn": "Place retirée",
    "replaced": "Déplacé",
    "displaced": "Déplacé",
    "lapsed": "Non confirmé",
}
"""How a booking of a practice ended."""
SHORT_MODES: Final[dict[str, str]] = {"cabinet": "cabinet", "tele": "téléc.", "visite": "visite"}
FIELD_LABELS: Final[dict[str, str]] = {
    "start": "début",
    "end": "fin",
    "first": "premier jour",
    "repeat": "répétition",
    "each_min": "durée de chaque rendez-vous",
    "capacity": "nombre de patients",
    "piece_min": "morceaux",
    "from": "début",
    "to": "fin",
    "url": "adresse",
    "accept_min": "minutes pour accepter",
    "hand_back_min": "minutes avant le début",
    "info": "information",
    "label": "lieu",
    "phone": "téléphone",
    "rpps": "RPPS",
    "case_ref": "dossier",
    "finess": "FINESS",
    "lat": "latitude",
    "lon": "longitude",
    "name": "nom",
    "login": "identifiant",
    "password": "mot de passe",
    "again": "nouveau mot de passe",
    "role": "rôle",
    "who": "pour qui",
    "most": "au plus",
    "share": "part des places",
    "address": "adresse",
    "kinds": "quand",
    "ask_from": "questions de",
    "ask_to": "questions jusqu'à",
    "days": "jours",
    "most_a_day": "par jour, au plus",
    "minutes": "durée d'une consultation",
    "cpts": "CPTS",
    "own_first_min": "mes patients d'abord",
    "count": "nombre de places",
    "at": "heure",
    "level": "niveau",
    "why": "motif",
    "scope": "périmètre",
    "hours": "durée en heures",
    "text": "message",
    "day": "journées",
    "way": "façons de décider",
    "steps": "marches de l'échelle",
    "lends": "ce que nous prêtons",
    "contacts": "contacts",
    "radius_pct": "rayon accordé",
    "urgent_reserve_pct": "places gardées pour T0 et T1",
    "tele_bonus_min": "préférence pour la téléconsultation",
    "borrow_km": "portée des emprunts",
    "hold_seconds": "durée d'une place gardée",
    "mt_ask_min": "temps laissé au médecin traitant",
    "ageing_pct_per_h": "priorité gagnée par heure d'attente",
    "fair_load_min": "équité de charge",
    "radius_km": "rayon",
    "waves": "vagues",
    "at_once": "sollicités par vague",
    "wait_min": "minutes",
    "booking_id": "rendez-vous",
    "slot_id": "créneau",
    "request_id": "demande",
    "version": "version",
}
"""What forms call their fields, by the names that the API has for them."""
_TOLD: Final = 5  # of many errors at once; the others come up when these are mended
PARIS: Final = ZoneInfo("Europe/Paris")
WEEKDAYS: Final = ("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche")
_MONTHS: Final = (
    *("janvier", "février", "mars", "avril", "mai", "juin"),
    *("juillet", "août", "septembre", "octobre", "novembre", "décembre"),
)
_DAYS: Final = ("lun.", "mar.", "mer.", "jeu.", "ven.", "sam.", "dim.")


LEVELS: Final[dict[str, str]] = {"normal": "Normal", "tension": "Tension", "crise": "Crise"}
POLICIES: Final[dict[str, str]] = {
    "firm": "Ferme : chaque place est définitive dès qu'elle est donnée",
    "promise": "Promesse : « vu avant telle heure », la place peut encore bouger",
    "crisis": "Crise : un plus urgent peut prendre la place d'une promesse",
    "auto": "Automatique : promesse, courts délais pour qui attend ; crise là où elle est permise et déclarée",
}


def _instant(value: str | datetime) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def hour(value: str | datetime, zone: ZoneInfo = PARIS) -> str:
    """Return an hour of the day: ``14 h 05``."""
    # the spaces of an hour, a distance do not break
    return f"{_instant(value).astimezone(zone):%-H\u00a0h\u00a0%M}"


def hour_text(value: str) -> str:
    """Return a wall-clock time as one says it: ``08:30`` → ``8 h 30``."""
    hours, _, minutes = value.partition(":")
    return f"{int(hours)}\u00a0h\u00a0{minutes}"


def between(start: str, end: str) -> str:
    """Return two wall-clock times as one says them: ``de 9 h 00 à 18 h 30``, ``à toute heure``."""
    return "à toute heure" if (start, end) == ("00:00", "24:00") else f"de {hour_text(start)} à {hour_text(end)}"


def weekdays(numbers: Sequence[int]) -> str:
    """Return ISO weekdays as one says them: ``tous les jours``, ``du lundi au vendredi``, ``lundi, jeudi``."""
    days = sorted(numbers)
    if len(days) == len(WEEKDAYS):
        return "tous les jours"
    names = [WEEKDAYS[day - 1] for day in days]
    in_a_row = len(days) > 2 and days[-1] - days[0] == len(days) - 1
    return f"du {names[0]} au {names[-1]}" if in_a_row else ", ".join(names)


def rule(name: str) -> str:
    """Return what let a place be seen: the practice's own publication, a rule of theirs, a consent en sus."""
    if name == "publication":
        return "votre publication"
    consent = name.removeprefix("en_sus:")
    return f"accord « {consent} »" if consent != name else f"règle « {name} »"


def refusal(error: SasError) -> str:
    """Return why something was refused, in the words of the form: of each field its label, never its name."""
    lines = []
    for wrong in (error.extra.get("errors") or [])[:_TOLD]:
        parts = [part for part in re.split(r"[/.]", wrong["field"]) if not part.isdigit()] or [""]
        message = re.sub("^format inattendu ; attendu : .*", "n'a pas la forme attendue", wrong["message"])
        message = re.sub(r"^1 caractère\(s\) au moins$", "à remplir", message)
        message = re.sub(r"\b(most|share) \([^)]*\)", lambda found: f"« {FIELD_LABELS[found[1]]} »", message)
        # a name that is no label and not one of the API's is one that the form made up
        # of a list that is one field of a form, that field
        last = next((part for part in parts if part in ("lends", "contacts", "steps")), parts[-1])
        label = FIELD_LABELS.get(last, last if not re.fullmatch("[a-z_0-9]*", last) else "")
        if stage := next((LEVELS[part] for part in parts if part in LEVELS), ""):
            label = f"{stage}, {label}"
        lines.append(f"{label[0].upper()}{label[1:]} : {message}" if label else f"{message[:1].upper()}{message[1:]}")
    return " · ".join(dict.fromkeys(lines)) or error.detail


def with_labels(sentence: str) -> str:
    """Return a sentence of the engine whose needs have their names: ``sans « Tiers payant »`` of ``tiers_payant``."""
    return re.sub("« ([a-z0-9_]+) »", lambda found: f"« {NEEDS.get(found[1], found[1])} »", sentence)


def local(value: str) -> str:
    """Return a wall-clock time of an agenda: ``2026-12-24T12:00`` → ``24/12/2026 12 h 00``."""
    return f"{date.fromisoformat(value[:10]):%d/%m/%Y} {hour_text(value[11:16])}"


def dated(value: str | datetime, zone: ZoneInfo = PARIS) -> str:
    """Return the end of a period: ``26/11/2026 à 14 h 05``."""
    return f"{_instant(value).astimezone(zone):%d/%m/%Y} à {hour(value, zone)}"


def when(value: str | datetime, now: datetime, zone: ZoneInfo = PARIS) -> str:
    """Return a day and hour as one says them: ``aujourd'hui 14 h 05``, ``demain 9 h 00``, ``jeu. 3/12 9 h 00``."""
    local = _instant(value).astimezone(zone)
    return f"{day_name(local.date(), now.astimezone(zone).date())} {hour(local, zone)}"


def day_name(value: date, today: date) -> str:
    """Return a day as one says it, shortly: ``aujourd'hui``, ``demain``, ``jeu. 3/12``."""
    named = {-1: "hier", 0: "aujourd'hui", 1: "demain"}.get((value - today).days)
    return named or f"{_DAYS[value.weekday()]} {value.day}/{value.month}"


def part_of_day(value: str | datetime, period: str, now: datetime, zone: ZoneInfo = PARIS) -> str:
    """Return when a limit counts anew: ``aujourd'hui``, ``demain matin``, ``jeu. 3/12 après-midi``."""
    named = when(value, now, zone).rpartition(" ")[0]
    half = "matin" if _instant(value).astimezone(zone).hour < 12 else "après-midi"
    return named if period == "day" else f"{named} {half}"


def day(value: date, today: date) -> str:
    """Return a day as one says it: ``Aujourd'hui, jeudi 26 novembre``."""
    named = {-1: "Hier, ", 0: "Aujourd'hui, ", 1: "Demain, "}.get((value - today).days, "")
    text = f"{named}{WEEKDAYS[value.weekday()]} {value.day} {_MONTHS[value.month - 1]}"
    return text[0].upper() + text[1:]


def short(value: str | datetime, now: datetime, zone: ZoneInfo = PARIS) -> str:
    """Return an hour, with its day when that is not today: ``14 h 05``, ``demain 9 h 00``."""
    return when(value, now, zone).removeprefix("aujourd'hui ")


def span(minutes: float) -> str:
    """Return a length of time: ``moins d'une minute``, ``25 min``, ``3 h 05``, ``2 j 4 h``."""
    whole = round(minutes)
    if whole < 1:
        return "moins d'une minute"
    if whole < 60:
        return f"{whole}\u00a0min"
    if whole < 48 * 60:
        return f"{whole // 60}\u00a0h\u00a0{whole % 60:02d}" if whole % 60 else f"{whole // 60}\u00a0h"
    return f"{whole // 1440}\u00a0j {whole % 1440 // 60}\u00a0h"


def scope_name(scope: str) -> str:
    """Return the name of a scope of crisis after ``pour``: ``la région Bretagne``, ``toute la France``, ``69``."""
    if scope == NATION:
        return "toute la France"
    return f"la région {scope.removeprefix(REGION)}" if scope.startswith(REGION) else scope


def minutes_until(value: str | datetime, now: datetime) -> float:
    """Return minutes from now to an instant, negative when it has passed."""
    return (_instant(value) - now).total_seconds() / 60


def km(value: float) -> str:
    """Return a distance: ``0,8 km``, ``12 km``."""
    return f"{value:.1f}\u00a0km".replace(".", ",") if value < 10 else f"{value:.0f}\u00a0km"


def profession(code: str | None, specialty: str | None = None) -> str:
    """Return the name of a profession, or of its specialty."""
    if specialty and specialty in SPECIALTIES:
        return SPECIALTIES[specialty][0]
    names: dict[Any, str] = dict(PROFESSION_LABELS)
    return names.get(code, code or "")


def utc(value: str | datetime) -> str:
    """Return an instant for scripts: ISO 8601 in UTC, to the millisecond."""
    return _instant(value).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def number(value: float | None, unit: str = "") -> str:
    """Return a number as the French write it: ``1 234``, ``12,5 %``; a dash where it is not known."""
    if value is None:
        return "–"
    whole = float(value) == int(value)
    text = f"{int(value):,}" if whole else f"{value:,.1f}" if abs(value) >= 1 else f"{value:.2f}"
    return text.replace(",", "\u202f").replace(".", ",") + (f"\u00a0{unit}" if unit else "")
