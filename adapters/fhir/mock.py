"""An editor of agendas to try aggregation with: the three flows, a booking page, INT_R03, and the faults of real ones.

Everything but the bookings is a function of (seed, place, instant): places are shown some time before they start, go
as if other patients took them, and a share of those gone is still shown (phantoms: 4 to 8 % of what is shown in
practice). A phantom's booking page says that it is taken.
"""

import hashlib
import html
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from adapters.fhir import names
from adapters.fhir.appointments import Operator, Told, appointment
from adapters.fhir.capabilities import capability_statement
from adapters.fhir.identifiers import practitioner_id
from adapters.fhir.outcomes import FhirError, Issue, outcome, outcome_of
from adapters.fhir.searches import self_url, slot_search, sos_search
from adapters.fhir.searchsets import Frame, Place, cpts_bundle, practitioners_bundle, sos_bundle

SOMEBODY: Final = Operator(names.PLATFORM, "00000000-0000-4000-8000-000000000000")  # an invented regulator
BODY_MOST: Final = 4_096  # a booking names a slot and a regulator
_PAGE: Final = """<!doctype html>
<html lang="fr"><head><meta charset="utf-8"><title>Agenda fictif</title></head><body><main><h1>Agenda fictif</h1>
<p>{text}</p>{form}</main></body></html>
"""
_FORM: Final = '<form method="post"><button name="creneau" value="{slot}">Réserver</button></form>'


class Manners(NamedTuple):
    """How well the editor behaves.

    Attributes:
        latency_s: of an ordinary answer, give or take a half.
        outage_every_s, outage_s: it answers 503 for so long, once in each period; 0: never.
        phantoms: share of the places gone that are still shown.
        lies: share of the answers that break the contract.
        seed: of everything that happens by chance.
    """

    latency_s: float = 0.15
    outage_every_s: float = 0.0
    outage_s: float = 0.0
    phantoms: float = 0.06
    lies: float = 0.0
    seed: int = 0


class Booking(NamedTuple):
    """A place that was booked on the editor's page."""

    identifier: str
    place: Place
    at: datetime


def chance(seed: int, *what: object) -> float:
    """Return a number in [0, 1), the same for the same arguments, on every machine."""
    text = "|".join(map(str, (seed, *what))).encode()
    return int.from_bytes(hashlib.blake2s(text, digest_size=6).digest()) / 2**48


def shows(place: Place, now: datetime, manners: Manners) -> tuple[bool, bool]:
    """Return (shown, really free) of a place at an instant.

    Half of the places are shown from the day before on, the rest at some moment of the last twelve hours; four in ten
    go to other patients before their start.
    """
    if place.start <= now:
        return False, False
    ahead = place.start - now
    late = chance(manners.seed, place.slot_id, "late")
    if late > 0.5 and ahead > timedelta(hours=24 * (1 - late)):
        return False, False
    goes = chance(manners.seed, place.slot_id, "goes")
    gone = goes < 0.4 and ahead < timedelta(hours=15 * goes)
    phantom = chance(manners.seed, place.slot_id, "phantom") < manners.phantoms
    return not gone or phantom, not gone and not phantom


