"""Every action of the pages, sent from the form that the page shows: what templates say and handlers read is the same.

A workplace's walk ends with what it did not send: an action that nobody tries fails the test.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from adapters.postgres.crisis import PostgresCrisis
from adapters.system import SystemIds
from sas_matcher.api.admission import Bulk
from sas_matcher.console import regulation, site
from sas_matcher.console.visit import csrf_of
from sas_matcher.domain.alert import RISE_S
from sas_matcher.domain.vocabulary import Role
from sas_matcher.replay.daylog_file import write_day
from sas_matcher.replay.study import study as study_day
from sas_matcher.services.crisis.alerting import Alerting
from sas_matcher.services.keys import KeyWish
from tests.api.conftest import settings_for
from tests.api.form_pages import Somebody, accounts_at, actions_of, forms_of
from tests.api.running import Caller, Running, eventually, next_spot, rpps, run_service, slot, wish
from tests.api.test_accounts import UUID, browser
from tests.conftest import Servers

Enter = Callable[..., Awaitable[Somebody]]
PARIS: Final = ZoneInfo("Europe/Paris")
WORKPLACES: Final = {
    "regulation": ("/regulation",),
    "cabinet": ("/cabinet",),
    "pilotage": ("/pilotage",),
    "accounts": ("/comptes", "/compte", "/connexion", "/deconnexion", "/demo"),
}
PASSWORD: Final = "une phrase assez longue"
TERRITORY: Final = "74"


@pytest.fixture(scope="module")
async def service(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A demonstration with a recorded day: every action is there."""
    history = tmp_path_factory.mktemp("journees")
    (history / TERRITORY).mkdir()
    _record(history / TERRITORY)
    database_url = servers.new_database()
    settings = settings_for(database_url, servers.new_redis(), demo="SAS des tests", history_dir=str(history))
    async with run_service(settings) as running:
        yield running
    servers.drop_database(database_url)


def _record(folder: Path) -> None:
    day = datetime.now(PARIS).date() - timedelta(days=1)
    write_day(folder / f"{day.isoformat()}.jsonl", study_day("city-x1", 30, day=date(2026, 1, 13)))


@pytest.fixture
async def enter(service: Running) -> AsyncIterator[Enter]:
    """Let people sign in for the length of a test: a role, and rights as of ``KeyWish``."""
    async with AsyncExitStack() as stack:

        async def enter(role: Role, **rights: Any) -> Somebody:
            return await stack.enter_async_context(Somebody.signed_in(service, role, **rights))

        yield enter


def left_out(service: Running, workplace: str, *people: Somebody) -> set[str]:
    """Return the actions of a workplace that nobody has sent."""
    starts = WORKPLACES[workplace]
    mine = {route.path for route in actions_of(service) if _is_under(route.path, starts)}
    return mine.difference(*(somebody.done for somebody in people))


def _is_under(path: str, starts: Iterable[str]) -> bool:
    return any(path == start or path.startswith(f"{start}/") for start in starts)


def test_every_action_is_of_a_walk(service: Running) -> None:
    everywhere = [start for starts in WORKPLACES.values() for start in starts]
    assert [route.path for route in actions_of(service) if not _is_under(route.path, everywhere)] == []


async def test_no_action_takes_a_field_that_it_does_not_know(service: Running, enter: Enter) -> None:
    people = [
        await enter(Role.OSNP, territories=("*",)),
        await enter(Role.MANAGER, professionals=("*",)),
        await enter(Role.ARS, territories=("*",)),
        await enter(Role.ADMIN),
    ]
    roles = (Role.OSNP, Role.MANAGER, Role.ARS, Role.ADMIN)
    for route in actions_of(service):
        # a sign-out reads nothing, a table of places is no form
        if route.path == "/deconnexion" or route.path.endswith("/csv"):
            continue
        somebody = people[next(n for n, role in enumerate(roles) if route.pages.are_for(role))]
        path = route.path.replace("{request_id}", UUID).replace("{name}", "cabinet")
        sent = {"csrf": csrf_of(somebody.token), "once": "une-fois-seule", "nom_du_patient": "Dupont"}
        answer = await somebody.http.post(path, data=sent, headers={"HX-Request": "true"})
        assert 400 <= answer.status_code < 500 and "note bad" in answer.text, (path, answer.status_code, answer.text)
        assert "champ inconnu" in answer.text.lower(), (path, answer.text)


