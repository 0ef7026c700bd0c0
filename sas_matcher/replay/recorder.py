"""Records what the live service announces: a day log for each territory and local day, and its batches beside it.

Reads the streams like the matcher, up to where the matcher had read when it decided. What is written is whole
lines, synced every ``SAVE_S``; a mark beside the files then says how far they go and how far the streams were read.
Whoever is stopped, or killed, goes on from there: what was written after the mark is cut off and read again, so that no
event is lost or written twice. Where the streams no longer reach back that far, the ledger says what has changed since.
"""

import asyncio
import fcntl
import hmac
import math
import os
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson
import structlog

from sas_matcher.domain.errors import UnavailableError
from sas_matcher.domain.lifecycle import RequestStatus
from sas_matcher.domain.vocabulary import DELAY_SPAN, Tier, tier_of
from sas_matcher.faults import tell_fault
from sas_matcher.matching.terms import Terms
from sas_matcher.ports.bus import (
    ARRIVAL,
    BATCHES_STREAM,
    EVENTS_STREAM,
    PLACES_STREAM,
    REQUESTS_STREAM,
    Bus,
    Entry,
    entry_order,
    told_order,
)
from sas_matcher.ports.ledger import Ledger, arriving_document
from sas_matcher.ports.world import Clock
from sas_matcher.replay.batches import read_batches
from sas_matcher.replay.daylog import Instant, Meta, TierTerms
from sas_matcher.replay.daylog_file import read_day
from sas_matcher.replay.recording import Recording

STREAMS: Final = (REQUESTS_STREAM, EVENTS_STREAM, PLACES_STREAM, BATCHES_STREAM)
_OPENING: Final = (b"open", ARRIVAL.encode())
_WRITTEN: Final = frozenset({"held", "promised", "moved", "told_firm", "displaced", "told", "limit_reached"})
HEARD: Final = (REQUESTS_STREAM, PLACES_STREAM)  # those that the matcher follows
_NAMED: Final = {
    REQUESTS_STREAM: {b"territory", b"type", b"request"},
    PLACES_STREAM: {b"territory", b"kind", b"data"},
}
SAVE_S: Final = 1.0
READ: Final = 500
# What was told so long ago was heard by the matcher too, whether or not it has decided anything since. With two seconds
# one of twelve crowds on an overloaded machine, whose matcher was that far behind, was not decided the same again.
SETTLED_S: Final = 10.0
MARK: Final = ".reprise.json"
KEY: Final = ".pseudonymes"
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Files:
    """A recording and its two files; lengths in bytes are those that the mark holds."""

    date: date
    recording: Recording
    day: Path
    batches: Path
    lengths: tuple[int, int] = (0, 0)


def meta_of(territory: str, zone: ZoneInfo, day: date, terms: Terms, *, drill: bool = False) -> Meta:
    """The first line of a territory's day: from midnight to midnight, local time, on the terms of the service."""

    def midnight(when: date) -> Instant:
        return Instant.parse(datetime.combine(when, time(), zone).isoformat())

    longest = {tier: max(span for delay, span in DELAY_SPAN.items() if tier_of(delay) == tier) for tier in Tier}
    tiers = tuple(
        TierTerms(str(tier), longest[tier].total_seconds() / 60, each.value, each.wait_weight)
        for tier, each in terms.tiers.items()
    )
    start, end = midnight(day), midnight(day + timedelta(days=1))
    return Meta(
        territory,
        zone.key,
        start,
        end,
        terms.base_min,
        terms.min_per_km,
        tiers,
        terms.mt_bonus_min,
        terms.notice_min,
        drill,
    )


