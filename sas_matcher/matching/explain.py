"""Why this place, or why none: typed codes, plain numbers and one French sentence.

The codes for "none" are those of the day log, in its order: the first that is true of the places known for the request.
"""

import math
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

import numpy as np
import orjson

from sas_matcher.domain.vocabulary import Mode
from sas_matcher.matching.engine import UNITS_PER_MIN, Candidates, OpenRequest, Pick
from sas_matcher.matching.market import Market
from sas_matcher.matching.terms import Terms
from sas_matcher.travel import TRAVEL_SOURCE, haversine_km, travel_min, travel_range_min

REASON_TEXT: Final = {
    "MEDECIN_TRAITANT": "chez le médecin traitant",
    "ONLY_PLACE": "seule place possible",
    "NEAREST": "la plus proche",
    "EARLIEST": "la plus tôt",
    "LEAST_COST": "le meilleur compromis trajet-attente",
    "CHOSEN": "choisie par le régulateur",
    "BEST_FOR_ALL": "le meilleur choix pour l'ensemble des patients en attente",
}
NONE_TEXT: Final = {
    "NO_SLOT_FOR_PROFESSION": "aucun créneau de cette profession à moins de {reach:.0f} km",
    "MODE_NOT_OFFERED": "aucun créneau dans les modes demandés",
    "NEED_NOT_OFFERED": "aucun créneau ne propose tout ce qui est demandé",
    "NO_SLOT_IN_RADIUS": "aucun créneau dans le rayon ; le plus proche est à {nearest_km:.1f} km",
    "NO_SLOT_BEFORE_DEADLINE": "aucun créneau joignable avant l'échéance",
    "ALL_TAKEN": "tous les créneaux possibles ({count}) sont pris",
}
REACH_KM: Final = 150.0  # how far "exists at all" looks: beyond, nobody would be sent in cabinet


def wait_text(minutes: float) -> str:
    """Return a waiting time as people say it: « 35 min », « 2 h 05 »."""
    whole = max(0, round(minutes))
    return f"{whole} min" if whole < 60 else f"{whole // 60} h {whole % 60:02d}"


def hour_text(instant: datetime, now: datetime) -> str:
    """Return an hour in local time, with the day when it is not today."""
    clock = f"{instant.hour} h {instant.minute:02d}"
    days = (instant.date() - now.date()).days
    if days == 0:
        return clock
    return f"demain {clock}" if days == 1 else f"le {instant:%d/%m} à {clock}"


def _place(market: Market, pick: Pick, row: int, now: float, zone: tzinfo) -> dict[str, Any]:
    """One offered place in plain units, ready to show."""
    found = pick.candidates
    slot_id = int(found.slot_id[row])
    located = market.find(slot_id)
    if located is None:  # pragma: no cover - candidates come from this very market
        raise LookupError(slot_id)
    part, at = located
    bits = int(part.column("offers")[at])
    start = int(found.start[row])
    travel = float(found.travel_min[row])
    mode = market.mode_of(slot_id)
    tele = mode == Mode.TELE
    return {
        "slot_id": slot_id,
        "start": datetime.fromtimestamp(start, zone).isoformat(),
        "end": datetime.fromtimestamp(int(part.column("end")[at]), zone).isoformat(),
        "mode": mode,
        "booking_kind": "walkin" if part.column("walkin")[at] else "routine",
        "profession": market.profession_of(slot_id),
        "capacity": int(part.column("capacity")[at]),
        "left_before": int(found.left[row]),
        "offers": [name for number, name in enumerate(market.offers.names()) if bits >> number & 1],
        "distance_km": None if tele else round(float(found.km[row]), 2),
        "travel_min": round(travel, 1),
        "travel_range_min": [0.0, 0.0] if tele else _range(float(found.km[row])),
        "travel_source": TRAVEL_SOURCE,
        "wait_min": round((start - now) / 60, 1),
        "is_mt": bool(found.is_mt[row]),
        "site": orjson.Fragment(market.site(int(part.column("site")[at]))),
    }


def _range(km: float) -> list[float]:
    low, high = travel_range_min(km)
    return [round(float(low), 1), round(float(high), 1)]


def _cost(pick: Pick, row: int, terms: Terms) -> dict[str, Any]:
    """The parts of a cost in minutes: what travel, waiting and the médecin traitant weigh."""
    found = pick.candidates
    weight = terms.tiers[pick.request.tier].wait_weight
    waited = (float(found.start[row]) - pick.request.created_at) / 60
    return {
        "travel_min": round(float(found.travel_min[row]), 1),
        "wait_weighted_min": round(weight * waited, 1),
        "mt_bonus_min": terms.mt_bonus_min if found.is_mt[row] else 0.0,
        "total_min": round(int(found.cost[row]) / 10, 1),
    }


