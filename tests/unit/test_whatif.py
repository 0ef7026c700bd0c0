"""Suppositions: added places are lawful slots of the day, and before and after are the scorer's figures."""

from datetime import time
from pathlib import Path

import pytest

from sas_matcher.cli.french import InputError
from sas_matcher.cli.supposing import table, time_of
from sas_matcher.replay.compare import judge
from sas_matcher.replay.daylog_file import DayLogError, day_lines, parse_day, read_day
from sas_matcher.replay.hindsight import hindsight
from sas_matcher.replay.study import study
from sas_matcher.replay.whatif import Change, Practice, changes, local, read_slots, slots_of, with_slots
from tests.daylog_cases import lines_of
from tests.fcfs_nearest import fcfs_nearest

SAMPLE = read_day(Path(__file__).parents[1] / "data" / "daylog" / "day.jsonl")
PLACE = Practice(4, 43.3, 5.4, capacity=2, opens=time(10), closes=time(16))


def test_added_places_are_slots_of_the_day() -> None:
    added = slots_of(SAMPLE, PLACE)
    day = with_slots(SAMPLE, added)
    assert parse_day(day_lines(day)) == day
    assert len(day.slots) == len(SAMPLE.slots) + 4 and day.requests == SAMPLE.requests
    assert [e.slot.start.iso()[11:16] for e in added] == ["10:00", "11:55", "13:50", "15:45"]
    assert {(e.slot.capacity, e.slot.lat, e.slot.lon, e.slot.profession) for e in added} == {(2, 43.3, 5.4, "MG")}
    assert {e.t for e in added} == {SAMPLE.meta.start}
    # a second addition stands beside the first
    twice = with_slots(day, slots_of(day, PLACE))
    assert len({e.slot.id for e in twice.slots}) == len(SAMPLE.slots) + 8


def test_added_places_offer_what_the_nearest_of_their_kind_does() -> None:
    like = [e.slot for e in SAMPLE.slots if e.slot.profession == "MG" and e.slot.mode == "cabinet"]
    for slot in like[:5]:
        here = slots_of(SAMPLE, Practice(1, slot.lat, slot.lon))[0].slot
        assert here.offers in {s.offers for s in like if (s.lat, s.lon) == (slot.lat, slot.lon)}
    assert slots_of(SAMPLE, Practice(1, 43.3, 5.4, profession="ORL"))[0].slot.offers == ()


def test_hours_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(ValueError, match="opens < closes"):
        slots_of(SAMPLE, Practice(1, 43.3, 5.4, opens=time(12), closes=time(12)))


def test_hours_are_those_of_the_territory() -> None:
    assert local(SAMPLE.meta, time(14, 30)).iso() == f"{SAMPLE.meta.start.iso()[:10]}T14:30:00+01:00"


def test_slots_of_a_file_are_read_by_the_day_logs_own_rules() -> None:
    lines = [line for line in day_lines(with_slots(SAMPLE, slots_of(SAMPLE, PLACE))) if b"ajout1" in line]
    assert read_slots(SAMPLE, list(reversed(lines))) == list(reversed(slots_of(SAMPLE, PLACE)))
    request = next(line for line in day_lines(SAMPLE) if b"request.created" in line)
    for bad, problem in (
        ([lines[0], lines[0]], "déjà donné"),
        ([lines[0], lines[1].replace(b'"capacity":2', b'"capacity":0')], "entier ≥ 1"),
        ([lines[0], request], "slot.published"),
        ([lines[0], next(line for line in day_lines(SAMPLE) if b"slot.published" in line)], "déjà donné"),
    ):
        with pytest.raises(DayLogError, match=f"ligne 2 : .*{problem}"):
            read_slots(SAMPLE, bad)


def test_a_slot_known_before_the_log_is_there_at_its_start() -> None:
    line = next(iter(day_lines(with_slots(SAMPLE, slots_of(SAMPLE, PLACE)))))
    assert b"meta" in line
    early = slots_of(SAMPLE, PLACE)[0]
    moved = type(early)(type(early.t)(early.t - 3600, early.t.offset_s), early.slot)
    day = with_slots(SAMPLE, [moved])
    assert parse_day(day_lines(day)) == day and day.events[0].t == SAMPLE.meta.start


def test_changes_are_the_scorers_figures() -> None:
    day = study("rural", 0)
    best = hindsight(day)
    # where most people are turned away at present
    more = with_slots(day, slots_of(day, Practice(40, *(day.requests[0].request.lat, day.requests[0].request.lon))))
    old, new = (judge("rural-0.jsonl", d, best, "fcfs-nearest", lines_of(fcfs_nearest(d))) for d in (day, more))
    rows = {row.label: row for row in changes(old, new)}
    for tier, requests in old.score.requests.items():
        row = rows[f"servis {tier}, sur {requests}"]
        assert (row.before, row.after) == (old.score.served[tier], new.score.served[tier])
        assert rows[f"attente {tier} (min)"][1:3] == (old.score.mean_wait_min[tier], new.score.mean_wait_min[tier])
    welfare = rows["bien-être (% de l'optimum d'avant)"]
    assert welfare.before == pytest.approx(100 * old.score.welfare / best.welfare)
    assert welfare.after == pytest.approx(100 * new.score.welfare / best.welfare)
    assert sum(new.score.served.values()) > sum(old.score.served.values())
    assert rows["trajet (min)"][1:3] == (old.score.mean_travel_min, new.score.mean_travel_min)
    assert rows["prévenus en deux minutes (%)"][1:3] == (old.told, new.told)


def test_the_table_is_french_and_straight() -> None:
    lines = table([Change("servis", 12, 10, 0), Change("trajet", 3.25, 3.254, 1), Change("attente", None, 4, 0)])
    assert [line.split() for line in lines] == [
        ["avant", "après", "écart"],
        ["servis", "12", "10", "\u22122"],
        ["trajet", "3,2", "3,3", "0,0"],
        ["attente", "–", "4", "–"],
    ]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(("text", "hour"), [("14:30", time(14, 30)), ("9h", time(9)), ("8 h 05", time(8, 5))])
def test_hours_are_read_as_people_write_them(text: str, hour: time) -> None:
    assert time_of(text) == hour


@pytest.mark.parametrize("text", ["25:00", "14:60", "midi", "14", ""])
def test_other_texts_are_no_hours(text: str) -> None:
    with pytest.raises(InputError, match="n'est pas une heure"):
        time_of(text)
