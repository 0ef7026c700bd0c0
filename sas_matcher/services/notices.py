"""Notifications of practices: who wants to be told of what and how, and telling them (websocket, e-mail, webhook)."""

from base64 import b64encode
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Protocol
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import orjson

from sas_matcher.domain.errors import ConflictError, InvalidInputError, TooManyError, UnavailableError
from sas_matcher.domain.notices import Told, in_words
from sas_matcher.ports.bus import Bus
from sas_matcher.ports.ledger import Announcement
from sas_matcher.ports.sending import Delivery, Notice, Subscription
from sas_matcher.ports.world import Clock, Ids
from sas_matcher.services.members import Named, check_members, may_change, member_names
from sas_matcher.services.publish import Publisher
from sas_matcher.services.sending import Queue, Sender, Watch

MOST_SUBSCRIPTIONS: Final = 100  # of one source: a gestionnaire with forty centres, two ways each
PATIENCE: Final = timedelta(
    days=3
)  # without anything that arrived: a weekend and a day, then a subscription is disabled
LATE: Final = timedelta(days=1)  # a notice that could not be told until then tells nobody anything
OVERLAP: Final = timedelta(hours=24)  # for which the secret before goes on signing
KEPT: Final = timedelta(days=30)  # what was told stays visible
BACK_OFF: Final = (
    2,
    5,
    15,
    60,
    300,
    900,
    1800,
    3600,
)  # seconds; as Standard Webhooks advises, a little denser at first
NO_WAY: Final = timedelta(minutes=10)  # the operator has not set the way up: looked at again after that
REMIND_S: Final = 30.0  # between two looks for reminders that are due: none is so near that half a minute counts
MOST_TESTS: Final = 5  # a minute: whoever sets an address up tries a few times, and floods nobody
MOST_CODES: Final = 5  # a minute, of one source: as many people set their address up at once (guess)
MOST_CODES_TO: Final = 3  # an hour, to one address whoever asks: one that got lost, one mistyped; nobody is flooded
_NOT_ACTIVE: Final = {
    "disabled": "Cet abonnement est suspendu : renvoyez-le (PUT) pour le reprendre.",
    "unconfirmed": "Confirmez d'abord l'adresse, avec le code qu'elle a reçu (confirm).",
}


class NoticeBook(Protocol):
    """Where subscriptions are kept; every method is one transaction."""

    async def put(
        self, now: datetime, wish: Subscription, secret: bytes, code: str, most: tuple[int, int]
    ) -> tuple[str, bool] | int:
        """Set or change a subscription; returns its document, and whether the secret is the one given.

        A new address of mail is first sent the code; until it comes back nothing else is told there. ``most``: so many
        codes of a source a minute, and to an address an hour; over that nothing is done, and what is returned are the
        seconds until another one may be sent.
        """
        ...

    async def confirm(self, now: datetime, source: str, name: str, code: str) -> tuple[str, str | None]:
        """Answer with the code that an address was sent; returns the word and the document.

        Words: confirmed, already, wrong_code, no_more_tries, not_found.
        """
        ...

    async def remove(self, source: str, name: str) -> bool:
        """Drop a subscription and what waits for it; False when there is none of that name."""
        ...

    async def subscriptions(self, source: str) -> list[str]:
        """Return the subscriptions of a source, by name."""
        ...

    async def rotate(self, now: datetime, source: str, name: str, secret: bytes, until: datetime) -> str | None:
        """Sign with another secret, until an instant with the one before as well; None: no such webhook."""
        ...

    async def test(self, now: datetime, source: str, name: str, once: str, most: int) -> int | None:
        """Queue a notice that tells nothing; None: not active, or so many were within a minute."""
        ...

    async def deliveries(
        self, source: str, names: Sequence[str], state: str | None, before: int | None, limit: int
    ) -> list[str]:
        """Return what was told to some subscriptions of a source, or is to be; newest first."""
        ...


class NoticeQueue(Queue[Notice], Protocol):
    """Where notices wait."""

    async def remind(self, now: datetime) -> int:
        """Queue the reminders that are due; returns how many."""
        ...


class Way(Protocol):
    """How a notice reaches a practice: one of websocket, e-mail and webhook."""

    async def send(self, notice: Notice, told: Told, now: datetime) -> Delivery:
        """Send it and say what came of it; never raises for what the other side does."""
        ...


