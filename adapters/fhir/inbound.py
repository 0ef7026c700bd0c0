"""``/fhir/Appointment``: we play the platform for the editors that we poll (INT_R03, contract, section 10.2).

An editor tells of bookings on its own places only: who may speak for which editor is in the file of editors.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from adapters.fhir.appointments import Told, read_appointment
from adapters.fhir.identifiers import practitioner_id, read_token
from adapters.fhir.outcomes import FhirError, FhirRuleError, Issue
from adapters.fhir.server import Endpoint, FhirServer, answer_of, document_of
from sas_matcher.domain.errors import NotAllowedError

_QUERY: Final = "PUT Appointment?identifier=<system>|<valeur>"
_log = structlog.get_logger(__name__)


class Appointments(Protocol):
    """Where they are taken in (the ledger)."""

    async def take_appointment(self, now: datetime, sources: Sequence[str], new_id: str, told: Sequence[Any]) -> Any:
        """Take in a booking of some sources; returns a row of outcome (created, changed, other_editor) and id."""
        ...


class AppointmentServer:
    """The routes; ``store`` is set while the worker runs."""

    def __init__(self, server: FhirServer, sources_of: Mapping[str, Sequence[str]]) -> None:
        """Take who calls and whose places these are.

        Args:
            server: of the other routes: its door, clock and ids.
            sources_of: sources (``fhir:…``) by name of the client: common name of its certificate, or id of its key.
        """
        self.store: Appointments | None = None
        self._server = server
        self._sources_of = sources_of
        server.editors = frozenset(sources_of)

    def routes(self) -> list[BaseRoute]:
        """Return the routes; they go before those of the server, whose last one answers everything."""
        answers = {"POST": self.create, "PUT": self.update}
        paths = ("/fhir/Appointment", "/fhir/Appointment/")
        return [Route(path, Endpoint(self._server, path, answers, for_editors=True)) for path in paths]

    async def create(self, request: Request) -> Response:
        """Take in a booking; a known identifier is an update (a lost answer makes it common)."""
        return await self._take(request, read_appointment(await document_of(request)))

    async def update(self, request: Request) -> Response:
        """Take in a change; an unknown identifier creates."""
        # the guide's table writes "Identifier", its diagram "identifier"
        found = [value for name, value in request.query_params.multi_items() if name.lower() == "identifier"]
        if len(found) != 1:
            raise FhirError(Issue("required", _QUERY, ("identifier",)))
        told = read_appointment(await document_of(request))
        if read_token(found[0]) != (told.identifier_system, told.identifier):
            raise FhirRuleError(
                Issue("value", "n'est pas l'identifiant de l'adresse (identifier=)", ("Appointment.identifier",))
            )
        return await self._take(request, told)

    async def _take(self, request: Request, told: Told) -> Response:
        if self.store is None:  # pragma: no cover - no call comes before the worker has started
            raise RuntimeError("the worker has not started")
        sources = self._sources_of.get(request.state.client, ())
        if not sources:
            raise NotAllowedError("Ce client n'annonce les rendez-vous d'aucun éditeur (clients, dans le fichier).")
        running = self._server.running
        professional = practitioner_id(told.rpps).bare if told.rpps is not None else None
        row = await self.store.take_appointment(
            running.clock.now(),
            sources,
            running.ids.uuid(),
            (told.identifier_system, told.identifier, told.status, professional, told.start, told.end),
        )
        if row["outcome"] == "other_editor":
            raise FhirRuleError(Issue("duplicate", "identifiant d'un autre éditeur", ("Appointment.identifier",)))
        _log.info("editors.appointment", source=sources[0], status=told.status, outcome=row["outcome"])
        place = {"Location": f"{self._server.base(request)}/Appointment/{row['id']}"}
        # nothing but what was told comes back; the profile has no room for ours
        document = {"resourceType": "Appointment", "id": str(row["id"]), "status": told.status}
        return answer_of(document, 201 if row["outcome"] == "created" else 200, place)
