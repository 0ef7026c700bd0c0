"""Each guard in place: nothing goes wrong. Each guard removed: the violation it is there for really happens."""

import pytest

from tests.conftest import Recorder
from tests.race.guards import GUARDS, Guard, Removal, stage


def _removed(guard: Guard) -> list[tuple[tuple[Removal, ...], bool]]:
    """Return what is removed together, and whether that must show."""
    if not guard.behind:
        return [((guard.removal,), True)]
    return [((guard.removal,), False), (guard.behind, False), ((guard.removal, *guard.behind), True)]


CASES = [
    pytest.param(guard, removed, shows, id=f"{guard.name}, {len(removed)} removed, {'shows' if shows else 'holds'}")
    for guard in GUARDS
    for removed, shows in _removed(guard)
]


async def test_nothing_goes_wrong_with_every_guard_in_place(
    database_url: str, redis_url: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {}
    async with stage(database_url, redis_url, recorder, (), monkeypatch) as on:
        for guard in GUARDS:
            wrong[guard.name] = await guard.scenario(on)
            await on.clear()
    assert not any(wrong.values()), wrong


@pytest.mark.parametrize("name", ["unique seat", "one place a request", "no overlapping times"])
async def test_the_ledgers_own_auditor_is_not_blind(
    database_url: str, redis_url: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (guard,) = (guard for guard in GUARDS if guard.name == name)
    what = {"unique seat": "seat", "one place a request": "request", "no overlapping times": "overlap"}[name]
    async with stage(database_url, redis_url, recorder, (guard.removal, *guard.behind), monkeypatch) as on:
        await guard.scenario(on)
        assert (await on.desk.ledger.doubles())[what] == 1


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("guard", "removed", "shows"), CASES)
async def test_a_guard_is_missed_when_it_is_gone(
    database_url: str,
    redis_url: str,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    guard: Guard,
    removed: tuple[Removal, ...],
    shows: bool,
) -> None:
    async with stage(database_url, redis_url, recorder, removed, monkeypatch) as on:
        wrong = await guard.scenario(on)
    assert bool(wrong) == shows, wrong
