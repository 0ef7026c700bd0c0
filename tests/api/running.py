"""The whole service inside the tests' event loop: uvicorn as in production, the core beside it, a clock to be moved."""

import asyncio
import itertools
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from functools import cache
from types import TracebackType
from typing import Any, Final, Self
from unittest.mock import patch
from zoneinfo import ZoneInfo

import httpx
import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from adapters.geo import Gazetteer
from adapters.geo.gazetteer import WHOLE_CITIES, Commune
from sas_matcher.bootstrap import api as api_wiring
from sas_matcher.bootstrap import stores as store_wiring
from sas_matcher.bootstrap.access import issue_key
from sas_matcher.bootstrap.core import core
from sas_matcher.bootstrap.processes import run_api
from sas_matcher.bootstrap.stores import Stores, open_stores
from sas_matcher.config import Settings
from sas_matcher.domain.vocabulary import Role
from sas_matcher.services.agenda import feed as agenda_feed
from sas_matcher.services.keys import KeyWish
from sas_matcher.supervise import listen
from sas_matcher.travel import haversine_km

ORIGIN: Final = "https://console.example"
WAIT_S: Final = 20.0  # far above what anything here needs, even on a machine that is busy otherwise
NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without this each client reads all root certificates
PARIS: Final = ZoneInfo("Europe/Paris")
MORNING, EVENING = 8, 19  # hours between which a whole test fits into the day, whatever it adds to the clock
_numbers = itertools.count(1)


def _until_morning(here: datetime) -> timedelta:
    """Return how long it is until there is enough of a day; nothing while there is."""
    if MORNING <= here.hour < EVENING:
        return timedelta()
    day = here.date() + timedelta(days=here.hour >= EVENING)
    return datetime.combine(day, time(MORNING), PARIS).astimezone(UTC) - here.astimezone(UTC)


class MovableClock:
    """The machine's clock, and what the test adds to it (forward only: nothing is ever un-lapsed).

    What is published for today needs some of the day: in the evening and at night it shows the next morning.
    """

    def __init__(self) -> None:
        self.ahead = _until_morning(datetime.now(PARIS))
        self._stands: datetime | None = None

    def now(self) -> datetime:
        return (self._stands or datetime.now(UTC)) + self.ahead

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Let only the test move time, for the length of a block: what lapses in seconds waits for a busy machine."""
        self._stands = datetime.now(UTC)
        try:
            yield
        finally:
            self._stands = None


async def eventually(check: Callable[..., Any], seconds: float = WAIT_S) -> Any:
    """Wait until an (async) check gives something true, and return that."""
    async with asyncio.timeout(seconds):
        while True:
            found = check()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the signals stay the test runner's


def production_config(settings: Settings) -> uvicorn.Config:
    """Return the configuration with which an API worker serves, taken from where it is written."""
    caught: list[uvicorn.Config] = []
    with patch.object(uvicorn.Server, "run", lambda self, sockets=None: caught.append(self.config)):
        run_api(settings, None)
    return caught[0]


class Caller:
    """One API key and a client that sends it."""

    def __init__(self, service: "Running", key_id: str, token: str) -> None:
        self.service = service
        self.key_id = key_id
        self.token = token
        self.http = httpx.AsyncClient(
            base_url=service.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=15,
            trust_env=False,
            verify=NO_TLS,
        )

    async def get(self, path: str, **query: Any) -> httpx.Response:
        return await self.http.get(path, params=query)

    async def post(self, path: str, body: Any = None, *, key: str | None = None, **headers: str) -> httpx.Response:
        named = {"Idempotency-Key": key or str(uuid.uuid4()), "Content-Type": "application/json", **headers}
        content = body if isinstance(body, bytes) else orjson.dumps({} if body is None else body)
        return await self.http.post(path, content=content, headers=named)

    async def patch(self, path: str, body: Any, *, key: str | None = None) -> httpx.Response:
        return await self.http.patch(path, json=body, headers={"Idempotency-Key": key or str(uuid.uuid4())})

    async def publish(self, *slots: Mapping[str, Any]) -> list[int]:
        """Publish slots; returns their ids."""
        answer = await self.post("/v1/slots", {"slots": slots})
        assert answer.status_code == 200, answer.text
        return [result["slot_id"] for result in answer.json()["results"]]

    async def ask(self, wish: Mapping[str, Any], *, key: str | None = None) -> dict[str, Any]:
        """Ask and return the decided document (on a machine that is too busy for two seconds, wait for it)."""
        answer = await self.post("/v1/requests", wish, key=key)
        assert answer.status_code in (201, 202), answer.text
        document: dict[str, Any] = answer.json()
        if answer.status_code == 202:
            document = await self.until(document["request_id"], lambda d: d["decision"] is not None)
        return document

    async def act(self, action: str, request_id: str, body: Any = None, *, key: str | None = None) -> dict[str, Any]:
        answer = await self.post(f"/v1/requests/{request_id}/{action}", body, key=key)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def request(self, request_id: str) -> dict[str, Any]:
        answer = await self.get(f"/v1/requests/{request_id}")
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def until(self, request_id: str, check: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until a request looks as it should."""

        async def look() -> dict[str, Any] | None:
            document = await self.request(request_id)
            return document if check(document) else None

        found: dict[str, Any] = await eventually(look)
        return found

    async def ticket(self) -> str:
        answer = await self.post("/v1/ws-tickets")
        assert answer.status_code == 201, answer.text
        return str(answer.json()["ticket"])

    async def listen(self, resume: Mapping[str, str] | None = None, **options: Any) -> "Listener":
        """Open a websocket and start to note what comes."""
        return await Listener.open(self, resume, **options)


