"""Every page of the service, by day, by night, on a phone and enlarged: for everybody, and by keyboard alone.

A route that serves a page and is not among ``VISITS`` fails the first test: a new page cannot be forgotten.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from unittest.mock import patch
from uuid import uuid4

import httpx
import pytest
from playwright.async_api import Page

from sas_matcher.console.site import PageRoute
from sas_matcher.console.visit import COOKIE, csrf_of
from tests.api.running import NO_TLS, rpps
from tests.browser.desk import NARROW, WIDE, Browsing, Person, unreached, violations
from tests.browser.test_cabinet import Practice
from tests.browser.test_pilotage import PLAN, some_day
from tests.browser.week import recorded_days

Screen = tuple[Any, Any]
TERRITORY: Final = "38"
ENLARGED: Final[Any] = {"width": 683, "height": 384}
"""What is left of a screen of 1366 px at a zoom of 200 %."""
A4: Final = {"width": 703, "height": 1030}
"""A sheet without its margins of 12 mm, at 96 dots an inch."""
DAY: Final[Screen] = ("light", WIDE)
NIGHT_ON_A_PHONE: Final[Screen] = ("dark", NARROW)
ALL_SCREENS: Final[Sequence[Screen]] = tuple(
    (scheme, s) for scheme in ("light", "dark") for s in (WIDE, NARROW, ENLARGED)
)


class At(NamedTuple):
    """Whose page it is, and its address; ``{name}`` stands for what the scene knows."""

    who: str
    address: str


VISITS: Final[dict[str, At]] = {
    "/regulation": At("osnp", "/regulation"),
    **{
        path: At("doctor", path.replace("{name}", "cabinet"))
        for path in (
            "/cabinet",
            "/cabinet/agendas",
            "/cabinet/agendas/{name}",
            "/cabinet/accords",
            "/cabinet/accords/vu",
            "/cabinet/notifications",
            "/cabinet/bilan",
            "/cabinet/releve",
            "/cabinet/equipe",
        )
    },
    "/comptes": At("admin", "/comptes"),
    "/compte": At("admin", "/compte"),
    **{
        path: At("ars", path)
        for path in (
            "/pilotage",
            "/pilotage/crise",
            "/pilotage/crise/plan",
            "/pilotage/crise/bilan",
            "/pilotage/carte",
            "/pilotage/besoins",
            "/pilotage/offre",
            "/pilotage/aci",
            "/pilotage/journees",
            "/pilotage/reglages",
            "/mural",
        )
    },
    "/pilotage/journees/etude": At("ars", "/pilotage/journees/etude?etude={study}"),
    "/chiffres": At("", "/chiffres"),
    "/connexion": At("", "/connexion"),
    "/demo": At("", "/demo"),
}
PARTS: Final[dict[str, At]] = {
    "/": At("", "/"),
    "/regulation/communes": At("osnp", "/regulation/communes?commune=gre"),
    "/regulation/demandes": At("osnp", "/regulation/demandes"),
    "/regulation/demandes/{request_id}": At("osnp", "/regulation/demandes/{request}"),
    "/cabinet/communes": At("doctor", "/cabinet/communes?commune=gre"),
    "/cabinet/tableau": At("doctor", "/cabinet/tableau"),
    "/cabinet/bilan.csv": At("doctor", "/cabinet/bilan.csv"),
    "/cabinet/releve.csv": At("doctor", "/cabinet/releve.csv"),
    "/pilotage/maintenant": At("ars", "/pilotage/maintenant"),
    "/pilotage/carte/communes": At("ars", "/pilotage/carte/communes"),
    "/pilotage/carte/zones": At("ars", "/pilotage/carte/zones"),
    "/pilotage/export": At("ars", "/pilotage/export?tableau=tiers"),
    "/pilotage/crise/etat": At("ars", "/pilotage/crise/etat"),
    "/pilotage/journees/etudes": At("ars", "/pilotage/journees/etudes"),
    "/mural/chiffres": At("ars", "/mural/chiffres"),
    **{
        f"{place}/{{rest:path}}": At("", f"{place}/nulle/part")
        for place in ("/regulation", "/cabinet", "/pilotage", "/comptes")
    },
}
"""What is no page: parts, files and figures that pages ask for; addresses at which there is nothing."""


class Scene:
    """People whose pages are full, and what addresses need."""

    def __init__(self, browsing: Browsing) -> None:
        self.browsing = browsing
        self.logins: dict[str, str] = {}
        self.known: dict[str, str] = {}

    @classmethod
    async def open(cls, browsing: Browsing) -> "Scene":
        """Make it."""
        self, service = cls(browsing), browsing.service
        await some_day(service, TERRITORY)
        await recorded_days(service, TERRITORY, ("fcfs-nearest",), 1)
        rows = await service.rows("select id from study")
        self.known["study"] = str(rows[0]["id"])
        practice = await Practice.open(browsing, acceptance="tacit", accept_min=30)
        await practice.places(4, 30, 120)
        await practice.places(1, 150, 210)
        await practice.patient(age_band="senior")
        subscription = {"way": "webhook", "address": "http://127.0.0.1:9/sas", "kinds": ["booking.made"]}
        for path, body in (
            ("/v1/limits/quota", {"professionals": [practice.number], "counts": "patients", "most": 6}),
            ("/v1/subscriptions/agenda", subscription),
        ):
            answer = await practice.key.http.put(path, json=body)
            assert answer.status_code == 200, answer.text
        rights = {
            "osnp": {"territories": (TERRITORY,)},
            "doctor": practice.rights,
            "ars": {"territories": (TERRITORY,)},
            "admin": {},
        }
        for who, mine in rights.items():
            role = {"doctor": "professional"}.get(who, who)
            self.logins[who] = await browsing.account(role, **mine)
        await self._ask()
        await self.declare("tension")
        return self

    async def _ask(self) -> None:
        """Let the OSNP have a request."""
        spot = next(c for c in self.browsing.service.geography.communes_of(TERRITORY) if c.population > 20_000)
        async with self.http("osnp") as (http, token):
            form = {"phrase": f"mg {spot.code} 24h", "once": str(uuid4()), "csrf": csrf_of(token)}
            answer = await http.post("/regulation/demandes", data=form)
            self.known["request"] = answer.text.split('data-id="')[1].split('"')[0]

    async def declare(self, level: str, *, drill: bool = False) -> None:
        """Declare a level."""
        ars = await self.browsing.service.key("ars", territories=(TERRITORY,))
        path = f"/v1/territories/{TERRITORY}/crisis/plan"
        await ars.http.put(path, json={"plan": PLAN, "why": "essai"}, headers={"Idempotency-Key": "plan-de-38"})
        answer = await ars.post("/v1/crisis", {"scope": TERRITORY, "level": level, "why": "essai", "drill": drill})
        assert answer.status_code == 200, answer.text

    @asynccontextmanager
    async def http(self, who: str) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
        """Somebody's calls without a browser, and the session's token; nobody's for ``""``."""
        url = self.browsing.service.url
        token = await self.browsing.accounts.open(self.logins[who]) if who else ""
        cookies = {COOKIE: token} if token else {}
        async with httpx.AsyncClient(
            base_url=url, cookies=cookies, headers={"Origin": url}, trust_env=False, verify=NO_TLS, timeout=15
        ) as client:
            yield client, token

    @asynccontextmanager
    async def person(self, who: str, **screen: Any) -> AsyncIterator[Person]:
        """Somebody at their browser."""
        async with self.browsing.signed_in(self.logins[who or "osnp"], **screen) as somebody:
            if not who:
                await somebody.context.clear_cookies()
            yield somebody
        complaints, self.browsing.complaints[:] = list(self.browsing.complaints), []
        assert not complaints, complaints


