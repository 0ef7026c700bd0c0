"""An independent judge: what happened, in the order in which it was decided, against the rules.

It shares nothing with the ledger's own auditor (``doubles``): triggers write the history, plain Python walks it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg

from adapters.postgres.queries import load_queries

SQL: Final = load_queries(Path(__file__).with_name("history.sql").read_text(encoding="utf-8"))


async def record(url: str) -> None:
    """Let a scratch database keep its history from now on."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(SQL["record"])
    finally:
        await connection.close()


@dataclass
class Walker:
    """Follows a history event by event and notes every broken rule."""

    wrong: list[str] = field(default_factory=list)
    takes: int = 0
    _slots: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    _seats: dict[tuple[int, int], Any] = field(default_factory=dict)
    _on_slot: defaultdict[int, set[Any]] = field(default_factory=lambda: defaultdict(set))
    _of_request: dict[Any, Any] = field(default_factory=dict)
    _of_professional: defaultdict[str, dict[Any, Any]] = field(default_factory=lambda: defaultdict(dict))

    def walk(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """Return the broken rules of a whole history."""
        for event in events:
            getattr(self, f"_{event['what']}")(event)
        return self.wrong

    def _blame(self, event: Mapping[str, Any], text: str) -> None:
        self.wrong.append(f"#{event['n']} slot {event['slot_id']}: {text}")

    def _slot(self, event: Mapping[str, Any]) -> None:
        before = self._slots.get(event["slot_id"])
        if before is not None and self._on_slot[event["slot_id"]]:
            for name in ("during", "professional", "territory"):
                if before[name] != event[name]:
                    self._blame(event, f"{name} changed under a booking")
        self._slots[event["slot_id"]] = event

    def _take(self, event: Mapping[str, Any]) -> None:
        self.takes += 1
        slot, seat, booking = event["slot_id"], event["seat"], event["booking_id"]
        known = self._slots[slot]
        if (slot, seat) in self._seats:
            self._blame(event, f"seat {seat} taken twice")
        if event["request_id"] in self._of_request:
            self._blame(event, f"request {event['request_id']} has two places")
        if len(self._on_slot[slot]) >= known["capacity"]:
            self._blame(event, f"booked over its capacity of {known['capacity']}")
        if known["status"] != "open":
            self._blame(event, "booked after it was withdrawn")
        if event["during"] is not None:
            if event["during"] != known["during"]:
                self._blame(event, "booked at another time than its own")
            for other in self._of_professional[event["professional"]].values():
                if event["during"].lower < other.upper and other.lower < event["during"].upper:
                    self._blame(event, f"{event['professional']} is booked at an overlapping time")
            self._of_professional[event["professional"]][booking] = event["during"]
        self._seats[slot, seat] = booking
        self._on_slot[slot].add(booking)
        self._of_request[event["request_id"]] = booking

    def _firm(self, event: Mapping[str, Any]) -> None:
        if event["booking_id"] not in self._on_slot[event["slot_id"]]:
            self._blame(event, "confirmed after it was given back")
        if event["at"] >= event["until"]:
            self._blame(event, "confirmed after the hold had ended")

    def _free(self, event: Mapping[str, Any]) -> None:
        slot, booking = event["slot_id"], event["booking_id"]
        if booking not in self._on_slot[slot]:
            self._blame(event, "given back twice")
        self._on_slot[slot].discard(booking)
        if self._seats.get((slot, event["seat"])) == booking:
            del self._seats[slot, event["seat"]]
        if self._of_request.get(event["request_id"]) == booking:
            del self._of_request[event["request_id"]]
        if event["professional"] is not None:
            self._of_professional[event["professional"]].pop(booking, None)


async def judge(url: str) -> list[str]:
    """Return every broken rule of a recorded database: by its history, by its tables, and by its own auditor."""
    connection = await asyncpg.connect(url)
    try:
        wrong = Walker().walk(await connection.fetch(SQL["history"]))
        wrong += [f"{row['what']}: {row['which']}" for row in await connection.fetch(SQL["audit"])]
    finally:
        await connection.close()
    return wrong
