"""What a territory sets, and the trace of its changes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sas_matcher.client._documents import Json, _instant


@dataclass(frozen=True, slots=True)
class Setting:
    """What a territory sets.

    Attributes:
        policy: When a place becomes firm, by tier: ``firm``, ``promise``, ``crisis`` or ``auto``.
        in_force: Which policy decides now, by tier (``auto`` is ``crisis`` while one is declared); empty in the trace.
        crisis_allowed: A crisis may be declared here.
        crisis: A crisis is declared.
        hold_seconds: How long a hold lasts.
        mt_rule: The médecin traitant's place is worth a ``bonus``, or goes ``first``.
        mt_ask_min: Minutes that he has to answer, where he goes first, before another place is taken.
        ageing_pct_per_h: What a request gains for each hour that it waits, in percent of its tier's value.
        fair_load_min: Minutes that each patient of a professional adds to the cost of his places.
        radius_pct: Percent of the radius asked for.
        urgent_reserve_pct: Share of the places here that only T0 and T1 get until an hour before they begin.
        tele_bonus_min: Minutes that a consultation by video is worth.
        borrow: By neighbouring territory, the share of its places within reach up to ``borrow_km``.
        version: Counts changes; 0 while nothing was changed, and ``changed_at`` is ``None``.
    """

    territory: str
    policy: Mapping[str, str]
    in_force: Mapping[str, str]
    crisis_allowed: bool
    crisis: bool
    hold_seconds: int
    mt_rule: str
    mt_ask_min: int
    ageing_pct_per_h: float
    fair_load_min: float
    radius_pct: int
    urgent_reserve_pct: int
    tele_bonus_min: float
    borrow: Mapping[str, int]
    borrow_km: float
    version: int
    changed_at: datetime | None
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "Setting":
        """Read a document."""
        return cls(
            document["territory"],
            document["policy"],
            document.get("in_force", {}),
            document["crisis_allowed"],
            document["crisis"],
            document["hold_seconds"],
            document["mt_rule"],
            document["mt_ask_min"],
            document["ageing_pct_per_h"],
            document["fair_load_min"],
            document["radius_pct"],
            document["urgent_reserve_pct"],
            document["tele_bonus_min"],
            document["borrow"],
            document["borrow_km"],
            document["version"],
            _instant(document["changed_at"]),
            document,
        )


@dataclass(frozen=True, slots=True)
class SettingChange:
    """Who (which key) changed what a territory sets, when and why."""

    territory: str
    version: int
    at: datetime
    key_id: str
    why: str
    before: Setting
    after: Setting
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "SettingChange":
        """Read a document."""
        return cls(
            document["territory"],
            document["version"],
            datetime.fromisoformat(document["at"]),
            document["key_id"],
            document["why"],
            Setting.of(document["before"]),
            Setting.of(document["after"]),
            document,
        )


@dataclass(frozen=True, slots=True)
class SettingChanges:
    """A page of changes, newest first; ``next_before`` goes into the next call, ``None`` at the end."""

    changes: tuple[SettingChange, ...]
    next_before: int | None

    @classmethod
    def of(cls, document: Json) -> "SettingChanges":
        """Read a document."""
        return cls(tuple(SettingChange.of(change) for change in document["changes"]), document["next_before"])
