"""Polling the editors of agendas and keeping what they show among the live places.

Each editor is asked on its own, so none waits for another. What it answered is published like a practice's slots, with
the instant of the call as ``valid_at``; what it no longer shows is withdrawn, unless somebody here is booking it right
now (that may be why). A failure never means "no place": what was shown last stays until it is too old.
"""

import asyncio
import heapq
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

import orjson
import structlog

from sas_matcher.domain.errors import InvalidInputError, UnavailableError
from sas_matcher.faults import tell_fault
from sas_matcher.ports.bus import ARRIVAL, REQUESTS_STREAM, Bus, Entry
from sas_matcher.ports.editors import EditorAnswer, EditorBatch, EditorFailedError
from sas_matcher.ports.world import Clock, Geography
from sas_matcher.services.editors.rhythm import interval_s
from sas_matcher.services.editors.view import SOURCE_PREFIX, TOO_OLD, Board, EditorStore, mute_s
from sas_matcher.services.publish import Publisher, Publishing

SPAN: Final = timedelta(hours=72)  # the platform's usual window
AT_ONCE: Final = 4  # calls to one editor: 350 practitioners in 14 calls of a second are done in 4 s
MERGES_AT_ONCE: Final = 4  # of the pool's connections: answers of 40 editors that come at once wait here, not there
LOOKS_SPAN_S: Final = 600.0  # the ten minutes of `rhythm.LOOKS_FULL`
_LOOKS: Final = frozenset({b"open", ARRIVAL.encode()})  # what is told of a request when it comes, or waits again
_SWEEP_S: Final = 15.0  # between two looks for places that are too old; `TOO_OLD` is minutes
_SPREAD_S: Final = 10.0  # reading 560 answers takes ten seconds of processor: the first round comes no faster
_AGAIN_S: Final = 10.0  # after a failure, or while an editor is not to be asked
_MEMORY: Final = 0.8  # weight of what was known of "moving": five answers back count a third
_REFUSED_SLOT = re.compile(r"slots\.(\d+)\.")
_log = structlog.get_logger(__name__)


class Editor(Protocol):
    """An editor of agendas."""

    @property
    def name(self) -> str: ...  # noqa: D102 - short, unique
    @property
    def batches(self) -> Sequence[EditorBatch]: ...  # noqa: D102 - whom it is asked for
    async def ask(self, batch: EditorBatch, window: tuple[datetime, datetime]) -> EditorAnswer:
        """Ask for free places that start in a window; within 7 s.

        Raises:
            EditorFailedError: no usable answer.
        """
        ...


class PollingWatch(Protocol):
    """Counts calls to editors, and says how long each has been mute (metrics)."""

    def asked(self, editor: str, word: str, seconds: float) -> None:
        """One call: ok or failed."""
        ...

    def mute(self, editor: str, seconds: float) -> None:
        """So long has an editor said nothing usable; 0 while it answers."""
        ...


class Looks:
    """Where regulators asked in the last ten minutes."""

    def __init__(self) -> None:
        self._recent: dict[str, tuple[float, str]] = {}

    def note(self, at: float, territory: str, request_id: str) -> None:
        """A request was told, at an epoch second; however often it is told, it is one."""
        self._recent.setdefault(request_id, (at, territory))

    def count(self, now: float, territories: Collection[str]) -> int:
        """Return the requests in some territories."""
        self._recent = {name: look for name, look in self._recent.items() if 0 <= now - look[0] <= LOOKS_SPAN_S}
        return sum(territory in territories for _, territory in self._recent.values())


