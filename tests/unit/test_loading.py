"""Loading all places at once gives the same market as taking them in one by one."""

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson
import pytest

from sas_matcher.matching.candidates import find_candidates
from sas_matcher.matching.loading import Loader
from sas_matcher.matching.market import Market
from sas_matcher.matching.places import SITE_FIELDS, PlaceRow, exactly, site_json
from sas_matcher.matching.terms import Terms
from sas_matcher.ports.ledger import PlacesPage
from tests.matching_cases import NOW, place, request

OFFERS = [("enfant", "pmr"), ("pmr",), (), ("enfant",)]


def places(count: int) -> list[PlaceRow]:
    """Draw places of several kinds around Lyon, some of the same site."""
    rng = random.Random(7)
    drawn = []
    for number in range(1, count + 1):
        lat, lon = 45.5 + rng.random(), 4.5 + rng.random()
        made = place(number, 30 + number % 90, lat=lat, lon=lon, professional=f"99{number % 40:09d}")
        changes: dict[str, Any] = {"offers": OFFERS[number % 4], "left": number % 3, "version": number + 5}
        changes |= {"mode": ("cabinet", "tele", "visite")[number % 3], "profession": ("MG", "DENT")[number % 5 == 0]}
        drawn.append(
            made._replace(
                source=f"s{number % 3}",
                own=number % 5 == 0,
                walkin=number % 7 == 0,
                specialty=(None, "SM40")[number % 11 == 0],
                **changes,
            )
        )
    return drawn


def page_of(rows: Iterable[PlaceRow]) -> PlacesPage:
    """What the ledger's ``live_places`` says of places."""
    return PlacesPage.of(
        (
            (row.slot_id, row.start, row.end, row.left, row.capacity, row.landmass, row.version, row.own),
            tuple(orjson.loads(row.site)[name] for name in SITE_FIELDS),
            (row.offers, row.specialty, row.profession, row.mode, "walkin" if row.walkin else "routine", row.source),
        )
        for row in rows
    )


@pytest.mark.parametrize("page", [1, 37, 1_000])
def test_a_loaded_market_is_the_market_of_the_same_places_put_in(page: int) -> None:
    """Candidates, sites, seats and versions agree, whatever the size of the pages; news then counts as usual."""
    drawn = places(400)
    loader, put = Loader(), Market()
    whole = page_of(drawn)
    for first in range(0, len(drawn), page):
        some = slice(first, first + page)
        loader.add(PlacesPage(whole.sites[some], whole.kinds[some], whole.places[some]))
    loaded = loader.market()
    put.put(drawn)
    assert len(loaded) == len(put) == 400
    for profession in ("MG", "DENT"):
        for needs in ((), ("enfant",), ("enfant", "pmr")):
            for mode in ("cabinet", "tele", "visite"):
                wish = request("r", profession=profession, needs=needs, modes=(mode,), mt="99000000003")
                ours, theirs = (find_candidates(market, wish, NOW, Terms()) for market in (loaded, put))
                a, b = np.argsort(ours.slot_id), np.argsort(theirs.slot_id)
                for name in ("slot_id", "key", "start", "km", "travel_min", "is_mt", "cost", "left"):
                    assert (getattr(ours, name)[a] == getattr(theirs, name)[b]).all(), name
    for row in drawn:
        ours_at, theirs_at = loaded.find(row.slot_id), put.find(row.slot_id)
        assert ours_at is not None and theirs_at is not None
        site = [m.site(int(part.column("site")[at])) for m, (part, at) in ((loaded, ours_at), (put, theirs_at))]
        assert site[0] == site[1] == row.site
        for name in ("end", "capacity", "walkin", "landmass", "version", "seats_version"):
            assert ours_at[0].column(name)[ours_at[1]] == theirs_at[0].column(name)[theirs_at[1]], name
    assert loaded.modes_of("MG") == put.modes_of("MG")
    older = drawn[9]._replace(version=1, left=2)
    assert loaded.put([older]) == put.put([older]) == {}
    newer = drawn[9]._replace(version=9_999, left=2)
    assert loaded.put([newer]) == put.put([newer]) == {10: 2}
    assert loaded.set_left(11, 0, 10_000) and loaded.left_of(11) == 0


def test_a_place_whose_site_was_never_told_is_refused() -> None:
    """Rather than shown at another's address."""
    whole, loader = page_of(places(20)), Loader()
    loader.add(PlacesPage(whole.sites[1:], whole.kinds, whole.places))
    with pytest.raises(KeyError):
        loader.market()


def test_nothing_loaded_is_an_empty_market() -> None:
    """A country without a place."""
    assert len(Loader().market()) == 0


def test_a_kept_site_takes_the_memory_of_its_text() -> None:
    """orjson hands out bytes in the 4 KiB they were written into: 58 000 sites of France would take 227 MiB."""
    text = orjson.dumps({"name": "Dr Fictif"})
    assert exactly(text) == text and exactly(text) is not text
    assert site_json(list(range(11))) is not None


@pytest.mark.parametrize("when", ["before", "after"])
def test_limits_are_over_the_same_places_however_these_came(when: str) -> None:
    """Loaded in pages or told one by one, before the limits or after them; only members of the same source count."""
    drawn = places(120)
    definition = {"id": 1, "version": 1, "counts": "children", "period": "day", "zone": "Europe/Paris", "source": "s1"}
    limits = [(orjson.dumps({**definition, "members": [f"p:99{n:09d}" for n in (3, 4)]}).decode(), "[]")]
    loader, put = Loader(), Market()
    loader.add(page_of(drawn))
    loaded = loader.market()
    loaded.load_limits(limits)
    if when == "before":
        put.load_limits(limits)
    put.put(drawn)
    if when == "after":
        put.load_limits(limits)
    for market in (loaded, put):
        over = {}
        for row in drawn:
            located = market.find(row.slot_id)
            assert located is not None
            over[row.slot_id] = int(located[0].column("limits")[located[1]]) > 0
        expected = {r.slot_id: orjson.loads(r.site)["professional"][-2:] in ("03", "04") for r in drawn}
        assert over == {r.slot_id: expected[r.slot_id] and r.source == "s1" for r in drawn}
        assert any(over.values())
