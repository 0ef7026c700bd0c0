"""The market of live places: what it holds, in which order, and what news change."""

import math
import time

import numpy as np
import pytest

from sas_matcher.matching import market as module
from sas_matcher.matching import partitions
from sas_matcher.matching.market import Market
from sas_matcher.matching.partitions import Arena, Partition, Rows
from sas_matcher.matching.places import place_row, site_json, stable_key
from sas_matcher.travel import EARTH_RADIUS_KM
from tests.matching_cases import LYON, market_of, place


def parts_of(market: Market) -> list[Partition]:
    return list(market._partitions.values())


def test_rows_are_sorted_by_start_then_slot_one_by_one_as_all_at_once() -> None:
    places = [place(n, start_min=30 * (n * 7 % 5)) for n in range(1, 60)]
    at_once, one_by_one = market_of(places), Market()
    for row in places[::-1]:
        one_by_one.put([row])
    for market in (at_once, one_by_one):
        (part,) = parts_of(market)
        keys = list(zip(part.column("start").tolist(), part.column("slot_id").tolist(), strict=True))
        assert keys == sorted(keys) and len(keys) == len(market) == 59


def test_a_window_holds_both_its_ends() -> None:
    (part,) = parts_of(market_of(place(n, start_min=n) for n in range(1, 6)))
    starts = part.column("start")
    assert part.window(int(starts[1]), int(starts[3])) == slice(1, 4)
    assert part.window(int(starts[1]) + 1, int(starts[3]) - 1) == slice(2, 3)


def test_squares_that_grow_in_turn_keep_their_rows() -> None:
    """Their ranges of the common columns are in one another's way, and move."""
    places = [place(n, n * 7 % 50, lat=44.0 + n % 3, left=n) for n in range(1, 120)]
    market = Market()
    for row in places:
        market.put([row])
    assert [market.left_of(row.slot_id) for row in places] == [row.left for row in places]
    assert [part.size for part in parts_of(market)] == [40, 40, 39]
    for part in parts_of(market):
        keys = list(zip(part.column("start").tolist(), part.column("slot_id").tolist(), strict=True))
        assert keys == sorted(keys)


def test_what_one_square_leaves_is_given_to_another() -> None:
    """Thirty squares of twenty places each, which grow in turn."""
    market = Market()
    for row in (place(n, n, lat=30.0 + n % 30) for n in range(600)):
        market.put([row])
    # twenty rows each: a range of 32, and the ranges of 16 that they had before
    assert market.arena.take(1) == 30 * (16 + 32) and market.arena.take(16) < 30 * 16
    arena = Arena()
    arena.leave(arena.take(100), 100)
    assert (arena.take(128), arena.take(64)) == (100, 0)


@pytest.mark.parametrize("long", [1, 1_000])
def test_rows_of_several_partitions_are_one_table(monkeypatch: pytest.MonkeyPatch, long: int) -> None:
    monkeypatch.setattr(partitions, "LONG", long)
    market = market_of(place(n, n, lat=44.0 + n % 3) for n in range(30))
    parts = parts_of(market)
    windows = [(parts[0], slice(1, 4)), (parts[1], slice(0, 10)), (parts[2], slice(9, 10))]
    wanted = [slot for part, rows in windows for slot in part.column("slot_id")[rows].tolist()]
    table = Rows(windows)
    assert (len(table), table.column("slot_id").tolist()) == (14, wanted)
    some = np.array([0, 2, 3, 12, 13])
    taken = table.taken(some)
    assert (len(taken), taken.column("slot_id").tolist()) == (5, [wanted[n] for n in some])
    assert taken.taken(np.array([4, 1])).column("slot_id").tolist() == [wanted[13], wanted[2]]
    one = Rows([(parts[1], slice(2, 5))]).taken(np.array([0, 2]))
    assert one.column("start").tolist() == parts[1].column("start")[[2, 4]].tolist()
    both = taken.followed_by(one)
    assert (len(both), both.column("lat").tolist()) == (
        7,
        [*taken.column("lat").tolist(), *one.column("lat").tolist()],
    )
    nothing = Rows([])
    assert len(nothing) == 0 and nothing.column("key").dtype == np.uint64
    assert nothing.taken(np.empty(0, np.intp)).followed_by(one) is one


