"""The regulators' workplace: one line or a form, the answer on the same screen, what is open, all by keyboard."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields as fields_of
from datetime import datetime, time, timedelta
from typing import Any, Final

import orjson
from starlette.responses import Response

from sas_matcher.api.inputs.schemas import RequestIn
from sas_matcher.api.waiting import act_and_wait, ask_and_wait
from sas_matcher.api.wire import peer_of, slot_of, uuid_of
from sas_matcher.console import words
from sas_matcher.console.lrm import LIFE_S, read_opening
from sas_matcher.console.site import Entry, Pages
from sas_matcher.console.visit import AUTO, Form, Visit
from sas_matcher.console.wanted import (
    FIELDS,
    GIVEN,
    Wanted,
    communes,
    from_form,
    from_phrase,
    given_by,
    labelled,
    request_of,
)
from sas_matcher.domain.errors import InvalidInputError, NotFoundError
from sas_matcher.domain.vocabulary import SPECIALTIES, Mode, Profession, Scope, Visibility
from sas_matcher.ports.ledger import Idempotency
from sas_matcher.services.regulate import BUCKET_HOURS

pages = Pages(scopes=(Scope.REGULATOR,), entries=(Entry("/regulation", "Régulation"),))
OPEN: Final = ("held", "unserved", "lapsed", "waiting", "promised", "firm")
"""What the list shows, most pressing first."""
_LISTED: Final = 200
"""So many at most, the open ones first; the page says when there are more. Nobody keeps more in mind: guess."""
_NO_DECISION: Final = {"place": None, "none": None, "alternatives": (), "sentence": ""}
_ASKED: Final = tuple(RequestIn.model_fields)
"""What a request document says of what was asked."""
_NEWS: Final = timedelta(hours=3)  # what is settled stays in sight for so long: until then a patient calls back


def professions() -> dict[str, str]:
    """Return what the form offers: professions, then specialties by name."""
    named = {str(code): words.profession(code) for code in Profession if code is not Profession.SPE}
    special = {code: label for code, (label, profession) in SPECIALTIES.items() if profession is Profession.SPE}
    return named | dict(sorted(special.items(), key=lambda item: item[1]))


# -- the page ----------------------------------------------------------------------------------------------------


@pages.get("/regulation")
async def page(visit: Visit) -> Response:
    """Show the page: an empty form, or what a regulator's software opened it with."""
    wanted, given = await _opened(visit)
    listed = await _listed(visit)
    return visit.show(
        "regulation/page.html", wanted=wanted, given=given, professions=professions(), shown=None, **listed
    )


async def _opened(visit: Visit) -> tuple[Wanted, dict[str, str]]:
    """Return what the form begins with, and what of it a regulator's software gave."""
    token = visit.request.query_params.get("contexte")
    kept = await visit.wire.kept.take_once(f"lrm:{token[:64]}") if token else None
    if kept is None:
        return Wanted(), {}
    opening = orjson.loads(kept)
    known = {field.name for field in fields_of(Wanted)}
    given = {name: value for name, value in opening["fields"].items() if name in known}
    wanted = Wanted(**given, notes=tuple(opening["notes"]))
    return wanted, {name: value for name, value in given.items() if name in GIVEN}


async def open_from_lrm(visit: Visit) -> Response:
    """Take an opening by URL (INT_L01) and go on to a clean address, which holds nothing of it.

    Nobody is signed in yet, and it is kept: so many of one address.
    """
    visit.wire.openings.spend(peer_of(visit.request))
    query = dict(visit.request.query_params)
    opening = read_opening(query, visit.site.lrm_origins, visit.wire.geography)
    token = visit.wire.secrets.secret()
    await visit.wire.kept.keep_once(f"lrm:{token}", orjson.dumps(opening._asdict()).decode(), LIFE_S)
    # the cookie of the session does not come with a link from elsewhere: this page asks for the next one itself
    return visit.show("again.html", path=f"/regulation?contexte={token}")


