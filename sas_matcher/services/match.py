"""The matcher: one process for many territories, deciding whatever is open as soon as something is open.

While a batch is being solved and claimed the next requests queue up and form the next batch: one when quiet, hundreds
in a surge, no timer. A claim is one transaction for the batch; unique rows decide; who lost a seat goes round again.
Memory is only a hint kept by the streams: it is rebuilt from the ledger at start and after a wipe of Redis, while
deciding goes on with what is known.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final, Protocol

import numpy as np
import orjson
import structlog

from sas_matcher.domain.errors import FencedError, UnavailableError
from sas_matcher.domain.lifecycle import ClaimKind, RequestStatus
from sas_matcher.domain.vocabulary import Mode, Tier, matching_specialty
from sas_matcher.matching.engine import Candidates, OpenRequest, Pick, decide, find_candidates
from sas_matcher.matching.explain import PlaceGoneError, explain
from sas_matcher.matching.loading import Loader
from sas_matcher.matching.market import KM_PER_DEGREE, Market, Spot, place_row, stable_key
from sas_matcher.matching.terms import TIER_RANK, Terms
from sas_matcher.ports import (
    PLACES_STREAM,
    REQUESTS_STREAM,
    Announcement,
    Bus,
    Claim,
    Clock,
    Entry,
    Ids,
    Ledger,
)
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
DEFAULT_HOLD_S: Final = 180
EPOCH_S: Final = 0.2  # how often a wipe of Redis is looked for
PAUSE_S: Final = 2.0  # longer between two looks means that this process or Redis stood still
_log = structlog.get_logger(__name__)


class SolveTimeoutError(Exception):
    """The exact solve did not end in time."""


class SolverProcess(Protocol):
    """Solves a large problem elsewhere, within a deadline."""

    async def solve(self, problem: Problem, seconds: float) -> Plan:
        """Return the exact plan.

        Raises:
            SolveTimeoutError: no answer in time; the work was stopped.
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
    ) -> None:
        self._ledger = ledger
        self._bus = bus
        self._clock = clock
        self._ids = ids
        self._holder = holder
        self._territories = list(territories)
        self._zone_of = zone_of
        self._landmass_of = landmass_of
        self._solver = solver
        self._watch = watch
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
        self._common_terms = terms or Terms()  # what a territory's settings do not change
        self._terms: dict[str, Terms] = {}
        self._hold: dict[str, int] = {}

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
        self.market = await self._load_market()
        await self._load_settings()
        await self._renew()

    async def _load_market(self) -> Market:
        loader = Loader()
        async for page in self._ledger.live_places(self._clock.now(), None):
            for first in range(0, len(page), LOADED):
                loader.add(page[first : first + LOADED])
                await asyncio.sleep(0)
        return loader.market()

    async def _load_settings(self) -> None:
        for territory, setting in (await self._ledger.settings()).items():
            self._terms[territory] = replace(self._common_terms, mt_first=setting["mt_rule"] == "first")
            self._hold[territory] = setting["hold_seconds"]

    def _terms_of(self, territory: str) -> Terms:
        return self._terms.get(territory) or self._terms.setdefault(territory, self._common_terms)

    # -- leases --------------------------------------------------------------------------------------------------

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self._renew()
                await self._load_settings()
                self._tidy()
                if self._watch:
                    self._watch.state(len(self.market), len(self._waiting) + len(self._new))
            except UnavailableError as away:
                _log.warning("matcher.store_away", detail=away.detail)

    async def _renew(self) -> None:
        """Renew the leases; the open requests of every territory gained come from the ledger."""
        before = self._fences
        self._fences = await self._ledger.take_leases(self._holder, self._territories, LEASE_S)
        gained = [name for name, fence in self._fences.items() if before.get(name) != fence]
        if gained:
            await self._load_waiting(gained)
            self._work.set()  # some may have been waiting here for the lease

    async def _load_waiting(self, territories: Sequence[str]) -> None:
        for document in await self._ledger.waiting_requests(self._clock.now(), territories):
            self._take_in(orjson.loads(document))

    def _tidy(self) -> None:
        """Forget the places that have started and the requests that nobody can serve any more."""
        now = self._clock.now().timestamp()
        self.market.drop_before(int(now))
        for request in [r for r in self._waiting.values() if r.deadline <= now]:
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
        self._reload_task = asyncio.create_task(self._reload())

    async def _reload(self) -> None:
        async def load() -> None:
            market = await self._load_market()
            await self._load_waiting(list(self._fences))
            missed, self._reloading = self._reloading or [], None
            self.market = market
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
        if freed:
            self._wake(freed)

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
        if kind == "published":
            rows = []
            for record, left in items:
                start = int(datetime.fromisoformat(record["start"]).timestamp())
                end = int(datetime.fromisoformat(record["end"]).timestamp())
                rows.append(place_row(record, left, start, end))
            taken = set(self.market.put(rows))
            return [row.spot for row in rows if row.left > 0 and row.slot_id in taken]
        if kind == "state":
            news = [slot for slot, left, version in items if self.market.set_left(slot, left, version) and left > 0]
            return [spot for slot_id in news if (spot := self.market.spot(slot_id)) is not None]
        for slot_id, version in items:
            self.market.discard(slot_id, version)
        return []

    def _take_in(self, document: Mapping[str, Any]) -> None:
        request_id = document["request_id"]
        known = self._new.get(request_id) or self._waiting.get(request_id) or self._batch.get(request_id)
        if known is not None and known.version >= document["version"]:
            return
        self._forget(request_id)
        if document["status"] != RequestStatus.WAITING:
            return  # it has its seat; only what waits asks for one
        self._new[request_id] = open_request(document, self._landmass_of(document["insee"]))
        self._work.set()

    def _forget(self, request_id: str) -> None:
        for place in (self._new, self._waiting, self._batch):
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
        while batch := self._next_batch():
            decided += len(batch)
            await self.decide_batch(batch)
        return decided

    async def _decide_forever(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while batch := self._next_batch():
                try:
                    await self.decide_batch(batch)
                except UnavailableError as away:
                    _log.warning("matcher.ledger_away", detail=away.detail, batch=len(batch))
                    await asyncio.sleep(0.2)
                except FencedError:
                    # another matcher decides now; what we may still decide shows at the next renewal
                    _log.warning("matcher.fenced", batch=len(batch))
                    self._fences = {}
                    self._new.clear()
                    self._waiting.clear()
                    await self._until_there(self._renew)

    def _next_batch(self) -> list[OpenRequest]:
        """Take the open requests, the most urgent first when there are too many for one batch."""
        now = self._clock.now().timestamp()
        for late in [r.id for r in self._new.values() if r.deadline <= now]:
            self._forget(late)
        ready = [r for r in self._new.values() if r.territory in self._fences]
        if len(ready) > BATCH:
            ready = sorted(ready, key=lambda r: (TIER_RANK[r.tier], r.created_at, r.id))[:BATCH]
        for request in ready:
            del self._new[request.id]
        return ready

    def _again(self, requests: Iterable[OpenRequest]) -> None:
        """Let requests of the batch go round again, unless they were closed or changed meanwhile."""
        for request in requests:
            if request.id in self._batch:
                self._new[request.id] = request
                self._work.set()

    def _park(self, request: OpenRequest) -> None:
        """Let a request of the batch wait for a change of places, unless it was closed or changed meanwhile."""
        if request.id in self._batch:
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
            self._again(batch)
            raise
        finally:
            freed, self._freed, self._batch = self._freed, [], {}
            self._wake(freed)

    async def _decide_and_commit(self, batch: Sequence[OpenRequest]) -> None:
        began = self._clock.now()
        now = began.timestamp()
        found: list[Candidates] = []
        for number, request in enumerate(batch):
            found.append(find_candidates(self.market, request, now, self._terms_of(request.territory)))
            if number % EXPLAIN_PAUSE == EXPLAIN_PAUSE - 1:
                await asyncio.sleep(0)
        picks = await self._optimum(batch, found, began)
        claims: list[Claim] = []
        claimed: list[Pick] = []
        for number, pick in enumerate(picks):
            claim = self._claim(pick, began)
            if claim is not None:
                claims.append(claim)
                claimed.append(pick)
            # what would help who has no place may take 5 ms to find
            if pick.row < 0 or number % EXPLAIN_PAUSE == EXPLAIN_PAUSE - 1:
                await asyncio.sleep(0)
        if not claims:
            return
        fences = {pick.request.territory: self._fences.get(pick.request.territory, -1) for pick in claimed}
        verdicts, announced = await self._ledger.claim(began, fences, claims)
        self._settle(claimed, verdicts, announced)

    async def _optimum(self, batch: Sequence[OpenRequest], found: list[Candidates], began: datetime) -> list[Pick]:
        """Run the decision of a batch, letting others in where it pauses; large problems are solved elsewhere."""

        def spent() -> float:
            return (self._clock.now() - began).total_seconds()

        work = decide(batch, found, self._terms_of(batch[0].territory), lambda: spent() > DECIDE_S)
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
            return solve(problem)
        try:
            return await self._solver.solve(problem, SOLVE_S)
        except SolveTimeoutError:
            _log.warning("matcher.solver_late", requests=len(problem.penalty), arcs=len(problem.arc_cost))
            return None

    def _claim(self, pick: Pick, began: datetime) -> Claim | None:
        """Write down a pick as a claim; None when the same "no place" was already told, or the place has gone."""
        request = pick.request
        if pick.row < 0 and request.id in self._told:
            self._park(request)
            return None
        zone, terms = self._zone_of(request.territory), self._terms_of(request.territory)
        try:
            document = explain(self.market, pick, began.timestamp(), zone, terms)
        except PlaceGoneError:
            self._again([request])
            return None
        until = began + timedelta(seconds=self._hold.get(request.territory, DEFAULT_HOLD_S))
        return Claim(
            request_id=request.id,
            slot_id=pick.slot_id,
            booking_id=self._ids.uuid(),
            hold_until=until,
            decision=orjson.dumps(document).decode(),
            kind=ClaimKind.NONE if pick.slot_id is None else ClaimKind.HOLD,
        )

    def _settle(self, picks: Sequence[Pick], verdicts: Sequence[str], announced: Sequence[Announcement]) -> None:
        """Bring memory in line with what the ledger said."""
        freed: list[Spot] = []
        for a in announced:
            if a.stream == "places":
                freed += self._apply_places(a.type, orjson.loads(a.data))
        done = self._clock.now().timestamp()
        for pick, verdict in zip(picks, verdicts, strict=True):
            request = pick.request
            if verdict == "seat_lost":
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
                self._watch.decided(request, verdict, done - request.created_at)
        claimed = {pick.slot_id for pick in picks}
        lapsed = [spot for spot in freed if spot.slot_id not in claimed]
        if lapsed:
            self._wake(lapsed)
