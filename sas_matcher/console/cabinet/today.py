"""Today: the places of three days, the patients who have one, questions, and the quick actions. One part is live."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson
from starlette.responses import Response

from sas_matcher.api.inputs.agenda import PlacesIn, StopIn
from sas_matcher.api.inputs.asking import AcceptIn, NoIn
from sas_matcher.api.inputs.reading import parse
from sas_matcher.api.inputs.schemas import ArrivedIn, OutcomeIn, RefuseIn
from sas_matcher.api.wire import name_of, slot_of, uuid_of
from sas_matcher.console import words
from sas_matcher.console.cabinet.board import Place, Visitor, days_of, patients_of, place_of, visitor_of, window_of
from sas_matcher.console.cabinet.here import Here, here_of, pages
from sas_matcher.console.visit import Form, Visit
from sas_matcher.domain.errors import ConflictError, InvalidInputError, NotFoundError
from sas_matcher.domain.vocabulary import REFUSAL_LABELS

PAGE: Final = 1_000
MOST_PLACES: Final = 3_000  # of three days; who has more chooses a professional or a structure
_QUESTIONS: Final = 50
_GRID: Final = timedelta(minutes=5)
_READY: Final = timedelta(minutes=30)  # for the regulator to call back and the patient to leave (guess)
_MIN_PER_KM: Final = 2  # slow enough for a town (guess); the ledger's own estimate decides


@dataclass(frozen=True)
class Seen:
    """What the ledger says of three days."""

    places: list[Place]
    visitors: list[Visitor]
    questions: list[dict[str, Any]]
    cut: bool


async def _look(here: Here) -> Seen:
    visit, publisher = here.visit, here.publisher
    window = window_of(visit.now, here.zone)
    places: list[Place] = []
    after = 0
    while len(places) < MOST_PLACES:
        rows = await visit.wire.publishing.published(publisher, window, after, PAGE)
        places += map(place_of, rows)
        if len(rows) < PAGE:
            break
        after = places[-1].slot_id
    documents = await visit.wire.bookings.page(publisher, window, PAGE)
    questions = [orjson.loads(one) for one in await visit.wire.en_sus.questions(publisher, "asked", _QUESTIONS)]
    cut = len(places) >= MOST_PLACES or len(documents) == PAGE
    return Seen(places, [visitor_of(one, visit.now) for one in documents], questions, cut)


async def _board(here: Here) -> dict[str, Any]:
    seen, now = await _look(here), here.visit.now
    local = now.astimezone(here.zone).replace(tzinfo=None).isoformat(timespec="minutes")
    for question in seen.questions:
        question["at"] = offered_hour(question, seen.visitors, now).astimezone(here.zone)
        question["days"] = _days_until(question["deadline"], now, here.zone)
    days = days_of(seen.places, now, here.zone)
    stopped = [one for one in here.agendas if any(_is_on(stop, local) for stop in one["quick"]["stops"])]
    return {
        "days": days,
        "several": len({row.who for day in days for row in day.rows}) > 1,
        "answers": [one for one in seen.visitors if one.state == "answer"],
        "questions": sorted(seen.questions, key=lambda one: one["answer_by"] or ""),
        "patients": patients_of([v for v in seen.visitors if v.state != "answer"], seen.places, here.zone),
        "stopped": stopped,
        "cut": seen.cut,
        "now": now,
    }


def _is_on(stop: dict[str, Any], local: str) -> bool:
    return not stop.get("single") and bool(stop["from"] <= local < stop["to"])


def offered_hour(question: dict[str, Any], visitors: Sequence[Visitor], now: datetime) -> datetime:
    """Return an hour to propose for a patient en sus: soon enough, when the patient can be there and nobody else is.

    Args:
        question: its document.
        visitors: who is expected already.
        now: the present instant.

    Returns:
        The first such hour, on five minutes; the deadline where there is none before.
    """
    deadline = datetime.fromisoformat(question["deadline"])
    lasts = timedelta(minutes=question["minutes"])
    soonest = now + _READY + timedelta(minutes=_MIN_PER_KM * question["km"])
    start = soonest.replace(second=0, microsecond=0, minute=0) + _GRID * (soonest.minute // 5 + 1)
    mine = [one for one in visitors if one.state != "gone" and one.booking["professional"] == question["professional"]]
    while start <= deadline and any(one.start < start + lasts and one.end > start for one in mine):
        start += _GRID
    return min(start, deadline)


def _days_until(deadline: str, now: datetime, zone: ZoneInfo) -> list[date]:
    """Return the days, of the clock of the place, on which a patient may be received until a deadline."""
    first, last = now.astimezone(zone).date(), datetime.fromisoformat(deadline).astimezone(zone).date()
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


@pages.get("/cabinet")
async def today(visit: Visit) -> Response:
    """Show the page."""
    here = await here_of(visit)
    return here.show("today.html", refusals=REFUSAL_LABELS, **_preset(here), **await _board(here))


@pages.get("/cabinet/tableau")
async def board(visit: Visit) -> Response:
    """Show the live part."""
    return await _shown(await here_of(visit))


async def _shown(here: Here, told: str = "") -> Response:
    """Answer the live part, and say what was done; a browser without scripts is sent to the page."""
    if here.visit.request.method == "POST" and not here.visit.is_part:
        return here.go("/cabinet")
    headers: dict[str, str] = {}
    if told:
        # headers are ASCII; a form that stays on the page acts anew the next time
        headers = {"HX-Trigger": json.dumps({"sas-told": {"text": told}}), "X-Once": here.visit.site.uuid()}
    return here.show("_board.html", headers=headers, **await _board(here))


def _preset(here: Here) -> dict[str, Any]:
    """Return the range that the form of quick places begins with: the next whole hour, for two hours."""
    local = here.visit.now.astimezone(here.zone)
    begin = min(local.hour + 1, 21)
    return {"preset": (f"{begin:02}:00", f"{begin + 2:02}:00")}


# -- what one says of patients -----------------------------------------------------------------------------------------


async def _act(visit: Visit, action: str, arguments: Sequence[Any], form: Form, told: str) -> Response:
    booking = uuid_of(form.text("booking"), "booking")
    await visit.wire.bookings.act(action, booking, arguments, visit.caller.owns, visit.once(form))
    return await _shown(await here_of(visit), told)


@pages.post("/cabinet/accepter")
async def accept(visit: Visit) -> Response:
    """Accept a booking."""
    form = (await visit.form()).only("booking")
    return await _act(visit, "accept", (), form, "Rendez-vous accepté.")


@pages.post("/cabinet/refuser")
async def refuse(visit: Visit) -> Response:
    """Refuse a booking, with a reason: its request is matched again at once."""
    form = (await visit.form()).only("booking", "reason", "keep")
    asked = parse(RefuseIn, orjson.dumps({"reason": form.text("reason"), "keep_slot": form.text("keep") == "1"}))
    return await _act(
        visit, "refuse", (asked.reason, asked.keep_slot), form, "Refusé : le patient est replacé ailleurs."
    )


@pages.post("/cabinet/annuler")
async def cancel(visit: Visit) -> Response:
    """Call a booking off: the patient said that he does not come; the place is free for others."""
    form = (await visit.form()).only("booking")
    return await _act(visit, "cancel", ("patient", True), form, "Annulé : la place est de nouveau libre.")


@pages.post("/cabinet/venu")
async def outcome(visit: Visit) -> Response:
    """Say whether a patient came; may be corrected."""
    form = (await visit.form()).only("booking", "outcome")
    asked = parse(OutcomeIn, orjson.dumps({"outcome": form.text("outcome")}))
    told = "Noté : le patient est venu." if asked.outcome == "fulfilled" else "Noté : le patient n'est pas venu."
    return await _act(visit, "outcome", (asked.outcome,), form, told)


@pages.post("/cabinet/compter")
async def count(visit: Visit) -> Response:
    """Say how many patients of a plage have come."""
    form = (await visit.form()).only("slot", "arrived", "over")
    body = {"arrived": _number(form, "arrived"), "over": form.text("over") == "1"}
    asked = parse(ArrivedIn, orjson.dumps(body))
    slot = slot_of(form.text("slot"))
    await visit.wire.bookings.count(slot, asked.arrived, asked.over, visit.caller.owns, visit.once(form))
    return await _shown(await here_of(visit), f"Noté : {asked.arrived} patient(s) venu(s).")


@pages.post("/cabinet/oui")
async def accept_question(visit: Visit) -> Response:
    """Say yes to a question en sus: the patient is received on the day and at the hour that the form shows."""
    form = (await visit.form()).only("question", "day", "at", "mode")
    here = await here_of(visit)
    question = uuid_of(form.text("question"), "question")
    body = {"start": _instant(here, form).isoformat(), "mode": form.text("mode") or None}
    asked = parse(AcceptIn, orjson.dumps(body))
    await visit.wire.en_sus.accept(question, asked.start, asked.mode, visit.caller.owns, visit.once(form))
    when = words.when(asked.start, visit.now, here.zone)
    return await _shown(here, f"Oui transmis, pour {when} : le régulateur rappelle le patient et confirme.")


@pages.post("/cabinet/non")
async def refuse_question(visit: Visit) -> Response:
    """Say no to a question en sus."""
    form = (await visit.form()).only("question")
    question = uuid_of(form.text("question"), "question")
    reason = NoIn().reason
    await visit.wire.en_sus.refuse(question, reason, visit.caller.owns, visit.once(form))
    return await _shown(await here_of(visit), "Non transmis.")


def _instant(here: Here, form: Form) -> datetime:
    """Return the instant of a form's day and hour, by the clock of the place."""
    try:
        day = date.fromisoformat(form.text("day"))
    except ValueError:
        raise InvalidInputError.of("day", "rechargez la page") from None
    try:
        return datetime.combine(day, time.fromisoformat(form.text("at")), here.zone)
    except ValueError:
        raise InvalidInputError.of("at", "indiquez une heure, par exemple 18:45") from None


