"""Patients who have a place, as their practice sees them; and what a practice is told, by which way."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sas_matcher.client._calls import Calls
from sas_matcher.client._documents import Booking, Json, _instant


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Whether a practice has accepted a booking.

    Attributes:
        kind: What silence means: ``tacit`` accepts, ``explicit`` gives the patient another place.
        until: By when the practice says so; ``None`` while the booking is a hold.
        accepted_at: ``None`` as long as it is not.
    """

    kind: str
    until: datetime | None
    accepted_at: datetime | None

    @classmethod
    def of(cls, booking: Booking) -> "Acceptance | None":
        """Read it of a booking; ``None`` where there is nothing to accept."""
        found = booking.raw.get("acceptance")
        return None if found is None else cls(found["kind"], _instant(found["until"]), _instant(found["accepted_at"]))


@dataclass(frozen=True, slots=True)
class Subscription:
    """Who is told of what, and how.

    Attributes:
        way: ``websocket``, ``email`` or ``webhook``.
        state: ``active``; ``unconfirmed`` until the code that an address of mail was sent comes back; ``disabled``
            after long failure: set it again to go on.
        failing_since: Since when nothing arrives; ``last_error`` says why, in French.
        waiting: Deliveries that wait.
        secret: Of a webhook, when it was just made or changed; never shown again.
    """

    name: str
    way: str
    address: str | None
    kinds: tuple[str, ...]
    state: str
    failing_since: datetime | None
    last_error: str | None
    waiting: int
    secret: str | None
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "Subscription":
        """Read a document."""
        return cls(
            document["name"],
            document["way"],
            document["address"],
            tuple(document["kinds"]),
            document["state"],
            _instant(document["failing_since"]),
            document["last_error"],
            document["waiting"],
            document.get("secret"),
            document,
        )


class PracticeCalls(Calls):
    """The calls of a practice about its patients and notices; part of ``SasClient``."""

    async def accept(self, booking_id: str, *, idempotency_key: str | None = None) -> Booking:
        """Accept a booking before its deadline; ``ApiError`` ``accept_ended`` afterwards."""
        return Booking.of(await self._act(f"/v1/bookings/{booking_id}/accept", {}, idempotency_key))

    async def call_off(self, booking_id: str, *, keep_slot: bool = True, idempotency_key: str | None = None) -> Booking:
        """End a booking whose patient told the practice that he does not come; nobody looks for a place for him."""
        body = {"keep_slot": keep_slot}
        return Booking.of(await self._act(f"/v1/bookings/{booking_id}/cancel", body, idempotency_key))

    async def move(self, booking_id: str, slot_id: int, *, idempotency_key: str | None = None) -> Booking:
        """Move a patient, with his consent, to another open hour of this practice."""
        return Booking.of(await self._act(f"/v1/bookings/{booking_id}/move", {"slot_id": slot_id}, idempotency_key))

    async def arrived(
        self, slot_id: int, arrived: int, *, over: bool = False, idempotency_key: str | None = None
    ) -> Json:
        """Say how many patients of a plage have come (``over``: the others did not); returns what is counted."""
        body = {"arrived": arrived, "over": over}
        document: Json = await self._act(f"/v1/slots/{slot_id}/arrived", body, idempotency_key)
        return document

    async def put_subscription(self, name: str, wish: Mapping[str, Any]) -> Subscription:
        """Set or change who is told of what, and how (body of ``PUT /v1/subscriptions/{name}``)."""
        return Subscription.of(await self.call("PUT", f"/v1/subscriptions/{name}", body=dict(wish)))

    async def subscriptions(self) -> list[Subscription]:
        """Return the subscriptions that this key may change."""
        return [Subscription.of(one) for one in (await self.call("GET", "/v1/subscriptions"))["subscriptions"]]

    async def remove_subscription(self, name: str) -> None:
        """Drop a subscription; what waited for it is told no more."""
        await self.call("DELETE", f"/v1/subscriptions/{name}")

    async def rotate_secret(self, name: str) -> Subscription:
        """Change the secret of a webhook, shown this once; the one before signs beside it for 24 hours."""
        return Subscription.of(await self.call("POST", f"/v1/subscriptions/{name}/rotate"))

    async def confirm_subscription(self, name: str, code: str) -> Subscription:
        """Say that an address of mail is ours, with the code that it was sent."""
        return Subscription.of(await self.call("POST", f"/v1/subscriptions/{name}/confirm", body={"code": code}))

    async def test_subscription(self, name: str) -> str:
        """Tell a subscription nothing, to see whether it arrives; returns the id of the delivery."""
        number: str = (await self.call("POST", f"/v1/subscriptions/{name}/test"))["id"]
        return number

    async def deliveries(
        self, *, subscription: str | None = None, state: str | None = None, before: int | None = None, limit: int = 50
    ) -> list[Json]:
        """Return what was told to this key's subscriptions, or is to be, newest first."""
        query = {"subscription": subscription, "state": state, "before": before, "limit": limit}
        found: list[Json] = (await self.call("GET", "/v1/deliveries", query=query))["deliveries"]
        return found
