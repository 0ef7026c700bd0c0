"""What practices let leave, and who was shown it, in memory: what ``009_share.sql`` says (port ``ConsentBook``)."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import orjson

from adapters.memory.rows import Slot
from sas_matcher.ports.practice import Exposure, ShareRule

if TYPE_CHECKING:
    from adapters.memory.ledger import MemoryLedger

_CHANNELS: Final = frozenset({"sas", "platform"})
_AHEAD: Final = timedelta(days=92)
_ALWAYS: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class Shown:
    """A call that showed places: (slot, rule) each."""

    at: datetime
    channel: str
    key_id: str | None
    places: list[tuple[int, str]]


@dataclass(slots=True)
class ShareTable:
    """All rules, and what was shown."""

    rules: dict[tuple[str, str], ShareRule] = field(default_factory=dict)
    shown: list[Shown] = field(default_factory=list)

    def share(self, now: datetime, slot: Slot) -> bool:
        """Write what the rules make of a place (``share_slots``); False when nothing changed."""
        if slot.for_request is not None:
            return False
        over = [rule for rule in self.rules.values() if _covers(rule, slot)]
        allowing = [rule for rule in over if _allows(rule, slot)]
        # where both may have it, the one that may later: neither gets it before its rule lets it
        soonest = [
            min(slot.starts - timedelta(minutes=first) if first is not None else _ALWAYS for first in firsts)
            for channel in _CHANNELS
            if (firsts := [rule.own_first_min for rule in allowing if channel in rule.channels])
        ]
        own_until = max(soonest, default=_ALWAYS)
        before = (slot.shut, slot.platform, slot.own_until, slot.rule)
        slot.shut = bool(over) and not any("sas" in rule.channels for rule in allowing)
        slot.platform = not over or any("platform" in rule.channels for rule in allowing)
        slot.own_until = own_until if own_until > now else None
        slot.rule = ",".join(sorted(rule.name for rule in allowing)) or None
        return before != (slot.shut, slot.platform, slot.own_until, slot.rule)

    def note(self, now: datetime, channel: str, key_id: str | None, slots: Iterable[Slot]) -> None:
        """Write that a key was shown some places."""
        places = [(slot.id, slot.rule or "") for slot in sorted(slots, key=lambda slot: slot.id)]
        if places:
            self.shown.append(Shown(now, channel, key_id, places))


def _covers(rule: ShareRule, slot: Slot) -> bool:
    mine = f"p:{slot.professional}" in rule.members or f"s:{slot.structure}" in rule.members
    return mine and (slot.source == rule.source or not rule.own_only)


def _allows(rule: ShareRule, slot: Slot) -> bool:
    local = slot.starts.astimezone(ZoneInfo(rule.zone))
    return (
        local.isoweekday() in rule.days
        and rule.from_minute <= 60 * local.hour + local.minute < rule.to_minute
        and (rule.professions is None or slot.profession in rule.professions)
    )


def _document(rule: ShareRule) -> str:
    names = ("name", "zone", "from_minute", "to_minute", "days", "professions", "channels", "own_first_min")
    members = {
        word: sorted(member[2:] for member in rule.members if member.startswith(prefix))
        for word, prefix in (("professionals", "p:"), ("structures", "s:"))
    }
    return orjson.dumps({**{name: getattr(rule, name) for name in names}, **members}).decode()


class MemoryConsent:
    """The meaning of ``adapters.postgres.consent``, without a server."""

    def __init__(self, ledger: "MemoryLedger") -> None:
        self._ledger = ledger

    @property
    def _on(self) -> ShareTable:
        return self._ledger.tables.sharing

    async def put_rule(self, now: datetime, rule: ShareRule) -> str:
        """Set or change a rule; returns its document.

        Raises:
            ValueError: a rule that no practice may set.
        """
        fits = (
            0 <= rule.from_minute < rule.to_minute <= 1440
            and rule.days
            and set(rule.days) <= set(range(1, 8))
            and rule.professions != ()
            and rule.channels
            and set(rule.channels) <= _CHANNELS
            and (rule.own_first_min is None or 1 <= rule.own_first_min <= 10_080)
        )
        if not fits:
            raise ValueError(f"Expected a lawful rule, got {rule}.")
        known = self._on.rules.get((rule.source, rule.name))
        self._on.rules[rule.source, rule.name] = rule
        self._reshare(now, [known, rule])
        return _document(rule)

    async def remove_rule(self, now: datetime, source: str, name: str) -> bool:
        """Take a rule back; False when there is none of that name."""
        rule = self._on.rules.pop((source, name), None)
        if rule is not None:
            self._reshare(now, [rule])
        return rule is not None

    def _reshare(self, now: datetime, rules: Collection[ShareRule | None]) -> None:
        tables = self._ledger.tables
        mine = [
            slot
            for slot in tables.slots.values()
            if slot.status == "open" and slot.starts >= now and any(rule and _covers(rule, slot) for rule in rules)
        ]
        changed = [slot for slot in mine if self._on.share(now, slot)]
        for slot in changed:
            slot.version, slot.changed_at = tables.change(), now
        tables.announce_places(now, changed)
        self._ledger.publish()

    async def rules(self, source: str) -> list[str]:
        """Return the documents of a source's rules, by name."""
        return [_document(rule) for (of, _), rule in sorted(self._on.rules.items()) if of == source]

    async def note(self, now: datetime, channel: str, key_id: str | None, slots: Sequence[int]) -> None:
        """Write that a key was shown some places."""
        known = self._ledger.tables.slots
        self._on.note(now, channel, key_id, [known[number] for number in set(slots) if number in known])

    async def exposures(
        self,
        source: str | None,
        professionals: Sequence[str],
        structures: Sequence[str],
        window: tuple[datetime, datetime],
        limit: int,
    ) -> list[Exposure]:
        """Return what became known of a practice's places in a window, newest first."""
        tables, asking = self._ledger.tables, self._ledger.asking

        def owned(of: str, professional: str | None, structure: str | None) -> bool:
            return of == source or professional in professionals or structure in structures

        def told(at: datetime, what: str, key_id: str | None, slot: Slot | None, rule: str | None) -> Exposure:
            role = None if key_id is None else self._ledger.role_of(key_id)
            if slot is None:
                return Exposure(at, what, role, key_id, None, None, None, rule)
            return Exposure(at, what, role, key_id, slot.id, slot.external_id, slot.starts, rule)

        mine = {
            slot.id: slot
            for slot in tables.slots.values()
            if owned(slot.source, slot.professional, slot.structure) and window[0] <= slot.starts < window[1] + _AHEAD
        }
        found = [
            told(one.at, one.channel, one.key_id, mine[number], rule)
            for one in self._on.shown
            for number, rule in one.places
            if number in mine
        ]
        for booking in tables.bookings.values():
            if booking.slot_id in mine and booking.firm_at is not None:
                key_id = tables.requests[booking.request_id].key_id
                found.append(told(booking.firm_at, "booked", key_id, mine[booking.slot_id], booking.rule))
        for question in asking.questions.values():
            row = asking.overflows[question.overflow_id].row
            if owned(row["source"], row["professional"], row["structure"]):
                key_id = tables.requests[question.request_id].key_id
                found.append(told(question.asked_at, "asked", key_id, None, f"en_sus:{row['name']}"))
        found = [one for one in found if window[0] <= one.at < window[1]]
        found.sort(key=lambda one: (-one.at.timestamp(), one.what, one.slot_id or 0))
        return found[:limit]
