"""The gazetteer: what a regulator types finds the place, and nothing is counted or crossed twice."""

import gzip
import hashlib
import json
import time
from importlib import resources

import numpy as np
import pytest

from adapters.geo import Gazetteer
from adapters.geo.gazetteer import _Names, normalise
from adapters.geo.landmass import CORSE, ISLANDS, MAINLAND
from sas_matcher.travel import haversine_km
from tests.unit.geo_names import ISLAND_NAMES


@pytest.fixture(scope="module")
def gazetteer() -> Gazetteer:
    return Gazetteer.load()


def codes(gazetteer: Gazetteer, text: str, limit: int = 10, territory: str | None = None) -> list[str]:
    return [c.code for c in gazetteer.search(text, limit, territory)]


def test_it_loads_in_under_three_tenths_of_a_second() -> None:
    data = resources.files("adapters.geo") / "data"
    communes, territories = (data / "communes.csv.gz").read_bytes(), (data / "territories.csv").read_text("utf-8")
    best = 9.0
    for _ in range(3):
        begin = time.process_time()
        Gazetteer(communes, territories)
        best = min(best, time.process_time() - begin)
    assert best < 0.3


def test_data_are_what_the_manifest_says() -> None:
    data = resources.files("adapters.geo") / "data"
    manifest = json.loads((data / "MANIFEST.json").read_text("utf-8"))
    packed = (data / "communes.csv.gz").read_bytes()
    plain = gzip.decompress(packed)
    digests = manifest["outputs_sha256"]
    assert hashlib.sha256(packed).hexdigest() == digests["communes.csv.gz"]
    assert hashlib.sha256(plain).hexdigest() == digests["communes.csv"]
    assert hashlib.sha256((data / "territories.csv").read_bytes()).hexdigest() == digests["territories.csv"]
    assert packed[4:8] == b"\0\0\0\0"  # no time of packing
    lines = plain.decode().splitlines()
    assert lines[0] == "code,nom,dep,cp,pop,lat,lon"
    assert len(lines) - 1 == manifest["rows"]["communes.csv"] == sum(manifest["points"]["counts"].values())
    assert [line.split(",")[0] for line in lines[1:]] == sorted({line.split(",")[0] for line in lines[1:]})


def test_the_data_hold_places_and_no_people() -> None:
    data = resources.files("adapters.geo") / "data"
    names = {entry.name for entry in data.iterdir() if not entry.name.startswith("__")}
    assert names == {"communes.csv.gz", "territories.csv", "MANIFEST.json"}
    inputs = json.loads((data / "MANIFEST.json").read_text("utf-8"))["inputs_sha256"]
    assert not [name for name in inputs if any(w in name for w in ("elus", "depute", "senat", "maire"))]


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("lhay les roses", "94038"),
        ("L’Haÿ-les-Roses", "94038"),
        ("L'HAY LES ROSES", "94038"),
        ("st etienne", "42218"),
        ("stetienne", "42218"),
        ("ste foy les lyon", "69202"),
        ("Sainte-Foy-lès-Lyon", "69202"),
        ("lehavre", "76351"),
        ("rochelle", "17300"),
        ("vileurb", None),
        ("villeurb", "69266"),
        ("hoedic", "56085"),
        ("Hœdic", "56085"),
        ("y", "80829"),
        ("arrondissement 3e lyon", "69383"),
        ("69383", "69383"),
        ("2a004", "2A004"),
        ("34 000", "34172"),
    ],
)
def test_search_finds_first(gazetteer: Gazetteer, typed: str, code: str | None) -> None:
    assert next(iter(codes(gazetteer, typed, 1)), None) == code


def test_search_finds_both_saint_denis_and_can_be_kept_to_a_territory(gazetteer: Gazetteer) -> None:
    assert set(codes(gazetteer, "st denis")[:2]) == {"93066", "97411"}
    assert codes(gazetteer, "st denis", 1, "974") == ["97411"]
    assert codes(gazetteer, "st denis", 1, "93") == ["93066"]


def test_search_puts_whole_names_first_then_the_most_populous(gazetteer: Gazetteer) -> None:
    found = gazetteer.search("saint-denis", 40)
    names = [c.name for c in found]
    whole = [c for c in found if c.name == "Saint-Denis"]
    assert names[: len(whole)] == ["Saint-Denis"] * len(whole)
    rest = found[len(whole) :]
    assert [c.population for c in whole] == sorted((c.population for c in whole), reverse=True)
    assert [c.population for c in rest] == sorted((c.population for c in rest), reverse=True)


