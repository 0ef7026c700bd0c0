"""What a batch was decided on and what came of it, told to whoever records the service (stream ``batches``)."""

from collections.abc import Sequence
from datetime import datetime

import orjson

from sas_matcher.matching.candidates import OpenRequest
from sas_matcher.ports.ledger import Announcement
from sas_matcher.services.matcher.desks import Round
from sas_matcher.services.matcher.rules import Rules


def batch_news(
    rules: Rules,
    began: datetime,
    heard: str,
    batch: Sequence[OpenRequest],
    claims: Sequence[tuple[OpenRequest, int | None, str]],
    announced: Sequence[Announcement],
    desks: Round,
) -> Announcement:
    """Tell a batch.

    Args:
        rules: of the territories.
        began: the instant for which it was decided.
        heard: the last entry of the log of places that was in the market.
        batch: who was decided together; also those for whom there was nothing new to be claimed.
        claims: what was claimed: for whom, which seat, and what the ledger said.
        announced: what the claim has changed.
        desks: what became of the plan of each territory's desk, which desks were new, and what they ceded to others.
    """
    claimed = {request.id for request, _, _ in claims}
    unclaimed = [(request, None, None) for request in batch if request.id not in claimed]
    news = {
        "t": began,
        "places": heard,
        "requests": [
            [request.id, slot, verdict, rules.policies(request.territory)[request.tier]]
            for request, slot, verdict in (*claims, *unclaimed)
        ],
        "asked": [request.id for request in batch],
        # a plan may decide for nobody: under which policies is said with it
        "steps": {
            name: [step, "+".join(sorted(set(rules.policies(name).values())))] for name, step in desks.steps.items()
        },
        "planned": desks.planned,
        "answered": desks.answered,
        "opened": sorted(desks.opened),
        "ceded": [list(seat) for seat in desks.ceded],
        "measures": {t: told for t in {r.territory for r in batch} if (told := rules.measures(t))},
        "mt_first": sorted({r.territory for r in batch if rules.terms(r.territory).mt_first}),
        "news": [[a.territory, a.type, orjson.Fragment(a.data)] for a in announced if a.stream == "places"],
    }
    return Announcement(0, began, "", "batches", "batch", "", 0, "", (), orjson.dumps(news).decode())
