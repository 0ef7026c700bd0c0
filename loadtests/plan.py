"""What a run is to play: written by ``loadtests.__main__``, read by Locust's process."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PLAN: Final = "SAS_LOAD_PLAN"
"""Variable that names the file of the plan."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to play; see the module.

    Attributes:
        scenario: name of the story.
        seconds: how long people call.
        times: multiple of real rates.
        seed: of everything that happens by chance.
        territories: codes; empty: the story's own, else all.
        regulators: one key for each desk.
        practice: key of an editor of agendas that publishes for anybody.
        coordinator: key that sets policies and watches; empty: nobody does.
        policy: of the tiers below T0.
        editor: process number of a mock editor; 0: none.
        after: seconds to go on after the last call; a desk that promises looks ahead every five minutes only.
        patient: breaks are repeated with the same Idempotency-Key instead of being failures (servers are being killed).
        out: folder of what was measured.
    """

    scenario: str
    seconds: float
    times: float
    seed: int
    regulators: list[str]
    practice: str
    out: str
    territories: list[str] = field(default_factory=list)
    coordinator: str = ""
    policy: str = "auto"
    editor: int = 0
    after: float = 0.0
    patient: bool = False

    @classmethod
    def read(cls) -> "Plan":
        """Read the file that the environment names.

        Raises:
            SystemExit: there is none.
        """
        if not (name := os.environ.get(PLAN)):
            raise SystemExit(f"Il manque {PLAN} ; lancez python -m loadtests.")
        return cls(**json.loads(Path(name).read_text("utf-8")))
