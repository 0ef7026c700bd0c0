"""Agendas through HTTP: the week is said once, published, rolled on, closed, stopped; nobody loses a place unasked."""

import asyncio
import itertools
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from sas_matcher.api.admission import Bulk
from sas_matcher.domain.agenda import SHOWN
from sas_matcher.ports.practice import AgendaRecord
from sas_matcher.services.agenda.show import AgendaShow
from tests.api.conftest import Scene
from tests.api.running import Caller, Running, eventually, rpps
from tests.api.test_bad_input import problem

PARIS: Final = ZoneInfo("Europe/Paris")
_numbers = itertools.count(1)


class Cabinet:
    """A doctor who keeps an agenda here; days are counted from today, on the clock of the place."""

    def __init__(self, scene: Scene, caller: Caller, doctor: str, zone: ZoneInfo = PARIS) -> None:
        self.scene = scene
        self.caller = caller
        self.doctor = doctor
        self.zone = zone
        self.name = f"cabinet-{next(_numbers)}"

    def day(self, number: int = 1) -> str:
        return (self.scene.at(0).astimezone(self.zone) + timedelta(days=number)).date().isoformat()

    def hours(self, **changes: Any) -> dict[str, Any]:
        """Return hours of tomorrow, 9 to 10, four individual times."""
        kind = {} if "capacity" in changes else {"each_min": 15}
        return {"id": "matin", "first": self.day(), "start": "09:00", "end": "10:00", **kind, **changes}

    def body(self, *hours: dict[str, Any], **changes: Any) -> dict[str, Any]:
        spot = self.scene.spot
        return {
            "professional": {"rpps": self.doctor, "name": "Dr Fictif"},
            "source_kind": "liberal",
            "location": {"lat": spot.lat, "lon": spot.lon, "insee": spot.code, "label": "Cabinet fictif"},
            "profession": "MG",
            "hours": list(hours),
            **changes,
        }

    async def put(self, *hours: dict[str, Any], **changes: Any) -> dict[str, Any]:
        answer = await self.caller.http.put(f"/v1/agendas/{self.name}", json=self.body(*hours, **changes))
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def post(self, path: str, body: Any = None, key: str | None = None) -> dict[str, Any]:
        answer = await self.caller.post(f"/v1/agendas/{path}", body, key=key)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def slots(self, *, open_only: bool = True) -> list[dict[str, Any]]:
        window = {"from": self.scene.at(-60).isoformat(), "to": self.scene.at(60 * 24 * 30).isoformat(), "limit": 1000}
        found = (await self.caller.get("/v1/slots", **window)).json()["slots"]
        mine = [slot for slot in found if slot["professional"] == self.doctor]
        return sorted((slot for slot in mine if slot["status"] == "open" or not open_only), key=lambda s: s["start"])

    async def times(self) -> list[str]:
        """Return the starts of what is open, on the wall clock."""
        found = await self.slots()
        return [f"{datetime.fromisoformat(slot['start']).astimezone(self.zone):%H:%M}" for slot in found]

    async def booked(self, **wish: Any) -> dict[str, Any]:
        """Let a patient have a place, confirmed."""
        held = await self.scene.regulator.ask(self.scene.wish(delay="48H", **wish))
        assert held["status"] == "held", held
        return await self.scene.regulator.act("confirm", held["request_id"])


@pytest.fixture
async def cabinet(service: Running, scene: Scene) -> Cabinet:
    """A doctor of this commune with a key of their own."""
    doctor = rpps()
    return Cabinet(scene, await service.practice(professionals=(doctor,)), doctor)


async def test_a_week_said_once_is_published_and_told_again_changes_nothing(cabinet: Cabinet) -> None:
    document = await cabinet.put(cabinet.hours(repeat="FREQ=DAILY"))
    assert document["version"] == 1 and document["zone"] == "Europe/Paris" and document["name"] == cabinet.name
    slots = await cabinet.slots()
    assert document["report"]["created"] == len(slots) and len(slots) in range(24, 29)  # 6 or 7 mornings of the 7 days
    assert set(await cabinet.times()) == {"09:00", "09:15", "09:30", "09:45"}
    assert slots[0]["external_id"].startswith(f"agenda/{cabinet.name}/matin/") and slots[0]["visibility"] == "snp"
    again = await cabinet.put(cabinet.hours(repeat="FREQ=DAILY"))
    assert again["version"] == 1
    assert again["report"]["unchanged"] == len(slots) and again["report"]["created"] == again["report"]["closed"] == 0
    assert (await cabinet.caller.get(f"/v1/agendas/{cabinet.name}")).json()["shown"]["version"] == 1
    assert [one["name"] for one in (await cabinet.caller.get("/v1/agendas")).json()["agendas"]] == [cabinet.name]
    assert (await cabinet.scene.regulator.ask(cabinet.scene.wish(delay="48H")))["status"] == "held"


