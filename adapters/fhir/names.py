"""Canonical URLs, systems and codes of the SAS contract (package ``ans.fhir.fr.sas`` 1.1.0).

Two URL families live side by side and must not be "harmonised"; a change of family is announced for a later release,
so nothing outside this module spells one.
"""

from typing import Final

_SAS: Final = "http://sas.fr/fhir/StructureDefinition/"
_ANS: Final = "https://interop.esante.gouv.fr/ig/fhir/sas/StructureDefinition/"

BUNDLE_PS: Final = f"{_SAS}BundleAgregateur"
SLOT_PS: Final = f"{_SAS}FrSlotAgregateur"
SCHEDULE_PS: Final = f"{_SAS}FrScheduleAgregateur"
PRACTITIONER: Final = f"{_SAS}FrPractitionerAgregateur"
ROLE: Final = f"{_SAS}FrPractitionerRoleExerciceAgregateur"
LOCATION_PS: Final = f"{_SAS}FrLocationAgregateur"
APPOINTMENT_PS: Final = f"{_SAS}FrAppointmentSAS"

BUNDLE_CPTS: Final = f"{_ANS}sas-cpts-bundle-aggregator"
SLOT_CPTS: Final = f"{_ANS}sas-cpts-slot-aggregator"
SERVICE_CPTS: Final = f"{_ANS}sas-cpts-healthcareservice-aggregator"
ORGANIZATION_CPTS: Final = f"{_ANS}sas-cpts-organization-aggregator"

BUNDLE_SOS: Final = f"{_ANS}sas-sos-bundle-aggregator"
SLOT_SOS: Final = f"{_ANS}sas-sos-slot-aggregator"
SCHEDULE_SOS: Final = f"{_ANS}sas-sos-schedule-aggregator"
LOCATION_SOS: Final = f"{_ANS}sas-sos-location-aggregator"
ORGANIZATION_SOS: Final = f"{_ANS}sas-sos-organization-aggregator"
APPOINTMENT_SOS: Final = f"{_ANS}sas-sos-appointment"

REGULATOR: Final = f"{_ANS}FrPractitionerRegul"

SERVICE_REFERENCE: Final = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Slot.serviceType"
OPERATOR: Final = "http://interopsante.org/fhir/StructureDefinition/FrAppointmentOperator"

# -- identifier systems ------------------------------------------------------------------------------------------------
NATIONAL_PERSON: Final = "urn:oid:1.2.250.1.71.4.2.1"  # idNat_PS
NATIONAL_STRUCTURE: Final = "urn:oid:1.2.250.1.71.4.2.2"  # idNat_Struct
PLATFORM: Final = "urn:oid:1.2.250.1.213.3.6"  # technical ids of regulators, meta.source of the platform

IDENTIFIER_TYPE: Final = "http://interopsante.org/fhir/CodeSystem/fr-v2-0203"
PLACE_IDENTIFIER_TYPE: Final = "http://interopsante.org/fhir/CodeSystem/fr-location-identifier-type"
# what the 1.2.0 guide aliases both to: read, never written
IDENTIFIER_TYPE_120: Final = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203"

# -- code systems ------------------------------------------------------------------------------------------------------
ACT: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
BOOKING: Final = "http://terminology.hl7.org/CodeSystem/v2-0276"
PARTICIPATION: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
VISIBILITY: Final = "https://mos.esante.gouv.fr/NOS/TRE_R314-TypeCreneau/FHIR/TRE-R314-TypeCreneau"
SPECIALTY: Final = "https://mos.esante.gouv.fr/NOS/TRE_R38-SpecialiteOrdinale/FHIR/TRE-R38-SpecialiteOrdinale"
CATEGORY: Final = "https://mos.esante.gouv.fr/NOS/TRE_R66-CategorieEtablissement/FHIR/TRE-R66-CategorieEtablissement"
CPTS_CATEGORY: Final = "604"

PARIS: Final = "Europe/Paris"
MOST_PRACTITIONERS: Final = 25  # identifiers of one search (IG, INT_R01)
MOST_SOS_ASKED: Final = 10  # SIRET of one search that we send; 25 are accepted (the guide says both)
JSON: Final = "application/fhir+json"
ACCEPT: Final = "application/json+fhir, application/fhir+json;q=0.9"  # the platform's own word order first
