"""What ``/metrics`` tells of batches: proven optimal, a stated gap, or the fallback that proves nothing."""

import pytest
from prometheus_client import REGISTRY

from sas_matcher.api.metrics import exposition
from sas_matcher.bootstrap.core import Meter


def counted(certificate: str) -> float:
    return REGISTRY.get_sample_value("sas_batches_total", {"certificate": certificate}) or 0.0


@pytest.mark.parametrize(
    ("method", "gap", "certificate"),
    [("single", 0, "optimal"), ("flow", 0, "optimal"), ("flow", 250, "gap"), ("greedy", -1, "fallback")],
)
def test_each_batch_is_counted_under_what_is_proven_of_it(method: str, gap: int, certificate: str) -> None:
    names = ("optimal", "gap", "fallback")
    before = {name: counted(name) for name in names}
    Meter().batch(5, 40, 0.002, method, gap)
    assert {name: counted(name) - before[name] for name in names} == {n: float(n == certificate) for n in names}


def test_a_stated_gap_is_measured_in_minutes() -> None:
    before = REGISTRY.get_sample_value("sas_batch_gap_minutes_sum") or 0.0
    for gap in (250, 0, -1):
        Meter().batch(5, 40, 0.002, "flow", gap)
    assert (REGISTRY.get_sample_value("sas_batch_gap_minutes_sum") or 0.0) - before == 25.0
    assert b'sas_batches_total{certificate="gap"}' in exposition()