class Listener:
    """A websocket and all that came on it."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.messages: list[dict[str, Any]] = []
        self.welcome: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, caller: Caller, resume: Mapping[str, str] | None = None, **options: Any) -> Self:
        socket = await connect(
            caller.service.url.replace("http", "ws") + "/v1/ws", ping_interval=None, proxy=None, **options
        )
        hello = {"type": "hello", "ticket": await caller.ticket(), "resume": resume}
        await socket.send(orjson.dumps(hello).decode())
        self = cls(socket)
        self.welcome = orjson.loads(await asyncio.wait_for(socket.recv(), WAIT_S))
        assert self.welcome["type"] == "welcome"
        self._task = asyncio.create_task(self._read())
        return self

    async def _read(self) -> None:
        with suppress(ConnectionClosed):
            async for text in self.socket:
                message = orjson.loads(text)
                if message["type"] == "ping":
                    await self.socket.send('{"type":"pong"}')
                self.messages.append(message)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == "event"]

    async def event(self, name: str, **data: Any) -> dict[str, Any]:
        """Wait for an event whose document has these values."""

        def look() -> dict[str, Any] | None:
            for message in self.events:
                if message["event"] == name and all(message["data"].get(key) == data[key] for key in data):
                    return message
            return None

        found: dict[str, Any] = await eventually(look)
        return found

    async def closed(self, seconds: float = WAIT_S) -> int | None:
        """Wait for the end; returns the close code."""
        await asyncio.wait_for(self.socket.wait_closed(), seconds)
        return self.socket.close_code

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.socket.close()
        if self._task is not None:
            await self._task


@dataclass
class Running:
    """A running service."""

    settings: Settings
    stores: Stores
    clock: MovableClock
    app: FastAPI
    url: str
    geography: Gazetteer
    callers: list[Caller] = field(default_factory=list)
    _core: asyncio.Task[None] | None = None

    async def key(
        self,
        role: str,
        *,
        territories: tuple[str, ...] = (),
        structures: tuple[str, ...] = (),
        professionals: tuple[str, ...] = (),
        source: str = "",
        name: str = "",
    ) -> Caller:
        """Issue a key and return its caller."""
        wish = KeyWish(Role(role), name or f"clé de test {role}", territories, structures, professionals, source)
        record, token = await issue_key(self.stores, wish)
        caller = Caller(self, record.id, token)
        self.callers.append(caller)
        return caller

    async def regulator(self, *territories: str) -> Caller:
        return await self.key("osnp", territories=territories or ("*",))

    async def practice(self, *, structures: tuple[str, ...] = (), professionals: tuple[str, ...] = ()) -> Caller:
        if not structures and not professionals:
            professionals = ("*",)
        return await self.key("manager", structures=structures, professionals=professionals)

    async def start_core(self) -> None:
        """Start matcher, keeper and ingest."""
        # by the clock of this service: another one that runs beside it has put its own in the same place
        with patch.object(store_wiring, "SystemClock", lambda: self.clock):
            self._core = asyncio.create_task(core(self.settings, holder="tests"))
            await self._until_ready()

    async def _until_ready(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, verify=NO_TLS) as http:

            async def ready() -> bool:
                assert self._core is not None
                if self._core.done():
                    self._core.result()
                return (await http.get("/readyz")).status_code == 200

            await eventually(ready, 20)

    async def stop_core(self) -> None:
        """Stop it as a signal would."""
        if self._core is not None:
            task, self._core = self._core, None
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def count(self, table: str) -> int:
        """Count the rows of a table of the ledger."""
        return int(await self.stores.ledger._retry(lambda c: c.fetchval(f"select count(*) from {table}")))

    async def rows(self, sql: str, *arguments: Any) -> list[Any]:
        """Read the ledger directly."""
        found: list[Any] = await self.stores.ledger._retry(lambda c: c.fetch(sql, *arguments))
        return found

    async def close(self) -> None:
        for caller in self.callers:
            await caller.http.aclose()
        await self.stop_core()


@asynccontextmanager
async def run_service(settings: Settings, *, with_core: bool = True) -> AsyncIterator[Running]:
    """Run a service on existing servers for the length of a block."""
    clock = MovableClock()
    geography = Gazetteer.load()
    async with AsyncExitStack() as stack:
        stack.enter_context(patch.object(store_wiring, "SystemClock", lambda: clock))
        stack.enter_context(patch.object(api_wiring, "SystemClock", lambda: clock))
        # each key that is issued loads it again: 0.1 s that say nothing
        # a calendar is read when a test says so, not some seconds later
        stack.enter_context(patch.object(agenda_feed, "_LOOK_S", 0.2))
        stack.enter_context(patch.object(Gazetteer, "load", staticmethod(lambda: geography)))
        listening = stack.enter_context(listen("127.0.0.1", 0))
        config = production_config(settings)
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))

        async def stop() -> None:
            server.should_exit = True
            await serving

        stack.push_async_callback(stop)
        stores = await stack.enter_async_context(open_stores(settings))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert isinstance(config.app, FastAPI)
        running = Running(settings, stores, clock, config.app, url, geography)
        stack.push_async_callback(running.close)
        await eventually(lambda: server.started, 20)
        if with_core:
            await running.start_core()
        yield running


# -- a world of its own for each test ------------------------------------------------------------------------------

# Prefectures far from one another, each used by one test at a time: no test sees another's places.
_SPOTS: Final = """
30189 25056 29019 66136 86194 87085 63113 54395 67482 51454 80021 14118 35238 49007 37261 72181 45234 21231 18033
31555 64445 33063 06088 83137 84007 26362 38185 74010 71076 58194 15014 12202 81004 82121 40192 16015 17300 85191
56260 22278 50502 61001 28085 89024 10387 88160 57463 08105 02408 59350 62041 76540 27229 36044 41018 03190 43157
48095 05061 04070 11069 09122 65440 32013 24322 19272 46042 47001
"""
_APART_KM: Final = (30.0, 21.0, 12.0)
"""No test's requests reach another's places: first far apart, then beyond the 20 km that some ask for, at last with
room for the 5 km of ``wish`` on either side: 1 200 communes, more than there are tests."""


@cache
def _spots(geography: Gazetteer) -> Iterator[str]:
    """The prefectures, then as many other communes as lie far enough from all before; none twice."""

    def found() -> Iterator[str]:
        chosen = [commune for code in _SPOTS.split() if (commune := geography.by_code(code)) is not None]
        yield from [commune.code for commune in chosen]
        # an editor says the arrondissement, never the whole city: what is shown there would not lie where the test asks
        others = [c for c in geography if c.code not in WHOLE_CITIES and c.landmass == chosen[0].landmass]
        others = sorted((c for c in others if c.population >= 2_000), key=lambda c: -c.population)
        for apart in _APART_KM:
            for commune in others:
                lat, lon = np.array([c.lat for c in chosen]), np.array([c.lon for c in chosen])
                if haversine_km(commune.lat, commune.lon, lat, lon).min() >= apart:
                    chosen.append(commune)
                    yield commune.code
        raise LookupError("no commune is left that no test has used")

    return found()


def next_spot(geography: Gazetteer) -> Commune:
    """Return a commune that no other test is using."""
    commune = geography.by_code(next(_spots(geography)))
    assert commune is not None
    return commune


def rpps() -> str:
    """Return the RPPS of a new fictitious professional."""
    return f"10{next(_numbers):09d}"


def slot(spot: Commune, start: datetime, **changes: Any) -> dict[str, Any]:
    """Return a valid slot at a commune; ``km_north`` moves it."""
    number = next(_numbers)
    north = changes.pop("km_north", 0.0)
    lasting = changes.pop("lasting", 15)
    return {
        "external_id": f"creneau-{number}",
        "professional": {"rpps": rpps(), "name": f"Dr Fictif {number}"},
        "structure": None,
        "source_kind": "liberal",
        "location": {
            "lat": round(spot.lat + north / 111.2, 6),
            "lon": spot.lon,
            "insee": spot.code,
            "label": f"Cabinet fictif {number}",
        },
        "start": start.isoformat(),
        "end": (start + timedelta(minutes=lasting)).isoformat(),
        "mode": "cabinet",
        "profession": "MG",
        "offers": ["pmr"],
        **changes,
    }


def wish(spot: Commune, **changes: Any) -> dict[str, Any]:
    """Return a valid request at a commune, which reaches 5 km."""
    return {"insee": spot.code, "profession": "MG", "delay": "24H", "radius_km": 5, **changes}
