"""The terms of a match: what a minute of travel or waiting costs, and what serving each tier is worth.

Scale and formula are those of the day log (``docs``: formats of the day log, *Score*): costs in tenths of a minute,
``10·travel + 10·wait_weight·wait − 10·mt_bonus·[professional is the médecin traitant]``; a request is left unserved
rather than served at a cost above its tier's value.
"""

from dataclasses import dataclass, field
from typing import Final

from sas_matcher.domain.vocabulary import Tier

UNITS_PER_MIN: Final = 10  # costs are tenths of a minute
TIER_RANK: dict[Tier, int] = {Tier.T0: 0, Tier.T1: 1, Tier.T2: 2, Tier.T3: 3}


@dataclass(frozen=True, slots=True)
class TierTerms:
    """One tier: ``value`` in tenths of a minute, ``wait_weight`` of a minute waited against one travelled."""

    value: int
    wait_weight: float


def _day_log_tiers() -> dict[Tier, TierTerms]:
    # the values and weights that the day log's own meta line carries
    return {
        Tier.T0: TierTerms(40_000, 1.0),
        Tier.T1: TierTerms(20_000, 0.25),
        Tier.T2: TierTerms(10_000, 0.05),
        Tier.T3: TierTerms(5_000, 0.03),
    }


@dataclass(frozen=True, slots=True)
class Terms:
    """All terms of one territory or one day log; the defaults are the day log's.

    Attributes:
        base_min: minutes that any trip takes.
        min_per_km: minutes for each straight kilometre.
        mt_bonus_min: minutes that the médecin traitant is worth.
        mt_first: a free place at the médecin traitant's wins whatever it costs.
        notice_min: minutes before the start at which who was promised a place is told at the latest.
        ageing_per_h: share of its tier's value by which leaving a request waiting weighs more for each hour waited.
        exclusive_times: individual times of one professional that overlap are alternatives; not in a day log, whose
            slots stand for themselves.
        fair_load_min: minutes that each patient whom a professional has within a day adds to the cost of his places.
        radius_factor: of the radius that a request asks for, ``MOST_KM`` at the most.
        tele_bonus_min: minutes that a consultation by video is worth to who accepts one.
        urgent_reserve_pct: percent of the territory's places that only urgent requests get until they are released.
        borrow: by neighbouring territory, the percent of its places that are within reach up to ``borrow_km``.
        tiers: value and wait weight of each tier.
    """

    base_min: float = 3.0
    min_per_km: float = 1.95
    mt_bonus_min: float = 6.0
    mt_first: bool = False
    notice_min: float = 30.0
    ageing_per_h: float = 0.0
    exclusive_times: bool = False
    fair_load_min: float = 0.0
    radius_factor: float = 1.0
    tele_bonus_min: float = 0.0
    urgent_reserve_pct: int = 0
    borrow: dict[str, int] = field(default_factory=dict)
    borrow_km: float = 0.0
    tiers: dict[Tier, TierTerms] = field(default_factory=_day_log_tiers)

    def worth(self, tier: Tier, waited_s: float) -> int:
        """What serving a request is worth that has waited so long, tenths of a minute (rule of ageing)."""
        return round(self.tiers[tier].value * (1.0 + self.ageing_per_h * max(0.0, waited_s) / 3600.0))
