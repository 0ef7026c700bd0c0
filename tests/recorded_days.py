"""A recorded day as text, for whoever reads a failed test and has no files: its events and batches in their order."""

from collections.abc import Iterable, Sequence
from typing import Any

from sas_matcher.replay.batches import Batch, Mark, Seats
from sas_matcher.replay.daylog import DayLog, Event, RequestCreated, SlotPublished

Different = Sequence[tuple[str, str | None, str | None]]


def differences(day: DayLog, marks: Iterable[Mark], different: Different) -> str:
    """Say what was decided otherwise the second time, and all that was recorded; nothing where nothing was.

    Requests bear the last four signs of their ids, slots their numbers; instants are the territory's own.
    """
    if not different:
        return ""
    waiting = list(marks)
    lines = [f"{_short(name)}: recorded {_short(slot)}, now {_short(now)}" for name, slot, now in different]
    for number, event in enumerate(day.events):
        while waiting and waiting[0].after <= number:
            lines.append(_mark(waiting.pop(0)))
        lines.append(f"{number:4} {_clock(event)} {_event(event)}")
    return "\n".join([*lines, *map(_mark, waiting)])


def _event(event: Event) -> str:
    kind = type(event).__name__
    match event:
        case SlotPublished(slot=slot):
            return f"{kind} {_short(slot.id)} ×{slot.capacity} at {slot.start.iso()[11:19]}"
        case RequestCreated(request=request):
            return f"{kind} {_short(request.id)} {request.tier} until {request.deadline.iso()[:16]}"
    named = {name: getattr(event, name) for name in event.__dataclass_fields__ if name != "t"}
    return f"{kind} {' '.join(_short(str(value)) for value in named.values())}"


def _mark(mark: Mark) -> str:
    if isinstance(mark, Seats):
        return f"     {_clock(mark)} seats of {_short(mark.slot_id)}: {mark.left} left, {mark.hidden} hidden"
    rows = zip(mark.requests, mark.slots, mark.said, strict=True)
    chosen = ", ".join(f"{_short(name)}→{_short(slot)} {word}" for name, slot, word in rows)
    known: dict[str, Any] = {
        "step": mark.step and str(mark.step),
        "planned": mark.planned and " ".join(mark.planned),
        "asked": _shorts(mark.asked),
        "answered": _shorts(mark.answered or ()),
        "lost": _shorts(sorted(mark.lost)),
        "unheard": _shorts(mark.unheard),
        "ceded": " ".join(f"{_short(slot)}/{_short(loser)}" for slot, loser in mark.ceded),
        "measures": mark.measures,
        "opened": mark.opened,
    }
    about = "; ".join(f"{name} {value}" for name, value in known.items() if value)
    return f"     {_clock(mark)} batch [{chosen}] {about}"


def _clock(what: Event | Batch | Seats) -> str:
    return what.t.iso()[11:26]


def _short(name: str | None) -> str:
    return "–" if name is None else name.replace("s00000000", "s") if name.startswith("s0") else name[-4:]


def _shorts(names: Iterable[str]) -> str:
    return " ".join(map(_short, names))
