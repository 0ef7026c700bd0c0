"""``fhir check``: what an editor's endpoint does of each rule, line by line."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import httpx

from adapters.fhir.asking import MOST_ASKED, Flow
from adapters.fhir.identifiers import practitioner_id, structure_id
from adapters.fhir.inspecting import Finding, Inspection
from adapters.fhir.platform import Certificate, tls_context
from sas_matcher.cli.french import InputError


class Wish(NamedTuple):
    """What is looked at; identifiers as they were typed."""

    url: str
    rpps: list[str]
    siret: list[str]
    cpts: bool
    certificate: Path | None
    key: Path | None
    authorities: Path | None
    bearer: str

    def flows(self) -> list[tuple[Flow, list[str]]]:
        """Return each flow with its prefixed identifiers.

        Raises:
            InputError: one is no identifier, or there are too many.
        """
        try:
            people = [practitioner_id(text).prefixed for text in self.rpps]
            sites = [structure_id(text).prefixed for text in self.siret]
        except ValueError as wrong:
            raise InputError(str(wrong)) from wrong
        wanted = [(Flow.PS, people), (Flow.CPTS, people if self.cpts else []), (Flow.SOS, sites)]
        for flow, identifiers in wanted:
            if len(identifiers) > MOST_ASKED[flow]:
                raise InputError(f"{len(identifiers)} identifiants ; {MOST_ASKED[flow]} au plus par appel")
        return [(flow, identifiers) for flow, identifiers in wanted if identifiers]


_TITLES = {Flow.PS: "INT_R01, professionnels", Flow.CPTS: "INT_R04, CPTS", Flow.SOS: "SOS Médecins"}


async def check(wish: Wish, now: datetime, say: Callable[[str], None]) -> int:
    """Look at an endpoint and say what becomes of each rule; returns how many are broken.

    Raises:
        InputError: an identifier or a certificate cannot be used.
    """
    flows = wish.flows()
    try:
        context = tls_context(Certificate(wish.certificate, wish.key, wish.authorities))
    except OSError as wrong:
        raise InputError(f"--certificate, --key ou --authorities : {wrong.strerror or wrong}") from wrong
    headers = {"Authorization": f"Bearer {wish.bearer}"} if wish.bearer else {}
    broken = 0
    async with httpx.AsyncClient(verify=context, headers=headers, trust_env=False) as http:
        inspection = Inspection(http, wish.url, now)
        for flow, identifiers in flows:
            say(_TITLES[flow])
            async for finding in inspection.flow(flow, identifiers):
                broken += not finding.kept
                _say(finding, say)
        _say(await inspection.metadata(), say)
    return broken


def _say(finding: Finding, say: Callable[[str], None]) -> None:
    say(f"  {'✓' if finding.kept else '✗'} {finding.text}")
    for detail in finding.details:
        say(f"      {detail}")
