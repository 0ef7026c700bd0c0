"""What practices get back, read from the twin (port ``StatementBook``)."""

from adapters.memory.ledger import MemoryLedger
from adapters.memory.rows import Request, Slot
from sas_matcher.ports.practice import Act, Offered, Owners, Window

_SEEN = ("firm", "fulfilled", "noshow")


def _own(slot: Slot, request: Request) -> str:
    if request.mt is not None and slot.professional is not None:
        return "yes" if request.mt == slot.professional else "no"
    return "no" if request.has_mt == "no" else "unknown"


class MemoryStatement:
    """The meaning of ``adapters.postgres.statement``, without a server."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger

    def _mine(self, slot: Slot, owners: Owners, window: Window) -> bool:
        source, professionals, structures = owners
        mine = slot.source == source or slot.professional in professionals or slot.structure in structures
        return mine and window[0] <= slot.starts < window[1]

    async def acts(self, owners: Owners, window: Window, limit: int) -> list[Act]:
        """Return what became a patient's place, by start."""
        tables = self._ledger.tables
        found = []
        for b in tables.bookings.values():
            s, r = tables.slots[b.slot_id], tables.requests[b.request_id]
            if b.state in _SEEN and b.ended_at is None and self._mine(s, owners, window):
                found.append(
                    Act(
                        booking_id=b.id,
                        state=b.state,
                        professional=s.professional,
                        professional_name=s.professional_name,
                        structure=s.structure,
                        structure_name=s.structure_name,
                        source_kind=s.source_kind,
                        territory=s.territory,
                        insee=s.insee,
                        starts=s.starts,
                        ends=s.ends,
                        mode=s.mode,
                        profession=s.profession,
                        en_sus=s.for_request is not None,
                        regulated_at=r.created_at,
                        role=self._ledger.role_of(r.key_id) or "",
                        own=_own(s, r),
                    )
                )
        return sorted(found, key=lambda act: (act.starts, act.booking_id))[:limit]

    async def offered(self, owners: Owners, window: Window, limit: int) -> list[Offered]:
        """Return what was offered, by start."""
        found = []
        for s in sorted(self._ledger.tables.slots.values(), key=lambda slot: (slot.starts, slot.id)):
            taken = sum(b.state in _SEEN for b in self._ledger.tables.seats.get(s.id, {}).values())
            if s.for_request is None and (s.status == "open" or taken) and self._mine(s, owners, window):
                who = (s.professional, s.professional_name, s.structure, s.structure_name, s.source_kind)
                found.append(Offered(*who, s.territory, s.starts, s.ends, s.capacity, taken))
        return found[:limit]
