"""The people of a demonstration: practices, regulators, patients; all through the public API."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from sas_matcher.client import ApiError, ClientError, Event, Gap, Request, SasClient
from sas_matcher.demo.board import Board
from sas_matcher.demo.plan import Day, more_places, places_of, scenes, schedule
from sas_matcher.demo.world import Json, World

CHUNK: Final = 2_000
"""Slots in one call before anybody waits for an answer."""
BEHIND: Final = 500
"""Slots in one call while regulators are at work: a fifth of a second."""
TOLD: Final = 5_000
"""Slots between two lines about them."""
AT_ONCE: Final = 64
"""Requests that regulators of the demonstration have in hand at once."""
CONFIRMED, DECLINED, CANCELLED = 0.86, 0.08, 0.04
"""Guess: what regulators do with a place that is held; the rest forget it and the hold runs out."""
PATIENT_CANCELS, PRACTICE_REFUSES, NO_SHOW = 0.06, 0.02, 0.05
"""Guess: what happens to confirmed bookings."""
STOCK: Final = 0.9
"""Practices open new places when fewer than this share of those of the start are left."""


PROMISE_NEWS: Final = {"request.told": "dite", "request.displaced": "rompue"}
"""What becomes of promises, by event."""


class Desks(NamedTuple):
    """Who calls the service: a regulator, the practices' agenda software, a coordinator."""

    regulator: SasClient
    practice: SasClient
    coordinator: SasClient