# -- régulation --------------------------------------------------------------------------------------------------------


async def test_a_need_sent_again_is_asked_once_and_another_need_is_another_request(
    service: Running, enter: Enter
) -> None:
    spot, practice = next_spot(service.geography), await service.practice()
    now = service.clock.now()
    await practice.publish(*(slot(spot, now + timedelta(minutes=120 + 20 * n)) for n in range(4)))
    osnp = await enter(Role.OSNP, territories=(spot.territory,))
    page = await osnp.open("/regulation")
    line, known = f"mg {spot.code} 24h", set[str]()

    async def ask(**changes: Any) -> str:
        osnp.seen = page  # no answer came: the form is as it was
        answer = await osnp.submit("/regulation/demandes", **changes)
        (found,) = re.findall(r'data-id="([0-9a-f-]{36})"', answer)
        assert ("déjà faite" in answer) == (found in known)
        known.add(found)
        return str(found)

    # Enter before the line was read, and again after that: one need
    first = await ask(phrase=line)
    assert await ask(phrase=line, read=line, commune=f"{spot.name} ({spot.code})", delay="24H") == first
    # corrected, or of another patient: never the place of the first
    assert await ask(phrase=f"mg {spot.code} 8h") != first
    assert await ask(phrase=line, case_ref="DR-2") != first


