"""INT_R03 over HTTP: our bookings leave for a platform that fails, in order and whole, whatever kills the sender."""

import asyncio
import itertools
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters.fhir import names
from adapters.fhir.appointments import read_appointment
from adapters.fhir.checking import check
from adapters.fhir.platform import Certificate, NationalPlatform
from adapters.postgres.national import PostgresNational
from sas_matcher.bootstrap.national import bind_operator, check_links
from sas_matcher.config import ConfigError, Settings
from sas_matcher.ports.sending import Delivery, Message
from sas_matcher.services import national
from sas_matcher.services.sending import LEASE
from sas_matcher.supervise import listen
from tests.api.conftest import settings_for
from tests.api.running import Caller, Running, eventually, next_spot, rpps, run_service, slot, wish
from tests.certificates import Authority
from tests.conftest import Servers

SYSTEM: Final = "urn:oid:1.2.250.1.999"
OPERATOR: Final = (names.PLATFORM, "1ef1c748-01a3-6180-b098-73283ce4e5b1")


@dataclass
class Platform:
    """The national platform's place: takes what is right, refuses what is not, and fails when it is told to.

    ``failing``: of ten calls, how many are answered 503; half of these after what they tell was taken.
    """

    failing: int = 0
    refuses: bool = False
    heard: list[tuple[str, str, str, str]] = field(default_factory=list)
    faults: list[Any] = field(default_factory=list)
    _calls: Any = field(default_factory=itertools.count)

    async def appointment(self, request: Request) -> Response:
        number = next(self._calls)
        failing = number % 10 < self.failing
        if failing and number % 2 == 0:
            return Response(status_code=503)
        document = await request.json()
        told = read_appointment(document)
        self.faults += check(document)
        if self.refuses:
            issue = {"severity": "error", "code": "business-rule", "diagnostics": "opérateur inconnu"}
            return JSONResponse({"resourceType": "OperationOutcome", "issue": [issue]}, 422)
        if request.method == "PUT":
            assert request.query_params["identifier"] == f"{SYSTEM}|{told.identifier}"
        assert told.identifier_system == SYSTEM
        operator = told.operator.value if told.operator else ""
        self.heard.append((told.identifier, request.method, told.status, operator))
        if failing:
            return Response(status_code=503)
        location = f"https://plateforme.example/Appointment/{told.identifier}"
        return Response(status_code=201 if request.method == "POST" else 200, headers={"Location": location})

    def told_of(self, booking_id: str) -> list[str]:
        """Return the states a booking went through, each once however often it was told."""
        states = [status for identifier, _, status, _ in self.heard if identifier == booking_id]
        return [status for status, _ in itertools.groupby(states)]

    @asynccontextmanager
    async def running(self, **tls: Any) -> AsyncIterator[str]:
        app = Starlette(routes=[Route("/fhir/Appointment", self.appointment, methods=["POST", "PUT"])])
        with listen("127.0.0.1", 0) as listening:
            config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, **tls)
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server._serve(sockets=[listening]))
            await eventually(lambda: server.started)
            try:
                yield f"http{'s' if tls else ''}://127.0.0.1:{listening.getsockname()[1]}/fhir"
            finally:
                server.should_exit = True
                await serving


@dataclass
class Side:
    """A service that tells a platform."""

    service: Running
    platform: Platform
    practice: Caller
    regulator: Caller
    admin: Caller

    async def book(self, minutes: float = 60, **changes: Any) -> str:
        """Book a place; returns the booking's id."""
        spot = next_spot(self.service.geography)
        start = self.service.clock.now() + timedelta(minutes=minutes)
        person = {"professional": {"rpps": rpps(), "name": "Dr Fictif"}}
        (number,) = await self.practice.publish(slot(spot, start, **person | changes))
        asked = await self.regulator.ask(wish(spot))
        if asked["status"] != "held" or asked["booking"]["slot_id"] != number:
            asked = await self.regulator.act("take", asked["request_id"], {"slot_id": number})
        firm = await self.regulator.act("confirm", asked["request_id"])
        assert firm["status"] == "firm"
        return str(firm["booking"]["booking_id"])

    async def request_of(self, booking_id: str) -> str:
        (row,) = await self.service.rows("select request_id::text as id from booking where id = $1", booking_id)
        return str(row["id"])

    async def messages(self, **query: Any) -> list[dict[str, Any]]:
        answer = await self.admin.get("/v1/national/appointments", **query)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["messages"]
        return found

    async def all_settled(self) -> None:
        """Wait until nothing waits; failures are retried at once (the clock moves on)."""

        async def settled() -> bool:
            self.service.clock.ahead += timedelta(seconds=5)
            return not await self.messages(state="waiting")

        await eventually(settled, 60)


