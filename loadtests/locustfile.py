"""What regulators and practices do, for Locust: only HTTP and websockets, as any software outside would speak.

Callers come to a regulation desk at instants planned beforehand, whatever became of the callers before; latency counts
from the planned instant to the push on the websocket, so that a service that stands still is charged for everyone who
should have been served meanwhile. An auditor reads every
event of the keys in use and keeps books (``loadtests.audit``); at the end the run fails when a seat was given twice or
a confirmation was lost.

Environment: ``SAS_KEY_REGULATOR`` and ``SAS_KEY_PRACTICE`` (several keys each, separated by commas),
``SAS_LOAD_TERRITORIES`` (départements, 69,38,42), ``SAS_LOAD_SEED``. Run by ``python -m loadtests``, or alone:
``locust -f loadtests/locustfile.py --host http://127.0.0.1:8069``.
"""

import itertools
import os
import random
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from urllib.parse import quote

import gevent
import requests
from gevent.pool import Group
from gevent.queue import Empty, Queue
from locust import HttpUser, events, task
from locust.env import Environment

from loadtests.audit import Audit, Place
from loadtests.hosts import refuse_foreign
from loadtests.population import Json, Population, Professional, read_population, slot
from loadtests.sockets import Socket

PUSH_S: Final = 10.0
"""A decision that is not there by then is a failure: people would have dialled elsewhere."""
PATIENCE_S: Final = (3.0, 12.0)
"""Guess: how long a regulator lets a request without a place wait before giving it up."""
THINK_S: Final = (0.5, 3.0)
"""Guess: reading the place out to the caller."""
PAUSE_S: Final = 5.0
"""Guess: mean time between two calls of one desk."""
LAST_CALLS_S: Final = 3.0
HANG_UP, DECLINE, SECOND_THOUGHTS = 0.06, 0.12, 0.05
"""Guess: callers who hang up, who do not want this place, who cancel after all."""
REFUSE: Final = 0.04
"""Guess: bookings that a practice refuses."""
SETTLE_S: Final = 3.0
"""For the last events to arrive before the books are closed."""


