"""What a batch was decided on and what came of it, told to whoever records the service (stream ``batches``)."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import orjson

from sas_matcher.matching.candidates import OpenRequest
from sas_matcher.ports.ledger import Announcement
from sas_matcher.services.matcher.desks import Round
from sas_matcher.services.matcher.rules import Rules


class Heard(NamedTuple):
    """What was known when a batch was decided: of the streams of places and of requests the last entry heard.

    Attributes:
        first: when those were decided whom no desk has.
        at_desks: when the desks decided, which comes later.
        territories: of the desks that had something to decide.
        released: as in ``Known``.
    """

    first: Mapping[str, str]
    at_desks: Mapping[str, str]
    territories: Collection[str]
    released: float


def batch_news(
    rules: Rules,
    began: datetime,
    heard: Heard,
    batch: Sequence[OpenRequest],
    claims: Sequence[tuple[OpenRequest, int | None, str]],
    announced: Sequence[Announcement],
    desks: Round,
) -> Announcement:
    """Tell a batch.

    Args:
        rules: of the territories.
        began: the instant for which it was decided.
        heard: what was known.
        batch: who was decided together; also those for whom there was nothing new to be claimed.
        claims: what was claimed: for whom, which seat, and what the ledger said.
        announced: what the claim has changed.
        desks: what became of the plan of each territory's desk, which desks were new, and what they ceded to others.
    """
    claimed = {request.id for request, _, _ in claims}
    of = {*(r.territory for r in batch), *(r.territory for r, _, _ in claims), *heard.territories}
    unclaimed = [(request, None, None) for request in batch if request.id not in claimed]
    news = {
        "t": began,
        "heard": {**heard._asdict(), "territories": sorted(heard.territories)},
        "requests": [
            [request.id, slot, verdict, rules.policies(request.territory)[request.tier]]
            for request, slot, verdict in (*claims, *unclaimed)
        ],
        "asked": [request.id for request in batch],
        "promised": {request.id: request.promised for request in batch if request.promised is not None},
        # a plan may decide for nobody: under which policies is said with it
        "steps": {
            name: [step, "+".join(sorted(set(rules.policies(name).values())))] for name, step in desks.steps.items()
        },
        "planned": desks.planned,
        "answered": desks.answered,
        "opened": {name: learned._asdict() for name, learned in sorted(desks.opened.items())},
        "ceded": [list(seat) for seat in desks.ceded],
        "measures": {territory: told for territory in sorted(of) if (told := rules.measures(territory))},
        "mt_first": sorted(territory for territory in of if rules.terms(territory).mt_first),
        "news": [[a.territory, a.type, orjson.Fragment(a.data)] for a in announced if a.stream == "places"],
    }
    return Announcement(0, began, "", "batches", "batch", "", 0, "", (), orjson.dumps(news).decode())
