"""Reads a calendar in a process of its own, bounded in time and memory: whoever writes it may mean harm."""

import asyncio
import sys
from datetime import date
from typing import Final

import orjson

from sas_matcher.domain.agenda import Import, LineError

PATIENCE_S: Final = 60.0  # of the clock on the wall, on a machine that is busy otherwise; its own bound is of work


async def read_apart(body: bytes, zone: str, first: date, days: int, each_min: int) -> Import:
    """Read a calendar as ``ics.read_ics`` does; one that is too costly to read is an error in line 0."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapters.agenda", zone, first.isoformat(), str(days), str(each_min)),
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
        return Import([], [LineError(0, "", "trop long à lire ; publiez un calendrier plus court ou plus simple")], 0)
    hours, errors, lines, closures = orjson.loads(out)
    return Import(hours, [LineError(*one) for one in errors], lines, closures)
