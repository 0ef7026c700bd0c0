"""The practice's side in the twin: what ``004_slots.sql`` says, function by function."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from adapters.memory.requests import Answer, release_booking
from adapters.memory.rows import BEHIND_PROMISES, SLOT_COLUMNS, Booking, Slot, taken_in
from adapters.memory.tables import Tables

MOST_CAPACITY: Final = 200
# Why a practice refused that its other hours would not change (``refuses_patient`` in SQL).
REFUSES_PATIENT: Final = frozenset({"outside_competence", "too_far", "not_accepted"})
# What the patient was told: time, place and person of a booked slot cannot change.
_TOLD: Final = ("territory", "professional", "structure", "lat", "lon", "starts", "ends", "mode", "profession")
# ``landmass`` follows from the coordinates, ``valid_at`` is judged apart
_WORDS: Final = tuple(name for name in SLOT_COLUMNS if name not in ("landmass", "valid_at"))


def upsert_slots(
    tables: Tables,
    now: datetime,
    source: str,
    rows: Sequence[Mapping[str, Any]],
    owners: tuple[Sequence[str], Sequence[str]] | None = None,
) -> list[dict[str, Any]]:
    """Publish or change slots of one source; verdict per row in order.

    Raises:
        ValueError: a row that no practice may publish; none was written.
    """
    taken = [taken_in(row, SLOT_COLUMNS) for row in rows]
    for values in taken:
        _check(tables, values)
    names = [str(row["external_id"]) for row in rows]
    known = [tables.slot_of.get((source, name)) for name in names]
    outcomes = [
        _judged(tables, slot, values) if slot is None or _owned(slot, owners) else "not_yours"
        for slot, values in zip(known, taken, strict=True)
    ]
    ids: dict[str, int | None] = {}
    changed: list[Slot] = []
    for name, values, before, outcome in sorted(
        zip(names, taken, known, outcomes, strict=True), key=lambda entry: entry[0]
    ):
        slot = before or _created(tables, now, source, name, values)
        if outcome == "unchanged":
            if slot.valid_at < values["valid_at"]:
                slot.checked_at, slot.valid_at = now, values["valid_at"]
        elif outcome == "updated":
            # other words leave handed back what is; another hour, or another rule, begins anew
            if (slot.status, slot.starts, slot.back_at) != ("open", values["starts"], values["back_at"]):
                slot.handed_back = None
            slot.cut_to = _cut(slot, values["capacity"])
            for column, value in values.items():
                # as in the ledger: the landmass stays what it was first found to be
                if column != "landmass":
                    setattr(slot, column, value)
            slot.checked_at = slot.changed_at = now
            slot.status, slot.version, slot.refused = "open", tables.change(), False
        if outcome in ("created", "updated"):
            tables.file(slot)
            changed.append(slot)
        ids[name] = None if outcome == "not_yours" else slot.id
    if tables.sharing.rules:
        for slot in changed:
            tables.sharing.share(now, slot)
    tables.announce_places(now, changed)
    # a share counts the places of the period
    tables.announce_limits(now, changed)
    return [
        {"n": n, "outcome": outcome, "slot_id": ids[name]}
        for n, (name, outcome) in enumerate(zip(names, outcomes, strict=True))
    ]


def _cut(slot: Slot, capacity: int) -> int | None:
    """Return the fewest seats to which a practice has cut its slot, with this new count of them."""
    if slot.status != "open":
        return None
    return slot.cut_to if capacity >= slot.capacity else capacity if slot.cut_to is None else min(slot.cut_to, capacity)


def _created(tables: Tables, now: datetime, source: str, name: str, values: dict[str, Any]) -> Slot:
    return Slot(
        id=tables.new_slot_id(name),
        source=source,
        external_id=name,
        **values,
        checked_at=now,
        changed_at=now,
        version=tables.change(),
    )


def _check(tables: Tables, values: Mapping[str, Any]) -> None:
    fits = values["ends"] > values["starts"] and 1 <= values["capacity"] <= MOST_CAPACITY
    if tables.day_log:
        fits = values["ends"] >= values["starts"] and values["capacity"] >= 0
    if not fits:
        raise ValueError(f"Expected an end after the start and a lawful capacity, got {values}.")


def _owned(slot: Slot, owners: tuple[Sequence[str], Sequence[str]] | None) -> bool:
    """Tell whether a slot is of one of these (professionals, structures); None: of anybody."""
    return owners is None or slot.professional in owners[0] or slot.structure in owners[1]


def _judged(tables: Tables, slot: Slot | None, values: Mapping[str, Any]) -> str:
    """Return what a publication means for the slot known under its name."""
    if slot is None:
        return "created"
    if values["valid_at"] < slot.valid_at:
        return "stale"
    if slot.status == "open":
        if slot.territory != values["territory"]:
            return "other_territory"
        if all(getattr(slot, name) == values[name] for name in _WORDS):
            return "unchanged"
    told = any(getattr(slot, name) != values[name] for name in _TOLD)
    # one patient or a plage: only the former excludes what overlaps it
    told |= not tables.day_log and (slot.capacity == 1) != (values["capacity"] == 1)
    return "booked" if told and tables.seats.get(slot.id) else "updated"


def refuse_bookings(tables: Tables, now: datetime, bookings: Sequence[Booking], state: str, reason: str) -> None:
    """End bookings by the practice's act; requests still in time wait again and never get these slots back."""
    for booking in sorted(bookings, key=lambda b: b.id):
        exclude = [f"s{booking.slot_id}"]
        if reason in REFUSES_PATIENT and booking.professional is not None:
            exclude.append(f"p{booking.professional}")
        release_booking(tables, now, booking, state, reason, "waiting", exclude)
        tables.announce_requests(now, [tables.requests[booking.request_id]], "request.reopened")


