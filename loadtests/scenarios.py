"""The ten stories S0 to S9 as surges: how many calls at which instant, how many places against them, and what breaks.

Everything is a function of its arguments, chance included. Figures are those of the field's fact sheet (tags: S seen in
a source, D derived from it, G guess); a run of minutes plays an hour or a day of a story in small: the ratio of places
to requests is the story's, deadlines and travel are real.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

DAY_REQUESTS: Final = 62.0
"""Requests for a place on an open day in a mean département, mid case (D: derivation of the load)."""
PEAK_HOUR_SHARE: Final = 0.12
"""Share of the day's requests in its peak hour (G)."""
PLACES_A_REQUEST: Final = 3.3
"""21 000 places of the SAS a day (middle of 14 000 to 28 000, D) against 6 270 requests (D)."""
OPENED_LATE: Final = 0.4
"""Share of the places that are published while people already call (G: 30 % that morning, 20 % within two hours)."""
PROFESSIONS: Final = {"MG": 0.87, "DENT": 0.05, "PED": 0.02, "SF": 0.01, "KINE": 0.02, "IDE": 0.02, "PSY": 0.01}
"""Profession that is asked for (G)."""
DELAYS: Final = {"1H": 0.03, "2H": 0.04, "4H": 0.08, "8H": 0.20, "12H": 0.20, "24H": 0.30, "48H": 0.15}
"""Delay that is asked for (G): T0 .03, T1 .12, T2 .70, T3 .15."""
SUPPLY: Final = {"MG": 0.86, "DENT": 0.05, "PED": 0.03, "SF": 0.02, "KINE": 0.02, "IDE": 0.02}
"""Profession of a place (G)."""
RURAL: Final = ("48", "23", "15", "05", "09", "46", "43", "12", "58", "70")
OVERSEAS: Final = ("971", "972", "973", "974", "976")
BATCHES: Final = 10
"""Rounds of call-backs in a run of S3 (G: every half hour of a morning)."""
BATCH_SPREAD: Final = 0.008
"""Share of the run over which a round of call-backs is dialled: five seconds of ten minutes (G)."""
ZONE_SPAN: Final = (1 / 3, 2 / 3)
"""S5: when, as shares of the run, the zone is closed and its regulators are gone (S: three hours)."""
ZONE_GONE: Final = 0.8
"""S5: share of the zone's regulators who are gone (S)."""
ZONE_RELEASE: Final = 0.05
"""S5: share of the run over which the deferred requests come (G: ten minutes after three hours)."""
OUTAGE_SPAN: Final = (0.3, 0.7)
"""S6: when, as shares of the run, the editor is away."""
OUTAGE_SHARE: Final = 0.30
"""S6: share of the places that vanish or go stale (S)."""

