"""Areas of communes are those in which the service itself counts."""

import json
import random

import pytest

from adapters.geo import Gazetteer
from adapters.geo.zones import zones


@pytest.fixture(scope="module")
def gazetteer() -> Gazetteer:
    return Gazetteer.load()


def _inside(lat: float, lon: float, ring: list[list[float]]) -> bool:
    inside = False
    for (lat1, lon1), (lat2, lon2) in zip(ring, ring[1:] + ring[:1], strict=True):
        if (lat1 > lat) != (lat2 > lat) and lon < lon1 + (lat - lat1) / (lat2 - lat1) * (lon2 - lon1):
            inside = not inside
    return inside


def test_a_point_lies_in_the_area_of_the_commune_that_it_is_counted_in(gazetteer: Gazetteer) -> None:
    areas = {area["insee"]: area["ring"] for area in json.loads(zones(gazetteer, "69"))}
    assert areas.keys() == {commune.code for commune in gazetteer.communes_of("69")}
    draw = random.Random(7)
    checked = shared = 0
    for _ in range(400):
        lat, lon = draw.uniform(45.60, 45.95), draw.uniform(4.55, 5.05)
        ring = areas.get(gazetteer.nearest(lat, lon).code)
        inside = [code for code, other in areas.items() if _inside(lat, lon, other)]
        if ring is not None and inside:
            checked += 1
            shared += len(inside) - 1
            assert _inside(lat, lon, ring), (lat, lon)
    # corners are told to ten metres: a point on a border may lie in both
    assert checked > 300 and shared < 5


@pytest.mark.parametrize("territory", ["13", "48", "62", "976"])
def test_every_commune_has_an_area_around_its_town_hall(gazetteer: Gazetteer, territory: str) -> None:
    areas = {area["insee"]: area["ring"] for area in json.loads(zones(gazetteer, territory))}
    for commune in gazetteer.communes_of(territory):
        assert len(areas[commune.code]) >= 3
        # its own corner of the world: no corner is farther than the widest circle
        assert all(abs(lat - commune.lat) < 0.2 for lat, _ in areas[commune.code])


def test_no_such_territory_has_no_areas(gazetteer: Gazetteer) -> None:
    assert zones(gazetteer, "98") == b"[]"
