"""What commands that speak to a running service have in common."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sas_matcher.cli.french import InputError

if TYPE_CHECKING:
    from sas_matcher.client import SasClient

T = TypeVar("T")


def with_client(url: str, key: str, work: "Callable[[SasClient], Awaitable[T]]") -> T:
    """Do some work with a client; what it raises reads as one line."""
    from sas_matcher.cli import calls  # noqa: PLC0415 - see the package

    async def run() -> T:
        with calls.readable_errors():
            async with calls._client(url, key) as sas:
                return await work(sas)

    return asyncio.run(run())


def read_file(path: Path) -> bytes:
    """Return what a file holds.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as wrong:
        raise InputError(f"{path} ne peut être lu ({wrong.strerror})") from wrong
