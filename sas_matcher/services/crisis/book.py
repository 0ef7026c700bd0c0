"""What the ledger must offer about crises, and what passes between it and the services (port ``CrisisBook``)."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from sas_matcher.domain.alert import Figures
from sas_matcher.ports.ledger import Idempotency, Outcome


class Declaration(NamedTuple):
    """A level to be declared.

    Attributes:
        scope: a territory, ``region:…`` or ``nation``.
        covering: the territories of the scope, each with all the scopes that it lies in.
        role: of who declares.
        version: of the scope's level that was read; None whatever it is.
        proposal: the one that is accepted thereby.
    """

    scope: str
    drill: bool
    level: str
    why: str
    role: str
    covering: Mapping[str, Sequence[str]]
    version: int | None = None
    proposal: str | None = None


class Called(NamedTuple):
    """A call for extra capacity."""

    id: str
    territory: str
    drill: bool
    level: str
    until: datetime
    text: str


class Standing(NamedTuple):
    """A territory inside the transaction that moves it: what there is, and where it goes."""

    territory: str
    was: str
    level: str
    setting: dict[str, Any]
    ladder: list[Any]
    plan: dict[str, Any] | None
    lends: dict[str, int]
    applied: dict[str, Any]
    before: dict[str, Any]


class Turned(NamedTuple):
    """What becomes of it: changes for setting and ladder, what to remember, what to write down, whom to call."""

    setting: dict[str, Any]
    ladder: list[Any] | None
    applied: dict[str, Any]
    before: dict[str, Any]
    entry: dict[str, Any]
    call: Called | None


Turn = Callable[[Standing], Turned]


class Proposed(NamedTuple):
    """A level that detection proposes for a scope (a territory, a région, the nation) and its territories."""

    id: str
    scope: str
    territories: tuple[str, ...]
    was: str
    level: str
    figures: Figures
    reasons: tuple[str, ...]


class CrisisBook(Protocol):
    """The ledger's part about crises. Every method is one transaction; documents are as the API shows them."""

    async def declare(self, now: datetime, wish: Declaration, turn: Turn, once: Idempotency) -> Outcome:
        """Declare a level: changed (document: the entry of the log), unchanged or conflict; of a proposal not_open.

        ``turn`` decides for each territory whose level moves, under the locks of its settings; what it raises undoes
        everything.
        """
        ...

    async def scopes(self, scopes: Sequence[str]) -> list[dict[str, Any]]:
        """Return the levels of some scopes, real ones and drills."""
        ...

    async def territories(self, codes: Sequence[str]) -> list[dict[str, Any]]:
        """Return where some territories stand, really and in drills; those at normal since ever are left out."""
        ...

    async def log(self, scopes: Sequence[str], before: int | None, limit: int) -> list[dict[str, Any]]:
        """Return what was declared for some scopes, newest first; from below an id on."""
        ...

    async def plan(self, territory: str) -> dict[str, Any] | None:
        """Return the plan of a territory that has one."""
        ...

    async def change_plan(
        self, now: datetime, territory: str, plan: Mapping[str, Any], why: str, version: int | None, once: Idempotency
    ) -> Outcome:
        """Set a plan: changed (traced and announced), unchanged or conflict."""
        ...

    async def plan_changes(self, territory: str, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Return the versions of a plan, newest first."""
        ...

    async def figures(self, now: datetime, codes: Sequence[str]) -> dict[str, tuple[Figures, str]]:
        """Return what detection looks at, and the level that stands, by territory."""
        ...

    async def propose(self, now: datetime, proposed: Proposed, quiet_since: datetime) -> str:
        """Propose a level: proposed, open (the same already is) or quiet (it was refused since)."""
        ...

    async def proposal(self, proposal_id: str) -> dict[str, Any] | None:
        """Return a proposal."""
        ...

    async def proposals(self, codes: Sequence[str], state: str | None, limit: int) -> list[dict[str, Any]]:
        """Return proposals for scopes that some territories lie in, newest first."""
        ...

    async def refuse(self, now: datetime, proposal_id: str, why: str, once: Idempotency) -> Outcome:
        """Refuse a proposal: refused, not_open or not_found."""
        ...

    async def call(self, now: datetime, called: Called, once: Idempotency) -> Outcome:
        """Call the practices of a territory that have consented to such calls."""
        ...

    async def calls_to(
        self,
        source: str | None,
        professionals: Sequence[str],
        structures: Sequence[str],
        call_id: str | None,
        limit: int,
    ) -> list[tuple[dict[str, Any], int]]:
        """Return the calls to a practice, newest first, each with the consent that it came by."""
        ...

    async def answer_call(
        self, now: datetime, call_id: str, consents: Sequence[int], places: int | None, once: Idempotency
    ) -> Outcome:
        """Answer a call: yes, no, too_late or not_found."""
        ...

    async def calls(
        self, codes: Sequence[str], since: datetime, until: datetime, drill: bool | None, limit: int
    ) -> list[dict[str, Any]]:
        """Return the calls of some territories in a time, with what was answered."""
        ...

    async def asked(self, codes: Sequence[str], since: datetime, until: datetime) -> list[dict[str, Any]]:
        """Return what was asked in a time and what came of it, by territory, tier, outcome and reason."""
        ...

    async def by_hour(self, codes: Sequence[str], since: datetime, until: datetime) -> list[dict[str, Any]]:
        """Return what was asked, met and missed, hour by hour."""
        ...

    async def opened(self, codes: Sequence[str], since: datetime, until: datetime) -> list[dict[str, Any]]:
        """Return the places that begin in a time, by territory."""
        ...
