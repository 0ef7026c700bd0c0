"""Errors of the client.

```
ClientError              base; catch it to treat both alike
├── ApiError             the service answered and refused: status, code, detail, errors
└── UnreachableError     no answer after all tries; a repeated call with the same Idempotency-Key is safe
```
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class FieldError(NamedTuple):
    """One wrong field: its path, such as ``slots.3.start``, and what to do about it, in French."""

    field: str
    message: str


class ClientError(Exception):
    """Base of what this client raises."""


class ApiError(ClientError):
    """The service refused (RFC 9457 problem).

    Attributes:
        status: HTTP status.
        code: Stable code, such as ``hold_ended``; ``http_<status>`` when the answer is no problem document.
        detail: One French sentence.
        errors: Wrong fields, empty unless the input is at fault.
        request_id: What to quote when asking the operator.
        retry_after: Seconds to wait, when the service says so.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        *,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{status} {code} : {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.request_id = request_id
        self.retry_after = retry_after

    @classmethod
    def of(cls, status: int, document: object, retry_after: float | None = None) -> "ApiError":
        """Build the error from an answer's body, whatever a proxy on the way may have made of it."""
        known: Mapping[str, Any] = document if isinstance(document, dict) else {}
        listed = known.get("errors")
        errors = [
            FieldError(str(item.get("field", "")), str(item.get("message", "")))
            for item in (listed if isinstance(listed, list) else ())
            if isinstance(item, dict)
        ]
        code, detail = known.get("code") or f"http_{status}", known.get("detail") or f"Réponse inattendue ({status})."
        return cls(status, str(code), str(detail), errors, request_id=known.get("request_id"), retry_after=retry_after)


class UnreachableError(ClientError):
    """The service did not answer."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url} ne répond pas : {reason}")
        self.url = url
        self.reason = reason