def _number(form: Form, name: str) -> int:
    text = form.text(name)
    if not (text.isascii() and text.isdigit() and len(text) <= 4):
        raise InvalidInputError.of(name, "indiquez un nombre")
    return int(text)


# -- what one does with places -----------------------------------------------------------------------------------------


@pages.post("/cabinet/places")
async def add_places(visit: Visit) -> Response:
    """Add so many places in a range of a day."""
    form = (await visit.form()).only("agenda", "count", "start", "end", "day", "mode", "kind")
    wish = {
        "count": _number(form, "count"),
        "start": form.text("start"),
        "end": form.text("end"),
        "day": form.text("day") or None,
        "mode": form.text("mode", "cabinet"),
        "booking_kind": form.text("kind", "routine"),
    }
    asked = parse(PlacesIn, orjson.dumps(wish)).model_dump()
    agenda, once = name_of(form.text("agenda"), "agenda"), visit.once(form).key
    await visit.wire.agendas.add_places(visit.caller.publisher, visit.caller.key_id, agenda, asked, once)
    plural = "s" if asked["count"] > 1 else ""
    return await _shown(await here_of(visit), f"{asked['count']} place{plural} publiée{plural}.")


@pages.post("/cabinet/retirer")
async def withdraw(visit: Visit) -> Response:
    """Take places off; who has one keeps it."""
    return await _change_places(visit, back=False)


