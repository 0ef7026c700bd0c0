"""Run by the supervisor in a fresh interpreter: take the right user, tie oneself to the parent, exec.

Called as `python -I -S child.py PARENT_PID DEATH_SIGNAL RUN_AS [PROGRAM ARGUMENT…]`; without a program it
only tries the change of user. It is a separate program because the same steps in a `preexec_fn` would run
Python between fork and exec of a process that may have threads. Standard library only, no import of ours.

The death signal is asked for *after* the change of user, which would clear it, and the parent is looked at
once more after that: it may have died in between.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1
"""From `<linux/prctl.h>`."""
CLONE_NEWUSER = 0x10000000
"""From `<linux/sched.h>`."""
OVERFLOW_ID = 65534
"""The uid and gid the server sees itself as inside the user namespace; `nobody` on every Linux
distribution."""


def _enter_namespace() -> None:
    """Enter a user namespace in which root looks like an ordinary user (PostgreSQL refuses uid 0)."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    for name, line in (
        ("setgroups", "deny"),  # demanded by the kernel before gid_map
        ("gid_map", f"{OVERFLOW_ID} {gid} 1"),
        ("uid_map", f"{OVERFLOW_ID} {uid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(line)


def _become_nobody() -> None:
    entry = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def main(arguments: list[str]) -> int:
    """Do what the module says; returns only without a program, or when the parent is gone."""
    parent, death_signal, run_as, *command = arguments
    os.umask(0o077)
    if run_as == "namespace":
        _enter_namespace()
    elif run_as == "nobody":
        _become_nobody()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != int(parent):
        return 1
    if command:
        os.execv(command[0], command)  # noqa: S606  the supervisor's own command, no shell
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
