"""What regulators, practices, dashboards and whoever watches editors do: only HTTP and websockets, as others would.

Calls come to a regulation desk at instants planned beforehand, whatever became of the calls before; latency counts
from the planned instant to the push on the websocket, so that a service that stands still is charged for everyone who
should have been served meanwhile.
"""

import random
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from typing import ClassVar, Final
from urllib.parse import parse_qs, urlsplit

import gevent
import requests
from gevent.pool import Group
from gevent.queue import Empty, Queue
from locust import task
from locust.contrib.fasthttp import FastHttpUser

from loadtests import clock
from loadtests.audit import Place, says_mute
from loadtests.population import Json, Professional
from loadtests.scenarios import OPENED_LATE, OUTAGE_SHARE, ZONE_SPAN, within
from loadtests.world import DECIDED, World, bearer, shared_out

PUSH_S: Final = 10.0
"""A decision that is not there by then is a failure: people would have dialled elsewhere."""
PATIENT_S: Final = 60.0
"""The same while servers are being killed: the longest of the bars is 30 s."""
THINK_S: Final = (0.5, 3.0)
"""Guess: reading the place out to the caller."""
HANG_UP, DECLINE, SECOND_THOUGHTS = 0.06, 0.12, 0.05
"""Guess: callers who hang up whatever they are offered, who do not want this place, who cancel after all."""
REFUSE: Final = 0.04
"""Guess: bookings that a practice refuses."""
WITHDRAW_S: Final = 40.0
"""Guess: mean time between two withdrawals of a group of practices."""
LOOK_S: Final = 2.0
"""A dashboard reads its counts every two seconds."""
EDITOR_S: Final = 4.0
"""How long a regulator waits for an editor's booking page."""
PROFESSIONAL_PLACES: Final = 1.5
"""Places of a professional: one to two a day for the SAS (D: 14 000 professionals, 14 000 to 28 000 places)."""
BULK: Final = 500
ZONE_SHARE: Final = 5
"""One desk of five works for the zone of S5."""


class _Shared:
    """The world of this process; one Locust process, one world."""

    world: ClassVar[World | None] = None


def world() -> World:
    """Return what the users share."""
    if _Shared.world is None:
        raise RuntimeError("The test has not started.")
    return _Shared.world


def begin_world(made: World) -> None:
    """Give the users what they share."""
    _Shared.world = made


class Person(FastHttpUser):
    """What everybody has in common."""

    abstract = True
    concurrency = 200  # calls of one desk overlap
    network_timeout = connection_timeout = 30.0
    key = ""

    def on_start(self) -> None:
        """Take a chance of one's own."""
        self.world = world()
        self.rng = random.Random(self.world.rng.random())

    def post(self, path: str, body: Json, name: str, fine: tuple[int, ...] = (200, 201)) -> tuple[int, Json]:
        """Post with a new Idempotency-Key; a status that is not fine is a failure.

        A clear refusal (429 or 503 that says when to come again) is obeyed: the caller pays for it with his latency.
        While servers are being killed, a break is repeated with the same key: who has no answer does not know.
        """
        headers = {**bearer(self.key), "Idempotency-Key": str(uuid.UUID(int=self.rng.getrandbits(128)))}
        until, lost = time.time() + PATIENT_S, 0
        while True:
            with self.client.post(path, json=body, headers=headers, name=name, catch_response=True) as answer:
                status = int(answer.status_code or 0)
                if status in fine:
                    answer.success()
                    document: Json = answer.json()
                    return status, document
                wait = clock.told_to_wait(status, answer.headers)
                # an idle connection may close under a call: nobody knows what became of it, and it is sent once more
                lost += status == 0
                broken = (status == 0 and lost == 1) or (
                    self.world.plan.patient and status in (0, 409, 429, 500, 502, 503, 504)
                )
                if time.time() > until or not (broken or wait):
                    answer.failure(f"{status} {(answer.text or '')[:200]}")
                    return status, {}
                answer.success()
                self.world.refused += bool(wait)
                self.world.repeated += 1
            gevent.sleep(wait or 0.2)