@pages.post("/regulation/lire")
async def read(visit: Visit) -> Response:
    """Show how the line is understood, in the form; sent as a body, for addresses end up in logs of proxies."""
    form = (await visit.form()).only("phrase", *(f"given_{name}" for name in GIVEN))
    wanted = from_phrase(form.text("phrase"), visit.wire.geography, visit.caller.territories, given_by(form))
    return visit.show("regulation/_form.html", wanted=wanted, professions=professions())


@pages.get("/regulation/communes")
async def complete(visit: Visit) -> Response:
    """Complete a commune."""
    text = visit.request.query_params.get("commune", "")[:80]
    found = communes(visit.wire.geography, text, visit.caller.territories) if text.strip() else ()
    return visit.show("regulation/_communes.html", names=[labelled(commune) for commune in found])


# -- ask and act -------------------------------------------------------------------------------------------------


@pages.post("/regulation/demandes")
async def ask(visit: Visit) -> Response:
    """Ask for a place; the answer comes with the list."""
    form = await visit.form()
    geography, territories = visit.wire.geography, visit.caller.territories
    wanted = from_form(form, geography, territories)
    need = request_of(wanted, geography, territories)
    row = visit.wire.regulating.new_request(need, territories)
    asked = await ask_and_wait(visit.wire, row, _once_for(need, visit.once(form)))
    # the form says how the line was understood, also where Enter came before the reading
    return await _answer(visit, orjson.loads(asked.document), wanted, replayed=asked.replayed)


