"""Deciding: a batch with what is known, its claims in parts, and memory in line with what the ledger said."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import orjson
import structlog

from sas_matcher.domain.errors import FencedError, RefusedArrivalError, UnavailableError
from sas_matcher.domain.lifecycle import ClaimKind
from sas_matcher.matching.candidates import Asking, Candidates, OpenRequest, find_all, find_candidates
from sas_matcher.matching.engine import Pick
from sas_matcher.matching.explain import PlaceGoneError
from sas_matcher.matching.peers import OFFICIAL
from sas_matcher.matching.places import Spot
from sas_matcher.matching.terms import TIER_RANK
from sas_matcher.matching.territory import Decision
from sas_matcher.ports.ledger import Announcement, Ledger, Publisher
from sas_matcher.ports.world import Clock
from sas_matcher.services.matcher.claiming import Line, Scribe
from sas_matcher.services.matcher.deciding import Decider, Watch
from sas_matcher.services.matcher.desks import NO_ROUND, Recorded, Round
from sas_matcher.services.matcher.journal import Heard, batch_news
from sas_matcher.services.matcher.known import Known

PART: Final = 16  # claims of one transaction: each then costs the ledger a third of one alone (docs/benchmarks.md)
STOP_S: Final = 2.0  # of the eight seconds in which a process has to end, for a batch that is under way
EXPLAIN_PAUSE: Final = 10  # requests looked at, or decisions written, between two breaths: 15 ms in Paris at the worst
_log = structlog.get_logger(__name__)


class Said(NamedTuple):
    """What the ledger said of a batch so far: request, seat asked for and verdict of each claim; what it announced."""

    claims: list[tuple[OpenRequest, int | None, str]]
    announced: list[Announcement]


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
        heard: of each stream that is followed the last entry that is known.
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
        heard: Callable[[], Mapping[str, str]],
    ) -> None:
        self._known, self._ledger, self._clock, self._decider, self._scribe = known, ledger, clock, decider, scribe
        self._watch, self._journal, self._heard = watch, journal, heard
        self._open, self._desks, self._rules = known.open, known.desks, known.rules

    async def decide(self, batch: Sequence[OpenRequest], recorded: Recorded | None = None) -> None:
        """Decide a batch and commit it: picks, claims, losers go round again.

        Args:
            batch: who wants to be decided.
            recorded: what the desks did, in a recorded batch that is decided again (``Desks.decide``).

        Raises:
            UnavailableError: the ledger is away; the batch goes round again.
            FencedError: another matcher decides now; what was written before is of who held the lease then.
        """
        self._open.begin(batch)
        deciding = asyncio.ensure_future(self._decide(batch, recorded))
        try:
            await asyncio.shield(deciding)
        except asyncio.CancelledError:
            # what is under way when this task is to stop is seen through: else nobody tells what the ledger took
            await asyncio.gather(asyncio.wait_for(deciding, STOP_S), return_exceptions=True)
            raise

    async def _decide(self, batch: Sequence[OpenRequest], recorded: Recorded | None) -> None:
        try:
            async with self._known.deciding:
                # whoever was closed or changed while another task had the desks is not in it any more
                await self._decide_and_commit([r for r in batch if r.id in self._open.batch], recorded)
        except UnavailableError:
            self._open.again([request for request in batch if request.id not in self._open.at_desk])
            raise
        except FencedError:
            raise
        except Exception:
            self._open.put_off([request for request in batch if request.id not in self._open.at_desk])
            raise
        finally:
            self._open.end()

    async def _decide_and_commit(self, batch: Sequence[OpenRequest], recorded: Recorded | None) -> None:
        began = self._clock.now()
        batch = [self._rules.reaching(request) for request in batch]
        picks, first = await self._picks(began, [r for r in batch if r.territory not in self._desks])
        at_desk = [request for request in batch if request.territory in self._desks]
        said = Said([], [])
        try:
            lines = await self._claim_in_parts(began, picks, said)
            done, found, at_desks = await self._round(began, at_desk, recorded)
            more = await self._desk_lines(began, done, found, said)
            if lines or more:
                await self._commit(began, lines + more, said)
        except (UnavailableError, FencedError):
            if said.claims:
                # for whoever records: what was claimed stands, the others lost their seats and go round again
                told = {request.id for request, _, _ in said.claims}
                left = [pick for pick in picks if pick.row >= 0 and pick.request.id not in told]
                said.claims.extend((pick.request, pick.slot_id, "seat_lost") for pick in left)
                heard = Heard(first, first, (), self._known.released)
                self._tell(began, heard, [pick.request for pick in picks], said, NO_ROUND)
            raise
        if said.claims or at_desk or done.steps or done.opened:
            territories = {*(request.territory for request in at_desk), *done.territories}
            self._tell(began, Heard(first, at_desks, territories, self._known.released), batch, said, done)

    def _tell(self, began: datetime, heard: Heard, batch: Sequence[OpenRequest], said: Said, done: Round) -> None:
        if self._journal is not None:
            self._journal.announce([batch_news(self._rules, began, heard, batch, said.claims, said.announced, done)])

    async def _claim_in_parts(self, began: datetime, picks: Sequence[Pick], said: Said) -> list[Line]:
        """Claim what was decided together, the most urgent first, all but the last part; returns the lines of that.

        While the ledger writes a part the next is explained, and whose part it was has his answer and the next caller
        his turn: a crowd that was decided at once would else wait for the last line of all, and then all call again.
        """
        if len(picks) > PART:
            picks = sorted(picks, key=lambda p: (TIER_RANK[p.request.tier], p.request.created_at, p.request.id))
        parts = [picks[at : at + PART] for at in range(0, len(picks), PART)] or [[]]
        writing: asyncio.Task[None] | None = None
        try:
            for part in parts[:-1]:
                lines = await self._lines(began, part, said)
                if writing is not None:
                    await writing
                writing = asyncio.create_task(self._commit(began, lines, said)) if lines else None
            last = await self._lines(began, parts[-1], said)
        except asyncio.CancelledError:
            if writing is not None:
                writing.cancel()
            raise
        finally:
            # whatever happened: nothing is written behind the back of who decides next
            if writing is not None:
                await writing
        return last

    async def _commit(self, began: datetime, lines: Sequence[Line], said: Said) -> None:
        """Claim, and bring memory in line with what the ledger says."""
        fences = {line.request.territory: self._known.fences.get(line.request.territory, -1) for line in lines}
        arriving = self._open.claiming(line.request.id for line in lines)
        claims = [line.claim._replace(arrives=arriving.get(line.request.id)) for line in lines]
        try:
            verdicts, announced = await self._ledger.claim(began, fences, claims)
        except RefusedArrivalError as refused:
            await self._commit_without(began, lines, refused.requests & arriving.keys() or arriving.keys(), said)
            return
        except UnavailableError:
            for line in lines:
                if line.decision is not None:
                    self._desks[line.request.territory].settle(line.decision, "unknown")
            raise
        self._settle(lines, verdicts, announced)
        said.claims.extend((line.request, line.claim.slot_id, word) for line, word in zip(lines, verdicts, strict=True))
        said.announced.extend(announced)

    async def _commit_without(
        self, began: datetime, lines: Sequence[Line], refused: Collection[str], said: Said
    ) -> None:
        """Claim without arriving requests that were refused: their senders write them, and nobody gives way to them."""
        _log.warning("matcher.arrival_refused", requests=len(refused))
        rest: list[Line] = []
        for line in lines:
            if line.request.id in refused:
                if line.decision is not None:
                    self._desks[line.request.territory].settle(line.decision, "not_waiting")
                said.claims.append((line.request, line.claim.slot_id, "not_waiting"))
                self._known.forget(line.request.id)
            elif line.claim.kind is ClaimKind.DISPLACE and line.decision is not None:
                self._desks[line.request.territory].settle(line.decision, "unknown")
            else:
                rest.append(line)
        self._spare(line.claim.slot_id for line in lines if line.request.id in refused)
        if rest:
            await self._commit(began, rest, said)

    def _spare(self, slot_ids: Iterable[int | None]) -> None:
        """Seats that were meant for who does not wait any more are there for whoever was told that there is none."""
        spots = [self._known.market.spot(slot_id) for slot_id in slot_ids if slot_id is not None]
        self._open.wake([spot for spot in spots if spot is not None])

    async def _picks(self, began: datetime, batch: Sequence[OpenRequest]) -> tuple[list[Pick], Mapping[str, str]]:
        """Decide requests that no desk has, together; also returns what had been heard."""
        now = began.timestamp()
        found: list[Candidates] = []
        async with self._known.still:
            heard = dict(self._heard())
            for at in range(0, len(batch), EXPLAIN_PAUSE):
                some = batch[at : at + EXPLAIN_PAUSE]
                asked = [Asking.of(request, self._rules.terms(request.territory)) for request in some]
                found += find_all(self._known.market, asked, now)
                if len(some) == EXPLAIN_PAUSE:
                    await asyncio.sleep(0)
        picks = await self._decider.picks(self._known.market, batch, found, began) if batch else []
        return picks, heard

    async def _lines(self, began: datetime, picks: Sequence[Pick], said: Said) -> list[Line]:
        """Write down the claims of picks."""
        lines: list[Line] = []
        for number, pick in enumerate(picks):
            if pick.row < 0 and pick.request.id in self._open.told:
                if self._comes_back(pick.request):
                    self._open.park(pick.request)  # the same was told already
            else:
                try:
                    lines.append(self._scribe.of_pick(self._known.market, pick, began))
                except PlaceGoneError:
                    said.claims.append((pick.request, pick.slot_id, "seat_lost"))
                    self._open.again([pick.request])
            # what would help who has no place may take 5 ms to find
            if pick.row < 0 or number % EXPLAIN_PAUSE == EXPLAIN_PAUSE - 1:
                await asyncio.sleep(0)
        return lines

    async def _round(
        self, began: datetime, batch: Sequence[OpenRequest], recorded: Recorded | None
    ) -> tuple[Round, dict[str, Candidates], Mapping[str, str]]:
        """Let the desks decide; also returns what each of the batch could have, and what had been heard."""
        now = began.timestamp()
        found: dict[str, Candidates] = {}
        async with self._known.still:
            heard = dict(self._heard())
            for number, request in enumerate(batch):
                self._open.at_desk[request.id] = request
                found[request.id] = self._places(request, now, full=True)
                self._desks.take_in(now, request, found[request.id])
                if number % EXPLAIN_PAUSE == EXPLAIN_PAUSE - 1:
                    await asyncio.sleep(0)
            done = self._desks.decide(now, recorded)
            for territory in list(self._desks.broken):
                # decided without a desk until the next refresh opens a new one
                self._desks.shut(territory)
                self._open.move_to_new(self._open.at_desk, territory)
            return done, found, heard

    async def _desk_lines(
        self, began: datetime, done: Round, found: Mapping[str, Candidates], said: Said
    ) -> list[Line]:
        """Write down the claims of what the desks decided."""
        now = began.timestamp()
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
                lines.append(
                    self._scribe.of_decision(
                        self._known.market, open_one, decision, places, began, learned=desk.learned, kept=kept
                    )
                )
            except PlaceGoneError:
                line = await self._chosen_line(open_one, decision, began) if kept else None
                if line is None:
                    said.claims.append((open_one, decision.slot_id, "seat_lost"))
                    desk.settle(decision, "seat_lost")
                else:
                    lines.append(line)
            if number % EXPLAIN_PAUSE == EXPLAIN_PAUSE - 1:
                await asyncio.sleep(0)
        return lines

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
        self._spare(line.claim.slot_id for line, said in zip(lines, verdicts, strict=True) if said == "not_waiting")
