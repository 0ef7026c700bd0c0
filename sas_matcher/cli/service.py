"""Commands on the service's own side: run it, and keep its API keys."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from adapters.embedded import EmbeddedServerError, EmbeddedServers
from adapters.geo import Gazetteer
from adapters.postgres.schema import migrate_now
from sas_matcher.cli.french import FailureError, InputError
from sas_matcher.config import ConfigError, Settings
from sas_matcher.domain.vocabulary import Role
from sas_matcher.replay.daylog_file import DayLogError
from sas_matcher.supervise import Service

T = TypeVar("T")


def codes(text: str) -> tuple[str, ...]:
    """Split a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def settings_of(**chosen: Any) -> Settings:
    """Return the environment's settings with what the command line says; ``None`` leaves one as it is."""
    return replace(
        Settings.of_environment(os.environ), **{name: value for name, value in chosen.items() if value is not None}
    )


@contextmanager
def readable_server_errors() -> Iterator[None]:
    """Turn what an embedded server raises into a readable message."""
    try:
        yield
    except EmbeddedServerError as failed:
        raise FailureError(str(failed).rstrip(".")) from failed


def serve(
    only: str | None, *, cluster: bool = False, started: Callable[[Service], object] | None = None, **chosen: Any
) -> None:
    """Run the service until a signal; ``cluster``: on a Valkey cluster and a PostgreSQL with a replica.

    ``started`` hears of it once everything was started.
    """
    from sas_matcher.bootstrap.logs import set_up_logging  # noqa: PLC0415 - heavy
    from sas_matcher.bootstrap.national import check_links  # noqa: PLC0415 - heavy
    from sas_matcher.bootstrap.notices import mail_of  # noqa: PLC0415 - heavy

    settings = settings_of(**chosen)
    if settings.log_level not in ("debug", "info", "warning", "error"):
        raise ConfigError("SAS_LOG_LEVEL : debug, info, warning ou error.")
    mail_of(settings)
    asyncio.run(check_links(settings))
    if settings.editors:
        from sas_matcher.bootstrap.editors import check_editors  # noqa: PLC0415 - heavy

        check_editors(settings)
    set_up_logging(settings.log_level)
    if cluster and (settings.database_url or settings.redis_url):
        raise ConfigError("cluster lance ses propres serveurs ; retirez SAS_DATABASE_URL et SAS_REDIS_URL.")
    with readable_server_errors(), Service(settings, only, cluster=cluster) as service:
        if started is not None:
            started(service)
        service.watch()


@contextmanager
def _database(data: Path | None) -> Iterator[Settings]:
    """Give settings with a reachable database: the given one, or the embedded one of the data folder."""
    settings = settings_of(data_dir=data, log_level="warning")
    if settings.database_url:
        yield settings
        return
    if not (settings.data_dir / "postgres").is_dir():
        raise FailureError(
            f"aucune donnée dans {settings.data_dir} ; lancez d'abord sas-matcher serve, "
            "ou donnez --data, ou SAS_DATABASE_URL et SAS_REDIS_URL"
        )
    with readable_server_errors(), EmbeddedServers(settings.data_dir) as servers:
        migrate_now(servers.database_url)
        yield replace(settings, database_url=servers.database_url, redis_url=servers.redis_url)


def with_stores(data: Path | None, work: Callable[[Any], Awaitable[T]]) -> T:
    """Do some work on the ledger and the bus of the given servers, or of the data folder's embedded ones.

    Raises:
        FailureError: there are no data in the folder, or its servers do not start.
    """
    from sas_matcher.bootstrap.logs import set_up_logging  # noqa: PLC0415 - heavy
    from sas_matcher.bootstrap.stores import open_stores  # noqa: PLC0415 - heavy

    async def run(settings: Settings) -> T:
        async with open_stores(settings) as stores:
            return await work(stores)

    set_up_logging("warning")
    with _database(data) as settings:
        return asyncio.run(run(settings))


