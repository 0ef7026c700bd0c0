"""The OpenAPI document: routes read their bodies themselves (strictly, and fast), so their schemas are added here."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from sas_matcher.domain.policy import LIVE_POLICIES
from sas_matcher.domain.vocabulary import Tier

_REF: Final = "#/components/schemas/{model}"
PROBLEM_SCHEMA: Final = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable code"},
        "detail": {"type": "string", "description": "In French, for people"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
PLACE_SCHEMA: Final = {
    "type": "object",
    "required": [
        "slot_id",
        "start",
        "end",
        "mode",
        "profession",
        "distance_km",
        "travel_min",
        "wait_min",
        "site",
        "cost",
    ],
    "properties": {
        "slot_id": {"type": "integer"},
        "start": {"type": "string", "format": "date-time"},
        "end": {"type": "string", "format": "date-time"},
        "mode": {"type": "string"},
        "profession": {"type": "string"},
        "distance_km": {"type": ["number", "null"], "description": "null for téléconsultation"},
        "travel_min": {"type": "number"},
        "wait_min": {"type": "number"},
        "site": {"type": "object"},
        "cost": {"type": "object"},
    },
}
RELAXATION_SCHEMA: Final = {
    "type": "object",
    "required": ["concessions", "size_min", "ask", "sentence", "place"],
    "properties": {
        "concessions": {
            "type": "array",
            "minItems": 1,
            "items": {"enum": ["radius", "deadline", "mode", "need", "profession"]},
        },
        "size_min": {"type": "number", "description": "How much is given up, in minutes of travel: for the order only"},
        "ask": {"type": "object", "description": "The fields of a new request, made now, that would find the place"},
        "sentence": {"type": "string", "description": "In French, for people"},
        "place": {"$ref": _REF.format(model="Place")},
    },
}
NO_PLACE_SCHEMA: Final = {
    "type": "object",
    "required": ["reason", "counts", "nearest_km", "sentence", "would_help"],
    "properties": {
        "reason": {
            "type": "string",
            "description": "Stable code: the first true one of the day log, LIMIT_REACHED or KEPT_FOR_URGENT",
        },
        "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
        "nearest_km": {"type": ["number", "null"]},
        "sentence": {"type": "string", "description": "In French, for people"},
        "would_help": {
            "type": ["array", "null"],
            "maxItems": 4,
            "description": "What would find a place, the smallest concession first; null when it was not looked for",
            "items": {"$ref": _REF.format(model="Relaxation")},
        },
    },
    "example": {
        "reason": "NO_SLOT_IN_RADIUS",
        "counts": {"profession": 3, "mode": 3, "needs": 3, "radius": 0, "in_time": 0},
        "nearest_km": 32.4,
        "sentence": "Pas de place pour l'instant : aucun créneau dans le rayon ; le plus proche est à 32,4 km.",
        "would_help": [
            {
                "concessions": ["radius"],
                "size_min": 4.7,
                "ask": {"radius_km": 32.4},
                "sentence": "à 2,4 km de plus",
                "place": {
                    "slot_id": 4711,
                    "start": "2026-11-23T14:00:00+01:00",
                    "end": "2026-11-23T14:15:00+01:00",
                    "mode": "cabinet",
                    "profession": "MG",
                    "distance_km": 32.4,
                    "travel_min": 66.2,
                    "wait_min": 95.0,
                    "site": {"insee": "69382", "label": "Cabinet fictif des Tilleuls"},
                    "cost": {"travel_min": 66.2, "wait_weighted_min": 23.8, "mt_bonus_min": 0.0, "total_min": 90.0},
                },
            }
        ],
    },
}
ASKED_SCHEMA: Final = {
    "type": "object",
    "required": ["request_id", "status", "decision"],
    "properties": {
        "request_id": {"type": "string"},
        "status": {"type": "string"},
        "decision": {
            "type": ["object", "null"],
            "properties": {"none": {"anyOf": [{"type": "null"}, {"$ref": _REF.format(model="NoPlace")}]}},
        },
    },
}
"""A request as a regulator reads it, as far as the reason for no place goes."""
_BY_TIER: Final = {
    "type": "object",
    "required": list(Tier),
    "properties": {str(tier): {"enum": list(LIVE_POLICIES)} for tier in Tier},
}
_SETTING: Final = {
    "territory": {"type": "string"},
    "version": {"type": "integer", "minimum": 0, "description": "0 while nothing was changed"},
    "changed_at": {"type": ["string", "null"], "format": "date-time"},
    "hold_seconds": {"type": "integer"},
    "mt_rule": {"enum": ["bonus", "first"]},
    "mt_ask_min": {"type": "integer", "description": "With first: minutes he has to answer before another place"},
    "policy": {**_BY_TIER, "description": "When a place becomes firm, by tier"},
    "crisis_allowed": {"type": "boolean", "description": "A crisis may be declared here"},
    "crisis": {"type": "boolean", "description": "A crisis is declared: auto displaces promises of lower tiers"},
    "ageing_pct_per_h": {
        "type": "number",
        "description": "Of its tier's value, for each hour that a request waits",
    },
    "fair_load_min": {
        "type": "number",
        "description": "Minutes that each patient of a professional adds to the cost of his places",
    },
    "radius_pct": {"type": "integer", "description": "Of the radius asked for"},
    "urgent_reserve_pct": {
        "type": "integer",
        "description": "Share of the places here that only T0 and T1 get until an hour before they begin",
    },
    "tele_bonus_min": {
        "type": "number",
        "description": "Minutes that a consultation by video is worth to who accepts one",
    },
    "borrow": {
        "type": "object",
        "additionalProperties": {"type": "integer"},
        "description": "By neighbouring territory, the share of its places within reach up to borrow_km",
    },
    "borrow_km": {"type": "number"},
}
SETTING_SCHEMA: Final = {
    "type": "object",
    "required": [*_SETTING, "in_force"],
    "properties": {
        **_SETTING,
        "in_force": {
            **_BY_TIER,
            "description": "Which policy decides now: auto is crisis while one is allowed and declared",
        },
    },
}
_KEPT_SETTING: Final = {"type": "object", "required": list(_SETTING), "properties": _SETTING}
SETTING_CHANGES_SCHEMA: Final = {
    "type": "object",
    "required": ["territory", "changes", "next_before"],
    "properties": {
        "territory": {"type": "string"},
        "changes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["territory", "version", "at", "key_id", "why", "before", "after"],
                "properties": {
                    "territory": {"type": "string"},
                    "version": {"type": "integer"},
                    "at": {"type": "string", "format": "date-time"},
                    "key_id": {"type": "string", "description": "The key that changed it"},
                    "why": {"type": "string"},
                    "before": _KEPT_SETTING,
                    "after": _KEPT_SETTING,
                },
            },
        },
        "next_before": {"type": ["integer", "null"], "description": "Leads to the next page"},
    },
}
_LEVEL: Final = {"enum": ["normal", "tension", "crise"]}
_STANDING: Final = {
    "territory": {"type": "string"},
    "drill": {"type": "boolean", "description": "Of the real level: always false"},
    "level": _LEVEL,
    "since": {"type": ["string", "null"], "format": "date-time"},
    "version": {"type": "integer"},
    "applied": {"type": "object", "description": "What levels have set, by setting (policy tier by tier)"},
    "before": {"type": "object", "description": "What comes back"},
    "exercise": {
        "description": "The drill beside it",
        "anyOf": [
            {"type": "null"},
            {"type": "object", "required": ["drill", "level", "since"], "properties": {"drill": {"const": True}}},
        ],
    },
}
CRISIS_LEVELS_SCHEMA: Final = {
    "type": "object",
    "required": ["territories"],
    "properties": {
        "territories": {
            "type": "array",
            "items": {"type": "object", "required": list(_STANDING), "properties": _STANDING},
        }
    },
}
CRISIS_SCHEMA: Final = {
    "type": "object",
    "required": [*_STANDING, "scopes", "plan", "proposal"],
    "properties": {**_STANDING, "scopes": {"type": "array", "items": {"type": "object"}}},
}
CRISIS_ENTRY_SCHEMA: Final = {
    "type": "object",
    "required": ["scope", "level", "drill", "territories"],
    "properties": {
        "scope": {"type": "string"},
        "drill": {"type": "boolean"},
        "was": _LEVEL,
        "level": _LEVEL,
        "why": {"type": "string"},
        "key_id": {"type": "string"},
        "role": {"type": "string"},
        "territories": {
            "type": "array",
            "description": "Those whose level moved, what that changed (in a drill: would change), what was kept",
            "items": {"type": "object", "required": ["territory", "was", "level", "changes", "kept"]},
        },
    },
}
_STATUS_TEXT: Final = {
    400: "Unreadable request",
    401: "No valid key",
    403: "Not this key's to do",
    404: "Unknown, or not visible to this key",
    405: "Method not allowed",
    409: "The present state does not allow it",
    413: "Too large",
    422: "A field is wrong",
    429: "Too many calls",
    503: "A store is away; nothing was done",
}
IDEMPOTENCY_HEADER: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "Same key and body: same answer, done once. Kept 48 h.",
    "schema": {"type": "string", "minLength": 8, "maxLength": 128, "pattern": r"^[\x21-\x7e]+$"},
}
_MODELS: dict[str, type[BaseModel]] = {}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document the errors of a route."""
    content = {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}}
    return {status: {"description": _STATUS_TEXT[status], "content": content} for status in sorted({400, *statuses})}


