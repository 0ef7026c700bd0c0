"""En sus: when no place fits, whom to ask, in which wave, and what comes next on the territory's ladder.

Time, counts and answers so far are arguments; nothing here asks anybody. Each wave asks the few whose yes is worth
most, until a yes is likely enough; the next wave comes when this one had its time, then the next step of the ladder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final, Literal

from sas_matcher.domain.vocabulary import Mode
from sas_matcher.matching.candidates import OpenRequest
from sas_matcher.matching.terms import UNITS_PER_MIN, Terms
from sas_matcher.travel import haversine_km

# A Beta prior whose mean is .45 and whose central 90 % are .3 to .6: what is known of surnuméraire (a guess, see the
# table of facts: "accepted .3–.6"). mean·(1−mean)/sd² − 1 with sd = .15/1.645 is 29 answers, of which 13 a yes.
PRIOR_YES: Final = 13.0
PRIOR_NO: Final = 16.0
# What each question of the day leaves of the chance: nobody has measured it. .95 was chosen among four on the seeds 0
# to 7 of ``tests.bench.asking``, where it helps if people tire (.8 there) and costs nothing if they do not.
TIRED: Final = 0.95


@dataclass(frozen=True, slots=True)
class Step:
    """A rung of the ladder.

    Attributes:
        name: for people.
        ask: questions are put to professionals; else the regulator is told ``what`` to propose.
        what: ``tele``, ``mmg`` or ``reorient``; None where ``ask``.
        text: what else the regulator is told (an address, a number); None for nothing.
        radius_km: how far who is asked may be; None: as far as the request reaches.
        cpts: only members of these communities (FINESS); empty for anybody.
        only_mt: only the patient's médecin traitant, however far.
        communes: only for patients in these communes (INSEE), a community's zone of intervention; empty for any.
        waves: how many waves at the most.
        at_once: how many are asked in a wave at the most.
        sure: fewer are asked when the chance that one says yes reaches this.
        wait: how long a wave has before the next one, or a proposal before the next step.
    """

    name: str
    ask: bool
    what: Literal["tele", "mmg", "reorient"] | None = None
    text: str | None = None
    radius_km: float | None = None
    cpts: tuple[str, ...] = ()
    only_mt: bool = False
    communes: tuple[str, ...] = ()
    waves: int = 1
    at_once: int = 1
    sure: float = 1.0
    wait: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Person:
    """Who has consented to be asked, and what is known of them.

    Attributes:
        id: of the consent.
        professional: RPPS; None for a structure.
        lat, lon, landmass: where.
        modes: which of them.
        cpts: their community; None for none.
        zone: whose clock the hours are on.
        from_minute, to_minute: questions may come from this minute of the day to before that one …
        days: … on these ISO days of the week.
        most_a_day: at most so many questions a day.
        today: so many were put to them today.
        answered: so many questions were ever answered, or not in time.
        yes: of these, so many with yes.
    """

    id: int
    professional: str | None
    lat: float
    lon: float
    landmass: int
    modes: tuple[str, ...]
    cpts: str | None
    zone: tzinfo
    from_minute: int
    to_minute: int
    days: tuple[int, ...]
    most_a_day: int
    today: int = 0
    answered: int = 0
    yes: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of a wave: whose, at which distance, and the chance of a yes that it was chosen for."""

    person: Person
    km: float
    chance: float


@dataclass(frozen=True, slots=True)
class Move:
    """What to do now for a request.

    Attributes:
        step: index of the rung.
        wave: the how-many-eth wave of it, from 1.
        asked: who is asked; empty when the regulator is told something.
        of: how many could have been asked.
        next_at: when to look again; None at the end of the ladder.
        passed: names of the rungs on which nobody could be asked.
    """

    step: int
    wave: int
    asked: tuple[Asked, ...]
    of: int
    next_at: datetime | None
    passed: tuple[str, ...] = ()