class World:
    """What the users of one run share."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.url = str(environment.host).rstrip("/")
        self.regulators = _listed("SAS_KEY_REGULATOR")
        self.practices = _listed("SAS_KEY_PRACTICE")
        self.rng = random.Random(int(os.environ.get("SAS_LOAD_SEED", "1")))
        self.numbers = itertools.count()
        self.audit = Audit()
        territories = os.environ.get("SAS_LOAD_TERRITORIES", "69,38,42").split(",")
        self.population: Population = read_population(self._get, territories)
        # the auditor's own sockets: they are open before the first user acts and read every event of every key
        self.watchers = [self.follow(key, self._witness) for key in {*self.regulators, *self.practices}]

    def _get(self, path: str) -> Json:
        answer = requests.get(self.url + path, headers=bearer(self.regulators[0]), timeout=10)
        answer.raise_for_status()
        document: Json = answer.json()
        return document

    def follow(self, key: str, hear: Callable[[Json], None]) -> Socket:
        """Open a websocket for a key."""

        def ticket() -> str:
            answer = requests.post(self.url + "/v1/ws-tickets", json={}, headers=bearer(key), timeout=10)
            answer.raise_for_status()
            return str(answer.json()["ticket"])

        return Socket(self.url, ticket, hear)

    def _witness(self, message: Json) -> None:
        """Write an event into the books."""
        self.audit.event(message["aggregate"], message["version"])
        document = message["data"]
        if message["event"] == "request.held":
            self.note_hold(document)

    def note_hold(self, document: Json) -> None:
        """Write a held seat into the books."""
        booking = document.get("booking")
        if booking is not None and booking["state"] == "held":
            until = datetime.fromisoformat(booking["hold_until"]).timestamp()
            self.audit.held(booking["booking_id"], document["request_id"], booking["slot_id"], time.time(), until)

    def measured(self, name: str, seconds: float, failure: Exception | None = None) -> None:
        """Count a latency that Locust cannot see."""
        self.environment.events.request.fire(  # type: ignore[no-untyped-call]  # Locust's hooks are not annotated
            request_type="WS",
            name=name,
            response_time=seconds * 1000,
            response_length=0,
            exception=failure,
            context={},
        )

    def documents(self) -> dict[str, Json]:
        """Read the requests of all promises from the service."""
        found: dict[str, Json] = {}
        wanted = set(self.audit.promises.values())
        for key in self.regulators:
            before = ""
            while wanted - found.keys():
                query = f"?limit=200&before={quote(before)}" if before else "?limit=200"
                answer = requests.get(self.url + "/v1/requests" + query, headers=bearer(key), timeout=30)
                if answer.status_code == 429:
                    gevent.sleep(float(answer.headers.get("retry-after", "1")))
                    continue
                answer.raise_for_status()
                page = answer.json()["requests"]
                found |= {document["request_id"]: document for document in page}
                if len(page) < 200 or page[-1]["created_at"] == before:
                    break
                before = page[-1]["created_at"]
        return found


class _Shared:
    """The world of this process; one Locust process, one world."""

    world: ClassVar[World | None] = None


def world() -> World:
    """Return what the users share."""
    if _Shared.world is None:
        raise RuntimeError("The test has not started.")
    return _Shared.world


def _listed(name: str) -> list[str]:
    keys = [key for key in os.environ.get(name, "").split(",") if key]
    if not keys:
        raise SystemExit(f"Il manque {name} (voir sas-matcher keys issue).")
    return keys


def bearer(key: str) -> dict[str, str]:
    """Return the header of a key."""
    return {"Authorization": f"Bearer {key}"}


class Person(HttpUser):
    """What regulators and practices have in common."""

    abstract = True

    def on_start(self) -> None:
        """Take a key and a chance of one's own."""
        self.world = world()
        self.number = next(self.world.numbers)
        self.rng = random.Random(self.world.rng.random())

    def post(self, path: str, body: Json, name: str, fine: tuple[int, ...] = (200, 201)) -> tuple[int, Json]:
        """Post with a new Idempotency-Key; a status that is not fine is a failure."""
        headers = {**bearer(self.key), "Idempotency-Key": str(uuid.UUID(int=self.rng.getrandbits(128)))}
        with self.client.post(path, json=body, headers=headers, name=name, catch_response=True) as answer:
            status = int(answer.status_code or 0)
            if status in fine:
                answer.success()
            else:
                answer.failure(f"{status} {(answer.text or '')[:200]}")
                return status, {}
            document: Json = answer.json()
            return status, document

    key = ""


