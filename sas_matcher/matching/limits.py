"""What a matcher knows of the limits of practices: which are over a place, and how much they leave.

A limit that lets nobody in any more closes its places in the ledger, which tells them with no seat left; so only what
depends on the patient (children), or on how many one batch takes together, is looked up here. Memory is a hint as
everywhere: the ledger judges each claim again.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from sas_matcher.domain.limits import Counts, period_start
from sas_matcher.domain.vocabulary import Mode

_PERIODS_KEPT: Final = 4_096  # half days of a quarter in all zones of France


class Limit(NamedTuple):
    """A limit in force."""

    id: int
    version: int
    counts: str
    period: str
    zone: str
    source: str | None
    members: frozenset[str]

    def closes(self, mode: str) -> bool:
        """Tell whether everybody counts on a place of this mode."""
        return self.counts == Counts.PATIENTS or (self.counts == Counts.VISITS and mode == Mode.VISITE)


class Turn(NamedTuple):
    """A limit in one of its periods, by the period's start in epoch seconds."""

    limit: int
    start: int


@lru_cache(_PERIODS_KEPT)
def _start(period: str, zone: str, quarter: int) -> int:
    """The start of the period that a quarter of an hour lies in: no zone begins a day within one."""
    return int(period_start(period, zone, datetime.fromtimestamp(900 * quarter, UTC)).timestamp())


class LimitBook:
    """All limits and what they leave, kept by the ledger's news."""

    def __init__(self) -> None:
        self.limits: dict[int, Limit] = {}
        self._left: dict[Turn, tuple[int, int]] = {}
        self._gone: dict[int, int] = {}
        self._of_site: dict[bytes, tuple[Limit, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self.limits)

    def load(self, rows: Sequence[tuple[str, str]]) -> None:
        """Take in all limits from the ledger (see its ``limits``)."""
        for definition, periods in rows:
            self.define(orjson.loads(definition))
            for start, left in orjson.loads(periods):
                self.set_left(orjson.loads(definition)["id"], start, left, 0)

    def hear(self, kind: str, data: Any) -> None:
        """Take in news of the stream of places: ``limit`` or ``limit_left``."""
        if kind == "limit":
            self.define(data)
        else:
            for limit_id, start, left, version in data:
                self.set_left(limit_id, start, left, version)

    def define(self, document: Mapping[str, Any]) -> None:
        """Take in what a limit is now, or that it is gone; older news changes nothing."""
        limit_id, version = document["id"], document["version"]
        known = self.limits.get(limit_id)
        if max(known.version if known else -1, self._gone.get(limit_id, -1)) >= version:
            return
        self._of_site.clear()
        if document.get("gone"):
            self._gone[limit_id] = version
            self.limits.pop(limit_id, None)
            return
        self.limits[limit_id] = Limit(
            id=limit_id,
            version=version,
            counts=document["counts"],
            period=document["period"],
            zone=document["zone"],
            source=document["source"],
            members=frozenset(document["members"]),
        )

    def set_left(self, limit_id: int, start: int, left: int, version: int) -> None:
        """Take in what a limit leaves in a period; older news changes nothing."""
        turn = Turn(limit_id, start)
        if self._left.get(turn, (0, -1))[1] < version:
            self._left[turn] = (left, version)

    def left(self, turn: Turn) -> int:
        """Return how many more a limit lets in during a period, as far as known (the ledger judges)."""
        return self._left[turn][0] if turn in self._left else 1