class Recorder:
    """Writes ``FOLDER/<territory>/<date>.jsonl`` and ``….batches.jsonl``.

    Args:
        ledger, bus, clock: of the service that is recorded.
        folder: where to write, made ready by ``open_folder``.
        key: of the pseudonyms, which whoever gets the files must not have.
        territories: which to record.
        zone_of: local time of each.
        terms: those of the service.
        drill: the service is an exercise, and its days say so.
        stopwatch: seconds that pass, whatever becomes of the clock.
        ahead: seconds that the clock is ahead of that of Redis (a rehearsal of another day).
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        bus: Bus,
        clock: Clock,
        folder: Path,
        key: bytes,
        territories: Sequence[str],
        zone_of: Callable[[str], ZoneInfo],
        terms: Terms | None = None,
        ahead: float = 0.0,
        drill: bool = False,
        stopwatch: Callable[[], float] = monotonic,
    ) -> None:
        self._stopwatch = stopwatch
        self._ledger = ledger
        self._bus = bus
        self._clock = clock
        self._folder = folder
        self._territories = list(territories)
        self._zone_of = zone_of
        self._terms = terms or Terms()
        self._ahead, self._drill = ahead, drill
        self._open: dict[str, _Files] = {}
        self._positions: dict[str, str] = {}
        # of places and requests: read, and not yet known to have been heard by the matcher: (when it was read, entry)
        self._told: deque[tuple[float, Entry]] = deque()
        # read, and not applied yet
        self._batches: deque[Entry] = deque()
        # by request: that it was cancelled, and not only closed
        self._cancelled: dict[str, tuple[float, Entry]] = {}
        # by request that arrived and is in a log: since when, and in whose; until it is known to have been written
        self._arrived: dict[str, tuple[float, _Files]] = {}
        self._key = key
        self._saved = -math.inf

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Record until cancelled; what was read is on disk at the end.

        Raises:
            OSError: the folder cannot be written; the files are whole up to the last mark.
            DayLogError: a file to be gone on with is damaged.
        """
        await self._until_there(self.start)
        try:
            while True:
                await self._until_there(self.step)
        finally:
            self.save()

    @staticmethod
    async def _until_there(step: Callable[[], Any]) -> None:
        while True:
            try:
                await step()
                return
            except UnavailableError as away:
                _log.warning("recorder.store_away", detail=away.detail)
                await asyncio.sleep(0.5)

    async def start(self) -> None:
        """Go on from the mark, or begin with what the ledger has."""
        self._open, self._cancelled, self._arrived = {}, {}, {}
        self._told.clear()
        self._batches.clear()
        mark = self._folder / MARK
        if mark.exists():
            known = orjson.loads(mark.read_bytes())
            self._positions = known["positions"]
            for territory, (day, *lengths) in known["files"].items():
                self._resume(territory, date.fromisoformat(day), (lengths[0], lengths[1]))
        await self._catch_up()
        self.save()

    async def step(self) -> None:
        """Read once, write what can be written, save when it is time."""
        entries = told_order(await self._bus.read(self._positions, block_ms=200, count=READ))
        now = self._stopwatch()
        for entry in entries:
            self._positions[entry.stream] = entry.id
            with _outlasting(entry):
                self._queue(entry, now)
        if not any(count >= READ for count in Counter(entry.stream for entry in entries).values()):
            # nothing is left behind: whatever a batch hangs on was announced before it
            while self._batches:
                with _outlasting(self._batches[0]):
                    await self._apply_batch(orjson.loads(self._batches[0].fields[b"data"]))
                self._batches.popleft()
            while self._told and now - self._told[0][0] > SETTLED_S:
                if not _arrives(self._told[0][1]) or await self._is_missing(self._told[0][1]):
                    self._apply(self._told[0][1])
                self._told.popleft()
            await self._forget_phantoms(now)
            if not self._told:
                # of who was closed already, or is of no log
                late = [name for name, (at, _) in self._cancelled.items() if now - at > SETTLED_S]
                self._cancelled = {name: told for name, told in self._cancelled.items() if name not in late}
        if now - self._saved > SAVE_S:
            await self._catch_up()
            self.save()

    def _queue(self, entry: Entry, now: float) -> None:
        if entry.stream == BATCHES_STREAM:
            self._batches.append(entry)
        elif entry.stream in HEARD:
            if missing := _NAMED[entry.stream] - entry.fields.keys():
                raise KeyError(min(missing))
            # of what arrives elsewhere nothing will be asked
            if not _arrives(entry) or entry.fields[b"territory"].decode() in self._open:
                self._told.append((now, entry))
        elif entry.fields[b"type"] == b"request.cancelled" and self._is_open(entry):
            self._cancelled[entry.fields[b"aggregate"].decode()] = (now, entry)

    async def _forget_phantoms(self, now: float) -> None:
        """Let those that arrived and never came to be written (a call that was repeated) need no place any more."""
        for name, (at, files) in list(self._arrived.items()):
            if now - at <= SETTLED_S:
                return
            if await self._ledger.request_document(name, None) is None:
                files.recording.cancelled(name, self._clock.now().timestamp())
            del self._arrived[name]

    async def _is_missing(self, entry: Entry) -> bool:
        """Whether a request that arrived came to be written, though neither a batch nor its sender told of it."""
        files, name = self._open.get(entry.fields[b"territory"].decode()), entry.fields[b"request"].decode()
        if files is None or files.recording.is_known(name):
            return False
        return await self._ledger.request_document(name, None) is not None

    def _today(self, territory: str) -> date:
        return self._clock.now().astimezone(self._zone_of(territory)).date()

    def _told_at(self, entry: Entry) -> float:
        """When an entry was published, by the clock of Redis (epoch seconds)."""
        return entry_order(entry.id)[0] / 1000 + self._ahead

    def _is_open(self, entry: Entry) -> bool:
        files = self._open.get(entry.fields[b"territory"].decode())
        return files is not None and not files.recording.is_closed(entry.fields[b"aggregate"].decode())

    # -- what is announced ---------------------------------------------------------------------------------------

    def _apply(self, entry: Entry, until: float = math.inf) -> None:
        """Take in what was heard before an instant, whatever the clock of Redis says."""
        with _outlasting(entry):
            self._take_in(entry, until)

    def _take_in(self, entry: Entry, until: float) -> None:
        files = self._open.get(entry.fields[b"territory"].decode())
        if files is None:
            return
        if entry.stream == PLACES_STREAM:
            kind, items = entry.fields[b"kind"].decode(), orjson.loads(entry.fields[b"data"])
            files.recording.places(kind, items, min(self._told_at(entry), until))
        elif entry.fields[b"type"] in _OPENING:
            files.recording.opened(_document(entry))
            if _arrives(entry):
                self._arrived[entry.fields[b"request"].decode()] = (self._stopwatch(), files)
            else:
                self._arrived.pop(entry.fields[b"request"].decode(), None)
        elif (cancelled := self._cancelled.pop(entry.fields[b"request"].decode(), None)) is not None:
            name, t = entry.fields[b"request"].decode(), self._told_at(cancelled[1])
            files.recording.cancelled(name, min(t, until))

    def _hear(self, batch: Mapping[str, Any], t: float) -> None:
        """Take in what the matcher had heard when it began a batch."""
        told = batch["heard"]
        first, at_desks = (
            {stream: entry_order(at) for stream, at in told[part].items()} for part in ("first", "at_desks")
        )
        desks = {territory.encode() for territory in told["territories"]}
        asked = {name.encode() for name in batch["asked"]}
        calls = self._calls()
        waiting, self._told = self._told, deque()
        for number, (at, entry) in enumerate(waiting):
            # a matcher that has just started knows from the ledger whom it has not heard of
            known = number in calls and entry.fields[b"request"] in asked
            heard = at_desks if entry.fields[b"territory"] in desks else first
            # what arrives is there once it was asked for
            if known or (not _arrives(entry) and entry_order(entry.id) <= heard.get(entry.stream, (0, 0))):
                self._apply(entry, t)
            else:
                self._told.append((at, entry))

    def _calls(self) -> set[int]:
        """Where in the queue requests are opened of which the log does not know yet."""
        calls: dict[bytes, int] = {}
        for number, (_, entry) in enumerate(self._told):
            files = self._open.get(entry.fields[b"territory"].decode())
            if files is not None and entry.stream == REQUESTS_STREAM and entry.fields[b"type"] in _OPENING:
                name = entry.fields[b"request"]
                if name not in calls and not files.recording.is_known(name.decode()):
                    calls[name] = number
        return set(calls.values())

    async def _apply_batch(self, batch: Mapping[str, Any]) -> None:
        """Bring the day to where the matcher had read, then note what it decided."""
        t = _instant(batch)
        self._hear(batch, t)
        for name, _, verdict, _ in batch["requests"]:
            if verdict in _WRITTEN:
                self._arrived.pop(name, None)
        for files in self._open.values():
            recording = files.recording
            self._send_away(recording, batch["asked"], t)
            for slot_id, seats in recording.lacking(batch["requests"]).items():
                row = await self._ledger.slot_record(slot_id)
                if row is not None:
                    recording.lend(orjson.loads(row["record"]), seats, t)
            territory = recording.meta.territory
            recording.batch(
                t,
                batch["requests"],
                mt_first=territory in batch["mt_first"],
                measures=batch["measures"].get(territory),
                asked=batch["asked"],
                promised=batch["promised"],
                step=batch["steps"].get(territory),
                released=batch["heard"]["released"],
                planned=batch["planned"].get(territory),
                answered=batch["answered"].get(territory, ()),
                opened=territory in batch["opened"],
                expected=batch["opened"].get(territory, {}).get("expected", 0),
                ceded=[seat[1:] for seat in batch["ceded"] if seat[0] == territory],
            )
        for territory, kind, items in batch["news"]:
            if territory in self._open:
                self._open[territory].recording.places(kind, items, t)

    def _send_away(self, recording: Recording, asked: Iterable[str], t: float) -> None:
        """Let a withdrawal come before a batch that decides again for whom it sent away.

        That the request is open again is announced before the slot is gone: the matcher may decide between the two.
        """
        seats = recording.lost_seats(asked)
        if not seats:
            return
        for _, entry in self._told:
            if entry.stream == PLACES_STREAM and entry.fields[b"kind"] == b"gone":
                with _outlasting(entry):
                    gone = [item for item in orjson.loads(entry.fields[b"data"]) if item[0] in seats]
                    recording.gone_unheard(gone, t)

    # -- what the ledger has -------------------------------------------------------------------------------------

    async def _catch_up(self) -> None:
        """Begin the day's files where there are none yet; ask the ledger where the streams have a gap."""
        # of batches that were lost nothing is left; the seats that they took show at the next one
        watched = [(name, at) for name, at in self._positions.items() if name != BATCHES_STREAM]
        whole = bool(watched) and all([await self._bus.has_all_since(name, at) for name, at in watched])
        if not whole:
            if watched:
                _log.warning("recorder.gap")
            # positions before the ledger is read: what changes meanwhile is read again, and versions make that harmless
            self._positions = await self._bus.tails(STREAMS)
            self._told.clear()
            self._batches.clear()
            self._cancelled.clear()
        for territory in self._territories:
            files = self._open.get(territory)
            if files is None or files.date != self._today(territory):
                await self._begin(territory)
            elif not whole:
                await self._learn(territory, files.recording)

    async def _begin(self, territory: str) -> None:
        """Begin the files of a territory's day with what is there already."""
        self.save()
        zone, day = self._zone_of(territory), self._today(territory)
        files = self._files(
            territory,
            day,
            Recording(meta_of(territory, zone, day, self._terms, drill=self._drill), zone, self._pseudonym),
        )
        for path in (files.day, files.batches):
            if path.exists():
                raise FileExistsError(f"{path} existe déjà, et rien ne dit jusqu'où il va ; déplacez-le")
        files.day.parent.mkdir(parents=True, exist_ok=True)
        files.recording.begin()
        await self._learn(territory, files.recording, begins=True)
        self._open[territory] = files

    async def _learn(self, territory: str, recording: Recording, *, begins: bool = False) -> None:
        now = self._clock.now()
        rows = sorted(await self._ledger.live_records(now, territory), key=lambda row: int(row["id"]))
        for row in rows:
            recording.learned(orjson.loads(row["record"]), row["left"], now.timestamp(), begins=begins)
        recording.keep_only({row["id"] for row in rows}, now.timestamp())
        documents = [orjson.loads(text) for text in await self._ledger.waiting_requests(now, [territory])]
        for document in sorted(documents, key=lambda d: (d["created_at"], d["request_id"])):
            # one that is promised has its seat already
            if document["status"] == RequestStatus.WAITING:
                recording.opened(document)
        still = {document["request_id"] for document in documents}
        for name in recording.open_requests() - still:
            document = orjson.loads(await self._ledger.request_document(name, None) or "{}")
            if document.get("status") == RequestStatus.CANCELLED:
                recording.cancelled(name, now.timestamp())

    def _pseudonym(self, name: str) -> str:
        return hmac.new(self._key, name.encode(), "sha256").hexdigest()[:16]

    # -- files ---------------------------------------------------------------------------------------------------

    def _files(self, territory: str, day: date, recording: Recording) -> _Files:
        folder = self._folder / territory
        return _Files(day, recording, folder / f"{day}.jsonl", folder / f"{day}.batches.jsonl")

    def _resume(self, territory: str, day: date, lengths: tuple[int, int]) -> None:
        """Cut off what was written after the mark; go on where the day is still today's."""
        if territory not in self._territories:
            return
        zone = self._zone_of(territory)
        files = self._files(
            territory,
            day,
            Recording(meta_of(territory, zone, day, self._terms, drill=self._drill), zone, self._pseudonym),
        )
        files.lengths = lengths
        for path, length in zip((files.day, files.batches), lengths, strict=True):
            if path.stat().st_size < length:
                raise OSError(
                    f"{path} a été raccourci depuis la dernière fois ; déplacez-le avec {self._folder / MARK}"
                )
            os.truncate(path, length)
        if day == self._today(territory):
            log = read_day(files.day)
            files.recording = Recording.resumed(log, read_batches(files.batches, log), zone, self._pseudonym)
            self._open[territory] = files

    def save(self) -> None:
        """Write what is to be written, sync it, and say in the mark how far it goes."""
        self._saved = self._stopwatch()
        for files in self._open.values():
            if not self._told:
                files.recording.settle(self._clock.now().timestamp())
            texts = files.recording.take()
            for path, text in zip((files.day, files.batches), texts, strict=True):
                if text:
                    _append(path, text)
            files.lengths = (files.lengths[0] + len(texts[0]), files.lengths[1] + len(texts[1]))
        if self._open:
            self._write_mark()

    def _write_mark(self) -> None:
        # of what was read and not applied yet nothing is written: it is to be read again
        positions = dict(self._positions)
        unwritten = (*self._batches, *(entry for _, entry in (*self._told, *self._cancelled.values())))
        for name in STREAMS:
            if waiting := [entry_order(entry.id) for entry in unwritten if entry.stream == name]:
                milliseconds, number = min(waiting)
                positions[name] = f"{milliseconds}-{number - 1}" if number else f"{milliseconds - 1}-{2**63}"
        mark = {
            "positions": positions,
            "files": {name: [str(files.date), *files.lengths] for name, files in self._open.items()},
        }
        draft = self._folder / f"{MARK}.tmp"
        draft.write_bytes(b"")
        _append(draft, orjson.dumps(mark))
        draft.replace(self._folder / MARK)


