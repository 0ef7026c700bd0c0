"""What a practice lets leave, and who was shown it."""

from dataclasses import dataclass
from datetime import datetime

from sas_matcher.client._documents import Json, _instant


@dataclass(frozen=True, slots=True)
class ShareRule:
    """Which places of some members leave: starting from ``start`` to ``end`` (local) of ``days`` (1 is Monday).

    Attributes:
        professions: Only places of these; ``None`` for all.
        channels: ``sas`` (regulators) and ``platform`` (the national one).
        own_first_min: For own patients only until so many minutes before they start.
    """

    name: str
    professionals: tuple[str, ...]
    structures: tuple[str, ...]
    start: str
    end: str
    days: tuple[int, ...]
    professions: tuple[str, ...] | None
    channels: tuple[str, ...]
    own_first_min: int | None
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "ShareRule":
        """Read a document."""
        professions = document["professions"]
        return cls(
            document["name"],
            tuple(document["professionals"]),
            tuple(document["structures"]),
            document["from"],
            document["to"],
            tuple(document["days"]),
            None if professions is None else tuple(professions),
            tuple(document["channels"]),
            document["own_first_min"],
            document,
        )


@dataclass(frozen=True, slots=True)
class Exposure:
    """What became known of a place (``what``, ``sentence`` in French), to whom (role and key), and under which rule."""

    at: datetime
    what: str
    sentence: str
    role: str | None
    key_id: str | None
    external_id: str | None
    starts: datetime | None
    rule: str
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "Exposure":
        """Read a document."""
        return cls(
            datetime.fromisoformat(document["at"]),
            document["what"],
            document["sentence"],
            document["role"],
            document["key_id"],
            document["external_id"],
            _instant(document["starts"]),
            document["rule"],
            document,
        )
