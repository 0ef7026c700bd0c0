"""What a field of an input may hold: instants, identifiers of the field, texts; each says in French what it expects."""

import re
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from sas_matcher.domain.vocabulary import SPECIALTIES

_OFFSET = re.compile(r"(?:[zZ]|[+-][0-9]{2}:?[0-9]{2})$")
_RPPS = re.compile(r"8?[0-9]{11}")
_FINESS = re.compile(r"1?[0-9][0-9AB][0-9]{7}")


def wrong(code: str, message: str) -> PydanticCustomError:
    """Build a validation error whose French message is shown as it is."""
    return PydanticCustomError(f"sas_{code}", "{text}", {"text": message})


def _with_offset(value: Any) -> Any:
    if not isinstance(value, str):
        raise wrong("instant", "doit être un texte ISO 8601 avec décalage, par exemple 2026-11-23T14:00:00+01:00")
    if not _OFFSET.search(value):
        # a bare local time happens twice or never when clocks change
        raise wrong("offset", "précisez le décalage horaire (par exemple +01:00) : une heure locale seule est ambiguë")
    return value


def _in_range(value: datetime) -> datetime:
    if not 2000 <= value.year < 2100:
        raise wrong("year", "l'année n'est pas entre 2000 et 2099")
    return value


def _rpps(value: str) -> str:
    if not _RPPS.fullmatch(value):
        raise wrong("rpps", "un RPPS a 11 chiffres (12 avec le préfixe 8)")
    return value[-11:]


def _finess(value: str) -> str:
    if not _FINESS.fullmatch(value):
        raise wrong("finess", "un FINESS a 9 caractères (10 avec le préfixe 1)")
    return value[-9:]


def _specialty(value: str) -> str:
    if value not in SPECIALTIES:
        raise wrong(
            "specialty", f"{value} n'est pas une spécialité du SAS (TRE_R38) ; attendu : {', '.join(SPECIALTIES)}"
        )
    return value


# not strict inside: after the check the value is a Python text, which strict mode would refuse
Instant = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_with_offset), AfterValidator(_in_range)]
Rpps = Annotated[str, StringConstraints(max_length=12), AfterValidator(_rpps)]
Finess = Annotated[str, StringConstraints(max_length=10), AfterValidator(_finess)]
Specialty = Annotated[str, StringConstraints(max_length=8), AfterValidator(_specialty)]
Insee = Annotated[str, StringConstraints(pattern=r"^[0-9][0-9AB][0-9]{3}$")]
Latitude = Annotated[float, Field(ge=-25, le=52, description="Degrés, WGS 84 (France et outre-mer)")]
Longitude = Annotated[float, Field(ge=-65, le=60, description="Degrés, WGS 84")]
# no control characters: PostgreSQL stores no NUL, and no screen shows the others
Text = Annotated[
    str, StringConstraints(min_length=1, max_length=160, strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]+$")
]
ExternalId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
Phone = Annotated[str, StringConstraints(max_length=24, pattern=r"^\+?[0-9][0-9 .()-]{3,22}$")]
Uuid = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[a-z0-9_]+$")]
SlotId = Annotated[int, Field(ge=1, le=2**63 - 1)]
Clock = Annotated[str, StringConstraints(pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$")]
Days = Annotated[list[Annotated[int, Field(ge=1, le=7)]], Field(min_length=1, max_length=7)]
Territory = Annotated[str, StringConstraints(pattern=r"^(?:[0-9]{2}|2A|2B|97[1-6])$")]
ACCEPTANCE: Final = (
    "Le cabinet accepte chaque réservation : sans réponse, tacit l'accepte, explicit la replace ailleurs"
)
AcceptMinutes = Annotated[
    int, Field(ge=1, le=1440, description="Minutes pour accepter (15 par défaut) ; la moitié du temps restant au plus")
]
HandBackMinutes = Annotated[
    int,
    Field(ge=0, le=2880, description="Minutes avant le début où ce qui est libre est rendu au cabinet ; 0 : jamais"),
]


class Strict(BaseModel):
    """Base of all inputs."""

    model_config = ConfigDict(extra="forbid", strict=True, use_enum_values=True, allow_inf_nan=False)