def test_a_newer_record_moves_the_place_and_an_older_one_does_not() -> None:
    market = market_of([place(1, version=5)])
    assert market.put([place(1, version=4, mode="tele")]) == {}
    assert market.mode_of(1) == "cabinet"
    assert list(market.put([place(1, version=6, mode="visite", profession="IDE")])) == [1]
    assert (market.mode_of(1), market.profession_of(1), len(market)) == ("visite", "IDE", 1)
    assert not list(market.near("MG", "cabinet", *LYON, 30))


def test_of_one_slot_twice_in_one_call_the_newest_counts() -> None:
    market = Market()
    assert list(market.put([place(1, version=2, lat=48.0), place(1, version=2, lat=43.0), place(1, version=1)])) == [1]
    located = market.find(1)
    assert located is not None and located[0].column("lat").tolist() == [43.0]
    assert sum(part.size for part in parts_of(market)) == 1


def test_seats_older_than_known_are_refused() -> None:
    market = market_of([place(1, version=5, left=2)])
    assert not market.set_left(1, 0, 5)
    assert market.left_of(1) == 2
    assert market.set_left(1, 1, 7)
    assert not market.set_left(1, 2, 6)
    assert market.left_of(1) == 1
    assert not market.set_left(99, 1, 1)
    assert market.left_of(99) == 0


def test_a_record_that_comes_after_the_state_that_followed_it_keeps_the_state() -> None:
    """Two writers publish at once: the seats are the newest, and so is the hour."""
    market = market_of([place(1, version=5, left=1)])
    assert market.set_left(1, 0, 9)
    assert list(market.put([place(1, start_min=90, version=8, left=1)])) == [1]
    assert market.left_of(1) == 0
    located = market.find(1)
    assert located is not None and located[0].column("start")[0] == place(1, start_min=90).start


def test_a_place_is_found_where_and_when_it_was_seen() -> None:
    """Among others of the same instant; not once it has moved, nor what is not here."""
    market = market_of([place(n, start_min=30 * (n % 3)) for n in range(1, 10)])
    for n in range(1, 10):
        located = market.find_at(n, place(n, start_min=30 * (n % 3)).start)
        assert located is not None and located[0].column("slot_id")[located[1]] == n
    assert market.find_at(9, place(1, start_min=30).start) is None
    assert market.find_at(10, place(1, start_min=30).start) is None
    market.put([place(4, start_min=31, version=2)])
    assert market.find_at(4, place(4, start_min=30).start) is None
    assert market.find_at(4, place(4, start_min=31).start) is not None