class Polling:
    """Asks all editors, until cancelled. Several processes may: a batch is asked for by one of them."""

    def __init__(
        self,
        editors: Sequence[Editor],
        store: EditorStore,
        board: Board,
        bus: Bus,
        publishing: Publishing,
        clock: Clock,
        geography: Geography,
        watch: PollingWatch,
    ) -> None:
        self.editors = editors
        self._store = store
        self._board = board
        self._bus = bus
        self._publishing = publishing
        self._clock = clock
        self._geography = geography
        self._watch = watch
        self._looks = Looks()
        self._room = asyncio.Semaphore(MERGES_AT_ONCE)
        # what each batch's answer was last, by external id; forgotten at a restart, then everything is published again
        self._known: dict[tuple[str, str], dict[str, bytes]] = {}
        self._moving: dict[tuple[str, str], float] = {}
        self._territories: dict[tuple[str, str], frozenset[str]] = {}

    async def run(self) -> None:
        """Poll, sweep and watch where regulators look, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_looks())
            group.create_task(self._sweep_forever())
            for editor in self.editors:
                now = asyncio.get_running_loop().time()
                count = len(editor.batches)
                due = [(now + _SPREAD_S * number / count, number) for number in range(count)]
                for _ in range(min(AT_ONCE, count)):
                    group.create_task(self._ask_forever(editor, due))

    async def _ask_forever(self, editor: Editor, due: list[tuple[float, int]]) -> None:
        """Take the batch that is due first, ask, put it back; ``due`` is a heap shared by an editor's askers."""
        loop = asyncio.get_running_loop()
        while True:
            at, number = heapq.heappop(due)
            await asyncio.sleep(max(0.0, at - loop.time()))
            try:
                pause = await self.poll(editor, editor.batches[number])
            except UnavailableError as away:
                _log.warning("editors.store_away", detail=away.detail)
                pause = _AGAIN_S
            heapq.heappush(due, (loop.time() + pause, number))

    async def poll(self, editor: Editor, batch: EditorBatch) -> float:
        """Ask for a batch and bring the live places in line; returns seconds until it is due again.

        Raises:
            UnavailableError: ledger or Redis is away; what was answered is lost, the next answer tells the same.
        """
        now = self._clock.now()
        if not await self._board.admit(editor.name, now):
            return _AGAIN_S
        pause = self._interval(editor, batch, now)
        # a little less: whoever claimed it must find it free again when it is due
        if not await self._board.take(editor.name, batch.key, 0.9 * pause):
            return pause
        try:
            await self._ask(editor, batch, now)
        except EditorFailedError as failure:
            reason = str(failure)
        except UnavailableError:
            raise
        except Exception as unforeseen:
            # whatever one editor answers is that editor's failure: the others are asked all the same
            tell_fault("editors.batch", unforeseen, editor=editor.name, batch=batch.key)
            reason = "réponse inutilisable"
        else:
            return pause
        done = self._clock.now()
        self._watch.asked(editor.name, "failed", (done - now).total_seconds())
        await self._board.failed(editor.name, done, reason)
        await self._board.release(editor.name, batch.key)
        return min(pause, _AGAIN_S)

    async def _ask(self, editor: Editor, batch: EditorBatch, now: datetime) -> None:
        window = (now, now + SPAN)
        answer = await editor.ask(batch, window)
        done = self._clock.now()
        async with self._room:
            changed = await self._merge(editor.name, batch, answer.slots, window)
        # only now: an answer that cannot be kept is none
        self._watch.asked(editor.name, "ok", (done - now).total_seconds())
        await self._board.succeeded(editor.name, done, answer.dropped)
        self._learn(editor, batch, answer.slots, changed=changed)

    def _interval(self, editor: Editor, batch: EditorBatch, now: datetime) -> float:
        key = (editor.name, batch.key)
        territories = self._territories.get(key, frozenset())
        zone = next((self._geography.territories[code].timezone for code in sorted(territories)), "Europe/Paris")
        local = now.astimezone(ZoneInfo(zone))
        looks = self._looks.count(now.timestamp(), territories)
        return interval_s(local.hour + local.minute / 60, self._moving.get(key, 1.0), looks)

    def _learn(self, editor: Editor, batch: EditorBatch, slots: Iterable[Mapping[str, Any]], *, changed: bool) -> None:
        key = (editor.name, batch.key)
        self._moving[key] = _MEMORY * self._moving.get(key, 1.0) + (1 - _MEMORY) * changed
        communes = {slot["location"]["insee"] for slot in slots}
        found = (self._geography.by_code(code) for code in communes)
        self._territories[key] = frozenset(commune.territory for commune in found if commune is not None)

    # -- merging -------------------------------------------------------------------------------------------------

    async def _merge(
        self, editor: str, batch: EditorBatch, slots: Sequence[Mapping[str, Any]], window: tuple[datetime, datetime]
    ) -> bool:
        """Publish what is new or changed, note what is as it was, withdraw what is gone; tells whether any changed."""
        source, asked_at, known = SOURCE_PREFIX + editor, window[0], self._known.get((editor, batch.key), {})
        hidden = await self._store.hidden(source, slots, asked_at)
        shown = {slot["external_id"]: slot for slot in slots if slot["external_id"] not in hidden}
        text_of = {name: orjson.dumps(slot) for name, slot in shown.items()}
        same = [name for name, text in text_of.items() if known.get(name) == text]
        # one that was withdrawn meanwhile is published again
        live = await self._store.touch(source, same, asked_at) if same else set()
        published = await self._publish(source, [slot for name, slot in shown.items() if name not in live], asked_at)
        gone = await self._store.vanished(source, batch.owners, window, list(shown))
        if gone:
            await self._publishing.withdraw(_publisher(source), gone, None, "editor")
        # what was neither live nor taken now is tried again
        self._known[editor, batch.key] = {name: text_of[name] for name in {*live, *published}}
        return bool(published or gone)

    async def _publish(self, source: str, slots: Sequence[Mapping[str, Any]], asked_at: datetime) -> list[str]:
        """Publish slots; those that cannot be are left out alone. Returns the external ids that were."""
        rest = [{**slot, "valid_at": asked_at} for slot in slots if slot["start"] > self._clock.now()]
        while rest:
            try:
                verdicts = await self._publishing.publish(_publisher(source), rest)
            except InvalidInputError as invalid:
                named = (_REFUSED_SLOT.match(error["field"]) for error in invalid.extra["errors"])
                wrong = {int(match[1]) for match in named if match}
                _log.warning("editors.slots_refused", source=source, count=len(wrong), first=invalid.detail[:200])
                rest = [slot for number, slot in enumerate(rest) if number not in wrong] if wrong else []
            else:
                return [v["external_id"] for v in verdicts if v["outcome"] in ("created", "updated", "unchanged")]
        return []

    # -- what is too old, and whom nobody hears ------------------------------------------------------------------

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                await self.sweep()
            except UnavailableError as away:
                _log.warning("editors.store_away", detail=away.detail)

    async def sweep(self) -> None:
        """Withdraw what nobody has checked for too long, and show who is mute."""
        now = self._clock.now()
        for source, names in (await self._store.stale(now - TOO_OLD, now)).items():
            _log.warning("editors.too_old", source=source, places=len(names))
            await self._publishing.withdraw(_publisher(source), names, None, "editor_mute")
        for state in await self._board.states([editor.name for editor in self.editors]):
            self._watch.mute(state.name, mute_s(state, now))

    async def _follow_looks(self) -> None:
        positions: dict[str, str] = {}
        while True:
            try:
                positions = positions or await self._bus.tails([REQUESTS_STREAM])
                for entry in await self._bus.read(positions, 1_000):
                    positions[entry.stream] = entry.id
                    self._hear(entry)
            except UnavailableError:
                positions = {}
                await asyncio.sleep(_AGAIN_S)

    def _hear(self, entry: Entry) -> None:
        try:
            if entry.fields[b"type"] in _LOOKS:
                territory, request_id = entry.fields[b"territory"].decode(), entry.fields[b"request"].decode()
                self._looks.note(self._clock.now().timestamp(), territory, request_id)
        except Exception as unreadable:
            # only how often editors are asked hangs on it: it must not end their polling
            tell_fault("editors.looks", unreadable, entry=entry.id)


def _publisher(source: str) -> Publisher:
    return Publisher(source, frozenset("*"), frozenset())
