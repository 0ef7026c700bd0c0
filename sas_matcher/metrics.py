"""Metrics of all processes; with several processes set PROMETHEUS_MULTIPROC_DIR before importing this module."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

# buckets in seconds around what people notice: an answer on the phone within one second
_SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 30, 300)

HTTP: Final = Histogram("sas_http_seconds", "HTTP answers", ["route", "method", "status"], buckets=_SECONDS)
SOCKETS: Final = Gauge("sas_sockets", "Open websockets", multiprocess_mode="livesum")
PUSHED: Final = Counter("sas_pushed", "Messages pushed on websockets")
ADMITTED: Final = Counter("sas_admission", "Requests for a place let in or refused in an overload", ["tier", "verdict"])
ARRIVALS: Final = Counter(
    "sas_arrivals", "Requests by when they were committed: with their decision, or before", ["way"]
)
LATE: Final = Counter("sas_solver_late", "Solves and plans that did not come in time: the fallback decides", ["what"])
FAULTS: Final = Counter("sas_faults", "Steps that failed in a way nobody foresaw, and were left behind", ["what"])
SLOW_READERS: Final = Counter("sas_slow_readers", "Websockets cut off because their reader was too slow")
TIME_TO_DECISION: Final = Histogram(
    "sas_time_to_decision_seconds", "From request to decision", ["tier", "verdict"], buckets=_SECONDS
)
BATCH: Final = Histogram("sas_batch_requests", "Requests decided together", buckets=(1, 2, 5, 10, 20, 50, 100, 1000))
SOLVE: Final = Histogram("sas_solve_seconds", "Candidates and solving of a batch", ["method"], buckets=_SECONDS)
CERTIFICATES: Final = Counter("sas_batches", "Batches decided, by what is proven of them", ["certificate"])
GAP: Final = Histogram(
    "sas_batch_gap_minutes", "Stated gaps of batches not proven optimal", buckets=(1, 10, 60, 600, 6_000)
)
PLACES: Final = Gauge("sas_live_places", "Slots in the matcher's memory", multiprocess_mode="livemax")
WAITING: Final = Gauge("sas_waiting_requests", "Requests without a place", multiprocess_mode="livemax")
INGESTED: Final = Counter("sas_ingested", "Entries of the ingest stream", ["verdict"])
EDITORS: Final = Histogram(
    "sas_editor_seconds", "Calls to editors of agendas", ["editor", "word"], buckets=(0.1, 0.2, 0.5, 1, 2, 5, 7)
)
EDITOR_MUTE: Final = Gauge(
    "sas_editor_mute_seconds",
    "For how long an editor has given no usable answer; 0 while it answers",
    ["editor"],
    multiprocess_mode="livemax",
)
NATIONAL: Final = Counter("sas_national", "Messages to the national platform (INT_R03)", ["word"])
NATIONAL_QUEUE: Final = Gauge(
    "sas_national_queue", "Messages to the national platform by state", ["state"], multiprocess_mode="livemax"
)
NATIONAL_OLDEST: Final = Gauge(
    "sas_national_oldest_seconds", "Age of the oldest message that waits", multiprocess_mode="livemax"
)
NOTICES: Final = Counter("sas_notices", "Notices to practices", ["word"])
NOTICES_QUEUE: Final = Gauge(
    "sas_notices_queue", "Notices to practices by state", ["state"], multiprocess_mode="livemax"
)
NOTICES_OLDEST: Final = Gauge(
    "sas_notices_oldest_seconds", "Age of the oldest notice that waits", multiprocess_mode="livemax"
)