class Regulator(Person):
    """A desk: asks, reads the place out, confirms, declines, or loses the caller. Calls may overlap."""

    weight = 4

    def on_start(self) -> None:
        """Open the websocket."""
        super().on_start()
        self.key = self.world.regulators[self.number % len(self.world.regulators)]
        self.inbox: dict[str, Queue[tuple[float, Json]]] = {}
        self.calls = Group()
        self.socket = self.world.follow(self.key, self._hear)
        self.planned = time.time() + self.rng.uniform(0, PAUSE_S)

    def on_stop(self) -> None:
        """Let the calls come to their ends for a moment, hang up."""
        self.calls.join(timeout=LAST_CALLS_S)
        self.calls.kill()
        self.socket.close()

    def _hear(self, message: Json) -> None:
        box = self.inbox.get(message["data"].get("case_ref") or "")
        if box is not None:
            box.put((time.time(), message["data"]))

    @task
    def wait(self) -> None:
        """Take the next call at its planned instant."""
        gevent.sleep(max(0.0, self.planned - time.time()))
        self.calls.spawn(self._call, self.planned)
        self.planned += self.rng.expovariate(1 / PAUSE_S)

    def _call(self, planned: float) -> None:
        """Serve one caller."""
        case = f"charge-{uuid.UUID(int=self.rng.getrandbits(128))}"
        box = self.inbox[case] = Queue()
        try:
            status, document = self.post(
                "/v1/requests", self.world.population.request(self.rng, case), "POST /v1/requests", (201, 202)
            )
            if status not in (201, 202):
                return
            decided = self._await(box, PUSH_S, lambda d: d["decision"] is not None)
            if decided is None:
                self.world.measured("demande → décision poussée", PUSH_S, TimeoutError("no push"))
                return
            at, document = decided
            self.world.measured("demande → décision poussée", at - planned)
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
        """Bring one call to its end."""
        for _ in range(3):
            if document["status"] != "held":
                found = self._await(box, self.rng.uniform(*PATIENCE_S), lambda d: d["status"] == "held")
                if found is None:
                    break
                document = found[1]
            self.world.note_hold(document)
            gevent.sleep(self.rng.uniform(*THINK_S))
            luck = self.rng.random()
            if luck < HANG_UP:
                break
            if luck > HANG_UP + DECLINE:
                self._confirm(document)
                return
            following = self._decline(box, document)
            if following is None:
                break
            document = following
        self._cancel(document["request_id"], "hung_up")

    def _decline(self, box: "Queue[tuple[float, Json]]", document: Json) -> Json | None:
        """Decline the place; returns the next decision."""
        booking_id, request_id = document["booking"]["booking_id"], document["request_id"]
        self.world.audit.booking_ends(booking_id, time.time())
        body = {"booking_id": booking_id, "scope": self.rng.choice(("slot", "professional"))}
        asked = time.time()
        status, _ = self.post(f"/v1/requests/{request_id}/decline", body, "POST …/decline", (200, 409))
        if status != 200:
            return None

        def next_one(d: Json) -> bool:
            other = (d["booking"] or {}).get("booking_id") != booking_id
            return other and int(d["version"]) > int(document["version"])

        found = self._await(box, PUSH_S, lambda d: next_one(d) and d["status"] == "held")
        if found is None:
            return None
        self.world.measured("refus de l'appelant → place suivante", found[0] - asked)
        return found[1]

    def _confirm(self, document: Json) -> None:
        """Confirm the hold; now and then the caller changes his mind."""
        booking, request_id = document["booking"], document["request_id"]
        path = f"/v1/requests/{request_id}/confirm"
        # 409: the practice withdrew the place meanwhile, or the hold ran out
        status, firm = self.post(path, {"booking_id": booking["booking_id"]}, "POST …/confirm", (200, 409))
        if status != 200 or firm["status"] != "firm":
            return
        now = time.time()
        self.world.audit.confirmed(booking["booking_id"], request_id, booking["slot_id"], firm["version"], now)
        if self.rng.random() < SECOND_THOUGHTS:
            gevent.sleep(self.rng.uniform(*THINK_S))
            self._cancel(request_id, "patient")

    def _cancel(self, request_id: str, reason: str) -> None:
        self.world.audit.request_ends(request_id, time.time())
        self.post(f"/v1/requests/{request_id}/cancel", {"reason": reason}, "POST …/cancel", (200, 409))


