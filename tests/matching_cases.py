"""Places and requests for the tests and benchmarks of matching, small ones by hand and large ones drawn."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any, Final

import numpy as np

from adapters.geo import Gazetteer
from sas_matcher.demo.demand import requests_of_day
from sas_matcher.demo.supply import slots_of_day
from sas_matcher.demo.world import build_world
from sas_matcher.domain.vocabulary import DELAY_SPAN, Delay, Tier, matching_specialty, tier_of
from sas_matcher.matching.candidates import Candidates, OpenRequest, find_candidates
from sas_matcher.matching.market import Market
from sas_matcher.matching.places import PlaceRow, site_json, stable_key
from sas_matcher.matching.terms import Terms

NOW: Final = 1_768_204_800.0  # 2026-01-12T09:00:00+01:00, a Monday in Lyon
LYON: Final = (45.76, 4.84)
DAY: Final = date(2026, 11, 24)


def place(slot_id: int, start_min: float = 60, **changes: Any) -> PlaceRow:
    """A free place of a general practitioner in Lyon; ``start_min`` counts from NOW."""
    start = int(NOW + 60 * start_min)
    lat, lon = changes.get("lat", LYON[0]), changes.get("lon", LYON[1])
    professional = changes.get("professional", f"99{slot_id:09d}")
    values = ("69", professional, "Dr Fictif", None, None, "liberal", lat, lon, "69123", "Cabinet", None)
    row = PlaceRow(
        slot_id=slot_id,
        start=start,
        end=start + 900,
        lat=lat,
        lon=lon,
        offers=("enfant", "pmr"),
        left=1,
        capacity=1,
        professional=professional,
        specialty=None,
        profession="MG",
        mode="cabinet",
        walkin=False,
        landmass=1,
        version=1,
        key=slot_id,
        site=site_json(values),
    )
    return row._replace(**changes)


def request(name: str, **changes: Any) -> OpenRequest:
    """A request for a general practitioner from Lyon, within four hours and 30 km."""
    return replace(
        OpenRequest(
            id=name,
            key=stable_key(name),
            territory="69",
            lat=LYON[0],
            lon=LYON[1],
            landmass=1,
            profession="MG",
            specialty=None,
            modes=("cabinet",),
            tier=Tier.T1,
            created_at=NOW,
            deadline=NOW + 4 * 3600,
            radius_km=30.0,
            needs=(),
            mt=None,
            version=1,
        ),
        **changes,
    )


def market_of(places: Iterable[PlaceRow]) -> Market:
    """A market that holds these places."""
    market = Market()
    market.put(places)
    return market


def all_candidates(
    market: Market, requests: Sequence[OpenRequest], now: float = NOW, terms: Terms | None = None
) -> list[Candidates]:
    """The candidates of each request."""
    return [find_candidates(market, r, now, terms or Terms()) for r in requests]


def world_rows(territories: Sequence[str], slots: int, seed: int = 1) -> list[PlaceRow]:
    """That many places of an invented day on the communes of some territories (of all when none is named)."""
    gazetteer = Gazetteer.load()
    communes = [c for t in territories or gazetteer.territories for c in gazetteer.communes_of(t)]
    random = np.random.default_rng(seed)
    world = build_world(communes, random, territories=gazetteer.territories, participation=1.0)
    rows = []
    for number, body in enumerate(slots_of_day(world, DAY, random, slots=slots)):
        location, professional, structure = body["location"], body["professional"], body["structure"]
        commune = gazetteer.by_code(location["insee"])
        assert commune is not None
        values = (
            commune.territory,
            professional and professional["rpps"],
            professional and professional["name"],
            structure and structure["finess"],
            structure and structure["name"],
            body["source_kind"],
            *(location[name] for name in ("lat", "lon", "insee", "label", "phone")),
        )
        rows.append(
            PlaceRow(
                slot_id=number + 1,
                start=int(datetime.fromisoformat(body["start"]).timestamp()),
                end=int(datetime.fromisoformat(body["end"]).timestamp()),
                lat=location["lat"],
                lon=location["lon"],
                offers=tuple(body["offers"]),
                left=body["capacity"],
                capacity=body["capacity"],
                professional=values[1],
                specialty=matching_specialty(body["specialty"]),
                profession=body["profession"],
                mode=body["mode"],
                walkin=body["booking_kind"] == "walkin",
                landmass=commune.landmass,
                version=number + 1,
                key=number + 1,
                site=site_json(values),
            )
        )
    return rows


def world_requests(territories: Sequence[str], count: int, now: float, seed: int = 2) -> list[OpenRequest]:
    """That many requests of an invented crisis day, all made at one instant."""
    gazetteer = Gazetteer.load()
    communes = [c for t in territories or gazetteer.territories for c in gazetteer.communes_of(t)]
    random = np.random.default_rng(seed)
    world = build_world(communes, random, territories=gazetteer.territories, participation=0.25)
    drawn = requests_of_day(world, DAY, random, rate=20.0 * max(1.0, 3_000_000 * count / 1_000 / world.population))
    requests = []
    for number in random.permutation(len(drawn))[:count].tolist():
        body = drawn[number].body
        known = gazetteer.by_code(body["insee"]) if "insee" in body else gazetteer.nearest(body["lat"], body["lon"])
        assert known is not None
        delay = Delay(body["delay"])
        requests.append(
            request(
                f"r{number}",
                territory=known.territory,
                lat=round(body.get("lat", known.lat), 3),
                lon=round(body.get("lon", known.lon), 3),
                landmass=known.landmass,
                profession=body["profession"],
                modes=tuple(body["modes"]),
                tier=tier_of(delay),
                created_at=now,
                deadline=now + DELAY_SPAN[delay].total_seconds(),
                radius_km=body["radius_km"],
                needs=tuple(body["needs"]),
                mt=body["mt"],
            )
        )
    assert len(requests) == count
    return requests
