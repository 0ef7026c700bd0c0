"""The one line of the regulation page: what is understood, and that nothing is understood by mistake."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_matcher.console.phrase import Phrase, delay_of, find_place, read_phrase
from sas_matcher.domain.vocabulary import DELAY_SPAN, AgeBand, Delay, Mode, Offer, Profession


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "MG 69003 enfant < 4 h",
            Phrase(profession="MG", place="69003", delay="4H", needs=("enfant",), age_band="enfant"),
        ),
        ("<4h lyon 3 mg", Phrase(profession="MG", place="lyon 3", delay="4H")),
        ("kiné Villeurbanne 48h", Phrase(profession="KINE", place="villeurbanne", delay="48H")),
        (
            "télé MG 30 min Saint-Martin-en-Haut",
            Phrase(profession="MG", place="saint martin en haut", delay="30M", modes=("tele",)),
        ),
        (
            "dentiste tiers payant < 10 km vienne demain",
            Phrase(profession="DENT", place="vienne", delay="24H", needs=("tiers_payant",), radius_km=10.0),
        ),
        ("mt 810001234567 MG 69100 R3", Phrase(profession="MG", place="69100", mt="10001234567", priority="R3")),
        (
            "ophtalmo 69003 < 3 h",
            Phrase(specialty="SM38", place="69003", delay="2H", notes=("délai ramené à 2 h",)),
        ),
        ("sage-femme à domicile l'arbresle", Phrase(profession="SF", place="l'arbresle", modes=("visite",))),
        ("mg 69003 1h30", Phrase(profession="MG", place="69003", delay="1H", notes=("délai ramené à 1 h",))),
        ("8 mois 2h bron", Phrase(place="bron", delay="2H", needs=("nourrisson",), age_band="nourrisson")),
        ("3 ans bron", Phrase(place="bron", needs=("enfant",), age_band="enfant")),
        ("80 ans bron", Phrase(place="bron", age_band="senior")),
        ("40 ans bron arabe secteur 1", Phrase(place="bron", age_band="adulte", needs=("arabe", "secteur1"))),
        ("P0 mg lyon", Phrase(profession="MG", place="lyon", priority="P0")),
        ("", Phrase()),
    ],
)
def test_lines_that_regulators_type(text: str, wanted: Phrase) -> None:
    assert read_phrase(text) == wanted


def test_every_code_is_understood_by_itself() -> None:
    for profession in set(Profession) - {Profession.SPE}:
        assert read_phrase(f"69003 {profession.lower()}").profession == profession
    for mode in Mode:
        assert read_phrase(f"{mode} 69003").modes == (mode,)
    for offer in Offer:
        assert offer in read_phrase(f"69003 {offer}".replace("_", " ")).needs, offer
    for band in (AgeBand.ADULTE, AgeBand.SENIOR):
        assert read_phrase(str(band)).age_band == band


@given(st.integers(1, 999))
@settings(max_examples=60)
def test_a_delay_is_never_later_than_what_was_said(minutes: int) -> None:
    code, _ = delay_of(minutes)
    assert DELAY_SPAN[Delay(code)].total_seconds() / 60 <= max(minutes, 30)


@given(st.text(max_size=60))
@settings(max_examples=80)
def test_any_line_is_read_as_codes_that_exist(text: str) -> None:
    phrase = read_phrase(text)
    assert phrase.profession is None or phrase.profession in set(Profession)
    assert phrase.delay is None or phrase.delay in set(Delay)
    assert set(phrase.modes) <= set(Mode) and set(phrase.needs) <= set(Offer)
    assert phrase.age_band is None or phrase.age_band in set(AgeBand)


def test_a_commune_is_found_among_other_words() -> None:
    def search(text: str) -> Sequence[str]:
        return [name for name in ("caluire", "lyon 3", "lyon") if name.startswith(text)]

    assert find_place("lyon 3", search) == (["lyon 3"], "")
    assert find_place("fievre caluire", search) == (["caluire"], "fievre")
    assert find_place("fievre", search) == ((), "fievre")
    assert find_place("c", search) == ((), "c")


def test_what_a_line_costs_is_bounded_and_the_rest_of_it_is_told() -> None:
    """Two hundred words were forty thousand look-ups of several milliseconds each."""
    looked_up: list[str] = []

    def search(text: str) -> Sequence[str]:
        looked_up.append(text)
        return ["caluire"] if text == "caluire" else []

    line = " ".join(f"mot{n}" for n in range(200))
    assert find_place(line, search) == ((), line), "what is not looked at is told as not understood"
    assert len(looked_up) <= 8 * 24 and max(len(run.split()) for run in looked_up) == 8
    looked_up.clear()
    assert find_place(" ".join(["saint", "la"] * 100), search)[0] == ()
    assert len(looked_up) == 2 * 8 - 1, "what was unknown once is not looked up again"
    assert find_place(f"{line[:100]} caluire {line}", search) == (["caluire"], f"{line[:100]} {line}")
