"""How rows look outside: the documents of ``002_views.sql``, as JSON text."""

from typing import Any, Final

import orjson

from adapters.memory.rows import Booking, Request, Slot

_PLACE: Final = (
    *("source", "external_id", "territory", "professional", "professional_name", "structure", "structure_name"),
    *("source_kind", "lat", "lon", "landmass", "insee", "label", "phone", "capacity", "mode", "booking_kind"),
    *("profession", "specialty", "offers", "visibility", "acceptance", "accept_min", "back_at", "own_until"),
    *("valid_at", "checked_at", "version"),
)
_REQUEST: Final = (
    *("territory", "status", "version", "tier", "delay", "created_at", "deadline", "profession", "specialty", "modes"),
    *(
        "radius_km",
        "needs",
        "age_band",
        "mt",
        "has_mt",
        "priority",
        "on_phone",
        "case_ref",
        "lat",
        "lon",
        "insee",
        "excluded",
    ),
)
_OF_SLOT: Final = (
    *(
        "source",
        "external_id",
        "territory",
        "professional",
        "professional_name",
        "structure",
        "structure_name",
        "label",
    ),
    *("mode", "profession", "booking_kind", "capacity"),
)
_OF_BOOKING: Final = ("state", "version", "end_reason", "held_at", "firm_at", "ended_at")


def _named(row: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def place(slot: Slot) -> dict[str, Any]:
    """Return the public record of a place, without the number of seats left (which changes far more often)."""
    return {"slot_id": slot.id, "start": slot.starts, "end": slot.ends, **_named(slot, _PLACE)}


def place_json(slot: Slot) -> str:
    """Return ``place`` as JSON."""
    return orjson.dumps(place(slot)).decode()


def _acceptance(booking: Booking) -> dict[str, Any] | None:
    """Return where the acceptance of a booking stands; None where there is none to give."""
    if booking.acceptance is None:
        return None
    return {"kind": booking.acceptance, "until": booking.accept_until, "accepted_at": booking.accepted_at}


def request_json(request: Request, booking: Booking | None) -> str:
    """Return what its regulator sees of a request that has this booking."""
    document = _named(request, _REQUEST)
    document["request_id"] = request.id
    document["mt_first"] = request.mt_said and {"said": request.mt_said, "until": request.mt_until}
    document["booking"] = booking and {
        "booking_id": booking.id,
        "slot_id": booking.slot_id,
        "state": booking.state,
        "held_at": booking.held_at,
        "hold_until": booking.hold_until if booking.state == "held" else None,
        "firm_at": booking.firm_at,
        "acceptance": _acceptance(booking),
        # replays poll no editors
        "link": None,
    }
    document["promise"] = None
    if request.promised_at is not None:
        document["promise"] = {
            "since": request.promised_at,
            "seen_before": request.deadline,
            **_named(request, ("told_by", "moves", "broken", "lost_to_practice")),
        }
    document["refusal"] = request.refused_for and {"reason": request.refused_for, "at": request.refused_at}
    document["decision"] = request.decision and orjson.Fragment(request.decision)
    return orjson.dumps(document).decode()


def booking_json(booking: Booking, slot: Slot, request: Request) -> str:
    """Return what the practice sees of a booking: nothing that tells who the patient is, or where they are."""
    document = {
        "booking_id": booking.id,
        "slot_id": slot.id,
        "start": slot.starts,
        "end": slot.ends,
        "needs": request.needs,
        "age_band": request.age_band,
        "tier": request.tier,
        "acceptance": _acceptance(booking),
        "own_patient": request.mt is not None and request.mt == slot.professional,
        **_named(slot, _OF_SLOT),
        **_named(booking, _OF_BOOKING),
    }
    return orjson.dumps(document).decode()


def handed_back(slot: Slot, seats: int) -> str:
    """Return what the practice is told of seats that are its own again."""
    document = {"slot_id": slot.id, "start": slot.starts, "end": slot.ends, "seats": seats, **_named(slot, _OF_SLOT)}
    return orjson.dumps(document).decode()


def audience(slot: Slot) -> tuple[str, ...]:
    """Return who hears of bookings on a slot: its source, professional and structure."""
    named = (("src", slot.source), ("p", slot.professional), ("s", slot.structure))
    return tuple(f"{kind}:{name}" for kind, name in named if name is not None)
