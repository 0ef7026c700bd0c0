"""Notifications: who is told of what and how, a test, and whether what was told arrived."""

from typing import Any, Final

import orjson
from starlette.responses import Response

from sas_matcher.api.inputs.reading import parse
from sas_matcher.api.inputs.schemas import SubscriptionIn
from sas_matcher.api.wire import name_of
from sas_matcher.console.cabinet.agenda_forms import number_in, told
from sas_matcher.console.cabinet.here import Here, here_of, pages
from sas_matcher.console.visit import Visit
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.domain.notices import SENTENCES, NoticeKind

_SHOWN: Final = 30  # deliveries that a page lists


@pages.get("/cabinet/notifications")
async def notifications(visit: Visit) -> Response:
    """Show subscriptions, and what was told last."""
    return await _shown(await here_of(visit), "notices.html")


async def _shown(here: Here, template: str = "_notices.html", message: str = "", secret: str = "") -> Response:
    notices, publisher = here.visit.wire.notices, here.visit.caller.publisher
    deliveries = await notices.deliveries(publisher, None, None, None, _SHOWN)
    return here.show(
        template,
        subscriptions=await notices.all(publisher),
        deliveries=[orjson.loads(one) for one in deliveries],
        kinds={str(kind): SENTENCES[kind] for kind in NoticeKind},
        sentences=SENTENCES,
        message=message,
        secret=secret,
        now=here.visit.now,
    )


async def _answer(here: Here, message: str, done: dict[str, Any] | None = None) -> Response:
    if not here.visit.is_part:
        return here.go("/cabinet/notifications")
    return await _shown(here, message=message, secret=(done or {}).get("secret", ""))


@pages.post("/cabinet/notifications")
async def put(visit: Visit) -> Response:
    """Set or change a subscription."""
    form = (await visit.form()).only("name", "way", "address", "kinds", "who", "most_reminders")
    who = [one.partition(":") for one in form.several("who")]
    wish = {
        "way": form.text("way"),
        "address": form.text("address") or None,
        "kinds": form.several("kinds"),
        "professionals": [code for kind, _, code in who if kind == "p"],
        "structures": [code for kind, _, code in who if kind == "s"],
        "most_reminders": number_in(form, "most_reminders"),
    }
    try:
        asked = parse(SubscriptionIn, orjson.dumps(wish)).model_dump()
        name = name_of(form.text("name"), "nom")
        done = await visit.wire.notices.put(visit.caller.publisher, visit.caller.key_id, name, asked)
    except InvalidInputError as wrong:
        raise told(wrong) from wrong
    return await _answer(await here_of(visit), "Abonnement en vigueur.", done)


@pages.post("/cabinet/notifications/retirer")
async def remove(visit: Visit) -> Response:
    """Drop a subscription."""
    form = (await visit.form()).only("name")
    await visit.wire.notices.remove(visit.caller.publisher, name_of(form.text("name")))
    return await _answer(await here_of(visit), "Abonnement retiré.")


@pages.post("/cabinet/notifications/essai")
async def test(visit: Visit) -> Response:
    """Send a test."""
    form = (await visit.form()).only("name")
    await visit.wire.notices.test(visit.caller.publisher, name_of(form.text("name")))
    return await _answer(await here_of(visit), "Essai envoyé : la liste ci-dessous dit s'il arrive.")


@pages.post("/cabinet/notifications/secret")
async def rotate(visit: Visit) -> Response:
    """Change the secret of a webhook."""
    form = (await visit.form()).only("name")
    done = await visit.wire.notices.rotate(visit.caller.publisher, name_of(form.text("name")))
    return await _answer(await here_of(visit), "Secret changé ; l'ancien vaut encore 24 heures.", done)
