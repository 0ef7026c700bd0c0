"""What practices are told, and how it waits: in the transaction of the change, in order, once, whoever is killed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson
import pytest

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.notices import PostgresNotices
from sas_matcher.domain.notices import NoticeKind, Told
from sas_matcher.ports.sending import Delivery, Notice, Subscription
from sas_matcher.services.notices import LATE, PATIENCE, Notifying
from sas_matcher.services.sending import LEASE
from tests.conftest import Recorder
from tests.ledger_cases import KEY, NOW, SOURCE, Desk, StillClock, minutes, slot_row
from tests.sending_cases import send_due

ALL: Final = tuple(str(kind) for kind in NoticeKind)
SECRET: Final = b"a secret of a webhook"
CODE: Final = "0123abcd"


@pytest.fixture
async def desk(ledger: PostgresLedger, database_url: str) -> Desk:
    return await Desk(ledger, database_url).open()


@dataclass
class Post:
    """A way that answers as it is told to, and remembers."""

    answers: list[Delivery] = field(default_factory=list)
    sent: list[Notice] = field(default_factory=list)

    async def send(self, notice: Notice, told: Told, now: datetime) -> Delivery:
        self.sent.append(notice)
        return self.answers.pop(0) if self.answers else Delivery("taken")


class Quiet:
    """Counts nothing."""

    def told(self, word: str) -> None:
        pass

    def queue(self, counts: dict[str, tuple[int, float]]) -> None:
        pass


class Office:
    """A practice with subscriptions, and the sender."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.book = PostgresNotices(desk.ledger, PATIENCE)
        self.clock = StillClock(NOW)
        self.post = Post()
        ways = {"webhook": self.post, "email": self.post, "websocket": self.post}
        self.sender = Notifying(self.book, ways, self.clock, Quiet(), lambda _: ZoneInfo("Europe/Paris"))

    async def subscribe(
        self, name: str = "a", kinds: Sequence[str] = ALL, members: Sequence[str] = ("p:8a",), **changes: Any
    ) -> dict[str, Any]:
        wish = Subscription(SOURCE, name, KEY, "webhook", "https://x.example/", kinds, 3, members)
        found: dict[str, Any] = orjson.loads((await self.put(wish._replace(**changes), SECRET))[0])
        return found

    async def put(self, wish: Subscription, secret: bytes) -> tuple[str, bool]:
        """Set or change a subscription, however many codes were sent."""
        done = await self.book.put(NOW, wish, secret, CODE, (1_000, 1_000))
        assert isinstance(done, tuple)
        return done

    async def at(self, instant: datetime) -> list[Notice]:
        """Send what is due at an instant; returns what was tried."""
        self.clock.instant = instant
        self.post.sent = []
        while await send_due(self.sender):
            pass
        return self.post.sent

    async def kinds(self, instant: datetime = NOW) -> list[str]:
        return [notice.kind for notice in await self.at(instant)]

    async def deliveries(self, name: str = "a") -> list[dict[str, Any]]:
        """Return the deliveries of a subscription, oldest first."""
        return [orjson.loads(one) for one in await self.book.deliveries(SOURCE, [name], None, None, 100)][::-1]


@pytest.fixture
def office(desk: Desk) -> Office:
    return Office(desk)


async def test_two_seats_that_go_back_at_one_instant_are_two_notices(office: Office) -> None:
    await office.subscribe()
    desk = office.desk
    (plage,) = await desk.publish(slot_row("a", capacity=2, back_at=NOW + minutes(30)))
    firm = [(await desk.firm(plage))[0] for _ in range(2)]
    await desk.ledger.hand_back(NOW + minutes(30))
    await office.at(NOW + minutes(30))
    for request in firm:
        await desk.cancel(request, NOW + minutes(31))
    told = await office.at(NOW + minutes(31))
    assert [orjson.loads(n.body)["seats"] for n in told if n.kind == "places.handed_back"] == [1, 1]


