"""Thin models of the resources of the contract, for reading: tolerant, and without loss.

Everything is optional and what is unknown is kept, so a document that is read and written again is the same document
(``read`` and ``plain``). Only shapes are judged here: a list where one thing is meant is an error, a missing element is
not. What a profile demands is ``checking``'s business.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

R = TypeVar("R", bound="Resource")


class Element(BaseModel):
    """Base of everything: camelCase on the wire, unknown elements kept."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel, populate_by_name=True, frozen=True, strict=True)

    def plain(self) -> dict[str, Any]:
        """Return the JSON document, exactly as it was read."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class Coding(Element):
    """A code of a code system."""

    system: str | None = None
    code: str | None = None


class CodeableConcept(Element):
    """Codes, or a text where there is none."""

    coding: list[Coding] = []
    text: str | None = None
    extension: list["Extension"] = []


class Identifier(Element):
    """A business identifier."""

    type: CodeableConcept | None = None
    system: str | None = None
    value: str | None = None


class Reference(Element):
    """A reference by ``Type/id``, ``#contained`` or business identifier."""

    reference: str | None = None
    identifier: Identifier | None = None


class Extension(Element):
    """An extension; only reference values occur in this contract."""

    url: str | None = None
    value_reference: Reference | None = None


class Meta(Element):
    """Profiles, security labels (the types of slot) and source."""

    profile: list[str] = []
    security: list[Coding] = []
    source: str | None = None


class HumanName(Element):
    """Name of a professional."""

    family: str | None = None
    given: list[str] = []


class ContactPoint(Element):
    """Phone or e-mail."""

    system: str | None = None
    value: str | None = None


class Address(Element):
    """Address of a place of practice."""

    line: list[str] = []
    city: str | None = None
    postal_code: str | None = None


class Resource(Element):
    """Base of the resources."""

    resource_type: str
    id: str | None = None
    meta: Meta = Meta()

    @property
    def key(self) -> str:
        """``Type/id``, by which others refer to it."""
        return f"{self.resource_type}/{self.id}"


class Slot(Resource):
    """A free time; instants stay text (see ``instants``)."""

    service_type: list[CodeableConcept] = []
    specialty: list[CodeableConcept] = []
    appointment_type: CodeableConcept | None = None
    schedule: Reference = Reference()
    status: str | None = None
    start: str | None = None
    end: str | None = None
    comment: str | None = None


class Schedule(Resource):
    """An agenda: of a practitioner at a place, or of an SOS site."""

    actor: list[Reference] = []


class Practitioner(Resource):
    """A professional, or a regulator's account."""

    identifier: list[Identifier] = []
    active: bool | None = None
    name: list[HumanName] = []
    telecom: list[ContactPoint] = []


class Location(Resource):
    """A place: contained in a role, or an SOS site."""

    identifier: list[Identifier] = []
    name: str | None = None
    telecom: list[ContactPoint] = []
    address: Address | None = None
    managing_organization: Reference = Reference()


class PractitionerRole(Resource):
    """A practitioner at one place of practice."""

    contained: list[dict[str, Any]] = []
    practitioner: Reference = Reference()
    organization: Reference = Reference()
    location: list[Reference] = []
    telecom: list[ContactPoint] = []
    specialty: list[CodeableConcept] = []


class Organization(Resource):
    """A CPTS or an SOS Médecins association."""

    identifier: list[Identifier] = []
    name: str | None = None
    telecom: list[ContactPoint] = []


class HealthcareService(Resource):
    """What links a slot to a CPTS."""

    provided_by: Reference = Reference()


class Participant(Element):
    """Who receives the patient; never the patient."""

    type: list[CodeableConcept] = []
    actor: Reference = Reference()
    status: str | None = None


class Appointment(Resource):
    """A booking as INT_R03 tells it."""

    extension: list[Extension] = []
    identifier: list[Identifier] = []
    status: str | None = None
    start: str | None = None
    end: str | None = None
    created: str | None = None
    participant: list[Participant] = []


class Link(Element):
    """A link of a bundle."""

    relation: str | None = None
    url: str | None = None


class Search(Element):
    """Why an entry is in the bundle."""

    mode: str | None = None


class Entry(Element):
    """An entry; its resource is read on its own, so that a broken one costs none of its siblings."""

    full_url: str | None = None
    resource: dict[str, Any] | None = None
    search: Search | None = None


class Bundle(Resource):
    """A searchset."""

    type: str | None = None
    total: int | None = None
    link: list[Link] = []
    entry: list[Entry] = Field(default_factory=list)


MODELS: Final[Mapping[str, type[Resource]]] = {
    model.__name__: model
    for model in (
        Appointment,
        Bundle,
        HealthcareService,
        Location,
        Organization,
        Practitioner,
        PractitionerRole,
        Schedule,
        Slot,
    )
}


DEPTH: Final = 32  # no resource of the contract has ten levels


def deeper(node: Any, levels: int = DEPTH) -> bool:
    """Tell whether a document nests deeper than so many levels: what walks through it would not come back."""
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return levels < 0 or any(deeper(part, levels - 1) for part in parts)


class UnreadableError(ValueError):
    """A document is no resource of this contract; ``faults`` are (path, what is wrong), in French."""

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        super().__init__(" ; ".join(f"{path} : {text}" for path, text in faults[:5]))
        self.faults = faults


_SHAPES: Final = {
    "list_type": "doit être une liste",
    "dict_type": "doit être un objet",
    "model_type": "doit être un objet",
    "string_type": "doit être un texte",
    "bool_type": "doit être true ou false",
    "int_type": "doit être un nombre entier",
    "missing": "absent",
}


def read(document: Any) -> Resource:
    """Read any resource of the contract.

    Raises:
        UnreadableError: it is none, or elements have the wrong shape.
    """
    kind = document.get("resourceType") if isinstance(document, dict) else None
    model = MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise UnreadableError([("resourceType", f"{kind!r} n'est pas une ressource de ce contrat")])
    return read_as(model, document)


def read_as(model: type[R], document: Any) -> R:
    """Read a resource of a known type.

    Raises:
        UnreadableError: elements have the wrong shape, or it is another resource.
    """
    try:
        resource = model.model_validate(document)
    except ValidationError as invalid:
        faults = [
            (".".join(str(part) for part in error["loc"]) or "document", _SHAPES.get(error["type"], "forme incorrecte"))
            for error in invalid.errors(include_url=False, include_input=False)
        ]
        raise UnreadableError(faults) from invalid
    if resource.resource_type != model.__name__:
        raise UnreadableError([("resourceType", f"{resource.resource_type!r}, attendu {model.__name__}")])
    return resource


def codes(concepts: list[CodeableConcept], *systems: str) -> list[str]:
    """Return the codes that concepts have in some code systems, in order."""
    return [
        coding.code
        for concept in concepts
        for coding in concept.coding
        if coding.code and (coding.system or "") in systems
    ]
