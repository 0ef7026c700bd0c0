"""Faults of ours: failures that nobody foresaw, said without what they hold, and steps that outlast them.

A store that is away comes back (``UnavailableError``): whoever needs it tries again. Anything else that a step raises
is a fault. It is logged by kind and place, never by its message or values, which may hold what a caller sent or a row
of the ledger; it is counted (``sas_faults_total``) and left behind. In a process that decides for a whole country one
bad message or row ends neither the process nor what else runs in it.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import structlog

from sas_matcher import metrics
from sas_matcher.domain.errors import UnavailableError

_FRAMES: Final = 8  # innermost calls that are logged of a failure
_MOST: Final = 10  # failures told of one that the others led to: a bound for a line
_log = structlog.get_logger(__name__)
T = TypeVar("T")


def causes_of(failure: BaseException) -> list[dict[str, Any]]:
    """Return kind and place of a failure, and of those that led to it; never its words.

    Of a group the first that is none comes last; ``where`` is file, line and function of the innermost frames, the
    innermost last; ``code``, where there is one, SQLSTATE or errno.
    """
    found: list[dict[str, Any]] = []
    before: BaseException | None = failure
    while before is not None and len(found) < _MOST:
        failure = before
        frames = traceback.extract_tb(failure.__traceback__)[-_FRAMES:]
        where = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames]
        code = getattr(failure, "sqlstate", None) or getattr(failure, "errno", None)
        known = {} if code is None else {"code": code}
        found.append({"kind": type(failure).__name__, **known, "where": where})
        before = failure.__cause__ or (None if failure.__suppress_context__ else failure.__context__)
        if isinstance(failure, BaseExceptionGroup):
            before = failure.exceptions[0]
    return found


def tell_fault(what: str, failure: BaseException, **more: Any) -> None:
    """Log and count a fault.

    Args:
        what: did not work, a word or two that are always the same (``keeper.tidy``).
        failure: that came of it.
        more: to be logged beside: ids and numbers, no values of people.
    """
    metrics.FAULTS.labels(what).inc()
    _log.error("fault", what=what, causes=causes_of(failure), **more)


async def attempt(what: str, step: Callable[[], Awaitable[T]]) -> T | None:
    """Take a step; None if a store was away or it failed, either of which is logged."""
    try:
        return await step()
    except UnavailableError as away:
        _log.warning("store_away", what=what, detail=away.detail)
    except Exception as failure:
        tell_fault(what, failure)
    return None


async def again_and_again(what: str, step: Callable[[], Awaitable[object]], pause_s: float) -> None:
    """Take a step every so many seconds until cancelled, whatever becomes of one (``attempt``)."""
    while True:
        await attempt(what, step)
        await asyncio.sleep(pause_s)
