"""The need as the form holds it: the line, what was set by hand beside it, what a regulator's software gave."""

from typing import Any

import pytest

from adapters.geo import Gazetteer
from sas_matcher.console.visit import Form
from sas_matcher.console.wanted import LONGEST_PHRASE, Wanted, communes, from_form, from_phrase, request_of
from sas_matcher.domain.errors import InvalidInputError

LYON = "Lyon 3e Arrondissement (69383)"


@pytest.fixture(scope="module")
def geography() -> Gazetteer:
    return Gazetteer.load()


def read(geography: Gazetteer, **fields: str | list[str]) -> Wanted:
    given = {name: [value] if isinstance(value, str) else value for name, value in fields.items()}
    return from_form(Form(given), geography, ("69",))


def test_a_line_that_was_read_leaves_the_form_as_it_is(geography: Gazetteer) -> None:
    found = read(geography, phrase="69003 4h", read="69003 4h", commune="Bron (69029)", delay="8H", mt="1 00")
    assert (found.commune, found.delay, found.mt) == ("Bron (69029)", "8H", "100")


def test_a_line_that_was_not_read_yet_is_what_was_meant_but_for_what_was_set_by_hand_since(
    geography: Gazetteer,
) -> None:
    before = {"phrase": "69003 enfant 4h", "read": "69003", "commune": "Bron (69029)", "delay": "8H"}
    found = read(geography, **before)
    assert (found.commune, found.delay, found.needs) == (LYON, "4H", ("enfant",))
    found = read(geography, **before, by_hand=["delay", "needs", "phrase", "given_mt"])
    assert (found.phrase, found.commune, found.delay, found.needs) == ("69003 enfant 4h", LYON, "8H", ())
    # a commune that was emptied is none: the line has one
    assert read(geography, **before | {"commune": ""}, by_hand=["commune"]).commune == LYON


def test_what_a_regulators_software_gave_stays_where_the_line_says_nothing_of_it(geography: Gazetteer) -> None:
    given = {"given_commune": LYON, "given_mt": "10000000012", "given_priority": "R3", "given_delay": "4H"}
    found = read(geography, phrase="kiné 2h", case_ref="DR-1", **given)
    assert (found.commune, found.mt, found.priority, found.case_ref) == (LYON, "10000000012", "R3", "DR-1")
    assert (found.profession, found.delay) == ("KINE", "2H")
    assert read(geography, phrase="bron", **given).commune == "Bron (69029)"


def test_a_line_longer_than_the_page_lets_type_is_not_asked_for_in_part(geography: Gazetteer) -> None:
    longest = "69003 4h".ljust(LONGEST_PHRASE - 6) + "enfant"
    assert read(geography, phrase=longest).needs == ("enfant",)
    with pytest.raises(InvalidInputError, match="phrase : la ligne a plus de 200 caractères"):
        read(geography, phrase=f"{longest} pmr")
    shown = from_phrase(f"{longest} pmr", geography, ("69",))
    assert (shown.phrase, shown.needs, shown.notes) == (longest, ("enfant",), ("ligne coupée à 200 caractères",))


def test_a_name_that_is_unknown_everywhere_is_looked_up_once(geography: Gazetteer) -> None:
    looked_up: list[str | None] = []

    class Counting:
        territories = geography.territories

        def search(self, text: str, limit: int = 10, territory: str | None = None) -> list[str]:
            looked_up.append(territory)
            return []

    counting: Any = Counting()
    assert communes(counting, "fievre", ("01", "42", "69")) == () and looked_up == [None]


def test_a_radius_that_is_no_distance_is_not_asked_for_as_none(geography: Gazetteer) -> None:
    for text in ("nan", "inf", "1e999", "dix"):
        with pytest.raises(InvalidInputError, match="radius_km : doit être un nombre de kilomètres"):
            request_of(Wanted(commune=LYON, radius_km=text), geography, ("69",))
