"""``/fhir``: the agenda manager's side of the contract (INT_R01, INT_R04, SOS Médecins, INT_R02, metadata).

Plain ASGI routes, since a search carries up to 25 practitioners and must be answered within a second (platform notes,
section 5). Every error is an OperationOutcome; every call is authenticated (``access``).
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, Protocol

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from adapters.fhir import names
from adapters.fhir.access import Access
from adapters.fhir.accounts import Account, account_resource, read_account, read_identifier
from adapters.fhir.agenda import Agenda
from adapters.fhir.capabilities import capability_statement
from adapters.fhir.outcomes import FhirError, FhirRuleError, Issue, outcome_of
from adapters.fhir.resources import DEPTH, deeper
from adapters.fhir.searches import self_url, slot_search, sos_search
from adapters.fhir.searchsets import Frame, cpts_bundle, practitioners_bundle, resource_of, sos_bundle
from sas_matcher import __version__
from sas_matcher.domain.errors import NotAllowedError, NotFoundError, SasError
from sas_matcher.ports.world import Clock, Ids

Answer = Callable[[Request], Awaitable[Response]]
_RPPS: Final = re.compile(r"\d{11}", re.ASCII)
_BODY_TYPES: Final = frozenset({"application/json", "application/fhir+json", "application/json+fhir"})


class Accounts(Protocol):
    """Where regulators' accounts are kept (the ledger)."""

    async def save_account(
        self, now: Any, new_id: str, search: tuple[str | None, str | None] | None, account: Account
    ) -> tuple[str, str | None]:
        """Create or conditionally change an account; returns (outcome, id)."""
        ...

    async def account(self, account_id: str) -> Any | None:
        """Return an account by id."""
        ...

    async def account_meant(self, national: str | None, technical: str | None) -> Any | None:
        """Return the account that holds an identifier."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes of one worker need, for as long as it runs."""

    access: Access
    agenda: Agenda
    accounts: Accounts
    clock: Clock
    ids: Ids


