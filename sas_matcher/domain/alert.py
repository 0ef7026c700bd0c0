"""Detection: when the figures of a territory, a région or the nation say that a level should be proposed.

A person accepts it, or not: nothing here declares anything. Three signs, each with a threshold to go up and a lower one
to come down, and a time for which it must hold: levels do not flutter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import median_low
from typing import Final, NamedTuple

from sas_matcher.domain.crisis import RANK, Level


@dataclass(frozen=True, slots=True)
class Threshold:
    """From where on a sign says tension or crise, and below what it says so no more."""

    tension: float
    crise: float
    tension_ends: float
    crise_ends: float


ARRIVALS: Final = Threshold(1.3, 2.0, 1.15, 1.6)
"""Calls of the last hour against the forecast. Heat and flu bring ×1.3, the New Year ×1.6, Omicron ×2 (table of facts,
*Surges*: press); where a level ends is our guess."""

OLDEST: Final = Threshold(0.25, 0.5, 0.15, 0.35)
"""Share of its delay that the oldest urgent request (T0, T1) has waited without a place: a guess."""

UNMET: Final = Threshold(0.10, 0.25, 0.05, 0.15)
"""Share of the requests closed in the last two hours that nobody could serve: a guess."""

FEWEST: Final = 10
"""Closed requests below which a share says nothing."""

SIGMAS: Final = 3.0
"""Arrivals must also be so many standard deviations above the forecast: a small territory has few calls an hour."""

DAILY_CV: Final = 0.15
"""Spread of a day's level around the forecast (table of facts, §6: a guess; 0.30 in an epidemic)."""

RISE_S: Final = 600.0
FALL_S: Final = 3600.0
"""For how long the signs must hold before a level is proposed, up and down: coming back is as careful as going in."""

QUIET_S: Final = 3600.0
"""After a refusal the same level is not proposed again for so long."""


class Figures(NamedTuple):
    """What a territory looks like now.

    Attributes:
        arrivals: requests made in the last hour.
        forecast: how many this hour of the week had, in the mean of the last four weeks; None where nothing is known.
        oldest_share: of its delay that the oldest urgent request without a place has waited; 0 where none waits.
        closed, unmet: requests closed in the last two hours, and those of them that nobody served.
        territories: of how many territories these are the figures (``pooled``).
    """

    arrivals: int
    forecast: float | None
    oldest_share: float
    closed: int
    unmet: int
    territories: int = 1


class Watched(NamedTuple):
    """What detection remembers of a scope: the level that the signs ask for, and since when (epoch seconds)."""

    asks: str
    since: float


class Suggestion(NamedTuple):
    """A level to be proposed, and why, in French."""

    level: Level
    reasons: tuple[str, ...]


def pooled(members: Sequence[Figures]) -> Figures:
    """Return the figures of a région or of the nation: what its territories have together.

    One old request in one of them says nothing of the others: its share is that of the territory in the middle. Where
    a forecast is missing, that of the whole is.
    """
    forecasts = [member.forecast for member in members]
    return Figures(
        arrivals=sum(member.arrivals for member in members),
        forecast=None if None in forecasts else sum(filter(None, forecasts)),
        oldest_share=median_low([member.oldest_share for member in members]),
        closed=sum(member.closed for member in members),
        unmet=sum(member.unmet for member in members),
        territories=sum(member.territories for member in members),
    )


def _says(value: float, limits: Threshold, standing: str) -> Level:
    """Return what a sign says, given the level that stands: it ends lower than it begins."""
    rank = RANK[standing]
    if value >= (limits.crise_ends if rank >= RANK[Level.CRISE] else limits.crise):
        return Level.CRISE
    if value >= (limits.tension_ends if rank >= RANK[Level.TENSION] else limits.tension):
        return Level.TENSION
    return Level.NORMAL


def signs(figures: Figures, standing: str) -> dict[str, tuple[Level, str]]:
    """Return what each sign says, and the figure behind it in French; those that cannot be judged are left out."""
    found: dict[str, tuple[Level, str]] = {}
    if figures.forecast is not None and figures.forecast > 0:
        ratio = figures.arrivals / figures.forecast
        spread = sqrt(figures.forecast + (DAILY_CV * figures.forecast) ** 2)
        clear = standing != Level.NORMAL or figures.arrivals - figures.forecast >= SIGMAS * spread
        text = f"{figures.arrivals} demandes en une heure pour {figures.forecast:.1f} attendues (×{ratio:.1f})"
        found["arrivals"] = (_says(ratio, ARRIVALS, standing) if clear else Level.NORMAL, text.replace(".", ","))
    share = figures.oldest_share
    where, least = ("dans la moitié des départements, ", "au moins ") if figures.territories > 1 else ("", "")
    text = f"{where}la plus ancienne demande urgente sans place a attendu {least}{100 * share:.0f} % de son délai"
    found["oldest_urgent"] = (_says(share, OLDEST, standing), text)
    if figures.closed >= FEWEST:
        share = figures.unmet / figures.closed
        text = f"{figures.unmet} demandes sur {figures.closed} closes sans place en deux heures ({100 * share:.0f} %)"
        found["unmet"] = (_says(share, UNMET, standing), text)
    return found


def detect(
    figures: Figures, watched: Watched | None, standing: str, now: float
) -> tuple[Watched | None, Suggestion | None]:
    """Judge the figures of a scope.

    Args:
        figures: as they are now.
        watched: what the last call returned; None before the first, and where the signs agreed with the level.
        standing: the level of the scope.
        now: epoch seconds.

    Returns:
        What to remember, and the level to be proposed once the signs have held long enough. Down it is one step.
    """
    said = signs(figures, standing)
    asks = max((level for level, _ in said.values()), key=RANK.__getitem__)
    if RANK[asks] < RANK[standing]:
        asks = tuple(Level)[RANK[standing] - 1]
    if asks == standing:
        return None, None
    if watched is None or watched.asks != asks:
        # a sign that grows stronger need not begin anew
        rising = watched is not None and RANK[standing] < RANK[watched.asks] < RANK[asks]
        watched = Watched(asks, watched.since if watched is not None and rising else now)
    up = RANK[asks] > RANK[standing]
    if now - watched.since < (RISE_S if up else FALL_S):
        return watched, None
    return watched, Suggestion(asks, _reasons(said, asks, up=up))


def _reasons(said: Mapping[str, tuple[Level, str]], asks: Level, *, up: bool) -> tuple[str, ...]:
    return tuple(text for level, text in said.values() if not up or RANK[level] >= RANK[asks])