async def test_who_waits_stays_in_the_list_however_many_came_later(
    service: Running, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    spot, far, practice = next_spot(service.geography), next_spot(service.geography), await service.practice()
    now = service.clock.now()
    await practice.publish(*(slot(spot, now + timedelta(minutes=120 + 20 * n)) for n in range(3)))
    osnp = await enter(Role.OSNP, territories=("*",))

    async def ask(commune: str) -> str:
        await osnp.open("/regulation")
        answer = await osnp.submit("/regulation/demandes", commune=commune, delay="24H")
        return str(re.findall(r'data-id="([0-9a-f-]{36})"', answer)[0])

    waits = await ask(far.code)
    for _ in range(3):
        await osnp.submit(f"/regulation/demandes/{await ask(spot.code)}/confirmer")
    monkeypatch.setattr(regulation, "_LISTED", 3)
    listed = await osnp.open("/regulation/demandes")
    assert f"row-{waits}" in listed
    assert listed.count('id="row-') == 3 and "3 demandes les plus pressantes" in listed
    monkeypatch.setattr(regulation, "_LISTED", 4)
    listed = await osnp.open("/regulation/demandes")
    assert listed.count('id="row-') == 4 and "les plus pressantes" not in listed


async def test_the_actions_of_the_regulation_page(service: Running, enter: Enter) -> None:
    spot, practice = next_spot(service.geography), await service.practice()
    now = service.clock.now()
    await practice.publish(*(slot(spot, now + timedelta(minutes=120 + 20 * n)) for n in range(5)))
    osnp = await enter(Role.OSNP, territories=(spot.territory,))
    colleague = await enter(Role.REGULATOR, territories=(spot.territory,), name="Dr Collègue")
    await osnp.open("/regulation")
    read = await osnp.send("/regulation/lire", phrase=f"{spot.code} enfant 24h")
    assert f'value="{spot.name} ({spot.code})"' in read
    offered = await osnp.send("/regulation/offre", commune=spot.code, profession="MG", delay="24H", modes="cabinet")
    assert "5 lieux" in offered

    async def ask(**changes: Any) -> str:
        await osnp.open("/regulation")
        answer = await osnp.submit("/regulation/demandes", commune=f"{spot.name} ({spot.code})", delay="24H", **changes)
        return str(re.findall(r'data-id="([0-9a-f-]{36})"', answer)[0])

    one = f"/regulation/demandes/{await ask()}"
    assert "is-held" in await osnp.submit(f"{one}/autre", which={"scope": "slot"})
    confirmed = await osnp.submit(f"{one}/confirmer")
    assert "Confirmée" in confirmed and f"{one}/annuler" in confirmed
    two = f"/regulation/demandes/{await ask()}"
    assert "choisie par le régulateur" in await osnp.submit(f"{two}/prendre")
    service.clock.ahead += timedelta(seconds=181)
    assert "La garde est terminée" in await osnp.open(two)
    assert "is-held" in await osnp.submit(f"{two}/reprendre")
    assert "Demande confiée" in await osnp.submit(f"{two}/confier", to=await colleague.key_id())
    assert "is-held" in await colleague.open(two)
    assert "Annulée" in await colleague.submit(f"{two}/annuler")
    # nothing within a kilometre, but farther
    far = next_spot(service.geography)
    await practice.publish(slot(far, now + timedelta(minutes=150), km_north=9.0))
    await osnp.open("/regulation")
    nothing = await osnp.submit("/regulation/demandes", commune=far.code, delay="24H", radius_km="2")
    assert "Ce qui trouverait une place" in nothing
    three = re.findall(r'data-id="([0-9a-f-]{36})"', nothing)[0]
    assert "is-held" in await osnp.submit(f"/regulation/demandes/{three}/assouplir")
    # whether the patient came is for the practice to say
    service.clock.ahead += timedelta(minutes=200)
    begun = await osnp.open(one)
    assert "Confirmée" in begun and f"{one}/annuler" not in begun
    assert left_out(service, "regulation", osnp, colleague) == set()


# -- cabinet -----------------------------------------------------------------------------------------------------------


class Cabinet:
    """A doctor at the pages, and a regulator of the same commune."""

    def __init__(self, service: Running, doctor: Somebody, regulator: Caller, number: str) -> None:
        self.service, self.doctor, self.regulator = service, doctor, regulator
        self.spot, self.number = next_spot(service.geography), number
        local = (service.clock.now() + timedelta(minutes=40)).astimezone(PARIS)
        # all of an afternoon lies on one day
        late = (local + timedelta(hours=3)).date() != local.date()
        midnight = (local + timedelta(days=1)).replace(hour=0, minute=5)
        self.start = (midnight if late else local).replace(second=0, microsecond=0)

    def at(self, minutes: int) -> str:
        """Return what the clock shows so many minutes after the afternoon began."""
        return f"{self.start + timedelta(minutes=minutes):%H:%M}"

    async def patient(self, slot_id: int, **changes: Any) -> str:
        """Let a regulator confirm a place; returns the booking."""
        asked = await self.regulator.ask(wish(self.spot, delay="24H", **changes))
        path = f"/v1/requests/{asked['request_id']}/take"
        if (asked["booking"] or {}).get("slot_id") != slot_id:
            taken = await self.regulator.post(path, {"slot_id": slot_id})
            assert taken.status_code == 200, taken.text
        done = await self.regulator.act("confirm", asked["request_id"])
        return str(done["booking"]["booking_id"])

    async def slots(self) -> dict[str, int]:
        """Return the doctor's places by the hour at which they begin."""
        rows = await self.service.rows(
            "select id, starts from slot where professional = $1 and status = 'open' order by starts", self.number
        )
        return {f"{row['starts'].astimezone(PARIS):%d %H:%M}": row["id"] for row in rows}


@pytest.fixture
async def cabinet(service: Running, enter: Enter) -> Cabinet:
    number = rpps()
    doctor = await enter(Role.PROFESSIONAL, professionals=(number,), source=f"cabinet-{number}")
    return Cabinet(service, doctor, await service.regulator(), number)


async def test_the_actions_of_the_practices_pages(service: Running, cabinet: Cabinet) -> None:
    doctor = cabinet.doctor
    await _agenda(cabinet)
    await _day(cabinet)
    await _en_sus(cabinet)
    await _rules(cabinet)
    await _others(cabinet)
    await doctor.open("/cabinet/agendas/cabinet")
    assert "Aucun agenda ici" in await doctor.submit("/cabinet/agendas/cabinet/supprimer")
    assert left_out(service, "cabinet", doctor) == set()


async def _agenda(cabinet: Cabinet) -> None:
    doctor, spot = cabinet.doctor, cabinet.spot
    page = "/cabinet/agendas/cabinet"
    await doctor.open("/cabinet/agendas")
    place: dict[str, Any] = {"who_name": "Dr Fictif", "commune": f"{spot.code} {spot.name}", "source_kind": "liberal"}
    assert "Agenda cabinet" in await doctor.submit("/cabinet/agendas", name="cabinet", profession="MG", **place)
    day = f"{cabinet.start:%Y-%m-%d}"
    single: dict[str, Any] = {"first": day, "start": cabinet.at(0), "end": cabinet.at(60), "each_min": "30"}
    for hours in (single, {**single, "start": cabinet.at(60), "end": cabinet.at(90)}):
        await doctor.open(page)
        assert "Plage ajoutée" in await doctor.submit(f"{page}/plages", **hours)
    assert "Plage retirée" in await doctor.submit(f"{page}/plages/retirer", which={"id": "plage-2"})
    later = cabinet.start + timedelta(days=30)
    closed: dict[str, Any] = {"from": f"{later:%Y-%m-%dT08:00}", "to": f"{later:%Y-%m-%dT12:00}"}
    assert "Fermeture ajoutée" in await doctor.submit(f"{page}/fermetures", **closed)
    assert "Fermeture ôtée" in await doctor.submit(f"{page}/fermetures/retirer")
    calendar = await doctor.submit(f"{page}/calendrier", url="http://127.0.0.1:9/agenda.ics")
    assert "Calendrier suivi" in calendar
    assert "Calendrier ôté" in await doctor.submit(f"{page}/calendrier", url="")
    settled: dict[str, Any] = {"acceptance": "explicit", "accept_min": "15", "info": "2e étage"}
    assert "Réglages enregistrés" in await doctor.submit(f"{page}/reglages", **settled)
    await _table(doctor, page, f"date;debut;fin;duree\n{day};{cabinet.at(90)};{cabinet.at(120)};30\n")


async def _table(doctor: Somebody, page: str, table: str) -> None:
    headers = {"X-CSRF": csrf_of(doctor.token), "HX-Request": "true"}
    preview = await doctor.http.post(f"{page}/csv", content=table.encode(), headers=headers)
    assert preview.status_code == 200 and "1 ligne sans erreur" in preview.text.replace("\u00a0", " ")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bulk, "ROOM", -Bulk.AT_ONCE)
        full = await doctor.http.post(f"{page}/csv", content=table.encode(), headers=headers)
    assert full.status_code == 503 and "Trop de publications" in full.text
    taken = await doctor.http.post(f"{page}/csv?apercu=0", content=table.encode(), headers=headers)
    assert taken.status_code == 204 and taken.headers["hx-redirect"] == page
    doctor.did(f"{page}/csv")


