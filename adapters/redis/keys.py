"""Names of the Redis keys.

The mirror is per territory, its keys sharing one hash tag and so one cluster slot. The streams are one each for
all territories, and share the tag ``{all}``, so that one XREAD, one transaction or one script may name several of them:
a reader of 101 streams pays 0.6 ms of its own time for each XREAD (measured), a reader of one 0.1 ms, and people resume
from one offset.
"""

from typing import Final

from sas_matcher.ports.bus import BATCHES_STREAM, EVENTS_STREAM, PLACES_STREAM, REQUESTS_STREAM

EPOCH: Final = "sas:{all}:epoch"
# Written to see whether the server takes writes; means nothing.
PING: Final = "sas:{all}:ping"
# The server process (run id) that the epoch began on.
EPOCH_RUN: Final = "sas:{all}:epoch:run"
# STREAM of changes of places.
PLACES_LOG: Final = PLACES_STREAM
# STREAM of requests to be matched.
REQUESTS: Final = REQUESTS_STREAM
# STREAM of what is pushed to people.
EVENTS: Final = EVENTS_STREAM
# STREAM of what the matcher decided together.
BATCHES: Final = BATCHES_STREAM
INGEST_POISON: Final = "sas:{all}:ingest:poison"


def places(territory: str) -> str:
    """HASH slot id → place record (JSON)."""
    return f"sas:{{{territory}}}:places"


def left(territory: str) -> str:
    """HASH slot id → "<seats left> <version of that> <version of the record>"; a withdrawn slot stays for an hour."""
    return f"sas:{{{territory}}}:left"


def by_start(territory: str) -> str:
    """ZSET slot id scored by its start in epoch seconds."""
    return f"sas:{{{territory}}}:by-start"


def traces(territory: str) -> str:
    """ZSET slot id of entries of ``left`` without a record, scored by the epoch second when they may be forgotten."""
    return f"sas:{{{territory}}}:traces"


def ready(territory: str) -> str:
    """STRING: the epoch for which the mirror is complete."""
    return f"sas:{{{territory}}}:ready"


def ingest(key_id: str) -> str:
    """STREAM into which the holder of a key publishes."""
    return f"sas:{{all}}:ingest:{key_id}"


def ingest_replies(key_id: str) -> str:
    """STREAM of the verdicts on it."""
    return f"sas:{{all}}:ingest:replies:{key_id}"


def once(name: str) -> str:
    """STRING: a value that is taken once, such as whose websocket ticket has this hash; it expires by itself."""
    return f"sas:once:{name}"


def editor(name: str) -> str:
    """HASH: what is known of an editor of agendas (answers, failures, circuit)."""
    return f"sas:editor:{name}"


def editor_batch(name: str, batch: str) -> str:
    """STRING: some process asks for this batch of an editor; it expires by itself when the batch is due again."""
    return f"sas:editor:{name}:batch:{batch}"
