"""Publishing: what a practice may put on the market, and taking it back.

Checks that need knowledge beyond the shape of the input live here: known communes, coordinates that fit them, starts
in the future, and whether the publisher may speak for that professional or structure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sas_matcher.domain.agenda import LONGEST_INDIVIDUAL
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.domain.vocabulary import SPECIALTIES
from sas_matcher.ports.ledger import Ledger
from sas_matcher.ports.world import Clock, Geography
from sas_matcher.travel import KM_PER_DEGREE

HORIZON: Final = timedelta(days=92)  # agendas open a quarter ahead; further is a typing error
LONGEST: Final = timedelta(hours=24)  # the index of overlapping slots relies on it
ACCEPT_MIN: Final = 15  # minutes to accept where a practice names none (ours: a consultation's length)
OF_AGENDAS: Final = "agenda/"  # how the external ids of slots begin that the service itself cuts out of an agenda
ASTRAY_KM: Final = 60.0  # the largest commune of France (Maripasoula) apart, none reaches 40 km from its town hall


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who publishes: the source that its external ids belong to, and whom it may speak for (``"*"``: anyone)."""

    source: str
    professionals: frozenset[str]
    structures: frozenset[str]

    def may_publish(self, professional: str | None, structure: str | None) -> bool:
        """Tell whether a slot of this professional or structure is theirs to publish."""
        return "*" in self.professionals or professional in self.professionals or structure in self.structures

    @property
    def owners(self) -> tuple[list[str], list[str]] | None:
        """Limit of what this publisher sees, changes and withdraws inside its source; None for all of it."""
        return None if "*" in self.professionals else (sorted(self.professionals), sorted(self.structures))