@pytest.fixture
async def side(servers: Servers) -> AsyncIterator[Side]:
    database_url = servers.new_database()
    platform = Platform()
    async with platform.running() as url:
        settings = settings_for(database_url, servers.new_redis(), national_url=url, fhir_system=SYSTEM)
        async with run_service(settings) as running:
            regulator = await running.regulator()
            assert await PostgresNational(running.stores.ledger).bind_operator(regulator.key_id, *OPERATOR)
            yield Side(running, platform, await running.practice(), regulator, await running.key("admin"))
    servers.drop_database(database_url)


async def test_a_booking_is_told_from_beginning_to_end(side: Side) -> None:
    kept, cancelled, refused = [await side.book(minutes) for minutes in (30, 60, 90)]
    await side.regulator.act("cancel", await side.request_of(cancelled), {"reason": "patient"})
    assert (await side.practice.post(f"/v1/bookings/{refused}/refuse", {})).status_code == 200
    accepted, unanswered = [await side.book(minutes, acceptance="explicit") for minutes in (120, 130)]
    moved = await side.book(150)
    assert await side.messages(booking_id=accepted) == [], "the practice may still say no"
    assert (await side.practice.post(f"/v1/bookings/{accepted}/accept")).status_code == 200
    other = slot(next_spot(side.service.geography), side.service.clock.now() + timedelta(minutes=180))
    (later,) = await side.practice.publish(other)
    assert (await side.practice.post(f"/v1/bookings/{moved}/move", {"slot_id": later})).status_code == 200
    side.service.clock.ahead += timedelta(minutes=31)
    for outcome in ("noshow", "fulfilled"):
        assert (await side.practice.post(f"/v1/bookings/{kept}/outcome", {"outcome": outcome})).status_code == 200
    await side.all_settled()
    assert side.platform.told_of(kept) == ["booked", "noshow", "fulfilled"]
    assert side.platform.told_of(cancelled) == ["booked", "cancelled"]
    assert side.platform.told_of(refused) == ["booked", "cancelled"]
    assert side.platform.told_of(accepted) == ["booked"] and side.platform.told_of(unanswered) == []
    hours = await side.service.rows("select distinct starts from appointment_message where booking_id = $1", moved)
    assert side.platform.told_of(moved) == ["booked"] and len(hours) == 2, "told again with its new hour"
    methods = [method for identifier, method, _, _ in side.platform.heard if identifier == kept]
    assert methods == ["POST", "PUT", "PUT"]
    assert {operator for *_, operator in side.platform.heard} == {OPERATOR[1]}
    assert side.platform.faults == []
    last = (await side.messages(booking_id=kept))[0]
    assert (last["number"], last["status"], last["state"]) == (3, "fulfilled", "sent")
    assert last["remote"] == f"https://plateforme.example/Appointment/{kept}"


async def test_what_is_not_firm_is_not_told(side: Side) -> None:
    spot = next_spot(side.service.geography)
    await side.practice.publish(slot(spot, side.service.clock.now() + timedelta(minutes=60)))
    held = await side.regulator.ask(wish(spot))
    assert held["status"] == "held"
    await side.regulator.act("decline", held["request_id"])
    assert await side.messages() == [] and side.platform.heard == []


async def test_sites_of_sos_medecins_and_structures_without_a_name(side: Side) -> None:
    def structure(finess: str, kind: str) -> dict[str, Any]:
        named = {"finess": finess, "kind": kind, "name": "Structure fictive"}
        return {"professional": None, "structure": named, "source_kind": kind}

    sos = await side.book(60, **structure("690000801", "sos"))
    centre = await side.book(60, **structure("690000802", "cds"))
    await side.regulator.act("cancel", await side.request_of(sos))
    await side.all_settled()
    assert side.platform.told_of(sos) == ["pending", "cancelled"]
    (impossible,) = await side.messages(booking_id=centre)
    assert impossible["state"] == "impossible", "the profile cannot say it; people see that it was not told"
    assert side.platform.told_of(centre) == [] and side.platform.faults == []


