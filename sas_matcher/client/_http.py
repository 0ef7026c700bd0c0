"""One HTTP call with its retries."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
import orjson

from sas_matcher.client._errors import ApiError, UnreachableError

Sleep = Callable[[float], Awaitable[None]]
AGAIN: Final = frozenset({429, 503})
"""Too many calls, or a store is away: the same call may succeed in a moment."""
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Retry:
    """When to try again; waits double, shortened at random by up to a half so that clients do not march in step.

    Attributes:
        attempts: Tries in all, at least 1.
        first_s: Seconds before the second try.
        longest_s: Longest wait; a Retry-After beyond it ends the tries.
    """

    attempts: int = 5
    first_s: float = 0.2
    longest_s: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0.0 <= self.first_s <= self.longest_s:
            raise ValueError("Expected attempts >= 1 and 0 <= first_s <= longest_s.")

    def wait_s(self, tries: int, chance: float) -> float:
        """Return the seconds to wait after so many failed tries; ``chance`` in [0, 1)."""
        # the exponent is bounded for streams, which try for ever
        return min(self.longest_s, self.first_s * 2.0 ** min(tries - 1, 30)) * (1.0 - chance / 2)


class Http:
    """Sends calls; only those marked as repeatable are repeated."""

    def __init__(self, client: httpx.AsyncClient, *, retry: Retry, sleep: Sleep, chance: Callable[[], float]) -> None:
        self.client = client
        self.retry = retry
        self.sleep = sleep
        self.chance = chance

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object = None,
        idempotency_key: str | None = None,
        repeatable: bool = False,
    ) -> Any:
        """Send a call and return the JSON answer; see ``SasClient.call``."""
        # once: a retry must carry the very same bytes
        content = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        kind = "text/csv" if isinstance(body, bytes) else "application/json"
        headers = {} if content is None else {"Content-Type": kind}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        params = None if query is None else {name: value for name, value in query.items() if value is not None}
        once = method != "GET" and idempotency_key is None and not repeatable
        tries = 0
        while True:
            tries += 1
            last = once or tries >= self.retry.attempts
            try:
                answer = await self.client.request(method, path, params=params, content=content, headers=headers)
            except httpx.TransportError as broken:
                if last:
                    reason = str(broken) or type(broken).__name__
                    raise UnreachableError(str(self.client.base_url), reason) from broken
                wait = self.retry.wait_s(tries, self.chance())
            else:
                if answer.is_success:
                    return _json(answer)
                error = ApiError.of(answer.status_code, _json(answer), _seconds(answer))
                if last or error.status not in AGAIN or (error.retry_after or 0.0) > self.retry.longest_s:
                    raise error
                wait = max(error.retry_after or 0.0, self.retry.wait_s(tries, self.chance()))
            await self.sleep(wait)


def _json(answer: httpx.Response) -> Any:
    try:
        return orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        if answer.is_success:
            raise ApiError(answer.status_code, "not_json", "La réponse n'est pas du JSON.") from None
        return None


def _seconds(answer: httpx.Response) -> float | None:
    """Read Retry-After in seconds; its form as a date is not used by the service and is left to back-off."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None


async def sleep(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)