OF_OWN: Final = problems(401, 403, 429, 503)
"""Errors of a route that returns what is the caller's, whatever it is."""
OF_LIST: Final = problems(401, 403, 422, 429, 503)
"""Errors of a route that is asked by a query."""
OF_ONE: Final = problems(401, 403, 404, 422, 429, 503)
"""Errors of a route about one thing, named in its path."""
OF_ACTION: Final = problems(401, 403, 404, 409, 413, 422, 429, 503)
"""Errors of a route that changes one thing, as its body says."""


def answers(schema: str, description: str) -> dict[str, Any]:
    """Document an answer by the name of its schema."""
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": _REF.format(model=schema)}}},
    }


def takes(
    body: type[BaseModel] | None = None, query: type[BaseModel] | None = None, *, once: bool = False
) -> dict[str, Any]:
    """Document what a route reads: body, query, Idempotency-Key."""
    extra: dict[str, Any] = {}
    parameters: list[dict[str, Any]] = [IDEMPOTENCY_HEADER] if once else []
    if query is not None:
        parameters += _query(query)
    if parameters:
        extra["parameters"] = parameters
    if body is not None:
        _MODELS[body.__name__] = body
        schema = {"$ref": _REF.format(model=body.__name__)}
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return extra


def _query(model: type[BaseModel]) -> list[dict[str, Any]]:
    schema = TypeAdapter(model).json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": _inlined(part, definitions),
        }
        for name, part in schema["properties"].items()
    ]


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(node, dict):
        if "$ref" in node:
            return _inlined(definitions[node["$ref"].rsplit("/", 1)[1]], definitions)
        return {key: _inlined(value, definitions) for key, value in node.items()}
    return [_inlined(part, definitions) for part in node] if isinstance(node, list) else node


def install(app: FastAPI) -> None:
    """Give the app its OpenAPI document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _, parts = models_json_schema([(model, "validation") for model in _MODELS.values()], ref_template=_REF)
            components = schema.setdefault("components", {})
            components.setdefault("schemas", {}).update(parts.get("$defs", {}))
            components["schemas"] |= {
                "Problem": PROBLEM_SCHEMA,
                "Asked": ASKED_SCHEMA,
                "Setting": SETTING_SCHEMA,
                "SettingChanges": SETTING_CHANGES_SCHEMA,
                "Crisis": CRISIS_SCHEMA,
                "CrisisLevels": CRISIS_LEVELS_SCHEMA,
                "CrisisEntry": CRISIS_ENTRY_SCHEMA,
                "NoPlace": NO_PLACE_SCHEMA,
                "Relaxation": RELAXATION_SCHEMA,
                "Place": PLACE_SCHEMA,
            }
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            for path, operations in schema["paths"].items():
                for operation in operations.values():
                    if path.startswith("/v1/") and not path.startswith("/v1/public/"):
                        operation["security"] = [{"key": []}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