async def test_what_is_told_to_the_regulator_comes_with_the_place(cabinet: Cabinet) -> None:
    evening = cabinet.hours(id="soir", start="20:00", end="20:15", info="Code B12")
    await cabinet.put(cabinet.hours(end="09:15"), evening, info="2e étage")
    labels = ["Cabinet fictif · 2e étage", "Cabinet fictif · Code B12"]
    assert [slot["label"] for slot in await cabinet.slots()] == labels
    held = await cabinet.scene.regulator.ask(cabinet.scene.wish(delay="48H"))
    assert held["decision"]["place"]["site"]["label"] in labels
    done = await cabinet.put(cabinet.hours(end="09:15"), evening)
    assert done["report"]["updated"] == 1 and done["report"]["refused"] == 0


async def test_the_preview_is_what_would_be_published_and_writes_nothing(cabinet: Cabinet) -> None:
    hours = cabinet.hours(capacity=5, end="12:00", piece_min=60)
    shown = await cabinet.post(f"{cabinet.name}/preview", cabinet.body(hours))
    assert [(slot["start"][11:16], slot["capacity"]) for slot in shown["slots"]] == [
        ("09:00", 1),
        ("10:00", 2),
        ("11:00", 2),
    ]
    problem(await cabinet.caller.get(f"/v1/agendas/{cabinet.name}"), 404, "not_found")
    assert await cabinet.slots() == []
    await cabinet.put(hours)
    assert [slot["capacity"] for slot in await cabinet.slots()] == [1, 2, 2]


async def test_what_is_said_no_longer_goes_and_comes_back(cabinet: Cabinet) -> None:
    await cabinet.put(cabinet.hours())
    done = await cabinet.put(cabinet.hours(start="09:30"))
    assert done["report"]["closed"] == 2 and await cabinet.times() == ["09:30", "09:45"]
    assert (await cabinet.put(cabinet.hours(open=False)))["report"]["closed"] == 2
    assert await cabinet.slots() == []
    assert (await cabinet.put(cabinet.hours()))["report"]["updated"] == 4
    assert len(await cabinet.slots()) == 4


async def test_who_has_a_place_keeps_it_when_the_agenda_changes_and_the_seat_is_nobodys_after(cabinet: Cabinet) -> None:
    await cabinet.put(cabinet.hours(end="09:15"))
    firm = await cabinet.booked()
    done = await cabinet.put()
    assert done["report"] == {
        "created": 0,
        "updated": 0,
        "unchanged": 0,
        "booked": 0,
        "closed": 1,
        "refused": 0,
        "kept": 1,
    }
    regulator = cabinet.scene.regulator
    assert (await regulator.request(firm["request_id"]))["status"] == "firm"
    assert len(await cabinet.slots(open_only=False)) == 1
    # the patient gives it back: it is not offered to anybody else
    await regulator.act("cancel", firm["request_id"])
    other = await regulator.ask(cabinet.scene.wish(delay="48H"))
    assert other["status"] == "waiting"
    await cabinet.put(cabinet.hours(end="09:15"))
    await regulator.until(other["request_id"], lambda d: d["status"] == "held")


@pytest.mark.parametrize("booked", ["refuse", "keep"])
async def test_a_closure_cuts_times_and_says_what_becomes_of_patients(cabinet: Cabinet, booked: str) -> None:
    hours = cabinet.hours()
    await cabinet.put(hours)
    first = await cabinet.booked()
    day = cabinet.day()
    # from within the first time to within the third
    closure = {"from": f"{day}T09:10", "to": f"{day}T09:35", "booked": booked}
    done = await cabinet.put(hours, closures=[closure])
    assert await cabinet.times() == ["09:45"]
    assert (done["report"]["closed"], done["report"]["refused"]) == (3, int(booked == "refuse"))
    status = {"refuse": "held", "keep": "firm"}[booked]
    after = await cabinet.scene.regulator.until(first["request_id"], lambda d: d["status"] == status)
    if booked == "refuse":
        assert after["booking"]["slot_id"] != first["booking"]["slot_id"]


