"""Errors as ``application/problem+json`` (RFC 9457), in French, naming the field and the fix."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from sas_matcher.api.inputs.reading import M, refused
from sas_matcher.domain.errors import SasError

PROBLEM: Final = "application/problem+json"
TYPE_BASE: Final = "urn:sas-matcher:problem:"  # stable names; docs/api.md describes each


def parse_query(model: type[M], request: Request) -> M:
    """Validate the query of a URL; a repeated or comma-separated name is a list where the model has one."""
    values: dict[str, Any] = {}
    for name in request.query_params:
        field = model.model_fields.get(name) or model.model_fields.get(f"{name}_")
        texts = request.query_params.getlist(name)
        if field is not None and "list" in str(field.annotation):
            values[name] = [part for text in texts for part in text.split(",") if part]
        else:
            values[name] = texts[-1]
    try:
        return model.model_validate(values)
    except ValidationError as invalid:
        raise refused(invalid) from invalid


def problem(status: int, code: str, title: str, detail: str, extra: Mapping[str, Any], trace: str | None) -> Response:
    """Build the answer for an error."""
    body: dict[str, Any] = {"type": TYPE_BASE + code, "title": title, "status": status, "code": code, "detail": detail}
    headers = {}
    for name, value in extra.items():
        if name == "retry_after":
            headers["Retry-After"] = str(value)
        body[name] = value
    if trace:
        body["request_id"] = trace
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="sas-matcher"'
    return Response(orjson.dumps(body), status, headers, PROBLEM)


_HTTP_TEXT: Final[Mapping[int, tuple[str, str, str]]] = {
    404: ("not_found", "Introuvable", "Cette adresse n'existe pas."),
    405: ("method_not_allowed", "Méthode non autorisée", "Cette adresse ne connaît pas cette méthode."),
    400: ("bad_request", "Requête illisible", "La requête n'est pas lisible."),
}


def install(app: FastAPI) -> None:
    """Render every error that is raised on purpose as a problem (``edge`` takes the others)."""

    @app.exception_handler(SasError)
    async def _known(request: Request, error: SasError) -> Response:
        return problem(error.status, error.code, error.title, error.detail, error.extra, _trace(request))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        code, title, detail = _HTTP_TEXT.get(error.status_code, ("error", "Erreur", "La requête a échoué."))
        answer = problem(error.status_code, code, title, detail, {}, _trace(request))
        answer.headers.update(error.headers or {})
        return answer


def _trace(request: Request) -> str | None:
    trace: Sequence[Any] | str | None = request.scope.get("state", {}).get("trace")
    return trace if isinstance(trace, str) else None
