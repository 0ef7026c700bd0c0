"""State machines of a request and of a booking.

```
request   waiting ─▶ held ─▶ firm ─▶ fulfilled | noshow
             ▲  │      │       │
             │  │      ├─▶ waiting (declined; the slot never comes back)   firm ─▶ waiting (refused, withdrawn)
             │  │      └─▶ lapsed  (nobody answered in time) ─▶ waiting (resumed by the regulator)
             │  ├─▶ unserved (deadline passed)
             └──┴──── any open state ─▶ cancelled
          waiting ─▶ promised ─▶ firm (told) | held (chosen by hand) ─▶ promised (not confirmed)
                        └─▶ waiting (displaced by the crisis, withdrawn by the practice, never told)
booking   held ─▶ firm ─▶ fulfilled | noshow | cancelled | refused | withdrawn
          held ─▶ declined | lapsed | cancelled | refused | withdrawn | replaced | promised (a promise returns)
          promised ─▶ firm | held (told: another editor's place) | moved | displaced | cancelled | withdrawn | replaced
```
The ledger makes these moves in SQL; the contract tests hold it, and its twin in memory, to ``REQUEST_MOVES``.
"""

from enum import StrEnum
from typing import Final


class RequestStatus(StrEnum):
    """Where a request stands."""

    WAITING = "waiting"
    PROMISED = "promised"
    HELD = "held"
    FIRM = "firm"
    LAPSED = "lapsed"
    UNSERVED = "unserved"
    CANCELLED = "cancelled"
    FULFILLED = "fulfilled"
    NOSHOW = "noshow"


class BookingState(StrEnum):
    """Where a booking stands; the first five occupy the seat, the others have given it back."""

    PROMISED = "promised"
    HELD = "held"
    FIRM = "firm"
    FULFILLED = "fulfilled"
    NOSHOW = "noshow"
    DECLINED = "declined"
    LAPSED = "lapsed"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    REPLACED = "replaced"
    MOVED = "moved"
    DISPLACED = "displaced"


class ClaimKind(StrEnum):
    """What a line of a matcher's batch wants for its request."""

    HOLD = "hold"
    """Waiting: keep a seat for the regulator until he confirms."""
    PROMISE = "promise"
    """Waiting: promise "seen before the deadline", with a seat behind it. Promised: move that seat, in silence."""
    TELL = "tell"
    """Promised: make it firm on this slot; regulator and practice are told."""
    DISPLACE = "displace"
    """Promised: break the promise (crisis only); the request waits again and its regulator is told at once."""
    NONE = "none"
    """Waiting: there is no place now; the decision carries the reason."""


ACTIVE_BOOKINGS: Final = frozenset(
    {
        BookingState.PROMISED,
        BookingState.HELD,
        BookingState.FIRM,
        BookingState.FULFILLED,
        BookingState.NOSHOW,
    }
)

REQUEST_MOVES: Final[dict[RequestStatus, frozenset[RequestStatus]]] = {
    RequestStatus.WAITING: frozenset(
        {
            RequestStatus.HELD,
            RequestStatus.PROMISED,
            RequestStatus.UNSERVED,
            RequestStatus.CANCELLED,
            RequestStatus.WAITING,
        }
    ),
    RequestStatus.PROMISED: frozenset(
        {
            RequestStatus.FIRM,
            RequestStatus.HELD,
            RequestStatus.PROMISED,
            RequestStatus.WAITING,
            RequestStatus.CANCELLED,
            RequestStatus.UNSERVED,
        }
    ),
    RequestStatus.HELD: frozenset(
        {
            RequestStatus.FIRM,
            RequestStatus.PROMISED,
            RequestStatus.WAITING,
            RequestStatus.LAPSED,
            RequestStatus.CANCELLED,
            RequestStatus.HELD,
            RequestStatus.UNSERVED,
        }
    ),
    RequestStatus.FIRM: frozenset(
        {
            RequestStatus.FULFILLED,
            RequestStatus.NOSHOW,
            RequestStatus.WAITING,
            RequestStatus.CANCELLED,
            RequestStatus.UNSERVED,
        }
    ),
    RequestStatus.LAPSED: frozenset({RequestStatus.WAITING, RequestStatus.HELD, RequestStatus.CANCELLED}),
    RequestStatus.UNSERVED: frozenset(),
    RequestStatus.CANCELLED: frozenset(),
    RequestStatus.FULFILLED: frozenset({RequestStatus.NOSHOW}),
    RequestStatus.NOSHOW: frozenset({RequestStatus.FULFILLED}),
}


def may_move(before: RequestStatus, after: RequestStatus) -> bool:
    """Tell whether a request may pass from one status to the other."""
    return after in REQUEST_MOVES[before]
