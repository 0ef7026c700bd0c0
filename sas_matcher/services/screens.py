"""Screens on the walls of crisis rooms: opened by somebody who steers, then read for days and touched by nobody.

A screen is no session: its token opens the figures of one territory and nothing else, ends by itself, and goes dark at
once when it is closed, or when the key of whoever opened it is revoked.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

from sas_matcher.domain.errors import InvalidInputError, NotAuthenticatedError, NotFoundError
from sas_matcher.ports.steering import Screen
from sas_matcher.ports.world import Clock
from sas_matcher.services.accounts import Secrets

LASTS: Final = timedelta(days=14)  # G: longer than most crises; whoever needs longer opens it again
MOST_NAME: Final = 60  # characters: a line on the page that lists them


class ScreenBook(Protocol):
    """Where screens are kept."""

    async def open_screen(self, screen: Screen, token_hash: bytes, now: datetime) -> None:
        """Keep a new screen; those that have ended go."""
        ...

    async def screen(self, token_hash: bytes, now: datetime) -> Screen | None:
        """Return the screen of a token while it and its key are in force."""
        ...

    async def screens(self, territory: str, now: datetime) -> list[Screen]:
        """Return the screens of a territory, newest first."""
        ...

    async def close_screen(self, screen_id: str, territory: str) -> bool:
        """Close a screen; False when the territory has none of that id."""
        ...


class Screens:
    """Opens, recognises and closes screens. ``uuid`` makes their ids."""

    def __init__(self, book: ScreenBook, clock: Clock, secrets: Secrets, uuid: Callable[[], str]) -> None:
        self._book, self._clock, self._secrets, self._uuid = book, clock, secrets, uuid

    async def open(self, territory: str, name: str, key_id: str) -> str:
        """Open a screen of a territory; returns its token, which is known this once.

        Raises:
            InvalidInputError: the name is empty or too long.
        """
        if not 1 <= len(name) <= MOST_NAME or not name.isprintable():
            raise InvalidInputError.of("name", f"1 à {MOST_NAME} caractères : où se trouve l'écran")
        token, now = self._secrets.secret(), self._clock.now()
        screen = Screen(self._uuid(), territory, name, key_id, now, now + LASTS)
        await self._book.open_screen(screen, _hash(token), now)
        return token

    async def of(self, token: str) -> Screen:
        """Return the screen of a token.

        Raises:
            NotAuthenticatedError: unknown, ended or closed.
        """
        screen = await self._book.screen(_hash(token), self._clock.now())
        if screen is None:
            raise NotAuthenticatedError("Cet écran est fermé : ouvrez-le de nouveau depuis la page Pilotage.")
        return screen

    async def all(self, territory: str) -> list[Screen]:
        """Return the screens of a territory, newest first."""
        return await self._book.screens(territory, self._clock.now())

    async def close(self, screen_id: str, territory: str) -> None:
        """Close a screen at once.

        Raises:
            NotFoundError: the territory has none of that id.
        """
        if not await self._book.close_screen(screen_id, territory):
            raise NotFoundError("Cet écran n'est pas ouvert.")


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
