"""SMART Scheduling Links: a manifest and its files of places (NDJSON), as far as one agenda needs them.

Read are the slots that are free, of the schedules that the agenda names, or of all where the publisher has one
location. Unknown types and fields are ignored, as the guide asks; a slot that is wrong refuses the whole, so that what
was read last stays.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from urllib.parse import urljoin, urlsplit
from zoneinfo import ZoneInfo

import orjson

from sas_matcher.domain.agenda import LONGEST_RANGE, FeedError, Import, LineError, one_day

MOST_FILES: Final = 100
MOST_SLOTS: Final = 20_000  # in all files
LONGEST_LINE: Final = 16 * 1024
MOST_ERRORS: Final = 50
_CAPACITY: Final = "/StructureDefinition/slot-capacity"  # how its URL ends, whichever host a publisher names
_SHORT_OFFSET: Final = re.compile(r"[+-][0-9]{2}$")
_TYPES: Final = ("Location", "Schedule", "Slot")


def files_of(manifest: bytes, url: str) -> list[tuple[str, str]]:
    """Return (type, address) of the files that are read, all of the host of the manifest.

    Raises:
        FeedError: it is no manifest, names too many files, or another host.
    """
    try:
        output = orjson.loads(manifest)["output"]
        named = [(one["type"], urljoin(url, one["url"])) for one in output]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise FeedError("n'est pas un manifeste SMART Scheduling Links (output, type, url)") from None
    found = [(kind, address) for kind, address in named if kind in _TYPES]
    if len(found) > MOST_FILES:
        raise FeedError(f"plus de {MOST_FILES} fichiers ; publiez un manifeste plus court")
    for _, address in found:
        if urlsplit(address)[:2] != urlsplit(url)[:2]:
            raise FeedError("un fichier du manifeste est sur un autre serveur que lui ; publiez-les ensemble")
    return found


def read_smart(
    files: Sequence[tuple[str, bytes]], zone: str, first: date, days: int, schedules: Collection[str]
) -> Import:
    """Return the free slots of some local days as hours.

    Args:
        files: type and content of each file; lines are counted through all of them.
        zone: IANA name of the place's clock.
        first: first local day that counts.
        days: how many.
        schedules: ids of the schedules whose slots these are; empty: all, of a publisher with one location.
    """
    here = ZoneInfo(zone)
    begin = datetime.combine(first, time(), here).astimezone(UTC)
    end = datetime.combine(first + timedelta(days=days), time(), here).astimezone(UTC)
    hours: dict[str, dict[str, Any]] = {}
    errors: list[LineError] = []
    places: set[str] = set()
    count = 0
    for kind, number, line in _lines(files):
        try:
            document = _object(line)
            if kind == "Schedule" and not schedules:
                places.update(_places_of(document))
            if kind != "Slot":
                continue
            count += 1
            if count > MOST_SLOTS:
                raise FeedError(f"plus de {MOST_SLOTS} créneaux ; publiez un manifeste plus court")
            one = _hours(document, here, (begin, end), schedules)
        except FeedError as wrong:
            errors.append(LineError(number, kind, str(wrong)))
            if len(errors) >= MOST_ERRORS or count > MOST_SLOTS:
                break
            continue
        if one is not None:
            hours[one["id"]] = one
    if len(places) > 1:
        errors.append(LineError(0, "Schedule", "plusieurs lieux : nommez dans schedules les agendas de celui-ci"))
    return Import(sorted(hours.values(), key=lambda one: (one["first"], one["start"], one["id"])), errors, count)


def _lines(files: Sequence[tuple[str, bytes]]) -> Iterator[tuple[str, int, bytes]]:
    number = 0
    for kind, content in files:
        for line in content.split(b"\n"):
            number += 1
            if line.strip():
                yield kind, number, line


def _object(line: bytes) -> dict[str, Any]:
    if len(line) > LONGEST_LINE:
        raise FeedError(f"ligne de plus de {LONGEST_LINE // 1024} Kio")
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise FeedError("n'est pas un objet JSON ; le fichier est abîmé")
    return document


def _places_of(schedule: Mapping[str, Any]) -> Iterator[str]:
    actors = schedule.get("actor", [])
    if not isinstance(actors, list) or not all(isinstance(actor, dict) for actor in actors):
        raise FeedError("actor n'est pas une liste de références")
    return (str(actor.get("reference")) for actor in actors)


def _hours(
    slot: Mapping[str, Any], here: ZoneInfo, window: tuple[datetime, datetime], schedules: Collection[str]
) -> dict[str, Any] | None:
    """Return the hours of a slot; None when it is not free, not of these schedules or not of these days."""
    reference = slot.get("schedule", {}).get("reference") if isinstance(slot.get("schedule"), dict) else None
    name = slot.get("id")
    if not isinstance(name, str) or not isinstance(reference, str):
        raise FeedError("créneau sans id ou sans schedule.reference")
    if slot.get("status") != "free" or (schedules and reference.rpartition("/")[2] not in schedules):
        return None
    start, end = _instant(slot, "start"), _instant(slot, "end")
    if not window[0] <= start < window[1]:
        return None
    if not timedelta(minutes=5) <= end - start <= LONGEST_RANGE:
        raise FeedError("un créneau dure de 5 min à 16 h")
    begin, stop = (when.astimezone(here).replace(tzinfo=None, fold=0, second=0, microsecond=0) for when in (start, end))
    if begin.replace(tzinfo=here).astimezone(UTC) != start.replace(second=0, microsecond=0) or stop <= begin:
        return None  # the second of two equal hours when clocks go back: it cannot be told apart
    seats = _capacity(slot)
    minutes = int((stop - begin).total_seconds()) // 60
    name = f"smart-{hashlib.sha256(f'{reference} {name}'.encode()).hexdigest()[:20]}"
    if seats == 1 and minutes <= 240:
        return one_day(name, begin, stop, each_min=minutes)
    return one_day(name, begin, stop, capacity=seats)


def _instant(slot: Mapping[str, Any], field: str) -> datetime:
    text = slot.get(field)
    try:
        if not isinstance(text, str):
            raise ValueError
        # some publishers write -05 where the standard says -05:00
        when = datetime.fromisoformat(f"{text}:00" if _SHORT_OFFSET.search(text) and "T" in text else text)
        if when.tzinfo is None:
            raise ValueError
        return when.astimezone(UTC)
    except (ValueError, OverflowError):
        raise FeedError(f"{field} n'est pas un instant avec décalage") from None


def _capacity(slot: Mapping[str, Any]) -> int:
    extensions = slot.get("extension")
    for one in extensions if isinstance(extensions, list) else ():
        if isinstance(one, dict) and str(one.get("url")).endswith(_CAPACITY):
            seats = one.get("valueInteger")
            if not isinstance(seats, int) or isinstance(seats, bool) or not 1 <= seats <= 200:
                raise FeedError("slot-capacity va de 1 à 200")
            return seats
    return 1