@pytest.fixture(scope="module")
async def scene(browsing: Browsing) -> Scene:
    return await Scene.open(browsing)


async def test_every_page_is_visited_and_what_is_none_is_a_part(scene: Scene) -> None:
    app = scene.browsing.service.app
    served = {r.path for r in app.routes if isinstance(r, PageRoute) and "GET" in (r.methods or ())}
    assert served == VISITS.keys() | PARTS.keys(), served ^ (VISITS.keys() | PARTS.keys())
    for path, (who, address) in (VISITS | PARTS).items():
        async with scene.http(who) as (http, _):
            answer = await http.get(address.format(**scene.known))
        is_page = answer.status_code == 200 and answer.text.lstrip().startswith("<!doctype html>")
        assert is_page is (path in VISITS), (path, answer.status_code)


@pytest.mark.parametrize("who", ["osnp", "doctor", "ars", "admin", ""])
async def test_pages_are_for_everybody_on_every_screen_and_by_keyboard(scene: Scene, who: str) -> None:
    async with scene.person(who) as somebody:
        page = await somebody.open("/chiffres")
        for path, at in VISITS.items():
            if at.who == who:
                await page.goto(scene.browsing.service.url + at.address.format(**scene.known))
                await looked_at(page, path, DAY, NIGHT_ON_A_PHONE)
                await page.set_viewport_size(DAY[1])
                assert await unreached(page) == [], path


