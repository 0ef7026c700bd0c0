"""How a territory commits: when a place becomes firm, for each tier.

What each policy of the day log means for the desk (``desk``). ``fcfs-nearest`` and ``official`` price nothing: they
have no desk (``peers``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.terms import TIER_RANK

_EVERY: Final = (True,) * len(Tier)
_NONE: Final = (False,) * len(Tier)


@dataclass(frozen=True, slots=True)
class Commitment:
    """One way to commit. What differs from tier to tier is given by rank of the tier.

    Attributes:
        promise: who is accepted is promised a seat that may still move; else his place is firm at once.
        notice: who waits is served only with the notice of a call-back; else with the time to travel, as long as he was
            never promised anything.
        displace: a promised request may lose its place to urgent people who call, or are expected, at ``broken`` tenths
            of a minute above its value; one of T3 is worth as much as one of T2, so that no T2 takes its place.
        regret: share of a tier's value that accepting at once may lose in the mean of the futures.
        step_s: seconds between two looks ahead, whether something happens or not: nobody calling is news as well.
        futures: futures of one look.
    """

    promise: tuple[bool, ...] = _EVERY
    notice: tuple[bool, ...] = _EVERY
    displace: tuple[bool, ...] = _NONE
    # what T2 may lose when he is promised (20 % of 10 000 under ``crisis``): no promise is broken for less. At 3000 a
    # flash told 3 in a hundred less, at 1500 a rural day broke 30 instead of 25
    broken: float = 2000.0
    # chosen on two study days of the city at three times the demand: (0.05, …) throughout told more and lost 1 pt
    regret: tuple[float, ...] = (0.05, 0.02, 0.0, 0.0)
    # 600 s and 3 futures lose 1 pt there, and take a third of the time; so do 900 s where nothing has happened
    step_s: float = 300.0
    futures: int = 4


PRESETS: Final[Mapping[str, Commitment]] = {
    "firm": Commitment(promise=_NONE, notice=_NONE),
    "promise": Commitment(),
    # a seat that nobody was promised stays open to urgent callers until the last who waits could still travel to it
    "auto": Commitment(notice=_NONE),
    # a promise may be taken back, so it is given more freely; above 0.25 one of four futures that wants the seat no
    # longer makes anyone wait, and a flash broke 100 promises instead of 20
    "crisis": Commitment(displace=_EVERY, regret=(0.1, 0.05, 0.2, 0.2)),
}
"""The policies that have a desk."""


def mixed(names: Mapping[Tier, str]) -> Commitment:
    """The policy of a territory whose tiers have policies of their own; pace and futures are those of the first.

    Raises:
        KeyError: a policy that is not in ``PRESETS``.
    """
    of = [PRESETS[names[tier]] for tier in sorted(Tier, key=TIER_RANK.__getitem__)]
    return replace(
        of[0],
        promise=tuple(p.promise[n] for n, p in enumerate(of)),
        notice=tuple(p.notice[n] for n, p in enumerate(of)),
        displace=tuple(p.displace[n] for n, p in enumerate(of)),
        regret=tuple(p.regret[n] for n, p in enumerate(of)),
    )
