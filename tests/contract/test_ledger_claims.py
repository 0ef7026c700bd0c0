"""Claims, fences and leases; idempotency; intake in groups."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import orjson
import pytest
from structlog.testing import capture_logs

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.queries import QUERIES
from sas_matcher.domain.errors import FencedError, IdempotencyError, UnavailableError
from sas_matcher.matching.loading import Loader
from sas_matcher.matching.market import Market
from sas_matcher.matching.partitions import ROW
from sas_matcher.matching.places import place_row
from sas_matcher.ports.ledger import Idempotency
from tests.conftest import Recorder
from tests.contract.conftest import postgres_only
from tests.ledger_cases import HOLD, KEY, NOW, SOURCE, TERRITORY, Desk, minutes, new_id, request_row, slot_row
from tests.proxy import Proxy

# -- claims -------------------------------------------------------------------------------------------------------


async def test_a_batch_gives_each_seat_once_and_in_its_order(desk: Desk) -> None:
    plage, single = await desk.publish(slot_row("a", capacity=2), slot_row("b"))
    requests = [await desk.ask() for _ in range(6)]
    wanted = [(r, plage) for r in requests[:3]] + [(r, single) for r in requests[3:5]] + [(requests[5], None)]
    assert await desk.claims(*wanted) == ["held", "held", "seat_lost", "held", "seat_lost", "told"]
    assert (await desk.left(plage), await desk.left(single)) == (0, 0)
    assert await desk.seats(plage) == [0, 1]


async def test_a_freed_seat_of_a_plage_is_used_again(desk: Desk) -> None:
    (plage,) = await desk.publish(slot_row("a", capacity=3))
    held = [await desk.hold(plage) for _ in range(3)]
    await desk.cancel(held[1][0])
    request, booking = await desk.hold(plage)
    assert (await desk.booking(booking))["seat"] == 1
    assert await desk.claims((await desk.ask(), plage)) == ["seat_lost"]
    assert await desk.status(request) == "held"


async def test_a_request_claimed_twice_gets_one_place(desk: Desk) -> None:
    one, two = await desk.publish(slot_row("a"), slot_row("b"))
    request = await desk.ask()
    assert await desk.claims((request, one), (request, two)) == ["held", "held"]
    assert (await desk.document(request))["booking"]["slot_id"] == one
    assert (await desk.left(one), await desk.left(two)) == (0, 1)
    assert await desk.claims((request, two)) == ["not_waiting"]


async def test_claims_on_what_is_not_there(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    assert await desk.claims((new_id(), slot)) == ["not_waiting"]
    assert await desk.claims((await desk.ask(), 10**12)) == ["seat_lost"]


@pytest.mark.parametrize(
    ("change", "wish"),
    [
        ({"at": 0}, {}),
        ({"at": 241}, {}),
        ({"mode": "tele"}, {}),
        ({"profession": "PED"}, {}),
        ({"offers": ["ecg"]}, {"needs": ["ecg", "radio"]}),
    ],
    ids=["started", "after the deadline", "mode", "profession", "needs"],
)
async def test_a_slot_that_changed_since_the_matcher_looked_is_not_given(
    desk: Desk, change: dict[str, Any], wish: dict[str, Any]
) -> None:
    (slot,) = await desk.publish(slot_row("a", offers=["ecg", "radio"]))
    request = await desk.ask(**wish)
    await desk.publish(slot_row("a", **({"offers": ["ecg", "radio"]} | change)))
    assert await desk.claims((request, slot)) == ["seat_lost"]
    await desk.publish(slot_row("a", offers=["ecg", "radio"]))
    assert await desk.claims((request, slot)) == ["held"]


async def test_a_lost_claim_tells_the_seats_as_they_are(desk: Desk) -> None:
    """So the matcher that believed in a place learns at once."""
    full, gone = await desk.publish(slot_row("a"), slot_row("b"))
    await desk.firm(full)
    await desk.withdraw("b")
    _, told = await desk.claim_batch([(await desk.ask(), full), (await desk.ask(), gone)])
    places = {a.type: orjson.loads(a.data) for a in told if a.stream == "places"}
    assert [item[:2] for item in places["state"]] == [[full, 0]]
    assert [item[0] for item in places["gone"]] == [gone]


async def test_overlapping_slots_of_one_professional_are_alternatives(desk: Desk) -> None:
    one, two, three, touching = await desk.publish(
        slot_row("a", professional="81", lasts=30),
        slot_row("b", at=75, lasts=30, professional="81"),
        slot_row("c", at=80, lasts=30, professional="82"),
        slot_row("d", at=90, lasts=15, professional="81"),
    )
    (elsewhere,) = await desk.publish(slot_row("x", at=85, professional="81"), source="other")
    first, _ = await desk.hold(one)
    assert [await desk.left(s) for s in (one, two, three, touching, elsewhere)] == [0, 0, 1, 1, 0]
    assert await desk.claims((await desk.ask(), two), (await desk.ask(), elsewhere)) == ["seat_lost"] * 2
    assert await desk.take(await desk.ask(), two) == "slot_full"
    assert await desk.claims((await desk.ask(), touching), (await desk.ask(), three)) == ["held"] * 2
    await desk.cancel(first)
    # "d" is booked and overlaps "b", not "a"
    assert [await desk.left(s) for s in (one, two)] == [1, 0]


async def test_in_one_batch_overlapping_slots_go_to_the_first_only(desk: Desk) -> None:
    one, two = await desk.publish(slot_row("a", professional="81"), slot_row("b", at=70, professional="81"))
    assert await desk.claims((await desk.ask(), one), (await desk.ask(), two)) == ["held", "seat_lost"]


async def test_plages_and_slots_without_a_professional_overlap_freely(desk: Desk) -> None:
    plage, single, nobody, nobody_too = await desk.publish(
        slot_row("a", professional="81", capacity=2),
        slot_row("b", professional="81"),
        slot_row("c", professional=None),
        slot_row("d", professional=None),
    )
    wanted = [(await desk.ask(), slot) for slot in (plage, plage, single, nobody, nobody_too)]
    assert await desk.claims(*wanted) == ["held"] * 5


async def test_the_siblings_of_a_booked_slot_are_announced_with_it(desk: Desk, recorder: Recorder) -> None:
    one, two = await desk.publish(slot_row("a", professional="81"), slot_row("b", at=70, professional="81"))
    recorder.take()
    request, _ = await desk.hold(one)
    await desk.cancel(request)
    states = [orjson.loads(a.data) for a in recorder.take() if a.type == "state"]
    assert [[item[:2] for item in state] for state in states] == [[[one, 0], [two, 0]], [[one, 1], [two, 1]]]
    versions = [item[2] for state in states for item in state]
    assert len(set(versions)) == 4
    assert max(versions[:2]) < min(versions[2:])


# -- fences and leases --------------------------------------------------------------------------------------------


async def test_an_old_fence_writes_nothing(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    held, waiting = await desk.hold(slot), await desk.ask()
    (other,) = await desk.publish(slot_row("b"))
    recorder.take()
    await desk.end_leases()
    newer = await desk.ledger.take_leases("second", [TERRITORY], 600)
    assert newer[TERRITORY] > desk.fences[TERRITORY]
    now = NOW + HOLD
    with pytest.raises(FencedError):
        # not even the expired hold that is in its way is lapsed
        await desk.claim_batch([(waiting, other), (await desk.ask(), slot)], now)
    assert (await desk.status(held[0]), await desk.status(waiting)) == ("held", "waiting")
    assert {a.type for a in recorder.take()} == {"open"}
    assert (await desk.claim_batch([(waiting, other)], now, newer))[0] == ["held"]


@pytest.mark.parametrize("fences", [{}, {"01": 1}, {TERRITORY: -1}], ids=["none", "elsewhere", "never held"])
async def test_a_claim_needs_the_fence_of_each_requests_territory(desk: Desk, fences: dict[str, int]) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    request = await desk.ask()
    if "01" in fences:
        fences = await desk.ledger.take_leases("matcher", ["01"], 600)
    with pytest.raises(FencedError):
        await desk.claim_batch([(request, slot)], fences=fences)
    assert await desk.status(request) == "waiting"


async def test_a_lease_has_one_holder_until_it_ends(desk: Desk) -> None:
    ledger = desk.ledger
    mine = await ledger.take_leases("a", ["01", "38"], 600)
    assert set(mine) == {"01", "38"}
    assert await ledger.take_leases("b", ["01", "38"], 600) == {}
    assert await ledger.take_leases("a", ["01", "38"], 600) == mine
    assert set(await ledger.matched_territories()) == {"01", "38", TERRITORY}
    await desk.end_leases("01")
    assert set(await ledger.matched_territories()) == {"38", TERRITORY}
    theirs = await ledger.take_leases("b", ["01", "38"], 600)
    assert set(theirs) == {"01"}
    assert theirs["01"] > max(mine.values())
    assert set(await ledger.take_leases("a", ["01", "38"], 600)) == {"38"}
    await ledger.drop_leases("a")
    assert set(await ledger.take_leases("b", ["01", "38"], 600)) == {"01", "38"}


async def test_a_territory_moves_from_one_matcher_to_another(desk: Desk) -> None:
    ledger = desk.ledger
    mine = await ledger.take_leases("a", ["01", "38"], 600)
    assert await ledger.shares() == {}
    for share in (1, 2):
        await ledger.move_territory("01", share, NOW)
        assert await ledger.shares() == {"01": share}
    await ledger.leave_territories("b", ["01"])  # it is not b's to leave
    assert await ledger.take_leases("a", ["01", "38"], 600) == mine
    await ledger.leave_territories("a", ["01"])
    theirs = await ledger.take_leases("b", ["01", "38"], 600)
    assert set(theirs) == {"01"}
    assert theirs["01"] > mine["01"]


async def test_a_lease_that_ended_comes_back_with_a_new_fence(desk: Desk) -> None:
    """Somebody may have decided in between."""
    await desk.end_leases()
    again = await desk.ledger.take_leases("matcher", [TERRITORY], 600)
    assert again[TERRITORY] > desk.fences[TERRITORY]


@postgres_only
async def test_a_lease_is_renewed_while_a_claim_holds_it(desk: Desk) -> None:
    """Else each would wait for the other, a crowd's claims and the renewal of all leases crosswise, for a second."""
    connection = await asyncpg.connect(desk.url)
    try:
        async with connection.transaction():
            await connection.execute("select from lease for key share")  # as ``claim_seats`` does, to its end
            async with asyncio.timeout(5):
                assert await desk.ledger.take_leases("matcher", [TERRITORY], 600) == desk.fences
                assert "2A" in await desk.ledger.take_leases("matcher", [TERRITORY, "2A"], 600)
    finally:
        await connection.close()


