"""Why this place, or why none: typed codes, plain numbers and one French sentence.

The codes for "none" are those of the day log, in its order: the first that is true of the places known for the request.
"""

import math
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any, Final

import numpy as np
import orjson

from sas_matcher.domain.vocabulary import DELAY_SPAN, PROFESSION_LABELS, Mode, Profession
from sas_matcher.matching.candidates import Candidates, OpenRequest
from sas_matcher.matching.engine import ALTERNATIVES, Pick
from sas_matcher.matching.limits import Under
from sas_matcher.matching.market import Market
from sas_matcher.matching.partitions import Rows
from sas_matcher.matching.relax import Concession, Relaxation, relaxations
from sas_matcher.matching.sharing import URGENT, kept
from sas_matcher.matching.terms import TIER_RANK, UNITS_PER_MIN, Terms
from sas_matcher.travel import TRAVEL_SOURCE, haversine_km, travel_min, travel_range_min

REASON_TEXT: Final = {
    "MEDECIN_TRAITANT": "chez le médecin traitant",
    "ONLY_PLACE": "seule place possible",
    "NEAREST": "la plus proche",
    "EARLIEST": "la plus tôt",
    "LEAST_COST": "le meilleur compromis trajet-attente",
    "CHOSEN": "choisie par le régulateur",
    "EN_SUS": "donnée en sus par le professionnel",
    "BEST_FOR_ALL": "le meilleur choix pour l'ensemble des patients en attente",
    # the peers, for comparison (``peers``)
    "NEAREST_FREE": "la plus proche qui reste à qui a appelé avant les autres",
    "NO_TRAVEL": "sans trajet",
    "FIRST_CARD": "première carte qui convient, dans l'ordre du moteur national",
    "WIDER_CIRCLE": "première carte qui convient du cercle élargi, que le moteur national tire au sort",
}
NONE_TEXT: Final = {
    "NO_SLOT_FOR_PROFESSION": "aucun créneau de cette profession à moins de {reach:.0f} km",
    "MODE_NOT_OFFERED": "aucun créneau dans les modes demandés",
    "NEED_NOT_OFFERED": "aucun créneau ne propose tout ce qui est demandé",
    "NO_SLOT_IN_RADIUS": "aucun créneau dans le rayon ; le plus proche est à {nearest_km:.1f} km",
    "NO_SLOT_BEFORE_DEADLINE": "aucun créneau joignable avant l'échéance",
    "ALL_TAKEN": "tous les créneaux possibles ({count}) sont pris",
    # live only: a day log knows no limits
    "LIMIT_REACHED": "tous les créneaux possibles ({count}) sont pris ou fermés par une limite du cabinet ({limited})",
    # live only: what a tension or a crisis keeps (``sharing``)
    "KEPT_FOR_URGENT": "les places qui restent ({kept}) sont gardées pour plus urgent jusqu'à une heure avant",
}
MT_TEXT: Final = {
    "place": "le médecin traitant avait une place libre à l'appel : elle passe d'abord",
    "refused": "le médecin traitant, sollicité d'abord, a répondu non",
    "accepted": "le médecin traitant, sollicité d'abord, a répondu oui",
    "silent": "le médecin traitant, sollicité d'abord, n'a pas répondu dans son délai",
    "too_short": "le délai est trop court pour solliciter d'abord le médecin traitant",
    "not_askable": "le médecin traitant n'a ni place libre, ni accord pour être sollicité maintenant",
    "not_waited": "le médecin traitant est sollicité, mais aucune autre place n'aurait attendu sa réponse",
}
"""What came of the médecin traitant, where he goes first, by ``OpenRequest.mt_said``."""
OTHERS_TEXT: Final = "les places possibles vont à d'autres patients, plus urgents ou sans autre choix"
PEERS_TEXT: Final = {
    "fcfs-nearest": "les places possibles sont allées à qui a appelé avant",
    "official": "les places possibles sont prises, ou n'ont pas été montrées par les règles du moteur national",
}
DECLINED_TEXT: Final = "les places encore libres ont déjà été déclinées"
MODE_TEXT: Final = {Mode.TELE: "en téléconsultation", Mode.CABINET: "au cabinet", Mode.VISITE: "en visite à domicile"}
REACH_KM: Final = 50.0  # how far "exists at all" looks: the widest default radius of the national platform
INSTANTS_KEPT: Final = 4_096  # written in local time: two days of places that begin and end on the minute have 2 880


