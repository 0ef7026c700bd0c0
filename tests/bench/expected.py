"""What expected days are worth where none were recorded: ``python -m tests.bench.expected [--cells …] [--days N]``.

Replays days under ``auto`` four ways: nothing known of earlier days (``none``); the ordinary days that the service
draws from the demand model, without (``calls``) and with the places of the model's world (``expected``); ten days of
the same people and story (``recorded``).

A cell is ``study:<kind>``, whose generator is not the model's: people of 250 000 on its towns, of whom the model
expects 27 requests a day where the study has 400 and more; or ``<story>-<département>[-<level>]``, days of
``simulate`` on real communes, drawn from the model itself with what the story changes. ``/10`` at the end leaves a
tenth of the requests and of the professionals, as where few take part.
"""

import argparse
import time
from datetime import datetime
from pathlib import Path
from statistics import mean
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import orjson

from adapters.geo import Gazetteer
from sas_matcher.replay.daylog import (
    DayLog,
    Event,
    RequestCancelled,
    RequestCreated,
    SlotCapacity,
    SlotPublished,
    SlotWithdrawn,
)
from sas_matcher.replay.expected import expected_days
from sas_matcher.replay.hindsight import hindsight
from sas_matcher.replay.run import replay_day
from sas_matcher.replay.score import score
from sas_matcher.replay.simulate import MARKETS, Level, simulate
from sas_matcher.replay.study import KINDS, StudyTerritory, study
from tests.bench.campaign import HISTORY

WAYS: Final = ("none", "calls", "expected", "recorded")
CELLS: Final = [
    *(f"study:{kind}" for kind in ("city-x1", "city-x3", "flash", "rural", "noise")),
    *("S0-69", "S1-69", "S2-69", "S3-69", "S7-48", "S2-48-high", "S0-69/10", "study:city-x1/10"),
]
POLICY: Final = "auto"
PEOPLE, COMMUNES_A_TOWN, TENTH = 250_000, 40, 0.1
GEOGRAPHY: Final = Gazetteer.load()


class Commune(NamedTuple):
    code: str
    name: str
    territory: str
    population: int
    lat: float
    lon: float


class Territory(NamedTuple):
    timezone: str
    default_radius_km: float


