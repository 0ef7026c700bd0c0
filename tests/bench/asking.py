"""En sus: questions for each place found, against asking everyone within the radius, under stated models of acceptance.

``python -m tests.bench.asking [SEEDS]``. Everything is drawn but the decisions, which are ``matching.asking``'s:

- *independent*: each doctor says yes with a chance of their own, Beta(4.5, 5.5): mean .45, most between .2 and .7.
- *by hour*: that chance times 1 before 11 h, .5 until 14 h, .8 until 17 h, .3 later.
- *fatigue*: that chance times .8 for each question that the doctor already got that day.

All of them are guesses (nobody has published any), as is the time to answer: exponential, 3 min on average, of whoever
answers at all in time. What is asked of everyone is a "no" to whoever is asked for nothing: it is counted as asked.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Final

import numpy as np

from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.asking import Person, Step, next_move
from sas_matcher.matching.candidates import OpenRequest
from sas_matcher.matching.terms import Terms

DAYS: Final = 10
CONSENTED: Final = (20, 60)  # within 15 km: of a country practice's and of a town's surroundings
REQUESTS: Final = 12  # a day that found no place
ANSWER_MIN: Final = 3.0
# chosen on the seeds 0 to 7 among twenty-six; what is reported comes from others
FIRST_SEED: Final = 200
LADDER: Final = (
    Step(name="Cabinets proches", ask=True, waves=6, at_once=3, sure=0.55, wait=timedelta(minutes=6)),
    Step(name="Plus loin", ask=True, radius_km=15.0, waves=6, at_once=3, sure=0.55, wait=timedelta(minutes=6)),
)
Chance = Callable[[float, float, int], float]
"""(own chance, hour, questions already got today) → chance of a yes."""


def _by_hour(chance: float, hour: float, _asked: int) -> float:
    return chance * (1.0 if hour < 11 else 0.5 if hour < 14 else 0.8 if hour < 17 else 0.3)


MODELS: Final[dict[str, Chance]] = {
    "independent": lambda chance, _hour, _asked: chance,
    "by hour": _by_hour,
    "fatigue": lambda chance, _hour, asked: chance * 0.8**asked,
}


@dataclass
class Tally:
    """What came of a policy."""

    asked: int = 0
    found: int = 0
    waits: list[float] = field(default_factory=list)

    def yes(self, minutes: float) -> None:
        """Count a place found so many minutes after the first question."""
        self.found += 1
        self.waits.append(minutes)


def _request(now: datetime) -> OpenRequest:
    at = now.timestamp()
    return OpenRequest(
        "r",
        0,
        "69",
        45.75,
        4.85,
        0,
        "MG",
        None,
        ("cabinet",),
        Tier.T1,
        at,
        at + 14_400,
        10.0,
        (),
        None,
        1,
    )


class World:
    """Doctors who consented, what they would say, and what came of asking them."""

    def __init__(self, seed: int, model: Chance, doctors: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.model = model
        self.doctors = [self._doctor(number) for number in range(doctors)]
        self.chances = self.rng.beta(4.5, 5.5, doctors)
        self.today = np.zeros(doctors, dtype=int)
        self.tally = Tally()

    def _doctor(self, number: int) -> Person:
        km, turn = 15 * np.sqrt(self.rng.random()), 2 * np.pi * self.rng.random()
        lat, lon = 45.75 + km * np.cos(turn) / 111.2, 4.85 + km * np.sin(turn) / (111.2 * np.cos(np.radians(45.75)))
        return Person(number, str(number), lat, lon, 0, ("cabinet",), None, UTC, 0, 1440, (1, 2, 3, 4, 5, 6, 7), 50)

    def answer(self, number: int, now: datetime) -> float:
        """Ask a doctor; returns after how many minutes the yes comes, infinite for never."""
        yes = self.rng.random() < self.model(self.chances[number], now.hour + now.minute / 60, int(self.today[number]))
        self.today[number] += 1
        self.tally.asked += 1
        known = self.doctors[number]
        self.doctors[number] = replace(known, answered=known.answered + 1, yes=known.yes + yes)
        return float(self.rng.exponential(ANSWER_MIN)) if yes else np.inf

    def everyone(self, now: datetime) -> float:
        """Ask all at once; returns when the first yes comes."""
        return min(self.answer(number, now) for number in range(len(self.doctors)))

    def climb(self, began: datetime) -> float:
        """Ask wave by wave; returns when the first yes comes."""
        now, at, before, first = began, (0, 0), set[int](), np.inf
        while first > (elapsed := (now - began).total_seconds() / 60):
            persons = [replace(d, today=int(self.today[d.id])) for d in self.doctors if d.id not in before]
            move = next_move(LADDER, _request(began), "69123", persons, at, now, Terms())
            if move is None:
                break
            for asked in move.asked:
                before.add(asked.person.id)
                first = min(first, elapsed + self.answer(asked.person.id, now))
            at = (move.step, move.wave)
            if move.next_at is None:
                break
            now = move.next_at
        return first


def run(seed: int, model: Chance, doctors: int, *, waves: bool) -> Tally:
    """Play some days.

    Args:
        seed: of chances, places and answers.
        model: of acceptance.
        doctors: how many consented.
        waves: as ``matching.asking`` decides; else everyone who consented is asked at once.
    """
    world = World(seed, model, doctors)
    for day in range(DAYS):
        world.today[:] = 0
        for number in range(REQUESTS):
            now = datetime(2026, 11, 23, tzinfo=UTC) + timedelta(days=day, hours=8 + 12 * number / REQUESTS)
            first = world.climb(now) if waves else world.everyone(now)
            if np.isfinite(first):
                world.tally.yes(first)
    return world.tally


def main(seeds: int = 20) -> None:
    """Write a line for each model and number of doctors."""
    for (name, model), doctors in product(MODELS.items(), CONSENTED):
        lines = []
        for waves in (True, False):
            tallies = [run(seed, model, doctors, waves=waves) for seed in range(FIRST_SEED, FIRST_SEED + seeds)]
            asked, found = sum(t.asked for t in tallies), sum(t.found for t in tallies)
            median = float(np.median([wait for t in tallies for wait in t.waits]))
            lines.append((asked / found, found / (seeds * DAYS * REQUESTS), median))
        (ours, share, wait), (all_, all_share, all_wait) = lines
        sys.stdout.write(
            f"{name:12} {doctors:3} doctors  waves: {ours:5.1f} questions a place, {share:.1%} found, median "
            f"{wait:.1f} min; everyone: {all_:5.1f}, {all_share:.1%}, {all_wait:.1f} min; ratio {ours / all_:.3f}\n"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
