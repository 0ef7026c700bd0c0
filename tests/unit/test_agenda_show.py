"""Agendas are published page by page: one that cannot be keeps no other from it, and is tried again later."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from sas_matcher.services.agenda.show import AGAIN, INTERNAL, AgendaShow

NOW = datetime(2026, 11, 27, 8, tzinfo=UTC)


class Store:
    """Three agendas that are due, of which the second was dropped meanwhile."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, datetime]] = []

    def now(self) -> datetime:
        return NOW

    async def due(self, now: datetime, until: datetime, limit: int) -> list[tuple[str, str]]:
        return [("cabinet", name) for name in ("bad", "gone", "good")]

    async def agenda(self, source: str, name: str) -> str | None:
        return None if name == "gone" else name

    async def failed(self, record: str, why: str, next_at: datetime) -> None:
        self.told.append((record, why, next_at))


@pytest.mark.faults("agenda.show")
async def test_an_agenda_that_cannot_be_shown_keeps_no_other_from_being_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, shown = Store(), []
    showing = AgendaShow(cast(Any, store), cast(Any, None), store, cast(Any, None))

    async def show(record: str) -> None:
        if record == "bad":
            raise KeyError("unexpected")
        shown.append(record)

    monkeypatch.setattr(showing, "show", show)
    assert await showing.roll() == 3
    assert shown == ["good"] and store.told == [("bad", INTERNAL, NOW + AGAIN)]
