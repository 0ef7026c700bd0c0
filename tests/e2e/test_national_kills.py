"""INT_R03 through SIGKILL: the core's process dies while it sends, again and again; each change arrives, in order."""

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import pytest
from starlette.requests import Request
from starlette.responses import Response

from adapters.postgres.national import PostgresNational
from sas_matcher.config import Settings
from tests.api.conftest import settings_for
from tests.api.running import eventually, next_spot, rpps, run_service, slot, wish
from tests.api.test_national import OPERATOR, SYSTEM, Platform, Side
from tests.conftest import Servers

pytestmark = pytest.mark.timeout(300)
KILLS: Final = 4
BOOKINGS: Final = 12


@dataclass
class SlowPlatform(Platform):
    """Answers late, so that a kill often falls between what it heard and what it answers."""

    open_calls: int = 0
    cut: list[str] = field(default_factory=list)

    async def appointment(self, request: Request) -> Response:
        self.open_calls += 1
        try:
            answer = await super().appointment(request)
            await asyncio.sleep(0.3)
            if await request.is_disconnected():
                self.cut.append(request.method)
            return answer
        finally:
            self.open_calls -= 1


class CoreProcess:
    """The core as ``serve`` runs it, to be killed."""

    def __init__(self, settings: Settings) -> None:
        self._environment = os.environ | settings.to_environment()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        line = [sys.executable, "-m", "sas_matcher.worker", "core", str(os.getpid()), "kills"]
        self._process = subprocess.Popen(line, env=self._environment)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


async def _book(side: Side, start: timedelta) -> str:
    """Book a place chosen by hand, which needs no matcher."""
    spot = next_spot(side.service.geography)
    place = slot(spot, side.service.clock.now() + start, professional={"rpps": rpps(), "name": "Dr Fictif"})
    (number,) = await side.practice.publish(place)
    asked = await side.regulator.post("/v1/requests", wish(spot))
    assert asked.status_code in (201, 202), asked.text
    request_id = asked.json()["request_id"]
    await side.regulator.act("take", request_id, {"slot_id": number})
    firm = await side.regulator.act("confirm", request_id)
    return str(firm["booking"]["booking_id"])


async def _cancelled(side: Side, booking: str) -> None:
    await side.regulator.act("cancel", await side.request_of(booking))


async def _through_kills(side: Side, core: CoreProcess, platform: SlowPlatform) -> dict[str, list[str]]:
    """Book and cancel while the core is killed in the midst of sending; returns what must have been told."""
    expected: dict[str, list[str]] = {}
    for number in range(BOOKINGS):
        booking = await _book(side, timedelta(hours=1, minutes=number))
        expected[booking] = ["booked"]
        if number % 2:
            await _cancelled(side, booking)
            expected[booking].append("cancelled")
        if number % (BOOKINGS // KILLS) == 0:
            await eventually(lambda: platform.open_calls, 60)
            core.kill()
            # the dead sender's lease, as if its minute had passed
            await side.service.rows(
                "update appointment_message set claimed_until = null where state = 'waiting' returning id"
            )
            core.start()
    return expected


async def test_each_change_arrives_in_order_though_the_sender_is_killed(servers: Servers) -> None:
    database_url = servers.new_database()
    platform = SlowPlatform(failing=3)
    async with platform.running() as url:
        settings = settings_for(
            database_url,
            servers.new_redis(),
            national_url=url,
            fhir_system=SYSTEM,
            national_operator="|".join(OPERATOR),
        )
        core = CoreProcess(settings)
        async with run_service(settings, with_core=False) as running:
            # what the core does when it starts, before the first booking
            await PostgresNational(running.stores.ledger).link(running.clock.now(), on=True)
            side = Side(
                running, platform, await running.practice(), await running.regulator(), await running.key("admin")
            )
            core.start()
            try:
                expected = await _through_kills(side, core, platform)
                await eventually(lambda: _nothing_waits(side), 120)
            finally:
                core.kill()
    assert {booking: platform.told_of(booking) for booking in expected} == expected
    assert platform.faults == []
    assert platform.cut, "some calls were under way when their sender died"
    for booking in expected:
        methods = [method for identifier, method, _, _ in platform.heard if identifier == booking]
        assert methods.count("POST") <= 1, "what may have arrived is sent again as an update"
    servers.drop_database(database_url)


async def _nothing_waits(side: Side) -> bool:
    # what failed is due again at once
    await side.service.rows("update appointment_message set next_at = 'epoch' where state = 'waiting' returning id")
    waiting: list[dict[str, Any]] = await side.messages(state="waiting")
    return not waiting
