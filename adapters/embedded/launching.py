"""How the process of an embedded server is started: as whom, by which command, and how it is told from any other."""

import functools
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self


class EmbeddedServerError(RuntimeError):
    """An embedded server cannot be started or used; the message is in French, for the terminal."""


class RunAs(StrEnum):
    """The user a server runs as."""

    SELF = "self"
    """The user of the supervisor."""
    NAMESPACE = "namespace"
    """Root, seen as an ordinary user inside a user namespace: files stay root's, no mode is changed."""
    NOBODY = "nobody"
    """The user `nobody`, for a root without user namespaces: the server's folder is given to it."""


@functools.cache
def unprivileged() -> RunAs:
    """Return how a server that refuses to run as root can run here.

    Raises:
        EmbeddedServerError: Root, without user namespaces and without a user `nobody`.
    """
    if os.geteuid() != 0:
        return RunAs.SELF
    for way in (RunAs.NAMESPACE, RunAs.NOBODY):
        trial = subprocess.run(child_command((), run_as=way), check=False, capture_output=True)  # noqa: S603
        if trial.returncode == 0:
            return way
    raise EmbeddedServerError(
        "PostgreSQL refuse de tourner en root, et cette machine n'autorise ni les espaces de noms "
        "d'utilisateurs ni le passage à l'utilisateur « nobody ». Lancez sous un compte ordinaire, ou donnez "
        "un serveur par SAS_DATABASE_URL."
    )


@dataclass(frozen=True)
class ProcessId:
    """A process number that cannot be mistaken for a later process with the same number.

    Attributes:
        pid: The number.
        born: Start time in clock ticks since boot (proc(5), field 22); 0 where there is no `/proc`.
    """

    pid: int
    born: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """Return the identity of the process that has this number now."""
        state = _proc_stat(pid)
        return cls(pid, int(state[19]) if state else 0)

    def alive(self) -> bool:
        """Tell whether this very process still runs (a zombie does not)."""
        state = _proc_stat(self.pid)
        if state is not None:
            return state[0] not in {"Z", "X"} and int(state[19]) == self.born
        if Path("/proc/self/stat").exists():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def _proc_stat(pid: int) -> list[str] | None:
    """Return the fields of `/proc/PID/stat` after the program's name (which may contain spaces), or None."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def child_command(command: Sequence[str], *, run_as: RunAs, death_signal: signal.Signals = signal.SIGTERM) -> list[str]:
    """Return the command that ties a program to this process (see `child.py`) and runs it as whom it shall be."""
    child = Path(__file__).with_name("child.py")
    return [
        sys.executable,
        "-I",
        "-S",
        str(child),
        str(os.getpid()),
        str(int(death_signal)),
        run_as,
        *command,
    ]


def clean_environment() -> dict[str, str]:
    """Return our environment without what redirects a server (`PGDATA`…); messages in plain English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}


def account_of_nobody() -> pwd.struct_passwd | None:
    """Return the account of the user `nobody`, if there is one."""
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        return None
