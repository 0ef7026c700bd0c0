"""Reading what was sent into the strict schemas; what is wrong is told in French, field by field.

Knows no web framework: the core reads changes from Redis with it, and starts faster without one.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from sas_matcher.domain.errors import InvalidInputError, SasError, VitalPriorityError

M = TypeVar("M", bound=BaseModel)

# pydantic error type → French message; {placeholders} come from the error's context
_MESSAGES: Final = {
    "missing": "champ obligatoire absent",
    "extra_forbidden": "champ inconnu ; aucune donnée d'identité du patient n'est acceptée",
    "json_invalid": "le corps n'est pas du JSON valide{where}",
    "json_type": "le corps doit être du JSON",
    "string_type": "doit être un texte",
    "string_too_long": "{max_length} caractères au plus",
    "string_too_short": "{min_length} caractère(s) au moins",
    "string_pattern_mismatch": "format inattendu ; attendu : {pattern}",
    "int_type": "doit être un nombre entier",
    "int_from_float": "doit être un nombre entier",
    "int_parsing": "doit être un nombre entier",
    "float_type": "doit être un nombre",
    "float_parsing": "doit être un nombre",
    "finite_number": "doit être un nombre fini",
    "bool_type": "doit être true ou false",
    "list_type": "doit être une liste",
    "dict_type": "doit être un objet",
    "model_type": "doit être un objet",
    "model_attributes_type": "doit être un objet",
    "none_required": "doit être vide (null)",
    "too_long": "{max_length} éléments au plus",
    "too_short": "{min_length} élément(s) au moins",
    "enum": "valeur inconnue ; attendu : {expected}",
    "literal_error": "valeur inconnue ; attendu : {expected}",
    "greater_than": "doit être plus grand que {gt}",
    "greater_than_equal": "doit être au moins {ge}",
    "less_than": "doit être plus petit que {lt}",
    "less_than_equal": "doit être au plus {le}",
    "datetime_type": "doit être un instant ISO 8601 avec décalage horaire",
    "datetime_parsing": "n'est pas un instant ISO 8601 valide, par exemple 2026-11-23T14:00:00+01:00",
    "datetime_from_date_parsing": "n'est pas un instant ISO 8601 valide, par exemple 2026-11-23T14:00:00+01:00",
    "datetime_object_invalid": "n'est pas un instant valide",
    "timezone_aware": "précisez le décalage horaire (par exemple +01:00)",
}
_MOST_ERRORS: Final = 50
_PLACE = re.compile(r"line (\d+) column (\d+)")


def french(error: Mapping[str, Any]) -> dict[str, str]:
    """Turn one pydantic error into {field, message}."""
    field = ".".join(str(part) for part in error["loc"]) or "corps"
    if error["type"].startswith("sas_") or error["type"] == "vital_priority":
        return {"field": field, "message": error["msg"]}
    template = _MESSAGES.get(error["type"], "valeur incorrecte")
    context = {name: str(value) for name, value in error.get("ctx", {}).items()}
    if "expected" in context:
        context["expected"] = context["expected"].replace(" or ", " ou ")
    if place := _PLACE.search(context.get("error", "")):
        context["where"] = f" : voyez ligne {place[1]}, colonne {place[2]}"
    return {"field": field, "message": template.format_map({"where": "", **context})}


def parse(model: type[M], body: bytes | str) -> M:
    """Validate a JSON body.

    Raises:
        VitalPriorityError: the priority is vital.
        InvalidInputError: anything else that is wrong, field by field.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as invalid:
        raise refused(invalid) from invalid


def refused(invalid: ValidationError) -> SasError:
    """Turn what pydantic found into one error of ours, naming each field."""
    errors = invalid.errors(include_url=False, include_input=False)
    if any(error["type"] == "vital_priority" for error in errors):
        return VitalPriorityError("Priorité vitale ou vraie (P0, P1, R1, R2) : orienter AMU/SMUR.")
    listed = [french(error) for error in errors[:_MOST_ERRORS]]
    more = f" (et {len(errors) - 1} autre{'s' if len(errors) > 2 else ''})" if len(errors) > 1 else ""
    return InvalidInputError(f"{listed[0]['field']} : {listed[0]['message']}{more}.", errors=listed)
