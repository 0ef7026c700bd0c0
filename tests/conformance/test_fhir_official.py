"""The official examples and profiles: read without loss, valid by our rules, which say what the profiles say."""

import copy
import gzip
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from adapters.fhir import names
from adapters.fhir.checking import check
from adapters.fhir.profiles import ANY, PROFILES, Profile, Rule
from adapters.fhir.reading import Asked, read_searchset
from adapters.fhir.resources import read
from tests.conformance.conftest import official_examples, snapshot

ALL: Final = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def test_every_official_example_is_read_without_loss(official: Path) -> None:
    examples = official_examples()
    assert len(examples) == 53, "the index says how many there are"
    for path in examples:
        document = json.loads(path.read_text(encoding="utf-8"))
        assert read(document).plain() == document, path.name
        for entry in document.get("entry", ()):
            assert read(entry["resource"]).plain() == entry["resource"], path.name


def test_every_official_example_is_valid_for_the_official_rules(official: Path) -> None:
    """They are the golden baseline: the package was published with no error on them."""
    for path in official_examples():
        faults = check(json.loads(path.read_text(encoding="utf-8")))
        assert [fault for fault in faults if fault.origin == "profile"] == [], path.name


def test_what_the_guide_asks_beyond_them_is_known(official: Path) -> None:
    """The faults of the examples by the guide: three that the contract names (traps 8 and 11, section 5.3)."""
    found = set()
    for path in official_examples():
        found |= {
            (path.name, re.sub(r"\[\d+\]", "", f.path)) for f in check(json.loads(path.read_text(encoding="utf-8")))
        }
    beyond = {(name, place) for name, place in found if not place.endswith("entry.search")}
    assert beyond == {
        ("Practitioner-ExamplePractitionerRegul1.json", "Practitioner.identifier.system"),
        ("Slot-ExampleSlotPSIndiv2.json", "Slot.comment"),
        ("v120-Slot-ExampleSlotPSIndiv5.json", "Slot.comment"),
        ("Bundle-ExampleBundlePSIndiv.json", "Bundle.entry.resource.comment"),
        ("v120-Bundle-ExampleBundlePSIndiv.json", "Bundle.entry.resource.comment"),
    }
    assert {name for name, place in found if place.endswith("entry.search")} == {
        f"Bundle-ExampleBundle{kind}.json" for kind in ("AgregateurSOS", "CPTS", "PSIndiv")
    }, "only the examples of 1.1.0 leave the mode out"


@pytest.mark.parametrize(
    ("name", "identifiers", "slots"),
    [
        ("v120-Bundle-ExampleBundlePSIndiv", {"810002673899", "810100050075"}, 4),
        ("v120-Bundle-ExampleBundlePSIndiv", {"810002673899"}, 2),
        ("v120-Bundle-ExampleBundleCPTS", {"810002909371"}, 1),
        ("v120-Bundle-ExampleBundleCPTS2", {"810002909371"}, 1),
        ("Bundle-ExampleBundleAgregateurSOS", {"334173748400020", "392080466300010"}, 4),
        ("v120-Bundle-empty-PS", {"810002673899"}, 0),
        ("v120-Bundle-empty-SOS", {"334173748400020"}, 0),
    ],
)
def test_the_places_of_the_official_bundles(official: Path, name: str, identifiers: set[str], slots: int) -> None:
    document = json.loads((official / "fhir-examples" / f"{name}.json").read_text(encoding="utf-8"))
    found = read_searchset(document, Asked(*ALL, identifiers))
    assert len(found.offered) == slots
    assert set(found.dropped) <= {"not_asked"}
    for place in found.offered:
        assert place.site.city and place.site.line and place.modes and place.visibilities
    if name.endswith("CPTS2"):
        assert found.offered[0].structures == ("1950047225", "1950046227")


# -- our rules against the published snapshots ----------------------------------------------------------------------

# Elements of the French core and of base R4 that say nothing of the SAS: bindings and slices of things we never send.
_NOISE: Final = re.compile(
    r"(\.(use|gender|daysOfWeek|mode|method|prefix)|qualification\S*|\.(modifierExtension|extension)(\.\S+)?|"
    r"(Organization|HealthcareService)\.type\S*|PractitionerRole\.code|specialty|(request|response|search)\.\S+|"
    r"participant\.required|\.status)$"
)


