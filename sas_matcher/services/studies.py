"""Studies: recorded days decided again, beside what hindsight could have done, in a process of their own.

People ask for days and ways to decide; the process works through the cells (a day in one way) one after the other, says
how far it is, stops when it is told to, and never works out twice what is known of the same file.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol

import structlog

from sas_matcher.domain.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from sas_matcher.faults import attempt, tell_fault
from sas_matcher.ports.world import Clock, Ids

RECORDED: Final = "recorded"
WAYS: Final[dict[str, str]] = {
    RECORDED: "Ce jour-là",
    "fcfs-nearest": "Au plus proche, dans l'ordre des appels",
    "official": "Règles du moteur national",
    "firm": "Ferme",
    "promise": "Promesse",
    "auto": "Automatique",
    "crisis": "Crise",
}
"""Ways to decide a day: as it was recorded, and the policies of ``replay``."""

MOST_DAYS: Final = 10  # as many as forecasts learn from; a day of a large département takes minutes
MOST_OPEN: Final = 3  # studies of a territory that wait or run
SHOWN: Final = 10  # newest of a territory, on its page
LEASE: Final = timedelta(seconds=30)
_TELL_S: Final = 1.0  # between two words of how far a study is
_IDLE_S: Final = 2.0  # when none waited
_log = structlog.get_logger(__name__)


class Study(NamedTuple):
    """A study as people see it; ``part``: of the present cell, 0 to 1."""

    id: str
    territory: str
    days: Sequence[date]
    ways: Sequence[str]
    asked_at: datetime
    state: str
    done: int
    part: float
    failure: str | None
    finished_at: datetime | None

    @property
    def percent(self) -> int:
        """How far it is."""
        return round(100 * (self.done + self.part) / (len(self.days) * len(self.ways)))


class Taken(NamedTuple):
    """A study in a worker's hands; ``claims`` is the fence of a worker that was paused."""

    id: str
    territory: str
    days: Sequence[date]
    ways: Sequence[str]
    claims: int


class Cell(NamedTuple):
    """What came of a day in one way; ``digest``: of the file and the version of the service."""

    day: date
    way: str
    digest: str
    figures: Mapping[str, Any]


class StoppedError(Exception):
    """Somebody stopped the study while a day was being decided."""


class Shelf(Protocol):
    """The recorded days of all territories, and what each way to decide makes of one."""

    def days(self, territory: str, before: date) -> list[date]:
        """Return the recorded days of a territory before a day, newest first."""
        ...

    def digest(self, territory: str, day: date) -> str | None:
        """Return which file a day is, and which version of the service would decide it; None: it is not there."""
        ...

    def decide(self, territory: str, day: date, way: str, advance: Callable[[float], None]) -> dict[str, Any]:
        """Decide a day in one way; returns its figures. Runs in a thread.

        Args:
            territory: whose day.
            day: which.
            way: of ``WAYS``.
            advance: hears how far it is (0 to 1); what it raises ends the work.

        Raises:
            InvalidInputError: the day cannot be decided so; in French, why.
        """
        ...


class StudyBook(Protocol):
    """The studies in the ledger."""

    async def ask(
        self, study_id: str, territory: str, days: Sequence[date], ways: Sequence[str], key_id: str, now: datetime
    ) -> None:
        """Queue a study."""
        ...

    async def open_ones(self, territory: str) -> int:
        """Return how many studies of a territory wait or run."""
        ...

    async def take(self, now: datetime, until: datetime) -> Taken | None:
        """Take the study that has waited longest; it is the caller's until an instant."""
        ...

    async def advance(self, taken: Taken, done: int, part: float, until: datetime) -> bool:
        """Say how far a study is; False when it was stopped, or is another worker's now."""
        ...

    async def finish(self, taken: Taken, state: str, failure: str | None, now: datetime, done: int) -> None:
        """Close a study."""
        ...

    async def stop(self, study_id: str, territory: str, now: datetime) -> bool:
        """Stop a study; False when it is over already."""
        ...

    async def recent(self, territory: str, limit: int) -> list[Study]:
        """Return the studies of a territory, newest first."""
        ...

    async def study(self, study_id: str, territory: str) -> Study | None:
        """Return a study of a territory."""
        ...

    async def cells(self, territory: str, days: Sequence[date], ways: Sequence[str]) -> list[Cell]:
        """Return what is known of some days in some ways."""
        ...

    async def keep(self, territory: str, cell: Cell, now: datetime) -> None:
        """Keep what came of a day in one way."""
        ...


