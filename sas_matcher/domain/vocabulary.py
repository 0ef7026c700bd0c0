"""The closed vocabularies of the field, with their origin.

Sources: Hub Santé nomenclature ``HubSante.delai`` (delays) and ``HubSante.priorite``/``niveauSoin`` (priorities); value
set JDV_J239-SpecialitesSNP-SAS version 20240126120000 (professions and specialties that the SAS offers); TRE_R314
(visibility); v3-ActCode AMB/VR/HH (modes); v2-0276 (booking kinds).
"""

from datetime import timedelta
from enum import StrEnum
from typing import Final


class Mode(StrEnum):
    """Where the care takes place (FHIR v3-ActCode AMB, VR, HH)."""

    CABINET = "cabinet"
    TELE = "tele"
    VISITE = "visite"


class SourceKind(StrEnum):
    """What kind of practice an offer comes from."""

    LIBERAL = "liberal"
    CDS = "cds"
    MSP = "msp"
    CPTS = "cpts"
    SOS = "sos"


SOURCE_LABELS: Final[dict[str, str]] = {
    SourceKind.LIBERAL: "Libéral",
    SourceKind.CDS: "Centre de santé",
    SourceKind.MSP: "Maison de santé",
    SourceKind.CPTS: "CPTS",
    SourceKind.SOS: "SOS Médecins",
}


class BookingKind(StrEnum):
    """With or without rendez-vous (v2-0276)."""

    ROUTINE = "routine"
    WALKIN = "walkin"


class Visibility(StrEnum):
    """Who may see a slot (TRE_R314). Regulators of the SAS see all four."""

    PUBLIC = "public"
    PRO = "pro"
    SNP = "snp"
    CPTS = "cpts"


class AgeBand(StrEnum):
    """Coarse age, enough to choose a practice and too coarse to identify."""

    NOURRISSON = "nourrisson"
    ENFANT = "enfant"
    ADULTE = "adulte"
    SENIOR = "senior"


class Tier(StrEnum):
    """Clinical urgency of a request; the shorter the delay, the higher."""

    T0 = "T0"
    T1 = "T1"
    T2 = "T2"
    T3 = "T3"


class Delay(StrEnum):
    """Latest acceptable start after regulation: the Hub Santé codes, plus ``48H`` (the Hub's list ends at 24H)."""

    DEL0 = "DEL0"
    ASAP = "ASAP"
    M30 = "30M"
    M45 = "45M"
    H1 = "1H"
    H2 = "2H"
    H4 = "4H"
    H8 = "8H"
    H12 = "12H"
    H24 = "24H"
    H48 = "48H"


# The Hub lets "immediately" and "as soon as available" arrive within one hour at the latest.
DELAY_SPAN: Final[dict[Delay, timedelta]] = {
    Delay.DEL0: timedelta(minutes=60),
    Delay.ASAP: timedelta(minutes=60),
    Delay.M30: timedelta(minutes=30),
    Delay.M45: timedelta(minutes=45),
    Delay.H1: timedelta(hours=1),
    Delay.H2: timedelta(hours=2),
    Delay.H4: timedelta(hours=4),
    Delay.H8: timedelta(hours=8),
    Delay.H12: timedelta(hours=12),
    Delay.H24: timedelta(hours=24),
    Delay.H48: timedelta(hours=48),
}


def tier_of(delay: Delay) -> Tier:
    """Return the tier of a delay (glossary of the field: T0 ≤ 1 h, T1 ≤ 4 h, T2 ≤ 24 h, T3 ≤ 48 h)."""
    span = DELAY_SPAN[delay]
    if span <= timedelta(hours=1):
        return Tier.T0
    if span <= timedelta(hours=4):
        return Tier.T1
    return Tier.T2 if span <= timedelta(hours=24) else Tier.T3


class Priority(StrEnum):
    """Regulation priority of the Hub Santé that may be matched: not urgent, deferred, not regulated, R3, R4."""

    P2 = "P2"
    P3 = "P3"
    NR = "NR"
    R3 = "R3"
    R4 = "R4"