def test_short_st_also_begins_ordinary_words(gazetteer: Gazetteer) -> None:
    assert "67482" in codes(gazetteer, "st", 20_000)  # Strasbourg
    assert "75056" not in codes(gazetteer, "st", 20_000)


def test_postcode_shared_by_several_communes_finds_them_all(gazetteer: Gazetteer) -> None:
    shared = gazetteer.search("15170", 50)
    assert {"15031", "15035", "15171"} <= {c.code for c in shared}
    assert all("15170" in c.postcodes or c.code == "15170" for c in shared)


def test_postcode_of_an_arrondissement_gives_it_before_its_city(gazetteer: Gazetteer) -> None:
    found = codes(gazetteer, "69003")
    assert found[0] == "69383"
    assert found[-1] == "69123"


@pytest.mark.parametrize("typed", ["", "   ", "-", "''", "zzzzzz", "99999"])
def test_search_finds_nothing_for_nothing(gazetteer: Gazetteer, typed: str) -> None:
    assert gazetteer.search(typed) == []


def test_search_costs_no_more_for_words_that_come_again(gazetteer: Gazetteer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each word was looked up, and compared with every commune, as often as it came; one door needs no login."""
    looked_up: list[str] = []
    bounds = _Names._bounds

    def counted(entries: list[tuple[str, int]], prefix: str) -> tuple[int, int]:
        looked_up.append(prefix)
        return bounds(entries, prefix)

    monkeypatch.setattr(_Names, "_bounds", staticmethod(counted))
    assert codes(gazetteer, "lyon " * 16, 1) == ["69123"]
    assert looked_up.count("lyon") == 1 and len(looked_up) == 2
    looked_up.clear()
    # no name is so long, or has so many words: nothing is looked up, and nothing is understood by half
    assert gazetteer.search("s " * 2000) == [] and gazetteer.search("lyon " * 17) == []
    assert gazetteer.search("l ly lyo lyon a b c d e") == []
    assert looked_up == []
    longest = max((commune.name for commune in gazetteer), key=lambda name: len(set(normalise(name).split())))
    assert gazetteer.search(longest, 1)[0].name == longest and len(set(normalise(longest).split())) == 7
    assert max(len(normalise(commune.name).split()) for commune in gazetteer) == 8, "as phrase.py looks up"


def test_search_obeys_the_limit(gazetteer: Gazetteer) -> None:
    assert len(gazetteer.search("saint", 7)) == 7
    assert gazetteer.search("saint", 0) == []


def test_old_codes_of_the_three_cities_stand_beside_their_arrondissements(gazetteer: Gazetteer) -> None:
    for code, name, first in (("75056", "Paris", "75101"), ("69123", "Lyon", "69381"), ("13055", "Marseille", "13201")):
        city, part = gazetteer.by_code(code), gazetteer.by_code(first)
        assert city is not None and part is not None
        assert (city.name, city.territory) == (name, part.territory)
        assert code not in {c.code for c in gazetteer.communes_of(city.territory)}
    assert gazetteer.by_code("00000") is None


def test_populations_count_nobody_twice(gazetteer: Gazetteer) -> None:
    paris = gazetteer.by_code("75056")
    assert paris is not None
    assert gazetteer.territories["75"].population == paris.population
    assert 66_000_000 < sum(t.population for t in gazetteer.territories.values()) < 70_000_000


def test_territories_know_their_clock_and_radius(gazetteer: Gazetteer) -> None:
    territories = gazetteer.territories
    assert len(territories) == 101
    assert territories["974"].timezone == "Indian/Reunion"
    assert territories["973"].timezone == "America/Cayenne"
    assert territories["2A"].timezone == "Europe/Paris"
    radii = {code: t.default_radius_km for code, t in territories.items()}
    assert (radii["48"], radii["2B"], radii["11"], radii["49"], radii["972"], radii["75"], radii["976"]) == (
        50, 40, 30, 20, 10, 5, 0,
    )  # fmt: skip
    assert set(radii.values()) == {50, 40, 30, 20, 10, 5, 0}
    for code, territory in territories.items():
        south, west, north, east = territory.bbox
        assert south <= north and west <= east
        assert all(south <= c.lat <= north and west <= c.lon <= east for c in gazetteer.communes_of(code))


def test_every_commune_is_on_french_soil_and_near_its_own(gazetteer: Gazetteer) -> None:
    """A lost sign or an exchanged pair would show as a commune hundreds of km from its département's middle."""
    for code in gazetteer.territories:
        communes = gazetteer.communes_of(code)
        lat, lon = np.array([c.lat for c in communes]), np.array([c.lon for c in communes])
        km = haversine_km(np.median(lat), np.median(lon), lat, lon)
        assert km.max() < (400 if code == "973" else 140), (code, communes[int(km.argmax())])


def test_nearest_gives_the_arrondissement_and_never_an_empty_village(gazetteer: Gazetteer) -> None:
    assert gazetteer.nearest(45.7597, 4.8422).code.startswith("6938")
    assert gazetteer.nearest(-20.88, 55.45).code == "97411"
    destroyed = gazetteer.by_code("55139")  # Cumières-le-Mort-Homme, a village lost in 1916
    assert destroyed is not None and destroyed.population == 0
    assert gazetteer.nearest(destroyed.lat, destroyed.lon).population > 0


def test_coordinates_from_outside_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    data = resources.files("adapters.geo") / "data"
    fresh = Gazetteer((data / "communes.csv.gz").read_bytes(), (data / "territories.csv").read_text("utf-8"))
    monkeypatch.setattr("adapters.geo.gazetteer._CACHED_CELLS", 3)
    found = [fresh.nearest(45.0 + k, 3.0).code for k in range(6)]
    assert len(fresh._grid._candidates) <= 3
    assert found == [fresh.nearest(45.0 + k, 3.0).code for k in range(6)]


@pytest.mark.parametrize(("lat", "lon"), [(91.0, 0.0), (0.0, 181.0), (float("nan"), 2.0), (45.0, float("inf"))])
def test_nearest_refuses_what_is_no_place(gazetteer: Gazetteer, lat: float, lon: float) -> None:
    with pytest.raises(ValueError, match="degrees"):
        gazetteer.nearest(lat, lon)


def test_landmass_of_refuses_unequal_lengths(gazetteer: Gazetteer) -> None:
    with pytest.raises(ValueError, match="length"):
        gazetteer.landmass_of([45.0, 46.0], [2.0])


def test_island_codes_are_the_islands_meant(gazetteer: Gazetteer) -> None:
    named = {code: c.name for codes_ in ISLANDS.values() for code in codes_ if (c := gazetteer.by_code(code))}
    assert named == ISLAND_NAMES


def test_landmasses_part_what_the_sea_parts(gazetteer: Gazetteer) -> None:
    def of(code: str) -> int:
        commune = gazetteer.by_code(code)
        assert commune is not None
        return commune.landmass

    assert of("75056") == of("17161") == of("85163") == MAINLAND  # Ré and Noirmoutier have bridges
    assert of("2A004") == of("2B033") == CORSE
    assert len({of("97120"), of("97112"), of("97110"), of("97130"), of("97131")}) == 5
    assert of("97608") == of("97615") != of("97611")  # Petite-Terre, Grande-Terre
    assert of("97353") == of("97362") != of("97302")  # the upper Maroni has no road to Cayenne
    assert len({of(c) for c in ("97105", "97209", "97302", "97411", "97611", "75056")}) == 6


def test_landmass_of_points_is_that_of_the_nearest_commune(gazetteer: Gazetteer) -> None:
    rng = np.random.default_rng(3)
    rows = rng.choice(len(gazetteer), 2_000)
    islands = [i for i, c in enumerate(gazetteer.codes) if c in ISLAND_NAMES]
    rows = np.concatenate([rows, islands, islands, islands])
    lat = gazetteer.lat[rows] + rng.normal(0, 0.03, rows.size)
    lon = gazetteer.lon[rows] + rng.normal(0, 0.03, rows.size)
    got = gazetteer.landmass_of(lat, lon)
    assert got.dtype == np.int16
    counted = np.array([i for i, c in enumerate(gazetteer.codes) if c not in ("75056", "69123", "13055")])
    counted = counted[gazetteer.population[counted] > 0]
    for k in range(0, rows.size, 7):
        km = haversine_km(lat[k], lon[k], gazetteer.lat[counted], gazetteer.lon[counted])
        assert got[k] in gazetteer.landmass[counted[km == km.min()]]


def test_landmass_of_three_hundred_thousand_points_takes_about_a_second() -> None:
    data = resources.files("adapters.geo") / "data"
    fresh = Gazetteer((data / "communes.csv.gz").read_bytes(), (data / "territories.csv").read_text("utf-8"))
    rng = np.random.default_rng(1)
    rows = rng.choice(len(fresh), 300_000, p=fresh.population / fresh.population.sum())
    lat, lon = fresh.lat[rows] + rng.normal(0, 0.03, rows.size), fresh.lon[rows] + rng.normal(0, 0.03, rows.size)
    begin = time.process_time()
    assert fresh.landmass_of(lat, lon).shape == (300_000,)
    assert time.process_time() - begin < 2.0


def test_landmass_of_nothing_is_nothing(gazetteer: Gazetteer) -> None:
    assert gazetteer.landmass_of([], []).size == 0
