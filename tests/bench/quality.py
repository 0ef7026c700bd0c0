"""What the nearest-first service decides on whole days, beside ours: ``python -m tests.bench.quality [--seeds N]``.

The days of the field's stories are played in virtual time: places come and go, requests are made and cancelled as the
day log says. The nearest-first service claims with its own Lua script in a real Valkey, and has no waiting list: who
finds nothing is not called back; it does not know offers, and whom it sends where he cannot be received counts as not
served. Ours is the live matcher (``replay_day``). Both are judged by one function against the
hindsight of the day; refusals by practices (phantoms) take a place from both.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import redis.asyncio

from adapters.embedded import start_valkey
from adapters.geo import Gazetteer
from sas_matcher.replay.daylog import DayLog, RequestCancelled, RequestCreated, SlotPublished, SlotWithdrawn
from sas_matcher.replay.hindsight import hindsight
from sas_matcher.replay.run import replay_day
from sas_matcher.replay.score import ScoreError
from sas_matcher.replay.simulate import simulate
from sas_matcher.travel import haversine_km
from tests.bench.nearest_app import claim, key

CASES: Final = (("S0", "69"), ("S2", "69"), ("S3", "69"))
OURS: Final = ("firm", "promise")


class Quality(NamedTuple):
    """Figures of a day, in percent of what hindsight reaches, and minutes.

    Attributes:
        welfare: value of those served less travel and wait.
        served, urgent: all requests; T0 and T1.
        travel_min: mean of those served, not by video.
    """

    welfare: float
    served: float
    urgent: float
    travel_min: float


def judge(day: DayLog, given: dict[str, str]) -> Quality:
    """Judge who got which slot."""
    terms = {tier.tier: tier for tier in day.meta.tiers}
    slots = {event.slot.id: event.slot for event in day.slots}
    best = hindsight(day)
    welfare, travels, served = 0.0, [], dict.fromkeys(terms, 0)
    for made in day.requests:
        slot_id = given.get(made.request.id)
        if slot_id is None or made.request.id in day.cancelled_at:
            continue
        slot, asked = slots[slot_id], made.request
        if not set(asked.needs) <= set(slot.offers):
            continue  # sent where he cannot be received
        travel = 0.0
        if slot.mode != "tele":
            km = float(haversine_km(asked.lat, asked.lon, slot.lat, slot.lon))
            travel = day.meta.base_min + day.meta.min_per_km * km
            travels.append(travel)
        cost = travel + terms[asked.tier].wait_weight * (float(slot.start) - float(made.t)) / 60
        welfare += terms[asked.tier].value - 10 * (cost - day.meta.mt_bonus_min * (slot.professional == asked.mt))
        served[asked.tier] += 1
    urgent, most = served["T0"] + served["T1"], best.served["T0"] + best.served["T1"]
    return Quality(
        100 * welfare / best.welfare,
        100 * sum(served.values()) / max(1, sum(best.served.values())),
        100 * urgent / max(1, most),
        sum(travels) / max(1, len(travels)),
    )


async def _nearest(day: DayLog, store: Any) -> dict[str, str]:
    """Play a day through the Lua claim; returns the slot of each request that kept one."""
    await store.flushall()
    slots = {event.slot.id: event.slot for event in day.slots}
    given: dict[str, str] = {}

    async def back(request_id: str) -> None:
        slot = slots[given.pop(request_id)]
        await store.hincrby("left", slot.id, 1)
        await store.geoadd(key(slot.profession, slot.mode), (slot.lon, slot.lat, slot.id))

    for event in sorted(day.events, key=lambda one: float(one.t)):
        if isinstance(event, SlotPublished):
            slot = event.slot
            await store.geoadd(key(slot.profession, slot.mode), (slot.lon, slot.lat, slot.id))
            await store.hset("start", slot.id, int(float(slot.start)))
            await store.hset("left", slot.id, slot.capacity)
        elif isinstance(event, SlotWithdrawn):
            slot = slots[event.slot_id]
            await store.zrem(key(slot.profession, slot.mode), slot.id)
            given = {request: taken for request, taken in given.items() if taken != slot.id}
        elif isinstance(event, RequestCancelled) and event.request_id in given:
            await back(event.request_id)
        elif isinstance(event, RequestCreated):
            asked = event.request
            place, span = (asked.lat, asked.lon, asked.radius_km), (float(event.t), float(asked.deadline))
            found = await claim(store, asked.profession, asked.modes, place, span)
            if found is not None and slots[found[0].decode()].refused_after_min is None:
                given[asked.id] = found[0].decode()
    return given


def ours(day: DayLog, policy: str) -> dict[str, str] | None:
    """Play a day through the live matcher; None, loudly, when the scorer finds a broken rule in what it decided."""
    try:
        lines = [json.loads(line) for line in replay_day(day, policy)[0]]
    except ScoreError as wrong:
        sys.stderr.write(f"\n!!! A RULE OF « {policy} » IS BROKEN: {wrong}\n")
        return None
    return {line["request_id"]: line["slot_id"] for line in lines if line.get("slot_id") is not None}


def table(seeds: int) -> list[str]:
    """Return the Markdown table: medians over the days, least and most of the welfare."""
    geography = Gazetteer.load()
    folder = Path(tempfile.mkdtemp(prefix="sas-bench-"))
    server = start_valkey(folder / "v", durable=False)
    lines = ["| day | service | welfare, % of hindsight | served | T0 and T1 | travel |", "|---|---|---|---|---|---|"]

    async def nearest(days: Sequence[DayLog]) -> list[dict[str, str]]:
        store = redis.asyncio.Redis(unix_socket_path=str(server.socket_path), protocol=2)
        try:
            return [await _nearest(day, store) for day in days]
        finally:
            await store.aclose()

    try:
        for story, territory in CASES:
            communes = geography.communes_of(territory)
            days = [simulate(story, communes, seed, territories=geography.territories) for seed in range(seeds)]
            results: dict[str, Sequence[dict[str, str] | None]] = {"GEOSEARCH + Lua": asyncio.run(nearest(days))}
            results |= {f"ours, {policy}": [ours(day, policy) for day in days] for policy in OURS}
            for name, given in results.items():
                judged = [judge(day, one) for day, one in zip(days, given, strict=True) if one is not None]
                if not judged:
                    continue
                welfare = [one.welfare for one in judged]
                cells = [f"{story} {territory}, {len(judged)} days", name]
                cells.append(f"{median(welfare):.1f} ({min(welfare):.1f} to {max(welfare):.1f})")
                cells += [
                    f"{median(values):.1f} %" for values in ([j.served for j in judged], [j.urgent for j in judged])
                ]
                cells.append(f"{median(one.travel_min for one in judged):.1f} min")
                lines.append("| " + " | ".join(cells) + " |")
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    print("\n".join(table(parser.parse_args().seeds)))  # noqa: T201