class Publishing:
    """The practice's use cases: publish, withdraw, list."""

    def __init__(self, ledger: Ledger, clock: Clock, geography: Geography) -> None:
        self._ledger = ledger
        self._clock = clock
        self._geography = geography

    async def publish(self, publisher: Publisher, slots: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Publish or change slots: all are checked before any is written.

        Args:
            publisher: who speaks.
            slots: plain mappings in the shape of the API's slot, instants as datetime.

        Returns:
            One verdict a slot, in order: external_id, outcome, slot_id (None of one that is not theirs).

        Raises:
            InvalidInputError: names each wrong slot and field; nothing was published.
        """
        now = self._clock.now()
        for number, slot in enumerate(slots):
            if slot["external_id"].startswith(OF_AGENDAS):
                message = f"« {OF_AGENDAS} » est réservé aux agendas tenus ici ; choisissez un autre début"
                raise InvalidInputError.of(f"slots.{number}.external_id", message)
        rows = self.checked(publisher, slots, now)
        # keys of one source may be bound to different people: whose the known slot is counts, not only whose it becomes
        verdicts = await self._ledger.upsert_slots(now, publisher.source, rows, publisher.owners)
        return [
            {"external_id": row["external_id"], "outcome": verdict["outcome"], "slot_id": verdict["slot_id"]}
            for row, verdict in zip(rows, verdicts, strict=True)
        ]

    def checked(self, publisher: Publisher, slots: Sequence[Mapping[str, Any]], now: datetime) -> list[dict[str, Any]]:
        """Return slots as the ledger's rows; arguments as for ``publish``.

        Raises:
            InvalidInputError: names each wrong slot and field.
        """
        rows: list[dict[str, Any]] = []
        problems: list[dict[str, str]] = []
        seen: set[str] = set()
        for number, slot in enumerate(slots):
            wrong = list(self._wrong(slot, now, publisher))
            if slot["external_id"] in seen:
                wrong.append(("external_id", "figure deux fois dans cet envoi ; gardez une seule version"))
            seen.add(slot["external_id"])
            if wrong:
                problems += [{"field": f"slots.{number}.{field}", "message": message} for field, message in wrong]
            else:
                rows.append(self._row(slot, now))
        if problems:
            raise InvalidInputError(_summary(problems), errors=problems[:100])
        return rows

    async def withdraw(
        self,
        publisher: Publisher,
        only: Sequence[str] | None,
        window: tuple[datetime, datetime] | None,
        reason: str,
    ) -> list[dict[str, Any]]:
        """Withdraw named slots, or all that start in a window; bookings on them end and their requests wait again.

        What has begun stays (``withdraw_slots`` of the ledger).
        """
        return await self._ledger.withdraw_slots(
            self._clock.now(), publisher.source, only, window, publisher.owners, reason
        )

    async def published(
        self, publisher: Publisher, window: tuple[datetime, datetime], after: int, limit: int
    ) -> list[tuple[str, int, str, dict[str, Any]]]:
        """Return (record, seats left, status, counts) of what this publisher has published."""
        return await self._ledger.slots_of_source(publisher.source, window, publisher.owners, after, limit)

    def _wrong(self, slot: Mapping[str, Any], now: datetime, publisher: Publisher) -> Iterable[tuple[str, str]]:
        """Yield (field, message) of what is wrong with a slot."""
        start, end = slot["start"], slot["end"]
        if start <= now:
            yield "start", f"{start.isoformat()} est déjà passé ; publiez un créneau à venir"
        if start > now + HORIZON:
            yield "start", "est à plus de 92 jours ; vérifiez l'année"
        if end <= start:
            yield "end", "doit être après start"
        longest = LONGEST_INDIVIDUAL if slot["capacity"] == 1 else LONGEST
        if end - start > longest:
            hours = int(longest.total_seconds() // 3600)
            yield "end", f"un créneau dure {hours} h au plus ; découpez-le ou donnez une capacité à la plage"
        yield from wrong_site(slot, publisher, self._geography)
        if (valid := slot.get("valid_at")) and valid > now + timedelta(minutes=5):
            yield "valid_at", "est dans le futur ; vérifiez l'horloge de l'éditeur"

    def _row(self, slot: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """Flatten a checked slot into the ledger's columns."""
        return {
            "external_id": slot["external_id"],
            **site_row(slot, self._geography),
            "starts": slot["start"],
            "ends": slot["end"],
            "capacity": slot["capacity"],
            "mode": slot["mode"],
            "booking_kind": slot["booking_kind"],
            "visibility": slot["visibility"],
            "valid_at": slot.get("valid_at") or now,
            "acceptance": slot.get("acceptance"),
            "accept_min": slot.get("accept_min") or ACCEPT_MIN if slot.get("acceptance") else None,
            "back_at": slot["start"] - timedelta(minutes=back) if (back := slot.get("hand_back_min")) else None,
            # of another editor's places
            "link": slot.get("link"),
        }


def wrong_site(wish: Mapping[str, Any], publisher: Publisher, geography: Geography) -> Iterable[tuple[str, str]]:
    """Yield (field, message) of what is wrong with who receives patients, and where.

    Args:
        wish: plain mapping with professional, structure, profession, specialty and location of the API's slot.
        publisher: who speaks.
        geography: knows communes.
    """
    professional = wish["professional"] and wish["professional"]["rpps"]
    structure = wish["structure"] and wish["structure"]["finess"]
    if professional is None and structure is None:
        yield "professional", "indiquez un professionnel, une structure, ou les deux"
    elif not publisher.may_publish(professional, structure):
        yield "professional", "cette clé ne peut publier ni pour ce professionnel ni pour cette structure"
    specialty = wish["specialty"]
    if specialty is not None and SPECIALTIES[specialty][1] != wish["profession"]:
        yield "specialty", f"{specialty} relève de la profession {SPECIALTIES[specialty][1]}"
    location = wish["location"]
    commune = geography.by_code(location["insee"])
    if commune is None:
        yield "location.insee", f"la commune {location['insee']} est inconnue du code officiel géographique"
        return
    astray = _rough_km(location["lat"] - commune.lat, location["lon"] - commune.lon)
    if astray > ASTRAY_KM and commune.territory != "973":
        yield "location.lat", f"les coordonnées sont à {astray:.0f} km de {commune.name} ({commune.code})"


def site_row(wish: Mapping[str, Any], geography: Geography) -> dict[str, Any]:
    """Flatten who receives patients, and where, into the ledger's columns, of what ``wrong_site`` has checked."""
    location, professional, structure = wish["location"], wish["professional"], wish["structure"]
    commune = geography.by_code(location["insee"])
    if commune is None:  # pragma: no cover - wrong_site has refused it
        raise LookupError(location["insee"])
    return {
        "territory": commune.territory,
        "professional": professional and professional["rpps"],
        "professional_name": professional and professional["name"],
        "structure": structure and structure["finess"],
        "structure_name": structure and structure["name"],
        "source_kind": wish["source_kind"],
        "lat": round(location["lat"], 6),
        "lon": round(location["lon"], 6),
        "landmass": commune.landmass,
        "insee": commune.code,
        "label": location["label"],
        "phone": location["phone"],
        "profession": wish["profession"],
        "specialty": wish["specialty"],
        "offers": sorted(set(wish["offers"])),
    }


def _rough_km(d_lat: float, d_lon: float) -> float:
    """Return a distance good enough to catch swapped or foreign coordinates (France: cos(lat) ≥ 0.62)."""
    return KM_PER_DEGREE * float((d_lat**2 + (0.7 * d_lon) ** 2) ** 0.5)


def _summary(problems: Sequence[Mapping[str, str]]) -> str:
    first = problems[0]
    more = f" (et {len(problems) - 1} autres)" if len(problems) > 1 else ""
    return f"Rien n'a été publié. {first['field']} : {first['message']}{more}."
