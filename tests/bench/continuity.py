"""Who sees their own médecin traitant, and what it costs: ``python -m tests.bench.continuity [--days N] [DAYS …]``.

Replays the same days (``S1-69``: a scenario in a département) under ``official``, which reads the médecin traitant's
card first, and under our policies with the bonus of the cost and with the setting *first*. With ``+mt`` every other
patient of a general practitioner has one of the ten nearest who offer places as médecin traitant: scenarios know few.

A line for each: served by their own, in % of those who have one; the same of those whose médecin traitant published a
place that suits them (by the day log's rules); welfare in % of hindsight. The scorer judges, not the engine.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean
from typing import Final

import numpy as np
import orjson

from adapters.geo import Gazetteer
from sas_matcher.replay.daylog import DayLog, Event, RequestCreated
from sas_matcher.replay.hindsight import hindsight
from sas_matcher.replay.run import replay_day
from sas_matcher.replay.score import score
from sas_matcher.replay.simulate import simulate
from sas_matcher.travel import haversine_km

RUNS: Final = (
    ("official", False),
    ("fcfs-nearest", False),
    ("firm", False),
    ("firm", True),
    ("promise", False),
    ("promise", True),
)
"""(policy, médecin traitant first)."""
EARLIER: Final = 4  # days of history
NEAREST: Final = 10


def draw(name: str, seed: int) -> DayLog:
    """Draw a day of ``S1-69`` or ``S1-69+mt``."""
    scenario, _, rest = name.partition("-")
    geography = Gazetteer.load()
    communes = list(geography.communes_of(rest.removesuffix("+mt")))
    day = simulate(scenario, communes, seed, territories=geography.territories)
    return with_mt(day, np.random.default_rng(seed)) if rest.endswith("+mt") else day


def with_mt(day: DayLog, rng: np.random.Generator) -> DayLog:
    """Give every other patient of a general practitioner one of the nearest who offer places as médecin traitant."""
    sites = {
        (s.professional, s.lat, s.lon)
        for p in day.slots
        if (s := p.slot).profession == "MG" and s.professional is not None
    }
    names, lats, lons = zip(*sorted(sites), strict=True)
    events: list[Event] = []
    for event in day.events:
        if isinstance(event, RequestCreated) and event.request.profession == "MG" and rng.random() < 0.5:
            km = haversine_km(event.request.lat, event.request.lon, np.array(lats), np.array(lons))
            mt = names[int(rng.choice(np.argsort(km, kind="stable")[:NEAREST]))]
            events.append(replace(event, request=replace(event.request, mt=mt)))
        else:
            events.append(event)
    return DayLog(day.meta, tuple(events))


def own(day: DayLog) -> tuple[set[str], set[str]]:
    """Return who has a médecin traitant, and whose one published a place that suits them."""
    meta = day.meta
    known, suited = set(), set()
    slots = [published.slot for published in day.slots]
    for made in day.requests:
        r = made.request
        if r.mt is None or r.id in day.cancelled_at:
            continue
        known.add(r.id)
        for s in slots:
            if s.professional != r.mt or s.profession != r.profession or s.mode not in r.modes:
                continue
            km = 0.0 if s.mode == "tele" else float(haversine_km(r.lat, r.lon, s.lat, s.lon))
            travel_s = 0.0 if s.mode == "tele" else 60 * (meta.base_min + meta.min_per_km * km)
            in_time = float(made.t) + travel_s <= float(s.start) <= float(r.deadline)
            if in_time and km <= r.radius_km and set(r.needs) <= set(s.offers):
                suited.add(r.id)
                break
    return known, suited


def continuity(day: DayLog, lines: Sequence[bytes], among: set[str]) -> float:
    """Return how many of some requests were served by their own médecin traitant, in percent."""
    professional = {published.slot.id: published.slot.professional for published in day.slots}
    mt = {made.request.id: made.request.mt for made in day.requests}
    results = map(orjson.loads, lines)
    seen = {
        r["request_id"]
        for r in results
        if r["status"] == "served" and professional[r["slot_id"]] == mt[r["request_id"]]
    }
    return 100 * len(seen & among) / max(1, len(among))


def main(kinds: Sequence[str], days: int, first: int, policies: Sequence[str]) -> None:
    """Print a line for each kind of day and run."""
    for kind in kinds:
        drawn = [draw(kind, seed) for seed in range(first, first + days)]
        # ``firm`` as where no day was recorded: each batch as a whole and at once
        earlier = [draw(kind, seed) for seed in range(first - EARLIER, first)] if "promise" in policies else []
        most = [hindsight(day).welfare for day in drawn]
        owned = [own(day) for day in drawn]
        for policy, mt_first in (run for run in RUNS if run[0] in policies):
            began = time.perf_counter()
            history = earlier if policy == "promise" else []
            done = [replay_day(day, policy, history=history, mt_first=mt_first)[0] for day in drawn]
            took = (time.perf_counter() - began) / days
            welfare = mean(
                100 * score(day, lines, policy).welfare / best
                for day, lines, best in zip(drawn, done, most, strict=True)
            )
            everyone = mean(continuity(day, lines, who[0]) for day, lines, who in zip(drawn, done, owned, strict=True))
            suited = mean(continuity(day, lines, who[1]) for day, lines, who in zip(drawn, done, owned, strict=True))
            rule = "first" if mt_first else "bonus"
            having, having_place = (sum(len(who[n]) for who in owned) for n in (0, 1))
            line = (
                f"{kind:9} {policy:12} {rule}  own MT: {everyone:5.1f} % of {having} who have one, {suited:5.1f} % of "
            )
            line += f"{having_place} whose MT had a place; welfare {welfare:5.1f} %"
            print(f"{line}  {took:5.1f} s", flush=True)  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", default=["S1-69", "S2-69", "S1-69+mt", "S2-69+mt"])
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--first", type=int, default=60)
    parser.add_argument("--policies", nargs="*", default=list(dict.fromkeys(policy for policy, _ in RUNS)))
    wishes = parser.parse_args()
    main(wishes.kinds, wishes.days, wishes.first, wishes.policies)
