"""The websocket: who gets in, what ends it, and that a break loses nothing without saying so."""

import asyncio
import gc
import resource
import uuid
import weakref
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from sas_matcher.api import hub as hub_module
from sas_matcher.api import ws
from sas_matcher.console.wall_pages import SCREEN_COOKIE, SCREEN_PATH
from sas_matcher.ports.bus import EVENTS_STREAM, entry_order
from sas_matcher.ports.ledger import Announcement
from tests.api import ws_cuts
from tests.api.conftest import Scene
from tests.api.running import ORIGIN, WAIT_S, Caller, Listener, Running, eventually

STRUCTURE = "690000017"


async def opened(service: Running, query: str = "", **options: Any) -> ClientConnection:
    """Open a socket without a word."""
    url = service.url.replace("http", "ws") + "/v1/ws" + query
    return await connect(url, ping_interval=None, proxy=None, **options)


async def hello(socket: ClientConnection, ticket: str, **more: Any) -> None:
    """Say hello."""
    await socket.send(orjson.dumps({"type": "hello", "ticket": ticket, "resume": None, **more}).decode())


async def close_code(socket: ClientConnection) -> int | None:
    """Read until the end; returns the close code."""
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                await socket.recv()
    except ConnectionClosed:
        return socket.close_code


def _at_least(listener: Listener, count: int) -> bool:
    return len(listener.events) >= count


def announcement(caller: Caller, number: int, size: int = 0) -> Announcement:
    """Return an event for a caller that came from nowhere, of a chosen size."""
    data = orjson.dumps({"request_id": f"r{number}", "filling": "x" * size}).decode()
    now = caller.service.clock.now()
    return Announcement(
        number, now, "69", "events", "request.held", f"{caller.key_id}-{number}", 1, caller.key_id, (), data
    )


# -- getting in --------------------------------------------------------------------------------------------------------


async def test_a_ticket_is_good_once(scene: Scene) -> None:
    ticket = await scene.regulator.ticket()
    first = await opened(scene.service)
    await hello(first, ticket)
    assert orjson.loads(await first.recv())["type"] == "welcome"
    second = await opened(scene.service)
    await hello(second, ticket)
    assert await close_code(second) == 4401
    await first.close()


async def test_a_ticket_is_good_for_thirty_seconds(scene: Scene) -> None:
    young, old = await scene.regulator.ticket(), await scene.regulator.ticket()
    scene.service.clock.ahead += timedelta(seconds=29)
    socket = await opened(scene.service)
    await hello(socket, young)
    assert orjson.loads(await socket.recv())["type"] == "welcome"
    await socket.close()
    scene.service.clock.ahead += timedelta(seconds=1.5)
    socket = await opened(scene.service)
    await hello(socket, old)
    assert await close_code(socket) == 4401


async def test_a_ticket_or_key_in_the_url_opens_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws, "HELLO_S", 0.2)
    ticket = await scene.regulator.ticket()
    for query in (f"?ticket={ticket}", f"?token={scene.regulator.token}"):
        socket = await opened(
            scene.service, query, additional_headers={"Authorization": f"Bearer {scene.regulator.token}"}
        )
        assert await close_code(socket) == 4401, "silence is not a hello"
    socket = await opened(scene.service)
    await hello(socket, ticket)
    assert orjson.loads(await socket.recv())["type"] == "welcome", "and nobody used the ticket up"
    await socket.close()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 1008),
        ("hello", 1008),
        ("{}", 1008),
        ('{"type":"pong"}', 1008),
        ('{"type":"hello"}', 1008),
        ('{"type":"hello","ticket":"x"}', 1008),
        ('{"type":"hello","ticket":"' + "A" * 43 + '","nom":"Dupont"}', 1008),
        ('{"type":"hello","ticket":"' + "A" * 43 + '","resume":{"epoch":"e","offset":"abc"}}', 1008),
        ('{"type":"hello","ticket":"' + "A" * 43 + '","resume":{"epoch":"e","offset":"١-١"}}', 1008),
        ("[" * 20_000, 1008),
        (b"\x00\x01", 1008),
        ('{"type":"hello","ticket":"' + "A" * 43 + '"}', 4401),
        ("x" * (64 * 1024 + 1), 1009),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_is_no_hello(scene: Scene, text: str | bytes, code: int) -> None:
    socket = await opened(scene.service)
    await socket.send(text)
    assert await close_code(socket) == code


