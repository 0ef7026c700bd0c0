"""The checks of a SAS document find what is wrong: single faults of each class, planted in documents that are right."""

import copy
from typing import Any

import pytest

from adapters.fhir.checking import check
from tests.fhir_cases import FAULTS, booked, cpts, ps, regulator, setting, sos


@pytest.mark.parametrize("document", [ps, cpts, sos, booked, regulator], ids=lambda make: make.__name__)
def test_what_we_build_is_right(document: Any) -> None:
    assert check(document()) == []


def test_single_faults_of_each_class_are_found(record_property: Any) -> None:
    """≥ 90 % of ≥ 50 variants (Work 1.3); the figure of each class stands in the report."""
    missed, counts = [], {}
    for name, variants in FAULTS.items():
        found = 0
        for what, make, change in variants:
            document = copy.deepcopy(make())
            change(document)
            assert document != make(), what
            if check(document):
                found += 1
            else:
                missed.append((name, what))
        counts[name] = (found, len(variants))
    record_property("found", counts)
    total = sum(of for _, of in counts.values())
    assert total >= 50 and len(counts) == 8
    for name, (found, of) in counts.items():
        assert found >= 0.9 * of, (name, missed)
    assert sum(found for found, _ in counts.values()) >= 0.9 * total, missed
    # what is found today stays found
    assert missed == []


def test_a_fault_names_its_place_and_says_what_is_expected() -> None:
    document = ps()
    setting("Slot", "start", "2026-11-27T11:45:00Z", 1)(document)
    (fault,) = check(document)
    assert fault.path.startswith("Bundle.entry[4].resource.start") and fault.kind == "form"
    document = ps()
    document["entry"][0]["resource"]["comment"] = ""
    assert {fault.kind for fault in check(document)} == {"empty", "form"}


@pytest.mark.parametrize("document", [None, [], "x", {}, {"resourceType": 3}, {"resourceType": "Patient"}])
def test_what_is_no_resource_is_said_to_be_none(document: Any) -> None:
    assert check(document)


def test_the_empty_answer_of_the_guide_is_right() -> None:
    """Whatever the minimum of its own profile says (trap 6)."""
    for make in (ps, cpts, sos):
        document = make() | {"total": 0}
        del document["entry"]
        assert check(document) == []


@pytest.mark.parametrize("part", [5, "x", [1], {"a": 1}])
def test_contained_resources_of_the_wrong_shape_are_a_fault_and_no_surprise(part: Any) -> None:
    for kind in ("PractitionerRole", "Slot"):
        document = ps()
        for entry in document["entry"]:
            if entry["resource"]["resourceType"] == kind:
                entry["resource"]["contained"] = part
        assert check(document) or kind == "Slot"