class Regulator(Person):
    """A desk: asks, reads the place out, confirms, declines, or loses the caller. Calls may overlap."""

    def on_start(self) -> None:
        """Open the websocket, plan the calls."""
        super().on_start()
        plan, number = self.world.plan, next(self.world.numbers["desk"])
        desks = len(plan.regulators)
        self.key = plan.regulators[number % desks]
        self.territories = shared_out(self.world.territories, number, desks)
        zone = number < max(1, desks // ZONE_SHARE)
        self.planned = self.world.surge.calls(self.rng, 1 / desks, zone=zone)[::-1]
        self.inbox: dict[str, Queue[tuple[float, Json]]] = {}
        self.calls = Group()
        self.socket = self.world.follow(self.key, self._hear)

    def on_stop(self) -> None:
        """Hang up."""
        self.calls.kill()
        self.socket.close()

    def _hear(self, message: Json) -> None:
        box = self.inbox.get(message["data"].get("case_ref") or "")
        if box is not None:
            box.put((time.time(), message["data"]))

    @task
    def take_calls(self) -> None:
        """Take the next call at its planned instant."""
        self.world.opened.get()
        if not self.planned:
            gevent.sleep(1.0)
            return
        instant = self.world.began + self.planned.pop()
        gevent.sleep(max(0.0, instant - time.time()))
        self.calls.spawn(self._call, instant)

    def _call(self, planned: float) -> None:
        """Serve one caller."""
        case = f"charge-{uuid.UUID(int=self.rng.getrandbits(128))}"
        box = self.inbox[case] = Queue()
        try:
            wish = self.world.population.request(self.rng, case, self.territories)
            status, document = self.post("/v1/requests", wish, "POST /v1/requests", (201, 202))
            if status not in (201, 202):
                return
            self.world.asked[document["request_id"]] = document["tier"]
            longest = PATIENT_S if self.world.plan.patient else PUSH_S
            decided = self._await(box, longest, lambda d: d["decision"] is not None)
            if decided is None:
                self.world.measured(DECIDED, time.time() - planned, TimeoutError("no push"))
                return
            at, document = decided
            self.world.answered += 1
            self.world.measured(DECIDED, at - planned)
            self._talk(box, document)
        finally:
            del self.inbox[case]

    def _await(
        self, box: "Queue[tuple[float, Json]]", seconds: float, wanted: Callable[[Json], bool]
    ) -> tuple[float, Json] | None:
        """Wait for a document that is wanted; None when it does not come."""
        deadline = time.time() + seconds
        while (left := deadline - time.time()) > 0:
            try:
                at, document = box.get(timeout=left)
            except Empty:
                break
            if wanted(document):
                return at, document
        return None

    def _talk(self, box: "Queue[tuple[float, Json]]", document: Json) -> None:
        """Bring a call to its end; who has no place is called back when one comes."""
        if self.rng.random() < HANG_UP:
            gevent.sleep(self.rng.uniform(*THINK_S))
            self._cancel(document["request_id"], "hung_up")
            return
        declines = 2
        while True:
            if document["status"] == "held":
                self.world.note_hold(document)
                gevent.sleep(self.rng.uniform(*THINK_S))
                if document["booking"].get("link"):
                    self._book_at_editor(document)
                elif declines and self.rng.random() < DECLINE:
                    declines -= 1
                    self._decline(document, self.rng.choice(("slot", "professional")))
                elif self._confirm(document) and self.rng.random() < SECOND_THOUGHTS:
                    gevent.sleep(self.rng.uniform(*THINK_S))
                    self._cancel(document["request_id"], "patient")
                    return
            version = int(document["version"])
            found = self._await(box, 3600.0, lambda d: int(d["version"]) > version)  # noqa: B023 - used at once
            if found is None:
                return
            document = found[1]

    def _decline(self, document: Json, scope: str) -> None:
        """Give a place back; the next one, if there is, is pushed."""
        booking_id, request_id = document["booking"]["booking_id"], document["request_id"]
        self.world.audit.booking_ends(booking_id, time.time())
        body = {"booking_id": booking_id, "scope": scope}
        self.post(f"/v1/requests/{request_id}/decline", body, "POST …/decline", (200, 409))

    def _book_at_editor(self, document: Json) -> None:
        """Book on the editor's page, as its link says; confirm only what was booked there."""
        link = document["booking"]["link"]
        place = parse_qs(urlsplit(link).query).get("creneau", [""])[0]
        try:
            answer = requests.post(link.partition("?")[0], json={"creneau": place}, timeout=EDITOR_S)
            status = answer.status_code
        except requests.RequestException:
            status = 0  # it hangs: the place may be good, but not for this caller
        if status == 201:
            self.world.booked_elsewhere.add(document["booking"]["slot_id"])
            self._confirm(document)
        else:
            self._decline(document, "gone" if status == 409 else "slot")

    def _confirm(self, document: Json) -> bool:
        """Confirm the hold; True when the place is firm."""
        booking, request_id = document["booking"], document["request_id"]
        path = f"/v1/requests/{request_id}/confirm"
        # 409: the practice withdrew the place meanwhile, or the hold ran out
        status, firm = self.post(path, {"booking_id": booking["booking_id"]}, "POST …/confirm", (200, 409))
        if status != 200 or firm["status"] != "firm":
            return False
        now = time.time()
        self.world.audit.confirmed(booking["booking_id"], request_id, booking["slot_id"], firm["version"], now)
        self.world.note_firm(firm)
        return True

    def _cancel(self, request_id: str, reason: str) -> None:
        self.world.audit.request_ends(request_id, time.time())
        self.post(f"/v1/requests/{request_id}/cancel", {"reason": reason}, "POST …/cancel", (200, 409))


class Practice(Person):
    """A group of practices: publishes a day and bursts, takes places back, refuses a booking now and then."""

    def on_start(self) -> None:
        """Publish the day."""
        super().on_start()
        here = self.world
        self.key, self.number = here.plan.practice, next(here.numbers["practice"])
        self.territories = shared_out(here.territories, self.number, self.groups())
        whole = max(1, here.surge.places // self.groups())
        self.staff = self._staff(max(2, round(whole / PROFESSIONAL_PLACES)))
        self.late, first = round(whole * OPENED_LATE), round(whole * (1 - OPENED_LATE))
        self.name = f"charge-{self.rng.getrandbits(48):012x}"
        self.open: dict[str, tuple[int, Json]] = {}
        self.busy: dict[str, set[int]] = defaultdict(set)
        self.inbox: Queue[Json] = Queue()
        self.work = Group()
        here.bookings[self.name] = self.inbox.put
        self.away = here.story.fault == "editor" and self.number < max(1, round(OUTAGE_SHARE * self.groups()))
        self.went = self.closed = False
        try:
            for start in range(0, first, BULK):
                self.publish(min(BULK, first - start))
        finally:
            here.practice_opened()

    @classmethod
    def groups(cls) -> int:
        """How many groups there are in all."""
        return int(cls.fixed_count)

    def _staff(self, people: int) -> list[Professional]:
        staff: list[Professional] = []
        while len(staff) < people:
            size = self.rng.randint(1, 6)
            staff += self.world.population.practice(self.rng, self.number, size, self.territories, len(staff))
        return staff

    def publish(self, count: int) -> None:
        """Publish a burst."""
        now = clock.utc()
        slots = []
        for _ in range(count):
            person, name = self.rng.choice(self.staff), f"{self.name}-{self.rng.getrandbits(40):010x}"
            slots.append(self.world.population.slot(person, self.rng, name, now, self.busy[person.rpps]))
        places = {item["external_id"]: item for item in slots}
        status, answer = self.post("/v1/slots", {"slots": slots}, "POST /v1/slots")
        if status != 200:
            return
        for result in answer["results"]:
            item = places[result["external_id"]]
            start, end = (datetime.fromisoformat(item[name]).timestamp() for name in ("start", "end"))
            place = Place(item["capacity"], item["professional"]["rpps"], start, end)
            self.world.audit.published(result["slot_id"], place)
            self.open[item["external_id"]] = result["slot_id"], item

    def _pause(self, mean: float) -> None:
        gevent.sleep(self.rng.expovariate(1 / mean))

    @task
    def day(self) -> None:
        """Do the group's work side by side, until the end."""
        self.world.opened.get()
        for work in (self._bursts, self._withdrawals, self._bookings, self._faults):
            self.work.spawn(work)
        self.work.join()
        gevent.sleep(3600)

    def on_stop(self) -> None:
        """Go home."""
        self.work.kill()

    def _bursts(self) -> None:
        """Publish the late places through the run: somebody cancelled, a colleague came back."""
        while self.late > 0 and not self.world.over:
            burst = min(self.late, self.rng.randint(1, 12))
            # on average the bursts end with the run
            self._pause(max(0.05, (self.world.plan.seconds - self.world.at) * burst / max(burst, self.late)))
            if not (self.away and self.world.outage) and not self.closed:
                self.late -= burst
                self.publish(burst)

    def _withdrawals(self) -> None:
        """Withdraw a few places now and then, booked or not."""
        while not self.world.over:
            self._pause(WITHDRAW_S)
            self.take_back(self.rng.sample(sorted(self.open), min(2, len(self.open))))

    def take_back(self, names: list[str]) -> None:
        """Withdraw some places."""
        for name in names:
            self.world.audit.slot_ends(self.open.pop(name)[0], time.time())
        for start in range(0, len(names), BULK):
            self.post("/v1/slots/withdraw", {"external_ids": names[start : start + BULK]}, "POST /v1/slots/withdraw")

    def _bookings(self) -> None:
        """Look at the bookings that come: a few are refused; all of them on places that are stale."""
        while True:
            booking = self.inbox.get()
            if booking["external_id"] not in self.open:
                continue
            if self.away and self.went and self.world.outage:
                self.work.spawn(self._refuse, booking, self.rng.uniform(*THINK_S))
            elif self.rng.random() < REFUSE:
                self.work.spawn(self._refuse, booking, self.rng.uniform(1, 10))

    def _refuse(self, booking: Json, after: float) -> None:
        gevent.sleep(after)
        self.world.audit.booking_ends(booking["booking_id"], time.time())
        self.world.audit.slot_ends(booking["slot_id"], time.time())
        path = f"/v1/bookings/{booking['booking_id']}/refuse"
        self.post(path, {"reason": "practice"}, "POST …/refuse", (200, 409))

    def _faults(self) -> None:
        """Play what the story has in store for practices: an editor that goes away, a zone that is closed."""
        here = self.world
        zone = here.story.fault == "zone" and self.number < max(1, self.groups() // ZONE_SHARE)
        while not here.over:
            gevent.sleep(0.5)
            if self.away and here.outage and not self.went:
                self.went = True  # half of its places vanish, the others stay shown and are refused
                self.take_back(self.rng.sample(sorted(self.open), len(self.open) // 2))
            if zone and within(ZONE_SPAN, here.at, here.plan.seconds) != self.closed:
                self.closed = not self.closed
                if self.closed:
                    self.shut = len(self.open)
                    self.take_back(sorted(self.open))
                else:
                    self.publish(max(1, min(BULK, self.shut)))


class Dashboard(Person):
    """Somebody who pilots: reads the counts, follows what changes."""

    def on_start(self) -> None:
        """Open the websocket."""
        super().on_start()
        self.key = self.world.plan.coordinator
        self.socket = self.world.follow(self.key, lambda _: None)

    def on_stop(self) -> None:
        """Hang up."""
        self.socket.close()

    @task
    def look(self) -> None:
        """Read the counts."""
        gevent.sleep(LOOK_S)
        with self.client.get(
            "/v1/overview", headers=bearer(self.key), name="GET /v1/overview", catch_response=True
        ) as answer:
            if answer.status_code == 200 or self.world.plan.patient:
                answer.success()


class EditorWatch(Person):
    """Somebody who looks whether it is told that an editor is mute."""

    def on_start(self) -> None:
        """Take the coordinator's key."""
        super().on_start()
        self.key = self.world.plan.coordinator

    @task
    def look(self) -> None:
        """Read how the editors do."""
        gevent.sleep(LOOK_S)
        with self.client.get(
            "/v1/editors", headers=bearer(self.key), name="GET /v1/editors", catch_response=True
        ) as answer:
            if answer.status_code == 200 or self.world.plan.patient:
                answer.success()
            if answer.status_code == 200:
                self.world.mute_told = self.world.mute_told or says_mute(answer.json())