async def test_origins_are_an_allow_list(scene: Scene) -> None:
    for origin in ("https://evil.example", "https://console.example.evil.example", "null", ORIGIN + ":8443"):
        with pytest.raises(InvalidStatus) as refused:
            await opened(scene.service, origin=origin)
        assert refused.value.response.status_code == 403
    for allowed in (ORIGIN, None):  # no browser sends none: programs do
        socket = await opened(scene.service, origin=allowed)
        await hello(socket, await scene.regulator.ticket())
        assert orjson.loads(await socket.recv())["type"] == "welcome"
        await socket.close()


async def test_a_full_house_takes_no_more(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    sockets = scene.service.app.state.sockets
    await eventually(lambda: sockets._open == 0)
    monkeypatch.setattr(sockets, "_most", 2)
    inside = [await opened(scene.service) for _ in range(2)]
    with pytest.raises(InvalidStatus):
        await opened(scene.service)
    await inside[0].close()
    await eventually(lambda: sockets._open < 2)
    inside.append(await opened(scene.service))
    for socket in inside:
        await socket.close()


# -- being thrown out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message", ['{"type":"subscribe"}', "{}", "pong", "", '{"type":"pong","x":1}', b"\x00", "[" * 5_000], ids=str
)
async def test_unknown_messages_end_the_socket(scene: Scene, message: str | bytes) -> None:
    async with await scene.regulator.listen() as listener:
        await listener.socket.send('{"type":"pong"}')
        await listener.socket.send(message)
        assert await listener.closed() == 1008


async def test_an_oversize_message_ends_the_socket(scene: Scene) -> None:
    async with await scene.regulator.listen() as listener:
        await listener.socket.send("x" * (64 * 1024 + 1))
        assert await listener.closed() == 1009


async def test_a_flood_ends_the_socket(scene: Scene) -> None:
    async with await scene.regulator.listen() as listener:
        for _ in range(ws.PER_MINUTE):
            await listener.socket.send('{"type":"pong"}')
        await scene.regulator.ticket()  # a round trip: all of that was read and borne
        assert listener.socket.close_code is None
        scene.service.clock.ahead += timedelta(seconds=61)
        await listener.socket.send('{"type":"pong"}')
        await asyncio.sleep(0.1)
        assert listener.socket.close_code is None, "a new minute"
        try:
            for _ in range(ws.PER_MINUTE):
                await listener.socket.send('{"type":"pong"}')
        except ConnectionClosed:
            pass
        assert await listener.closed() == 1008


async def test_a_revoked_key_loses_its_socket(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws, "RECHECK_S", 0.1)
    async with await scene.regulator.listen() as mine, await scene.practice.listen() as other:
        await asyncio.sleep(0.3)
        assert mine.socket.close_code is None
        await scene.service.stores.ledger.revoke_key(scene.regulator.key_id, scene.service.clock.now())
        assert await mine.closed() == 4401
        assert other.socket.close_code is None


