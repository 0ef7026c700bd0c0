"""What a practice publishes, changes and withdraws."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from adapters.geo.gazetteer import WHOLE_CITIES, Gazetteer
from tests.conftest import Recorder
from tests.contract.conftest import postgres_only
from tests.ledger_cases import NOW, SOURCE, TERRITORY, Desk, minutes, slot_row

LATER = NOW + minutes(1)


async def test_publishing_again_is_judged_by_content_and_age(desk: Desk, recorder: Recorder) -> None:
    assert await desk.verdict(slot_row("a")) == "created"
    (before,) = await desk.slots()
    recorder.take()
    assert await desk.verdict(slot_row("a"), LATER) == "unchanged"
    assert await desk.verdict(slot_row("a", valid_at=LATER), LATER) == "unchanged"
    (seen,) = await desk.slots()
    assert (seen["checked_at"], seen["valid_at"]) == (LATER, LATER)
    assert (seen["version"], seen["changed_at"]) == (before["version"], before["changed_at"])
    assert recorder.take() == []
    assert await desk.verdict(slot_row("a", label="étage 2"), LATER) == "stale"
    assert await desk.verdict(slot_row("a", label="étage 2", valid_at=LATER), LATER) == "updated"
    (after,) = await desk.slots()
    assert (after["id"], after["label"], after["changed_at"]) == (before["id"], "étage 2", LATER)
    assert after["version"] > before["version"]
    (told,) = recorder.take()
    ((record, left),) = orjson.loads(told.data)
    assert (told.stream, told.type, told.territory) == ("places", "published", TERRITORY)
    assert (record["slot_id"], record["label"], record["version"], left) == (
        after["id"],
        "étage 2",
        after["version"],
        1,
    )


async def test_verdicts_come_in_the_order_of_the_rows(desk: Desk) -> None:
    await desk.publish(slot_row("m", valid_at=LATER), slot_row("c"))
    rows = [slot_row("z"), slot_row("m", label="x"), slot_row("a"), slot_row("c")]
    verdicts = await desk.ledger.upsert_slots(NOW, SOURCE, rows)
    assert [v["outcome"] for v in verdicts] == ["created", "stale", "created", "unchanged"]
    ids = {row["external_id"]: row["id"] for row in await desk.slots()}
    assert [v["slot_id"] for v in verdicts] == [ids[e] for e in ("z", "m", "a", "c")]
    assert await desk.ledger.upsert_slots(NOW, SOURCE, []) == []


async def test_sources_do_not_touch_each_other(desk: Desk) -> None:
    (mine,) = await desk.publish(slot_row("a"))
    (theirs,) = await desk.publish(slot_row("a"), source="other")
    assert mine != theirs
    assert await desk.ledger.withdraw_slots(NOW, "third", ["a"], None, None, "x") == [
        {"external_id": "a", "outcome": "not_found"}
    ]
    assert await desk.withdraw("a") == [{"external_id": "a", "outcome": "withdrawn"}]
    assert (await desk.left(mine), await desk.left(theirs)) == (0, 1)


async def test_a_key_does_not_take_over_slots_of_another_practice_of_its_source(desk: Desk) -> None:
    by_person, by_centre = slot_row("a", structure=None), slot_row("c", professional=None, structure="1c")
    await desk.publish(by_person, by_centre)
    before = await desk.slots()
    theirs = (["8b"], ["1b"])
    taken = [{**row, "professional": "8b", "valid_at": LATER} for row in (by_person, by_centre)]
    # whose it is comes before how old the word is: nothing is told of what is not theirs
    for rows in (taken, taken[::-1], [{**taken[0], "valid_at": NOW - minutes(1)}]):
        verdicts = await desk.ledger.upsert_slots(LATER, SOURCE, [*rows, slot_row("b", structure=None)], theirs)
        assert {(v["outcome"], v["slot_id"]) for v in verdicts[:-1]} == {("not_yours", None)}
        assert verdicts[-1]["outcome"] in ("created", "unchanged") and verdicts[-1]["slot_id"] is not None
    assert (await desk.slots())[:2] == before
    await desk.withdraw("a")
    assert (await desk.ledger.upsert_slots(LATER, SOURCE, taken[:1], theirs))[0]["outcome"] == "not_yours"
    # their own, by person or by structure, and all of the source for a key without limits
    for row, owners in ((by_person, (["8a"], [])), (by_centre, ([], ["1c"])), (by_centre, None)):
        later = {**row, "label": f"pour {owners}", "valid_at": LATER + minutes(1)}
        (verdict,) = await desk.ledger.upsert_slots(LATER, SOURCE, [later], owners)
        assert verdict["outcome"] == "updated" and verdict["slot_id"] is not None


@pytest.mark.parametrize(
    "change",
    [
        {"at": 61},
        {"lasts": 20},
        {"lat": 45.8},
        {"professional": "8x"},
        {"structure": "1690000002"},
        {"mode": "tele"},
        {"profession": "PED"},
        {"capacity": 2},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_the_time_place_and_person_of_a_booked_slot_stay(desk: Desk, change: dict[str, Any]) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    request, _ = await desk.firm(slot)
    (before,) = await desk.slots()
    assert await desk.verdict(slot_row("a", valid_at=LATER, **change)) == "booked"
    assert await desk.slots() == [before]
    await desk.cancel(request)
    assert await desk.verdict(slot_row("a", valid_at=LATER, **change)) == "updated"


async def test_words_about_a_booked_slot_may_change(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    await desk.firm(slot)
    assert await desk.verdict(slot_row("a", label="porte B", offers=["pmr"], phone="0400000000")) == "updated"
    assert await desk.left(slot) == 0


async def test_an_open_slot_does_not_change_its_territory(desk: Desk) -> None:
    """The mirror of the old one would keep it: withdraw it first."""
    (slot,) = await desk.publish(slot_row("a"))
    (before,) = await desk.slots()
    assert await desk.verdict(slot_row("a", territory="01", valid_at=LATER)) == "other_territory"
    assert await desk.slots() == [before]
    assert await desk.verdict(slot_row("a", territory="01", valid_at=NOW - minutes(1))) == "stale"
    await desk.withdraw("a", now=LATER)
    assert await desk.verdict(slot_row("a", territory="01", valid_at=LATER), LATER) == "updated"
    (after,) = await desk.slots()
    assert (after["id"], after["territory"], after["status"]) == (slot, "01", "open")


async def test_a_booked_slot_does_not_change_its_territory_either(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a", capacity=2))
    _, booking = await desk.firm(slot)
    await desk.firm(slot)
    await desk.refuse(booking, keep=False)  # withdrawn, and still booked by the other
    assert await desk.verdict(slot_row("a", capacity=2, territory="01", valid_at=LATER)) == "booked"


async def test_a_withdrawn_slot_comes_back_only_with_newer_words(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    await desk.withdraw("a", now=LATER)
    assert await desk.withdraw("a", now=LATER) == [{"external_id": "a", "outcome": "not_found"}]
    recorder.take()
    assert await desk.verdict(slot_row("a"), LATER) == "stale"
    assert await desk.verdict(slot_row("a", valid_at=LATER), LATER) == "updated"
    assert [a.type for a in recorder.take()] == ["published"]
    assert await desk.claims((await desk.ask(), slot), now=LATER) == ["held"]


async def test_withdrawing_announces_newer_versions_than_anything_before(desk: Desk, recorder: Recorder) -> None:
    """Else a mirror that heard of the freed seat would keep the place."""
    slot, sibling, plage = await desk.publish(
        slot_row("a", professional="81"), slot_row("s", at=70, professional="81"), slot_row("b", capacity=3)
    )
    for wanted in (slot, plage, plage):
        await desk.hold(wanted)
    await desk.firm(plage)
    await desk.withdraw("a", "b")
    versions: dict[int, list[tuple[int, str]]] = {}
    for a in recorder.take():
        for item in orjson.loads(a.data) if a.stream == "places" else ():
            number, version = (item[0]["slot_id"], item[0]["version"]) if a.type == "published" else (item[0], item[-1])
            versions.setdefault(number, []).append((version, a.type))
    assert max(versions[slot])[1] == max(versions[plage])[1] == "gone"
    assert max(versions[sibling])[1] == "state"
    assert await desk.left(sibling) == 1


async def test_a_window_is_withdrawn_for_the_owners_named(desk: Desk) -> None:
    rows = [
        slot_row("early", at=30),
        slot_row("mine", at=60, professional="81"),
        slot_row("house", at=60, structure="1990000009"),
        slot_row("theirs", at=60),
        slot_row("late", at=90, professional="81"),
    ]
    ids = dict(zip((row["external_id"] for row in rows), await desk.publish(*rows), strict=True))
    request, _ = await desk.firm(ids["mine"])
    spared, _ = await desk.firm(ids["theirs"])
    window = (NOW + minutes(60), NOW + minutes(90))
    gone = await desk.ledger.withdraw_slots(NOW, SOURCE, None, window, (["81"], ["1990000009"]), "malade")
    assert {v["external_id"]: v["outcome"] for v in gone} == {"mine": "withdrawn", "house": "withdrawn"}
    assert (await desk.status(request), await desk.status(spared)) == ("waiting", "firm")
    gone = await desk.ledger.withdraw_slots(NOW, SOURCE, None, window, None, "malade")
    assert [v["external_id"] for v in gone] == ["theirs"]
    assert await desk.status(spared) == "waiting"


@pytest.mark.parametrize("only", [["seen"], None], ids=["named", "window"])
async def test_who_is_being_seen_is_not_sent_away(desk: Desk, recorder: Recorder, only: list[str] | None) -> None:
    """A practice that stops for the day, at an hour of which the morning is over."""
    seen, coming = await desk.publish(slot_row("seen", at=30), slot_row("coming", at=120))
    (request, booking), (later, _) = await desk.firm(seen), await desk.firm(coming)
    recorder.take()
    names, window = (["seen", "coming"], None) if only else (None, (NOW, NOW + timedelta(days=1)))
    gone = await desk.ledger.withdraw_slots(NOW + minutes(60), SOURCE, names, window, None, "absence")
    assert {v["external_id"]: v["outcome"] for v in gone} == {"coming": "withdrawn"} | (
        {"seen": "begun"} if only else {}
    )
    assert (await desk.status(request), (await desk.booking(booking))["state"]) == ("firm", "firm")
    assert await desk.status(later) == "waiting"
    assert request not in {a.aggregate for a in recorder.take()}
    assert (await desk.of_booking("outcome", booking, "fulfilled", now=NOW + minutes(60))).word == "fulfilled"
    # whose it is is not told to others
    others = await desk.ledger.withdraw_slots(NOW + minutes(60), SOURCE, ["seen"], None, (["8x"], []), "absence")
    assert others == [{"external_id": "seen", "outcome": "not_found"}]


async def test_a_place_that_begins_this_instant_is_not_withdrawn(desk: Desk) -> None:
    await desk.publish(slot_row("a", at=30))
    assert await desk.withdraw("a", now=NOW + minutes(30)) == [{"external_id": "a", "outcome": "begun"}]


async def test_a_capacity_below_what_is_booked_breaks_nothing_and_stops_booking(desk: Desk) -> None:
    (plage,) = await desk.publish(slot_row("a", capacity=4))
    firm = [await desk.firm(plage) for _ in range(3)]
    assert await desk.verdict(slot_row("a", capacity=2, valid_at=LATER)) == "updated"
    assert await desk.left(plage) == -1, "the matcher hears how many are too many"
    assert [await desk.status(request) for request, _ in firm] == ["firm"] * 3
    assert await desk.claims((await desk.ask(), plage)) == ["seat_lost"]
    assert await desk.take(await desk.ask(), plage) == "slot_full"
    assert await desk.ledger.doubles() == {"seat": 0, "request": 0, "overlap": 0, "capacity": 0}
    for request, _ in firm[:2]:
        await desk.cancel(request)
    # one is left in seat 2, above the capacity: one more fits, in a seat below it
    assert await desk.left(plage) == 1
    assert await desk.claims((await desk.ask(), plage), (await desk.ask(), plage)) == ["held", "seat_lost"]
    assert await desk.ledger.doubles() == {"seat": 0, "request": 0, "overlap": 0, "capacity": 0}


@postgres_only
async def test_the_auditor_sees_what_was_booked_over_a_lowered_capacity(desk: Desk) -> None:
    (plage,) = await desk.publish(slot_row("a", capacity=3))
    for _ in range(2):
        await desk.hold(plage)
    await desk.publish(slot_row("a", capacity=2, valid_at=LATER))
    assert (await desk.ledger.doubles())["capacity"] == 0
    await desk.rows(
        "insert into booking (id, request_id, slot_id, seat, territory, state, slot_version, held_at) "
        "select gen_random_uuid(), $2, id, 9, territory, 'held', version, $3 from slot where id = $1",
        plage,
        await desk.ask(),
        NOW - minutes(9),  # clocks do not matter
    )
    assert (await desk.ledger.doubles())["capacity"] == 1


async def test_a_practice_lists_what_it_published_by_pages(desk: Desk) -> None:
    ids = await desk.publish(*(slot_row(f"{n:02}", at=60 + n) for n in range(7)))
    await desk.withdraw("03")
    window = (NOW, NOW + timedelta(days=1))
    first = await desk.ledger.slots_of_source(SOURCE, window, None, 0, 5)
    rest = await desk.ledger.slots_of_source(SOURCE, window, None, ids[4], 5)
    assert [orjson.loads(record)["slot_id"] for record, *_ in first + rest] == ids
    assert [(left, status) for _, left, status, _ in first][3] == (0, "withdrawn")
    mine = await desk.ledger.slots_of_source(SOURCE, window, (["803"], []), 0, 5)
    assert [orjson.loads(record)["external_id"] for record, *_ in mine] == ["03"]


async def test_ten_thousand_slots_in_one_call(desk: Desk, recorder: Recorder) -> None:
    """A whole city's agendas: one transaction, each slot announced once, in messages of 200 at most."""
    rows = [slot_row(f"{n:05}", at=60 + n % 20 * 15, lasts=20, professional=f"8{n // 20}") for n in range(10_000)]
    began = time.perf_counter()
    assert {v["outcome"] for v in await desk.ledger.upsert_slots(NOW, SOURCE, rows)} == {"created"}
    created = time.perf_counter() - began
    pages = [orjson.loads(a.data) for a in recorder.take()]
    assert len(pages) == 50
    assert len({record["slot_id"] for page in pages for record, _ in page}) == 10_000
    began = time.perf_counter()
    assert {v["outcome"] for v in await desk.ledger.upsert_slots(NOW, SOURCE, rows)} == {"unchanged"}
    assert recorder.take() == []
    verdicts = await desk.ledger.withdraw_slots(NOW, SOURCE, None, (NOW, NOW + timedelta(days=1)), None, "grève")
    assert {v["outcome"] for v in verdicts} == {"withdrawn"}
    # 0.4 s and 0.5 s on a quiet 2-core machine; a plan that compares all with all takes minutes
    assert created < 10
    assert time.perf_counter() - began < 10


