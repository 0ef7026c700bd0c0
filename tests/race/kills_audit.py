"""The audit of the kill campaign: what the clients were told, against the ledger's rows and what sockets delivered.

The SQL is written for this audit: the service's own auditor (query ``doubles``) would share its mistakes.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import orjson

from tests.race.kills_clients import Follower, History

SETTLE_S: Final = 40.0
"""Bound of the wait until all is told at the end: the sweep comes after a second, a hold lasts 15 s."""
REPLAYS: Final = 300

# what must not exist, whatever happened: title → query that counts
IMPOSSIBLE: Final = {
    "seat booked twice": """
        select count(*) from booking a join booking b on a.slot_id = b.slot_id and a.seat = b.seat and a.id < b.id
        where a.ended_at is null and b.ended_at is null""",
    "request with two places": """
        select count(*) from booking a join booking b on a.request_id = b.request_id and a.id < b.id
        where a.ended_at is null and b.ended_at is null""",
    "professional booked over himself": """
        select count(*) from booking a join slot s on s.id = a.slot_id
        join slot t on t.professional = s.professional and t.id > s.id and t.starts < s.ends and t.ends > s.starts
        join booking b on b.slot_id = t.id
        where a.ended_at is null and b.ended_at is null and s.capacity = 1 and t.capacity = 1""",
    "slot over its capacity": """
        select count(*) from (select from slot s join booking b on b.slot_id = s.id where b.ended_at is null
            group by s.id having count(*) > s.capacity) over_full""",
    "seat promised to two at once": """
        select count(*) from booking a join booking b on a.slot_id = b.slot_id and a.seat = b.seat and a.id < b.id
        where tstzrange(a.firm_at, a.ended_at) && tstzrange(b.firm_at, b.ended_at)
          and a.firm_at is not null and b.firm_at is not null""",
    "request that disagrees with its booking": """
        select count(*) from request r left join booking b on b.id = r.booking_id
        where (r.status in ('held', 'firm')) is distinct from (b.ended_at is null and b.id is not null)
           or (r.status in ('held', 'firm') and b.state <> r.status)""",
    "hold that did not end": """
        select count(*) from booking
        where state = 'held' and ended_at is null and hold_until < now() - interval '2 s'""",
    "place kept on a withdrawn slot": """
        select count(*) from booking b join slot s on s.id = b.slot_id
        where b.ended_at is null and s.status = 'withdrawn'""",
}
# what ends by itself when nothing is lost: title → query that counts
UNSETTLED: Final = {
    "request never decided": "select count(*) from request where status = 'waiting' and decision is null",
    "announcement never published": "select count(*) from outbox",
    "hold still open": "select count(*) from booking where state = 'held' and ended_at is null",
}


class Audit:
    """Compares history, ledger and sockets; ``found`` says in a line each what is wrong."""

    def __init__(self, ledger: asyncpg.Connection, history: History, followers: Sequence[Follower]) -> None:
        self._ledger = ledger
        self._history = history
        self._followers = followers
        self._requests: dict[str, Any] = {}
        self._bookings: dict[str, Any] = {}
        self.found: list[str] = []
        self.facts: dict[str, int] = {}

    async def settle(self) -> None:
        """Wait until nothing is on its way any more; what still is after the bound is a finding."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            left = {title: await self._ledger.fetchval(query) for title, query in UNSETTLED.items()}
            await self._load()
            left["client with stale knowledge"] = len(self._stale())
            if not any(left.values()):
                return
            if time.monotonic() > deadline:
                self.found += [f"{title}: {count}" for title, count in left.items() if count]
                self.found += self._stale()[:5]
                return
            await asyncio.sleep(0.5)

    async def _load(self) -> None:
        self._requests = {str(row["id"]): row for row in await self._ledger.fetch("select * from request")}
        self._bookings = {
            str(row["id"]): row
            for row in await self._ledger.fetch(
                "select b.*, s.structure, s.source, s.external_id from booking b join slot s on s.id = b.slot_id"
            )
        }

    def _stale(self) -> list[str]:
        """Whoever follows must know the newest version of what is theirs (version 1 of a request is the answer)."""
        requests = {f.caller.key_id: f for f in self._followers if not f.finess}
        practices = {f.finess: f for f in self._followers if f.finess}
        stale = [
            f"{name} is {row['status']} version {row['version']}, its socket knows {follower.known.get(name, 0)}"
            for name, row in self._requests.items()
            if (follower := requests.get(row["key_id"])) is not None
            and row["version"] > 1
            and follower.known.get(name, 0) < row["version"]
        ]
        stale += [
            f"booking {name} is {row['state']} {row['version']}, its practice knows {follower.known.get(name, 0)}"
            for name, row in self._bookings.items()
            if row["firm_at"] is not None
            and (follower := practices.get(row["structure"])) is not None
            and follower.known.get(name, 0) < row["version"]
        ]
        return stale

    async def judge(self) -> None:
        """Compare everything."""
        for title, query in IMPOSSIBLE.items():
            count = await self._ledger.fetchval(query)
            self.facts[title] = count
            if count:
                self.found.append(f"{title}: {count}")
        await self._load()
        await self._judge_slots()
        self._judge_requests()
        self._judge_bookings()
        self._judge_sockets()
        await self._judge_replays()
        self.found += self._history.wrong

    async def _judge_slots(self) -> None:
        slots = {
            (row["source"], row["external_id"]): row
            for row in await self._ledger.fetch("select source, external_id, label, status from slot")
        }
        for name, revision in self._history.published.items():
            row = slots.get(name)
            if row is None:
                self.found.append(f"lost publication {name}")
            elif int(row["label"].split()[-1]) != revision:
                self.found.append(f"lost change of {name}: {row['label']}, acknowledged {revision}")
            elif row["status"] != "open" and name not in self._history.withdrawing:
                self.found.append(f"{name} was withdrawn by nobody")
        for name in self._history.withdrawn:
            if name not in slots or slots[name]["status"] != "withdrawn":
                self.found.append(f"lost withdrawal {name}")

    def _judge_requests(self) -> None:
        cases = [row["case_ref"] for row in self._requests.values() if row["case_ref"] is not None]
        if len(cases) != len(set(cases)):
            self.found.append(f"{len(cases) - len(set(cases))} requests taken in twice")
        for request_id, (key_id, case) in self._history.asked.items():
            row = self._requests.get(request_id)
            if row is None or (row["key_id"], row["case_ref"]) != (key_id, case):
                self.found.append(f"lost request {request_id}")
        for request_id, version in self._history.versions.items():
            row = self._requests.get(request_id)
            if row is not None and row["version"] < version:
                self.found.append(f"request {request_id} fell back from version {version} to {row['version']}")
        for request_id in self._history.cancelled:
            row = self._requests.get(request_id)
            if row is None or row["status"] != "cancelled":
                self.found.append(f"lost cancellation of {request_id}")

    def _judge_bookings(self) -> None:
        for booking_id, (_, request_id, _) in self._history.confirmed.items():
            row = self._bookings.get(booking_id)
            # only an act of somebody ends a confirmed booking
            kept = (
                row is not None
                and row["firm_at"] is not None
                and {
                    "firm": True,
                    "cancelled": request_id in self._history.cancelling,
                    "refused": booking_id in self._history.refusing,
                    "withdrawn": (row["source"], row["external_id"]) in self._history.withdrawing,
                }.get(row["state"], False)
            )
            if not kept:
                self.found.append(f"lost confirmation {booking_id}: {None if row is None else row['state']}")
        for booking_id, request_id in self._history.declined.items():
            row = self._bookings.get(booking_id)
            if row is None or row["state"] != "declined" or str(row["request_id"]) != request_id:
                self.found.append(f"lost decline {booking_id}")
        for booking_id in self._history.refused:
            row = self._bookings.get(booking_id)
            if row is None or row["state"] != "refused":
                self.found.append(f"lost refusal {booking_id}")

    def _judge_sockets(self) -> None:
        """Each confirmation was delivered once, or a newer state of it, or a gap told its reader to look."""
        regulators = {f.caller.key_id: f for f in self._followers if not f.finess}
        practices = {f.finess: f for f in self._followers if f.finess}
        told = {"seen on its socket": 0, "overtaken by a newer event": 0, "read after a told gap": 0}
        subjects = [
            (regulators[key_id], request_id, version)
            for key_id, request_id, version in self._history.confirmed.values()
        ]
        for booking_id in self._history.confirmed:
            row = self._bookings.get(booking_id)
            if row is not None and row["structure"] in practices:
                subjects.append((practices[row["structure"]], booking_id, 2))  # held is version 1, firm is 2
        for follower, aggregate, version in subjects:
            if follower.applied[aggregate, version]:
                told["seen on its socket"] += 1
            elif follower.snapshot.get(aggregate, 0) >= version:
                told["read after a told gap"] += 1
            elif follower.known.get(aggregate, 0) > version:
                told["overtaken by a newer event"] += 1
            else:
                self.found.append(f"confirmation never told: {aggregate} version {version}")
        self.facts |= told
        self.facts["duplicate events after dedupe"] = sum(
            count - 1 for f in self._followers for count in f.applied.values() if count > 1
        )
        if self.facts["duplicate events after dedupe"]:
            self.found.append("an event was applied twice")

    async def _judge_replays(self) -> None:
        """The same Idempotency-Key gives the same answer, whatever died in between."""
        answers = self._history.answers
        sample = random.Random(len(answers)).sample(answers, min(REPLAYS, len(answers)))
        for caller, path, body, key, first in sample:
            again = await caller.send("POST", path, body, key)
            same = again.text == first
            if path == "/v1/requests":  # answered as it now stands
                same = again.status < 300 and again.document["request_id"] == orjson.loads(first)["request_id"]
            if not same:
                self.found.append(
                    f"another answer for the same Idempotency-Key: {path} {again.status} {again.text[:200]}"
                )
        self.facts["idempotency replays compared"] = len(sample)
