"""What taking part gives back: regimes of time, the four facts of an act, hours of a week, who is paid, the table."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from sas_matcher.domain.duty import is_public_holiday, regime, week_of
from sas_matcher.ports.practice import Act, Offered
from sas_matcher.services.statement import ACT_COLUMNS, as_csv, facts_of, weeks_of

PARIS = "Europe/Paris"
MONDAY = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)  # 10 h in Paris
HOUR = timedelta(hours=1)


def act(**changes: Any) -> Act:
    base = Act(
        *("b1", "fulfilled", "10000000012", "Dr Fictif", None, None, "liberal", "69", "69382"),
        *(MONDAY, MONDAY + timedelta(minutes=15), "cabinet", "MG", False, MONDAY - HOUR, "regulator", "no"),
    )
    return base._replace(**changes)


def offered(start: datetime = MONDAY, minutes: int = 60, **changes: Any) -> Offered:
    base = Offered(
        *("10000000012", "Dr Fictif", None, None, "liberal", "69"), start, start + timedelta(minutes=minutes), 1, 0
    )
    return base._replace(**changes)


@pytest.mark.parametrize(
    ("local", "zone", "insee", "expected"),
    [
        ("2026-11-23T08:00", PARIS, "69382", "sas"),
        ("2026-11-23T07:59", PARIS, "69382", "pdsa"),
        ("2026-11-23T19:59", PARIS, "69382", "sas"),
        ("2026-11-23T20:00", PARIS, "69382", "pdsa"),
        ("2026-11-28T11:59", PARIS, "69382", "sas"),
        ("2026-11-28T12:00", PARIS, "69382", "pdsa"),  # Saturday from noon
        ("2026-11-29T10:00", PARIS, "69382", "pdsa"),  # Sunday
        ("2026-11-11T10:00", PARIS, "69382", "pdsa"),  # Armistice
        ("2026-05-14T10:00", PARIS, "69382", "pdsa"),  # Ascension
        ("2026-04-03T10:00", PARIS, "67482", "pdsa"),  # Good Friday in Strasbourg
        ("2026-04-03T10:00", PARIS, "69382", "sas"),
        ("2025-12-26T10:00", PARIS, "57463", "pdsa"),
        ("2026-05-27T10:00", "America/Guadeloupe", "97105", "pdsa"),  # abolition of slavery
        ("2026-05-27T10:00", "America/Martinique", "97209", "sas"),
        ("2026-05-22T10:00", "America/Martinique", "97209", "pdsa"),
        ("2026-06-10T10:00", "America/Cayenne", "97302", "pdsa"),
        ("2027-12-20T10:00", "Indian/Reunion", "97411", "pdsa"),
        ("2026-04-27T10:00", "Indian/Mayotte", "97611", "pdsa"),
        ("2026-11-23T08:00", "Indian/Reunion", "97411", "sas"),  # 4 h in UTC
    ],
)
def test_a_place_lies_in_the_hours_of_the_sas_or_of_the_permanence(
    local: str, zone: str, insee: str, expected: str
) -> None:
    from zoneinfo import ZoneInfo

    assert regime(datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone)), zone, insee) == expected


def test_there_are_eleven_public_holidays_and_one_more_where_slavery_was() -> None:
    days = [date(2026, 1, 1) + timedelta(days=number) for number in range(365)]
    assert [sum(is_public_holiday(day, insee) for day in days) for insee in ("", "69123", "97105", "67482")] == [
        *(11, 11, 12, 13)
    ]


def test_weeks_are_those_of_the_place() -> None:
    midnight = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)
    assert week_of(midnight, PARIS)[0] == "2026-W48" and week_of(midnight, "America/Cayenne")[0] == "2026-W47"
    assert week_of(datetime(2027, 1, 2, tzinfo=UTC), PARIS) == ("2026-W53", date(2026, 12, 28))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"own": "yes"}, False),
        ({"own": "unknown"}, None),
        ({"regulated_at": MONDAY - 48 * HOUR}, True),
        ({"regulated_at": MONDAY - 48 * HOUR - timedelta(seconds=1)}, False),
        ({"starts": MONDAY + 10 * HOUR}, False),  # 20 h
        ({"own": "unknown", "starts": MONDAY + 10 * HOUR}, False),
        ({"state": "noshow"}, False),
        ({"state": "firm"}, True),
    ],
    ids=str,
)
def test_the_supplement_asks_all_four_facts(changes: dict[str, Any], expected: bool | None) -> None:
    assert facts_of(act(**changes), PARIS)["supplement"] is expected


def test_a_centres_pay_goes_to_the_centre() -> None:
    centre = {"structure": "690000001", "structure_name": "Centre fictif"}
    assert facts_of(act(**centre, source_kind="cds"), PARIS)["paid_to"] == "structure:690000001"
    assert facts_of(act(**centre, source_kind="msp"), PARIS)["paid_to"] == "professional:10000000012"


def weeks(
    slots: list[Offered], acts: list[Act], owners: Any = ("cabinet", (), ()), now: datetime = MONDAY + 99 * HOUR
) -> Any:
    found = weeks_of(slots, acts, [facts_of(a, PARIS) for a in acts], now, lambda _: PARIS, owners)
    return {(row["kind"], row["id"], row["week"]): row for row in found}


def test_hours_that_overlap_count_once_and_a_plage_by_its_share() -> None:
    slots = [
        offered(),
        offered(MONDAY + HOUR / 2),
        offered(MONDAY + 5 * HOUR, minutes=120, capacity=8, taken=2),
        offered(MONDAY + 7 * 24 * HOUR, minutes=119, taken=1),
    ]
    (first, second) = weeks(slots, []).values()
    assert (first["hours_offered"], first["hours_filled"], first["two_hours"]) == (3.5, 0.5, True)
    assert (second["week"], second["hours_offered"], second["hours_filled"]) == ("2026-W49", 1.98, 1.98)
    assert not second["two_hours"]


def test_patients_count_once_they_were_seen_and_pay_where_it_goes() -> None:
    centre = {"structure": "690000001", "structure_name": "Centre fictif", "source_kind": "cds"}
    acts = [
        act(booking_id="a", **centre),
        act(booking_id="b", own="yes"),
        act(booking_id="c", own="unknown"),
        act(booking_id="d", state="noshow"),
        act(booking_id="e", starts=MONDAY + 200 * HOUR),  # still to come
        act(booking_id="f", en_sus=True),
    ]
    rows = weeks([], acts)
    doctor, house = rows["professional", "10000000012", "2026-W48"], rows["structure", "690000001", "2026-W48"]
    assert [doctor[name] for name in ("patients", "own", "not_own", "unknown", "noshow", "en_sus")] == [
        4,
        1,
        2,
        1,
        1,
        1,
    ]
    assert (doctor["supplements"], doctor["to_check"], house["supplements"], house["patients"]) == (1, 1, 1, 1)


def test_a_key_reads_of_its_own_only() -> None:
    centre = {"structure": "690000001", "source_kind": "cds"}
    both = [act(**centre), act(professional="10000000099")]
    assert {key[:2] for key in weeks([], both, (None, ["10000000099"], []))} == {("professional", "10000000099")}
    assert {key[:2] for key in weeks([], both, (None, ["10000000012"], []))} == {("professional", "10000000012")}
    assert {key[:2] for key in weeks([], both, (None, [], ["690000001"]))} == {
        ("structure", "690000001"),
        ("professional", "10000000012"),
    }


def test_the_table_opens_in_a_french_spreadsheet() -> None:
    lines = as_csv([facts_of(act(own="unknown"), PARIS)], ACT_COLUMNS).split("\r\n")
    cells = dict(zip(lines[0].split(";"), lines[1].split(";"), strict=True))
    assert (cells["by_sas"], cells["not_own_patient"], cells["supplement"], cells["en_sus"]) == ("oui", "", "", "non")
    assert as_csv([{"a": "=1+1", "b": 1.5}], ("a", "b")) == "a;b\r\n'=1+1;1,5\r\n"
