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
from datetime import date, datetime, time, tzinfo
from functools import partial
from typing import Any, Final, Protocol

import orjson
import structlog

from sas_matcher.domain.errors import FencedError, UnavailableError
from sas_matcher.domain.lifecycle import RequestStatus
from sas_matcher.domain.limits import is_child
from sas_matcher.domain.vocabulary import Tier, matching_specialty
from sas_matcher.matching.candidates import Candidates, OpenRequest, find_candidates
from sas_matcher.matching.explain import (
    PlaceGoneError,
)
from sas_matcher.matching.forecast import HistoryDay
from sas_matcher.matching.loading import Loader
from sas_matcher.matching.market import Market, PlaceRow, Spot, place_row, stable_key
from sas_matcher.matching.pairs import Codes
from sas_matcher.matching.peers import OFFICIAL
from sas_matcher.matching.sharing import RELEASE_S
from sas_matcher.matching.terms import Terms
from sas_matcher.matching.territory import Decision, TerritoryDesk
from sas_matcher.ports.bus import LIMIT_NEWS, PLACES_STREAM, REQUESTS_STREAM, Bus, Entry
from sas_matcher.ports.ledger import Announcement, Ledger, Publisher
from sas_matcher.ports.world import Clock, Ids
from sas_matcher.services.claiming import Line, Scribe
from sas_matcher.services.deciding import Decider, SolverProcess, Watch
from sas_matcher.services.desks import Desks, PlannerProcess, Round, Step
from sas_matcher.services.journal import batch_news
from sas_matcher.services.open_requests import OpenRequests
from sas_matcher.services.rules import Rules
from sas_matcher.services.shares import Shares

LEASE_S: Final = 10.0  # a dead matcher's territories are taken over after this
RENEW_S: Final = 3.0
EXPLAIN_PAUSE: Final = 10  # requests looked at, or decisions written, between two breaths: 15 ms in Paris at the worst
BIG_NEWS: Final = 10_000  # bytes of an entry after which others may go on: a bulk comes in entries of 200 places, 5 ms
ENTERED: Final = 200  # places entered at a desk between two breaths: about 10 ms, most of it reading their JSON
LOADED: Final = 1_000  # places loaded between two breaths: about 10 ms
HOUR_S: Final = 3600.0  # the longest sleep when no plan is due
EPOCH_S: Final = 0.2  # how often a wipe of Redis is looked for
PAUSE_S: Final = 2.0  # longer between two looks means that this process or Redis stood still
_log = structlog.get_logger(__name__)


class History(Protocol):
    """The earlier days that forecasts learn from."""

    def has(self, territory: str, before: date) -> bool:
        """Whether there are any of a territory, before a day of its own calendar; may look at files."""
        ...

    def learn(self, territory: str, before: date, terms: Terms, codes: Codes) -> Sequence[HistoryDay]:
        """Return them, in the numbers of ``codes``; may read files."""
        ...


class Elsewhere(SolverProcess, PlannerProcess, Protocol):
    """Solves large problems, and makes plans, in processes of their own."""


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
        **_mt_first(document.get("mt_first")),
    )


