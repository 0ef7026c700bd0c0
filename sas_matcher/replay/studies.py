"""Recorded days for studies (port ``Shelf`` of ``services.studies``): read, decided again, judged beside hindsight."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from sas_matcher import __version__
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.replay.again import decide_again
from sas_matcher.replay.batches import Batch, read_batches
from sas_matcher.replay.compare import Outcome, judge
from sas_matcher.replay.daylog import DayLog
from sas_matcher.replay.daylog_file import DayLogError, read_day
from sas_matcher.replay.hindsight import Hindsight, hindsight
from sas_matcher.replay.history import LEARNED
from sas_matcher.replay.run import replay_day
from sas_matcher.replay.score import ScoreError
from sas_matcher.services.studies import RECORDED

_CHUNK: Final = 1 << 20


class RecordedShelf:
    """The days that ``record`` wrote: ``<folder>/<territory>/<date>.jsonl``, the batches beside them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # a study decides the same day in several ways
        self._best = lru_cache(maxsize=2)(_read_with_best)

    def days(self, territory: str, before: date) -> list[date]:
        """Return the recorded days of a territory before a day, newest first."""
        found = []
        for path in self._folder.glob(f"{territory}/*.jsonl"):
            try:
                day = date.fromisoformat(path.name.removesuffix(".jsonl"))
            except ValueError:
                continue  # batches, and whatever else lies there
            if day < before:
                found.append(day)
        return sorted(found, reverse=True)

    def _path(self, territory: str, day: date, kind: str = "") -> Path:
        return self._folder / territory / f"{day.isoformat()}{kind}.jsonl"

    def digest(self, territory: str, day: date) -> str | None:
        """Return a digest of a day, its batches and the version of the service; None: it is not there."""
        digest = hashlib.sha256(__version__.encode())
        for kind in ("", ".batches"):
            try:
                with self._path(territory, day, kind).open("rb") as file:
                    while chunk := file.read(_CHUNK):
                        digest.update(chunk)
            except FileNotFoundError:
                if not kind:
                    return None
        return digest.hexdigest()

    def decide(self, territory: str, day: date, way: str, advance: Callable[[float], None]) -> dict[str, Any]:
        """Decide a day in one way; returns the figures of ``figures_of``.

        Raises:
            InvalidInputError: the day cannot be read or decided so.
        """
        try:
            path = self._path(territory, day)
            log, best = self._best(path, self.digest(territory, day))
            count = _Counter(len(log.events), advance)
            if way == RECORDED:
                return figures_of(self._recorded(log, territory, day, best, count))
            lines, _ = replay_day(log, way, history=self._earlier(territory, day), advance=count)
            return figures_of(judge(path.name, log, best, way, lines))
        except (DayLogError, ScoreError, OSError) as wrong:
            raise InvalidInputError.of("days", f"la journée du {day:%d/%m/%Y} ne se rejoue pas : {wrong}") from wrong

    def _recorded(
        self, log: DayLog, territory: str, day: date, best: Hindsight, advance: Callable[[int], object]
    ) -> Outcome:
        path = self._path(territory, day, ".batches")
        if not path.is_file():
            raise InvalidInputError.of("days", f"il n'y a pas de lots du {day:%d/%m/%Y} : « ce jour-là » manque")
        marks = read_batches(path, log)
        policy = next((mark.policy for mark in marks if isinstance(mark, Batch)), "firm")
        lines, _, _ = decide_again(log, policy, marks, advance=advance)
        # what the batches hold and the day log leaves out may break its rules
        return judge(path.name, log, best, policy, lines, lawful=False)

    def _earlier(self, territory: str, day: date) -> Sequence[DayLog]:
        return [read_day(self._path(territory, other)) for other in self.days(territory, day)[:LEARNED]]


class _Counter:
    """Turns events that have happened into a share of the day."""

    def __init__(self, events: int, advance: Callable[[float], None]) -> None:
        self._events, self._advance, self._done = max(1, events), advance, 0

    def __call__(self, events: int) -> None:
        self._done += events
        self._advance(min(1.0, self._done / self._events))


def _read_with_best(path: Path, _digest: str | None) -> tuple[DayLog, Hindsight]:
    log = read_day(path)
    return log, hindsight(log)


def figures_of(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as it is kept: percentages of the optimum, and counts by tier."""
    judged, best = outcome.score, outcome.best
    return {
        "welfare_pct": _tenth(outcome.welfare),
        "told_pct": _tenth(outcome.told),
        "urgent_pct": _tenth(outcome.urgent),
        "requests": judged.requests,
        "served": judged.served,
        "best": best.served,
        "wait_min": {tier: _tenth(wait) for tier, wait in judged.mean_wait_min.items()},
        "travel_min": _tenth(judged.mean_travel_min),
        "moves": judged.moves,
        "broken": judged.broken_promises,
        "lost": judged.lost_to_practices,
    }


def _tenth(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
