"""What the people of one load test share: the plan, the service's address, the auditor's books, what was measured."""

import itertools
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import gevent
import requests
from gevent.event import AsyncResult
from locust.env import Environment

from loadtests import clock
from loadtests.audit import Audit
from loadtests.plan import Plan
from loadtests.population import Json, Population, read_population
from loadtests.scenarios import OUTAGE_SPAN, SCENARIOS, Surge, draw_mood, within
from loadtests.sockets import Socket

DECIDED: Final = "demande → décision poussée"
TAIL_S: Final = 6.0
"""For the last calls to be decided after the last instant at which one was made."""
SETTLE_S: Final = 3.0
"""For the last events to arrive before the books are closed."""
SHOWN_S: Final = 10.0
"""Between two lines that say how far it is."""
SERVED: Final = frozenset({"held", "firm", "fulfilled", "noshow", "promised"})
"""Who has a place, or the promise of one with a seat behind it."""
MUTE_S: Final = 150.0
"""An editor that was away for longer must have been called mute: it is polled every 20 to 75 s (FHIR guide)."""


def bearer(key: str) -> dict[str, str]:
    """Return the header of a key."""
    return {"Authorization": f"Bearer {key}"}


def shared_out(names: Sequence[str], number: int, among: int) -> list[str]:
    """Return the territories of the n-th of several; with fewer territories than people, some share one."""
    return list(names[number::among]) or [names[number % len(names)]]


def _summary(document: Json) -> Json:
    """Return what the judge needs of a request at the end."""
    none = (document["decision"] or {}).get("none") or {}
    return {
        "tier": document["tier"],
        "status": document["status"],
        "served": document["status"] in SERVED,
        "territory": document["territory"],
        "slot": (document["booking"] or {}).get("slot_id"),
        "why": none.get("reason"),
    }