class Notices:
    """The practice's use cases."""

    def __init__(
        self,
        book: NoticeBook,
        clock: Clock,
        ids: Ids,
        secret: Callable[[], str],
        inside: Collection[str] = (),
        *,
        mail: bool = False,
    ) -> None:
        """Take the parts.

        Args:
            book: where subscriptions are kept.
            clock: what they change by.
            ids: of tests.
            secret: gives 256 random bits as text.
            inside: hosts (``host`` or ``host:port``) of webhooks that the operator allows without TLS.
            mail: whether the operator has set e-mail up.
        """
        self._book, self._clock, self._ids, self._secret = book, clock, ids, secret
        self._inside, self._mail = frozenset(inside), mail
        self._named = Named(("un", "abonnement"), MOST_SUBSCRIPTIONS, book.subscriptions, _mine)

    async def put(self, publisher: Publisher, key_id: str, name: str, wish: Mapping[str, Any]) -> dict[str, Any]:
        """Set or change a subscription; in force when this returns. One that was disabled begins anew.

        Args:
            publisher: who speaks.
            key_id: their key.
            name: the practice's own name of the subscription.
            wish: plain mapping in the shape of the API's subscription.

        Returns:
            Its document; with ``secret`` where a webhook gets one: it is shown this once.

        Raises:
            InvalidInputError: a member that this key may not speak for, or an address that is not taken.
            NotFoundError: a subscription of that name is about people that this key may not speak for.
            ConflictError: the source has too many.
            TooManyError: too many codes were sent, of this source or to this address; ``retry_after`` in seconds.
        """
        members = self._members(publisher, wish)
        self._check_address(wish)
        await self._named.check_put(publisher, name)
        kinds = list(dict.fromkeys(wish["kinds"]))
        row = Subscription(
            publisher.source, name, key_id, wish["way"], wish["address"], kinds, wish["most_reminders"], members
        )
        secret = self._secret()
        code = sha256(f"code {self._secret()}".encode()).hexdigest()[:8]  # 32 bits, five tries
        done = await self._book.put(self._clock.now(), row, secret.encode(), code, (MOST_CODES, MOST_CODES_TO))
        if isinstance(done, int):
            bounds = f"{MOST_CODES} codes par minute au plus, et {MOST_CODES_TO} par heure à une même adresse"
            raise TooManyError(f"{bounds} ; rien n'a été changé.", retry_after=done)
        document, fresh = done
        return {**orjson.loads(document), **({"secret": _shown(secret)} if fresh else {})}

    def _members(self, publisher: Publisher, wish: Mapping[str, Any]) -> list[str]:
        check_members(publisher, wish)
        professionals, structures = wish["professionals"], wish["structures"]
        if not professionals and not structures:
            # all that the key speaks for
            if "*" in publisher.professionals:
                return [f"src:{publisher.source}"]
            professionals, structures = sorted(publisher.professionals), sorted(publisher.structures)
        return list(member_names(professionals, structures))

    def _check_address(self, wish: Mapping[str, Any]) -> None:
        if wish["way"] == "email" and not self._mail:
            raise InvalidInputError.of(
                "way", "les courriels ne sont pas en service ici (SAS_SMTP_URL) ; voyez l'exploitant"
            )
        if wish["way"] == "webhook":
            parts = urlsplit(wish["address"])
            if parts.scheme != "https" and self._inside.isdisjoint({parts.hostname, parts.netloc}):
                raise InvalidInputError.of("address", "doit commencer par https://")

    async def all(self, publisher: Publisher) -> Sequence[Mapping[str, Any]]:
        """Return the subscriptions that this key may change, by name."""
        return await self._named.all(publisher)

    async def one(self, publisher: Publisher, name: str) -> Mapping[str, Any]:
        """Return a subscription.

        Raises:
            NotFoundError: there is none of that name that this key may change.
        """
        return await self._named.one(publisher, name)

    async def remove(self, publisher: Publisher, name: str) -> None:
        """Drop a subscription; what waited for it is told no more.

        Raises:
            NotFoundError: there is none of that name that this key may change.
        """
        await self.one(publisher, name)
        await self._book.remove(publisher.source, name)

    async def rotate(self, publisher: Publisher, name: str) -> dict[str, Any]:
        """Give a webhook another secret, shown this once; the one before goes on signing beside it for 24 hours.

        Raises:
            NotFoundError: there is none of that name that this key may change.
            ConflictError: it is no webhook.
        """
        await self.one(publisher, name)
        now, secret = self._clock.now(), self._secret()
        document = await self._book.rotate(now, publisher.source, name, secret.encode(), now + OVERLAP)
        if document is None:
            raise ConflictError("Seul un webhook a un secret.")
        return {**orjson.loads(document), "secret": _shown(secret)}

    async def test(self, publisher: Publisher, name: str) -> dict[str, Any]:
        """Tell a subscription nothing, to see whether it arrives; returns the id of the delivery.

        Raises:
            NotFoundError: there is none of that name that this key may change.
            ConflictError: it is disabled, or its address not confirmed.
            TooManyError: a few a minute are enough.
        """
        known = await self.one(publisher, name)
        number = await self._book.test(self._clock.now(), publisher.source, name, self._ids.uuid(), MOST_TESTS)
        if number is None:
            if known["state"] == "active":
                raise TooManyError(f"{MOST_TESTS} essais par minute au plus.", retry_after=60)
            raise ConflictError(_NOT_ACTIVE[known["state"]])
        return {"id": f"msg_{number}"}

    async def confirm(self, publisher: Publisher, name: str, code: str) -> dict[str, Any]:
        """Say that the address of a subscription is ours, with the code that it was sent; returns the document.

        Raises:
            NotFoundError: there is none of that name that this key may change.
            InvalidInputError: another code was sent.
            ConflictError: it was tried too often.
        """
        await self.one(publisher, name)
        word, document = await self._book.confirm(self._clock.now(), publisher.source, name, code)
        if word == "wrong_code":
            raise InvalidInputError.of("code", "ce n'est pas le code envoyé à cette adresse")
        if word == "no_more_tries":
            raise ConflictError("Trop d'essais : renvoyez l'abonnement (PUT), un autre code part.")
        found: dict[str, Any] = orjson.loads(document or "{}")
        return found

    async def deliveries(
        self, publisher: Publisher, name: str | None, state: str | None, before: int | None, limit: int
    ) -> list[str]:
        """Return what was told to the subscriptions of this key (or to one), or is to be; newest first.

        Raises:
            NotFoundError: there is none of that name that this key may change.
        """
        names = [one["name"] for one in await self.all(publisher)] if name is None else [name]
        if name is not None:
            await self.one(publisher, name)
        return await self._book.deliveries(publisher.source, names, state, before, limit)


