"""The score of a replay: what its result is worth, if it is lawful (``lawful``).

Figures agree with the scores of the format's own sample to all digits given there.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sas_matcher.replay.daylog import DayLog
from sas_matcher.replay.facts import Facts
from sas_matcher.replay.lawful import POLICIES, Violation, judge

Json = dict[str, Any]

TOLD_S: Final = 120.0
"""*Told*: firm or promised within 2 minutes of the call."""


class ScoreError(ValueError):
    """A result breaks rules of its day log; ``violations`` lists them all."""

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        first = violations[0]
        super().__init__(f"{len(violations)} infraction(s) ; ligne {first.line}, {first.request_id} : {first.text}")
        self.violations = violations


@dataclass(frozen=True, slots=True)
class Score:
    """What a result is worth; the figures mean something only when ``violations`` is empty.

    Welfare in tenths of a minute, travel (without téléconsultation) and wait in minutes; cancelled requests count
    nowhere. A mean over nobody is None. ``lost_to_practices`` counts the promised requests left unserved, as the
    scores of the format's sample do (under ``crisis`` one of them may be the engine's own broken promise).
    """

    policy: str
    violations: tuple[Violation, ...]
    requests: dict[str, int]
    served: dict[str, int]
    welfare: float
    mean_travel_min: float | None
    mean_wait_min: dict[str, float | None]
    told_within_2_min: float | None
    moves: int
    broken_promises: int
    lost_to_practices: int
    refusals: int

    def require_legal(self) -> None:
        """Raise where a rule is broken.

        Raises:
            ScoreError: With every violation.
        """
        if self.violations:
            raise ScoreError(self.violations)

    def figures(self) -> Json:
        """The figures under the names and with the digits of the sample's ``scores.json``."""

        def rounded(value: float | None, digits: int) -> float | None:
            return None if value is None else round(value, digits)

        return {
            "welfare": round(self.welfare, 2),
            "served": self.served,
            "mean_travel_min": rounded(self.mean_travel_min, 4),
            "mean_wait_min": {tier: rounded(wait, 3) for tier, wait in self.mean_wait_min.items()},
            "told_within_2_min": rounded(self.told_within_2_min, 4),
            "moves": self.moves,
            "broken_promises": self.broken_promises,
            "lost_to_practices": self.lost_to_practices,
            "refusals": self.refusals,
        }


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def score(day: DayLog, result: Iterable[bytes], policy: str, *, strict_reasons: bool = False) -> Score:
    """Check a result against its day log and the rules of its policy, and compute its figures.

    Args:
        day: The day log that was replayed.
        result: Lines of the result, one JSON object each.
        policy: One of ``POLICIES``.
        strict_reasons: See ``lawful.judge``.

    Returns:
        Figures and violations, the latter by line.

    Raises:
        ValueError: The policy is unknown.
    """
    if policy not in POLICIES:
        raise ValueError(f"Expected one of {', '.join(sorted(POLICIES))}, got {policy!r}.")
    known = Facts(day)
    judged, violations = judge(known, result, policy, strict_reasons=strict_reasons)
    tiers = list(known.terms)
    requests = Counter(made.request.tier for name, made in known.requests.items() if name not in known.cancelled_at)
    served: Counter[str] = Counter()
    welfare = 0.0
    told = 0
    travels: list[float] = []
    waits: dict[str, list[float]] = {tier: [] for tier in tiers}
    for row in judged:
        if row.status != "served" or row.firm_at is None or row.slot_id not in known.slots:
            continue
        made, slot = known.requests[row.request_id], known.slots[row.slot_id].slot
        terms = known.terms[made.request.tier]
        travel, wait = known.travel_min(made.request, slot), (slot.start - made.t) / 60
        bonus = day.meta.mt_bonus_min if slot.professional == made.request.mt else 0.0
        welfare += terms.value - 10 * (travel + terms.wait_weight * wait - bonus)
        served[made.request.tier] += 1
        waits[made.request.tier].append(wait)
        if slot.mode != "tele":
            travels.append(travel)
        told_at = row.firm_at if row.first_promised_at is None else min(row.firm_at, row.first_promised_at)
        told += told_at - made.t <= TOLD_S
    return Score(
        policy=policy,
        violations=violations,
        requests={tier: requests[tier] for tier in tiers},
        served={tier: served[tier] for tier in tiers},
        welfare=welfare,
        mean_travel_min=_mean(travels),
        mean_wait_min={tier: _mean(waits[tier]) for tier in tiers},
        told_within_2_min=told / served.total() if served else None,
        moves=sum(row.moves for row in judged),
        broken_promises=sum(row.broken_promises for row in judged),
        lost_to_practices=sum(row.status == "unserved" and row.first_promised_at is not None for row in judged),
        refusals=sum(row.refusals for row in judged),
    )
