"""Supervise one server as a foreground child: start or adopt, watch, stop, crash on demand, start again.

Each server owns a folder (mode 0700):

| file | meaning |
|---|---|
| `data/` | the server's data |
| `server.lock` | a `flock` the server *inherits*: free exactly when no process of the last one is left |
| `server.json` | process number, socket, and the supervisor it belongs to |
| `server.log` | standard output and error of the server |
| socket | in the folder, or in a short directory under the temporary one when the path would be too long |

On Linux the server stops with its supervisor, however that one dies (`PR_SET_PDEATHSIG`). The kernel binds
this to the *thread* that started the server, hence a start from any other thread than the main one is
refused. Elsewhere an orphan is adopted at the next start.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

from adapters.embedded.launching import (
    EmbeddedServerError,
    ProcessId,
    RunAs,
    account_of_nobody,
    child_command,
    clean_environment,
)

SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103
"""Longest usable path of a unix socket: `sun_path` less its closing zero (unix(7): 108; 104 on BSD and
macOS)."""
START_SECONDS = 60.0
"""Bound of a start, for the replay of a long log; an ordinary one takes a tenth of a second."""
ANSWER_SECONDS = 5.0
"""Bound of one question whether the server is ready."""
STOP_SECONDS = 10.0
"""Bound of a clean stop before a harder signal follows."""
ORPHAN_SECONDS = 5.0
"""How long a server without its supervisor is given to obey its death signal before it is adopted."""
LOG_BYTES = 5_000_000
"""At a start, a log above this size is set aside as `server.log.1`."""
_POLL_SECONDS = 0.005
_AWKWARD_IN_SOCKET_PATH = frozenset(",\"'\\")
"""Characters that split or quote a path in `unix_socket_directories` or in a connection URL."""


@dataclass(frozen=True)
class _Record:
    """What `server.json` says."""

    server: ProcessId
    owner: ProcessId
    socket: str

    def write(self, path: Path) -> None:
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self)), encoding="utf-8")
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return cls(ProcessId(**fields["server"]), ProcessId(**fields["owner"]), str(fields["socket"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None  # absent, or cut by a crash: the lock decides, not this file


class Server(ABC):
    """One embedded server; subclasses say what to run and how it answers."""

    NAME: ClassVar[str]
    """Name for messages."""
    URL_VARIABLE: ClassVar[str]
    """The setting that replaces this embedded server by a given one."""
    SOCKET_NAME: ClassVar[str]
    """File name of the socket, chosen by the server's habits."""
    DEATH_SIGNAL: ClassVar[signal.Signals]
    """Sent by the kernel when the supervisor is gone."""
    STOP_SIGNALS: ClassVar[Sequence[signal.Signals]]
    """Sent one after the other until the server has stopped; SIGKILL comes last by itself."""

    def __init__(self, folder: Path, *, run_as: RunAs) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self.adopted = False
        self._run_as = run_as
        self._lock_path = self.folder / "server.lock"
        self._record_path = self.folder / "server.json"
        self._socket: Path | None = None
        self._identity: ProcessId | None = None
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """URL for clients; stays the same over restarts of this handle."""

    @abstractmethod
    def _prepare(self, lock: int) -> None:
        """Make or check the data; the lock's descriptor goes to every process that is started for it."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the program and its arguments."""

    @abstractmethod
    def _answers(self) -> bool:
        """Tell whether the server on the socket serves clients now; OSError counts as no."""

    def _complete(self) -> None:  # noqa: B027  a hook, empty where nothing is needed
        """Do what needs a running server before the first client; may run twice, or twice at once."""

    @property
    def socket_path(self) -> Path:
        """Path of the unix socket.

        Raises:
            EmbeddedServerError: The server was never started.
        """
        if self._socket is None:
            raise EmbeddedServerError(f"{self.NAME} n'a pas été démarré.")
        return self._socket

    @property
    def pid(self) -> int:
        """Process number of the running server.

        Raises:
            EmbeddedServerError: The server does not run.
        """
        if self._identity is None:
            raise EmbeddedServerError(f"{self.NAME} n'est pas en marche.")
        return self._identity.pid

    def alive(self) -> bool:
        """Tell whether the server's process runs."""
        if self._popen is not None:
            return self._popen.poll() is None
        return self._identity is not None and self._identity.alive()

    def start(self) -> Self:
        """Start the server on its data, or adopt the one that already runs there; returns when it answers.

        Does nothing when this handle's server runs. Call it from the main thread (see the module). An adopted
        server still ends with the supervisor it belongs to.

        Raises:
            EmbeddedServerError: With the reason and the end of the log.
        """
        if self.alive():
            return self
        if threading.current_thread() is not threading.main_thread():
            raise EmbeddedServerError(
                f"{self.NAME} doit être démarré depuis le fil principal : le noyau l'arrête avec le fil qui l'a lancé."
            )
        try:
            self._own_folder(self.folder)
            lock = self._lock_or_adopt()
            if lock is None:
                return self
            try:
                self._launch(lock)
            finally:
                os.close(lock)  # the server has its own copy, and so the lock
            self._wait_ready()
            self._complete()
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError):
                raise self._error(f"{self.NAME} n'a pas pu démarrer dans {self.folder} : {error}.") from error
            raise
        return self

    def stop(self) -> None:
        """Stop the server cleanly, in about `STOP_SECONDS` per signal; leaves no process and no socket.

        A server adopted from a supervisor that still lives is left to it.
        """
        identity, self._identity = self._identity, None
        if identity is None:
            return
        if self.adopted:
            record = _Record.read(self._record_path)
            if record is not None and record.server == identity and record.owner.alive():
                return
        for number in (*self.STOP_SIGNALS, signal.SIGKILL):
            if self._signal_and_wait(identity, number):
                break
        self._settle(identity, clean=True)

    def kill(self) -> None:
        """Send SIGKILL, for crash tests; returns when the server and its own children are gone."""
        identity, self._identity = self._identity, None
        if identity is None:
            return
        self._signal_and_wait(identity, signal.SIGKILL)
        self._settle(identity, clean=False)

    def restart(self) -> Self:
        """Stop the server if it runs and start it on the same data, at the same URL; errors as `start`."""
        self.stop()
        return self.start()

    def _lock_or_adopt(self) -> int | None:
        """Return the lock's descriptor, or None when a running server was adopted.

        A held lock means a server that runs, starts, or is about to end. One whose supervisor is gone has
        been told to stop by the kernel, and may still answer for an instant: it is adopted only when it
        stays.
        """
        lock = self._open_lock()
        begin = time.monotonic()
        try:
            while not _try_lock(lock):
                waited = time.monotonic() - begin
                if waited > START_SECONDS:
                    raise self._error(
                        f"Le dossier {self.folder} sert déjà à un autre {self.NAME}, qui ne répond pas. "
                        f"Arrêtez-le, choisissez un autre dossier, ou donnez un serveur "
                        f"par {self.URL_VARIABLE}."
                    )
                if self._adopt(patient=waited < ORPHAN_SECONDS):
                    os.close(lock)
                    return None
                time.sleep(_POLL_SECONDS)
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _open_lock(self) -> int:
        return os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _adopt(self, *, patient: bool) -> bool:
        """Take over the running server if it answers; a patient one lets an orphan time to end."""
        record = _Record.read(self._record_path)
        if record is None or not record.server.alive():
            return False
        if patient and sys.platform == "linux" and not record.owner.alive():
            return False
        own_socket, self._socket = self._socket, Path(record.socket)
        if not self._ready():
            self._socket = own_socket
            return False
        self._identity, self._popen, self.adopted = record.server, None, True
        if not record.owner.alive():
            _Record(record.server, ProcessId.of(os.getpid()), record.socket).write(self._record_path)
            self.adopted = False
        self._complete()
        return True

    def _launch(self, lock: int) -> None:
        """Clear what a crash left, prepare the data, start the process; the lock is ours."""
        previous = _Record.read(self._record_path)
        if previous is not None and not previous.server.alive() and Path(previous.socket) != self._socket:
            self._remove_runtime_directory(Path(previous.socket))
        self._choose_socket()
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        try:
            self._prepare(lock)
            self._popen = self._spawn(self._command(), lock)
        except BaseException:
            self._clean()
            raise
        self._identity, self.adopted = ProcessId.of(self._popen.pid), False
        record = _Record(self._identity, ProcessId.of(os.getpid()), str(self._socket))
        record.write(self._record_path)

    def _spawn(self, command: Sequence[str], lock: int) -> subprocess.Popen[bytes]:
        """Start a process tied to this one, in its own session: Ctrl-C must not reach it before us."""
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603  our own binaries and arguments, no shell
                child_command(command, run_as=self._run_as, death_signal=self.DEATH_SIGNAL),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=clean_environment(),
                cwd=self.folder,
                start_new_session=True,
                pass_fds=(lock,),
            )

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if not self.alive():
                raise self._error(f"{self.NAME} s'est arrêté pendant son démarrage.")
            if time.monotonic() > deadline:
                raise self._error(f"{self.NAME} ne répond pas après {START_SECONDS:.0f} s.")
            time.sleep(_POLL_SECONDS)

    def _ready(self) -> bool:
        try:
            return self._answers()
        except OSError:
            return False

    def _signal_and_wait(self, identity: ProcessId, number: signal.Signals) -> bool:
        """Send a signal to the server; True when it has ended within the bound."""
        if self._popen is not None:
            self._popen.send_signal(number)
            try:
                self._popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                return False
            self._popen = None
            return True
        deadline = time.monotonic() + STOP_SECONDS
        if identity.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(identity.pid, number)
        while identity.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _settle(self, ended: ProcessId, *, clean: bool) -> None:
        """Wait for the server's own children to follow it; then clean up, under the lock.

        Without the lock, the socket could already be that of a server started by somebody who waited for it.
        """
        try:
            lock = self._open_lock()
        except FileNotFoundError:  # the whole folder was removed under the server
            return
        deadline = time.monotonic() + STOP_SECONDS
        try:
            while not _try_lock(lock):
                record = _Record.read(self._record_path)
                if record is None or record.server != ended or time.monotonic() > deadline:
                    return
                time.sleep(_POLL_SECONDS)
            if clean:
                self._clean()
                self._record_path.unlink(missing_ok=True)
        finally:
            os.close(lock)

    def _choose_socket(self) -> None:
        if self._socket is not None and self._socket.parent.is_dir():
            self._socket.unlink(missing_ok=True)
            return
        if self._socket is None:
            self._socket = self.folder / self.SOCKET_NAME
            if not _usable_socket_path(self._socket):
                self._socket = self._runtime_directory() / self.SOCKET_NAME
        else:  # the runtime directory of this handle was swept away: clients know its name, make it again
            self._socket.parent.mkdir(mode=0o700)
        self._own_folder(self._socket.parent)
        self._socket.unlink(missing_ok=True)

    def _runtime_directory(self) -> Path:
        for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108  mkdtemp makes a private directory in it
            if _usable_socket_path(Path(parent) / "sas-12345678" / self.SOCKET_NAME):
                return Path(tempfile.mkdtemp(prefix="sas-", dir=parent))
        raise self._error("Aucun dossier temporaire au nom assez court pour un socket. Vérifiez TMPDIR.")

    def _clean(self) -> None:
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
            self._remove_runtime_directory(self._socket)

    def _remove_runtime_directory(self, socket_path: Path) -> None:
        """Remove the short directory of a socket, if it is one of ours; never anything else."""
        directory = socket_path.parent
        ours = directory.name.startswith("sas-") and socket_path.name == self.SOCKET_NAME
        if ours and directory != self.folder:
            socket_path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                for left in directory.glob(f"{self.SOCKET_NAME}*"):
                    left.unlink()
                directory.rmdir()

    def _own_folder(self, folder: Path) -> None:
        """Make a private folder and give it to the user the server runs as; nothing above it is touched.

        Raises:
            EmbeddedServerError: It is somebody else's, or the server's user cannot reach it.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        uid, gid = os.geteuid(), os.getegid()
        allowed = {uid}
        if self._run_as is not RunAs.SELF:
            nobody = account_of_nobody()
            allowed |= {nobody.pw_uid} if nobody else set()
            if self._run_as is RunAs.NOBODY and nobody:
                uid, gid = nobody.pw_uid, nobody.pw_gid
        owner = folder.stat().st_uid
        if owner not in allowed:
            raise self._error(
                f"Le dossier {folder} appartient à un autre utilisateur (uid {owner}). "
                "Lancez sous ce compte, ou choisissez un autre dossier."
            )
        if owner != uid:
            for root, directories, files in os.walk(folder):
                for name in (".", *directories, *files):
                    os.chown(Path(root) / name, uid, gid, follow_symlinks=False)
        folder.chmod(0o700)
        if self._run_as is RunAs.NOBODY:
            self._check_reachable(folder.parent)

    def _check_reachable(self, path: Path) -> None:
        """Refuse a place that `nobody` cannot get to; widening modes on the way is not ours to do."""
        for directory in (path, *path.parents):
            if not directory.stat().st_mode & 0o001:
                raise self._error(
                    f"Lancé en root sans espaces de noms, {self.NAME} tourne sous « nobody », qui ne peut "
                    f"pas traverser {directory}. Placez les données et l'environnement ailleurs, lancez "
                    f"sous un compte ordinaire, ou donnez un serveur par {self.URL_VARIABLE}."
                )

    def _error(self, message: str) -> EmbeddedServerError:
        """Return the error with the last lines of the log, where the true reason stands."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - 2000))
                tail = log.read().decode("utf-8", "replace").splitlines()[-6:]
        except OSError:
            tail = []
        if tail:
            message += f"\nFin du journal {self.log} :\n  " + "\n  ".join(tail)
        return EmbeddedServerError(message)


def connect(path: Path, *, timeout: float) -> socket.socket:
    """Connect to a unix socket.

    Args:
        path: The socket.
        timeout: Seconds for this and each later operation on it.

    Raises:
        OSError: Nobody listens.
    """
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.settimeout(timeout)
    try:
        stream.connect(str(path))
    except BaseException:
        stream.close()
        raise
    return stream


def refuse_reserved(settings: Mapping[str, str | int], reserved: frozenset[str]) -> None:
    """Refuse settings that would take a server out of its private folder and socket.

    Raises:
        EmbeddedServerError: Names the settings.
    """
    wrong = sorted(reserved & {name.lower() for name in settings})
    if wrong:
        raise EmbeddedServerError(f"Réglages tenus par le superviseur, à ne pas donner : {', '.join(wrong)}.")


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _usable_socket_path(path: Path) -> bool:
    text = str(path)
    return len(os.fsencode(text)) <= SOCKET_PATH_BYTES and not _AWKWARD_IN_SOCKET_PATH & set(text)


def discard(folder: Path) -> None:
    """Remove a half-made folder if there is one."""
    if folder.exists():
        shutil.rmtree(folder)
