"""The editors of agendas that we poll: their file, and the client that asks one of them (port ``Editor``).

```toml
[[editor]]
name = "agenda-exemple"                     # short, unique; source of its places: fhir:agenda-exemple
label = "Agenda Exemple"                    # as people know it
url = "https://sas.agenda.example/fhir"     # endpoint of this environment
flows = ["ps", "sos"]                       # ps (INT_R01), cpts (INT_R04, instead of ps), sos
people = "agenda-exemple.txt"               # one RPPS, ADELI or SIRET a line
certificate = "sas.pem"                     # mutual TLS; with key and authorities, PEM, beside this file
key = "sas.key"
authorities = "igc-sante.pem"
origin = "sas"                              # what we append to its booking pages
clients = ["editeur.example"]               # who tells its bookings (INT_R03): CN of a certificate, or id of a key
```
"""

import asyncio
import tomllib
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import httpx
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.fhir import names
from adapters.fhir.asking import MOST_ASKED, Flow, search_path
from adapters.fhir.identifiers import Kind, NationalId, practitioner_id, structure_id
from adapters.fhir.outcomes import read_outcome
from adapters.fhir.placing import Placing
from adapters.fhir.platform import Certificate, tls_context
from adapters.fhir.reading import Asked, Offered, Searchset, read_searchset
from adapters.fhir.resources import UnreadableError
from adapters.outside import ACCEPT_ENCODING, OutsideError, read_body
from sas_matcher.ports.editors import EditorAnswer, EditorBatch, EditorFailedError

TIMEOUT_S: Final = 7.0  # the guide: later answers are discarded
KEPT_S: Final = 2.0  # servers close idle connections after five seconds and more
MOST_BYTES: Final = 8 * 2**20  # 25 practitioners with 200 places each are 5 MB
MOST_PAGES: Final = 5  # no editor should page; who does is followed within the time


class EditorsError(ValueError):
    """The file of editors cannot be used; the message names the editor and the field, in French."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class EditorConfig(_Strict):
    """One editor of the file; paths relative to it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
    label: Annotated[str, Field(min_length=1, max_length=80)]
    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    flows: Annotated[list[Literal["ps", "cpts", "sos"]], Field(min_length=1)]
    people: Annotated[str, Field(min_length=1)]
    certificate: str = ""
    key: str = ""
    authorities: str = ""
    origin: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")] = "sas"
    clients: list[Annotated[str, Field(min_length=1)]] = []


class _File(_Strict):
    editor: Annotated[list[EditorConfig], Field(min_length=1)]


class ReadEditor(BaseModel):
    """An editor with whom it is asked for, and its certificate files."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    config: EditorConfig
    batches: tuple[EditorBatch, ...]
    certificate: Certificate


def read_editors(path: Path) -> list[ReadEditor]:
    """Read the file of editors, and the lists it names.

    Raises:
        EditorsError: it cannot be used.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as missing:
        raise EditorsError(f"{path} ne peut être lu ({missing.strerror})") from missing
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        raise EditorsError(f"{path} n'est pas du TOML : {wrong}") from wrong
    try:
        configs = _File.model_validate(document).editor
    except ValidationError as invalid:
        error = invalid.errors(include_url=False, include_input=False)[0]
        raise EditorsError(f"{path}, {'.'.join(map(str, error['loc']))} : {error['msg']}") from invalid
    known = [config.name for config in configs]
    if double := next((name for name in known if known.count(name) > 1), None):
        raise EditorsError(f"{path} : deux éditeurs s'appellent « {double} »")
    return [_read(config, path.parent) for config in configs]


def _read(config: EditorConfig, folder: Path) -> ReadEditor:
    people = folder / config.people
    try:
        lines = people.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as missing:
        raise EditorsError(f"éditeur {config.name} : {people} ne peut être lu") from missing
    found: dict[str, NationalId] = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if text:
            try:
                national = _identifier(text)
            except ValueError as wrong:
                raise EditorsError(f"éditeur {config.name}, {people.name}, ligne {number} : {wrong}") from wrong
            found.setdefault(national.prefixed, national)
    files = (config.certificate, config.key, config.authorities)
    own = Certificate(*(folder / name if name else None for name in files))
    return ReadEditor(config=config, batches=tuple(batches_of(config.flows, list(found.values()))), certificate=own)


def _identifier(text: str) -> NationalId:
    try:
        return practitioner_id(text)
    except ValueError:
        national = structure_id(text)
    if national.kind is not Kind.SIRET:
        raise ValueError(f"{text!r} : un RPPS, un ADELI ou un SIRET (SOS Médecins)")
    return national


def batches_of(flows: Sequence[str], people: Sequence[NationalId]) -> list[EditorBatch]:
    """Return the calls of a round: practitioners by INT_R04 where the editor has it, else INT_R01; sites by theirs."""
    sites = [who for who in people if who.kind is Kind.SIRET]
    persons = [who for who in people if who.kind is not Kind.SIRET]
    of_persons = Flow.CPTS if "cpts" in flows else Flow.PS if "ps" in flows else None
    asked = ((of_persons, persons), (Flow.SOS if "sos" in flows else None, sites))
    return [
        EditorBatch(
            f"{flow}-{start // MOST_ASKED[flow]}",
            flow,
            tuple(who.prefixed for who in members[start : start + MOST_ASKED[flow]]),
            tuple(who.bare for who in members[start : start + MOST_ASKED[flow]]),
        )
        for flow, members in asked
        if flow is not None
        for start in range(0, len(members), MOST_ASKED[flow])
    ]


