"""Room for a caller among promised places: nobody promised is left without a seat."""

import numpy as np

from sas_matcher.matching.exchange import Move, make_room
from sas_matcher.matching.pairs import Pairs


def pairs(*arcs: tuple[int, int]) -> Pairs:
    """Pairs of request and slot, at no cost."""
    request, slot = (np.array(column, np.intp) for column in zip(*arcs, strict=True))
    return Pairs(request, slot, np.zeros(len(arcs)), np.zeros(len(arcs)))


def test_a_chain_of_moves_ends_on_room() -> None:
    """The caller wants slot 0 only; its holder can go to 1 only, whose holder can go to 2, which is free."""
    found = make_room([0], pairs((7, 0), (7, 1), (8, 1), (8, 2)), {7: 0, 8: 1}, lambda slot: slot == 2)
    assert found == (0, [Move(8, 2), Move(7, 1)])


def test_nobody_moves_where_a_slot_has_room() -> None:
    """The second choice has room."""
    assert make_room([0, 1], pairs((7, 0), (7, 2)), {7: 0}, lambda slot: slot == 1) == (1, [])


def test_no_room_without_a_chain() -> None:
    """Two promised on two slots, neither of whom can go anywhere else."""
    assert make_room([0, 1], pairs((7, 0), (7, 1), (8, 1)), {7: 0, 8: 1}, lambda slot: slot == 2) is None
