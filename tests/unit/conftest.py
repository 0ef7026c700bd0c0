"""The program in this process."""

import sys
from collections.abc import Callable

import pytest

from sas_matcher import cli


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the program in this process; returns exit code, output and errors."""
    for name in ("SAS_URL", "SAS_KEY", "SAS_DATA_DIR", "SAS_DATABASE_URL", "SAS_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)

    def program(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sas-matcher", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return program