def _rules(profile: Profile) -> Iterator[tuple[str, Rule]]:
    """Yield the rules by the element id that the snapshots use."""
    for rule in profile.rules:
        yield _id(f"{profile.type}.{rule.path}"), rule
    for part in profile.slices:
        for rule in part.rules:
            yield _id(f"{profile.type}.{part.path}:{part.name}.{rule.path}"), rule


_RENAMED: Final = (
    (".valueReference", ".value[x]:valueReference"),
    ("referencecpts.extension", "referencecpts.extension:sas-servicetype-r5"),
    ("TypeConsultation.extension", "TypeConsultation.extension:sas-servicetype-r5"),
)


def _id(name: str) -> str:
    for ours, theirs in _RENAMED:
        name = name.replace(ours, theirs)
    return name


def _elements(definition: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {element["id"]: element for element in definition["snapshot"]["element"]}


def _fixed(element: dict[str, Any]) -> Any:
    return next((value for name, value in element.items() if name.startswith(("fixed", "pattern"))), None)


PROFILE_URLS: Final = sorted(PROFILES)


@pytest.mark.parametrize("url", PROFILE_URLS, ids=lambda url: url.rsplit("/", 1)[1])
def test_each_official_rule_of_ours_stands_in_the_profile(official: Path, url: str) -> None:
    elements = _elements(snapshot(official, url))
    seen = 0
    for name, rule in _rules(PROFILES[url]):
        if rule.origin == "guide":
            continue
        element = elements[name]
        seen += 1
        if rule.least or rule.most != ANY or rule.pattern is not None:
            most = ANY if element["max"] == "*" else int(element["max"])
            assert (rule.least, rule.most) == (element["min"], most), name
            assert rule.pattern == _fixed(element), name
    for part in PROFILES[url].slices:
        if part.origin == "profile" and (part.least or part.most != ANY):
            element = elements[f"{PROFILES[url].type}.{part.path}:{part.name}"]
            assert (part.least, str(part.most)) == (element["min"], element["max"]), part.name
    assert seen


@pytest.mark.parametrize("url", PROFILE_URLS, ids=lambda url: url.rsplit("/", 1)[1])
def test_what_a_profile_narrows_is_among_our_rules(official: Path, url: str) -> None:
    """Every element that the snapshot narrows against base R4, or fixes, has its rule; nothing was overlooked."""
    profile = PROFILES[url]
    elements = _elements(snapshot(official, url))
    ours = {f"{profile.type}.{part.path}:{part.name}" for part in profile.slices}
    for name, rule in _rules(profile):
        if name in elements:
            most = ANY if elements[name]["max"] == "*" else int(elements[name]["max"])
            fixed = _fixed(elements[name])
            # a rule of the guide may be stricter than the profile, and then holds what the profile asks as well
            if rule.least >= elements[name]["min"] and rule.most <= most and fixed in (None, rule.pattern):
                ours.add(name)
    missing = set()
    for name, element in elements.items():
        base = element.get("base", {"min": element["min"], "max": element["max"]})
        narrowed = (element["min"], element["max"]) != (base["min"], base["max"]) or _fixed(element) is not None
        if narrowed and name not in ours and not _NOISE.search(name):
            missing.add(name)
    # the same thing said twice: of the slice and of what all identifiers have; or of the entry's type, which we key by
    said = re.compile(
        r"Bundle\.entry:\w+(\.fullUrl)?|Practitioner\.identifier:\w+\.(system|value)|Appointment\.extension:\w+(\.url)?|"
        r".*\.value\[x\](:valueReference)?|.*referencecpts|.*sas-servicetype-r5(\.url)?|"
        r".*TypeConsultation\.coding\.system|.*extension:(assemblyOrder|emailType|inseeCode|usePeriod|shortName|"
        r"description|positionRoom|serviceTypeDuration|availabilityTime)"
    )
    assert {name for name in missing if not said.fullmatch(name)} == set()


def test_the_codes_are_those_of_the_official_value_sets(official: Path) -> None:
    def of(name: str) -> set[tuple[str, str]]:
        with gzip.open(official / "profiles" / f"ValueSet-{name}.json.gz") as file:
            include = json.load(file)["compose"]["include"]
        return {(part["system"], concept["code"]) for part in include for concept in part["concept"]}

    def ours(url: str, path: str) -> set[tuple[str, str]]:
        profile = PROFILES[url]
        rules = [*profile.rules, *(rule for part in profile.slices for rule in part.rules)]
        return set(next(r.codes for r in rules if r.path == path and r.codes is not None))

    assert ours(names.SLOT_CPTS, "meta.security") == of("sas-cpts-valueset-typecreneau")
    assert ours(names.SLOT_SOS, "meta.security") == of("sas-sos-valueset-typecreneau")
    assert ours(names.SLOT_SOS, "serviceType.coding") == of("sas-valueset-typeconsultation")
    assert ours(names.SLOT_SOS, "appointmentType.coding") == of("sas-valueset-appointmentreason")
    assert ours(names.SLOT_CPTS, "appointmentType.coding") == of("sas-valueset-appointmentreason")
    operator = "valueReference.identifier.type.coding"
    assert ours(names.APPOINTMENT_SOS, operator) == of("sas-valueset-typeidentifiant")
    status = {(system, code) for system, code in of("sas-sos-valueset-participant-status")}
    assert {code for _, code in ours(names.APPOINTMENT_SOS, "participant.status")} == {code for _, code in status}
    category = next(part for part in PROFILES[names.SLOT_CPTS].slices if part.name == "referencecpts")
    assert set(category.rules[0].codes or ()) == of("sas-valueset-categorieetablissement")


# -- faults drawn from the published profiles, not from our rules ------------------------------------------------------


def _instances(node: Any, path: list[str]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield (parent, name) of each occurrence of an element."""
    if isinstance(node, list):
        for item in node:
            yield from _instances(item, path)
    elif isinstance(node, dict) and len(path) == 1 and path[0] in node:
        yield node, path[0]
    elif isinstance(node, dict) and len(path) > 1:
        yield from _instances(node.get(path[0]), path[1:])


def _other(value: Any) -> Any:
    """Return a value of the same shape that is another one."""
    if isinstance(value, str):
        return "autre"
    if isinstance(value, list):
        return [_other(value[0]), *value[1:]]
    return {**value, **{name: _other(value[name]) for name in ("coding", "code", "system") if name in value}}


def _drawn(resource: dict[str, Any], definition: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (class, element, resource with one fault).

    Each element that must be there is taken away, each that is fixed or bound has another value, each list that may
    have one item gets two.
    """
    for name, element in _elements(definition).items():
        path = name.split(".")[1:]
        if not path or ":" in name or "[x]" in name or "extension" in name:
            continue
        for at, _ in enumerate(_instances(resource, path)):
            for kind in ("missing", "fixed", "bound", "doubled"):
                changed = copy.deepcopy(resource)
                parent, last = list(_instances(changed, path))[at]
                value = parent[last]
                required = element.get("binding", {}).get("strength") == "required"
                if kind == "missing" and element["min"] >= 1:
                    del parent[last]
                elif kind == "doubled" and element["max"] == "1" and isinstance(value, list):
                    parent[last] = [*value, *value]
                elif (kind == "fixed" and _fixed(element) is not None) or (kind == "bound" and required):
                    parent[last] = _other(value)
                if changed != resource:
                    yield kind, name, changed


def test_faults_drawn_from_the_published_profiles_are_found(official: Path, record_property: Any) -> None:
    """Independent of our rules: the profiles themselves say what to take away, to double and to replace."""
    found: dict[str, list[int]] = {}
    missed = []
    for path in official_examples():
        document = json.loads(path.read_text(encoding="utf-8"))
        for resource in [document, *(entry["resource"] for entry in document.get("entry", ()))]:
            definition = snapshot(official, resource["meta"]["profile"][0])
            before = set(check(resource))
            for kind, name, changed in _drawn(resource, definition):
                counts = found.setdefault(kind, [0, 0])
                counts[1] += 1
                if set(check(changed)) - before:
                    counts[0] += 1
                else:
                    missed.append((kind, name))
    record_property("found", found)
    assert sum(of for _, of in found.values()) >= 800 and set(found) == {"missing", "fixed", "bound", "doubled"}
    assert sorted(set(missed)) == [], found
