"""Forms about agendas, read into the shape of the API; rules of an agenda, said in French. Pure."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, Final

import orjson

from sas_matcher.api.inputs.agenda import AgendaIn
from sas_matcher.api.inputs.reading import parse
from sas_matcher.console.visit import Form
from sas_matcher.console.words import FIELD_LABELS, hour_text, weekdays
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.ports.world import CommuneRecord
from sas_matcher.recurrence import parse_rule

DAY_CODES: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
FIELDS: Final = tuple(AgendaIn.model_fields)


def number_in(form: Form, name: str) -> int | None:
    """Return a whole number of a form; None when it is empty.

    Raises:
        InvalidInputError: it is no number.
    """
    text = form.text(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise InvalidInputError.of(FIELD_LABELS.get(name, name), "indiquez un nombre entier")
    return int(text)


def told(wrong: InvalidInputError) -> InvalidInputError:
    """Return an error of the API in the words of the form: the last part of the field, in French."""
    errors = wrong.extra.get("errors") or []
    lines = []
    for error in errors[:5]:
        last = error["field"].rsplit(".", 1)[-1]
        label = FIELD_LABELS.get(last)
        lines.append(f"{label.capitalize()} : {error['message']}" if label else error["message"])
    return InvalidInputError(" · ".join(lines) or wrong.detail, **wrong.extra)


def wish_of(document: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return an agenda's document, changed, as the API takes it.

    Raises:
        InvalidInputError: in the words of the form.
    """
    wish = {name: document.get(name) for name in FIELDS} | changes
    try:
        return parse(AgendaIn, orjson.dumps(wish)).model_dump(by_alias=True)
    except InvalidInputError as wrong:
        raise told(wrong) from wrong


def new_agenda(form: Form, commune: CommuneRecord | None) -> dict[str, Any]:
    """Return the agenda that the form of a new one describes, empty of hours.

    Raises:
        InvalidInputError: names the field.
    """
    if commune is None:
        raise InvalidInputError.of("commune", "choisissez une commune de la liste")
    kind, _, code = form.text("who").partition(":")
    code = code or form.text("rpps")
    named = form.text("who_name")
    professional = {"rpps": code, "name": named} if kind != "s" else None
    structure = {"finess": code, "name": named, "kind": form.text("source_kind")} if kind == "s" else None
    if structure is not None and form.text("rpps"):
        professional = {"rpps": form.text("rpps"), "name": form.text("rpps_name") or named}
    point = [_coordinate(form, name) for name in ("lat", "lon")]
    if (point[0] is None) != (point[1] is None):
        raise InvalidInputError.of("latitude", "latitude et longitude vont ensemble")
    lat, lon = (commune.lat, commune.lon) if point[0] is None else point
    location = {
        **{"lat": lat, "lon": lon, "insee": commune.code},
        **{name: text for name in ("label", "phone") if (text := form.text(name))},
    }
    return wish_of(
        {
            "professional": professional,
            "structure": structure,
            "source_kind": form.text("source_kind"),
            "location": location,
            "profession": form.text("profession"),
            "offers": form.several("offers"),
            "visibility": form.text("visibility", "snp"),
            "hours": [],
            "closures": [],
        }
    )


def _coordinate(form: Form, name: str) -> float | None:
    text = form.text(name).replace(",", ".")
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise InvalidInputError.of(FIELD_LABELS[name], "indiquez des degrés, par exemple 45,757") from None


def hours_in(form: Form, taken: Sequence[str], today: date) -> dict[str, Any]:
    """Return the range that its form describes, under a name that is not taken yet."""
    days = [day for day in form.several("day") if day in DAY_CODES]
    every = number_in(form, "every") or 1
    repeat = None
    if days:
        repeat = f"FREQ=WEEKLY{f';INTERVAL={every}' if every > 1 else ''};BYDAY={','.join(days)}"
    is_plage = form.text("kind") in ("plage", "walkin")
    number = next(n for n in range(1, len(taken) + 2) if f"plage-{n}" not in taken)
    return {
        "id": f"plage-{number}",
        "first": form.text("first", today.isoformat()),
        "start": form.text("start"),
        "end": form.text("end"),
        "repeat": repeat,
        "each_min": None if is_plage else number_in(form, "each_min"),
        "capacity": number_in(form, "capacity") if is_plage else None,
        "piece_min": number_in(form, "piece_min") if is_plage else None,
        "mode": form.text("mode", "cabinet"),
        "booking_kind": "walkin" if form.text("kind") == "walkin" else "routine",
        "visibility": form.text("visibility") or None,
    }


def rule_in_french(hours: Mapping[str, Any]) -> str:
    """Say on which days a range recurs: « lundi, mardi », « une semaine sur 2 : jeudi », « le 26/11/2026 »."""
    first = date.fromisoformat(hours["first"])
    if hours["repeat"] is None:
        return f"le {first:%d/%m/%Y}"
    parts = dict(part.split("=", 1) for part in hours["repeat"].split(";"))
    try:
        parse_rule(hours["repeat"])
    except ValueError:  # pragma: no cover - it was checked when it was written
        return str(hours["repeat"])
    if parts == {"FREQ": "DAILY"}:
        return "chaque jour"
    plain = set(parts) <= {"FREQ", "INTERVAL", "BYDAY"} and parts["FREQ"] == "WEEKLY"
    codes = parts.get("BYDAY", DAY_CODES[first.weekday()]).split(",")
    if not plain or not set(codes) <= set(DAY_CODES):
        return str(hours["repeat"])
    days = weekdays([1 + DAY_CODES.index(code) for code in codes])
    every = parts.get("INTERVAL", "1")
    return days if every == "1" else f"une semaine sur {every} : {days}"


def hours_in_french(hours: Mapping[str, Any]) -> str:
    """Say what a range offers: « 8 h 30 – 10 h 00, un rendez-vous toutes les 15 min »."""
    when = f"{hour_text(hours['start'])} – {hour_text(hours['end'])}"
    if hours["each_min"] is not None:
        return f"{when}, un rendez-vous toutes les {hours['each_min']} min"
    kind = "sans rendez-vous, " if hours["booking_kind"] == "walkin" else ""
    pieces = f", proposée par {hours['piece_min']} min" if hours.get("piece_min") else ""
    return f"{when}, {kind}plage de {hours['capacity']} patient{'s' if hours['capacity'] > 1 else ''}{pieces}"


def commune_in(text: str, by_code: Callable[[str], Any], search: Callable[..., Sequence[Any]]) -> Any | None:
    """Return the commune that a field names, as its list wrote it (« 69382 Lyon 2e ») or in other words."""
    found = by_code(text.split(" ", 1)[0])
    if found is None and text:
        found = next(iter(search(text, 1)), None)
    return found
