"""What a practice does with the bookings it has, in the twin: what ``009_practice.sql`` says, function by function."""

from collections.abc import Sequence
from datetime import datetime

import orjson

from adapters.memory.requests import Answer, due_under_limits, lapse_holds, release_booking
from adapters.memory.rows import Booking, Slot, booked_elsewhere
from adapters.memory.slots import refuse_bookings, take_off
from adapters.memory.tables import Tables


def _firm(tables: Tables, booking_id: str) -> Booking | None:
    """Return a booking that is or was firm: of others the practice knows nothing."""
    booking = tables.bookings.get(booking_id)
    return booking if booking is not None and booking.firm_at is not None else None


def _note_accepted(tables: Tables, now: datetime, bookings: Sequence[Booking]) -> None:
    for booking in bookings:
        booking.accepted_at = now
        booking.version += 1
        tables.to_accept.pop(booking.id, None)
        tables.requests[booking.request_id].version += 1
    tables.tell_regulators(now, [booking.request_id for booking in bookings], "request.accepted")
    for booking in sorted(bookings, key=lambda b: b.id):
        tables.announce_booking(now, booking, "booking.accepted")


def accept_booking(tables: Tables, now: datetime, booking_id: str) -> Answer:
    """Accept a booking: accepted, already, accept_ended, conflict or not_found."""
    booking = _firm(tables, booking_id)
    if booking is None:
        return "not_found", None
    if booking.ended_at is not None:
        word = "accept_ended" if booking.end_reason == "not_accepted" else "conflict"
    elif booking.acceptance is None or booking.accepted_at is not None:
        word = "already"
    elif booking.acceptance == "explicit" and booking.accept_until is not None and booking.accept_until <= now:
        word = "accept_ended"
    else:
        _note_accepted(tables, now, [booking])
        word = "accepted"
    return word, tables.booking_json(booking)


def settle_acceptance(tables: Tables, now: datetime, limit: int) -> None:
    """Settle what nobody answered: silence accepts (tacit), or the request is matched again at once (explicit)."""
    due = [b for b in tables.to_accept.values() if b.accept_until is not None and b.accept_until <= now]
    due = sorted(due, key=lambda b: (b.accept_until, b.id))[:limit]
    _note_accepted(tables, now, [b for b in due if b.acceptance == "tacit"])
    unanswered = [b for b in due if b.acceptance == "explicit"]
    refuse_bookings(tables, now, unanswered, "refused", "not_accepted")
    # nobody looks at an individual hour that went unanswered; a plage stays
    take_off(tables, now, [slot for b in unanswered if (slot := tables.slots[b.slot_id]).capacity == 1])


def cancel_booking(tables: Tables, now: datetime, booking_id: str, reason: str, keep: bool) -> Answer:
    """End a request whose patient told the practice that he does not come; ``keep``: the place is free for others."""
    booking = _firm(tables, booking_id)
    if booking is None:
        return "not_found", None
    slot, request = tables.slots[booking.slot_id], tables.requests[booking.request_id]
    if booking.state == "cancelled":
        word = "already"
    elif booking.state != "firm":
        word = "conflict"
    elif slot.starts <= now:
        word = "begun"
    else:
        release_booking(tables, now, booking, "cancelled", reason, "cancelled", ())
        tables.announce_requests(now, [request])
        if not keep:
            take_off(tables, now, [slot])
        word = "cancelled"
    return word, tables.booking_json(booking)


def move_booking(tables: Tables, now: datetime, booking_id: str, slot_id: int) -> Answer:
    """Move a patient to another open hour; when that one is gone the old one stays."""
    booking = _firm(tables, booking_id)
    if booking is None:
        return "not_found", None
    slot, old = tables.slots.get(slot_id), tables.slots[booking.slot_id]
    request = tables.requests[booking.request_id]
    if booking.state != "firm":
        word = "conflict"
    elif slot is old:
        word = "already"
    elif old.starts <= now:
        word = "begun"
    elif booked_elsewhere(old) or (slot is not None and booked_elsewhere(slot)):
        # another editor's agenda would not know of it
        word = "at_editor"
    else:
        if slot is not None:
            lapse_holds(tables, now, [slot, *due_under_limits(tables, now, [slot])], 100)
        if slot is None or not _takes(tables, now, booking, slot):
            word = "slot_full"
        elif slot.starts > request.deadline:
            word = "late_for_patient"
        elif tables.limits.rows and tables.limits.reached(slot, request, old):
            word = "limit_reached"
        else:
            seat = tables.free_seats(slot)[0]
            tables.reseat(booking, slot, seat)
            booking.version += 1
            # who chose the hour has accepted it
            tables.to_accept.pop(booking.id, None)
            booking.accepted_at = (booking.accepted_at or now) if booking.acceptance is not None else None
            request.version += 1
            tables.tell_regulators(now, [request.id], "request.moved")
            tables.announce_booking(now, booking, "booking.moved", old)
            tables.announce_states(now, [old, slot])
            word = "moved"
    return word, tables.booking_json(booking)


def _takes(tables: Tables, now: datetime, booking: Booking, slot: Slot) -> bool:
    """Tell whether a slot has a seat for a patient who gives up his; its practice may use one that was handed back."""
    request = tables.requests[booking.request_id]
    return (
        slot.status == "open"
        and slot.starts > now
        and slot.for_request is None
        and slot.profession == request.profession
        and all(need in slot.offers for need in request.needs)
        and bool(tables.free_seats(slot))
        and not tables.blocked(slot, but=(booking.id,))
    )


def hand_back(tables: Tables, now: datetime, limit: int) -> None:
    """Give back what is unused of the slots whose hour for it has come; a seat that somebody has stays his."""
    due = [slot for slot in tables.to_hand_back.values() if slot.back_at is not None and slot.back_at <= now]
    due = sorted(due, key=lambda slot: (slot.back_at, slot.id))[:limit]
    for slot in due:
        slot.handed_back = 0
        del tables.to_hand_back[slot.id]
    if due:
        tables.announce_states(now, due)


def slot_counts(tables: Tables, slot_id: int) -> tuple[int, int, int]:
    """Return (taken for sure, arrived, missed) of a slot."""
    states = [b.state for b in tables.seats.get(slot_id, {}).values() if b.firm_at is not None]
    return len(states), states.count("fulfilled"), states.count("noshow")


def count_plage(tables: Tables, now: datetime, slot_id: int, arrived: int, over: bool) -> Answer:
    """Say that so many patients of a plage have come (``over``: the others did not); may be corrected."""
    slot = tables.slots.get(slot_id)
    if slot is None:
        return "not_found", None
    known = [b for b in tables.seats.get(slot_id, {}).values() if b.firm_at is not None]
    if slot.starts > now:
        word = "too_early"
    elif arrived > len(known):
        word = "too_many"
    else:
        for number, booking in enumerate(sorted(known, key=lambda b: (b.firm_at, b.id)), 1):
            wanted = "fulfilled" if number <= arrived else "noshow" if over else "firm"
            if wanted == booking.state:
                continue
            booking.state = wanted
            booking.version += 1
            request = tables.requests[booking.request_id]
            tables.set_status(request, wanted)
            tables.announce_requests(now, [request])
            tables.announce_booking(now, booking)
        word = "counted"
    counts = dict(zip(("taken", "arrived", "missed"), slot_counts(tables, slot_id), strict=True))
    return word, orjson.dumps({"slot_id": slot_id, "capacity": slot.capacity, **counts}).decode()