async def test_each_change_is_told_once_in_order_and_names_nobody(office: Office) -> None:
    await office.subscribe()
    desk = office.desk
    await desk.publish(slot_row("a", acceptance="explicit", accept_min=15), slot_row("b", at=90, professional="8a"))
    slot, later = (row["id"] for row in await desk.slots())
    request, booking = await desk.firm(slot, case_ref="SECRET-1", age_band="enfant", mt="8a")
    await desk.of_booking("accept", booking)
    await desk.of_booking("move", booking, later)
    await desk.cancel(request)
    told = await office.at(NOW)
    assert [notice.kind for notice in told] == [
        "booking.to_accept",
        "booking.accepted",
        "booking.moved",
        "booking.cancelled",
    ]
    assert {notice.about for notice in told} == {booking}
    first = orjson.loads(told[0].body)
    assert first == {
        "booking_id": booking,
        "start": (NOW + minutes(60)).isoformat(),
        "until": (NOW + minutes(15)).isoformat(),
    }
    assert all(set(orjson.loads(n.body)) <= {"booking_id", "start", "until"} for n in told)
    assert await office.at(NOW + timedelta(days=1)) == []
    assert [one["state"] for one in await office.deliveries()] == ["sent"] * 4


async def test_who_subscribes_hears_of_its_own_and_of_what_it_asked_for(office: Office) -> None:
    desk = office.desk
    await office.subscribe("made", ["booking.made"])
    await office.subscribe("other", ALL, ["p:8z"])
    await office.subscribe("centre", ["booking.cancelled"], ["s:1690000001"])
    await office.subscribe("all", ["booking.made"], [f"src:{SOURCE}", "p:8a"])
    await office.subscribe("socket", ALL, way="websocket", address=None)
    one, two = await desk.publish(slot_row("a", acceptance="explicit", accept_min=15), slot_row("b"))
    request, _ = await desk.firm(one)  # to be accepted: made as well
    await desk.firm(two)
    await desk.cancel(request)
    await office.at(NOW)
    heard = {
        name: [d["kind"] for d in await office.deliveries(name)]
        for name in ("made", "other", "centre", "all", "socket")
    }
    assert heard == {
        "made": ["booking.to_accept"],
        "other": [],
        "centre": ["booking.cancelled"],
        "all": ["booking.to_accept", "booking.made"],
        "socket": [],  # its socket has heard it
    }


async def test_a_revoked_key_is_told_nothing_more(office: Office) -> None:
    await office.subscribe()
    one, two = await office.desk.publish(slot_row("a"), slot_row("b", at=90, professional="8a"))
    await office.desk.firm(one)
    await office.desk.rows("update api_key set revoked_at = $1 where id = $2", NOW, KEY)
    await office.desk.firm(two)
    assert await office.kinds() == []
    assert [d["state"] for d in await office.deliveries()] == ["waiting"], "and what comes after is not even queued"
    await office.book.forget(NOW + minutes(1))
    assert await office.deliveries() == []


async def test_an_address_of_mail_is_told_nothing_before_its_code_came_back(office: Office) -> None:
    mail = {"way": "email", "address": "a@b.example"}
    assert (await office.subscribe(**mail))["state"] == "unconfirmed"
    (slot,) = await office.desk.publish(slot_row("a"))
    request, _ = await office.desk.firm(slot)
    (told,) = await office.at(NOW)
    assert (told.kind, orjson.loads(told.body)) == ("confirm", {"code": CODE})
    assert [d["data"] for d in await office.deliveries()] == [{}], "only the address learns the code"
    assert (await office.book.confirm(NOW, SOURCE, "a", "ffffffff"))[0] == "wrong_code"
    assert (await office.book.confirm(NOW, SOURCE, "a", CODE))[0] == "confirmed"
    assert (await office.book.confirm(NOW, SOURCE, "a", "ffffffff"))[0] == "already"
    await office.desk.cancel(request)
    assert await office.kinds() == ["booking.cancelled"]
    assert (await office.subscribe(kinds=["booking.made"], **mail))["state"] == "active", "the same address stays so"
    assert (await office.subscribe(way="email", address="other@b.example"))["state"] == "unconfirmed"
    words = [(await office.book.confirm(NOW, SOURCE, "a", "ffffffff"))[0] for _ in range(6)]
    assert words == ["wrong_code"] * 5 + ["no_more_tries"]
    assert (await office.book.confirm(NOW, SOURCE, "a", CODE))[0] == "no_more_tries"


