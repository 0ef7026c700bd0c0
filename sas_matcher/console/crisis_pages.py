"""Pilotage, crisis: where the territory stands, what a level would change, declaring it; proposals, plan, review."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from starlette.responses import Response

from sas_matcher.api.inputs.crisis import CallNowIn, DeclareIn, PlanIn, WhyIn
from sas_matcher.api.inputs.reading import parse
from sas_matcher.api.wire import uuid_of
from sas_matcher.console.site import Pages
from sas_matcher.console.steering import WHO, Steering, number_of
from sas_matcher.console.visit import Form, Visit
from sas_matcher.domain.crisis import DECLARES, NATION, REGION, Level, kind_of
from sas_matcher.domain.errors import InvalidInputError, SasError
from sas_matcher.domain.vocabulary import Scope, Tier
from sas_matcher.services.crisis.crises import Steerer
from sas_matcher.services.crisis.effects import NAMES, effects, said

pages = Pages(scopes=WHO)
_PLANNED = ("radius_pct", "urgent_reserve_pct", "tele_bonus_min", "borrow_km", "hold_seconds")
_STAGES = (Level.TENSION, Level.CRISE)


def steerer(visit: Visit) -> Steerer:
    """Return who declares, as the services know them."""
    caller = visit.caller
    return Steerer(caller.role, frozenset("*") if caller.scope is Scope.ADMIN else caller.territories)


async def standing(look: Steering) -> dict[str, Any]:
    """Return where the territory stands, with its scopes, plan and open proposal."""
    return await look.visit.wire.crises.territory(look.territory)


def _scopes(look: Steering) -> dict[str, str]:
    """Return what this person may declare a level for from here."""
    record, who = look.record, steerer(look.visit)
    found = {look.territory: f"{record.name} ({look.territory})"}
    wider = {f"{REGION}{record.region}": f"Région {record.region}", NATION: "Toute la France"}
    found |= {scope: label for scope, label in wider.items() if who.role in DECLARES[kind_of(scope)]}
    every = look.visit.wire.crises.members
    return {scope: label for scope, label in found.items() if all(map(who.sees, every(scope)))}


@pages.get("/pilotage/crise")
async def crisis(visit: Visit) -> Response:
    """Show the level, what can be declared, and all that goes with it."""
    look = Steering(visit)
    return look.show("crisis.html", **await _everything(look))


@pages.get("/pilotage/crise/etat")
async def state(visit: Visit) -> Response:
    """Show level, proposals, calls and log again."""
    look = Steering(visit)
    return look.show("_crisis.html", **await _everything(look))


async def _everything(look: Steering) -> dict[str, Any]:
    crises = look.visit.wire.crises
    log = await crises.log(None, look.territory, None, 20)
    return {
        "standing": await standing(look),
        "proposals": await crises.proposals([look.territory], "open", 5),
        "calls": (await crises.calls([look.territory], 20)),
        "log": log,
        "names": await look.names(entry["key_id"] for entry in log),
        "labels": NAMES,
        "scopes": _scopes(look),
        "may": steerer(look.visit).role in DECLARES["territory"],
        "zone": ZoneInfo(look.record.timezone),
        "effects": None,
        "said": said,
    }


@pages.post("/pilotage/crise/effets")
async def foresee(visit: Visit) -> Response:
    """Show what the chosen level would change; nothing is declared yet."""
    look = Steering(visit)
    form = (await visit.form()).only("level", "why", "drill", "scope")
    wish = _declared(form, look)
    # read first: what is shown below is of this version or of a newer one
    version = await visit.wire.crises.version(wish.scope, drill=wish.drill)
    where = await standing(look)
    setting = await visit.wire.steering.setting(look.territory)
    ladder = await visit.wire.en_sus.ladder(look.territory)
    if wish.drill:
        exercise = where["exercise"]
        where = {**where, "level": exercise["level"] if exercise else Level.NORMAL, "applied": {}, "before": {}}
    members = visit.wire.crises.checked(wish.scope, steerer(visit))
    return look.show(
        "_effects.html",
        wish=wish,
        version=version,
        was=where["level"],
        others=[code for code in members if code != look.territory],
        effects=effects(setting, ladder["steps"], where, wish.level, drill=wish.drill),
    )


@pages.post("/pilotage/crise")
async def declare(visit: Visit) -> Response:
    """Declare the level that was looked at, unless another was declared since: its effects would not be those shown."""
    look = Steering(visit)
    form = (await visit.form()).only("level", "why", "drill", "scope", "version")
    wish, seen = _declared(form, look), number_of(form.text("version"), "version")
    if not isinstance(seen, int):
        raise InvalidInputError.of("version", "regardez d'abord ce que ce niveau change")
    crises, once = visit.wire.crises, visit.once(form)
    await crises.declare(wish.scope, wish.level, wish.why, steerer(visit), once, drill=wish.drill, version=seen)
    return visit.go(look.link("/pilotage/crise"))


def _declared(form: Form, look: Steering) -> DeclareIn:
    wish = {"scope": form.text("scope", look.territory), "level": form.text("level"), "why": form.text("why")}
    found = parse(DeclareIn, orjson.dumps({**wish, "drill": form.text("drill") == "1"}))
    if found.scope not in _scopes(look):
        raise InvalidInputError.of("scope", "ce périmètre n'est pas le vôtre")
    return found


@pages.post("/pilotage/crise/proposition")
async def answer(visit: Visit) -> Response:
    """Accept or refuse what detection proposes."""
    look = Steering(visit)
    form = (await visit.form()).only("proposal", "answer", "why")
    proposal, why = uuid_of(form.text("proposal"), "proposal"), _why(form)
    crises, once = visit.wire.crises, visit.once(form)
    if form.text("answer") == "accept":
        await crises.accept(proposal, why, steerer(visit), once)
    else:
        await crises.refuse(proposal, why, steerer(visit), once)
    return visit.go(look.link("/pilotage/crise"))


def _why(form: Form) -> str:
    return parse(WhyIn, orjson.dumps({"why": form.text("why")})).why


@pages.post("/pilotage/crise/appel")
async def call(visit: Visit) -> Response:
    """Call the practices that have consented to it."""
    look = Steering(visit)
    form = (await visit.form()).only("text", "hours", "drill")
    hours = form.text("hours")
    wish = parse(
        CallNowIn,
        orjson.dumps(
            {"text": form.text("text"), "hours": number_of(hours, "hours"), "drill": form.text("drill") == "1"}
        ),
    )
    once = visit.once(form)
    await visit.wire.crises.call(look.territory, wish.text, wish.hours, steerer(visit), once, drill=wish.drill)
    return visit.go(look.link("/pilotage/crise"))


# -- the plan


@pages.get("/pilotage/crise/plan")
async def plan(visit: Visit) -> Response:
    """Show the prepared plan, to be changed."""
    return await _plan(Steering(visit))


async def _plan(look: Steering, status: int = 200, error: SasError | None = None, form: Form | None = None) -> Response:
    crises = look.visit.wire.crises
    found, changes = await crises.plan(look.territory), await crises.plan_changes(look.territory, None, 20)
    return look.show(
        "plan.html",
        status,
        plan=found,
        fields=(form.text if form is not None else _fields(found["plan"] or {}).get),
        changes=changes,
        names=await look.names(change["key_id"] for change in changes),
        error=error,
        stages=_STAGES,
        tiers=tuple(map(str, Tier)),
        numbers=_PLANNED,
        zone=ZoneInfo(look.record.timezone),
    )


@pages.post("/pilotage/crise/plan")
async def change_plan(visit: Visit) -> Response:
    """Write the plan; in force from the next change of level on."""
    look = Steering(visit)
    names = [f"{stage}.{name}" for stage in _STAGES for name in (*_PLANNED, "borrow", "call", "call_hours", "text")]
    names += [f"{stage}.policy.{tier}" for stage in _STAGES for tier in Tier]
    form = (await visit.form()).only("contacts", "lends", "text", "why", "version", *names)
    try:
        crises = visit.wire.crises
        crises.checked(look.territory, steerer(visit))
        known = await crises.plan(look.territory)
        wish = parse(PlanIn, orjson.dumps(_written(form, known["plan"] or {})))
        await crises.change_plan(look.territory, wish.plan.rows(), wish.why, wish.version, visit.once(form))
    except SasError as error:
        return await _plan(look, error.status, error, form)
    return visit.go(look.link("/pilotage/crise/plan"))


def _lines(text: str) -> list[list[str]]:
    return [[part.strip() for part in line.split(";")] for line in text.splitlines() if line.strip()]


def _written(form: Form, known: dict[str, Any]) -> dict[str, Any]:
    """Return the form as the API takes a plan; ladders, which the form does not show, stay as they are."""
    plan: dict[str, Any] = {}
    for stage in _STAGES:
        settings: dict[str, Any] = {}
        for name in _PLANNED:
            value = number_of(form.text(f"{stage}.{name}"), f"{stage}.{name}")
            if value is not None:
                settings[name] = value
        policy = {str(tier): text for tier in Tier if (text := form.text(f"{stage}.policy.{tier}"))}
        measures: dict[str, Any] = {"settings": settings | ({"policy": policy} if policy else {})}
        measures["borrow"] = form.text(f"{stage}.borrow") == "1"
        if ladder := (known.get(stage) or {}).get("ladder"):
            measures["ladder"] = ladder
        if text := form.text(f"{stage}.call"):
            hours = number_of(form.text(f"{stage}.call_hours"), f"{stage}.call_hours")
            measures["call"] = {"text": text} | ({} if hours is None else {"hours": hours})
        if text := form.text(f"{stage}.text"):
            measures["text"] = text
        plan[str(stage)] = measures
    plan["contacts"] = [_contact(line) for line in _lines(form.text("contacts"))]
    plan["lends"] = [_lent(line) for line in _lines(form.text("lends"))]
    if text := form.text("text"):
        plan["text"] = text
    version = number_of(form.text("version"), "version")
    return {"plan": plan, "why": form.text("why"), "version": version}


def _contact(parts: Sequence[str]) -> dict[str, str]:
    if not 2 <= len(parts) <= 4:
        raise InvalidInputError.of("contacts", "une ligne par contact : nom ; rôle ; téléphone ; boîte aux lettres")
    return {name: part for name, part in zip(("name", "role", "phone", "mailbox"), parts, strict=False) if part}


def _lent(parts: Sequence[str]) -> dict[str, Any]:
    if len(parts) != 2:
        raise InvalidInputError.of("lends", "une ligne par voisin : département ; part en %")
    return {"to": parts[0], "pct": number_of(parts[1].removesuffix("%").strip(), "lends")}


def _fields(plan: dict[str, Any]) -> dict[str, str]:
    """Return a plan as the form shows it."""
    found: dict[str, str] = {"text": plan.get("text") or ""}
    for stage in _STAGES:
        measures = plan.get(stage) or {}
        settings = dict(measures.get("settings") or {})
        for tier, policy in (settings.pop("policy", None) or {}).items():
            found[f"{stage}.policy.{tier}"] = policy
        found |= {f"{stage}.{name}": said(value) for name, value in settings.items()}
        found[f"{stage}.borrow"] = "1" if measures.get("borrow") else ""
        call = measures.get("call") or {}
        found[f"{stage}.call"], found[f"{stage}.call_hours"] = call.get("text", ""), str(call.get("hours", ""))
        found[f"{stage}.text"] = measures.get("text") or ""
    contacts = [[c.get(name) or "" for name in ("name", "role", "phone", "mailbox")] for c in plan.get("contacts", ())]
    found["contacts"] = "\n".join(" ; ".join(parts).rstrip(" ;") for parts in contacts)
    found["lends"] = "\n".join(f"{lent['to']} ; {lent['pct']}" for lent in plan.get("lends", ()))
    return found


# -- the review


@pages.get("/pilotage/crise/bilan")
async def review(visit: Visit) -> Response:
    """Show what happened in the last crisis or drill, to be printed."""
    look = Steering(visit, "exercice")
    drill = visit.request.query_params.get("exercice") == "1"
    services = visit.wire
    log = [e for e in await services.crises.log(None, look.territory, None, 1) if e["drill"] == drill]
    since = None if log else visit.now - timedelta(days=look.days)
    found = await services.reviews.review(look.territory, [look.territory], since, None, drill=drill)
    names = await look.names(entry["key_id"] for entry in found["decided"])
    return look.show("review.html", names=names, review=found, zone=ZoneInfo(look.record.timezone), drill=drill)
