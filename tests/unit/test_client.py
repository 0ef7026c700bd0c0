"""The client against a small fake of the service: what it sends, when it repeats, how its stream goes on."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import httpx
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

import sas_matcher.client
from sas_matcher.client import (
    ApiError,
    Event,
    EventStream,
    FieldError,
    Gap,
    NoPlace,
    Position,
    Request,
    Retry,
    SasClient,
    UnreachableError,
)

Answer = httpx.Response | Exception
PLACE = {
    "slot_id": 7,
    "start": "2026-11-23T14:00:00+01:00",
    "end": "2026-11-23T14:15:00+01:00",
    "mode": "cabinet",
    "distance_km": 3.2,
    "travel_min": 9.0,
    "travel_source": "estimate",
    "wait_min": 42.0,
    "is_mt": False,
    "site": {
        "professional_name": "Dr Olive Fictif-Houx",
        "structure_name": None,
        "label": "Cabinet fictif Houx, Mende",
        "phone": None,
        "lat": 44.5,
        "lon": 3.5,
    },
    "from_the_future": 1,
}
REQUEST: dict[str, Any] = {
    "request_id": "r1",
    "status": "held",
    "version": 2,
    "territory": "48",
    "tier": "T1",
    "delay": "4H",
    "created_at": "2026-11-23T12:00:00+00:00",
    "deadline": "2026-11-23T16:00:00+00:00",
    "profession": "MG",
    "modes": ["cabinet"],
    "booking": {"booking_id": "b1", "slot_id": 7, "state": "held", "hold_until": "2026-11-23T12:03:00+00:00"},
    "decision": {
        "place": PLACE,
        "none": None,
        "reasons": ["NEAREST"],
        "sentence": "14 h 00, la plus proche.",
        "alternatives": [PLACE],
        "decided_at": "2026-11-23T12:00:00+00:00",
        "method": "exact",
        "batch_size": 1,
        "gap_min": 0.0,
    },
    "unknown_key": "kept",
}

SETTING: dict[str, Any] = {
    "territory": "69",
    "version": 2,
    "changed_at": "2026-11-23T12:00:00+00:00",
    "hold_seconds": 180,
    "mt_rule": "bonus",
    "mt_ask_min": 3,
    "policy": {"T0": "firm", "T1": "firm", "T2": "firm", "T3": "auto"},
    "crisis_allowed": True,
    "crisis": True,
    "ageing_pct_per_h": 0.5,
    "fair_load_min": 2.5,
    "radius_pct": 150,
    "urgent_reserve_pct": 30,
    "tele_bonus_min": 10.0,
    "borrow": {"01": 20},
    "borrow_km": 40.0,
}
SETTING_CHANGE: dict[str, Any] = {
    "territory": "69",
    "version": 2,
    "at": "2026-11-23T12:00:00+00:00",
    "key_id": "cle42",
    "why": "afflux",
    "before": {
        **SETTING,
        "policy": {**SETTING["policy"], "T3": "firm"},
        "crisis": False,
        "ageing_pct_per_h": 0.0,
        "version": 1,
    },
    "after": SETTING,
}


class Fake:
    """Answers in the order given, the last one for ever; keeps what it was asked and how long the client waited."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.calls: list[httpx.Request] = []
        self.waits: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def client(self, **options: Any) -> SasClient:
        keys: Iterator[str] = iter(f"key-{n:04d}" for n in range(1000))
        options = {"transport": httpx.MockTransport(self), "sleep": self.sleep, "chance": lambda: 0.0, **options}
        return SasClient("http://127.0.0.1:9", "sas_k_s", new_idempotency_key=lambda: next(keys), **options)


def ok(document: object, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=document)


def refused(status: int, code: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "detail": "Non.", "request_id": "t1", **more}, headers=headers)


