"""Which territories a matcher decides for: their leases, what they set, their desks, and what is open there."""

import asyncio
from collections.abc import Awaitable, Callable, Container, Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from functools import partial
from typing import Final, Protocol
from weakref import WeakSet

import orjson
import structlog

from sas_matcher.domain.errors import UnavailableError
from sas_matcher.faults import again_and_again, attempt, tell_fault
from sas_matcher.matching.forecast import HistoryDay
from sas_matcher.matching.pairs import Codes
from sas_matcher.matching.terms import Terms
from sas_matcher.matching.territory import TerritoryDesk
from sas_matcher.ports.ledger import Ledger
from sas_matcher.ports.world import Clock
from sas_matcher.services.matcher.known import Known, place_of
from sas_matcher.services.matcher.shares import Shares

LEASE_S: Final = 10.0  # a dead matcher's territories are taken over after this
ENTERED: Final = 200  # places entered at a desk between two breaths: about 10 ms, most of it reading their JSON
AGAIN_S: Final = 0.2  # between two tries while a store is away
UNTOLD: Final = timedelta(seconds=4)  # a second more than the sweep leaves to whoever writes (`relay.GRACE`)
FORESEE_S: Final = 3.0  # between two desks that learn what is expected: all of France within five minutes of its calls
_log = structlog.get_logger(__name__)


class History(Protocol):
    """The earlier days that forecasts learn from."""

    def count(self, territory: str, before: date) -> int:
        """How many were recorded of a territory, before a day of its own calendar; may look at files."""
        ...

    def expect(self, territory: str, today: date) -> bool:
        """Find out what else is expected today where too few were recorded: whether ``learn`` gives more next time.

        May take a second.
        """
        ...

    def learn(self, territory: str, before: date, terms: Terms, codes: Codes) -> Sequence[HistoryDay]:
        """Return them and what is expected beside, in the numbers of ``codes``; may read files."""
        ...


async def until_there(step: Callable[[], Awaitable[None]]) -> None:
    """Do a step, again and again while a store is away."""
    while True:
        try:
            return await step()
        except UnavailableError as away:
            _log.warning("matcher.store_away", detail=away.detail)
            await asyncio.sleep(AGAIN_S)


