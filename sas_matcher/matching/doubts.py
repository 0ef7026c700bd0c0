"""What a place is worth less because its source shows places that it has not (phantoms).

The cost is what finding that out takes, times how often it happens: with p the share of phantoms, ``p × PHANTOM_MIN``.
"""

from typing import Final

PHANTOM_MIN: Final = 7.5  # a regulator handles 8 calls an hour (the field's facts): a phantom costs one more turn
USUAL_SHARE: Final = 0.06  # 4.1 to 8.0 % of what French editors showed was not bookable (Vite Ma Dose, issue 502)
TRIALS: Final = 20  # weight of the usual share, in bookings tried: one phantom in two says little, ten in twenty much


def phantom_share(tried: int, phantoms: int) -> float:
    """Return the share of phantoms to reckon with, from what was tried and what was usual before anything was."""
    return (phantoms + USUAL_SHARE * TRIALS) / (tried + TRIALS)


def doubt_min(tried: int, phantoms: int) -> float:
    """Return by how many minutes a place is worth less: 0.45 of a source nobody knows, towards 7.5 of a steady liar."""
    return PHANTOM_MIN * phantom_share(tried, phantoms)