def test_exported_members() -> None:
    """All that is public is in ``__all__``, sorted, and nothing else is."""
    public = {
        name
        for name, value in vars(sas_matcher.client).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert sas_matcher.client.__all__ == sorted(public)


# -- calls -------------------------------------------------------------------------------------------------------


async def test_answers_are_typed_and_keep_what_they_do_not_know() -> None:
    fake = Fake(ok(REQUEST, 201))
    async with fake.client() as sas:
        request = await sas.create_request({"insee": "48095", "profession": "MG", "delay": "4H"})
    assert request.status == "held"
    assert request.deadline == datetime(2026, 11, 23, 16, tzinfo=UTC)
    assert request.raw["unknown_key"] == "kept"
    assert request.place is not None
    assert request.place.site.name == "Dr Olive Fictif-Houx, Cabinet fictif Houx, Mende"
    assert request.place.raw["from_the_future"] == 1
    assert request.booking is not None and request.booking.hold_until is not None
    assert fake.calls[0].headers["authorization"] == "Bearer sas_k_s"
    assert json.loads(fake.calls[0].content) == {"insee": "48095", "profession": "MG", "delay": "4H"}


def test_what_would_help_is_typed() -> None:
    way = {"concessions": ["radius"], "size_min": 4.7, "ask": {"radius_km": 32.4}, "sentence": "à 2,4 km de plus"}
    none = {"reason": "NO_SLOT_IN_RADIUS", "sentence": "Pas de place.", "counts": {}}
    (read,) = NoPlace.of({**none, "would_help": [{**way, "place": PLACE}]}).would_help or ()
    assert (read.concessions, read.size_min, read.ask) == (("radius",), 4.7, {"radius_km": 32.4})
    assert read.place.slot_id == PLACE["slot_id"] and read.sentence == way["sentence"]
    assert NoPlace.of({**none, "would_help": []}).would_help == ()
    assert NoPlace.of({**none, "would_help": None}).would_help is NoPlace.of(none).would_help is None


async def test_a_lapsed_request_has_no_place_although_its_decision_names_one() -> None:
    assert Request.of({**REQUEST, "booking": None, "status": "lapsed"}).place is None


async def test_every_action_has_a_key_of_its_own() -> None:
    fake = Fake(ok(REQUEST))
    async with fake.client() as sas:
        await sas.create_request({})
        await sas.confirm("r1", booking_id="b1")
        await sas.decline("r1", scope="professional")
        await sas.take("r1", 7)
        await sas.cancel("r1", reason="patient")
        await sas.hand("r1", "colleague")
        await sas.resume("r1", idempotency_key="of-the-caller")
    keys = [call.headers["idempotency-key"] for call in fake.calls]
    assert keys == ["key-0000", "key-0001", "key-0002", "key-0003", "key-0004", "key-0005", "of-the-caller"]
    assert [call.url.path for call in fake.calls[1:]] == [
        f"/v1/requests/r1/{action}" for action in ("confirm", "decline", "take", "cancel", "hand", "resume")
    ]
    assert json.loads(fake.calls[2].content) == {"scope": "professional"}


@pytest.mark.parametrize(
    "failure",
    [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), refused(503, "unavailable"), refused(429, "too_many")],
)
async def test_a_retry_repeats_the_same_key_and_the_same_bytes(failure: Answer) -> None:
    """Otherwise the service would take the retry for a second action."""
    fake = Fake(failure, failure, ok(REQUEST))
    async with fake.client() as sas:
        request = await sas.create_request({"insee": "48095"})
    assert request.request_id == "r1"
    assert len(fake.calls) == 3
    assert len({(call.headers["idempotency-key"], call.content) for call in fake.calls}) == 1
    assert fake.waits == [0.2, 0.4]


async def test_retry_after_is_respected() -> None:
    fake = Fake(refused(429, "too_many_requests", {"Retry-After": "3"}), ok(REQUEST))
    async with fake.client() as sas:
        await sas.confirm("r1")
    assert fake.waits == [3.0]


async def test_a_retry_after_beyond_patience_is_told_at_once() -> None:
    fake = Fake(refused(503, "unavailable", {"Retry-After": "600"}))
    async with fake.client() as sas:
        with pytest.raises(ApiError) as told:
            await sas.confirm("r1")
    assert (told.value.status, told.value.retry_after, fake.waits) == (503, 600.0, [])


async def test_tries_end() -> None:
    fake = Fake(httpx.ConnectError("refused"))
    async with fake.client(retry=Retry(attempts=3, first_s=1.0, longest_s=1.5)) as sas:
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1.*refused"):
            await sas.me()
    assert fake.waits == [1.0, 1.5]


async def test_what_may_not_be_repeated_is_sent_once() -> None:
    fake = Fake(httpx.ReadTimeout("slow"))
    async with fake.client() as sas:
        with pytest.raises(UnreachableError):
            await sas.call("POST", "/v1/anything", body={})
        assert len(fake.calls) == 1
        with pytest.raises(UnreachableError):
            await sas.call("POST", "/v1/anything", body={}, repeatable=True)
    assert len(fake.calls) == 6


