"""The review after a crisis or a drill: what was asked, met and missed, and what was decided when, by whom and why.

Figures are counts; nothing in a review tells who a patient was.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Any, Final
from zoneinfo import ZoneInfo

from sas_matcher.domain.crisis import Level
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.domain.vocabulary import Tier
from sas_matcher.ports.world import Clock, Geography
from sas_matcher.services.crisis.book import CrisisBook
from sas_matcher.services.crisis.crises import scopes_over

LONGEST: Final = timedelta(days=120)  # a winter; more is asked for in parts
_MOST_ENTRIES: Final = 1_000  # of each list: a review is a page to be read
OUTCOMES: Final = ("met", "missed", "cancelled", "open")
OUTCOME_TEXT: Final = {"met": "servies", "missed": "sans place", "cancelled": "annulées", "open": "en cours"}


class Reviews:
    """Reviews of a crisis or a drill: what was asked, met and missed, and who decided what when."""

    def __init__(self, book: CrisisBook, clock: Clock, geography: Geography) -> None:
        self._book, self._clock, self._geography = book, clock, geography

    async def review(
        self, scope: str, members: Sequence[str], since: datetime | None, until: datetime | None, *, drill: bool
    ) -> dict[str, Any]:
        """Return the review of a scope.

        Args:
            scope: as declared.
            members: its territories.
            since: from when on; None: from when it last left normal on.
            until: up to when; None: when it came back to normal, or now.
            drill: of the drill, not of the real crisis.

        Raises:
            InvalidInputError: nothing was ever declared and no time is given, or the time is empty or too long.
        """
        log = [entry for entry in await self._entries(scope, members) if entry["drill"] == drill]
        began, ended = _last_crisis(log)
        since, until = since or began, until or ended or self._clock.now()
        if since is None:
            raise InvalidInputError.of("from", "aucun niveau n'a été déclaré ici : indiquez from et to")
        if not timedelta() < until - since <= LONGEST:
            raise InvalidInputError.of("to", f"après from, et {LONGEST.days} jours au plus")
        rows = await self._book.asked(members, since, until)
        inside = [entry for entry in reversed(log) if since <= _at(entry) <= until]
        zone = ZoneInfo(self._geography.territories[members[0]].timezone)
        return {
            "scope": scope,
            "drill": drill,
            "from": since,
            "to": until,
            "timezone": zone.key,
            "by_tier": {str(tier): _counts(row for row in rows if row["tier"] == tier) for tier in Tier},
            "by_territory": {code: _counts(row for row in rows if row["territory"] == code) for code in members},
            "missed_by_reason": _reasons(rows),
            "promises": {
                name: int(sum(row[name] or 0 for row in rows)) for name in ("broken", "moves", "lost_to_practice")
            },
            "by_hour": await self._book.by_hour(members, since, until),
            "places": await self._book.opened(members, since, until),
            "calls": await self._book.calls(members, since, until, drill, _MOST_ENTRIES),
            "proposals": [
                proposal
                for proposal in await self._book.proposals(members, None, _MOST_ENTRIES)
                if not drill and since <= _at(proposal) <= until
            ],
            "decided": inside,
            # in a drill the figures are those of the real requests meanwhile, which it left alone
            "note": "Exercice : les demandes réelles n'en ont pas été changées." if drill else None,
        }

    async def _entries(self, scope: str, members: Sequence[str]) -> list[dict[str, Any]]:
        """Return what was declared that concerned the scope, newest first."""
        scopes = scopes_over(self._geography, members[0]) if scope in members else [scope]
        return await self._book.log(scopes, None, _MOST_ENTRIES)


def _at(entry: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(entry["at"])


def _last_crisis(log: Sequence[Mapping[str, Any]]) -> tuple[datetime | None, datetime | None]:
    """Return when the last crisis in a log (newest first) began, and ended (None: it stands)."""
    ended = None
    began = None
    for entry in log:
        if entry["level"] == Level.NORMAL:
            if began is not None:
                break
            ended = _at(entry)
        else:
            began = _at(entry)
            if entry["was"] == Level.NORMAL:
                break
    return began, ended


def _counts(rows: Any) -> dict[str, Any]:
    found = list(rows)
    counts: dict[str, Any] = {name: sum(row["number"] for row in found if row["outcome"] == name) for name in OUTCOMES}
    met = [row for row in found if row["outcome"] == "met" and row["median_s"] is not None]
    asked = sum(counts.values())
    decided = counts["met"] + counts["missed"]
    return {
        "asked": asked,
        **counts,
        "met_pct": round(100 * counts["met"] / decided, 1) if decided else None,
        # of several rows (territories) the worst: a mean of medians would say nothing
        "median_s": max((round(row["median_s"], 1) for row in met), default=None),
        "p95_s": max((round(row["p95_s"], 1) for row in met), default=None),
    }


def _reasons(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        if row["outcome"] == "missed":
            by_reason = found.setdefault(row["tier"], {})
            by_reason[row["reason"]] = by_reason.get(row["reason"], 0) + row["number"]
    return found


# -- printable ---------------------------------------------------------------------------------------------------------

_STYLE: Final = """
body{font:11pt/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#161616}
h1{font-size:18pt;margin:0}h2{font-size:13pt;margin:1.6rem 0 .4rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .5rem;border-bottom:1px solid #bbb}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.drill{border:3px solid #161616;padding:.4rem .8rem;font-weight:700}
@media print{body{margin:0;max-width:none}h2{break-after:avoid}tr{break-inside:avoid}}
"""


def printable(review: Mapping[str, Any]) -> str:
    """Return a review as one HTML page to be printed: no script, nothing loaded from elsewhere."""
    zone = ZoneInfo(review["timezone"])

    def when(value: Any) -> str:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return f"{at.astimezone(zone):%d/%m/%Y %H h %M}"

    drill = '<p class="drill">EXERCICE — aucun patient réel n\'a été déplacé.</p>' if review["drill"] else ""
    parts = [
        f"<h1>Bilan de crise : {escape(review['scope'])}</h1>{drill}",
        f"<p>Du {when(review['from'])} au {when(review['to'])} ({escape(review['timezone'])}).</p>",
        "<h2>Ce qui a été demandé, par urgence</h2>",
        _table(
            ("Palier", "Demandes", *(OUTCOME_TEXT[name].capitalize() for name in OUTCOMES), "Servies %", "p95 min"),
            [
                (tier, row["asked"], *(row[name] for name in OUTCOMES), row["met_pct"], _minutes(row["p95_s"]))
                for tier, row in review["by_tier"].items()
            ],
        ),
        "<h2>Sans place : pourquoi</h2>",
        _table(
            ("Palier", "Motif", "Demandes"),
            [(tier, reason, n) for tier, by in review["missed_by_reason"].items() for reason, n in sorted(by.items())],
        ),
        "<h2>Promesses</h2>",
        f"<p>{review['promises']['broken']} rompue(s), {review['promises']['moves']} déplacée(s) en silence, "
        f"{review['promises']['lost_to_practice']} reprise(s) par un cabinet.</p>",
        "<h2>Ce qui a été décidé, quand et par qui</h2>",
        _table(
            ("Quand", "Périmètre", "Niveau", "Par", "Pourquoi"),
            [
                (when(e["at"]), e["scope"], f"{e['was']} → {e['level']}", f"{e['role']} ({e['key_id']})", e["why"])
                for e in review["decided"]
            ],
        ),
        "<h2>Propositions de la détection</h2>",
        _table(
            ("Quand", "Périmètre", "Niveau", "Réponse", "Signes"),
            [
                (when(p["at"]), p["scope"], p["level"], p["state"], " ; ".join(p["reasons"]))
                for p in review["proposals"]
            ],
        ),
        "<h2>Appels aux cabinets</h2>",
        _table(
            ("Quand", "Territoire", "Appelés", "Oui", "Non", "Places", "Texte"),
            [
                (when(c["at"]), c["territory"], c["called"], c["yes"], c["no"], c["places"], c["text"])
                for c in review["calls"]
            ],
        ),
        "<h2>Heure par heure</h2>",
        _table(
            ("Heure", "Demandes", "Servies", "Sans place"),
            [(when(h["hour"]), h["asked"], h["met"], h["missed"]) for h in review["by_hour"]],
        ),
    ]
    title = f"Bilan de crise {escape(review['scope'])}{' (exercice)' if review['drill'] else ''}"
    return (
        f'<!doctype html><html lang="fr"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<body>{''.join(parts)}</body></html>"
    )


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds / 60, 1)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return "<p>Rien.</p>"

    def cell(value: Any, tag: str) -> str:
        text = "—" if value is None else str(value).replace(".", ",") if isinstance(value, float) else str(value)
        kind = ' class="n"' if isinstance(value, int | float) else ""
        return f"<{tag}{kind}>{escape(text)}</{tag}>"

    titles = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = "".join(f"<tr>{''.join(cell(value, 'td') for value in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"
