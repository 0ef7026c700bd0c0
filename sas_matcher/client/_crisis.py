"""Calls about crises: levels, plans, proposals, calls for extra capacity, reviews."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sas_matcher.client._calls import Calls
from sas_matcher.client._documents import Json


class CrisisCalls(Calls):
    """The calls about crises; part of ``SasClient``. Documents are as docs/crisis.md says; a drill's say ``drill``."""

    async def crisis_levels(self, territory: str | None = None) -> list[Json]:
        """Return where the territories of this key stand, and in ``exercise`` the drill beside it."""
        found: list[Json] = (await self.call("GET", "/v1/crisis", query={"territory": territory}))["territories"]
        return found

    async def crisis(self, territory: str) -> Json:
        """Return the level of a territory, by which scopes, its plan, and what levels have set of its settings."""
        document: Json = await self.call("GET", f"/v1/territories/{territory}/crisis")
        return document

    async def declare_level(
        self,
        scope: str,
        level: str,
        why: str,
        *,
        drill: bool = False,
        version: int | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Declare a level.

        Args:
            scope: A territory, ``region:…`` or ``nation``.
            level: ``normal``, ``tension`` or ``crise``; down one step at a time (``one_step``).
            why: Kept in the log; no patient's identity.
            drill: Changes nothing for anybody, and says so everywhere.
            version: Of the scope's level that was read; ``conflict`` when there is another since.
            idempotency_key: Of this declaration; made when missing.
        """
        body: dict[str, Any] = {"scope": scope, "level": level, "why": why, "drill": drill}
        body |= {} if version is None else {"version": version}
        document: Json = await self._act("/v1/crisis", body, idempotency_key)
        return document

    async def crisis_log(
        self, *, territory: str | None = None, scope: str | None = None, before: int | None = None, limit: int = 50
    ) -> Json:
        """Return what was declared for a scope, or concerned a territory, newest first; ``next_before`` leads on."""
        query = {"territory": territory, "scope": scope, "before": before, "limit": limit}
        document: Json = await self.call("GET", "/v1/crisis/log", query=query)
        return document

    async def crisis_plan(self, territory: str) -> Json:
        """Return the prepared plan of a territory."""
        document: Json = await self.call("GET", f"/v1/territories/{territory}/crisis/plan")
        return document

    async def change_crisis_plan(
        self,
        territory: str,
        plan: Mapping[str, Any],
        why: str,
        *,
        version: int | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Replace the plan of a territory; in force from the next change of level on."""
        body = {"plan": dict(plan), "why": why} | ({} if version is None else {"version": version})
        path = f"/v1/territories/{territory}/crisis/plan"
        document: Json = await self._act(path, body, idempotency_key, method="PUT")
        return document

    async def crisis_proposals(self, *, territory: str | None = None, state: str | None = None) -> list[Json]:
        """Return the levels that detection has proposed, newest first, with the figures behind them."""
        query = {"territory": territory, "state": state}
        found: list[Json] = (await self.call("GET", "/v1/crisis/proposals", query=query))["proposals"]
        return found

    async def accept_proposal(self, proposal_id: str, why: str, *, idempotency_key: str | None = None) -> Json:
        """Declare the level that was proposed."""
        document: Json = await self._act(f"/v1/crisis/proposals/{proposal_id}/accept", {"why": why}, idempotency_key)
        return document

    async def refuse_proposal(self, proposal_id: str, why: str, *, idempotency_key: str | None = None) -> Json:
        """Refuse a proposal; the same level is not proposed again for an hour."""
        document: Json = await self._act(f"/v1/crisis/proposals/{proposal_id}/refuse", {"why": why}, idempotency_key)
        return document

    async def call_practices(
        self,
        territory: str,
        text: str,
        *,
        hours: int | None = None,
        drill: bool = False,
        idempotency_key: str | None = None,
    ) -> Json:
        """Call for extra capacity: everybody there who has consented to such calls."""
        body: dict[str, Any] = {"text": text, "drill": drill} | ({} if hours is None else {"hours": hours})
        document: Json = await self._act(f"/v1/territories/{territory}/crisis/calls", body, idempotency_key)
        return document

    async def crisis_calls(self, *, territory: str | None = None) -> list[Json]:
        """Return the calls that came to this practice; for who steers, those made, with what was answered."""
        found: list[Json] = (await self.call("GET", "/v1/crisis/calls", query={"territory": territory}))["calls"]
        return found

    async def answer_crisis_call(self, call_id: str, places: int | None, *, idempotency_key: str | None = None) -> Json:
        """Say how many places are opened in addition; ``None`` says that there are none."""
        body = {} if places is None else {"places": places}
        document: Json = await self._act(f"/v1/crisis/calls/{call_id}/answer", body, idempotency_key)
        return document

    async def crisis_review(
        self, scope: str, *, since: datetime | None = None, until: datetime | None = None, drill: bool = False
    ) -> Json:
        """Return what was asked, met and missed in the last crisis of a scope (or in a time), and what was decided."""
        query = {
            "scope": scope,
            "from": None if since is None else since.isoformat(),
            "to": None if until is None else until.isoformat(),
            "drill": "true" if drill else "false",
        }
        document: Json = await self.call("GET", "/v1/crisis/review", query=query)
        return document
