"""What is wrong with an editor's endpoint, rule by rule, in French (``sas-matcher fhir check``).

Rules bear the section of the contract that they come from. The documents themselves are judged by ``checking``; here is
what only shows in a conversation: answers to wrong calls, to unknown people, headers, time.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import httpx

from adapters.fhir import names
from adapters.fhir.asking import MOST_ASKED, Flow, Window, search_path
from adapters.fhir.checking import check
from adapters.fhir.reading import Asked, read_searchset
from adapters.fhir.resources import UnreadableError

WANTED_S: Final = 1.0  # the ANS's test kit
LATEST_S: Final = 7.0  # the guide: then the platform hangs up
SPAN: Final = timedelta(hours=72)  # the platform's usual window
NOBODY: Final = {Flow.PS: "899999999999", Flow.CPTS: "899999999999", Flow.SOS: "399999999999999"}
_SHOWN: Final = 20  # faults of one answer; the rest is counted


class Finding(NamedTuple):
    """What became of a rule. ``details``: each fault, with its place."""

    rule: str
    text: str
    kept: bool
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer and how long it took; ``error`` where there is none."""

    answer: httpx.Response | None
    seconds: float
    error: str = ""

    @property
    def document(self) -> Any:
        """The JSON document; None when it is none."""
        try:
            return self.answer.json() if self.answer is not None else None
        except ValueError:
            return None

    @property
    def status(self) -> int:
        """The HTTP status; 0 without an answer."""
        return 0 if self.answer is None else self.answer.status_code


class Inspection:
    """One look at an endpoint."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        base: str,
        now: datetime,
        elapsed: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Take what is looked at.

        Args:
            http: client with the certificate.
            base: endpoint, without a slash at its end.
            now: the present.
            elapsed: a clock in seconds.
        """
        self._http = http
        self._base = base
        self._window: Window = (now, now + SPAN)
        self._elapsed = elapsed

    async def flow(self, flow: Flow, identifiers: Sequence[str]) -> AsyncIterator[Finding]:
        """Yield what becomes of each rule of a flow; the calls come one after the other.

        Args:
            flow: what is looked at.
            identifiers: prefixed, of people or sites that the editor knows.
        """
        asked = list(identifiers[: MOST_ASKED[flow]])
        said = await self._ask(search_path(flow, asked, self._window))
        yield self._reached(flow, said)
        if said.answer is None:
            return
        yield _expect("2 : réponse 200 et Bundle searchset", _is_searchset(said), f"statut {said.status}")
        yield self._content_type(said)
        yield self._in_time(said)
        yield self._documents(said)
        yield self._self_link(said)
        yield self._as_asked(said, asked)
        async for finding in self._conversation(flow, asked):
            yield finding

    async def _conversation(self, flow: Flow, asked: list[str]) -> AsyncIterator[Finding]:
        """Yield the rules about calls that are empty, wrong or written otherwise."""
        nobody = await self._ask(search_path(flow, [NOBODY[flow]], self._window))
        empty = _is_searchset(nobody) and not nobody.document.get("entry") and nobody.document.get("total") == 0
        yield _expect(
            "2 : inconnu, ou rien de libre : 200, total 0, sans entry", empty, _what(nobody, "un Bundle vide attendu")
        )
        past = (self._window[0] - timedelta(days=2), self._window[0] - timedelta(days=1))
        before = await self._ask(search_path(flow, asked, past))
        yield _expect(
            "12.18 : une fenêtre passée : 200 et un Bundle vide",
            _is_searchset(before) and not before.document.get("entry"),
            _what(before, "un Bundle vide attendu"),
        )
        path = search_path(flow, asked, self._window)
        for rule, wrong in (
            ("5.1 : une borne manque : 400 et OperationOutcome", path.replace("start=le", "borne=le")),
            ("5.1 : date illisible : 400 et OperationOutcome", path.replace("start=ge", "start=gehier")),
            ("5.1 : status autre que free : 400 et OperationOutcome", path.replace("status=free", "status=busy")),
        ):
            yield _refused(rule, await self._ask(wrong))
        many = [f"8{10_000_000_000 + n}" if flow is not Flow.SOS else f"3{10**13 + n}" for n in range(26)]
        yield _refused(
            "5.1 : 26 identifiants : 400 et OperationOutcome", await self._ask(search_path(flow, many, self._window))
        )
        slash = await self._ask(path.replace("?", "/?", 1))
        yield _expect("2 : barre finale acceptée (/Slot/?…)", _is_searchset(slash), _what(slash, "200 attendu"))
        for accept in ("application/json+fhir", "application/fhir+json", "application/json"):
            said = await self._ask(path, accept)
            yield _expect(f"2 : Accept: {accept} n'est jamais refusé", _is_searchset(said), _what(said, "200 attendu"))

    async def metadata(self) -> Finding:
        """Look at the CapabilityStatement."""
        said = await self._ask("/metadata")
        document = said.document
        kept = (
            said.status == 200
            and isinstance(document, dict)
            and document.get("resourceType") == "CapabilityStatement"
            and str(document.get("fhirVersion", "")).startswith("4.0")
        )
        return _expect(
            "2 : /metadata rend un CapabilityStatement R4 (facultatif)", kept, _what(said, "fhirVersion 4.0.1")
        )

    async def _ask(self, path: str, accept: str = names.ACCEPT) -> Spoken:
        began = self._elapsed()
        try:
            answer = await self._http.get(f"{self._base}{path}", headers={"Accept": accept}, timeout=LATEST_S)
        except httpx.HTTPError as failure:
            return Spoken(None, self._elapsed() - began, f"{type(failure).__name__} {failure}".strip())
        return Spoken(answer, self._elapsed() - began)

    def _reached(self, flow: Flow, said: Spoken) -> Finding:
        return _expect(f"2 : le point d'accès répond ({flow})", said.answer is not None, said.error)

    def _content_type(self, said: Spoken) -> Finding:
        kind = said.answer.headers.get("content-type", "") if said.answer is not None else ""
        return _expect(f"2 : Content-Type {names.JSON}", kind.startswith(names.JSON), f"reçu : {kind or 'rien'}")

    def _in_time(self, said: Spoken) -> Finding:
        text = f"{said.seconds:.2f} s ; la plateforme raccroche à {LATEST_S:.0f} s"
        return _expect("2 : réponse en moins de 1 s", said.seconds < WANTED_S, text)

    def _documents(self, said: Spoken) -> Finding:
        faults = [f"{fault.path} : {fault.text}" for fault in check(said.document)]
        more = [f"(et {len(faults) - _SHOWN} autres)"] if len(faults) > _SHOWN else []
        return Finding("5.2", "5 à 7 : profils, formes, codes, références", not faults, (*faults[:_SHOWN], *more))

    def _self_link(self, said: Spoken) -> Finding:
        document = said.document if isinstance(said.document, dict) else {}
        found = document.get("link")
        links = [link for link in found if isinstance(link, dict)] if isinstance(found, list) else []
        url = next((str(link.get("url")) for link in links if link.get("relation") == "self"), "")
        sent = said.answer.request.url.query.decode() if said.answer is not None else ""
        same = sorted(parse_qsl(urlsplit(url).query)) == sorted(parse_qsl(sent))
        return _expect(
            "5.2 : le lien self reprend les paramètres de l'appel", same, f"reçu : {url or 'aucun lien self'}"
        )

    def _as_asked(self, said: Spoken, asked: Sequence[str]) -> Finding:
        rule = "11.6 : rien d'autre que ce qui est demandé (libre, dans la fenêtre, qui est demandé)"
        try:
            read = read_searchset(said.document, Asked(*self._window, frozenset(asked)))
        except UnreadableError as wrong:
            return Finding("11.6", rule, False, (str(wrong),))
        details = tuple(f"{count} créneau(x) : {DROPPED.get(why, why)}" for why, count in sorted(read.dropped.items()))
        return Finding("11.6", f"{rule} ; {len(read.offered)} créneau(x) utilisable(s)", not details, details)


