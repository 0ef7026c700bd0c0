"""What each table of figures says: rows as the ledger counts them in, rows as people read them out. Pure."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sas_matcher.domain.disclosure import LEAST, tell
from sas_matcher.domain.vocabulary import PROFESSION_LABELS, SOURCE_LABELS, Profession, Tier
from sas_matcher.services.figures.tables import Column, Table, percent, total

Rows = Sequence[Mapping[str, Any]]
NameOf = Callable[[str], str]
"""Name of a commune by its INSEE code."""

TIER_LABELS: Final[dict[str, str]] = {
    Tier.T0: "T0 (1 h au plus)",
    Tier.T1: "T1 (4 h au plus)",
    Tier.T2: "T2 (24 h au plus)",
    Tier.T3: "T3 (48 h au plus)",
}
UNMET_LABELS: Final[dict[str, str]] = {
    "NO_SLOT_FOR_PROFESSION": "aucune place de cette profession",
    "MODE_NOT_OFFERED": "aucune place dans les modes demandés",
    "NEED_NOT_OFFERED": "aucune place avec tout ce qui est demandé",
    "NO_SLOT_IN_RADIUS": "aucune place dans le rayon",
    "NO_SLOT_BEFORE_DEADLINE": "aucune place joignable avant l'échéance",
    "ALL_TAKEN": "toutes les places possibles étaient prises",
    "LIMIT_REACHED": "limite d'un cabinet atteinte",
    "KEPT_FOR_URGENT": "places gardées pour plus urgent",
    "UNKNOWN": "non décidée avant l'échéance",
}


def tiers_table(found: Rows) -> Table:
    """Return requests and delays by tier; every tier has its row."""
    by_tier = {row["tier"]: row for row in found}
    rows = []
    for tier in Tier:
        row = by_tier.get(tier)
        told, seen = (row and row["told"]) or [None, None], (row and row["seen"]) or [None, None]
        rows.append(
            {
                "tier": str(tier),
                "label": TIER_LABELS[tier],
                **{name: row[name] if row else 0 for name in ("asked", "met", "open", "unmet", "dropped", "cancelled")},
                "met_pct": percent(row["met"], row["met"] + row["unmet"]) if row else None,
                **dict(zip(("told_p50", "told_p90"), map(_tenth, told), strict=True)),
                **dict(zip(("seen_p50", "seen_p90"), map(_tenth, seen), strict=True)),
            }
        )
    columns = (
        Column("label", "Niveau", "text"),
        Column("asked", "Demandes"),
        Column("met", "Servies"),
        Column("open", "En cours"),
        Column("unmet", "Sans place"),
        Column("dropped", "Sans suite"),
        Column("cancelled", "Annulées"),
        Column("met_pct", "Servies, % des closes", "percent"),
        Column("told_p50", "Réponse, médiane (min)", "minutes"),
        Column("told_p90", "Réponse, 9 sur 10 (min)", "minutes"),
        Column("seen_p50", "Consultation, médiane (min)", "minutes"),
        Column("seen_p90", "Consultation, 9 sur 10 (min)", "minutes"),
    )
    note = (
        "Réponse : de la demande à la place ferme ou promise. Consultation : de la demande au début de la place. "
        "Sans suite : garde échue que personne n'a reprise. Closes : servies ou sans place."
    )
    return Table("tiers", "Demandes et délais par niveau d'urgence", columns, rows, note)


def unmet_table(counted: Rows) -> Table:
    """Return unmet requests by reason."""
    found = [row for row in counted if row["what"] == "reason"]
    every = total(found, "number")
    rows = [
        {
            "reason": row["name"],
            "label": UNMET_LABELS.get(row["name"], row["name"]),
            "number": row["number"],
            "pct": percent(row["number"], every),
        }
        for row in found
    ]
    columns = (Column("label", "Raison", "text"), Column("number", "Demandes"), Column("pct", "Part, %", "percent"))
    note = "La raison est la première vraie au dernier calcul avant l'échéance."
    return Table("unmet", "Demandes sans place, par raison", columns, rows, note)


def unmet_professions_table(counted: Rows) -> Table:
    """Return unmet requests by profession."""
    rows = [
        {"profession": row["name"], "label": profession_label(row["name"]), "number": row["number"]}
        for row in counted
        if row["what"] == "profession"
    ]
    columns = (Column("label", "Profession", "text"), Column("number", "Demandes"))
    return Table("unmet-professions", "Demandes sans place, par profession", columns, rows)


def unmet_hours_table(counted: Rows) -> Table:
    """Return unmet requests by hour of the day; every hour has its row."""
    found = {int(row["name"]): row["number"] for row in counted if row["what"] == "hour"}
    rows = [{"hour": hour, "label": f"{hour} h", "number": found.get(hour, 0)} for hour in range(24)]
    columns = (Column("label", "Heure de l'appel", "text"), Column("number", "Demandes"))
    return Table("unmet-hours", "Demandes sans place, par heure", columns, rows)


def communes_table(needed: Rows, offered: Rows, name_of: NameOf) -> Table:
    """Return need and supply by commune; small counts of patients are hidden."""
    need = {row["insee"]: (row["met"], row["unmet"]) for row in needed}
    supply = {row["insee"]: row for row in offered}
    told = tell(need)
    rows = []
    for insee in sorted({*need, *supply}):
        row, place = told.get(insee), supply.get(insee)
        closed = row.asked if row else 0
        hidden = [k for k in ("asked", "met", "unmet") if row is not None and getattr(row, k) is None]
        rows.append(
            {
                "insee": insee,
                "label": name_of(insee),
                "asked": closed,
                "met": row.met if row else 0,
                "unmet": row.unmet if row else 0,
                "met_pct": percent(row.met, row.asked) if row and row.asked and row.met is not None else None,
                "offered": place["offered"] if place else 0,
                "filled": place["filled"] if place else 0,
                "practices": place["practices"] if place else 0,
                "hidden": hidden,
            }
        )
    # where most is missing first
    rows.sort(key=lambda row: (-(row["unmet"] or 0), -(row["asked"] or 0), row["label"]))
    columns = (
        Column("label", "Commune", "text"),
        Column("insee", "Code INSEE", "text"),
        Column("asked", "Demandes closes"),
        Column("met", "Servies"),
        Column("unmet", "Sans place"),
        Column("met_pct", "Servies, %", "percent"),
        Column("offered", "Places offertes"),
        Column("filled", "Places remplies"),
        Column("practices", "Cabinets et centres"),
    )
    note = (
        f"Moins de {LEAST} demandes ne sont pas dites, ni ce qui permettrait de les déduire. "
        "Une demande est comptée dans la commune du patient, une place dans celle du cabinet."
    )
    return Table("communes", "Besoin et offre par commune", columns, rows, note)


def supply_table(found: Rows) -> Table:
    """Return places offered and filled by profession and kind of practice."""
    rows = [
        {
            "profession": row["profession"],
            "label": profession_label(row["profession"]),
            "kind": SOURCE_LABELS.get(row["source_kind"], row["source_kind"]),
            "offered": row["offered"] or 0,
            "filled": row["filled"] or 0,
            "fill_pct": percent(row["filled"] or 0, row["offered"] or 0),
            "en_sus": row["en_sus"] or 0,
            "noshow": row["noshow"] or 0,
            "hours": _tenth(row["hours"] or 0.0),
            "hours_filled": _tenth(row["hours_filled"] or 0.0),
        }
        for row in found
    ]
    columns = (
        Column("label", "Profession", "text"),
        Column("kind", "Cadre", "text"),
        Column("offered", "Places offertes"),
        Column("filled", "Remplies"),
        Column("fill_pct", "Taux, %", "percent"),
        Column("hours", "Heures offertes", "hours"),
        Column("hours_filled", "Heures remplies", "hours"),
        Column("en_sus", "En sus"),
        Column("noshow", "Non venus"),
    )
    return Table("supply", "Places offertes et remplies", columns, rows, "Places qui commencent dans la période.")


def practices_table(found: Rows, name_of: NameOf) -> Table:
    """Return what each practice offered and had."""
    rows = [
        {
            "practice": row["practice"],
            "label": row["name"] or row["practice"],
            "kind": SOURCE_LABELS.get(row["source_kind"], row["source_kind"]),
            "commune": name_of(row["insee"]),
            "professionals": row["professionals"],
            "offered": row["offered"],
            "filled": row["filled"],
            "fill_pct": percent(row["filled"], row["offered"]),
            "hours": _tenth(row["hours"]),
            "per_hour": round(row["filled"] / row["hours"], 2) if row["hours"] else None,
        }
        for row in found
    ]
    columns = (
        Column("label", "Cabinet ou centre", "text"),
        Column("practice", "Identifiant", "text"),
        Column("kind", "Cadre", "text"),
        Column("commune", "Commune", "text"),
        Column("professionals", "Professionnels"),
        Column("offered", "Places offertes"),
        Column("filled", "Remplies"),
        Column("fill_pct", "Taux, %", "percent"),
        Column("hours", "Heures offertes", "hours"),
        Column("per_hour", "Patients par heure", "decimal"),
    )
    note = "Sous « Places offertes et remplies », tout est compté ; ici, les 1 000 cabinets les plus remplis."
    return Table("practices", "Charge par cabinet", columns, rows, note)


def course_table(found: Rows, step: str) -> Table:
    """Return requests over time, by ``hour`` or ``day``."""
    rows = [
        {
            "at": row["at"].isoformat(timespec="minutes"),
            "label": f"{row['at']:%d/%m %-H h}" if step == "hour" else f"{row['at']:%d/%m}",
            **{name: row[name] for name in ("asked", "met", "unmet")},
        }
        for row in found
    ]
    columns = (
        Column("label", "Heure" if step == "hour" else "Jour", "text"),
        Column("asked", "Demandes"),
        Column("met", "Servies"),
        Column("unmet", "Sans place"),
    )
    return Table("course", "Demandes au fil du temps", columns, rows, "À l'heure du territoire.")


def profession_label(code: str) -> str:
    """Return the name of a profession."""
    return PROFESSION_LABELS[Profession(code)] if code in Profession.__members__ else code


def _tenth(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def open_by_tier(rows: Rows, now: datetime) -> list[dict[str, Any]]:
    """Return what is open now by tier; of what waits, how old it is."""
    found = []
    for tier in Tier:
        mine = [row for row in rows if row["tier"] == tier]
        waiting = [row for row in mine if row["status"] == "waiting"]
        oldest = min((row["oldest"] for row in waiting), default=None)
        found.append(
            {
                "tier": str(tier),
                "label": TIER_LABELS[tier],
                **{
                    s: sum(row["number"] for row in mine if row["status"] == s) for s in ("waiting", "promised", "held")
                },
                "fresh": total(waiting, "fresh"),
                "old": total(waiting, "old"),
                "oldest_min": None if oldest is None else round((now - oldest).total_seconds() / 60, 1),
            }
        )
    return found


def free_by_profession(rows: Rows) -> list[dict[str, Any]]:
    """Return seats that are free by profession."""
    found = []
    for profession in Profession:
        mine = [row for row in rows if row["profession"] == profession]
        if mine:
            sums = {name: total(mine, name) for name in ("hours_4", "hours_24", "hours_72")}
            tele = total([row for row in mine if row["mode"] == "tele"], "hours_24")
            found.append(
                {"profession": str(profession), "label": PROFESSION_LABELS[profession], **sums, "tele_24": tele}
            )
    return found
