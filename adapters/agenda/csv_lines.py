"""A table of places, one line each, as a spreadsheet saves it: ``;``, ``,`` or tab, UTF-8 or Windows-1252.

Columns, in any order, accents and capitals aside: date, debut, fin; then duree (minutes of each rendez-vous) or places
(patients of the plage), else one rendez-vous from debut to fin; mode, type, offres, visibilite. Any other column is
refused: what is not read cannot hold a patient's name.
"""

import csv
import hashlib
import io
import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from sas_matcher.domain.agenda import LONGEST_RANGE, MOST_LINES, Import, LineError, one_day
from sas_matcher.domain.vocabulary import BookingKind, Mode, Offer, Visibility

MOST_ERRORS: Final = 200  # more say nothing new
LONGEST_LINE: Final = 2_000
_NEEDED: Final = ("date", "debut", "fin")
_COLUMNS: Final = (*_NEEDED, "duree", "places", "mode", "type", "offres", "visibilite")
_MODES: Final = {
    "cabinet": Mode.CABINET,
    "tele": Mode.TELE,
    "teleconsultation": Mode.TELE,
    "visite": Mode.VISITE,
    "domicile": Mode.VISITE,
}
_KINDS: Final = {
    "avec rdv": BookingKind.ROUTINE,
    "avec rendez-vous": BookingKind.ROUTINE,
    "sans rdv": BookingKind.WALKIN,
    "sans rendez-vous": BookingKind.WALKIN,
}
_CLOCK: Final = re.compile(r"([01]?[0-9]|2[0-3])(?:[:h]([0-5][0-9])?)?")
_FRENCH_DAY: Final = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})")


class _LongLineError(csv.Error):
    """A line is longer than any that is meant."""


class _WrongError(ValueError):
    """What is wrong with a cell, and the fix."""

    def __init__(self, column: str, message: str) -> None:
        super().__init__(message)
        self.column = column


def read_csv(body: bytes) -> Import:
    """Read a table; lines are counted as in the file, the header being line 1."""
    try:
        text = _text(body)
        separator = _separator(text)
        rows = csv.reader(_lines(text, separator), delimiter=separator, strict=True)
        header = next(rows, [])
        columns = _header(header)
    except _WrongError as wrong:
        return Import([], [LineError(1, wrong.column, str(wrong))], 0)
    except _LongLineError:
        return Import([], [_too_long(1)], 0)
    except csv.Error:
        return Import([], [LineError(1, "", "guillemets mal fermés ; enregistrez de nouveau le fichier en CSV")], 0)
    hours: list[dict[str, Any]] = []
    errors: list[LineError] = []
    seen: dict[str, int] = {}
    count = 0
    for number, cells in _numbered(rows, errors):
        count += 1
        if count > MOST_LINES:
            errors.append(
                LineError(number, "", f"{MOST_LINES} lignes au plus ; découpez le fichier en plusieurs agendas")
            )
            break
        try:
            one = _line(_named(columns, cells))
        except _WrongError as wrong:
            errors.append(LineError(number, wrong.column, str(wrong)))
            if len(errors) >= MOST_ERRORS:
                break
            continue
        if (first := seen.setdefault(one["id"], number)) != number:
            errors.append(LineError(number, "", f"répète la ligne {first} ; ôtez-la, ou augmentez ses places"))
        else:
            hours.append(one)
    if not count:
        errors.append(LineError(2, "", "aucune ligne sous les titres de colonnes"))
    return Import(hours, errors[:MOST_ERRORS], count)


def _text(body: bytes) -> str:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = body.decode("cp1252", errors="replace")  # what French Excel writes unless asked
    if "\x00" in text:
        raise _WrongError("", "n'est pas un fichier CSV (octet nul) ; enregistrez la feuille au format CSV")
    return text


def _separator(text: str) -> str:
    first = text.partition("\n")[0]
    return max(";,\t", key=first.count)


def _lines(text: str, separator: str) -> Iterator[str]:
    """Yield lines without the empty cells at their end, of which a spreadsheet saves thousands, each read as a cell.

    Raises:
        _LongLineError: a line is longer than ``LONGEST_LINE`` nevertheless.
    """
    for line in io.StringIO(text, newline=""):
        kept = line.rstrip(f" \r\n{separator}")
        if len(kept) > LONGEST_LINE:
            raise _LongLineError
        yield f"{kept}\n"


def _plain(text: str) -> str:
    """Return a text without capitals and accents."""
    return unicodedata.normalize("NFKD", text.strip().casefold()).encode("ascii", "ignore").decode()


def _header(cells: list[str]) -> list[str]:
    columns = [_plain(cell) for cell in cells]
    while columns and not columns[-1]:
        columns.pop()
    known = ", ".join(_COLUMNS)
    for name, cell in zip(columns, cells, strict=False):
        if name not in _COLUMNS:
            raise _WrongError(cell.strip()[:40], f"colonne inconnue, ôtez-la (colonnes lues : {known})")
        if columns.count(name) > 1:
            raise _WrongError(name, "cette colonne figure deux fois ; gardez-en une")
    for name in _NEEDED:
        if name not in columns:
            raise _WrongError(name, f"cette colonne manque en première ligne (colonnes lues : {known})")
    return columns


