"""Files and folders that appear whole or not at all, whatever stops the writer; and the bar that shows progress."""

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Protocol

from sas_matcher.cli.french import InputError


class Advance(Protocol):
    """Tells how far the work is."""

    def __call__(self, text: str, steps: int = 1) -> None:
        """``steps`` more are done; ``text`` says what comes next."""
        ...


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let what ends a process stop it like Ctrl-C, so that it tidies up; an event loop takes over from this."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _beside(target: Path) -> Path:
    """A name for what is not finished yet, in the same folder so that renaming it cannot fail half-way.

    Raises:
        InputError: There is no such folder.
    """
    folder = target.absolute().parent
    if not folder.is_dir():
        raise InputError(f"le dossier {folder} n'existe pas ; créez-le, ou donnez un autre --out")
    # the end of the name stays: it says how to pack
    return folder / f".{os.getpid()}-{target.name}"


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Give a path to write to; what was written takes the target's name at the end, and vanishes on any failure.

    Raises:
        InputError: The target is a folder, or its folder does not exist.
    """
    if target.is_dir():
        raise InputError(f"{target} est un dossier ; donnez un nom de fichier")
    draft = _beside(target)
    with interruptible():
        try:
            yield draft
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder to fill; its files go to the target at the end, beside what is there, or vanish.

    Raises:
        InputError: The target is a file, or its own folder does not exist.
    """
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} est un fichier ; donnez un dossier")
    draft = _beside(target)
    with interruptible():
        try:
            draft.mkdir()
            yield draft
            target.mkdir(exist_ok=True)
            for file in sorted(draft.iterdir()):
                file.replace(target / file.name)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def progress(total: int, title: str) -> Iterator[Advance]:
    """Show a bar on the standard error while ``total`` steps are done; nothing where nobody watches it."""
    if not sys.stderr.isatty():
        yield lambda text, steps=1: None
        return
    from rich.console import Console  # noqa: PLC0415 - help and pipes need no screen
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda text, steps=1: bar.update(task, advance=steps, description=text)
