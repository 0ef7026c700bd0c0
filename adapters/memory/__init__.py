"""Twins of the stores in plain dicts: for replay in virtual time and for fast tests, never for a live service.

They keep nothing when the process ends and serve one process only. Their meaning is that of ``adapters.postgres`` and
``adapters.redis``: the same contract tests run on both.
"""

from adapters.memory.bus import MemoryBus
from adapters.memory.ledger import MemoryLedger

__all__ = ["MemoryBus", "MemoryLedger"]
