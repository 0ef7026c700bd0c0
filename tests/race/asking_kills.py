"""En sus while processes are killed: of 200 who say yes at once one gets each patient, and everybody is told.

``./sas race --asking KILLS`` starts a whole service of its own, asks 200 doctors of ten practices for each of five
patients (1 000 questions), lets all answer yes at once through HTTP, and sends SIGKILL to an API worker, the core,
Valkey and PostgreSQL meanwhile. Judged in the end: one winner for each patient, 199 who were told that it was too late,
and the last word about each question on the websocket of its practice and at its webhook, asked before closed.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from adapters.postgres.asking import PostgresAsking
from adapters.system import SystemIds
from sas_matcher.bootstrap.access import issue_key
from sas_matcher.bootstrap.stores import Stores, open_stores
from sas_matcher.client import Event, SasClient
from sas_matcher.config import Settings
from sas_matcher.domain.vocabulary import Role
from sas_matcher.ports.asking import Advance
from sas_matcher.services.keys import KeyWish
from tests.race.kills import Killer, ServiceProcess, _fallen, data_folder
from tests.race.kills_clients import Caller, History

PRACTICES: Final = 10
DOCTORS: Final = 20  # of each practice: 200 in all
REQUESTS: Final = 5  # 1 000 questions
SPOT: Final = {"lat": 45.7663, "lon": 4.8797, "insee": "69266"}
KINDS: Final = ("api", "core", "postgres", "valkey", "api+core", "core+postgres")
SETTLE_S: Final = 120.0
BOUND_S: Final = 60.0  # here it is no matter how soon the service is back: ``--kills`` judges that
_OVER: Final = ("question.accepted", "question.closed")


@dataclass
class Server:
    """A practice's server: checks each webhook's signature and remembers what it was told, in order."""

    secrets: list[bytes] = field(default_factory=list)
    told: list[tuple[str, str, str]] = field(default_factory=list)
    forged: int = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = (line.partition(": ") for line in head.split("\r\n")[1:] if line)
            headers = {name.lower(): value for name, _, value in lines}
            body = await reader.readexactly(int(headers["content-length"]))
            number = headers["webhook-id"]
            signed = f"{number}.{headers['webhook-timestamp']}.".encode() + body
            good = {
                "v1," + base64.b64encode(hmac.new(s, signed, hashlib.sha256).digest()).decode() for s in self.secrets
            }
            self.forged += headers["webhook-signature"] not in good
            message = orjson.loads(body)
            self.told.append((number, message["type"], message["data"]["question_id"]))
            writer.write(b"HTTP/1.1 204 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()


class Practice:
    """Twenty doctors with one key: a socket that resumes, a webhook, and answers that are repeated until they count."""

    def __init__(self, caller: Caller, token: str, doctors: list[str]) -> None:
        self.caller = caller
        self.doctors = doctors
        self.client = SasClient(caller.base, token)
        self.last: dict[str, str] = {}
        self.gaps = 0
        self.by_gap: set[str] = set()

    async def follow(self) -> None:
        """Note the last word about each question; after a gap read them all."""
        async for item in self.client.events():
            if isinstance(item, Event):
                if item.name.startswith("question."):
                    self.last[item.aggregate.removeprefix("question:")] = item.name
                continue
            self.gaps += 1
            found = await self.caller.send("GET", "/v1/questions?limit=200")
            for question in found.document["questions"]:
                name = question["question_id"]
                if self.last.get(name) not in _OVER and question["state"] != "asked":
                    self.by_gap.add(name)
                self.last[name] = f"question.{question['state']}"

    async def prepare(self, webhook: str, server: Server) -> None:
        """Let the doctors be asked at any hour, and subscribe."""
        for number, doctor in enumerate(self.doctors):
            await self.caller.send("PUT", f"/v1/overflow/d{number}", consent(doctor))
        wish = {"way": "webhook", "address": webhook, "kinds": ["question.asked", "question.closed"]}
        made = await self.caller.send("PUT", "/v1/subscriptions/agenda", wish)
        server.secrets.append(base64.b64decode(made.document["secret"].removeprefix("whsec_")))

    async def yes(self, question_id: str, start: datetime) -> str:
        """Say yes; returns accepted, or the code of the refusal."""
        answer = await self.caller.act("yes", f"/v1/questions/{question_id}/accept", {"start": start.isoformat()})
        document = answer.document
        return str(document["state"] if answer.status == 200 else document["code"])


def consent(rpps: str) -> dict[str, Any]:
    """Return the consent of a doctor."""
    return {
        "professional": {"rpps": rpps, "name": "Dr Fictif"},
        "source_kind": "liberal",
        "location": SPOT,
        "profession": "MG",
        "ask_from": "00:00",
        "ask_to": "24:00",
        "days": [1, 2, 3, 4, 5, 6, 7],
        "most_a_day": 50,
    }


@dataclass
class Outcome:
    """What a campaign found."""

    facts: Mapping[str, Any]
    findings: list[str]


async def _ask_all(stores: Stores, request: str) -> dict[str, str]:
    """Ask every doctor who consented; returns {question: RPPS}."""
    rows = await stores.ledger.fetch("select id, professional from overflow where removed_at is null")
    ids = SystemIds()
    until = datetime.now(UTC) + timedelta(minutes=30)
    questions = {ids.uuid(): row for row in rows}
    asked = [{"id": q, "overflow_id": row["id"], "km": 1, "answer_by": until} for q, row in questions.items()]
    move = Advance(request, 0, 0, 1, until, {"name": "Tous", "of": len(asked)}, asked)
    word = await PostgresAsking(stores.ledger).advance(datetime.now(UTC), move)
    assert word == "advanced", word
    return {question: row["professional"] for question, row in questions.items()}


async def _kill(killer: Killer, kinds: list[str]) -> None:
    """Kill these, one after the other, each as soon as the service is back from the one before."""
    for kind in kinds:
        await asyncio.sleep(killer.rng.uniform(0.02, 0.3))
        for one in kind.split("+"):
            killer.done += await killer._one(one)
        began = time.monotonic()
        if not await killer._back():
            killer.late.append(f"not back within {killer.bound:.0f} s after {kind}")
            return
        killer.took[kind].append(time.monotonic() - began)


async def campaign(kills: int, seed: int) -> Outcome:
    """Run a service, ask, let all answer while it is killed, and judge."""
    rng = random.Random(seed)
    history, server = History(), Server()
    plans = [rng.choice(KINDS) if n >= 4 else KINDS[n] for n in range(kills)]
    with data_folder() as folder:
        service = ServiceProcess(folder)
        listening = await asyncio.start_server(server.take, "127.0.0.1", 0)
        webhook = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/sas"
        following: list[asyncio.Task[None]] = []
        try:
            async with open_stores(Settings(database_url=service.database_url, redis_url=service.redis_url)) as stores:

                async def caller(wish: KeyWish) -> tuple[Caller, str]:
                    record, token = await issue_key(stores, wish)
                    return Caller(service.base, record.id, token, history, random.Random(rng.random())), token

                regulator, _ = await caller(KeyWish(Role.OSNP, "race", territories=("*",)))
                practices = []
                for number in range(PRACTICES):
                    doctors = [f"10{number:03d}{n:06d}" for n in range(DOCTORS)]
                    made = await caller(KeyWish(Role.DELEGATE, "race", professionals=tuple(doctors)))
                    practices.append(Practice(*made, doctors))
                await asyncio.gather(*(practice.prepare(webhook, server) for practice in practices))
                following = [asyncio.create_task(practice.follow()) for practice in practices]
                await asyncio.sleep(1)
                asked: list[tuple[str, dict[str, str]]] = []
                for _ in range(REQUESTS):
                    wish = {"insee": SPOT["insee"], "profession": "MG", "delay": "24H"}
                    made_one = (await regulator.act("request", "/v1/requests", wish)).document["request_id"]
                    asked.append((made_one, await _ask_all(stores, made_one)))
            killer = Killer(service, regulator, rng, BOUND_S)
            words: list[Counter[str]] = []
            by_doctor = {doctor: practice for practice in practices for doctor in practice.doctors}
            share = -(-kills // REQUESTS)
            for number, (_, questions) in enumerate(asked):
                # at hours of their own: nobody is kept away by another patient
                start = datetime.now(UTC) + timedelta(minutes=90 + 20 * number)
                answers = asyncio.gather(*(by_doctor[doctor].yes(q, start) for q, doctor in questions.items()))
                await _kill(killer, plans[number * share : (number + 1) * share])
                words.append(Counter(await answers))
            outcome = await _judge(service, killer, practices, server, asked, words, history)
            for practice in practices:
                await practice.client.aclose()
                await practice.caller.http.aclose()
            await regulator.http.aclose()
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
            listening.close()
            code = service.stop()
        fell = _fallen(service.log)
        shutil.rmtree(folder, ignore_errors=True)
    ended = [] if code == 0 else [f"the service ended with code {code}"]
    return Outcome(outcome.facts, [*outcome.findings, *fell, *ended])


async def _judge(
    service: ServiceProcess,
    killer: Killer,
    practices: list[Practice],
    server: Server,
    asked: list[tuple[str, dict[str, str]]],
    words: list[Counter[str]],
    history: History,
) -> Outcome:
    total = PRACTICES * DOCTORS
    findings = list(killer.late) + history.wrong
    for (request, _), said in zip(asked, words, strict=True):
        if said != {"accepted": 1, "too_late": total - 1}:
            findings.append(f"request {request}: {dict(said)}")
    everything = {question for _, questions in asked for question in questions}
    deadline = time.monotonic() + SETTLE_S
    closed = len(everything) - REQUESTS
    while time.monotonic() < deadline:
        on_sockets = {q for practice in practices for q, name in practice.last.items() if name in _OVER}
        hooks = {(kind, question) for _, kind, question in server.told}
        if on_sockets >= everything and len(hooks) == len(everything) + closed:
            break
        await asyncio.sleep(0.2)
    async with open_stores(Settings(database_url=service.database_url, redis_url=service.redis_url)) as stores:
        doubles = await stores.ledger.doubles()
        counted = await stores.ledger.fetch("select state, count(*) as n from question group by 1")
        states = {row["state"]: row["n"] for row in counted}
        requests = [request for request, _ in asked]
        held = await stores.ledger.fetch("select id from request where status = 'held' and id = any($1)", requests)
    if any(doubles.values()):
        findings.append(f"doubles: {doubles}")
    if states != {"accepted": REQUESTS, "closed": closed} or len(held) != REQUESTS:
        findings.append(f"ledger: {states}, {len(held)} held")
    if missing := everything - on_sockets:
        findings.append(f"{len(missing)} questions whose end no socket was told")
    first: dict[tuple[str, str], int] = {}
    for at, (_, kind, question) in enumerate(server.told):
        first.setdefault((kind, question), at)
    hooked = {kind: {q for k, q in first if k == kind} for kind in ("question.asked", "question.closed")}
    if len(hooked["question.asked"]) != len(everything) or len(hooked["question.closed"]) != closed:
        findings.append(f"webhooks: { ({k: len(q) for k, q in hooked.items()}) }")
    closed_first = [
        question
        for question in hooked["question.closed"]
        if first["question.closed", question] < first.get(("question.asked", question), -1)
    ]
    if closed_first:
        findings.append(f"{len(closed_first)} webhooks out of order")
    if server.forged:
        findings.append(f"{server.forged} webhooks with a wrong signature")
    facts = {
        "SIGKILLs": killer.done,
        "back, median and most (s)": _times(killer),
        "questions": len(everything),
        "answers repeated over a break": history.repeated,
        "patients with exactly one winner": sum(said["accepted"] == 1 for said in words),
        "told too late": sum(said["too_late"] for said in words),
        "questions whose end came by websocket": len(on_sockets),
        "of these read after a told gap": sum(len(practice.by_gap) for practice in practices),
        "webhooks: asked, closed, delivered again": (
            len(hooked["question.asked"]),
            len(hooked["question.closed"]),
            len(server.told) - len({number for number, _, _ in server.told}),
        ),
    }
    return Outcome(facts, findings)


def _times(killer: Killer) -> str:
    took = sorted(second for times in killer.took.values() for second in times)
    return f"{took[len(took) // 2]:.1f}, {took[-1]:.1f}" if took else "-"


def main(kills: int, seed: int = 1) -> int:
    """Run a campaign and print what it found; returns 1 on any finding."""
    outcome = asyncio.run(campaign(kills, seed))
    for name, value in outcome.facts.items():
        sys.stdout.write(f"{name}: {value}\n")
    for finding in outcome.findings[:40]:
        sys.stdout.write(f"FINDING {finding}\n")
    sys.stdout.write(f"{len(outcome.findings)} findings\n\n")
    sys.stdout.flush()
    return 1 if outcome.findings else 0