async def test_a_plage_is_cut_and_whoever_has_a_seat_in_it_is_counted(cabinet: Cabinet) -> None:
    hours = cabinet.hours(capacity=8, end="13:00")
    await cabinet.put(hours)
    for _ in range(3):
        await cabinet.booked()
    day = cabinet.day()
    done = await cabinet.put(hours, closures=[{"from": f"{day}T10:00", "to": f"{day}T11:00"}])
    assert done["report"]["kept"] == 3 and done["report"]["refused"] == 0
    # six have time left (2 from 9 to 10, 4 from 11 to 13), three of them are there already
    assert [(slot["capacity"], slot["left"]) for slot in await cabinet.slots()] == [(2, 2), (1, 1)]
    gone = await cabinet.put(hours, closures=[{"from": f"{day}T08:00", "to": f"{day}T13:00"}])
    assert gone["report"]["refused"] == 3 and await cabinet.slots() == []


async def test_more_places_today_are_added_once_and_taken_back(cabinet: Cabinet) -> None:
    await cabinet.put()
    asked = {"count": 2, "start": "14:00", "end": "16:00", "day": cabinet.day()}
    done = await cabinet.post(f"{cabinet.name}/places", asked, key="un-clic-du-matin")
    (added,) = done["quick"]["hours"]
    assert [(slot["capacity"], slot["left"]) for slot in await cabinet.slots()] == [(2, 2)]
    assert await cabinet.times() == ["14:00"]
    assert (await cabinet.post(f"{cabinet.name}/places", asked, key="un-clic-du-matin"))["version"] == done["version"]
    other = await cabinet.caller.post(
        f"/v1/agendas/{cabinet.name}/places", {**asked, "count": 3}, key="un-clic-du-matin"
    )
    problem(other, 409, "idempotency_reused")
    await cabinet.post(f"{cabinet.name}/places", asked)
    assert sum(slot["left"] for slot in await cabinet.slots()) == 4
    # the week said anew leaves them
    await cabinet.put(cabinet.hours())
    assert len(await cabinet.slots()) == 6
    gone = await cabinet.caller.http.delete(f"/v1/agendas/{cabinet.name}/places/{added['id']}")
    assert gone.json()["report"]["closed"] == 1
    problem(await cabinet.caller.http.delete(f"/v1/agendas/{cabinet.name}/places/{added['id']}"), 404, "not_found")


async def test_stop_takes_every_free_place_until_it_ends_or_is_ended(cabinet: Cabinet) -> None:
    """Also over a week said anew meanwhile, and again does no harm."""
    await cabinet.put(cabinet.hours(repeat="FREQ=DAILY"))
    firm = await cabinet.booked()
    until = cabinet.scene.at(60 * 24 * 2)
    (done,) = (await cabinet.post("stop", {"until": until.isoformat()}))["agendas"]
    assert done["report"]["kept"] == 1 and done["report"]["refused"] == 0
    assert min(datetime.fromisoformat(slot["start"]) for slot in await cabinet.slots()) >= until
    assert (await cabinet.scene.regulator.request(firm["request_id"]))["status"] == "firm"
    (again,) = (await cabinet.post("stop", {"until": until.isoformat()}))["agendas"]
    assert again["version"] == done["version"]
    await cabinet.put(cabinet.hours(repeat="FREQ=DAILY", end="09:45"))
    assert min(datetime.fromisoformat(slot["start"]) for slot in await cabinet.slots()) >= until
    (back,) = (await cabinet.post("go-on"))["agendas"]
    assert back["quick"]["stops"] == [] and back["report"]["updated"] >= 2
    # six days, and of the seventh what has not begun or is shown already
    assert (await cabinet.times())[0] == "09:00" and 18 <= len(await cabinet.slots()) <= 21
    (refused,) = (
        await cabinet.post("stop", {"names": [cabinet.name], "until": until.isoformat(), "booked": "refuse"})
    )["agendas"]
    assert refused["report"]["refused"] == 1
    await cabinet.scene.regulator.until(firm["request_id"], lambda d: d["status"] == "waiting")


async def test_the_core_rolls_agendas_on(service: Running, cabinet: Cabinet) -> None:
    await cabinet.put(cabinet.hours(repeat="FREQ=DAILY"))
    before = {slot["slot_id"] for slot in await cabinet.slots()}
    service.clock.ahead += timedelta(days=1)

    async def rolled() -> bool:
        return len({slot["slot_id"] for slot in await cabinet.slots()} - before) == 4

    await eventually(rolled)
    shown = (await cabinet.caller.get(f"/v1/agendas/{cabinet.name}")).json()["shown"]
    assert datetime.fromisoformat(shown["until"]) > service.clock.now() + SHOWN - timedelta(minutes=5)


async def test_overseas_the_clock_is_that_of_the_place(service: Running, scene: Scene) -> None:
    commune = service.geography.by_code("97411")
    assert commune is not None
    reunion = ZoneInfo("Indian/Reunion")
    there = Cabinet(Scene(service, commune, scene.regulator, scene.practice), scene.practice, rpps(), reunion)
    assert (await there.put(there.hours()))["zone"] == "Indian/Reunion"
    assert await there.times() == ["09:00", "09:15", "09:30", "09:45"]


