"""Processor time of groups of processes, from proc(5): what a request costs, whatever else the machine does."""

from collections.abc import Mapping, Sequence
from pathlib import Path

_NS_PER_MS = 1e6


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it, as far as they live."""
    found = [pid]
    for member in found:
        for task in Path(f"/proc/{member}/task").glob("*/children"):
            try:
                found += map(int, task.read_text("ascii").split())
            except OSError:
                continue  # it has just ended
    return found


def used_ms(groups: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Return the milliseconds that each group of processes, with their descendants, has been on a processor.

    The scheduler's own count (``schedstat``, in ns) of every thread that lives: a tick of 10 ms misses most of a call.
    """
    totals = {}
    for name, pids in groups.items():
        total = 0
        for member in {child for pid in pids for child in family(pid)}:
            for thread in Path(f"/proc/{member}/task").glob("*/schedstat"):
                try:
                    total += int(thread.read_text("ascii").split()[0])
                except OSError:
                    continue
        totals[name] = total / _NS_PER_MS
    return totals