async def test_tests_flood_nobody(office: Office) -> None:
    await office.subscribe()
    sent = [await office.book.test(NOW, SOURCE, "a", str(n), 5) for n in range(6)]
    assert sent[-1] is None and None not in sent[:5]
    assert await office.book.test(NOW + minutes(1), SOURCE, "a", "later", 5) is not None


async def test_places_handed_back_are_told(office: Office) -> None:
    await office.subscribe()
    await office.desk.publish(slot_row("a", capacity=3, back_at=NOW + minutes(30)))
    await office.desk.ledger.hand_back(NOW + minutes(30))
    (told,) = await office.at(NOW + minutes(30))
    assert told.kind == "places.handed_back"
    assert orjson.loads(told.body)["seats"] == 3


async def test_a_failure_keeps_what_comes_after_it_waiting_but_not_others(office: Office) -> None:
    """One booking's notices stay in order; another subscription is not held up."""
    await office.subscribe("a")
    await office.subscribe("b")
    (slot,) = await office.desk.publish(slot_row("a"))
    request, _ = await office.desk.firm(slot)
    await office.desk.cancel(request)
    office.post.answers = [Delivery("again", "503")]
    tried = await office.kinds()
    assert tried == ["booking.made", "booking.made", "booking.cancelled"]
    first = [(d["kind"], d["state"], d["tries"], d["last_error"]) for d in await office.deliveries("a")]
    assert first == [("booking.made", "waiting", 1, "503"), ("booking.cancelled", "waiting", 0, None)]
    (known,) = [s for s in map(orjson.loads, await office.book.subscriptions(SOURCE)) if s["name"] == "a"]
    assert (known["failing_since"], known["last_error"], known["waiting"]) == (NOW.isoformat(), "503", 2)
    assert await office.kinds(NOW + minutes(1)) == ["booking.made", "booking.cancelled"]
    (known, _) = map(orjson.loads, await office.book.subscriptions(SOURCE))
    assert (known["failing_since"], known["last_error"], known["sent_at"]) == (
        None,
        None,
        (NOW + minutes(1)).isoformat(),
    )


async def test_where_nothing_arrives_only_one_is_tried_at_a_time(office: Office) -> None:
    await office.subscribe()
    for slot in await office.desk.publish(*(slot_row(f"s{n}", professional="8a", at=60 + 20 * n) for n in range(5))):
        await office.desk.firm(slot)
    office.post.answers = [Delivery("again", "503")] * 20
    assert len(await office.at(NOW)) == 4  # as many as are under way at once: nobody knew
    assert len(await office.at(NOW + minutes(1))) == 1


async def test_what_a_killed_sender_had_in_hand_is_sent_again_under_the_same_id(office: Office) -> None:
    await office.subscribe()
    (slot,) = await office.desk.publish(slot_row("a"))
    await office.desk.firm(slot)
    (dead,) = await office.book.claim(NOW, NOW + LEASE, 10)
    assert await office.at(NOW + LEASE / 2) == []
    (again,) = await office.at(NOW + LEASE)
    assert (again.id, again.tries) == (dead.id, 2)
    assert not await office.book.settle(dead, NOW + LEASE, "waiting", NOW, Delivery("again", "late"))
    assert [d["state"] for d in await office.deliveries()] == ["sent"]


async def test_several_senders_tell_each_notice_once(office: Office) -> None:
    await office.subscribe()
    for slot in await office.desk.publish(*(slot_row(f"s{n}", professional="8a", at=60 + 15 * n) for n in range(12))):
        await office.desk.firm(slot)
    while any(await asyncio.gather(*(send_due(office.sender) for _ in range(4)))):
        pass
    ids = [notice.id for notice in office.post.sent]
    assert len(ids) == len(set(ids)) == 12