class FhirServer:
    """The routes; ``services`` is set while the worker runs."""

    def __init__(self, base: str = "") -> None:
        """Take the public address of ``/fhir`` (no slash at its end); empty: as the call names it."""
        self.services: Services | None = None
        # clients that are editors: they tell their bookings, and see and change nothing else
        self.editors: frozenset[str] = frozenset()
        self._base = base

    def routes(self) -> list[BaseRoute]:
        """Return the routes, the one for everything else last."""
        slot = {"GET": self.search_slots}
        schedule = {"GET": self.search_schedules}
        person = {"GET": self.search_practitioners, "POST": self.create_account, "PUT": self.update_account}
        table: dict[str, Mapping[str, Answer]] = {
            "/fhir/metadata": {"GET": self.metadata},
            "/fhir/Slot": slot,
            "/fhir/Slot/": slot,  # the guide's own samples have the slash
            "/fhir/Slot/{id}": {"GET": self.read_slot},
            "/fhir/Schedule": schedule,
            "/fhir/Schedule/": schedule,
            "/fhir/Schedule/{id}": {"GET": self.read_schedule},
            "/fhir/PractitionerRole/{id}": {"GET": self.read_role},
            "/fhir/Practitioner": person,
            "/fhir/Practitioner/": person,
            "/fhir/Practitioner/{id}": {"GET": self.read_practitioner},
            "/fhir": {},
            "/fhir/{rest:path}": {},
        }
        everybody = "/fhir/metadata"
        return [
            Route(path, Endpoint(self, path, answers, for_editors=path == everybody)) for path, answers in table.items()
        ]

    @property
    def running(self) -> Services:
        """The services of the running worker."""
        if self.services is None:  # pragma: no cover - no call comes before the worker has started
            raise RuntimeError("the worker has not started")
        return self.services

    def base(self, request: Request) -> str:
        """Return the address under which ``/fhir`` is known outside."""
        return self._base or f"{request.url.scheme}://{request.url.netloc}/fhir"

    # -- places --------------------------------------------------------------------------------------------------

    async def search_slots(self, request: Request) -> Response:
        """Answer INT_R01, or INT_R04 when the CPTS are to be included."""
        asked = slot_search(request.query_params.multi_items(), strict=_strict(request))
        places = await self.running.agenda.of_practitioners(asked.rpps, asked.window, for_cpts=asked.for_cpts)
        build = cpts_bundle if asked.for_cpts else practitioners_bundle
        return answer_of(build(places, self._frame(request)))

    async def search_schedules(self, request: Request) -> Response:
        """Answer the search for sites of SOS Médecins."""
        asked = sos_search(request.query_params.multi_items(), strict=_strict(request))
        places = await self.running.agenda.of_sos(asked.sirets, asked.window)
        return answer_of(sos_bundle(places, self._frame(request)))

    async def read_slot(self, request: Request) -> Response:
        """Return one free slot."""
        number = request.path_params["id"]
        # a bigint of PostgreSQL has 19 digits at the most
        known = number.isascii() and number.isdecimal() and len(number) <= 18
        place = await self.running.agenda.slot(int(number)) if known else None
        if place is None:
            raise NotFoundError("Créneau inconnu, ou qui n'est plus libre.")
        return answer_of(resource_of(place, "Slot"))

    async def read_schedule(self, request: Request) -> Response:
        """Return the agenda of a practitioner who shows a place there."""
        return await self._of_agenda(request, "Schedule")

    async def read_role(self, request: Request) -> Response:
        """Return a practitioner at a place where they show something."""
        return await self._of_agenda(request, "PractitionerRole")

    async def _of_agenda(self, request: Request, kind: str) -> Response:
        wanted = request.path_params["id"]
        rpps, _, site = wanted.partition("-")
        place = await self.running.agenda.any_of(rpps, wanted) if _RPPS.fullmatch(rpps) and site else None
        if place is None:
            raise NotFoundError("Agenda inconnu, ou qui ne montre rien en ce moment.")
        return answer_of(resource_of(place, kind))

    def _frame(self, request: Request) -> Frame:
        base = self.base(request)
        path = request.url.path.removeprefix("/fhir")
        raw = request.scope["query_string"].decode("latin-1")
        return Frame(base, self_url(base, path, raw), self.running.ids.uuid())

    # -- regulators' accounts ------------------------------------------------------------------------------------

    async def create_account(self, request: Request) -> Response:
        """INT_R02, creation."""
        return await self._save(request, None)

    async def update_account(self, request: Request) -> Response:
        """INT_R02, conditional update; there is no deletion, an account is disabled."""
        found = [value for name, value in request.query_params.multi_items() if name == "identifier"]
        if len(found) != 1:
            raise FhirError(Issue("required", "PUT Practitioner?identifier=<system>|<valeur>", ("identifier",)))
        return await self._save(request, read_identifier(found[0]))

    async def _save(self, request: Request, search: tuple[str | None, str | None] | None) -> Response:
        account = read_account(await document_of(request))
        services = self.running
        outcome, account_id = await services.accounts.save_account(
            services.clock.now(), services.ids.uuid(), search, account
        )
        if account_id is None:
            what = "adresse électronique" if outcome == "duplicate_email" else "identifiant"
            where = "Practitioner.telecom.value" if outcome == "duplicate_email" else "Practitioner.identifier"
            raise FhirRuleError(Issue("duplicate", f"{what} déjà celle ou celui d'un compte actif", (where,)))
        place = {"Location": f"{self.base(request)}/Practitioner/{account_id}"}
        return answer_of(account_resource(account_id, account), 201 if outcome == "created" else 200, place)

    async def search_practitioners(self, request: Request) -> Response:
        """Return the regulator's account, else the practitioner showing places, that an identifier is of."""
        found = [value for name, value in request.query_params.multi_items() if name == "identifier"]
        if len(found) != 1:
            raise FhirError(Issue("required", "GET Practitioner?identifier=<system>|<valeur>", ("identifier",)))
        national, technical = read_identifier(found[0])
        row = await self.running.accounts.account_meant(national, technical)
        resource = _account(row) if row is not None else await self._practitioner(national or "")
        frame = self._frame(request)
        bundle: dict[str, Any] = {
            "resourceType": "Bundle",
            "id": frame.bundle_id,
            "type": "searchset",
            "total": int(resource is not None),
            "link": [{"relation": "self", "url": frame.self_url}],
        }
        if resource is not None:
            full_url = f"{frame.base}/Practitioner/{resource['id']}"
            bundle["entry"] = [{"fullUrl": full_url, "resource": resource, "search": {"mode": "match"}}]
        return answer_of(bundle)

    async def read_practitioner(self, request: Request) -> Response:
        """Return a regulator's account, or a practitioner who shows places."""
        wanted = request.path_params["id"]
        if _is_uuid(wanted):
            row = await self.running.accounts.account(wanted)
            resource = None if row is None else _account(row)
        else:
            resource = await self._practitioner(wanted)
        if resource is None:
            raise NotFoundError("Compte inconnu, ou professionnel qui ne montre rien en ce moment.")
        return answer_of(resource)

    async def _practitioner(self, number: str) -> dict[str, Any] | None:
        """Return a practitioner by RPPS, prefixed or not."""
        rpps = number.removeprefix("8") if len(number) == 12 else number
        place = await self.running.agenda.any_of(rpps) if _RPPS.fullmatch(rpps) else None
        return None if place is None else resource_of(place, "Practitioner")

    async def metadata(self, request: Request) -> Response:
        """Return the CapabilityStatement."""
        return answer_of(capability_statement(self.base(request), __version__, self.running.clock.now()))