async def test_removed_it_is_gone_and_who_has_a_place_keeps_it(cabinet: Cabinet) -> None:
    await cabinet.put(cabinet.hours())
    firm = await cabinet.booked()
    gone = (await cabinet.caller.http.delete(f"/v1/agendas/{cabinet.name}")).json()
    assert gone["removed"] == cabinet.name and gone["report"]["closed"] == 4 and gone["report"]["kept"] == 1
    problem(await cabinet.caller.get(f"/v1/agendas/{cabinet.name}"), 404, "not_found")
    assert (await cabinet.scene.regulator.request(firm["request_id"]))["status"] == "firm"
    assert await cabinet.slots() == []


async def test_removal_does_not_take_what_another_puts_in_meanwhile(
    cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cabinet.put(cabinet.hours())
    show = AgendaShow.show

    async def interrupted(self: AgendaShow, record: AgendaRecord) -> Any:
        done = await show(self, record)
        monkeypatch.setattr(AgendaShow, "show", show)
        await cabinet.put(cabinet.hours(start="14:00", end="15:00"))
        return done

    monkeypatch.setattr(AgendaShow, "show", interrupted)
    problem(await cabinet.caller.http.delete(f"/v1/agendas/{cabinet.name}"), 409, "conflict")
    left = (await cabinet.caller.get(f"/v1/agendas/{cabinet.name}")).json()
    assert left["hours"][0]["start"] == "14:00" and len(await cabinet.slots()) == 4


# -- who may -------------------------------------------------------------------------------------------------------


async def test_a_secretary_a_manager_and_a_gestionnaire_each_see_theirs(service: Running, scene: Scene) -> None:
    """One source, several keys: each key changes the agendas of those that it is bound to, and sees no other."""
    first, second, centre = rpps(), rpps(), f"69{next(_numbers):07d}"
    source = f"gestion-{next(_numbers)}"
    secretary = await service.key("delegate", professionals=(first, second), source=source)
    doctor = await service.key("professional", professionals=(first,), source=source)
    owner = await service.key("gestionnaire", territories=("69",), structures=(centre,), source=source)
    stranger = await service.key("ars", territories=("*",), source=source)
    cabinets = [Cabinet(scene, secretary, first), Cabinet(scene, secretary, second), Cabinet(scene, owner, first)]
    await cabinets[0].put(cabinets[0].hours())
    await cabinets[1].put(cabinets[1].hours())
    structure = {"finess": centre, "kind": "cds", "name": "Centre fictif"}
    await cabinets[2].put(cabinets[2].hours(), professional=None, structure=structure, source_kind="cds")
    names = [one.name for one in cabinets]

    async def seen(caller: Caller) -> list[str]:
        return [one["name"] for one in (await caller.get("/v1/agendas")).json()["agendas"]]

    assert await seen(secretary) == sorted(names[:2])
    assert await seen(doctor) == names[:1]
    assert await seen(owner) == names[2:]
    assert await seen(stranger) == []
    problem(await doctor.get(f"/v1/agendas/{names[1]}"), 404, "not_found")
    problem(await doctor.http.delete(f"/v1/agendas/{names[2]}"), 404, "not_found")
    mine = cabinets[0].body(cabinets[0].hours())
    problem(await doctor.http.put(f"/v1/agendas/{names[1]}", json=mine), 404, "not_found")
    problem(await doctor.post("/v1/agendas/stop", {"names": names[:2]}), 404, "not_found")
    problem(await stranger.http.put("/v1/agendas/autre", json=mine), 422, "invalid_input", "professional")
    # the doctor's own stop leaves the other doctor's places
    await doctor.post("/v1/agendas/stop", {"until": scene.at(60 * 24 * 3).isoformat()})
    assert await cabinets[0].slots() == [] and len(await cabinets[1].slots()) == 4


# -- what is wrong -------------------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"each_min": None}, "hours.0"),
    ({"capacity": 4, "each_min": 15}, "hours.0"),
    ({"piece_min": 30}, "hours.0"),
    ({"each_min": 90}, "hours.0"),
    ({"start": "06:00", "end": "23:00"}, "hours.0"),
    ({"start": "9:00"}, "hours.0.start"),
    ({"start": "25:00"}, "hours.0.start"),
    ({"first": "2026-02-30"}, "hours.0.first"),
    ({"first": "1926-02-03"}, "hours.0.first"),
    ({"first": "2026-11-23T08:00"}, "hours.0.first"),
    ({"except_on": ["demain"]}, "hours.0.except_on.0"),
    ({"id": "Matin"}, "hours.0.id"),
    ({"id": "plus-tard"}, "corps"),
    ({"repeat": "FREQ=YEARLY"}, "hours.0.repeat"),
    ({"repeat": "FREQ=SECONDLY"}, "hours.0.repeat"),
    ({"repeat": "FREQ=WEEKLY;BYDAY=LU"}, "hours.0.repeat"),
    ({"repeat": "FREQ=WEEKLY;BYDAY=1MO"}, "hours.0.repeat"),
    ({"repeat": "FREQ=DAILY;BYDAY=MO"}, "hours.0.repeat"),
    ({"repeat": "FREQ=WEEKLY;BYHOUR=8"}, "hours.0.repeat"),
    ({"repeat": "FREQ=DAILY;INTERVAL=0"}, "hours.0.repeat"),
    ({"repeat": "FREQ=DAILY;COUNT=99999"}, "hours.0.repeat"),
    ({"repeat": "FREQ=DAILY;COUNT=2;UNTIL=20261231"}, "hours.0.repeat"),
    ({"repeat": "FREQ=DAILY;UNTIL=20261331"}, "hours.0.repeat"),
    ({"repeat": "FREQ=MONTHLY;BYMONTHDAY=0"}, "hours.0.repeat"),
    ({"repeat": "tous les lundis"}, "hours.0.repeat"),
    ({"patient": "x"}, "hours.0.patient"),
]