# Law 6: vital needs never wait here (P0/R1 vital, P1/R2 true emergency).
VITAL_PRIORITIES: Final = frozenset({"P0", "P1", "R1", "R2"})


class Profession(StrEnum):
    """Professions of the SAS, short codes of the day log where it has one."""

    MG = "MG"
    PED = "PED"
    DENT = "DENT"
    SF = "SF"
    IDE = "IDE"
    KINE = "KINE"
    PSY = "PSY"
    PODO = "PODO"
    ORTHOPED = "ORTHOPED"
    ORTHOPHO = "ORTHOPHO"
    ORTHOPT = "ORTHOPT"
    SPE = "SPE"


PROFESSION_LABELS: Final[dict[Profession, str]] = {
    Profession.MG: "Médecine générale",
    Profession.PED: "Pédiatrie",
    Profession.DENT: "Chirurgien-dentiste",
    Profession.SF: "Sage-femme",
    Profession.IDE: "Infirmier",
    Profession.KINE: "Masseur-kinésithérapeute",
    Profession.PSY: "Psychologue ou psychiatre",
    Profession.PODO: "Pédicure-podologue",
    Profession.ORTHOPED: "Orthopédiste-orthésiste",
    Profession.ORTHOPHO: "Orthophoniste",
    Profession.ORTHOPT: "Orthoptiste",
    Profession.SPE: "Autre spécialité médicale",
}

# Who may serve a need that was addressed to another profession: (profession, only for children). A doctor is entitled
# to any act of diagnosis, prevention and treatment (CSP art. R4127-70); a child under 16 has a generalist or a
# paediatrician as médecin traitant (CSS art. L162-5-3). Nobody stands in for a dentist, whose acts are his own (CSP
# art. L4141-1), nor for "another specialty". The regulator decides: these articles also ask for knowledge and means of
# the case in hand. Quoted from general knowledge, to be confirmed by a lawyer and a doctor.
MAY_SERVE: Final[dict[str, tuple[tuple[str, bool], ...]]] = {
    Profession.MG: ((Profession.PED, True),),
    Profession.PED: ((Profession.MG, False),),
    Profession.SF: ((Profession.MG, False),),
    Profession.IDE: ((Profession.MG, False),),
    Profession.KINE: ((Profession.MG, False),),
    Profession.PSY: ((Profession.MG, False),),
}

# TRE_R38 code → (label, profession that holds its slots). SM26, SM53 and SM54 are one class when matching.
SPECIALTIES: Final[dict[str, tuple[str, Profession]]] = {
    "SM03": ("Biologie médicale", Profession.SPE),
    "SM04": ("Cardiologie et maladies vasculaires", Profession.SPE),
    "SM15": ("Dermatologie et vénéréologie", Profession.SPE),
    "SM16": ("Endocrinologie et métabolisme", Profession.SPE),
    "SM19": ("Gynécologie médicale", Profession.SPE),
    "SM20": ("Gynécologie-obstétrique", Profession.SPE),
    "SM21": ("Hématologie", Profession.SPE),
    "SM26": ("Qualifié en médecine générale", Profession.MG),
    "SM32": ("Neurologie", Profession.SPE),
    "SM36": ("Oncologie, option médicale", Profession.SPE),
    "SM38": ("Ophtalmologie", Profession.SPE),
    "SM39": ("ORL", Profession.SPE),
    "SM40": ("Pédiatrie", Profession.PED),
    "SM42": ("Psychiatrie", Profession.PSY),
    "SM43": ("Psychiatrie, option enfant et adolescent", Profession.PSY),
    "SM44": ("Radio-diagnostic", Profession.SPE),
    "SM53": ("Spécialiste en médecine générale", Profession.MG),
    "SM54": ("Médecine générale", Profession.MG),
    "SM57": ("Allergologie", Profession.SPE),
}
GENERAL_PRACTICE: Final = frozenset({"SM26", "SM53", "SM54"})


def matching_specialty(specialty: str | None) -> str | None:
    """Return the specialty as matching compares it: none for general practice, which is one class."""
    return None if specialty is None or specialty in GENERAL_PRACTICE else specialty


