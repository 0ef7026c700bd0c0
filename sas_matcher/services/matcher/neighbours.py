"""What the desks of several territories cede to each other: a seat behind a promise, for urgent people who find none.

A hundred desks share the places by video, and those along their borders. Each plans for its own territory, so that a T2
of one may lean on the only seat that a T0 of another could be seen at. The holder is seen elsewhere, if his desk can
move him; where promises may be broken on both sides (a declared crisis), he is displaced.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from sas_matcher.matching.territory import Decision, TerritoryDesk

MOST_ASKED: Final = 4
"""Desks that look for other seats for their own, for one caller: each looks through all that it has promised."""


class Ceded(NamedTuple):
    """A desk ceded a seat to another one's request.

    Attributes:
        territory: of the desk that had promised the seat.
        slot_id: the slot.
        displaced: the request that lost it; None where whoever had it is seen elsewhere.
    """

    territory: str
    slot_id: int
    displaced: str | None


def cede_seats(desks: Mapping[str, TerritoryDesk], now: float) -> tuple[list[Ceded], list[tuple[str, Decision]]]:
    """Let desks cede seats to urgent people whose own desk had nothing for them.

    Returns:
        What was ceded, and what is decided.
    """
    ceded: list[Ceded] = []
    decided: list[tuple[str, Decision]] = []
    for territory, desk in desks.items():
        for request_id, slots in desk.in_vain(now):
            found = _found(desks, territory, request_id, slots, now) if slots else None
            if found is not None:
                ceded.append(found[0])
                decided += found[1]
                decided += [(territory, decision) for decision in desk.given(request_id, found[0].slot_id, now)]
    return ceded, decided


def cede_again(desks: Mapping[str, TerritoryDesk], ceded: Sequence[Ceded], now: float) -> list[tuple[str, Decision]]:
    """Cede the seats that were ceded in a round that is decided again; who they went to may be of no desk here."""
    decided: list[tuple[str, Decision]] = []
    for seat in ceded:
        desk = desks[seat.territory]
        if desk.holds(seat.slot_id):
            decided += [(seat.territory, decision) for decision in _cedes(desk, seat, now)]
    return decided


def _cedes(desk: TerritoryDesk, seat: Ceded, now: float) -> list[Decision]:
    if seat.displaced is not None:
        return [desk.displaced(seat.displaced)]
    found = desk.make_way([seat.slot_id], now)
    return [] if found is None else found[1]


def _found(
    desks: Mapping[str, TerritoryDesk], territory: str, request_id: str, slots: Sequence[int], now: float
) -> tuple[Ceded, list[tuple[str, Decision]]] | None:
    """Find a seat behind another desk's promise: one whose holder moves, else one whose holder is displaced."""
    having = {
        name: held
        for name, desk in desks.items()
        if name != territory and (held := [slot for slot in slots if desk.holds(slot)])
    }
    for name in sorted(having, key=lambda name: (slots.index(having[name][0]), name))[:MOST_ASKED]:
        way = desks[name].make_way(having[name], now)
        if way is not None:
            return Ceded(name, way[0], None), [(name, decision) for decision in way[1]]
    if not desks[territory].may_displace(request_id):
        return None
    rank = desks[territory].rank(request_id)
    losers = [
        (-loser[0], slots.index(slot), name, loser[1])
        for name, held in having.items()
        for slot in held
        if (loser := desks[name].yields(slot, rank)) is not None
    ]
    if not losers:
        return None
    _, place, name, loses = min(losers)
    return Ceded(name, slots[place], loses), [(name, desks[name].displaced(loses))]