@pages.post("/cabinet/remettre")
async def put_back(visit: Visit) -> Response:
    """Put places back that were taken off."""
    return await _change_places(visit, back=True)


async def _change_places(visit: Visit, *, back: bool) -> Response:
    form = (await visit.form()).only("slot")
    here = await here_of(visit)
    asked = {slot_of(text) for text in form.several("slot")}
    if not asked:
        raise InvalidInputError.of("slot", "cochez au moins une place")
    places = [place for place in (await _look(here)).places if place.slot_id in asked and place.start > visit.now]
    if not places:
        raise NotFoundError("Ces places ne sont plus à venir, ou ne sont pas à vous ; rechargez la page.")
    await _take_off(here, places, back=back)
    if back:
        # what an agenda offers no more is not there again
        shown = {place.slot_id for place in (await _look(await here_of(visit))).places if not place.withdrawn}
        places = [place for place in places if place.slot_id in shown]
        if not places:
            return await _shown(await here_of(visit), "Aucune place remise : l'agenda n'a plus ces heures.")
    count = sum(place.capacity for place in places) if back else sum(place.free for place in places)
    word = "remise" if back else "retirée"
    plural = "s" if count > 1 else ""
    return await _shown(await here_of(visit), f"{count} place{plural} {word}{plural}.")


