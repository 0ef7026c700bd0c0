"""How the editors of agendas do: what all processes know of them, and what people are told in French.

A failure is shown as a failure: who is mute, since when and why; never as "no place".
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol

from sas_matcher.domain.errors import UnavailableError
from sas_matcher.ports.editors import EditorFigures, EditorState
from sas_matcher.ports.world import Clock

SOURCE_PREFIX: Final = "fhir:"
TOO_OLD: Final = timedelta(minutes=10)  # G: then a third of the places of the next hours may have gone elsewhere
MUTE_AFTER: Final = timedelta(seconds=60)  # one failed call is no news; a minute without any answer is
FIGURES_SPAN: Final = timedelta(days=30)  # long enough for a rate, short enough for an editor that mends its ways


class Board(Protocol):
    """What all processes know of the editors: who asks when, and whom not to ask (circuit breaker)."""

    async def take(self, editor: str, batch: str, seconds: float) -> bool:
        """Claim a batch for some seconds; False when another process did."""
        ...

    async def release(self, editor: str, batch: str) -> None:
        """Give a claimed batch back: it was not answered."""
        ...

    async def admit(self, editor: str, now: datetime) -> bool:
        """Tell whether an editor may be asked now; while its circuit is open one call goes through now and then."""
        ...

    async def succeeded(self, editor: str, now: datetime, dropped: Mapping[str, int]) -> None:
        """Close the circuit."""
        ...

    async def failed(self, editor: str, now: datetime, error: str) -> None:
        """Count a failure; several in a row open the circuit."""
        ...

    async def states(self, editors: Sequence[str]) -> list[EditorState]:
        """Return what is known, in order."""
        ...


class EditorStore(Protocol):
    """The editors' places in the ledger."""

    async def hidden(self, source: str, slots: Sequence[Mapping[str, Any]], now: datetime) -> set[str]:
        """Return external ids not to be shown: shown already by another source, or found to be phantoms."""
        ...

    async def touch(self, source: str, external_ids: Sequence[str], now: datetime) -> set[str]:
        """Note that places are as they were; returns those that are live."""
        ...

    async def vanished(
        self, source: str, owners: Sequence[str], window: tuple[datetime, datetime], shown: Sequence[str]
    ) -> list[str]:
        """Return live places of some owners that are shown no more and that nobody here holds."""
        ...

    async def stale(self, before: datetime, now: datetime) -> dict[str, list[str]]:
        """Return {source: external ids} of editors' live places that nobody holds and nobody checked since a time."""
        ...

    async def figures(self, sources: Sequence[str], since: datetime, now: datetime) -> dict[str, EditorFigures]:
        """Return what the ledger says of editors."""
        ...


class Named(NamedTuple):
    """An editor as people know it; ``batches``: calls of a round."""

    name: str
    label: str
    batches: int


class Editors:
    """How the editors do, for people."""

    def __init__(self, named: Sequence[Named], store: EditorStore, board: Board, clock: Clock) -> None:
        self._named = named
        self._store = store
        self._board = board
        self._clock = clock

    async def all(self) -> list[dict[str, Any]]:
        """Return each editor with its state, its figures of the last 30 days, and a sentence in French.

        Raises:
            UnavailableError: ledger or Redis is away.
        """
        now = self._clock.now()
        figures = await self._store.figures(
            [SOURCE_PREFIX + editor.name for editor in self._named], now - FIGURES_SPAN, now
        )
        found = []
        for editor, state in zip(self._named, await self._states(), strict=True):
            figure = figures[SOURCE_PREFIX + editor.name]
            silent = mute_s(state, now)
            found.append(
                {
                    "name": editor.name,
                    "label": editor.label,
                    "state": "mute" if silent else "never" if state.last_ok is None else "ok",
                    "sentence": sentence(editor.label, state, now),
                    "mute_s": round(silent),
                    "last_answer_at": state.last_ok,
                    "asked_again_at": state.open_until,
                    "failures": state.failures,
                    "error": state.error,
                    "dropped": dict(state.dropped),
                    "places": figure.places,
                    "oldest_checked_at": figure.oldest,
                    "tried": figure.tried,
                    "phantoms": figure.phantoms,
                    "batches": editor.batches,
                }
            )
        return found

    async def mute(self) -> list[dict[str, Any]]:
        """Return the editors that give no usable answer now: what they have is missing or old, not "no slot"."""
        now = self._clock.now()
        try:
            pairs = list(zip(self._named, await self._states(), strict=True))
        except UnavailableError:
            return [
                {"name": e.name, "label": e.label, "mute_s": None, "sentence": f"éditeur {e.label} : état inconnu"}
                for e in self._named
            ]
        return [
            {
                "name": editor.name,
                "label": editor.label,
                "mute_s": round(mute_s(state, now)),
                "sentence": sentence(editor.label, state, now),
            }
            for editor, state in pairs
            if mute_s(state, now)
        ]

    async def _states(self) -> list[EditorState]:
        names = [editor.name for editor in self._named]
        return await self._board.states(names) if names else []


def sentence(label: str, state: EditorState, now: datetime) -> str:
    """Say in French how an editor does."""
    silent = mute_s(state, now)
    if silent:
        since = f"{int(silent // 60)} min" if silent >= 60 else f"{int(silent)} s"
        why = f" ({state.error})" if state.error else ""
        kept = silent < TOO_OLD.total_seconds()
        rest = "ses dernières places connues restent proposées" if kept else "ses places ne sont plus proposées"
        return f"éditeur {label} muet depuis {since}{why} ; {rest}"
    if state.last_ok is None:
        return f"éditeur {label} pas encore interrogé"
    return f"éditeur {label} : dernière réponse il y a {int((now - state.last_ok).total_seconds())} s"


def mute_s(state: EditorState, now: datetime) -> float:
    """Return how long an editor has said nothing usable; 0 while it answers, or for a moment's failure."""
    if state.silent_since is None:
        return 0.0
    silent = now - state.silent_since
    return silent.total_seconds() if silent > MUTE_AFTER or state.open_until is not None else 0.0