def _once_for(need: Mapping[str, Any], once: Idempotency) -> Idempotency:
    """Return the key under which a need is asked for.

    The form stays on the page where no answer came: sent again as it is, it is the same act; corrected, or filled in
    for the next patient, it is another one. What counts is what is asked for, not how far the line was read by then.
    """
    digest = hashlib.sha256(orjson.dumps(need, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return once._replace(key=f"{once.key[:80]}-{digest[:32]}")


@pages.get("/regulation/demandes")
async def listed(visit: Visit) -> Response:
    """Show what is open."""
    return visit.show("regulation/_list.html", shown=visit.request.query_params.get("vue"), **await _listed(visit))


@pages.get("/regulation/demandes/{request_id}")
async def one(visit: Visit) -> Response:
    """Show one request; one that the page asks for by itself and that is no longer here was handed to a colleague."""
    try:
        document = await visit.wire.regulating.document(_request_id(visit), visit.caller.key_id)
    except NotFoundError:
        if AUTO not in visit.request.headers:
            raise
        return visit.show("regulation/_handed.html", **await _listed(visit), shown=None)
    return await _answer(visit, orjson.loads(document))


@pages.post("/regulation/demandes/{request_id}/confirmer")
async def confirm(visit: Visit) -> Response:
    """Confirm the place that was read out: no other."""
    form = (await visit.form()).only("booking_id")
    return await _act(visit, "confirm", [_booking_id(form)], form)


@pages.post("/regulation/demandes/{request_id}/autre")
async def other(visit: Visit) -> Response:
    """Give the place back; the next one is shown."""
    form = (await visit.form()).only("booking_id", "scope")
    scope = form.text("scope", "slot")
    if scope not in ("slot", "professional", "gone"):
        raise InvalidInputError.of("scope", "slot, professional ou gone")
    arguments = [_booking_id(form), scope]
    document = await act_and_wait(visit.wire, "decline", _request_id(visit), arguments, visit.once(form))
    return await _answer(visit, orjson.loads(document))


@pages.post("/regulation/demandes/{request_id}/reprendre")
async def resume(visit: Visit) -> Response:
    """Look again for a request whose hold ran out."""
    form = (await visit.form()).only()
    document = await act_and_wait(visit.wire, "resume", _request_id(visit), [], visit.once(form))
    return await _answer(visit, orjson.loads(document))


@pages.post("/regulation/demandes/{request_id}/annuler")
async def cancel(visit: Visit) -> Response:
    """Close the request; its place goes back."""
    form = (await visit.form()).only("reason")
    return await _act(visit, "cancel", [form.text("reason", "regulator")], form)


@pages.post("/regulation/demandes/{request_id}/prendre")
async def take(visit: Visit) -> Response:
    """Hold a place of one's own choice."""
    form = (await visit.form()).only("slot_id")
    document = await visit.wire.regulating.take(_request_id(visit), slot_of(form.text("slot_id")), visit.once(form))
    return await _answer(visit, orjson.loads(document))


@pages.post("/regulation/demandes/{request_id}/assouplir")
async def relax(visit: Visit) -> Response:
    """Give something up: ask anew for what would find a place; the old request is closed once the new one stands."""
    form = (await visit.form()).only("which")
    request_id, once = _request_id(visit), visit.once(form)
    before = orjson.loads(await visit.wire.regulating.document(request_id, visit.caller.key_id))
    offered = ((before["decision"] or {}).get("none") or {}).get("would_help") or []
    helps = {str(number): one for number, one in enumerate(offered)}.get(form.text("which", "0"))
    if helps is None:
        raise NotFoundError("Cette possibilité n'est plus proposée ; voyez la demande telle qu'elle est.")
    changes = helps["ask"]
    row = visit.wire.regulating.new_request(
        {**{name: before[name] for name in _ASKED}, **changes}, visit.caller.territories
    )
    asked = await ask_and_wait(visit.wire, row, once)
    closing = once._replace(key=f"{once.key}-old"[-128:])
    await visit.wire.regulating.act("cancel", request_id, ["relaxed"], closing)
    return await _answer(visit, orjson.loads(asked.document))


@pages.post("/regulation/demandes/{request_id}/confier")
async def hand(visit: Visit) -> Response:
    """Hand the request to a colleague; it leaves this screen."""
    form = (await visit.form()).only("to")
    await visit.wire.regulating.hand(_request_id(visit), form.text("to"), visit.once(form))
    return visit.show("regulation/_handed.html", **await _listed(visit), shown=None)


async def _act(visit: Visit, action: str, arguments: Sequence[Any], form: Form) -> Response:
    document = await visit.wire.regulating.act(action, _request_id(visit), arguments, visit.once(form))
    return await _answer(visit, orjson.loads(document))


def _request_id(visit: Visit) -> str:
    return uuid_of(str(visit.request.path_params["request_id"]), "request_id")


def _booking_id(form: Form) -> str | None:
    text = form.text("booking_id")
    return uuid_of(text, "booking_id") if text else None


# -- what is shown -----------------------------------------------------------------------------------------------


async def _answer(
    visit: Visit, request: dict[str, Any], wanted: Wanted | None = None, *, replayed: bool = False
) -> Response:
    """Show a request, and the list beside it (out of band); ``replayed``: the page says that it was asked before."""
    asking = await _asking(visit, request) if request["status"] == "waiting" else None
    colleagues = await visit.wire.regulating.colleagues(visit.caller.key_id, visit.caller.territories)
    return visit.show(
        "regulation/_shown.html",
        # so that the page drops an answer that comes late
        headers={"X-Shown": f"{request['request_id']} {request['version']}"},
        request=request,
        decision={**_NO_DECISION, **(request["decision"] or {})},
        status=status_of(request, visit),
        asking=asking,
        colleagues=colleagues,
        commune=_town(visit, request),
        places=map_of(request),
        shown=request["request_id"],
        wanted=wanted,
        replayed=replayed,
        professions=professions() if wanted else {},
        by_itself=AUTO in visit.request.headers,
        **await _listed(visit),
    )


async def _asking(visit: Visit, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what was asked en sus for a request that waits; None when nobody was."""
    try:
        found: dict[str, Any] = orjson.loads(
            await visit.wire.en_sus.asking(str(request["request_id"]), visit.caller.key_id)
        )
    except NotFoundError:
        return None
    return found


def status_of(request: Mapping[str, Any], visit: Visit) -> str:
    """Return a request's status as it is now: a hold past its end has lapsed, whether or not that was swept."""
    booking = request["booking"]
    if request["status"] == "held" and booking and words.minutes_until(booking["hold_until"], visit.now) <= 0:
        return "lapsed" if request["promise"] is None else "promised"
    return str(request["status"])


def _town(visit: Visit, request: Mapping[str, Any]) -> str:
    commune = visit.wire.geography.by_code(request["insee"])
    return request["insee"] if commune is None else commune.name


def map_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the map shows: the patient's point, the place and the alternatives (none of them by video)."""
    decision = request["decision"] or {}
    offered = [decision.get("place"), *decision.get("alternatives", ())]
    if not decision.get("place") and decision.get("none"):
        offered = [help_["place"] for help_ in decision["none"].get("would_help") or ()]
    return {
        "territory": request["territory"],
        "here": [request["lat"], request["lon"]],
        "places": [
            {
                "at": [place["site"]["lat"], place["site"]["lon"]],
                "name": place["site"]["professional_name"] or place["site"]["structure_name"] or place["site"]["label"],
                "travel": round(place["travel_min"]),
                "chosen": place is decision.get("place"),
            }
            for place in offered
            if place is not None and place["mode"] != Mode.TELE
        ],
    }


async def _listed(visit: Visit) -> dict[str, Any]:
    """Return the open requests of whoever is signed in, most pressing first, each with what the list says of it."""
    found = await visit.wire.regulating.at_hand(visit.caller.key_id, visit.now - _NEWS, _LISTED + 1)
    rows = []
    for request in map(orjson.loads, found[:_LISTED]):
        status = status_of(request, visit)
        rows.append(
            {
                **request,
                "status": status,
                "commune": _town(visit, request),
                "asking": await _asking(visit, request) if status == "waiting" else None,
            }
        )
    rows.sort(key=lambda row: (OPEN.index(row["status"]), row["deadline"]))
    tomorrow = visit.now.astimezone(visit.zone).date() + timedelta(days=1)
    midnight = datetime.combine(tomorrow, time(), visit.zone)
    return {"rows": rows, "more": len(found) > _LISTED, "midnight": midnight}


# -- the offer of the next 72 hours ------------------------------------------------------------------------------


@pages.post("/regulation/offre")
async def offer(visit: Visit) -> Response:
    """Show the free places around the commune, by card and by the national platform's six buckets."""
    form = (await visit.form()).only(*FIELDS, "request_id")
    geography, territories = visit.wire.geography, visit.caller.territories
    shown = form.text("request_id") or None
    wanted = from_form(Form({name: form.several(name) for name in FIELDS}), geography, territories)
    if shown is not None:
        request = orjson.loads(await visit.wire.regulating.document(uuid_of(shown, "request_id"), visit.caller.key_id))
        wish = {name: request[name] for name in ("insee", "lat", "lon", "profession", "specialty", "modes", "needs")}
        wish["radius_km"] = request["radius_km"]
        takes = request["status"] in ("waiting", "promised", "held", "lapsed")
    else:
        asked = request_of(wanted, geography, territories)
        specialty = asked["specialty"]
        wish = {name: asked[name] for name in ("insee", "lat", "lon", "modes", "needs", "radius_km", "specialty")}
        wish["profession"] = asked["profession"] or SPECIALTIES[specialty][1]
        takes = False
    visible = [str(kind) for kind in Visibility]
    found = await visit.wire.regulating.offers({**wish, "visibility": visible}, visit.caller.key_id)
    commune = geography.by_code(wish["insee"])
    return visit.show(
        "regulation/_offers.html",
        found=found,
        buckets=[f"{low}-{high}h" for low, high in BUCKET_HOURS],
        commune=wish["insee"] if commune is None else commune.name,
        profession=words.profession(wish["profession"], wish["specialty"]),
        request_id=shown if takes else None,
        mute=await visit.wire.editors.mute(),
    )