def chance_of_yes(person: Person) -> float:
    """Estimate how likely a yes is: the posterior's mean (``PRIOR_YES``), less for each question today (``TIRED``)."""
    return (PRIOR_YES + person.yes) / (PRIOR_YES + PRIOR_NO + person.answered) * TIRED**person.today


def may_be_asked(person: Person, now: datetime) -> bool:
    """Tell whether a question may come now: inside their hours, and not more often a day than they allow."""
    local = now.astimezone(person.zone)
    minute = 60 * local.hour + local.minute
    return (
        local.isoweekday() in person.days
        and person.from_minute <= minute < person.to_minute
        and person.today < person.most_a_day
    )


def reachable(step: Step, request: OpenRequest, person: Person) -> float | None:
    """Return at how many kilometres a person is, None when this rung does not ask them for this request.

    Consultations by video have no distance.
    """
    modes = set(person.modes) & set(request.modes)
    km = float(haversine_km(request.lat, request.lon, person.lat, person.lon))
    near = step.only_mt or km <= (request.radius_km if step.radius_km is None else step.radius_km)
    by_road = near and person.landmass == request.landmass and modes != {Mode.TELE}
    stranger = request.mt is None or person.professional != request.mt
    if not modes or (step.cpts and person.cpts not in step.cpts) or (step.only_mt and stranger):
        return None
    return km if by_road else 0.0 if Mode.TELE in modes else None


def choose_wave(
    step: Step, request: OpenRequest, persons: Sequence[Person], now: datetime, terms: Terms
) -> tuple[tuple[Asked, ...], int]:
    """Choose whom to ask now: those whose yes is worth most, until one is likely enough.

    What asking is worth is the chance of a yes times what is won by it: the value of serving the tier less the way.

    Returns:
        Who is asked, the best first; and how many could have been.
    """
    value = terms.tiers[request.tier].value / UNITS_PER_MIN
    found: list[tuple[float, int, Asked]] = []
    for person in persons:
        km = reachable(step, request, person)
        if km is None or not may_be_asked(person, now):
            continue
        chance = chance_of_yes(person)
        cost = terms.base_min + terms.min_per_km * km if km else 0.0
        cost -= terms.mt_bonus_min * (request.mt is not None and request.mt == person.professional)
        found.append((-chance * (value - cost), person.id, Asked(person, km, chance)))
    found.sort(key=lambda entry: entry[:2])
    chosen: list[Asked] = []
    nobody = 1.0
    for _, _, asked in found[: step.at_once]:
        if 1 - nobody >= step.sure:
            break
        chosen.append(asked)
        nobody *= 1 - asked.chance
    return tuple(chosen), len(found)


def next_move(
    ladder: Sequence[Step],
    request: OpenRequest,
    insee: str,
    persons: Sequence[Person],
    at: tuple[int, int],
    now: datetime,
    terms: Terms,
) -> Move | None:
    """Return what to do now; None when there is nothing left that could be done.

    Args:
        ladder: of the territory.
        request: who waits.
        insee: the patient's commune.
        persons: who may be asked by profession and needs, and was not yet asked for this request.
        at: (index of the rung, wave) of the last move; (0, 0) before the first.
        now: the present.
        terms: what a way costs.
    """
    first, wave = at
    passed: list[str] = []
    for number in range(first, len(ladder)):
        step = ladder[number]
        waves = wave if number == first else 0
        if waves >= step.waves or (step.communes and insee not in step.communes):
            continue
        asked: tuple[Asked, ...] = ()
        of = 0
        if step.ask:
            asked, of = choose_wave(step, request, persons, now, terms)
            if not asked:
                if not waves:
                    passed.append(step.name)
                continue
        last = number == len(ladder) - 1 and (not step.ask or waves + 1 == step.waves)
        # whoever was asked last may still answer, until the request is closed; a proposal at the end is the end
        return Move(number, waves + 1, asked, of, None if last else now + step.wait, tuple(passed))
    return None
