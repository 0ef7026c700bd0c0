"""Opening from a regulator's software: what is read of the address, and that the street is not."""

from urllib.parse import parse_qsl

import pytest

from adapters.geo import Gazetteer
from sas_matcher.console.lrm import Opening, is_opening, read_opening
from sas_matcher.domain.errors import InvalidInputError, NotAllowedError

SPECIALTY = "urn:oid:1.2.250.1.213.2.28|{}"
DOCTOR = "urn:oid:1.2.250.1.71.4.2.1|8{}"


@pytest.fixture(scope="module")
def geography() -> Gazetteer:
    return Gazetteer.load()


def opened(geography: Gazetteer, **query: str) -> Opening:
    return read_opening({"origin": "lrm", "inseecode": "69383"} | query, {"lrm"}, geography)


def test_everything_that_the_national_code_reads(geography: Gazetteer) -> None:
    found = opened(
        geography,
        city="Lyon",
        streetnumber="12",
        streetname="rue Secrète",
        specialty=SPECIALTY.format("SM40"),
        practitioner=DOCTOR.format("10000000012"),
        delay="4H",
        priority="R3",
        caseref="DR-42",
    )
    assert found.fields == {
        "commune": "Lyon 3e Arrondissement (69383)",
        "profession": "SM40",
        "mt": "10000000012",
        "delay": "4H",
        "priority": "R3",
        "case_ref": "DR-42",
    }
    assert found.notes == ("adresse non reprise : la distance est comptée depuis la commune",)
    assert "Secr" not in repr(found) and "12" not in repr(found.notes)


def test_the_commune_by_its_name_when_the_code_gives_none(geography: Gazetteer) -> None:
    assert opened(geography, inseecode="00000", city="Villeurbanne").fields["commune"] == "Villeurbanne (69266)"
    with pytest.raises(InvalidInputError):
        opened(geography, inseecode="", city="")


@pytest.mark.parametrize("doctor", ["Dr Martin", DOCTOR.format("1000"), "urn:oid:1.2|810000000012", "oid:8"])
def test_a_doctor_who_is_not_surely_named_is_left_out_and_that_is_said(geography: Gazetteer, doctor: str) -> None:
    found = opened(geography, practitioner=doctor)
    assert "mt" not in found.fields and "médecin traitant non repris" in found.notes[0]


def test_only_software_that_is_declared_here(geography: Gazetteer) -> None:
    with pytest.raises(NotAllowedError, match="Flux désactivé"):
        read_opening({"origin": "other", "inseecode": "69383"}, {"lrm"}, geography)


def test_values_that_could_be_anything_are_dropped(geography: Gazetteer) -> None:
    found = opened(geography, delay="DEMAIN", priority="P0", caseref="<script>", speciality="Consultation libre")
    assert set(found.fields) == {"commune"} and found.notes == ("spécialité inconnue : médecine générale",)
    assert is_opening(dict(parse_qsl("origin=lrm&inseecode=69383"))) and not is_opening({"inseecode": "69383"})
