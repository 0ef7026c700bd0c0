"""Scale-out on real engines: a node is killed, a territory moves, the replica takes over; nothing is lost.

The short version of ``python -m tests.race.failover``: one service on a Valkey cluster and a PostgreSQL with its
replica, two matchers, two API workers.
"""

import asyncio
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import asyncpg
import pytest

from adapters.embedded.cluster import EmbeddedCluster
from sas_matcher.bootstrap.access import issue_key
from sas_matcher.bootstrap.stores import open_stores
from sas_matcher.config import Settings
from sas_matcher.domain.vocabulary import Role
from sas_matcher.services.keys import KeyWish
from sas_matcher.supervise import Service
from tests.conftest import blocking

PATIENCE_S = 60.0
CALLS, PLACES = itertools.count(), itertools.count()


class Running(NamedTuple):
    service: Service
    cluster: EmbeddedCluster
    regulator: str
    practice: str

    def until(self, what: Callable[[], Any]) -> Any:
        """Wait for a state, watching over the processes as the service itself does."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := what()):
            assert time.monotonic() < deadline, what
            self.service.look()
            time.sleep(0.05)
        return found

    def call(self, key: str, path: str, body: Any = None) -> dict[str, Any]:
        """Call until it is answered: a call that broke is repeated with its Idempotency-Key."""
        name = f"scale-{next(CALLS):08}"

        def once() -> dict[str, Any] | None:
            headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": name, "Content-Type": "application/json"}
            wanted = Request(f"http://127.0.0.1:{self.service.settings.port}{path}", headers=headers)
            wanted.data = None if body is None else json.dumps(body).encode()
            try:
                with urlopen(wanted, timeout=10) as answer:
                    document: dict[str, Any] = json.loads(answer.read())
                    return document
            except HTTPError as refused:
                assert refused.code in (409, 503), refused.read()
            except OSError:
                pass
            return None

        found: dict[str, Any] = self.until(once)
        return found

    def sql(self, query: str, *arguments: Any) -> Any:
        """Ask whichever server takes writes now."""

        async def ask() -> Any:
            connection = await asyncpg.connect(self.service.settings.database_url)
            try:
                return await connection.fetchval(query, *arguments)
            finally:
                await connection.close()

        return blocking(ask())

    def serve_a_patient(self) -> str:
        """Publish a place, have somebody given it, confirm; returns the booking."""
        number, now = next(PLACES), datetime.now(UTC)
        start = now + timedelta(hours=2, minutes=20 * number)
        slot = {
            "external_id": f"scale-{number}",
            "professional": {"rpps": f"9800000{number:04}", "name": "Dr Fictif"},
            "source_kind": "liberal",
            "location": {"lat": 45.757, "lon": 4.832, "insee": "69382"},
            "start": start.isoformat(),
            "end": (start + timedelta(minutes=15)).isoformat(),
            "mode": "cabinet",
            "profession": "MG",
        }
        self.call(self.practice, "/v1/slots", {"slots": [slot]})
        asked = self.call(self.regulator, "/v1/requests", {"insee": "69383", "profession": "MG", "delay": "24H"})
        path = f"/v1/requests/{asked['request_id']}"
        held = self.until(lambda: (d := self.call(self.regulator, path))["status"] == "held" and d)
        firm = self.call(self.regulator, f"{path}/confirm", {"booking_id": held["booking"]["booking_id"]})
        assert firm["status"] == "firm"
        return str(firm["booking"]["booking_id"])

    def decides(self) -> str:
        """Who decides for territory 69."""
        return str(self.sql("select holder from lease where territory = '69' and until > clock_timestamp()") or "")


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="sas-test-"))
    folder.chmod(0o755)  # PostgreSQL may have to run as another user
    settings = Settings(
        port=0, data_dir=folder / "d", territories=("69", "42"), api_workers=2, matchers=2, log_level="error"
    )
    with Service(settings, cluster=True) as service:
        assert isinstance(service.servers, EmbeddedCluster)

        async def keys() -> list[str]:
            async with open_stores(service.settings) as stores:
                wishes = [
                    KeyWish(Role.REGULATOR, "Régulation", ["*"]),
                    KeyWish(Role.MANAGER, "Éditeur", professionals=["*"]),
                ]
                return [(await issue_key(stores, wish))[1] for wish in wishes]

        regulator, practice = blocking(keys())
        here = Running(service, service.servers, regulator, practice)
        here.until(here.decides)
        yield here
    shutil.rmtree(folder)


def test_nodes_matchers_and_the_primary_may_go(running: Running) -> None:
    booked = [running.serve_a_patient()]

    # whichever node has the streams: each is killed once
    for node in running.cluster.valkey.nodes:
        node.kill()
        booked.append(running.serve_a_patient())

    # a territory moves, and its new matcher is fenced against the old one
    old, fence = running.decides(), running.sql("select fence from lease where territory = '69'")
    share = 1 - int(old.rpartition(":")[2])

    async def move() -> None:
        async with open_stores(running.service.settings) as stores:
            await stores.ledger.move_territory("69", share, stores.clock.now())

    blocking(move())
    new = running.until(lambda: (holder := running.decides()) != old and holder)
    assert int(new.rpartition(":")[2]) == share
    assert running.sql("select fence from lease where territory = '69'") > fence
    booked.append(running.serve_a_patient())

    # the replica takes over, with everything that was ever acknowledged
    before = running.cluster.primary.folder
    running.cluster.primary.kill()
    booked.append(running.serve_a_patient())
    assert running.cluster.failovers == 1
    assert running.cluster.primary.folder != before
    firm = running.sql("select count(*) from booking where state = 'firm' and id = any($1::uuid[])", booked)
    assert firm == len(set(booked)) == 6
    assert running.sql("select pg_is_in_recovery()") is False


def test_the_secret_of_the_cluster_is_for_its_owner_alone(running: Running) -> None:
    node = running.cluster.valkey.nodes[0]
    assert node.folder.stat().st_mode & 0o777 == 0o700
    assert (node.folder / "secret.conf").stat().st_mode & 0o777 == 0o600
    secret = running.cluster.redis_url.partition(":")[2].partition("@")[0].rpartition(":")[2]
    assert secret not in Path(f"/proc/{node.pid}/cmdline").read_text("utf-8")

    async def without_it() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(b"PING\r\n")
        said = await reader.readline()
        writer.close()
        return said.decode()

    assert blocking(without_it()).startswith("-NOAUTH")