@pytest.mark.parametrize(("changes", "field"), WRONG)
async def test_hours_that_make_no_sense(cabinet: Cabinet, changes: dict[str, Any], field: str) -> None:
    hours = {**cabinet.hours(), **changes}
    body = cabinet.body(hours)
    problem(await cabinet.caller.http.put(f"/v1/agendas/{cabinet.name}", json=body), 422, "invalid_input", field)
    problem(await cabinet.caller.get(f"/v1/agendas/{cabinet.name}"), 404, "not_found")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"professional": None}, "professional"),
        ({"professional": {"rpps": "10000000012", "name": "Dr Autre"}}, "professional"),
        ({"specialty": "SM04"}, "specialty"),
        ({"closures": [{"from": "2026-11-24T10:00", "to": "2026-11-24T09:00"}]}, "closures.0"),
        ({"closures": [{"from": "2026-11-24T10:00+01:00", "to": "2026-11-25T09:00"}]}, "closures.0.from"),
        ({"version": 7}, None),
    ],
)
async def test_an_agenda_that_makes_no_sense_or_is_of_others(
    cabinet: Cabinet, changes: dict[str, Any], field: str | None
) -> None:
    for hours in ([], [cabinet.hours()]):  # also an empty week is checked
        body = cabinet.body(*hours, **changes)
        answer = await cabinet.caller.http.put(f"/v1/agendas/{cabinet.name}", json=body)
        problem(answer, 409 if field is None else 422, "conflict" if field is None else "invalid_input", field)
    assert await cabinet.slots() == []


async def test_a_place_that_cannot_be_is_named_once(cabinet: Cabinet) -> None:
    location = cabinet.body()["location"]
    for change, field in (({"lat": 16.2, "lon": -61.5}, "location.lat"), ({"insee": "99999"}, "location.insee")):
        body = cabinet.body(cabinet.hours(), location={**location, **change})
        answer = await cabinet.caller.http.put(f"/v1/agendas/{cabinet.name}", json=body)
        assert len(problem(answer, 422, "invalid_input", field)["errors"]) == 1


async def test_too_many_slots_are_refused_and_nothing_changes(cabinet: Cabinet) -> None:
    await cabinet.put(cabinet.hours())
    many = [cabinet.hours(id=f"h{n}", start="08:00", end="20:00", each_min=5, repeat="FREQ=DAILY") for n in range(6)]
    answer = await cabinet.caller.http.put(f"/v1/agendas/{cabinet.name}", json=cabinet.body(*many))
    problem(answer, 422, "invalid_input", "hours")
    assert len(await cabinet.slots()) == 4
    twice = cabinet.body(cabinet.hours(), cabinet.hours())
    problem(await cabinet.caller.http.put(f"/v1/agendas/{cabinet.name}", json=twice), 422, "invalid_input", "corps")


