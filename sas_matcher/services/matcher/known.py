"""What a matcher knows, and how each piece of news changes it. Nothing here waits for anything."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import orjson
import structlog

from sas_matcher.domain.lifecycle import RequestStatus
from sas_matcher.domain.limits import is_child
from sas_matcher.domain.vocabulary import Tier, matching_specialty
from sas_matcher.matching.candidates import OpenRequest, find_candidates
from sas_matcher.matching.market import Market
from sas_matcher.matching.places import PlaceRow, Spot, place_row, stable_key
from sas_matcher.matching.sharing import RELEASE_S
from sas_matcher.ports.bus import ARRIVAL, LIMIT_NEWS
from sas_matcher.ports.ledger import Announcement, arriving_document
from sas_matcher.ports.world import Clock
from sas_matcher.services.arrivals import PATIENCE_S
from sas_matcher.services.matcher.desks import Desks, PlannerProcess
from sas_matcher.services.matcher.open_requests import OpenRequests
from sas_matcher.services.matcher.rules import Rules

ARRIVES_S: Final = 2 * PATIENCE_S
"""How long a request may be decided before it is written: its sender waits half of it."""

LATE_TOLD_S: Final = 60.0
"""Between two log lines about requests that arrive late."""

_log = structlog.get_logger(__name__)


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


def place_of(record: Mapping[str, Any], left: int) -> PlaceRow:
    """Build what matching needs from a slot's record, and the seats left."""
    start = int(datetime.fromisoformat(record["start"]).timestamp())
    end = int(datetime.fromisoformat(record["end"]).timestamp())
    return place_row(record, left, start, end)


