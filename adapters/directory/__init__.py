"""Port ``Directory`` from a file: one JSON object a line, a practitioner or a structure each.

```
{"kind": "person", "rpps": "10000000001", "family": "FICTIF", "given": "Marguerite", "specialty": "SM54",
 "cpts": ["690000009"]}
{"kind": "structure", "finess": "690000001", "siret": null, "name": "Cabinet fictif", "line": "1 rue Fictive",
 "postcode": "69002", "city": "Lyon", "phone": "04 99 00 00 01"}
```
The service's slots have no street and no CPTS; what the national contract asks beyond them is found here.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sas_matcher.ports.world import PersonRecord, StructureRecord

_Finess = Annotated[str, Field(pattern=r"^\d[0-9AB]\d{7}$")]
_Text = Annotated[str, Field(min_length=1, max_length=160)]


class DirectoryError(ValueError):
    """A line of the file cannot be used; the message names it, in French."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Person(_Strict):
    kind: Literal["person"]
    rpps: Annotated[str, Field(pattern=r"^\d{11}$")]
    family: _Text
    given: Annotated[str, Field(max_length=160)] = ""
    specialty: Annotated[str, Field(pattern=r"^[A-Z]{2}\d{2}$")] | None = None
    cpts: list[_Finess] = []


class _Structure(_Strict):
    kind: Literal["structure"]
    finess: _Finess | None = None
    siret: Annotated[str, Field(pattern=r"^\d{14}$")] | None = None
    name: _Text
    line: _Text | None = None
    postcode: Annotated[str, Field(pattern=r"^\d[0-9AB]\d{3}$")] | None = None
    city: _Text | None = None
    phone: Annotated[str, Field(max_length=24)] | None = None


_LINE: TypeAdapter[_Person | _Structure] = TypeAdapter(Annotated[_Person | _Structure, Field(discriminator="kind")])


class FileDirectory:
    """The records of a file, in memory (the whole RPPS is 1.2 million lines; a territory a few thousand)."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        """Read the lines.

        Raises:
            DirectoryError: names the first line that is wrong, and the field.
        """
        self._people: dict[str, PersonRecord] = {}
        self._structures: dict[str, StructureRecord] = {}
        self._sites: dict[str, list[str]] = {}
        for number, line in enumerate(lines, 1):
            if line.strip():
                self._add(number, line)

    @classmethod
    def load(cls, path: Path) -> "FileDirectory":
        """Read a file.

        Raises:
            DirectoryError: the file is not there or not in UTF-8, or a line is wrong.
        """
        try:
            with path.open(encoding="utf-8") as file:
                return cls(file)
        except (OSError, UnicodeDecodeError) as missing:
            raise DirectoryError(f"l'annuaire {path} ne peut être lu") from missing

    def _add(self, number: int, line: str) -> None:
        try:
            record = _LINE.validate_json(line)
        except ValidationError as invalid:
            error = invalid.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in error["loc"]) or "ligne"
            raise DirectoryError(f"annuaire, ligne {number}, {field} : {error['type']}") from invalid
        if isinstance(record, _Person):
            cpts = tuple(dict.fromkeys(record.cpts))
            self._people[record.rpps] = PersonRecord(record.family, record.given, record.specialty, cpts)
            return
        if record.finess is None:
            raise DirectoryError(f"annuaire, ligne {number}, finess : les créneaux désignent les structures par lui")
        fields = record.model_dump(exclude={"kind"})
        self._structures[record.finess] = StructureRecord(**fields)
        if record.siret is not None:
            self._sites.setdefault(record.siret, []).append(record.finess)

    def person(self, rpps: str) -> PersonRecord | None:
        """Return a practitioner by bare RPPS."""
        return self._people.get(rpps)

    def structure(self, finess: str) -> StructureRecord | None:
        """Return a structure by bare FINESS."""
        return self._structures.get(finess)

    def finess_of(self, siret: str) -> tuple[str, ...]:
        """Return the FINESS of the sites that bear a SIRET."""
        return tuple(self._sites.get(siret, ()))
