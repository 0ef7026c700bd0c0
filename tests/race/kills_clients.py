"""The clients of the kill campaign: regulators and practices that retry, and a history of what they were told.

Nothing here imports the service: raw HTTP, websockets and Redis, and a note of each acknowledgement (HTTP 2xx, event,
verdict) for the audit. A call whose connection breaks is repeated with the same Idempotency-Key until it is answered.
"""

import asyncio
import contextlib
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import orjson
import websockets
from redis import exceptions as redis_errors
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect

GIVE_UP_S: Final = 60.0  # far above the slowest recovery: whoever waits longer has been forgotten
ANSWER_S: Final = 10.0
HOLD_S: Final = 15  # the shortest that a territory may set
SOON: Final = timedelta(minutes=2)  # a started place cannot be published again
COMMUNES: Final = (
    ("69266", 45.7663, 4.8797),
    ("69029", 45.7337, 4.9092),
    ("69256", 45.7781, 4.9207),
    ("69034", 45.7968, 4.8424),
    ("01004", 45.9581, 5.3589),
    ("38053", 45.5938, 5.2764),
)
"""Around Lyon, three territories: requests cross borders."""


@dataclass
class History:
    """Everything the clients were told, apart from what the service remembers."""

    asked: dict[str, tuple[str, str]] = field(default_factory=dict)
    """request id → (key id, case_ref), from an acknowledged POST /v1/requests."""
    versions: Counter[str] = field(default_factory=Counter)
    """request id → newest version in any answer."""
    confirmed: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    """booking id → (key id, request id, version of the request), from an acknowledged confirm."""
    declined: dict[str, str] = field(default_factory=dict)
    """booking id → request id, from an acknowledged decline."""
    cancelled: set[str] = field(default_factory=set)
    cancelling: set[str] = field(default_factory=set)
    """Requests whose cancellation was sent, answered or not."""
    published: dict[tuple[str, str], int] = field(default_factory=dict)
    """(source, external id) → newest acknowledged revision."""
    withdrawn: set[tuple[str, str]] = field(default_factory=set)
    withdrawing: set[tuple[str, str]] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    refusing: set[str] = field(default_factory=set)
    answers: list[tuple["Caller", str, Any, str, str]] = field(default_factory=list)
    """(caller, path, body, Idempotency-Key, answer): what a repetition must answer again."""
    wrong: list[str] = field(default_factory=list)
    """Answers that no kill excuses."""
    acknowledged: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    """Calls sent again after a broken connection or a 503."""


@dataclass(frozen=True)
class Answer:
    """One answer that counts: 2xx or 409."""

    status: int
    text: str

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = orjson.loads(self.text)
        return document


class Caller:
    """One API key; repeats a call until it is answered."""

    def __init__(self, base: str, key_id: str, token: str, history: History, rng: random.Random) -> None:
        self.base = base
        self.key_id = key_id
        self.history = history
        self.rng = rng
        self.http = httpx.AsyncClient(
            base_url=base, headers={"authorization": f"Bearer {token}"}, timeout=ANSWER_S, trust_env=False
        )

    async def send(self, method: str, path: str, body: Any = None, key: str | None = None) -> Answer:
        """Call until there is an answer that counts.

        Raises:
            TimeoutError: none came within ``GIVE_UP_S``.
        """
        content = None if body is None else orjson.dumps(body)
        headers = {"content-type": "application/json"} | ({} if key is None else {"idempotency-key": key})
        async with asyncio.timeout(GIVE_UP_S):
            while True:
                try:
                    answer = await self.http.request(method, path, content=content, headers=headers)
                except httpx.TransportError:
                    answer = None
                if answer is not None and answer.status_code not in (429, 503):
                    break
                self.history.repeated += 1
                await asyncio.sleep(self.rng.uniform(0.02, 0.3))
        if answer.status_code not in (200, 201, 202, 409) or "idempotency_reused" in answer.text:
            self.history.wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return Answer(answer.status_code, answer.text)

    async def act(self, what: str, path: str, body: Any) -> Answer:
        """POST with a new Idempotency-Key."""
        key = str(uuid.uuid4())
        answer = await self.send("POST", path, body, key)
        if answer.status < 300:
            self.history.acknowledged[what] += 1
            self.history.answers.append((self, path, body, key, answer.text))
        return answer