class Known:
    """The memory of a matcher: a hint that the streams keep; what is true is in the ledger.

    Attributes:
        market: the live places, whose ever they are.
        open: the open requests of the territories decided here.
        desks: the desks of those that promise, or have days to learn from.
        rules: what the territories have set.
        fences: the territories decided here, with the fence of each lease.
        work: set when there may be something to decide.
        to_refresh: set when a territory has changed what it sets, or was gained.
        released: the instant for which places kept for urgent requests were released last: those that start
            ``RELEASE_S`` after it.
        still: held while news are taken in, and while candidates are found: a batch looks at one market.
        deciding: held from a decision to what the ledger says to it: no desk opens or closes and no territory is left
            meanwhile.
    """

    def __init__(
        self,
        clock: Clock,
        rules: Rules,
        landmass_of: Callable[[str], int],
        planner: PlannerProcess | None = None,
        late: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Begin with nothing.

        Args:
            clock: tells what has begun, and what is over.
            rules: of the territories.
            landmass_of: the landmass of a commune.
            planner: makes the desks' plans elsewhere.
            late: hears of a plan that did not come in time.
        """
        self._clock, self._landmass_of = clock, landmass_of
        self.rules = rules
        self.work = asyncio.Event()
        self.to_refresh = asyncio.Event()
        self.still = asyncio.Lock()
        self.deciding = asyncio.Lock()
        self.market = Market()
        self.open = OpenRequests(self.work)
        self.desks = Desks(planner, self.work.set, late)
        self.fences: dict[str, int] = {}
        self.released = self.now()
        self._late_told = -LATE_TOLD_S

    def now(self) -> float:
        """The instant, epoch seconds."""
        return self._clock.now().timestamp()

    # -- what happens --------------------------------------------------------------------------------------------

    def hear(self, said: Iterable[Announcement]) -> None:
        """Take in what was announced, where no stream lies between it and us (a replay)."""
        freed: list[Spot] = []
        for a in said:
            if a.stream == "requests":
                self.hear_request(a.territory, a.type, a.aggregate, a.data)
            elif a.stream == "places":
                freed += self.hear_places(a.type, orjson.loads(a.data))
        if freed:
            self.open.wake(freed)

    def hear_request(self, territory: str, kind: str, request_id: str, data: bytes | str) -> None:
        """Take in what a request became, or that a territory has changed what it sets."""
        if territory not in self.fences:
            return
        if kind == "settings":
            self.to_refresh.set()
        elif kind == "open":
            self.take_in(orjson.loads(data))
        elif kind == ARRIVAL:
            self.arrive(data if isinstance(data, str) else data.decode())
        else:
            self.forget(request_id)

    def hear_places(self, kind: str, items: Sequence[Any]) -> list[Spot]:
        """Take in one change of places; returns where there now is a seat left."""
        if kind in LIMIT_NEWS:
            self.market.hear_limits(kind, items)
            return []
        if kind == "published":
            rows = [place_of(record, left) for record, left in items]
            taken = self.market.put(rows)
            now = self.now()
            for (record, _), row in zip(items, rows, strict=True):
                left = taken.get(row.slot_id)
                if left is not None:
                    self.desks.place(record["territory"], now, row if left == row.left else row._replace(left=left))
            return [row.spot for row in rows if row.left > 0 and row.slot_id in taken]
        if kind == "state":
            news = [(slot, left) for slot, left, version in items if self.market.set_left(slot, left, version)]
            for slot_id, left in news:
                self.desks.left(slot_id, left)
            free = (slot_id for slot_id, left in news if left > 0)
            return [spot for slot_id in free if (spot := self.market.spot(slot_id)) is not None]
        for slot_id, version in items:
            self.market.discard(slot_id, version)
            if slot_id not in self.market:
                self.desks.gone(slot_id)
        return []

    def take_in(self, document: Mapping[str, Any]) -> None:
        """A request is open, as its document says; an older version than is known says nothing."""
        request_id = document["request_id"]
        if self.open.version(request_id) >= document["version"]:
            self.open.written(request_id)
            return
        self.open.drop(request_id)
        if document["status"] not in (RequestStatus.WAITING, RequestStatus.PROMISED):
            return  # it has its seat; only what waits asks for one, and what is promised may move
        request = open_request(document, self._landmass_of(document["insee"]))
        now = self.now()
        if request.mt_until is None or request.mt_until <= now:
            self.open.add(request)
        elif self._can_wait(request, now):
            self.open.wait_for_mt(request)
        else:
            self.open.add(replace(request, mt_said="not_waited", mt_until=None))

    def arrive(self, text: str) -> None:
        """A request arrives that is to be written with its decision (``request_row`` as JSON)."""
        row = orjson.loads(text)
        request = open_request(arriving_document(row), self._landmass_of(row["insee"]))
        now = self.now()
        if request.created_at + ARRIVES_S <= now:
            # whoever sent it writes it himself; if all come late a clock is wrong, and each call takes a second more
            if not 0 <= now - self._late_told < LATE_TOLD_S:
                self._late_told = now
                _log.warning("matcher.arrival_late", age_s=round(now - request.created_at, 1))
        elif not self.open.version(request.id):  # else it is known already, or came twice
            self.open.arrive(request, text)

    def _can_wait(self, request: OpenRequest, now: float) -> bool:
        """Whether a request may wait for its médecin traitant: of the places there are, one can be had afterwards."""
        terms = self.rules.terms(request.territory)
        found = find_candidates(self.market, self.rules.reaching(request), now, terms)
        until = now if request.mt_until is None else request.mt_until
        return len(found) == 0 or bool((found.start - 60 * found.travel_min >= until).any())

    def forget(self, request_id: str) -> None:
        """A request is closed."""
        self.open.drop(request_id)
        self.desks.close(request_id)

    def leave(self, territories: Sequence[str]) -> None:
        """Forget what is open in territories that another matcher decides for from now on."""
        for territory in territories:
            self.fences.pop(territory, None)
            self.desks.shut(territory)
        for request in [r for r in self.open if r.territory in territories]:
            self.open.drop(request.id)

    # -- what time does ------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Forget the places that have started and the requests that nobody can serve any more."""
        now = self.now()
        self.market.drop_before(int(now))
        for request in [r for r in self.open if r.deadline <= now]:
            self.forget(request.id)  # that it was closed may have been said while we reloaded
        for request_id in self.open.unwritten(now - ARRIVES_S):
            self.forget(request_id)  # whoever sent it is gone: nobody was told of it, and nobody waits for it
        self.release(now)

    def release(self, now: float) -> None:
        """Let everybody have the places that were kept for urgent requests until now."""
        after, self.released = self.released, now
        if not self.market.reserves:
            return
        spots = self.market.starting(after + RELEASE_S, now + RELEASE_S)
        self.open.wake(spots)
        for spot in spots:
            self.desks.release(spot.slot_id)

    def due(self) -> float:
        """When something wants to be decided next though nothing happens: epoch seconds, infinite for never."""
        return min(self.desks.due(), self.open.due())

    def has_work(self) -> bool:
        """Whether a desk's plan has come or is due, or somebody waits for its answer."""
        return self.desks.has_work(self.now())

    def next_batch(self) -> list[OpenRequest]:
        """Take the open requests that can still be served."""
        now = self.now()
        self.open.stop_waiting(now)
        for late in [r.id for r in self.open.new.values() if r.deadline <= now]:
            self.forget(late)
        return self.open.next_batch(self.fences, self.desks)
