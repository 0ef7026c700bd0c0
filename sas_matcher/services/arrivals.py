"""Arrivals: a new request goes to the matcher first and is committed with its decision, in one transaction.

The ordinary way commits a request, tells the matcher, and commits the decision: a commit and a change of process more
before anybody is answered. Nothing is acknowledged here before the ledger has it. Whoever sends a request waits
``PATIENCE_S`` for its decision and then writes it himself, under the same id and Idempotency-Key: whatever became of
the matcher, of Redis or of the message, the request is there once. See ``docs/adr/0015``.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import orjson

from sas_matcher.ports.bus import ARRIVAL
from sas_matcher.ports.ledger import Announcement, Idempotency, Publisher, request_row
from sas_matcher.ports.world import Clock

PATIENCE_S: Final = 1.0
"""Half of what a caller waits for the decision: what is left is for the ordinary way."""

REMEMBERED: Final = 10_000
"""Idempotency-Keys of one worker: 20 s at 500 requests a second, longer than anybody waits before he repeats a call."""


class Arrivals:
    """Sends new requests of one worker to the matcher."""

    def __init__(self, publisher: Publisher, clock: Clock) -> None:
        self._publisher, self._clock = publisher, clock
        self._sent: OrderedDict[tuple[str, str], str] = OrderedDict()

    def sent(self, once: Idempotency) -> str | None:
        """Return the request that was sent for a call under the same Idempotency-Key."""
        return self._sent.get(once[:2])

    def send(self, wish: Mapping[str, Any], once: Idempotency) -> bool:
        """Send a request; False for one that goes the ordinary way.

        That is one whose médecin traitant may have to be asked first (asked when it is committed), and a call that is
        repeated: its answer is in the ledger.
        """
        if wish["mt"] is not None or once[:2] in self._sent:
            return False
        self._sent[once[:2]] = wish["id"]
        if len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)
        now = self._clock.now()
        row = orjson.dumps(request_row(now, wish, once)).decode()
        news = Announcement(0, now, wish["territory"], "requests", ARRIVAL, wish["id"], 1, once.key_id, (), row)
        self._publisher.announce([news])
        return True