async def test_of_one_source_a_few_are_under_way_at_once_and_others_are_told_meanwhile(office: Office) -> None:
    """Of however many subscriptions: a server that takes its time holds up nobody else."""
    for name in ("a", "b"):
        await office.subscribe(name)
    await office.subscribe("other", source="elsewhere")
    for slot in await office.desk.publish(*(slot_row(f"s{n}", professional="8a", at=60 + 15 * n) for n in range(6))):
        await office.desk.firm(slot)
    taken = await office.book.claim(NOW, NOW + LEASE, 16)
    assert len(taken) == 8 and await office.book.claim(NOW, NOW + LEASE, 16) == []
    named = await office.desk.rows(
        "select n.id, s.source from notice n join subscription s on s.id = n.subscription_id"
    )
    source = {row["id"]: row["source"] for row in named}
    assert sorted(source[notice.id] for notice in taken) == [SOURCE] * 4 + ["elsewhere"] * 4
    first = next(notice for notice in taken if source[notice.id] == SOURCE)
    await office.book.settle(first, NOW, "sent", None, Delivery("taken"))
    (more,) = await office.book.claim(NOW, NOW + LEASE, 16)
    assert source[more.id] == SOURCE


async def test_after_long_failure_it_is_disabled_with_a_note_and_may_begin_anew(
    office: Office, recorder: Recorder
) -> None:
    await office.subscribe()
    slots = await office.desk.publish(*(slot_row(f"s{n}", professional="8a", at=60 + 20 * n) for n in range(3)))
    office.post.answers = [Delivery("again", "503")] * 20
    await office.desk.firm(slots[0])
    await office.at(NOW)
    late = NOW + PATIENCE
    await office.desk.rows("update notice set at = $1", late)  # else it is given up as too old
    await office.desk.firm(slots[1])
    recorder.take()
    await office.at(late)
    assert [d["state"] for d in await office.deliveries()] == ["refused", "refused"]
    (told,) = [a for a in recorder.take() if a.type == "subscription.disabled"]
    document = orjson.loads(told.data)
    assert (document["state"], document["failing_since"], document["last_error"]) == (
        "disabled",
        NOW.isoformat(),
        "503",
    )
    assert tuple(told.audience) == ("p:8a",)
    assert await office.book.test(late, SOURCE, "a", "1", 5) is None
    await office.desk.firm(slots[2])
    assert len(await office.deliveries()) == 2, "nothing is queued for it"
    office.post.answers = []
    again = await office.subscribe()
    assert (again["state"], again["failing_since"], again["last_error"]) == ("active", None, None)
    await office.book.test(late, SOURCE, "a", "2", 5)
    assert await office.kinds(late) == ["test"]


async def test_an_address_that_is_gone_is_disabled_at_once(office: Office) -> None:
    await office.subscribe()
    await office.book.test(NOW, SOURCE, "a", "1", 5)
    office.post.answers = [Delivery("refused", "410", gone=True)]
    await office.at(NOW)
    assert [orjson.loads(s)["state"] for s in await office.book.subscriptions(SOURCE)] == ["disabled"]


async def test_what_is_too_late_is_given_up_unsent(office: Office) -> None:
    await office.subscribe()
    await office.book.test(NOW, SOURCE, "a", "1", 5)
    assert await office.at(NOW + LATE + minutes(1)) == []
    assert [(d["state"], d["last_error"]) for d in await office.deliveries()] == [("refused", "trop tard")]


async def test_a_webhook_keeps_its_secret_and_two_sign_while_it_changes(office: Office) -> None:
    wish = Subscription(SOURCE, "a", KEY, "webhook", "https://x.example/", ["booking.made"], 3, ["p:8a"])
    _, fresh = await office.put(wish, b"one")
    assert fresh
    document, fresh = await office.put(wish, b"two")
    assert not fresh and "secret" not in orjson.loads(document)
    await office.book.rotate(NOW, SOURCE, "a", b"three", NOW + minutes(10))
    for at, secrets in ((NOW, (b"three", b"one")), (NOW + minutes(10), (b"three",))):
        await office.book.test(at, SOURCE, "a", str(at), 5)
        (told,) = await office.at(at)
        assert told.secrets == secrets
    await office.subscribe(way="email", address="a@b.example")
    assert await office.book.rotate(NOW, SOURCE, "a", b"four", NOW) is None
    assert (await office.put(wish, b"five"))[1], "an e-mail has none"


