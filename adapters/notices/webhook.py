"""Signed webhooks, as Standard Webhooks 1.0 says: id, time and an HMAC-SHA256 over both and the raw body."""

import base64
import hashlib
import hmac
from datetime import datetime
from typing import Final

import orjson

from adapters.outside import Outside, OutsideError
from sas_matcher.domain.notices import Told
from sas_matcher.ports.sending import Delivery, Notice

WHOLE_S: Final = 15.0  # as Standard Webhooks advises: who takes a message answers first and works then


def body_of(notice: Notice) -> bytes:
    """Return what is posted; the same for every try."""
    return orjson.dumps({"type": notice.kind, "timestamp": notice.at, "data": orjson.loads(notice.body)})


def signature(secret: bytes, message_id: str, at: int, body: bytes) -> str:
    """Return one signature (``v1,…``) of a message at an instant in epoch seconds."""
    signed = f"{message_id}.{at}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


class WebhookWay:
    """Posts notices; ``outside`` knows which hosts may be of our network."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    async def send(self, notice: Notice, told: Told, now: datetime) -> Delivery:
        """Post a notice; any 2xx takes it, 410 says that there is nobody any more, all else is tried again."""
        body, message_id, at = body_of(notice), f"msg_{notice.id}", int(now.timestamp())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(at),
            # while a secret is being changed both sign
            "webhook-signature": " ".join(signature(secret, message_id, at, body) for secret in notice.secrets),
        }
        try:
            answer = await self._outside.call("POST", notice.address or "", headers, content=body, most=0)
        except OutsideError as wrong:
            return Delivery("again", str(wrong))
        if 200 <= answer.status < 300:
            return Delivery("taken")
        detail = f"l'adresse répond {answer.status}"
        return Delivery("refused", detail, gone=True) if answer.status == 410 else Delivery("again", detail)
