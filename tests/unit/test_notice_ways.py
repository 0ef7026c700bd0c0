"""How notices leave: signed webhooks to addresses that are not ours, plain mail, and words without any identity."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.header import decode_header, make_header
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import orjson
import pytest

from adapters.notices import WHOLE_S, MailWay, WebhookWay, mail
from adapters.outside import Outside
from sas_matcher.bootstrap.notices import mail_of
from sas_matcher.config import ConfigError, Settings
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.domain.notices import SENTENCES, NoticeKind, in_words
from sas_matcher.ports.sending import Delivery, Notice
from sas_matcher.services.notices import Notices
from sas_matcher.services.publish import Publisher
from tests.network import Network
from tests.post_office import Post

NOW = datetime(2026, 11, 26, 13, 5, tzinfo=UTC)
BODY = {"booking_id": "0192-b", "start": "2026-11-26T15:30:00+00:00", "until": "2026-11-26T13:20:00+00:00"}
NOTICE = Notice(
    7,
    "booking.to_accept",
    "0192-b",
    NOW,
    "974",
    orjson.dumps(BODY).decode(),
    1,
    "webhook",
    "https://agenda.example/sas?k=1",
    (b"new", b"old"),
    ("p:8a",),
)
TOLD = in_words(NOTICE.kind, BODY, ZoneInfo("Indian/Reunion"))


# -- words


def test_words_say_which_when_and_what_to_do_on_the_clock_of_the_place() -> None:
    assert TOLD.subject == "Un rendez-vous est à accepter"
    assert TOLD.lines == (
        "Un rendez-vous est à accepter.",
        "Heure : jeudi 26 novembre à 19 h 30.",
        "Répondez avant le jeudi 26 novembre à 17 h 20.",
        "Rendez-vous 0192-b",
    )
    back = in_words("places.handed_back", {"slot_id": 3, "seats": 2, "start": BODY["start"]}, ZoneInfo("Europe/Paris"))
    assert back.lines[1:] == ("Heure : jeudi 26 novembre à 16 h 30.", "Places rendues : 2.", "Créneau 3")
    assert set(SENTENCES) == {*NoticeKind, "test", "confirm"}
    assert any("0123abcd" in line for line in in_words("confirm", {"code": "0123abcd"}, ZoneInfo("Europe/Paris")).lines)


# -- webhook


class Web:
    """Strangers' servers: what was posted, and what they answer."""

    def __init__(self, status: int = 200, addresses: tuple[str, ...] = ("93.184.216.34",), **answer: Any) -> None:
        self.asked: list[httpx.Request] = []
        self.status, self.addresses, self.answer = status, addresses, answer

    async def resolve(self, host: str, port: int) -> list[str]:
        return list(self.addresses)

    def reply(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return httpx.Response(self.status, **self.answer)

    async def send(self, notice: Notice = NOTICE, *inside: str, now: datetime = NOW) -> Delivery:
        asked = Network(self.reply)
        outside = Outside(inside, "SAS_WEBHOOK_HOSTS", WHOLE_S, resolve=self.resolve, transport=asked)
        return await WebhookWay(outside).send(notice, TOLD, now)


async def test_a_webhook_is_signed_over_id_time_and_raw_body_with_each_secret() -> None:
    web = Web()
    assert (await web.send()).word == "taken"
    (asked,) = web.asked
    body = asked.content
    assert orjson.loads(body) == {"type": "booking.to_accept", "timestamp": NOW.isoformat(), "data": BODY}
    at = str(int(NOW.timestamp()))
    assert (asked.headers["webhook-id"], asked.headers["webhook-timestamp"]) == ("msg_7", at)
    signed = b"msg_7." + at.encode() + b"." + body
    expected = [
        "v1," + base64.b64encode(hmac.new(s, signed, hashlib.sha256).digest()).decode() for s in (b"new", b"old")
    ]
    assert asked.headers["webhook-signature"].split() == expected
    # again: the same id and body, another time
    await web.send(now=NOW + timedelta(minutes=1))
    assert (web.asked[1].content, web.asked[1].headers["webhook-id"]) == (body, "msg_7")
    assert web.asked[1].headers["webhook-signature"] != asked.headers["webhook-signature"]


@pytest.mark.parametrize(
    ("status", "word", "gone"),
    [
        (204, "taken", False),
        (400, "again", False),
        (503, "again", False),
        (302, "again", False),
        (410, "refused", True),
    ],
)
async def test_what_an_answer_means(status: int, word: str, gone: bool) -> None:
    web = Web(status, headers={"Location": "https://elsewhere.example/"} if status == 302 else {})
    told = await web.send()
    assert (told.word, told.gone, len(web.asked)) == (word, gone, 1)
    assert "agenda.example" not in (told.detail or "")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "192.168.1.1",
        "::1",
        "fe80::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "0.0.0.0",
    ],
)
async def test_no_webhook_goes_into_our_network(address: str) -> None:
    web = Web(addresses=("93.184.216.34", address))
    told = await web.send()
    assert (told.word, web.asked) == ("again", []) and "SAS_WEBHOOK_HOSTS" in (told.detail or "")
    assert (await web.send(NOTICE, "agenda.example")).word == "taken", "unless the operator says so"


