"""The life of a request in the twin: what ``003_requests.sql`` says, function by function.

Each function is one transaction's work on the tables; what it announces is in their outbox.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from adapters.memory.rows import REQUEST_COLUMNS, Booking, Request, Slot, booked_elsewhere, taken_in
from adapters.memory.tables import Tables
from sas_matcher.domain.policy import DEFAULT_SETTING
from sas_matcher.ports.ledger import Idempotency

Answer = tuple[str, str | None]


def new_request(tables: Tables, now: datetime, row: Mapping[str, Any], key_id: str) -> Request:
    """Return a request, made now, that is still to be written.

    Raises:
        ValueError: a column is missing, or the id exists.
    """
    values = taken_in(row, REQUEST_COLUMNS)
    if row["id"] in tables.requests:
        raise ValueError(f"Expected a new request, got {row['id']} again.")
    has_mt = row.get("has_mt") or ("unknown" if row["mt"] is None else "yes")
    return Request(id=row["id"], key_id=key_id, created_at=now, has_mt=has_mt, **values)


def write_request(tables: Tables, request: Request) -> None:
    """Write a request."""
    tables.requests[request.id] = request
    tables.note_waiting(request)


def create_request(
    tables: Tables,
    now: datetime,
    row: Mapping[str, Any],
    once: Idempotency,
    ask_mt: Callable[[Request], None] = lambda _: None,
) -> None:
    """Take in one request; ``ask_mt`` is told of those whose médecin traitant goes first.

    Raises:
        ValueError: a column is missing, or the id exists.
    """
    request = new_request(tables, now, row, once.key_id)
    write_request(tables, request)
    if request.mt is not None and tables.settings.get(request.territory, DEFAULT_SETTING)["mt_rule"] == "first":
        ask_mt(request)
    tables.announce_open(now, request)


def lapse_holds(tables: Tables, now: datetime, slots: Collection[Slot] | None, limit: int) -> None:
    """Give up holds whose deadline has passed: all, or those in the way of booking some slots.

    A place that was chosen in the stead of a promise is not given up: the promise returns, and this is now its seat;
    where its practice has taken it off meanwhile the promise is lost to it, where it has begun it is broken.
    """
    due = [b for b in tables.holds.values() if b.hold_until is not None and b.hold_until <= now]
    if slots is not None and due:
        ids = {slot.id for slot in slots}
        times = [(slot.professional, *during) for slot in slots if (during := tables.during(slot))]
        due = [b for b in due if b.slot_id in ids or _in_the_way(b, times)]
    due = sorted(due, key=lambda b: (b.hold_until, b.id))[:limit]
    if not due:
        return
    ended: list[Booking] = []
    homeless = [
        b
        for b in due
        if tables.requests[b.request_id].promise_behind
        and ((slot := tables.slots[b.slot_id]).status != "open" or slot.starts <= now)
    ]
    due = [booking for booking in due if booking not in homeless]
    for booking in due:
        request = tables.requests[booking.request_id]
        if request.promise_behind:
            tables.holds.pop(booking.id)
            booking.state = "promised"
            booking.version += 1
            request.promise_behind = False
            tables.set_status(request, "promised")
        else:
            tables.end(booking, now, "lapsed", "hold_ended")
            request.booking_id = None
            tables.set_status(request, "lapsed")
            ended.append(booking)
    tables.announce_requests(now, [tables.requests[b.request_id] for b in due])
    tables.announce_states(now, [tables.slots[b.slot_id] for b in ended])
    for booking in sorted(homeless, key=lambda b: b.id):
        if tables.slots[booking.slot_id].status == "open":
            release_booking(tables, now, booking, "displaced", "never_told", "waiting", ())
        else:
            release_booking(tables, now, booking, "withdrawn", "closed", "waiting", [f"s{booking.slot_id}"])
    for state, told in (("withdrawn", "request.reopened"), ("displaced", "request.displaced")):
        tables.announce_requests(now, [tables.requests[b.request_id] for b in homeless if b.state == state], told)


def due_under_limits(tables: Tables, now: datetime, slots: Collection[Slot]) -> list[Slot]:
    """Return the slots of expired holds that count under the limits over some slots."""
    if not tables.limits.rows:
        return []
    limits = tables.limits.together(slots)
    due = (tables.slots[b.slot_id] for b in tables.holds.values() if b.hold_until is not None and b.hold_until <= now)
    return [slot for slot in due if not limits.isdisjoint(tables.limits.together([slot]))]


def _in_the_way(booking: Booking, times: Sequence[tuple[str | None, datetime, datetime]]) -> bool:
    during = booking.during
    return during is not None and any(
        booking.professional == professional and start < during[1] and end > during[0]
        for professional, start, end in times
    )


def close_unserved(tables: Tables, now: datetime, limit: int) -> None:
    """Close requests that nobody could serve before their deadline, and break promises that were never told.

    A promise whose seat has begun is broken, or lost to the practice that offers fewer seats than it did, or did so
    until it was too late to tell; its request waits again where there is still time.
    """
    late = tables.past_deadline(now, limit)
    for request in late:
        tables.set_status(request, "unserved")
    tables.announce_requests(now, late)
    promised = sorted(tables.promised.values(), key=lambda r: r.id)
    begun = [r for r in promised if (b := tables.active(r)) is not None and tables.slots[b.slot_id].starts <= now]
    begun = begun[:limit]
    lost = [r for r in begun if (b := tables.active(r)) is not None and _is_cut(tables, b)]
    for request in begun:
        if (booking := tables.active(request)) is not None:
            gone = request in lost
            release_booking(tables, now, booking, "withdrawn" if gone else "displaced", "never_told", "waiting", ())
    tables.announce_requests(now, lost, "request.reopened")
    tables.announce_requests(now, [request for request in begun if request not in lost], "request.displaced")


def _is_cut(tables: Tables, booking: Booking) -> bool:
    """Whether its practice had no seat left behind a promise; whoever was told, or holds one, has his before it."""
    slot = tables.slots[booking.slot_id]
    offered = slot.capacity if slot.cut_to is None else min(slot.capacity, slot.cut_to)
    others = tables.seats[slot.id].values()
    return sum(b.state != "promised" or b.seat < booking.seat for b in others) >= offered


def confirm_hold(tables: Tables, now: datetime, key_id: str, request_id: str, booking_id: str | None) -> Answer:
    """Confirm a hold: firm, already, hold_ended, conflict or not_found."""
    request, booking = _of_key(tables, key_id, request_id, booking_id)
    if request is None:
        return "not_found", None
    if booking is not None and booking.state == "firm" and request.status == "firm":
        word = "already"
    elif booking is None or request.status != "held" or booking.id != request.booking_id:
        word = _gone(request, booking)
    elif booking.hold_until is not None and booking.hold_until <= now:
        word = "hold_ended"
    else:
        tables.make_firm(booking, now)
        booking.version += 1
        request.promise_behind = False
        tables.set_status(request, "firm")
        tables.announce_requests(now, [request])
        tables.announce_booking(now, booking)
        word = "firm"
    return word, tables.request_json(request)


def _of_key(
    tables: Tables, key_id: str, request_id: str, booking_id: str | None
) -> tuple[Request | None, Booking | None]:
    """Return a request of this key with a booking of it, by default the present one."""
    request = tables.requests.get(request_id)
    if request is None or request.key_id != key_id:
        return None, None
    booking = tables.bookings.get(booking_id or request.booking_id or "")
    return request, booking if booking is not None and booking.request_id == request_id else None


def _gone(request: Request, booking: Booking | None) -> str:
    """Return the word for a hold that is not there: it ended, or there never was one to act on."""
    returned = request.status == "promised" and booking is not None and booking.hold_until is not None
    return "hold_ended" if returned or request.status in ("lapsed", "waiting", "held") else "conflict"


def release_booking(
    tables: Tables, now: datetime, booking: Booking, state: str, reason: str, status: str, exclude: Sequence[str]
) -> None:
    """Give a seat back and say what becomes of the request; a promise that ends so is counted.

    Args:
        tables: the tables.
        now: the instant of the change.
        booking: an active booking.
        state: how it ends.
        reason: why.
        status: what the request is then; one that would wait past its deadline is unserved.
        exclude: what must never be offered to it again.
    """
    request = tables.requests[booking.request_id]
    tables.end(booking, now, state, reason)
    request.broken += state == "displaced"
    if state in ("refused", "withdrawn"):
        request.refused_for, request.refused_at = reason, now
    lost = request.status == "promised" or request.promise_behind
    request.lost_to_practice += lost and state in ("refused", "withdrawn")
    if status == "waiting":
        request.told_by = None
    request.booking_id, request.promise_behind = None, False
    request.excluded.extend(exclude)
    tables.set_status(request, "unserved" if status == "waiting" and request.deadline <= now else status)
    # the practice hears of a booking only once it was firm
    if booking.firm_at is not None:
        tables.announce_booking(now, booking)
    tables.announce_states(now, [tables.slots[booking.slot_id]])


def decline_hold(
    tables: Tables, now: datetime, key_id: str, request_id: str, booking_id: str | None, scope: str
) -> Answer:
    """Decline a hold: the next one, never the same again; scope is slot, professional or gone (a phantom)."""
    request, booking = _of_key(tables, key_id, request_id, booking_id)
    if request is None:
        return "not_found", None
    ended = booking is None or booking.hold_until is None or booking.hold_until <= now
    if booking is None or request.status != "held" or booking.id != request.booking_id or ended:
        return _gone(request, booking), tables.request_json(request)
    slot = tables.slots[booking.slot_id]
    exclude = [f"s{slot.id}"]
    if scope == "professional" and slot.professional is not None:
        exclude.append(f"p{slot.professional}")
    if scope == "gone" and booked_elsewhere(slot):
        release_booking(tables, now, booking, "refused", "phantom", "waiting", exclude)
        if slot.status == "open":
            tables.withdraw(now, slot)
            tables.announce_gone(now, [slot])
    else:
        release_booking(tables, now, booking, "declined", "declined", "waiting", exclude)
    tables.announce_requests(now, [request], "request.reopened")
    return "declined", tables.request_json(request)


def cancel_request(tables: Tables, now: datetime, key_id: str, request_id: str, reason: str) -> Answer:
    """Cancel a request in any open state; its place goes back. Not once a firm place has begun."""
    request, _ = _of_key(tables, key_id, request_id, None)
    if request is None:
        return "not_found", None
    if request.status == "cancelled":
        word = "already"
    elif request.status not in ("waiting", "promised", "held", "firm", "lapsed"):
        word = "conflict"
    elif request.status == "firm" and (b := tables.active(request)) and tables.has_begun(now, tables.slots[b.slot_id]):
        word = "begun"
    else:
        booking = tables.active(request)
        if booking is not None:
            release_booking(tables, now, booking, "cancelled", reason, "cancelled", ())
        else:
            tables.set_status(request, "cancelled")
        tables.announce_requests(now, [request])
        word = "cancelled"
    return word, tables.request_json(request)


def resume_request(tables: Tables, now: datetime, key_id: str, request_id: str) -> Answer:
    """Open a lapsed request again: the regulator is back on the line."""
    request, booking = _of_key(tables, key_id, request_id, None)
    if request is None:
        return "not_found", None
    if request.status == "held" and booking is not None:
        # whether the hold still stands is judged here, whatever the sweeper has done
        lapse_holds(tables, now, [tables.slots[booking.slot_id]], 100)
    if request.status != "lapsed" or request.deadline <= now:
        word = "conflict"
    else:
        tables.set_status(request, "waiting")
        tables.announce_requests(now, [request], "request.reopened")
        word = "waiting"
    return word, tables.request_json(request)


def hand_request(tables: Tables, now: datetime, key_id: str, request_id: str, to: str) -> Answer:
    """Hand an open request, with what it has, to another regulator: handed, already, conflict or not_found."""
    request, _ = _of_key(tables, key_id, request_id, None)
    if request is None:
        return "not_found", None
    if to == key_id:
        word = "already"
    elif request.status not in ("waiting", "promised", "held", "firm", "lapsed"):
        word = "conflict"
    else:
        request.key_id = to
        request.version += 1
        tables.announce_handed(now, request, key_id)
        word = "handed"
    return word, tables.request_json(request)


def take_place(
    tables: Tables,
    now: datetime,
    key_id: str,
    request_id: str,
    slot_id: int,
    booking_id: str,
    hold_until: datetime,
    decision: str,
) -> Answer:
    """Hold the place that the regulator picks himself; the one held before is kept when that one is gone.

    Of a promise this moves the seat and holds it: the promise ends when the hold is confirmed and returns
    when it runs out.
    """
    request, kept = _of_key(tables, key_id, request_id, None)
    if request is None:
        return "not_found", None
    if request.status not in ("waiting", "promised", "held", "lapsed") or request.deadline <= now:
        return "conflict", tables.request_json(request)
    if kept is not None and kept.slot_id == slot_id and kept.hold_until is not None and kept.hold_until > now:
        return "held", tables.request_json(request)
    slot = tables.slots.get(slot_id)
    if slot is not None:
        lapse_holds(tables, now, [slot, *due_under_limits(tables, now, [slot])], 100)
    kept = tables.active(request)
    if slot is None or not _can_take(tables, now, request, slot, kept):
        return "slot_full", tables.request_json(request)
    before = None if kept is None else tables.slots[kept.slot_id]
    if tables.limits.rows and tables.limits.reached(slot, request, before):
        return "limit_reached", tables.request_json(request)
    promised = request.promise_behind or request.status == "promised"
    if kept is not None:
        tables.end(kept, now, "replaced", "other_place")
        request.moves += promised and kept.slot_id != slot_id
    request.promise_behind = promised
    tables.insert(
        Booking(
            id=booking_id,
            request_id=request_id,
            slot_id=slot_id,
            seat=tables.free_seats(slot)[0],
            territory=slot.territory,
            professional=slot.professional,
            during=tables.during(slot),
            state="held",
            slot_version=slot.version,
            held_at=now,
            hold_until=min(hold_until, slot.starts),
            acceptance=slot.acceptance,
            rule=slot.rule or "",
        )
    )
    request.decision = decision
    tables.set_status(request, "held")
    tables.announce_requests(now, [request])
    tables.announce_states(now, [slot] if kept is None else [slot, tables.slots[kept.slot_id]])
    return "held", tables.request_json(request)


def leaves(now: datetime, request: Request, slot: Slot) -> bool:
    """Tell whether its practice's rules let a place leave for a request now."""
    own = request.mt is not None and request.mt == slot.professional
    return not slot.shut and (slot.own_until is None or slot.own_until <= now or own)


def _can_take(tables: Tables, now: datetime, request: Request, slot: Slot, kept: Booking | None) -> bool:
    """Tell whether the slot has a seat for the request once it has given back the one it has."""
    ours = slot.for_request in (None, request.id) and leaves(now, request, slot)
    if slot.status != "open" or slot.handed_back is not None or not ours or not now < slot.starts <= request.deadline:
        return False
    taken = [b for b in tables.seats.get(slot.id, {}).values() if b is not kept]
    return len(taken) < slot.capacity and not tables.blocked(slot, but=() if kept is None else (kept.id,))