class Studies:
    """What people ask of recorded days. ``shelf`` None: no day is recorded here."""

    def __init__(self, book: StudyBook, shelf: Shelf | None, clock: Clock, ids: Ids) -> None:
        self._book, self._shelf, self._clock, self._ids = book, shelf, clock, ids

    async def days(self, territory: str, today: date) -> list[date]:
        """Return the recorded days of a territory, newest first."""
        if self._shelf is None:
            return []
        return await asyncio.to_thread(self._shelf.days, territory, today)

    async def ask(self, territory: str, today: date, days: Sequence[date], ways: Sequence[str], key_id: str) -> str:
        """Queue a study; returns its id.

        Raises:
            InvalidInputError: a day is not recorded, a way is unknown, or none is named.
            ConflictError: as many studies of the territory as may be are open.
        """
        known = set(await self.days(territory, today))
        wanted = sorted(set(days))
        if not wanted or len(wanted) > MOST_DAYS or not known.issuperset(wanted):
            raise InvalidInputError.of("days", f"choisissez 1 à {MOST_DAYS} journées enregistrées")
        if not ways or not WAYS.keys() >= set(ways):
            raise InvalidInputError.of("ways", f"choisissez parmi {', '.join(WAYS)}")
        if await self._book.open_ones(territory) >= MOST_OPEN:
            raise ConflictError(
                f"{MOST_OPEN} études de ce territoire sont déjà en cours : attendez-en une, ou arrêtez-la."
            )
        study_id = self._ids.uuid()
        ordered = [way for way in WAYS if way in ways]
        await self._book.ask(study_id, territory, wanted, ordered, key_id, self._clock.now())
        return study_id

    async def stop(self, study_id: str, territory: str) -> None:
        """Stop a study; what it has worked out stays.

        Raises:
            ConflictError: it is over already, or there is none of that id.
        """
        if not await self._book.stop(study_id, territory, self._clock.now()):
            raise ConflictError("Cette étude est déjà terminée.")

    async def recent(self, territory: str) -> list[Study]:
        """Return the studies of a territory, newest first."""
        return await self._book.recent(territory, SHOWN)

    async def results(self, study_id: str, territory: str) -> tuple[Study, list[Cell]]:
        """Return a study and what is known of its days.

        Raises:
            NotFoundError: there is none of that id.
        """
        study = await self._book.study(study_id, territory)
        if study is None:
            raise NotFoundError("Étude introuvable.")
        return study, await self._book.cells(territory, study.days, study.ways)


class StudyRoom:
    """Works through studies until cancelled; a process of its own, so that it slows nobody."""

    def __init__(self, book: StudyBook, shelf: Shelf, clock: Clock) -> None:
        self._book, self._shelf, self._clock = book, shelf, clock

    async def run(self) -> None:
        """Take studies, one after the other."""
        while True:
            if not await attempt("studies.work", self.work_once):
                await asyncio.sleep(_IDLE_S)

    async def work_once(self) -> bool:
        """Work on the study that has waited longest, to its end; False when there is none."""
        now = self._clock.now()
        taken = await self._book.take(now, now + LEASE)
        if taken is None:
            return False
        done = 0
        try:
            for day in taken.days:
                for way in taken.ways:
                    await self._cell(taken, day, way, done)
                    done += 1
        except StoppedError:
            return True
        except InvalidInputError as wrong:
            await self._book.finish(taken, "failed", wrong.detail, self._clock.now(), done)
        except UnavailableError:
            raise
        except Exception as unforeseen:
            # whatever is wrong with one day must not end the process, nor be tried for ever
            tell_fault("studies.study", unforeseen, study=taken.id)
            await self._book.finish(taken, "failed", "Erreur inattendue ; voyez le journal.", self._clock.now(), done)
        else:
            await self._book.finish(taken, "done", None, self._clock.now(), done)
        return True

    async def _cell(self, taken: Taken, day: date, way: str, done: int) -> None:
        digest = await asyncio.to_thread(self._shelf.digest, taken.territory, day)
        if digest is None:
            raise InvalidInputError.of("days", f"la journée du {day:%d/%m/%Y} n'est plus là")
        if any(cell.digest == digest for cell in await self._book.cells(taken.territory, [day], [way])):
            await self._tell(taken, done + 1, 0.0)
            return
        progress, stopped = [0.0], asyncio.Event()

        def advance(part: float) -> None:
            progress[0] = part
            if stopped.is_set():
                raise StoppedError

        working = asyncio.create_task(asyncio.to_thread(self._shelf.decide, taken.territory, day, way, advance))
        try:
            while not (await asyncio.wait({working}, timeout=_TELL_S))[0]:
                await self._tell(taken, done, progress[0])
            figures = await working
        finally:
            stopped.set()
            await asyncio.gather(working, return_exceptions=True)
        await self._book.keep(taken.territory, Cell(day, way, digest, figures), self._clock.now())
        await self._tell(taken, done + 1, 0.0)

    async def _tell(self, taken: Taken, done: int, part: float) -> None:
        if not await self._book.advance(taken, done, part, self._clock.now() + LEASE):
            raise StoppedError
