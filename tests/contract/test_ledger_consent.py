"""What practices let leave, in the ledger: rules, own patients first, and the trace of who was shown what."""

import asyncio
from typing import Any

import asyncpg
import orjson
import pytest

from adapters.memory import MemoryLedger
from adapters.memory.consent import MemoryConsent
from adapters.postgres.agenda import PostgresAgendas
from adapters.postgres.consent import PostgresConsent
from sas_matcher.ports.practice import ConsentBook, ShareRule
from tests.conftest import Recorder
from tests.contract.conftest import postgres_only
from tests.ledger_cases import KEY, NOW, SOURCE, Desk, minutes, slot_row

RULE = ShareRule(
    source=SOURCE,
    name="matin",
    own_only=False,
    zone="Europe/Paris",
    from_minute=10 * 60,
    to_minute=12 * 60,
    days=(1, 2, 3, 4, 5),
    professions=None,
    channels=("platform", "sas"),
    own_first_min=None,
    members=("p:8a",),
)


@pytest.fixture
def consent(desk: Desk) -> ConsentBook:
    """The part of the desk's ledger that is about consent."""
    ledger: Any = desk.ledger
    return MemoryConsent(ledger) if isinstance(ledger, MemoryLedger) else PostgresConsent(ledger)


async def left(desk: Desk, slot_id: int) -> int:
    record = await desk.ledger.slot_record(slot_id)
    assert record is not None
    return int(record["left"])


async def test_only_what_a_rule_allows_leaves_and_without_one_everything(desk: Desk, consent: ConsentBook) -> None:
    early, late = await desk.publish(slot_row("a", at=30), slot_row("b", at=60, professional="8a"))  # ten in Paris
    assert [await left(desk, early), await left(desk, late)] == [1, 1]
    document = orjson.loads(await consent.put_rule(NOW, RULE))
    assert (document["professionals"], document["from_minute"], document["channels"]) == (
        ["8a"],
        600,
        ["platform", "sas"],
    )
    assert [await left(desk, early), await left(desk, late)] == [0, 1]
    # a place published later is under the rule as well; one of somebody else is not
    (other, later) = await desk.publish(slot_row("c", at=45), slot_row("d", at=300, professional="8a"))
    assert [await left(desk, other), await left(desk, later)] == [1, 0]
    # who has a seat keeps it, whatever the rule becomes
    request, _ = await desk.hold(late)
    await consent.put_rule(NOW, RULE._replace(from_minute=11 * 60))
    assert await desk.confirm(request) == "firm"
    assert await consent.remove_rule(NOW, SOURCE, "matin")
    assert not await consent.remove_rule(NOW, SOURCE, "matin")
    assert await left(desk, early) == 1 and await consent.rules(SOURCE) == []


async def test_a_place_that_is_shut_cannot_be_had_by_hand_either(desk: Desk, consent: ConsentBook) -> None:
    (slot,) = await desk.publish(slot_row("a", at=30))
    await consent.put_rule(NOW, RULE)
    assert await desk.take(await desk.ask(), slot) == "slot_full"


async def test_own_patients_have_a_place_first_and_everybody_then(
    desk: Desk, consent: ConsentBook, recorder: Recorder
) -> None:
    (slot,) = await desk.publish(slot_row("a", at=90))
    recorder.take()
    await consent.put_rule(NOW, RULE._replace(own_first_min=45))
    (news,) = recorder.take()
    ((record, seats),) = orjson.loads(news.data)
    assert (news.type, record["slot_id"], seats) == ("published", slot, 1)
    assert record["own_until"] == (NOW + minutes(45)).isoformat()
    assert await desk.take(await desk.ask(), slot) == "slot_full"
    own = await desk.ask(mt="8a")
    assert await desk.take(own, slot) == "held"
    await desk.cancel(own)
    recorder.take()
    assert await desk.ledger.open_for_all(NOW + minutes(44)) == 0
    assert await desk.ledger.open_for_all(NOW + minutes(45)) == 1
    (opened,) = [a for a in recorder.take() if a.type == "published"]
    assert orjson.loads(opened.data)[0][0]["own_until"] is None
    assert await desk.take(await desk.ask(), slot, now=NOW + minutes(45)) == "held"


async def test_who_was_shown_and_given_what_is_listed_with_the_rule_of_that_moment(
    desk: Desk, consent: ConsentBook
) -> None:
    (mine, others) = await desk.publish(slot_row("a", at=60), slot_row("b", at=60, structure=None))
    await consent.note(NOW, "offers", KEY, [mine, others])
    await consent.put_rule(NOW, RULE)
    await consent.note(NOW + minutes(1), "platform", None, [mine])
    request, _ = await desk.hold(mine, now=NOW + minutes(2))
    await desk.confirm(request, now=NOW + minutes(2))
    window = (NOW, NOW + minutes(5))
    found = await consent.exposures(None, ["8a"], [], window, 10)
    assert [(one.what, one.role, one.key_id, one.external_id, one.rule) for one in found] == [
        ("booked", "regulator", KEY, "a", "matin"),
        ("platform", None, None, "a", "matin"),
        ("offers", "regulator", KEY, "a", ""),
    ]
    assert [one.what for one in await consent.exposures(None, ["8a"], [], window, 1)] == ["booked"]
    assert await consent.exposures(None, ["8x"], [], window, 10) == []
    assert await consent.exposures(None, ["8a"], [], (NOW - minutes(9), NOW), 10) == []
    await desk.ledger.forget_exposures(NOW + minutes(3))
    assert [one.what for one in await consent.exposures(None, ["8a"], [], window, 10)] == ["booked"]


