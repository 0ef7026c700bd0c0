"""Publishing straight into Redis: one stream per key, same validation as the API, committed before acknowledged.

``sas:{all}:ingest:<key id>`` takes entries with one field ``change`` (JSON, see ``ChangeIn``); the verdict of each goes
to ``sas:{all}:ingest:replies:<key id>``, and what cannot be read is set aside in ``sas:{all}:ingest:poison``. Redis'
ACL binds the stream to its user, so the name of the stream tells whose key it is. A crash between commit and
acknowledgement redelivers the entry; publishing is idempotent, so the second verdict says ``unchanged``.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol

import orjson
import structlog

from sas_matcher.api.auth import caller_of
from sas_matcher.api.inputs.reading import parse
from sas_matcher.api.inputs.schemas import ChangeIn
from sas_matcher.domain.errors import SasError, TooLargeError, UnavailableError
from sas_matcher.domain.vocabulary import SCOPE_OF_ROLE, Role, Scope
from sas_matcher.faults import tell_fault
from sas_matcher.metrics import INGESTED
from sas_matcher.ports.bus import Entry
from sas_matcher.ports.ledger import KeyRecord, Ledger
from sas_matcher.ports.world import Clock
from sas_matcher.services.publish import Publisher, Publishing

LONGEST: Final = 32 * 1024  # bytes of one change: a slot is about 600
_KEYS_EVERY: Final = timedelta(seconds=2)
_log = structlog.get_logger(__name__)


class IngestBus(Protocol):
    """What the ingest needs of Redis. Every method raises UnavailableError when the server does not answer."""

    async def take_changes(self, key_ids: Sequence[str], block_ms: int) -> dict[str, list[Entry]]:
        """Return entries to work on by key id, those left unacknowledged by a crash first."""
        ...

    async def keep_users(self, hashes: Mapping[str, str]) -> None:
        """Make the Redis users of these keys, drop those of all others."""
        ...

    async def answer_changes(
        self, key_id: str, verdicts: Sequence[tuple[str, str]], poison: Sequence[tuple[Entry, str]]
    ) -> None:
        """Write (entry id, verdict JSON) to the replies, set poison aside, acknowledge all."""
        ...


class Ingest:
    """Reads every practice's stream; several may run, each entry goes to one."""

    def __init__(self, bus: IngestBus, ledger: Ledger, publishing: Publishing, clock: Clock) -> None:
        self._bus = bus
        self._ledger = ledger
        self._publishing = publishing
        self._clock = clock
        self._keys: dict[str, KeyRecord] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        looked = self._clock.now() - _KEYS_EVERY
        while True:
            try:
                now = self._clock.now()
                if not timedelta(0) <= now - looked < _KEYS_EVERY:  # the clock may have been put back
                    looked = now
                    await self._look()
                if not self._keys:
                    await asyncio.sleep(0.5)
                    continue
                for key_id, entries in (await self._bus.take_changes(list(self._keys), 200)).items():
                    await self.work(self._keys[key_id], entries)
            except UnavailableError as away:
                _log.warning("ingest.store_away", detail=away.detail)
                await asyncio.sleep(0.2)

    async def _look(self) -> None:
        """Learn which keys may publish here, and see that Redis knows their users."""
        records = {
            record.id: record
            for record in await self._ledger.keys()
            if record.ingest_hash is not None and SCOPE_OF_ROLE[Role(record.role)] is Scope.PRACTICE
        }
        live = {name: record.ingest_hash for name, record in records.items() if record.revoked_at is None}
        await self._bus.keep_users({name: text for name, text in live.items() if text is not None})
        self._keys = records

    async def work(self, record: KeyRecord, entries: Sequence[Entry]) -> None:
        """Commit the entries of one key in order, then answer and acknowledge them."""
        verdicts: list[tuple[str, str]] = []
        poison: list[tuple[Entry, str]] = []
        now = self._clock.now()
        dead = record.revoked_at is not None or (record.expires_at is not None and record.expires_at <= now)
        publisher = caller_of(record).publisher
        for entry in entries:
            if dead:
                verdict: dict[str, Any] = {"outcome": "rejected", "code": "not_authenticated"}
            else:
                try:
                    verdict = await self._change(publisher, entry.fields.get(b"change", b""))
                except UnavailableError:
                    raise
                except SasError as refused:
                    verdict = {"outcome": "rejected", "code": refused.code, "detail": refused.detail, **refused.extra}
                    poison.append((entry, refused.detail))
                except Exception as unforeseen:
                    # never let one entry come back for ever and stop all others with it
                    tell_fault("ingest.entry", unforeseen, entry=entry.id, key=record.id)
                    verdict = {"outcome": "rejected", "code": "internal"}
                    poison.append((entry, "Erreur interne : cette entrée n'a pas pu être traitée."))
            INGESTED.labels(verdict["outcome"]).inc()
            verdicts.append((entry.id, orjson.dumps(verdict).decode()))
        await self._bus.answer_changes(record.id, verdicts, poison)

    async def _change(self, publisher: Publisher, text: bytes) -> dict[str, Any]:
        if len(text) > LONGEST:
            raise TooLargeError(f"Une entrée fait {LONGEST // 1024} Kio au plus.")
        change = parse(ChangeIn, text)
        if change.slot is not None:
            return (await self._publishing.publish(publisher, [change.slot.model_dump()]))[0]
        return (await self._publishing.withdraw(publisher, [str(change.external_id)], None, "practice"))[0]
