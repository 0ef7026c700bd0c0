"""Other editors of agendas: what is read of them, and how they fare."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple


class EditorBatch(NamedTuple):
    """Whom an editor is asked for in one call.

    Attributes:
        key: names the batch among those of its editor.
        flow: ``ps``, ``cpts`` or ``sos``.
        identifiers: prefixed, at most 25 (10 of SOS Médecins).
        owners: the same as the ledger knows them (bare RPPS; structures of SOS Médecins).
    """

    key: str
    flow: str
    identifiers: tuple[str, ...]
    owners: tuple[str, ...]


class EditorAnswer(NamedTuple):
    """What an editor answered.

    Attributes:
        slots: free places in the shape of the API's slot; ``link``: where a regulator books it.
        dropped: how many slots could not be used, by reason.
    """

    slots: Sequence[Mapping[str, Any]]
    dropped: Mapping[str, int]


class EditorFailedError(Exception):
    """An editor gave no usable answer; the message says why, in French, without anything it sent."""


class EditorState(NamedTuple):
    """What is known of an editor. Instants None: never.

    Attributes:
        silent_since: of an editor whose last call failed: when it last answered, or was first found silent.
        failures: calls without a usable answer since the last good one.
        open_until: until then it is not asked (circuit breaker).
        error: of the last failed call, in French.
        dropped: slots of its last answers that could not be used, by reason.
    """

    name: str
    last_ok: datetime | None = None
    silent_since: datetime | None = None
    failures: int = 0
    open_until: datetime | None = None
    error: str | None = None
    dropped: Mapping[str, int] = {}


class EditorFigures(NamedTuple):
    """What the ledger says of an editor: live places, bookings tried since a time, phantoms among them, freshness.

    ``oldest``: when the place that was checked longest ago was checked.
    """

    places: int
    tried: int
    phantoms: int
    oldest: datetime | None
