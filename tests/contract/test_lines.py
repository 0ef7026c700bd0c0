"""The lines to one Redis: who gives up half-way disturbs nobody; names, passwords and databases of a URL count."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import exceptions

from adapters.embedded import ValkeyServer, start_valkey
from adapters.redis import RedisBus
from adapters.redis.bus import answering
from adapters.redis.lines import MOST_KEPT, Lines
from sas_matcher.domain.errors import UnavailableError
from sas_matcher.ports.ledger import Announcement

PATIENCE_S = 5.0


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    folder = Path(tempfile.mkdtemp(prefix="sas-test-"))
    started = start_valkey(folder / "s", durable=False)
    yield started
    started.stop()
    shutil.rmtree(folder)


def lines_to(url: str) -> Lines:
    lines = Lines.to(url)
    assert lines is not None
    return lines


async def ask(lines: Lines, *command: str | int, patience: float = PATIENCE_S) -> object:
    (reply,) = await lines.ask([command], patience)
    return reply


async def count_of_clients(lines: Lines) -> int:
    listed = await ask(lines, "CLIENT", "LIST")
    assert isinstance(listed, bytes)
    return len(listed.splitlines())


async def test_who_is_cancelled_while_he_waits_leaves_no_reply_to_the_next(server: ValkeyServer) -> None:
    lines = lines_to(server.url)
    assert await ask(lines, "SET", "a", "1") == b"OK"
    waiting = asyncio.create_task(ask(lines, "BLPOP", "nothing", 5))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await ask(lines, "RPUSH", "nothing", "late")
    assert [await ask(lines, "GET", "a") for _ in range(3)] == [b"1"] * 3
    await ask(lines, "DEL", "nothing")
    lines.close()


async def test_a_server_that_takes_too_long_counts_as_away_and_its_late_reply_is_nobodys(server: ValkeyServer) -> None:
    lines = lines_to(server.url)
    await ask(lines, "SET", "a", "1")
    with pytest.raises(exceptions.TimeoutError):
        await ask(lines, "BLPOP", "nothing", 1, patience=0.05)
    assert await ask(lines, "GET", "a") == b"1"
    lines.close()


async def test_a_line_that_the_server_ended_is_not_noticed(server: ValkeyServer) -> None:
    lines = lines_to(server.url)
    number = await ask(lines, "CLIENT", "ID")
    assert isinstance(number, int)
    other = lines_to(server.url)
    assert await ask(other, "CLIENT", "KILL", "ID", number) == 1
    assert await ask(lines, "PING") == b"PONG"
    lines.close()
    other.close()


async def test_a_rush_leaves_few_lines_open(server: ValkeyServer) -> None:
    lines, other = lines_to(server.url), lines_to(server.url)
    before = await count_of_clients(other)
    assert await asyncio.gather(*(ask(lines, "PING") for _ in range(5 * MOST_KEPT))) == [b"PONG"] * 5 * MOST_KEPT
    async with asyncio.timeout(10):
        while await count_of_clients(other) > before + MOST_KEPT:  # noqa: ASYNC110 - the server tells
            await asyncio.sleep(0.01)
    lines.close()
    other.close()


async def test_replies_come_in_order_with_the_errors_among_them(server: ValkeyServer) -> None:
    lines = lines_to(server.url)
    one, wrong, two = await lines.ask([("ECHO", "é"), ("HGET", "a"), ("ECHO", "x" * 100_000)], PATIENCE_S)
    assert (one, two) == ("é".encode(), b"x" * 100_000)
    assert isinstance(wrong, exceptions.ResponseError)
    missing = await ask(lines, "EVALSHA", "0" * 40, 0)
    assert isinstance(missing, exceptions.NoScriptError)
    lines.close()


async def test_name_password_and_database_of_a_url_count(server: ValkeyServer) -> None:
    lines = lines_to(server.url)
    await ask(lines, "SET", "where", "first")
    await ask(lines, "ACL", "SETUSER", "named", "on", ">secret", "~*", "+@all")
    assert server.url.endswith("?db=0")
    second = lines_to(server.url.replace("unix://", "unix://named:secret@").replace("?db=0", "?db=1"))
    assert await ask(second, "ACL", "WHOAMI") == b"named"
    assert await ask(second, "GET", "where") is None
    assert await ask(lines, "GET", "where") == b"first"
    wrong = RedisBus.connect(server.url.replace("unix://", "unix://named:wrong@"))
    with pytest.raises(UnavailableError):
        await wrong.ping()
    await wrong.close()
    lines.close()
    second.close()


async def test_there_are_no_lines_where_tls_is_asked_for() -> None:
    assert Lines.to("rediss://example.invalid:6379/0") is None


SAID = Announcement(1, datetime(2026, 11, 27, tzinfo=UTC), "69", "requests", "closed", "r", 1, "k", (), "")


async def test_a_server_that_refuses_writes_counts_as_away(server: ValkeyServer) -> None:
    """It answers whoever reads: what is to be published is kept, and comes again."""
    bus = RedisBus.connect(server.url)
    await bus.everywhere("CONFIG", "SET", "min-replicas-to-write", 1)
    try:
        with pytest.raises(UnavailableError):
            await bus.publish([SAID])
        with pytest.raises(UnavailableError):
            await bus.keep_once("a", "b", 5)
        with pytest.raises(UnavailableError):
            await bus.ping()
        await bus.epoch()
    finally:
        await bus.everywhere("CONFIG", "SET", "min-replicas-to-write", 0)
    await bus.publish([SAID])
    await bus.close()


@pytest.mark.parametrize(
    "said",
    [
        "MISCONF Errors writing to the AOF file: No space left on device",
        "BUSY Valkey is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
        "CLUSTERDOWN The cluster is down",
        "ERR max number of clients reached",
        "max number of clients reached",
    ],
)
async def test_what_a_server_says_that_cannot_serve_now_counts_as_away(said: str) -> None:
    with pytest.raises(UnavailableError), answering():
        raise exceptions.ResponseError(said)


async def test_what_we_say_wrongly_does_not() -> None:
    with pytest.raises(exceptions.ResponseError), answering():
        raise exceptions.ResponseError("ERR wrong number of arguments for 'get' command")