def _mine(publisher: Publisher, subscription: Mapping[str, Any]) -> bool:
    """Tell whether all that a subscription is about is the publisher's."""
    of_everybody = subscription["everybody"] and "*" not in publisher.professionals
    return not of_everybody and may_change(publisher, subscription)


def _shown(secret: str) -> str:
    """Return a secret as Standard Webhooks writes it."""
    return "whsec_" + b64encode(secret.encode()).decode()


class Notifying(Sender[Notice]):
    """Tells what waits, each by its way, and reminds gently; several may run."""

    def __init__(
        self,
        queue: NoticeQueue,
        ways: Mapping[str, Way],
        clock: Clock,
        watch: Watch,
        zone_of: Callable[[str], ZoneInfo],
        *,
        drill: bool = False,
    ) -> None:
        """Take the parts.

        Args:
            drill: of a service for exercises: every notice says so.
            queue: where notices wait.
            ways: by name; one that the operator has not set up is left out.
            clock: what they are due by.
            watch: who counts.
            zone_of: the clock of a territory; of "" the mainland's.
        """
        super().__init__("notices", queue, clock, watch, waits=BACK_OFF, kept=KEPT)
        self._reminders = queue
        self._ways = ways
        self._zone_of = zone_of
        self._drill = drill

    def chores(self) -> list[tuple[float, Callable[[], Awaitable[object]]]]:
        """Return those of every sender, and the reminders."""
        return [*super().chores(), (REMIND_S, self.remind)]

    async def remind(self) -> int:
        """Queue the reminders that are due; returns how many."""
        return await self._reminders.remind(self._clock.now())

    async def tell(self, message: Notice) -> Delivery:
        """Send a notice by its way; what is too old to be of use is given up."""
        now = self._clock.now()
        if now - message.at > LATE:
            return Delivery("refused", "trop tard")
        way = self._ways.get(message.way)
        if way is None:
            return Delivery("again", "cette voie n'est pas en service ici", later=NO_WAY)
        told = in_words(message.kind, orjson.loads(message.body), self._zone_of(message.territory))
        if self._drill:
            told = Told(f"EXERCICE : {told.subject}", told.lines)
            message = message._replace(body=orjson.dumps({**orjson.loads(message.body), "drill": True}).decode())
        return await way.send(message, told, now)


class SocketWay:
    """Port ``Way``: an event to the sockets of whoever the subscription is about. The rest is pushed anyway."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def send(self, notice: Notice, told: Told, now: datetime) -> Delivery:
        """Publish a notice to the sockets of whom it is about."""
        document = {"kind": notice.kind, "at": notice.at, "subject": told.subject, "data": orjson.loads(notice.body)}
        data = orjson.dumps(document).decode()
        event = Announcement(
            0, now, notice.territory, "events", "notice", f"notice:{notice.id}", 1, "", notice.members, data
        )
        try:
            await self._bus.publish([event])
        except UnavailableError as away:
            return Delivery("again", away.detail)
        return Delivery("taken")
