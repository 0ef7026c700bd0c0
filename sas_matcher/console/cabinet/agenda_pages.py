"""Agendas: the week said once, closures, what one follows, tables of places, how patients are accepted."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from starlette.responses import Response

from sas_matcher.api.wire import name_of
from sas_matcher.console.cabinet.agenda_forms import (
    DAY_CODES,
    commune_in,
    hours_in,
    hours_in_french,
    new_agenda,
    number_in,
    rule_in_french,
    told,
    wish_of,
)
from sas_matcher.console.cabinet.board import place_of
from sas_matcher.console.cabinet.here import Here, here_of, pages
from sas_matcher.console.visit import Form, Visit
from sas_matcher.domain.agenda import SHOWN
from sas_matcher.domain.errors import InvalidInputError, NotFoundError
from sas_matcher.domain.vocabulary import PROFESSION_LABELS

_COMMUNES: Final = 10
_SAMPLE: Final = 12  # slots that a preview shows

Change = Callable[[dict[str, Any]], dict[str, Any]]


@pages.get("/cabinet/agendas")
async def agendas(visit: Visit) -> Response:
    """List the agendas of who is chosen, and let one open another."""
    return await _listed(await here_of(visit))


async def _listed(here: Here, status: int = 200, error: InvalidInputError | None = None) -> Response:
    form = await here.visit.form() if error is not None else Form(await _known_place(here))
    return here.show(
        "agendas.html",
        status,
        error=error,
        form=form,
        professions=PROFESSION_LABELS,
        hours_in_french=hours_in_french,
        rule_in_french=rule_in_french,
    )


async def _known_place(here: Here) -> dict[str, list[str]]:
    """Return what the form of a new agenda begins with: the place that was published last, whoever sent it."""
    rows = await here.visit.wire.publishing.published(here.publisher, (here.visit.now, here.visit.now + SHOWN), 0, 1)
    if not rows:
        return {"name": ["cabinet"]}
    record = place_of(rows[0]).record
    commune = here.visit.wire.geography.by_code(record["insee"])
    found = {
        "name": "cabinet",
        "who_name": record["structure_name"] if here.chosen.startswith("s:") else record["professional_name"],
        "source_kind": record["source_kind"],
        "profession": record["profession"],
        "commune": commune and f"{commune.code} {commune.name}",
        "lat": record["lat"],
        "lon": record["lon"],
        "label": record["label"],
        "phone": record["phone"],
    }
    return {name: [str(value)] for name, value in found.items() if value}


@pages.get("/cabinet/communes")
async def communes(visit: Visit) -> Response:
    """Complete the name of a commune."""
    text = visit.request.query_params.get("commune", "")[:80]
    found = visit.wire.geography.search(text, _COMMUNES) if text.strip() else ()
    return visit.show("cabinet/_communes.html", communes=found)


@pages.post("/cabinet/agendas")
async def create(visit: Visit) -> Response:
    """Open an agenda."""
    names = ("name", "who", "who_name", "rpps", "rpps_name", "source_kind", "profession", "commune", "label", "phone")
    form = (await visit.form()).only(*names, "lat", "lon", "offers", "visibility")
    here = await here_of(visit)
    geography = visit.wire.geography
    try:
        name = name_of(form.text("name"), "nom")
        if any(agenda["name"] == name for agenda in await visit.wire.agendas.all(visit.caller.publisher)):
            raise InvalidInputError.of("nom", "un de vos agendas s'appelle déjà ainsi")
        wish = new_agenda(form, commune_in(form.text("commune"), geography.by_code, geography.search))
        try:
            await visit.wire.agendas.put(visit.caller.publisher, visit.caller.key_id, name, {**wish, "version": 0})
        except InvalidInputError as wrong:
            raise told(wrong) from wrong
    except InvalidInputError as wrong:
        return await _listed(here, wrong.status, wrong)
    return here.go(f"/cabinet/agendas/{name}")


# -- one agenda --------------------------------------------------------------------------------------------------------


@pages.get("/cabinet/agendas/{name}")
async def agenda(visit: Visit) -> Response:
    """Show an agenda and all that may be changed of it."""
    here, document = await _found(visit)
    return _shown(here, document, "agenda.html")


async def _found(visit: Visit) -> tuple[Here, dict[str, Any]]:
    here = await here_of(visit)
    name = name_of(visit.request.path_params["name"])
    document = await visit.wire.agendas.one(here.publisher, name)
    return here, document


def _shown(here: Here, document: dict[str, Any], template: str = "_agenda.html", message: str = "") -> Response:
    return here.show(
        template,
        agenda=document,
        message=message,
        day_codes=DAY_CODES,
        hours_in_french=hours_in_french,
        rule_in_french=rule_in_french,
        today=here.visit.now.astimezone(here.zone).date(),
    )


async def _change(visit: Visit, form: Form, change: Change, message: str) -> Response:
    """Change an agenda as it was read; the answer is its part of the page."""
    here, document = await _found(visit)
    wish = wish_of(document, **change(document), version=number_in(form, "version"))
    caller = visit.caller
    try:
        done = await visit.wire.agendas.put(caller.publisher, caller.key_id, document["name"], wish)
    except InvalidInputError as wrong:
        raise told(wrong) from wrong
    if not visit.is_part:
        return here.go(f"/cabinet/agendas/{document['name']}")
    return _shown(here, done, message=f"{message} {_report(done['report'])}")


def _report(report: dict[str, int]) -> str:
    words = {
        "created": "{} place(s) de plus",
        "updated": "{} changée(s)",
        "closed": "{} retirée(s)",
        "refused": "{} patient(s) replacé(s)",
        "kept": "{} patient(s) gardé(s)",
    }
    parts = [text.format(report[name]) for name, text in words.items() if report.get(name)]
    return f"Sept jours publiés : {', '.join(parts)}." if parts else "Rien de publié n'a changé."


@pages.post("/cabinet/agendas/{name}/plages")
async def add_hours(visit: Visit) -> Response:
    """Add a range, once or recurring."""
    names = ("version", "day", "every", "first", "start", "end", "kind", "each_min", "capacity", "piece_min", "mode")
    form = (await visit.form()).only(*names, "visibility")

    def change(document: dict[str, Any]) -> dict[str, Any]:
        today = visit.now.date()
        return {"hours": [*document["hours"], hours_in(form, [one["id"] for one in document["hours"]], today)]}

    return await _change(visit, form, change, "Plage ajoutée.")


@pages.post("/cabinet/agendas/{name}/plages/retirer")
async def remove_hours(visit: Visit) -> Response:
    """Take a range out of an agenda: its free places go, who has one keeps it."""
    form = (await visit.form()).only("version", "id")
    return await _change(visit, form, lambda known: {"hours": _without(known["hours"], form)}, "Plage retirée.")


def _without(hours: list[dict[str, Any]], form: Form) -> list[dict[str, Any]]:
    left = [one for one in hours if one["id"] != form.text("id")]
    if len(left) == len(hours):
        raise NotFoundError("Cette plage n'est plus dans l'agenda.")
    return left


@pages.post("/cabinet/agendas/{name}/fermetures")
async def add_closure(visit: Visit) -> Response:
    """Add a closure."""
    form = (await visit.form()).only("version", "from", "to", "booked")
    closure = {"from": form.text("from"), "to": form.text("to"), "booked": form.text("booked", "refuse")}
    return await _change(visit, form, lambda known: {"closures": [*known["closures"], closure]}, "Fermeture ajoutée.")


@pages.post("/cabinet/agendas/{name}/fermetures/retirer")
async def remove_closure(visit: Visit) -> Response:
    """Take a closure back."""
    form = (await visit.form()).only("version", "from", "to")

    def change(document: dict[str, Any]) -> dict[str, Any]:
        named = (form.text("from"), form.text("to"))
        return {"closures": [one for one in document["closures"] if (one["from"], one["to"]) != named]}

    return await _change(visit, form, change, "Fermeture ôtée.")


@pages.post("/cabinet/agendas/{name}/calendrier")
async def follow(visit: Visit) -> Response:
    """Follow a calendar, or no longer."""
    form = (await visit.form()).only("version", "url", "each_min")
    url = form.text("url")
    feed: dict[str, Any] | None = (
        {"kind": "ics", "url": url, "each_min": number_in(form, "each_min"), "schedules": []} if url else None
    )
    message = "Calendrier suivi : il est relu toutes les dix minutes." if url else "Calendrier ôté."
    return await _change(visit, form, lambda _: {"feed": feed}, message)


@pages.post("/cabinet/agendas/{name}/reglages")
async def settle(visit: Visit) -> Response:
    """Say who may see the places, what they offer, how patients are accepted, when what is unused comes back."""
    form = (await visit.form()).only(
        "version", "visibility", "offers", "info", "acceptance", "accept_min", "hand_back_min"
    )
    acceptance = form.text("acceptance") or None
    changes = {
        "visibility": form.text("visibility"),
        "offers": form.several("offers"),
        "info": form.text("info") or None,
        "acceptance": acceptance,
        "accept_min": number_in(form, "accept_min") if acceptance else None,
        "hand_back_min": number_in(form, "hand_back_min"),
    }
    return await _change(visit, form, lambda _: changes, "Réglages enregistrés.")


@pages.post("/cabinet/agendas/{name}/ajouts/retirer")
async def remove_quick(visit: Visit) -> Response:
    """Take quick places back."""
    form = (await visit.form()).only("id")
    here, document = await _found(visit)
    caller = visit.caller
    done = await visit.wire.agendas.remove_places(
        caller.publisher, caller.key_id, document["name"], form.text("id")[:40]
    )
    return _shown(here, done, message="Ajout retiré.") if visit.is_part else here.go("/cabinet/agendas")


@pages.post("/cabinet/agendas/{name}/supprimer")
async def remove(visit: Visit) -> Response:
    """Take an agenda back: its free places go, who has one keeps it."""
    (await visit.form()).only()
    here, document = await _found(visit)
    await visit.wire.agendas.remove(visit.caller.publisher, visit.caller.key_id, document["name"])
    return here.go("/cabinet/agendas")


@pages.post("/cabinet/agendas/{name}/csv")
async def take_table(visit: Visit) -> Response:
    """Say what a table of places would do, with what is wrong line by line; or take it, all of it or nothing."""
    here, document = await _found(visit)
    wire, caller = visit.wire, visit.caller
    preview = visit.request.query_params.get("apercu", "1") != "0"
    async with wire.bulk.turn():
        # ten thousand lines take a third of a second: others are served meanwhile
        read = await asyncio.to_thread(wire.read_csv, await visit.request.body())
        whose = (caller.publisher, caller.key_id, document["name"])
        done = await wire.agendas.take_in(*whose, "csv", read, preview=preview)
    if preview:
        return here.show("_csv.html", preview=done, slots=done["slots"][:_SAMPLE], count=len(done["slots"]))
    return here.go(f"/cabinet/agendas/{document['name']}")
