"""What a desk knows of one profession: who could have which seat, and what seats are worth to those still to come.

Prices come from the plan; between two plans they are kept up here: a seat that somebody leans on counts as spent, a
slot that is new is priced at what the best of those who could use it would gain.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from sas_matcher.matching.forecast import HistoryDay, asked_of
from sas_matcher.matching.pairs import Bools, Floats, Ints, Pairs, Requests, Slots, feasible
from sas_matcher.matching.planning import FieldPlan, Outlook
from sas_matcher.matching.prices import FAR
from sas_matcher.matching.terms import Terms

PARTS: Final = 400
"""Pieces in which pairs are kept before they are joined: looking through them costs more than joining."""


class Field:
    """One profession of a desk.

    Attributes:
        profession: its number.
        edge: when somebody must be told, or the plan no longer holds; ``looked``: when futures were last looked at.
        floor: float[S], price of each slot for who is here, from the last look.
        outlooks: the futures as last looked at.
    """

    def __init__(self, profession: int, history: Sequence[HistoryDay]) -> None:
        self.profession = profession
        self.edge, self.looked = np.inf, -np.inf
        self.floor: Floats = np.zeros(0)
        self.outlooks: list[Outlook] = []
        self._history = history
        self._asked: dict[int, Requests] = {}
        self._parts: list[Pairs] = []

    # -- pairs ---------------------------------------------------------------------------------------------------

    def add(self, pairs: Pairs) -> None:
        """More pairs."""
        self._parts.append(pairs)

    def keep(self, pairs: Pairs) -> None:
        """These are all that there are."""
        self._parts = [pairs]

    def pairs(self) -> Pairs:
        """All pairs so far."""
        self._parts = [Pairs.join(self._parts)]
        return self._parts[0]

    def pairs_of(self, request: int) -> Pairs:
        """Those of one request."""
        if len(self._parts) > PARTS:
            self.pairs()
        return Pairs.join([part.where(part.request == request) for part in self._parts if part.request.size])

    # -- prices --------------------------------------------------------------------------------------------------

    def take_over(self, plan: FieldPlan) -> None:
        """A plan that looked ahead has new futures."""
        self.outlooks, self.floor = plan.outlooks, plan.price

    def prices(self, slots: Ints) -> Floats:
        """Prices of slots in each future: float[F, n], one row of 0 where none was looked at."""
        return (
            np.array([outlook.price[slots] for outlook in self.outlooks])
            if self.outlooks
            else np.zeros((1, slots.size))
        )

    def spend(self, pairs: Pairs) -> None:
        """In each future somebody takes, of these, the seat that is cheapest there.

        A full slot can be spent once at its loss, then it is out of reach until the next plan.
        """
        for outlook in self.outlooks:
            slot = int(pairs.slot[(pairs.cost + outlook.price[pairs.slot]).argmin()])
            outlook.spare[slot] -= 1
            if outlook.spare[slot] < 0:
                outlook.price[slot] = FAR

    def unforeseen(self, slot: int) -> None:
        """A slot of which no future counted on a seat has one: it is taken from nobody here."""
        for outlook in self.outlooks:
            outlook.price[slot], outlook.spare[slot] = 0.0, max(0, outlook.spare[slot])

    def price_new(self, slots: Slots, rows: Ints, pairs: Pairs, now: float, meets: Bools, terms: Terms) -> None:
        """Price slots published since the last look: what the best of those who could use them would gain.

        Args:
            slots: all slots of the desk.
            rows: the new ones, of any profession, ascending to the last row.
            pairs: of them and those who are open.
            now: who calls after it is still to come.
            meets: as for ``feasible``.
            terms: as for ``feasible``.
        """
        mine = rows[slots.profession[rows] == self.profession]
        floors = []
        for outlook in self.outlooks:
            first = outlook.price.size
            new = int(rows[-1]) + 1 - first
            if new <= 0:
                continue
            here, coming = np.zeros(new), np.zeros(new)
            known = (pairs.request < outlook.utility.size) & (slots.profession[pairs.slot] == self.profession)
            known &= pairs.slot >= first
            np.maximum.at(here, pairs.slot[known] - first, outlook.utility[pairs.request[known]] - pairs.cost[known])
            wanted = self._wanted_by_coming(outlook, slots, mine[mine >= first], now, meets, terms)
            np.maximum.at(coming, wanted.slot - first, outlook.coming[wanted.request] - wanted.cost)
            outlook.price = np.concatenate((outlook.price, np.maximum(here, coming)))
            outlook.spare = np.concatenate((outlook.spare, np.zeros(new, np.int64)))
            floors.append(coming)
        if floors:
            self.floor = np.concatenate((self.floor, np.mean(floors, axis=0)))

    def _wanted_by_coming(
        self, outlook: Outlook, slots: Slots, rows: Ints, now: float, meets: Bools, terms: Terms
    ) -> Pairs:
        """Pairs of those still to come in a future (rows of its earlier day) and some slots."""
        if outlook.day < 0 or not rows.size:
            return Pairs.join([])
        if outlook.day not in self._asked:
            self._asked[outlook.day] = asked_of(self._history[outlook.day], self.profession)
        asked = self._asked[outlook.day]
        coming = np.arange(int(asked.created.searchsorted(now, "right")), len(asked))
        return feasible(asked, np.repeat(coming, rows.size), slots, np.tile(rows, coming.size), meets, terms)
