"""What a practice consents to: how many patients at the most, and being asked for more of them (en sus)."""

from datetime import timedelta
from typing import Any, Final

import orjson
from starlette.responses import Response

from sas_matcher.api.inputs.asking import OverflowIn
from sas_matcher.api.inputs.consent import ShareRuleIn
from sas_matcher.api.inputs.reading import parse
from sas_matcher.api.inputs.schemas import LimitIn
from sas_matcher.api.wire import name_of
from sas_matcher.console.cabinet.agenda_forms import number_in, told
from sas_matcher.console.cabinet.board import place_of
from sas_matcher.console.cabinet.here import Here, here_of, pages
from sas_matcher.console.visit import Form, Visit
from sas_matcher.domain.agenda import SHOWN
from sas_matcher.domain.errors import InvalidInputError, NotFoundError

_SEEN_DAYS: Final = timedelta(days=7)
_SEEN: Final = 300  # lines of the trace that a page shows


@pages.get("/cabinet/accords")
async def consents(visit: Visit) -> Response:
    """Show limits and consents of who is chosen."""
    return await _shown(await here_of(visit), "consents.html")


async def _shown(here: Here, template: str = "_consents.html", message: str = "") -> Response:
    wire, publisher = here.visit.wire, here.publisher
    return here.show(
        template,
        limits=await wire.limiting.all(publisher),
        overflow=await wire.en_sus.all(publisher),
        rules=await wire.consenting.all(publisher),
        sites=sorted(await _sites(here)),
        message=message,
        now=here.visit.now,
    )


async def _sites(here: Here) -> dict[str, dict[str, Any]]:
    """Return where one may be asked, by name: the agendas' places; without any, the one that was published last."""
    fields = ("professional", "structure", "source_kind", "location", "profession", "specialty", "offers")
    found = {agenda["name"]: {name: agenda[name] for name in fields} for agenda in here.agendas}
    if found:
        return found
    now = here.visit.now
    for row in await here.visit.wire.publishing.published(here.publisher, (now, now + SHOWN), 0, 1):
        place = place_of(row)
        one = place.record
        where = {name: one[name] for name in ("lat", "lon", "insee", "label", "phone")}
        same = {name: one[name] for name in ("source_kind", "profession", "specialty", "offers")}
        found["dernier lieu publié"] = {**place.owners, **same, "location": where}
    return found


async def _answer(here: Here, message: str) -> Response:
    return await _shown(here, message=message) if here.visit.is_part else here.go("/cabinet/accords")


def _members(form: Form) -> dict[str, list[str]]:
    who = [one.partition(":") for one in form.several("who")]
    return {
        "professionals": [code for kind, _, code in who if kind == "p"],
        "structures": [code for kind, _, code in who if kind == "s"],
    }


def _territory(here: Here) -> str | None:
    """Return whose clock counts: that of the first agenda."""
    if not here.agendas:
        return None
    commune = here.visit.wire.geography.by_code(here.agendas[0]["location"]["insee"])
    return None if commune is None else commune.territory


@pages.post("/cabinet/partage")
async def put_rule(visit: Visit) -> Response:
    """Say which places leave, for whom and when; in force when the page answers."""
    form = (await visit.form()).only("name", "who", "from", "to", "days", "channels", "own_first_min")
    here = await here_of(visit)
    wish = {
        **_members(form),
        "from": form.text("from"),
        # no clock shows 24 h: the end of the day is its last minute, or nothing at all
        "to": form.text("to", "24:00"),
        "days": [int(day) for day in form.several("days") if day in "1234567"],
        "channels": form.several("channels"),
        "own_first_min": number_in(form, "own_first_min"),
        "territory": _territory(here),
    }
    try:
        asked = parse(ShareRuleIn, orjson.dumps(wish)).model_dump(by_alias=True)
        await visit.wire.consenting.put(visit.caller.publisher, name_of(form.text("name"), "nom"), asked)
    except InvalidInputError as wrong:
        raise told(wrong) from wrong
    return await _answer(here, "Règle en vigueur : ce qui est réservé ou promis reste.")