class World:
    """The shared state of one run."""

    def __init__(self, environment: Environment, plan: Plan) -> None:
        self.environment = environment
        self.plan = plan
        self.url = str(environment.host).rstrip("/")
        self.story = SCENARIOS[plan.scenario]
        self.rng = random.Random(plan.seed)
        self.numbers = {name: itertools.count() for name in ("desk", "practice")}
        self.audit = Audit()
        self.samples: list[tuple[float, str, float, bool]] = []
        self.states: list[tuple[float, int, int]] = []
        self.phase: dict[str, float] = {}
        self.asked: dict[str, str] = {}
        self.heard: Counter[str] = Counter()
        self.answered = self.repeated = self.refused = 0
        self.booked_elsewhere: set[int] = set()
        self.mute_told = False
        self.bookings: dict[str, Callable[[Json], None]] = {}
        self.territories = self._territories()
        self.population: Population = read_population(self.get, self.territories, self.story)
        self.surge = Surge(
            self.story, len(self.territories), plan.times, plan.seconds, draw_mood(self.story, random.Random(plan.seed))
        )
        self.opened: AsyncResult = AsyncResult()
        self.practices_to_come = 0
        self.began = 0.0
        # the auditor's own sockets: they are open before the first user acts and read every event of every key
        self.watchers = [self.follow(key, self._witness) for key in [*plan.regulators, plan.practice]]
        environment.events.request.add_listener(self._note)  # type: ignore[no-untyped-call]

    def _territories(self) -> list[str]:
        if self.plan.territories:
            return self.plan.territories
        if self.story.territories:
            return list(self.story.territories)
        return list(self.get("/v1/overview", self.plan.coordinator)["territories"])

    # -- the clock of the run ------------------------------------------------------------------------------------

    @property
    def at(self) -> float:
        """Seconds since people began to call; negative before."""
        return time.time() - self.began if self.began else -1.0

    @property
    def over(self) -> bool:
        """Whether nobody calls any more."""
        return self.at > self.plan.seconds

    @property
    def outage(self) -> bool:
        """Whether the editor of S6 is away now."""
        return self.story.fault == "editor" and within(OUTAGE_SPAN, self.at, self.plan.seconds)

    def practice_opened(self) -> None:
        """Count a practice whose first places are published; calls begin after the last of them."""
        self.practices_to_come -= 1
        if self.practices_to_come <= 0 and not self.began:
            gevent.spawn(self._run)

    def _run(self) -> None:
        """Begin, say how far it is, end."""
        self.began = time.time() + 0.5
        self.opened.set(None)
        announced = False
        next_line = SHOWN_S
        while self.at < self.plan.seconds + TAIL_S + self.plan.after:
            gevent.sleep(1.0)
            crisis = self.story.crisis
            if crisis is not None and not announced and self.at >= crisis * self.plan.seconds:
                announced = True
                gevent.spawn(self._declare)
            self._pause_editor()
            self.states.append((self.at, len(self.asked) - self.answered, self.answered))
            if self.at >= next_line:
                next_line += SHOWN_S
                self._say()
        if self.environment.runner is not None:
            self.environment.runner.quit()

    def _say(self) -> None:
        lately = sorted(ms for at, name, ms, _ in self.samples if name == DECIDED and at > self.at - SHOWN_S)
        p99 = f"{lately[int(0.99 * (len(lately) - 1))]:.0f} ms" if lately else "–"
        failed = sum(not fine for *_, fine in self.samples)
        text = f"  {self.plan.scenario} {max(0, self.at):.0f}/{self.plan.seconds:.0f} s : {len(self.asked)} demandes, "
        print(text + f"p99 {p99}, {failed} échec(s)", file=sys.stderr, flush=True)  # noqa: T201

    def _pause_editor(self) -> None:
        """Let the mock editor hang, or go on (S6)."""
        if not self.plan.editor:
            return
        if self.outage and "mute" not in self.phase:
            self.phase["mute"] = self.at
            os.kill(self.plan.editor, signal.SIGSTOP)
        elif "mute" in self.phase and not self.outage and "back" not in self.phase:
            self.phase["back"] = self.at
            os.kill(self.plan.editor, signal.SIGCONT)

    # -- policies ------------------------------------------------------------------------------------------------

    def set_policies(self) -> None:
        """Let every territory promise where the story says so; a crisis may be declared where it will be."""
        if not self.plan.coordinator or self.plan.policy == "firm":
            return
        tiers = {"T0": self.plan.policy, "T1": self.plan.policy, "T2": self.plan.policy, "T3": self.plan.policy}
        changes: Json = {"policy": tiers, "why": "test de charge"}
        if self.story.crisis is not None:
            changes |= {"crisis_allowed": True}
        for territory in self.territories:
            self._set(territory, changes)

    def _declare(self) -> None:
        if not self.plan.coordinator or self.plan.policy == "firm":
            return
        self.phase["crisis"] = self.at
        for territory in self.territories:
            self.audit.crisis(territory, time.time())
            self._set(territory, {"crisis": True, "why": "test de charge : crise déclarée"})

    def _set(self, territory: str, changes: Json) -> None:
        headers = {**bearer(self.plan.coordinator), "Idempotency-Key": f"charge-{self.rng.getrandbits(64):016x}"}
        url = f"{self.url}/v1/territories/{territory}/settings"
        while True:
            answer = requests.patch(url, json=changes, headers=headers, timeout=30)
            if answer.status_code == 503 and self.plan.patient:
                gevent.sleep(0.5)
                continue
            answer.raise_for_status()
            return

    # -- reading -------------------------------------------------------------------------------------------------

    def get(self, path: str, key: str = "") -> Json:
        """Read a path of the service as JSON."""
        key = key or self.plan.regulators[0]
        answer = requests.get(self.url + path, headers=bearer(key), timeout=30)
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
        self.heard[message["event"]] += 1
        self.audit.event(message["aggregate"], message["version"])
        document = message["data"]
        match message["event"]:
            case "request.held":
                self.note_hold(document)
            case "request.promised":
                self.audit.promised(document["request_id"], document["territory"])
            case "request.displaced":
                self.audit.displaced(document["request_id"], document["territory"], time.time())
            case "request.told":
                self.note_told(document)
                self.note_firm(document)
            case "request.firm":
                self.note_firm(document)
            case "booking.firm":
                # the practice that published the place takes its name from the prefix of its own choice
                owner = self.bookings.get(document["external_id"].rpartition("-")[0])
                if owner is not None:
                    owner(document)

    def note_hold(self, document: Json) -> None:
        """Write a held seat into the books."""
        booking = document.get("booking")
        if booking is not None and booking["state"] == "held":
            ahead = clock.now() - time.time()
            until = datetime.fromisoformat(booking["hold_until"]).timestamp() - ahead
            self.audit.held(booking["booking_id"], document["request_id"], booking["slot_id"], time.time(), until)

    def note_told(self, document: Json) -> None:
        """Write the place behind a promise that was told into the books: from now on it is as good as confirmed."""
        booking = document.get("booking") or {}
        if booking.get("state") == "firm":
            self.audit.confirmed(
                booking["booking_id"], document["request_id"], booking["slot_id"], document["version"], time.time()
            )

    def note_firm(self, document: Json) -> None:
        """Look whether a firm place of an editor was booked there."""
        booking = document.get("booking") or {}
        if booking.get("state") == "firm" and booking.get("link") and booking["slot_id"] not in self.booked_elsewhere:
            self.audit.firm_without_editor(document["request_id"], booking["slot_id"])

    # -- measuring -----------------------------------------------------------------------------------------------

    def _note(self, name: str, response_time: float, exception: Exception | None, **_: Any) -> None:
        self.samples.append((self.at, name, response_time, exception is None))

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

    # -- the end -------------------------------------------------------------------------------------------------

    def documents(self) -> dict[str, Json]:
        """Read every request of these regulators from the service, also those whose answer was cut off by the end."""
        found: dict[str, Json] = {}
        for key in self.plan.regulators:
            before = ""
            while True:
                query = f"?limit=200&before={quote(before)}" if before else "?limit=200"
                answer = requests.get(self.url + "/v1/requests" + query, headers=bearer(key), timeout=60)
                if answer.status_code in (429, 503):
                    gevent.sleep(float(answer.headers.get("retry-after", "1")))
                    continue
                answer.raise_for_status()
                page = answer.json()["requests"]
                found |= {document["request_id"]: document for document in page}
                if len(page) < 200 or page[-1]["created_at"] == before:
                    break
                before = page[-1]["created_at"]
        return found

    def close_the_books(self) -> tuple[list[str], dict[str, Json]]:
        """Let the last events arrive, read everything back; returns what is wrong, and the requests."""
        gevent.sleep(SETTLE_S)
        # what is read is never older than what was heard: the desks go on promising meanwhile
        gaps = any(watcher.gaps for watcher in self.watchers)
        for watcher in self.watchers:
            watcher.close()
        known = self.documents()
        found = {name: document for name, document in known.items() if name in self.asked}
        # who is answered by the service must be there at the end, decided or not
        wrong = [f"request {name}: acknowledged, and not there any more" for name in self.asked if name not in found]
        wrong += self.audit.doubles() + self.audit.lost(found) + self.audit.broken(known)
        if not gaps:
            wrong += self.audit.unheard()
        mute = self.phase.get("back", self.at) - self.phase["mute"] if "mute" in self.phase else 0.0
        if mute > MUTE_S and not self.mute_told:
            wrong.append(f"editor: away for {mute:.0f} s, and nobody was told")
        return wrong, found

    def write(self, wrong: Sequence[str], found: dict[str, Json]) -> None:
        """Leave what was measured for the judge and the report."""
        requests_seen = {name: _summary(document) for name, document in found.items()}
        result = {
            "scenario": self.plan.scenario,
            "title": self.story.title,
            "seconds": self.plan.seconds,
            "began": self.began,
            "after": self.plan.after,
            "times": self.plan.times,
            "seed": self.plan.seed,
            "policy": self.plan.policy if self.plan.coordinator else "",
            "territories": self.territories,
            "mood": self.surge.mood,
            "rate": self.surge.base,
            "places": sum(place.capacity for place in self.audit.places.values()),
            "faults": list(wrong),
            "gaps": sum(watcher.gaps for watcher in self.watchers),
            "breaks": sum(watcher.breaks for watcher in self.watchers),
            "events": sum(watcher.received for watcher in self.watchers),
            "heard": dict(self.heard),
            "repeated": self.repeated,
            "refused": self.refused,
            "counts": self.audit.counts,
            "phase": self.phase,
            "requests": requests_seen,
            "samples": [[round(at, 3), name, round(ms, 2), fine] for at, name, ms, fine in self.samples],
            "states": [[round(at, 1), waiting, answered] for at, waiting, answered in self.states],
        }
        Path(self.plan.out, "run.json").write_text(json.dumps(result), "utf-8")
