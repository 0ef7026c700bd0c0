"""Agendas kept by the service: their documents and their calls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sas_matcher.client._calls import Calls
from sas_matcher.client._documents import Json


@dataclass(frozen=True, slots=True)
class Agenda:
    """An agenda as it stands.

    Attributes:
        name: The practice's own.
        version: Counts its changes.
        zone: IANA name of its wall clock.
        shown_until: Until when it is published; ``None`` when it was not yet.
        failed: Why the newest version could not be published, in French; ``None`` when it is.
        report: What publishing changed: created, updated, unchanged, closed, refused, kept, booked.
        raw: The whole document.
    """

    name: str
    version: int
    zone: str
    shown_until: datetime | None
    failed: str | None
    report: Mapping[str, int]
    raw: Json

    @classmethod
    def of(cls, document: Json) -> "Agenda":
        """Read a document."""
        shown = document["shown"]
        return cls(
            document["name"],
            document["version"],
            document["zone"],
            None if shown["until"] is None else datetime.fromisoformat(shown["until"]),
            shown["failed"],
            document.get("report") or shown["report"] or {},
            document,
        )


@dataclass(frozen=True, slots=True)
class TablePreview:
    """What a table would do: ``errors`` name line, column and fix; ``slots`` are those of the days that are shown."""

    lines: int
    errors: Sequence[Json]
    slots: Sequence[Json]


class AgendaCalls(Calls):
    """The calls about agendas; part of ``SasClient``."""

    async def agendas(self) -> list[Agenda]:
        """Return the agendas that this key may change, by name."""
        return [Agenda.of(item) for item in (await self.call("GET", "/v1/agendas"))["agendas"]]

    async def agenda(self, name: str) -> Agenda:
        """Return one agenda."""
        return Agenda.of(await self.call("GET", f"/v1/agendas/{name}"))

    async def put_agenda(self, name: str, agenda: Mapping[str, Any]) -> Agenda:
        """Set or change an agenda and publish it; what quick actions and files added stays.

        Args:
            name: The practice's own, 1 to 40 characters of a-z, 0-9, - and _.
            agenda: Body of ``PUT /v1/agendas/{name}``; with ``version``, the call is refused when there is another.
        """
        # a version that was read makes the second of two equal calls a conflict
        again = "version" not in agenda
        return Agenda.of(await self.call("PUT", f"/v1/agendas/{name}", body=dict(agenda), repeatable=again))

    async def preview_agenda(self, name: str, agenda: Mapping[str, Any]) -> Sequence[Json]:
        """Return the slots that an agenda would have in the next days; nothing is written."""
        answer = await self.call("POST", f"/v1/agendas/{name}/preview", body=dict(agenda), repeatable=True)
        slots: Sequence[Json] = answer["slots"]
        return slots

    async def remove_agenda(self, name: str) -> Mapping[str, int]:
        """Take an agenda back: its free places go, who has one keeps it. Returns the report."""
        report: Mapping[str, int] = (await self.call("DELETE", f"/v1/agendas/{name}"))["report"]
        return report

    async def add_places(self, name: str, places: Mapping[str, Any], *, idempotency_key: str | None = None) -> Agenda:
        """Add places in a range of one day: ``count``, ``start``, ``end`` (wall clock), ``day`` (else today)."""
        return Agenda.of(await self._act(f"/v1/agendas/{name}/places", dict(places), idempotency_key))

    async def remove_places(self, name: str, places_id: str) -> Agenda:
        """Take added places back (``quick.hours[].id`` of the document); who has one keeps it."""
        return Agenda.of(await self.call("DELETE", f"/v1/agendas/{name}/places/{places_id}"))

    async def stop(
        self, names: Sequence[str] | None = None, *, until: datetime | None = None, refuse: bool = False
    ) -> list[Agenda]:
        """Take every free place off now, of all agendas of the key or of those named, until midnight there.

        Args:
            names: Of agendas.
            until: Another end of the stop, a week away at the most.
            refuse: Also those who have a place lose it, and are matched again.
        """
        body: dict[str, Any] = {"booked": "refuse" if refuse else "keep"}
        body |= {"names": list(names)} if names is not None else {}
        body |= {"until": until.isoformat()} if until is not None else {}
        answer = await self.call("POST", "/v1/agendas/stop", body=body, repeatable=True)
        return [Agenda.of(item) for item in answer["agendas"]]

    async def go_on(self, names: Sequence[str] | None = None) -> list[Agenda]:
        """End stops, of all agendas of the key or of those named."""
        body = {} if names is None else {"names": list(names)}
        answer = await self.call("POST", "/v1/agendas/go-on", body=body, repeatable=True)
        return [Agenda.of(item) for item in answer["agendas"]]

    async def preview_table(self, name: str, table: bytes) -> TablePreview:
        """Return what a CSV file would do; nothing is written."""
        answer = await self.call(
            "POST", f"/v1/agendas/{name}/csv", query={"preview": "true"}, body=table, repeatable=True
        )
        return TablePreview(answer["lines"], answer["errors"], answer["slots"])

    async def take_table(self, name: str, table: bytes) -> Agenda:
        """Put the places of a CSV file in the place of those of the file before: all lines, or none."""
        return Agenda.of(await self.call("POST", f"/v1/agendas/{name}/csv", body=table, repeatable=True))
