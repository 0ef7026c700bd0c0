"""What we say of ourselves at ``/metadata``: the roles of the contract that we play as a server."""

from datetime import datetime
from typing import Any, Final

from adapters.fhir import names

_INCLUDES: Final = (
    "Slot:schedule",
    "Schedule:actor",
    "Slot:service-type-reference",
    "HealthcareService:organization",
    "Schedule:actor:Location",
    "Location:organization",
)


def _param(name: str, kind: str, text: str) -> dict[str, str]:
    return {"name": name, "type": kind, "documentation": text}


def capability_statement(base: str, version: str, at: datetime) -> dict[str, Any]:
    """Return the CapabilityStatement of this service."""
    search = [{"code": "read"}, {"code": "search-type"}]
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": at.isoformat(timespec="seconds"),
        "kind": "instance",
        "software": {"name": "sas_matcher", "version": version},
        "implementation": {"description": "sas_matcher : places de soins non programmés", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "implementationGuide": ["https://interop.esante.gouv.fr/ig/fhir/sas"],
        "rest": [
            {
                "mode": "server",
                "security": {"cors": False, "description": "TLS mutuel (CN, OU, révocation) ou clé d'accès (Bearer)"},
                "resource": [
                    {
                        "type": "Slot",
                        "supportedProfile": [names.SLOT_PS, names.SLOT_CPTS, names.SLOT_SOS],
                        "interaction": search,
                        "searchInclude": list(_INCLUDES[:4]),
                        "searchParam": [
                            _param("start", "date", "ge et le, une fois chacun"),
                            _param("status", "token", "free"),
                            _param("schedule.actor:Practitioner.identifier", "token", "1 à 25 identifiants nationaux"),
                        ],
                    },
                    {
                        "type": "Schedule",
                        "supportedProfile": [names.SCHEDULE_PS, names.SCHEDULE_SOS],
                        "interaction": search,
                        "searchInclude": list(_INCLUDES[4:]),
                        "searchRevInclude": ["Slot:schedule"],
                        "searchParam": [
                            _param("_has:Slot:schedule:start", "date", "ge et le, une fois chacun"),
                            _param("_has:Slot:schedule:status", "token", "free"),
                            _param("actor:Location.organization.identifier", "token", "SIRET préfixés (SOS Médecins)"),
                        ],
                    },
                    {
                        "type": "PractitionerRole",
                        "supportedProfile": [names.ROLE],
                        "interaction": [{"code": "read"}],
                    },
                    {
                        "type": "Practitioner",
                        "supportedProfile": [names.PRACTITIONER, names.REGULATOR],
                        "interaction": [*search, {"code": "create"}, {"code": "update"}],
                        "updateCreate": True,
                        "conditionalUpdate": True,
                        "searchParam": [_param("identifier", "token", "national ou technique")],
                    },
                    {
                        "type": "Appointment",
                        "supportedProfile": [names.APPOINTMENT_PS, names.APPOINTMENT_SOS],
                        "interaction": [{"code": "create"}, {"code": "update"}],
                        "updateCreate": True,
                        "conditionalUpdate": True,
                        "searchParam": [_param("identifier", "token", "du rendez-vous, chez son éditeur")],
                    },
                ],
            }
        ],
    }