@pytest.mark.parametrize(
    "changes",
    [
        {"from_minute": 720},
        {"to_minute": 1441},
        {"days": ()},
        {"days": (0,)},
        {"professions": ()},
        {"channels": ()},
        {"channels": ("web",)},
        {"own_first_min": 0},
    ],
    ids=str,
)
async def test_a_rule_that_no_practice_may_set_is_refused(
    desk: Desk, consent: ConsentBook, changes: dict[str, Any]
) -> None:
    with pytest.raises(desk.refusals):
        await consent.put_rule(NOW, RULE._replace(**changes))
    assert await consent.rules(SOURCE) == []


async def waits_or_is_done(control: asyncpg.Connection, task: asyncio.Task[Any]) -> None:
    """Return when a transaction of this database waits for a lock, or the task has ended."""
    query = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    while not task.done() and not await control.fetchval(query):  # noqa: ASYNC110 - the server tells
        await asyncio.sleep(0.01)


@postgres_only
@pytest.mark.parametrize("removed", [False, True], ids=["set", "removed"])
async def test_a_place_published_while_a_rule_changes_is_under_what_comes_of_it(
    desk: Desk, consent: ConsentBook, removed: bool
) -> None:
    """Each committed without seeing the other: the place would stay so for as long as it is published unchanged."""
    if removed:
        await consent.put_rule(NOW, RULE)
    publishing, control = await asyncpg.connect(desk.url), await asyncpg.connect(desk.url)
    try:
        transaction = publishing.transaction()
        await transaction.start()
        rows = orjson.dumps([slot_row("a", at=30)]).decode()
        await publishing.fetch("select * from upsert_slots($1, $2, $3)", NOW, SOURCE, rows)
        change = consent.remove_rule(NOW, SOURCE, RULE.name) if removed else consent.put_rule(NOW, RULE)
        changing = asyncio.create_task(change)
        await waits_or_is_done(control, changing)
        await transaction.commit()
        await changing
    finally:
        await publishing.close()
        await control.close()
    assert [slot["shut"] for slot in await desk.slots()] == [not removed]


@postgres_only
async def test_a_place_withdrawn_as_its_own_patients_time_ends_is_not_told_again(
    desk: Desk, consent: ConsentBook, recorder: Recorder
) -> None:
    """Published again it would be, with a newer version than that of its end."""
    await consent.put_rule(NOW, RULE._replace(own_first_min=45))
    await desk.publish(slot_row("a", at=90), slot_row("b", at=90, professional="8a"))
    withdrawing, control = await asyncpg.connect(desk.url), await asyncpg.connect(desk.url)
    at = NOW + minutes(45)
    try:
        transaction = withdrawing.transaction()
        await transaction.start()
        sql = "select * from withdraw_slots($1, $2, $3, null, null, null, null, 'absence')"
        await withdrawing.fetch(sql, at, SOURCE, ["a"])
        recorder.take()
        opening = asyncio.create_task(desk.ledger.open_for_all(at))
        await waits_or_is_done(control, opening)
        await transaction.commit()
        await opening
    finally:
        await withdrawing.close()
        await control.close()
    told = [record["external_id"] for a in recorder.take() for record, _ in orjson.loads(a.data)]
    assert told == ["b"]
    assert [slot["own_until"] is None for slot in await desk.slots()] == [False, True]


@postgres_only
async def test_an_agenda_that_waits_for_a_rule_holds_no_place_meanwhile(desk: Desk) -> None:
    """Whoever sets the rule wants that place: each would wait for the other."""
    agendas = PostgresAgendas(desk.ledger)
    document = {"feed": None}
    await agendas.put(NOW, KEY, SOURCE, "cabinet", ("8a", None), document, 0)

    async def show(*rows: dict[str, Any]) -> None:
        record = await agendas.agenda(SOURCE, "cabinet")
        assert record is not None
        assert await agendas.show(NOW, record, NOW + minutes(600), rows, []) is not None

    await show(slot_row("a"), slot_row("b", at=90))
    await agendas.put(NOW, KEY, SOURCE, "cabinet", ("8a", None), document, 1)
    ruling, control = await asyncpg.connect(desk.url), await asyncpg.connect(desk.url)
    try:
        async with ruling.transaction():
            await ruling.execute("select pg_advisory_xact_lock(20260002)")  # as put_share_rule begins
            showing = asyncio.create_task(show(slot_row("b", at=90)))
            await waits_or_is_done(control, showing)
            assert not showing.done()
            assert len(await ruling.fetch("select from slot for update nowait")) == 2
        await showing
    finally:
        await ruling.close()
        await control.close()
