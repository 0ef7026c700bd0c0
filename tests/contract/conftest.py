"""The contract of the ledger is tested on both that there are: PostgreSQL, and the twin in memory."""

from collections.abc import AsyncIterator

import pytest

from adapters.memory import MemoryLedger
from adapters.postgres.ledger import PostgresLedger
from tests.conftest import Recorder
from tests.ledger_cases import NOW, Desk, StillClock, TwinDesk

POSTGRES, MEMORY = "postgres", "memory"


@pytest.fixture(params=[POSTGRES, MEMORY])
def store(request: pytest.FixtureRequest) -> str:
    """Which ledger ``desk`` works on; ``postgres_only`` takes the twin out."""
    name: str = request.param
    return name


# Of a test that is about PostgreSQL itself: connections, constraints, plans.
postgres_only = pytest.mark.parametrize("store", [POSTGRES], indirect=True)


@pytest.fixture
async def desk(store: str, recorder: Recorder, request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    """A regulator, a practice and a matcher at a fresh ledger; ``recorder`` hears what it announces."""
    if store == MEMORY:
        clock = StillClock(NOW)
        yield await TwinDesk(MemoryLedger(recorder, clock), clock).open()
        return
    url: str = request.getfixturevalue("database_url")
    ledger = await PostgresLedger.connect(url, recorder)
    yield await Desk(ledger, url).open()
    await ledger.close()
