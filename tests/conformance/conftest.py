"""The publishers' own material, where it is present beside the project; tests that need it skip loudly elsewhere."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[3] / "shared" / "sas" / "data"


def official_examples() -> list[Path]:
    """Return the official FHIR examples, none when they are not here."""
    return sorted((DATA / "fhir-examples").glob("*.json"))


@pytest.fixture
def official() -> Path:
    """The folder of the official material."""
    if not DATA.is_dir():
        pytest.skip(f"les profils et exemples officiels ne sont pas là : {DATA}")
    return DATA


def snapshot(folder: Path, profile: str) -> dict[str, Any]:
    """Return an official StructureDefinition by its canonical URL."""
    path = folder / "profiles" / f"StructureDefinition-{profile.rsplit('/', 1)[1]}.json.gz"
    with gzip.open(path) as file:
        document: dict[str, Any] = json.load(file)
    assert document["url"] == profile
    return document
