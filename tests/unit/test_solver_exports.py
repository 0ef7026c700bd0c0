"""The public face of the solver, and its purity."""

import ast
from pathlib import Path
from types import ModuleType

import solver

PURE = {"collections", "dataclasses", "functools", "math", "numpy", "operator", "ortools", "solver", "typing"}


def test_exported_members() -> None:
    """All that is public is in ``__all__``, sorted, and nothing else is."""
    public = {
        name for name, value in vars(solver).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert solver.__all__ == sorted(public)


def test_imports_only_numpy_ortools_and_pure_standard_modules() -> None:
    """No clock, no files, no network, no event loop, no randomness, nothing of the project."""
    for path in Path(solver.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "."]
            else:
                assert not (isinstance(node, ast.Attribute) and node.attr == "random"), path
                continue
            assert {name.split(".")[0] for name in names} <= PURE, path