async def test_writers_that_create_the_same_slots_at_once_agree(desk: Desk) -> None:
    async def publish(writer: int) -> list[dict[str, Any]]:
        rows = [slot_row(f"{n:03}", label=f"writer {writer}") for n in range(100)]
        return await desk.ledger.upsert_slots(NOW, SOURCE, rows if writer % 2 else rows[::-1])

    verdicts = await asyncio.gather(*(publish(writer) for writer in range(8)))
    outcomes = [v["outcome"] for answer in verdicts for v in answer]
    assert outcomes.count("created") == 100
    assert outcomes.count("updated") == 700
    assert len({v["slot_id"] for answer in verdicts for v in answer}) == 100


async def test_what_no_practice_may_publish_is_refused_as_a_whole(desk: Desk) -> None:
    for wrong in ({"capacity": 0}, {"capacity": 201}, {"lasts": 0}):
        with pytest.raises(desk.refusals):
            await desk.publish(slot_row("a"), slot_row("b", **wrong))
    assert await desk.slots() == []


@postgres_only
async def test_a_booking_is_active_exactly_in_the_four_states(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    _, booking = await desk.firm(slot)
    for broken in ("state = 'cancelled'", "ended_at = now()", "state = 'lost', ended_at = now()"):
        with pytest.raises(asyncpg.CheckViolationError):
            await desk.rows(f"update booking set {broken} where id = $1", booking)


async def test_offers_list_live_places_with_seats(desk: Desk) -> None:
    free, full, _far = await desk.publish(
        slot_row("a", offers=["ecg"]), slot_row("b", offers=["ecg"]), slot_row("c", lat=48.0, offers=["ecg"])
    )
    await desk.hold(full)
    box = ("MG", ["cabinet"], NOW, NOW + minutes(600), 45.0, 46.0, 4.0, 5.0, None, ["ecg"], ["snp"], 10)
    assert [(orjson.loads(record)["slot_id"], left) for record, left in await desk.ledger.offers(*box)] == [(free, 1)]
    assert await desk.ledger.offers(*box[:9], ["radio"], *box[10:]) == []


@postgres_only
async def test_the_ledgers_cities_are_the_gazetteers(desk: Desk) -> None:
    """Which codes are arrondissements is told in SQL as well: by the gazetteer's names both mean the same."""
    gazetteer = Gazetteer.load()
    names = {commune.code: commune.name for commune in gazetteer}
    rows = await desk.rows("select code, city_of(code) as city from unnest($1::text[]) code", list(names))
    cities = {row["code"]: row["city"] for row in rows if row["city"] != row["code"]}
    assert set(cities.values()) == WHOLE_CITIES
    assert cities.keys() == {code for code, name in names.items() if name.endswith("Arrondissement")}
    assert all(names[code].startswith(names[city]) for code, city in cities.items())