Fault = Literal["none", "zone", "editor"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One story.

    Attributes:
        title: in French, for the report.
        begins: local instant of Paris, offset included, at which it is played.
        rate: calls against an ordinary day.
        supply: places against an ordinary day.
        cv: coefficient of variation of the gamma that the whole run's rate is multiplied with.
        bursts: instants, as shares of the run, of a tenth of it at three times the rate (G).
        batched: share of the calls that are call-backs, made in rounds.
        tele, visite: shares of the requests that take a téléconsultation, that need a visit.
        places_tele, places_visite: the same of the places.
        children, seniors: shares of the patients.
        professions: asked for.
        radius_km: asked for; None leaves the territory's own.
        territories: where it happens; empty: everywhere.
        clustered: towns of a territory that have practices; 0: all that are known.
        more: times the rate, where few territories would ask too little to show anything.
        crisis: declared after this share of the run; None: never.
        night: places lie in the hours around a change of clocks instead of the working day.
        fault: what goes wrong besides.
    """

    title: str
    begins: str
    rate: float = 1.0
    supply: float = 1.0
    cv: float = 0.15
    bursts: tuple[float, ...] = ()
    batched: float = 0.0
    tele: float = 0.05
    visite: float = 0.07
    places_tele: float = 0.05
    places_visite: float = 0.07
    children: float = 0.27
    seniors: float = 0.22
    professions: Mapping[str, float] = field(default_factory=lambda: PROFESSIONS)
    radius_km: float | None = None
    territories: tuple[str, ...] = ()
    clustered: int = 0
    more: float = 1.0
    crisis: float | None = None
    night: bool = False
    fault: Fault = "none"

    @property
    def instant(self) -> datetime:
        """The instant at which it is played."""
        return datetime.fromisoformat(self.begins)


# G: twice the share of paediatricians, two children in five
_FLU: Final = {"MG": 0.85, "DENT": 0.05, "PED": 0.04, "SF": 0.01, "KINE": 0.02, "IDE": 0.02, "PSY": 0.01}

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "S0": Scenario("mardi ordinaire", "2026-01-13T10:00+01:00"),
    "S1": Scenario(
        "lundi de grippe", "2026-01-12T09:30+01:00", rate=1.55, supply=0.9, cv=0.3, children=0.4, professions=_FLU
    ),
    "S2": Scenario("semaine de Noël et grève", "2026-12-22T10:00+01:00", rate=1.6, supply=0.4, crisis=0.1),
    "S3": Scenario(
        "semaine de Covid",
        "2026-03-17T10:00+01:00",
        rate=4.0,
        supply=0.7,
        cv=0.3,
        bursts=(0.5,),
        batched=0.6,
        tele=0.4,
        visite=0.1,
        places_tele=0.2,
        crisis=0.1,
    ),
    "S4": Scenario("canicule", "2026-07-07T14:00+02:00", rate=1.3, visite=0.14, places_visite=0.035, seniors=0.4),
    "S5": Scenario("accident collectif", "2026-01-13T14:00+01:00", fault="zone"),
    "S6": Scenario("panne d'un éditeur", "2026-01-13T10:00+01:00", fault="editor"),
    "S7": Scenario(
        "campagne",
        "2026-01-13T10:00+01:00",
        rate=0.78 / 0.31,  # S: files per inhabitant of Lozère against the mean
        radius_km=50.0,
        territories=RURAL,
        clustered=3,
    ),
    "S8": Scenario("outre-mer", "2026-01-13T14:00+01:00", territories=OVERSEAS, more=5.0),
    # half past midnight of the night of 25 hours: the next places lie in the hour that comes twice
    "S9": Scenario("nuit du changement d'heure", "2026-10-25T00:30+02:00", more=0.5, night=True),
}


@dataclass(frozen=True, slots=True)
class Surge:
    """A story on a number of territories, at a multiple of real rates, for a time.

    Attributes:
        story: what happens.
        territories: how many it happens in.
        times: multiple of the real peak hour's rates.
        seconds: length of the run.
        mood: the run's own factor (see ``draw_mood``).
    """

    story: Scenario
    territories: int
    times: float
    seconds: float
    mood: float = 1.0

    @property
    def base(self) -> float:
        """Calls a second without bursts, all desks together."""
        ordinary = DAY_REQUESTS * PEAK_HOUR_SHARE / 3600 * self.territories
        return ordinary * self.times * self.story.rate * self.story.more * self.mood

    def rate(self, at: float) -> float:
        """Calls a second at an instant, in seconds from the beginning."""
        share = at / self.seconds
        tripled = any(burst <= share < burst + 0.1 for burst in self.story.bursts)
        return self.base * (3.0 if tripled else 1.0)

    @property
    def expected(self) -> float:
        """Calls of the whole run."""
        return self.base * self.seconds * (1 + 0.2 * len(self.story.bursts))

    @property
    def places(self) -> int:
        """Places of the whole run: as scarce as on the story's day."""
        # the mood of a day is not known to those who open places
        ratio = PLACES_A_REQUEST * self.story.supply / self.story.rate
        return max(1, round(ratio * self.expected / self.mood))

    def calls(self, rng: random.Random, share: float, *, zone: bool) -> list[float]:
        """Draw the instants of one desk's calls, in seconds from the beginning, in order.

        Args:
            rng: chance.
            share: of all calls that come to this desk.
            zone: it is a desk of the closed zone (S5).
        """
        highest = self.base * 3.0 * share
        calls, at = [], 0.0
        while highest > 0 and (at := at + rng.expovariate(highest)) < self.seconds:
            if rng.random() < self.rate(at) * share / highest:
                calls.append(self._moved(rng, at, zone=zone))
        return sorted(call for call in calls if call < self.seconds)

    def _moved(self, rng: random.Random, at: float, *, zone: bool) -> float:
        """Return when a call is really made: in a round of call-backs, or after the zone is open again."""
        if rng.random() < self.story.batched:
            step = self.seconds / BATCHES
            return (at // step + 1) * step + rng.uniform(0, BATCH_SPREAD * self.seconds)
        begin, end = (share * self.seconds for share in ZONE_SPAN)
        if self.story.fault == "zone" and zone and begin <= at < end and rng.random() < ZONE_GONE:
            return end + rng.uniform(0, ZONE_RELEASE * self.seconds)
        return at


def draw_mood(story: Scenario, rng: random.Random) -> float:
    """Draw the factor of a day: gamma of mean 1 with the story's coefficient of variation."""
    shape = 1 / story.cv**2
    return rng.gammavariate(shape, 1 / shape)


def within(span: tuple[float, float], at: float, seconds: float) -> bool:
    """Whether an instant lies in a span given as shares of the run."""
    return span[0] * seconds <= at < span[1] * seconds