class Play:
    """Plays a calm day until it is cancelled.

    Args:
        desks: Clients with their keys.
        world: The people.
        name: Of the demonstration, for its seeds.
        days: How many days of places.
        zone: Local time of the demonstration.
        board: Is told what happens.
        now: The present instant.
        rng: Source of chance of the traffic.
        speed: Virtual seconds in a second, for the requests.
        tempo: How much faster than usual people react.
    """

    def __init__(
        self,
        desks: Desks,
        world: World,
        *,
        name: str,
        days: int,
        zone: ZoneInfo,
        board: Board,
        now: Callable[[], datetime],
        rng: np.random.Generator,
        speed: float,
        tempo: float,
    ) -> None:
        self._desks = desks
        self._world = world
        self._name = name
        self._days = days
        self._zone = zone
        self._board = board
        self._now = now
        self._rng = rng
        self._speed = speed
        self._tempo = tempo
        self._town = {commune.code: commune.name for commune in world.communes}
        self._published: set[str] = set()
        self._to_open: list[Json] = []
        self._opening: set[str] = set()
        self._free: list[str] = []
        self._stock = 0
        self._run = f"{now().astimezone(zone):%H%M%S}"
        self._draws = 0
        self._awaited: dict[str, tuple[int, asyncio.Future[Request]]] = {}
        self._in_hand = asyncio.Semaphore(AT_ONCE)

    # -- places --------------------------------------------------------------------------------------------------

    def days(self) -> tuple[Day, ...]:
        """Return the days to publish as of now."""
        return schedule(self._now().astimezone(self._zone), self._days).days

    def plan_places(self, known: Sequence[str]) -> int:
        """Draw the places of the days that are not published yet; returns how many wait for ``open_places``.

        Args:
            known: Names of days that this or an earlier start published.
        """
        self._published |= set(known)
        todo = [day for day in self.days() if day.name not in self._published]
        self._to_open = [slot for day in todo for slot in places_of(self._world, self._name, day, self._now())]
        self._opening = {day.name for day in todo}
        return len(self._to_open)

    async def open_places(self, most: int | None = None, *, chunk: int = CHUNK) -> Counter[str]:
        """Publish planned places, soonest first; a day counts as published when all of it is.

        Args:
            most: Stop after about so many.
            chunk: Slots in one call.
        """
        outcomes: Counter[str] = Counter()
        while self._to_open and (most is None or outcomes.total() < most):
            # some may have started since the plan was made
            soon = self._now() + timedelta(minutes=1)
            part, self._to_open = self._to_open[:chunk], self._to_open[chunk:]
            part = [slot for slot in part if datetime.fromisoformat(slot["start"]) > soon]
            if part:
                outcomes.update((await self._desks.practice.publish_slots(part)).counts)
                self._free += [slot["external_id"] for slot in part]
        if not self._to_open:
            self._published |= self._opening
        self._board.done["places publiées"] += outcomes["created"]
        return outcomes

    async def open_the_rest(self, done: Callable[[], None]) -> None:
        """Publish what is planned while the day is already played, without hurry; then say so."""
        told = len(self._to_open)
        while self._to_open:
            began = time.perf_counter()
            await self._try(lambda: self.open_places(BEHIND, chunk=BEHIND))
            if told - len(self._to_open) >= TOLD or not self._to_open:
                told = len(self._to_open)
                self._board.say("publiées", "places de la journée", f"encore {told} à publier")
            # two thirds of the service's time are for the regulators
            await asyncio.sleep(2 * (time.perf_counter() - began))
        self._stock = sum(self._board.live.values())
        done()

    @property
    def published(self) -> list[str]:
        """Names of the days whose places are published."""
        return sorted(self._published)

    # -- the day -------------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Count places and requests every second or so, as a coordinator's page would; until cancelled."""
        while True:
            began = time.perf_counter()
            await self._try(self.count)
            # counting all of France takes longer: it must not be what the service is busy with
            await asyncio.sleep(1.0 + 9 * (time.perf_counter() - began))

    async def count(self) -> None:
        """Count places and requests once."""
        answer = await self._desks.coordinator.overview(None)
        board = self._board
        board.live = Counter({name: sum(modes.values()) for name, modes in answer["places"].items()})
        board.states = Counter()
        for statuses in answer["requests"].values():
            board.states.update(statuses)

    async def run(self) -> None:
        """Play until cancelled."""
        self._stock = sum(self._board.live.values())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._regulate(group))
            group.create_task(self._listen_as_regulator())
            group.create_task(self._listen_as_practice(group))
            group.create_task(self._every(5.0, self._publish_more))
            group.create_task(self._every(14.0, self._withdraw_one))
            group.create_task(self._every(20.0, self._tell_outcomes))

    async def _try(self, step: Callable[[], Awaitable[object]]) -> None:
        """Do a step; a refusal or a service that is away is part of the show, not its end."""
        try:
            await step()
        except ApiError as refused:
            if refused.status in (404, 409):
                self._board.done["devancées"] += 1  # somebody was faster: the patient, the practice, the clock
            else:
                self._board.done["refus du service"] += 1
                self._board.say("refus", refused.code, refused.detail)
        except ClientError as away:
            self._board.done["sans réponse"] += 1
            self._board.say("coupure", "le service ne répond pas", str(away))

    async def _every(self, seconds: float, step: Callable[[], Awaitable[object]]) -> None:
        while True:
            await self._pause(0.7 * seconds, 1.3 * seconds)
            await self._try(step)

    async def _pause(self, low: float, high: float) -> None:
        await asyncio.sleep(float(self._rng.uniform(low, high)) / self._tempo)

    def _about(self, request: Request) -> str:
        town = self._town.get(str(request.raw.get("insee")), "")
        return f"{request.tier} {request.profession} {town}".rstrip()

    # -- regulators and patients ---------------------------------------------------------------------------------

    async def _regulate(self, group: asyncio.TaskGroup) -> None:
        """Take the requests of the virtual day one after the other."""
        today = self._now().astimezone(self._zone).date()
        for scene in scenes(self._world, today, self._zone.key, self._rng):
            await asyncio.sleep(scene.after_s / self._speed)
            self._board.virtual = f"{scene.virtual.astimezone(self._zone):%H h %M}"
            await self._in_hand.acquire()
            group.create_task(self._one(scene.body))

    async def _one(self, wish: Json) -> None:
        try:
            await self._try(lambda: self._ask(wish))
        finally:
            self._in_hand.release()

    async def _ask(self, wish: Json) -> None:
        began = time.perf_counter()
        request = await self._desks.regulator.create_request(wish)
        self._board.answers_ms.append(1000 * (time.perf_counter() - began))
        self._board.done["demandes"] += 1
        self._board.decided(request, self._about(request))
        if request.status == "held":
            await self._answer(request)
        elif request.status != "promised":  # what was promised is told in time, unasked
            await self._wait_for_a_place(request)

    async def _answer(self, request: Request, *, may_decline: bool = True) -> None:
        """Read the place out to the patient and say what he says."""
        await self._pause(1.0, 4.0)
        regulator, board, about = self._desks.regulator, self._board, self._about(request)
        booking_id = None if request.booking is None else request.booking.booking_id
        draw = float(self._rng.random())
        if draw < CONFIRMED or not may_decline:
            await regulator.confirm(request.request_id, booking_id=booking_id)
            board.done["confirmées"] += 1
            board.say("confirmée", about)
            if float(self._rng.random()) < PATIENT_CANCELS:
                await self._pause(8.0, 30.0)
                await regulator.cancel(request.request_id, reason="patient")
                board.done["annulées par le patient"] += 1
                board.say("annulée", about, "le patient ne vient plus, la place est rendue")
        elif draw < CONFIRMED + DECLINED:
            declined = await regulator.decline(request.request_id, booking_id=booking_id)
            board.done["déclinées"] += 1
            board.say("déclinée", about, "une autre place est cherchée")
            other = await self._next(declined)
            board.decided(other, about)
            if other.status == "held":
                await self._answer(other, may_decline=False)
        elif draw < CONFIRMED + DECLINED + CANCELLED:
            await regulator.cancel(request.request_id, reason="other_solution")
            board.done["annulées"] += 1
            board.say("annulée", about, "une autre solution a été trouvée")

    async def _next(self, request: Request) -> Request:
        """Return the request once it is decided again."""
        future: asyncio.Future[Request] = asyncio.get_running_loop().create_future()
        self._awaited[request.request_id] = (request.version, future)
        try:
            async with asyncio.timeout(3):
                return await future
        except TimeoutError:
            return await self._desks.regulator.request(request.request_id)
        finally:
            del self._awaited[request.request_id]

    async def _wait_for_a_place(self, request: Request) -> None:
        """Leave the request open for a while: a place may become free. Then the patient is helped otherwise."""
        await self._pause(30.0, 60.0)
        now = await self._desks.regulator.request(request.request_id)
        if now.status == "held":
            self._board.say("trouvée", self._about(now), now.decision.sentence if now.decision else "")
            await self._answer(now)
        elif now.status in ("waiting", "lapsed"):
            await self._desks.regulator.cancel(now.request_id, reason="other_solution")
            self._board.done["orientées ailleurs"] += 1
            self._board.say("orientée", self._about(now), "pas de place à temps, une autre solution est cherchée")

    async def _listen_as_regulator(self) -> None:
        """Hand decisions to those who wait for them, and tell what nobody asked for."""
        async for item in self._desks.regulator.events():
            if isinstance(item, Gap):
                self._board.say("reprise", "flux d'événements", item.reason)
                continue
            request = item.request
            if request is None:
                continue
            version, future = self._awaited.get(item.aggregate, (0, None))
            if future is not None and not future.done() and item.version > version:
                future.set_result(request)
            if item.name in PROMISE_NEWS:
                word, sentence = PROMISE_NEWS[item.name], request.decision.sentence if request.decision else ""
                self._board.say(word, self._about(request), sentence)
            if item.name == "request.lapsed":
                self._board.done["gardes expirées"] += 1
                self._board.say("expirée", self._about(request), "personne n'a confirmé à temps, la place est rendue")

    # -- practices -----------------------------------------------------------------------------------------------

    async def _listen_as_practice(self, group: asyncio.TaskGroup) -> None:
        """Refuse a booking now and then."""
        async for item in self._desks.practice.events():
            if isinstance(item, Event) and item.name == "booking.firm":
                self._board.done["réservations reçues"] += 1
                if float(self._rng.random()) < PRACTICE_REFUSES:
                    group.create_task(self._try(lambda booking_id=item.aggregate: self._refuse(booking_id)))  # type: ignore[misc]

    async def _refuse(self, booking_id: str) -> None:
        await self._pause(4.0, 10.0)
        booking = await self._desks.practice.refuse(booking_id, reason="overbooked")
        self._board.done["refusées par le cabinet"] += 1
        self._board.say("refusée", f"{booking.profession} {booking.start:%H h %M}", "la demande repart aussitôt")

    async def _publish_more(self) -> None:
        """Open places: a few as practices do in the course of a day, more when they run low, and new days."""
        if not self._to_open and self.plan_places(()):  # midnight has passed
            await self.open_places()
        live = sum(self._board.live.values())
        count = int(self._rng.integers(1, 4)) + max(0, min(200, round(STOCK * self._stock) - live))
        for day in self.days():
            self._draws += 1
            slots = more_places(self._world, day, self._now(), self._run, self._draws, self._rng, count)
            if slots:
                outcomes = await self._desks.practice.publish_slots(slots)
                self._free += [slot["external_id"] for slot in slots]
                self._board.done["places publiées"] += outcomes.counts.get("created", 0)
                where = self._town.get(slots[0]["location"]["insee"], "")
                text = where if len(slots) == 1 else f"{where} et ailleurs"
                self._board.say("publiées", f"{len(slots)} place{'s' if len(slots) > 1 else ''}", text)
                return

    async def _withdraw_one(self) -> None:
        if not self._free:
            return
        name = self._free.pop(int(self._rng.integers(len(self._free))))
        outcomes = await self._desks.practice.withdraw_slots([name], reason="practice")
        if outcomes.counts.get("withdrawn"):
            self._board.done["places retirées"] += 1
            town = self._town.get(name.split("-")[1], "")
            self._board.say("retirée", f"1 place {town}".rstrip(), "le cabinet en a besoin")

    async def _tell_outcomes(self) -> None:
        """Say of bookings that have started whether the patient came."""
        now = self._now()
        for booking in await self._desks.practice.bookings(now - timedelta(hours=3), now):
            if booking.state == "firm" and booking.start <= now:
                word = "noshow" if float(self._rng.random()) < NO_SHOW else "fulfilled"
                await self._desks.practice.outcome(booking.booking_id, word)
                self._board.done["patients venus" if word == "fulfilled" else "patients absents"] += 1