async def test_the_heartbeat_finds_dead_readers(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(ws, "SILENCE_S", 1.5)  # who answers must come to it on a busy machine
    async with await scene.regulator.listen() as alive:
        dead = await opened(scene.service)
        await hello(dead, await scene.regulator.ticket())
        assert await close_code(dead) == 4408, "it was sent pings and answered none"
        assert alive.socket.close_code is None
        assert sum(message["type"] == "ping" for message in alive.messages) >= 3


async def test_a_busy_socket_is_pinged_too(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws, "HEARTBEAT_S", 0.3)
    monkeypatch.setattr(ws, "SILENCE_S", 5.0)
    async with await scene.regulator.listen() as busy:
        # an event every few milliseconds: the socket is never quiet for a heartbeat
        for number in range(150):
            await scene.service.stores.bus.publish([announcement(scene.regulator, number)])
            await asyncio.sleep(0.01)
        assert busy.socket.close_code is None
        assert sum(message["type"] == "ping" for message in busy.messages) >= 3


async def test_a_slow_reader_is_cut_and_costs_a_bounded_amount(
    scene: Scene, service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "QUEUE", 50)
    monkeypatch.setattr(ws, "SEND_S", 1.0)
    monkeypatch.setattr(ws, "CLOSE_S", 0.3)
    hub = service.app.state.wire.hub
    size, count = 50_000, 600  # 30 MB in all: three times what the socket buffers of a machine take
    async with await scene.regulator.listen() as quick:
        slow = await opened(service, max_queue=1)
        await hello(slow, await scene.regulator.ticket())
        assert orjson.loads(await slow.recv())["type"] == "welcome"
        subscribers = list(hub._by_key[scene.regulator.key_id])
        assert len(subscribers) == 2
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        longest = 0
        for start in range(0, count, 20):
            await service.stores.bus.publish(
                [announcement(scene.regulator, number, size) for number in range(start, start + 20)]
            )
            await eventually(partial(_at_least, quick, start))
            longest = max(longest, *(subscriber.queue.qsize() for subscriber in subscribers))
            quick.messages[:] = [{"type": "event", "event": ""}] * len(quick.messages)  # only counted
        await eventually(lambda: len(quick.events) == count)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        await eventually(lambda: len(hub._by_key[scene.regulator.key_id]) == 1)
        assert longest <= 50
        assert grown < 20, f"{grown:.0f} MB more for one reader that does not read"
        remembered = [weakref.ref(subscriber) for subscriber in subscribers]
        del subscribers
        gc.collect()
        assert sum(reference() is not None for reference in remembered) == 1, "and nothing of it is kept"
        await slow.close()


async def test_a_slow_reader_that_wakes_up_is_told_to_resume(
    scene: Scene, service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "QUEUE", 50)
    async with await scene.regulator.listen() as quick:
        slow = await opened(service, max_queue=1)
        await hello(slow, await scene.regulator.ticket())
        await slow.recv()
        for start in range(0, 1_000, 20):
            await service.stores.bus.publish(
                [announcement(scene.regulator, number, 50_000) for number in range(start, start + 20)]
            )
            await eventually(partial(_at_least, quick, start))
        last = {"epoch": "", "offset": ""}
        try:
            while True:
                message = orjson.loads(await asyncio.wait_for(slow.recv(), WAIT_S))
                last = {"epoch": message["epoch"], "offset": message["offset"]}
        except ConnectionClosed:
            assert slow.close_code == 4408
        finally:
            slow.transport.abort()
        async with await scene.regulator.listen(last) as again:
            await eventually(lambda: any(m.get("aggregate", "").endswith("-999") for m in again.messages))
            assert all(message["type"] == "event" for message in again.messages), "no gap: history had it all"


# -- going on where one was -----------------------------------------------------------------------------------------


async def test_a_resume_brings_what_was_missed_in_order_and_only_once(scene: Scene) -> None:
    await scene.practice.publish(scene.slot(60, capacity=20, lasting=120))
    async with await scene.regulator.listen() as first:
        one = await scene.regulator.ask(scene.wish())
        seen = await first.event("request.held", request_id=one["request_id"])
    position = {"epoch": seen["epoch"], "offset": seen["offset"]}
    missed = [(await scene.regulator.ask(scene.wish()))["request_id"] for _ in range(3)]
    await scene.regulator.act("confirm", missed[0])
    async with await scene.regulator.listen(position) as second:
        await second.event("request.firm", request_id=missed[0])
        got = [(event["event"], event["data"]["request_id"]) for event in second.events]
        assert got == [*(("request.held", name) for name in missed), ("request.firm", missed[0])]
        later = await scene.regulator.ask(scene.wish())
        await second.event("request.held", request_id=later["request_id"])
        assert len(second.events) == 5
        assert not [message for message in second.messages if message["type"] == "gap"]


async def test_a_resume_shows_nobody_elses_events(scene: Scene, service: Running) -> None:
    await scene.practice.publish(scene.slot(60, capacity=20, lasting=120))
    other = await service.regulator()
    stranger = await service.practice()
    coordinator = await service.key("ars", territories=(scene.spot.territory,))
    elsewhere = await service.key("ars", territories=("976",))
    async with await other.listen() as start:
        position = {"epoch": start.welcome["epoch"], "offset": start.welcome["offset"]}
        held = await scene.regulator.ask(scene.wish(case_ref="dossier-7"))
        await scene.regulator.act("confirm", held["request_id"])
        await asyncio.sleep(0.2)
        assert not start.events
    for caller in (other, stranger, elsewhere):
        async with await caller.listen(position) as listener:
            await asyncio.sleep(0.15)
            assert not listener.messages
    async with await coordinator.listen(position) as listener:
        told = await listener.event("request.firm", request_id=held["request_id"])
        # nothing by which one patient in a hamlet could be known, whose count no figure shows
        assert told["data"].keys() == {"request_id", "territory", "status", "version", "tier"}
        await listener.event("booking.firm")


async def test_a_screen_on_a_wall_hears_no_more_than_that_something_changed(scene: Scene, service: Running) -> None:
    """Whoever steers structures opens it, and its cookie lies for days on a machine that nobody guards."""
    keeper = await service.key("gestionnaire", territories=(scene.spot.territory,), structures=(STRUCTURE,))
    token = await service.app.state.wire.screens.open(scene.spot.territory, "Salle", keeper.key_id)
    url = f"{service.url.replace('http', 'ws')}{SCREEN_PATH}/flux"
    headers = {"Cookie": f"{SCREEN_COOKIE}={token}"}
    socket = await connect(url, ping_interval=None, proxy=None, additional_headers=headers, origin=Origin(service.url))
    async with socket, await keeper.listen() as whole:
        assert orjson.loads(await socket.recv())["type"] == "welcome"
        practice = await service.practice(structures=(STRUCTURE,))
        await practice.publish(scene.slot(60, structure={"finess": STRUCTURE, "name": "CDS Fictif", "kind": "cds"}))
        held = await scene.regulator.ask(scene.wish(age_band="enfant"))
        await scene.regulator.act("confirm", held["request_id"])
        booked = await whole.event("booking.firm")
        assert "age_band" in booked["data"], "who keeps the structure sees its bookings"
        told: list[dict[str, Any]] = []
        while not any(message.get("event") == "booking.firm" for message in told):
            told.append(orjson.loads(await asyncio.wait_for(socket.recv(), 5)))
        seen = {name for message in told for name in message.get("data", {})}
        assert seen <= {"request_id", "booking_id", "territory", "status", "state", "version", "tier"}


Change = Callable[[dict[str, str], Scene], Awaitable[dict[str, str]]]


async def wrong_epoch(position: dict[str, str], scene: Scene) -> dict[str, str]:
    return {**position, "epoch": str(uuid.uuid4())}


async def from_the_future(position: dict[str, str], scene: Scene) -> dict[str, str]:
    return {**position, "offset": "9999999999999-0"}


async def trimmed(position: dict[str, str], scene: Scene) -> dict[str, str]:
    async with await scene.regulator.listen() as other:
        held = await scene.regulator.ask(scene.wish())  # something that was missed
        await other.event("request.waiting", request_id=held["request_id"])
    await scene.service.stores.bus.redis.xtrim(EVENTS_STREAM, maxlen=1, approximate=False)
    await scene.regulator.act("cancel", held["request_id"])
    return position


async def too_far_behind(position: dict[str, str], scene: Scene) -> dict[str, str]:
    stranger = await scene.service.regulator()
    for start in range(0, hub_module.REPLAY + 200, 500):
        await scene.service.stores.bus.publish([announcement(stranger, n) for n in range(start, start + 500)])
    # the hub has to have read it all: what lies beyond its position is not history yet
    end = (await scene.service.stores.bus.tails([EVENTS_STREAM]))[EVENTS_STREAM]
    await eventually(lambda: entry_order(scene.service.app.state.wire.hub.position) >= entry_order(end), 30)
    return position


@pytest.mark.parametrize("change", [wrong_epoch, from_the_future, trimmed, too_far_behind])
async def test_what_cannot_be_caught_up_is_a_gap(scene: Scene, change: Change) -> None:
    async with await scene.regulator.listen() as first:
        position = {"epoch": first.welcome["epoch"], "offset": first.welcome["offset"]}
    position = await change(position, scene)
    async with await scene.regulator.listen(position) as second:
        await eventually(lambda: second.messages)
        gap = second.messages[0]
        assert gap["type"] == "gap" and gap["reason"] == "history_gone"
        assert gap["epoch"] == second.welcome["epoch"]
        # from the gap on all comes again
        held = await scene.regulator.ask(scene.wish())
        await second.event("request.waiting", request_id=held["request_id"])
        assert [message["type"] for message in second.messages].count("gap") == 1


async def test_two_hundred_cuts_lose_nothing(service: Running) -> None:
    result = await ws_cuts.cut(service, 200)
    assert result.cuts >= 200
    assert result.missing == [] and result.repeated == []
    assert result.confirmed > 20
