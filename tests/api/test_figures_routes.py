"""Figures through HTTP: who sees what, in which form, and how often those who need no key may ask."""

import csv
import io
from datetime import date
from unittest.mock import patch

import pytest

from adapters.postgres.studies import PostgresStudies
from sas_matcher.services.figures.figures import TABLES
from tests.api.conftest import Scene, settings_for
from tests.api.running import Running, run_service
from tests.api.test_bad_input import problem
from tests.conftest import Servers


async def test_a_coordinator_sees_its_own_territories(service: Running, scene: Scene) -> None:
    here = scene.spot.territory
    other = "48" if here != "48" else "15"
    coordinator = await service.key("cpts", territories=(here,))
    await scene.practice.publish(scene.slot(120), scene.slot(180))
    asked = await scene.regulator.ask(scene.wish())
    await scene.regulator.act("confirm", asked["request_id"])
    for name in TABLES:
        answer = await coordinator.get(f"/v1/figures/{name}", territory=here)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        keys = {column["key"] for column in found["columns"]}
        assert found["territory"] == here and all(keys <= row.keys() for row in found["rows"])
        problem(await coordinator.get(f"/v1/figures/{name}", territory=other), 403, "not_allowed")
    now = (await coordinator.get("/v1/figures/now")).json()
    assert [row["territory"] for row in now["territories"]] == [here]
    assert (await coordinator.get("/v1/figures/totals", territory=here)).json()["totals"]["met"] >= 1
    assert "hidden" in (await coordinator.get("/v1/figures/communes", territory=here)).json()["rows"][0]
    # nothing of a patient's own leaves: neither where exactly, nor which request
    text = (await coordinator.get("/v1/figures/communes", territory=here)).text
    assert asked["request_id"] not in text and str(asked["lat"]) not in text


async def test_a_gestionnaire_sees_the_places_of_its_structures_alone(service: Running, scene: Scene) -> None:
    own = {"structure": {"kind": "cds", "finess": "690009991", "name": "Centre fictif"}, "source_kind": "cds"}
    await scene.practice.publish(scene.slot(120, **own), scene.slot(180))
    here = scene.spot.territory
    window = {"territory": here, "to": scene.at(600).isoformat()}
    gestionnaire = await service.key("gestionnaire", territories=(here,), structures=("690009991",))
    rows = (await gestionnaire.get("/v1/figures/practices", **window)).json()["rows"]
    assert [row["practice"] for row in rows] == ["690009991"]
    ars = await service.key("ars", territories=(here,))
    assert len((await ars.get("/v1/figures/practices", **window)).json()["rows"]) >= 2


async def test_a_table_comes_for_spreadsheets(service: Running, scene: Scene) -> None:
    ars = await service.key("ars", territories=(scene.spot.territory,))
    name = "=cmd()"
    await scene.practice.publish(scene.slot(120, structure={"kind": "cds", "finess": "690009992", "name": name}))
    query = {"territory": scene.spot.territory, "to": scene.at(600).isoformat(), "format": "csv"}
    answer = await ars.get("/v1/figures/practices", **query)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig")), delimiter=";"))
    # a name from outside is no formula
    assert {row["Cabinet ou centre"] for row in rows if row["Identifiant"] == "690009992"} == {f"'{name}"}


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("tiers", {}, 422),
        ("tiers", {"territory": "98"}, 422),
        ("tiers", {"territory": "69", "secret": "1"}, 422),
        ("tiers", {"territory": "69", "from": "2026-01-01"}, 422),
        ("tiers", {"territory": "69", "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, 422),
        ("tiers", {"territory": "69", "from": "2020-01-01T00:00:00Z"}, 422),
        ("requests", {"territory": "69"}, 404),
    ],
)
async def test_questions_are_strict(service: Running, path: str, query: dict[str, str], status: int) -> None:
    admin = await service.key("admin")
    assert (await admin.get(f"/v1/figures/{path}", **query)).status_code == status


async def test_studies_are_their_territorys(service: Running, scene: Scene) -> None:
    here = scene.spot.territory
    other = "48" if here != "48" else "15"
    book = PostgresStudies(service.stores.ledger)
    coordinator, study_id = await service.key("cpts", territories=(here, other)), service.stores.ids.uuid()
    await book.ask(study_id, here, [date(2026, 1, 12)], ["firm"], coordinator.key_id, service.clock.now())
    (shown,) = (await coordinator.get("/v1/studies", territory=here)).json()["studies"]
    assert (shown["id"], shown["state"], shown["percent"]) == (study_id, "waiting", 0)
    found = (await coordinator.get(f"/v1/studies/{study_id}", territory=here)).json()
    assert [table["table"] for table in found["tables"]] == ["ways", "study-tiers"]
    problem(await coordinator.get(f"/v1/studies/{study_id}", territory=other), 404, "not_found")
    problem(await coordinator.get("/v1/studies", territory="2A"), 403, "not_allowed")
    assert await book.stop(study_id, here, service.clock.now())


async def test_public_figures_are_few_and_bounded(servers: Servers) -> None:
    database_url = servers.new_database()
    async with run_service(
        settings_for(database_url, servers.new_redis(), territories=("69",)), with_core=False
    ) as alone:
        nobody = await alone.key("admin")
        nobody.http.headers.pop("Authorization")
        answer = await nobody.get("/v1/public/figures")
        assert answer.status_code == 200 and answer.headers["cache-control"] == "public, max-age=600"
        assert answer.json()["territories"] == []
        # at one instant: whoever asks on and on is told to wait
        instant = alone.clock.now()
        with patch.object(alone.clock, "now", lambda: instant):
            for _ in range(101):
                answer = await nobody.get("/v1/public/figures")
        problem(answer, 429, "too_many_requests")
        assert int(answer.headers["retry-after"]) >= 1
    servers.drop_database(database_url)
