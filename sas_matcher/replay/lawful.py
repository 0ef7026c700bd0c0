"""An independent judge of replays: it reads a day log and a result, trusts neither, and can convict the engine.

Plain Python that shares nothing with ``matching`` and ``solver``: every rule of the day log is written here a second
time. A rule convicts only where no lawful run could have written the line; what a result does not tell (the places
that cancelled requests held for a while, the seats behind promises) is taken in favour of the engine.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, time, timedelta
from itertools import pairwise
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from sas_matcher.replay.daylog import DayLog, Instant, RequestCreated, Slot, SlotPublished
from sas_matcher.replay.facts import EPSILON, Facts, distance_km

POLICIES: Final = frozenset({"fcfs-nearest", "official", "firm", "promise", "crisis", "auto"})
PROMISING: Final = frozenset({"promise", "crisis", "auto"})
STATUSES: Final = frozenset({"served", "unserved", "cancelled"})
REASONS: Final = (
    "NO_SLOT_FOR_PROFESSION",
    "MODE_NOT_OFFERED",
    "NEED_NOT_OFFERED",
    "NO_SLOT_IN_RADIUS",
    "NO_SLOT_BEFORE_DEADLINE",
    "ALL_TAKEN",
)

SAME_INSTANT_S: Final = 1.0
"""A live decision made within a second of its request counts as made in its instant."""

OFFICIAL_PAGE: Final = 100
"""Cards on one page of the national engine (field notes on it)."""

OFFICIAL_DAYS: Final = 2
"""It shows the slots up to the end of the day after tomorrow."""

SECOND: Final = 1.0
"""Results may write instants to the whole second, so leads are judged with that slack; the format's sample has a
booking made firm 1 863 s before the start, 1 863.4 s away."""


class Row(NamedTuple):
    """One readable line of a result."""

    line: int
    request_id: str
    status: str
    slot_id: str | None
    firm_at: Instant | None
    first_promised_at: Instant | None
    moves: int
    broken_promises: int
    refusals: int
    reason: str | None


class Violation(NamedTuple):
    """A broken rule: its code, the request (None where the line names none), the line, and a French sentence."""

    rule: str
    request_id: str | None
    line: int
    text: str


# --- reading


def _fields(record: object) -> str | tuple[Any, ...]:
    """The fields of ``Row`` after its line number, or what is wrong with them."""
    if not isinstance(record, dict):
        return "un objet JSON est attendu"
    values: list[Any] = []
    for key in Row._fields[1:]:
        if key not in record:
            return f"clé « {key} » manquante"
        value = record[key]
        if key in ("moves", "broken_promises", "refusals"):
            wrong = type(value) is not int or value < 0
        elif key in ("request_id", "status"):
            wrong = type(value) is not str
        else:
            wrong = value is not None and type(value) is not str
        if not wrong and key in ("firm_at", "first_promised_at") and value is not None:
            try:
                value = Instant.parse(value)
            except (ValueError, OverflowError):
                wrong = True
        if wrong:
            return f"« {key} » : valeur incorrecte"
        values.append(value)
    return tuple(values)


def _read(lines: Iterable[bytes], found: list[Violation]) -> list[Row]:
    rows = []
    for line, text in enumerate(lines, 1):
        try:
            record = orjson.loads(text)
        except orjson.JSONDecodeError:
            found.append(Violation("UNREADABLE", None, line, "JSON illisible"))
            continue
        fields = _fields(record)
        if isinstance(fields, str):
            name = record.get("request_id") if isinstance(record, dict) else None
            found.append(Violation("FIELD", name if isinstance(name, str) else None, line, fields))
        else:
            rows.append(Row(line, *fields))
    return rows


def _check_lines(day: Facts, rows: list[Row]) -> Iterator[Violation]:
    """One line for each request of the day, in order of creation."""
    seen: set[str] = set()
    place = {name: number for number, name in enumerate(day.requests)}
    last = -1
    for row in rows:
        if row.request_id not in place:
            yield Violation("UNKNOWN_REQUEST", row.request_id, row.line, "demande inconnue du journal")
        elif row.request_id in seen:
            yield Violation("TWICE", row.request_id, row.line, "demande donnée deux fois : une seule place chacune")
        else:
            seen.add(row.request_id)
            if place[row.request_id] < last:
                yield Violation("ORDER", row.request_id, row.line, "ligne hors de l'ordre de création")
            last = max(last, place[row.request_id])
    for name in place:
        if name not in seen:
            yield Violation("MISSING", name, len(rows), "aucune ligne pour cette demande")


# --- the rules of one line

Fault = tuple[str, str]


def _check_status(day: Facts, row: Row) -> Iterator[Fault]:
    """The status, and what it allows in the other fields."""
    if row.status not in STATUSES:
        yield "STATUS", f"statut « {row.status} » inconnu"
        return
    cancelled = row.request_id in day.cancelled_at
    if cancelled and row.status != "cancelled":
        yield "CANCELLED", "demande annulée dans le journal, donnée autrement"
    if row.status == "cancelled" and not cancelled:
        yield "CANCELLED", "le journal n'annule pas cette demande"
    if row.status == "served":
        if row.slot_id is None or row.firm_at is None:
            yield "STATUS", "servie sans créneau ou sans instant ferme"
        if row.reason is not None:
            yield "REASON", "servie avec un motif"
    else:
        if row.slot_id is not None or row.firm_at is not None:
            yield "STATUS", "créneau ou instant ferme sans être servie"
        if row.status == "unserved" and row.reason not in REASONS:
            yield "REASON", f"motif « {row.reason} » inconnu"
        if row.status == "cancelled" and row.reason is not None:
            yield "REASON", "annulée avec un motif"


def _check_place(day: Facts, row: Row, policy: str) -> Iterator[Fault]:
    """The place of a served request: is it real, does it fit, was it made firm in time."""
    made = day.requests[row.request_id]
    published = day.slots.get(row.slot_id or "")
    if published is None:
        yield "UNKNOWN_SLOT", f"créneau « {row.slot_id} » inconnu du journal"
        return
    slot, firm = published.slot, row.firm_at
    if (why := day.misfit(made, published)) is not None:
        yield "MISFIT", why
    if slot.refused_after_min is not None:
        yield "PHANTOM", "le créneau est fantôme : la réservation a été refusée"
    if slot.id in day.withdrawn_at:
        yield "WITHDRAWN", "le créneau a été retiré, et la réservation avec lui"
    if firm is None:
        return
    if firm < made.t:
        yield "TOO_EARLY", "ferme avant d'être demandée"
    if firm < published.t:
        yield "NOT_PUBLISHED", "ferme avant la publication du créneau"
    lead = slot.start - firm
    if lead < 60 * day.travel_min(made.request, slot) - SECOND:
        yield "TRAVEL", f"ferme {lead / 60:.1f} min avant le début : moins que le trajet"
    promised = row.first_promised_at is not None and row.first_promised_at < firm
    noticed = policy in ("promise", "crisis") or (policy == "auto" and promised)
    later = firm - made.t > SAME_INSTANT_S
    if noticed and later and lead < 60 * day.meta.notice_min - SECOND:
        yield "NOTICE", f"ferme {lead / 60:.1f} min avant le début : moins que le préavis"
    if policy == "official" and later and not row.refusals:
        # who lost his place to a withdrawal searches once more, at that instant
        lost_at = (day.withdrawn_at[p.slot.id] for p in day.reachable(made) if p.slot.id in day.withdrawn_at)
        if not any(abs(firm - at) <= SECOND for at in lost_at):
            yield "POLICY", "« official » n'a pas de liste d'attente"


def _check_promise(day: Facts, row: Row, policy: str) -> Iterator[Fault]:
    """When the request was first promised, and whether there was a seat to promise."""
    made, promised = day.requests[row.request_id], row.first_promised_at
    if promised is None:
        if row.moves or row.broken_promises:
            yield "PROMISE", "promesse déplacée ou rompue sans avoir été faite"
        return
    if policy not in PROMISING:
        yield "POLICY", f"« {policy} » ne promet pas"
    if promised < made.t:
        yield "PROMISE", "promise avant d'être demandée"
    if row.firm_at is not None and promised > row.firm_at:
        yield "PROMISE", "promise après être devenue ferme"
    if promised > day.cancelled_at.get(row.request_id, math.inf):
        yield "PROMISE", "promise après son annulation"
    # in the instant of the call the place may be firm at once, later the patient has to be called back in time
    notice = 60 * day.meta.notice_min if promised - made.t > SAME_INSTANT_S else 0.0
    for slot in (published.slot for published in day.fitting(made)):
        lead = max(60 * day.travel_min(made.request, slot), notice) - SECOND
        free = day.shown(slot.id, promised) and day.capacity(slot.id, promised) > 0
        if free and slot.start - promised >= lead:
            return
    yield "PROMISE", "promise sans qu'aucune place ne convienne à cet instant"


def _check_counts(day: Facts, row: Row, policy: str) -> Iterator[Fault]:
    """Moves, broken promises and refusals: are they possible, and consistent with the rest of the line."""
    made = day.requests[row.request_id]
    fitting = day.reachable(made)
    if row.moves and len(fitting) < 2:
        yield "MOVES", "déplacée alors qu'un seul créneau au plus convenait"
    if row.firm_at == made.t and (row.moves or row.broken_promises or row.refusals):
        yield "MOVES", "ferme à l'instant de la demande, mais déplacée, rompue ou refusée auparavant"
    published = day.slots.get(row.slot_id or "")
    if row.first_promised_at is not None and published is not None and published.t > row.first_promised_at:
        steady = not any(day.unsteady(p.slot.id) for p in fitting)
        if steady and not (row.moves or row.broken_promises):
            yield "MOVES", "le créneau a été publié après la promesse, sans déplacement déclaré"
    if row.broken_promises:
        if policy != "crisis":
            yield "BROKEN", f"« {policy} » ne rompt aucune promesse"
        elif not any(
            day.rank[other.request.tier] < day.rank[made.request.tier]
            and other.request.profession == made.request.profession
            and other.t <= made.request.deadline
            and other.request.deadline >= (row.first_promised_at or made.t)
            for other in day.requests.values()
        ):
            yield "BROKEN", "promesse rompue sans demande plus urgente"
    refused = sorted(
        max(made.t, p.t) + 60 * p.slot.refused_after_min for p in fitting if p.slot.refused_after_min is not None
    )
    if row.refusals > len(refused):
        yield "REFUSALS", f"{row.refusals} refus, {len(refused)} créneau(x) fantôme(s) possible(s)"
    elif row.refusals and row.firm_at is not None and row.firm_at < refused[row.refusals - 1] - SECOND:
        yield "REFUSALS", "ferme avant que le refus n'ait pu arriver"


def possible_reasons(day: DayLog, made: RequestCreated) -> frozenset[str]:
    """The reason codes that are right for a request left unserved, under either reading of *before the deadline*.

    The first of ``REASONS`` that is true of the slots published by the deadline. Slots that start in time but too
    soon to travel to may be counted as before the deadline or not, so there can be two answers.
    """
    return _reasons(Facts(day), made)


def _reasons(day: Facts, made: RequestCreated) -> frozenset[str]:
    request = made.request
    left = [p for p in day.of_profession.get(request.profession, ()) if p.t <= request.deadline]
    narrower: tuple[tuple[str, Callable[[Slot], bool]], ...] = (
        ("NO_SLOT_FOR_PROFESSION", lambda slot: True),
        ("MODE_NOT_OFFERED", lambda slot: slot.mode in request.modes),
        ("NEED_NOT_OFFERED", lambda slot: set(request.needs) <= set(slot.offers)),
        ("NO_SLOT_IN_RADIUS", lambda s: s.mode == "tele" or distance_km(request, s) <= request.radius_km + EPSILON),
        ("NO_SLOT_BEFORE_DEADLINE", lambda slot: made.t <= slot.start <= request.deadline),
    )
    for code, passes in narrower:
        left = [p for p in left if passes(p.slot)]
        if not left:
            return frozenset({code})
    in_time = any(p in left for p in day.reachable(made))
    return frozenset({"ALL_TAKEN"} if in_time else {"ALL_TAKEN", "NO_SLOT_BEFORE_DEADLINE"})


# --- the rules between lines


def _check_capacity(day: Facts, served: list[Row]) -> Iterator[tuple[Row, Fault]]:
    """Places over time: whoever is made firm must find a place at the capacity of that instant."""
    of_slot: dict[str, list[Row]] = {}
    for row in served:
        of_slot.setdefault(row.slot_id or "", []).append(row)
    for slot_id, rows in of_slot.items():
        rows.sort(key=lambda row: row.firm_at or 0.0)
        for number, row in enumerate(rows, 1):
            places = day.capacity(slot_id, row.firm_at or 0.0)
            if number > places:
                yield row, ("CAPACITY", f"{number} réservations fermes pour {places} place(s)")


def _check_lost(day: Facts, rows: list[Row], policy: str) -> Iterator[tuple[Row, Fault]]:
    """A promise left unserved must have been lost to a practice, unless ``crisis`` reports it as broken.

    Each profession is counted apart: its practices took back so many places, after the promise was made. A cut
    breaks no firm booking, and less than the notice before the start there is no other: then it took nothing.
    """
    refusals: Counter[str] = Counter()
    for row in rows:
        refusals[day.requests[row.request_id].request.profession] += row.refusals
    lost_places: dict[str, list[tuple[float, int]]] = {}
    for slot_id, published in day.slots.items():
        slot, steps = published.slot, day.steps[slot_id]
        losses = lost_places.setdefault(slot.profession, [])
        last = slot.start - 60 * day.meta.notice_min + SECOND
        losses += [(after[0], before[1] - after[1]) for before, after in pairwise(steps) if after[0] <= last]
        if slot_id in day.withdrawn_at:
            losses.append((day.withdrawn_at[slot_id], max(count for _, count in steps)))
        if slot.refused_after_min is not None and refusals[slot.profession]:
            losses.append((slot.start + 60 * slot.refused_after_min, max(count for _, count in steps)))
    for row in rows:
        if row.status != "unserved" or row.first_promised_at is None or (policy == "crisis" and row.broken_promises):
            continue
        made = day.requests[row.request_id]
        losses = lost_places.get(made.request.profession, [])
        at = next((n for n, (t, count) in enumerate(losses) if count > 0 and t >= row.first_promised_at), None)
        if at is None:
            yield row, ("BROKEN", "promise puis non servie, sans place retirée par un cabinet")
        else:
            losses[at] = (losses[at][0], losses[at][1] - 1)


class _Certain:
    """Tells which places were free for certain, whatever the requests that left no trace did meanwhile.

    Not a phantom, and fewer bookings than places even if every cancelled request it fits held one.
    """

    def __init__(self, day: Facts, rows: list[Row]) -> None:
        self._day = day
        self._firm_on: dict[str, list[float]] = {}
        for row in rows:
            if row.slot_id is not None and row.firm_at is not None:
                self._firm_on.setdefault(row.slot_id, []).append(row.firm_at)
        made = ((day.requests[name], at) for name, at in day.cancelled_at.items() if name in day.requests)
        self._shadows = list(made)

    def free(self, made: RequestCreated, published: SlotPublished, since: float) -> bool:
        """Whether the request could have had a place of the slot at that instant, and gone there in time."""
        day, slot = self._day, published.slot
        if slot.refused_after_min is not None:
            return False
        if slot.start - since < 60 * day.travel_min(made.request, slot) + SECOND:
            return False
        held = sum(at <= since for at in self._firm_on.get(slot.id, ()))
        held += sum(s.t <= since < until and published in day.fitting(s) for s, until in self._shadows)
        return day.capacity(slot.id, since) > held


def _undisturbed(day: Facts, rows: list[Row]) -> Iterator[tuple[Row, RequestCreated, list[SlotPublished]]]:
    """The requests that no practice can have sent back, with the slots that they could have reached."""
    for row in rows:
        made = day.requests[row.request_id]
        fitting = day.reachable(made)
        gone = any(p.slot.id in day.withdrawn_at for p in fitting)
        if row.status != "cancelled" and not row.refusals and not gone:
            yield row, made, fitting


def _check_nearest(day: Facts, rows: list[Row]) -> Iterator[tuple[Row, Fault]]:
    """``fcfs-nearest`` leaves nobody without a place that was free for certain, and takes the nearest."""
    certain = _Certain(day, rows)
    for row, made, fitting in _undisturbed(day, rows):
        mine = day.slots[row.slot_id].slot if row.slot_id in day.slots else None
        for published in fitting:
            slot, since = published.slot, max(made.t, published.t)
            if not certain.free(made, published, since):
                continue
            if mine is None or row.firm_at is None or row.firm_at > since + SAME_INSTANT_S:
                yield row, ("POLICY", f"laissée en attente alors que le créneau {slot.id} était libre")
                break
            nearer = day.travel_min(made.request, mine) - day.travel_min(made.request, slot)
            if row.firm_at == since and nearer > EPSILON:
                yield row, ("POLICY", f"le créneau {slot.id}, libre, était plus proche")
                break


def _check_official(day: Facts, rows: list[Row]) -> Iterator[tuple[Row, Fault]]:
    """``official`` leaves nobody without a place of a card that it shows for certain, free when he called.

    Shown for certain: inside the request's circle, télé too, and within two days after today; and the profession has
    no more cards than one page holds, so that no page loses any. Which of them is taken hangs on chance.
    """
    certain = _Certain(day, rows)
    zone = ZoneInfo(day.meta.timezone)
    cards = {
        profession: {
            s.structure if s.source in ("sos", "cds") and s.structure is not None else (s.professional, s.lat, s.lon)
            for s in (published.slot for published in ordered)
        }
        for profession, ordered in day.of_profession.items()
    }
    for row, made, fitting in _undisturbed(day, rows):
        request = made.request
        if row.firm_at is not None or len(cards.get(request.profession, ())) > OFFICIAL_PAGE:
            continue
        today = datetime.fromtimestamp(made.t, zone).date()
        until = datetime.combine(today + timedelta(days=OFFICIAL_DAYS + 1), time(), zone).timestamp()
        for published in fitting:
            slot = published.slot
            shown = published.t <= made.t and slot.start < until and distance_km(request, slot) <= request.radius_km
            if shown and certain.free(made, published, made.t):
                yield row, ("POLICY", f"sans place alors qu'une carte montrait le créneau {slot.id}, libre")
                break


def _check_rows(day: Facts, rows: list[Row], policy: str, strict_reasons: bool) -> Iterator[tuple[Row, Fault]]:
    for row in rows:
        for fault in _check_status(day, row):
            yield row, fault
        if row.status == "served":
            for fault in _check_place(day, row, policy):
                yield row, fault
        for fault in _check_promise(day, row, policy):
            yield row, fault
        for fault in _check_counts(day, row, policy):
            yield row, fault
        if strict_reasons and row.status == "unserved":
            right = _reasons(day, day.requests[row.request_id])
            if row.reason in REASONS and row.reason not in right:
                yield row, ("REASON", f"motif « {row.reason} » au lieu de {' ou '.join(sorted(right))}")
    served = [r for r in rows if r.status == "served" and r.slot_id in day.slots and r.firm_at is not None]
    yield from _check_capacity(day, served)
    yield from _check_lost(day, rows, policy)
    if policy == "fcfs-nearest":
        yield from _check_nearest(day, rows)
    if policy == "official":
        yield from _check_official(day, rows)


# --- all of them


def judge(
    day: Facts, result: Iterable[bytes], policy: str, *, strict_reasons: bool = False
) -> tuple[list[Row], tuple[Violation, ...]]:
    """Read a result and check it against its day log and the rules of its policy.

    Args:
        day: The day log that was replayed.
        result: Lines of the result, one JSON object each.
        policy: One of ``POLICIES``.
        strict_reasons: Also check that reasons are true (``possible_reasons``). The results of the format's sample
            say ``ALL_TAKEN`` throughout and are lawful, so by default only the spelling counts.

    Returns:
        The first line of each request of the day that has one, and what is wrong, by line.
    """
    found: list[Violation] = []
    rows = _read(result, found)
    found += _check_lines(day, rows)
    first = {row.request_id: row for row in reversed(rows) if row.request_id in day.requests}
    judged = list(reversed(first.values()))
    found += (
        Violation(rule, row.request_id, row.line, text)
        for row, (rule, text) in _check_rows(day, judged, policy, strict_reasons)
    )
    return judged, tuple(sorted(found, key=lambda violation: violation.line))
