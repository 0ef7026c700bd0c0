"""What a territory sets: read, changed and reviewed by those who steer it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from sas_matcher.domain.disclosure import LEAST
from sas_matcher.domain.errors import ConflictError, CrisisNotAllowedError
from sas_matcher.domain.policy import DEFAULT_SETTING, effective
from sas_matcher.ports.ledger import Idempotency, Ledger, SettingChange
from sas_matcher.ports.world import Clock


class Steering:
    """What CPTS, ARS, gestionnaires and administrators do about the settings of a territory."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def setting(self, territory: str) -> dict[str, Any]:
        """Return what a territory sets (``DEFAULT_SETTING``), and under ``in_force`` which policy decides each tier."""
        found = (await self._ledger.settings()).get(territory)
        return _shown(found or {"territory": territory, **DEFAULT_SETTING})

    async def change(self, change: SettingChange, once: Idempotency) -> dict[str, Any]:
        """Change what is named and leave the rest; returns the setting as it stands after.

        Raises:
            ConflictError: it has another version than the one that was read.
            CrisisNotAllowedError: a crisis is chosen, declared or left in force without leave.
        """
        done = await self._ledger.change_setting(self._clock.now(), change, once)
        setting: dict[str, Any] = orjson.loads(done.document or "{}")
        if done.word == "conflict":
            raise ConflictError(
                f"Ces réglages ont changé entre-temps (version {setting['version']}) : relisez-les, puis recommencez."
            )
        if done.word == "crisis_not_allowed":
            raise CrisisNotAllowedError(
                "La crise n'est pas permise dans ce territoire : mettez crisis_allowed à true (ARS), "
                "ou retirez crisis et la politique « crisis »."
            )
        return _shown(setting)

    async def changes(self, territory: str, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Return a page of the changes of a territory's setting, newest first."""
        return [orjson.loads(change) for change in await self._ledger.setting_changes(territory, before, limit)]

    async def with_mt(
        self, territory: str, window: tuple[datetime, datetime], communes: Sequence[str] | None
    ) -> dict[str, Any]:
        """Count patients with, without, and perhaps with a médecin traitant, among the requests made in a window.

        A commune with fewer than ``LEAST`` requests is counted in ``others`` only: nobody is to be found by counting.
        """
        counted = await self._ledger.mt_counts(territory, window, communes)
        shown = [row for row in counted if row[1] + row[2] + row[3] >= LEAST]
        others = [row for row in counted if row[1] + row[2] + row[3] < LEAST]
        return {
            "territory": territory,
            "from": window[0].isoformat(),
            "to": window[1].isoformat(),
            "all": _summed(counted),
            "communes": [{"insee": row[0], **_summed([row])} for row in shown],
            "others": {"communes": len(others), **_summed(others)},
        }


def _summed(rows: Sequence[tuple[str, int, int, int]]) -> dict[str, int]:
    return {
        "yes": sum(row[1] for row in rows),
        "no": sum(row[2] for row in rows),
        "unknown": sum(row[3] for row in rows),
    }


def _shown(setting: Mapping[str, Any]) -> dict[str, Any]:
    allowed, declared = setting["crisis_allowed"], setting["crisis"]
    in_force = {tier: effective(name, allowed, declared) for tier, name in setting["policy"].items()}
    return {**setting, "in_force": in_force}