async def test_two_at_once_do_not_send_one_code_more_than_may_be(office: Office, desk: Desk) -> None:
    wishes = [
        Subscription(SOURCE, f"a{n}", KEY, "email", f"{n}@b.example", ["booking.made"], 3, ["p:8a"]) for n in range(8)
    ]
    done = await asyncio.gather(*(office.book.put(NOW, wish, SECRET, CODE, (3, 3)) for wish in wishes))
    assert [one for one in done if isinstance(one, int)] == [60] * 5
    assert [dict(row) for row in await desk.rows("select count(*) from notice")] == [{"count": 3}]
    assert len(await office.book.subscriptions(SOURCE)) == 3
    # what is over is not kept
    later = NOW + timedelta(hours=1)
    await office.book.put(later, wishes[0], SECRET, CODE, (3, 3))
    assert [dict(row) for row in await desk.rows("select count(*) from code_mail")] == [{"count": 1}]


# -- reminders


async def test_an_acceptance_is_reminded_once_in_the_last_third_of_its_time(office: Office) -> None:
    await office.subscribe("a", ["reminder.accept"])
    await office.subscribe("b", ["booking.made"])
    one, two = await office.desk.publish(
        slot_row("a", at=120, acceptance="explicit", accept_min=15),
        slot_row("t", at=200, professional="8a", acceptance="tacit", accept_min=15),
    )
    _, booking = await office.desk.firm(one)
    await office.desk.firm(two)  # silence accepts it: nobody need be reminded
    assert await office.book.remind(NOW + minutes(9)) == 0
    assert await office.book.remind(NOW + minutes(10)) == 1
    assert await office.book.remind(NOW + minutes(11)) == 0
    (told,) = [n for n in await office.at(NOW + minutes(11)) if n.kind == "reminder.accept"]
    assert orjson.loads(told.body)["booking_id"] == booking


async def test_outcomes_still_to_be_told_are_reminded_once_a_day_for_all_of_them(office: Office) -> None:
    await office.subscribe("a", ["reminder.outcome"])
    bookings = []
    for slot in await office.desk.publish(*(slot_row(f"s{n}", professional="8a", at=60 + 20 * n) for n in range(3))):
        bookings.append((await office.desk.firm(slot))[1])
    told = NOW + timedelta(hours=5)
    await office.desk.of_booking("outcome", bookings[0], "fulfilled", now=told)
    assert await office.book.remind(NOW + timedelta(hours=2)) == 0
    assert await office.book.remind(told) == 1
    assert await office.book.remind(told + timedelta(hours=1)) == 0
    (notice,) = await office.at(told)
    assert orjson.loads(notice.body) == {"bookings": 2, "start": (NOW + minutes(80)).isoformat()}
    assert await office.book.remind(told + timedelta(hours=24)) == 1
    for booking in bookings[1:]:
        await office.desk.of_booking("outcome", booking, "noshow", now=told)
    assert await office.book.remind(told + timedelta(hours=48)) == 0


async def test_reminders_are_capped_and_may_be_none(office: Office) -> None:
    await office.subscribe("a", ["reminder.accept"], most_reminders=2)
    await office.subscribe("b", ["reminder.accept"], most_reminders=0)
    rows = [
        slot_row(f"s{n}", professional="8a", at=120 + 20 * n, acceptance="explicit", accept_min=15) for n in range(4)
    ]
    for slot in await office.desk.publish(*rows):
        await office.desk.firm(slot)
    assert await office.book.remind(NOW + minutes(12)) == 2
    assert [len(await office.deliveries(name)) for name in ("a", "b")] == [2, 0]