class Holding:
    """The territories of one matcher. Owns the leases, and alone opens and closes desks."""

    def __init__(
        self,
        known: Known,
        ledger: Ledger,
        clock: Clock,
        holder: str,
        territories: Sequence[str],
        zone_of: Callable[[str], tzinfo],
        *,
        share: tuple[int, int] = (0, 1),
        history: History | None = None,
        seed: int = 0,
    ) -> None:
        """Take the collaborators.

        Args:
            known: memory, to be kept in line with what is held.
            ledger: has the leases, the settings and the waiting requests.
            clock: says which day it is.
            holder: the name that the leases are under.
            territories: of all matchers, in the same order everywhere.
            zone_of: clock of a territory.
            share: which of how many matchers this is (see ``Shares``).
            history: the earlier days that desks learn from.
            seed: of the desks.
        """
        self._known, self._ledger, self._clock, self._holder, self._zone_of = known, ledger, clock, holder, zone_of
        self._open, self._desks, self._rules = known.open, known.desks, known.rules
        self._territories = list(territories)
        self._shares = Shares(self._territories, *share)
        self._history, self._seed = history, seed
        self._remembered: dict[str, tuple[date, bool]] = {}  # whether there are earlier days, as looked up on a day
        self._foreseen: WeakSet[TerritoryDesk] = WeakSet()  # desks of which it was found out what is expected
        self._opening = asyncio.Lock()  # one task opens and closes desks
        self._gained: set[str] = set()  # territories whose open requests have not been read yet

    # -- leases --------------------------------------------------------------------------------------------------

    async def drop(self) -> None:
        """Give all leases back, those of a killed predecessor of this name too: ours have new fences.

        Raises:
            UnavailableError: the ledger is away.
        """
        await self._ledger.drop_leases(self._holder)

    async def renew(self) -> None:
        """Renew the leases, and nothing that takes long; what is gained is taken up by ``refresh``.

        Raises:
            UnavailableError: the ledger is away.
        """
        before = self._known.fences
        wanted = self._territories
        if not self._shares.alone:
            # what is another's is left before it is asked for there: no decision is under way meanwhile
            wanted = self._shares.wanted(
                await self._ledger.shares(), set(await self._ledger.matched_territories()), set(before)
            )
            if leaving := [territory for territory in before if territory not in wanted]:
                async with self._known.deciding:
                    self._known.leave(leaving)
                    await self._ledger.leave_territories(self._holder, leaving)
        self._known.fences = await self._ledger.take_leases(self._holder, wanted, LEASE_S)
        gained = {name for name, fence in self._known.fences.items() if before.get(name) != fence}
        if gained:
            self._gained |= gained
            self._known.to_refresh.set()

    async def lose(self) -> None:
        """Another matcher decides now: forget everything, and ask for the leases again."""
        self._known.fences = {}
        self._open.clear()
        for territory in self._territories:
            self._desks.shut(territory)
        await until_there(self.renew)

    async def load_waiting(self, territories: Sequence[str]) -> None:
        """Learn from the ledger what is open in some territories.

        Raises:
            UnavailableError: the ledger is away.
        """
        for document in await self._ledger.waiting_requests(self._clock.now(), territories):
            try:
                self._known.take_in(orjson.loads(document))
            except Exception as unreadable:
                tell_fault("matcher.request", unreadable)  # the others are decided all the same

    async def catch_up(self) -> None:
        """Learn from the ledger what is open while announcements stay unpublished: no stream tells of all then.

        Redis may answer whoever reads and refuse whoever writes (its memory or disk full), or a publisher be stuck.

        Raises:
            UnavailableError: the ledger is away.
        """
        if await self._ledger.leftovers(self._clock.now() - UNTOLD, 1):
            _log.warning("matcher.untold")
            await self.load_waiting(list(self._known.fences))

    # -- what the territories set --------------------------------------------------------------------------------

    async def learn_rules(self) -> set[str]:
        """Learn from the ledger what the territories set; returns those whose terms are others now.

        Raises:
            UnavailableError: the ledger is away.
        """
        changed = self._rules.load(await self._ledger.settings())
        self._known.market.reserve(self._rules.reserves)
        return changed

    async def refresh(self) -> None:
        """Take up what the territories have set, and those that were gained: their desks, then who is open there.

        Raises:
            UnavailableError: the ledger is away.
        """
        for territory in await self.learn_rules():
            # what was out of reach may be within it now
            self._open.move_to_new(self._open.waiting, territory)
        await self.open_desks()
        if gained := self._gained & self._known.fences.keys():
            await self.load_waiting(sorted(gained))
            self._gained -= gained
            self._known.work.set()  # some may have been waiting here for the lease

    async def refresh_forever(self) -> None:
        """Take up what a territory has set, and what was gained, as soon as it is known; leases are renewed apart.

        The desks of a whole country take longer to open than a lease lasts.
        """
        while True:
            await self._known.to_refresh.wait()
            self._known.to_refresh.clear()
            await attempt("matcher.refresh", lambda: until_there(self.refresh))

    # -- desks ---------------------------------------------------------------------------------------------------

    async def open_desks(self, *, anew: Container[str] = ()) -> None:
        """Open a desk where the policy wants one for today, close those that nobody wants.

        A desk that must be replaced, as those ``anew`` must, goes on deciding until the new one knows its places.
        """
        async with self._opening:
            for territory in [name for name in self._desks if name not in self._known.fences]:
                await self._shut_desk(territory)
            for territory in list(self._known.fences):
                try:
                    await self._open_as_wanted(territory, anew=territory in anew)
                except UnavailableError:
                    raise
                except Exception as unforeseen:
                    # a day that cannot be learned from, a place that cannot be read: the others get theirs
                    tell_fault("matcher.open_desk", unforeseen, territory=territory)

    async def _open_as_wanted(self, territory: str, *, anew: bool) -> None:
        policy, terms = self._rules.of_desk(territory), self._rules.terms(territory)
        today = self._today(territory)
        midnight = datetime.combine(today, time(), self._zone_of(territory)).timestamp()
        if policy is None or not await self._wants_desk(territory, today):
            await self._shut_desk(territory)
        elif anew or not self._desks.is_for(territory, midnight, terms, policy):
            learn = partial(self._learn, territory, today, terms)
            market = self._known.market
            make = partial(TerritoryDesk, midnight, today.weekday(), terms, policy, learn, self._seed, market)
            # reading earlier days takes longer than others may wait
            await self._open_desk(territory, await asyncio.to_thread(make))

    async def foresee(self) -> None:
        """Let one desk that somebody has called today learn what is expected, where too few days were recorded.

        Until then it has decided without, and so does one that is opened anew: neither a decision nor the start waits
        for days to be drawn, and a territory that nobody calls draws none.
        """
        if self._history is None:
            return
        for territory in self._desks:
            desk = self._desks[territory]
            if desk.was_called() and desk not in self._foreseen:
                self._foreseen.add(desk)
                if await asyncio.to_thread(self._history.expect, territory, self._today(territory)):
                    await self.open_desks(anew={territory})
                    if territory in self._desks:
                        self._foreseen.add(self._desks[territory])
                return

    async def foresee_forever(self) -> None:
        """One desk after the other, with pauses: drawing must not take the processor from deciding."""
        await again_and_again("matcher.foresee", self.foresee, FORESEE_S)

    def _today(self, territory: str) -> date:
        return self._clock.now().astimezone(self._zone_of(territory)).date()

    def _learn(self, territory: str, before: date, terms: Terms, codes: Codes) -> Sequence[HistoryDay]:
        return () if self._history is None else self._history.learn(territory, before, terms, codes)

    async def _shut_desk(self, territory: str) -> None:
        """Close a desk; whom it had goes round again."""
        if territory in self._desks:
            async with self._known.deciding:
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
            has = await asyncio.to_thread(self._history.count, territory, today) > 0
            self._remembered[territory] = (today, has)
        return has

    async def _open_desk(self, territory: str, desk: TerritoryDesk) -> None:
        """Let a new desk know the territory's places and how busy today is, then give it the open requests."""
        now = self._clock.now()
        called = await self._ledger.calls_since(datetime.fromtimestamp(desk.midnight, now.tzinfo), territory)
        desk.called([call.timestamp() for call in called])
        self._desks.prepare(territory, desk)
        for number, row in enumerate(await self._ledger.live_records(now, territory)):
            place = place_of(orjson.loads(row["record"]), row["left"])
            if place.slot_id in self._known.market:  # which has heard what came since
                desk.place(now.timestamp(), place._replace(left=self._known.market.left_of(place.slot_id)))
            if number % ENTERED == ENTERED - 1:
                await asyncio.sleep(0)
        async with self._known.deciding:
            if territory in self._known.fences:
                self._desks.open(territory)
                self._open.move_to_new(self._open.at_desk, territory)
                self._open.move_to_new(self._open.waiting, territory)
            else:
                self._desks.shut(territory)  # the lease was lost meanwhile