class Offer(StrEnum):
    """What a slot offers and a request may need. Languages are those the platform's own forms list first."""

    ENFANT = "enfant"
    NOURRISSON = "nourrisson"
    PMR = "pmr"
    SECTEUR1 = "secteur1"
    TIERS_PAYANT = "tiers_payant"
    ECG = "ecg"
    SUTURE = "suture"
    RADIO = "radio"
    ECHO = "echo"
    BIOLOGIE = "biologie"
    VACCINATION = "vaccination"
    PLATRE = "platre"
    LSF = "lsf"
    ANGLAIS = "anglais"
    ALLEMAND = "allemand"
    ARABE = "arabe"
    CREOLE = "creole"
    ESPAGNOL = "espagnol"
    ITALIEN = "italien"
    MANDARIN = "mandarin"
    PORTUGAIS = "portugais"
    RUSSE = "russe"
    SHIMAORE = "shimaore"
    TURC = "turc"
    UKRAINIEN = "ukrainien"


class RefusalReason(StrEnum):
    """Why a practice refuses a patient whom it was given (ours: no national list names such reasons)."""

    PRACTICE = "practice"
    OVERBOOKED = "overbooked"
    ABSENT = "absent"
    OUTSIDE_COMPETENCE = "outside_competence"
    TOO_FAR = "too_far"


REFUSAL_LABELS: Final[dict[RefusalReason, str]] = {
    RefusalReason.PRACTICE: "Sans précision",
    RefusalReason.OVERBOOKED: "Heure déjà prise",
    RefusalReason.ABSENT: "Professionnel absent",
    RefusalReason.OUTSIDE_COMPETENCE: "Hors compétence ou équipement",
    RefusalReason.TOO_FAR: "Visite trop éloignée",
}


class Acceptance(StrEnum):
    """What a practice's silence means until the deadline to accept a booking."""

    TACIT = "tacit"
    EXPLICIT = "explicit"


class Role(StrEnum):
    """Who holds an API key; the role decides the scope."""

    REGULATOR = "regulator"
    OSNP = "osnp"
    ARM = "arm"
    IOA = "ioa"
    PROFESSIONAL = "professional"
    DELEGATE = "delegate"
    MANAGER = "manager"
    CPTS = "cpts"
    ARS = "ars"
    PREFECTURE = "prefecture"
    GESTIONNAIRE = "gestionnaire"
    ADMIN = "admin"
    FHIR = "fhir"
    """The national platform, or an editor, over FHIR."""


class Scope(StrEnum):
    """What a key may do: ask for places, publish them, steer, administer, or speak FHIR."""

    REGULATOR = "regulator"
    PRACTICE = "practice"
    COORDINATOR = "coordinator"
    ADMIN = "admin"
    FHIR = "fhir"


SCOPE_LABELS: Final[dict[Scope, str]] = {
    Scope.REGULATOR: "de régulation",
    Scope.PRACTICE: "de cabinet",
    Scope.COORDINATOR: "de pilotage",
    Scope.ADMIN: "d'administration",
    Scope.FHIR: "de la plateforme (FHIR)",
}
"""As they follow "une clé"."""

SCOPE_OF_ROLE: Final[dict[Role, Scope]] = {
    Role.REGULATOR: Scope.REGULATOR,
    Role.OSNP: Scope.REGULATOR,
    Role.ARM: Scope.REGULATOR,
    Role.IOA: Scope.REGULATOR,
    Role.PROFESSIONAL: Scope.PRACTICE,
    Role.DELEGATE: Scope.PRACTICE,
    Role.MANAGER: Scope.PRACTICE,
    Role.CPTS: Scope.COORDINATOR,
    Role.ARS: Scope.COORDINATOR,
    Role.PREFECTURE: Scope.COORDINATOR,
    Role.GESTIONNAIRE: Scope.COORDINATOR,
    Role.ADMIN: Scope.ADMIN,
    Role.FHIR: Scope.FHIR,
}
