"""Marked data through a real service of several processes: it must not turn up in logs, metrics or Redis."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sas_matcher.bootstrap.access import issue_key
from sas_matcher.bootstrap.stores import open_stores
from sas_matcher.config import Settings
from sas_matcher.domain.vocabulary import Role
from sas_matcher.services.keys import KeyWish
from tests.api.test_security import everything_in
from tests.conftest import Servers

SERVE: Final = """
import sys
from sas_matcher.bootstrap.logs import set_up_logging
from sas_matcher.config import Settings
from sas_matcher.supervise import Service
import os
settings = Settings.of_environment(os.environ)
set_up_logging(settings.log_level)
with Service(settings) as service:
    print(service.settings.port, flush=True)
    service.watch()
"""
CASE: Final = "canari-dossier-4711"
LAT, LON = 43.836512345, 4.360387654
DIGITS: Final = ("43.8365123", "43.83651", "4.3603876", "4.36038")
IDENTITY: Final = "Canari-Dupont-4711"


@dataclass
class Outside:
    """A service in processes of its own, and what it wrote to its standard outputs."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    settings: Settings

    def stop(self) -> str:
        """End it and return all that it wrote."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(15)
        return self.log.read_text(errors="replace")


@pytest.fixture
def outside(servers: Servers, tmp_path: Path) -> Iterator[Outside]:
    """Start it, as an operator would, at the most talkative level of logging."""
    database_url, redis_url = servers.new_database(), servers.new_redis()
    settings = Settings(database_url=database_url, redis_url=redis_url, port=0, log_level="debug")
    log = tmp_path / "log"
    clean = {name: text for name, text in os.environ.items() if not name.startswith("SAS_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            env={**clean, **settings.to_environment()},
            stdout=subprocess.PIPE,
            stderr=output,
        )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 30
        with httpx.Client(trust_env=False) as http:
            while True:
                with suppress(httpx.TransportError):
                    if http.get(f"{url}/readyz", timeout=5).status_code == 200:
                        break
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        yield Outside(url, process, log, settings)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(15)
        if process.stdout is not None:
            process.stdout.close()
        servers.drop_database(database_url)


async def test_marked_data_turns_up_nowhere(outside: Outside) -> None:
    async with open_stores(outside.settings) as stores:
        _, regulator = await issue_key(stores, KeyWish(Role.OSNP, "régulation", territories=("*",)))
        _, practice = await issue_key(stores, KeyWish(Role.MANAGER, "cabinet", professionals=("*",)))
    secrets = [token.split("_", 2)[2] for token in (regulator, practice)]
    tickets: list[str] = []

    def headers(token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid.uuid4())}

    async with httpx.AsyncClient(base_url=outside.url, trust_env=False, timeout=15) as http:

        async def post(token: str, path: str, body: Any) -> httpx.Response:
            return await http.post(path, content=orjson.dumps(body), headers=headers(token))

        wish = {"lat": LAT, "lon": LON, "profession": "MG", "delay": "24H", "case_ref": CASE}
        asked = await post(regulator, "/v1/requests", wish)
        assert asked.status_code == 201 and asked.json()["case_ref"] == CASE
        request_id = asked.json()["request_id"]
        # wrong calls of all kinds, each with something that must not be repeated
        wrong = [
            await post(regulator, "/v1/requests", {**wish, "nom": IDENTITY}),
            await post(regulator, "/v1/requests", {**wish, "radius_km": IDENTITY}),
            await post(regulator, "/v1/requests", f'{{"nom": "{IDENTITY}"'),
            await post(regulator, f"/v1/requests/{IDENTITY}/confirm", {}),
            await post(practice, "/v1/slots", {"slots": [{"patient": IDENTITY}]}),
            await http.get(f"/v1/communes?q={IDENTITY}&x={regulator}", headers=headers(regulator)),
            await http.get(f"/{IDENTITY}/{regulator}", headers=headers(regulator)),
            await http.get("/v1/me", headers={"Authorization": f"Bearer {regulator[:-1]}"}),
            await http.request("PROPFIND", f"/v1/{IDENTITY}"),
        ]
        assert all(400 <= answer.status_code < 500 for answer in wrong)
        await post(regulator, f"/v1/requests/{request_id}/cancel", {"reason": "patient"})

        for resume in (None, {"epoch": IDENTITY, "offset": "1-1"}, {"epoch": IDENTITY, "offset": IDENTITY}):
            ticket = (await post(regulator, "/v1/ws-tickets", {})).json()["ticket"]
            tickets.append(ticket)
            address = f"{outside.url.replace('http', 'ws')}/v1/ws?ticket={ticket}&nom={IDENTITY}"
            with suppress(ConnectionClosed, TimeoutError, InvalidStatus):
                async with connect(address, proxy=None) as socket:
                    hello = {"type": "hello", "ticket": ticket, "resume": resume}
                    await socket.send(orjson.dumps(hello).decode())
                    await asyncio.wait_for(socket.recv(), 5)
                    await socket.send(IDENTITY)
                    await asyncio.wait_for(socket.recv(), 0.5)
        metrics = (await http.get("/metrics")).text

    redis = Redis.from_url(outside.settings.redis_url)
    names = b"\n".join([key async for key in redis.scan_iter()]).decode()
    contents = (await everything_in(redis)).decode(errors="replace")
    await redis.aclose()
    log = await asyncio.to_thread(outside.stop)

    assert "matcher.ready" in log and "service.stores" in log, "it did log"
    assert 'route="/v1/requests"' in metrics and "sas_time_to_decision_seconds" in metrics
    for name, text in (("log", log), ("metrics", metrics), ("names of Redis keys", names)):
        for canary in (CASE, IDENTITY, *DIGITS, *secrets, *tickets, request_id):
            assert canary not in text, f"{canary} in {name}"
    # the streams carry documents to those they are for; keys, tickets, identity and exact points never
    assert CASE in contents
    for canary in (IDENTITY, *DIGITS, *secrets, *tickets):
        assert canary not in contents, canary
    assert outside.process.returncode == 0
