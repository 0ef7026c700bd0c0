"""The matcher: one process for many territories, deciding whatever is open as soon as something is open.

While a batch is being solved and claimed the next requests queue up and form the next batch: one when quiet, hundreds
in a surge, no timer. A claim is one transaction for the batch; unique rows decide; who lost a seat goes round again.
Memory is only a hint kept by the streams: it is rebuilt from the ledger at start and after a wipe of Redis, while
deciding goes on with what is known.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, time, tzinfo
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
import orjson
import structlog

from sas_matcher.domain.errors import FencedError, UnavailableError
from sas_matcher.domain.lifecycle import RequestStatus
from sas_matcher.domain.limits import is_child
from sas_matcher.domain.vocabulary import Mode, Tier, matching_specialty
from sas_matcher.matching.commitment import Policy
from sas_matcher.matching.engine import Candidates, OpenRequest, Pick, decide, find_candidates
from sas_matcher.matching.explain import (
    PlaceGoneError,
)
from sas_matcher.matching.forecast import HistoryDay
from sas_matcher.matching.loading import Loader
from sas_matcher.matching.market import KM_PER_DEGREE, Market, PlaceRow, Spot, place_row, stable_key
from sas_matcher.matching.pairs import Codes
from sas_matcher.matching.peers import OFFICIAL, PEERS, Search, choose
from sas_matcher.matching.terms import TIER_RANK, Terms
from sas_matcher.matching.territory import Decision, TerritoryDesk
from sas_matcher.ports import (
    LIMIT_NEWS,
    PLACES_STREAM,
    REQUESTS_STREAM,
    Announcement,
    Bus,
    Clock,
    Entry,
    Ids,
    Ledger,
    Publisher,
)
from sas_matcher.services.claiming import Line, Scribe
from sas_matcher.services.desks import Desks, PlannerProcess
from sas_matcher.services.journal import batch_news
from sas_matcher.services.rules import Rules
from solver import Plan, Problem, solve

LEASE_S: Final = 10.0  # a dead matcher's territories are taken over after this
RENEW_S: Final = 3.0
INLINE_ARCS: Final = 4_000  # about 4 ms of solving; more goes to a process of its own (the solver holds the GIL)
SOLVE_S: Final = 0.25  # for one solve; then the plan before it, or tier-greedy on all candidates, marked as such
DECIDE_S: Final = (
    0.45  # for a batch: 1 000 requests on 10 000 places are proven optimal in 0.3 s; then as far as it got
)
BATCH: Final = 1_000
EXPLAIN_PAUSE: Final = 10  # requests looked at, or decisions written, between two breaths: 15 ms in Paris at the worst
BIG_NEWS: Final = 10_000  # bytes of an entry after which others may go on: a bulk comes in entries of 200 places, 5 ms
LOADED: Final = 1_000  # places loaded between two breaths: about 10 ms
LOSSES: Final = 5  # lost seats in a row before a request waits for the next change
HOUR_S: Final = 3600.0  # the longest sleep when no plan is due
EPOCH_S: Final = 0.2  # how often a wipe of Redis is looked for
PAUSE_S: Final = 2.0  # longer between two looks means that this process or Redis stood still
_log = structlog.get_logger(__name__)


class SolveTimeoutError(Exception):
    """The exact solve did not end in time."""


class History(Protocol):
    """The earlier days that forecasts learn from."""

    def has(self, territory: str) -> bool:
        """Whether there are any of a territory."""
        ...

    def learn(self, territory: str, terms: Terms, codes: Codes) -> Sequence[HistoryDay]:
        """Return them, in the numbers of ``codes``; may read files."""
        ...


class SolverProcess(PlannerProcess, Protocol):
    """Solves a large problem, or makes a plan, elsewhere and within a deadline."""

    async def solve(self, problem: Problem, seconds: float) -> Plan:
        """Return the exact plan.

        Raises:
            SolveTimeoutError: no answer in time; the work was stopped.
        """
        ...

    async def search(self, problem: Problem, seconds: float) -> Plan:
        """Return a plan of a problem with packing rows that is searched for (CP-SAT), with its proven gap.

        Raises:
            SolveTimeoutError: no answer in time.
        """
        ...


class Watch(Protocol):
    """Counts what the matcher does (metrics)."""

    def batch(self, size: int, arcs: int, seconds: float, method: str, gap: int) -> None:
        """One batch was solved; ``gap`` as in ``Pick``: 0 proven optimal, else a bound, −1 when unknown."""
        ...

    def decided(self, request: OpenRequest, verdict: str, seconds: float) -> None:
        """One request got its verdict, so long after it was created."""
        ...

    def state(self, places: int, waiting: int) -> None:
        """How much is in memory."""
        ...


def open_request(document: Mapping[str, Any], landmass: int) -> OpenRequest:
    """Build what matching needs from a request's document."""
    return OpenRequest(
        id=document["request_id"],
        key=stable_key(document["request_id"]),
        territory=document["territory"],
        lat=document["lat"],
        lon=document["lon"],
        landmass=landmass,
        profession=document["profession"],
        specialty=matching_specialty(document["specialty"]),
        modes=tuple(document["modes"]),
        tier=Tier(document["tier"]),
        created_at=datetime.fromisoformat(document["created_at"]).timestamp(),
        deadline=datetime.fromisoformat(document["deadline"]).timestamp(),
        radius_km=document["radius_km"],
        needs=tuple(document["needs"]),
        mt=document["mt"],
        version=document["version"],
        not_slots=frozenset(int(name[1:]) for name in document["excluded"] if name[0] == "s"),
        not_professionals=frozenset(name[1:] for name in document["excluded"] if name[0] == "p"),
        promised=document["booking"]["slot_id"] if document["status"] == RequestStatus.PROMISED else None,
        was_promised=document["promise"] is not None,
        child=is_child(document["age_band"], document["needs"]),
    )


