"""The need as the form holds it: the line, what was set by hand beside it, what a regulator's software gave."""

import pytest

from adapters.geo import Gazetteer
from sas_matcher.console.visit import Form
from sas_matcher.console.wanted import Wanted, from_form

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