class PlaceGoneError(LookupError):
    """The picked place was withdrawn or moved while the batch was being decided; the request goes round again."""


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


def at_text(instant: datetime, now: datetime) -> str:
    """Return when something happens, in a sentence: « à 8 h 49 », « demain à 4 h 49 », « le 28/11 à 4 h 49 »."""
    text = hour_text(instant, now)
    return text.replace("demain ", "demain à ") if not text[0].isdigit() else f"à {text}"


def _place(market: Market, found: Candidates, row: int, now: float, zone: tzinfo) -> dict[str, Any] | None:
    """One offered place in plain units, ready to show; None when it is no longer what the batch saw."""
    slot_id, start = int(found.slot_id[row]), int(found.start[row])
    located = market.find_at(slot_id, start)
    if located is None:
        return None
    part, at = located
    travel, km = float(found.travel_min[row]), float(found.km[row])
    mode = market.mode_of(slot_id)
    tele = mode == Mode.TELE
    low, high = travel_range_min(km)
    return {
        "slot_id": slot_id,
        "start": _local(start, zone),
        "end": _local(part.value("end", at), zone),
        "mode": mode,
        "booking_kind": "walkin" if part.value("walkin", at) else "routine",
        "profession": market.profession_of(slot_id),
        "capacity": part.value("capacity", at),
        "left_before": int(found.left[row]),
        "offers": market.offers.names(part.value("offers", at)),
        "distance_km": None if tele else round(km, 2),
        "travel_min": round(travel, 1),
        "travel_range_min": [0.0, 0.0] if tele else [round(low, 1), round(high, 1)],
        "travel_source": TRAVEL_SOURCE,
        "wait_min": round((start - now) / 60, 1),
        "is_mt": bool(found.is_mt[row]),
        "site": orjson.Fragment(market.site(part.value("site", at))),
    }


@lru_cache(INSTANTS_KEPT)
def _local(instant: int, zone: tzinfo) -> str:
    """An instant in local time, ISO 8601; the places of a decision begin and end at a few of them."""
    return datetime.fromtimestamp(instant, zone).isoformat()


def _cost(found: Candidates, row: int, terms: Terms) -> dict[str, Any]:
    """The parts of a cost in minutes: what travel, waiting and the médecin traitant weigh; they add up to the total.

    Where the territory spreads loads, what the professional has already is a part as well; so is ``doubt_min`` of a
    place whose source shows some that it has not, and ``tele_bonus_min`` of a consultation by video where the territory
    prefers these.
    """
    own = UNITS_PER_MIN * terms.mt_bonus_min if found.is_mt[row] else 0.0
    tele = UNITS_PER_MIN * terms.tele_bonus_min if found.tele[row] else 0.0
    bonus = own + tele
    total = int(found.cost[row])
    load = UNITS_PER_MIN * terms.fair_load_min * int(found.load[row]) if found.load is not None else 0.0
    doubt = UNITS_PER_MIN * round(float(found.doubt_min[row]), 2) if found.doubt_min is not None else 0.0
    travel = min(round(UNITS_PER_MIN * float(found.travel_min[row])), round(total + bonus - load - doubt))
    parts = {
        "travel_min": travel / UNITS_PER_MIN,
        "wait_weighted_min": round((total + bonus - load - doubt - travel) / UNITS_PER_MIN, 2),
        "mt_bonus_min": own / UNITS_PER_MIN,
        "total_min": total / UNITS_PER_MIN,
        **({"tele_bonus_min": tele / UNITS_PER_MIN} if tele else {}),
        **({"doubt_min": round(doubt / UNITS_PER_MIN, 2)} if doubt else {}),
    }
    # where loads are spread: what the patients that the professional has already weigh
    return parts if found.load is None else {**parts, "load_min": load / UNITS_PER_MIN}


