"""The matcher's batch in the twin: what ``claim_seats`` and ``take_seats`` of ``003_requests.sql`` say."""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from adapters.memory.requests import due_under_limits, lapse_holds, leaves
from adapters.memory.rows import Booking, Request, Slot, booked_elsewhere, earliest
from adapters.memory.tables import Tables
from sas_matcher.domain.lifecycle import ClaimKind
from sas_matcher.ports.ledger import Claim

_PLAIN: Final = frozenset({ClaimKind.HOLD, ClaimKind.NONE})
_STATES: Final = {ClaimKind.HOLD: "held", ClaimKind.PROMISE: "promised", ClaimKind.TELL: "firm"}
_LAPSED_AT_ONCE: Final = 1000  # holds given up in one claim, as in the ledger


class _Won(NamedTuple):
    """A claim that gets a seat."""

    claim: Claim
    request: Request
    slot: Slot
    seat: int


class _Batch:
    """What became of the requests of a batch, for its verdicts and announcements."""

    def __init__(self) -> None:
        self.displaced: set[str] = set()
        self.stayed: set[str] = set()
        self.movers: set[str] = set()
        self.won: dict[str, _Won] = {}
        self.told: set[str] = set()
        self.firm: list[Booking] = []


def claim_seats(tables: Tables, now: datetime, claims: Sequence[Claim]) -> list[str]:
    """Decide the matcher's batch; what it believed is judged again on the rows. Verdict per claim (see the port).

    The seats of promises that move are given back before any is taken: they may change round. Who then gets no seat
    keeps the old one, and whoever wanted that one is judged anew.
    """
    batch = _Batch()
    slots = [tables.slots[c.slot_id] for c in claims if c.slot_id in tables.slots]
    plain = all(claim.kind in _PLAIN for claim in claims)
    left = [] if plain else [tables.slots[b.slot_id] for c in claims if (b := _promised_seat(tables, c)) is not None]
    lapse_holds(tables, now, [*slots, *due_under_limits(tables, now, slots)], _LAPSED_AT_ONCE)
    if not plain:
        _displace(tables, now, claims, batch)
        _stay(tables, now, claims, batch)
        batch.movers = {c.request_id for c in claims if c.slot_id is not None and _moves(tables, c, batch)}
    while True:
        leaving = {b.id for name in batch.movers if (b := tables.active(tables.requests[name])) is not None}
        planned = _plan(tables, now, claims, batch.movers, leaving)
        lost = batch.movers.difference(won.request.id for won in planned)
        if not lost:
            break
        batch.movers -= lost
    # as in the ledger: "no place" is told to whoever waited before the seats were given
    none = [r for c in claims if c.kind == ClaimKind.NONE and (r := tables.waiting.get(c.request_id)) is not None]
    for name in sorted(leaving):
        tables.end(tables.bookings[name], now, "moved", "moved")
    _seat(tables, now, planned, batch)
    for claim in claims:
        request = tables.waiting.get(claim.request_id)
        if claim.kind == ClaimKind.NONE and request is not None and request in none:
            request.decision = claim.decision
            request.version += 1
            batch.told.add(request.id)
    verdicts = [_verdict(tables, claim, batch) for claim in claims]
    for claim, verdict in zip(claims, verdicts, strict=True):
        if claim.shown and verdict in ("held", "told_firm", "told"):
            shown = [tables.slots[number] for number in claim.shown if number in tables.slots]
            tables.sharing.note(now, "proposed", tables.requests[claim.request_id].key_id, shown)
    _announce(tables, now, batch)
    tables.announce_states(now, [*slots, *left])
    tables.announce_gone(now, {s.id: s for s in slots if s.status != "open"}.values())
    return verdicts


def _promised_seat(tables: Tables, claim: Claim) -> Booking | None:
    request = tables.requests.get(claim.request_id)
    booking = None if request is None else tables.active(request)
    return booking if booking is not None and booking.state == "promised" else None


def _displace(tables: Tables, now: datetime, claims: Sequence[Claim], batch: _Batch) -> None:
    """Break the promises that the crisis displaces; their regulators are told at once."""
    for claim in claims:
        booking = _promised_seat(tables, claim)
        if claim.kind != ClaimKind.DISPLACE or booking is None:
            continue
        request = tables.requests[claim.request_id]
        tables.end(booking, now, "displaced", "crisis")
        request.booking_id = request.told_by = None
        request.broken += 1
        request.decision = claim.decision
        tables.set_status(request, "unserved" if request.deadline <= now else "waiting")
        batch.displaced.add(request.id)
    tables.tell_regulators(now, batch.displaced, "request.displaced")


