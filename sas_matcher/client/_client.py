"""The client itself."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from random import SystemRandom
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx

from sas_matcher.client._agendas import AgendaCalls
from sas_matcher.client._asking import AskingCalls
from sas_matcher.client._consent import Exposure, ShareRule
from sas_matcher.client._crisis import CrisisCalls
from sas_matcher.client._documents import Booking, Commune, Json, Limit, Me, Request, Slot, SlotOutcomes, SlotPage
from sas_matcher.client._events import EventStream, Position
from sas_matcher.client._http import LOOPBACK, Http, Retry, Sleep, sleep
from sas_matcher.client._practice import PracticeCalls
from sas_matcher.client._settings import Setting, SettingChanges
from sas_matcher.client._statement import Statement

TIMEOUT_S = 15.0
"""Bound of each step of a call; the service itself answers a request for a place within 2 s."""

_chance = SystemRandom().random


def _new_key() -> str:
    return str(uuid4())


class SasClient(AgendaCalls, AskingCalls, CrisisCalls, PracticeCalls):
    """Calls the service with one API key; an asynchronous context manager, safe for many tasks at once.

    Every method raises ``ApiError`` when the service refuses and ``UnreachableError`` when it does not answer.

    Args:
        base_url: Such as ``http://127.0.0.1:8069``.
        key: The API key, ``sas_…``; empty for what needs none.
        new_idempotency_key: Makes the Idempotency-Key of each action; a retry keeps the one of its action.
        retry: When calls that may be repeated are repeated.
        timeout_s: Bound of each step of a call.
        transport: For tests: an httpx transport instead of the network.
        sleep: How to wait, for tests.
        chance: Draws from [0, 1) to spread retries.

    Raises:
        ValueError: The key has characters that no key has.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        new_idempotency_key: Callable[[], str] = _new_key,
        retry: Retry | None = None,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Sleep = sleep,
        chance: Callable[[], float] = _chance,
    ) -> None:
        if not (key.isascii() and key.isprintable() and " " not in key):
            # the header could not be sent, which would look like a service that is away
            raise ValueError("Expected a key of visible ASCII characters.")
        self._url = httpx.URL(base_url)
        # a proxy of the environment is for the way out, never for this machine
        self._direct = self._url.host in LOOPBACK
        client = httpx.AsyncClient(
            base_url=self._url,
            headers={"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=timeout_s,
            transport=transport,
            # without TLS the many certificates of authorities need not be read (50 ms); an empty context trusts nobody
            verify=True if self._url.scheme == "https" else SSLContext(PROTOCOL_TLS_CLIENT),
            trust_env=not self._direct,
        )
        self._new_key = new_idempotency_key
        self._http = Http(client, retry=retry or Retry(), sleep=sleep, chance=chance)
        self._streams: list[EventStream] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every stream and connection."""
        for stream in self._streams:
            await stream.aclose()
        await self._http.client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object = None,
        idempotency_key: str | None = None,
        repeatable: bool = False,
    ) -> Any:
        """Make any call and return its JSON, for what has no method here.

        Args:
            method: HTTP method.
            path: Such as ``/v1/vocabulary``.
            query: Parameters; those that are ``None`` are left out.
            body: JSON value; bytes are sent as they are, as a CSV table.
            idempotency_key: Makes the call repeatable.
            repeatable: It does no harm to send this call twice; true for GET anyway. Others are sent once.
        """
        return await self._http.call(
            method, path, query=query, body=body, idempotency_key=idempotency_key, repeatable=repeatable
        )

    # -- practices -----------------------------------------------------------------------------------------------

    async def publish_slots(self, slots: Sequence[Mapping[str, Any]]) -> SlotOutcomes:
        """Publish or change slots, at most 10 000: all, or none if one is wrong (``ApiError.errors`` says which).

        The same external_id is the same slot, so publishing again does no harm.
        """
        body = {"slots": list(slots)}
        return SlotOutcomes.of(await self._http.call("POST", "/v1/slots", body=body, repeatable=True))

    async def withdraw_slots(
        self,
        external_ids: Sequence[str] | None = None,
        *,
        window: tuple[datetime, datetime] | None = None,
        reason: str | None = None,
    ) -> SlotOutcomes:
        """Withdraw slots by name, or all that start in a window; their patients are matched again.

        What has begun stays: a window leaves it out, one named is ``begun``. When the first answer was lost, the retry
        finds them gone already and says ``not_found``.

        Raises:
            ValueError: Neither names nor a window were given, or both.
        """
        if (external_ids is None) == (window is None):
            raise ValueError("Expected external_ids or window.")
        body: dict[str, Any] = {} if reason is None else {"reason": reason}
        if external_ids is not None:
            body["external_ids"] = list(external_ids)
        if window is not None:
            body |= {"from": window[0].isoformat(), "to": window[1].isoformat()}
        return SlotOutcomes.of(await self._http.call("POST", "/v1/slots/withdraw", body=body, repeatable=True))

    async def slots(self, start: datetime, end: datetime, *, after: int = 0, limit: int = 200) -> SlotPage:
        """Return a page of what this key has published, by start; ``next_after`` leads to the next page."""
        query = {"from": start.isoformat(), "to": end.isoformat(), "after": after, "limit": limit}
        return SlotPage.of(await self._http.call("GET", "/v1/slots", query=query))

    async def all_slots(self, start: datetime, end: datetime) -> list[Slot]:
        """Return all that this key has published in a window."""
        found: list[Slot] = []
        after: int | None = 0
        while after is not None:
            page = await self.slots(start, end, after=after, limit=1000)
            found += page.slots
            after = page.next_after
        return found

    async def bookings(self, start: datetime, end: datetime, *, limit: int = 200) -> list[Booking]:
        """Return the bookings on this practice's slots that start in a window."""
        query = {"from": start.isoformat(), "to": end.isoformat(), "limit": limit}
        return [Booking.of(item) for item in (await self._http.call("GET", "/v1/bookings", query=query))["bookings"]]

    async def booking(self, booking_id: str) -> Booking:
        """Return one booking."""
        return Booking.of(await self._http.call("GET", f"/v1/bookings/{booking_id}"))

    async def refuse(
        self,
        booking_id: str,
        *,
        reason: str | None = None,
        keep_slot: bool | None = None,
        idempotency_key: str | None = None,
    ) -> Booking:
        """Refuse a booking; its patient is matched again at once.

        ``keep_slot`` says whether its place stays open for others; unsaid, an hour is closed and a plage stays.
        """
        body: dict[str, Any] = {} if keep_slot is None else {"keep_slot": keep_slot}
        body |= {} if reason is None else {"reason": reason}
        return Booking.of(await self._act(f"/v1/bookings/{booking_id}/refuse", body, idempotency_key))

    async def outcome(self, booking_id: str, outcome: str, *, idempotency_key: str | None = None) -> Booking:
        """Say what became of a booking: ``fulfilled`` or ``noshow``, from the start of the slot on."""
        path = f"/v1/bookings/{booking_id}/outcome"
        return Booking.of(await self._act(path, {"outcome": outcome}, idempotency_key))

    async def put_limit(self, name: str, limit: Mapping[str, Any]) -> Limit:
        """Set or change a limit, in force when this returns; what is booked already stays.

        Args:
            name: The practice's own, 1 to 40 characters of a-z, 0-9, - and _.
            limit: Body of ``PUT /v1/limits/{name}``: professionals or structures, counts, period, most or share.
        """
        return Limit.of(await self._http.call("PUT", f"/v1/limits/{name}", body=dict(limit), repeatable=True))

    async def limits(self) -> list[Limit]:
        """Return the limits that this key may change, with what is taken of them in the next seven days."""
        return [Limit.of(item) for item in (await self._http.call("GET", "/v1/limits"))["limits"]]

    async def remove_limit(self, name: str) -> None:
        """Take a limit back; the places that it closed are open again."""
        await self._http.call("DELETE", f"/v1/limits/{name}")

    async def statement(self, start: datetime, end: datetime) -> Statement:
        """Return what taking part gave back in a window, a quarter at the most; for practices and gestionnaires."""
        query = {"from": start.isoformat(), "to": end.isoformat()}
        return Statement.of(await self._http.call("GET", "/v1/statement", query=query))

    async def put_share_rule(self, name: str, rule: Mapping[str, Any]) -> ShareRule:
        """Set or change which places leave, in force when this returns; what is booked or promised stays.

        Args:
            name: The practice's own, 1 to 40 characters of a-z, 0-9, - and _.
            rule: Body of ``PUT /v1/share-rules/{name}``: professionals or structures, from, to, days, channels …
        """
        return ShareRule.of(await self._http.call("PUT", f"/v1/share-rules/{name}", body=dict(rule), repeatable=True))

    async def share_rules(self) -> list[ShareRule]:
        """Return the rules of consent that this key may change."""
        return [ShareRule.of(item) for item in (await self._http.call("GET", "/v1/share-rules"))["rules"]]

    async def remove_share_rule(self, name: str) -> None:
        """Take a rule of consent back."""
        await self._http.call("DELETE", f"/v1/share-rules/{name}")

    async def exposures(self, start: datetime, end: datetime, *, limit: int = 200) -> list[Exposure]:
        """Return who was shown, given or asked what of this practice, newest first; a month at the most."""
        query = {"from": start.isoformat(), "to": end.isoformat(), "limit": limit}
        found = (await self._http.call("GET", "/v1/exposures", query=query))["exposures"]
        return [Exposure.of(item) for item in found]

    async def editors(self) -> list[dict[str, Any]]:
        """Return how each polled editor of agendas does: state, sentence (French), places, phantoms of tried."""
        found: list[dict[str, Any]] = (await self._http.call("GET", "/v1/editors"))["editors"]
        return found

    # -- regulators ----------------------------------------------------------------------------------------------

    async def create_request(self, wish: Mapping[str, Any], *, idempotency_key: str | None = None) -> Request:
        """Ask for a place: the answer holds one, or says why there is none.

        Without a decision after 2 s the answer has none yet (``decision`` is ``None``); it comes as an event.

        Args:
            wish: Body of ``POST /v1/requests``: where, which profession, within which delay…
            idempotency_key: Of this wish; made when missing. The same key again gives the same request.
        """
        return Request.of(await self._act("/v1/requests", dict(wish), idempotency_key))

    async def request(self, request_id: str) -> Request:
        """Return one request of this key."""
        return Request.of(await self._http.call("GET", f"/v1/requests/{request_id}"))

    async def requests(
        self, *, status: str | Sequence[str] | None = None, before: datetime | None = None, limit: int = 50
    ) -> list[Request]:
        """Return a page of this key's requests, newest first; ``before`` leads to older ones."""
        wanted = status if status is None or isinstance(status, str) else ",".join(status)
        query = {"status": wanted, "before": before and before.isoformat(), "limit": limit}
        return [Request.of(item) for item in (await self._http.call("GET", "/v1/requests", query=query))["requests"]]

    async def confirm(
        self, request_id: str, *, booking_id: str | None = None, idempotency_key: str | None = None
    ) -> Request:
        """Confirm the hold; ``booking_id`` makes sure that it is the one that was read out to the patient."""
        body = {} if booking_id is None else {"booking_id": booking_id}
        return Request.of(await self._act(f"/v1/requests/{request_id}/confirm", body, idempotency_key))

    async def decline(
        self,
        request_id: str,
        *,
        booking_id: str | None = None,
        scope: str = "slot",
        idempotency_key: str | None = None,
    ) -> Request:
        """Decline the hold: this ``slot``, or this ``professional``, is never proposed again for the request.

        ``gone``: the editor whose page it was has the place no more; nobody is offered it.
        """
        body = {"scope": scope} | ({} if booking_id is None else {"booking_id": booking_id})
        return Request.of(await self._act(f"/v1/requests/{request_id}/decline", body, idempotency_key))

    async def cancel(
        self, request_id: str, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> Request:
        """Cancel a request; a place it has goes back to the others. A conflict once a firm place has begun."""
        body = {} if reason is None else {"reason": reason}
        return Request.of(await self._act(f"/v1/requests/{request_id}/cancel", body, idempotency_key))

    async def resume(self, request_id: str, *, idempotency_key: str | None = None) -> Request:
        """Open a request again whose hold ran out."""
        return Request.of(await self._act(f"/v1/requests/{request_id}/resume", {}, idempotency_key))

    async def colleagues(self) -> list[dict[str, str]]:
        """Return the other regulators of the same territories: ``key``, ``name``, ``role``."""
        found: list[dict[str, str]] = (await self._http.call("GET", "/v1/colleagues"))["colleagues"]
        return found

    async def hand(self, request_id: str, to: str, *, idempotency_key: str | None = None) -> Request:
        """Hand an open request, with its place or promise, to a colleague's key: it is theirs alone from here on."""
        return Request.of(await self._act(f"/v1/requests/{request_id}/hand", {"to": to}, idempotency_key))

    async def take(self, request_id: str, slot_id: int, *, idempotency_key: str | None = None) -> Request:
        """Hold a place of one's own choice; the one held before is kept if this one is gone."""
        return Request.of(await self._act(f"/v1/requests/{request_id}/take", {"slot_id": slot_id}, idempotency_key))

    async def offers(
        self,
        profession: str,
        *,
        insee: str | None = None,
        lat: float | None = None,
        lon: float | None = None,
        modes: Sequence[str] = (),
        needs: Sequence[str] = (),
        specialty: str | None = None,
        radius_km: float | None = None,
    ) -> Json:
        """Return the free places around a commune or point: ``buckets`` of the next 72 hours and ``cards``."""
        query = {
            "profession": profession,
            "insee": insee,
            "lat": lat,
            "lon": lon,
            "modes": ",".join(modes) or None,
            "needs": ",".join(needs) or None,
            "specialty": specialty,
            "radius_km": radius_km,
        }
        answer: Json = await self._http.call("GET", "/v1/offers", query=query)
        return answer

    # -- what a territory sets -----------------------------------------------------------------------------------

    async def setting(self, territory: str) -> Setting:
        """Return what a territory sets; any key of that territory may ask."""
        return Setting.of(await self._http.call("GET", f"/v1/territories/{territory}/settings"))

    async def with_mt(
        self, territory: str, start: datetime, end: datetime, communes: Sequence[str] = ()
    ) -> Mapping[str, Any]:
        """Count the patients who have a médecin traitant, have none, or of whom it is not known, by commune.

        For who steers the territory; all communes when none is named; those with fewer than five requests together.
        """
        query = {"from": start.isoformat(), "to": end.isoformat(), "communes": ",".join(communes) or None}
        counted: Mapping[str, Any] = await self._http.call("GET", f"/v1/territories/{territory}/mt", query=query)
        return counted

    async def change_setting(
        self,
        territory: str,
        changes: Mapping[str, Any],
        *,
        why: str,
        version: int | None = None,
        idempotency_key: str | None = None,
    ) -> Setting:
        """Change what is named (of ``policy``, tiers) and leave the rest; coordinators and administrators.

        Args:
            territory: Code of the département.
            changes: ``policy``, ``crisis``, ``crisis_allowed``, ``hold_seconds``, ``mt_rule``,
                ``ageing_pct_per_h``, ``fair_load_min``, ``radius_pct``, ``urgent_reserve_pct``, ``tele_bonus_min``,
                ``borrow`` and ``borrow_km``.
            why: Kept in the trace; no patient's identity.
            version: The one that was read; the service refuses the change (``conflict``) when there is another since.
            idempotency_key: Of this change; made when missing.
        """
        body = {**changes, "why": why} | ({} if version is None else {"version": version})
        path = f"/v1/territories/{territory}/settings"
        return Setting.of(await self._act(path, body, idempotency_key, method="PATCH"))

    async def setting_changes(self, territory: str, *, before: int | None = None, limit: int = 50) -> SettingChanges:
        """Return a page of the changes of a territory's setting, newest first; ``before`` is a version."""
        query = {"before": before, "limit": limit}
        return SettingChanges.of(await self._http.call("GET", f"/v1/territories/{territory}/settings/log", query=query))

    # -- everyone ------------------------------------------------------------------------------------------------

    async def me(self) -> Me:
        """Return whose key this is and what it may do."""
        return Me.of(await self._http.call("GET", "/v1/me"))

    async def communes(self, text: str, *, limit: int = 10, territory: str | None = None) -> list[Commune]:
        """Find communes by name, postcode or INSEE code."""
        query = {"q": text, "limit": limit, "territory": territory}
        return [Commune.of(item) for item in (await self._http.call("GET", "/v1/communes", query=query))["communes"]]

    async def vocabulary(self) -> Json:
        """Return the codes that the API takes, with their labels."""
        answer: Json = await self._http.call("GET", "/v1/vocabulary")
        return answer

    async def overview(self, territory: str | None = None) -> Json:
        """Return counts of requests and places (coordinators)."""
        answer: Json = await self._http.call("GET", "/v1/overview", query={"territory": territory})
        return answer

    async def ready(self) -> bool:
        """Tell whether the service is able to serve; asks once."""
        try:
            answer = await self._http.client.get("/readyz")
        except httpx.TransportError:
            return False
        return answer.is_success

    def events(self, *, resume: Position | None = None) -> EventStream:
        """Return the stream of this key's events; it goes on over breaks, and ends when it or the client is closed.

        Args:
            resume: Where an earlier stream stood; without it the stream starts at the present.
        """
        url = self._url.copy_with(scheme="wss" if self._url.scheme == "https" else "ws")
        stream = EventStream(self._http, f"{str(url).rstrip('/')}/v1/ws", resume, direct=self._direct)
        self._streams.append(stream)
        return stream

    async def _act(
        self, path: str, body: Mapping[str, Any], idempotency_key: str | None, *, method: str = "POST"
    ) -> Any:
        return await self._http.call(method, path, body=body, idempotency_key=idempotency_key or self._new_key())
