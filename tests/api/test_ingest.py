"""Publishing straight into Redis: verdicts, poison, what its user may do, and crashes at the worst instant."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from redis import exceptions
from redis.asyncio import Redis

from adapters.redis import keys
from adapters.redis.bus import read_entries
from adapters.redis.ingest import CONSUMER, GROUP, RedisIngest
from sas_matcher.api.ingest import LONGEST
from sas_matcher.bootstrap.access import allow_ingest
from sas_matcher.domain.errors import UnavailableError
from sas_matcher.ports.bus import Entry
from tests.api.running import WAIT_S, Caller, Running, eventually, next_spot, rpps, slot, wish


async def entries_of(redis: Redis, key: str) -> list[tuple[str, dict[bytes, bytes]]]:
    """Return a stream's entries."""
    return [(entry.id, entry.fields) for entry in read_entries(key, await redis.xrange(key))]


@dataclass
class Editor:
    """An agenda's editor that publishes with a Redis user of its own."""

    service: Running
    caller: Caller
    redis: Redis
    user: str

    @property
    def stream(self) -> str:
        """Where it writes."""
        return keys.ingest(self.caller.key_id)

    async def send(self, change: Any) -> str:
        """Add one entry; returns its id."""
        text = change if isinstance(change, bytes) else orjson.dumps(change)
        return str(bytes(await self.redis.execute_command("XADD", self.stream, "*", "change", text)).decode())

    async def verdict(self, entry: str, after: int = 0) -> dict[str, Any]:
        """Wait for the verdict on an entry (the next one after so many on it)."""

        async def look() -> dict[str, Any] | None:
            found = [
                orjson.loads(fields[b"verdict"])
                for _, fields in await entries_of(self.redis, keys.ingest_replies(self.caller.key_id))
                if fields[b"entry"].decode() == entry
            ]
            return found[after] if len(found) > after else None

        verdict: dict[str, Any] = await eventually(look)
        return verdict


async def editor_of(service: Running, caller: Caller) -> Editor:
    """Give a key its Redis user and wait until it may come in."""
    user, password = await allow_ingest(service.stores, caller.key_id)
    address = service.settings.redis_url.partition("?")[0].replace(
        "unix://", f"unix://{quote(user)}:{quote(password)}@", 1
    )
    redis = Redis.from_url(address, protocol=2)

    async def known() -> bool:
        try:
            await redis.execute_command("PING")
        except exceptions.RedisError:
            return False
        return True

    await eventually(known)
    return Editor(service, caller, redis, user)


@pytest.fixture
async def editor(alone: Running) -> AsyncIterator[Editor]:
    """An editor for anyone's slots."""
    made = await editor_of(alone, await alone.practice())
    yield made
    await made.redis.aclose()


def new_slot(service: Running, **changes: Any) -> dict[str, Any]:
    """Return a slot on a spot of its own, an hour from now."""
    return slot(next_spot(service.geography), service.clock.now() + timedelta(hours=1), **changes)


async def test_each_entry_has_its_verdict(editor: Editor, alone: Running) -> None:
    spot = next_spot(alone.geography)
    good = slot(spot, alone.clock.now() + timedelta(hours=1))
    created = await editor.verdict(await editor.send({"action": "publish", "slot": good}))
    assert (created["outcome"], created["external_id"]) == ("created", good["external_id"])
    assert (await editor.verdict(await editor.send({"action": "publish", "slot": good})))["outcome"] == "unchanged"
    changed = {**good, "offers": ["pmr", "ecg"]}
    assert (await editor.verdict(await editor.send({"action": "publish", "slot": changed})))["outcome"] == "updated"
    held = await (await alone.regulator()).ask(wish(spot, needs=["ecg"]))
    assert held["decision"]["place"]["slot_id"] == created["slot_id"]
    gone = {"action": "withdraw", "external_id": good["external_id"]}
    assert (await editor.verdict(await editor.send(gone)))["outcome"] == "withdrawn"
    assert (await editor.verdict(await editor.send(gone)))["outcome"] == "not_found"
    assert await alone.stores.bus.redis.xlen(editor.stream) == 0, "what is done is dropped"