def explain(market: Market, pick: Pick, now: float, zone: tzinfo, terms: Terms) -> dict[str, Any]:
    """Return the decision document of a pick: place or typed reason, cost parts, alternatives, one French sentence."""
    decided = datetime.fromtimestamp(now, UTC).isoformat()
    base = {
        "decided_at": decided,
        "policy": "firm",
        "method": pick.method,
        "batch_size": pick.batch_size,
        # what this batch may miss of the optimum at the most, proven; none for the fallback
        "gap_min": None if pick.gap < 0 else pick.gap / UNITS_PER_MIN,
    }
    alternatives = [
        {**_place(market, pick, row, now, zone), "cost": _cost(pick, row, terms)} for row in pick.alternatives
    ]
    if pick.row < 0:
        reason = why_none(market, pick.request, pick.candidates, now, terms)
        return {
            **base,
            "place": None,
            "reasons": [],
            "none": reason,
            "sentence": reason["sentence"],
            "alternatives": [],
        }
    place = _place(market, pick, pick.row, now, zone)
    return {
        **base,
        "place": place,
        "reasons": pick.reasons,
        "cost": _cost(pick, pick.row, terms),
        "none": None,
        "sentence": _sentence(place, pick, now, zone),
        "alternatives": alternatives,
    }


def _sentence(place: dict[str, Any], pick: Pick, now: float, zone: tzinfo) -> str:
    when = hour_text(datetime.fromisoformat(place["start"]), datetime.fromtimestamp(now, zone))
    where = (
        "en téléconsultation"
        if place["mode"] == Mode.TELE
        else f"à {place['distance_km']:.1f} km (environ {place['travel_min']:.0f} min, estimation)".replace(".", ",", 1)
    )
    why = ", ".join(REASON_TEXT[code] for code in pick.reasons[:2])
    return f"{when}, dans {wait_text(place['wait_min'])}, {where} : {why}."


def why_none(market: Market, request: OpenRequest, found: Candidates, now: float, terms: Terms) -> dict[str, Any]:
    """Return the first true reason code of the day log, what was counted on the way, and a sentence."""
    counts = {"profession": 0, "mode": 0, "needs": 0, "radius": 0, "in_time": 0}
    nearest = math.inf
    need = market.need_mask(request.needs)
    wanted = -2 if request.specialty is None else market.specialties.known(request.specialty)
    for mode in sorted(market.modes_of(request.profession)):
        reach = max(REACH_KM, request.radius_km)
        for part in market.near(request.profession, mode, request.lat, request.lon, reach):
            future = part.window(int(now), 2**62)
            lat, lon = part.column("lat")[future], part.column("lon")[future]
            tele = mode == Mode.TELE
            km = np.zeros(lat.size) if tele else haversine_km(request.lat, request.lon, lat, lon)
            here = km <= reach
            if not tele:
                here &= part.column("landmass")[future] == request.landmass
            if wanted != -2:
                here &= part.column("specialty")[future] == wanted
            counts["profession"] += int(here.sum())
            if mode not in request.modes:
                continue
            counts["mode"] += int(here.sum())
            if need is None:
                continue
            here &= (part.column("offers")[future] & need) == need
            counts["needs"] += int(here.sum())
            if here.any() and not tele:
                nearest = min(nearest, float(km[here].min()))
            if not tele:
                here &= km <= request.radius_km
            counts["radius"] += int(here.sum())
            start = part.column("start")[future]
            travel = np.zeros(lat.size) if tele else travel_min(km, terms.base_min, terms.min_per_km)
            here &= (start <= request.deadline) & (start - now >= 60 * travel)
            counts["in_time"] += int(here.sum())
    steps = (
        ("profession", "NO_SLOT_FOR_PROFESSION"),
        ("mode", "MODE_NOT_OFFERED"),
        ("needs", "NEED_NOT_OFFERED"),
        ("radius", "NO_SLOT_IN_RADIUS"),
        ("in_time", "NO_SLOT_BEFORE_DEADLINE"),
    )
    code = next((code for name, code in steps if counts[name] == 0), "ALL_TAKEN")
    text = NONE_TEXT[code].format(
        reach=REACH_KM, nearest_km=0.0 if math.isinf(nearest) else nearest, count=counts["in_time"]
    )
    if len(found):
        text = "les places restantes vont à des patients plus urgents"
    return {
        "reason": code,
        "counts": counts,
        "nearest_km": None if math.isinf(nearest) else round(nearest, 1),
        "sentence": f"Pas de place pour l'instant : {text}.",
    }