def _stay(tables: Tables, now: datetime, claims: Sequence[Claim], batch: _Batch) -> None:
    """Renew or tell the promises that keep their slot."""
    for claim in claims:
        booking = _promised_seat(tables, claim)
        if claim.kind not in (ClaimKind.PROMISE, ClaimKind.TELL) or booking is None or claim.slot_id != booking.slot_id:
            continue
        slot, request = tables.slots[booking.slot_id], tables.requests[claim.request_id]
        if slot.status != "open" or slot.starts <= now:
            continue
        if claim.kind == ClaimKind.TELL:
            # of a plage that was cut since, no more are told than it still takes, in the batch's order
            if sum(b.state != "promised" for b in tables.seats[slot.id].values()) >= slot.capacity:
                continue
            booking.slot_version = slot.version
        booking.version += 1
        if claim.kind == ClaimKind.TELL and booked_elsewhere(slot):
            tables.hold(booking, tables.hold_end(now, request, slot))
        elif claim.kind == ClaimKind.TELL:
            tables.make_firm(booking, now)
            batch.firm.append(booking)
        request.decision = claim.decision
        request.told_by = earliest(request.told_by, claim.hold_until)
        tables.set_status(request, booking.state)
        batch.stayed.add(request.id)


def _moves(tables: Tables, claim: Claim, batch: _Batch) -> bool:
    request = tables.requests.get(claim.request_id)
    return (
        request is not None
        and request.status == "promised"
        and claim.kind in (ClaimKind.PROMISE, ClaimKind.TELL)
        and request.id not in batch.stayed
    )


def _plan(
    tables: Tables, now: datetime, claims: Sequence[Claim], movers: Collection[str], leaving: Collection[str]
) -> list[_Won]:
    """Return who gets which seat, in the batch's order, were the bookings ``leaving`` given back; changes nothing."""
    won: list[_Won] = []
    ranks: dict[int, int] = {}
    served: set[str] = set()
    timed: list[Slot] = []
    over_limit = _over_limit(tables, claims, movers, leaving) if tables.limits.rows else ()
    for number, claim in enumerate(claims):
        request = tables.requests.get(claim.request_id)
        slot = None if claim.slot_id is None else tables.slots.get(claim.slot_id)
        if request is None or slot is None or not _entitled(claim, request, movers) or not _fits(now, request, slot):
            continue
        # the rank counts whoever wanted the slot, also who then fails for another reason: one statement judges all
        rank = ranks[slot.id] = ranks.get(slot.id, -1) + 1
        taken = [b for b in tables.seats.get(slot.id, {}).values() if b.id not in leaving]
        if rank >= slot.capacity - len(taken) or request.id in served or number in over_limit:
            continue
        overlaps = tables.individual(slot) and any(
            near.professional == slot.professional and near.starts < slot.ends and near.ends > slot.starts
            for near in timed
        )
        if overlaps or tables.blocked(slot, but=leaving):
            continue
        seats = {b.seat for b in taken}
        won.append(_Won(claim, request, slot, [n for n in range(slot.capacity) if n not in seats][rank]))
        served.add(request.id)
        if tables.individual(slot):
            timed.append(slot)
    return won


def _over_limit(tables: Tables, claims: Sequence[Claim], movers: Collection[str], leaving: Collection[str]) -> set[int]:
    """Return which claims come too late for a limit of a practice, were the bookings ``leaving`` given back.

    As with seats, the turn counts whoever wanted the slot, also who then fails for another reason.
    """
    late: set[int] = set()
    turns: Counter[tuple[int, datetime]] = Counter()
    for number, claim in enumerate(claims):
        request = tables.requests.get(claim.request_id)
        slot = None if claim.slot_id is None else tables.slots.get(claim.slot_id)
        if request is None or slot is None or not (request.status == "waiting" or request.id in movers):
            continue
        for over in tables.limits.over(slot):
            if over.limit.counts(slot, request):
                turns[over.limit.id, over.starts] += 1
                if turns[over.limit.id, over.starts] > tables.limits.left(over, leaving):
                    late.add(number)
    return late


