"""The parts of the service as processes, each until a signal.

Each imports only what it runs: the web framework takes 0.8 s, which a core that is started again need not wait for.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Coroutine
from typing import Any, Final

import structlog
import uvloop

from sas_matcher.config import ConfigError, Settings
from sas_matcher.domain.errors import SasError
from sas_matcher.faults import tell_fault

_NICE: Final = 15  # of studies: a machine that is busy answers calls first


def run_api(settings: Settings, listening: socket.socket | None) -> None:
    """Serve the API in this process until a signal, on a socket that may come from the parent."""
    import uvicorn  # noqa: PLC0415 - see the module

    from sas_matcher.bootstrap.api import api  # noqa: PLC0415 - see the module

    config = uvicorn.Config(
        api(settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=64 * 1024,
        ws_ping_interval=None,
        # no compression: it costs memory for each socket and invites CRIME-like attacks (OWASP)
        ws_per_message_deflate=False,
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        # who connects is who connects: what a proxy says of its clients is read by ``adapters.fhir.access`` and
        # ``api.wire.peer_of``, and believed from ours alone
        proxy_headers=False,
        backlog=4096,
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[listening] if listening is not None else None)


def run_core(settings: Settings, holder: str) -> None:
    """Run the core in this process until a signal (see ``core``)."""
    from sas_matcher.bootstrap.core import core  # noqa: PLC0415 - see the module

    _run_until_signal(core(settings, holder), "core.stopped")


def run_editors(settings: Settings) -> None:
    """Poll the editors in this process until a signal (see ``poll_editors``)."""
    from sas_matcher.bootstrap.editors import poll_editors  # noqa: PLC0415 - see the module

    _run_until_signal(poll_editors(settings), "editors.stopped")


def run_studies(settings: Settings) -> None:
    """Work through studies in this process until a signal, giving way to all others (see ``StudyRoom``)."""
    from sas_matcher.bootstrap.days import studies  # noqa: PLC0415 - see the module

    os.nice(_NICE)
    _run_until_signal(studies(settings), "studies.stopped")


def _run_until_signal(work: Coroutine[Any, Any, None], stopped: str) -> None:
    async def until_signal() -> None:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: task.cancel() if task is not None else None)
        await work

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(until_signal())
    except asyncio.CancelledError:
        structlog.get_logger(__name__).info(stopped)
    except (ConfigError, SasError):
        raise  # in our own words, for whoever operates it
    except Exception as failure:
        # not its message and values, which a traceback would show
        tell_fault("process", failure)
        raise SystemExit(1) from None
