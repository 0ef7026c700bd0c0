"""Mock editors whose places are polled into a running service."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx

from adapters.directory import FileDirectory
from adapters.fhir.editors import EditorConfig, FhirEditor, ReadEditor, batches_of
from adapters.fhir.identifiers import Kind, NationalId
from adapters.fhir.mock import Manners, MockEditor
from adapters.fhir.placing import Placing
from adapters.fhir.platform import Certificate
from adapters.fhir.searchsets import Place
from adapters.postgres.editors import PostgresEditors
from adapters.redis import RedisBus
from adapters.redis.editors import RedisEditors
from sas_matcher.services.editors.polling import Polling
from sas_matcher.services.editors.view import Editors, Named
from sas_matcher.services.publish import Publishing
from tests.api.conftest import Scene
from tests.fhir_cases import place, site
from tests.network import Network

STEADY = Manners(latency_s=0, phantoms=0)
Send = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]


@dataclass
class Watch:
    calls: list[tuple[str, str]] = field(default_factory=list)
    muted: dict[str, float] = field(default_factory=dict)

    def asked(self, editor: str, word: str, seconds: float) -> None:
        self.calls.append((editor, word))

    def mute(self, editor: str, seconds: float) -> None:
        self.muted[editor] = seconds


class Always(MockEditor):
    """A mock editor all of whose places are shown, until they are taken out of ``places``."""

    def _shown(self, known: Any, wanted: Any, window: Any) -> list[Place]:
        return [p for who in wanted for p in known.get(who, ()) if window[0] <= p.start <= window[1]]


@dataclass
class Desk:
    """One service, some editors, and what polls them."""

    scene: Scene
    store: PostgresEditors
    board: RedisEditors
    reader: RedisBus
    watch: Watch = field(default_factory=Watch)
    editors: dict[str, FhirEditor] = field(default_factory=dict)
    polling: Polling | None = None

    def at(self, minutes: float) -> datetime:
        return self.scene.at(minutes)

    def place(self, slot_id: str, minutes: float, who: str, **changes: Any) -> Place:
        """Return a place of an editor at the scene's commune."""
        spot = self.scene.spot
        where = site("s1", city=spot.name, postcode=spot.postcodes[0], structure=None)
        start = self.at(minutes)
        known = {"slot_id": slot_id, "rpps": who, "start": start, "end": start + timedelta(minutes=15), "site": where}
        return place(1, **(known | changes))

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.scene.service.clock.ahead += timedelta(seconds=seconds)

    def editor(
        self, name: str, people: list[str], places: list[Place] | None = None, send: Send | None = None
    ) -> FhirEditor:
        """Add an editor that shows some places; ``send`` answers in its stead."""
        base = f"https://{name}.example"
        config = EditorConfig(name=name, label=name.title(), url=f"{base}/fhir", flows=["ps"], people="-")
        batches = tuple(batches_of(config.flows, [NationalId(Kind.RPPS, who) for who in people]))
        read = ReadEditor(config=config, batches=batches, certificate=Certificate())

        async def serve(request: httpx.Request) -> httpx.Response:
            app = Always(places or [], STEADY, self.scene.service.clock.now, asyncio.sleep, base).app()
            answer = await httpx.ASGITransport(app).handle_async_request(request)
            await answer.aread()
            return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)

        geography = self.scene.service.geography
        found = FhirEditor(
            read,
            Placing(geography, FileDirectory()),
            asyncio.Semaphore(1),
            transport=Network(send or serve),
        )
        self.editors[name] = found
        stores = self.scene.service.stores
        self.polling = Polling(
            list(self.editors.values()), self.store, self.board, self.reader,
            Publishing(stores.ledger, stores.clock, geography), stores.clock, geography, self.watch,
        )  # fmt: skip
        return found

    async def poll(self, *names: str) -> None:
        """Ask some editors (all) for everything, once, as if it were due."""
        assert self.polling is not None
        for name in names or tuple(self.editors):
            for batch in self.editors[name].batches:
                await self.scene.service.stores.bus.redis.delete(f"sas:editor:{name}:batch:{batch.key}")
                await self.polling.poll(self.editors[name], batch)

    async def live(self, name: str) -> dict[str, Any]:
        """Return the live places of an editor by external id."""
        sql = "select s.*, place_left(s) as seats from slot s where source = $1 and status = 'open'"
        rows = await self.scene.service.rows(sql, f"fhir:{name}")
        return {row["external_id"]: row for row in rows}

    def view(self) -> Editors:
        named = [Named(name, name.title(), len(editor.batches)) for name, editor in self.editors.items()]
        return Editors(named, self.store, self.board, self.scene.service.clock)


@asynccontextmanager
async def open_desk(scene: Scene) -> AsyncIterator[Desk]:
    """A desk at a scene; its editors are forgotten afterwards."""
    stores = scene.service.stores
    reader = RedisBus.connect(scene.service.settings.redis_url)
    found = Desk(scene, PostgresEditors(stores.ledger), RedisEditors(stores.bus), reader)
    yield found
    for editor in found.editors.values():
        await editor.close()
    await reader.close()
    await stores.bus.redis.delete(*(f"sas:editor:{name}" for name in found.editors), "-")
