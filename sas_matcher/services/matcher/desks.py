"""The desks of all territories that promise: what they hear, when they plan, what they decide.

A plan of a large territory takes a fraction of a second, in which the calls that come meanwhile must be answered: it is
made in a process of its own, and taken over when it is there. Where there is no such process (a replay, in which
deciding takes no time) it is made at once.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import chain
from typing import Final, NamedTuple, Protocol

import structlog

from sas_matcher.faults import tell_fault
from sas_matcher.matching.candidates import Candidates, OpenRequest
from sas_matcher.matching.commitment import Commitment
from sas_matcher.matching.forecast import Learned
from sas_matcher.matching.places import PlaceRow
from sas_matcher.matching.planning import FieldPlan, Planner, Task
from sas_matcher.matching.terms import Terms
from sas_matcher.matching.territory import Decision, TerritoryDesk
from sas_matcher.services.matcher.neighbours import Ceded, cede_again, cede_seats

INLINE_PAIRS: Final = 4_000
"""Pairs up to which a plan without a forecast is made at once: about 4 ms (as ``deciding.INLINE_ARCS``)."""

RETRY_S: Final = 5.0
"""After a plan that did not come, the calls are answered at the old prices for so long."""

_log = structlog.get_logger(__name__)


class PlanLateError(Exception):
    """A plan did not come in time."""


class PlannerProcess(Protocol):
    """Makes plans elsewhere."""

    async def plan(self, key: str, planner: Planner, task: Task) -> list[FieldPlan]:
        """Return the plan; ``key`` names the planner, which is sent along only where it is not known yet.

        Raises:
            PlanLateError: it did not come in time, or its process died.
        """
        ...


class Step(StrEnum):
    """What became of a territory's plan in a round; a round without one has none."""

    MADE = "made"
    """Begun and taken over in the same round."""
    BEGUN = "begun"
    """It is being made elsewhere."""
    TAKEN = "taken"
    """One that was begun earlier has come, and was taken over."""


class Round(NamedTuple):
    """What the desks of a round decided, by territory, how the plans among it went, and the step of each territory.

    ``planned``: the professions of the plans that were begun in it. ``answered``: to whom the desks gave an answer, in
    this order. ``opened``: the territories whose desk was new in this round, and what it learned from. ``ceded``: seats
    that desks ceded to one another.
    """

    decisions: list[tuple[str, Decision]]
    plans: list[tuple[int, int, int]]  # requests, pairs, gap
    steps: dict[str, Step]
    planned: dict[str, list[str]]
    answered: dict[str, list[str]]
    opened: Mapping[str, Learned]
    ceded: list[Ceded]

    @property
    def territories(self) -> set[str]:
        """Those whose desk did something in it."""
        return {*self.steps, *self.answered, *self.opened, *(name for name, _ in self.decisions)}


NO_ROUND: Final = Round([], [], {}, {}, {}, {}, [])
"""No desk was asked."""


class Recorded(NamedTuple):
    """What is known of a round that is decided again, by territory as in ``Round``.

    What is due, and who asks, hangs also on the order in which a desk heard of a seat that goes and comes, and when it
    was looked at meanwhile; so that is told. Of a territory without an entry in ``planned`` or ``answered`` it is not
    known (files of before), and found as in a live round.
    """

    steps: Mapping[str, Step]
    planned: Mapping[str, Sequence[str]]
    answered: Mapping[str, Sequence[str]]
    ceded: Sequence[Ceded] = ()


