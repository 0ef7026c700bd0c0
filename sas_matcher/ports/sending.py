"""Messages that leave: to the national platform and to practices, queued until they are taken."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

MessageState = Literal["waiting", "sent", "refused"]


class Message(NamedTuple):
    """One change to be told.

    Attributes:
        number: 1, 2, … of its booking.
        status: booked, pending, cancelled, fulfilled or noshow.
        tries: how often it was taken to be sent, this time included.
        system, value: the regulator as the platform knows him; None when his key is bound to nobody.
    """

    id: int
    booking_id: str
    number: int
    status: str
    territory: str
    professional: str | None
    sos: bool
    starts: datetime
    ends: datetime
    booked_at: datetime
    tries: int
    system: str | None
    value: str | None


class Queued(NamedTuple):
    """A message as people see it."""

    booking_id: str
    number: int
    status: str
    state: str
    tries: int
    booked_at: datetime
    settled_at: datetime | None
    last_error: str | None
    remote: str | None
    next_at: datetime | None


class Delivery(NamedTuple):
    """What the other side said of a message.

    Attributes:
        word: taken, refused (never again as it is), again.
        detail: why not, without anything that was sent.
        remote: where the other side keeps it.
        later: it could not even be tried, and is to be after so long.
        gone: the address is no more, and nothing will ever arrive there.
    """

    word: Literal["taken", "refused", "again"]
    detail: str | None = None
    remote: str | None = None
    later: timedelta | None = None
    gone: bool = False


class Subscription(NamedTuple):
    """Who wants to be told of what, and how.

    Attributes:
        source: whose it is; ``name`` is unique among its subscriptions.
        key_id: who set it: nothing is told once that key is revoked.
        way: ``websocket``, ``email`` or ``webhook``; ``address`` of the latter two.
        kinds: see ``NoticeKind``.
        most_reminders: in 24 hours.
        members: about whom: ``p:`` professional (RPPS), ``s:`` structure (FINESS), ``src:`` all of a source.
    """

    source: str
    name: str
    key_id: str
    way: str
    address: str | None
    kinds: Sequence[str]
    most_reminders: int
    members: Sequence[str]


class Notice(NamedTuple):
    """One thing to be told to one subscription.

    Attributes:
        kind: see ``NoticeKind``.
        about: the booking, question or place; what is told of one comes in order.
        at: when it happened.
        body: JSON, ids and times only.
        secrets: of a webhook, the newest first.
        members: of the subscription, as the audience of a websocket.
    """

    id: int
    kind: str
    about: str
    at: datetime
    territory: str
    body: str
    tries: int
    way: str
    address: str | None
    secrets: tuple[bytes, ...]
    members: tuple[str, ...]