@pytest.mark.parametrize("status", [401, 404, 409, 422, 500])
async def test_other_refusals_are_final(status: int) -> None:
    fake = Fake(refused(status, "some_code", errors=[{"field": "slots.3.start", "message": "est passé"}]))
    async with fake.client() as sas:
        with pytest.raises(ApiError) as told:
            await sas.publish_slots([{}])
    assert (told.value.status, told.value.code, told.value.detail) == (status, "some_code", "Non.")
    assert told.value.errors == (FieldError("slots.3.start", "est passé"),)
    assert told.value.request_id == "t1"
    assert len(fake.calls) == 1


async def test_settings_are_changed_in_part_with_a_key_of_their_own() -> None:
    fake = Fake(refused(503, "unavailable"), ok({**SETTING, "in_force": SETTING["policy"], "unknown": 1}))
    async with fake.client() as sas:
        setting = await sas.change_setting("69", {"crisis": True}, why="afflux", version=1)
    assert [(call.method, call.url.path) for call in fake.calls] == [("PATCH", "/v1/territories/69/settings")] * 2
    assert len({(call.headers["idempotency-key"], call.content) for call in fake.calls}) == 1
    assert json.loads(fake.calls[0].content) == {"crisis": True, "why": "afflux", "version": 1}
    assert (setting.crisis, setting.policy["T3"], setting.in_force["T3"], setting.version) == (True, "auto", "auto", 2)
    assert setting.changed_at == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert setting.raw["unknown"] == 1


async def test_the_trace_of_settings_is_typed() -> None:
    fake = Fake(ok({"territory": "69", "changes": [SETTING_CHANGE], "next_before": 2}))
    async with fake.client() as sas:
        page = await sas.setting_changes("69", before=3)
    assert dict(fake.calls[0].url.params) == {"before": "3", "limit": "50"}
    (change,) = page.changes
    assert (change.key_id, change.why, change.before.crisis, change.after.crisis) == ("cle42", "afflux", False, True)
    assert (page.next_before, change.after.in_force) == (2, {})


async def test_an_answer_of_a_proxy_is_an_error_too() -> None:
    fake = Fake(httpx.Response(502, text="<html>"), httpx.Response(200, text="<html>"))
    async with fake.client() as sas:
        with pytest.raises(ApiError) as told:
            await sas.me()
        assert (told.value.status, told.value.code) == (502, "http_502")
        with pytest.raises(ApiError) as told:
            await sas.me()
    assert told.value.code == "not_json"


async def test_withdrawing_takes_names_or_a_window() -> None:
    fake = Fake(ok({"counts": {"withdrawn": 1}, "results": [{"external_id": "a", "outcome": "withdrawn"}]}))
    noon, evening = datetime(2026, 11, 23, 12, tzinfo=UTC), datetime(2026, 11, 23, 18, tzinfo=UTC)
    async with fake.client() as sas:
        outcomes = await sas.withdraw_slots(["a"], reason="illness")
        await sas.withdraw_slots(window=(noon, evening))
        with pytest.raises(ValueError, match="external_ids or window"):
            await sas.withdraw_slots()
        with pytest.raises(ValueError, match="external_ids or window"):
            await sas.withdraw_slots(["a"], window=(noon, evening))
    assert outcomes.counts == {"withdrawn": 1}
    assert outcomes.results[0].slot_id is None
    assert [json.loads(call.content) for call in fake.calls] == [
        {"reason": "illness", "external_ids": ["a"]},
        {"from": "2026-11-23T12:00:00+00:00", "to": "2026-11-23T18:00:00+00:00"},
    ]


