"""A calendar (RFC 5545, RFC 7953): what is available minus what is busy, within some days.

Read are times, repetition, transparency and status, and whether the category is SNP: never a summary, a description or
an attendee, where practices write patients' names. Free is AVAILABLE of VAVAILABILITY (that of smaller PRIORITY decides
where two overlap) and events of category SNP; busy is every other event that is neither transparent nor
cancelled, and VFREEBUSY. A calendar that cannot be read in full is refused: an event passed over would be a place that
is not free. Rules may be hostile: ``apart.py`` runs this in a bounded process.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from dateutil.rrule import rrulestr

from sas_matcher.domain.agenda import LONGEST_RANGE, Import, LineError, one_day

Span = tuple[datetime, datetime]

MOST_COMPONENTS: Final = 20_000
MOST_DEPTH: Final = 4  # VCALENDAR, VAVAILABILITY, AVAILABLE, and one that we do not read
MOST_TIMES: Final = 50_000  # occurrences of all events together
_LINE: Final = re.compile(
    r"([A-Za-z0-9-]+)((?:;[A-Za-z0-9-]+=(?:\"[^\"]*\"|[^\";:,]*)(?:,(?:\"[^\"]*\"|[^\";:,]*))*)*):(.*)", re.S
)
_PARAMETER: Final = re.compile(r";([A-Za-z0-9-]+)=(\"[^\"]*\"|[^;]*)")
_WHEN: Final = re.compile(r"([0-9]{8})(?:T([0-9]{6})(Z?))?")
_DURATION: Final = re.compile(r"([+-]?)P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
_READ: Final = frozenset(
    {"DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "RECURRENCE-ID"}
    | {"UID", "TRANSP", "STATUS", "PRIORITY", "CATEGORIES", "FREEBUSY"}
)
_WINDOWS: Final = {"Romance Standard Time": "Europe/Paris", "W. Europe Standard Time": "Europe/Paris"}  # of Outlook
_ONE_DAY: Final = timedelta(days=1)


class UnreadableError(ValueError):
    """What is wrong, and where (line of the file)."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass
class _Part:
    """A component: its name, line, the properties that are read, and what it holds."""

    name: str
    line: int
    values: dict[str, list[tuple[dict[str, str], str]]] = field(default_factory=dict)
    parts: list["_Part"] = field(default_factory=list)

    def text(self, name: str, default: str = "") -> str:
        """Return the first value of a property."""
        return self.values[name][0][1] if name in self.values else default