async def test_quick_actions_that_make_no_sense(cabinet: Cabinet) -> None:
    await cabinet.put()
    path = f"/v1/agendas/{cabinet.name}/places"
    yesterday, far = cabinet.day(-1), cabinet.day(9)
    for body, field in (
        ({"count": 0, "start": "14:00", "end": "16:00"}, "count"),
        ({"count": 2, "start": "14h", "end": "16:00"}, "start"),
        ({"count": 2, "start": "14:00", "end": "16:00", "day": yesterday}, "end"),
        ({"count": 2, "start": "14:00", "end": "16:00", "day": far}, "day"),
        ({"count": 1, "start": "09:00", "end": "19:00", "day": cabinet.day()}, "end"),
        ({"count": 2, "start": "06:00", "end": "20:00", "day": cabinet.day()}, "end"),
    ):
        problem(await cabinet.caller.post(path, body), 422, "invalid_input", field)
    answer = await cabinet.caller.http.post(path, json={"count": 1, "start": "09:00", "end": "10:00"})
    problem(answer, 422, "invalid_input", "Idempotency-Key")
    for until in (cabinet.scene.at(-5), cabinet.scene.at(60 * 24 * 8)):
        answer = await cabinet.caller.post("/v1/agendas/stop", {"until": until.isoformat()})
        problem(answer, 422, "invalid_input", "until")
    problem(
        await cabinet.caller.post("/v1/agendas/inconnu/places", {"count": 1, "start": "09:00", "end": "10:00"}),
        404,
        "not_found",
    )
    problem(await cabinet.caller.post("/v1/agendas/go-on", {"names": ["inconnu"]}), 404, "not_found")
    problem(await cabinet.caller.get("/v1/agendas/Inconnu"), 422, "invalid_input", "name")


async def test_nobody_publishes_under_the_names_of_an_agenda(scene: Scene) -> None:
    """Whoever could would have their slots taken back by it."""
    answer = await scene.practice.post("/v1/slots", {"slots": [scene.slot(external_id="agenda/x/matin/1")]})
    problem(answer, 422, "invalid_input", "slots.0.external_id")


# -- a table -------------------------------------------------------------------------------------------------------


async def csv(cabinet: Cabinet, *lines: str, preview: bool = False) -> Any:
    content = "\n".join(["date;debut;fin;duree;places", *lines]).encode()
    headers = {"Content-Type": "text/csv"}
    query = {"preview": "true"} if preview else {}
    return await cabinet.caller.http.post(
        f"/v1/agendas/{cabinet.name}/csv", content=content, headers=headers, params=query
    )


async def test_a_table_is_previewed_taken_in_told_again_and_replaced(cabinet: Cabinet) -> None:
    day = cabinet.day()
    problem(await csv(cabinet, f"{day};8h;9h;15;"), 404, "not_found")
    await cabinet.put(cabinet.hours())
    lines = (f"{day};14h;15h;30;", f"{day};16h;18h;;6")
    shown = (await csv(cabinet, *lines, f"{day};8h;9h;2;", preview=True)).json()
    assert (shown["lines"], len(shown["slots"])) == (3, 7)
    (error,) = shown["errors"]
    assert (error["line"], error["column"], error["field"]) == (4, "duree", "ligne 4, colonne duree")
    assert len(await cabinet.slots()) == 4, "a preview writes nothing"

    body = problem(await csv(cabinet, *lines, f"{day};8h;9h;2;"), 422, "invalid_input", "ligne 4, colonne duree")
    assert body["errors"][0]["line"] == 4 and "Rien n'a changé" in body["detail"]
    assert len(await cabinet.slots()) == 4, "all lines, or none"

    done = (await csv(cabinet, *lines)).json()
    assert done["report"]["created"] == 3 and done["imported"]["hours"] == 2 and done["imported"]["origin"] == "csv"
    assert await cabinet.times() == ["09:00", "09:15", "09:30", "09:45", "14:00", "14:30", "16:00"]
    again = (await csv(cabinet, *lines[::-1])).json()
    assert again["report"]["created"] == again["report"]["closed"] == 0 and again["report"]["unchanged"] == 7
    # the week said anew leaves what came from the file; another file takes its place
    await cabinet.put(cabinet.hours(end="09:15"))
    assert len(await cabinet.slots()) == 4
    other = (await csv(cabinet, lines[1])).json()
    assert other["report"]["closed"] == 2 and await cabinet.times() == ["09:00", "16:00"]
    problem(
        await cabinet.caller.post(f"/v1/agendas/{cabinet.name}/csv?preview=oui", b""), 422, "invalid_input", "preview"
    )


