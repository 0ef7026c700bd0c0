"""Notifications through HTTP: subscriptions of a practice, a webhook that arrives signed, what came of each."""

import asyncio
import base64
import hashlib
import hmac
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from email import message_from_bytes
from typing import Any

import orjson
import pytest

from sas_matcher.services.notices import MOST_CODES, MOST_CODES_TO
from tests.api.conftest import Scene
from tests.api.running import Caller, Running, eventually, rpps
from tests.api.test_bad_input import problem
from tests.api.test_practice import firm
from tests.post_office import Post


class Agenda:
    """A practice's server: takes webhooks, or answers a status."""

    def __init__(self) -> None:
        self.status = 204
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:]) if name
        }
        self.heard.append((headers, await reader.readexactly(int(headers["content-length"]))))
        writer.write(f"HTTP/1.1 {self.status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
async def agenda() -> AsyncIterator[Agenda]:
    """A practice's server."""
    found = Agenda()
    server = await asyncio.start_server(found.take, "127.0.0.1", 0)
    async with server:
        found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/sas"
        yield found


async def put(caller: Caller, name: str, **wish: Any) -> Any:
    return await caller.http.put(f"/v1/subscriptions/{name}", json=wish)


async def test_a_booking_arrives_signed_at_the_practices_server(scene: Scene, agenda: Agenda) -> None:
    made = await put(scene.practice, "agenda", way="webhook", address=agenda.url, kinds=["booking.made"])
    assert made.status_code == 200, made.text
    secret = base64.b64decode(made.json()["secret"].removeprefix("whsec_"))
    assert made.json()["everybody"] and made.json()["state"] == "active"
    await scene.practice.publish(scene.slot(60))
    _, path = await firm(scene, wish={"case_ref": "dossier-42", "age_band": "enfant"})
    await eventually(lambda: agenda.heard)
    headers, body = agenda.heard[0]
    assert orjson.loads(body)["data"]["booking_id"] == path.rpartition("/")[2]
    assert b"dossier-42" not in body and b"enfant" not in body
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"

    async def sent() -> Any:
        found = (await scene.practice.get("/v1/deliveries", state="sent")).json()["deliveries"]
        return found and found[0]

    delivery = await eventually(sent)
    assert (delivery["id"], delivery["kind"], delivery["tries"]) == (headers["webhook-id"], "booking.made", 1)


async def test_a_test_says_whether_it_arrives_and_a_secret_is_changed(
    scene: Scene, service: Running, agenda: Agenda
) -> None:
    agenda.status = 500
    await put(scene.practice, "agenda", way="webhook", address=agenda.url, kinds=["booking.made"])
    number = (await scene.practice.http.post("/v1/subscriptions/agenda/test")).json()["id"]

    async def tried() -> Any:
        (one,) = (await scene.practice.get("/v1/deliveries", subscription="agenda")).json()["deliveries"]
        return one if one["tries"] else None

    one = await eventually(tried)
    assert (one["id"], one["kind"], one["state"]) == (number, "test", "waiting")
    rotated = (await scene.practice.http.post("/v1/subscriptions/agenda/rotate")).json()
    assert rotated["secret"].startswith("whsec_") and rotated["old_secret_until"]
    service.clock.ahead += timedelta(minutes=1)  # tried again by then, twice where one try was under way
    # both sign while it changes
    await eventually(lambda: any(len(heard["webhook-signature"].split()) == 2 for heard, *_ in agenda.heard))
    again = await put(scene.practice, "agenda", way="webhook", address=agenda.url, kinds=["booking.moved"])
    assert "secret" not in again.json() and again.json()["kinds"] == ["booking.moved"]
    assert (await scene.practice.http.delete("/v1/subscriptions/agenda")).json() == {"removed": "agenda"}
    problem(await scene.practice.get("/v1/subscriptions/agenda"), 404, "not_found")
    problem(await scene.practice.http.post("/v1/subscriptions/agenda/test"), 404, "not_found")


async def test_a_mail_is_confirmed_and_then_says_what_is_to_be_done(scene: Scene, post: Post) -> None:
    address = f"{rpps()}@cabinet.example"
    made = await put(scene.practice, "accueil", way="email", address=address, kinds=["booking.made"])
    assert made.json()["state"] == "unconfirmed"

    async def mail(number: int) -> str:
        found = await eventually(
            lambda: len(mails := [m for m in post.mails if address.encode() in m]) >= number and mails
        )
        payload = message_from_bytes(found[-1]).get_payload(decode=True)
        assert isinstance(payload, bytes)
        return payload.decode()

    problem(await scene.practice.http.post("/v1/subscriptions/accueil/test"), 409, "conflict")
    (code,) = re.findall(r"son code est ([0-9a-f]{8})", await mail(1))
    wrong = await scene.practice.http.post("/v1/subscriptions/accueil/confirm", json={"code": "00000000"})
    problem(wrong, 422, "invalid_input")
    done = await scene.practice.http.post("/v1/subscriptions/accueil/confirm", json={"code": code})
    assert done.json()["state"] == "active", done.text
    await scene.practice.publish(scene.slot(60, acceptance="explicit"))
    _, path = await firm(scene, wish={"case_ref": "dossier-42", "age_band": "enfant"})
    text = await mail(2)
    assert "Un rendez-vous est à accepter" in text and path.rpartition("/")[2] in text
    assert "dossier" not in text and "enfant" not in text


async def test_codes_are_sent_at_a_bounded_rate_and_a_refused_put_changes_nothing(
    scene: Scene, service: Running, post: Post
) -> None:
    def wish(number: int) -> dict[str, Any]:
        return {"way": "email", "address": f"{number}@cabinet.example", "kinds": ["booking.made"]}

    first = int(rpps())
    with service.clock.standing():
        for number in range(MOST_CODES):
            assert (await put(scene.practice, f"a{number}", **wish(first + number))).status_code == 200
            # neither what was told of it nor the subscription itself needs to stay for that to count
            assert (await scene.practice.http.delete(f"/v1/subscriptions/a{number}")).status_code == 200
        await put(scene.practice, "kept", way="websocket", kinds=["booking.made"])
        for name in ("new", "kept"):
            refused = await put(scene.practice, name, **wish(first + MOST_CODES))
            problem(refused, 429, "too_many_requests")
            assert refused.headers["retry-after"] == "60"
        (kept,) = (await scene.practice.get("/v1/subscriptions")).json()["subscriptions"]
        assert (kept["name"], kept["way"], kept["version"], kept["waiting"]) == ("kept", "websocket", 1, 0)
        assert (await scene.practice.get("/v1/deliveries")).json()["deliveries"] == []
        # others may, and so may this one a minute later
        other = await service.practice()
        assert (await put(other, "a", **wish(first + MOST_CODES))).status_code == 200
        service.clock.ahead += timedelta(minutes=1)
        assert (await put(scene.practice, "new", **wish(first + MOST_CODES))).status_code == 200


async def test_nobody_is_sent_more_than_some_codes_an_hour_whoever_asks(service: Running) -> None:
    address = f"{rpps()}@flooded.example"
    with service.clock.standing():
        for number in range(MOST_CODES_TO):
            made = await put(await service.practice(), "a", way="email", address=address, kinds=["booking.made"])
            assert made.status_code == 200, number
        stranger = await service.practice()
        for spelt in (address, address.upper()):
            refused = await put(stranger, "a", way="email", address=spelt, kinds=["booking.made"])
            problem(refused, 429, "too_many_requests")
            assert refused.headers["retry-after"] == "3600"
        service.clock.ahead += timedelta(hours=1)
        assert (await put(stranger, "a", way="email", address=address, kinds=["booking.made"])).status_code == 200


async def test_a_websocket_hears_reminders_and_tests(scene: Scene) -> None:
    await put(scene.practice, "ecran", way="websocket", kinds=["reminder.outcome"])
    async with await scene.practice.listen() as socket:
        await scene.practice.http.post("/v1/subscriptions/ecran/test")
        assert (await socket.event("notice", kind="test"))["data"]["subject"].startswith("Ceci est un essai")
    problem(await scene.practice.http.post("/v1/subscriptions/ecran/rotate"), 409, "conflict")


async def test_subscriptions_are_about_whom_the_key_speaks_for(scene: Scene, service: Running) -> None:
    mine, other = rpps(), rpps()
    doctor = await service.practice(professionals=(mine,))
    made = await put(doctor, "a", way="websocket", kinds=["booking.made"])
    assert (made.json()["professionals"], made.json()["everybody"]) == ([mine], False)
    wish = {"way": "websocket", "kinds": ["booking.made"], "professionals": [other]}
    problem(await put(doctor, "b", **wish), 422, "invalid_input")
    regulator = scene.regulator
    problem(await put(regulator, "a", way="websocket", kinds=["booking.made"]), 403, "not_allowed")
    assert (await scene.practice.get("/v1/subscriptions")).json() == {"subscriptions": []}


@pytest.mark.parametrize(
    ("wish", "word"),
    [
        ({"way": "webhook", "kinds": ["booking.made"]}, "address"),
        ({"way": "websocket", "address": "https://x.example/", "kinds": ["booking.made"]}, "address"),
        ({"way": "webhook", "address": "http://x.example/", "kinds": ["booking.made"]}, "https"),
        ({"way": "webhook", "address": "https://u:p@x.example/", "kinds": ["booking.made"]}, "address"),
        ({"way": "email", "address": "a@b@c.example", "kinds": ["booking.made"]}, "courriel"),
        ({"way": "websocket", "kinds": ["patient.name"]}, "booking.to_accept"),
        ({"way": "websocket", "kinds": []}, "kinds"),
        ({"way": "websocket", "kinds": ["booking.made"], "secret": "x"}, "secret"),
    ],
)
async def test_what_cannot_be_is_refused_with_the_field(scene: Scene, wish: dict[str, Any], word: str) -> None:
    answer = await put(scene.practice, "a", **wish)
    assert word in problem(answer, 422, "invalid_input")["detail"], answer.text
