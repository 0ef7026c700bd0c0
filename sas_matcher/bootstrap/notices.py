"""Wires what tells practices: their subscriptions, and the sender of notices by websocket, e-mail and webhook."""

from functools import cache
from zoneinfo import ZoneInfo

from adapters.geo import Gazetteer
from adapters.notices import WHOLE_S, MailWay, WebhookWay
from adapters.outside import Outside
from adapters.postgres import PostgresLedger
from adapters.postgres.notices import PostgresNotices
from adapters.system import SystemIds
from sas_matcher import metrics
from sas_matcher.config import ConfigError, Settings
from sas_matcher.ports.bus import Bus
from sas_matcher.ports.world import Clock
from sas_matcher.services.members import MAINLAND
from sas_matcher.services.notices import PATIENCE, Notices, Notifying, SocketWay, Way


class NoticeMeter:
    """Port ``Watch`` of the sender: its metrics."""

    def told(self, word: str) -> None:
        """Count a notice."""
        metrics.NOTICES.labels(word).inc()

    def queue(self, counts: dict[str, tuple[int, float]]) -> None:
        """Show the queue."""
        for state in ("waiting", "refused"):
            metrics.NOTICES_QUEUE.labels(state).set(counts.get(state, (0, 0.0))[0])
        metrics.NOTICES_OLDEST.set(counts.get("waiting", (0, 0.0))[1])


def mail_of(settings: Settings) -> MailWay | None:
    """Return the way of e-mails; None where the operator has set none up.

    Raises:
        ConfigError: the server or the sender cannot be used.
    """
    if not settings.smtp_url:
        return None
    try:
        return MailWay(settings.smtp_url, settings.mail_from, settings.public_url)
    except ValueError as wrong:
        raise ConfigError(f"SAS_SMTP_URL : {wrong}") from wrong


def notices_of(settings: Settings, ledger: PostgresLedger, clock: Clock, ids: SystemIds) -> Notices:
    """Return what practices do with their subscriptions."""
    book = PostgresNotices(ledger, PATIENCE)
    return Notices(book, clock, ids, ids.secret, settings.webhook_hosts, mail=bool(settings.smtp_url))


def notifying(settings: Settings, ledger: PostgresLedger, bus: Bus, clock: Clock, geography: Gazetteer) -> Notifying:
    """Return the sender of notices.

    Raises:
        ConfigError: see ``mail_of``.
    """
    outside = Outside(settings.webhook_hosts, "SAS_WEBHOOK_HOSTS", WHOLE_S)
    ways: dict[str, Way] = {"websocket": SocketWay(bus), "webhook": WebhookWay(outside)}
    if (mail := mail_of(settings)) is not None:
        ways["email"] = mail

    @cache
    def zone_of(territory: str) -> ZoneInfo:
        return ZoneInfo(geography.territories[territory].timezone if territory else MAINLAND)

    return Notifying(PostgresNotices(ledger, PATIENCE), ways, clock, NoticeMeter(), zone_of, drill=settings.drill)
