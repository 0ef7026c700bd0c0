"""What practices get back, in the ledger: acts with what their pay asks, and what was offered."""

from typing import Any

from adapters.memory import MemoryLedger
from adapters.memory.statement import MemoryStatement
from adapters.postgres.statement import PostgresStatement
from sas_matcher.ports.practice import StatementBook
from tests.asking_cases import Asker
from tests.ledger_cases import NOW, SOURCE, Desk, minutes, slot_row

WINDOW = (NOW, NOW + minutes(600))


def book(desk: Desk) -> StatementBook:
    ledger: Any = desk.ledger
    return MemoryStatement(ledger) if isinstance(ledger, MemoryLedger) else PostgresStatement(ledger)


async def test_an_act_says_what_its_pay_asks(desk: Desk) -> None:
    slots = await desk.publish(
        slot_row("a", at=60), slot_row("b", at=70), slot_row("c", at=80, professional=None), slot_row("d", at=90)
    )
    asked: tuple[dict[str, Any], ...] = ({"mt": "8a"}, {"mt": "8x"}, {"mt": "8x"}, {"has_mt": "no"})
    for slot, columns in zip(slots, asked, strict=True):
        request, _ = await desk.hold(slot, **columns)
        await desk.confirm(request)
    (still_held,) = await desk.publish(slot_row("held", at=100))
    await desk.hold(still_held)  # nobody knows yet
    acts = await book(desk).acts((SOURCE, [], []), WINDOW, 10)
    assert [(a.professional, a.own, a.state, a.role, a.en_sus) for a in acts] == [
        ("8a", "yes", "firm", "regulator", False),
        ("8b", "no", "firm", "regulator", False),
        (None, "unknown", "firm", "regulator", False),
        ("8d", "no", "firm", "regulator", False),
    ]
    assert acts[0].regulated_at == NOW and (acts[0].territory, acts[0].insee) == ("69", "69123")
    assert [a.professional for a in await book(desk).acts((None, ["8b"], []), WINDOW, 10)] == ["8b"]
    assert len(await book(desk).acts((None, [], ["1690000001"]), WINDOW, 3)) == 3
    assert await book(desk).acts((None, ["8y"], []), WINDOW, 10) == []
    assert await book(desk).acts((SOURCE, [], []), (WINDOW[1], WINDOW[1] + minutes(9)), 10) == []


async def test_what_was_offered_counts_unless_it_was_withdrawn_unused(desk: Desk) -> None:
    (taken, *_) = await desk.publish(
        slot_row("a", at=60, capacity=4), slot_row("b", at=70), slot_row("c", at=80, structure=None)
    )
    request, _ = await desk.hold(taken)
    await desk.confirm(request)
    await desk.withdraw("b")
    offered = await book(desk).offered((SOURCE, [], []), WINDOW, 10)
    assert [(o.professional, o.capacity, o.taken) for o in offered] == [("8a", 4, 1), ("8c", 1, 0)]
    assert [o.professional for o in await book(desk).offered((None, [], ["1690000001"]), WINDOW, 10)] == ["8a"]


async def test_a_yes_en_sus_is_an_act_and_was_not_offered(desk: Desk) -> None:
    asker = Asker(desk)
    await asker.ladder()
    await asker.consent("a")
    request = await asker.waits()
    _, (question,) = await asker.put(request, await asker.ids(request))
    assert await asker.accept(question) == "accepted"
    await desk.confirm(request)
    (act,) = await book(desk).acts((None, ["8a"], []), WINDOW, 10)
    assert act.en_sus and await book(desk).offered((None, ["8a"], []), WINDOW, 10) == []