def _mt_first(told: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what came of the médecin traitant, as ``OpenRequest`` has it."""
    if told is None:
        return {}
    until = told["until"] and datetime.fromisoformat(told["until"]).timestamp()
    # once his time is over he counts as having said nothing, until he says it
    return {"mt_said": "silent" if told["said"] == "asked" else told["said"], "mt_until": until}


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
        solver: Elsewhere | None = None,
        watch: Watch | None = None,
        terms: Terms | None = None,
        policy: str = "firm",
        history: History | None = None,
        seed: int = 0,
        journal: Publisher | None = None,
        radius_of: Callable[[str], float] = lambda _: 0.0,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Take the collaborators; ``share`` says which of how many matchers this is (see ``services.shares``)."""
        self._ledger = ledger
        self._bus = bus
        self._clock = clock
        self._ids = ids
        self._holder = holder
        self._territories = list(territories)
        self._shares = Shares(self._territories, *share)
        self._zone_of = zone_of
        self._landmass_of = landmass_of
        self._watch = watch
        self._journal = journal  # hears what was decided together (stream ``batches``)
        self._heard = "0-0"  # the last entry of the log of places that is in the market
        self._still = asyncio.Lock()  # a batch looks at one market: news wait until all its candidates are found
        self.market = Market()
        self.ready = asyncio.Event()
        self._fences: dict[str, int] = {}
        self._positions: dict[str, str] = {}
        self._epoch: str | None = None
        self._reloading: list[Entry] | None = None
        self._work = asyncio.Event()
        self._settings_news = asyncio.Event()  # a territory has changed what it sets
        self._released = clock.now().timestamp()  # up to here places that were kept for urgent requests are released
        self._rules = Rules(terms, policy)
        self._scribe = Scribe(self._rules, zone_of, ids)
        self._history, self._seed = history, seed
        self._remembered: dict[str, tuple[date, bool]] = {}  # whether there are earlier days, as looked up on a day
        self._opening = asyncio.Lock()  # one task opens and closes desks,
        self._deciding = asyncio.Lock()  # and not between a decision and what the ledger says to it
        self._desks = Desks(solver, self._work.set, watch.late if watch else lambda _: None)
        self._open = OpenRequests(self._work)
        self._decider = Decider(
            clock=clock,
            rules=self._rules,
            zone_of=zone_of,
            radius_of=radius_of,
            solver=solver,
            watch=watch,
            seed=seed,
        )

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Load, then read, decide and renew until cancelled; gives the leases back at a clean stop."""
        try:
            await self._until_there(self.load)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read_forever())
                group.create_task(self._decide_forever())
                group.create_task(self._renew_forever())
                group.create_task(self._refresh_forever())
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
        self._rules.load(await self._ledger.settings())
        self.market.reserve(self._rules.reserves)
        await self._renew()

    async def refresh(self) -> None:
        """Take up what the territories have set; ``run`` does so as soon as it is announced, and every few seconds.

        Raises:
            UnavailableError: the ledger is away.
        """
        changed = self._rules.load(await self._ledger.settings())
        self.market.reserve(self._rules.reserves)
        for territory in changed:
            self._open.move_to_new(self._open.waiting, territory)  # what was out of reach may be within it now
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

    # -- policies ------------------------------------------------------------------------------------------------

    async def _open_desks(self, *, anew: bool = False) -> None:
        """Open a desk where the policy wants one for today, close those that nobody wants.

        A desk that must be replaced, or all of them when ``anew``, goes on deciding until the new one knows its places.
        """
        async with self._opening:
            for territory in [name for name in self._desks if name not in self._fences]:
                await self._shut_desk(territory)
            for territory in list(self._fences):
                policy, terms, zone = (
                    self._rules.of_desk(territory),
                    self._rules.terms(territory),
                    self._zone_of(territory),
                )
                today = self._clock.now().astimezone(zone).date()
                midnight = datetime.combine(today, time(), zone).timestamp()
                if policy is None or not await self._wants_desk(territory, today):
                    await self._shut_desk(territory)
                elif anew or not self._desks.is_for(territory, midnight, terms, policy):
                    learn = partial(self._learn, territory, today, terms)
                    make = partial(
                        TerritoryDesk, midnight, today.weekday(), terms, policy, learn, self._seed, self.market
                    )
                    # reading earlier days takes longer than others may wait
                    await self._open_desk(territory, await asyncio.to_thread(make))

    def _learn(self, territory: str, before: date, terms: Terms, codes: Codes) -> Sequence[HistoryDay]:
        return () if self._history is None else self._history.learn(territory, before, terms, codes)

    async def _shut_desk(self, territory: str) -> None:
        """Close a desk; whom it had goes round again."""
        if territory in self._desks:
            async with self._deciding:
                self._desks.shut(territory)
                self._open.move_to_new(self._open.at_desk, territory)

    async def _wants_desk(self, territory: str, today: date) -> bool:
        """Whether something is promised there, or may be, or prices can be learned."""
        if not self._rules.only_firm(territory):
            return True
        if any(r.promised is not None for r in self._open if r.territory == territory):
            return True
        if self._history is None:
            return False
        day, has = self._remembered.get(territory, (None, False))
        if day != today:
            has = await asyncio.to_thread(self._history.has, territory, today)
            self._remembered[territory] = (today, has)
        return has

    async def _open_desk(self, territory: str, desk: TerritoryDesk) -> None:
        """Let a new desk know the territory's places and how busy today is, then give it the open requests."""
        now = self._clock.now()
        called = await self._ledger.calls_since(datetime.fromtimestamp(desk.midnight, now.tzinfo), territory)
        desk.called([call.timestamp() for call in called])
        self._desks.prepare(territory, desk)
        for number, row in enumerate(await self._ledger.live_records(now, territory)):
            place = _place_row(orjson.loads(row["record"]), row["left"])
            if place.slot_id in self.market:  # which has heard what came since
                desk.place(now.timestamp(), place._replace(left=self.market.left_of(place.slot_id)))
            if number % ENTERED == ENTERED - 1:
                await asyncio.sleep(0)
        async with self._deciding:
            if territory in self._fences:
                self._desks.open(territory)
                self._open.move_to_new(self._open.at_desk, territory)
                self._open.move_to_new(self._open.waiting, territory)
            else:
                self._desks.shut(territory)  # the lease was lost meanwhile

    # -- leases --------------------------------------------------------------------------------------------------

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self._renew()
                await self.refresh()
                self._tidy()
                now = self._clock.now().timestamp()
                if self._desks.has_work(now) or self._open.due() <= now:
                    self._work.set()  # the clock was put forward while it waited for a plan to be due
                if self._watch:
                    self._watch.state(len(self.market), len(self._open))
            except UnavailableError as away:
                _log.warning("matcher.store_away", detail=away.detail)

    async def _refresh_forever(self) -> None:
        """Take up what a territory has set as soon as it is announced; leases are renewed apart, in time."""
        while True:
            await self._settings_news.wait()
            self._settings_news.clear()
            await self._until_there(self.refresh)

    async def _renew(self) -> None:
        """Renew the leases; the open requests of every territory gained come from the ledger."""
        before = self._fences
        wanted = self._territories
        if not self._shares.alone:
            # what is another's is left before it is asked for there: no decision is under way meanwhile
            wanted = self._shares.wanted(
                await self._ledger.shares(), set(await self._ledger.matched_territories()), set(before)
            )
            if leaving := [territory for territory in before if territory not in wanted]:
                async with self._deciding:
                    self._leave(leaving)
                    await self._ledger.leave_territories(self._holder, leaving)
        self._fences = await self._ledger.take_leases(self._holder, wanted, LEASE_S)
        gained = [name for name, fence in self._fences.items() if before.get(name) != fence]
        if gained:
            await self._open_desks()
            await self._load_waiting(gained)
            self._work.set()  # some may have been waiting here for the lease

    def _leave(self, territories: Sequence[str]) -> None:
        """Forget what is open in territories that another matcher decides for from now on."""
        for territory in territories:
            self._fences.pop(territory, None)
            self._desks.shut(territory)
        for request in [r for r in self._open if r.territory in territories]:
            self._open.drop(request.id)

    async def _load_waiting(self, territories: Sequence[str]) -> None:
        for document in await self._ledger.waiting_requests(self._clock.now(), territories):
            self._take_in(orjson.loads(document))

    def _tidy(self) -> None:
        """Forget the places that have started and the requests that nobody can serve any more."""
        now = self._clock.now().timestamp()
        self.market.drop_before(int(now))
        for request in [r for r in self._open if r.deadline <= now]:
            self._forget(request.id)  # that it was closed may have been said while we reloaded
        self._release(now)

    def _release(self, now: float) -> None:
        """Let everybody have the places that were kept for urgent requests until now."""
        after, self._released = self._released, now
        if not self.market.reserves:
            return
        spots = self.market.starting(after + RELEASE_S, now + RELEASE_S)
        self._open.wake(spots)
        for spot in spots:
            self._desks.release(spot.slot_id)

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
                market.reserve(self._rules.reserves)
                self._apply(missed)
            # of what came or was freed meanwhile nobody was told: those who wait for a place look again
            for territory in {request.territory for request in self._open.waiting.values()}:
                self._open.move_to_new(self._open.waiting, territory)
            await self._open_desks(anew=True)  # those that there are may have missed what became of their places

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
            self._open.wake(freed)
        if self._desks.has_work(self._clock.now().timestamp()):
            self._work.set()

    def _apply_request(self, territory: str, kind: str, request_id: str, data: bytes | str) -> None:
        """Apply what a request became."""
        if territory not in self._fences:
            return
        if kind == "settings":
            self._settings_news.set()
        elif kind == "open":
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
            self._open.wake(freed)

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
        if self._open.version(request_id) >= document["version"]:
            return
        self._open.drop(request_id)
        if document["status"] not in (RequestStatus.WAITING, RequestStatus.PROMISED):
            return  # it has its seat; only what waits asks for one, and what is promised may move
        request = open_request(document, self._landmass_of(document["insee"]))
        now = self._clock.now().timestamp()
        if request.mt_until is None or request.mt_until <= now:
            self._open.add(request)
        elif self._can_wait(request, now):
            self._open.wait_for_mt(request)
        else:
            self._open.add(replace(request, mt_said="not_waited", mt_until=None))

    def _can_wait(self, request: OpenRequest, now: float) -> bool:
        """Whether a request may wait for its médecin traitant: of the places there are, one can be had afterwards."""
        terms = self._rules.terms(request.territory)
        found = find_candidates(self.market, self._rules.reaching(request), now, terms)
        until = now if request.mt_until is None else request.mt_until
        return len(found) == 0 or bool((found.start - 60 * found.travel_min >= until).any())

    def _forget(self, request_id: str) -> None:
        """A request is closed."""
        self._open.drop(request_id)
        self._desks.close(request_id)

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
        return min(self._desks.due(), self._open.due())

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
                    self._open.clear()
                    for territory in self._territories:
                        self._desks.shut(territory)
                    await self._until_there(self._renew)

    def _next_batch(self) -> list[OpenRequest]:
        """Take the open requests that can still be served."""
        now = self._clock.now().timestamp()
        self._open.stop_waiting(now)
        for late in [r.id for r in self._open.new.values() if r.deadline <= now]:
            self._forget(late)
        return self._open.next_batch(self._fences, self._desks)

    def batch_of(self, request_ids: Iterable[str]) -> list[OpenRequest]:
        """Take these of the open requests to be decided together, whatever else is open (a recorded batch)."""
        return self._open.take(request_ids)

    async def open_desks_anew(self) -> None:
        """Replace the desks that there are; whom they had goes round again (a recorded day)."""
        await self._open_desks(anew=True)

    def is_open(self, request_id: str) -> bool:
        """Whether a request may still be decided."""
        return any(request.id == request_id for request in self._open)

    async def decide_batch(self, batch: Sequence[OpenRequest], steps: Mapping[str, Step] | None = None) -> None:
        """Decide a batch and commit it: picks, claims in one transaction, losers go round again.

        Args:
            batch: who wants to be decided.
            steps: of the desks' plans, in a recorded batch that is decided again (``Desks.decide``).

        Raises:
            UnavailableError: the ledger is away; the batch goes round again.
            FencedError: another matcher decides now; nothing was written.
        """
        async with self._deciding:
            self._open.begin(batch)
            try:
                await self._decide_and_commit(batch, steps)
            except UnavailableError:
                self._open.again([request for request in batch if request.id not in self._open.at_desk])
                raise
            finally:
                self._open.end()

    async def _decide_and_commit(self, batch: Sequence[OpenRequest], steps: Mapping[str, Step] | None) -> None:
        began, heard = self._clock.now(), self._heard
        batch = [self._rules.reaching(request) for request in batch]
        lines = await self._lines(began, [request for request in batch if request.territory not in self._desks])
        at_desk = [request for request in batch if request.territory in self._desks]
        more, done = await self._desk_lines(began, at_desk, steps)
        lines += more
        verdicts, announced = await self._commit(began, lines) if lines else ([], [])
        if self._journal is not None and (lines or at_desk or done.steps or done.opened):
            self._journal.announce([batch_news(self._rules, began, heard, batch, lines, verdicts, announced, done)])

    async def _commit(self, began: datetime, lines: Sequence[Line]) -> tuple[list[str], list[Announcement]]:
        """Claim, and bring memory in line with what the ledger says."""
        fences = {line.request.territory: self._fences.get(line.request.territory, -1) for line in lines}
        try:
            verdicts, announced = await self._ledger.claim(began, fences, [line.claim for line in lines])
        except UnavailableError:
            for line in lines:
                if line.decision is not None:
                    self._desks[line.request.territory].settle(line.decision, "unknown")
            raise
        self._settle(lines, verdicts, announced)
        return verdicts, announced

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
        picks = await self._decider.picks(self.market, batch, found, began)
        lines: list[Line] = []
        for number, pick in enumerate(picks):
            if pick.row < 0 and pick.request.id in self._open.told:
                if self._comes_back(pick.request):
                    self._open.park(pick.request)  # the same was told already
            else:
                try:
                    lines.append(self._scribe.of_pick(self.market, pick, began))
                except PlaceGoneError:
                    self._open.again([pick.request])
            # what would help who has no place may take 5 ms to find
            if pick.row < 0 or number % EXPLAIN_PAUSE == EXPLAIN_PAUSE - 1:
                await asyncio.sleep(0)
        return lines

    async def _desk_lines(
        self, began: datetime, batch: Sequence[OpenRequest], steps: Mapping[str, Step] | None
    ) -> tuple[list[Line], Round]:
        """Let the desks decide, and write down the claims; also returns the round."""
        now = began.timestamp()
        found: dict[str, Candidates] = {}
        async with self._still:
            for number, request in enumerate(batch):
                self._open.at_desk[request.id] = request
                found[request.id] = self._all_places(request, now)
                self._desks.take_in(now, request, found[request.id])
                if number % EXPLAIN_PAUSE == EXPLAIN_PAUSE - 1:
                    await asyncio.sleep(0)
        done = self._desks.decide(now, steps)
        if self._watch:
            for requests, pairs, gap in done.plans:
                self._watch.batch(requests, pairs, (self._clock.now() - began).total_seconds(), "plan", gap)
        lines: list[Line] = []
        for number, (territory, decision) in enumerate(done.decisions):
            open_one = self._open.at_desk.get(decision.request_id)
            if open_one is None:
                self._desks[territory].close(decision.request_id)
                continue
            if decision.what == "none" and open_one.id in self._open.told:
                continue  # the same was told already
            desk = self._desks[territory]
            places = found.get(open_one.id) or self._all_places(open_one, now)
            kept = desk.is_kept(open_one.id)
            try:
                lines.append(self._scribe.of_decision(self.market, open_one, decision, places, began, kept=kept))
            except PlaceGoneError:
                line = await self._chosen_line(open_one, decision, began) if kept else None
                if line is None:
                    desk.settle(decision, "seat_lost")
                else:
                    lines.append(line)
            if number % EXPLAIN_PAUSE == EXPLAIN_PAUSE - 1:
                await asyncio.sleep(0)
        return lines, done

    async def _chosen_line(self, request: OpenRequest, decision: Decision, began: datetime) -> Line | None:
        """Tell a promised place that the matcher itself would not give: a regulator chose it, and his reasons stand."""
        slot_id = decision.slot_id
        if decision.what != "firm" or slot_id is None or slot_id != request.promised or slot_id not in self.market:
            return None
        document = orjson.loads(await self._ledger.request_document(request.id, None) or "{}")
        return self._scribe.of_choice(request, decision, document.get("decision") or {}, began)

    def _all_places(self, request: OpenRequest, now: float) -> Candidates:
        return find_candidates(self.market, request, now, self._rules.terms(request.territory), full=True)

    def _comes_back(self, request: OpenRequest) -> bool:
        """Whether who found no place waits for one: the national engine has no waiting list."""
        return self._rules.policies(request.territory)[request.tier] != OFFICIAL

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
            if line.decision is None:
                self._open.settle(request, verdict, comes_back=self._comes_back(request))
            else:
                self._desks[request.territory].settle(line.decision, verdict)
                self._open.settle_at_desk(request, verdict, line.claim.slot_id)
            if self._watch:
                self._watch.decided(request, said, done - request.created_at)
        claimed = {line.claim.slot_id for line in lines}
        lapsed = [spot for spot in freed if spot.slot_id not in claimed]
        if lapsed:
            self._open.wake(lapsed)


def _place_row(record: Mapping[str, Any], left: int) -> PlaceRow:
    start = int(datetime.fromisoformat(record["start"]).timestamp())
    end = int(datetime.fromisoformat(record["end"]).timestamp())
    return place_row(record, left, start, end)
