"""The arrows between the layers hold, and the checks that hold them are not blind: planted sins are found."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sas_matcher", "solver", "adapters", "loadtests")
# Time, randomness and ids come in as arguments everywhere but at the edge.
PURE = ("sas_matcher/domain", "sas_matcher/matching", "sas_matcher/services", "solver")
AMBIENT = {
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
    ("time", "time"),
    ("time", "monotonic"),
    ("time", "perf_counter"),
    ("uuid", "uuid4"),
    ("uuid", "uuid1"),
    ("os", "urandom"),
}
AMBIENT_MODULES = {"random", "secrets"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, to sin in."""
    copy = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "data"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run the import linter in a tree."""
    program = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as c; c()"
    command = [sys.executable, "-c", program, "--no-cache"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=100, check=False)


def test_the_arrows_hold(tree: Path) -> None:
    """No import goes against the layers."""
    result = lint(tree)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]


@pytest.mark.parametrize(
    ("place", "sin", "contract"),
    [
        ("solver/greedy.py", "import asyncio", "The solver is pure"),
        ("sas_matcher/services/publish.py", "import adapters.postgres", "know no I/O library and no adapter"),
        ("sas_matcher/domain/lifecycle.py", "import numpy", "standard library only"),
        ("sas_matcher/matching/terms.py", "import sas_matcher.services.relay", "Arrows point inward"),
    ],
)
def test_a_planted_sin_is_found(tree: Path, place: str, sin: str, contract: str) -> None:
    """Each contract breaks when it is broken."""
    path = tree / place
    text = path.read_text(encoding="utf-8")
    path.write_text(text + f"\n{sin}\n", encoding="utf-8")
    try:
        result = lint(tree)
    finally:
        path.write_text(text, encoding="utf-8")
    assert result.returncode != 0
    assert any(contract in line and "BROKEN" in line for line in result.stdout.splitlines()), result.stdout[-3000:]


def ambient_uses(source: str) -> Iterator[str]:
    """Yield calls of the clock, of randomness and of id makers in a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            yield from (name for name in names if name in AMBIENT_MODULES)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            if (name, node.func.attr) in AMBIENT:
                yield f"{name}.{node.func.attr}"


def test_deciding_code_has_no_clock_and_no_dice() -> None:
    """Domain, matching, services and solver take time, randomness and ids as arguments."""
    found = {
        f"{path.relative_to(ROOT)}: {use}"
        for folder in PURE
        for path in (ROOT / folder).rglob("*.py")
        for use in ambient_uses(path.read_text(encoding="utf-8"))
    }
    assert found == set()


@pytest.mark.parametrize(
    "sin",
    ["import datetime\ndatetime.datetime.now()", "import random", "from time import time\nimport time\ntime.time()"],
)
def test_the_search_for_ambient_calls_is_not_blind(sin: str) -> None:
    """A planted clock or die is found."""
    assert list(ambient_uses(sin))