@pages.post("/cabinet/partage/retirer")
async def remove_rule(visit: Visit) -> Response:
    """Take a rule back."""
    form = (await visit.form()).only("name")
    await visit.wire.consenting.remove(visit.caller.publisher, name_of(form.text("name")))
    return await _answer(await here_of(visit), "Règle ôtée.")


@pages.get("/cabinet/accords/vu")
async def exposures(visit: Visit) -> Response:
    """Show who was shown, proposed, asked or given what of these places, newest first."""
    here = await here_of(visit)
    window = (visit.now - _SEEN_DAYS, visit.now + timedelta(seconds=1))
    found = await visit.wire.consenting.exposures(here.publisher, window, _SEEN)
    return here.show("exposures.html", exposures=found, days=_SEEN_DAYS.days, most=_SEEN)


@pages.post("/cabinet/limites")
async def put_limit(visit: Visit) -> Response:
    """Set or change a limit; in force when the page answers."""
    form = (await visit.form()).only("name", "who", "counts", "period", "most", "share")
    here = await here_of(visit)
    wish = {
        **_members(form),
        "counts": form.text("counts", "patients"),
        "period": form.text("period", "day"),
        "most": number_in(form, "most"),
        "share": number_in(form, "share"),
        "territory": _territory(here),
    }
    try:
        asked = parse(LimitIn, orjson.dumps(wish)).model_dump()
        await visit.wire.limiting.put(visit.caller.publisher, name_of(form.text("name"), "nom"), asked)
    except InvalidInputError as wrong:
        raise told(wrong) from wrong
    return await _answer(here, "Limite en vigueur : ce qui est déjà réservé reste.")


@pages.post("/cabinet/limites/retirer")
async def remove_limit(visit: Visit) -> Response:
    """Take a limit back."""
    form = (await visit.form()).only("name")
    await visit.wire.limiting.remove(visit.caller.publisher, name_of(form.text("name")))
    return await _answer(await here_of(visit), "Limite ôtée : les places qu'elle fermait sont de nouveau libres.")


@pages.post("/cabinet/accords")
async def put_consent(visit: Visit) -> Response:
    """Consent to be asked for patients beyond one's places, or change how."""
    names = ("name", "site", "ask_from", "ask_to", "days", "most_a_day", "minutes", "modes", "cpts")
    form = (await visit.form()).only(*names)
    here = await here_of(visit)
    site = (await _sites(here)).get(form.text("site"))
    if site is None:
        raise NotFoundError("Choisissez le lieu dans la liste ; s'il n'y en a pas, ouvrez d'abord un agenda.")
    wish = {
        **site,
        "modes": form.several("modes"),
        "cpts": form.text("cpts") or None,
        "ask_from": form.text("ask_from"),
        "ask_to": form.text("ask_to"),
        "days": [int(day) for day in form.several("days") if day in "1234567"],
        "most_a_day": number_in(form, "most_a_day"),
        "minutes": number_in(form, "minutes"),
    }
    try:
        asked = parse(OverflowIn, orjson.dumps(wish)).model_dump()
        await visit.wire.en_sus.put(visit.caller.publisher, name_of(form.text("name"), "nom"), asked)
    except InvalidInputError as wrong:
        raise told(wrong) from wrong
    return await _answer(here, "Accord en vigueur : les questions viennent sur la page du jour.")


@pages.post("/cabinet/accords/retirer")
async def remove_consent(visit: Visit) -> Response:
    """Take a consent back: no further question comes."""
    form = (await visit.form()).only("name")
    await visit.wire.en_sus.remove(visit.caller.publisher, name_of(form.text("name")))
    return await _answer(await here_of(visit), "Accord retiré : plus aucune question.")
