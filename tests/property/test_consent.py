"""No place is shown, proposed or booked that no rule of its practice lets leave.

Many more sequences: ``python -m tests.bench.consent``.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from adapters.memory import claims, consent, requests
from adapters.memory.consent import ShareTable
from adapters.memory.ledger import MemoryLedger
from adapters.memory.limits import LimitTable
from sas_matcher.matching import asking
from tests.conftest import Servers
from tests.consent_cases import fresh_memory, fresh_postgres

SEEDS = range(40)


# 1162: a place that a regulator took by hand, which the matcher would not give, stands behind a promise and is told
@pytest.mark.parametrize("seed", [*range(6), 1162])
async def test_nothing_leaves_outside_a_rule_in_memory(seed: int) -> None:
    assert (await fresh_memory(seed)).total() > 0


async def test_nothing_leaves_outside_a_rule_in_postgresql(servers: Servers) -> None:
    url = servers.new_database()
    judged = await fresh_postgres(url, seed=1, steps=40)
    servers.drop_database(url)
    assert {"offers", "platform", "proposed", "booked"} <= judged.keys()


def always(*_: Any) -> bool:
    return True


def nothing_is_shut(table: ShareTable, now: datetime, slot: Any) -> bool:
    changed = SHARE(table, now, slot)
    slot.shut = False
    return changed


def own_patients_have_nothing_first(table: ShareTable, now: datetime, slot: Any) -> bool:
    changed = SHARE(table, now, slot)
    slot.own_until = None
    return changed


SHARE = ShareTable.share
FAULTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "hours and days of rules": (consent, "_allows", always),
    "a rule that shuts": (ShareTable, "share", nothing_is_shut),
    "own patients first": (ShareTable, "share", own_patients_have_nothing_first),
    "quotas": (LimitTable, "left", lambda *_: 9),
    "quiet hours of questions": (asking, "may_be_asked", always),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_does_not_keep_a_rule_is_caught(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(*FAULTS[fault])
    if fault == "own patients first":
        monkeypatch.setattr(claims, "leaves", always)
        monkeypatch.setattr(requests, "leaves", always)
    for seed in SEEDS:
        try:
            await fresh_memory(seed)
        except AssertionError:
            return
    pytest.fail(f"nobody noticed in {len(SEEDS)} sequences")


async def test_a_list_that_shows_what_is_kept_for_own_patients_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    offers = MemoryLedger.offers

    async def careless(ledger: MemoryLedger, *args: Any) -> Any:
        kept = {slot.id: slot.own_until for slot in ledger.tables.slots.values()}
        for slot in ledger.tables.slots.values():
            slot.own_until = None
        found = await offers(ledger, *args)
        for number, until in kept.items():
            ledger.tables.slots[number].own_until = until
        return found

    monkeypatch.setattr(MemoryLedger, "offers", careless)
    for seed in SEEDS:
        try:
            await fresh_memory(seed)
        except AssertionError:
            return
    pytest.fail(f"nobody noticed in {len(SEEDS)} sequences")
