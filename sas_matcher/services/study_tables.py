"""A study as tables: each way to decide, its mean over the days with the lowest and the highest. Pure."""

from collections.abc import Sequence
from typing import Any

from sas_matcher.services.figures.tables import Column, Table, percent
from sas_matcher.services.studies import WAYS, Cell, Study


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 1) if values else None


def _spread(cells: Sequence[Cell], name: str) -> tuple[float | None, str]:
    """Return the mean of a figure, and how far the days lie apart."""
    values = [value for cell in cells if (value := cell.figures[name]) is not None]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    apart = f"{low:g} à {high:g}".replace(".", ",") if len(values) > 1 and low != high else ""
    return _mean(values), apart


def _by_way(study: Study, cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    return {way: [cell for cell in cells if cell.way == way] for way in study.ways}


def ways_table(study: Study, cells: Sequence[Cell]) -> Table:
    """Return what each way to decide was worth."""
    rows = []
    for way, mine in _by_way(study, cells).items():
        row: dict[str, Any] = {"way": way, "label": WAYS[way], "days": len(mine)}
        row["welfare_pct"], row["apart"] = _spread(mine, "welfare_pct")
        for name in ("told_pct", "urgent_pct", "broken", "travel_min"):
            row[name], _ = _spread(mine, name)
        rows.append(row)
    columns = (
        Column("label", "Façon de décider", "text"),
        Column("days", "Journées"),
        Column("welfare_pct", "Bien-être, % de l'optimum", "percent"),
        Column("apart", "du moins bon au meilleur jour", "text"),
        Column("told_pct", "Prévenus en 2 min, %", "percent"),
        Column("urgent_pct", "T0 + T1 servis, % de l'optimum", "percent"),
        Column("broken", "Promesses rompues par jour", "decimal"),
        Column("travel_min", "Trajet moyen (min)", "minutes"),
    )
    note = (
        "Optimum : ce qu'aurait fait quelqu'un qui connaissait toute la journée d'avance ; personne ne l'atteint. "
        "Bien-être et prévenus vont ensemble : prévenir tard aide à bien placer et sert mal l'appelant."
    )
    return Table("ways", "Ce que vaut chaque façon de décider", columns, rows, note)


def tiers_table(study: Study, cells: Sequence[Cell]) -> Table:
    """Return who was served, tier by tier, beside what hindsight could have served; sums of the days."""
    rows = []
    for way, mine in _by_way(study, cells).items():
        for tier in mine[0].figures["requests"] if mine else ():
            asked, best, served = (
                sum(cell.figures[name].get(tier, 0) for cell in mine) for name in ("requests", "best", "served")
            )
            waits = [wait for cell in mine if (wait := cell.figures["wait_min"].get(tier)) is not None]
            rows.append(
                {
                    "label": WAYS[way],
                    "tier": tier,
                    "asked": asked,
                    "best": best,
                    "served": served,
                    "served_pct": percent(served, best),
                    "wait_min": _mean(waits),
                }
            )
    columns = (
        Column("label", "Façon de décider", "text"),
        Column("tier", "Niveau", "text"),
        Column("asked", "Demandes"),
        Column("best", "Servies, avec le recul"),
        Column("served", "Servies"),
        Column("served_pct", "% de ce qui se pouvait", "percent"),
        Column("wait_min", "Attente moyenne (min)", "minutes"),
    )
    return Table("study-tiers", "Par niveau d'urgence", columns, rows, "Sommes des journées.")
