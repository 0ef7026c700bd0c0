"""Strangers' answers: whatever they packed into them, no more is unpacked than was asked for."""

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import orjson
import pytest

from adapters.agenda.fetch import Fetcher
from adapters.directory import FileDirectory
from adapters.fhir import editors
from adapters.fhir.editors import EditorConfig, FhirEditor, ReadEditor, batches_of
from adapters.fhir.identifiers import Kind, NationalId
from adapters.fhir.placing import Placing
from adapters.fhir.platform import Certificate
from adapters.geo import Gazetteer
from adapters.outside import Answer, Outside, OutsideError
from sas_matcher.ports.editors import EditorFailedError
from tests.network import Network

NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)
MIB = 2**20


def bomb(mib: int, times: int) -> bytes:
    """Return so many MiB of zeros, packed so many times."""
    packer = zlib.compressobj(9, wbits=31)
    body = b"".join(packer.compress(bytes(MIB)) for _ in range(mib)) + packer.flush()
    for _ in range(times - 1):
        body = gzip.compress(body, 9)
    return body


def packed(body: bytes, coding: str, status: int = 200) -> Network:
    def reply(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept-encoding"] == "gzip", "what we unpack, and nothing else"
        return httpx.Response(status, headers={"Content-Encoding": coding}, stream=httpx.ByteStream(body))

    return Network(reply)


async def public(host: str, port: int) -> list[str]:
    return ["93.184.216.34"]


async def call(transport: Network, most: int = 4096) -> Answer:
    outside = Outside((), "X", 30, resolve=public, transport=transport)
    return await outside.call("GET", "https://agenda.example/", {}, most=most)


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_bomb_is_not_unpacked(times: int) -> None:
    """A few hundred bytes of a practice's server took 600 MiB of the matcher."""
    body = bomb(64, times)
    assert times == 1 or len(body) < 1000
    await call(packed(b"", "identity"))  # what is imported and made once is not meant
    tracemalloc.start()
    try:
        if times == 1:
            assert await call(packed(body, "gzip")) == Answer(200, bytes(4096), whole=False)
        else:
            with pytest.raises(OutsideError, match="compressée autrement"):
                await call(packed(body, ", ".join(["gzip"] * times)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MIB, f"{peak} bytes"


async def test_a_calendar_that_comes_packed_once_is_read() -> None:
    calendar = b"BEGIN:VCALENDAR\r\n" * 1000
    for coding in ("gzip", "x-gzip", "GZIP"):
        one = Fetcher(resolve=public, transport=packed(gzip.compress(calendar), coding))
        assert await one.fetch("https://agenda.example/a.ics") == calendar
    for coding in ("", "identity"):
        assert (await call(packed(calendar, coding), MIB)).body == calendar
    assert await call(packed(b"", "gzip", 204)) == Answer(204, b"", whole=True), "nothing, whatever it announces"
    exact = await call(packed(gzip.compress(bytes(4096)), "gzip"))
    assert exact == Answer(200, bytes(4096), whole=True)


@pytest.mark.parametrize("coding", ["br", "zstd", "deflate", "gzip, identity", "gzip,gzip", "identity, gzip"])
async def test_what_we_did_not_ask_for_is_refused(coding: str) -> None:
    with pytest.raises(OutsideError, match="compressée autrement"):
        await call(packed(b"x", coding))


@pytest.mark.parametrize(
    "body",
    [b"BEGIN:VCALENDAR", gzip.compress(b"x" * 99)[:-4], gzip.compress(b"x") + b"more", gzip.compress(b"x") * 2],
    ids=["plain", "cut", "followed", "twice"],
)
async def test_half_a_calendar_is_not_taken_for_a_whole_one(body: bytes) -> None:
    """The places of the other half would be withdrawn."""
    with pytest.raises(OutsideError, match="n'est pas le gzip"):
        await call(packed(body, "gzip"))


async def test_an_answer_that_nobody_reads_is_not_unpacked() -> None:
    """A webhook's: one that was taken must not be sent again for what its answer holds."""
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"x"

    def reply(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": "br"}, content=body())

    assert await call(Network(reply), 0) == Answer(200, b"", whole=False)
    assert read == []


@pytest.mark.parametrize("times", [1, 2])
async def test_nor_is_the_bomb_of_an_editor(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(editors, "MOST_BYTES", 4096)
    one = editor(packed(bomb(64, times), ", ".join(["gzip"] * times)))
    tracemalloc.start()
    try:
        with pytest.raises(EditorFailedError, match=r"réponse de plus de|compressée autrement"):
            await one.ask(one.batches[0], (NOW, NOW + timedelta(hours=1)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await one.close()
    assert peak < MIB, f"{peak} bytes"


async def test_an_editor_may_pack_its_answer() -> None:
    bundle = {"resourceType": "Bundle", "type": "searchset", "total": 0}
    one = editor(packed(gzip.compress(orjson.dumps(bundle)), "gzip"))
    assert (await one.ask(one.batches[0], (NOW, NOW + timedelta(hours=1)))).slots == []
    await one.close()


def editor(transport: Network) -> FhirEditor:
    config = EditorConfig(name="a", label="A", url="https://a.example/fhir", flows=["ps"], people="-")
    batches = tuple(batches_of(config.flows, [NationalId(Kind.RPPS, "10000000012")]))
    read = ReadEditor(config=config, batches=batches, certificate=Certificate())
    return FhirEditor(read, Placing(Gazetteer.load(), FileDirectory()), asyncio.Semaphore(1), transport=transport)