class Practice(Person):
    """Publishes bursts, takes places back, refuses a booking now and then."""

    weight = 1

    def on_start(self) -> None:
        """Open the websocket and publish the day."""
        super().on_start()
        self.key = self.world.practices[self.number % len(self.world.practices)]
        self.staff: list[Professional] = self.world.population.practice(self.rng, self.number, self.rng.randint(2, 6))
        self.name = f"charge-{self.rng.getrandbits(48):012x}"
        self.open: dict[str, int] = {}
        self.bookings: Queue[Json] = Queue()
        self.socket = self.world.follow(self.key, self._hear)
        self.publish(30)

    def on_stop(self) -> None:
        """Hang up."""
        self.socket.close()

    def _hear(self, message: Json) -> None:
        if message["event"] == "booking.firm" and message["data"]["external_id"] in self.open:
            self.bookings.put(message["data"])

    def publish(self, count: int) -> None:
        """Publish a burst."""
        now = datetime.now(UTC)
        slots = [
            slot(self.rng.choice(self.staff), self.rng, f"{self.name}-{self.rng.getrandbits(40):010x}", now)
            for _ in range(count)
        ]
        places = {item["external_id"]: item for item in slots}
        status, answer = self.post("/v1/slots", {"slots": slots}, "POST /v1/slots")
        if status != 200:
            return
        for result in answer["results"]:
            item = places[result["external_id"]]
            start, end = (datetime.fromisoformat(item[name]).timestamp() for name in ("start", "end"))
            place = Place(item["capacity"], item["professional"]["rpps"], start, end)
            self.world.audit.published(result["slot_id"], place)
            self.open[item["external_id"]] = result["slot_id"]

    @task(4)
    def burst(self) -> None:
        """Publish some places after a while: somebody cancelled, a colleague came back."""
        gevent.sleep(self.rng.expovariate(1 / PAUSE_S))
        self.publish(self.rng.randint(1, 12))

    @task(1)
    def take_back(self) -> None:
        """Withdraw a few places, booked or not."""
        gevent.sleep(self.rng.expovariate(1 / PAUSE_S))
        names = self.rng.sample(sorted(self.open), min(3, len(self.open)))
        for name in names:
            self.world.audit.slot_ends(self.open.pop(name), time.time())
        if names:
            self.post("/v1/slots/withdraw", {"external_ids": names}, "POST /v1/slots/withdraw")

    @task(2)
    def look_at_bookings(self) -> None:
        """Answer the bookings that came: a few are refused."""
        try:
            booking = self.bookings.get(timeout=self.rng.expovariate(1 / PAUSE_S))
        except Empty:
            return
        if self.rng.random() < REFUSE:
            self.world.audit.booking_ends(booking["booking_id"], time.time())
            self.world.audit.slot_ends(booking["slot_id"], time.time())
            path = f"/v1/bookings/{booking['booking_id']}/refuse"
            self.post(path, {"reason": "practice"}, "POST …/refuse", (200, 409))


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def begin(environment: Environment, **_: Any) -> None:
    """Build the population, open the books."""
    refuse_foreign(str(environment.host))
    try:
        _Shared.world = World(environment)
    except (OSError, LookupError, gevent.Timeout) as failed:
        raise SystemExit(f"Le service ne répond pas comme il faut à {environment.host} : {failed}") from failed


@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def close_the_books(environment: Environment, **_: Any) -> None:
    """Let the last events arrive, read the promises back, say what is wrong."""
    here = _Shared.world
    if here is None:  # it never began, and has said why
        return
    gevent.sleep(SETTLE_S)
    wrong = here.audit.doubles() + here.audit.lost(here.documents())
    gaps = sum(watcher.gaps for watcher in here.watchers)
    if gaps:
        print(f"Audit : {gaps} trou(s) annoncé(s) par le service ; les événements ne sont pas tous vérifiables.")  # noqa: T201
    else:
        wrong += here.audit.unheard()
    for watcher in here.watchers:
        watcher.close()
    watched = ", ".join(f"{number} {name}" for name, number in here.audit.counts.items())
    heard = sum(watcher.received for watcher in here.watchers)
    breaks = sum(watcher.breaks for watcher in here.watchers)
    print(f"\nAudit : {watched}, {heard} événements lus, {breaks} coupure(s) reprise(s).")  # noqa: T201
    for line in wrong:
        print(f"  FAUTE : {line}")  # noqa: T201
    if wrong:
        environment.process_exit_code = 1
    else:
        print("  Aucune place donnée deux fois, aucune confirmation perdue.")  # noqa: T201


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def table(environment: Environment, **_: Any) -> None:
    """Print p50, p95 and p99 of everything; fail on failures."""
    print("\n| mesure | nombre | échecs | p50 | p95 | p99 |\n|---|---|---|---|---|---|")  # noqa: T201
    for entry in sorted(environment.stats.entries.values(), key=lambda entry: (entry.method, entry.name)):
        values = " | ".join(f"{entry.get_response_time_percentile(share):.0f} ms" for share in (0.5, 0.95, 0.99))
        print(f"| {entry.name} | {entry.num_requests} | {entry.num_failures} | {values} |")  # noqa: T201
    if environment.stats.total.num_failures:
        environment.process_exit_code = 1
