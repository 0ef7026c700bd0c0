"""The regulator's use cases: ask, confirm, decline, cancel, resume, take a place himself, browse."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson

from sas_matcher.domain.errors import (
    AcceptEndedError,
    ConflictError,
    HoldEndedError,
    InvalidInputError,
    LimitReachedError,
    NotFoundError,
    SlotFullError,
    TooLateError,
)
from sas_matcher.domain.policy import DEFAULT_HOLD_S
from sas_matcher.domain.vocabulary import (
    DELAY_SPAN,
    SCOPE_OF_ROLE,
    SPECIALTIES,
    Delay,
    Mode,
    Role,
    Scope,
    Tier,
    matching_specialty,
    tier_of,
)
from sas_matcher.matching.candidates import OpenRequest, find_candidates
from sas_matcher.matching.market import Market
from sas_matcher.matching.places import place_row
from sas_matcher.matching.terms import Terms
from sas_matcher.ports.ledger import Idempotency, KeyRecord, Ledger, Outcome
from sas_matcher.ports.practice import ConsentBook
from sas_matcher.ports.world import Clock, Geography, Ids
from sas_matcher.services.chosen import explain_chosen
from sas_matcher.services.publish import ASTRAY_KM
from sas_matcher.travel import KM_PER_DEGREE, haversine_km

FALLBACK_RADIUS_KM: Final = 20.0  # where the national platform sets none (973, 976): its most common value
BUCKET_HOURS: Final = ((0, 4), (4, 8), (8, 12), (12, 24), (24, 48), (48, 72))  # the national platform's six
_CARDS: Final = 200  # nearest ones: two pages of the national engine (`matching.peers`)
_NO_SLOT: Final = 0  # the ledger counts from one
_REFUSALS: Final = {
    "hold_ended": (HoldEndedError, "La réservation provisoire est terminée : demandez une nouvelle place."),
    "slot_full": (
        SlotFullError,
        "Cette place est prise ou ne peut plus être atteinte à temps ; la vôtre est gardée s'il y en avait une.",
    ),
    "limit_reached": (
        LimitReachedError,
        "Ce cabinet ne prend plus d'autre patient de ce type sur cette période : sa limite est atteinte. "
        "Choisissez une autre place ; la vôtre est gardée s'il y en avait une.",
    ),
    "conflict": (ConflictError, "La demande n'est plus dans un état qui le permet."),
    "accept_ended": (AcceptEndedError, "Le délai pour accepter est passé : une autre place est cherchée au patient."),
    "begun": (
        ConflictError,
        "Le rendez-vous a commencé : le cabinet dit si le patient est venu (outcome), rien d'autre n'y change plus.",
    ),
    "at_editor": (ConflictError, "Cette place est dans l'agenda d'un autre éditeur : déplacez le rendez-vous là."),
    "late_for_patient": (
        ConflictError,
        "Cette heure est après l'échéance de la demande : choisissez-en une plus tôt ; le patient garde sa place.",
    ),
    "too_early": (ConflictError, "Le créneau n'a pas encore commencé."),
    "too_late": (
        TooLateError,
        "Trop tard : le patient a déjà une place, ou la demande est close. Merci de votre réponse, elle est comptée.",
    ),
    "not_found": (NotFoundError, "Introuvable pour cette clé."),
}


def accepted(outcome: Outcome) -> str:
    """Return the document of an outcome, or raise what it refuses."""
    refusal = _REFUSALS.get(outcome.word)
    if refusal is not None:
        error, text = refusal
        raise error(text)
    if outcome.document is None:
        raise NotFoundError
    return outcome.document


def _regulates(key: KeyRecord, now: datetime) -> bool:
    in_force = key.revoked_at is None and (key.expires_at is None or key.expires_at > now)
    return in_force and SCOPE_OF_ROLE[Role(key.role)] is Scope.REGULATOR


class Regulating:
    """What médecins régulateurs, OSNP, ARM and IOA do."""

    def __init__(
        self, ledger: Ledger, clock: Clock, ids: Ids, geography: Geography, consent: ConsentBook | None = None
    ) -> None:
        self._ledger = ledger
        self._consent = consent
        self._clock = clock
        self._ids = ids
        self._geography = geography

    def new_request(self, wish: Mapping[str, Any], territories: Collection[str]) -> dict[str, Any]:
        """Turn a checked wish (shape of the API) into a ledger row; the point is rounded to three decimals here.

        Everything is decided on the rounded point (about 100 m), which is all that is kept.

        Raises:
            InvalidInputError: unknown commune, point outside France, specialty that contradicts the profession, or a
                territory that is not the key's.
        """
        now = self._clock.now()
        if wish["insee"] is not None:
            commune = self._geography.by_code(wish["insee"])
            if commune is None:
                raise InvalidInputError.of("insee", f"la commune {wish['insee']} est inconnue")
            lat, lon = round(commune.lat, 3), round(commune.lon, 3)
        else:
            lat, lon = round(wish["lat"], 3), round(wish["lon"], 3)
            commune = self._geography.nearest(lat, lon)
            if max(abs(commune.lat - lat), abs(commune.lon - lon)) > 1:
                raise InvalidInputError.of("lat", "ce point n'est pas en France ; vérifiez lat et lon")
        if wish["lat"] is not None and wish["insee"] is not None:
            lat, lon = round(wish["lat"], 3), round(wish["lon"], 3)
            # the landmass is the commune's: a point elsewhere would be offered places across the sea
            astray = float(haversine_km(lat, lon, commune.lat, commune.lon))
            if astray > ASTRAY_KM and commune.territory != "973":
                message = (
                    f"ce point est à {astray:.0f} km de {commune.name} ({commune.code}) ; vérifiez insee, lat et lon"
                )
                raise InvalidInputError.of("lat", message)
        profession, specialty = wish["profession"], wish["specialty"]
        if specialty is not None:
            implied = SPECIALTIES[specialty][1]
            if profession is not None and profession != implied:
                raise InvalidInputError.of("specialty", f"{specialty} relève de la profession {implied}")
            profession = implied
        delay = Delay(wish["delay"])
        territory = self._territory(wish["territory"], commune.territory, territories)
        radius = wish["radius_km"] or self._geography.territories[commune.territory].default_radius_km
        return {
            "id": self._ids.uuid(),
            "territory": territory,
            "lat": lat,
            "lon": lon,
            "insee": commune.code,
            "profession": profession,
            "specialty": matching_specialty(specialty),
            "modes": list(dict.fromkeys(wish["modes"])),
            "tier": tier_of(delay),
            "delay": delay,
            "deadline": now + DELAY_SPAN[delay],
            "radius_km": radius or FALLBACK_RADIUS_KM,
            "needs": sorted(set(wish["needs"])),
            "age_band": wish["age_band"],
            "mt": wish["mt"],
            "has_mt": wish["has_mt"] or ("unknown" if wish["mt"] is None else "yes"),
            "priority": wish["priority"],
            "on_phone": wish["on_phone"],
            "case_ref": wish["case_ref"],
        }

    def _territory(self, wanted: str | None, of_commune: str, allowed: Collection[str]) -> str:
        """Choose who decides: the wanted territory if it is the key's, else the patient's, else the key's only one."""
        if wanted is not None and wanted not in self._geography.territories:
            # no matcher would ever decide it
            raise InvalidInputError.of("territory", f"{wanted} n'est pas un département")
        if "*" in allowed:
            return wanted or of_commune
        if wanted is not None:
            if wanted not in allowed:
                raise InvalidInputError.of("territory", "cette clé n'est pas rattachée à ce territoire")
            return wanted
        return of_commune if of_commune in allowed else min(allowed)

    async def ask(self, row: Mapping[str, Any], once: Idempotency) -> Outcome:
        """Commit a new request; its id is the outcome's document. Told before it is decided: ``secure`` first."""
        return await self._ledger.create_request(self._clock.now(), row, once)

    async def secure(self) -> None:
        """Return once every request that was committed before is safe from a crash."""
        await self._ledger.secure()

    async def act(self, action: str, request_id: str, arguments: Sequence[Any], once: Idempotency) -> str:
        """Confirm, decline, cancel or resume; returns the request's document.

        Raises:
            NotFoundError, HoldEndedError, ConflictError: see ``accepted``.
        """
        return accepted(await self._ledger.change_request(action, self._clock.now(), request_id, arguments, once))

    async def colleagues(self, key_id: str, territories: Collection[str]) -> list[KeyRecord]:
        """Return the regulators' keys in force of the same territories, by name, but for the one that asks."""
        now = self._clock.now()
        found = [
            key
            for key in await self._ledger.keys()
            if key.id != key_id
            and _regulates(key, now)
            and ("*" in key.territories or "*" in territories or not set(territories).isdisjoint(key.territories))
        ]
        return sorted(found, key=lambda key: (key.name, key.id))

    async def hand(self, request_id: str, to: str, once: Idempotency) -> str:
        """Hand an open request, with its place or promise, to a colleague; returns it as it is theirs now.

        Args:
            request_id: of the caller.
            to: key of the colleague.
            once: who hands it.

        Raises:
            NotFoundError: not (any more) a request of this key.
            InvalidInputError: no regulator's key in force that sees the request's territory.
            ConflictError: the request is closed.
        """
        key = await self._ledger.key(to)
        row = await self._ledger.request_for_choice(request_id, once.key_id)
        if row is not None:
            sees = key is not None and ("*" in key.territories or row["territory"] in key.territories)
            if key is None or not _regulates(key, self._clock.now()) or not sees:
                message = "ce n'est pas la clé d'un régulateur de ce territoire ; voyez /v1/colleagues"
                raise InvalidInputError.of("to", message)
        # one that was handed already is no longer found under this key: an answer given under this key is repeated
        return await self.act("hand", request_id, [to], once)

    async def take(self, request_id: str, slot_id: int, once: Idempotency) -> str:
        """Hold a place that the regulator chose himself; the one held before is kept if this one is gone."""
        row = await self._ledger.request_for_choice(request_id, once.key_id)
        if row is None:
            raise NotFoundError("Demande introuvable pour cette clé.")
        slot = await self._ledger.slot_record(slot_id)
        if slot is None:
            raise NotFoundError("Créneau introuvable.")
        now = self._clock.now()
        until = now + timedelta(seconds=await self._hold_seconds(row["territory"]))
        try:
            arguments = (slot_id, self._ids.uuid(), until, self._chosen(row, slot, now))
        except SlotFullError:
            # the ledger is asked all the same, for a slot that no one has: an answer already given under this
            # Idempotency-Key stays what it was, and a new one is "no seat"
            arguments = (_NO_SLOT, self._ids.uuid(), until, "{}")
        return accepted(await self._ledger.change_request("take", now, request_id, arguments, once))

    async def _hold_seconds(self, territory: str) -> int:
        setting = (await self._ledger.settings()).get(territory)
        return DEFAULT_HOLD_S if setting is None else int(setting["hold_seconds"])

    def _chosen(self, row: Mapping[str, Any], slot: Mapping[str, Any], now: datetime) -> str:
        """Price the chosen place like any other; radius, mode and needs are the regulator's to overrule."""
        zone = ZoneInfo(self._geography.territories[row["territory"]].timezone)
        return explain_chosen(row, orjson.loads(slot["record"]), (slot["start"], slot["end"]), now, zone)

    async def document(self, request_id: str, key_id: str) -> str:
        """Return a request of this key."""
        document = await self._ledger.request_document(request_id, key_id)
        if document is None:
            raise NotFoundError("Demande introuvable pour cette clé.")
        return document

    async def page(self, key_id: str, statuses: Sequence[str] | None, before: datetime | None, limit: int) -> list[str]:
        """Return a page of this key's requests, newest first."""
        return await self._ledger.requests_of_key(key_id, statuses, before, limit)

    async def at_hand(self, key_id: str, since: datetime, limit: int) -> list[str]:
        """Return this key's open requests, then those that ended, or whose confirmed place began, after an instant."""
        return await self._ledger.requests_at_hand(key_id, since, limit)

    async def offers(self, wish: Mapping[str, Any], key_id: str) -> dict[str, Any]:
        """Return the free places around a point as the national platform shows them, nearest card first.

        Which places ``key_id`` was shown is written down before they are: their practices can trace it.

        Cards gather the places of one professional at one site (or of one structure); hours are sorted into the six
        buckets of the next 72 hours; the horizon is the end of the day after tomorrow, local time.
        """
        now = self._clock.now()
        if wish["lat"] is not None:
            lat, lon = round(wish["lat"], 3), round(wish["lon"], 3)
            commune = self._geography.nearest(lat, lon)
        else:
            found = self._geography.by_code(wish["insee"])
            if found is None:
                raise InvalidInputError.of("insee", f"la commune {wish['insee']} est inconnue")
            commune = found
            lat, lon = commune.lat, commune.lon
        territory = self._geography.territories[commune.territory]
        radius = wish["radius_km"] or territory.default_radius_km or FALLBACK_RADIUS_KM
        local = now.astimezone(ZoneInfo(territory.timezone))
        horizon = datetime.combine(local.date() + timedelta(days=2), time.max, local.tzinfo)
        d_lat = radius / KM_PER_DEGREE
        d_lon = d_lat / 0.6  # wide enough at the north of France (cos 51° = 0.63); the circle is cut below
        rows = await self._ledger.offers(
            wish["profession"],
            wish["modes"],
            now,
            horizon,
            lat - d_lat,
            lat + d_lat,
            lon - d_lon,
            lon + d_lon,
            matching_specialty(wish["specialty"]),
            wish["needs"],
            wish["visibility"],
            5_000,
        )
        market = Market()
        records: dict[int, dict[str, Any]] = {}
        for text, left in rows:
            record = orjson.loads(text)
            start, end = (int(datetime.fromisoformat(record[name]).timestamp()) for name in ("start", "end"))
            if record["mode"] == Mode.TELE or record["landmass"] == commune.landmass:
                records[record["slot_id"]] = {**record, "left": left}
                market.put([place_row(record, left, start, end)])
        request = OpenRequest(
            id="browse",
            key=0,
            territory=commune.territory,
            lat=lat,
            lon=lon,
            landmass=commune.landmass,
            profession=wish["profession"],
            specialty=None,
            modes=tuple(wish["modes"]),
            tier=Tier.T3,
            created_at=now.timestamp(),
            deadline=horizon.timestamp(),
            radius_km=radius,
            needs=(),
            mt=None,
            version=0,
        )
        found_places = find_candidates(market, request, now.timestamp(), Terms(base_min=0.0, min_per_km=0.0))
        cards = _cards(records, found_places.slot_id.tolist(), found_places.km.tolist(), now)
        if self._consent is not None:
            hours = (place for card in cards["cards"] for places in card["buckets"].values() for place in places)
            await self._consent.note(now, "offers", key_id, [place["slot_id"] for place in hours])
        return cards