DROPPED: Final = {
    "unreadable": "forme illisible",
    "no_id": "sans id, ou id de plus de 64 caractères",
    "no_visibility": "sans type (meta.security : PUBLIC, PRO, SNP, CPTS)",
    "no_mode": "sans type de consultation (serviceType AMB, HH ou VR)",
    "no_schedule": "son Schedule n'est pas dans le Bundle",
    "no_place": "son lieu n'est pas dans le Bundle",
    "no_practitioner": "son Practitioner n'est pas dans le Bundle",
    "not_asked": "d'un professionnel ou d'un lieu qui n'est pas demandé",
    "not_free": "status autre que free",
    "bad_instant": "start ou end illisible",
    "ends_before_start": "end n'est pas après start",
    "outside_window": "hors de la fenêtre demandée",
}
"""Why a slot of an answer is not used, in French."""


def _expect(text: str, kept: bool, otherwise: str) -> Finding:
    rule, _, _ = text.partition(" ")
    return Finding(rule, text, kept, () if kept else (otherwise,))


def _refused(rule: str, said: Spoken) -> Finding:
    document = said.document
    named = isinstance(document, dict) and document.get("resourceType") == "OperationOutcome"
    return _expect(rule, said.status in (400, 422) and named, _what(said, "400 et un OperationOutcome attendus"))


def _is_searchset(said: Spoken) -> bool:
    document = said.document
    return (
        said.status == 200
        and isinstance(document, dict)
        and document.get("resourceType") == "Bundle"
        and document.get("type") == "searchset"
    )


def _what(said: Spoken, wanted: str) -> str:
    return f"{wanted} ; reçu : {said.error or f'statut {said.status}'}"
