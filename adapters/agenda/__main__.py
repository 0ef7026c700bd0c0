"""The bounded process that reads a feed: ``python -m adapters.agenda TASK`` (JSON, see ``apart``), bytes to JSON."""

import resource
import sys
from datetime import date
from typing import Final

import orjson

from adapters.agenda.ics import read_ics
from adapters.agenda.smart import read_smart

CPU_S: Final = 10  # 5 000 events take about one
MEMORY: Final = 1024 * 1024 * 1024  # of addresses, of which a tenth is used

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    _task = orjson.loads(sys.argv[1])
    _of = _task["zone"], date.fromisoformat(_task["first"]), _task["days"]
    if _task["kind"] == "ics":
        _read = read_ics(sys.stdin.buffer.read(), *_of, _task["each_min"])
    else:
        _files = [(kind, sys.stdin.buffer.read(length)) for kind, length in _task["files"]]
        _read = read_smart(_files, *_of, _task["schedules"])
    _errors = [tuple(error) for error in _read.errors]
    sys.stdout.buffer.write(orjson.dumps((_read.hours, _errors, _read.lines, _read.closures)))
