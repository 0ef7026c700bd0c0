"""What a demonstration knows of itself, for the screen and the summary."""

import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sas_matcher.client import Request

KEPT = 1_000
"""Answer times kept for the percentiles."""
LINES = 40
"""Lines kept for the screen."""


class Line(NamedTuple):
    """Something that happened, in French: when (local), a word, what it is about, the sentence, and who."""

    at: datetime
    word: str
    about: str
    text: str
    who: str = ""

    def plain(self) -> str:
        """Return it as one line of text."""
        text = " ".join(part for part in (self.text, self.who) if part)
        return f"{self.at:%H:%M:%S}  {self.word:<12} {self.about}" + (f" : {text}" if text else "")


@dataclass(slots=True)
class Board:
    """Counts, answer times and the last lines.

    Attributes:
        now: The present local instant.
        done: What was done since the start, by French word.
        live: Live places by profession, as the service counts them.
        states: Requests of the last 24 hours by status, as the service counts them.
        answers_ms: Milliseconds from a request to its decision, as the regulator's software sees them.
        decisions: The last decisions of the matcher, newest last.
        lines: The last of everything else, newest last.
        virtual: Hour of the virtual day.
        heard: Called with each line.
    """

    now: Callable[[], datetime]
    done: Counter[str] = field(default_factory=Counter)
    live: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    answers_ms: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    decisions: deque[Line] = field(default_factory=lambda: deque(maxlen=LINES))
    lines: deque[Line] = field(default_factory=lambda: deque(maxlen=LINES))
    virtual: str = ""
    heard: Callable[[Line], None] = lambda _line: None

    def say(self, word: str, about: str, text: str = "") -> None:
        """Add a line."""
        line = Line(self.now(), word, about, text)
        self.lines.append(line)
        self.heard(line)

    def decided(self, request: Request, about: str) -> None:
        """Add what was decided for a request, with its sentence."""
        decision = request.decision
        if decision is None:
            self.done["sans réponse"] += 1
            self.say("en attente", about, "pas encore décidée")
            return
        if request.place is not None:
            self.done["places gardées"] += 1
            line = Line(self.now(), "place", about, decision.sentence, request.place.site.name)
        elif request.status == "promised":
            self.done["promesses"] += 1
            line = Line(self.now(), "promesse", about, decision.sentence)
        else:
            self.done["sans place"] += 1
            line = Line(self.now(), "aucune", about, decision.none.sentence if decision.none else decision.sentence)
        self.decisions.append(line)
        self.heard(line)

    def percentile_ms(self, share: float) -> float | None:
        """Return the answer time that this share of the last requests stays within (nearest rank)."""
        if not self.answers_ms:
            return None
        ordered = sorted(self.answers_ms)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
