"""INT_R03 as client: the national platform's ``/Appointment`` over mutual TLS (port ``Platform`` of the sender)."""

import ssl
from collections.abc import Callable
from datetime import tzinfo
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from adapters.fhir import names
from adapters.fhir.appointments import Operator, Told, appointment
from adapters.fhir.outcomes import read_outcome
from sas_matcher.ports.sending import Delivery, Message

TIMEOUT_S: Final = 10.0  # well under the sender's lease
# the address, the certificate or the moment is wrong, not the message: it is sent again
_LATER: Final = frozenset({401, 403, 404, 405, 408, 425, 429})
_MOST_SHOWN: Final = 200


class Certificate(NamedTuple):
    """How we show who we are: PEM files; ``authorities`` None trusts the machine's."""

    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None


def tls_context(own: Certificate) -> ssl.SSLContext:
    """Return a client's TLS context, 1.2 at least.

    Raises:
        OSError: a file is missing or is no certificate.
    """
    context = ssl.create_default_context(cafile=str(own.authorities) if own.authorities else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if own.certificate is not None:
        context.load_cert_chain(str(own.certificate), str(own.key) if own.key else None)
    return context


class NationalPlatform:
    """Sends appointments; the only thing it remembers is its connections."""

    def __init__(self, url: str, own: Certificate, system: str, zone_of: Callable[[str], tzinfo]) -> None:
        """Take the address.

        Args:
            url: base of the platform's FHIR endpoint, without a slash at its end.
            own: our certificate.
            system: OID or URL under which our booking ids are unique.
            zone_of: time zone of a territory.

        Raises:
            OSError: a certificate cannot be read.
        """
        self._system = system
        self._zone_of = zone_of
        self._http = httpx.AsyncClient(
            base_url=url,
            verify=tls_context(own) if url.startswith("https://") else True,
            timeout=TIMEOUT_S,
            trust_env=False,
            headers={"Accept": "application/json+fhir", "Content-Type": names.JSON},
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def tell(self, message: Message, *, first: bool) -> Delivery:
        """Send one message (see the port)."""
        try:
            answer = await self._send(self._document(message), message.booking_id, first=first)
        except httpx.HTTPError as failure:
            return Delivery("again", type(failure).__name__)
        if answer.status_code in (200, 201):
            return Delivery("taken", None, answer.headers.get("location"))
        detail = f"{answer.status_code} {_outcome(answer)}".strip()[:_MOST_SHOWN]
        refused = 400 <= answer.status_code < 500 and answer.status_code not in _LATER
        return Delivery("refused" if refused else "again", detail)

    async def _send(self, document: dict[str, Any], booking_id: str, *, first: bool) -> httpx.Response:
        if first:
            return await self._http.post("/Appointment", json=document)
        # lower case, whatever the guide's table says (trap 17)
        query = {"identifier": f"{self._system}|{booking_id}"}
        return await self._http.put("/Appointment", params=query, json=document)

    def _document(self, message: Message) -> dict[str, Any]:
        known = message.system is not None and message.value is not None
        operator = Operator(str(message.system), str(message.value)) if known else None
        told = Told(
            identifier_system=self._system,
            identifier=message.booking_id,
            status=message.status,
            start=message.starts,
            end=message.ends,
            created=message.booked_at,
            operator=operator,
            rpps=message.professional,
            sos=message.sos,
        )
        return appointment(told, self._zone_of(message.territory))


def _outcome(answer: httpx.Response) -> str:
    try:
        return read_outcome(answer.json())
    except ValueError:
        return ""