async def test_a_webhook_needs_tls_and_is_connected_to_where_it_was_checked() -> None:
    web = Web()
    plain = NOTICE._replace(address="http://agenda.example/sas")
    assert (await web.send(plain)).detail == "l'adresse doit commencer par https://"
    assert (await web.send(plain, "agenda.example")).word == "taken"
    await web.send()
    assert (web.asked[-1].url.host, web.asked[-1].headers["host"]) == ("93.184.216.34", "agenda.example")


async def test_an_endless_answer_is_not_read() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000

    assert (await asyncio.wait_for(Web(content=endless()).send(), 5)).word == "taken"


# -- mail


MAIL = NOTICE._replace(way="email", address="doc@cabinet.example")


async def test_a_mail_says_what_to_do_and_nobodys_name() -> None:
    post = Post()
    async with post.open() as place:
        way = MailWay(f"smtp://{place}", "sas@chu.example", "https://sas.example")
        for _ in range(2):
            assert await way.send(MAIL, TOLD, NOW) == Delivery("taken")
    first, second = map(message_from_bytes, post.mails)
    assert (first["To"], first["From"], first["Auto-Submitted"]) == (
        "doc@cabinet.example",
        "sas@chu.example",
        "auto-generated",
    )
    assert str(make_header(decode_header(first["Subject"]))) == "Un rendez-vous est à accepter"
    assert first["Message-ID"] == second["Message-ID"], "one that arrives twice is seen once"
    payload = first.get_payload(decode=True)
    assert isinstance(payload, bytes)
    text = payload.decode()
    assert "jeudi 26 novembre à 19 h 30" in text and "Ouvrez la console : https://sas.example" in text


@pytest.mark.parametrize(
    ("refuse", "told"),
    [
        ("550 RCPT TO", Delivery("refused", "le serveur de courriel refuse l'adresse (550)")),
        ("450 RCPT TO", Delivery("again", "le serveur de courriel refuse l'adresse (450)")),
        ("451 MAIL FROM", Delivery("again", "le serveur de courriel répond 451")),
    ],
)
async def test_a_mail_that_is_refused_is_told_without_the_address(refuse: str, told: Delivery) -> None:
    post = Post()
    post.refuse = refuse
    async with post.open() as place:
        assert await MailWay(f"smtp://{place}", "sas@chu.example").send(MAIL, TOLD, NOW) == told


async def test_no_password_goes_over_a_line_without_tls_and_a_server_that_is_away_is_waited_for() -> None:
    post = Post()
    async with post.open() as place:
        told = await MailWay(f"smtp://user:secret@{place}", "sas@chu.example").send(MAIL, TOLD, NOW)
        assert told == Delivery("again", "le serveur de courriel ne répond pas") and post.mails == []
    assert (await MailWay(f"smtp://{place}", "sas@chu.example").send(MAIL, TOLD, NOW)).word == "again"


def test_a_server_of_mail_that_cannot_be_is_named_before_anything_starts() -> None:
    assert mail_of(Settings()) is None
    for wrong in (Settings(smtp_url="mail.example", mail_from="a@b.example"), Settings(smtp_url="smtp://mail.example")):
        with pytest.raises(ConfigError, match="SAS_SMTP_URL"):
            mail_of(wrong)


async def test_mail_is_refused_where_the_operator_has_none() -> None:
    nothing: Any = SimpleNamespace(subscriptions=None)
    notices = Notices(nothing, nothing, nothing, lambda: "", mail=False)
    wish = {"way": "email", "address": "a@b.example", "kinds": [], "professionals": [], "structures": []}
    with pytest.raises(InvalidInputError, match="SAS_SMTP_URL"):
        await notices.put(Publisher("s", frozenset("*"), frozenset()), "k", "a", wish)


async def test_a_server_of_mail_that_says_nothing_keeps_no_other_thread_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The matcher learns the earlier days of a territory in a thread of the same process, before it decides."""
    monkeypatch.setattr(mail, "TIMEOUT_S", 1.0)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        way = MailWay(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}", "sas@chu.example")
        sent = [asyncio.create_task(way.send(MAIL, TOLD, NOW)) for _ in range(mail.AT_ONCE)]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(int)
        assert not any(one.done() for one in sent)
        assert {(await one).word for one in sent} == {"again"}