def _numbered(rows: Any, errors: list[LineError]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of what is not blank; a line that is broken or endless ends the reading, and is told."""
    blank = 0
    while blank <= MOST_LINES:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except _LongLineError:
            errors.append(_too_long(rows.line_num + 1))  # it was not taken, so it is not counted yet
            return
        except csv.Error:
            errors.append(
                LineError(rows.line_num, "", "guillemets mal fermés ; corrigez cette ligne, la suite n'est pas lue")
            )
            return
        if sum(map(len, cells)) > LONGEST_LINE:
            errors.append(_too_long(rows.line_num))
            return
        if any(cell.strip() for cell in cells):
            yield rows.line_num, cells
        else:
            blank += 1
    errors.append(LineError(rows.line_num, "", f"plus de {MOST_LINES} lignes vides ; ôtez-les"))


def _named(columns: list[str], cells: list[str]) -> dict[str, str]:
    """Return the cells of a line by column."""
    if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
        raise _WrongError("", f"{len(cells)} cellules pour {len(columns)} colonnes ; ôtez les autres")
    return {name: cell.strip() for name, cell in zip(columns, cells, strict=False)}


def _too_long(number: int) -> LineError:
    return LineError(number, "", f"ligne de plus de {LONGEST_LINE} caractères ; la suite n'est pas lue")


def _line(cells: Mapping[str, str]) -> dict[str, Any]:
    """Return the hours of a line."""
    day = _day(cells.get("date", ""))
    start, end = (datetime.combine(day, _clock(name, cells.get(name, ""))) for name in ("debut", "fin"))
    if end <= start:
        end += timedelta(days=1)
    if end - start > LONGEST_RANGE:
        hours = int(LONGEST_RANGE.total_seconds()) // 3600
        raise _WrongError(
            "fin",
            f"de {cells['debut']} à {cells['fin']} : {hours} h au plus ; vérifiez les heures, ou faites deux lignes",
        )
    length = int((end - start).total_seconds()) // 60
    each, seats = _number("duree", cells, 5, 240), _number("places", cells, 1, 200)
    if each is not None and seats is not None:
        raise _WrongError("places", "duree (rendez-vous) et places (plage) ne vont pas ensemble ; videz l'une des deux")
    if each is None and seats is None:
        if not 5 <= length <= 240:
            raise _WrongError(
                "fin", "sans duree ni places, un rendez-vous dure de 5 à 240 min ; indiquez duree ou places"
            )
        each = length
    if each is not None and each > length:
        raise _WrongError(
            "duree", f"{each} min ne tiennent pas de {cells['debut']} à {cells['fin']} ; allongez ou réduisez"
        )
    offers = re.split(r"[\s,|]+", cells["offres"]) if cells.get("offres") else None
    for offer in offers or ():
        if offer not in set(Offer):
            raise _WrongError("offres", f"« {offer[:30]} » est inconnu ; attendu : {', '.join(Offer)}")
    visibility = _plain(cells.get("visibilite", "")) or None
    if visibility is not None and visibility not in set(Visibility):
        raise _WrongError("visibilite", f"« {visibility[:30]} » est inconnu ; attendu : {', '.join(Visibility)}")
    mode = _word("mode", cells, _MODES, Mode.CABINET)
    kind = _word("type", cells, _KINDS, BookingKind.ROUTINE)
    one = one_day("", start, end, each_min=each, capacity=seats, mode=mode, booking_kind=kind)
    one |= {"offers": offers, "visibility": visibility}
    # the name comes from what the line says: told again, in whatever order, it is the same
    text = f"{start} {end} {each} {seats} {mode} {kind} {offers} {visibility}"
    return {**one, "id": f"csv-{hashlib.sha256(text.encode()).hexdigest()[:20]}"}


def _day(text: str) -> date:
    match = _FRENCH_DAY.fullmatch(text)
    try:
        day = date(int(match[3]), int(match[2]), int(match[1])) if match else date.fromisoformat(text)
    except ValueError:
        raise _WrongError("date", f"« {text[:30]} » n'est pas un jour ; écrivez 27/11/2026 ou 2026-11-27") from None
    if not 2020 <= day.year < 2100:
        raise _WrongError("date", f"l'année {day.year} n'est pas entre 2020 et 2099")
    return day


def _clock(column: str, text: str) -> time:
    match = _CLOCK.fullmatch(text.replace(" ", "").lower())
    if match is None:
        raise _WrongError(column, f"« {text[:30]} » n'est pas une heure ; écrivez 14:30 ou 14h30")
    return time(int(match[1]), int(match[2] or 0))


def _number(column: str, cells: Mapping[str, str], least: int, most: int) -> int | None:
    text = cells.get(column, "")
    if not text:
        return None
    if re.fullmatch(r"[0-9]{1,4}", text) is None or not least <= int(text) <= most:
        raise _WrongError(column, f"« {text[:30]} » : attendu un nombre de {least} à {most}")
    return int(text)


def _word(column: str, cells: Mapping[str, str], words: Mapping[str, str], default: str) -> str:
    text = _plain(cells.get(column, ""))
    if not text:
        return default
    if text not in words:
        raise _WrongError(column, f"« {text[:30]} » est inconnu ; attendu : {', '.join(words)}")
    return words[text]