async def test_tables_wait_for_their_turn_as_other_large_bodies_do(
    cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cabinet.put(cabinet.hours())
    turns: list[str] = []
    turn = Bulk.turn

    def counted(self: Bulk) -> Any:
        turns.append("turn")
        return turn(self)

    monkeypatch.setattr(Bulk, "turn", counted)
    assert (await csv(cabinet, f"{cabinet.day()};14h;15h;30;", preview=True)).status_code == 200 and len(turns) == 1
    monkeypatch.setattr(Bulk, "ROOM", -Bulk.AT_ONCE)
    refused = problem(await csv(cabinet, f"{cabinet.day()};14h;15h;30;"), 503, "overloaded")
    assert "rien n'en a été lu" in refused["detail"]


async def test_a_table_of_ten_thousand_lines_is_taken_in(service: Running, scene: Scene) -> None:
    """Of a centre, three months ahead; the slots of the next seven days are published."""
    centre = f"69{next(_numbers):07d}"
    cabinet = Cabinet(scene, await service.practice(structures=(centre,)), rpps())
    structure = {"finess": centre, "kind": "cds", "name": "Centre fictif"}
    await cabinet.put(professional=None, structure=structure, source_kind="cds")
    lines = [f"{cabinet.day(1 + n // 110)};{8 + n % 11}h;{9 + n % 11}h;{6 + n % 110 // 11};" for n in range(10_000)]
    with service.clock.standing():  # each minute some of so many hours come into the seven days
        answer = await csv(cabinet, *lines)
        assert answer.status_code == 200, answer.text
        report = answer.json()["report"]
        assert answer.json()["imported"]["hours"] == 10_000 and report["created"] > 3_800
        again = (await csv(cabinet, *lines)).json()
    assert again["report"]["created"] == again["report"]["closed"] == 0


# -- a calendar ----------------------------------------------------------------------------------------------------


class Calendars:
    """A web server that gives whatever the test sets."""

    def __init__(self) -> None:
        self.body = b""
        self.files: dict[str, bytes] = {}
        self.status = "200 OK"
        self.asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        body = self.files.get(asked.split()[1].decode(), self.body)
        head = f"HTTP/1.1 {self.status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()


async def read_again(service: Running, cabinet: Cabinet, calendars: Calendars) -> dict[str, Any]:
    """Let the core read the calendar of an agenda now, and return the agenda after."""
    asked = calendars.asked
    await service.rows(
        "update agenda set feed_next = '-infinity', feed_failed = 'to be read' where name = $1 returning name",
        cabinet.name,
    )

    async def told() -> dict[str, Any] | None:
        document: dict[str, Any] = (await cabinet.caller.get(f"/v1/agendas/{cabinet.name}")).json()
        # what became of it is written last, over the mark
        return document if calendars.asked > asked and document["feed_state"]["failed"] != "to be read" else None

    found: dict[str, Any] = await eventually(told, 60)  # each reading is a process of its own
    return found


async def test_a_calendar_is_followed_and_its_last_good_state_kept(service: Running, cabinet: Cabinet) -> None:
    calendars = Calendars()
    day = cabinet.day().replace("-", "")

    def ics(*busy: str) -> bytes:
        free = f"BEGIN:AVAILABLE\nUID:a\nDTSTART:{day}T090000\nDTEND:{day}T110000\nEND:AVAILABLE"
        events = "".join(f"BEGIN:VEVENT\nUID:{at}\nDTSTART:{day}T{at}00\nDURATION:PT30M\nEND:VEVENT\n" for at in busy)
        return f"BEGIN:VCALENDAR\nBEGIN:VAVAILABILITY\n{free}\nEND:VAVAILABILITY\n{events}END:VCALENDAR\n".encode()

    server = await asyncio.start_server(calendars.serve, "127.0.0.1", 0)
    async with server:
        feed = {"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/secret.ics", "each_min": 30}
        calendars.body = ics("0930")
        await cabinet.put(feed=feed)
        await read_again(service, cabinet, calendars)
        assert await cabinet.times() == ["09:00", "10:00", "10:30"]
        firm = await cabinet.booked()

        before = (await cabinet.caller.get(f"/v1/agendas/{cabinet.name}")).json()["version"]
        same = await read_again(service, cabinet, calendars)
        assert same["version"] == before and same["feed_state"]["failed"] is None

        # broken half-way, away, gone: what was read last stays
        for status, body, word in (
            ("200 OK", calendars.body[:90], "VCALENDAR"),
            ("404 Not Found", b"", "répond 404"),
            ("302 Found", b"", "adresse finale"),
        ):
            calendars.status, calendars.body = status, body
            broken = await read_again(service, cabinet, calendars)
            assert word in broken["feed_state"]["failed"] and broken["feed_state"]["good_at"]
            assert await cabinet.times() == ["09:00", "10:00", "10:30"]

        # the patient who has nine o'clock is in the calendar by now, and keeps it
        calendars.status, calendars.body = "200 OK", ics("0900", "1030")
        good = await read_again(service, cabinet, calendars)
        assert good["feed_state"]["failed"] is None and await cabinet.times() == ["09:30", "10:00"]
        assert (await cabinet.scene.regulator.request(firm["request_id"]))["status"] == "firm"

        problem(await csv(cabinet, f"{cabinet.day()};8h;9h;15;"), 409, "conflict")
        await cabinet.put()
        assert await cabinet.slots() == [], "it follows no calendar any more"


async def test_what_was_read_of_a_calendar_that_is_followed_no_longer_is_not_shown(
    service: Running, cabinet: Cabinet
) -> None:
    day = cabinet.day().replace("-", "")
    times = f"UID:a\nCATEGORIES:SNP\nDTSTART:{day}T090000\nDTEND:{day}T093000"
    body = f"BEGIN:VCALENDAR\nBEGIN:VEVENT\n{times}\nEND:VEVENT\nEND:VCALENDAR\n".encode()
    calendars = Calendars()
    calendars.files["/old.ics"] = body

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not calendars.asked:  # the practice names another one while the first is on its way
            await cabinet.put(feed={"url": f"{base}/new.ics", "each_min": 30})
        await calendars.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await cabinet.put(feed={"url": f"{base}/old.ics", "each_min": 30})

        async def told() -> bool:
            state = (await cabinet.caller.get(f"/v1/agendas/{cabinet.name}")).json()["feed_state"]
            return calendars.asked == 2 and state["failed"] is not None

        await eventually(told)
        assert await cabinet.slots() == [], "of the first, when the second cannot be read"


async def test_a_manifest_of_places_is_followed(service: Running, cabinet: Cabinet) -> None:
    web = Calendars()

    def places(*clocks: str) -> bytes:
        lines = [
            f'{{"resourceType":"Slot","id":"{at}","schedule":{{"reference":"Schedule/1"}},"status":"free",'
            f'"start":"{instant.isoformat()}","end":"{(instant + timedelta(minutes=20)).isoformat()}"}}'
            for at in clocks
            for instant in [datetime.fromisoformat(f"{cabinet.day()}T{at}").replace(tzinfo=PARIS)]
        ]
        return "\n".join(lines).encode()

    server = await asyncio.start_server(web.serve, "127.0.0.1", 0)
    async with server:
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/demo"
        web.files["/demo/$bulk-publish"] = (
            b'{"output":[{"type":"Slot","url":"1.ndjson"},{"type":"Slot","url":"2.ndjson"}]}'
        )
        web.files |= {"/demo/1.ndjson": places("09:00", "09:20"), "/demo/2.ndjson": places("14:00")}
        await cabinet.put(feed={"kind": "smart", "url": f"{base}/$bulk-publish"})
        await read_again(service, cabinet, web)
        assert await cabinet.times() == ["09:00", "09:20", "14:00"]
        web.files["/demo/2.ndjson"] = places("14:00")[:-5]
        broken = await read_again(service, cabinet, web)
        assert "ligne 3" in broken["feed_state"]["failed"] and len(await cabinet.slots()) == 3
        web.files["/demo/2.ndjson"] = places("15:00")
        await read_again(service, cabinet, web)
        assert await cabinet.times() == ["09:00", "09:20", "15:00"]


@pytest.mark.parametrize(
    ("feed", "field"),
    [
        ({"url": "https://agenda.example/x.ics"}, "feed"),
        ({"kind": "smart", "url": "https://agenda.example/x", "each_min": 15}, "feed"),
        ({"url": "https://agenda.example/x.ics", "each_min": 15, "schedules": ["1"]}, "feed"),
        ({"url": "file:///etc/passwd", "each_min": 15}, "feed.url"),
        ({"url": "https://user:secret@agenda.example/", "each_min": 15}, "feed.url"),
        ({"url": "https://agenda.example/x.ics", "each_min": 0}, "feed.each_min"),
        ({"url": "https://agenda.example/x.ics", "each_min": 15, "password": "x"}, "feed.password"),
    ],
)
async def test_a_calendar_that_cannot_be_followed(cabinet: Cabinet, feed: dict[str, Any], field: str) -> None:
    answer = await cabinet.caller.http.put(f"/v1/agendas/{cabinet.name}", json=cabinet.body(feed=feed))
    problem(answer, 422, "invalid_input", field)


async def test_a_calendar_in_clear_or_inside_is_not_asked_for(service: Running, cabinet: Cabinet) -> None:
    for url, word in (("http://agenda.example/x.ics", "https://"), ("https://10.0.0.1/x.ics", "réseau privé")):
        await cabinet.put(feed={"url": url, "each_min": 15})

        async def failed(word: str = word) -> bool:
            state = (await cabinet.caller.get(f"/v1/agendas/{cabinet.name}")).json()["feed_state"]
            return word in (state["failed"] or "")

        await eventually(failed)
