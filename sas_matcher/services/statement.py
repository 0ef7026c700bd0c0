"""What taking part gives back: hours offered and filled, patients who are not one's own, facts of each act's pay.

Per professional and per structure, and per ISO week on the clock of the place. The pay of an act in a centre de santé
goes to the centre, that of any other to the professional. Nothing here says who a patient is.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sas_matcher.domain.duty import regime, week_of
from sas_matcher.domain.errors import TooLargeError
from sas_matcher.domain.vocabulary import SourceKind
from sas_matcher.ports.practice import Act, Offered, Owners, StatementBook, Window
from sas_matcher.ports.world import Clock, Geography

MOST_ROWS: Final = 20_000  # slots, or acts, of one statement: a quarter of a centre of thirty
RULE_HOURS: Final = 2.0
"""Hours a week in the SAS's agenda that the forfait asks of a general practitioner (avenant 9)."""
WITHIN: Final = timedelta(hours=48)
"""From regulation to the act, for the SNP supplement."""
ACT_COLUMNS: Final = (
    *("booking_id", "week", "start", "professional", "structure", "profession", "mode", "en_sus", "outcome"),
    *("regulated_at", "regulator", "by_sas", "not_own_patient", "within_48h", "outside_pdsa", "supplement", "paid_to"),
)
WEEK_COLUMNS: Final = (
    *("kind", "id", "name", "week", "hours_offered", "hours_filled", "two_hours", "patients", "own", "not_own"),
    *("unknown", "en_sus", "noshow", "supplements", "to_check"),
)


@dataclass(slots=True)
class _Row:
    """One professional or structure in one week."""

    name: str | None = None
    spans: list[tuple[datetime, datetime]] = field(default_factory=list)
    filled_s: float = 0.0
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class Statements:
    """The practice's use case: read what it gets back."""

    def __init__(self, book: StatementBook, clock: Clock, geography: Geography) -> None:
        self._book, self._clock, self._geography = book, clock, geography

    async def of(self, owners: Owners, window: Window) -> dict[str, Any]:
        """Return a statement: ``weeks`` (``WEEK_COLUMNS``) and ``acts`` (``ACT_COLUMNS``).

        Raises:
            TooLargeError: more than ``MOST_ROWS`` slots or acts.
        """
        acts = await self._book.acts(owners, window, MOST_ROWS + 1)
        offered = await self._book.offered(owners, window, MOST_ROWS + 1)
        if max(len(acts), len(offered)) > MOST_ROWS:
            raise TooLargeError(f"Plus de {MOST_ROWS} créneaux : demandez une période plus courte.")
        facts = [facts_of(act, self._zone(act.territory)) for act in acts]
        return {
            "from": window[0].isoformat(),
            "to": window[1].isoformat(),
            "weeks": weeks_of(offered, acts, facts, self._clock.now(), self._zone, owners),
            "acts": facts,
        }

    def _zone(self, territory: str) -> str:
        return self._geography.territories[territory].timezone


def facts_of(act: Act, zone: str) -> dict[str, Any]:
    """Return an act with the four facts that its supplement asks, and what follows from them; None where one is open.

    Regulated by the SAS is every act that came this way: only a regulator's key asks for a place.
    """
    not_own = {"yes": False, "no": True}.get(act.own)
    facts = {
        "by_sas": True,
        "not_own_patient": not_own,
        "within_48h": act.starts - act.regulated_at <= WITHIN,
        "outside_pdsa": regime(act.starts, zone, act.insee) == "sas",
    }
    seen = act.state != "noshow"
    decided = seen and all(value is not False for value in facts.values())
    centre = act.source_kind == SourceKind.CDS and act.structure is not None
    return {
        "booking_id": act.booking_id,
        "week": week_of(act.starts, zone)[0],
        "start": act.starts.isoformat(),
        "professional": act.professional,
        "structure": act.structure,
        "profession": act.profession,
        "mode": act.mode,
        "en_sus": act.en_sus,
        "outcome": act.state,
        "regulated_at": act.regulated_at.isoformat(),
        "regulator": act.role,
        **facts,
        "supplement": (None if not_own is None else True) if decided else False,
        "paid_to": f"structure:{act.structure}" if centre else f"professional:{act.professional}",
    }


