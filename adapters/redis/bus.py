"""Redis as mirror and bus: publish what committed, read streams, rebuild after a wipe. Nothing is true here alone."""

import asyncio
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.resources import files
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

import orjson
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from adapters.redis import keys
from adapters.redis.lines import Lines
from sas_matcher.domain.errors import UnavailableError
from sas_matcher.ports.bus import LIMIT_NEWS, Entry, entry_order
from sas_matcher.ports.ledger import Announcement

_SCRIPT: Final = files("adapters.redis").joinpath("apply_places.lua").read_text(encoding="utf-8")
_BEGIN_EPOCH: Final = files("adapters.redis").joinpath("begin_epoch.lua").read_text(encoding="utf-8")
_SHA: Final = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
# Lengths after which old entries go; a reader that was away longer is told of a gap and reads the ledger.
PLACES_LOG_LENGTH: Final = 2_000
REQUESTS_LENGTH: Final = 10_000
EVENTS_LENGTH: Final = 20_000
BATCHES_LENGTH: Final = 2_000  # as places: a decided batch changes places
_RUN_ID: Final = re.compile(rb"^run_id:(\w+)", re.MULTILINE)
_ANSWER_S: Final = 5.0  # a server that takes longer counts as away

_AWAY: Final = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.BusyLoadingError,
    # a server that takes no writes now: out of memory, or a replica during a failover
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.MasterDownError,
    exceptions.ClusterError,
    # of a cluster: no node left that answers, a slot that nobody serves now
    exceptions.RedisClusterException,
    OSError,
    TimeoutError,
)


_REFUSING: Final = ("MISCONF ", "NOREPLICAS ", "BUSY ", "CLUSTERDOWN ", "ERR max number of clients reached")
"""Beginnings of what a server says that is there and cannot serve now: its disk is full, its replicas are missing, a
script keeps it busy, it has too many clients (https://valkey.io/topics/persistence, .../replication, .../clients)."""


@contextmanager
def answering() -> Iterator[None]:
    """Turn a server that does not answer into UnavailableError, and let no cancellation be lost.

    redis-py sends within ``asyncio.wait_for``, which before Python 3.12 forgets a cancellation that comes in the moment
    of success (cpython issue 86296): a task that is told once to stop would run for ever.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        yield
    except _AWAY as failure:
        raise UnavailableError("Redis ne répond pas.", retry_after=2) from failure
    except exceptions.ResponseError as refusal:
        # redis-py cuts the first word off what it knows
        if not f"{refusal} ".startswith(_REFUSING) and not str(refusal).startswith("max number of clients"):
            raise
        raise UnavailableError("Redis n'accepte rien en ce moment.", retry_after=2) from refusal
    except AttributeError as torn:
        # redis-py's cluster client uses a connection that another task has just closed, because its node went away
        if torn.obj is not None or torn.name not in ("write", "writelines", "drain", "read"):
            raise
        raise UnavailableError("Redis ne répond pas.", retry_after=2) from torn
    finally:
        if task is not None and task.cancelling() > before and not isinstance(sys.exception(), asyncio.CancelledError):
            raise asyncio.CancelledError


CLUSTER: Final = "redis-cluster"
"""Scheme of the URL of a cluster: ``redis-cluster://:SECRET@host:port,host:port``; some of its nodes will do."""


def _open(url: str) -> "Redis | RedisCluster":
    """Open a client. RESP2 on purpose: its stream replies have one shape on every server version."""
    patience: dict[str, Any] = {"socket_timeout": _ANSWER_S, "socket_connect_timeout": _ANSWER_S, "protocol": 2}
    parts = urlsplit(url)
    if parts.scheme != CLUSTER:
        return Redis.from_url(url, decode_responses=False, retry=Retry(NoBackoff(), 1), **patience)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, secret = login.partition(":")
    pairs = [host.rpartition(":") for host in hosts.split(",")]
    return RedisCluster(
        startup_nodes=[ClusterNode(host, int(port)) for host, _, port in pairs],
        username=unquote(user) or None,
        password=unquote(secret) or None,
        # the others go on while one is away; who asks too early for what it had is told so, and asks again
        require_full_coverage=False,
        retry=Retry(NoBackoff(), 2),
        **patience,
    )