def town_communes(kind: str) -> tuple[list[Any], dict[str, Any]]:
    """The towns of a study as a gazetteer would have them."""
    what = KINDS[kind]
    land, rng = StudyTerritory(what.plan, 0), np.random.default_rng(5)
    code = f"etude-{what.plan}-0"
    communes = [
        Commune(f"{town:02}{n:03}", "", code, round(PEOPLE * share / COMMUNES_A_TOWN), *land.point(town, rng))
        for town, share in enumerate(land.people.tolist())
        for n in range(COMMUNES_A_TOWN)
    ]
    radius = sorted(what.radii_km)[len(what.radii_km) // 2]
    return communes, {code: Territory("Europe/Paris", radius)}


def thinned(day: DayLog) -> DayLog:
    """A tenth of the requests, and the slots of a tenth of the professionals."""
    rng = np.random.default_rng(77)
    doctors = sorted({e.slot.professional for e in day.slots})
    chosen: dict[str, float] = dict(zip(doctors, rng.random(len(doctors)).tolist(), strict=True))
    asked: dict[str, float] = dict(
        zip([e.request.id for e in day.requests], rng.random(len(day.requests)).tolist(), strict=True)
    )
    slots = {e.slot.id: chosen[e.slot.professional] for e in day.slots}

    def stays(event: Event) -> bool:
        match event:
            case SlotPublished(slot=slot):
                return slots[slot.id] < TENTH
            case SlotWithdrawn(slot_id=name) | SlotCapacity(slot_id=name):
                return slots[name] < TENTH
            case RequestCreated(request=request):
                return asked[request.id] < TENTH
            case RequestCancelled(request_id=name):
                return asked[name] < TENTH

    return DayLog(day.meta, tuple(event for event in day.events if stays(event)))


def only_calls(day: DayLog) -> DayLog:
    """What is asked, without any place."""
    return DayLog(day.meta, tuple(e for e in day.events if isinstance(e, RequestCreated | RequestCancelled)))


def prepare(cell: str, seed: int) -> tuple[DayLog, dict[str, list[DayLog]]]:
    """The day of a seed, and the earlier days of each way."""
    name, tenth, _ = cell.partition("/10")
    if name.startswith("study:"):
        kind = name.removeprefix("study:")
        communes, territories = town_communes(kind)

        def drawn(number: int) -> DayLog:
            return study(kind, number)
    else:
        story, departement, *said = name.split("-")
        level: Level = next((known for known in MARKETS if known in said), "mid")
        communes, territories = list(GEOGRAPHY.communes_of(departement)), dict(GEOGRAPHY.territories)

        def drawn(number: int) -> DayLog:
            return simulate(story, communes, number, level, territories=territories)

    day, past = drawn(seed), [drawn(1000 + 100 * seed + n) for n in range(HISTORY)]
    if tenth:
        day, past = thinned(day), [thinned(other) for other in past]
    date = datetime.fromtimestamp(day.meta.start, ZoneInfo(day.meta.timezone)).date()
    expected = expected_days(communes, date, territories=territories)
    return day, {
        "none": [],
        "calls": [only_calls(other) for other in expected],
        "expected": expected,
        "recorded": past,
    }


def run(cell: str, seed: int, ways: list[str]) -> list[dict[str, Any]]:
    """The figures of one day, way by way."""
    day, known = prepare(cell, seed)
    best = hindsight(day)
    figures = []
    for way in ways:
        began = time.process_time()
        past, drawn = ((), known[way]) if way in ("calls", "expected") else (known[way], ())
        lines, summary = replay_day(day, POLICY, history=past, expected=drawn, seed=seed)
        judged = score(day, lines, POLICY)
        urgent = [sum(of.get(tier, 0) for tier in ("T0", "T1")) for of in (judged.served, best.served)]
        figures.append(
            {
                "cell": cell,
                "seed": seed,
                "way": way,
                "requests": sum(judged.requests.values()),
                "served": sum(judged.served.values()),
                "served_best": sum(best.served.values()),
                "welfare": 100 * judged.welfare / best.welfare if best.welfare else 100.0,
                "told": 100 * (judged.told_within_2_min or 0.0),
                "urgent": urgent[0],
                "urgent_best": urgent[1],
                "broken": summary["broken_promises"],
                "seconds": time.process_time() - began,
            }
        )
    return figures


def row(rows: list[dict[str, Any]]) -> str:
    """One line of the table."""
    of = {name: [r[name] for r in rows] for name in rows[0]}
    urgent = f"{sum(of['urgent'])} of {sum(of['urgent_best'])}"
    served = f"{sum(of['served'])} of {sum(of['served_best'])}"
    welfare = f"{mean(of['welfare']):.1f} [{min(of['welfare']):.1f}..{max(of['welfare']):.1f}]"
    cells = (rows[0]["cell"], rows[0]["way"], f"{welfare} · {mean(of['told']):.0f}", urgent, served)
    return "| " + " | ".join((*cells, str(sum(of["broken"])), f"{mean(of['seconds']):.1f}", str(len(rows)))) + " |"


def main() -> None:
    """Print a line for each cell and way."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.expected", description=__doc__)
    parser.add_argument("--cells", nargs="*", default=CELLS)
    parser.add_argument("--ways", nargs="*", default=list(WAYS))
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--first", type=int, default=60)
    parser.add_argument("--out", type=Path)
    wishes = parser.parse_args()
    print("| day | known | welfare · told | T0+T1 | served | broken | CPU s | days |")  # noqa: T201
    print("|---|---|---|---|---|---|---|---|")  # noqa: T201
    for cell in wishes.cells:
        rows = [r for seed in range(wishes.first, wishes.first + wishes.days) for r in run(cell, seed, wishes.ways)]
        if wishes.out is not None:
            with wishes.out.open("ab") as file:
                file.writelines(orjson.dumps(one) + b"\n" for one in rows)
        for way in wishes.ways:
            print(row([r for r in rows if r["way"] == way]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
