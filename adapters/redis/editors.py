"""What all processes know of the editors of agendas (port ``Board`` of ``services.editors.view``).

Nothing here is truth: after a wipe every editor is asked again, and its circuit is closed until it fails.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final

import orjson

from adapters.redis import keys
from adapters.redis.bus import RedisBus, answering
from sas_matcher.ports.editors import EditorState

_CIRCUIT: Final = files("adapters.redis").joinpath("editor_circuit.lua").read_text(encoding="utf-8")
FAILURES: Final = 3  # one lost packet is not an outage, three calls of 7 s are
PAUSE_MS: Final = 10_000
LONGEST_PAUSE_MS: Final = 60_000  # who is back is heard within a minute
AT_ONCE: Final = 8  # a connection each: the askers of 40 editors wake together, and would open 160
TRIAL_MS: Final = 8_000  # the time-out of a call, and a second


class RedisEditors:
    """The board."""

    def __init__(self, bus: RedisBus) -> None:
        self._redis = bus.redis
        self._room = asyncio.Semaphore(AT_ONCE)

    async def take(self, editor: str, batch: str, seconds: float) -> bool:
        """Claim a batch for some seconds; False when another process did."""
        name = keys.editor_batch(editor, batch)
        async with self._room:
            with answering():
                said = await self._redis.execute_command("SET", name, "1", "NX", "PX", max(1, int(1000 * seconds)))
        return said is not None

    async def release(self, editor: str, batch: str) -> None:
        """Give a batch back that was claimed and not answered: whoever comes next may ask."""
        async with self._room:
            with answering():
                await self._redis.delete(keys.editor_batch(editor, batch))

    async def admit(self, editor: str, now: datetime) -> bool:
        """Tell whether an editor may be asked now; while its circuit is open one call goes through now and then."""
        return bool(await self._circuit(editor, "admit", now, TRIAL_MS))

    async def succeeded(self, editor: str, now: datetime, dropped: Mapping[str, int]) -> None:
        """Close the circuit."""
        await self._circuit(editor, "ok", now, orjson.dumps(dict(dropped)))

    async def failed(self, editor: str, now: datetime, error: str) -> None:
        """Count a failure; several in a row open the circuit."""
        await self._circuit(editor, "failed", now, error, FAILURES, PAUSE_MS, LONGEST_PAUSE_MS)

    async def _circuit(self, editor: str, action: str, now: datetime, *rest: Any) -> Any:
        async with self._room:
            with answering():
                return await self._redis.eval(_CIRCUIT, 1, keys.editor(editor), action, _ms(now), *rest)

    async def states(self, editors: Sequence[str]) -> list[EditorState]:
        """Return what is known of some editors, in order."""
        with answering():
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in editors:
                    pipe.hgetall(keys.editor(name))
                found = await pipe.execute()
        return [_state(name, fields) for name, fields in zip(editors, found, strict=True)]


def _ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)


def _state(name: str, fields: Mapping[bytes, bytes]) -> EditorState:
    def instant(field: bytes) -> datetime | None:
        milliseconds = int(float(fields.get(field, b"0")))
        return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None

    error = fields.get(b"error")
    return EditorState(
        name=name,
        last_ok=instant(b"last_ok"),
        silent_since=instant(b"silent_since"),
        failures=int(fields.get(b"failures", b"0")),
        open_until=instant(b"open_until"),
        error=None if error is None else error.decode(),
        dropped=orjson.loads(fields.get(b"dropped", b"{}")),
    )