def _entitled(claim: Claim, request: Request, movers: Collection[str]) -> bool:
    """Tell whether the request is in the state that the claim takes it to be in."""
    if claim.kind in (ClaimKind.HOLD, ClaimKind.PROMISE) and request.status == "waiting":
        return True
    return claim.kind in (ClaimKind.PROMISE, ClaimKind.TELL) and request.id in movers


def _fits(now: datetime, request: Request, slot: Slot) -> bool:
    """Tell whether the slot, as its row is now, is one for the request."""
    excluded = request.excluded
    return (
        slot.status == "open"
        and slot.for_request in (None, request.id)
        and leaves(now, request, slot)
        and slot.handed_back is None
        and now < slot.starts <= request.deadline
        and slot.profession == request.profession
        and slot.mode in request.modes
        and all(need in slot.offers for need in request.needs)
        and not (excluded and (f"s{slot.id}" in excluded or f"p{slot.professional}" in excluded))
    )


def _seat(tables: Tables, now: datetime, planned: Sequence[_Won], batch: _Batch) -> None:
    """Write the bookings of those who won a seat."""
    for won in planned:
        claim, request, slot, seat = won
        there = claim.kind == ClaimKind.TELL and booked_elsewhere(slot)
        until = None
        if claim.kind == ClaimKind.HOLD:
            until = earliest(claim.hold_until, slot.starts)
        elif there:
            until = tables.hold_end(now, request, slot)
        booking = Booking(
            id=claim.booking_id,
            request_id=request.id,
            slot_id=slot.id,
            seat=seat,
            territory=slot.territory,
            professional=slot.professional,
            during=tables.during(slot),
            state="held" if there else _STATES[claim.kind],
            slot_version=slot.version,
            held_at=now,
            hold_until=until,
            acceptance=slot.acceptance,
            rule=slot.rule or "",
        )
        tables.insert(booking)
        if booking.state == "firm":
            tables.make_firm(booking, now)
        request.decision = claim.decision
        request.moves += request.id in batch.movers
        if claim.kind == ClaimKind.PROMISE:
            request.promised_at = request.promised_at or now
            # what was said stands: a later seat does not put it off
            request.told_by = earliest(request.told_by, claim.hold_until)
        tables.set_status(request, booking.state)
        batch.won[request.id] = won
        if booking.state == "firm":
            batch.firm.append(booking)


def _verdict(tables: Tables, claim: Claim, batch: _Batch) -> str:
    name, kind = claim.request_id, claim.kind
    request = tables.requests.get(name)
    status = "" if request is None else request.status
    if kind == ClaimKind.DISPLACE:
        return "displaced" if name in batch.displaced else "not_waiting"
    if name in batch.stayed or name in batch.won:
        if kind in (ClaimKind.TELL, ClaimKind.HOLD):
            return "told_firm" if status == "firm" else "held"
        return "moved" if name in batch.movers else "promised"
    if name in batch.told:
        return "told"
    waits = status == "waiting" and kind != ClaimKind.TELL
    if request is None or not (waits or (status == "promised" and kind in (ClaimKind.PROMISE, ClaimKind.TELL))):
        return "not_waiting"
    slot = None if claim.slot_id is None else tables.slots.get(claim.slot_id)
    limited = slot is not None and tables.limits.rows and tables.limits.reached(slot, request)
    return "limit_reached" if limited else "seat_lost"


def _announce(tables: Tables, now: datetime, batch: _Batch) -> None:
    """Tell regulators and practices what the batch decided; what the matcher decided, it knows."""
    kinds = {name: won.claim.kind for name, won in batch.won.items()}
    held = [name for name in (*batch.stayed, *kinds) if tables.requests[name].status == "held"]
    tables.tell_regulators(now, held, "request.held")
    tables.tell_regulators(now, batch.told, "request.waiting")
    # a move is silent: the regulator was promised a time, not a place
    given = [n for n, kind in kinds.items() if kind == ClaimKind.PROMISE and n not in batch.movers]
    tables.tell_regulators(now, given, "request.promised")
    tables.tell_regulators(now, {b.request_id for b in batch.firm}, "request.told")
    for booking in sorted(batch.firm, key=lambda b: b.id):
        tables.announce_booking(now, booking)