async def _day(cabinet: Cabinet) -> None:
    doctor, service = cabinet.doctor, cabinet.service
    await doctor.open("/cabinet")
    plage: dict[str, Any] = {
        "count": "4",
        "start": cabinet.at(120),
        "end": cabinet.at(170),
        "day": f"{cabinet.start:%Y-%m-%d}",
    }
    assert "0 sur 4" in await doctor.submit("/cabinet/places", **plage)
    known = await cabinet.slots()
    first, second, third, range_ = (
        known[f"{cabinet.start + timedelta(minutes=minutes):%d %H:%M}"] for minutes in (0, 30, 90, 120)
    )
    # off and on again
    await doctor.submit("/cabinet/retirer", slot=str(third))
    assert third not in (await cabinet.slots()).values()
    await doctor.open("/cabinet")
    await doctor.submit("/cabinet/retirer", button={"formaction": "/cabinet/remettre"}, slot=str(third))
    assert third in (await cabinet.slots()).values()
    # accepted, refused, called off by the patient
    bookings = {name: await cabinet.patient(at) for name, at in (("yes", first), ("no", second), ("off", range_))}
    for booking in (bookings["yes"], await cabinet.patient(range_)):
        await doctor.open("/cabinet")
        await doctor.submit("/cabinet/accepter", which={"booking": booking})
    await doctor.open("/cabinet")
    refused: dict[str, Any] = {"booking": bookings["no"], "reason": "absent", "once": "refuser-une-fois"}
    await doctor.submit("/cabinet/refuser", **refused)
    # the hour that was refused is put back
    assert second not in (await cabinet.slots()).values()
    await doctor.open("/cabinet")
    await doctor.submit("/cabinet/retirer", button={"formaction": "/cabinet/remettre"}, slot=str(second))
    assert second in (await cabinet.slots()).values() and doctor.told == "1 place remise."
    # one that the agenda says no more is not
    (gone,) = await service.rows(
        "select id from slot where professional = $1 and starts = $2",
        cabinet.number,
        cabinet.start + timedelta(minutes=60),
    )
    await doctor.open("/cabinet")
    await doctor.submit("/cabinet/retirer", button={"formaction": "/cabinet/remettre"}, slot=str(gone["id"]))
    assert "Aucune place remise" in doctor.told
    await doctor.open("/cabinet")
    await doctor.send("/cabinet/annuler", booking=bookings["off"], once="annuler-une-fois")
    states = {name: await _state(cabinet, booking) for name, booking in bookings.items()}
    assert states == {"yes": "firm", "no": "refused", "off": "cancelled"}
    # it begins
    service.clock.ahead += cabinet.start + timedelta(minutes=1) - service.clock.now().astimezone(PARIS)
    await doctor.open("/cabinet")
    await doctor.submit("/cabinet/venu", which={"booking": bookings["yes"], "outcome": "fulfilled"})
    assert await _state(cabinet, bookings["yes"]) == "fulfilled"
    await _stop(cabinet)
    service.clock.ahead += timedelta(minutes=120)
    await doctor.open("/cabinet")
    assert "1 venu" in await doctor.submit("/cabinet/compter", which={"arrived": "1"})