async def test_two_matchers_take_a_free_territory_at_once(desk: Desk) -> None:
    taken = await asyncio.gather(*(desk.ledger.take_leases(f"m{n}", ["2A"], 600) for n in range(8)))
    assert sum("2A" in fences for fences in taken) == 1


async def test_a_matcher_loads_what_waits_and_what_is_live(desk: Desk) -> None:
    one, two, three, past, gone = await desk.publish(
        slot_row("a", professional="81"),
        slot_row("b", at=70, professional="81"),
        slot_row("c", capacity=3),
        slot_row("d", at=0),
        slot_row("e"),
    )
    await desk.withdraw("e")
    await desk.hold(one)
    await desk.hold(three)
    waiting = await desk.ask()
    await desk.ask(deadline=NOW)
    await desk.ask(territory="01")
    loaded = await desk.live_left()
    assert loaded == {one: 0, two: 0, three: 2}
    assert past not in loaded and gone not in loaded
    assert await desk.live_left(territories=["01"]) == {}
    documents = await desk.ledger.waiting_requests(NOW, [TERRITORY])
    assert [orjson.loads(text)["request_id"] for text in documents] == [waiting]
    records = await desk.ledger.live_records(NOW, TERRITORY)
    assert [(row["id"], row["left"]) for row in records] == [(one, 0), (two, 0), (three, 2)]
    assert await desk.ledger.live_territories(NOW) == [TERRITORY]