def explain(market: Market, pick: Pick, now: float, zone: tzinfo, terms: Terms) -> dict[str, Any]:
    """Return the decision document of a pick: place or typed reason, cost parts, alternatives, one French sentence.

    Raises:
        PlaceGoneError: the market has changed under the pick.
    """
    base = _base(pick, now)
    if pick.row < 0:
        gone = PEERS_TEXT.get(pick.method, OTHERS_TEXT)
        reason = why_none(market, pick.request, pick.candidates, now, terms, gone)
        reason["would_help"] = would_help(market, pick, now, zone, terms) if pick.helped else None
        return {
            **base,
            "place": None,
            "reasons": [],
            "none": reason,
            "sentence": reason["sentence"],
            "alternatives": [],
        }
    place = _place(market, pick.candidates, pick.row, now, zone)
    if place is None:
        raise PlaceGoneError(int(pick.candidates.slot_id[pick.row]))
    others = ((row, _place(market, pick.candidates, row, now, zone)) for row in pick.alternatives)
    return {
        **base,
        "place": place,
        "reasons": pick.reasons,
        "cost": _cost(pick.candidates, pick.row, terms),
        "none": None,
        "sentence": _sentence(place, pick, now, zone),
        "alternatives": [
            {**other, "cost": _cost(pick.candidates, row, terms)} for row, other in others if other is not None
        ],
    }


def _base(pick: Pick, now: float) -> dict[str, Any]:
    return {
        "decided_at": datetime.fromtimestamp(now, UTC).isoformat(),
        "policy": pick.policy,
        "method": pick.method,
        "batch_size": pick.batch_size,
        # what this batch may miss of the optimum at the most, proven; none for the fallback
        "gap_min": None if pick.gap < 0 else pick.gap / UNITS_PER_MIN,
        # what the place is worth to those who are still expected; none where nothing is forecast
        "price_min": None if pick.price is None else round(pick.price / UNITS_PER_MIN, 1),
        # what is known of them: days that were recorded, and days drawn from the demand model for want of these
        "learned_days": pick.learned._asdict(),
    }


def explain_promise(pick: Pick, told_by: float, now: float, zone: tzinfo) -> dict[str, Any]:
    """Return the decision document of a promise: what is certain of it, and nothing of the place, which may move.

    Args:
        pick: the decision; its row does not matter.
        told_by: by when place and hour are told, epoch seconds.
        now: the present.
        zone: of the territory.
    """
    here = datetime.fromtimestamp(now, zone)
    before = hour_text(datetime.fromtimestamp(pick.request.deadline, zone), here)
    told = at_text(datetime.fromtimestamp(told_by, zone), here)
    return _without_place(pick, now, f"Sera vu avant {before} ; lieu et heure au plus tard {told}.", None)


def explain_displaced(market: Market, pick: Pick, now: float, zone: tzinfo, terms: Terms) -> dict[str, Any]:
    """Return the decision document of a promise that the crisis breaks, with the best that is free now."""
    found = pick.candidates
    free = [row for row in found.cost.argsort(kind="stable").tolist() if found.left[row] > 0]
    others = [(row, _place(market, found, row, now, zone)) for row in free[:ALTERNATIVES]]
    sentence = "Promesse retirée par la crise au profit d'un besoin plus urgent ; "
    sentence += "voici ce qui reste libre." if others else "rien d'autre n'est libre pour l'instant, la demande attend."
    document = _without_place(pick, now, sentence, {"reason": "DISPLACED", "sentence": sentence})
    document["alternatives"] = [
        {**other, "cost": _cost(found, row, terms)} for row, other in others if other is not None
    ]
    return document


def explain_waiting(pick: Pick, answer_by: float, now: float, zone: tzinfo) -> dict[str, Any]:
    """Return the decision document of a request that waits though there are places: others are expected for them."""
    by = at_text(datetime.fromtimestamp(answer_by, zone), datetime.fromtimestamp(now, zone))
    sentence = (
        "Pas de place tout de suite : celles qui conviennent sont gardées pour des patients plus urgents attendus ; "
        f"la demande reste en attente, réponse au plus tard {by}."
    )
    return _without_place(pick, now, sentence, {"reason": "KEPT_FOR_OTHERS", "sentence": sentence})


def _without_place(pick: Pick, now: float, sentence: str, none: dict[str, Any] | None) -> dict[str, Any]:
    return {**_base(pick, now), "place": None, "reasons": [], "none": none, "sentence": sentence, "alternatives": []}