async def test_a_place_of_another_editor_is_that_editors_to_tell(side: Side) -> None:
    foreign = await side.service.key("manager", professionals=("*",), source="fhir:autre-editeur")
    side.practice = foreign
    booking = await side.book()
    await side.regulator.act("cancel", await side.request_of(booking))
    assert await side.messages() == []


async def test_a_refusal_is_kept_and_what_follows_is_told(side: Side) -> None:
    side.platform.refuses = True
    booking = await side.book()
    await side.all_settled()
    (refused,) = await side.messages(state="refused")
    assert refused["booking_id"] == booking and "opérateur inconnu" in refused["last_error"]
    side.platform.refuses = False
    await side.regulator.act("cancel", await side.request_of(booking))
    await side.all_settled()
    assert side.platform.told_of(booking) == ["cancelled"]
    metrics = (await side.admin.get("/metrics")).text
    assert 'sas_national_total{word="refused"}' in metrics and 'sas_national_total{word="taken"}' in metrics


async def test_a_key_that_is_bound_to_no_regulator_waits(side: Side) -> None:
    side.regulator = await side.service.regulator()
    booking = await side.book()

    async def waits() -> bool:
        (message,) = await side.messages(booking_id=booking)
        return bool(message["last_error"] == "no_operator" and message["state"] == "waiting")

    await eventually(waits)
    await PostgresNational(side.service.stores.ledger).bind_operator(side.regulator.key_id, *OPERATOR)
    side.service.clock.ahead += timedelta(seconds=national.NO_OPERATOR_S)
    await side.all_settled()
    assert side.platform.told_of(booking) == ["booked"]


async def test_each_change_arrives_in_order_though_three_of_ten_calls_fail_and_the_sender_is_killed(side: Side) -> None:
    """Work 1.3: the other side fails 30 %, processes are killed; each change delivered, in order, none lost."""
    side.platform.failing = 3
    expected: dict[str, list[str]] = {}
    for number in range(16):
        booking = await side.book(60 + number)
        expected[booking] = ["booked"]
        if number % 4 == 3:
            # cancelled in the midst of what it was sending
            await side.service.stop_core()
            await side.service.start_core()
        if number % 2:
            await side.regulator.act("cancel", await side.request_of(booking))
            expected[booking].append("cancelled")
    # what a killed sender had in hand is due after its lease
    side.service.clock.ahead += LEASE
    await side.all_settled()
    assert {booking: side.platform.told_of(booking) for booking in expected} == expected
    tries = [message["tries"] for message in await side.messages(limit=1000)]
    assert max(tries) > 1, "some calls did fail"
    for booking in expected:
        methods = [method for identifier, method, _, _ in side.platform.heard if identifier == booking]
        assert methods.count("POST") <= 1, "what may have arrived is sent again as an update"


async def test_a_sender_that_was_paused_changes_nothing_any_more(side: Side) -> None:
    """Its message was taken over: the verdict of the one that has it now counts."""
    queue = PostgresNational(side.service.stores.ledger)
    booking = await side.book()
    await side.all_settled()
    await side.service.stop_core()
    await side.service.rows(
        "update appointment_message set state = 'waiting', claimed_until = null, next_at = 'epoch' returning id"
    )
    now = side.service.clock.now()
    (paused,) = await queue.claim(now, now + LEASE, 10)
    assert paused.booking_id == booking and await queue.claim(now, now + LEASE, 10) == []
    later = now + LEASE
    (taken_over,) = await queue.claim(later, later + LEASE, 10)
    assert taken_over.tries == paused.tries + 1
    assert not await queue.settle(paused, later, "refused", None, Delivery("refused", "422")), (
        "while the other still sends"
    )
    assert await queue.settle(taken_over, later, "sent", None, Delivery("taken", None, "https://p.example/1"))
    assert not await queue.settle(paused, later, "waiting", later, Delivery("again", "timeout")), "and after"
    assert (await side.messages(booking_id=booking))[0]["state"] == "sent"


async def test_what_was_booked_before_the_link_was_on_is_not_cancelled_there(side: Side) -> None:
    queue = PostgresNational(side.service.stores.ledger)
    await queue.link(side.service.clock.now(), on=False)
    before = await side.book(30)
    await queue.link(side.service.clock.now(), on=True)
    after = await side.book(60)
    for booking in (before, after):
        await side.regulator.act("cancel", await side.request_of(booking))
    await side.all_settled()
    assert (side.platform.told_of(before), side.platform.told_of(after)) == ([], ["booked", "cancelled"])