async def _as_news_and_loaded(desk: Desk) -> None:
    """Places of two sites, loaded as a whole, are what the news of each says."""
    slots = await desk.publish(
        slot_row("a", professional="81", offers=["pmr", "ecg"], label="Cabinet"),
        slot_row("b", at=70, professional="81", offers=["pmr", "ecg"], label="Cabinet"),
        slot_row("c", capacity=3, professional=None, booking_kind="walkin", lat=45.8, landmass=2),
        slot_row("d", mode="tele", profession="DENT", specialty="SM40"),
        # of an editor: to the millisecond, and past the half of a second
        slot_row("e", at=200 + 0.7 / 60, lasts=15),
    )
    loader, told = Loader(), Market()
    async for page in desk.ledger.live_places(NOW, None):
        loader.add(page)
    loaded = loader.market()
    for slot in slots:
        row = await desk.ledger.slot_record(slot)
        assert row is not None
        record = orjson.loads(row["record"])
        # as news say it: the whole second in which it lies
        start, end = (int(datetime.fromisoformat(record[name]).timestamp()) for name in ("start", "end"))
        assert (row["start"], row["end"]) == (start, end)
        told.put([place_row(record, row["left"], start, end)])
        ours, theirs = loaded.find(slot), told.find(slot)
        assert ours is not None and theirs is not None
        for name in set(ROW.names or ()) - {"site", "professional", "specialty", "source", "offers"}:
            assert ours[0].column(name)[ours[1]] == theirs[0].column(name)[theirs[1]], name
        (here, at), (there, where) = ours, theirs
        assert loaded.site(here.column("site")[at]) == told.site(there.column("site")[where])
        assert loaded.offers.names(here.column("offers")[at]) == told.offers.names(there.column("offers")[where])
        assert loaded.sources.name(here.column("source")[at]) == told.sources.name(there.column("source")[where])
        assert (loaded.mode_of(slot), loaded.profession_of(slot)) == (told.mode_of(slot), told.profession_of(slot))


