"""What the commands about whole days do: read, draw, replay, write; the figures come from ``replay``."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

from adapters.geo import Gazetteer
from sas_matcher.cli.french import InputError
from sas_matcher.cli.output import progress, whole_file, whole_folder
from sas_matcher.replay.daylog import DayLog, write_day
from sas_matcher.replay.simulate import SCENARIOS, Level
from sas_matcher.replay.simulate import simulate as draw_story
from sas_matcher.replay.study import KINDS, study

Say = Callable[[str], object]


class Draw(NamedTuple):
    """A kind of day: its name, for files, and how to draw the day of a seed."""

    name: str
    of_seed: Callable[[int], DayLog]


def story(scenario: str, departement: str | None, level: Level, people: int, day: date | None) -> Draw:
    """Prepare days of the scenario pack; no département means all of France.

    Raises:
        InputError: The scenario or the département does not exist.
    """
    # as people type it: s1, S2X2
    known = {name.upper(): name for name in SCENARIOS}
    found = known.get(scenario.strip().upper())
    if found is None:
        raise InputError(f"le scénario « {scenario} » n'existe pas ; valeurs possibles : {', '.join(SCENARIOS)}")
    geography = Gazetteer.load()
    code = None if departement is None else departement.strip().upper()
    if code is not None and code not in geography.territories:
        raise InputError(f"le département « {departement} » n'existe pas ; donnez 01 à 95, 2A, 2B, ou 971 à 974 et 976")
    codes = [code] if code is not None else list(geography.territories)
    communes = [commune for each in codes for commune in geography.communes_of(each)]

    def of_seed(seed: int) -> DayLog:
        return draw_story(found, communes, seed, level, territories=geography.territories, day=day, people=people)

    return Draw(f"{found}-{code or 'france'}", of_seed)


def study_day(kind: str, people: int, day: date | None) -> Draw:
    """Prepare days of the matching study.

    Raises:
        InputError: There is no such kind of day.
    """
    if kind not in KINDS:
        raise InputError(f"la sorte « {kind} » n'existe pas ; valeurs possibles : {', '.join(KINDS)}")
    when = {} if day is None else {"day": day}
    return Draw(kind, lambda seed: study(kind, seed, territory=people, **when))


def simulate(draw: Draw, seed: int, count: int | None, out: Path, say: Say) -> None:
    """Write the day of a seed to a file, or ``count`` days of successive seeds into a folder: all of them, or none."""
    if count is None:
        with progress(1, draw.name), whole_file(out) as draft:
            day = draw.of_seed(seed)
            write_day(draft, day)
        say(f"{out} : {_size(day)}.")
        return
    with whole_folder(out) as folder, progress(count, draw.name) as advance:
        for number in range(seed, seed + count):
            write_day(folder / f"{draw.name}-{number}.jsonl", draw.of_seed(number))
            advance(f"{draw.name}, graine {number}")
    say(f"{out} : {count} journaux, {draw.name}-{seed}.jsonl à {draw.name}-{seed + count - 1}.jsonl.")


def _size(day: DayLog) -> str:
    places = sum(event.slot.capacity for event in day.slots)
    return f"{len(day.requests)} demandes, {len(day.slots)} créneaux ({places} places)"