def test_of_places_that_start_together_each_is_found() -> None:
    market = market_of([place(n, start_min=60 + n // 5) for n in range(0, 30, 2)])
    for n in range(32):
        for minute in (59, 60 + n // 5, 61 + n // 5, 90):
            located = market.find_at(n, place(0, minute).start)
            assert (located is not None) == (n % 2 == 0 and n < 30 and minute == 60 + n // 5), (n, minute)
            if located is not None:
                part, row = located
                assert part.value("slot_id", row) == part.column("slot_id")[row] == n
    (part,) = parts_of(market)
    assert part.find_at(3, place(0, 60).start) == part.find_at(29, place(0, 65).start) == -1


def test_a_place_published_again_is_the_new_one_whether_or_not_it_moved() -> None:
    """At its instant its row is written anew, at another one, or elsewhere, it goes to another row."""
    for changes in ({"offers": ("ecg",), "left": 3, "capacity": 4}, {"start": place(1, 7).start}, {"mode": "visite"}):
        market = market_of([place(n, 30) for n in range(1, 5)])
        newer = place(2, 30, version=9, professional="P", source="s")._replace(**changes)
        assert market.put([newer]) == {2: newer.left}
        assert len(market) == 4 and sum(part.size for part in parts_of(market)) == 4
        alone, both = market_of([newer]).find(2), market.find(2)
        assert alone is not None and both is not None
        for name in ("start", "end", "until", "left", "capacity", "version", "seats_version", "lat"):
            assert both[0].column(name)[both[1]] == alone[0].column(name)[alone[1]], name
        assert market.offers.names(int(both[0].column("offers")[both[1]])) == sorted(newer.offers)
        assert market.professionals.name(int(both[0].column("professional")[both[1]])) == "P"


def test_what_is_gone_does_not_come_back_by_old_news() -> None:
    market = market_of([place(1, version=5)])
    market.discard(1, 8)
    assert 1 not in market
    assert market.put([place(1, version=7)]) == {}
    assert 1 not in market
    assert list(market.put([place(1, version=9)])) == [1]
    market.discard(1, 8)
    assert 1 in market


def test_gone_and_seats_may_be_heard_before_the_record() -> None:
    market = Market()
    market.discard(1, 8)
    market.set_left(2, 0, 8)
    assert list(market.put([place(1, version=7), place(2, version=7, left=1)])) == [2]
    assert market.left_of(2) == 0


def test_traces_of_what_is_not_here_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRACES", 3)
    market = Market()
    for slot_id in range(10):
        market.discard(slot_id, 8)
    assert len(market._traces) == 3
    assert list(market.put([place(9, version=7), place(6, version=7)])) == [6]


def test_what_has_started_is_dropped_everywhere() -> None:
    market = market_of(place(n, start_min=n, lat=44.0 + n % 3) for n in range(10))
    assert market.drop_before(place(0, start_min=6).start) == 6
    assert sorted(n for n in range(10) if n in market) == [6, 7, 8, 9]
    assert sum(part.size for part in parts_of(market)) == 4
    assert market.drop_before(place(0, start_min=6).start) == 0
    assert market.set_left(7, 0, 5) and market.left_of(7) == 0


def test_near_looks_at_few_squares() -> None:
    places = [
        place(100 * i + j, lat=42 + 0.5 * i + 0.25, lon=-4 + 0.5 * j + 0.25) for i in range(18) for j in range(24)
    ]
    assert len(list(market_of(places).near("MG", "cabinet", *LYON, 30))) <= 9
    assert not list(market_of(places).near("PED", "cabinet", *LYON, 30))
    assert not list(market_of(places).near("MG", "visite", *LYON, 30))


def test_a_circle_around_the_world_looks_at_what_exists() -> None:
    """The regulator's free choice prices a place at any distance."""
    market = market_of([place(1, lat=-21.1, lon=55.5), place(2, lat=16.2, lon=-61.5), place(3, mode="tele")])
    began = time.thread_time()
    found = market.near("MG", "cabinet", *LYON, math.pi * 6371)
    assert sorted(int(part.column("slot_id")[0]) for part in found) == [1, 2]
    assert time.thread_time() - began < 2  # square by square it would take half a minute


@pytest.mark.parametrize("radius_km", [50.0, 150.0, 2_000.0, 3_000.0])
def test_near_reaches_the_easternmost_point_of_a_circle(radius_km: float) -> None:
    """It lies north of the centre, where a degree of longitude is shorter."""
    lat, angle = math.radians(50.0), 0.999_999 * radius_km / EARTH_RADIUS_KM
    there = math.degrees(math.asin(math.sin(lat) / math.cos(angle)))
    east = math.degrees(math.asin(math.sin(angle) / math.cos(lat)))
    # centres all along a square, so that one of the points lies just over the border of the next
    for centre in np.arange(0.0, 0.5, 0.5 / 64).tolist():
        for side in (east, -east):
            market = market_of([place(1, lat=there, lon=centre + side)])
            assert list(market.near("MG", "cabinet", 50.0, centre, radius_km))


def test_tele_has_one_partition_whatever_the_distance() -> None:
    market = market_of([place(1, mode="tele", lat=-21.1, lon=55.5), place(2, mode="tele")])
    (part,) = market.near("MG", "tele", *LYON, 1)
    assert part.size == 2


def test_there_may_be_any_number_of_offers() -> None:
    """A day log names its offers freely: more than a word of bits could tell apart."""
    market = market_of([place(n, offers=(f"o{n}", f"o{n + 1}")) for n in range(1, 200)])
    for need in ("o1", "o64", "o199"):
        meeting = market.offers.meeting((need,))
        holding = {n for n in range(1, 200) if meeting[_offers_of(market, n)]}
        assert holding == {n for n in range(1, 200) if need in (f"o{n}", f"o{n + 1}")}
    # a set seen after a need was looked up is looked up as well
    market.put([place(900, offers=("o64", "new"))])
    assert market.offers.meeting(("o64",))[_offers_of(market, 900)]


def _offers_of(market: Market, slot_id: int) -> int:
    located = market.find(slot_id)
    assert located is not None
    part, row = located
    return int(part.column("offers")[row])


def test_offers_specialties_and_names() -> None:
    market = market_of(
        [place(1, offers=("ecg",)), place(2, offers=("lsf", "ecg"), specialty="SM40", professional=None)]
    )
    located = market.find(2)
    assert located is not None
    part, row = located
    assert market.offers.names(int(part.column("offers")[row])) == ["ecg", "lsf"]
    meeting = {
        needs: market.offers.meeting(needs).tolist() for needs in [("lsf",), ("lsf", "ecg"), ("ecg",), ("echo",)]
    }
    assert meeting == {
        ("lsf",): [False, True],
        ("lsf", "ecg"): [False, True],
        ("ecg",): [True, True],
        ("echo",): [False, False],
    }
    assert market.offers.meeting(()).all()
    # what nobody ever bore is not what is borne by nobody
    assert part.column("professional")[row] == -1 != market.professionals.known("unknown")
    assert market.modes_of("MG") == {"cabinet"} and market.modes_of("DENT") == set()


def test_places_of_one_site_share_its_json() -> None:
    site = site_json(list(range(11)))
    market = market_of([place(1, site=site), place(2, site=site), place(3)])
    numbers = parts_of(market)[0].column("site").tolist()
    assert numbers[0] == numbers[1] != numbers[2]
    assert market.site(numbers[0]) == site


def test_a_record_of_the_ledger_becomes_a_row() -> None:
    record = {
        "slot_id": 7, "territory": "69", "professional": "9900", "professional_name": "Dr F", "structure": None,
        "structure_name": None, "source_kind": "liberal", "lat": 45.0, "lon": 4.0, "insee": "69123", "label": "Cabinet",
        "phone": None, "offers": ["pmr"], "capacity": 3, "specialty": "SM54", "profession": "MG", "mode": "cabinet",
        "booking_kind": "walkin", "landmass": 1, "version": 12, "source": "agenda",
    }  # fmt: skip
    row = place_row(record, 2, 100, 200)
    assert (row.slot_id, row.left, row.capacity, row.start, row.end, row.version) == (7, 2, 3, 100, 200, 12)
    assert row.source == "agenda"
    assert row.walkin and row.offers == ("pmr",) and row.specialty is None and b'"69123"' in row.site


def test_stable_keys_are_those_of_fnv1a() -> None:
    """Reference values of the 64-bit FNV-1a hash."""
    assert stable_key("") == 0xCBF29CE484222325
    assert stable_key("a") == 0xAF63DC4C8601EC8C
    assert stable_key("foobar") == 0x85944171F73967E8


def test_columns_write_the_market() -> None:
    market = market_of([place(1)])
    parts_of(market)[0].column("left")[:] = np.int32(0)
    assert market.left_of(1) == 0