async def test_queries_leave_out_what_is_not_asked() -> None:
    slot = {
        "slot_id": 1,
        "external_id": "a",
        "start": "2026-11-23T14:00:00+01:00",
        "end": "2026-11-23T14:15:00+01:00",
        "capacity": 1,
        "left": 1,
        "mode": "cabinet",
        "profession": "MG",
        "status": "open",
    }
    fake = Fake(
        ok({"requests": [REQUEST]}),
        ok({"buckets": [], "cards": []}),
        ok({"slots": [slot], "next_after": 1}),
        ok({"slots": [], "next_after": None}),
    )
    now = datetime(2026, 11, 23, tzinfo=UTC)
    async with fake.client() as sas:
        assert [request.request_id for request in await sas.requests(status=("held", "waiting"))] == ["r1"]
        await sas.offers("MG", insee="48095", modes=("cabinet", "tele"))
        assert [found.external_id for found in await sas.all_slots(now, now)] == ["a"]
    assert dict(fake.calls[0].url.params) == {"status": "held,waiting", "limit": "50"}
    assert dict(fake.calls[1].url.params) == {"profession": "MG", "insee": "48095", "modes": "cabinet,tele"}
    assert fake.calls[3].url.params["after"] == "1"


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first_s": -1.0}, {"first_s": 2.0, "longest_s": 1.0}])
def test_a_retry_policy_is_checked_at_birth(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Expected attempts"):
        Retry(**wrong)


def test_waits_double_to_a_limit_and_never_vanish() -> None:
    retry = Retry(first_s=0.2, longest_s=5.0)
    assert [retry.wait_s(tries, 0.0) for tries in (1, 2, 3, 10, 10_000)] == [0.2, 0.4, 0.8, 5.0, 5.0]
    assert retry.wait_s(1, 0.999) >= 0.1


async def test_a_key_that_no_header_can_carry_is_refused_at_birth() -> None:
    """Later it would look like a service that does not answer."""
    for wrong in ("sas_é", "sas_x y", "sas_x\n"):
        with pytest.raises(ValueError, match="visible ASCII"):
            SasClient("http://127.0.0.1:9", wrong)
    fake = Fake(ok({"status": "ready"}), httpx.ConnectError("refused"), refused(503, "unavailable"))
    transport = httpx.MockTransport(fake)
    async with SasClient("http://127.0.0.1:9", "", transport=transport) as anyone:
        assert [await anyone.ready() for _ in range(3)] == [True, False, False]
    assert "authorization" not in fake.calls[0].headers


# -- events ------------------------------------------------------------------------------------------------------


class FakeStream:
    """A websocket server that plays one script per connection, and the tickets for it."""

    def __init__(self, *scripts: Callable[["FakeStream", ServerConnection], Any]) -> None:
        self.scripts = list(scripts)
        self.hellos: list[dict[str, Any]] = []
        self.tickets: list[str] = []
        self.waits: list[float] = []
        self.pongs = 0
        self.ticket_status = 201
        self.heartbeat_s = 20.0

    def http(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/ws-tickets"
        if self.ticket_status != 201:
            return refused(self.ticket_status, "not_authenticated")
        self.tickets.append(f"ticket-{len(self.tickets)}")
        return ok({"ticket": self.tickets[-1], "expires_in": 30}, 201)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    async def handle(self, socket: ServerConnection) -> None:
        self.hellos.append(json.loads(await socket.recv()))
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        await script(self, socket)

    async def welcome(self, socket: ServerConnection, offset: str = "5-0") -> None:
        message = {"type": "welcome", "epoch": "e1", "offset": offset, "heartbeat_s": self.heartbeat_s}
        await socket.send(json.dumps(message))

    @asynccontextmanager
    async def stream(self, resume: Position | None = None) -> AsyncIterator[EventStream]:
        async with serve(self.handle, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            transport = httpx.MockTransport(self.http)
            url = f"http://127.0.0.1:{port}"
            async with SasClient(url, "k", transport=transport, sleep=self.sleep, chance=lambda: 0.0) as sas:
                yield sas.events(resume=resume)


def event(offset: str, version: int = 1, aggregate: str = "r1") -> str:
    data = {**REQUEST, "request_id": aggregate, "version": version}
    head = {"type": "event", "epoch": "e1", "offset": offset, "event": "request.held"}
    return json.dumps({**head, "aggregate": aggregate, "version": version, "data": data})


async def stay(socket: ServerConnection) -> None:
    await socket.wait_closed()


async def test_a_break_is_bridged_from_the_last_offset_with_a_new_ticket() -> None:
    async def first(fake: FakeStream, socket: ServerConnection) -> None:
        await fake.welcome(socket)
        await socket.send(event("6-0", 1))
        await socket.close(4408)

    async def second(fake: FakeStream, socket: ServerConnection) -> None:
        await fake.welcome(socket, "9-0")
        await socket.send(event("7-0", 2))
        await stay(socket)

    fake = FakeStream(first, second)
    async with fake.stream() as stream:
        one, two = await anext(stream), await anext(stream)
        assert isinstance(one, Event) and isinstance(two, Event)
        assert (one.version, two.version) == (1, 2)
        assert one.request is not None and one.request.status == "held"
        assert stream.position == Position("e1", "7-0")
    assert [hello["resume"] for hello in fake.hellos] == [None, {"epoch": "e1", "offset": "6-0"}]
    assert [hello["ticket"] for hello in fake.hellos] == ["ticket-0", "ticket-1"]


async def test_a_break_before_the_first_event_resumes_from_the_first_welcome() -> None:
    """What the second welcome says is where the service is; the backlog before it may not have come through."""

    async def cut(fake: FakeStream, socket: ServerConnection) -> None:
        await fake.welcome(socket, f"{len(fake.hellos)}00-0")
        await socket.close(1001)

    async def last(fake: FakeStream, socket: ServerConnection) -> None:
        await fake.welcome(socket, "300-0")
        await socket.send(event("101-0"))
        await stay(socket)

    fake = FakeStream(cut, cut, last)
    async with fake.stream() as stream:
        assert isinstance(await anext(stream), Event)
    assert [hello["resume"] for hello in fake.hellos] == [None, *[{"epoch": "e1", "offset": "100-0"}] * 2]
    assert fake.waits == [0.2, 0.4], "sockets that say nothing are not opened in a hurry"


async def test_a_kept_position_is_where_a_new_stream_starts() -> None:
    async def script(fake: FakeStream, socket: ServerConnection) -> None:
        await fake.welcome(socket)
        await socket.send(event("4-0"))
        await stay(socket)

    fake = FakeStream(script)
    async with fake.stream(Position("e1", "3-0")) as stream:
        await anext(stream)
    assert fake.hellos[0]["resume"] == {"epoch": "e1", "offset": "3-0"}


async def test_repeated_and_overtaken_events_are_dropped() -> None:
    async def script(fake: FakeStream, socket: ServerConnection) -> None:
        await fake.welcome(socket)
        for offset, version, aggregate in (("6-0", 2, "a"), ("7-0", 2, "a"), ("8-0", 1, "a"), ("9-0", 1, "b")):
            await socket.send(event(offset, version, aggregate))
        await stay(socket)

    async with FakeStream(script).stream() as stream:
        found = [await anext(stream), await anext(stream)]
    assert [(item.aggregate, item.version) for item in found if isinstance(item, Event)] == [("a", 2), ("b", 1)]


async def test_a_gap_is_told_and_is_where_the_stream_goes_on() -> None:
    async def first(fake: FakeStream, socket: ServerConnection) -> None:
        await fake.welcome(socket)
        message = {"type": "gap", "epoch": "e2", "offset": "1-0", "reason": "stream_wiped"}
        await socket.send(json.dumps(message))
        await socket.close(1001)

    async def second(fake: FakeStream, socket: ServerConnection) -> None:
        await fake.welcome(socket)
        await socket.send(json.dumps({"type": "from_the_future"}))
        await socket.send(event("2-0"))
        await stay(socket)

    fake = FakeStream(first, second)
    async with fake.stream() as stream:
        assert await anext(stream) == Gap(Position("e2", "1-0"), "stream_wiped")
        assert isinstance(await anext(stream), Event)
    assert fake.hellos[1]["resume"] == {"epoch": "e2", "offset": "1-0"}


async def test_heartbeats_are_answered() -> None:
    async def script(fake: FakeStream, socket: ServerConnection) -> None:
        await fake.welcome(socket)
        await socket.send('{"type":"ping"}')
        assert json.loads(await socket.recv()) == {"type": "pong"}
        fake.pongs += 1
        await socket.send(event("6-0"))
        await stay(socket)

    fake = FakeStream(script)
    async with fake.stream() as stream:
        await anext(stream)
    assert fake.pongs == 1


async def test_a_silent_socket_is_left_for_another() -> None:
    async def silent(fake: FakeStream, socket: ServerConnection) -> None:
        await fake.welcome(socket)
        await stay(socket)

    async def lively(fake: FakeStream, socket: ServerConnection) -> None:
        await fake.welcome(socket)
        await socket.send(event("6-0"))
        await stay(socket)

    fake = FakeStream(silent, lively)
    fake.heartbeat_s = 0.02
    async with fake.stream() as stream:
        assert isinstance(await asyncio.wait_for(anext(stream), 5), Event)
    assert len(fake.hellos) == 2


async def test_an_expired_ticket_is_replaced_but_not_for_ever() -> None:
    async def refuse(fake: FakeStream, socket: ServerConnection) -> None:
        await socket.close(4401)

    async def accept(fake: FakeStream, socket: ServerConnection) -> None:
        await fake.welcome(socket)
        await socket.send(event("6-0"))
        await stay(socket)

    async with FakeStream(refuse, refuse, accept).stream() as stream:
        assert isinstance(await anext(stream), Event)
    fake = FakeStream(refuse)
    async with fake.stream() as stream:
        with pytest.raises(ApiError) as told:
            await anext(stream)
    assert told.value.status == 401
    assert len(fake.hellos) == 5


async def test_a_revoked_key_ends_the_stream_with_the_reason() -> None:
    async def revoked(fake: FakeStream, socket: ServerConnection) -> None:
        await fake.welcome(socket)
        fake.ticket_status = 401
        await socket.close(4401)

    async with FakeStream(revoked).stream() as stream:
        with pytest.raises(ApiError) as told:
            await anext(stream)
    assert told.value.status == 401


async def test_closing_ends_a_reader_that_waits_and_closes_the_socket() -> None:
    gone = asyncio.Event()

    async def script(fake: FakeStream, socket: ServerConnection) -> None:
        await fake.welcome(socket)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        gone.set()

    async with FakeStream(script).stream() as stream:
        await stream.open()
        assert stream.connected
        reader = asyncio.create_task(anext(stream, None))
        await asyncio.sleep(0.02)
        await stream.aclose()
        assert await asyncio.wait_for(reader, 2) is None
        await asyncio.wait_for(gone.wait(), 2)
        assert not stream.connected


async def test_closing_ends_a_reader_that_tries_to_connect() -> None:
    async def sleep(_seconds: float) -> None:
        await asyncio.sleep(3600)

    def away(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with SasClient("http://127.0.0.1:9", "k", transport=httpx.MockTransport(away), sleep=sleep) as sas:
        reader = asyncio.create_task(anext(sas.events(), None))
        await asyncio.sleep(0.02)
        await sas.aclose()
        assert await asyncio.wait_for(reader, 2) is None


async def test_a_socket_that_opens_while_the_stream_is_closed_is_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(fake: FakeStream, socket: ServerConnection) -> None:
        await fake.welcome(socket)
        await stay(socket)

    async with FakeStream(script).stream() as stream:
        connect = stream._connect

        async def connect_too_late() -> None:
            await connect()
            stream._closed.set()

        monkeypatch.setattr(stream, "_connect", connect_too_late)
        await stream.open()
        assert not stream.connected


async def test_a_cancellation_that_comes_with_a_message_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a reader in a task group would never end (`asyncio.wait_for` before Python 3.12)."""

    async def script(fake: FakeStream, socket: ServerConnection) -> None:
        await fake.welcome(socket)
        await stay(socket)

    async with FakeStream(script).stream() as stream:
        await stream.open()
        assert stream._socket is not None
        receive = stream._socket.recv
        messages = ['{"type":"ping"}']

        async def recv() -> object:
            if not messages:
                return await receive()
            reader.cancel()
            return messages.pop()

        monkeypatch.setattr(stream._socket, "recv", recv)
        reader = asyncio.create_task(anext(stream))
        await asyncio.wait({reader}, timeout=2)
        assert reader.cancelled()


LIMIT: dict[str, Any] = {
    **{"name": "quota", "counts": "children", "period": "half_day", "most": 1, "share": None, "zone": "Europe/Paris"},
    **{"professionals": ["10000000012"], "structures": []},
    "periods": [{"from": "2026-11-22T23:00:00+00:00", "to": "2026-11-23T12:00:00+00:00", "most": 1, "taken": 1}],
}


async def test_limits_are_set_listed_and_removed() -> None:
    fake = Fake(ok(LIMIT), ok({"limits": [LIMIT]}), ok({"removed": "quota"}))
    async with fake.client() as sas:
        put = await sas.put_limit("quota", {"professionals": ["10000000012"], "counts": "children", "most": 1})
        assert await sas.limits() == [put]
        await sas.remove_limit("quota")
    assert [(call.method, call.url.path) for call in fake.calls] == [
        ("PUT", "/v1/limits/quota"),
        ("GET", "/v1/limits"),
        ("DELETE", "/v1/limits/quota"),
    ]
    (period,) = put.periods
    assert (put.most, period.taken, period.most) == (1, 1, 1) and period.end - period.start == timedelta(hours=13)
