"""Pilotage: windows of figures, screens of a crisis room."""

from datetime import datetime
from typing import NamedTuple


class Span(NamedTuple):
    """Which figures: of a territory, from an instant on and before another.

    Attributes:
        zone: IANA name of the territory's clock.
        structures: whose places alone count (FINESS); None: everybody's.
    """

    territory: str
    since: datetime
    until: datetime
    zone: str
    structures: tuple[str, ...] | None = None


class Screen(NamedTuple):
    """A screen on a wall: whose figures it shows, who opened it (a key) and until when."""

    id: str
    territory: str
    name: str
    key_id: str
    opened_at: datetime
    ends_at: datetime
