"""Pilotage, settings: what the territory sets, tier by tier; the ladder en sus; who changed what and why; screens."""

from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson
from starlette.responses import Response

from sas_matcher.api.inputs.reading import parse
from sas_matcher.api.inputs.settings import SettingIn
from sas_matcher.api.routes.asking import read_ladder
from sas_matcher.api.routes.territory import MAY_ALLOW_A_CRISIS
from sas_matcher.console.site import Pages
from sas_matcher.console.steering import WHO, Steering, number_of
from sas_matcher.console.visit import Form, Visit
from sas_matcher.console.words import FIELD_LABELS
from sas_matcher.domain.errors import NotAllowedError, SasError
from sas_matcher.domain.vocabulary import Tier
from sas_matcher.ports.ledger import SettingChange
from sas_matcher.services.crisis.effects import NAMES, said

pages = Pages(scopes=WHO)
_NUMBERS: Final[dict[str, str]] = {
    "hold_seconds": "Durée d'une place gardée pendant l'appel (s)",
    "mt_ask_min": "Temps laissé au médecin traitant avant les autres (min)",
    "ageing_pct_per_h": "Priorité gagnée par heure d'attente (%)",
    "fair_load_min": "Minutes par patient déjà reçu (équité de charge)",
    "radius_pct": "Rayon accordé (% du rayon demandé)",
    "urgent_reserve_pct": "Places gardées pour T0 et T1 (%)",
    "tele_bonus_min": "Préférence pour la téléconsultation (min)",
    "borrow_km": "Portée des emprunts aux voisins (km)",
}
_LABELS: Final = {
    **NAMES,
    **_NUMBERS,
    "mt_rule": "Médecin traitant",
    "crisis_allowed": "Crise permise",
    "policy": "Politique",
}
_RUNGS: Final = 8
_RUNG: Final = ("kind", "name", "radius_km", "cpts", "waves", "at_once", "wait_min")


@pages.get("/pilotage/reglages")
async def settings(visit: Visit) -> Response:
    """Show what the territory sets, its ladder, its screens, and who changed what."""
    return await _shown(Steering(visit))


async def _shown(look: Steering, status: int = 200, error: SasError | None = None) -> Response:
    services = look.visit.wire
    ladder = await services.en_sus.ladder(look.territory)
    changes = await services.steering.changes(look.territory, None, 50)
    ladder_changes = await services.en_sus.ladder_changes(look.territory, None, 20)
    return look.show(
        "settings.html",
        status,
        setting=await services.steering.setting(look.territory),
        ladder=ladder,
        rungs=[*map(_fields, ladder["steps"]), *({} for _ in range(_RUNGS - len(ladder["steps"])))],
        changes=[{**change, "moved": _moved(change)} for change in changes],
        ladder_changes=ladder_changes,
        names=await look.names(change["key_id"] for change in (*changes, *ladder_changes)),
        screens=await services.screens.all(look.territory),
        may_allow=look.visit.caller.role in MAY_ALLOW_A_CRISIS,
        numbers=_NUMBERS,
        tiers=tuple(map(str, Tier)),
        error=error,
        said=said,
        zone=ZoneInfo(look.record.timezone),
    )


