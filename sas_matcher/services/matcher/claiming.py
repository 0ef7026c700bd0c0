"""From decisions to claims: what is asked of the ledger, with the document that explains it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import orjson

from sas_matcher.domain.lifecycle import ClaimKind
from sas_matcher.matching.candidates import Candidates, OpenRequest, find_candidates
from sas_matcher.matching.engine import Pick, picked
from sas_matcher.matching.explain import (
    MT_TEXT,
    PlaceGoneError,
    explain,
    explain_displaced,
    explain_promise,
    explain_waiting,
)
from sas_matcher.matching.forecast import Learned
from sas_matcher.matching.market import Market
from sas_matcher.matching.territory import Decision
from sas_matcher.ports.ledger import Claim
from sas_matcher.ports.world import Ids
from sas_matcher.services.matcher.rules import Rules


@dataclass(frozen=True, slots=True)
class Line:
    """One claim of a batch, and the desk's decision behind it, if it is a desk's."""

    request: OpenRequest
    claim: Claim
    decision: Decision | None = None


class Scribe:
    """Writes down what was decided as what is asked of the ledger, with the document that explains it to people."""

    def __init__(self, rules: Rules, zone_of: Callable[[str], tzinfo], ids: Ids) -> None:
        self._rules, self._zone_of, self._ids = rules, zone_of, ids

    def of_pick(self, market: Market, pick: Pick, began: datetime) -> Line:
        """Write down a pick: a hold, or that there is no place.

        Raises:
            PlaceGoneError: the market has changed under the pick.
        """
        territory = pick.request.territory
        terms = self._rules.terms(territory)
        document = explain(market, pick, began.timestamp(), self._zone_of(territory), terms)
        kind = ClaimKind.NONE if pick.slot_id is None else ClaimKind.HOLD
        until = began + timedelta(seconds=self._rules.hold_seconds(territory))
        return Line(pick.request, self._claim(pick.request, pick.slot_id, kind, until, document))

    def of_decision(
        self,
        market: Market,
        request: OpenRequest,
        decision: Decision,
        found: Candidates,
        began: datetime,
        *,
        learned: Learned,
        kept: bool,
    ) -> Line:
        """Write down a desk's decision.

        Args:
            market: where the places are.
            request: whose it is.
            decision: what was decided.
            found: all that the request could be given, full or not.
            began: the instant of the batch.
            learned: what the desk's forecasts come from.
            kept: the ledger keeps a promise for this request.

        Raises:
            PlaceGoneError: the place has left the market.
        """
        now, terms = began.timestamp(), self._rules.terms(request.territory)
        zone = self._zone_of(request.territory)
        rows = (found.slot_id == (-1 if decision.slot_id is None else decision.slot_id)).nonzero()[0]
        method = "plan" if decision.planned else "single"
        pick = Pick(request, found, int(rows[0]) if rows.size else -1, method, 1, decision.gap)
        pick.policy = self._rules.policies(request.territory)[request.tier]
        pick.price = None if decision.slot_id is None else decision.price
        pick.learned = learned
        told_by = request.deadline - 60 * terms.notice_min
        until = None
        match decision.what:
            case "promise" | "move":
                kind, until = ClaimKind.PROMISE, datetime.fromtimestamp(told_by, UTC)
                document = explain_promise(pick, told_by, now, zone)
            case "displace":
                kind, document = ClaimKind.DISPLACE, explain_displaced(market, pick, now, zone, terms)
            case "none":
                kind = ClaimKind.NONE
                if found.free.any():
                    # with a place free it is the desk that lets him wait
                    document = explain_waiting(pick, told_by, now, zone)
                else:
                    pick.candidates = find_candidates(market, request, now, terms)
                    document = explain(market, pick, now, zone, terms)
            case _:
                kind = ClaimKind.TELL if kept else ClaimKind.HOLD
                until = began + timedelta(seconds=self._rules.hold_seconds(request.territory))
                if pick.row < 0:
                    raise PlaceGoneError(decision.slot_id)
                document = explain(market, picked(pick), now, zone, terms)
        return Line(request, self._claim(request, decision.slot_id, kind, until, document), decision)

    def of_choice(self, request: OpenRequest, decision: Decision, document: dict[str, Any], began: datetime) -> Line:
        """Write down that the place behind a promise is told as its regulator chose it."""
        until = began + timedelta(seconds=self._rules.hold_seconds(request.territory))
        return Line(request, self._claim(request, decision.slot_id, ClaimKind.TELL, until, document), decision)

    def _claim(
        self,
        request: OpenRequest,
        slot_id: int | None,
        kind: ClaimKind,
        until: datetime | None,
        document: dict[str, Any],
    ) -> Claim:
        if request.mt_said is not None:
            document = {**document, "mt": {"said": request.mt_said, "sentence": MT_TEXT[request.mt_said]}}
        return Claim(
            request_id=request.id,
            slot_id=slot_id,
            booking_id=self._ids.uuid(),
            hold_until=until,
            decision=orjson.dumps(document).decode(),
            kind=kind,
            shown=_shown(document),
        )


def _shown(document: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the slots that a decision names: place, alternatives, and places that something else would find."""
    helping = (document.get("none") or {}).get("would_help") or ()
    places = [document.get("place"), *document.get("alternatives", ()), *(way["place"] for way in helping)]
    return tuple(place["slot_id"] for place in places if place)
