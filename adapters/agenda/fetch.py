"""Fetches a calendar or a manifest from its address: nothing but that, and nothing of our own network.

The name is resolved once; the connection goes to an address that was checked, so that a name which answers differently
a moment later opens nothing. Redirections are not followed: the address that was given is the one that is asked.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection
from importlib import import_module
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from sas_matcher.domain.agenda import FeedError

if TYPE_CHECKING:
    import httpx

MOST_BYTES: Final = 8 * 1024 * 1024  # 5 000 events are about 2 MB
TIMEOUT_S: Final = 10.0
WHOLE_S: Final = 30.0

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


class Fetcher:
    """Asks for feeds; ``inside``: hosts (``host`` or ``host:port``) that may be of our network, and without TLS."""

    def __init__(
        self,
        inside: Collection[str] = (),
        *,
        resolve: Resolve = resolve,
        transport: "httpx.AsyncBaseTransport | None" = None,
    ) -> None:
        self._inside = frozenset(inside)
        self._resolve = resolve
        self._transport = transport
        self._tls: ssl.SSLContext | None = None

    async def fetch(self, url: str) -> bytes:
        """Return what is at an address.

        Raises:
            FeedError: in French, why it cannot be had; without the address, which may hold a secret.
        """
        # to import it takes 0.2 s, and authorities are read from a file: whoever shares the loop waits for neither
        httpx = await asyncio.to_thread(import_module, "httpx")
        if self._tls is None:
            self._tls = await asyncio.to_thread(httpx.create_ssl_context, trust_env=False)
        parts = urlsplit(url)
        host = parts.hostname or ""
        inside = not self._inside.isdisjoint({host, parts.netloc})
        if parts.scheme != "https" and not inside:
            raise FeedError("l'adresse doit commencer par https://")
        # no proxy and no file of passwords of this machine; a connection serves one name, whose certificate it checked
        client = httpx.AsyncClient(
            verify=self._tls,
            timeout=TIMEOUT_S,
            follow_redirects=False,
            trust_env=False,
            transport=self._transport,
        )
        try:
            async with asyncio.timeout(WHOLE_S), client:
                port = parts.port or (443 if parts.scheme == "https" else 80)
                return await self._get(client, httpx.URL(url), await self._address(host, port, inside=inside))
        except TimeoutError:
            raise FeedError("l'adresse ne répond pas à temps") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
            raise FeedError("l'adresse ne répond pas") from None

    async def _address(self, host: str, port: int, *, inside: bool) -> str:
        found = await self._resolve(host, port)
        # one that is ours among many is enough to refuse: which one answers is the other side's choice
        if not found or not (inside or all(_public(one) for one in found)):
            raise FeedError(
                "l'adresse mène à un réseau privé ; demandez à l'exploitant de l'autoriser (SAS_FEED_HOSTS)"
            )
        return found[0]

    async def _get(self, client: "httpx.AsyncClient", url: "httpx.URL", address: str) -> bytes:
        headers = {
            "Host": url.netloc.decode(),
            "Accept": "text/calendar, application/fhir+ndjson, application/json",
            "User-Agent": "sas_matcher",
        }
        pinned = url.copy_with(host=address)
        extensions = {"sni_hostname": url.host}
        async with client.stream("GET", pinned, headers=headers, extensions=extensions) as answer:
            if answer.is_redirect:
                raise FeedError("l'adresse renvoie vers une autre ; donnez l'adresse finale")
            if answer.status_code != 200:
                raise FeedError(f"l'adresse répond {answer.status_code}")
            body = bytearray()
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise FeedError(f"plus de {MOST_BYTES // 1024 // 1024} Mio ; publiez un calendrier plus court")
            return bytes(body)


def _public(text: str) -> bool:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        # an IPv4 address in an IPv6 one leads to the former
        mapped = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if mapped is not None:
            return mapped.is_global and not mapped.is_multicast
    return address.is_global and not address.is_multicast
