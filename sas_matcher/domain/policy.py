"""When a place becomes firm: the policies by name, and what a territory sets about them.

Names and meaning are those of the day log (*Policies*); the rule of ageing is the matching study's (§9).
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, Final

from sas_matcher.domain.vocabulary import Tier


class Policy(StrEnum):
    """What may still change about a place once it is given."""

    FIRM = "firm"
    """Irrevocable once told; who finds no place waits."""
    PROMISE = "promise"
    """"Seen before your deadline": the place may move until it is told; never broken by the engine."""
    CRISIS = "crisis"
    """As ``promise``, but a higher tier may displace a promise of a lower one."""
    AUTO = "auto"
    """As ``promise``, but who waits, promised nothing, may be served at short notice as under ``firm``; ``crisis``
    where the territory allows it and has declared it."""
    FCFS_NEAREST = "fcfs-nearest"
    """The fair human peer: nearest feasible place at once, in order of arrival."""
    OFFICIAL = "official"
    """The national search engine's rules, without a waiting list."""


LIVE_POLICIES: Final = (Policy.FIRM, Policy.PROMISE, Policy.CRISIS, Policy.AUTO)
"""What a territory may choose; the others exist to be compared with, and no patient is matched by them."""

DEFAULT_HOLD_S: Final = 180

# Minutes that a médecin traitant has to answer before another place is taken: a try by phone takes three (facts of the
# field, a guess). A quarter of an hour is more than anybody stays on the line or by the phone (ours).
DEFAULT_MT_ASK_MIN: Final = 3
MOST_MT_ASK_MIN: Final = 15

# Tiers are worth twice the next lower one, and nobody waits longer than 48 h (T3): 2 % an hour are 96 % at the most, so
# that an aged request never outweighs a fresh one of a higher tier.
MOST_AGEING_PCT_PER_H: Final = 2.0

# Half an hour for each patient would send people across a département to spare a colleague one: our guess of enough.
MOST_FAIR_LOAD_MIN: Final = 30.0

# What a tension or a crisis may open (domain/crisis.py). Three times the national platform's circle, and never beyond
# the widest radius that a request may ask for; one place in five is left to those who can wait; a consultation by
# video instead of an hour's way. All ours: nobody has published what worked.
MOST_RADIUS_PCT: Final = 300
MOST_KM: Final = 150.0
MOST_RESERVE_PCT: Final = 80
MOST_TELE_BONUS_MIN: Final = 60.0

DEFAULT_SETTING: Final[Mapping[str, Any]] = {
    "hold_seconds": DEFAULT_HOLD_S,
    "mt_rule": "bonus",
    "mt_ask_min": DEFAULT_MT_ASK_MIN,
    "policy": {str(tier): str(Policy.FIRM) for tier in Tier},
    "crisis_allowed": False,
    "crisis": False,
    "ageing_pct_per_h": 0.0,
    "fair_load_min": 0.0,
    "radius_pct": 100,
    "urgent_reserve_pct": 0,
    "tele_bonus_min": 0.0,
    "borrow": {},
    "borrow_km": 0.0,
    "version": 0,
    "changed_at": None,
}
"""The setting of a territory that has changed nothing (table ``territory_setting``).

``hold_seconds``: how long a hold lasts. ``mt_rule``: the médecin traitant's place is worth a ``bonus``, or goes
``first``; ``mt_ask_min``: how long he is waited for then, where he may have a place. ``policy``: by tier.
``crisis_allowed``, ``crisis``: whether a crisis may be, and is, declared.
``ageing_pct_per_h``: by how much of its tier's value a request counts more for each hour that it waits.
``fair_load_min``: minutes that each patient whom a professional already has adds to the cost of his places.
``radius_pct``: percent of the radius asked for, ``MOST_KM`` at the most. ``urgent_reserve_pct``: share of the places
here that only T0 and T1 get until an hour before they begin. ``tele_bonus_min``: minutes that a consultation by video
is worth to those who accept one. ``borrow``: by neighbouring territory, the share of its places (percent) that
requests from here reach as far as ``borrow_km``, whatever their radius.
"""


WEIGHED: Final = (
    *("ageing_pct_per_h", "fair_load_min", "radius_pct", "urgent_reserve_pct", "tele_bonus_min", "borrow", "borrow_km"),
)
"""What a batch is decided on beside policy and médecin traitant: kept with recorded batches, to decide them again."""


def effective(policy: str, crisis_allowed: bool, crisis: bool) -> Policy:
    """Return the policy that decides: ``auto`` means ``crisis`` while one is allowed and declared.

    Without leave nothing is displaced: ``crisis``, which no setting has then, counts as ``promise``.

    Raises:
        ValueError: no policy has that name.
    """
    chosen = Policy(policy)
    if chosen is Policy.AUTO:
        return Policy.CRISIS if crisis_allowed and crisis else Policy.AUTO
    if chosen is Policy.CRISIS and not crisis_allowed:
        return Policy.PROMISE
    return chosen


def needs_leave(policies: Collection[str], *, crisis: bool) -> bool:
    """Tell whether a territory with these policies, or with a crisis declared, must be allowed to have one."""
    return crisis or Policy.CRISIS in policies