class FhirEditor:
    """Asks one editor."""

    def __init__(
        self,
        read: ReadEditor,
        placing: Placing,
        turn: asyncio.Semaphore,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Take the editor.

        Args:
            read: from ``read_editors``.
            placing: turns offers into slots.
            turn: held while an answer is read; shared by all editors of a process.
            transport: instead of the network, for tests.

        Raises:
            EditorsError: a certificate cannot be read.
        """
        self.name = read.config.name
        self.batches: Sequence[EditorBatch] = read.batches
        self._base = read.config.url.rstrip("/")
        self._origin = read.config.origin
        self._placing = placing
        self._turn = turn
        secure = self._base.startswith("https://")
        try:
            verify: Any = tls_context(read.certificate) if secure and transport is None else True
        except OSError as wrong:
            raise EditorsError(f"éditeur {self.name}, certificat : {wrong.strerror or wrong}") from wrong
        self._http = httpx.AsyncClient(
            verify=verify,
            transport=transport,
            timeout=TIMEOUT_S,
            limits=httpx.Limits(keepalive_expiry=KEPT_S),
            trust_env=False,
            follow_redirects=False,
            headers={"Accept": names.ACCEPT, "Accept-Encoding": ACCEPT_ENCODING},
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(self, batch: EditorBatch, window: tuple[datetime, datetime]) -> EditorAnswer:
        """Ask for a batch (see the port)."""
        flow, asked = Flow(batch.flow), Asked(*window, batch.identifiers)
        url = first = f"{self._base}{search_path(flow, batch.identifiers, window)}"
        offered: list[Offered] = []
        dropped: Counter[str] = Counter()
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        for _ in range(MOST_PAGES):
            try:
                status, body = await self._get(url, deadline)
            except _BrokenError:
                # an idle connection that the other side closed in this very moment: a search may be asked twice
                status, body = await self._get(url, deadline)
            # reading takes longer than its share of the loop: one after the other, so that others have their turn
            async with self._turn:
                read = _read_answer(status, body, asked)
            offered += read.offered
            dropped += read.dropped
            following = _following(first, read.next_url)
            if following is None:
                break
            url = following
        async with self._turn:
            return self._placing.answer(Searchset(offered, dropped, None), flow, self._origin)

    async def _get(self, url: str, deadline: float) -> tuple[int, bytes]:
        """Return status and body of an answer that is complete in time.

        Raises:
            EditorFailedError: it is not, or too long, or packed as it should not be.
        """
        try:
            async with asyncio.timeout_at(deadline), self._http.stream("GET", url) as answer:
                body, whole = await read_body(answer, MOST_BYTES)
            if not whole:
                raise EditorFailedError(f"réponse de plus de {MOST_BYTES // 2**20} Mo")
            return answer.status_code, body
        except OutsideError as wrong:
            raise EditorFailedError(str(wrong)) from None
        except TimeoutError:
            raise EditorFailedError(f"pas de réponse en {TIMEOUT_S:.0f} s") from None
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as failure:
            raise _BrokenError(_reason(failure)) from None
        except httpx.HTTPError as failure:
            raise EditorFailedError(_reason(failure)) from None


def _following(first: str, link: str | None) -> str | None:
    """Return the next page; None where there is none, or not at the editor: our certificate is shown to it alone."""
    if link is None:
        return None
    try:
        target, own = httpx.URL(first).join(link), httpx.URL(first)
    except (httpx.InvalidURL, ValueError):
        raise EditorFailedError("lien next illisible") from None
    return str(target) if (target.scheme, target.netloc) == (own.scheme, own.netloc) else None


class _BrokenError(EditorFailedError):
    """The connection broke."""


def _read_answer(status: int, body: bytes, asked: Asked) -> Searchset:
    """Read an answer.

    Raises:
        EditorFailedError: an error, or no searchset.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise EditorFailedError(f"réponse {status} qui n'est pas du JSON") from None
    if status != 200:
        said = read_outcome(document)
        raise EditorFailedError(f"erreur {status}" + (f" : {said[:120]}" if said else ""))
    try:
        return read_searchset(document, asked)
    except UnreadableError as wrong:
        raise EditorFailedError(f"Bundle illisible : {str(wrong)[:120]}") from None


def _reason(failure: httpx.HTTPError) -> str:
    if isinstance(failure, httpx.TimeoutException):
        return f"pas de réponse en {TIMEOUT_S:.0f} s"
    text = str(failure)
    if "CERTIFICATE" in text.upper() or "TLS" in text.upper() or "SSL" in text.upper():
        return "certificat refusé (TLS)"
    if isinstance(failure, httpx.ConnectError):
        return "connexion impossible"
    return "connexion rompue"