def _moved(change: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return what a change changed: name, before, after."""
    before, after = change["before"], change["after"]
    names = [name for name in after if before.get(name) != after[name] and name not in ("version", "changed_at")]
    found = []
    for name in names:
        if name == "policy":
            tiers = [tier for tier in after[name] if before[name][tier] != after[name][tier]]
            found += [(f"Politique {tier}", before[name][tier], after[name][tier]) for tier in tiers]
        else:
            found.append((_LABELS.get(name, name), said(before.get(name)), said(after[name])))
    return found


@pages.post("/pilotage/reglages")
async def change(visit: Visit) -> Response:
    """Change what differs from what stands; in force within three seconds."""
    look = Steering(visit)
    policies = [f"policy.{tier}" for tier in Tier]
    form = (await visit.form()).only(
        "why", "version", "mt_rule", "crisis_allowed", "crisis_shown", *_NUMBERS, *policies
    )
    try:
        wanted = parse(SettingIn, orjson.dumps(_wanted(form, await visit.wire.steering.setting(look.territory))))
        if wanted.crisis_allowed is not None and visit.caller.role not in MAY_ALLOW_A_CRISIS:
            raise NotAllowedError("Seules l'ARS, la préfecture et l'administration permettent ou interdisent la crise.")
        change = SettingChange(look.territory, wanted.changes(), wanted.why, wanted.version)
        await visit.wire.steering.change(change, visit.once(form))
    except SasError as error:
        return await _shown(look, error.status, error)
    return visit.go(look.link("/pilotage/reglages"))


def _wanted(form: Form, setting: dict[str, Any]) -> dict[str, Any]:
    """Return what the form changes, as the API takes it."""
    found: dict[str, Any] = {"why": form.text("why"), "version": number_of(form.text("version"), "version")}
    for name in _NUMBERS:
        value = number_of(form.text(name), name)
        if value is not None and value != setting[name]:
            found[name] = value
    if (rule := form.text("mt_rule")) and rule != setting["mt_rule"]:
        found["mt_rule"] = rule
    policy = {str(t): p for t in Tier if (p := form.text(f"policy.{t}")) and p != setting["policy"][t]}
    if policy:
        found["policy"] = policy
    allowed = form.text("crisis_allowed") == "1"
    if form.text("crisis_shown") and allowed != setting["crisis_allowed"]:
        found["crisis_allowed"] = allowed
    return found


@pages.post("/pilotage/reglages/echelle")
async def change_ladder(visit: Visit) -> Response:
    """Replace the ladder."""
    look = Steering(visit)
    names = [f"{name}.{number}" for name in _RUNG for number in range(20)]
    form = (await visit.form()).only("why", "version", *names)
    try:
        known = (await visit.wire.en_sus.ladder(look.territory))["steps"]
        steps = [step for number in range(20) if (step := _step(form, number, known)) is not None]
        wish = {"steps": steps, "why": form.text("why"), "version": number_of(form.text("version"), "version")}
        read = read_ladder(orjson.dumps(wish))
        await visit.wire.en_sus.change_ladder(look.territory, read.rows(), read.why, read.version, visit.once(form))
    except SasError as error:
        return await _shown(look, error.status, error)
    return visit.go(look.link("/pilotage/reglages"))


def _step(form: Form, number: int, known: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return a rung as the API takes it; what the form does not show stays as it is on a rung of the same name."""
    kind, name = form.text(f"kind.{number}"), form.text(f"name.{number}")
    if not kind:
        return None

    def value(field: str) -> float | int | None:
        return number_of(form.text(f"{field}.{number}"), f"{FIELD_LABELS[field]}, marche {number + 1}")

    kept = next(
        (s for s in known if s["name"] == name and s["kind"] == ("ask" if kind in ("ask", "mt") else "tell")), {}
    )
    if kind in ("ask", "mt"):
        step = {"kind": "ask", "only_mt": kind == "mt", "radius_km": value("radius_km")}
        step |= {field: value(field) for field in ("waves", "at_once")}
        step["cpts"] = form.text(f"cpts.{number}").replace(",", " ").split()
    else:
        step = {"kind": "tell", "what": kind}
    if (wait := value("wait_min")) is not None:
        step["wait_min"] = wait
    return {**kept, **step, "name": name}


def _fields(step: dict[str, Any]) -> dict[str, str]:
    kind = ("mt" if step.get("only_mt") else "ask") if step["kind"] == "ask" else step["what"]
    plain = {name: "" if step.get(name) is None else said(step[name]) for name in _RUNG if name not in ("kind", "cpts")}
    return {**plain, "kind": kind, "cpts": " ".join(step.get("cpts") or ())}
