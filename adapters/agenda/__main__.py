"""The bounded process that reads a calendar: ``python -m adapters.agenda ZONE FIRST DAYS MINUTES``, bytes to JSON."""

import resource
import sys
from datetime import date
from typing import Final

import orjson

from adapters.agenda.ics import read_ics

CPU_S: Final = 10  # 5 000 events take about one
MEMORY: Final = 1024 * 1024 * 1024  # of addresses, of which a tenth is used

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    _, _zone, _first, _days, _minutes = sys.argv
    _read = read_ics(sys.stdin.buffer.read(), _zone, date.fromisoformat(_first), int(_days), int(_minutes))
    _errors = [tuple(error) for error in _read.errors]
    sys.stdout.buffer.write(orjson.dumps((_read.hours, _errors, _read.lines, _read.closures)))
