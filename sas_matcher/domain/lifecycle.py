"""State machines of a request and of a booking.

```
request   waiting ─▶ held ─▶ firm ─▶ fulfilled | noshow
             ▲  │      │       │
             │  │      ├─▶ waiting (declined; the slot never comes back)   firm ─▶ waiting (refused, withdrawn)
             │  │      └─▶ lapsed  (nobody answered in time) ─▶ waiting (resumed by the regulator)
             │  ├─▶ unserved (deadline passed)
             └──┴──── any open state ─▶ cancelled
booking   held ─▶ firm ─▶ fulfilled | noshow | cancelled | refused | withdrawn
          held ─▶ declined | lapsed | cancelled | refused | withdrawn | replaced
```
"""

from enum import StrEnum
from typing import Final


class RequestStatus(StrEnum):
    """Where a request stands."""

    WAITING = "waiting"
    HELD = "held"
    FIRM = "firm"
    LAPSED = "lapsed"
    UNSERVED = "unserved"
    CANCELLED = "cancelled"
    FULFILLED = "fulfilled"
    NOSHOW = "noshow"


class BookingState(StrEnum):
    """Where a booking stands; the first four occupy the seat, the others have given it back."""

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


ACTIVE_BOOKINGS: Final = frozenset({BookingState.HELD, BookingState.FIRM, BookingState.FULFILLED, BookingState.NOSHOW})

REQUEST_MOVES: Final[dict[RequestStatus, frozenset[RequestStatus]]] = {
    RequestStatus.WAITING: frozenset(
        {RequestStatus.HELD, RequestStatus.UNSERVED, RequestStatus.CANCELLED, RequestStatus.WAITING}
    ),
    RequestStatus.HELD: frozenset(
        {
            RequestStatus.FIRM,
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
