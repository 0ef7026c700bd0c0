"""The directory from a file: what it answers, and how a wrong line is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.directory import DirectoryError, FileDirectory
from adapters.fhir.agenda import split_name

PERSON = {"kind": "person", "rpps": "10000000001", "family": "FICTIF", "given": "Anne", "cpts": ["690000009"] * 2}
SITES = [
    {"kind": "structure", "finess": finess, "siret": "99000000000017", "name": "SOS fictif", "city": "Lyon"}
    for finess in ("690000801", "2A0000802")
]


def directory(*records: Any) -> FileDirectory:
    return FileDirectory(line if isinstance(line, str) else json.dumps(line) for line in records)


def test_who_is_who() -> None:
    known = directory(PERSON, "", *SITES)
    person = known.person("10000000001")
    assert person is not None and (person.family, person.given, person.cpts) == ("FICTIF", "Anne", ("690000009",))
    structure = known.structure("2A0000802")
    assert structure is not None and (structure.name, structure.city, structure.line) == ("SOS fictif", "Lyon", None)
    assert known.finess_of("99000000000017") == ("690000801", "2A0000802")
    assert known.person("10000000002") is None and known.structure("690000009") is None
    assert known.finess_of("99000000000018") == () and FileDirectory().person("10000000001") is None


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({**PERSON, "rpps": "810000000001"}, "ligne 2, person.rpps"),
        ({**PERSON, "birth_date": "1970-01-01"}, "ligne 2, person.birth_date"),
        ({**PERSON, "family": ""}, "ligne 2, person.family"),
        ({**SITES[0], "siret": "1"}, "ligne 2, structure.siret"),
        ({**SITES[0], "finess": None}, "ligne 2, finess"),
        ({"kind": "patient"}, "ligne 2"),
        ("{", "ligne 2"),
    ],
)
def test_a_wrong_line_is_named(record: Any, message: str) -> None:
    with pytest.raises(DirectoryError, match=message):
        directory(PERSON, record)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match="ne peut être lu"):
        FileDirectory.load(tmp_path / "rien")
    latin = tmp_path / "latin"
    latin.write_bytes('{"kind": "person", "family": "É'.encode("latin-1"))
    with pytest.raises(DirectoryError, match="ne peut être lu"):
        FileDirectory.load(latin)


@pytest.mark.parametrize(
    ("name", "family", "given"),
    [
        ("Dr Paul Fictif", "Fictif", "Paul"),
        ("Docteur Marie-Ève DE LA FICTION", "DE LA FICTION", "Marie-Ève"),
        ("Fictif", "Fictif", ""),
        ("Dr", "", ""),
        ("", "", ""),
    ],
)
def test_a_name_that_nobody_split(name: str, family: str, given: str) -> None:
    assert split_name(name) == (family, given)