def _refusable(tables: Tables, slots: Sequence[Slot]) -> list[Booking]:
    return [
        b for slot in slots for b in tables.seats.get(slot.id, {}).values() if b.state in ("promised", "held", "firm")
    ]


def withdraw_slots(
    tables: Tables,
    now: datetime,
    source: str,
    only: Sequence[str] | None,
    window: tuple[datetime, datetime] | None,
    owners: tuple[Sequence[str], Sequence[str]] | None,
    reason: str,
) -> list[dict[str, Any]]:
    """Withdraw slots of one source: free places vanish, bookings on them end, their requests are open again.

    What has begun stays: whoever is there is being seen, or was.
    """
    if only is not None:
        known = [tables.slot_of.get((source, name)) for name in dict.fromkeys(only)]
    else:
        start, end = window or (None, None)
        known = [
            slot
            for slot in tables.slots.values()
            if slot.source == source and start is not None and end is not None and start <= slot.starts < end
        ]
    mine = [slot for slot in known if slot is not None and slot.status == "open" and _owned(slot, owners)]
    begun = {slot.external_id for slot in mine if tables.has_begun(now, slot)}
    gone = [slot for slot in mine if slot.external_id not in begun]
    for slot in gone:
        tables.withdraw(now, slot)
    refuse_bookings(tables, now, _refusable(tables, gone), "withdrawn", reason)
    tables.announce_gone(now, gone)
    done = {slot.external_id for slot in gone}
    return [
        {"external_id": name, "outcome": "withdrawn" if name in done else "begun" if name in begun else "not_found"}
        for name in dict.fromkeys([*(only or ()), *done])
    ]


def refuse_booking(tables: Tables, now: datetime, booking_id: str, reason: str, keep: bool | None) -> Answer:
    """Refuse a booking; ``keep``: its place is still good for others, else the slot is withdrawn with it.

    Unsaid, an hour goes, and a plage stays: who refuses one patient does not mean the others.
    """
    booking = tables.bookings.get(booking_id)
    # of the seat behind a promise the practice knows nothing
    if booking is None or booking.state in BEHIND_PROMISES:
        return "not_found", None
    if booking.state == "refused":
        word = "already"
    elif booking.state not in ("held", "firm") or booking.ended_at is not None:
        word = "conflict"
    elif tables.has_begun(now, tables.slots[booking.slot_id]):
        word = "begun"
    else:
        refuse_bookings(tables, now, [booking], "refused", reason)
        slot = tables.slots[booking.slot_id]
        if not (slot.capacity > 1 if keep is None else keep):
            take_off(tables, now, [slot])
        word = "refused"
    return word, tables.booking_json(booking)


def take_off(tables: Tables, now: datetime, slots: Iterable[Slot]) -> None:
    """Take slots off the market because their practice refused somebody there, or gave up the place of who called off.

    Who has a seat keeps it; of promises the practice takes it away, as when it withdraws.
    """
    gone = [slot for slot in slots if slot.status == "open"]
    for slot in gone:
        tables.withdraw(now, slot)
        slot.refused = True
    promised = [b for slot in gone for b in tables.seats.get(slot.id, {}).values() if b.state == "promised"]
    refuse_bookings(tables, now, promised, "withdrawn", "closed")
    tables.announce_gone(now, gone)


def set_outcome(tables: Tables, now: datetime, booking_id: str, state: str) -> Answer:
    """Say whether the patient came: from the start of the slot on; may be corrected."""
    booking = tables.bookings.get(booking_id)
    if booking is None:
        return "not_found", None
    if booking.state == state:
        word = "already"
    elif booking.state not in ("firm", "fulfilled", "noshow"):
        word = "conflict"
    elif tables.slots[booking.slot_id].starts > now:
        word = "too_early"
    else:
        booking.state = state
        booking.version += 1
        request = tables.requests[booking.request_id]
        tables.set_status(request, state)
        tables.announce_requests(now, [request])
        tables.announce_booking(now, booking)
        word = state
    return word, tables.booking_json(booking)