async def _state(cabinet: Cabinet, booking: str) -> str:
    (row,) = await cabinet.service.rows("select state from booking where id = $1", booking)
    return str(row["state"])


async def _stop(cabinet: Cabinet) -> None:
    doctor = cabinet.doctor
    await doctor.open("/cabinet")
    assert "Tout est arrêté" in await doctor.submit("/cabinet/arret", which={"booked": "keep"})
    assert "Tout est arrêté" not in await doctor.submit("/cabinet/reprise")
    await doctor.open("/cabinet/agendas/cabinet")
    path = "/cabinet/agendas/cabinet/ajouts/retirer"
    ids = [dict(form.fields)["id"] for form in forms_of(doctor.seen) if form.action == path]
    assert len(ids) == 1


async def _en_sus(cabinet: Cabinet) -> None:
    doctor, service, spot = cabinet.doctor, cabinet.service, cabinet.spot
    ladder = {"steps": [{"kind": "ask", "name": "Cabinets", "waves": 1, "at_once": 3, "wait_min": 20}], "why": "essai"}
    ars = await service.key("ars", territories=(spot.territory,))
    headers = {"Idempotency-Key": f"echelle-{cabinet.number}"}
    path = f"/v1/territories/{spot.territory}/ladder"
    assert (await ars.http.put(path, json=ladder, headers=headers)).status_code == 200
    await doctor.open("/cabinet/accords")
    every_day: dict[str, Any] = {
        "ask_from": "00:00",
        "ask_to": "23:59",
        "days": list("1234567"),
        "modes": ["cabinet", "visite"],
    }
    assert "Accord en vigueur" in await doctor.submit("/cabinet/accords", **every_day)

    async def questions(state: str) -> int:
        found = await service.rows(
            "select count(*) as n from question q join overflow o on o.id = q.overflow_id "
            "where q.state = $1 and o.professional = $2",
            state,
            cabinet.number,
        )
        return int(found[0]["n"])

    for answer, state in (("oui", "accepted"), ("non", "refused")):
        # nobody visits here but en sus
        await cabinet.regulator.ask(wish(spot, modes=["visite"], delay="8H"))
        await eventually(lambda: questions("asked"))
        await doctor.open("/cabinet")
        await doctor.submit(f"/cabinet/{answer}")
        assert await questions(state) == 1
    await doctor.open("/cabinet/accords")
    assert "Accord retiré" in await doctor.submit("/cabinet/accords/retirer")


