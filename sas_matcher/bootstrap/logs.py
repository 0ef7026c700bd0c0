"""What is logged, and how it reads."""

import logging
import re
import sys
import threading
from types import TracebackType
from typing import Final, TextIO, cast

import structlog

from sas_matcher.config import ConfigError
from sas_matcher.domain.errors import SasError
from sas_matcher.faults import causes_of

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class _Stderr:
    """The standard error of the moment: loggers outlive a redirection of it."""

    def write(self, text: str) -> int:
        """Write a line."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Write through."""
        sys.stderr.flush()


def _of_library(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Keep the first line of what a library says: what follows tells of an error what its words do.

    It is without its arguments (``use_get_message``); asyncio has none, there objects and what they hold are cut off.
    """
    name, line = event["_record"].name, str(event["event"]).partition("\n")[0]
    return {**event, "logger": name, "event": re.split(r"[(<]", line)[0].rstrip() if name == "asyncio" else line}


def _last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say of what this process dies, as of every other error; our own words, for whoever operates it, as they are."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    known = {"detail": str(error)} if isinstance(error, ConfigError | SasError) else {}
    structlog.get_logger(__name__).critical("process.failed", exc_info=error, **known)


def _lost(failure: "threading.ExceptHookArgs | sys.UnraisableHookArgs") -> None:
    """Say of what a thread died, or what nobody could be told of."""
    structlog.get_logger(__name__).error("process.lost_error", exc_info=failure.exc_value)


def set_up_logging(level: str) -> None:
    """Write one JSON line an event to stderr, those of libraries too. Nothing ever logs bodies, keys or coordinates.

    Of errors only kind and place, also of the one of which a process dies.
    """
    sys.excepthook, sys.unraisablehook, threading.excepthook = _last_words, _lost, _lost
    frames = structlog.processors.ExceptionRenderer(lambda failure: causes_of(failure[1]))
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        frames,
    ]
    lines = structlog.processors.JSONRenderer()
    handler = logging.StreamHandler(cast(TextIO, _Stderr()))
    of_libraries = [_of_library, *processors]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processor=lines, foreign_pre_chain=of_libraries, use_get_message=False)
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    structlog.configure(
        processors=[*processors, lines],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Stderr())),
        cache_logger_on_first_use=True,
    )
