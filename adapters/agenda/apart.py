"""Reads feeds in a process of its own, bounded in time and memory: whoever writes them may mean harm."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import date
from typing import Any, Final

import orjson

from sas_matcher.domain.agenda import Import, LineError

PATIENCE_S: Final = 60.0  # of the clock on the wall, on a machine that is busy otherwise; its own bound is of work


async def read_calendar(body: bytes, zone: str, first: date, days: int, each_min: int) -> Import:
    """Read a calendar as ``ics.read_ics`` does; one that is too costly to read is an error in line 0."""
    return await _read_apart(body, zone, first, days, kind="ics", each_min=each_min)


async def read_places(
    files: Sequence[tuple[str, bytes]], zone: str, first: date, days: int, schedules: Sequence[str]
) -> Import:
    """Read files of places as ``smart.read_smart`` does; what is too costly to read is an error in line 0."""
    lengths = [(kind, len(content)) for kind, content in files]
    body = b"".join(content for _, content in files)
    return await _read_apart(body, zone, first, days, kind="smart", files=lengths, schedules=list(schedules))


async def _read_apart(body: bytes, zone: str, first: date, days: int, **task: Any) -> Import:
    asked = orjson.dumps({**task, "zone": zone, "first": first, "days": days}).decode()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapters.agenda", asked),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await process.communicate(body)
    except TimeoutError:
        out = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode or not out:
        return Import([], [LineError(0, "", "illisible, ou trop long à lire ; publiez moins, ou plus simplement")], 0)
    hours, errors, lines, closures = orjson.loads(out)
    return Import(hours, [LineError(*one) for one in errors], lines, closures)
