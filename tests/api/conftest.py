"""One running service for the tests of the API, on the session's real servers."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from adapters.embedded import start_valkey
from adapters.geo.gazetteer import Commune
from sas_matcher.config import Settings
from tests.api.running import ORIGIN, Caller, Running, next_spot, run_service, slot, wish
from tests.conftest import Servers
from tests.post_office import Post


def settings_for(database_url: str, redis_url: str, **changes: Any) -> Settings:
    """Return settings for a service inside the tests."""
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        **{
            "rate": 100_000.0,
            "burst": 100_000.0,
            "origins": (ORIGIN,),
            "pool": 8,
            "feed_hosts": ("127.0.0.1",),
            "webhook_hosts": ("127.0.0.1",),
            "log_level": "warning",
            # what is expected hangs on the hour of the day: without it a promise means the same at noon and at night
            "expected_days": 0,
            **changes,
        },
    )


@pytest.fixture(scope="package")
def post() -> Post:
    """The mail that the service sends."""
    return Post()


@pytest.fixture(scope="package")
async def service(servers: Servers, post: Post) -> AsyncIterator[Running]:
    """The whole service, shared by the tests of this package: each uses communes and keys of its own."""
    database_url = servers.new_database()
    async with post.open() as place:
        mail = {"smtp_url": f"smtp://{place}", "mail_from": "sas@chu.example"}
        async with run_service(settings_for(database_url, servers.new_redis(), **mail)) as running:
            yield running
    servers.drop_database(database_url)


@dataclass
class Scene:
    """A commune with a regulator and a practice of its own."""

    service: Running
    spot: Commune
    regulator: Caller
    practice: Caller

    def at(self, minutes: float) -> datetime:
        """Return an instant so many minutes from now, by the service's clock."""
        return self.service.clock.now() + timedelta(minutes=minutes)

    def slot(self, minutes: float = 120, **changes: Any) -> dict[str, Any]:
        """Return a slot here that starts in so many minutes."""
        return slot(self.spot, self.at(minutes), **changes)

    def wish(self, **changes: Any) -> dict[str, Any]:
        """Return a request here."""
        return wish(self.spot, **changes)


@pytest.fixture
async def scene(service: Running) -> Scene:
    """A fresh scene."""
    return Scene(service, next_spot(service.geography), await service.regulator(), await service.practice())


@pytest.fixture(scope="module")
async def alone(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A service with a Redis that is nobody else's: to be flushed, to make users in."""
    database_url = servers.new_database()
    valkey = start_valkey(tmp_path_factory.mktemp("valkey"), durable=False)
    try:
        async with run_service(settings_for(database_url, valkey.url)) as running:
            yield running
    finally:
        valkey.stop()
        servers.drop_database(database_url)
