"""What is logged, and how it reads."""

import logging
import sys
from typing import Final, TextIO, cast

import structlog

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class _Stderr:
    """The standard error of the moment: loggers outlive a redirection of it."""

    def write(self, text: str) -> int:
        """Write a line."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Write through."""
        sys.stderr.flush()


def set_up_logging(level: str) -> None:
    """Write one JSON line an event to stderr, those of libraries too. Nothing ever logs bodies, keys or coordinates."""
    # tracebacks without the values of variables, which hold what was sent
    frames = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        frames,
    ]
    lines = structlog.processors.JSONRenderer()
    handler = logging.StreamHandler(cast(TextIO, _Stderr()))
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=lines, foreign_pre_chain=processors))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    structlog.configure(
        processors=[*processors, lines],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Stderr())),
        cache_logger_on_first_use=True,
    )
