"""``sas-matcher whatif``: reads the change wished for, replays the day without and with it, shows both."""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import Final

from sas_matcher.cli.french import InputError
from sas_matcher.cli.laboratory import Say, judged, past, read, replay, require_plots, write_page
from sas_matcher.cli.output import progress, whole_folder
from sas_matcher.domain.vocabulary import Mode
from sas_matcher.replay.daylog import DayLog, SlotPublished
from sas_matcher.replay.daylog_file import DayLogError
from sas_matcher.replay.hindsight import hindsight
from sas_matcher.replay.whatif import Change, Practice, changes, local, read_slots, slots_of, with_slots

_AT_POINT: Final = re.compile(r"(\d+)@(-?\d+(?:\.\d+)?),\s*(-?\d+(?:\.\d+)?)")
MOST: Final = 10_000
"""Slots added at one point: more than a département opens in a day."""


@dataclass(frozen=True, slots=True)
class Supposition:
    """What is to be changed. ``adds`` are ``N@lat,lon`` or files; the rest of the first five tells what N are like.

    ``before`` is the policy of the day as it was, ``after`` that of the changed day, ``crisis_from`` the local time
    from which crisis is declared in it.
    """

    adds: Sequence[str]
    capacity: int
    profession: str
    mode: str
    hours: str
    before: str
    after: str
    crisis_from: str | None


def time_of(text: str) -> time:
    """Read ``HH:MM``, or ``HH h MM``.

    Raises:
        InputError: It is no time of day.
    """
    found = re.fullmatch(r"(\d{1,2})\s*[:hH]\s*(\d{2})?", text.strip())
    if found is None or int(found[1]) > 23 or int(found[2] or 0) > 59:
        raise InputError(f"« {text} » n'est pas une heure ; écrivez par exemple 14:30")
    return time(int(found[1]), int(found[2] or 0))


def _added(day: DayLog, add: str, wish: Supposition) -> list[SlotPublished]:
    found = _AT_POINT.fullmatch(add.strip())
    if found is None:
        return _of_file(day, Path(add))
    count, lat, lon = int(found[1]), float(found[2]), float(found[3])
    if not (1 <= count <= MOST and -90 <= lat <= 90 and -180 <= lon <= 180):
        raise InputError(f"--add-slots {add} : de 1 à {MOST} créneaux, à une latitude et une longitude en degrés")
    if wish.mode not in set(Mode):
        raise InputError(f"le mode « {wish.mode} » n'existe pas ; valeurs possibles : {', '.join(Mode)}")
    opens, dash, closes = wish.hours.partition("-")
    if not dash:
        raise InputError(f"--hours {wish.hours} : deux heures sont attendues, par exemple 9:00-18:00")
    hours = time_of(opens), time_of(closes)
    practice = Practice(count, lat, lon, wish.profession.strip().upper(), wish.mode, wish.capacity, *hours)
    try:
        return slots_of(day, practice)
    except ValueError:
        raise InputError(f"--hours {wish.hours} : la seconde heure doit suivre la première") from None


def _of_file(day: DayLog, path: Path) -> list[SlotPublished]:
    try:
        return read_slots(day, [line for line in path.read_bytes().splitlines() if line.strip()])
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(
            f"--add-slots {path} : ni un fichier, ni N@latitude,longitude (10@44.518,3.501 par exemple)"
        ) from None
    except DayLogError as wrong:
        raise InputError(f"{path}, ligne {wrong.line} : {wrong.problem.rstrip('.')}") from wrong


def whatif(path: Path, wish: Supposition, *, history: Path | None, seed: int, out: Path | None, say: Say) -> None:
    """Replay a day as it was and changed; print what changed, and write the report of both if there is an ``out``.

    Raises:
        InputError: The day log or the wish is wrong, or nothing is to be changed.
        FailureError: A result breaks a rule, or the plots cannot be drawn here.
    """
    if not wish.adds and wish.after == wish.before and wish.crisis_from is None:
        raise InputError("rien à changer : donnez --add-slots, --policy ou --crisis-from")
    if out is not None:
        require_plots()
    day = read(path)
    changed = day
    for add in wish.adds:
        changed = with_slots(changed, _added(changed, add, wish))
    declared = {} if wish.crisis_from is None else {"crisis_from": local(day.meta, time_of(wish.crisis_from))}
    learned = past(history, day)
    with ExitStack() as stack:
        folder = None if out is None else stack.enter_context(whole_folder(out))
        with progress(3, "optimum") as advance:
            best = hindsight(day)
            advance(f"avant : {wish.before}")
            old = judged(path.name, day, best, wish.before, replay(day, wish.before, learned, seed))
            advance(f"après : {wish.after}")
            lines = replay(changed, wish.after, learned, seed, **declared)
            # under a crisis declared at noon two policies took turns: no rule book is for both
            rules = "crisis" if declared else wish.after
            new = judged(path.name, changed, best, rules, lines, lawful=not declared)
            advance("écriture")
        told = _told(wish, changed, day)
        if folder is not None:
            both = {"avant": [old], "après": [new]}
            lead = f"{told} Les pourcentages sont ceux de l'optimum de la journée telle qu'elle fut."
            write_page(folder, both, ["avant", "après"], [day], f"Et si : {path.name}", lead)
    say(told)
    for line in table(changes(old, new)):
        say(line)
    if out is not None:
        say(f"Rapport : {out / 'index.html'}")


def _told(wish: Supposition, changed: DayLog, day: DayLog) -> str:
    more = len(changed.slots) - len(day.slots)
    places = sum(e.slot.capacity for e in changed.slots) - sum(e.slot.capacity for e in day.slots)
    parts = [f"{more} créneaux de plus ({places} places)" if more > 1 else f"{more} créneau de plus"] if more else []
    parts += (
        [f"politique {wish.before} puis {wish.after}"] if wish.after != wish.before else [f"politique {wish.after}"]
    )
    parts += [f"crise déclarée à {time_of(wish.crisis_from):%H:%M}"] if wish.crisis_from else []
    return f"Changement : {', '.join(parts)}."


def table(rows: Sequence[Change]) -> list[str]:
    """The lines of a French table: before, after, difference."""

    def number(value: float | None, digits: int, sign: str = "") -> str:
        if value is None:
            return "–"
        text = f"{value:{sign}.{digits}f}".replace(".", ",").replace("-", "\u2212")
        # no sign before nothing
        return text.lstrip("+\u2212") if not text.strip("+\u2212" + "0,") else text

    cells = [("", "avant", "après", "écart")]
    for row in rows:
        gap = None if row.before is None or row.after is None else row.after - row.before
        cells.append(
            (row.label, number(row.before, row.digits), number(row.after, row.digits), number(gap, row.digits, "+"))
        )
    wide = [max(len(line[column]) for line in cells) for column in range(4)]
    return [
        line[0].ljust(wide[0]) + "".join(f"  {text:>{wide[column]}}" for column, text in enumerate(line[1:], 1))
        for line in cells
    ]