def _epoch_seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


class RedisBus:
    """The mirror and the streams on one server, or on a cluster.

    What is said for every request goes over ``Lines`` where there is one server; the rest, and all to a cluster,
    through redis-py (``redis``).
    """

    def __init__(self, redis: "Redis | RedisCluster", lines: Lines | None = None) -> None:
        self._cluster = isinstance(redis, RedisCluster)
        # both have the commands used here; where they differ it is said
        self.redis = cast(Redis, redis)
        self._lines = lines

    @classmethod
    def connect(cls, url: str) -> "RedisBus":
        """Open a client of one server, or of a cluster (see ``CLUSTER``)."""
        return cls(_open(url), None if urlsplit(url).scheme == CLUSTER else Lines.to(url))

    async def _ask(self, *commands: Sequence[Any], patience: float = _ANSWER_S) -> list[Any]:
        """Run commands in one round trip; replies in their order, errors among them."""
        if not commands:
            return []
        with answering():
            if self._lines is not None:
                return await self._lines.ask(commands, patience)
            async with self.redis.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                return list(await pipe.execute(raise_on_error=False))

    async def _one(self, *command: Any, patience: float = _ANSWER_S) -> Any:
        """Run one command.

        Raises:
            UnavailableError: the server is away.
            redis.exceptions.ResponseError: it refuses the command.
        """
        with answering():
            if self._lines is None:
                return await self.redis.execute_command(*command)
            (reply,) = await self._lines.ask((command,), patience)
            if isinstance(reply, Exception):
                raise reply
            return reply

    async def everywhere(self, *command: Any) -> list[Any]:
        """Run a command on every node that takes writes; the one server's answer where there is one."""
        with answering():
            if not self._cluster:
                return [await self.redis.execute_command(*command)]
            cluster = await cast(RedisCluster, self.redis).initialize()
            return list(await asyncio.gather(*[node.execute_command(*command) for node in cluster.get_primaries()]))

    async def close(self) -> None:
        """Close the connections."""
        if self._lines is not None:
            self._lines.close()
        await self.redis.aclose()

    async def ping(self) -> None:
        """Raise UnavailableError when the server does not answer, or takes no writes."""
        await self._one("SET", keys.PING, "", "PX", 1_000)  # of a cluster: of the node that has the streams

    async def keep_once(self, name: str, value: str, seconds: int) -> None:
        """Keep a value for some seconds, to be taken once."""
        with answering():
            await self.redis.execute_command("SET", keys.once(name), value, "EX", seconds)

    async def take_once(self, name: str) -> str | None:
        """Return a kept value and forget it, in one step."""
        with answering():
            value = await self.redis.execute_command("GETDEL", keys.once(name))
        return None if value is None else str(value, "utf-8")

    # -- publishing ----------------------------------------------------------------------------------------------

    async def publish(self, announcements: Sequence[Announcement]) -> None:
        """Publish in one round trip, each stream in the order given; the mirror before the log that tells of it.

        Events first: somebody is on the phone for them, and none is read together with the mirror.
        """
        first = sorted(announcements, key=lambda a: a.stream != "events")
        await self._run([command for a in first for command in self._commands(a)])

    async def _run(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        results = await self._ask(*commands)
        with answering():
            if any(isinstance(result, exceptions.NoScriptError) for result in results):
                await self.redis.script_load(_SCRIPT)
            for result in results:
                if isinstance(result, Exception) and not isinstance(result, exceptions.NoScriptError):
                    raise result
        missing = [n for n, result in enumerate(results) if isinstance(result, exceptions.NoScriptError)]
        if missing:
            # the server is new or was flushed: run again only what missed the script
            for n, result in zip(missing, await self._run([commands[n] for n in missing]), strict=True):
                results[n] = result
        return list(results)

    def _commands(self, a: Announcement) -> list[tuple[Any, ...]]:
        if a.stream == "places":
            log = ("territory", a.territory, "kind", a.type, "data", a.data)
            told = ("XADD", keys.PLACES_LOG, "MAXLEN", "~", PLACES_LOG_LENGTH, "*", *log)
            return [told] if a.type in LIMIT_NEWS else [self._apply(a.territory, a.type, orjson.loads(a.data)), told]
        if a.stream == "requests":
            fields: tuple[Any, ...] = ("type", a.type, "request", a.aggregate, "version", a.version, "data", a.data)
            return [
                (
                    "XADD",
                    keys.REQUESTS,
                    "MAXLEN",
                    "~",
                    REQUESTS_LENGTH,
                    "*",
                    "territory",
                    a.territory,
                    *fields,
                )
            ]
        if a.stream == "batches":
            return [("XADD", keys.BATCHES, "MAXLEN", "~", BATCHES_LENGTH, "*", "data", a.data)]
        fields = (
            *(
                "territory",
                a.territory,
                "id",
                a.id,
                "type",
                a.type,
                "aggregate",
                a.aggregate,
                "version",
                a.version,
            ),
            *("owner", a.owner, "audience", " ".join(a.audience), "data", a.data),
        )
        return [("XADD", keys.EVENTS, "MAXLEN", "~", EVENTS_LENGTH, "*", *fields)]

    @staticmethod
    def _apply(territory: str, kind: str, items: Sequence[Any]) -> tuple[Any, ...]:
        args: list[Any] = []
        if kind == "published":
            for record, left in items:
                start = _epoch_seconds(record["start"])
                args += (record["slot_id"], record["version"], left, start, orjson.dumps(record))
        elif kind == "state":
            for slot_id, left, version in items:
                args += (slot_id, version, left)
        else:
            for slot_id, version in items:
                args += (slot_id, version)
        return ("EVALSHA", _SHA, 4, *_mirror_keys(territory), kind, *args)

    # -- reading -------------------------------------------------------------------------------------------------

    async def read(self, positions: Mapping[str, str], block_ms: int, count: int = 500) -> list[Entry]:
        """Return entries after the positions ({stream: last id}), waiting at most ``block_ms``."""
        reply = await self._one(
            *("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", *positions.keys(), *positions.values()),
            patience=_ANSWER_S + block_ms / 1000,
        )
        return [entry for stream, raw in stream_pairs(reply) for entry in read_entries(stream.decode(), raw)]

    async def range(self, stream: str, after: str, until: str, count: int) -> list[Entry]:
        """Return entries with after < id ≤ until."""
        reply = await self._one("XRANGE", stream, f"({after}", until, "COUNT", count)
        return read_entries(stream, reply)

    async def tails(self, streams: Iterable[str]) -> dict[str, str]:
        """Return the last id of each stream ("0-0" for one that does not exist yet)."""
        names = list(streams)
        replies = [read_entries(name, await self._one("XREVRANGE", name, "+", "-", "COUNT", 1)) for name in names]
        return {name: reply[0].id if reply else "0-0" for name, reply in zip(names, replies, strict=True)}

    async def has_all_since(self, stream: str, after: str) -> bool:
        """Tell whether everything after an id is still in the stream (else a reader must be told of a gap)."""
        try:
            with answering():
                info = await self.redis.xinfo_stream(stream)
        except exceptions.ResponseError:
            return after in ("0", "0-0")  # no stream: nothing was ever said, or all was wiped
        if entry_order(after) > entry_order(_text(info["last-generated-id"])):
            return False
        if int(info["entries-added"]) == int(info["length"]):
            return True
        first = info["first-entry"]
        return first is not None and entry_order(_text(first[0])) <= entry_order(after)

    # -- epoch and rebuilding ------------------------------------------------------------------------------------

    async def epoch(self) -> str | None:
        """Return the epoch of the streams; None after a wipe or a restart, until somebody begins a new one."""
        epoch, run = await self._one("MGET", keys.EPOCH, keys.EPOCH_RUN)
        known = epoch is not None and run is not None and _text(run) == await self._run_ids()
        return _text(epoch) if known else None

    async def _run_ids(self) -> str:
        """Return which processes serve now: a node that was started again, or took over, may not have all that was."""
        if self._lines is not None:  # every 0.2 s: redis-py would read all of its forty lines
            told = _RUN_ID.search(await self._one("INFO", "server"))
            return "" if told is None else told[1].decode()
        return " ".join(sorted(str(server["run_id"]) for server in await self.everywhere("INFO", "server")))

    async def begin_epoch(self, epoch: str) -> str:
        """Return the epoch in force; begins this one after a wipe, and when the server is not the process it was.

        A server that was killed may have lost the last writes (its log is flushed every second), a replica that took
        over may never have had them: history with a hole must not pass for whole.
        """
        run = await self._run_ids()
        # one script: of several keepers that find no epoch, all follow the first
        return _text(await self._one("EVAL", _BEGIN_EPOCH, 2, keys.EPOCH, keys.EPOCH_RUN, epoch, run))

    async def clear(self, territory: str) -> None:
        """Drop a territory's mirror: what is published from here on is newer than what will be filled in."""
        with answering():
            await self.redis.delete(keys.ready(territory), *_mirror_keys(territory))

    async def fill(self, territory: str, epoch: str, rows: Sequence[Any]) -> None:
        """Write a territory's live places (id, version, start, left, record JSON), then mark it ready."""
        for at in range(0, len(rows), 500):
            args: list[Any] = []
            for row in rows[at : at + 500]:
                args += (row["id"], row["version"], row["left"], row["start"], row["record"])
            await self._run([("EVALSHA", _SHA, 4, *_mirror_keys(territory), "published", *args)])
            await asyncio.sleep(0)  # serving goes on while we fill
        with answering():
            await self.redis.set(keys.ready(territory), epoch)

    async def ready_for(self, territories: Sequence[str]) -> list[str | None]:
        """Return for which epoch each territory's mirror is complete."""
        if not territories:
            return []
        with answering():
            async with self.redis.pipeline(transaction=False) as pipe:
                for territory in territories:
                    pipe.get(keys.ready(territory))
                values = await pipe.execute()
        return [None if value is None else _text(value) for value in values]

    async def set_aside(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest poison entries of the ingest streams."""
        with answering():
            raw = await self.redis.xrevrange(keys.INGEST_POISON, count=limit)
        return [
            {"id": entry.id, **{_text(name): value.decode(errors="replace") for name, value in entry.fields.items()}}
            for entry in read_entries(keys.INGEST_POISON, raw)
        ]

    async def drop_past(self, territory: str, before: int) -> int:
        """Take places that started before an instant (epoch seconds) out of the mirror."""
        with answering():
            gone = await self.redis.zrangebyscore(keys.by_start(territory), "-inf", f"({before}", start=0, num=5000)
            if gone:
                async with self.redis.pipeline(transaction=True) as pipe:
                    pipe.hdel(keys.places(territory), *gone)
                    pipe.hdel(keys.left(territory), *gone)
                    pipe.zrem(keys.by_start(territory), *gone)
                    await pipe.execute()
        return len(gone)


def _mirror_keys(territory: str) -> tuple[str, str, str, str]:
    return keys.places(territory), keys.left(territory), keys.by_start(territory), keys.traces(territory)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def stream_pairs(reply: Any) -> Iterable[tuple[bytes, Any]]:
    """Read XREAD's reply in either protocol: a list of pairs (RESP2) or a mapping (RESP3)."""
    if not reply:
        return []
    return list(reply.items()) if isinstance(reply, dict) else [(pair[0], pair[1]) for pair in reply]


def read_entries(stream: str, raw: Any) -> list[Entry]:
    """Read stream entries: redis-py hands fields over as a mapping or as a flat list, by version."""
    entries = []
    for entry_id, fields in raw or ():
        named = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
        entries.append(Entry(stream, entry_id.decode(), named))
    return entries