class Follower:
    """A websocket that is opened again for ever, resumes, and reads the ledger when told of a gap."""

    def __init__(self, caller: Caller, finess: str = "") -> None:
        self.caller = caller
        self.finess = finess
        """The structure of a practice; empty for a regulator."""
        self.known: dict[str, int] = {}
        """Aggregate → newest version, from an event or a snapshot: what is not newer is dropped."""
        self.events: dict[tuple[str, int], bytes] = {}
        """(aggregate, version) → event as first delivered, whether dropped or not."""
        self.applied: Counter[tuple[str, int]] = Counter()
        self.snapshot: dict[str, int] = {}
        """Aggregate → newest version read from the ledger after a gap."""
        self.gaps: Counter[str] = Counter()
        self.repeats = 0
        self.sessions = 0
        self.firm_bookings: list[str] = []
        self._at: dict[str, str] | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                ticket = (await self.caller.send("POST", "/v1/ws-tickets", {})).document["ticket"]
                async with connect(
                    self.caller.base.replace("http", "ws") + "/v1/ws", open_timeout=ANSWER_S, proxy=None
                ) as socket:
                    await self._follow(socket, ticket)
            except (OSError, TimeoutError, websockets.WebSocketException):
                pass  # cut: that is what the campaign does
            await asyncio.sleep(self.caller.rng.uniform(0.02, 0.3))

    async def _follow(self, socket: ClientConnection, ticket: str) -> None:
        await socket.send(orjson.dumps({"type": "hello", "ticket": ticket, "resume": self._at}).decode())
        async for text in socket:
            message = orjson.loads(text)
            kind = message["type"]
            if kind == "welcome":
                self.sessions += 1
                if self._at is None:
                    self._go_on_from(message)
            elif kind == "event":
                self._take(message)
                self._go_on_from(message)
            elif kind == "gap":
                self.gaps[message["reason"]] += 1
                self._go_on_from(message)
                await self._read_ledger()
            elif kind == "ping":
                await socket.send('{"type":"pong"}')

    def _go_on_from(self, message: dict[str, Any]) -> None:
        self._at = {"epoch": message["epoch"], "offset": message["offset"]}

    def _take(self, message: dict[str, Any]) -> None:
        aggregate, version = message["aggregate"], message["version"]
        told = orjson.dumps([message["event"], message["data"]])
        first = self.events.setdefault((aggregate, version), told)
        if first != told:
            self.caller.history.wrong.append(f"two events for {aggregate} version {version}: {first!r} and {told!r}")
        if version <= self.known.get(aggregate, 0):
            self.repeats += 1
            return
        self.known[aggregate] = version
        self.applied[aggregate, version] += 1
        if message["event"] == "booking.firm":
            self.firm_bookings.append(aggregate)

    async def _read_ledger(self) -> None:
        for document in await (self._bookings() if self.finess else self._requests()):
            aggregate = document["booking_id" if self.finess else "request_id"]
            self.snapshot[aggregate] = document["version"]
            self.known[aggregate] = max(self.known.get(aggregate, 0), document["version"])

    async def _requests(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        path = "/v1/requests?limit=200"
        while page := (await self.caller.send("GET", path)).document["requests"]:
            found += page
            path = "/v1/requests?limit=200&before=" + page[-1]["created_at"].replace("+", "%2B")
        return found

    async def _bookings(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
        for _ in range(8):
            window = (f"{hour:%Y-%m-%dT%H:00:00Z}", f"{hour + timedelta(hours=1):%Y-%m-%dT%H:00:00Z}")
            answer = await self.caller.send("GET", f"/v1/bookings?from={window[0]}&to={window[1]}&limit=1000")
            found += answer.document["bookings"]
            hour += timedelta(hours=1)
        return found


class Regulator:
    """Asks for places and does with them what regulators do."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._history = caller.history
        self._rng = caller.rng
        self._left: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; what was begun is ended."""
        while not stop.is_set():
            await self._one(stop)
            await asyncio.sleep(self._rng.uniform(0.05, 0.25))
        await asyncio.gather(*self._left)

    async def _one(self, stop: asyncio.Event) -> None:
        case = f"kills-{uuid.uuid4()}"
        commune, _, _ = self._rng.choice(COMMUNES)
        wish = {"insee": commune, "profession": "MG", "delay": self._rng.choice(["2H", "4H"]), "case_ref": case}
        answer = await self._caller.act("request", "/v1/requests", wish)
        if answer.status >= 300:
            return
        document = answer.document
        self._history.asked[document["request_id"]] = (self._caller.key_id, case)
        self._note(document)
        document = await self._decided(document)
        for _ in range(3):
            if document["status"] != "held":
                break
            document = await self._answer_hold(document, stop)
        if document["status"] == "held" or (document["status"] == "waiting" and self._rng.random() < 0.5):
            await self._act(document, "cancel", {"reason": "regulator"})

    async def _answer_hold(self, document: dict[str, Any], stop: asyncio.Event) -> dict[str, Any]:
        booking = document["booking"]["booking_id"]
        choice = self._rng.random()
        if choice < 0.6:
            document = await self._act(document, "confirm", {"booking_id": booking})
            if document["status"] == "firm" and self._rng.random() < 0.15:
                document = await self._act(document, "cancel", {"reason": "regulator"})
            return document
        if choice < 0.75:
            return await self._decided(await self._act(document, "decline", {"booking_id": booking, "scope": "slot"}))
        if choice < 0.85:
            others = (document["decision"] or {}).get("alternatives") or []
            if others:
                return await self._act(document, "take", {"slot_id": self._rng.choice(others)["slot_id"]})
        if choice < 0.92:
            return await self._act(document, "cancel", {"reason": "regulator"})
        task = asyncio.create_task(self._leave(document, stop))
        self._left.add(task)
        task.add_done_callback(self._left.discard)
        return {**document, "status": "left"}

    async def _leave(self, document: dict[str, Any], stop: asyncio.Event) -> None:
        """Let the hold run out; sometimes come back to it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), HOLD_S + self._rng.uniform(-1, 3))
            await self._act(document, "cancel", {"reason": "regulator"})
            return
        if self._rng.random() < 0.6:
            document = await self._act(document, "resume", {})
            if document["status"] == "waiting":
                document = await self._decided(document)
            if document["status"] == "held":
                await self._act(document, "confirm", {"booking_id": document["booking"]["booking_id"]})

    async def _act(self, document: dict[str, Any], action: str, body: dict[str, Any]) -> dict[str, Any]:
        """Do something with a request; returns it as it then is."""
        request_id = document["request_id"]
        if action == "cancel":
            self._history.cancelling.add(request_id)
        answer = await self._caller.act(action, f"/v1/requests/{request_id}/{action}", body)
        if answer.status >= 300:
            answer = await self._caller.send("GET", f"/v1/requests/{request_id}")
            self._note(answer.document)
            return answer.document
        after = answer.document
        self._note(after)
        if action == "confirm":
            if after["status"] != "firm" or after["booking"]["booking_id"] != body["booking_id"]:
                self._history.wrong.append(f"confirmed, but {answer.text[:300]}")
            self._history.confirmed[body["booking_id"]] = (self._caller.key_id, request_id, after["version"])
        elif action == "cancel":
            self._history.cancelled.add(request_id)
        elif action == "decline":
            self._history.declined[body["booking_id"]] = request_id
        return after

    async def _decided(self, document: dict[str, Any]) -> dict[str, Any]:
        """Wait a while for the decision of an open request, as a screen without a websocket would."""
        for _ in range(20):
            if document["status"] != "waiting":
                break
            await asyncio.sleep(0.15)
            document = (await self._caller.send("GET", f"/v1/requests/{document['request_id']}")).document
            self._note(document)
            if document["decision"] is not None and document["decision"]["none"] is not None:
                break
        return document

    def _note(self, document: dict[str, Any]) -> None:
        versions = self._history.versions
        versions[document["request_id"]] = max(versions[document["request_id"]], document["version"])


class Practice:
    """Publishes, changes, withdraws, refuses."""

    def __init__(self, caller: Caller, follower: Follower) -> None:
        self._caller = caller
        self._source = caller.key_id  # a key without a named source is its own
        self._finess = follower.finess
        self._follower = follower
        self._history = caller.history
        self._rng = caller.rng
        self._slots: dict[str, dict[str, Any]] = {}
        self._revision: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop."""
        while not stop.is_set():
            choice = self._rng.random()
            if choice < 0.6 or len(self._slots) < 20:
                await self._publish([self.new_slot("api") for _ in range(3)])
            elif choice < 0.75:
                await self._change()
            elif choice < 0.9:
                await self._withdraw()
            else:
                await self._refuse()
            await asyncio.sleep(self._rng.uniform(0.2, 0.6))

    def new_slot(self, prefix: str) -> dict[str, Any]:
        """Invent a slot; every few share a professional and overlap."""
        rng = self._rng
        commune, lat, lon = rng.choice(COMMUNES)
        # a professional works for two hours and a half; his starts come every five minutes: most of them overlap
        start = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=20 + 5 * rng.randrange(30))
        capacity = rng.choice([1, 1, 1, 2, 3])
        return {
            "external_id": f"{prefix}-{uuid.uuid4()}",
            "professional": {"rpps": f"10{rng.randrange(150):09d}", "name": "Dr Camille Fictif"},
            "structure": {"finess": self._finess, "kind": "cds", "name": "Centre fictif"},
            "source_kind": "cds",
            "location": {"lat": lat, "lon": lon, "insee": commune, "label": "revision 0"},
            "start": start.isoformat(),
            "end": (start + timedelta(minutes=15)).isoformat(),
            "capacity": capacity,
            "mode": "cabinet",
            "profession": "MG",
        }

    async def _publish(self, slots: list[dict[str, Any]]) -> None:
        answer = await self._caller.send("POST", "/v1/slots", {"slots": slots})
        for slot, result in zip(slots, answer.document["results"], strict=True):
            name = slot["external_id"]
            if result["outcome"] not in ("created", "updated", "unchanged"):
                self._history.wrong.append(f"publication of {name}: {result}")
            self._history.acknowledged["publication"] += 1
            self._history.published[self._source, name] = self._revision[name]
            self._slots[name] = slot

    async def _change(self) -> None:
        now = datetime.now(UTC)
        self._slots = {n: s for n, s in self._slots.items() if datetime.fromisoformat(s["start"]) > now + SOON}
        name = self._rng.choice(list(self._slots))
        self._revision[name] += 1
        slot = self._slots[name]
        location = {**slot["location"], "label": f"revision {self._revision[name]}"}
        await self._publish([{**slot, "location": location}])

    async def _withdraw(self) -> None:
        names = self._rng.sample(list(self._slots), self._rng.randint(1, 3))
        self._history.withdrawing.update((self._source, name) for name in names)
        for name in names:
            del self._slots[name]
        await self._caller.send("POST", "/v1/slots/withdraw", {"external_ids": names})
        # "not_found" is the answer to a repetition: acknowledged all the same
        self._history.acknowledged["withdrawal"] += len(names)
        self._history.withdrawn.update((self._source, name) for name in names)

    async def _refuse(self) -> None:
        if not self._follower.firm_bookings:
            return
        booking = self._follower.firm_bookings.pop(self._rng.randrange(len(self._follower.firm_bookings)))
        self._history.refusing.add(booking)
        body = {"reason": "practice", "keep_slot": True}
        answer = await self._caller.act("refusal", f"/v1/bookings/{booking}/refuse", body)
        if answer.status < 300:
            self._history.refused.add(booking)


class StreamPublisher:
    """Publishes through the ingest stream of a key; a verdict is an acknowledgement."""

    def __init__(self, redis_url: str, key_id: str, practice: Practice, history: History) -> None:
        self._redis = Redis.from_url(redis_url, protocol=2, socket_timeout=ANSWER_S)
        self._stream = f"sas:{{all}}:ingest:{key_id}"
        self._replies = f"sas:{{all}}:ingest:replies:{key_id}"
        self._source = key_id
        self._practice = practice
        self._history = history
        self._sent: dict[bytes, str] = {}
        self._rng = random.Random(key_id)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop."""
        after: bytes = b"0"
        while not stop.is_set():
            slot = self._practice.new_slot("stream")
            try:
                change = orjson.dumps({"action": "publish", "slot": slot})
                entry = await self._redis.execute_command("XADD", self._stream, "*", "change", change)
                self._sent[entry] = slot["external_id"]
                replies = await self._redis.execute_command("XRANGE", self._replies, b"(" + after, "+", "COUNT", 500)
            except (redis_errors.RedisError, OSError):
                await asyncio.sleep(0.1)
                continue
            for reply_id, fields in replies:
                after = reply_id
                named = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
                self._verdict(named[b"entry"], orjson.loads(named[b"verdict"]))
            await asyncio.sleep(self._rng.uniform(0.2, 0.6))
        await self._redis.aclose()

    def _verdict(self, entry: bytes, verdict: dict[str, Any]) -> None:
        name = self._sent.get(entry)
        if name is None:
            return  # the connection broke before its number was known: nobody was told
        if verdict["outcome"] not in ("created", "unchanged"):
            self._history.wrong.append(f"stream publication of {name}: {verdict}")
            return
        self._history.acknowledged["stream publication"] += 1
        self._history.published[self._source, name] = 0
