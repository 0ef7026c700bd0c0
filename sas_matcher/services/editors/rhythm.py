"""How often an editor is asked for a batch of agendas: a function of its arguments, nothing else.

More often where places move, where regulators ask, and from half an hour before the hours in which they ask most.
"""

from typing import Final

BASE_S: Final = 60.0  # freshness p95 ≤ 90 s with 7 s for the answer leaves room for one call that failed
FASTEST_S: Final = 20.0  # three calls a minute and batch: 25 practitioners of a round are 180 calls an hour, of 3 000
SLOWEST_S: Final = 75.0  # with 7 s for the answer still under the 90 s
NIGHT_S: Final = 240.0  # nobody asks, nothing moves: well under the age at which places are withdrawn
PEAKS: Final = ((8.0, 12.0), (20.0, 22.0))
"""Local hours in which most requests come: hour profile and evening shape of the field's facts."""
AHEAD_H: Final = 0.5  # places are fresh when the peak begins
NIGHT: Final = (22.0, 7.0)
LOOKS_FULL: Final = 8.0  # requests in ten minutes that count as "regulators look": eight an hour is one at work
_STILL: Final = 0.05  # share of answers that brought a change, below which nothing moves; a guess


def interval_s(hour: float, moving: float, looks: float) -> float:
    """Return seconds until the same agendas are asked for again.

    Args:
        hour: local time of their territory, 0 to 24.
        moving: share of the last answers that differed from the one before, 0 to 1.
        looks: requests of the last ten minutes in the territories of these agendas.
    """
    if _night(hour) and looks < 1 and moving < _STILL:
        return NIGHT_S
    seconds = BASE_S * (1.25 - 0.5 * moving) * (1 - 0.5 * min(1.0, looks / LOOKS_FULL))
    if any(start - AHEAD_H <= hour < end for start, end in PEAKS):
        seconds *= 0.75
    return min(SLOWEST_S, max(FASTEST_S, seconds))


def _night(hour: float) -> bool:
    return hour >= NIGHT[0] or hour < NIGHT[1]
