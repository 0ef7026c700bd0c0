"""A nearest-first service, as a team with Redis would build it in a week: GEOSEARCH and a Lua claim, truth in Redis.

``POST /request`` takes the bodies of ``POST /v1/requests``: strict checks, key, idempotency, ledger, explanations and
resumable sockets are not there, nor travel time, offers, professions' rules or waiting lists. One uvicorn worker, as
the floor. Environment: ``NEAREST_VK`` = path of the Valkey socket (AOF everysec), filled by ``fill``.
"""

import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from time import time
from typing import Any

import redis.asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from adapters.geo import Gazetteer
from sas_matcher.domain.vocabulary import DELAY_SPAN, Delay
from sas_matcher.replay.study import BASE_MIN, MIN_PER_KM

LUA = Path(__file__).with_name("nearest_claim.lua").read_text(encoding="utf-8")
sockets: dict[str, WebSocket] = {}


def key(profession: str, mode: str) -> str:
    """Return the geo index of a profession and a mode."""
    return f"near:{profession}:{mode}"


async def fill(store: Any, slots: Sequence[dict[str, Any]]) -> None:
    """Write places, bodies of ``POST /v1/slots``, into Redis."""
    for first in range(0, len(slots), 2_000):
        async with store.pipeline(transaction=False) as pipe:
            for number, slot in enumerate(slots[first : first + 2_000], first):
                place = slot["location"]
                pipe.geoadd(key(slot["profession"], slot["mode"]), (place["lon"], place["lat"], str(number)))
                pipe.hset("start", str(number), int(datetime.fromisoformat(slot["start"]).timestamp()))
                pipe.hset("left", str(number), slot["capacity"])
            await pipe.execute()


async def claim(store: Any, profession: str, modes: Sequence[str], at: Sequence[float], until: Sequence[float]) -> Any:
    """Take the nearest place that can be reached in time.

    Args:
        store: Redis.
        profession, modes: wanted.
        at: latitude, longitude, radius in km.
        until: now and deadline, epoch seconds.

    Returns:
        Id, kilometres and start of the place; None for none.
    """
    lat, lon, radius = at
    for mode in modes:
        found = await store.eval(
            *(LUA, 3, key(profession, mode), "start", "left", lon, lat, 20_000 if mode == "tele" else radius, *until),
            *(0 if mode == "tele" else 60 * MIN_PER_KM, 0 if mode == "tele" else 60 * BASE_MIN),
        )
        if found:
            return found
    return None


async def request(call: Request) -> Response:
    """Serve one request."""
    wish = json.loads(await call.body())
    state = call.app.state
    given = "lat" in wish
    commune = state.geography.nearest(wish["lat"], wish["lon"]) if given else state.geography.by_code(wish["insee"])
    point = (wish["lat"], wish["lon"]) if given else (commune.lat, commune.lon)
    radius = wish.get("radius_km") or state.geography.territories[commune.territory].default_radius_km
    now = time()
    deadline = now + DELAY_SPAN[Delay(wish["delay"])].total_seconds()
    found = await claim(state.store, wish["profession"], wish["modes"], (*point, radius), (now, deadline))
    answer = {"id": wish["case_ref"], "slot": None if found is None else int(found[0])}
    await state.store.xadd("ev", {"r": wish["case_ref"], "s": answer["slot"] or -1}, maxlen=100_000, approximate=True)
    if (socket := sockets.get(wish["who"])) is not None:
        await socket.send_text(json.dumps(answer))
    return Response(json.dumps(answer).encode(), 201, media_type="application/json")


async def push(socket: WebSocket) -> None:
    """Keep a websocket."""
    await socket.accept()
    who = socket.path_params["who"]
    sockets[who] = socket
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        sockets.pop(who, None)


@asynccontextmanager
async def life(app: Starlette) -> AsyncIterator[None]:
    """Open Redis and the gazetteer."""
    app.state.store = redis.asyncio.Redis(unix_socket_path=os.environ["NEAREST_VK"], protocol=2)
    app.state.geography = Gazetteer.load()
    yield
    await app.state.store.aclose()


app = Starlette(routes=[Route("/request", request, methods=["POST"]), WebSocketRoute("/ws/{who}", push)], lifespan=life)
