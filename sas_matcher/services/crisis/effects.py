"""What a level would change in a territory, told before anybody confirms it: name, value now, value then. Pure."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sas_matcher.domain.crisis import RANK, flat, shift, wanted_at
from sas_matcher.domain.errors import CrisisNotAllowedError

NAMES: Final[dict[str, str]] = {
    "policy.T0": "Politique T0",
    "policy.T1": "Politique T1",
    "policy.T2": "Politique T2",
    "policy.T3": "Politique T3",
    "hold_seconds": "Durée d'une place gardée (s)",
    "ageing_pct_per_h": "Priorité gagnée par heure d'attente (%)",
    "radius_pct": "Rayon accordé (% du rayon demandé)",
    "urgent_reserve_pct": "Places gardées pour T0 et T1 (%)",
    "tele_bonus_min": "Préférence pour la téléconsultation (min)",
    "borrow": "Places empruntées aux voisins (% par département)",
    "borrow_km": "Portée des emprunts (km)",
    "crisis": "Crise déclarée (les promesses peuvent être déplacées)",
    "ladder": "Échelle en sus",
}


class Effect(NamedTuple):
    """One setting that moves."""

    name: str
    label: str
    now: str
    then: str


class Effects(NamedTuple):
    """What a level does.

    Attributes:
        changes: settings that move.
        kept: settings that somebody has changed meanwhile, and that stay.
        borrows: it takes what neighbours have agreed to lend at that moment.
        call: text of the call that practices get, and for how many hours; None: nobody is called.
        text: what the plan tells the teams.
        planned: the territory has a plan; without one nothing but the level changes.
        problem: why it cannot be declared so.
    """

    changes: tuple[Effect, ...]
    kept: tuple[str, ...]
    borrows: bool
    call: tuple[str, int | None] | None
    text: str
    planned: bool
    problem: str


def effects(
    setting: Mapping[str, Any], ladder: list[Any], standing: Mapping[str, Any], level: str, *, drill: bool = False
) -> Effects:
    """Return what a level would change now.

    Args:
        setting: of the territory as it stands.
        ladder: its steps.
        standing: level, plan, and what levels have set (``Crises.territory``).
        level: to be declared.
        drill: only as an exercise.
    """
    plan = (standing["plan"] or {}).get("plan")
    stage = (plan or {}).get(level) or {}
    rising = RANK[level] > RANK[standing["level"]]
    called = stage.get("call") if rising else None
    found = Effects(
        changes=(),
        kept=(),
        borrows=bool(stage.get("borrow")),
        call=(called["text"], called.get("hours")) if called else None,
        text=stage.get("text") or "",
        planned=plan is not None,
        problem="",
    )
    try:
        wanted = wanted_at(level, plan, {}, leave=setting["crisis_allowed"], drill=drill)
    except CrisisNotAllowedError as refused:
        return found._replace(problem=refused.detail)
    current = flat(setting, ladder)
    done = shift(current, standing["applied"], standing["before"], wanted, rising=rising)
    changes = [
        Effect(name, NAMES.get(name, name), said(current[name]), said(value)) for name, value in done.changes.items()
    ]
    return found._replace(changes=tuple(changes), kept=tuple(NAMES.get(name, name) for name in done.kept))


def said(value: Any) -> str:
    """Return a setting's value as people read it."""
    if isinstance(value, bool):
        return "oui" if value else "non"
    if isinstance(value, Mapping):
        return ", ".join(f"{code} : {share} %" for code, share in sorted(value.items())) or "aucune"
    if isinstance(value, list):
        names = [step.get("name", step.get("kind", "")) if isinstance(step, Mapping) else str(step) for step in value]
        return " → ".join(names) or "vide"
    if isinstance(value, float):
        return f"{value:g}".replace(".", ",")
    return str(value)
