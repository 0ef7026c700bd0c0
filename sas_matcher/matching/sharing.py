"""Whose places are for whom when there are too few: kept for urgent requests, or lent to a neighbour.

Which places a share falls on hangs on their numbers alone: the same everywhere and always, so that a decision can be
replayed, and a place that is kept stays kept until it is released.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.market import Market
from sas_matcher.matching.partitions import Ints, Rows
from sas_matcher.matching.terms import TIER_RANK

Bools = npt.NDArray[np.bool_]

RELEASE_S: Final = 3600
"""Seconds before its start at which a place kept for urgent requests is everybody's.

T0 wants one within the hour; a place that nobody urgent has asked for by then would be lost.
"""

URGENT: Final = TIER_RANK[Tier.T1]
"""Tiers up to this rank are urgent (≤ 4 h)."""


def lots(slot_ids: Ints) -> Ints:
    """Return a number from 0 to 99 for each slot, spread evenly (Fibonacci hashing, Knuth 6.4)."""
    mixed = (slot_ids.astype(np.uint64) * np.uint64(2654435761)) % np.uint64(1 << 32)
    drawn: Ints = ((mixed >> np.uint64(8)) % np.uint64(100)).astype(np.int64)
    return drawn


def kept(market: Market, rows: Rows, now: float) -> Bools:
    """Tell which of some rows only urgent requests may have now (epoch seconds)."""
    share = market.by_territory(market.reserves, rows.column("site"))
    return (lots(rows.column("slot_id")) < share) & (rows.column("start") - now > RELEASE_S)


def lent(market: Market, slot_ids: Ints, sites: Ints, borrow: Mapping[str, int]) -> Bools:
    """Tell which slots neighbours lend; drawn from the other end than those that are kept."""
    return lots(slot_ids) >= 100 - market.by_territory(borrow, sites)
