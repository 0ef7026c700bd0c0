"""Levels, plans, proposals and calls in PostgreSQL (port ``CrisisBook``), over the ledger's pool."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

import orjson

from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.queries import load_queries
from adapters.postgres.transactions import announcements
from sas_matcher.domain.alert import Figures
from sas_matcher.domain.crisis import Level, check_step, highest
from sas_matcher.domain.errors import CrisisNotAllowedError
from sas_matcher.domain.policy import DEFAULT_SETTING
from sas_matcher.ports.ledger import Announcement, Idempotency, Outcome
from sas_matcher.services.crisis.book import Called, Declaration, Proposed, Standing, Turn

_QUERIES: Final = load_queries(files("adapters.postgres").joinpath("crisis.sql").read_text(encoding="utf-8"))


class PostgresCrisis:
    """The tables of ``009_crisis.sql``."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger

    async def _run(self, name: str, *args: Any) -> list[Any]:
        return await self._ledger.fetch(_QUERIES[name], *args)

    async def _documents(self, name: str, *args: Any) -> list[dict[str, Any]]:
        return [orjson.loads(row["document"]) for row in await self._run(name, *args)]

    # -- levels

    async def declare(self, now: datetime, wish: Declaration, turn: Turn, once: Idempotency) -> Outcome:
        """Declare a level: words and document as in the port."""

        async def work(connection: Any) -> tuple[Outcome, list[Announcement]]:
            return await _Declaring(connection, now, wish, turn, once.key_id).run()

        return await self._ledger.work_once(now, work, once)

    async def scopes(self, scopes: Sequence[str]) -> list[dict[str, Any]]:
        """Return the levels of some scopes, real ones and drills."""
        return [dict(row) for row in await self._run("scopes", list(scopes))]

    async def territories(self, codes: Sequence[str]) -> list[dict[str, Any]]:
        """Return where some territories stand, really and in drills."""
        rows = [dict(row) for row in await self._run("territories", list(codes))]
        return [{**row, **{name: orjson.loads(row[name]) for name in ("applied", "before")}} for row in rows]

    async def log(self, scopes: Sequence[str], before: int | None, limit: int) -> list[dict[str, Any]]:
        """Return what was declared for some scopes, newest first."""
        return await self._documents("log", list(scopes), before, limit)

    # -- plans

    async def plan(self, territory: str) -> dict[str, Any] | None:
        """Return the plan of a territory that has one."""
        found = await self._documents("plan", territory)
        return found[0] if found else None

    async def change_plan(
        self, now: datetime, territory: str, plan: Mapping[str, Any], why: str, version: int | None, once: Idempotency
    ) -> Outcome:
        """Set a plan: changed, unchanged or conflict."""
        args = (territory, once.key_id, orjson.dumps(plan).decode(), why, version)
        return await self._ledger.change_once(_QUERIES["change_plan"], now, args, once)

    async def plan_changes(self, territory: str, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Return the versions of a plan, newest first."""
        return await self._documents("plan_changes", territory, before, limit)

    # -- proposals

    async def figures(self, now: datetime, codes: Sequence[str]) -> dict[str, tuple[Figures, str]]:
        """Return what detection looks at, and the level that stands, by territory."""
        return {
            row["territory"]: (
                Figures(row["arrivals"], row["forecast"], min(1.0, row["oldest_share"]), row["closed"], row["unmet"]),
                row["level"],
            )
            for row in await self._run("figures", now, list(codes))
        }

    async def propose(self, now: datetime, proposed: Proposed, quiet_since: datetime) -> str:
        """Propose a level: proposed, open or quiet."""
        row = await self._ledger.change(
            _QUERIES["propose"],
            now,
            proposed.id,
            proposed.scope,
            list(proposed.territories),
            proposed.was,
            proposed.level,
            orjson.dumps(proposed.figures._asdict()).decode(),
            list(proposed.reasons),
            quiet_since,
            bulk=False,
        )
        word: str = row["outcome"]
        return word

    async def proposal(self, proposal_id: str) -> dict[str, Any] | None:
        """Return a proposal."""
        found = await self._documents("proposal", proposal_id)
        return found[0] if found else None

    async def proposals(self, codes: Sequence[str], state: str | None, limit: int) -> list[dict[str, Any]]:
        """Return proposals for scopes that some territories lie in, newest first."""
        return await self._documents("proposals", list(codes), state, limit)

    async def refuse(self, now: datetime, proposal_id: str, why: str, once: Idempotency) -> Outcome:
        """Refuse a proposal: refused, not_open or not_found."""
        args = (proposal_id, once.key_id, "refused", why)
        return await self._ledger.change_once(_QUERIES["answer_proposal"], now, args, once)

    # -- calls

    async def call(self, now: datetime, called: Called, once: Idempotency) -> Outcome:
        """Call the practices of a territory that have consented."""
        args = (called.id, called.territory, called.drill, called.level, called.until, called.text, once.key_id)
        return await self._ledger.change_once(_QUERIES["call"], now, args, once)

    async def calls_to(
        self,
        source: str | None,
        professionals: Sequence[str],
        structures: Sequence[str],
        call_id: str | None,
        limit: int,
    ) -> list[tuple[dict[str, Any], int]]:
        """Return the calls to a practice, newest first, with the consent that each came by."""
        rows = await self._run("calls_to", source, list(professionals), list(structures), call_id, limit)
        return [(orjson.loads(row["document"]), row["id"]) for row in rows]

    async def answer_call(
        self, now: datetime, call_id: str, consents: Sequence[int], places: int | None, once: Idempotency
    ) -> Outcome:
        """Answer a call: yes, no, too_late or not_found."""
        return await self._ledger.change_once(_QUERIES["answer_call"], now, (call_id, list(consents), places), once)

    async def calls(
        self, codes: Sequence[str], since: datetime, until: datetime, drill: bool | None, limit: int
    ) -> list[dict[str, Any]]:
        """Return the calls of some territories in a time, newest first, with what was answered."""
        return await self._documents("calls", list(codes), since, until, drill, limit)

    # -- review

    async def asked(self, codes: Sequence[str], since: datetime, until: datetime) -> list[dict[str, Any]]:
        """Return what was asked in a time and what came of it, by territory, tier, outcome and reason."""
        return [dict(row) for row in await self._run("asked", list(codes), since, until)]

    async def by_hour(self, codes: Sequence[str], since: datetime, until: datetime) -> list[dict[str, Any]]:
        """Return what was asked, met and missed, hour by hour."""
        return [dict(row) for row in await self._run("by_hour", list(codes), since, until)]

    async def opened(self, codes: Sequence[str], since: datetime, until: datetime) -> list[dict[str, Any]]:
        """Return the places that begin in a time, by territory."""
        return [dict(row) for row in await self._run("opened", list(codes), since, until)]


class _Declaring:
    """One declaration in its transaction."""

    def __init__(self, connection: Any, now: datetime, wish: Declaration, turn: Turn, key_id: str) -> None:
        self._connection, self._now, self._wish, self._turn, self._key_id = connection, now, wish, turn, key_id
        self._said: list[Announcement] = []

    async def _rows(self, name: str, *args: Any) -> list[Any]:
        rows: list[Any] = await self._connection.fetch(_QUERIES[name], *args)
        return rows

    def _hear(self, row: Any) -> None:
        self._said += announcements(row["published"])

    async def run(self) -> tuple[Outcome, list[Announcement]]:
        """Declare."""
        wish, now = self._wish, self._now
        await self._rows("lock")
        known = await self._rows("scope", wish.scope, wish.drill)
        was, version = (known[0]["level"], known[0]["version"]) if known else (str(Level.NORMAL), 0)
        if wish.version not in (None, version):
            return Outcome("conflict", orjson.dumps({"level": was, "version": version}).decode()), []
        if wish.proposal is not None:
            answered = (await self._rows("answer_proposal", now, wish.proposal, self._key_id, "accepted", wish.why))[0]
            if answered["outcome"] != "accepted":
                return Outcome(answered["outcome"], answered["document"]), []
            self._hear(answered)
        if was == wish.level:
            return Outcome("unchanged", orjson.dumps({"level": was, "version": version}).decode()), self._said
        check_step(was, wish.level)
        await self._rows("put_scope", now, wish.scope, wish.drill, wish.level, version + 1, self._key_id, wish.why)
        if not wish.drill:
            self._hear((await self._rows("supersede", now, wish.scope, list(wish.covering), wish.level))[0])
        levels = {row["scope"]: row["level"] for row in await self._rows("levels", wish.drill)}
        moved = []
        for territory in sorted(wish.covering):
            level = highest(levels[scope] for scope in wish.covering[territory] if scope in levels)
            if (entry := await self._move(territory, level)) is not None:
                moved.append(entry)
        written = await self._rows(
            "write_log",
            now,
            wish.scope,
            wish.drill,
            version + 1,
            self._key_id,
            wish.role,
            was,
            wish.level,
            wish.why,
            wish.proposal,
            orjson.dumps(moved).decode(),
        )
        return Outcome("changed", written[0]["document"]), self._said

    async def _move(self, territory: str, level: Level) -> dict[str, Any] | None:
        """Bring a territory to a level; returns what changed, None where it stands there already."""
        wish, now = self._wish, self._now
        rows = await self._rows("territory", territory, wish.drill)
        was, version = (rows[0]["level"], rows[0]["version"]) if rows else (str(Level.NORMAL), 0)
        if was == level:
            return None
        setting = await self._rows("setting", territory)
        ladder = await self._rows("ladder", territory)
        plan = await self._rows("plan", territory)
        done = self._turn(
            Standing(
                territory=territory,
                was=was,
                level=level,
                setting=orjson.loads(setting[0]["document"]) if setting else {**DEFAULT_SETTING},
                ladder=orjson.loads(ladder[0]["steps"]) if ladder else [],
                plan=orjson.loads(plan[0]["document"])["plan"] if plan else None,
                lends={row["territory"]: row["pct"] for row in await self._rows("lends", territory)},
                applied=orjson.loads(rows[0]["applied"]) if rows else {},
                before=orjson.loads(rows[0]["before"]) if rows else {},
            )
        )
        if not wish.drill:
            await self._apply(territory, done.setting, done.ladder)
        # of a drill nothing was applied, so that nothing is left to be restored
        applied, before = ({}, {}) if wish.drill else (done.applied, done.before)
        await self._rows(
            "put_territory",
            now,
            territory,
            wish.drill,
            level,
            orjson.dumps(applied).decode(),
            orjson.dumps(before).decode(),
            version + 1,
        )
        entry = {"territory": territory, "was": was, "level": level, **done.entry}
        told = {**entry, "scope": wish.scope, "drill": wish.drill, "why": wish.why, "at": now, "role": wish.role}
        aggregate = f"crisis:{territory}{':drill' if wish.drill else ''}"
        data = orjson.dumps({**told, "version": version + 1}).decode()
        self._hear(
            (await self._rows("tell", now, territory, "crisis.changed", aggregate, version + 1, self._key_id, data))[0]
        )
        if not wish.drill:
            self._hear((await self._rows("supersede", now, territory, [], level))[0])
        if done.call is not None:
            call = done.call
            args = (call.id, territory, wish.drill, level, call.until, call.text, self._key_id)
            self._hear((await self._rows("call", now, *args))[0])
        return entry

    async def _apply(self, territory: str, setting: Mapping[str, Any], ladder: Sequence[Any] | None) -> None:
        why = f"{self._wish.level} ({self._wish.scope}) : {self._wish.why}"
        if setting:
            named = orjson.dumps(setting).decode()
            sql = "select * from change_setting($1, $2, $3, $4, $5, null)"
            done = await self._connection.fetchrow(sql, self._now, territory, self._key_id, named, why)
            if done["outcome"] == "crisis_not_allowed":
                # a law of the territory, whatever its plan says
                raise CrisisNotAllowedError("La crise n'est pas permise dans ce territoire (crisis_allowed, ARS).")
            self._hear(done)
        if ladder is not None:
            steps = orjson.dumps(ladder).decode()
            sql = "select * from change_ladder($1, $2, $3, $4, $5, null)"
            self._hear(await self._connection.fetchrow(sql, self._now, territory, self._key_id, steps, why))
