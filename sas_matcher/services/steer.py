"""What those who steer a territory do: read, change and review what it sets."""

from collections.abc import Mapping
from typing import Any

import orjson

from sas_matcher.domain.errors import ConflictError, CrisisNotAllowedError
from sas_matcher.domain.policy import DEFAULT_SETTING, effective
from sas_matcher.ports import Clock, Idempotency, Ledger, SettingChange


class Steering:
    """What CPTS, ARS, gestionnaires and administrators do."""

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


def _shown(setting: Mapping[str, Any]) -> dict[str, Any]:
    allowed, declared = setting["crisis_allowed"], setting["crisis"]
    in_force = {tier: effective(name, allowed, declared) for tier, name in setting["policy"].items()}
    return {**setting, "in_force": in_force}