async def test_what_cannot_be_read_is_poison_and_the_next_entry_is_not(editor: Editor, alone: Running) -> None:
    good = new_slot(alone)
    wrong: list[tuple[Any, str]] = [
        (b"", "corps"),
        (b"{", "JSON"),
        (b"\xff\x00", "JSON"),
        (b"[" * 5_000, "JSON"),
        (b'"' + b"x" * LONGEST + b'"', "32 Kio"),
        ({"action": "publish"}, "publish demande slot"),
        ({"action": "publish", "slot": good, "external_id": "a"}, "publish demande slot"),
        ({"action": "delete", "external_id": "a"}, "action"),
        ({"action": "publish", "slot": {**good, "patient": "Marie Canari-4711"}}, "slot.patient"),
        ({"action": "publish", "slot": {**good, "capacity": False}}, "slot.capacity"),
        ({"action": "publish", "slot": {**good, "start": "2026-11-23T14:00:00"}}, "slot.start"),
        ({"action": "publish", "slot": {**good, "end": good["start"]}}, "end"),
        (b'{"action":"withdraw","external_id":NaN}', "external_id"),
    ]
    entries = [await editor.send(change) for change, _ in wrong]
    no_field = bytes(await editor.redis.execute_command("XADD", editor.stream, "*", "autre", "x")).decode()
    last = await editor.send({"action": "publish", "slot": good})
    for entry, (change, named) in zip(entries, wrong, strict=True):
        verdict = await editor.verdict(entry)
        assert verdict["outcome"] == "rejected", change
        assert verdict["code"] in ("invalid_input", "too_large")
        assert named in verdict["detail"], (change, verdict["detail"])
    assert (await editor.verdict(no_field))["outcome"] == "rejected"
    assert (await editor.verdict(last))["outcome"] == "created"

    admin = await alone.key("admin")
    shown = (await admin.get("/v1/ingest/poison")).json()["entries"]
    mine = {poison["entry"]: poison for poison in shown if poison["key"] == editor.caller.key_id}
    assert mine.keys() == {*entries, no_field}
    assert "slot.patient" in mine[entries[8]]["reason"]
    assert int(mine[entries[4]]["bytes"]) == LONGEST + 2
    # what was refused may be a patient's identity: it is not kept anywhere
    for key in (keys.INGEST_POISON, keys.ingest_replies(editor.caller.key_id), editor.stream):
        kept = await entries_of(alone.stores.bus.redis, key)
        assert b"Canari-4711" not in b"".join(value for _, fields in kept for value in fields.values())


async def test_a_bound_key_publishes_only_for_its_own(alone: Running) -> None:
    own = rpps()
    bound = await editor_of(alone, await alone.practice(professionals=(own,)))
    mine = new_slot(alone, professional={"rpps": own, "name": "Dr Fictif"})
    assert (await bound.verdict(await bound.send({"action": "publish", "slot": mine})))["outcome"] == "created"
    refused = await bound.verdict(await bound.send({"action": "publish", "slot": new_slot(alone)}))
    assert refused["outcome"] == "rejected" and "professional" in refused["detail"]
    await bound.redis.aclose()


async def test_two_keys_of_one_source_do_not_take_each_others_slots(alone: Running) -> None:
    own, other = rpps(), rpps()
    owner = await alone.key("manager", professionals=(own,), source="logiciel")
    bound = await editor_of(alone, await alone.key("manager", professionals=(other,), source="logiciel"))
    theirs = new_slot(alone, professional={"rpps": own, "name": "Dr Fictif"})
    await owner.publish(theirs)
    window = {"from": alone.clock.now().isoformat(), "to": (alone.clock.now() + timedelta(hours=3)).isoformat()}
    before = (await owner.get("/v1/slots", **window)).json()
    taken = {**theirs, "professional": {"rpps": other, "name": "Dr Autre"}}
    refused = {"external_id": theirs["external_id"], "outcome": "not_yours", "slot_id": None}
    assert await bound.verdict(await bound.send({"action": "publish", "slot": taken})) == refused
    answer = (await bound.caller.post("/v1/slots", {"slots": [taken]})).json()
    assert answer == {"counts": {"not_yours": 1}, "results": [refused]}
    assert (await owner.get("/v1/slots", **window)).json() == before and len(before["slots"]) == 1
    assert (await bound.caller.get("/v1/slots", **window)).json()["slots"] == []
    await bound.redis.aclose()


