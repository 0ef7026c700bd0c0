"""Faults of ours are told by kind and place, never by what they hold, and counted."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from sas_matcher.domain.errors import UnavailableError
from sas_matcher.faults import again_and_again, attempt, tell_fault

SECRET = "Mme Untel, 3 rue des Lilas"


async def fail(failure: Exception) -> int:
    raise failure


@pytest.mark.faults("somewhere.step")
async def test_a_fault_is_told_by_kind_and_place_and_never_by_its_values() -> None:
    with capture_logs() as told:
        assert await attempt("somewhere.step", lambda: fail(ValueError(SECRET))) is None
        try:
            raise ExceptionGroup("several", [ExceptionGroup("deeper", [KeyError(SECRET)])])
        except ExceptionGroup as group:
            tell_fault("somewhere.step", group, id=7)
    assert [one["log_level"] for one in told] == ["error", "error"]
    first, second = ([cause["kind"] for cause in one["causes"]] for one in told)
    assert (first, second) == (["ValueError"], ["ExceptionGroup", "ExceptionGroup", "KeyError"])
    (place,) = told[0]["causes"]
    assert place["where"][-1].endswith(" fail") and place["where"][-1].startswith("test_faults.py:")
    assert told[1]["id"] == 7 and SECRET not in repr(told)


async def test_a_store_that_is_away_is_no_fault() -> None:
    with capture_logs() as told:
        assert await attempt("somewhere.step", lambda: fail(UnavailableError("Redis ne répond pas."))) is None
    assert [(one["event"], one["what"]) for one in told] == [("store_away", "somewhere.step")]


@pytest.mark.faults("somewhere.step")
async def test_a_step_is_taken_again_whatever_became_of_it_until_it_is_cancelled() -> None:
    outcomes: list[Any] = [ValueError("x"), UnavailableError("y"), None]
    taken = asyncio.Event()

    async def step() -> None:
        outcome = outcomes.pop(0)
        if not outcomes:
            taken.set()
            await asyncio.sleep(60)
        if outcome is not None:
            raise outcome

    work = asyncio.create_task(again_and_again("somewhere.step", step, 0.0))
    await asyncio.wait_for(taken.wait(), 5)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