async def test_places_loaded_are_the_places_told(desk: Desk) -> None:
    await _as_news_and_loaded(desk)


@postgres_only
async def test_both_connections_that_load_see_the_same_instant(desk: Desk) -> None:
    """Else a place published meanwhile would be of a site that nobody told."""
    await desk.publish(slot_row("a"))
    assert isinstance(desk.ledger, PostgresLedger)
    async with desk.ledger._snapshot() as connections:
        await desk.publish(slot_row("b"))
        assert [await c.fetchval("select count(*) from slot") for c in connections] == [1, 1]
    assert len(await desk.live_left()) == 2


@postgres_only
async def test_sites_that_share_a_number_are_told_apart(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are hashes: here those of the first seed are all the same."""
    for name, what in ("live_sites", "site"), ("live_kinds", "kind"):
        hashed = f"hash_record_extended(row({what}.*), $3)"
        assert hashed in QUERIES[name]
        monkeypatch.setitem(QUERIES, name, QUERIES[name].replace(hashed, f"case when $3 > 0 then {hashed} else 0 end"))
    await _as_news_and_loaded(desk)


# -- idempotency --------------------------------------------------------------------------------------------------


async def test_the_same_key_gives_the_same_request(desk: Desk, recorder: Recorder) -> None:
    once = Idempotency(KEY, "k1", b"body")
    first = await desk.ledger.create_request(NOW, row := request_row(), once)
    recorder.take()
    again = await desk.ledger.create_request(NOW, request_row(), once)
    assert (first.word, first.document, first.replayed) == ("created", row["id"], False)
    assert (again.word, again.document, again.replayed) == ("replayed", row["id"], True)
    assert recorder.take() == []
    with pytest.raises(IdempotencyError):
        await desk.ledger.create_request(NOW, request_row(), Idempotency(KEY, "k1", b"other"))
    # keys of other callers are their own
    await desk.add_key("k")
    other = await desk.ledger.create_request(NOW, request_row(), Idempotency("k", "k1", b"other"))
    assert other.word == "created"
    assert await desk.requests() == 2


async def test_a_replayed_change_gives_the_first_answer_and_changes_nothing(desk: Desk, recorder: Recorder) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    request, booking = await desk.hold(slot)
    once = Idempotency(KEY, "k1", b"body")
    first = await desk.ledger.change_request("confirm", NOW, request, (None,), once)
    await desk.cancel(request)
    recorder.take()
    again = await desk.ledger.change_request("confirm", NOW + minutes(9), request, (None,), once)
    assert again == (first.word, first.document, True)
    assert orjson.loads(again.document or "")["status"] == "firm"
    assert (await desk.status(request), recorder.take()) == ("cancelled", [])
    with pytest.raises(IdempotencyError):
        await desk.ledger.change_request("confirm", NOW, request, (None,), Idempotency(KEY, "k1", b"other"))
    refusal = Idempotency(SOURCE, "k1", b"body")
    conflict = await desk.ledger.change_booking("refuse", NOW, booking, ("x", True), refusal)
    assert conflict.word == "conflict"
    assert await desk.ledger.change_booking("refuse", NOW, booking, ("x", True), refusal) == (*conflict[:2], True)


async def test_a_key_of_a_creation_is_no_key_of_a_change(desk: Desk) -> None:
    (slot,) = await desk.publish(slot_row("a"))
    request, _ = await desk.hold(slot)
    await desk.ledger.create_request(NOW, request_row(), Idempotency(KEY, "k1", b"body"))
    with pytest.raises(IdempotencyError):
        await desk.ledger.change_request("confirm", NOW, request, (None,), Idempotency(KEY, "k1", b"body"))
    await desk.ledger.change_request("confirm", NOW, request, (None,), Idempotency(KEY, "k2", b"body"))
    with pytest.raises(IdempotencyError):
        await desk.ledger.create_request(NOW, request_row(), Idempotency(KEY, "k2", b"body"))
    assert await desk.status(request) == "firm"


async def test_duplicates_at_the_same_moment_act_once(desk: Desk, recorder: Recorder) -> None:
    rows = [request_row() for _ in range(20)]
    once = Idempotency(KEY, "k1", b"body")
    outcomes = await asyncio.gather(*(desk.ledger.create_request(NOW, row, once) for row in rows))
    assert sorted(o.word for o in outcomes) == ["created"] + ["replayed"] * 19
    assert len({o.document for o in outcomes}) == 1
    (slot,) = await desk.publish(slot_row("a"))
    request, _ = await desk.hold(slot)
    recorder.take()
    once = Idempotency(KEY, "k2", b"body")
    confirmed = await asyncio.gather(
        *(desk.ledger.change_request("confirm", NOW, request, (None,), once) for _ in range(20))
    )
    assert {o.word for o in confirmed} == {"firm"}
    assert sum(not o.replayed for o in confirmed) == 1
    assert len({o.document for o in confirmed}) == 1
    assert [a.type for a in recorder.take()] == ["request.firm", "booking.firm"]


@postgres_only
async def test_a_change_that_failed_leaves_its_key_free(desk: Desk) -> None:
    once = Idempotency(KEY, "k1", b"body")
    with pytest.raises(asyncpg.PostgresError):
        await desk.ledger.change_booking("outcome", NOW, "no uuid", ("fulfilled",), once)
    (slot,) = await desk.publish(slot_row("a"))
    request, _ = await desk.hold(slot)
    assert (await desk.ledger.change_request("confirm", NOW, request, (None,), once)).word == "firm"


async def test_old_keys_are_forgotten(desk: Desk) -> None:
    once = Idempotency(KEY, "k1", b"body")
    await desk.ledger.create_request(NOW, request_row(), once)
    await desk.ledger.forget_idempotency(NOW)
    assert (await desk.ledger.create_request(NOW, request_row(), once)).word == "replayed"
    await desk.ledger.forget_idempotency(NOW + timedelta(microseconds=1))
    assert (await desk.ledger.create_request(NOW, request_row(), once)).word == "created"


# -- intake, listing, away ----------------------------------------------------------------------------------------


async def test_one_bad_request_does_not_fail_its_neighbours(desk: Desk) -> None:
    rows = [request_row() for _ in range(30)]
    rows[7]["key"] = "nobody"
    rows[11]["profession"] = None
    outcomes = await asyncio.gather(
        *(desk.ledger.create_request(NOW, row, Idempotency(row.pop("key", KEY), new_id(), b"body")) for row in rows),
        return_exceptions=True,
    )
    failed = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, desk.refusals)]
    assert failed == [7, 11]
    assert await desk.requests() == 28


async def test_requests_that_came_together_keep_their_own_time_and_page_completely(desk: Desk) -> None:
    count = 45
    await asyncio.gather(*(desk.ask(NOW + timedelta(seconds=n)) for n in range(count)))
    seen: list[str] = []
    before = None
    while page := await desk.ledger.requests_of_key(KEY, None, before, 20):
        documents = [orjson.loads(text) for text in page]
        seen += [document["created_at"] for document in documents]
        before = datetime.fromisoformat(documents[-1]["created_at"])
    assert len(seen) == len(set(seen)) == count
    assert seen == sorted(seen, reverse=True)
    assert await desk.ledger.requests_of_key(KEY, ["held"], None, 20) == []


async def test_what_a_regulator_has_at_hand_is_what_is_open_however_old_then_what_was_settled_lately(
    desk: Desk,
) -> None:
    since = NOW + minutes(30)
    one, two, early, later = await desk.publish(*(slot_row(str(at), at=at) for at in (40, 50, 20, 60)))
    waits = await desk.ask(deadline=NOW + timedelta(hours=48))
    lapsed, _ = await desk.hold(later)
    await desk.ledger.lapse_holds(NOW + minutes(4))
    held, _ = await desk.hold(one, NOW + minutes(5))
    gone, _ = await desk.firm(early)
    firm, _ = await desk.firm(two)
    cancelled = await desk.ask()
    await desk.cancel(cancelled)
    past = await desk.ask(deadline=NOW + minutes(29))
    unserved = await desk.ask(deadline=NOW + minutes(31))

    async def at_hand(since: datetime, limit: int = 20) -> list[str]:
        found = await desk.ledger.requests_at_hand(KEY, since, limit)
        return [orjson.loads(text)["request_id"] for text in found]

    assert await at_hand(since - minutes(15)) == [past, unserved, held, waits, lapsed, gone, firm]
    await desk.ledger.close_unserved(NOW + minutes(32))
    assert await at_hand(since) == [held, waits, unserved, lapsed, firm]
    assert await at_hand(since, 3) == [held, waits, unserved]
    # of what was asked longer ago than any place can be away nothing is left to do
    assert await at_hand(NOW + timedelta(hours=121)) == []
    assert await desk.ledger.requests_at_hand("someone", NOW, 20) == []


@postgres_only
async def test_a_database_that_is_away_is_told_as_such_until_it_is_back(desk: Desk, recorder: Recorder) -> None:
    async with Proxy(desk.url) as proxy:
        ledger = await PostgresLedger.connect(proxy.url, recorder, size=2)
        calls: list[Callable[[], Awaitable[object]]] = [
            ledger.ping,
            lambda: ledger.create_request(NOW, request_row(), Idempotency(KEY, "k", b"")),
            lambda: _drain(ledger),
        ]
        for first in range(len(calls)):
            await ledger.ping()
            await proxy.cut()
            for call in calls[first:] + calls[:first]:
                with pytest.raises(UnavailableError):
                    await call()
            await proxy.mend()
        for call in calls:
            await call()
        await ledger.close()


@postgres_only
async def test_a_commit_whose_answer_was_lost_is_found_by_its_key(desk: Desk, recorder: Recorder) -> None:
    """The caller heard "unavailable"; the same key tells that the request exists, and nothing exists twice."""
    async with Proxy(desk.url) as proxy:
        ledger = await PostgresLedger.connect(proxy.url, recorder, size=1)
        await ledger.create_request(NOW, request_row(), Idempotency(KEY, "warm", b"body"))
        once = Idempotency(KEY, "k1", b"body")
        proxy.mute = True
        lost = asyncio.create_task(ledger.create_request(NOW, row := request_row(), once))
        while not await desk.rows("select from request where id = $1", row["id"]):  # noqa: ASYNC110 - the server tells
            await asyncio.sleep(0.01)
        await proxy.cut()
        with pytest.raises(UnavailableError):
            await lost
        proxy.mute = False
        await proxy.mend()
        again = await ledger.create_request(NOW, request_row(), once)
        assert (again.word, again.document) == ("replayed", row["id"])
        # nobody announced it: the sweep will
        assert row["id"] in {a.aggregate for a in await ledger.leftovers(NOW, 10)} - {
            a.aggregate for a in recorder.heard
        }
        await ledger.close()


@postgres_only
async def test_a_task_that_is_told_to_stop_stops(desk: Desk) -> None:
    """Whatever moment of a call it is told in, and the pool keeps all its connections."""
    chance = random.Random(1)
    (slot,) = await desk.publish(slot_row("a"))

    async def forever() -> None:
        while True:
            await desk.cancel((await desk.hold(slot))[0])

    for _ in range(60):
        task = asyncio.create_task(forever())
        await asyncio.sleep(chance.random() * 0.02)
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()
        await desk.ledger.lapse_holds(NOW + HOLD)
    await asyncio.gather(*(desk.ledger.ping() for _ in range(50)))
    assert not any((await desk.ledger.doubles()).values())


async def _drain(ledger: PostgresLedger) -> None:
    async for _ in ledger.live_places(NOW, None):
        pass


async def test_how_many_called_today_is_known_whatever_became_of_them(desk: Desk) -> None:
    before = [await desk.ledger.calls_since(NOW, TERRITORY)]
    first = await desk.ask()
    await desk.cancel(first)
    await desk.ask()
    calls = await desk.ledger.calls_since(NOW, TERRITORY)
    assert len(calls) == len(before[0]) + 2 and calls == sorted(calls)
    assert await desk.ledger.calls_since(calls[-1] + timedelta(seconds=1), TERRITORY) == []
    assert await desk.ledger.calls_since(NOW, "01") == []


@postgres_only
async def test_a_request_is_safe_with_its_decision_or_when_it_is_secured(desk: Desk, recorder: Recorder) -> None:
    """Its own commit is not waited for; what comes after it flushes it too. Lost, it would be asked for again."""

    async def is_safe(written: str) -> bool:
        ((safe,),) = await desk.rows("select pg_current_wal_flush_lsn() >= $1::text::pg_lsn", written)
        return bool(safe)

    async def asked() -> tuple[str, str]:
        request = await durable.ask()
        ((written,),) = await desk.rows("select pg_current_wal_insert_lsn()::text")
        return request, written

    (slot,) = await desk.publish(slot_row("a"))
    # the servers of tests wait for no flush: here it is waited for, as in service
    await desk.rows(f"alter database {urlsplit(desk.url).path[1:]} set synchronous_commit = on")
    durable = Desk(await PostgresLedger.connect(desk.url, recorder, size=1), desk.url)
    durable.fences = desk.fences
    _, written = await asked()
    await durable.ledger.secure()
    assert await is_safe(written)
    request, written = await asked()
    assert await durable.claims((request, slot)) == ["held"]
    assert await is_safe(written)
    # the server's writer comes every 200 ms, it may come in between
    assert not all([await is_safe((await asked())[1]) for _ in range(20)]), "the commit of a request was waited for"
    await durable.ledger.close()


@postgres_only
async def test_what_meets_a_deadlock_is_done_again_and_said(desk: Desk) -> None:
    crossed, tries = [asyncio.Event(), asyncio.Event()], 0
    rows = [await desk.ask(), await desk.ask()]

    async def lock(connection: Any, mine: int) -> str:
        nonlocal tries
        tries += 1
        async with connection.transaction():
            await connection.execute("select from request where id = $1 for update", rows[mine])
            crossed[mine].set()
            await crossed[1 - mine].wait()
            await connection.execute("select from request where id = $1 for update", rows[1 - mine])
        return "done"

    with capture_logs() as said:
        assert await asyncio.gather(*(desk.ledger._retry(partial(lock, mine=n)) for n in (0, 1))) == ["done"] * 2
    (deadlock,) = [entry for entry in said if entry["event"] == "ledger.deadlock"]
    assert tries == 3 and "waits for ShareLock" in deadlock["detail"]