async def looked_at(page: Page, path: str, *screens: Screen) -> None:
    """Look at the present page on some screens (with ``SAS_EVERY_SCREEN`` on all), and that it fits when enlarged."""
    if await page.locator("#map[data-zones]").count():
        await page.locator("#map[data-drawn=yes]").wait_for()
    for scheme, size in ALL_SCREENS if os.environ.get("SAS_EVERY_SCREEN") else screens or (NIGHT_ON_A_PHONE,):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        await page.set_viewport_size(size)
        assert await violations(page) == [], (path, scheme, size)
        assert await overflowing(page) == [], (path, size)
    await page.set_viewport_size(ENLARGED)
    assert await overflowing(page) == [], path


async def overflowing(page: Page) -> list[str]:
    """Return what makes a page wider than its window."""
    found: list[str] = await page.evaluate(
        "document.documentElement.scrollWidth <= innerWidth ? [] : [...document.body.querySelectorAll('*')]"
        ".filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll'))"
        ".map((e) => e.outerHTML.slice(0, 160))"
    )
    return found


async def test_what_is_printed_fits_its_sheet(scene: Scene) -> None:
    for who, paths in (
        ("doctor", ("/cabinet", "/cabinet/releve", "/cabinet/bilan")),
        ("ars", ("/pilotage/aci", "/pilotage/crise/bilan", "/pilotage/offre")),
    ):
        async with scene.person(who, viewport=A4) as somebody:
            page = await somebody.open("/chiffres")
            await page.emulate_media(media="print")
            for path in paths:
                await page.goto(scene.browsing.service.url + path)
                wide = await page.evaluate(
                    "[...document.querySelectorAll('main *')].filter((e) => !e.closest('.unseen')"
                    " && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 120))"
                )
                assert wide == [], path


# -- states ------------------------------------------------------------------------------------------------------------


async def test_pages_of_somebody_who_has_nothing_yet_say_what_to_do(scene: Scene) -> None:
    number = rpps()
    async with scene.browsing.person("professional", professionals=(number,), source=f"vide-{number}") as doctor:
        page = await doctor.open("/cabinet")
        await page.get_by_role("link", name="ouvrez un agenda").wait_for()
        for path in ("", "/agendas", "/accords", "/releve"):
            await page.goto(scene.browsing.service.url + f"/cabinet{path}")
            await looked_at(page, path)
    async with scene.browsing.person("ars", territories=("976",)) as ars:
        page = await ars.open("/pilotage")
        for place in ("/besoins", "/crise/bilan", "/journees"):
            await page.goto(scene.browsing.service.url + f"/pilotage{place}")
            await looked_at(page, place)


class Refused(NamedTuple):
    """A form that is sent wrongly: whose, where, what is typed, the button, and what is told."""

    who: str
    path: str
    typed: dict[str, str]
    button: str
    told: str


REFUSED: Final = (
    Refused(
        "",
        "/connexion",
        {"#login": "personne", "#password": "une phrase"},
        "Se connecter",
        "Identifiant ou mot de passe incorrect",
    ),
    Refused(
        "admin",
        "/compte",
        {"#present": "x", "#new": "une phrase assez longue", "#repeat": "une autre, assez longue"},
        "Changer",
        "diffèrent",
    ),
    Refused(
        "admin", "/comptes", {"#login": "A b", "#name": "Nom"}, "Ouvrir le compte", "doit être rattaché à un territoire"
    ),
    Refused("doctor", "/cabinet", {"#q-start": "18:00", "#q-end": "17:00"}, "Publier", "Fin : 12 h au plus"),
    Refused(
        "doctor", "/cabinet/agendas", {"#name": "nord", "#commune": "zzz"}, "Ouvrir l'agenda", "Choisissez une commune"
    ),
    Refused("doctor", "/cabinet/agendas/cabinet", {"#end": "08:00"}, "Ajouter la plage", "faites deux plages"),
    Refused("doctor", "/cabinet/accords", {"#l-most": ""}, "Poser la limite", "soit « part des places »"),
    Refused(
        "doctor",
        "/cabinet/notifications",
        {"#n-address": "nulle part"},
        "Enregistrer l'abonnement",
        "Adresse : n'a pas la forme",
    ),
    Refused(
        "doctor", "/cabinet/equipe", {"#i-login": "A b", "#i-name": "Nom"}, "Créer le compte", "Identifiant : 2 à 64"
    ),
    Refused("ars", "/pilotage/crise", {"#why": ""}, "Voir ce que cela change", "Niveau : "),
    Refused(
        "ars",
        "/pilotage/crise/plan",
        {"#lends": "99 ; 10", "#plan-why": "essai"},
        "Enregistrer le plan",
        "Ce que nous prêtons : ",
    ),
    Refused(
        "ars",
        "/pilotage/reglages",
        {"#radius_pct": "beaucoup", "#set-why": "x"},
        "Enregistrer",
        "Rayon accordé : doit être un nombre",
    ),
    Refused("ars", "/pilotage/reglages", {"#ladder-why": ""}, "Enregistrer l'échelle", "Motif : à remplir"),
    Refused("ars", "/pilotage/reglages", {"#screen-name": ""}, "Ouvrir le mur ici", "Nom : 1 à 60"),
    Refused("osnp", "/regulation", {"#phrase": "mg nullepart"}, "Demander une place", "ommune inconnue"),
)