class Endpoint:
    """One address: authentication first, then the method, then the answer; every error an OperationOutcome."""

    def __init__(
        self, server: FhirServer, path: str, answers: Mapping[str, Answer], *, for_editors: bool = False
    ) -> None:
        self._for_editors = for_editors
        self._server = server
        self._path = path
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call."""
        # the template is the label of the metrics
        scope["route"] = SimpleNamespace(path=self._path)
        request = Request(scope, receive)
        try:
            peer = request.client.host if request.client is not None else None
            request.state.client = await self._server.running.access.admit(peer, request.headers)
            method = "GET" if request.method == "HEAD" else request.method
            if request.state.client in self._server.editors and not self._for_editors:
                raise NotAllowedError("Ce client est un éditeur : il n'annonce que ses rendez-vous (Appointment).")
            if not self._answers:
                raise NotFoundError("Cette adresse n'existe pas.")
            if method not in self._answers:
                raise _NoSuchMethodError("Cette adresse ne connaît pas cette méthode.")
            response = await self._answers[method](request)
        except SasError as error:
            response = error_response(error)
            if isinstance(error, _NoSuchMethodError):
                response.headers["Allow"] = ", ".join(sorted(self._answers))
        await response(scope, receive, send)


class _NoSuchMethodError(SasError):
    """The address exists, the method does not."""

    status = 405
    code = "method_not_allowed"
    title = "Méthode non autorisée"


def error_response(error: SasError) -> Response:
    """Return the answer to an error of ours."""
    headers = {"Retry-After": str(error.extra["retry_after"])} if "retry_after" in error.extra else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="sas-matcher"'
    return answer_of(outcome_of(error), error.status, headers)


def answer_of(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a FHIR answer."""
    return Response(orjson.dumps(document), status, dict(headers or {}), names.JSON)


def _strict(request: Request) -> bool:
    return "handling=strict" in request.headers.get("prefer", "").replace(" ", "").lower()


async def document_of(request: Request) -> Any:
    """Return the JSON document of a call.

    Raises:
        FhirError: another type of content, no JSON, or nested too deep.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind not in _BODY_TYPES:
        raise FhirError(Issue("not-supported", "Content-Type : application/fhir+json ou application/json"))
    try:
        document = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise FhirError(Issue("structure", "le corps n'est pas du JSON valide")) from None
    if deeper(document):
        raise FhirError(Issue("too-costly", f"plus de {DEPTH} niveaux imbriqués"))
    return document


def _account(row: Any) -> dict[str, Any]:
    fields = (row["national"], row["technical"], row["family"], row["given"], row["email"], row["active"])
    return account_resource(row["id"], Account(*fields))


def _is_uuid(text: str) -> bool:
    parts = text.split("-")
    return [len(part) for part in parts] == [8, 4, 4, 4, 12] and all(c in "0123456789abcdef" for c in "".join(parts))
