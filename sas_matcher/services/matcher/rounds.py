"""Deciding: a batch with what is known, claims in one transaction, and memory in line with what the ledger said."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import orjson

from sas_matcher.domain.errors import UnavailableError
from sas_matcher.matching.candidates import Candidates, OpenRequest, find_candidates
from sas_matcher.matching.explain import PlaceGoneError
from sas_matcher.matching.market import Spot
from sas_matcher.matching.peers import OFFICIAL
from sas_matcher.matching.territory import Decision
from sas_matcher.ports.ledger import Announcement, Ledger, Publisher
from sas_matcher.ports.world import Clock
from sas_matcher.services.matcher.claiming import Line, Scribe
from sas_matcher.services.matcher.deciding import Decider, Watch
from sas_matcher.services.matcher.desks import Recorded, Round
from sas_matcher.services.matcher.journal import batch_news
from sas_matcher.services.matcher.known import Known

EXPLAIN_PAUSE: Final = 10  # requests looked at, or decisions written, between two breaths: 15 ms in Paris at the worst


class Rounds:
    """Decides batches, one after the other.

    Args:
        known: places, open requests and desks.
        ledger: has the last word.
        clock: for the instant of each batch.
        decider: of requests that no desk has.
        scribe: writes the claims.
        watch: hears what was decided.
        journal: hears what was decided together (stream ``batches``).
        heard: the last entry of the log of places that is in the market.
    """

    def __init__(
        self,
        known: Known,
        ledger: Ledger,
        clock: Clock,
        decider: Decider,
        scribe: Scribe,
        *,
        watch: Watch | None,
        journal: Publisher | None,
        heard: Callable[[], str],
    ) -> None:
        self._known, self._ledger, self._clock, self._decider, self._scribe = known, ledger, clock, decider, scribe
        self._watch, self._journal, self._heard = watch, journal, heard
        self._open, self._desks, self._rules = known.open, known.desks, known.rules

    async def decide(self, batch: Sequence[OpenRequest], recorded: Recorded | None = None) -> None:
        """Decide a batch and commit it: picks, claims in one transaction, losers go round again.

        Args:
            batch: who wants to be decided.
            recorded: what the desks did, in a recorded batch that is decided again (``Desks.decide``).

        Raises:
            UnavailableError: the ledger is away; the batch goes round again.
            FencedError: another matcher decides now; nothing was written.
        """
        async with self._known.deciding:
            self._open.begin(batch)
            try:
                await self._decide_and_commit(batch, recorded)
            except UnavailableError:
                self._open.again([request for request in batch if request.id not in self._open.at_desk])
                raise
            finally:
                self._open.end()

    async def _decide_and_commit(self, batch: Sequence[OpenRequest], recorded: Recorded | None) -> None:
        began, heard = self._clock.now(), self._heard()
        batch = [self._rules.reaching(request) for request in batch]
        lines = await self._lines(began, [request for request in batch if request.territory not in self._desks])
        at_desk = [request for request in batch if request.territory in self._desks]
        more, done = await self._desk_lines(began, at_desk, recorded)
        lines += more
        verdicts, announced = await self._commit(began, lines) if lines else ([], [])
        if self._journal is not None and (lines or at_desk or done.steps or done.opened):
            self._journal.announce([batch_news(self._rules, began, heard, batch, lines, verdicts, announced, done)])

    async def _commit(self, began: datetime, lines: Sequence[Line]) -> tuple[list[str], list[Announcement]]:
        """Claim, and bring memory in line with what the ledger says."""
        fences = {line.request.territory: self._known.fences.get(line.request.territory, -1) for line in lines}
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
        async with self._known.still:
            for number, request in enumerate(batch):
                found.append(self._places(request, now))
                if number % EXPLAIN_PAUSE == EXPLAIN_PAUSE - 1:
                    await asyncio.sleep(0)
        picks = await self._decider.picks(self._known.market, batch, found, began)
        lines: list[Line] = []
        for number, pick in enumerate(picks):
            if pick.row < 0 and pick.request.id in self._open.told:
                if self._comes_back(pick.request):
                    self._open.park(pick.request)  # the same was told already
            else:
                try:
                    lines.append(self._scribe.of_pick(self._known.market, pick, began))
                except PlaceGoneError:
                    self._open.again([pick.request])
            # what would help who has no place may take 5 ms to find
            if pick.row < 0 or number % EXPLAIN_PAUSE == EXPLAIN_PAUSE - 1:
                await asyncio.sleep(0)
        return lines

    async def _desk_lines(
        self, began: datetime, batch: Sequence[OpenRequest], recorded: Recorded | None
    ) -> tuple[list[Line], Round]:
        """Let the desks decide, and write down the claims; also returns the round."""
        now = began.timestamp()
        found: dict[str, Candidates] = {}
        async with self._known.still:
            for number, request in enumerate(batch):
                self._open.at_desk[request.id] = request
                found[request.id] = self._places(request, now, full=True)
                self._desks.take_in(now, request, found[request.id])
                if number % EXPLAIN_PAUSE == EXPLAIN_PAUSE - 1:
                    await asyncio.sleep(0)
        done = self._desks.decide(now, recorded)
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
            places = found.get(open_one.id) or self._places(open_one, now, full=True)
            kept = desk.is_kept(open_one.id)
            try:
                lines.append(self._scribe.of_decision(self._known.market, open_one, decision, places, began, kept=kept))
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
        kept = slot_id is not None and slot_id == request.promised and slot_id in self._known.market
        if decision.what != "firm" or not kept:
            return None
        document = orjson.loads(await self._ledger.request_document(request.id, None) or "{}")
        return self._scribe.of_choice(request, decision, document.get("decision") or {}, began)

    def _places(self, request: OpenRequest, now: float, *, full: bool = False) -> Candidates:
        """Return the places that a request could be given now; with ``full``, those without a free seat too."""
        return find_candidates(self._known.market, request, now, self._rules.terms(request.territory), full=full)

    def _comes_back(self, request: OpenRequest) -> bool:
        """Whether who found no place waits for one: the national engine has no waiting list."""
        return self._rules.policies(request.territory)[request.tier] != OFFICIAL

    def _settle(self, lines: Sequence[Line], verdicts: Sequence[str], announced: Sequence[Announcement]) -> None:
        """Bring memory in line with what the ledger said."""
        freed: list[Spot] = []
        for a in announced:
            if a.stream == "places":
                freed += self._known.hear_places(a.type, orjson.loads(a.data))
        done = self._known.now()
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
