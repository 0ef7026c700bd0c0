"""The hub of one API worker: follows the event stream and hands each event to the sockets and callers it is for.

History is the bounded stream in Redis, truth is the ledger: whoever cannot be caught up from the stream is told of a
gap and reads the ledger. Nothing here grows with a slow reader: its queue is bounded and it is cut off.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

import orjson
import structlog

from sas_matcher.api.auth import Caller
from sas_matcher.api.drill import marked
from sas_matcher.domain.errors import UnavailableError
from sas_matcher.domain.vocabulary import Scope
from sas_matcher.ports.bus import EVENTS_STREAM, Bus, Entry
from sas_matcher.ports.ledger import Ledger
from sas_matcher.ports.world import Clock
from sas_matcher.services.members import member_names

QUEUE: Final = 1_000  # messages a socket may lag behind: a minute at the highest rate of one regulator's events
SUMMARY: Final = ("request_id", "booking_id", "territory", "status", "state", "version", "tier")
"""What who steers hears of each request and booking: neither commune nor profession, by which one patient in a hamlet
could be known (figures hide counts below five)."""
REPLAY: Final = 5_000  # events a resume may fetch; more is a gap
_KNOWN: Final = 50_000
_EPOCH_S: Final = 0.2
_log = structlog.get_logger(__name__)


class Subscriber:
    """One socket's bounded queue and what it may see."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE)
        self.lost = False
        self.audience = list(member_names(caller.professionals, caller.structures))
        self.audience += [f"t:{name}" for name in caller.territories]
        self.audience.append(f"k:{caller.key_id}")
        if "*" in caller.professionals:
            self.audience.append(f"src:{caller.source}")

    def offer(self, message: bytes) -> None:
        """Queue a message; a full queue marks the reader as lost and wakes it up to be cut off."""
        if self.lost:
            return
        try:
            self.queue.put_nowait(message)
        except asyncio.QueueFull:
            self.lost = True
            self.queue.get_nowait()
            self.queue.put_nowait(None)


