"""Crisis for people: who declares which level and why, what it changes, proposals, plans, calls for extra capacity.

What a level changes is decided by ``domain.crisis`` inside the transaction that writes it, so that nobody's change in
between is lost; this module says who may, and puts words to it.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import orjson

from sas_matcher.domain.crisis import DECLARES, NATION, RANK, REGION, Level, flat, kind_of, nested, shift, wanted_at
from sas_matcher.domain.errors import (
    ConflictError,
    InvalidInputError,
    NotAllowedError,
    NotFoundError,
    TooLateError,
)
from sas_matcher.domain.vocabulary import Role
from sas_matcher.ports.ledger import Idempotency
from sas_matcher.ports.world import Clock, Geography, Ids
from sas_matcher.services.crisis.book import Called, CrisisBook, Declaration, Standing, Turned

CALL_HOURS: Final = 12  # how long a call for extra capacity stands where the plan does not say: the rest of the day
DRILL_MARK: Final = "EXERCICE — "
_STATED: Final = "Ce niveau a changé entre-temps (version {version}, {level}) : relisez-le, puis recommencez."


class Steerer(NamedTuple):
    """Who steers: the role, and the territories that the key is bound to (``*``: all)."""

    role: Role
    territories: frozenset[str]

    def sees(self, territory: str) -> bool:
        """Whether the key is bound to a territory."""
        return "*" in self.territories or territory in self.territories


def scopes_over(geography: Geography, territory: str) -> list[str]:
    """Return the scopes that a territory lies in, the narrowest first."""
    return [territory, f"{REGION}{geography.territories[territory].region}", NATION]


def wider_scopes(geography: Geography, territories: Collection[str]) -> dict[str, list[str]]:
    """Return régions and nation, each with its territories, that lie in some territories and have more than one."""
    found: dict[str, list[str]] = {}
    for code in sorted(geography.territories):
        for scope in scopes_over(geography, code)[1:]:
            found.setdefault(scope, []).append(code)
    return {scope: members for scope, members in found.items() if len(members) > 1 and set(members) <= set(territories)}


class Crises:
    """What CPTS, ARS, prefect's offices and administrators do about a crisis, and practices about its calls."""

    def __init__(self, book: CrisisBook, clock: Clock, ids: Ids, geography: Geography) -> None:
        self._book, self._clock, self._ids, self._geography = book, clock, ids, geography

    # -- scopes

    def members(self, scope: str) -> list[str]:
        """Return the territories of a scope.

        Raises:
            InvalidInputError: there is no such territory or région.
        """
        known = self._geography.territories
        if scope == NATION:
            return sorted(known)
        if scope.startswith(REGION):
            found = sorted(code for code, t in known.items() if f"{REGION}{t.region}" == scope)
            if not found:
                names = ", ".join(sorted({t.region for t in known.values()}))
                raise InvalidInputError.of("scope", f"région inconnue ; attendu region:NOM, avec NOM parmi {names}")
            return found
        if scope not in known:
            raise InvalidInputError.of("scope", "indiquez un département, region:NOM ou nation")
        return [scope]

    def checked(self, scope: str, who: Steerer) -> list[str]:
        """Return the territories of a scope for which this key may declare.

        Raises:
            InvalidInputError: there is no such scope.
            NotAllowedError: the role does not declare there, or the key is not bound to all of it.
        """
        members = self.members(scope)
        if who.role not in DECLARES[kind_of(scope)]:
            wanted = {"territory": "CPTS, ARS ou préfecture"}.get(kind_of(scope), "ARS ou préfecture")
            raise NotAllowedError(f"Ce niveau se déclare par : {wanted}.")
        strange = [code for code in members if not who.sees(code)]
        if strange:
            raise NotAllowedError(
                f"Cette clé n'est pas rattachée à tout ce périmètre : il manque {', '.join(strange)}."
            )
        return members

    # -- levels

    async def declare(
        self,
        scope: str,
        level: str,
        why: str,
        who: Steerer,
        once: Idempotency,
        *,
        drill: bool = False,
        version: int | None = None,
        proposal: str | None = None,
    ) -> dict[str, Any]:
        """Declare a level for a scope; returns the entry of the log: each territory that moved, and what that changed.

        Raises:
            InvalidInputError: there is no such scope.
            NotAllowedError: it is not this key's to declare.
            OneStepError: crise straight to normal.
            CrisisNotAllowedError: the plan of a territory breaks promises, and it has no leave for that.
            ConflictError: the level was changed since ``version`` was read, or is the one that stands.
        """
        covering = {code: scopes_over(self._geography, code) for code in self.checked(scope, who)}
        wish = Declaration(scope, drill, level, why, str(who.role), covering, version, proposal)
        now = self._clock.now()
        done = await self._book.declare(now, wish, lambda standing: self._turn(standing, now, drill=drill), once)
        document: dict[str, Any] = orjson.loads(done.document or "{}")
        if done.word == "conflict":
            raise ConflictError(_STATED.format(**document))
        if done.word in ("not_open", "not_found"):
            raise TooLateError("Cette proposition n'attend plus de réponse.")
        if done.word == "unchanged" and proposal is None:
            raise ConflictError(f"Ce périmètre est déjà au niveau « {level} » : rien n'a changé.")
        if done.word == "unchanged":
            return {"scope": scope, "level": level, "drill": drill, "territories": []}
        return document

    def _turn(self, at: Standing, now: datetime, *, drill: bool) -> Turned:
        """Decide what becomes of one territory."""
        rising = RANK[at.level] > RANK[at.was]
        wanted = wanted_at(at.level, at.plan, at.lends, leave=at.setting["crisis_allowed"], drill=drill)
        done = shift(flat(at.setting, at.ladder), at.applied, at.before, wanted, rising=rising)
        setting, ladder = nested(done.changes)
        entry = {
            "plan": at.plan is not None,
            "leave": at.setting["crisis_allowed"],
            # of a drill: what it would change
            "changes": done.changes,
            "kept": list(done.kept),
        }
        return Turned(
            setting, ladder, done.applied, done.before, entry, self._call(at, now, rising=rising, drill=drill)
        )

    def _call(self, at: Standing, now: datetime, *, rising: bool, drill: bool) -> Called | None:
        asked = ((at.plan or {}).get(at.level) or {}).get("call") if rising else None
        if not asked:
            return None
        until = now + timedelta(hours=asked.get("hours", CALL_HOURS))
        return Called(self._ids.uuid(), at.territory, drill, at.level, until, _marked(asked["text"], drill=drill))

    async def version(self, scope: str, *, drill: bool) -> int:
        """Return the version of the level of a scope, for ``declare``; 0: none was ever declared for it."""
        rows = await self._book.scopes([scope])
        return next((int(row["version"]) for row in rows if row["drill"] == drill), 0)

    async def standing(self, codes: Sequence[str]) -> list[dict[str, Any]]:
        """Return where territories stand: really, and in a drill where there is one."""
        rows = {(row["territory"], row["drill"]): row for row in await self._book.territories(codes)}
        return [_standing(code, rows.get((code, False)), rows.get((code, True))) for code in codes]

    async def territory(self, code: str) -> dict[str, Any]:
        """Return where a territory stands, by which scopes, and what levels have set of its settings."""
        (shown,) = await self.standing([code])
        scopes = await self._book.scopes(scopes_over(self._geography, code))
        # the narrowest first, as the scopes
        open_ones = sorted(await self._book.proposals([code], "open", 3), key=lambda p: len(p["territories"]))
        return {
            **shown,
            "scopes": [scope for scope in scopes if scope["level"] != Level.NORMAL],
            "plan": await self._book.plan(code),
            "proposal": open_ones[0] if open_ones else None,
        }

    async def log(
        self, scope: str | None, territory: str | None, before: int | None, limit: int
    ) -> list[dict[str, Any]]:
        """Return what was declared for a scope, or for any scope that a territory lies in, newest first."""
        scopes = scopes_over(self._geography, territory) if territory is not None else [str(scope)]
        return await self._book.log(scopes, before, limit)

    # -- plans

    async def plan(self, code: str) -> dict[str, Any]:
        """Return the plan of a territory; without one, levels are told and change nothing."""
        found = await self._book.plan(code)
        return found or {"territory": code, "plan": None, "version": 0, "changed_at": None}

    async def change_plan(
        self, code: str, plan: Mapping[str, Any], why: str, version: int | None, once: Idempotency
    ) -> dict[str, Any]:
        """Set the plan of a territory; it is in force from the next change of level on.

        Raises:
            InvalidInputError: it lends to a territory that does not exist, or to itself.
            ConflictError: it has another version than the one that was read.
        """
        for number, lent in enumerate(plan["lends"]):
            if lent["to"] not in self._geography.territories or lent["to"] == code:
                raise InvalidInputError.of(f"plan/lends/{number}/to", "indiquez un autre département")
        done = await self._book.change_plan(self._clock.now(), code, plan, why, version, once)
        document: dict[str, Any] = orjson.loads(done.document or "{}")
        if done.word == "conflict":
            raise ConflictError(f"Ce plan a changé entre-temps (version {document['version']}) : relisez-le.")
        return document

    async def plan_changes(self, code: str, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Return the versions of a plan, newest first, with who wrote them and why."""
        return await self._book.plan_changes(code, before, limit)

    # -- proposals

    async def proposals(self, codes: Sequence[str], state: str | None, limit: int) -> list[dict[str, Any]]:
        """Return what detection has proposed for scopes that some territories lie in, newest first."""
        return await self._book.proposals(codes, state, limit)

    async def _proposal(self, proposal_id: str, who: Steerer) -> dict[str, Any]:
        found = await self._book.proposal(proposal_id)
        if found is None or not any(map(who.sees, found["territories"])):
            raise NotFoundError("Proposition introuvable pour cette clé.")
        return found

    async def accept(self, proposal_id: str, why: str, who: Steerer, once: Idempotency) -> dict[str, Any]:
        """Declare the level that was proposed; what ``declare`` raises, and NotFoundError, TooLateError."""
        found = await self._proposal(proposal_id, who)
        return await self.declare(found["scope"], found["level"], why, who, once, proposal=proposal_id)

    async def refuse(self, proposal_id: str, why: str, who: Steerer, once: Idempotency) -> dict[str, Any]:
        """Refuse a proposal; the same level is not proposed again for an hour.

        Raises:
            NotFoundError: unknown, or of other territories.
            NotAllowedError: this key declares no level there.
            TooLateError: it was answered, or a level was declared meanwhile.
        """
        self.checked((await self._proposal(proposal_id, who))["scope"], who)
        done = await self._book.refuse(self._clock.now(), proposal_id, why, once)
        if done.word != "refused":
            raise TooLateError("Cette proposition n'attend plus de réponse.")
        document: dict[str, Any] = orjson.loads(done.document or "{}")
        return document

    # -- calls for extra capacity

    async def call(
        self, code: str, text: str, hours: int | None, who: Steerer, once: Idempotency, *, drill: bool
    ) -> dict[str, Any]:
        """Call for extra capacity in a territory: everybody who has consented to such calls hears it.

        Raises:
            NotAllowedError: this key declares no level there.
            ConflictError: the territory is at normal; in a drill: there is none.
        """
        self.checked(code, who)
        rows = [row for row in await self._book.territories([code]) if row["drill"] == drill]
        level = rows[0]["level"] if rows else Level.NORMAL
        if level == Level.NORMAL:
            what = "Aucun exercice n'est en cours" if drill else "Ce territoire est au niveau normal"
            raise ConflictError(f"{what} : déclarez d'abord tension ou crise.")
        now = self._clock.now()
        until = now + timedelta(hours=hours or CALL_HOURS)
        called = Called(self._ids.uuid(), code, drill, level, until, _marked(text, drill=drill))
        document: dict[str, Any] = orjson.loads((await self._book.call(now, called, once)).document or "{}")
        return document

    async def calls(self, codes: Sequence[str], limit: int) -> list[dict[str, Any]]:
        """Return the calls of the last month in some territories, newest first, with what was answered."""
        now = self._clock.now()
        return await self._book.calls(codes, now - timedelta(days=31), now + timedelta(seconds=1), None, limit)

    async def calls_to(
        self, source: str | None, professionals: Sequence[str], structures: Sequence[str], limit: int
    ) -> list[dict[str, Any]]:
        """Return the calls to a practice, newest first."""
        found = await self._book.calls_to(source, professionals, structures, None, limit)
        return [document for document, _ in found]

    async def answer_call(
        self,
        call_id: str,
        owner: tuple[str | None, Sequence[str], Sequence[str]],
        places: int | None,
        once: Idempotency,
    ) -> dict[str, Any]:
        """Answer a call: so many places are opened in addition (they are published as always), None for none.

        Raises:
            NotFoundError: unknown, or not to this practice.
            TooLateError: its time is over.
        """
        mine = [consent for _, consent in await self._book.calls_to(*owner, call_id, 200)]
        done = await self._book.answer_call(self._clock.now(), call_id, mine, places, once)
        if done.word == "not_found":
            raise NotFoundError("Appel introuvable pour cette clé.")
        if done.word == "too_late":
            raise TooLateError("Cet appel est terminé : publiez simplement vos places.")
        document: dict[str, Any] = orjson.loads(done.document or "{}")
        return document


def _marked(text: str, *, drill: bool) -> str:
    return f"{DRILL_MARK}{text}" if drill else text


def _standing(code: str, real: Mapping[str, Any] | None, drill: Mapping[str, Any] | None) -> dict[str, Any]:
    exercise = None
    if drill is not None and drill["level"] != Level.NORMAL:
        exercise = {"drill": True, "level": drill["level"], "since": drill["since"]}
    return {
        "territory": code,
        "drill": False,
        "level": Level.NORMAL if real is None else real["level"],
        "since": None if real is None else real["since"],
        "version": 0 if real is None else real["version"],
        "applied": {} if real is None else real["applied"],
        "before": {} if real is None else real["before"],
        "exercise": exercise,
    }
