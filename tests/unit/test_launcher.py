"""The launcher `./sas` and `.ci/run`, on a stand-in of the project: nothing is downloaded here."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.path.realpath(sys.executable)
COMMANDS = ("demo", "serve", "test", "check", "race", "bench", "load", "help")
TOOLS = "cat chmod cksum cp dirname env find head id kill mkdir mv ps readlink realpath rm rmdir sh sha256sum sleep"

FAKE_UV = """#!/bin/sh
[ "$1" != --version ] || exit 0
echo "$*" >>"$SAS_TEST_LOG"
[ -z "${SAS_TEST_SLOW:-}" ] || sleep 1
exit "${SAS_TEST_UV:-0}"
"""
SHOW = (
    "import os, sys; print({name!r}, sys.argv[1:], os.getcwd()); sys.exit(int(os.environ.get('SAS_TEST_{up}', '0')))\n"
)


class Project:
    """A stand-in of the checkout: the true launcher, empty locks, modules that print how they were called."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tools = root.parent / "tools"
        self.log = root.parent / "uv.log"
        (root / "sas_matcher").mkdir(parents=True)
        self.tools.mkdir()
        shutil.copy(ROOT / "sas", root / "sas")
        shutil.copy(ROOT / "requirements-boot.lock", root)
        for name in ("requirements.lock", "requirements-dev.lock"):
            (root / name).write_text("")
        (root / "sas_matcher" / "cli.py").write_text(
            "import os, sys\ndef main():\n    print('sas-matcher', sys.argv[1:], os.getcwd())\n    return 7\n"
        )
        for name in ("tests/race", "tests/bench", "loadtests/__main__", "pytest", "ruff", "mypy", "importlinter/cli"):
            path = root / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            label = name.removesuffix("/__main__").removesuffix("/cli")
            text = SHOW.format(name=label, up=label.upper())
            if label == "importlinter":
                text = "def lint_imports_command():\n    " + text.replace("\n", "\n    ").rstrip() + "\n"
            path.write_text(text)
        for tool in TOOLS.split():
            found = shutil.which(tool)
            if found:
                (self.tools / tool).symlink_to(found)
        self.program("uv", FAKE_UV)
        self.program("python3", f'#!/bin/sh\nexec "{PYTHON}" "$@"\n')

    def program(self, name: str, text: str) -> None:
        path = self.tools / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "PIP_CERT", "TMPDIR") if name in os.environ}
        return {**kept, "PATH": str(self.tools), "SAS_TEST_LOG": str(self.log), **extra}

    def run(
        self,
        *arguments: str,
        cwd: Path | None = None,
        program: Path | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program or self.root / "sas", *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=cwd or self.root,
            env=self.environment(extra or {}),
        )

    def installs(self) -> list[str]:
        if not self.log.exists():
            return []
        return [line.rpartition(" ")[2] for line in self.log.read_text().splitlines()]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """In a path with a space and an accent."""
    return Project(tmp_path / "mon dépôt")


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "busybox"])
def test_syntax(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    command = [shell, "sh"] if shell == "busybox" else [shell]
    subprocess.run([*command, "-n", ROOT / "sas"], check=True)


def test_both_are_executable() -> None:
    assert os.access(ROOT / "sas", os.X_OK)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize("word", ["help", "-h", "--help", "aide"])
def test_help_installs_nothing(project: Project, word: str) -> None:
    done = project.run(word)
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"./sas {command}" in done.stdout
    assert not (project.root / ".venv").exists()


def test_alone_it_installs_and_lists_the_commands(project: Project) -> None:
    done = project.run()
    assert done.returncode == 0, done.stderr
    assert "./sas demo" in done.stdout
    assert project.installs() == ["requirements.lock"]


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_the_service_runs_from_the_checkout(project: Project, tmp_path: Path, command: str) -> None:
    done = project.run(command, "un deux", "--x=*", cwd=tmp_path)
    assert done.stdout.strip() == f"sas-matcher {[command, 'un deux', '--x=*']} {project.root}"
    assert done.returncode == 7
    assert project.installs() == ["requirements.lock"]


def test_other_commands_keep_the_callers_directory(project: Project, tmp_path: Path) -> None:
    done = project.run("replay", "jour 1.csv", cwd=tmp_path)
    assert done.stdout.strip() == f"sas-matcher {['replay', 'jour 1.csv']} {tmp_path}"
    assert done.returncode == 7


@pytest.mark.parametrize(
    ("command", "module", "first"),
    [
        ("test", "pytest", ["-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"]),
        ("race", "tests/race", []),
        ("bench", "tests/bench", []),
        ("load", "loadtests", []),
    ],
)
def test_development_commands(project: Project, tmp_path: Path, command: str, module: str, first: list[str]) -> None:
    done = project.run(command, "-k", "a or b", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{module} {[*first, '-k', 'a or b']} {project.root}"
    assert project.installs() == ["requirements-dev.lock"]


def test_a_failing_command_fails(project: Project) -> None:
    assert project.run("test", extra={"SAS_TEST_PYTEST": "3"}).returncode == 3


def test_a_link_to_the_launcher(project: Project, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "one").symlink_to("../two")
    (tmp_path / "two").symlink_to(project.root / "sas")
    done = project.run("demo", cwd=tmp_path, program=tmp_path / "bin" / "one")
    assert done.stdout.strip().endswith(str(project.root))


def test_check_runs_all_four_and_fails_if_any_fails(project: Project) -> None:
    done = project.run("check")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ruff", "ruff", "mypy", "importlinter"]
    assert "--check" in done.stdout
    for tool in ("ruff", "mypy", "importlinter"):
        done = project.run("check", extra={f"SAS_TEST_{tool.upper()}": "1"})
        assert done.returncode == 1
        assert len(done.stdout.splitlines()) == 4
        assert "échec" in done.stderr


def test_the_second_start_installs_nothing(project: Project) -> None:
    project.run("demo")

    def started() -> float:
        begin = time.monotonic()
        project.run("demo")
        return time.monotonic() - begin

    assert any(started() < 1 for _ in range(3)), "a machine is not that busy three times"
    assert project.installs() == ["requirements.lock"]
    project.run("test")
    project.run("test")
    project.run("demo")  # the development environment contains the other
    assert project.installs() == ["requirements.lock", "requirements-dev.lock"]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_changed_lock_is_installed(project: Project, name: str) -> None:
    project.run("test")
    with (project.root / name).open("a") as lock:
        lock.write("# changed\n")
    project.run("test")
    assert project.installs() == ["requirements-dev.lock"] * 2


def test_a_moved_checkout_needs_nothing(project: Project, tmp_path: Path) -> None:
    project.run("demo")
    project.root = project.root.rename(tmp_path / "ailleurs")
    done = project.run("demo")
    assert done.stdout.strip().endswith(str(project.root))
    assert project.installs() == ["requirements.lock"]


def test_an_environment_of_a_vanished_python_is_made_again(project: Project) -> None:
    project.run("demo")
    for path in (project.root / ".venv" / "bin").glob("python*"):
        path.unlink()
        path.symlink_to("/nowhere/python3")
    assert project.run("demo").returncode == 7
    assert project.installs() == ["requirements.lock"] * 2


def test_hashes_are_demanded(project: Project) -> None:
    project.run("demo")
    assert "--require-hashes" in project.log.read_text()


def test_an_old_python_is_refused_in_french(project: Project) -> None:
    project.program("python3", '#!/bin/sh\n[ "$1" != -V ] || echo "Python 3.9.2"\nexit 1\n')
    done = project.run("demo")
    assert done.returncode == 1
    assert "Python 3.11 ou plus récent est nécessaire" in done.stderr
    assert "3.9.2" in done.stderr
    assert not (project.root / ".venv").exists()


def test_a_younger_python_beside_an_old_one_is_found(project: Project) -> None:
    (project.tools / "python3").rename(project.tools / "python3.12")
    project.program("python3", "#!/bin/sh\nexit 1\n")
    assert project.run("demo").returncode == 7


def test_a_wrong_choice_of_python_is_not_overruled(project: Project) -> None:
    project.program("old", "#!/bin/sh\nexit 1\n")
    done = project.run("demo", extra={"SAS_PYTHON": str(project.tools / "old")})
    assert done.returncode == 1
    assert "SAS_PYTHON" in done.stderr


def test_a_python_without_pip_names_the_package(project: Project) -> None:
    (project.tools / "uv").unlink()
    bare = f"""#!/bin/sh
case "$*" in
    *ensurepip*|"-m pip"*) exit 1 ;;
    *realpath*) echo "$0" ;;
    *) exec "{PYTHON}" "$@" ;;
esac
"""
    project.program("python3", bare)
    done = project.run("demo")
    assert done.returncode == 1
    assert "apt install python3-venv" in done.stderr


def _wheel(folder: Path) -> str:
    """Make a wheel of one module by hand; return its SHA-256."""
    path = folder / "stub-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("stub.py", "")
        wheel.writestr("stub-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: stub\nVersion: 1\n")
        wheel.writestr(
            "stub-1.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("stub-1.dist-info/RECORD", "stub.py,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_pip_takes_over_when_uv_fails_and_checks_hashes(project: Project, tmp_path: Path) -> None:
    extra = {"SAS_TEST_UV": "1", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    good = _wheel(tmp_path)
    lock = project.root / "requirements.lock"
    lock.write_text(f"stub==1 --hash=sha256:{'0' * 64}\n")
    done = project.run("demo", extra=extra)
    assert done.returncode == 1
    assert "hash" in done.stderr.lower()
    assert "l'installation a échoué" in done.stderr
    assert not (project.root / ".venv" / ".sas-base").exists()
    assert not (project.root / ".boot" / "lock").exists()
    lock.write_text("stub==1\n")
    assert "hash" in project.run("demo", extra=extra).stderr.lower()
    lock.write_text(f"stub==1 --hash=sha256:{good}\n")
    done = project.run("demo", extra=extra)
    assert done.returncode == 7, done.stderr
    assert list((project.root / ".venv").glob("lib/python3*/site-packages/stub.py"))


def test_two_at_once_install_once(project: Project) -> None:
    both = [
        subprocess.Popen(
            [project.root / "sas", "demo"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=project.environment({"SAS_TEST_SLOW": "1"}),
        )
        for _ in range(2)
    ]
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [7, 7], outputs
    assert project.installs() == ["requirements.lock"]


def test_the_guard_of_a_dead_installation_is_broken(project: Project) -> None:
    guard = project.root / ".boot" / "lock"
    guard.mkdir(parents=True)
    (guard / "pid").write_text(f"{2**22 + 1}\n")
    assert project.run("demo").returncode == 7
    assert not guard.exists()


def test_an_old_guard_without_a_number_is_broken(project: Project) -> None:
    guard = project.root / ".boot" / "lock"
    guard.mkdir(parents=True)
    os.utime(guard, (0, 0))
    assert project.run("demo").returncode == 7


def test_the_guard_of_a_living_installation_is_respected(project: Project) -> None:
    guard = project.root / ".boot" / "lock"
    guard.mkdir(parents=True)
    (guard / "pid").write_text(f"{os.getpid()}\n")
    with subprocess.Popen(
        [project.root / "sas", "demo"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=project.environment({}),
    ) as waiting:
        assert waiting.stderr is not None
        assert str(os.getpid()) in waiting.stderr.readline()
        assert project.installs() == []
        shutil.rmtree(guard)
        waiting.communicate()
    assert waiting.returncode == 7


def _pins(name: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9][\w.-]*==[^\s;]+)", (ROOT / name).read_text(), re.MULTILINE))


def test_locks_name_no_host_and_hash_everything() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-boot.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=\S)", text.strip()))


def test_the_development_lock_contains_the_other() -> None:
    """The launcher counts on it: after `test`, `demo` installs nothing."""
    assert _pins("requirements.lock") <= _pins("requirements-dev.lock")
    assert len(_pins("requirements-boot.lock")) == 1


def _ci(tmp_path: Path, status: int) -> subprocess.CompletedProcess[str]:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    launcher = tmp_path / "sas"
    launcher.write_text(f'#!/bin/sh\necho "$@"\necho "1 failed in 0.1s"\nexit {status}\n')
    launcher.chmod(0o755)
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "env", "id", "python3", "sh"):
        (tools / tool).symlink_to(PYTHON if tool == "python3" else shutil.which(tool) or tool)
    return subprocess.run(
        [tmp_path / ".ci" / "run", "-k", "a b"],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        env={"PATH": str(tools)},
    )


@pytest.mark.parametrize("status", [0, 1])
def test_ci_has_the_status_and_the_last_line_of_the_tests(tmp_path: Path, status: int) -> None:
    done = _ci(tmp_path, status)
    assert done.returncode == status, done.stderr
    assert done.stdout.splitlines() == ["test -k a b", "1 failed in 0.1s"]


def test_ci_says_loudly_that_redis_is_missing(tmp_path: Path) -> None:
    assert "redis-server n'a pas pu être installé" in _ci(tmp_path, 0).stderr
