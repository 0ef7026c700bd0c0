"""``/metrics`` and the timing of each answer."""

import os

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest, multiprocess

from sas_matcher.metrics import HTTP, PUSHED, SLOW_READERS, SOCKETS

__all__ = ["CONTENT_TYPE_LATEST", "HTTP", "PUSHED", "SLOW_READERS", "SOCKETS", "exposition"]


def exposition() -> bytes:
    """Return the metrics of all processes of this service in the text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