@pytest.mark.parametrize("who", ["osnp", "doctor", "ars", "admin", ""])
async def test_what_is_refused_is_told_beside_the_form(scene: Scene, who: str) -> None:
    async with scene.person(who) as somebody:
        page = await somebody.open("/chiffres")
        for wrong in (one for one in REFUSED if one.who == who):
            await page.goto(scene.browsing.service.url + wrong.path)
            # what the browser would hold back as well is the service's to refuse
            await page.evaluate("document.querySelectorAll('form').forEach((form) => { form.noValidate = true; })")
            for field, text in wrong.typed.items():
                await page.fill(field, text)
            await (
                page.get_by_role("button", name=wrong.button, exact=True)
                .or_(page.get_by_role("button", name=f"{wrong.button} "))
                .first.click()
            )
            await page.get_by_role("alert").get_by_text(wrong.told).first.wait_for()
            await looked_at(page, f"{wrong.path} {wrong.button}")


async def test_pages_that_say_no(scene: Scene) -> None:
    url = scene.browsing.service.url
    async with scene.person("osnp") as osnp:
        page = await osnp.open("/chiffres")
        for path, status in (("/comptes", 403), ("/regulation/demandes/x", 422), ("/cabinet", 403)):
            answer = await page.goto(url + path)
            assert answer is not None and answer.status == status
            await looked_at(page, path)
    async with scene.person("doctor") as doctor:
        page = await doctor.open("/chiffres")
        await page.goto(url + "/cabinet/nulle/part")
        await page.get_by_text("Il n'y a pas de page à cette adresse").wait_for()
        answer = await page.goto(url + "/cabinet/agendas/inconnu")
        assert answer is not None and answer.status == 404
        await looked_at(page, "404")
    async with scene.person("") as visitor:
        page = await visitor.open("/connexion")
        door = scene.browsing.service.app.state.wire.open_door
        with patch.object(door, "_burst", 0.0):
            answer = await page.goto(url + "/chiffres")
        assert answer is not None and answer.status == 429
        await looked_at(page, "429")


async def test_the_wall_and_the_level_in_tension_in_crisis_and_in_a_drill(scene: Scene) -> None:
    url = scene.browsing.service.url
    async with scene.person("ars") as ars:
        page = await ars.open("/mural")
        for level, drill in (("tension", False), ("crise", False), ("crise", True)):
            if level != "tension":
                await scene.declare(level, drill=drill)
            review = f"/pilotage/crise/bilan?exercice={int(drill)}"
            for path in ("/mural", *(() if level == "tension" else ("/pilotage", "/pilotage/crise", review))):
                await page.goto(url + path)
                if path == "/mural":
                    strip = page.locator(f".strip.{level}", has_text="EXERCICE" if drill else level.capitalize())
                    await strip.wait_for()
                await looked_at(page, f"{path} {level}")


async def test_a_cut_network_and_an_ended_session_on_every_screen(scene: Scene) -> None:
    async with scene.person("doctor") as doctor:
        page = await doctor.open("/cabinet")
        await page.locator("#live[data-state=on]").wait_for()
        await doctor.context.set_offline(True)
        await page.locator("#live[data-state=off]").wait_for()
        await page.get_by_role("button", name="Publier").click()
        await page.get_by_text("Le service ne répond pas").wait_for()
        await looked_at(page, "cut")
        # while the feed is away: one that is there looks again only every half minute
        await scene.browsing.accounts.sign_out(doctor.token)
        await doctor.context.set_offline(False)
        await page.get_by_role("dialog", name="Votre session est terminée").wait_for()
        await looked_at(page, "ended")
        scene.browsing.complaints.clear()  # of the connections that were refused


async def test_the_page_between_a_link_from_elsewhere_and_its_target(scene: Scene) -> None:
    async with scene.http("") as (http, _):
        between = (await http.get("/comptes", headers={"Sec-Fetch-Site": "cross-site"})).text
    assert "again=1" in between
    async with scene.person("") as visitor:
        page = await visitor.open("/chiffres")
        await page.set_content(between.replace('http-equiv="refresh"', "data-still"))
        assert await violations(page) == []