def record(out: Path, territories: tuple[str, ...] | None, data: Path | None) -> None:
    """Record what the running service announces, until a signal.

    Raises:
        FailureError: the folder is taken by another recorder, or cannot be written.
    """
    from sas_matcher.bootstrap.days import record as recording  # noqa: PLC0415 - heavy
    from sas_matcher.bootstrap.logs import set_up_logging  # noqa: PLC0415 - heavy

    async def until_signal(settings: Settings) -> None:
        work = asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, lambda: work.cancel() if work is not None else None)
        with suppress(asyncio.CancelledError):
            await recording(settings, out)

    set_up_logging("warning")
    with _database(data) as settings:
        chosen = settings if territories is None else replace(settings, territories=territories)
        try:
            asyncio.run(until_signal(chosen))
        except BlockingIOError as taken:
            raise FailureError(f"un autre enregistrement écrit déjà dans {out} ; donnez un autre --out") from taken
        except DayLogError as wrong:
            raise FailureError(f"un journal de {out} est abîmé, ligne {wrong.line} : {wrong.problem}") from wrong
        except OSError as failed:
            raise FailureError(f"{out} : {failed.strerror or failed}") from failed


def issue(
    role: str,
    name: str,
    territories: Sequence[str],
    structures: Sequence[str],
    professionals: Sequence[str],
    source: str,
    data: Path | None,
    count: int = 1,
) -> list[str]:
    """Create keys that are alike; returns them.

    Raises:
        InputError: the role does not exist.
        ConfigError: the key is not bound as its role demands.
    """
    if role not in set(Role):
        raise InputError(f"le rôle « {role} » n'existe pas ; rôles : {', '.join(Role)}")
    from sas_matcher.bootstrap.access import checked, issue_key  # noqa: PLC0415 - heavy
    from sas_matcher.services.keys import KeyWish  # noqa: PLC0415

    wish = checked(KeyWish(Role(role), name, territories, structures, professionals, source), Gazetteer.load())

    async def work(stores: Any) -> list[str]:
        return [(await issue_key(stores, wish))[1] for _ in range(count)]

    return with_stores(data, work)


def allow_redis(token: str, data: Path | None) -> tuple[str, str]:
    """Let a key publish straight into Redis; returns its Redis user and password, which is shown this once.

    Raises:
        ConfigError: there is no such key in force.
    """
    from sas_matcher.bootstrap.access import allow_ingest  # noqa: PLC0415 - heavy

    async def work(stores: Any) -> tuple[str, str]:
        return await allow_ingest(stores, token.split("_")[1])

    return with_stores(data, work)


def bind(key_id: str, operator: str, data: Path | None) -> None:
    """Say as whom the national platform knows the holder of a key.

    Raises:
        ConfigError: there is no such key, or the operator is no identifier.
    """
    from sas_matcher.bootstrap.national import bind_operator  # noqa: PLC0415 - heavy

    async def work(stores: Any) -> None:
        await bind_operator(stores.ledger, key_id, operator)

    with_stores(data, work)


def listing(data: Path | None) -> list[str]:
    """Return the keys as lines, newest first."""

    async def work(stores: Any) -> list[str]:
        lines = []
        for key in await stores.ledger.keys():
            bound = [*key.territories, *key.structures, *key.professionals]
            state = "en vigueur" if key.revoked_at is None else f"révoquée le {key.revoked_at.astimezone():%d/%m/%Y}"
            lines.append(f"{key.id}  {key.role:<12}  {state:<22}  {','.join(bound) or '-':<14}  {key.name}")
        return lines

    return with_stores(data, work) or ["Aucune clé ; créez-en une avec sas-matcher keys issue."]


def audit(data: Path | None) -> dict[str, int]:
    """Return what must never be more than zero in the ledger (query ``doubles``)."""

    async def work(stores: Any) -> dict[str, int]:
        return dict(await stores.ledger.doubles())

    return with_stores(data, work)


def revoke(key_id: str, data: Path | None) -> None:
    """Revoke a key.

    Raises:
        FailureError: there is none in force by that name.
    """

    async def work(stores: Any) -> bool:
        return bool(await stores.ledger.revoke_key(key_id, stores.clock.now()))

    if not with_stores(data, work):
        raise FailureError(f"aucune clé en vigueur ne s'appelle « {key_id} » ; voyez sas-matcher keys list")