def _sentence(place: dict[str, Any], pick: Pick, now: float, zone: tzinfo) -> str:
    when = hour_text(datetime.fromisoformat(place["start"]), datetime.fromtimestamp(now, zone))
    if place["mode"] == Mode.TELE:
        where = "en téléconsultation"
    else:
        trip = f"{place['distance_km']:.1f} km (environ {place['travel_min']:.0f} min, estimation)".replace(".", ",", 1)
        # a home visit: it is the professional who comes
        where = f"visite à domicile, depuis {trip}" if place["mode"] == Mode.VISITE else f"à {trip}"
    why = ", ".join(REASON_TEXT[code] for code in pick.reasons[:2])
    return f"{when}, dans {wait_text(place['wait_min'])}, {where} : {why}."


class _Seen:
    """What was counted on the way to "none", each number a subset of the one before."""

    def __init__(self) -> None:
        self.counts = {"profession": 0, "mode": 0, "needs": 0, "radius": 0, "in_time": 0}
        self.nearest_km = math.inf
        self.free = self.limited = self.kept = 0


def _look(market: Market, request: OpenRequest, now: float, terms: Terms, reach: float) -> _Seen:
    """Count the places within ``reach`` km that pass each step of eligibility."""
    seen = _Seen()
    meeting = market.offers.meeting(request.needs)
    wanted = None if request.specialty is None else market.specialties.known(request.specialty)
    for mode in sorted(market.modes_of(request.profession)):
        tele = mode == Mode.TELE
        parts = market.near(request.profession, mode, request.lat, request.lon, reach)
        future = Rows([(part, part.window(math.ceil(now), 2**62)) for part in parts])
        if not len(future):
            continue
        km = (
            np.zeros(len(future))
            if tele
            else haversine_km(request.lat, request.lon, future.column("lat"), future.column("lon"))
        )
        here = km <= reach
        if not tele:
            here &= future.column("landmass") == request.landmass
        if wanted is not None:
            here &= future.column("specialty") == wanted
        seen.counts["profession"] += int(np.count_nonzero(here))
        if mode not in request.modes:
            continue
        seen.counts["mode"] += int(np.count_nonzero(here))
        here &= meeting[future.column("offers")]
        seen.counts["needs"] += int(np.count_nonzero(here))
        if not tele:
            if here.any():
                seen.nearest_km = min(seen.nearest_km, float(km[here].min()))
            here &= km <= request.radius_km
        seen.counts["radius"] += int(np.count_nonzero(here))
        start = future.column("start")
        travel = np.zeros(len(future)) if tele else travel_min(km, terms.base_min, terms.min_per_km)
        here &= (start <= request.deadline) & (start - now >= 60 * travel)
        seen.counts["in_time"] += int(np.count_nonzero(here))
        if market.limits:
            closed = here & Under(market.limits, future.column("limits"), request.child).reached()
            seen.limited += int(np.count_nonzero(closed))
            here &= ~closed
        # a place that its practice keeps for its own patients is none for others
        free = here & (future.column("left") > 0) & ~future.column("own")
        seen.free += int(np.count_nonzero(free))
        if market.reserves and TIER_RANK[request.tier] > URGENT:
            seen.kept += int(np.count_nonzero(free & kept(market, future, now)))
    return seen


