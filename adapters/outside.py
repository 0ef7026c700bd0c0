"""Calls to addresses that strangers gave us: nothing but the call, and nothing of our own network.

The name is resolved once; the connection goes to an address that was checked, so that a name which answers differently
a moment later opens nothing. Redirections are not followed: the address that was given is the one that is called.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx

TIMEOUT_S: Final = 10.0

Resolve = Callable[[str, int], Awaitable[list[str]]]


class OutsideError(Exception):
    """The address cannot be had; the message is French, without the address, which may hold a secret."""


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
        """Make one call; reads at most ``most`` bytes of the answer.

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
    named = {"Host": url.netloc.decode(), "User-Agent": "sas_matcher", **headers}
    pinned = url.copy_with(host=address)
    extensions = {"sni_hostname": url.host}
    async with client.stream(method, pinned, headers=named, content=content, extensions=extensions) as answer:
        if answer.is_redirect:
            raise OutsideError("l'adresse renvoie vers une autre ; donnez l'adresse finale")
        body = bytearray()
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > most:
                return Answer(answer.status_code, bytes(body[:most]), whole=False)
        return Answer(answer.status_code, bytes(body), whole=True)


def _public(text: str) -> bool:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        # an IPv4 address in an IPv6 one leads to the former
        mapped = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if mapped is not None:
            return mapped.is_global and not mapped.is_multicast
    return address.is_global and not address.is_multicast
