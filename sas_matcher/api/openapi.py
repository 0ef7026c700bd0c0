"""The OpenAPI document: routes read their bodies themselves (strictly, and fast), so their schemas are added here."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

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
            components["schemas"]["Problem"] = PROBLEM_SCHEMA
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            for path, operations in schema["paths"].items():
                for operation in operations.values():
                    if path.startswith("/v1/"):
                        operation["security"] = [{"key": []}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
