"""What each profile of the SAS demands, as compact rules (our own reading of package ``ans.fhir.fr.sas`` 1.1.0).

A rule speaks of one path below the resource. ``origin`` tells where it stands: ``profile`` for the official
StructureDefinition (a test compares them with the published snapshots), ``guide`` for the narrative and the test kit of
the ANS (contract, sections 5 to 10), which ask for more than the profiles do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from adapters.fhir import names
from adapters.fhir.identifiers import PERSON_VALUE, PHONE, STRUCTURE_VALUE, coded
from adapters.fhir.instants import WRITTEN

Origin = Literal["profile", "guide"]
ANY: Final = 1 << 30  # "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """How often an element may occur in its parent, and what its value must be.

    Attributes:
        path: dotted, below the resource; below the item when the rule stands in a slice.
        least, most: how many of it each parent has; a parent that is absent is not judged.
        pattern: what the value contains at least (FHIR ``pattern[x]`` and ``fixed[x]``).
        codes: (system, code) that the codings, or the concepts' codings, may have (required binding); system empty for
            a plain code.
        form: regular expression of the whole text.
        origin: where it is written.
    """

    path: str
    least: int = 0
    most: int = ANY
    pattern: Any = None
    codes: frozenset[tuple[str, str]] | None = None
    form: str | None = None
    origin: Origin = "profile"


@dataclass(frozen=True, slots=True)
class Slice:
    """Rules for those items of a list that contain ``when``; ``least`` and ``most`` count these."""

    path: str
    name: str
    when: Mapping[str, Any]
    rules: Sequence[Rule] = ()
    least: int = 0
    most: int = ANY
    origin: Origin = "profile"


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile: which resource it is of, its rules, and which profiles a bundle's entries may have."""

    type: str
    rules: Sequence[Rule]
    slices: Sequence[Slice] = ()
    entries: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Of a bundle: resource type → (its only profile, how many at least)."""


def _codes(system: str, *values: str) -> frozenset[tuple[str, str]]:
    return frozenset((system, value) for value in values)


_VISIBILITIES: Final = _codes(names.VISIBILITY, "PUBLIC", "PRO", "SNP")
_ACTS: Final = _codes(names.ACT, "AMB", "HH", "VR")
_ACT: Final = {"coding": [{"system": names.ACT}]}
_CATEGORIES: Final = _codes(names.CATEGORY, names.CPTS_CATEGORY)
_BOOKINGS: Final = _codes(names.BOOKING, "ROUTINE", "WALKIN")
_BOUNDS: Final = (
    Rule("start", 1, 1, form=WRITTEN, origin="guide"),
    Rule("end", 1, 1, form=WRITTEN, origin="guide"),
)
_SLOT: Final = (
    Rule("id", 1, 1, form=r"[A-Za-z0-9.-]{1,64}", origin="guide"),
    Rule("meta.security", 1, origin="guide"),
    Rule("serviceCategory", 0, 1),
    Rule("serviceType", 1, origin="guide"),
    # the profile binds it to a value set of the French core that the package does not hold
    Rule("specialty.coding.system", 1, 1, pattern=names.SPECIALTY, origin="guide"),
    Rule("specialty.coding.code", 1, 1, form=r"[A-Z]{1,3}\d{2}", origin="guide"),
    Rule("appointmentType", 1, 1, origin="guide"),
    Rule("appointmentType.coding", 1, 1, origin="guide"),
    Rule("schedule", 1, 1),
    Rule("schedule.reference", 1, 1, form=r"Schedule/[A-Za-z0-9.-]{1,64}", origin="guide"),
    Rule("status", 1, 1, pattern="free"),
    Rule("comment", 1, 1, form=r"https?://\S+", origin="guide"),
    *_BOUNDS,
)
_PERSON_IDENTIFIER: Final = (
    Rule("identifier", 1),
    Rule("identifier.type", 1, 1, pattern=coded("IDNPS", names.IDENTIFIER_TYPE)),
    Rule("identifier.system", 1, 1, pattern=names.NATIONAL_PERSON),
    Rule("identifier.value", 1, 1, form=PERSON_VALUE, origin="guide"),
)
_PLACE_TYPE: Final = coded("IDNST", names.PLACE_IDENTIFIER_TYPE)


def _organization(value: str) -> tuple[Rule, ...]:
    return (
        Rule("identifier", 1, 1),
        Rule("identifier.type", 1, 1, pattern=_PLACE_TYPE),
        Rule("identifier.system", 1, 1, pattern=names.NATIONAL_STRUCTURE),
        Rule("identifier.value", 1, 1, form=value, origin="guide"),
        Rule("name", 1, 1, origin="guide"),
        *_TELECOM,
    )


_TELECOM: Final = (
    Rule("telecom.system", 1, 1, origin="guide"),
    Rule("telecom.value", 1, 1, origin="guide"),
)
_PHONE: Final = Slice(
    "telecom", "phone", {"system": "phone"}, (Rule("value", 1, 1, form=PHONE, origin="guide"),), origin="guide"
)


def _place(type_pattern: Any = None) -> tuple[Rule, ...]:
    return (
        Rule("identifier", 1),
        Rule("identifier.type", 1, 1, pattern=type_pattern),
        Rule("identifier.system", 1, 1),
        Rule("identifier.value", 1, 1),
        Rule("type", 0, 1),
        Rule("address", 1, 1),
        Rule("address.line", 1, 1),
        Rule("address.city", 1, 1),
        Rule("address.postalCode", 1, 1, form=r"\d[0-9AB]\d{3}", origin="guide"),
    )


_OPERATOR_IDENTIFIER: Final = "valueReference.identifier"
_OPERATOR_TYPES: Final = _codes(names.IDENTIFIER_TYPE, "IDNPS", "INTRN")
_APPOINTMENT: Final = (
    Rule("identifier", 1, 1),
    Rule("identifier.system", 1, 1),
    Rule("identifier.value", 1, 1),
    Rule("start", 1, 1, form=r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", origin="guide"),
    Rule("end", 1, 1, form=r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", origin="guide"),
    Rule("participant", 1),
)
_ACTOR: Final = (
    Rule("participant.actor.identifier.type", 1, 1),
    Rule("participant.actor.identifier.system", 1, 1, pattern=names.NATIONAL_PERSON),
    Rule("participant.actor.identifier.value", 1, 1, form=PERSON_VALUE, origin="guide"),
)
_BUNDLE: Final = (
    Rule("type", 1, 1, pattern="searchset"),
    Rule("id", 1, 1, origin="guide"),
    Rule("entry.search", 1, 1, origin="guide"),
    Rule("entry.search.mode", 1, 1, codes=_codes("", "match", "include"), origin="guide"),
)

PROFILES: Final[Mapping[str, Profile]] = {
    names.SLOT_PS: Profile(
        "Slot",
        (
            *_SLOT,
            # bound in the CPTS and SOS profiles only; the guide says the same of all
            Rule("meta.security", codes=_VISIBILITIES | _codes(names.VISIBILITY, "CPTS"), origin="guide"),
            Rule("serviceType.coding", codes=_ACTS, origin="guide"),
            Rule("appointmentType.coding", codes=_BOOKINGS, origin="guide"),
        ),
        (Slice("serviceType", "TypeConsultation", _ACT),),
    ),
    names.SLOT_CPTS: Profile(
        "Slot",
        (
            *_SLOT,
            Rule("meta.security", codes=_VISIBILITIES | _codes(names.VISIBILITY, "CPTS")),
            Rule("serviceType.coding", codes=_ACTS | _CATEGORIES, origin="guide"),
            Rule("appointmentType.coding", codes=_BOOKINGS),
        ),
        (
            Slice("serviceType", "TypeConsultation", _ACT, (Rule("extension", 0, 0),)),
            Slice(
                "serviceType",
                "referencecpts",
                {"coding": [{"system": names.CATEGORY}]},
                (
                    Rule("coding", codes=_CATEGORIES),
                    Rule("extension", 1, 1),
                    Rule("extension.url", 1, 1, pattern=names.SERVICE_REFERENCE),
                    Rule("extension.valueReference.reference", 1, 1, form=r"HealthcareService/.+", origin="guide"),
                ),
            ),
        ),
    ),
    names.SLOT_SOS: Profile(
        "Slot",
        (
            *_SLOT,
            Rule("meta.security", codes=_codes(names.VISIBILITY, "PUBLIC", "SNP")),
            Rule("serviceType.coding", codes=_ACTS),
            Rule("appointmentType.coding", codes=_BOOKINGS),
        ),
    ),
    names.SCHEDULE_PS: Profile(
        "Schedule",
        (
            Rule("serviceCategory", 0, 1),
            Rule("serviceType", 0, 0),
            Rule("actor", 2, 2, origin="guide"),
            Rule("actor.reference", 1, 1, form=r"Practitioner(Role)?/.+", origin="guide"),
        ),
    ),
    names.SCHEDULE_SOS: Profile(
        "Schedule",
        (
            Rule("serviceCategory", 0, 1),
            Rule("serviceType", 0, 0),
            Rule("actor", 1, 1, origin="guide"),
            Rule("actor.reference", 1, 1, form=r"Location/.+", origin="guide"),
        ),
    ),
    names.PRACTITIONER: Profile(
        "Practitioner",
        (
            *_PERSON_IDENTIFIER,
            Rule("identifier.type.coding", 0, 1),
            Rule("identifier.type.coding", 1, 1, origin="guide"),
            Rule("name", 1, origin="guide"),
            Rule("name.family", 1, 1, origin="guide"),
            Rule("telecom.system", 1, 1),
            Rule("telecom.value", 1, 1),
            Rule("name.prefix", 0, 1),
        ),
    ),
    names.ROLE: Profile(
        "PractitionerRole",
        (
            Rule("contained", 1),
            Rule("contained", 1, 1, origin="guide"),
            Rule("practitioner", 1, 1, origin="guide"),
            Rule("practitioner.reference", 1, 1, form=r"Practitioner/.+", origin="guide"),
            Rule("location", 1, 1),
            Rule("location.reference", 1, 1, form=r"#.+", origin="guide"),
            Rule("organization.identifier.type", 0, 1, pattern=coded("IDNST", names.IDENTIFIER_TYPE)),
            Rule("organization.identifier.system", 0, 1, pattern=names.NATIONAL_STRUCTURE),
            Rule("organization.identifier.value", 1, 1, form=STRUCTURE_VALUE, origin="guide"),
            *_TELECOM,
        ),
        (_PHONE,),
    ),
    names.LOCATION_PS: Profile("Location", _place()),
    names.LOCATION_SOS: Profile(
        "Location",
        (
            *_place(coded("INTRN", names.PLACE_IDENTIFIER_TYPE)),
            Rule("name", 1, 1),
            Rule("managingOrganization", 1, 1),
            Rule("managingOrganization.reference", 1, 1, form=r"Organization/.+", origin="guide"),
            Rule("hoursOfOperation.daysOfWeek", codes=_codes("", "mon", "tue", "wed", "thu", "fri", "sat", "sun")),
            Rule("hoursOfOperation.openingTime", form=r"\d\d:\d\d:\d\d", origin="guide"),
            Rule("hoursOfOperation.closingTime", form=r"\d\d:\d\d:\d\d", origin="guide"),
            *_TELECOM,
        ),
        (_PHONE,),
    ),
    names.SERVICE_CPTS: Profile(
        "HealthcareService",
        (
            Rule("id", 1, 1),
            Rule("category", 0, 1),
            Rule("providedBy", 1, 1),
            Rule("providedBy.reference", 1, 1, form=r"Organization/.+", origin="guide"),
        ),
    ),
    names.ORGANIZATION_CPTS: Profile("Organization", _organization(r"1\d{9}"), (_PHONE,)),
    names.ORGANIZATION_SOS: Profile("Organization", _organization(r"3\d{14}"), (_PHONE,)),
    names.REGULATOR: Profile(
        "Practitioner",
        (
            Rule("meta.source", 0, 1, pattern=names.PLATFORM),
            Rule("identifier", 1),
            Rule("identifier.type", 1, 1),
            Rule("identifier.system", 1, 1),
            Rule("identifier.value", 1, 1),
            # the profile's slicing is open: another system passes it, and no account
            Rule(
                "identifier.system",
                form=f"{names.NATIONAL_PERSON}|{names.PLATFORM}".replace(".", r"\."),
                origin="guide",
            ),
            Rule("active", 1, 1),
            Rule("name", 1, origin="guide"),
            Rule("name.family", 1, 1),
            Rule("name.given", 1, 1),
            Rule("name.prefix", 0, 1),
            Rule("telecom", 1, origin="guide"),
            Rule("telecom.system", 1, 1, pattern="email"),
            Rule("telecom.value", 1, 1),
        ),
        (
            Slice(
                "identifier",
                "IdentifiantNatPS",
                {"system": names.NATIONAL_PERSON},
                (Rule("type", 1, 1, pattern=coded("IDNPS", names.IDENTIFIER_TYPE)),),
                most=1,
            ),
            Slice(
                "identifier",
                "IdentifiantInterne",
                {"system": names.PLATFORM},
                (Rule("type", 1, 1, pattern=coded("INTRN", names.IDENTIFIER_TYPE)),),
                most=1,
            ),
        ),
    ),
    names.APPOINTMENT_PS: Profile(
        "Appointment",
        (
            *_APPOINTMENT,
            Rule("status", 1, 1, codes=_codes("", "booked", "fulfilled", "noshow", "cancelled"), origin="guide"),
            Rule("extension", 1),
            Rule("extension", 1, 1, origin="guide"),
            Rule("participant.status", 1, 1, pattern="accepted"),
            Rule("participant.actor", 1, 1, origin="guide"),
            *_ACTOR,
            Rule(
                "participant.actor.identifier.type.coding",
                1,
                1,
                pattern={"system": names.IDENTIFIER_TYPE, "code": "IDNPS"},
            ),
        ),
        (
            Slice(
                "extension",
                "appointmentOperator",
                {"url": names.OPERATOR},
                (
                    Rule("valueReference", 1, 1),
                    Rule(_OPERATOR_IDENTIFIER, 1, 1),
                    Rule(f"{_OPERATOR_IDENTIFIER}.type", 1, 1),
                    Rule(f"{_OPERATOR_IDENTIFIER}.type.coding", 1, 1),
                    Rule(f"{_OPERATOR_IDENTIFIER}.type.coding.system", 0, 1, pattern=names.IDENTIFIER_TYPE),
                    Rule(f"{_OPERATOR_IDENTIFIER}.type.coding.code", 1, 1),
                    Rule(f"{_OPERATOR_IDENTIFIER}.type.coding", codes=_OPERATOR_TYPES, origin="guide"),
                    Rule(f"{_OPERATOR_IDENTIFIER}.system", 1, 1),
                    Rule(f"{_OPERATOR_IDENTIFIER}.value", 1, 1),
                ),
                1,
                1,
            ),
        ),
    ),
    names.APPOINTMENT_SOS: Profile(
        "Appointment",
        (
            *_APPOINTMENT,
            Rule(
                "status",
                1,
                1,
                codes=_codes("", "pending", "booked", "fulfilled", "noshow", "cancelled"),
                origin="guide",
            ),
            Rule("extension", 1, 1),
            Rule("participant.status", 1, 1, codes=_codes("", "accepted", "needs-action")),
        ),
        (
            Slice(
                "extension",
                "appointmentOperator",
                {"url": names.OPERATOR},
                (
                    Rule(f"{_OPERATOR_IDENTIFIER}.type", 1, 1),
                    Rule(f"{_OPERATOR_IDENTIFIER}.type.coding", 1, 1, codes=_OPERATOR_TYPES),
                    Rule(f"{_OPERATOR_IDENTIFIER}.type.coding.code", 1, 1),
                    Rule(f"{_OPERATOR_IDENTIFIER}.system", 1, 1),
                    Rule(f"{_OPERATOR_IDENTIFIER}.value", 1, 1),
                ),
                1,
                1,
            ),
        ),
    ),
    names.BUNDLE_PS: Profile(
        "Bundle",
        (*_BUNDLE, Rule("total", 1, 1, origin="guide"), Rule("link", 1, 1, origin="guide")),
        entries={
            "Slot": (names.SLOT_PS, 0),
            "Schedule": (names.SCHEDULE_PS, 0),
            "Practitioner": (names.PRACTITIONER, 0),
            "PractitionerRole": (names.ROLE, 0),
        },
    ),
    names.BUNDLE_CPTS: Profile(
        "Bundle",
        (*_BUNDLE, Rule("total", 1, 1), Rule("link", 1, 1), Rule("entry", 4)),
        entries={
            "Slot": (names.SLOT_CPTS, 1),
            "Schedule": (names.SCHEDULE_PS, 1),
            "Practitioner": (names.PRACTITIONER, 1),
            "PractitionerRole": (names.ROLE, 1),
            "HealthcareService": (names.SERVICE_CPTS, 0),
            "Organization": (names.ORGANIZATION_CPTS, 0),
        },
    ),
    names.BUNDLE_SOS: Profile(
        "Bundle",
        (*_BUNDLE, Rule("total", 1, 1), Rule("link", 1, 1), Rule("entry", 4)),
        entries={
            "Slot": (names.SLOT_SOS, 1),
            "Schedule": (names.SCHEDULE_SOS, 1),
            "Location": (names.LOCATION_SOS, 1),
            "Organization": (names.ORGANIZATION_SOS, 1),
        },
    ),
}
"""Every profile of the contract by its canonical URL."""
