"""What the practice's pages say of places, patients and rules, without a browser."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from sas_matcher.console.cabinet.agenda_forms import hours_in, hours_in_french, rule_in_french, told, wish_of
from sas_matcher.console.cabinet.became import chart_of, sums_of, total_of
from sas_matcher.console.cabinet.board import Place, days_of, patients_of, place_of, visitor_of, window_of
from sas_matcher.console.cabinet.today import offered_hour
from sas_matcher.console.visit import Form
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.services.agenda.week import NO_EXTRAS, with_single

NOW = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)
PARIS = ZoneInfo("Europe/Paris")


def a_place(minutes: float = 60, *, capacity: int = 1, left: int = 1, status: str = "open", **counts: Any) -> Place:
    start = NOW + timedelta(minutes=minutes)
    record = {
        **{"slot_id": 7, "external_id": "agenda/cabinet/matin/1", "booking_kind": "routine", "mode": "cabinet"},
        **{"professional": "10000000001", "professional_name": "Dr Fictif", "structure": None, "structure_name": None},
        **{"start": start.isoformat(), "end": (start + timedelta(minutes=15)).isoformat(), "capacity": capacity},
    }
    zero = {"taken": 0, "held": 0, "promised": 0, "arrived": 0, "missed": 0, "handed_back": None}
    return place_of((orjson.dumps(record).decode(), left, status, zero | counts))


def a_booking(minutes: float = 60, state: str = "firm", **changes: Any) -> str:
    start = NOW + timedelta(minutes=minutes)
    return orjson.dumps(
        {
            **{"booking_id": "b", "slot_id": 7, "state": state, "professional": "10000000001", "acceptance": None},
            **{"start": start.isoformat(), "end": (start + timedelta(minutes=15)).isoformat()},
            **{"firm_at": (NOW - timedelta(minutes=2)).isoformat(), "ended_at": None},
            **changes,
        }
    ).decode()


@pytest.mark.parametrize(
    ("place", "state", "free"),
    [
        (a_place(), "free", 1),
        # a promise may still move: its place is not taken for the practice
        (a_place(left=0, promised=1), "free", 1),
        (a_place(left=0, held=1), "held", 0),
        (a_place(left=0, taken=1), "booked", 0),
        # a limit, or another booking of the same professional
        (a_place(left=0), "closed", 0),
        (a_place(left=0, handed_back=1), "handed_back", 0),
        (a_place(left=0, status="withdrawn"), "withdrawn", 0),
        (a_place(left=0, status="withdrawn", taken=1), "booked", 0),
        (a_place(capacity=4, left=1, taken=1, held=1, promised=1), "free", 2),
        (a_place(capacity=4, left=0, taken=4), "booked", 0),
    ],
)
def test_what_a_place_is(place: Place, state: str, free: int) -> None:
    assert (place.state, place.free) == (state, free)


def test_three_days_on_the_clock_of_the_place() -> None:
    begun, end = window_of(NOW, ZoneInfo("Indian/Reunion"))
    assert (begun.hour, end - begun) == (0, timedelta(days=3)) and begun.utcoffset() == timedelta(hours=4)
    days = days_of([a_place(), a_place(24 * 60), a_place(96 * 60)], NOW, PARIS)
    assert [day.count("free") for day in days] == [1, 1, 0]


def test_what_is_to_be_said_of_a_patient() -> None:
    open_for = {"kind": "tacit", "until": (NOW + timedelta(minutes=5)).isoformat(), "accepted_at": None}
    assert visitor_of(a_booking(acceptance=open_for), NOW).state == "answer"
    assert visitor_of(a_booking(acceptance=open_for | {"accepted_at": NOW.isoformat()}), NOW).state == "coming"
    assert visitor_of(a_booking(-1), NOW).state == "due"
    assert visitor_of(a_booking(-1, "noshow"), NOW).state == "noshow"
    gone = visitor_of(a_booking(state="cancelled", ended_at=NOW.isoformat()), NOW + timedelta(minutes=14))
    assert (gone.state, gone.is_new) == ("gone", True)
    assert not visitor_of(a_booking(), NOW + timedelta(minutes=13)).is_new


def test_patients_of_a_plage_stand_together() -> None:
    plage = a_place(capacity=3, taken=2, arrived=1)
    ended = visitor_of(a_booking(state="refused", ended_at=NOW.isoformat()), NOW)
    (today,) = patients_of([visitor_of(a_booking(), NOW), visitor_of(a_booking(), NOW), ended], [plage], PARIS)
    (together,) = [one for one in today.entries if one is not ended]
    assert (len(together.visitors), together.waiting) == (2, 1)  # type: ignore[union-attr]


def test_an_hour_en_sus_is_one_that_nobody_has() -> None:
    question = {
        "deadline": (NOW + timedelta(hours=4)).isoformat(),
        "minutes": 15,
        "km": 0,
        "professional": "10000000001",
    }
    first = offered_hour(question, [], NOW)
    assert first == NOW + timedelta(minutes=35)
    busy = [visitor_of(a_booking(30), NOW), visitor_of(a_booking(50), NOW)]
    assert offered_hour(question, busy, NOW) == NOW + timedelta(minutes=65)
    assert offered_hour(question | {"professional": "10000000002"}, busy, NOW) == first
    assert offered_hour(question | {"deadline": (NOW + timedelta(minutes=10)).isoformat()}, [], NOW) == NOW + timedelta(
        minutes=10
    )


def test_what_places_became_adds_up() -> None:
    places = [
        a_place(-60, left=0, taken=1, arrived=1),
        a_place(-60, capacity=4, taken=3, arrived=1, missed=1),
        a_place(-60, handed_back=1),
        a_place(-60, status="withdrawn"),
        a_place(-60, status="withdrawn", taken=1, missed=1),
        a_place(-60 * 30),
        a_place(60 * 24),
    ]
    sums = sums_of(places, date(2026, 11, 25), 2, PARIS)
    today = sums[1]
    assert (today.honoured, today.expected, today.missed, today.returned, today.unused) == (2, 1, 2, 1, 1)
    assert (today.published, today.filled, today.rate) == (7, 5, 71)
    assert total_of(sums).published == 8 and sums[0].rate == 0
    chart = chart_of(sums)
    # bars stand on one another, none leaves the picture
    tall = sum(bar.height for bar in chart.bars if bar.x == chart.bars[-1].x)
    assert min(bar.y for bar in chart.bars) >= 0 and tall == pytest.approx(
        196 - min(bar.y for bar in chart.bars), abs=0.5
    )


def test_rules_of_an_agenda_in_french() -> None:
    form = Form({"day": ["MO", "TH"], "every": ["2"], "start": ["08:30"], "end": ["10:00"], "each_min": ["15"]})
    hours = hours_in(form, ["plage-1"], date(2026, 11, 26))
    assert (hours["id"], hours["repeat"]) == ("plage-2", "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH")
    assert rule_in_french(hours) == "une semaine sur 2 : lundi, jeudi"
    assert hours_in_french(hours) == "8\u00a0h\u00a030 – 10\u00a0h\u00a000, un rendez-vous toutes les 15 min"
    walkin = Form({"start": ["14:00"], "end": ["18:00"], "kind": ["walkin"], "capacity": ["8"], "piece_min": ["60"]})
    once = hours_in(walkin, [], date(2026, 11, 26))
    assert rule_in_french(once) == "le 26/11/2026" and once["booking_kind"] == "walkin"
    assert hours_in_french(once).endswith("sans rendez-vous, plage de 8 patients, proposée par 60 min")


def test_errors_name_the_field_of_the_form() -> None:
    errors = [{"field": "hours.3.start", "message": "format inattendu"}, {"field": "hours.3", "message": "trop long"}]
    assert told(InvalidInputError("x", errors=errors)).detail == "Début : format inattendu · trop long"
    assert told(InvalidInputError("x")).detail == "x"
    with pytest.raises(InvalidInputError):
        wish_of({"hours": []})


def test_single_times_off_and_back() -> None:
    spans = [(datetime.fromisoformat("2026-11-26T09:00"), datetime.fromisoformat("2026-11-26T09:30"))]
    stop = {"from": "2026-11-26T09:00", "to": "2026-11-26T09:30", "booked": "refuse"}
    document = {**NO_EXTRAS, "quick": {"hours": [], "stops": [stop]}}
    off = with_single(document, spans, back=False)
    assert [one.get("single") for one in with_single(off, spans, back=False)["quick"]["stops"]] == [None, True]
    assert with_single(off, spans, back=True)["quick"]["stops"] == [stop]
