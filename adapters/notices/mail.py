"""E-mail by SMTP: the standard library's client in a thread, one connection a message (they are few)."""

import asyncio
import smtplib
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final
from urllib.parse import unquote, urlsplit

from sas_matcher.domain.notices import Told
from sas_matcher.ports.sending import Delivery, Notice

TIMEOUT_S: Final = 8.0  # of each of the half dozen steps: all of them end within a sender's lease
AT_ONCE: Final = 16  # as many as a sender has under way (``services.sending``)
_AWAY: Final = "le serveur de courriel ne répond pas"


class MailWay:
    """Sends notices as plain text.

    Args:
        url: ``smtp://[user:password@]host[:port]`` (STARTTLS where offered) or ``smtps://…`` (TLS at once).
        sender: address that mails come from.
        console: where practices see what it is about; empty: not said.

    Raises:
        ValueError: the URL or the sender cannot be used; the message says why, without the password.
    """

    def __init__(self, url: str, sender: str, console: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise ValueError("attendu smtp://[utilisateur:motdepasse@]hôte[:port], ou smtps://…")
        if "@" not in sender:
            raise ValueError("l'adresse de l'expéditeur manque (SAS_MAIL_FROM)")
        self._tls = parts.scheme == "smtps"
        self._host = parts.hostname
        self._port = parts.port or (465 if self._tls else 25)
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        self._sender = sender
        self._console = console
        # threads of its own: a server that swallows what it is sent would keep those by which the matcher learns days
        self._threads = ThreadPoolExecutor(AT_ONCE, "mail")

    async def send(self, notice: Notice, told: Told, now: datetime) -> Delivery:
        """Send a mail; an address that the server refuses for good is not tried again."""
        message = self._written(notice, told, now)
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._deliver, message)
        except smtplib.SMTPRecipientsRefused as refused:
            # what the server says may repeat the address
            code = min(code for code, _ in refused.recipients.values())
            word = f"le serveur de courriel refuse l'adresse ({code})"
            return Delivery("refused", word) if code >= 500 else Delivery("again", word)
        except smtplib.SMTPResponseException as failed:
            return Delivery("again", f"le serveur de courriel répond {failed.smtp_code}")
        except (smtplib.SMTPException, OSError):
            return Delivery("again", _AWAY)
        return Delivery("taken")

    def _written(self, notice: Notice, told: Told, now: datetime) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = notice.address or ""
        message["Subject"] = told.subject
        message["Date"] = format_datetime(now)
        # the same for every try, so that a mail that arrives twice is seen once
        message["Message-ID"] = f"<msg_{notice.id}.{int(notice.at.timestamp())}@{self._sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        where = f"Ouvrez la console : {self._console}" if self._console else "Ouvrez la console."
        end = "Ce message ne contient ni identité ni donnée de santé ; n'y répondez pas."
        message.set_content("\n".join((*told.lines, "", where, "", end)) + "\n")
        return message

    def _deliver(self, message: EmailMessage) -> None:
        if self._tls:
            client: smtplib.SMTP = smtplib.SMTP_SSL(
                self._host, self._port, timeout=TIMEOUT_S, context=ssl.create_default_context()
            )
        else:
            client = smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_S)
        with client:
            if not self._tls:
                client.ehlo_or_helo_if_needed()
                if client.has_extn("starttls"):
                    client.starttls(context=ssl.create_default_context())
                elif self._user:
                    # a password is not shown to whoever listens
                    raise smtplib.SMTPNotSupportedError("no TLS")
            if self._user:
                client.login(self._user, self._password)
            client.send_message(message)
