"""The ingest streams: consumer group, replies, poison, and the ACL user of one publisher."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis import exceptions

from adapters.redis import keys
from adapters.redis.bus import RedisBus, answering, read_entries, stream_pairs
from sas_matcher.ports.bus import Entry

GROUP: Final = "sas"
CONSUMER: Final = "ingest"
_AT_ONCE: Final = 200
REPLIES_LENGTH: Final = 5_000
POISON_LENGTH: Final = 1_000
USER_PREFIX: Final = "sas-"


def user_of(key_id: str) -> str:
    """Return the name of the Redis user of a key."""
    return USER_PREFIX + key_id


class RedisIngest:
    """Port ``IngestBus``. One consumer name: a crashed reader's entries are the next reader's pending ones."""

    def __init__(self, bus: RedisBus) -> None:
        self._bus = bus
        self._redis = bus.redis
        self._pending = True
        self._owed: set[str] = set()

    async def take_changes(self, key_ids: Sequence[str], block_ms: int) -> dict[str, list[Entry]]:
        """Return entries by key id: first those that were delivered but never acknowledged, then new ones."""
        streams = {keys.ingest(key_id): key_id for key_id in key_ids}
        # handed out and never answered: whoever took them failed half-way, so they are still to be done
        self._pending = self._pending or bool(self._owed)
        self._owed.clear()
        start = "0" if self._pending else ">"
        with answering():
            try:
                reply = await self._redis.execute_command(
                    *("XREADGROUP", "GROUP", GROUP, CONSUMER, "COUNT", _AT_ONCE),
                    *(() if self._pending else ("BLOCK", block_ms)),
                    *("STREAMS", *streams, *[start] * len(streams)),
                )
            except exceptions.ResponseError as missing:
                if "NOGROUP" not in str(missing):
                    raise
                await self._make_groups(list(streams))
                return {}
        taken: dict[str, list[Entry]] = {}
        for name, raw in stream_pairs(reply):
            stream = name.decode()
            # delivered once, then trimmed away by its own publisher (XADD … MAXLEN): nothing is left to be done
            gone = [entry_id for entry_id, fields in raw if fields is None]
            if gone:
                with answering():
                    await self._redis.xack(stream, GROUP, *gone)
            if entries := read_entries(stream, [pair for pair in raw if pair[1] is not None]):
                taken[streams[stream]] = entries
        self._owed = set(taken)
        if self._pending and not taken:
            self._pending = False
        return taken

    async def _make_groups(self, streams: Sequence[str]) -> None:
        for stream in streams:
            try:
                await self._redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
            except exceptions.ResponseError as there:
                if "BUSYGROUP" not in str(there):
                    raise

    async def answer_changes(
        self, key_id: str, verdicts: Sequence[tuple[str, str]], poison: Sequence[tuple[Entry, str]]
    ) -> None:
        """Write verdicts, set poison aside, acknowledge and drop the entries: all or nothing."""
        stream = keys.ingest(key_id)
        ids = [entry_id for entry_id, _ in verdicts]
        with answering():
            async with self._redis.pipeline(transaction=True) as pipe:
                for entry_id, verdict in verdicts:
                    pipe.execute_command(
                        *("XADD", keys.ingest_replies(key_id), "MAXLEN", "~", REPLIES_LENGTH, "*"),
                        *("entry", entry_id, "verdict", verdict),
                    )
                for entry, reason in poison:
                    # its length only: what was refused may hold what must never be stored (a patient's identity)
                    size = len(entry.fields.get(b"change", b""))
                    pipe.execute_command(
                        *("XADD", keys.INGEST_POISON, "MAXLEN", "~", POISON_LENGTH, "*"),
                        *("key", key_id, "entry", entry.id, "reason", reason, "bytes", size),
                    )
                pipe.execute_command("XACK", stream, GROUP, *ids)
                pipe.execute_command("XDEL", stream, *ids)
                await pipe.execute()
        self._owed.discard(key_id)

    async def keep_users(self, hashes: Mapping[str, str]) -> None:
        """Make the missing users of these keys (key id → SHA-256 of the password, hex); drop all others of ours.

        Redis forgets its users at a restart unless it was given a file for them; so this is repeated.
        """
        # a user of some nodes only is made again: on a cluster each has its own
        known = set.intersection(
            *[{name.decode() for name in users} for users in await self._bus.everywhere("ACL", "USERS")]
        )
        wanted = {user_of(key_id): key_id for key_id in hashes}
        for user in wanted.keys() - known:
            await self._allow(wanted[user], hashes[wanted[user]])
        for user in {name for name in known if name.startswith(USER_PREFIX)} - wanted.keys():
            await self._bus.everywhere("ACL", "DELUSER", user)

    async def _allow(self, key_id: str, password_hash: str) -> None:
        """Make the user of a key: it may add to its stream and read its replies, nothing else."""
        rules: Sequence[Any] = (
            *("reset", "on", f"#{password_hash}", "resetkeys", "-@all"),
            *("+xadd", "+xread", "+xrange", "+ping", "+hello", "+auth", "+client|setinfo", "+client|setname"),
            *(f"%W~{keys.ingest(key_id)}", f"%R~{keys.ingest_replies(key_id)}"),
        )
        await self._bus.everywhere("ACL", "SETUSER", user_of(key_id), *rules)