async def test_the_user_may_write_its_stream_and_read_its_replies_and_nothing_else(
    editor: Editor, alone: Running
) -> None:
    other = await editor_of(alone, await alone.practice())
    replies = keys.ingest_replies(editor.caller.key_id)
    await editor.verdict(await editor.send({"action": "withdraw", "external_id": "x"}))
    assert await editor.redis.execute_command("XREAD", "COUNT", "1", "STREAMS", replies, "0")
    forbidden: Sequence[tuple[Any, ...]] = (
        ("XADD", other.stream, "*", "change", "{}"),
        ("XADD", replies, "*", "entry", "1-1", "verdict", "{}"),
        ("XADD", keys.EVENTS, "*", "type", "request.held"),
        ("XADD", keys.REQUESTS, "*", "type", "open"),
        ("XADD", keys.INGEST_POISON, "*", "a", "b"),
        ("XRANGE", editor.stream, "-", "+"),
        ("XRANGE", keys.ingest_replies(other.caller.key_id), "-", "+"),
        ("XREAD", "STREAMS", keys.EVENTS, "0"),
        ("XREAD", "STREAMS", replies, keys.EVENTS, "0", "0"),
        ("GET", keys.EPOCH),
        ("SET", keys.EPOCH, "mine"),
        ("HGETALL", keys.places("69")),
        ("DEL", editor.stream),
        ("XDEL", editor.stream, "1-1"),
        ("XTRIM", editor.stream, "MAXLEN", "0"),
        ("XGROUP", "DESTROY", editor.stream, GROUP),
        ("XREADGROUP", "GROUP", GROUP, CONSUMER, "STREAMS", editor.stream, ">"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("EVAL", "return redis.call('GET', KEYS[1])", "1", keys.EPOCH),
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("CLIENT", "LIST"),
        ("MONITOR",),
        ("SUBSCRIBE", "x"),
        ("PUBLISH", "x", "y"),
        ("SHUTDOWN",),
        ("REPLICAOF", "127.0.0.1", "1"),
        ("INFO",),
    )
    for command in forbidden:
        with pytest.raises(exceptions.NoPermissionError):
            await editor.redis.execute_command(*command)
    await other.redis.aclose()


async def test_a_commit_whose_acknowledgement_is_lost_is_seen_as_unchanged(
    editor: Editor, alone: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = RedisIngest.answer_changes
    failures: list[str] = []

    async def lost(
        self: RedisIngest, key_id: str, verdicts: Sequence[tuple[str, str]], poison: Sequence[tuple[Entry, str]]
    ) -> None:
        if key_id == editor.caller.key_id and len(failures) < 2:
            failures.extend(verdict for _, verdict in verdicts)
            raise UnavailableError("Redis ne répond pas.")
        await answer(self, key_id, verdicts, poison)

    monkeypatch.setattr(RedisIngest, "answer_changes", lost)
    entry = await editor.send({"action": "publish", "slot": new_slot(alone)})
    assert (await editor.verdict(entry))["outcome"] == "unchanged"
    assert [orjson.loads(text)["outcome"] for text in failures] == ["created", "unchanged"]


async def test_a_core_killed_between_commit_and_acknowledgement_loses_nothing(
    editor: Editor, alone: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = asyncio.Event()

    async def never(*_: Any) -> None:
        committed.set()
        await asyncio.sleep(3600)

    entries = []
    with monkeypatch.context() as patched:
        patched.setattr(RedisIngest, "answer_changes", never)
        entries = [await editor.send({"action": "publish", "slot": new_slot(alone)}) for _ in range(3)]
        await asyncio.wait_for(committed.wait(), WAIT_S)
        await alone.stop_core()
    await alone.start_core()
    outcomes = [(await editor.verdict(entry))["outcome"] for entry in entries]
    assert outcomes[0] == "unchanged" and set(outcomes) <= {"created", "unchanged"}


async def test_entries_trimmed_away_while_they_were_pending_stop_nobody(
    editor: Editor, alone: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publisher may trim its own stream (XADD … MAXLEN): what it takes away itself is gone, the rest goes on."""
    taken = asyncio.Event()

    async def never(*_: Any) -> None:
        taken.set()
        await asyncio.sleep(3600)

    with monkeypatch.context() as patched:
        patched.setattr(RedisIngest, "answer_changes", never)
        await editor.send({"action": "withdraw", "external_id": "x"})
        await asyncio.wait_for(taken.wait(), WAIT_S)
        await alone.stop_core()
    await editor.redis.execute_command("XADD", editor.stream, "MAXLEN", "1", "*", "change", b'{"action":"withdraw"}')
    await alone.start_core()
    entry = await editor.send({"action": "withdraw", "external_id": "y"})
    assert (await editor.verdict(entry))["outcome"] == "not_found"
    pending = await alone.stores.bus.redis.xpending(editor.stream, GROUP)
    assert pending["pending"] == 0


@pytest.mark.faults("ingest.entry")
async def test_an_entry_that_breaks_us_is_set_aside(
    editor: Editor, alone: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sas_matcher.services.publish import Publishing

    publish = Publishing.publish

    async def broken(self: Publishing, publisher: Any, slots: Sequence[Any]) -> Any:
        if slots[0]["external_id"] == "casse-tout":
            raise ZeroDivisionError("secret-4711")
        return await publish(self, publisher, slots)

    monkeypatch.setattr(Publishing, "publish", broken)
    bad = await editor.send({"action": "publish", "slot": new_slot(alone, external_id="casse-tout")})
    good = await editor.send({"action": "publish", "slot": new_slot(alone)})
    assert await editor.verdict(bad) == {"outcome": "rejected", "code": "internal"}
    assert (await editor.verdict(good))["outcome"] == "created"


async def test_a_wipe_of_redis_loses_no_publisher(editor: Editor, alone: Running) -> None:
    await alone.stores.bus.redis.flushall()
    entry = await editor.send({"action": "publish", "slot": new_slot(alone)})
    assert (await editor.verdict(entry))["outcome"] == "created"
    # users are no data: a flush keeps them, a server that lost them gets them back
    await alone.stores.bus.redis.execute_command("ACL", "DELUSER", editor.user)

    async def back() -> bool:
        try:
            await editor.send({"action": "withdraw", "external_id": "x"})
        except exceptions.RedisError:
            return False
        return True

    await eventually(back)


async def test_a_new_key_is_known_though_the_clock_was_put_back(alone: Running) -> None:
    await asyncio.sleep(0.5)  # the keys were looked at, by the clock as it was
    alone.clock.ahead -= timedelta(hours=2)
    try:
        made = await editor_of(alone, await alone.practice())
        await made.redis.aclose()
    finally:
        alone.clock.ahead += timedelta(hours=2)


async def test_a_revoked_key_publishes_no_more(editor: Editor, alone: Running) -> None:
    redis = alone.stores.bus.redis
    assert await alone.stores.ledger.revoke_key(editor.caller.key_id, alone.clock.now())

    async def shut_out() -> bool:
        try:
            await editor.redis.execute_command("PING")
        except exceptions.RedisError:
            return True
        return False

    await eventually(shut_out)
    # an entry that was already there, or came from someone who may write anything, is refused too
    text = orjson.dumps({"action": "publish", "slot": new_slot(alone)})
    late = await redis.execute_command("XADD", editor.stream, "*", "change", text)

    async def refused() -> dict[str, Any] | None:
        for _, fields in await entries_of(redis, keys.ingest_replies(editor.caller.key_id)):
            if fields[b"entry"] == late:
                verdict: dict[str, Any] = orjson.loads(fields[b"verdict"])
                return verdict
        return None

    assert await eventually(refused) == {"outcome": "rejected", "code": "not_authenticated"}
