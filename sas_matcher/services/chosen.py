"""The decision document of one place that a person has chosen, priced like any other."""

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any

import orjson

from sas_matcher.domain.errors import SlotFullError
from sas_matcher.domain.vocabulary import Tier
from sas_matcher.matching.candidates import OpenRequest, find_candidates
from sas_matcher.matching.engine import Pick
from sas_matcher.matching.explain import explain
from sas_matcher.matching.market import Market
from sas_matcher.matching.places import place_row, stable_key
from sas_matcher.matching.terms import Terms
from sas_matcher.travel import haversine_km


def explain_chosen(
    row: Mapping[str, Any],
    record: Mapping[str, Any],
    span: tuple[int, int],
    now: datetime,
    zone: tzinfo,
    why: tuple[str, str] = ("chosen", "CHOSEN"),
) -> str:
    """Price a chosen place; radius, mode and needs are for whoever chose to overrule.

    Args:
        row: the request: id, territory, lat, lon, tier, created_at, deadline, mt, version.
        record: the place as ``place_json`` says it; its seats are for the ledger to judge.
        span: start and end of it, epoch seconds.
        now: the present.
        zone: of the territory.
        why: method and reason code of the document.

    Returns:
        The document, JSON.

    Raises:
        SlotFullError: the place cannot be reached in time, or begins after the deadline.
    """
    market = Market()
    market.put([place_row(record, 1, *span)])
    request = OpenRequest(
        id=str(row["id"]),
        key=stable_key(str(row["id"])),
        territory=row["territory"],
        lat=row["lat"],
        lon=row["lon"],
        landmass=record["landmass"],
        profession=record["profession"],
        specialty=None,
        modes=(record["mode"],),
        tier=Tier(row["tier"]),
        created_at=row["created_at"].timestamp(),
        deadline=row["deadline"].timestamp(),
        # just far enough: looking further costs time
        radius_km=1.0 + float(haversine_km(row["lat"], row["lon"], record["lat"], record["lon"])),
        needs=(),
        mt=row["mt"],
        version=row["version"],
    )
    terms = Terms()
    found = find_candidates(market, request, now.timestamp(), terms)
    if not len(found):
        raise SlotFullError("Cette place ne peut plus être atteinte à temps, ou dépasse l'échéance de la demande.")
    method, reason = why
    pick = Pick(request, found, 0, method, 1, reasons=[reason])
    return orjson.dumps(explain(market, pick, now.timestamp(), zone, terms)).decode()
