"""A clock that is put back an hour, by whoever corrects it: nothing is refused, kept or believed for that hour."""

from datetime import timedelta

import pytest

from sas_matcher.api.auth import Gate, Rate, hash_secret, token
from sas_matcher.domain.errors import NotAuthenticatedError, TooManyError
from sas_matcher.ports.ledger import KeyRecord
from sas_matcher.services.figures.figures import Kept
from tests.ledger_cases import NOW, StillClock

HOUR = timedelta(hours=1)
SECRET = "s" * 43
RECORD = KeyRecord("regul69regul", hash_secret(SECRET), "R", "regulator", ("69",), (), (), "r", None, None, None)


class Keys:
    """The ledger's keys."""

    def __init__(self) -> None:
        self.record = RECORD

    async def key(self, key_id: str) -> KeyRecord | None:
        """Return the only key."""
        return self.record if key_id == self.record.id else None


def test_who_called_before_calls_again_at_the_same_rate() -> None:
    clock = StillClock(NOW)
    calls = Rate(clock, rate=1, burst=2, refusal="Trop.")
    calls.spend("key")
    clock.instant -= HOUR
    calls.spend("key")
    with pytest.raises(TooManyError) as refused:
        calls.spend("key")
    assert refused.value.extra["retry_after"] == 1
    clock.instant += timedelta(seconds=1)
    calls.spend("key")


async def test_a_key_that_was_revoked_is_refused() -> None:
    clock, ledger = StillClock(NOW), Keys()
    gate = Gate(ledger, clock, rate=9, burst=9)  # type: ignore[arg-type]
    header = f"Bearer {token(RECORD.id, SECRET)}"
    assert (await gate.caller(header)).key_id == RECORD.id
    clock.instant -= HOUR
    ledger.record = RECORD._replace(revoked_at=clock.instant)
    with pytest.raises(NotAuthenticatedError):
        await gate.caller(header)


async def test_figures_are_counted_afresh() -> None:
    clock, answers = StillClock(NOW), iter(range(9))
    kept = Kept(clock, 30)

    async def count() -> int:
        return next(answers)

    assert [await kept.get("key", count), await kept.get("key", count)] == [0, 0]
    clock.instant -= HOUR
    assert [await kept.get("key", count), await kept.get("key", count)] == [1, 1]
