"""Asynchronous client of the public API: what an editor's or a regulator's software needs, and nothing inside.

    async with SasClient("https://sas.example", key) as sas:
        request = await sas.create_request({"insee": "69383", "profession": "MG", "delay": "4H"})
        if request.place:
            await sas.confirm(request.request_id, booking_id=request.booking.booking_id)

It imports nothing of the service and can be used without it. Repeating is safe: every call that changes something
carries an Idempotency-Key, made once and kept over retries.
"""

from sas_matcher.client._agendas import Agenda, TablePreview
from sas_matcher.client._asking import Question
from sas_matcher.client._consent import Exposure, ShareRule
from sas_matcher.client._documents import (
    Booking,
    Commune,
    Decision,
    Hold,
    Limit,
    LimitPeriod,
    Me,
    NoPlace,
    Place,
    Promise,
    Relaxation,
    Request,
    Site,
    Slot,
    SlotOutcome,
    SlotOutcomes,
    SlotPage,
)
from sas_matcher.client._errors import ApiError, ClientError, FieldError, UnreachableError
from sas_matcher.client._events import Event, EventStream, Gap, Position
from sas_matcher.client._http import Retry
from sas_matcher.client._practice import Acceptance, Subscription
from sas_matcher.client._settings import Setting, SettingChange, SettingChanges
from sas_matcher.client._statement import Statement, StatementWeek

from sas_matcher.client._client import SasClient  # isort: skip  (built on all of the above)

__all__ = [
    "Acceptance",
    "Agenda",
    "ApiError",
    "Booking",
    "ClientError",
    "Commune",
    "Decision",
    "Event",
    "EventStream",
    "Exposure",
    "FieldError",
    "Gap",
    "Hold",
    "Limit",
    "LimitPeriod",
    "Me",
    "NoPlace",
    "Place",
    "Position",
    "Promise",
    "Question",
    "Relaxation",
    "Request",
    "Retry",
    "SasClient",
    "Setting",
    "SettingChange",
    "SettingChanges",
    "ShareRule",
    "Site",
    "Slot",
    "SlotOutcome",
    "SlotOutcomes",
    "SlotPage",
    "Statement",
    "StatementWeek",
    "Subscription",
    "TablePreview",
    "UnreachableError",
]
