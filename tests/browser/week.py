"""An invented week of a département for the pictures of Pilotage: requests, answers, a plan, recorded days, a study."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

from adapters.postgres.studies import PostgresStudies
from sas_matcher.replay.daylog_file import write_day
from sas_matcher.replay.studies import RecordedShelf
from sas_matcher.replay.study import study as study_day
from sas_matcher.services.studies import Studies, StudyRoom
from tests.api.running import Running

DAYS: Final = 6
ASKED: Final = 160
_PROFESSIONS: Final = {"MG": 86, "DENT": 5, "PED": 3, "SF": 2, "KINE": 2, "IDE": 2}
_DELAYS: Final = {"1H": 3, "2H": 5, "4H": 10, "12H": 30, "24H": 37, "48H": 15}
PLAN: Final[dict[str, Any]] = {
    "tension": {
        "settings": {"radius_pct": 125, "urgent_reserve_pct": 20},
        "call": {"text": "Merci d'ouvrir des places cet après-midi.", "hours": 8},
        "text": "Prévenir les CPTS et le SAMU ; point à 14 h.",
    },
    "crise": {"settings": {"radius_pct": 150, "urgent_reserve_pct": 40, "tele_bonus_min": 15}, "borrow": True},
    "contacts": [{"name": "Astreinte fictive", "role": "ARS", "phone": "+33 4 00 00 00 00"}],
    "lends": [{"to": "01", "pct": 20}],
}
_EARLIER: Final = (Path(__file__).parent / "week.sql").read_text(encoding="utf-8")
"""The same day again, so many days before."""


async def a_week(service: Running, territory: str) -> None:
    """Fill a territory with a week that could have been."""
    draw = Random(7)
    communes = [c for c in service.geography.communes_of(territory) if c.population > 500]
    weights = [commune.population for commune in communes]
    regulator = await service.regulator(territory)
    for number in range(ASKED):
        spot = draw.choices(communes, weights)[0]
        profession = draw.choices(list(_PROFESSIONS), list(_PROFESSIONS.values()))[0]
        delay = draw.choices(list(_DELAYS), list(_DELAYS.values()))[0]
        wish = {"insee": spot.code, "profession": profession, "delay": delay, "radius_km": draw.choice((5, 10, 20))}
        asked = await regulator.ask(wish)
        # the last ones are still on the phone, or wait
        if asked["booking"] is not None and number < ASKED - 6:
            await regulator.act("confirm", asked["request_id"])
    for back in range(1, DAYS + 1):
        sql = _EARLIER.replace(":back", str(back))
        await service.stores.ledger._retry(lambda connection, sql=sql: connection.execute(sql))  # type: ignore[misc]
    ars = await service.key("ars", territories=(territory,), name="Veille fictive")
    await ars.http.put(
        f"/v1/territories/{territory}/crisis/plan",
        json={"plan": PLAN, "why": "Plan fictif, revu avec l'ARS"},
        headers={"Idempotency-Key": "plan-fictif"},
    )
    await ars.post(
        "/v1/crisis", {"scope": territory, "level": "tension", "why": "Bronchiolite : appels ×1,4 depuis hier"}
    )


async def recorded_days(
    service: Running, territory: str, ways: Sequence[str] = ("fcfs-nearest", "firm", "promise"), studied: int = 2
) -> None:
    """Record three invented days and study the last of them."""
    folder = Path(service.settings.history_dir)
    (folder / territory).mkdir(parents=True)
    today = service.clock.now().date()
    days = [today - timedelta(days=back) for back in (1, 2, 3)]
    for seed, day in enumerate(days):
        write_day(
            folder / territory / f"{day.isoformat()}.jsonl", study_day("city-x1", 30 + seed, day=date(2026, 1, 13))
        )
    shelf = RecordedShelf(folder)
    book = PostgresStudies(service.stores.ledger)
    studies = Studies(book, shelf, service.clock, service.stores.ids)
    key = (await service.key("ars", territories=(territory,))).key_id
    await studies.ask(territory, today, days[:studied], ways, key)
    await StudyRoom(book, shelf, service.clock).work_once()
