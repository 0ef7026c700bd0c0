"""Wires what links us to the national platform: the FHIR routes, the directory, the sender of INT_R03."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from adapters.fhir.access import AllowedName, allowed_names
from adapters.fhir.identifiers import REGULATOR_TYPES
from adapters.geo import Gazetteer
from adapters.postgres import PostgresLedger
from adapters.postgres.fhir import PostgresFhir
from adapters.postgres.national import PostgresNational
from sas_matcher import metrics
from sas_matcher.api.auth import Gate
from sas_matcher.config import ConfigError, Settings
from sas_matcher.domain.vocabulary import Scope
from sas_matcher.ports.world import Clock, Ids
from sas_matcher.services.national import Sending

if TYPE_CHECKING:
    from adapters.directory import FileDirectory
    from adapters.fhir.platform import NationalPlatform
    from adapters.fhir.server import Services


def directory_of(settings: Settings) -> "FileDirectory":
    """Return the directory of practitioners and structures, an empty one where none is set.

    Raises:
        ConfigError: the file cannot be used.
    """
    from adapters.directory import DirectoryError, FileDirectory  # noqa: PLC0415 - pydantic, where it is needed

    if not settings.directory:
        return FileDirectory()
    try:
        return FileDirectory.load(Path(settings.directory))
    except DirectoryError as wrong:
        raise ConfigError(f"SAS_DIRECTORY : {wrong}") from wrong


def clients_of(settings: Settings) -> frozenset[AllowedName]:
    """Return the subjects of client certificates that may speak FHIR.

    Raises:
        ConfigError: an entry lacks a part.
    """
    try:
        return allowed_names(settings.fhir_clients)
    except ValueError as wrong:
        raise ConfigError(f"SAS_FHIR_CLIENTS : {wrong}") from wrong


def fhir_services(
    settings: Settings, ledger: PostgresLedger, clock: Clock, ids: Ids, gate: Gate, geography: Gazetteer
) -> "Services":
    """Build what the FHIR routes of one worker need.

    Raises:
        ConfigError: the allow-list or the directory cannot be used.
    """
    # the web framework takes long to import: what checks settings need not wait for it
    from adapters.fhir.access import Access  # noqa: PLC0415
    from adapters.fhir.agenda import Agenda  # noqa: PLC0415
    from adapters.fhir.server import Services  # noqa: PLC0415

    async def by_key(header: str) -> str:
        return (await gate.caller(header)).need(Scope.FHIR).key_id

    public = settings.public_url or f"http://{settings.host}:{settings.port}"
    store = PostgresFhir(ledger)
    agenda = Agenda(store, clock, geography, directory_of(settings), system_of(settings), f"{public}/sas/agenda?lieu=")
    return Services(Access(by_key, gate.spend, settings.fhir_proxies, clients_of(settings)), agenda, store, clock, ids)


class NationalMeter:
    """Port ``Watch`` of the sender: its metrics."""

    def told(self, word: str) -> None:
        """Count a message."""
        metrics.NATIONAL.labels(word).inc()

    def queue(self, counts: dict[str, tuple[int, float]]) -> None:
        """Show the queue."""
        for state in ("waiting", "refused", "impossible"):
            metrics.NATIONAL_QUEUE.labels(state).set(counts.get(state, (0, 0.0))[0])
        metrics.NATIONAL_OLDEST.set(counts.get("waiting", (0, 0.0))[1])


def system_of(settings: Settings) -> str:
    """Return the OID or URL under which our ids are unique, as others know them."""
    return settings.fhir_system or settings.public_url or f"http://{settings.host}:{settings.port}"


def operator_of(settings: Settings) -> tuple[str, str] | None:
    """Return the regulator (system, value) of keys that are bound to none.

    Raises:
        ConfigError: the text is no identifier.
    """
    try:
        return _regulator(settings.national_operator) if settings.national_operator else None
    except ConfigError as wrong:
        raise ConfigError(f"SAS_NATIONAL_OPERATOR : {wrong}") from wrong


def _regulator(text: str) -> tuple[str, str]:
    """Read ``system|value``; INT_R03 can name no regulator of another system.

    Raises:
        ConfigError: it does not read so.
    """
    system, _, value = text.partition("|")
    if system not in REGULATOR_TYPES or not value:
        forms = " ou ".join(f"{known}|valeur" for known in REGULATOR_TYPES)
        raise ConfigError(f"« {text} » : attendu {forms}, comme INT_R02 nomme le régulateur.")
    return system, value


def platform_of(settings: Settings, geography: Gazetteer) -> "NationalPlatform":
    """Return the national platform as we reach it; close it when done.

    Raises:
        ConfigError: a certificate cannot be used, or our ids have no lasting system.
    """
    from adapters.fhir.platform import Certificate, NationalPlatform  # noqa: PLC0415 - httpx, where it is needed

    if not (settings.fhir_system or settings.public_url):
        raise ConfigError("SAS_NATIONAL_URL demande SAS_FHIR_SYSTEM ou SAS_PUBLIC_URL : l'origine de nos identifiants.")
    files = (settings.national_certificate, settings.national_key, settings.national_authorities)
    own = Certificate(*(Path(name) if name else None for name in files))
    zone_of = cache(lambda code: ZoneInfo(geography.territories[code].timezone))
    try:
        return NationalPlatform(settings.national_url.rstrip("/"), own, system_of(settings), zone_of)
    except OSError as wrong:
        text = wrong.strerror or wrong
        raise ConfigError(f"SAS_NATIONAL_CERTIFICATE, …_KEY, …_AUTHORITIES : {text}") from wrong


@asynccontextmanager
async def national_sender(
    settings: Settings, ledger: PostgresLedger, clock: Clock, geography: Gazetteer
) -> AsyncIterator[Sending | None]:
    """Open the sender of INT_R03; None where it is off (what changes is then not queued either).

    Raises:
        ConfigError: see ``platform_of`` and ``operator_of``.
    """
    queue = PostgresNational(ledger)
    await queue.link(clock.now(), on=bool(settings.national_url))
    if not settings.national_url:
        yield None
        return
    operator = operator_of(settings)
    platform = platform_of(settings, geography)
    try:
        yield Sending(queue, platform, clock, NationalMeter(), operator)
    finally:
        await platform.close()


async def check_links(settings: Settings) -> None:
    """Check what the settings say of all this before anything starts: a child that cannot start would try for ever.

    Raises:
        ConfigError: in French, what is wrong with which setting.
    """
    clients_of(settings)
    directory_of(settings)
    operator_of(settings)
    if settings.national_url:
        await platform_of(settings, Gazetteer.load()).close()


async def bind_operator(ledger: PostgresLedger, key_id: str, operator: str) -> None:
    """Say as whom the national platform knows the holder of a key: ``system|value``, as INT_R02 named him.

    Raises:
        ConfigError: there is no such key, or the text is no identifier.
    """
    if not await PostgresNational(ledger).bind_operator(key_id, *_regulator(operator)):
        raise ConfigError(f"La clé {key_id} n'existe pas.")