class MockEditor:
    """The editor's server."""

    def __init__(
        self,
        places: Sequence[Place],
        manners: Manners,
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]],
        base: str,
        tell: Callable[[dict[str, Any]], Awaitable[bool]] | None = None,
    ) -> None:
        """Take the agendas.

        Args:
            places: all that may ever be shown; their ``url`` is set to the booking page here.
            manners: how well it behaves.
            now: the present.
            sleep: waits so many seconds.
            base: public address, without a slash at its end.
            tell: sends an Appointment (INT_R03) to whoever plays the platform and says whether it was taken; None:
                nobody is told.
        """
        self._places = [place._replace(url=f"{base}/rdv?creneau={place.slot_id}") for place in places]
        self._of_person: dict[str, list[Place]] = {}
        self._of_structure: dict[str, list[Place]] = {}
        for place in self._places:
            if place.rpps is not None:
                self._of_person.setdefault(practitioner_id(place.rpps).bare, []).append(place)
            elif place.site.structure is not None:
                self._of_structure.setdefault(place.site.structure.bare, []).append(place)
        self.manners = manners
        self.bookings: dict[str, Booking] = {}
        self._now = now
        self._sleep = sleep
        self._base = base
        self._tell = tell
        self._began = now()
        self._answers = 0

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/fhir/metadata", self._metadata),
                Route("/fhir/Slot", self._slots),
                Route("/fhir/Slot/", self._slots),
                Route("/fhir/Schedule", self._schedules),
                Route("/fhir/Schedule/", self._schedules),
                Route("/rdv", self._page, methods=["GET"]),
                Route("/rdv", self._book, methods=["POST"]),
            ],
            exception_handlers={FhirError: _refused},
        )

    # -- what the platform asks ----------------------------------------------------------------------------------

    async def _metadata(self, request: Request) -> Response:
        return _fhir(capability_statement(f"{self._base}/fhir", "fictif", self._now()))

    async def _slots(self, request: Request) -> Response:
        asked = slot_search(request.query_params.multi_items()) if await self._up() else None
        if asked is None:
            return _down()
        build = cpts_bundle if asked.for_cpts else practitioners_bundle
        found = [
            place
            for place in self._shown(self._of_person, asked.rpps, asked.window)
            if asked.for_cpts or tuple(place.visibilities) != ("CPTS",)
        ]
        return self._answer(build(found, self._frame(request)))

    async def _schedules(self, request: Request) -> Response:
        asked = sos_search(request.query_params.multi_items()) if await self._up() else None
        if asked is None:
            return _down()
        return self._answer(
            sos_bundle(self._shown(self._of_structure, asked.sirets, asked.window), self._frame(request))
        )

    async def _up(self) -> bool:
        """Take the time an answer takes; tell whether there is one."""
        self._answers += 1
        spread = 0.5 + chance(self.manners.seed, self._answers, "latency")
        await self._sleep(self.manners.latency_s * spread)
        every = self.manners.outage_every_s
        return not every or (self._now() - self._began).total_seconds() % every >= self.manners.outage_s

    def _shown(
        self, known: Mapping[str, list[Place]], wanted: Iterable[str], window: tuple[datetime, datetime]
    ) -> list[Place]:
        now = self._now()
        return [
            place
            for who in wanted
            for place in known.get(who, ())
            if window[0] <= place.start <= window[1]
            and place.slot_id not in self.bookings
            and shows(place, now, self.manners)[0]
        ]

    def _frame(self, request: Request) -> Frame:
        raw = request.scope["query_string"].decode("latin-1")
        path = request.url.path.removeprefix("/fhir")
        return Frame(f"{self._base}/fhir", self_url(f"{self._base}/fhir", path, raw), f"reponse-{self._answers}")

    def _answer(self, bundle: dict[str, Any]) -> Response:
        if chance(self.manners.seed, self._answers, "lie") < self.manners.lies:
            _spoil(bundle, self._answers)
        return _fhir(bundle)

    # -- the regulator's side --------------------------------------------------------------------------------------

    async def _page(self, request: Request) -> Response:
        if "origin" not in request.query_params:
            return _page(403, "Cette page s'ouvre depuis la plateforme du SAS.")
        place = self._place(request.query_params.get("creneau", ""))
        if place is None:
            return _page(404, "Créneau inconnu.")
        when = place.start.astimezone(place.zone)
        who = html.escape(f"{place.given} {place.family}".strip())
        form = _FORM.format(slot=html.escape(place.slot_id))
        return _page(200, f"{who}, {html.escape(place.site.name)}, {when:%d/%m à %H h %M}", form)

    async def _book(self, request: Request) -> Response:
        """Book ``creneau``, as JSON also for an ``operator`` {system, value}; 409 when it is taken, or a phantom."""
        wish = await _wish(request)
        place = self._place(str(wish.get("creneau", "")))
        if place is None:
            return JSONResponse({"erreur": "créneau inconnu"}, 404)
        if place.slot_id in self.bookings or not shows(place, self._now(), self.manners)[1]:
            return JSONResponse({"erreur": "ce créneau n'est plus disponible"}, 409)
        booking = Booking(f"rdv-{place.slot_id}", place, self._now())
        self.bookings[place.slot_id] = booking
        named = wish.get("operator")
        # a form of the page does not say who fills it in
        operator = Operator(str(named["system"]), str(named["value"])) if isinstance(named, dict) else SOMEBODY
        told = await self.report(booking, "booked", operator)
        return JSONResponse({"rendez_vous": booking.identifier, "plateforme_informee": told}, 201)

    async def report(self, booking: Booking, status: str, operator: Operator) -> bool:
        """Tell the platform what became of a booking (INT_R03); False where nobody can be told, or it was not taken."""
        if self._tell is None:
            return False
        place = booking.place
        return await self._tell(
            appointment(
                Told(
                    identifier_system=self._base,
                    identifier=booking.identifier,
                    status=status,
                    start=place.start,
                    end=place.end,
                    created=booking.at,
                    operator=operator,
                    rpps=place.rpps,
                    sos=place.rpps is None,
                ),
                place.zone,
            )
        )

    def _place(self, slot_id: str) -> Place | None:
        return next((place for place in self._places if place.slot_id == slot_id), None)


async def _wish(request: Request) -> dict[str, Any]:
    body = await request.body()
    if len(body) > BODY_MOST:
        return {}
    if "json" in request.headers.get("content-type", ""):
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            return {}
        return document if isinstance(document, dict) else {}
    return dict(parse_qsl(body.decode("utf-8", "replace")))


def _spoil(bundle: dict[str, Any], number: int) -> None:
    """Break the contract in one of the ways that editors do."""
    entries = bundle.get("entry", [])
    slots = [entry["resource"] for entry in entries if entry["resource"]["resourceType"] == "Slot"]
    match number % 4:
        case 0 if slots:
            slots[0]["start"] = slots[0]["start"][:19] + "Z"
        case 1 if slots:
            slots[0]["schedule"] = {"reference": "Schedule/inconnu"}
        case 2 if slots:
            slots[0]["status"] = "busy"
        case _:
            bundle["type"] = "collection"


def _fhir(document: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type=names.JSON)


async def _refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, FhirError):  # pragma: no cover - registered for no other
        raise error
    return _fhir(outcome_of(error), error.status)


def _down() -> Response:
    return _fhir(outcome([Issue("transient", "service indisponible")]), 503)


def _page(status: int, text: str, form: str = "") -> HTMLResponse:
    return HTMLResponse(_PAGE.format(text=text, form=form), status)