def _cards(
    records: Mapping[int, Mapping[str, Any]], slot_ids: Sequence[int], kms: Sequence[float], now: datetime
) -> dict[str, Any]:
    """Gather places into cards and buckets."""
    cards: dict[tuple[Any, ...], dict[str, Any]] = {}
    shown = (
        "professional",
        "professional_name",
        "structure",
        "structure_name",
        "source_kind",
        "insee",
        "label",
        "phone",
    )
    for slot_id, km in sorted(zip(slot_ids, kms, strict=True)):
        record = records[slot_id]
        key = (
            (record["structure"],)
            if record["source_kind"] in ("cds", "sos")
            else (record["professional"], record["structure"])
        )
        card = cards.setdefault(
            (*key, record["lat"], record["lon"]),
            {
                **{name: record[name] for name in shown},
                "lat": record["lat"],
                "lon": record["lon"],
                "distance_km": round(km, 2),
                "buckets": {f"{low}-{high}h": [] for low, high in BUCKET_HOURS},
            },
        )
        hours = (datetime.fromisoformat(record["start"]) - now).total_seconds() / 3600
        bucket = next((f"{low}-{high}h" for low, high in BUCKET_HOURS if low <= hours < high), None)
        if bucket is not None:
            place = {
                name: record[name] for name in ("slot_id", "start", "end", "mode", "booking_kind", "offers", "left")
            }
            card["buckets"][bucket].append(place)
    ordered = sorted(cards.values(), key=lambda card: (card["distance_km"], card["label"] or ""))[:_CARDS]
    for card in ordered:
        for places in card["buckets"].values():
            places.sort(key=lambda place: (place["start"], place["slot_id"]))
    totals = {
        f"{low}-{high}h": sum(len(card["buckets"][f"{low}-{high}h"]) for card in ordered) for low, high in BUCKET_HOURS
    }
    return {"buckets": totals, "cards": ordered}
