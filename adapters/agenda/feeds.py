"""What an agenda follows: a calendar or a manifest of places, fetched and read."""

import asyncio
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from adapters.agenda.apart import read_calendar, read_places
from adapters.agenda.fetch import Fetcher
from adapters.agenda.smart import files_of
from sas_matcher.domain.agenda import FeedError, Import

MOST_BYTES: Final = 32 * 1024 * 1024  # all files of a manifest
_AT_ONCE: Final = 4
LONGEST_S: Final = (
    120.0  # one calendar has 90 (``fetch``, ``apart``); whoever took the feed has a lease of five minutes
)


class FeedReader:
    """Fetches and reads feeds (``services.agenda.feed.Read``)."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    async def read(self, feed: Mapping[str, Any], zone: str, first: date, days: int) -> Import:
        """Return what a feed says of some local days.

        Raises:
            FeedError: it cannot be had; what cannot be read is in the errors of the import.
        """
        try:
            async with asyncio.timeout(LONGEST_S):
                return await self._read(feed, zone, first, days)
        except TimeoutError:
            raise FeedError("trop lent ; publiez moins de fichiers, ou sur un serveur plus rapide") from None

    async def _read(self, feed: Mapping[str, Any], zone: str, first: date, days: int) -> Import:
        body = await self._fetcher.fetch(feed["url"])
        if feed["kind"] == "ics":
            return await read_calendar(body, zone, first, days, feed["each_min"])
        files: list[tuple[str, bytes]] = []
        named = files_of(body, feed["url"])
        for at in range(0, len(named), _AT_ONCE):
            some = named[at : at + _AT_ONCE]
            contents = await asyncio.gather(*(self._fetcher.fetch(address) for _, address in some))
            files += zip((kind for kind, _ in some), contents, strict=True)
            if sum(len(content) for _, content in files) > MOST_BYTES:
                raise FeedError(f"plus de {MOST_BYTES // 1024 // 1024} Mio en tout ; publiez un manifeste plus court")
        return await read_places(files, zone, first, days, feed["schedules"])