class Hub:
    """Routes events; one task (``run``) feeds it."""

    def __init__(self, bus: Bus, ledger: Ledger, clock: Clock, *, drill: bool = False) -> None:
        self.drill = drill  # of a service for exercises: every message says so
        self._bus = bus
        self._ledger = ledger
        self._clock = clock
        self.epoch = ""
        self.position = "0-0"
        self._waiters: dict[str, list[tuple[int, asyncio.Future[bytes]]]] = {}
        self._by_key: dict[str, set[Subscriber]] = {}
        self._by_audience: dict[str, set[Subscriber]] = {}
        self._by_territory: dict[str, set[Subscriber]] = {}
        self._versions: OrderedDict[bytes, int] = OrderedDict()
        self.started = asyncio.Event()
        self.following = False  # whether what happens is heard of at present

    # -- callers that wait for a decision ------------------------------------------------------------------------

    def expect(self, request_id: str, after: int = 0) -> asyncio.Future[bytes]:
        """Return a future of the next document of a request; ask before it is sent or committed.

        Args:
            request_id: whose.
            after: a version that is known; only a newer one counts.
        """
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(request_id, []).append((after, future))
        return future

    def awaits(self, request_id: str) -> bool:
        """Whether somebody waits for the next document of a request."""
        return request_id in self._waiters

    def release(self, request_id: str, future: asyncio.Future[bytes]) -> None:
        """Stop waiting."""
        left = [waiter for waiter in self._waiters.pop(request_id, ()) if waiter[1] is not future]
        if left:
            self._waiters[request_id] = left

    # -- sockets -------------------------------------------------------------------------------------------------

    def join(self, subscriber: Subscriber) -> None:
        """Send a socket what is for it from now on."""
        for index, names in self._indexes(subscriber):
            for name in names:
                index.setdefault(name, set()).add(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a socket."""
        for index, names in self._indexes(subscriber):
            for name in names:
                members = index.get(name)
                if members is not None:
                    members.discard(subscriber)
                    if not members:
                        del index[name]

    def _indexes(self, subscriber: Subscriber) -> Sequence[tuple[dict[str, set[Subscriber]], Iterable[str]]]:
        territories = subscriber.caller.territories if subscriber.caller.scope is Scope.COORDINATOR else ()
        return (
            (self._by_key, [subscriber.caller.key_id]),
            (self._by_audience, subscriber.audience),
            (self._by_territory, territories),
        )

    @property
    def sockets(self) -> int:
        """How many sockets are open."""
        return len({s for members in self._by_key.values() for s in members})

    async def history(self, caller: Caller, after: str, until: str) -> list[bytes] | None:
        """Return the messages of a caller with after < offset ≤ until; None when some are gone (a gap)."""
        if not await self._bus.has_all_since(EVENTS_STREAM, after):
            return None
        probe = Subscriber(caller)
        messages: list[bytes] = []
        at = after
        for _ in range(REPLAY // 500):
            entries = await self._bus.range(EVENTS_STREAM, at, until, 500)
            messages += [
                self._message(entry, summary) for entry in entries if (summary := self._for(probe, entry)) is not None
            ]
            if len(entries) < 500:
                # a server that was restarted meanwhile may have lost some of it
                return messages if await self._bus.epoch() == self.epoch else None
            at = entries[-1].id
        return None

    def _for(self, subscriber: Subscriber, entry: Entry) -> bool | None:
        """Tell whether an event is for a socket: False in full, True as a summary, None not at all."""
        caller = subscriber.caller
        if entry.fields[b"owner"].decode() == caller.key_id:
            return False
        if any(name in subscriber.audience for name in entry.fields[b"audience"].decode().split()):
            return False
        if caller.scope is Scope.COORDINATOR and caller.sees_territory(entry.fields[b"territory"].decode()):
            return True
        return None

    # -- the stream ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow the stream until cancelled; survives Redis going away and being wiped."""
        looked = 0.0
        while True:
            try:
                if not self.started.is_set():
                    await self._begin()
                now = self._clock.now().timestamp()
                if not 0 <= now - looked < _EPOCH_S:  # the clock may have been put back
                    looked = now
                    await self._watch_epoch()
                for entry in await self._bus.read({EVENTS_STREAM: self.position}, block_ms=200):
                    self.position = entry.id
                    self._dispatch(entry)
                self.following = True
            except UnavailableError as away:
                self.following = False
                _log.warning("hub.bus_away", detail=away.detail)
                await asyncio.sleep(0.2)
            except Exception as broken:
                # one entry that cannot be read must not silence all that follow; it is behind us already
                _log.error("hub.unreadable", kind=type(broken).__name__, offset=self.position)
                await asyncio.sleep(0.2)

    async def _begin(self) -> None:
        await self._from_here(await self._bus.epoch() or "")
        self.started.set()

    async def _watch_epoch(self) -> None:
        epoch = await self._bus.epoch()
        if epoch is None or epoch == self.epoch:
            return
        if not self.epoch:
            self.epoch = epoch
            return
        await self._from_here(epoch)

    async def _from_here(self, epoch: str) -> None:
        """Go on from the end of the stream, and tell who is here to read the ledger, which knows what lies before.

        History may be lost; or Redis was away when this worker began, and some came before anything could be heard.
        """
        tail = (await self._bus.tails([EVENTS_STREAM]))[EVENTS_STREAM]
        self.epoch, self.position = epoch, tail
        gap = self.gap("stream_wiped")
        for members in list(self._by_key.values()):
            for subscriber in members:
                subscriber.offer(gap)
        await self._answer_from_ledger()

    async def _answer_from_ledger(self) -> None:
        """Callers that wait may have missed their event: give them what the ledger says."""
        for request_id in list(self._waiters):
            document = await self._ledger.request_document(request_id, None)
            known = {} if document is None else orjson.loads(document)
            if document is not None and known["decision"] is not None:
                self._resolve(request_id, document.encode(), known["version"])

    def gap(self, reason: str) -> bytes:
        """Return the message that says: what happened before this offset is to be read from the ledger."""
        return orjson.dumps({"type": "gap", "epoch": self.epoch, "offset": self.position, "reason": reason})

    def _resolve(self, request_id: str, document: bytes, version: int) -> None:
        waiting = self._waiters.pop(request_id, ())
        early = [waiter for waiter in waiting if version <= waiter[0]]
        if early:
            self._waiters[request_id] = early
        for after, future in waiting:
            if version > after and not future.done():
                future.set_result(document)

    def _message(self, entry: Entry, summary: bool) -> bytes:
        fields = entry.fields
        data = fields[b"data"]
        if summary:
            document = orjson.loads(data)
            data = orjson.dumps({name: document[name] for name in SUMMARY if name in document})
        if self.drill:
            data = orjson.dumps(marked(orjson.loads(data)))
        mark = b'"drill":true,' if self.drill else b""
        return b'{"type":"event",%s"epoch":"%s","offset":"%s","event":"%s","aggregate":"%s","version":%s,"data":%s}' % (
            mark,
            self.epoch.encode(),
            entry.id.encode(),
            fields[b"type"],
            fields[b"aggregate"],
            fields[b"version"],
            data,
        )

    def _dispatch(self, entry: Entry) -> None:
        fields = entry.fields
        aggregate, version = fields[b"aggregate"], int(fields[b"version"])
        if self._versions.get(aggregate, 0) >= version:
            return  # published twice, or overtaken by what came after it
        self._versions[aggregate] = version
        self._versions.move_to_end(aggregate)
        if len(self._versions) > _KNOWN:
            self._versions.popitem(last=False)
        full = set(self._by_key.get(fields[b"owner"].decode(), ()))
        for name in fields[b"audience"].decode().split():
            full |= self._by_audience.get(name, set())
        brief = self._by_territory.get(fields[b"territory"].decode(), set()) | self._by_territory.get("*", set())
        if full:
            message = self._message(entry, summary=False)
            for subscriber in full:
                subscriber.offer(message)
        if brief - full:
            message = self._message(entry, summary=True)
            for subscriber in brief - full:
                subscriber.offer(message)
        # after the sockets: who wakes first is served first, and an answer takes longer than a push
        if fields[b"type"].startswith(b"request."):
            self._resolve(aggregate.decode(), fields[b"data"], version)
