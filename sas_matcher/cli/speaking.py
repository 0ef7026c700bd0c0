"""What commands that speak to a running service have in common."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson
import typer

from sas_matcher.cli.french import InputError
from sas_matcher.cli.options import checked_key

if TYPE_CHECKING:
    from sas_matcher.client import SasClient

T = TypeVar("T")
_DAYS: Final = ("lun", "mar", "mer", "jeu", "ven", "sam", "dim")


def with_client(url: str, key: str, work: "Callable[[SasClient], Awaitable[T]]") -> T:
    """Do some work with a client; what it raises reads as one line.

    Raises:
        InputError: there is no key, or the service refuses what was given.
        FailureError: the service does not answer, or failed.
    """
    from sas_matcher.cli import calls  # noqa: PLC0415 - see the package

    checked = checked_key(key)

    async def run() -> T:
        with calls.readable_errors():
            async with calls.client_of(url, checked) as sas:
                return await work(sas)

    return asyncio.run(run())


def say(found: Sequence[T], lines: Callable[[T], str | Iterable[str]], *, as_json: bool, none: str = "") -> None:
    """Write each thing that was found, as lines or as its JSON document; ``none`` where there is nothing."""
    for one in found:
        if as_json:
            typer.echo(orjson.dumps(getattr(one, "raw", one)).decode())
            continue
        said = lines(one)
        for line in (said,) if isinstance(said, str) else said:
            typer.echo(line)
    if none and not found and not as_json:
        typer.echo(none)


def day_names(days: Iterable[int]) -> str:
    """Return days of the week, 1 for Monday, as people read them."""
    return ", ".join(_DAYS[day - 1] for day in days)


def read_file(path: Path) -> bytes:
    """Return what a file holds.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as wrong:
        raise InputError(f"{path} ne peut être lu ({wrong.strerror})") from wrong


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        document = json.loads(read_file(path))
    except ValueError as wrong:
        raise InputError(f"{path} : JSON incorrect ({wrong})") from wrong
    if not isinstance(document, dict):
        raise InputError(f"{path} : un objet JSON est attendu")
    return document


def instant_of(text: str, option: str) -> datetime:
    """Read an instant; without an offset it is the hour of this machine's clock.

    Raises:
        InputError: names the option.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{option} « {text} » : attendu un instant comme 2026-11-23T18:45:00+01:00") from None
    return at if at.tzinfo else at.astimezone()
