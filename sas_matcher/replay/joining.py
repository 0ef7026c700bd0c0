"""Days of several territories, recorded at once, as one day: what they share is there once.

A place by video is every territory's: each log tells it, with the seats that were there for its own people. Hindsight
on each log alone would give the same seat once in each.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sas_matcher.replay.daylog import DayLog, Event, SlotCapacity, SlotPublished, SlotWithdrawn


def joined(days: Sequence[DayLog]) -> DayLog:
    """Return one day in which everybody asks and every slot is there once.

    Of a slot that several logs know the first publication counts, with the most seats that any of them says; that it
    had fewer seats for one territory, since another took them, is left out, and it is gone when the first says so.

    Args:
        days: at least one, by the same rules (``meta``); instants may be of several time zones.
    """
    known = Counter(event.slot.id for day in days for event in day.slots)
    seats = {name: max(day.capacities[name][0][1] for day in days if name in day.capacities) for name in known}
    events: list[Event] = []
    told: set[tuple[type[Event], str]] = set()
    for event in sorted((event for day in days for event in day.events), key=lambda event: event.t):
        if isinstance(event, SlotCapacity) and known[event.slot_id] > 1:
            continue
        if isinstance(event, SlotPublished | SlotWithdrawn):
            name = event.slot.id if isinstance(event, SlotPublished) else event.slot_id
            if (type(event), name) in told:
                continue
            told.add((type(event), name))
        if isinstance(event, SlotPublished):
            events.append(replace(event, slot=replace(event.slot, capacity=seats[event.slot.id])))
        else:
            events.append(event)
    first, last = min(day.meta.start for day in days), max(day.meta.end for day in days)
    return DayLog(replace(days[0].meta, start=first, end=last), tuple(events))
