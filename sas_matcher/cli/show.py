"""How decisions and events read in a terminal: plain French text, no colours."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

from sas_matcher.client import Booking, Event, Limit, NoPlace, Place, Promise, Request, Setting, SettingChange

STATUS: Final = {
    "waiting": "en attente d'une place",
    "promised": "promise",
    "held": "place gardée",
    "firm": "confirmée",
    "lapsed": "garde expirée",
    "unserved": "sans place avant l'échéance",
    "cancelled": "annulée",
    "fulfilled": "patient venu",
    "noshow": "patient absent",
}
EVENT: Final = {
    "request.reopened": "demande rouverte",
    "request.handed": "demande confiée",
    "request.told": "place et heure connues",
    "request.displaced": "promesse rompue",
    "booking.firm": "réservation confirmée",
    "booking.cancelled": "réservation annulée",
    "booking.refused": "réservation refusée",
    "booking.withdrawn": "créneau retiré",
    "booking.fulfilled": "patient venu",
    "booking.noshow": "patient absent",
    "booking.accepted": "réservation acceptée",
    "booking.moved": "réservation déplacée par le cabinet",
    "request.accepted": "le cabinet a accepté",
    "request.moved": "rendez-vous déplacé par le cabinet",
    "places.handed_back": "places inutilisées rendues",
    "notice": "notification",
    "subscription.disabled": "notifications suspendues : rien n'arrive",
    "question.asked": "pouvez-vous prendre un patient de plus ?",
    "question.accepted": "patient en sus accepté",
    "question.refused": "patient en sus refusé",
    "question.closed": "question en sus close",
    "question.released": "place en sus finalement non prise",
    "asking.changed": "sollicitations en sus",
    "ladder.changed": "échelle du territoire changée",
}
HELP: Final = {
    "NO_SLOT_FOR_PROFESSION": "essayez une autre profession, ou publiez des créneaux de celle-ci",
    "MODE_NOT_OFFERED": "essayez --mode cabinet, --mode tele ou --mode visite",
    "NEED_NOT_OFFERED": "essayez avec moins de besoins",
    "NO_SLOT_IN_RADIUS": "essayez un rayon plus grand (--radius)",
    "NO_SLOT_BEFORE_DEADLINE": "essayez un délai plus long (--delay)",
    "ALL_TAKEN": "la demande reste ouverte : la première place qui se libère lui est proposée",
    "KEPT_FOR_URGENT": "la demande reste ouverte : ces places sont à tous une heure avant leur début",
    "LIMIT_REACHED": "la demande reste ouverte : elle a une place dès que le cabinet en rend une ou relève sa limite",
}
"""What may help, for each reason why there is no place, when the service knows no place that would."""


def clock(instant: datetime) -> str:
    """Return an hour as it stands in the document, with its day: « 23/11 à 14 h 05 »."""
    return f"{instant:%d/%m} à {instant.hour} h {instant.minute:02d}"


def place_line(place: Place) -> str:
    """Return a place in one line."""
    if place.distance_km is None:
        way = "téléconsultation"
    else:
        km = f"{place.distance_km:.1f}".replace(".", ",")
        way = f"{km} km, environ {place.travel_min:.0f} min (estimation)"
        way += ", à domicile" if place.mode == "visite" else ""
    mine = ", médecin traitant" if place.is_mt else ""
    return f"{clock(place.start)} · {place.site.name} · {way}{mine}"


def promise_line(promise: Promise, zone: tzinfo | None = None) -> str:
    """Return what the caller may be told: « sera vu avant 18 h 30, lieu et heure au plus tard à 16 h 10 »."""
    seen = promise.seen_before.astimezone(zone)
    line = f"sera vu avant {seen.hour} h {seen.minute:02d}"
    if promise.told_by is None:
        return line
    told = promise.told_by.astimezone(zone)
    return f"{line}, lieu et heure au plus tard à {told.hour} h {told.minute:02d}"


def _zone_of(request: Request) -> tzinfo | None:
    """The offset in which the service writes the place's hours; this machine's clock where there is no place."""
    return request.place.start.tzinfo if request.place else None


def request_lines(request: Request) -> Iterator[str]:
    """Yield what a regulator wants to know of a request: the place and why, alternatives, or why there is none."""
    yield f"Demande {request.request_id} : {STATUS.get(request.status, request.status)}."
    decision = request.decision
    if decision is None:
        yield f"Pas encore décidée ; échéance {clock(request.deadline.astimezone())}."
        return
    if request.place is None:
        yield decision.none.sentence if decision.none else decision.sentence
        if decision.none:
            yield from _none_lines(decision.none)
        yield from _other_lines(decision.alternatives)
        return
    if request.status == "promised" and request.promise:
        # the seat behind it may still change: only what was promised is said
        yield f"  {promise_line(request.promise, _zone_of(request))}"
        return
    place = request.place
    yield f"  Place       {place_line(place)}"
    if place.site.phone:
        yield f"  Téléphone   {place.site.phone}"
    yield f"  Pourquoi    {decision.sentence}"
    if decision.mt:
        yield f"  MT          {decision.mt}"
    if request.booking and request.booking.hold_until:
        # on the clock of the place, as its start is: this machine may keep another
        until = request.booking.hold_until.astimezone(_zone_of(request))
        yield f"  Gardée      jusqu'à {until.hour} h {until.minute:02d} min {until.second:02d} s"
    if request.booking and request.booking.link:
        yield f"  À réserver  {request.booking.link}"
    yield from _other_lines(decision.alternatives)


def _other_lines(places: Sequence[Place]) -> Iterator[str]:
    for number, other in enumerate(places, 1):
        yield f"  {'Sinon' if number == 1 else '     '} {number}.    {place_line(other)}"


def _none_lines(none: NoPlace) -> Iterator[str]:
    if none.counts:
        steps = {
            "profession": "de la profession",
            "mode": "dans le mode",
            "needs": "avec les besoins",
            "radius": "dans le rayon",
            "in_time": "à temps",
        }
        counted = (f"{none.counts[name]} {text}" for name, text in steps.items() if name in none.counts)
        yield f"  Créneaux    {', '.join(counted)}."
    for number, way in enumerate(none.would_help or (), 1):
        yield f"  {'Aiderait' if number == 1 else '        '} {number}. {way.sentence} : {place_line(way.place)}"
    if none.reason in HELP and not none.would_help:
        yield f"  Que faire   {HELP[none.reason]}."


COUNTED: Final = {"patients": "patient", "visits": "visite", "children": "enfant"}
"""Whom a limit counts."""


def limit_lines(limit: Limit) -> Iterator[str]:
    """Yield a limit and what is taken of it: « quota : au plus 6 patients par jour (10000000012) »."""
    counted = COUNTED.get(limit.counts, limit.counts)
    many = f"{limit.most} {counted}{'s' * (limit.most is not None and limit.most > 1)}"
    most = many if limit.share is None else f"{limit.share} % de {counted}s parmi les places"
    period = "par demi-journée" if limit.period == "half_day" else "par jour"
    yield f"{limit.name} : au plus {most} {period} ({', '.join((*limit.professionals, *limit.structures))})"
    zone = ZoneInfo(limit.zone)  # a day begins there, not where this machine stands
    for at in limit.periods:
        yield f"  {clock(at.start.astimezone(zone))} : {at.taken} sur {at.most}"


def event_line(event: Event) -> str:
    """Return an event in one line: what, for whom, where."""
    word = event.name.partition(".")[2]
    text = EVENT.get(event.name) or f"demande {STATUS.get(word, word)}"
    request, booking = event.request, event.booking
    if request is not None:
        return _request_line(text, request)
    if booking is not None:
        return _booking_line(text, booking)
    if event.setting_change is not None:
        return f"réglages du territoire {event.setting_change.territory} changés · {change_line(event.setting_change)}"
    if event.question is not None:
        until = event.question.deadline.astimezone()
        return f"{text} · {event.question.question_id} · {event.question.km} km, avant {until:%H h %M}"
    if event.name == "asking.changed" and event.data.get("log"):
        return f"{text} · {event.data['log'][-1]['sentence']}"
    return (
        crisis_line(event.name, event.data) if event.name.startswith("crisis.") else f"{text} · {_summary(event.data)}"
    )


def crisis_line(name: str, data: Mapping[str, Any]) -> str:
    """Return an event about a crisis in one line; a drill says so first."""
    mark = "EXERCICE · " if data.get("drill") else ""
    where = f"{mark}territoire {data.get('territory')}"
    if name == "crisis.changed":
        return f"{where} : {data['was']} → {data['level']} ({data['scope']}) · « {data['why']} »"
    if name.startswith("crisis.proposal") or name == "crisis.proposed":
        state = {"open": "proposé", "accepted": "accepté", "refused": "refusé"}.get(data["state"], "sans objet")
        reasons = " ; ".join(data["reasons"])
        return f"{mark}{data['scope']} : niveau {data['level']} {state} · {data['proposal_id']} · {reasons}"
    if name in ("crisis.called", "crisis.answered"):
        answer = {"yes": f"{data.get('places')} place(s) ouvertes", "no": "aucune place"}.get(data["state"], "")
        return f"{where} : appel à ouvrir des places · {data['call_id']} · {answer or data['text']}"
    return f"{where} : plan de crise changé · « {data.get('why', '')} »"


def setting_lines(setting: Setting) -> Iterator[str]:
    """Yield what a territory sets."""
    since = f", depuis le {clock(setting.changed_at.astimezone())}" if setting.changed_at else ""
    yield f"Réglages du territoire {setting.territory}, version {setting.version}{since}."
    yield f"  Politique      {' · '.join(_policies(setting))}"
    leave = "permise" if setting.crisis_allowed else "non permise"
    yield f"  Crise          {leave}, {'déclarée' if setting.crisis else 'non déclarée'}"
    yield f"  Garde          {setting.hold_seconds} s"
    first = f"d'abord lui ; sollicité, il a {setting.mt_ask_min} min pour répondre"
    rule = {"bonus": "bonus de distance", "first": first}.get(setting.mt_rule, setting.mt_rule)
    yield f"  Méd. traitant  {rule}"
    yield f"  Vieillissement {_number(setting.ageing_pct_per_h)} % de la valeur du palier par heure d'attente"
    yield f"  Répartition    {_number(setting.fair_load_min)} min par patient déjà pris chez le même professionnel"
    if setting.radius_pct != 100:
        yield f"  Rayon          {setting.radius_pct} % de celui de la demande"
    if setting.urgent_reserve_pct:
        yield f"  Réserve        {setting.urgent_reserve_pct} % des places gardées à T0 et T1 jusqu'à une heure avant"
    if setting.tele_bonus_min:
        yield f"  Téléconsult.   vaut {_number(setting.tele_bonus_min)} min pour qui l'accepte"
    if setting.borrow:
        lenders = ", ".join(f"{share} % de {name}" for name, share in setting.borrow.items())
        yield f"  Emprunts       {lenders}, jusqu'à {_number(setting.borrow_km)} km"


def _policies(setting: Setting) -> Iterator[str]:
    for tier, policy in setting.policy.items():
        now = setting.in_force.get(tier, policy)
        yield f"{tier} {policy}" + (f" ({now} en ce moment)" if now != policy else "")


def change_line(change: SettingChange) -> str:
    """Return a change of a territory's setting in one line: when, who, what, why."""
    before, after = change.before.raw, change.after.raw
    parts = [
        f"{name} {_value(before[name])} → {_value(after[name])}"
        for name in after
        if name not in ("version", "changed_at", "policy") and before[name] != after[name]
    ]
    was = change.before.policy
    parts += [f"{tier} {was[tier]} → {now}" for tier, now in change.after.policy.items() if was[tier] != now]
    return f"{clock(change.at.astimezone())} · {change.key_id} · {', '.join(parts)} · « {change.why} »"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "oui" if value else "non"
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    return f"{value:g}".replace(".", ",")


def _request_line(text: str, request: Request) -> str:
    head = f"{text} · {request.request_id[-12:]} {request.tier} {request.profession}"
    if request.status == "promised" and request.promise:
        return f"{head} · {promise_line(request.promise, _zone_of(request))}"
    if request.place is not None:
        return f"{head} · {place_line(request.place)}"
    if request.status == "waiting" and request.decision is not None and request.decision.none is not None:
        return f"{head} · {request.decision.none.sentence}"
    return head


def _booking_line(text: str, booking: Booking) -> str:
    return f"{text} · {booking.booking_id[-12:]} · {clock(booking.start)} · {booking.external_id}"


def _summary(data: Mapping[str, object]) -> str:
    kept = ("territory", "tier", "profession", "status", "state")
    return " ".join(str(data[name]) for name in kept if data.get(name) is not None)
