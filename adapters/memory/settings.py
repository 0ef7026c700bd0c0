"""What territories set, in the twin: what ``005_settings.sql`` says, and the checks of ``territory_setting``."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from adapters.memory.requests import Answer
from adapters.memory.tables import Tables
from sas_matcher.domain.policy import (
    DEFAULT_SETTING,
    LIVE_POLICIES,
    MOST_AGEING_PCT_PER_H,
    MOST_FAIR_LOAD_MIN,
    MOST_KM,
    MOST_MT_ASK_MIN,
    MOST_RADIUS_PCT,
    MOST_RESERVE_PCT,
    MOST_TELE_BONUS_MIN,
    needs_leave,
)
from sas_matcher.ports.ledger import SettingChange


def change_setting(tables: Tables, now: datetime, key_id: str, change: SettingChange) -> Answer:
    """Change what is named and leave the rest.

    Raises:
        ValueError: a value that no setting may have.
    """
    territory, changes, why, version = change
    before = tables.settings.get(territory) or {"territory": territory, **DEFAULT_SETTING}
    if version not in (None, before["version"]):
        return "conflict", orjson.dumps(before).decode()
    after = {**before, **changes, "policy": {**before["policy"], **changes.get("policy", {})}}
    if after == before:
        return "unchanged", orjson.dumps(before).decode()
    if not after["crisis_allowed"] and needs_leave(after["policy"].values(), crisis=after["crisis"]):
        return "crisis_not_allowed", orjson.dumps(before).decode()
    _check(after, before, why)
    # as it reads in a document: an instant is text there
    after |= {"version": before["version"] + 1, "changed_at": now.isoformat()}
    tables.settings[territory] = after
    entry = {
        "territory": territory,
        "version": after["version"],
        "at": now,
        "key_id": key_id,
        "why": why,
        "before": before,
        "after": after,
    }
    tables.announce_setting(now, entry)
    return "changed", orjson.dumps(after).decode()


def _check(setting: Mapping[str, Any], before: Mapping[str, Any], why: str) -> None:
    right = (
        setting.keys() == before.keys()
        and setting["policy"].keys() == before["policy"].keys()
        and set(setting["policy"].values()) <= set(LIVE_POLICIES)
        and 15 <= setting["hold_seconds"] <= 1800
        and setting["mt_rule"] in ("bonus", "first")
        and 0 <= setting["mt_ask_min"] <= MOST_MT_ASK_MIN
        and 0 <= setting["ageing_pct_per_h"] <= MOST_AGEING_PCT_PER_H
        and 0 <= setting["fair_load_min"] <= MOST_FAIR_LOAD_MIN
        and 100 <= setting["radius_pct"] <= MOST_RADIUS_PCT
        and 0 <= setting["urgent_reserve_pct"] <= MOST_RESERVE_PCT
        and 0 <= setting["tele_bonus_min"] <= MOST_TELE_BONUS_MIN
        and all(1 <= share <= 100 for share in setting["borrow"].values())
        and 0 <= setting["borrow_km"] <= MOST_KM
        and why != ""
    )
    if not right:
        raise ValueError(f"Expected a lawful setting and a reason, got {setting} because of {why!r}.")
