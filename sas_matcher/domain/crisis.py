"""Crisis: levels, what a prepared plan changes at each, and how what was changed comes back.

A level is declared by a person for a scope (a territory, a région, the nation), who says why; a territory is at the
highest level of the scopes that it lies in. Going up may skip a step, coming down may not. What a level changes are
settings like any other, and the ladder: coming down restores each exactly, but for those that somebody has changed
meanwhile, which are left as they are. A drill runs beside the real level and changes nothing for anybody.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from sas_matcher.domain.errors import CrisisNotAllowedError, OneStepError
from sas_matcher.domain.policy import Policy
from sas_matcher.domain.vocabulary import Role


class Level(StrEnum):
    """How a scope stands."""

    NORMAL = "normal"
    TENSION = "tension"
    CRISE = "crise"


RANK: Final[Mapping[str, int]] = {level: rank for rank, level in enumerate(Level)}
NATION: Final = "nation"
REGION: Final = "region:"

DECLARES: Final[Mapping[str, frozenset[Role]]] = {
    "territory": frozenset({Role.CPTS, Role.ARS, Role.PREFECTURE, Role.ADMIN}),
    "region": frozenset({Role.ARS, Role.PREFECTURE, Role.ADMIN}),
    NATION: frozenset({Role.ARS, Role.PREFECTURE, Role.ADMIN}),
}
"""Who declares a level, by kind of scope.

The crisis mission of a CPTS is activated by ARS or prefect, at local, regional or national scale (domain of the field,
§7); a gestionnaire runs centres, not territories.
"""

PLANNED: Final = (
    *("policy", "hold_seconds", "ageing_pct_per_h", "radius_pct", "urgent_reserve_pct", "tele_bonus_min", "borrow_km"),
)
"""Settings that a plan may change."""

_LADDER: Final = "ladder"


def kind_of(scope: str) -> str:
    """Return the kind of a scope: territory, region or nation."""
    return NATION if scope == NATION else "region" if scope.startswith(REGION) else "territory"


def check_step(was: str, wanted: str) -> None:
    """Refuse to come down more than one step at once.

    Raises:
        OneStepError: from crise straight to normal.
    """
    if RANK[wanted] < RANK[was] - 1:
        raise OneStepError("De crise, on revient d'abord à tension : déclarez tension, puis normal quand elle tient.")


def highest(levels: Iterable[str]) -> Level:
    """Return the highest of some levels, normal for none."""
    return Level(max(levels, key=RANK.__getitem__, default=Level.NORMAL))


def flat(setting: Mapping[str, Any], ladder: list[Any]) -> dict[str, Any]:
    """Return what a level may change as one mapping, the policy tier by tier."""
    named = {name: setting[name] for name in (*PLANNED, "borrow", "crisis") if name != "policy"}
    return named | {f"policy.{tier}": policy for tier, policy in setting["policy"].items()} | {_LADDER: ladder}


def nested(changes: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any] | None]:
    """Return changes as the ledger takes them: those of the setting, and the ladder (None: unchanged)."""
    setting: dict[str, Any] = {}
    for name, value in changes.items():
        if name.startswith("policy."):
            setting.setdefault("policy", {})[name.removeprefix("policy.")] = value
        elif name != _LADDER:
            setting[name] = value
    return setting, changes.get(_LADDER)


def wanted_at(
    level: str, plan: Mapping[str, Any] | None, lends: Mapping[str, int], *, leave: bool, drill: bool = False
) -> dict[str, Any]:
    """Return what a territory's settings shall be at a level, as ``flat`` says it; what is not named stays.

    Args:
        level: where it goes.
        plan: of the territory; without one a level is told and written down, and changes nothing.
        lends: by neighbour, the percent of its places that it has agreed to lend to this territory.
        leave: promises may be broken here in a crisis (``crisis_allowed``).
        drill: nobody's promise is at stake.

    Raises:
        CrisisNotAllowedError: the plan breaks promises, and the territory has no leave for that.
    """
    if level == Level.NORMAL:
        return {}
    measures = (plan or {}).get(level) or {}
    wanted: dict[str, Any] = {name: value for name, value in measures.get("settings", {}).items() if name != "policy"}
    wanted |= {f"policy.{tier}": policy for tier, policy in (measures.get("settings", {}).get("policy") or {}).items()}
    if measures.get("borrow") and lends:
        wanted["borrow"] = dict(lends)
    if measures.get(_LADDER):
        wanted[_LADDER] = measures[_LADDER]
    if level == Level.CRISE and leave:
        wanted["crisis"] = True
    breaking = any(value == Policy.CRISIS for name, value in wanted.items() if name.startswith("policy."))
    if breaking and not drill and not (leave and level == Level.CRISE):
        raise CrisisNotAllowedError(
            "Le plan de ce territoire prévoit la politique « crisis » (promesses déplacées) : il y faut l'autorisation "
            "de l'ARS (crisis_allowed) et le niveau crise. Demandez-la, ou remplacez « crisis » par « auto »."
        )
    return wanted


class Shift(NamedTuple):
    """What changes with a level.

    Attributes:
        changes: by name as in ``flat``, the new values.
        applied: what levels have set up to now; ``before``: what each of these was without them.
        kept: what somebody changed meanwhile, and is left as it is.
    """

    changes: dict[str, Any]
    applied: dict[str, Any]
    before: dict[str, Any]
    kept: tuple[str, ...]


def shift(
    current: Mapping[str, Any],
    applied: Mapping[str, Any],
    before: Mapping[str, Any],
    wanted: Mapping[str, Any],
    *,
    rising: bool,
) -> Shift:
    """Return how settings go from what levels have made of them to what the new level wants.

    What was changed by a person since a level set it is theirs: going up the plan sets it again and that is what comes
    back later; coming down it stays.

    Args:
        current: as they are now (``flat``).
        applied: what the last shift has set, empty at normal.
        before: what these were before.
        wanted: of the new level (``wanted_at``).
        rising: the level goes up.
    """
    changes: dict[str, Any] = {}
    now_applied: dict[str, Any] = {}
    now_before: dict[str, Any] = {}
    kept: list[str] = []
    for name in sorted({*applied, *wanted}):
        value = current[name]
        theirs = name in applied and value != applied[name]
        if theirs and not rising:
            kept.append(name)
            continue
        was = value if theirs or name not in before else before[name]
        target = wanted.get(name, was)
        if target != value:
            changes[name] = target
        if name in wanted:
            now_applied[name], now_before[name] = target, was
    return Shift(changes, now_applied, now_before, tuple(kept))
