"""The program in this process."""

import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from sas_matcher import cli
from sas_matcher.cli import calls
from tests.unit.test_client import Fake


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


@pytest.fixture
def speak(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Fake, str]]:
    """Run a command against a fake service; returns what was called and what was said, or how it failed (``code``)."""

    def speaking(answer: httpx.Response, *arguments: Any, code: int = 0) -> tuple[Fake, str]:
        fake = Fake(answer)
        monkeypatch.setattr(calls, "client_of", lambda _url, _key: fake.client())
        result = CliRunner().invoke(cli.app, [*arguments, "--key", "sas_k_s"])
        assert (result.exit_code != 0) == bool(code), result.output
        return fake, result.output if not code else str(result.exception) + result.output

    return speaking