async def _rules(cabinet: Cabinet) -> None:
    doctor = cabinet.doctor
    await doctor.open("/cabinet/accords")
    assert "à toute heure, tous les jours" in await doctor.submit("/cabinet/partage", own_first_min="60")
    assert "Règle ôtée" in await doctor.submit("/cabinet/partage/retirer")
    assert "6 patients par jour" in await doctor.submit("/cabinet/limites")
    assert "Limite ôtée" in await doctor.submit("/cabinet/limites/retirer")


async def _others(cabinet: Cabinet) -> None:
    doctor, accounts = cabinet.doctor, accounts_at(cabinet.service)
    await doctor.open("/cabinet/agendas/cabinet")
    assert "Ajout retiré" in await doctor.submit("/cabinet/agendas/cabinet/ajouts/retirer")
    await doctor.open("/cabinet/notifications")
    hook: dict[str, Any] = {
        "way": "webhook",
        "address": "http://127.0.0.1:9/sas",
        "name": "agenda",
        "kinds": ["booking.made"],
    }
    assert "Secret de signature" in await doctor.submit("/cabinet/notifications", **hook)
    assert "Essai envoyé" in await doctor.submit("/cabinet/notifications/essai")
    assert "Secret changé" in await doctor.submit("/cabinet/notifications/secret")
    assert "Abonnement retiré" in await doctor.submit("/cabinet/notifications/retirer")
    await doctor.open("/cabinet/equipe")
    login = f"accueil-{cabinet.number}"
    page = await doctor.submit("/cabinet/equipe", login=login, name="Secrétariat fictif")
    password = re.findall(r'class="secret">([^<]+)<', page)[0]
    assert await accounts.sign_in(login, password)
    await doctor.submit("/cabinet/equipe/retirer", which={"login": login})
    assert login not in doctor.seen


# -- pilotage ----------------------------------------------------------------------------------------------------------


async def test_the_actions_of_pilotage(service: Running, enter: Enter) -> None:
    ars = await enter(Role.ARS, territories=(TERRITORY,))
    spot = next(c for c in service.geography.communes_of(TERRITORY) if c.population > 20_000)
    await _settings(ars)
    await _crisis(ars)
    # of a profession that no other test offers: their places may be near
    await _proposal(ars, await service.regulator(TERRITORY), wish(spot, delay="1H", profession="ORTHOPT"))
    await ars.open("/pilotage/journees")
    assert "En file" in await ars.submit("/pilotage/journees", way=["firm"])
    assert "Arrêtée" in await ars.submit("/pilotage/journees/arreter")
    await ars.open("/pilotage/reglages")
    assert "Mur" in await ars.submit("/pilotage/ecrans", name="Salle de crise")
    await ars.open("/pilotage/reglages")
    await ars.submit("/pilotage/ecrans/fermer")
    assert "Salle de crise" not in ars.seen
    assert left_out(service, "pilotage", ars) == set()