class Matcher:
    """Decides for the territories whose leases it holds; sees the places of all."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        bus: Bus,
        clock: Clock,
        ids: Ids,
        holder: str,
        territories: Sequence[str],
        zone_of: Callable[[str], tzinfo],
        landmass_of: Callable[[str], int],
        solver: SolverProcess | None = None,
        watch: Watch | None = None,
        terms: Terms | None = None,
        policy: str = "firm",
        history: History | None = None,
        seed: int = 0,
        journal: Publisher | None = None,
        radius_of: Callable[[str], float] = lambda _: 0.0,
    ) -> None:
        self._ledger = ledger
        self._bus = bus
        self._clock = clock
        self._ids = ids
        self._holder = holder
        self._territories = list(territories)
        self._zone_of = zone_of
        self._landmass_of = landmass_of
        self._radius_of = radius_of  # the national platform's circle, for the policy that imitates it
        self._solver = solver
        self._watch = watch
        self._journal = journal  # hears what was decided together (stream ``batches``)
        self._heard = "0-0"  # the last entry of the log of places that is in the market
        self._still = asyncio.Lock()  # a batch looks at one market: news wait until all its candidates are found
        self.market = Market()
        self.ready = asyncio.Event()
        self._fences: dict[str, int] = {}
        self._new: dict[str, OpenRequest] = {}
        self._waiting: dict[str, OpenRequest] = {}
        # the batch being decided, without those that were closed or changed meanwhile; and places freed meanwhile
        self._batch: dict[str, OpenRequest] = {}
        self._freed: list[Spot] = []
        self._told: set[str] = set()
        self._losses: dict[str, int] = {}
        self._positions: dict[str, str] = {}
        self._epoch: str | None = None
        self._reloading: list[Entry] | None = None
        self._work = asyncio.Event()
        self._rules = Rules(terms, policy)
        self._scribe = Scribe(self._rules, zone_of, ids)
        self._history, self._seed = history, seed
        self._desks = Desks(solver, self._work.set)
        self._at_desk: dict[str, OpenRequest] = {}  # those that a desk decides: they wait, or are promised

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Load, then read, decide and renew until cancelled; gives the leases back at a clean stop."""
        try:
            await self._until_there(self.load)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read_forever())
                group.create_task(self._decide_forever())
                group.create_task(self._renew_forever())
                self.ready.set()
                _log.info("matcher.ready", places=len(self.market), territories=len(self._fences))
        finally:
            self.ready.clear()
            try:
                async with asyncio.timeout(2):
                    await self._ledger.drop_leases(self._holder)
            except (UnavailableError, TimeoutError):
                _log.warning("matcher.leases_left_to_expire")

    async def _until_there(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await step()
            except UnavailableError as away:
                _log.warning("matcher.store_away", detail=away.detail)
                await asyncio.sleep(0.2)

    async def load(self) -> None:
        """Take the leases and learn from the ledger what is open and what is live.

        Raises:
            UnavailableError: the ledger or the bus is away.
        """
        # a predecessor of this name was killed: its leases end now, not when they expire, and ours have new fences
        await self._ledger.drop_leases(self._holder)
        # positions before the snapshot: what changes meanwhile is read again, and versions make that harmless
        self._epoch = await self._bus.epoch()
        self._positions = await self._bus.tails((REQUESTS_STREAM, PLACES_STREAM))
        self._heard = self._positions[PLACES_STREAM]
        self.market = await self._load_market()
        await self._load_settings()
        await self._renew()

    async def refresh(self) -> None:
        """Take up what the territories have set; ``run`` does so every few seconds.

        Raises:
            UnavailableError: the ledger is away.
        """
        self._rules.load(await self._ledger.settings())
        await self._open_desks()

    async def _load_market(self) -> Market:
        loader = Loader()
        async for page in self._ledger.live_places(self._clock.now(), None):
            for first in range(0, len(page), LOADED):
                loader.add(page[first : first + LOADED])
                await asyncio.sleep(0)
        market = loader.market()
        market.load_limits(await self._ledger.limits(self._clock.now()))
        return market

    async def _load_settings(self) -> None:
        self._rules.load(await self._ledger.settings())

    # -- policies ------------------------------------------------------------------------------------------------

    async def _open_desks(self) -> None:
        """Open a desk where the policy wants one for today, close those that nobody wants."""
        now = self._clock.now()
        for territory in list(self._fences):
            policy, terms = self._rules.of_desk(territory), self._rules.terms(territory)
            local = now.astimezone(self._zone_of(territory))
            midnight = datetime.combine(local.date(), time(), self._zone_of(territory)).timestamp()
            if policy is None or not self._wants_desk(territory):
                self._shut_desk(territory)
            elif not self._desks.is_for(territory, midnight, terms, policy):
                await self._open_desk(territory, midnight, local.weekday(), terms, policy)

    def _shut_desk(self, territory: str) -> None:
        """Close a desk; whom it had goes round again."""
        if territory in self._desks:
            self._desks.shut(territory)
            for request in [r for r in self._at_desk.values() if r.territory == territory]:
                self._new[request.id] = self._at_desk.pop(request.id)
            self._work.set()

    def _wants_desk(self, territory: str) -> bool:
        """Whether something is promised there, or may be, or prices can be learned."""
        if not self._rules.only_firm(territory):
            return True
        open_ones = (*self._new.values(), *self._at_desk.values())
        promised = any(r.promised is not None for r in open_ones if r.territory == territory)
        return promised or (self._history is not None and self._history.has(territory))

    async def _open_desk(self, territory: str, midnight: float, weekday: int, terms: Terms, policy: Policy) -> None:
        """Open a desk for today, with the territory's places and the open requests that there are."""
        now = self._clock.now()
        learned = partial(self._history.learn, territory, terms) if self._history is not None else lambda _: ()
        # reading earlier days takes longer than others may wait
        desk = await asyncio.to_thread(TerritoryDesk, midnight, weekday, terms, policy, learned, self._seed)
        called = await self._ledger.calls_since(datetime.fromtimestamp(midnight, now.tzinfo), territory)
        desk.called([call.timestamp() for call in called])
        self._shut_desk(territory)
        self._desks.open(territory, desk)
        for number, row in enumerate(await self._ledger.live_records(now, territory)):
            record = orjson.loads(row["record"])
            desk.place(now.timestamp(), _place_row(record, row["left"]))
            if number % LOADED == LOADED - 1:
                await asyncio.sleep(0)
        for request in [r for r in self._waiting.values() if r.territory == territory]:
            self._new[request.id] = self._waiting.pop(request.id)
        self._work.set()

    # -- leases --------------------------------------------------------------------------------------------------

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self._renew()
                await self.refresh()
                self._tidy()
                if self._desks.has_work(self._clock.now().timestamp()):
                    self._work.set()  # the clock was put forward while it waited for a plan to be due
                if self._watch:
                    self._watch.state(len(self.market), len(self._waiting) + len(self._new) + len(self._at_desk))
            except UnavailableError as away:
                _log.warning("matcher.store_away", detail=away.detail)

    async def _renew(self) -> None:
        """Renew the leases; the open requests of every territory gained come from the ledger."""
        before = self._fences
        self._fences = await self._ledger.take_leases(self._holder, self._territories, LEASE_S)
        gained = [name for name, fence in self._fences.items() if before.get(name) != fence]
        if gained:
            await self._open_desks()
            await self._load_waiting(gained)
            self._work.set()  # some may have been waiting here for the lease

    async def _load_waiting(self, territories: Sequence[str]) -> None:
        for document in await self._ledger.waiting_requests(self._clock.now(), territories):
            self._take_in(orjson.loads(document))

    def _tidy(self) -> None:
        """Forget the places that have started and the requests that nobody can serve any more."""
        now = self._clock.now().timestamp()
        self.market.drop_before(int(now))
        for request in [r for r in (*self._waiting.values(), *self._at_desk.values()) if r.deadline <= now]:
            self._forget(request.id)  # that it was closed may have been said while we reloaded

    # -- the streams ---------------------------------------------------------------------------------------------

    async def _read_forever(self) -> None:
        looked = self._clock.now().timestamp()
        while True:
            try:
                now = self._clock.now().timestamp()
                if now - looked > EPOCH_S:
                    # after a pause (stopped process, Redis away) the log may have run past us
                    complete = now - looked < PAUSE_S or await self._bus.has_all_since(
                        PLACES_STREAM, self._positions[PLACES_STREAM]
                    )
                    looked = now
                    await self._watch_epoch(complete=complete)
                entries = await self._bus.read(self._positions, block_ms=200)
                for entry in entries:
                    self._positions[entry.stream] = entry.id
                for entry in entries:
                    async with self._still:
                        self._apply([entry])
                    if len(entry.fields[b"data"]) > BIG_NEWS:
                        await asyncio.sleep(0)
            except UnavailableError as away:
                _log.warning("matcher.bus_away", detail=away.detail)
                # requests are durable in the ledger: deciding goes on from there while Redis is away
                await asyncio.sleep(0.2)
                await self._until_there(lambda: self._load_waiting(list(self._fences)))

    async def _watch_epoch(self, *, complete: bool) -> None:
        """Rebuild after a wipe, or when the log of places ran past our position."""
        epoch = await self._bus.epoch()
        if epoch is None or self._reloading is not None or (epoch == self._epoch and complete):
            return
        # as at the start: what was said up to here is in the ledger that is about to be read
        positions = await self._bus.tails((REQUESTS_STREAM, PLACES_STREAM))
        _log.warning("matcher.reload", epoch=epoch)
        self._epoch, self._positions, self._reloading = epoch, positions, []
        self._heard = positions[PLACES_STREAM]
        self._reload_task = asyncio.create_task(self._reload())

    async def _reload(self) -> None:
        async def load() -> None:
            market = await self._load_market()
            await self._load_waiting(list(self._fences))
            missed, self._reloading = self._reloading or [], None
            async with self._still:
                self.market = market
            for territory in self._territories:
                self._shut_desk(territory)  # it may have missed what became of its places
            await self._open_desks()
            self._apply(missed)

        await self._until_there(load)
        _log.info("matcher.reloaded", places=len(self.market))

    def _apply(self, entries: Iterable[Entry]) -> None:
        """Take in changes of places and open requests."""
        freed: list[Spot] = []
        for entry in entries:
            fields = entry.fields
            if entry.stream == REQUESTS_STREAM:
                territory, kind, request = (fields[name].decode() for name in (b"territory", b"type", b"request"))
                self._apply_request(territory, kind, request, fields[b"data"])
            else:
                if self._reloading is not None:
                    self._reloading.append(entry)
                freed += self._apply_places(fields[b"kind"].decode(), orjson.loads(fields[b"data"]))
                self._heard = entry.id
        if freed:
            self._wake(freed)
        if self._desks.has_work(self._clock.now().timestamp()):
            self._work.set()

    def _apply_request(self, territory: str, kind: str, request_id: str, data: bytes | str) -> None:
        """Apply what a request became."""
        if territory not in self._fences:
            return
        if kind == "open":
            self._take_in(orjson.loads(data))
        else:
            self._forget(request_id)

    def hear(self, said: Iterable[Announcement]) -> None:
        """Take in what was announced, where no stream lies between it and us (a replay)."""
        freed: list[Spot] = []
        for a in said:
            if a.stream == "requests":
                self._apply_request(a.territory, a.type, a.aggregate, a.data)
            elif a.stream == "places":
                freed += self._apply_places(a.type, orjson.loads(a.data))
        if freed:
            self._wake(freed)

    def _apply_places(self, kind: str, items: Sequence[Any]) -> list[Spot]:
        """Apply one change of places; returns where there now is a seat left."""
        if kind in LIMIT_NEWS:
            self.market.hear_limits(kind, items)
            return []
        if kind == "published":
            rows = [_place_row(record, left) for record, left in items]
            taken = set(self.market.put(rows))
            now = self._clock.now().timestamp()
            for (record, _), row in zip(items, rows, strict=True):
                if row.slot_id in taken:
                    left = self.market.left_of(row.slot_id)
                    self._desks.place(record["territory"], now, row if left == row.left else row._replace(left=left))
            return [row.spot for row in rows if row.left > 0 and row.slot_id in taken]
        if kind == "state":
            news = [(slot, left) for slot, left, version in items if self.market.set_left(slot, left, version)]
            for slot_id, left in news:
                self._desks.left(slot_id, left)
            free = (slot_id for slot_id, left in news if left > 0)
            return [spot for slot_id in free if (spot := self.market.spot(slot_id)) is not None]
        for slot_id, version in items:
            self.market.discard(slot_id, version)
            if slot_id not in self.market:
                self._desks.gone(slot_id)
        return []

    def _take_in(self, document: Mapping[str, Any]) -> None:
        request_id = document["request_id"]
        places = (self._new, self._waiting, self._batch, self._at_desk)
        known = next((request for place in places if (request := place.get(request_id)) is not None), None)
        if known is not None and known.version >= document["version"]:
            return
        self._drop(request_id)
        if document["status"] not in (RequestStatus.WAITING, RequestStatus.PROMISED):
            return  # it has its seat; only what waits asks for one, and what is promised may move
        self._new[request_id] = open_request(document, self._landmass_of(document["insee"]))
        self._work.set()

    def _forget(self, request_id: str) -> None:
        """A request is closed."""
        self._drop(request_id)
        self._desks.close(request_id)

    def _drop(self, request_id: str) -> None:
        """What is known of a request is out of date."""
        for place in (self._new, self._waiting, self._batch, self._at_desk):
            place.pop(request_id, None)
        self._told.discard(request_id)
        self._losses.pop(request_id, None)

    def _wake(self, spots: Sequence[Spot]) -> None:
        """Let the waiting requests that one of these places might help go round again."""
        if self._batch:
            # whoever turns out to find no place has not seen these
            self._freed += spots
        if not self._waiting:
            return
        by_kind: dict[tuple[str, str], list[tuple[float, float, int]]] = {}
        for spot in spots:
            by_kind.setdefault((spot.profession, spot.mode), []).append((spot.lat, spot.lon, spot.start))
        arrays = {kind: np.array(places) for kind, places in by_kind.items()}
        for request_id, request in list(self._waiting.items()):
            for mode in request.modes:
                places = arrays.get((request.profession, mode))
                if places is None:
                    continue
                might = places[:, 2] <= request.deadline
                if mode != Mode.TELE:
                    might &= np.abs(places[:, 0] - request.lat) <= request.radius_km / KM_PER_DEGREE
                if might.any():
                    self._new[request_id] = self._waiting.pop(request_id)
                    self._work.set()
                    break

    # -- deciding ------------------------------------------------------------------------------------------------

    async def step(self) -> int:
        """Decide all that is open now, without waiting for more; returns how many requests were looked at.

        What ``run`` does between two pieces of news, for whoever keeps time himself (a replay).

        Raises:
            UnavailableError: the ledger is away.
            FencedError: another matcher decides now.
        """
        self._tidy()
        decided = 0
        while (batch := self._next_batch()) or self._desks.has_work(self._clock.now().timestamp()):
            decided += len(batch)
            await self.decide_batch(batch)
        return decided

    def due(self) -> float:
        """When the matcher wants to decide next though nothing happens: epoch seconds, infinite for never."""
        return self._desks.due()

    async def _decide_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(HOUR_S, self.due() - self._clock.now().timestamp()))):
                    await self._work.wait()
            self._work.clear()
            while (batch := self._next_batch()) or self._desks.has_work(self._clock.now().timestamp()):
                try:
                    await self.decide_batch(batch)
                except UnavailableError as away:
                    _log.warning("matcher.ledger_away", detail=away.detail, batch=len(batch))
                    await asyncio.sleep(0.2)
                except FencedError:
                    # another matcher decides now; what we may still decide shows at the next renewal
                    _log.warning("matcher.fenced", batch=len(batch))
                    self._fences = {}
                    for known in (self._new, self._waiting, self._at_desk):
                        known.clear()
                    for territory in self._territories:
                        self._desks.shut(territory)
                    await self._until_there(self._renew)

    def _next_batch(self) -> list[OpenRequest]:
        """Take the open requests, the most urgent first when there are too many for one batch."""
        now = self._clock.now().timestamp()
        for late in [r.id for r in self._new.values() if r.deadline <= now]:
            self._forget(late)
        # a promise is a desk's: it waits for it to open
        ready = [
            r
            for r in self._new.values()
            if r.territory in self._fences and (r.promised is None or r.territory in self._desks)
        ]
        if len(ready) > BATCH:
            ready = sorted(ready, key=lambda r: (TIER_RANK[r.tier], r.created_at, r.id))[:BATCH]
        for request in ready:
            del self._new[request.id]
        return ready

    def batch_of(self, request_ids: Iterable[str]) -> list[OpenRequest]:
        """Take these of the open requests to be decided together, whatever else is open (a recorded batch)."""
        found = (self._new.pop(name, None) or self._waiting.pop(name, None) for name in request_ids)
        return [request for request in found if request is not None]

    def _again(self, requests: Iterable[OpenRequest]) -> None:
        """Let requests of the batch go round again, unless they were closed or changed meanwhile."""
        for request in requests:
            if request.id in self._batch:
                self._new[request.id] = request
                self._work.set()

    def _park(self, request: OpenRequest) -> None:
        """Let a request of the batch wait for a change of places, unless it was closed or changed meanwhile."""
        # the national engine has no waiting list: who found nothing comes back only when he asks again
        if request.id in self._batch and self._rules.policies(request.territory)[request.tier] != OFFICIAL:
            self._waiting[request.id] = request

    async def decide_batch(self, batch: Sequence[OpenRequest]) -> None:
        """Decide a batch and commit it: picks, claims in one transaction, losers go round again.

        Raises:
            UnavailableError: the ledger is away; the batch goes round again.
            FencedError: another matcher decides now; nothing was written.
        """
        self._batch = {request.id: request for request in batch}
        try:
            await self._decide_and_commit(batch)
        except UnavailableError:
            self._again([request for request in batch if request.id not in self._at_desk])
            raise
        finally:
            freed, self._freed, self._batch = self._freed, [], {}
            self._wake(freed)

    async def _decide_and_commit(self, batch: Sequence[OpenRequest]) -> None:
        began, heard = self._clock.now(), self._heard
        lines = await self._lines(began, [request for request in batch if request.territory not in self._desks])
        lines += await self._desk_lines(began, [request for request in batch if request.territory in self._desks])
        if not lines:
            return
        fences = {line.request.territory: self._fences.get(line.request.territory, -1) for line in lines}
        try:
            verdicts, announced = await self._ledger.claim(began, fences, [line.claim for line in lines])
        except UnavailableError:
            for line in lines:
                if line.decision is not None:
                    self._desks[line.request.territory].settle(line.decision, "unknown")
            raise
        self._settle(lines, verdicts, announced)
        if self._journal is not None:
            self._journal.announce([batch_news(self._rules, began, heard, batch, lines, verdicts, announced)])

    async def _lines(self, began: datetime, batch: Sequence[OpenRequest]) -> list[Line]:
        """Decide requests that no desk has, together, and write down the claims."""
        if not batch:
            return []
        now = began.timestamp()
        found: list[Candidates] = []
        async with self._still:
            for number, request in enumerate(batch):
                found.append(find_candidates(self.market, request, now, self._rules.terms(request.territory)))
                if number % EXPLAIN_PAUSE == EXPLAIN_PAUSE - 1:
                    await asyncio.sleep(0)
        picks = await self._picks(batch, found, began)
        lines: list[Line] = []
        for number, pick in enumerate(picks):
            if pick.row < 0 and pick.request.id in self._told:
                self._park(pick.request)  # the same was told already
            else:
                try:
                    lines.append(self._scribe.of_pick(self.market, pick, began))
                except PlaceGoneError:
                    self._again([pick.request])
            # what would help who has no place may take 5 ms to find
            if pick.row < 0 or number % EXPLAIN_PAUSE == EXPLAIN_PAUSE - 1:
                await asyncio.sleep(0)
        return lines

    async def _desk_lines(self, began: datetime, batch: Sequence[OpenRequest]) -> list[Line]:
        """Let the desks decide, and write down the claims."""
        now = began.timestamp()
        found: dict[str, Candidates] = {}
        async with self._still:
            for number, request in enumerate(batch):
                self._at_desk[request.id] = request
                found[request.id] = self._all_places(request, now)
                self._desks.take_in(now, request, found[request.id])
                if number % EXPLAIN_PAUSE == EXPLAIN_PAUSE - 1:
                    await asyncio.sleep(0)
        done = self._desks.decide(now)
        if self._watch:
            for requests, pairs, gap in done.plans:
                self._watch.batch(requests, pairs, (self._clock.now() - began).total_seconds(), "plan", gap)
        lines: list[Line] = []
        for number, (territory, decision) in enumerate(done.decisions):
            open_one = self._at_desk.get(decision.request_id)
            if open_one is None:
                self._desks[territory].close(decision.request_id)
                continue
            if decision.what == "none" and open_one.id in self._told:
                continue  # the same was told already
            desk = self._desks[territory]
            places = found.get(open_one.id) or self._all_places(open_one, now)
            kept = desk.is_kept(open_one.id)
            try:
                lines.append(self._scribe.of_decision(self.market, open_one, decision, places, began, kept=kept))
            except PlaceGoneError:
                desk.settle(decision, "seat_lost")
            if number % EXPLAIN_PAUSE == EXPLAIN_PAUSE - 1:
                await asyncio.sleep(0)
        return lines

    def _all_places(self, request: OpenRequest, now: float) -> Candidates:
        return find_candidates(self.market, request, now, self._rules.terms(request.territory), full=True)

    async def _picks(self, batch: Sequence[OpenRequest], found: Sequence[Candidates], began: datetime) -> list[Pick]:
        """Decide requests together; those of a territory that is matched by a peer, for comparison, by its rules."""
        groups: dict[tuple[str, str] | None, list[int]] = {}
        for number, request in enumerate(batch):
            policy = self._rules.policies(request.territory)[request.tier]
            groups.setdefault((policy, request.territory) if policy in PEERS else None, []).append(number)
        picks: list[Pick] = []
        for group, members in groups.items():
            asked, places = [batch[n] for n in members], [found[n] for n in members]
            if group is None:
                picks += await self._optimum(asked, places, began)
            else:
                policy, territory = group
                radius = self._radius_of(territory) if policy == OFFICIAL else 0.0
                search = Search(self.market, began.timestamp(), self._zone_of(territory), radius, self._seed)
                picks += choose(policy, asked, places, search)
        return picks

    async def _optimum(self, batch: Sequence[OpenRequest], found: list[Candidates], began: datetime) -> list[Pick]:
        """Run the decision of a batch, letting others in where it pauses; large problems are solved elsewhere."""

        def spent() -> float:
            return (self._clock.now() - began).total_seconds()

        work = decide(batch, found, self._rules.terms(batch[0].territory), lambda: spent() > DECIDE_S)
        arcs, plan = 0, None
        while True:
            try:
                problem = work.send(plan)
            except StopIteration as done:
                picks: list[Pick] = done.value
                break
            plan = None
            if problem is None:
                await asyncio.sleep(0)
            else:
                arcs = len(problem.arc_cost)
                plan = await self._solve(problem)
        if self._watch:
            self._watch.batch(len(batch), arcs, spent(), picks[0].method, picks[0].gap)
        return picks

    async def _solve(self, problem: Problem) -> Plan | None:
        if len(problem.arc_cost) <= INLINE_ARCS or self._solver is None:
            plan = solve(problem)
            if plan.gap and self._solver is not None:
                # limits that the flow cannot keep, and repairing it may have cost something
                with suppress(SolveTimeoutError):
                    plan = await self._solver.search(problem, SOLVE_S)
            return plan
        try:
            return await self._solver.solve(problem, SOLVE_S)
        except SolveTimeoutError:
            _log.warning("matcher.solver_late", requests=len(problem.penalty), arcs=len(problem.arc_cost))
            return None

    def _settle(self, lines: Sequence[Line], verdicts: Sequence[str], announced: Sequence[Announcement]) -> None:
        """Bring memory in line with what the ledger said."""
        freed: list[Spot] = []
        for a in announced:
            if a.stream == "places":
                freed += self._apply_places(a.type, orjson.loads(a.data))
        done = self._clock.now().timestamp()
        for line, said in zip(lines, verdicts, strict=True):
            request = line.request
            # a limit of the practice that is reached is a seat lost: what it leaves was told with the answer
            verdict = "seat_lost" if said == "limit_reached" else said
            if line.decision is not None:
                self._settle_at_desk(line, line.decision, verdict)
            elif verdict == "seat_lost":
                lost = self._losses.get(request.id, 0) + 1
                self._losses[request.id] = lost
                if lost < LOSSES:
                    self._again([request])
                else:
                    self._park(request)
            elif verdict == "told":
                # the ledger counted this as a version of its own
                if request.id in self._batch:
                    self._told.add(request.id)
                self._park(replace(request, version=request.version + 1))
                self._losses.pop(request.id, None)
            else:
                self._told.discard(request.id)
                self._losses.pop(request.id, None)
            if self._watch:
                self._watch.decided(request, said, done - request.created_at)
        claimed = {line.claim.slot_id for line in lines}
        lapsed = [spot for spot in freed if spot.slot_id not in claimed]
        if lapsed:
            self._wake(lapsed)

    def _settle_at_desk(self, line: Line, decision: Decision, verdict: str) -> None:
        """Bring a desk in line with what the ledger said."""
        request = line.request
        self._desks[request.territory].settle(decision, verdict)
        self._losses.pop(request.id, None)
        if verdict == "told" and request.id in self._at_desk:
            self._told.add(request.id)
        else:
            self._told.discard(request.id)
        if verdict in ("held", "told_firm", "not_waiting"):
            self._at_desk.pop(request.id, None)
        elif verdict != "seat_lost" and request.id in self._at_desk:
            # the ledger counted this as a version of its own
            behind = line.claim.slot_id if verdict in ("promised", "moved") else None
            self._at_desk[request.id] = replace(
                request,
                version=request.version + 1,
                promised=behind,
                was_promised=request.was_promised or behind is not None,
            )
        if verdict == "seat_lost":
            self._work.set()


def _place_row(record: Mapping[str, Any], left: int) -> PlaceRow:
    start = int(datetime.fromisoformat(record["start"]).timestamp())
    end = int(datetime.fromisoformat(record["end"]).timestamp())
    return place_row(record, left, start, end)