@contextmanager
def _outlasting(entry: Entry) -> Iterator[None]:
    """Leave an entry behind that cannot be read: read again after each start, it would end all recording for ever."""
    try:
        yield
    except UnavailableError:
        raise
    except Exception as unreadable:
        tell_fault("recorder.news", unreadable, stream=entry.stream, entry=entry.id)


def _arrives(entry: Entry) -> bool:
    """Whether an entry is about a request that the ledger had not got yet."""
    return entry.stream == REQUESTS_STREAM and entry.fields[b"type"] == ARRIVAL.encode()


def _document(entry: Entry) -> dict[str, Any]:
    """Return the document of the request that an entry of ``_OPENING`` is about."""
    document: dict[str, Any] = orjson.loads(entry.fields[b"data"])
    return arriving_document(document) if _arrives(entry) else document


def _instant(batch: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(batch["t"]).timestamp()


def _append(path: Path, text: bytes) -> None:
    """Add whole lines to a file, in one write, and sync them."""
    with path.open("ab", buffering=0) as file:
        file.write(text)
        os.fsync(file.fileno())


def open_folder(folder: Path) -> tuple[bytes, int]:
    """Make a folder ready for one recorder; returns the key of its pseudonyms, drawn once, and the lock's descriptor.

    Raises:
        BlockingIOError: another recorder writes there.
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = os.open(folder / KEY, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    key = os.read(number, 64)
    if not key:
        key = secrets.token_bytes(32)
        os.write(number, key)
        os.fsync(number)
    return key, number