async def test_old_messages_are_dropped_and_those_that_wait_are_not(side: Side) -> None:
    settled = await side.book(30)
    await side.all_settled()
    side.platform.failing = 10
    waits = await side.book(60)
    queue = PostgresNational(side.service.stores.ledger)
    await queue.forget(side.service.clock.now() - timedelta(days=1))
    assert len(await side.messages(booking_id=settled)) == 1
    await queue.forget(side.service.clock.now() + timedelta(days=1))
    assert await side.messages(booking_id=settled) == [] and len(await side.messages(booking_id=waits)) == 1


async def test_binding_a_key_says_what_is_wrong(side: Side) -> None:
    await bind_operator(side.service.stores.ledger, side.regulator.key_id, "|".join(OPERATOR))
    for key_id, operator, message in (
        (side.regulator.key_id, OPERATOR[1], "attendu urn:oid"),
        (side.regulator.key_id, f"{OPERATOR[0]}|", "attendu urn:oid"),
        # INT_R03 has no type for it: every message of this key would fail
        (side.regulator.key_id, "urn:oid:1.2.3|x", "attendu urn:oid"),
        ("inconnue", "|".join(OPERATOR), "n'existe pas"),
    ):
        with pytest.raises(ConfigError, match=message):
            await bind_operator(side.service.stores.ledger, key_id, operator)


async def test_settings_that_cannot_be_used_are_named_before_anything_starts(tmp_path: Path) -> None:
    missing = str(tmp_path / "rien.pem")
    wrong_line = tmp_path / "annuaire.ndjson"
    wrong_line.write_text('{"kind": "person", "rpps": "10000000001", "family": "A"}\n{"kind": "person"}\n', "utf-8")
    good = Settings(national_url="https://p.example", fhir_system=SYSTEM, national_operator="|".join(OPERATOR))
    await check_links(good)
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({"fhir_system": ""}, "SAS_FHIR_SYSTEM ou SAS_PUBLIC_URL"),
        ({"national_operator": "régulateur"}, "SAS_NATIONAL_OPERATOR"),
        ({"national_operator": "urn:oid:1.2.3|x"}, "SAS_NATIONAL_OPERATOR"),
        ({"national_certificate": missing}, "SAS_NATIONAL_CERTIFICATE"),
        ({"fhir_clients": ("plateforme",)}, r"SAS_FHIR_CLIENTS .* CN\|OU"),
        ({"directory": missing}, "SAS_DIRECTORY"),
        ({"directory": str(wrong_line)}, "SAS_DIRECTORY .* ligne 2, person.rpps"),
    ]
    for changes, message in wrongs:
        with pytest.raises(ConfigError, match=message):
            await check_links(replace(good, **changes))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl n'est pas installé : TLS mutuel sortant NON testé")
async def test_we_show_our_certificate_and_check_theirs(tmp_path: Path) -> None:
    """Mutual TLS outward, certificates made on the spot."""
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    certificate, key = theirs.issue("server", "/CN=plateforme", server="IP:127.0.0.1")
    client = ours.issue("client", "/CN=sas_matcher/OU=1")
    now = datetime.now(UTC)
    message = Message(
        1, "b-1", 1, "booked", "69", "10000000001", False, now, now + timedelta(hours=1), now, 1, *OPERATOR
    )
    platform = Platform()
    tls = {
        "ssl_certfile": certificate,
        "ssl_keyfile": key,
        "ssl_ca_certs": ours.certificate,
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
    }
    async with platform.running(**{name: v if isinstance(v, int) else str(v) for name, v in tls.items()}) as url:
        for own, word in (
            (Certificate(*client, theirs.certificate), "taken"),
            (Certificate(None, None, theirs.certificate), "again"),  # nobody for them
            (Certificate(*client, ours.certificate), "again"),  # nobody for us
        ):
            other = NationalPlatform(url, own, SYSTEM, lambda _: UTC)
            told = await other.tell(message, first=True)
            await other.close()
            assert told.word == word, told
    assert platform.told_of("b-1") == ["booked"] and len(platform.heard) == 1


async def test_nothing_is_queued_where_no_platform_is_set(servers: Servers) -> None:
    database_url = servers.new_database()
    async with run_service(settings_for(database_url, servers.new_redis())) as running:
        quiet = Side(
            running, Platform(), await running.practice(), await running.regulator(), await running.key("admin")
        )
        booking = await quiet.book()
        await quiet.regulator.act("cancel", await quiet.request_of(booking))
        assert await quiet.messages() == []
    servers.drop_database(database_url)