async def _settings(ars: Somebody) -> None:
    await ars.open("/pilotage/reglages")
    changed = await ars.submit("/pilotage/reglages", radius_pct="125", crisis_allowed="1", why="essai des pages")
    assert "<del>100</del> → <ins>125</ins>" in changed
    rung: dict[str, Any] = {"kind.0": "ask", "name.0": "Cabinets", "waves.0": "1", "at_once.0": "2", "wait_min.0": "5"}
    assert "1 marche ; essai" in (await ars.submit("/pilotage/reglages/echelle", why="essai", **rung)).replace(
        "\u00a0", " "
    )
    await ars.open("/pilotage/crise/plan")
    plan: dict[str, Any] = {
        "tension.radius_pct": "150",
        "tension.call": "Ouvrez des places",
        "why": "préparé",
        "lends": "73 ; 10 %",
    }
    assert 'value="150"' in await ars.submit("/pilotage/crise/plan", **plan)


async def _crisis(ars: Somebody) -> None:
    await ars.open("/pilotage/crise")
    effects = await ars.submit("/pilotage/crise/effets", level="tension", why="Bronchiolite")
    assert "<ins>150</ins>" in effects
    assert "Bronchiolite" in await ars.submit("/pilotage/crise")
    assert "Venez cet après-midi" in await ars.submit("/pilotage/crise/appel", text="Venez cet après-midi")
    await ars.submit("/pilotage/crise/effets", level="normal", why="Fini")
    await ars.submit("/pilotage/crise")


async def _proposal(ars: Somebody, regulator: Caller, need: dict[str, Any]) -> None:
    service = ars.service
    asked = await regulator.ask(need)
    assert asked["status"] == "waiting"
    alerting = Alerting(PostgresCrisis(service.stores.ledger), service.clock, SystemIds(), [TERRITORY])
    for minutes in (20.0, RISE_S / 60 + 1):
        service.clock.ahead += timedelta(minutes=minutes)
        await alerting.step()
    assert "Le service propose" in await ars.open("/pilotage/crise")
    await ars.submit("/pilotage/crise/proposition", answer="refuse", why="un seul patient")
    assert "Le service propose" not in ars.seen


# -- accounts, doors ---------------------------------------------------------------------------------------------------


async def test_the_actions_of_accounts_and_doors(service: Running, enter: Enter) -> None:
    admin = await enter(Role.ADMIN)
    await admin.open("/comptes")
    opened = await admin.submit("/comptes", login="nouvelle-osnp", name="Nouvelle", role="osnp", territories="69 01")
    first = re.findall(r'class="secret">([^<]+)<', opened)[0]
    again = await admin.submit("/comptes/mot-de-passe", which={"login": "nouvelle-osnp"})
    second = re.findall(r'class="secret">([^<]+)<', again)[0]
    assert first != second
    async with browser(service, Accept="text/html") as http:
        visitor = Somebody(service, http, "")
        await visitor.open("/connexion")
        await visitor.submit("/connexion", login="nouvelle-osnp", password=second)
        assert "Le besoin en une ligne" in visitor.seen
        await visitor.open("/compte")
        await visitor.submit("/compte", present=second, password=PASSWORD, again=PASSWORD)
        assert "Le besoin en une ligne" in visitor.seen
        await visitor.submit("/deconnexion")
        assert "Connexion" in visitor.seen and (await http.get("/regulation")).status_code == 303
        await accounts_at(service).add("demo-osnp", None, KeyWish(Role.OSNP, "Camille Fictive", ("69",)))
        await visitor.open("/demo")
        await visitor.submit("/demo", which={"login": "demo-osnp"})
    await admin.open("/comptes")
    assert "Fermé" in await admin.submit("/comptes/fermer", which={"login": "nouvelle-osnp"})
    assert left_out(service, "accounts", admin, visitor) == set()


def test_no_act_waits_for_a_part_of_a_page_that_renews_itself() -> None:
    """Forms inherit hx-sync: an act would queue behind a renewal, whose answer takes its form off the page."""
    pages = Path(site.__file__).parent.joinpath("templates").rglob("*.html")
    renewing = [tag for page in pages for tag in re.findall(r'<[^<>]*hx-sync="this:queue[^<>]*>', page.read_text())]
    assert len(renewing) >= 4
    assert [tag for tag in renewing if 'hx-disinherit="hx-sync"' not in tag] == []
