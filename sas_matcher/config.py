"""Settings, from the environment only (twelve-factor); every name is documented in the README."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

PREFIX: Final = "SAS_"


class ConfigError(Exception):
    """A setting cannot be used; the message names it and the fix, in French."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How this process runs.

    Attributes:
        database_url: PostgreSQL ≥ 15; empty starts the embedded one.
        redis_url: Redis ≥ 7.0 or Valkey; empty starts the embedded one.
        host, port: where the API listens.
        territories: what this matcher decides for; empty means all.
        data_dir: folder of the embedded servers.
        api_workers: processes that serve the API.
        matchers: how many share the territories; each its own process, or its own service with ``share``.
        share: which of them this one is, from 0; the first also does what is done once (sweeps, agendas, ingest).
        rate, burst: calls a second, and at once, for each API key.
        at_once: requests for a place that a worker works on at once; those that are less urgent or younger wait.
        waiting_room: how many of these wait before the least urgent is refused (503, Retry-After).
        sockets: websockets a worker accepts.
        origins: web origins that may open a websocket.
        pool: connections to PostgreSQL for each process.
        log_level: debug, info, warning or error.
        public_url: address of this service as others know it, without a slash at its end; empty: as the call names it.
        fhir_proxies: addresses that the reverse proxy, which ends mutual TLS, connects from; what it says of client
            certificates and of addresses (``X-Real-IP``) is believed from them alone.
        fhir_clients: subjects (``CN|OU``) of the client certificates that may speak FHIR.
        sso_origins: values of ``origin`` with which the platform opens a booking page (``sas``, ``sas-preprod``).
        psc_authorize, psc_client, psc_redirect: Pro Santé Connect's sign-in page, our name there, where it sends back.
        fhir_system: OID (``urn:oid:…``) or URL under which our ids of places and bookings are unique, for ever; empty:
            ``public_url``.
        national_url: the national platform's FHIR endpoint, which is told of our bookings (INT_R03); empty: off.
        national_certificate, national_key, national_authorities: PEM files of mutual TLS with it.
        national_operator: regulator (``system|value``, as INT_R02 named him) of keys that are bound to none.
        directory: file of practitioners and structures (see ``adapters.directory``); empty: none.
        editors: file of the editors of agendas that are polled (see ``adapters.fhir.editors``); empty: none.
        feed_hosts: hosts (``host`` or ``host:port``) of our own network that calendars may come from, also without TLS.
        smtp_url: ``smtp://[user:password@]host[:port]`` or ``smtps://…``, for notices by e-mail; empty: none are sent.
        mail_from: address that these come from.
        webhook_hosts: hosts (``host`` or ``host:port``) of our own network that webhooks may go to, also without TLS.
        history_dir: folder of recorded days, one folder for each territory; forecasts learn from them. Empty: none.
        expected_days: days with which forecasts begin: as long as fewer were recorded, ordinary ones are drawn from the
            demand model in their place. 0: nothing is forecast without recorded days.
        lrm_origins: values of ``origin`` with which regulators' software may open the regulation page (INT_L01).
        drill: this service is an exercise: its ledger holds nothing real, and everything that leaves it says so.
        demo: title of the demonstration that this is: its pages let anybody of this machine in. Empty: none.
    """

    database_url: str = ""
    redis_url: str = ""
    host: str = "127.0.0.1"
    port: int = 8069
    territories: tuple[str, ...] = ()
    data_dir: Path = field(default_factory=lambda: Path(".data"))
    api_workers: int = 1
    matchers: int = 1
    share: int = 0
    rate: float = 100.0
    burst: float = 300.0
    at_once: int = 64
    waiting_room: int = 128
    sockets: int = 12_000
    origins: tuple[str, ...] = ()
    pool: int = 12
    log_level: str = "info"
    public_url: str = ""
    fhir_proxies: tuple[str, ...] = ()
    fhir_clients: tuple[str, ...] = ()
    sso_origins: tuple[str, ...] = ()
    psc_authorize: str = ""
    psc_client: str = ""
    psc_redirect: str = ""
    fhir_system: str = ""
    national_url: str = ""
    national_certificate: str = ""
    national_key: str = ""
    national_authorities: str = ""
    national_operator: str = ""
    directory: str = ""
    editors: str = ""
    feed_hosts: tuple[str, ...] = ()
    smtp_url: str = ""
    mail_from: str = ""
    webhook_hosts: tuple[str, ...] = ()
    history_dir: str = ""
    expected_days: int = 4
    drill: bool = False
    lrm_origins: tuple[str, ...] = ()
    demo: str = ""

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read ``SAS_…`` variables.

        Raises:
            ConfigError: a number is not a number, or a name is unknown (a typing error would be silent otherwise).
        """
        values = {name[len(PREFIX) :].lower(): text for name, text in environment.items() if name.startswith(PREFIX)}
        defaults = cls()
        read: dict[str, Any] = {}
        for name, text in values.items():
            if name.startswith(("test_", "key", "url")):
                continue  # of the tests and of the command-line client
            if name not in cls.__dataclass_fields__:
                raise ConfigError(f"{PREFIX}{name.upper()} n'est pas un réglage connu ; voyez le README.")
            read[name] = _read(name, text, getattr(defaults, name))
        settings = replace(defaults, **read)
        if settings.expected_days < 0:
            raise ConfigError("SAS_EXPECTED_DAYS est un nombre de jours, 0 ou plus.")
        if settings.drill and (settings.national_url or settings.editors):
            raise ConfigError(
                "SAS_DRILL : un exercice ne parle ni à la plateforme nationale ni à de vrais éditeurs ; "
                "retirez SAS_NATIONAL_URL et SAS_EDITORS."
            )
        return settings

    def to_environment(self) -> dict[str, str]:
        """Return the same settings as variables, for child processes."""
        texts: dict[str, str] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            texts[PREFIX + name.upper()] = ",".join(value) if isinstance(value, tuple) else str(value)
        return texts


def _read(name: str, text: str, default: object) -> object:
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, Path):
        return Path(text)
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"{PREFIX}{name.upper()} est true ou false, pas « {text} ».")
        return text.lower() == "true"
    if isinstance(default, int | float):
        try:
            return type(default)(text)
        except ValueError as wrong:
            raise ConfigError(f"{PREFIX}{name.upper()} doit être un nombre, pas « {text} ».") from wrong
    return text
