"""The sample of the day-log format, and day logs made by hand for tests of the replay."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from sas_matcher.replay.daylog import DayLog
from sas_matcher.replay.daylog_file import parse_day, read_day

SAMPLE = Path(__file__).parent / "data" / "daylog"
SCORES: dict[str, Any] = json.loads((SAMPLE / "scores.json").read_text())
"""What an independent scorer says of the sample's three results."""

Json = dict[str, Any]

META: Json = {
    "type": "meta",
    "format": "sas-daylog/1",
    "territory": "48",
    "timezone": "Europe/Paris",
    "start": "2026-01-12T00:00:00+01:00",
    "end": "2026-01-14T00:00:00+01:00",
    "travel": {"base_min": 3.0, "min_per_km": 1.95},
    "tiers": [
        {"tier": "T0", "max_delay_min": 60, "value": 40000, "wait_weight": 1.0},
        {"tier": "T1", "max_delay_min": 240, "value": 20000, "wait_weight": 0.25},
        {"tier": "T2", "max_delay_min": 1440, "value": 10000, "wait_weight": 0.05},
        {"tier": "T3", "max_delay_min": 2880, "value": 5000, "wait_weight": 0.03},
    ],
    "mt_bonus_min": 6,
    "notice_min": 30,
}


@cache
def sample_day() -> DayLog:
    return read_day(SAMPLE / "day.jsonl")


def sample_rows(policy: str) -> list[Json]:
    """A fresh copy of a sample result, one dictionary per line."""
    return [json.loads(line) for line in (SAMPLE / f"result-{policy}.jsonl").read_bytes().splitlines()]


def lines_of(records: list[Json]) -> list[bytes]:
    return [json.dumps(record).encode() for record in records]


def at(clock: str, day: int = 12) -> str:
    """``hh:mm`` or ``hh:mm:ss`` of a January day as an instant of the log."""
    return f"2026-01-{day}T{clock if clock.count(':') == 2 else clock + ':00'}+01:00"


def published(t: str, name: str, start: str, end: str | None = None, **changes: Any) -> Json:
    slot = {
        "id": name,
        "professional": "p1",
        "structure": None,
        "source": "liberal",
        "lat": 44.5,
        "lon": 3.5,
        "start": start,
        "end": end or start,
        "capacity": 1,
        "mode": "cabinet",
        "profession": "MG",
        "offers": ["enfant"],
    }
    return {"type": "slot.published", "t": t, "slot": slot | changes}


def created(t: str, name: str, deadline: str, **changes: Any) -> Json:
    request = {
        "id": name,
        "lat": 44.5,
        "lon": 3.5,
        "profession": "MG",
        "modes": ["cabinet"],
        "tier": "T2",
        "deadline": deadline,
        "radius_km": 20,
        "needs": [],
        "mt": None,
        "on_phone": True,
    }
    return {"type": "request.created", "t": t, "request": request | changes}


def capacity(t: str, slot_id: str, places: int) -> Json:
    return {"type": "slot.capacity", "t": t, "slot_id": slot_id, "capacity": places}


def withdrawn(t: str, slot_id: str) -> Json:
    return {"type": "slot.withdrawn", "t": t, "slot_id": slot_id}


def cancelled(t: str, request_id: str) -> Json:
    return {"type": "request.cancelled", "t": t, "request_id": request_id}


def day_of(*events: Json, **meta: Any) -> DayLog:
    return parse_day(lines_of([META | meta, *events]))


def row(name: str, **changes: Any) -> Json:
    """A line of a result, unserved unless changed."""
    line = {
        "request_id": name,
        "status": "unserved",
        "slot_id": None,
        "firm_at": None,
        "first_promised_at": None,
        "moves": 0,
        "broken_promises": 0,
        "refusals": 0,
        "reason": "ALL_TAKEN",
    }
    return line | changes


def served(name: str, slot_id: str, firm_at: str, **changes: Any) -> Json:
    return row(name, status="served", slot_id=slot_id, firm_at=firm_at, reason=None, **changes)