async def _take_off(here: Here, places: Sequence[Place], *, back: bool) -> None:
    """Take places off, or put them back: those of agendas kept here in these, the others one by one."""
    wire, caller = here.visit.wire, here.visit.caller
    for name in sorted({place.agenda for place in places if place.agenda is not None}):
        spans = [(place.start, place.end) for place in places if place.agenda == name]
        await wire.agendas.take_off(caller.publisher, caller.key_id, name, spans, back=back)
    others = [place for place in places if place.agenda is None]
    # what patients have of a plage stays theirs: only the rest of it goes
    partly = [place for place in others if place.taken]
    names = [place.record["external_id"] for place in others if not place.taken]
    if back:
        await wire.publishing.publish(caller.publisher, [_as_published(one, one.capacity) for one in others])
        return
    if names:
        await wire.publishing.withdraw(here.publisher, names, None, "practice")
    if partly:
        done = await wire.publishing.publish(caller.publisher, [_as_published(one, one.taken) for one in partly])
        if any(one["outcome"] == "booked" for one in done):
            raise ConflictError(
                "Une plage qui n'a qu'un patient ne peut être réduite ici : changez-la dans votre logiciel."
            )


def _as_published(place: Place, capacity: int) -> dict[str, Any]:
    """Return a place in the shape of the API's slot."""
    one = place.record
    same = ("external_id", "source_kind", "mode", "booking_kind", "profession", "specialty", "offers", "visibility")
    return {
        **{name: one[name] for name in same},
        **place.owners,
        "acceptance": one["acceptance"],
        "accept_min": one["accept_min"],
        "hand_back_min": one["back_at"]
        and int((place.start - datetime.fromisoformat(one["back_at"])).total_seconds()) // 60,
        "location": {name: one[name] for name in ("lat", "lon", "insee", "label", "phone")},
        "start": place.start,
        "end": place.end,
        "capacity": capacity,
        "valid_at": None,
    }


@pages.post("/cabinet/arret")
async def stop(visit: Visit) -> Response:
    """Stop everything now, until midnight: of who is chosen, in agendas kept here and as sent by other software."""
    form = (await visit.form()).only("booked")
    here = await here_of(visit)
    asked = parse(StopIn, orjson.dumps({"booked": form.text("booked", "keep")}))
    caller, names = visit.caller, [agenda["name"] for agenda in here.agendas]
    if names:
        await visit.wire.agendas.stop(caller.publisher, caller.key_id, names, None, asked.booked)
    _, midnight = window_of(visit.now, here.zone, 1)
    sent = [one for one in (await _look(here)).places if one.agenda is None and visit.now < one.start < midnight]
    if asked.booked == "refuse":
        external = [one.record["external_id"] for one in sent if not one.withdrawn]
        if external:
            await visit.wire.publishing.withdraw(here.publisher, external, None, "stop")
    else:
        await _take_off(here, [one for one in sent if one.free or one.held], back=False)
    return await _shown(await here_of(visit), "Tout est arrêté jusqu'à minuit.")


@pages.post("/cabinet/reprise")
async def go_on(visit: Visit) -> Response:
    """End the stops of who is chosen."""
    (await visit.form()).only()
    here = await here_of(visit)
    names = [agenda["name"] for agenda in here.agendas]
    if names:
        await visit.wire.agendas.go_on(visit.caller.publisher, visit.caller.key_id, names)
    return await _shown(await here_of(visit), "Reprise : vos places sont de nouveau publiées.")