class Desks:
    """All desks of one matcher. Not thread-safe: one task decides.

    Attributes:
        broken: territories whose desk failed in a way nobody foresaw; it decides nothing more, and is to be shut.
    """

    def __init__(
        self,
        elsewhere: PlannerProcess | None,
        wake: Callable[[], object],
        late: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._elsewhere, self._wake, self._late = elsewhere, wake, late
        self._desks: dict[str, TerritoryDesk] = {}
        self._opening: dict[str, TerritoryDesk] = {}
        self._opened = 0
        self._new: set[str] = set()
        self._keys: dict[str, str] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._ready: dict[str, tuple[Task, list[FieldPlan]]] = {}
        self._not_before: dict[str, float] = {}
        self.broken: set[str] = set()

    def __contains__(self, territory: object) -> bool:
        return territory in self._desks

    def __iter__(self) -> Iterator[str]:
        """The territories that have one."""
        return iter(list(self._desks))

    def __getitem__(self, territory: str) -> TerritoryDesk:
        return self._desks[territory]

    def is_for(self, territory: str, midnight: float, terms: Terms, policy: Commitment) -> bool:
        """Whether the desk that there is was opened for this day and these rules."""
        desk = self._desks.get(territory)
        return desk is not None and (desk.midnight, desk.terms, desk.policy) == (midnight, terms, policy)

    def prepare(self, territory: str, desk: TerritoryDesk) -> None:
        """Let a new desk hear of places; the one that there is goes on deciding."""
        self._opening[territory] = desk

    def open(self, territory: str) -> None:
        """Let the desk that was prepared decide, in the place of the one that there was."""
        desk = self._opening[territory]
        self.shut(territory)
        self._desks[territory] = desk
        self._new.add(territory)
        self._opened += 1
        self._keys[territory] = f"{territory} {self._opened}"

    def shut(self, territory: str) -> None:
        """Close a desk; its requests are the caller's."""
        self.broken.discard(territory)
        for known in (self._desks, self._opening, self._keys, self._ready, self._not_before):
            known.pop(territory, None)
        if (plan := self._running.pop(territory, None)) is not None:
            plan.cancel()

    def _all(self) -> Iterator[tuple[str, TerritoryDesk]]:
        return chain(self._desks.items(), self._opening.items())

    # -- what happens --------------------------------------------------------------------------------------------

    def place(self, territory: str, now: float, place: PlaceRow) -> None:
        """A slot was published or changed; beyond its own territory it is known by who may use it."""
        for name, desk in self._all():
            if name == territory:
                desk.place(now, place)
            else:
                desk.left(place.slot_id, place.left)

    def left(self, slot_id: int, left: int) -> None:
        """The free seats of a slot have changed."""
        for _, desk in self._all():
            desk.left(slot_id, left)

    def release(self, slot_id: int) -> None:
        """A place that was kept for urgent requests is everybody's."""
        for _, desk in self._all():
            desk.release(slot_id)

    def gone(self, slot_id: int) -> None:
        """A slot is off the market."""
        for _, desk in self._all():
            desk.gone(slot_id)

    def take_in(self, now: float, request: OpenRequest, found: Candidates) -> None:
        """A request wants to be decided."""
        self._desks[request.territory].take_in(now, request, found)

    def close(self, request_id: str) -> None:
        """A request is closed."""
        for desk in self._desks.values():
            desk.close(request_id)

    # -- deciding ------------------------------------------------------------------------------------------------

    def due(self) -> float:
        """When a plan is due next, epoch seconds; infinite where none is."""
        times = (
            max(desk.due(), self._not_before.get(name, 0.0))
            for name, desk in self._desks.items()
            if name not in self._running and name not in self._ready
        )
        return min(times, default=float("inf"))

    def has_work(self, now: float) -> bool:
        """Whether a plan has come or is due, or somebody wants an answer."""
        return bool(self._ready) or self.due() <= now or any(desk.is_asked() for desk in self._desks.values())

    def decide(self, now: float, recorded: Recorded | None = None) -> Round:
        """Take over plans that have come, begin those that are due, answer the calls, cede seats to one another.

        Args:
            now: of the round.
            recorded: a round that is decided again; nothing else is planned or ceded then, whatever is due.
        """
        decisions: list[tuple[str, Decision]] = []
        plans: list[tuple[int, int, int]] = []
        steps = self._steps(now) if recorded is None else dict(recorded.steps)
        planned: dict[str, list[str]] = {}
        answered: dict[str, list[str]] = {}
        for name, step in list(steps.items()):
            desk = self._desks[name]
            if step is Step.TAKEN and name not in self._ready:
                continue  # a recorded round whose beginning nobody recorded
            with self._outlasting(name, recorded):
                if step is Step.TAKEN:
                    task, made = self._ready.pop(name)
                else:
                    task = desk.task(now, None if recorded is None else recorded.planned.get(name))
                    planned[name] = desk.professions(task)
                    if recorded is None and self._elsewhere is not None and _takes_long(desk, task):
                        self._running[name] = asyncio.create_task(self._plan(name, desk, task, now, self._elsewhere))
                        steps[name] = Step.BEGUN
                        continue
                    made = desk.planner.plan(task)
                    if step is Step.BEGUN:
                        self._ready[name] = (task, made)
                        continue
                decisions += [(name, decision) for decision in desk.adopt(task, made, now)]
                plans += [
                    _figures(one.live.request.tolist(), plan) for one, plan in zip(task.fields, made, strict=True)
                ]
        for name, desk in self._whole().items():
            with self._outlasting(name, recorded):
                asked = desk.asked() if recorded is None else recorded.answered.get(name)
                if asked:
                    answered[name] = list(asked)
                decisions = _with(decisions, [(name, decision) for decision in desk.answer(now, asked)])
        ceded: list[Ceded] = []
        if recorded is not None:
            more = cede_again(self._desks, recorded.ceded, now)
        else:
            ceded, more = cede_seats(self._whole(), now)
        decisions = [(name, decision) for name, decision in _with(decisions, more) if name not in self.broken]
        opened = {name: self._desks[name].learned for name in self._new & self._desks.keys()}
        self._new = set()
        return Round(decisions, plans, steps, planned, answered, opened, ceded)

    def _whole(self) -> dict[str, TerritoryDesk]:
        return {name: desk for name, desk in self._desks.items() if name not in self.broken}

    @contextmanager
    def _outlasting(self, name: str, recorded: Recorded | None) -> Iterator[None]:
        """One desk that fails must not keep the others from deciding: it is ``broken``, to be closed."""
        try:
            yield
        except Exception as unforeseen:
            if recorded is not None:
                raise
            tell_fault("matcher.desk", unforeseen, territory=name)
            self.broken.add(name)

    def _steps(self, now: float) -> dict[str, Step]:
        """Which plans have come, and which are to be made."""
        steps = {}
        for name, desk in self._desks.items():
            if name in self._ready:
                steps[name] = Step.TAKEN
            elif name not in self._running and max(desk.due(), self._not_before.get(name, 0.0)) <= now:
                steps[name] = Step.MADE
        return steps

    async def _plan(self, name: str, desk: TerritoryDesk, task: Task, now: float, elsewhere: PlannerProcess) -> None:
        try:
            made = await elsewhere.plan(self._keys[name], desk.planner, task)
            if self._desks.get(name) is desk:
                self._ready[name] = (task, made)
        except PlanLateError:
            _log.warning("matcher.plan_late", territory=name)
            self._late("plan")
            self._not_before[name] = now + RETRY_S
        except Exception as unforeseen:
            tell_fault("matcher.plan", unforeseen, territory=name)
            self._not_before[name] = now + RETRY_S
        finally:
            if self._desks.get(name) is desk:
                self._running.pop(name, None)
            self._wake()


def _with(decisions: list[tuple[str, Decision]], more: list[tuple[str, Decision]]) -> list[tuple[str, Decision]]:
    """Add decisions: one claim for a request, so who moves again to make room for a caller moves once."""
    again = {decision.request_id for _, decision in more}
    return [(t, d) for t, d in decisions if d.request_id not in again or d.what == "displace"] + more


def _takes_long(desk: TerritoryDesk, task: Task) -> bool:
    return desk.planner.forecast is not None or sum(item.live.slot.size for item in task.fields) > INLINE_PAIRS


def _figures(requests: list[int], plan: FieldPlan) -> tuple[int, int, int]:
    return len(set(requests)), len(requests), plan.gap