def read_ics(body: bytes, zone: str, first: date, days: int, each_min: int) -> Import:
    """Return what is free as hours cut into individual times, and what is busy as closures.

    Args:
        body: the calendar.
        zone: IANA name of the place's clock; of floating times too.
        first: first local day that counts.
        days: how many.
        each_min: minutes of each individual time.
    """
    here = ZoneInfo(zone)
    window = (
        datetime.combine(first, time(), here).astimezone(UTC),
        datetime.combine(first + days * _ONE_DAY, time(), here).astimezone(UTC),
    )
    try:
        calendar = _parse(body)
        free, busy = _Reading(here, window).all(calendar)
    except UnreadableError as wrong:
        return Import([], [LineError(wrong.line, "", str(wrong))], 0)
    days_from, days_to = (when.astimezone(here).replace(tzinfo=None) for when in window)
    hours = []
    for start, end in free:
        begin = _minute(start, here, up=True)
        if begin.replace(tzinfo=here, fold=0).astimezone(UTC) < start - timedelta(minutes=1):
            continue  # the second of two equal hours in the night when clocks go back: it cannot be told apart
        stop = _minute(end, here, up=False)
        while stop - begin >= timedelta(minutes=each_min):
            part = min(stop, begin + LONGEST_RANGE // timedelta(minutes=each_min) * timedelta(minutes=each_min))
            # cut from where it begins, so that the names stay; kept are the days that count
            if part > days_from and begin < days_to:
                hours.append(one_day(f"ics-{begin:%Y%m%dT%H%M}-{each_min}", begin, part, each_min=each_min))
            begin = part
    closures = [
        {
            "from": _minute(max(start, window[0]), here, up=False).strftime("%Y-%m-%dT%H:%M"),
            "to": _minute(min(end, window[1]), here, up=True).strftime("%Y-%m-%dT%H:%M"),
            "booked": "keep",
        }
        for start, end in busy
    ]
    return Import(hours, [], len(calendar.parts), closures)


def _minute(when: datetime, here: ZoneInfo, *, up: bool) -> datetime:
    local = when.astimezone(here).replace(tzinfo=None, fold=0)
    whole = local.replace(second=0, microsecond=0)
    return whole + timedelta(minutes=1) if up and whole != local else whole


# -- the text --------------------------------------------------------------------------------------------------------


def _lines(body: bytes) -> Iterator[tuple[int, str]]:
    """Yield (number, line), folded lines joined."""
    number, held = 0, ""
    begun = 0
    for number, line in enumerate(body.decode("utf-8-sig", errors="replace").splitlines(), 1):
        if line[:1] in (" ", "\t"):
            held += line[1:]
            continue
        if held:
            yield begun, held
        held, begun = line, number
    if held:
        yield begun, held


def _parse(body: bytes) -> _Part:
    root = _Part("", 0)
    open_parts = [root]
    count = 0
    for number, line in _lines(body):
        match = _LINE.fullmatch(line)
        if match is None:
            raise UnreadableError(number, "n'est pas une ligne de calendrier (RFC 5545) ; exportez-le de nouveau")
        name, parameters, value = match[1].upper(), match[2], match[3].strip()
        if name == "BEGIN":
            count += 1
            if count > MOST_COMPONENTS or len(open_parts) > MOST_DEPTH:
                message = f"plus de {MOST_COMPONENTS} éléments, ou trop imbriqués ; publiez un calendrier plus court"
                raise UnreadableError(number, message)
            part = _Part(value.upper(), number)
            open_parts[-1].parts.append(part)
            open_parts.append(part)
        elif name == "END":
            if open_parts.pop().name != value.upper() or not open_parts:
                raise UnreadableError(number, f"END:{value[:20]} ne ferme pas ce qui est ouvert ; le fichier est abîmé")
        elif name in _READ:
            named = {key.upper(): text.strip('"') for key, text in _PARAMETER.findall(parameters)}
            open_parts[-1].values.setdefault(name, []).append((named, value))
    if len(open_parts) > 1 or [part.name for part in root.parts] != ["VCALENDAR"]:
        raise UnreadableError(
            1, "un seul VCALENDAR entier est attendu ; le fichier est abîmé ou n'est pas un calendrier"
        )
    return root.parts[0]


# -- the times -------------------------------------------------------------------------------------------------------


class _Reading:
    """Turns components into spans of a window."""

    def __init__(self, here: ZoneInfo, window: Span) -> None:
        self._here = here
        self._window = window
        self._left = MOST_TIMES

    def all(self, calendar: _Part) -> tuple[list[Span], list[Span]]:
        """Return (free, busy), by start."""
        available = [part for part in calendar.parts if part.name == "VAVAILABILITY" and _counts(part)]
        events = [part for part in calendar.parts if part.name == "VEVENT"]
        marked = [part for part in events if _is_snp(part)]
        free: list[Span] = []
        # the smallest number is the highest priority; 0 is none, the lowest
        for part in sorted(available, key=lambda one: -(_priority(one) or 10)):
            inside = union([span for span in self._occurrences([one for one in part.parts if one.name == "AVAILABLE"])])
            bounds = self._bounds(part)
            free = union([*subtract(free, [bounds]), *intersect(inside, bounds)])
        free = union([*free, *self._occurrences(marked)])
        busy = self._occurrences([part for part in events if not _is_snp(part)])
        for part in calendar.parts:
            if part.name == "VFREEBUSY":
                busy += self._freebusy(part)
        return free, union(busy)

    def _bounds(self, part: _Part) -> Span:
        start = self._when(part, "DTSTART")[0] if "DTSTART" in part.values else self._window[0]
        if "DTEND" in part.values:
            return start, self._when(part, "DTEND")[0]
        if "DURATION" in part.values:
            return start, start + _duration(part.text("DURATION"), part.line)
        return start, max(start, self._window[1])

    def _occurrences(self, parts: list[_Part]) -> list[Span]:
        """Return the spans of components with their repetitions; those that change one (RECURRENCE-ID) replace it."""
        changed = {
            (part.text("UID"), self._when(part, "RECURRENCE-ID")[0]) for part in parts if "RECURRENCE-ID" in part.values
        }
        found: list[Span] = []
        for part in parts:
            if not _counts(part):
                continue
            for span in self._times(part):
                replaced = "RECURRENCE-ID" not in part.values and (part.text("UID"), span[0]) in changed
                if not replaced and span[0] < self._window[1] and span[1] > self._window[0]:
                    found.append(span)
        return found

    def _times(self, part: _Part) -> Iterator[Span]:
        if "DTSTART" not in part.values:
            raise UnreadableError(part.line, f"{part.name} sans DTSTART")
        start, local, zone, whole_day = self._moment(*part.values["DTSTART"][0], part.line)
        if "DTEND" in part.values:
            _, end, _, _ = self._moment(*part.values["DTEND"][0], part.line)
            lasts = end - local if not whole_day else max(end - local, _ONE_DAY)
            if (end_zone := part.values["DTEND"][0]) and end_zone[0].get("TZID") != part.values["DTSTART"][0][0].get(
                "TZID"
            ):
                lasts = self._when(part, "DTEND")[0] - start
        elif "DURATION" in part.values:
            lasts = _duration(part.text("DURATION"), part.line)
        else:
            lasts = _ONE_DAY if whole_day else timedelta(0)
        if lasts <= timedelta(0):
            return  # an event without length blocks nothing
        without = {
            self._moment(named, text, part.line)[1]
            for named, values in part.values.get("EXDATE", ())
            for text in values.split(",")
        }
        for begin in sorted({*self._repeated(part, local, zone, lasts), *self._more(part)} - without):
            self._left -= 1
            if self._left < 0:
                raise UnreadableError(part.line, f"plus de {MOST_TIMES} répétitions ; publiez un calendrier plus court")
            yield begin.replace(tzinfo=zone).astimezone(UTC), (begin + lasts).replace(tzinfo=zone).astimezone(UTC)

    def _more(self, part: _Part) -> Iterator[datetime]:
        for named, values in part.values.get("RDATE", ()):
            for text in values.split(","):
                yield self._moment(named, text.partition("/")[0], part.line)[1]

    def _repeated(self, part: _Part, local: datetime, zone: tzinfo, lasts: timedelta) -> Iterator[datetime]:
        if "RRULE" not in part.values:
            yield local
            return
        text = part.text("RRULE").upper()
        if re.search(r"FREQ=(SECONDLY|MINUTELY|HOURLY)|BYHOUR|BYMINUTE|BYSECOND", text):
            raise UnreadableError(part.line, "une répétition plus fine que le jour n'est pas lue ; répétez par jour")
        # the rule is a matter of the wall clock: its end is read on it too
        text = re.sub(r"UNTIL=([0-9TZ]+)", lambda m: f"UNTIL={self._until(m[1], zone, part.line)}", text)
        try:
            last = self._window[1].astimezone(zone).replace(tzinfo=None)
            first = self._window[0].astimezone(zone).replace(tzinfo=None) - lasts
            rule = rrulestr(text, dtstart=_nearer(text, local, first))
            for begin in rule.xafter(first - _ONE_DAY, inc=True):
                if begin > last:
                    return
                yield begin
        except (ValueError, TypeError, KeyError) as wrong:
            raise UnreadableError(part.line, f"répétition illisible : {text[:60]}") from wrong

    def _until(self, text: str, zone: tzinfo, line: int) -> str:
        if len(text) == 8:
            return f"{text}T235959"
        _, local, _, _ = self._moment({}, text, line, zone)
        return f"{local:%Y%m%dT%H%M%S}"

    def _freebusy(self, part: _Part) -> list[Span]:
        spans = []
        for named, values in part.values.get("FREEBUSY", ()):
            if named.get("FBTYPE", "BUSY").upper() == "FREE":
                continue
            for period in values.split(","):
                begin, _, end = period.partition("/")
                start = self._moment({}, begin, part.line)[0]
                stop = start + _duration(end, part.line) if end[:1] == "P" else self._moment({}, end, part.line)[0]
                if start < self._window[1] and stop > self._window[0]:
                    spans.append((start, stop))
        return spans

    def _when(self, part: _Part, name: str) -> tuple[datetime, datetime, tzinfo, bool]:
        named, text = part.values[name][0]
        return self._moment(named, text, part.line)

    def _moment(
        self, named: dict[str, str], text: str, line: int, shown_in: tzinfo | None = None
    ) -> tuple[datetime, datetime, tzinfo, bool]:
        """Return (instant, wall clock, its zone, whether a whole day is meant)."""
        match = _WHEN.fullmatch(text.strip())
        try:
            if match is None:
                raise ValueError(text)
            local = datetime.strptime(match[1] + (match[2] or "000000"), "%Y%m%d%H%M%S")  # noqa: DTZ007 - wall clock
        except ValueError:
            raise UnreadableError(line, f"« {text[:30]} » n'est pas une date de calendrier") from None
        if match[3]:
            instant = local.replace(tzinfo=UTC)
            zone = shown_in or UTC
            return instant, instant.astimezone(zone).replace(tzinfo=None), zone, False
        zone = shown_in or self._zone(named.get("TZID"), line)
        return local.replace(tzinfo=zone).astimezone(UTC), local, zone, match[2] is None

    def _zone(self, name: str | None, line: int) -> tzinfo:
        """Return a zone; floating times are on the clock of the place."""
        if name is None:
            return self._here
        try:
            return ZoneInfo(_WINDOWS.get(name, name))
        except (KeyError, ValueError, OSError):
            raise UnreadableError(
                line, f"fuseau inconnu « {name[:40]} » ; choisissez Europe/Paris, par exemple"
            ) from None


def _nearer(rule: str, local: datetime, first: datetime) -> datetime:
    """Return a later start that gives a rule by days or weeks the same times from ``first`` on: years go unwalked."""
    frequency, interval = re.search(r"FREQ=(DAILY|WEEKLY)", rule), re.search(r"INTERVAL=([0-9]{1,4})", rule)
    step = (int(interval[1]) if interval else 1) * (7 if frequency and frequency[1] == "WEEKLY" else 1)
    if frequency is None or "COUNT" in rule or not step:
        return local
    # a whole step before, since a week that the start cuts lacks its first days
    return local + max(0, (first - local).days // step - 1) * step * _ONE_DAY


def _counts(part: _Part) -> bool:
    return part.text("STATUS").upper() != "CANCELLED" and part.text("TRANSP").upper() != "TRANSPARENT"


def _is_snp(part: _Part) -> bool:
    return any(
        text.strip().upper() == "SNP" for _, value in part.values.get("CATEGORIES", ()) for text in value.split(",")
    )


def _priority(part: _Part) -> int:
    text = part.text("PRIORITY", "0")
    return int(text) if re.fullmatch(r"[0-9]", text) else 0


def _duration(text: str, line: int) -> timedelta:
    match = _DURATION.fullmatch(text.strip())
    if match is None or max(map(len, filter(None, match.groups()))) > 5:
        raise UnreadableError(line, f"« {text[:30]} » n'est pas une durée")
    weeks, days, hours, minutes, seconds = (int(number or 0) for number in match.groups()[1:])
    return (-1 if match[1] == "-" else 1) * timedelta(
        weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds
    )


# -- spans -----------------------------------------------------------------------------------------------------------


def union(spans: list[Span]) -> list[Span]:
    """Join spans that meet, by start."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined


def intersect(spans: list[Span], bounds: Span) -> list[Span]:
    """Return what lies within bounds."""
    cut = [(max(start, bounds[0]), min(end, bounds[1])) for start, end in spans]
    return [span for span in cut if span[0] < span[1]]


def subtract(spans: list[Span], away: list[Span]) -> list[Span]:
    """Return what lies outside some spans."""
    for begin, stop in away:
        cut = [part for start, end in spans for part in ((start, min(end, begin)), (max(start, stop), end))]
        spans = [span for span in cut if span[0] < span[1]]
    return spans