def weeks_of(
    offered: Sequence[Offered],
    acts: Sequence[Act],
    facts: Sequence[Mapping[str, Any]],
    now: datetime,
    zone_of: Callable[[str], str],
    owners: Owners,
) -> list[dict[str, Any]]:
    """Return a row for each professional or structure and week.

    Hours offered are the union of the slots' times (overlapping ones are alternatives); a plage is filled by the share
    of its patients. Patients count once their place has begun. Of others than ``owners`` nothing is said.
    """
    rows: dict[tuple[str, str, str], _Row] = defaultdict(_Row)
    mine = _Mine(owners)
    for slot in offered:
        week = week_of(slot.starts, zone_of(slot.territory))[0]
        for kind, number, name in mine.of(slot):
            row = rows[kind, number, week]
            row.name = row.name or name
            row.spans.append((slot.starts, slot.ends))
            row.filled_s += (slot.ends - slot.starts).total_seconds() * min(1.0, slot.taken / slot.capacity)
    for act, fact in zip(acts, facts, strict=True):
        for kind, number, name in mine.of(act):
            row = rows[kind, number, fact["week"]]
            row.name = row.name or name
            if act.starts > now:
                continue
            row.counts["noshow"] += act.state == "noshow"
            if act.state == "noshow":
                continue
            row.counts["patients"] += 1
            row.counts[{"yes": "own", "no": "not_own"}.get(act.own, "unknown")] += 1
            row.counts["en_sus"] += act.en_sus
            if fact["paid_to"] == f"{kind}:{number}":
                row.counts["supplements"] += fact["supplement"] is True
                row.counts["to_check"] += fact["supplement"] is None
    return [_shown(key, row) for key, row in sorted(rows.items())]


class _Mine:
    """Which of the professional and the structure of a place a key may read about."""

    def __init__(self, owners: Owners) -> None:
        self._source, self._professionals, self._structures = owners[0], set(owners[1]), set(owners[2])

    def of(self, place: Act | Offered) -> Iterable[tuple[str, str, str | None]]:
        """Yield (kind, number, name): of a source all, else the key's; who runs a structure sees who works there."""
        in_structure = place.structure in self._structures
        if place.professional and (self._source or in_structure or place.professional in self._professionals):
            yield "professional", place.professional, place.professional_name
        if place.structure and (self._source or in_structure):
            yield "structure", place.structure, place.structure_name


def _shown(key: tuple[str, str, str], row: _Row) -> dict[str, Any]:
    kind, number, week = key
    offered = _union_s(row.spans) / 3600
    counted = ("patients", "own", "not_own", "unknown", "en_sus", "noshow", "supplements", "to_check")
    return {
        "kind": kind,
        "id": number,
        "name": row.name,
        "week": week,
        "hours_offered": round(offered, 2),
        "hours_filled": round(min(offered, row.filled_s / 3600), 2),
        "two_hours": offered >= RULE_HOURS,
        **{name: row.counts[name] for name in counted},
    }


def _union_s(spans: Iterable[tuple[datetime, datetime]]) -> float:
    """Return the seconds that lie in any of some spans."""
    total, until = 0.0, None
    for start, end in sorted(spans):
        begin = start if until is None or start > until else until
        if end > begin:
            total += (end - begin).total_seconds()
            until = end
    return total


def as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as a table that a French spreadsheet opens: semicolons, ``oui``/``non``, a first line of titles."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in columns])
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "oui" if value else "non"
    if isinstance(value, float):
        return f"{value:g}".replace(".", ",")
    text = str(value)
    # a name that a practice published must not become a formula (OWASP CSV injection)
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