def why_none(
    market: Market, request: OpenRequest, found: Candidates, now: float, terms: Terms, others: str = OTHERS_TEXT
) -> dict[str, Any]:
    """Return the first true reason code of the day log, what was counted on the way, and a sentence.

    Two codes more than the day log's: ``LIMIT_REACHED`` where limits of practices close places that would do, and
    ``KEPT_FOR_URGENT`` where the territory keeps what is left for more urgent requests.
    ``others`` says why none of the places that were found was given.
    Counts are those within the radius when something there would do, else those within ``REACH_KM``.
    """
    reach = max(REACH_KM, request.radius_km)
    seen = _look(market, request, now, terms, request.radius_km)
    if not seen.counts["radius"]:
        seen = _look(market, request, now, terms, reach)
    steps = (
        ("profession", "NO_SLOT_FOR_PROFESSION"),
        ("mode", "MODE_NOT_OFFERED"),
        ("needs", "NEED_NOT_OFFERED"),
        ("radius", "NO_SLOT_IN_RADIUS"),
        ("in_time", "NO_SLOT_BEFORE_DEADLINE"),
    )
    code = next((code for name, code in steps if seen.counts[name] == 0), "ALL_TAKEN")
    declined = bool(seen.free) and bool(request.not_slots or request.not_professionals)
    if code == "ALL_TAKEN" and seen.limited and not declined and not found.free.any():
        code = "LIMIT_REACHED"
    if code == "ALL_TAKEN" and seen.kept and not declined and not found.free.any():
        code = "KEPT_FOR_URGENT"
    nearest = None if math.isinf(seen.nearest_km) else round(seen.nearest_km, 1)
    text = NONE_TEXT[code].format(
        reach=reach, nearest_km=nearest or 0.0, count=seen.counts["in_time"], limited=seen.limited, kept=seen.kept
    )
    if len(found) and code == "ALL_TAKEN":
        text = others
    elif declined:
        # what is free and fits is not a candidate: the request has been there
        text = DECLINED_TEXT
    return {
        "reason": code,
        "counts": seen.counts,
        "nearest_km": nearest,
        "sentence": f"Pas de place pour l'instant : {text.replace('.', ',')}.",
    }


def would_help(market: Market, pick: Pick, now: float, zone: tzinfo, terms: Terms) -> list[dict[str, Any]]:
    """Return what would find a place for a request that has none, the smallest concession first (see ``relax``).

    Each names what is given up (``concessions``), what to ask for instead (``ask``: the fields of a request that
    change), how much that is (``size_min``, minutes of travel), the place it would give, and says it in French.
    """
    documents = []
    for relaxation in relaxations(market, pick.request, pick.candidates, now, terms, pick.taken):
        found, row = relaxation.candidates, relaxation.row
        place = _place(market, found, row, now, zone)
        if place is not None:
            documents.append(
                {
                    "concessions": list(relaxation.concessions),
                    "size_min": round(relaxation.size_min, 1),
                    "ask": _ask(pick.request, relaxation, now),
                    "sentence": _concession_text(pick.request, relaxation),
                    "place": {**place, "cost": _cost(found, row, terms)},
                }
            )
    return documents


def _ask(request: OpenRequest, relaxation: Relaxation, now: float) -> dict[str, Any]:
    """The fields of a new request, made now, that would find the place."""
    wanted, given_up = relaxation.request, relaxation.concessions
    ask: dict[str, Any] = {}
    if Concession.RADIUS in given_up:
        ask["radius_km"] = math.ceil(10 * wanted.radius_km) / 10
    if Concession.DEADLINE in given_up:
        # the Hub's shortest delay that reaches it; the last one, 48 h, reaches all that is looked at
        spans = sorted(DELAY_SPAN.items(), key=lambda item: item[1])
        ask["delay"] = next((d for d, span in spans if now + span.total_seconds() >= wanted.deadline), spans[-1][0])
    if Concession.MODE in given_up:
        ask["modes"] = [*request.modes, *wanted.modes]
    if Concession.NEED in given_up:
        ask["needs"] = list(wanted.needs)
    if Concession.PROFESSION in given_up:
        ask |= {"profession": wanted.profession, "specialty": None}
    return ask


def _concession_text(request: OpenRequest, relaxation: Relaxation) -> str:
    """What is given up, in French: « à 12,3 km de plus, 35 min plus tard »."""
    wanted = relaxation.request
    more_km = f"{wanted.radius_km - request.radius_km:.1f}".replace(".", ",")
    texts = {
        Concession.RADIUS: lambda: f"à {more_km} km de plus",
        Concession.DEADLINE: lambda: f"{wait_text((wanted.deadline - request.deadline) / 60)} plus tard",
        Concession.MODE: lambda: MODE_TEXT[Mode(wanted.modes[0])],
        Concession.NEED: lambda: f"sans « {next(n for n in request.needs if n not in wanted.needs)} »",
        Concession.PROFESSION: lambda: f"par une autre profession ({_profession_text(wanted.profession)})",
    }
    return ", ".join(texts[concession]() for concession in relaxation.concessions)


def _profession_text(profession: str) -> str:
    return PROFESSION_LABELS[Profession(profession)].lower()
