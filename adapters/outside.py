"""Calls to addresses that strangers gave us: nothing but the call, and nothing of our own network.

The name is resolved once; the connection goes to an address that was checked, so that a name which answers differently
a moment later opens nothing. Redirections are not followed: the address that was given is the one that is called. An
answer is unpacked here, and not by the library: that one unpacks all that came before it shows any of it.
"""

import asyncio
import ipaddress
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx

TIMEOUT_S: Final = 10.0
ACCEPT_ENCODING: Final = "gzip"
"""What ``read_body`` unpacks, once; to be sent with whatever it reads the answer of."""
_GZIP: Final = 16 + zlib.MAX_WBITS  # as zlib names the format

Resolve = Callable[[str, int], Awaitable[list[str]]]


class OutsideError(Exception):
    """The address, or its answer, cannot be had; the message is French, without the address: it may hold a secret."""


class Answer(NamedTuple):
    """What came back, cut at the bytes that were wanted."""

    status: int
    body: bytes
    whole: bool


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


class Outside:
    """Calls strangers' addresses.

    Args:
        inside: hosts (``host`` or ``host:port``) that may be of our network, and without TLS.
        setting: where the operator names these, for people.
        whole_s: for how long a call may last, however slowly its answer comes.
        resolve, transport: of tests.
    """

    def __init__(
        self,
        inside: Collection[str],
        setting: str,
        whole_s: float,
        *,
        resolve: Resolve = resolve,
        transport: "httpx.AsyncBaseTransport | None" = None,
    ) -> None:
        self._inside = frozenset(inside)
        self._setting = setting
        self._whole_s = whole_s
        self._resolve = resolve
        self._transport = transport
        self._tls: ssl.SSLContext | None = None

    async def call(
        self, method: str, url: str, headers: Mapping[str, str], *, content: bytes | None = None, most: int
    ) -> Answer:
        """Make one call; reads at most ``most`` bytes of the answer (0: its status is all that is asked for).

        Raises:
            OutsideError: in French, why it cannot be had.
        """
        # to import it takes 0.2 s, and authorities are read from a file: whoever shares the loop waits for neither
        httpx = await asyncio.to_thread(import_module, "httpx")
        if self._tls is None:
            self._tls = await asyncio.to_thread(httpx.create_ssl_context, trust_env=False)
        parts = urlsplit(url)
        host = parts.hostname or ""
        inside = not self._inside.isdisjoint({host, parts.netloc})
        if parts.scheme != "https" and not inside:
            raise OutsideError("l'adresse doit commencer par https://")
        # no proxy and no file of passwords of this machine; a connection serves one name, whose certificate it checked
        client = httpx.AsyncClient(
            verify=self._tls,
            timeout=TIMEOUT_S,
            follow_redirects=False,
            trust_env=False,
            transport=self._transport,
        )
        try:
            async with asyncio.timeout(self._whole_s), client:
                port = parts.port or (443 if parts.scheme == "https" else 80)
                address = await self._address(host, port, inside=inside)
                return await _call(client, method, httpx.URL(url), address, headers, content, most)
        except TimeoutError:
            raise OutsideError("l'adresse ne répond pas à temps") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
            raise OutsideError("l'adresse ne répond pas") from None

    async def _address(self, host: str, port: int, *, inside: bool) -> str:
        found = await self._resolve(host, port)
        # one that is ours among many is enough to refuse: which one answers is the other side's choice
        if not found or not (inside or all(_public(one) for one in found)):
            raise OutsideError(
                f"l'adresse mène à un réseau privé ; demandez à l'exploitant de l'autoriser ({self._setting})"
            )
        return found[0]


async def _call(
    client: "httpx.AsyncClient",
    method: str,
    url: "httpx.URL",
    address: str,
    headers: Mapping[str, str],
    content: bytes | None,
    most: int,
) -> Answer:
    named = {
        "Host": url.netloc.decode(),
        "User-Agent": "sas_matcher",
        "Accept-Encoding": ACCEPT_ENCODING,
        **headers,
    }
    pinned = url.copy_with(host=address)
    extensions = {"sni_hostname": url.host}
    async with client.stream(method, pinned, headers=named, content=content, extensions=extensions) as answer:
        if answer.is_redirect:
            raise OutsideError("l'adresse renvoie vers une autre ; donnez l'adresse finale")
        body, whole = await read_body(answer, most) if most else (b"", False)
        return Answer(answer.status_code, body, whole)


async def read_body(answer: "httpx.Response", most: int) -> tuple[bytes, bool]:
    """Return at most ``most`` bytes of an answer that is not read yet, and whether these are all of it.

    Never holds more than that and a piece as it came, whatever the other side packed into it.

    Raises:
        OutsideError: it is packed in another way than gzip, more than once, or wrongly.
    """
    coding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip"):
        raise OutsideError("la réponse est compressée autrement qu'une fois en gzip")
    packed = zlib.decompressobj(_GZIP) if coding.endswith("gzip") else None
    body, right = bytearray(), True
    try:
        async for part in answer.aiter_raw():
            # one byte more than is wanted says that there is more
            body += packed.decompress(part, most + 1 - len(body)) if packed else part
            if len(body) > most:
                return bytes(body[:most]), False
            if packed and packed.unused_data:
                break
            right = packed is None or packed.eof
    except zlib.error:
        right = False
    if not right or (packed and packed.unused_data):
        raise OutsideError("la réponse n'est pas le gzip qu'elle annonce")
    return bytes(body), True


def _public(text: str) -> bool:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        # an IPv4 address in an IPv6 one leads to the former
        mapped = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if mapped is not None:
            return mapped.is_global and not mapped.is_multicast
    return address.is_global and not address.is_multicast
