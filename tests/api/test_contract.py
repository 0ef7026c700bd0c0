"""The OpenAPI document and the service agree: generated calls, its own examples, and what the hot routes accept."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import orjson
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator, meta
from pydantic import BaseModel
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from sas_matcher.api import openapi
from sas_matcher.api.inputs import schemas
from sas_matcher.api.inputs.reading import parse
from sas_matcher.api.routes.practice import read_slots
from sas_matcher.bootstrap.api import api
from sas_matcher.config import Settings
from sas_matcher.domain.errors import SasError
from sas_matcher.domain.vocabulary import Scope
from tests.api.running import Running
from tests.api.test_security import SCOPES

DOCUMENT: Final[dict[str, Any]] = json.loads(json.dumps(api(Settings()).openapi()))
CHECKS: Final[list[CheckFunction]] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    allow_header_conformance,
]
EXAMPLES: Final = 12  # an operation: the whole document stays under half a minute
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"  # what OpenAPI 3.1 is written in
OPERATIONS: Final = [(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item]


async def _explore(service: Running, token: str, operation: tuple[str, str], mode: GenerationMode, count: int) -> Any:
    """Send generated calls of one operation from a thread (the service runs in this loop); return the statuses."""
    method, path = operation
    found = schemathesis.openapi.from_dict(DOCUMENT)[path][method]
    statuses: Counter[int] = Counter()
    checks = [*CHECKS, negative_data_rejection] if mode is GenerationMode.NEGATIVE else CHECKS
    session = requests.Session()
    session.trust_env = False

    @given(case=found.as_strategy(generation_mode=mode))
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def explore(case: schemathesis.Case[Any]) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        answer = case.call(base_url=service.url, session=session, headers=headers)
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=checks)

    with session:
        await asyncio.to_thread(explore)
    return statuses


@pytest.fixture(scope="module")
async def tokens(service: Running) -> dict[Scope, str]:
    """One valid key for each scope."""
    return {
        Scope.REGULATOR: (await service.regulator()).token,
        Scope.PRACTICE: (await service.practice()).token,
        Scope.COORDINATOR: (await service.key("ars", territories=("*",))).token,
        Scope.ADMIN: (await service.key("admin")).token,
        Scope.FHIR: (await service.key("fhir")).token,
    }


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
async def test_generated_calls_are_answered_as_documented(
    service: Running, tokens: dict[Scope, str], operation: tuple[str, str]
) -> None:
    method, path = operation
    described = DOCUMENT["paths"][path][method.lower()]
    scopes = sorted(SCOPES.get(operation, {Scope.ADMIN}))
    count = max(2, EXAMPLES // len(scopes)) if described.keys() & {"parameters", "requestBody"} else 1
    for scope in scopes:
        statuses = await _explore(service, tokens[scope], operation, GenerationMode.POSITIVE, count)
        assert not {401, 403} & statuses.keys(), statuses
    if "requestBody" in described:
        refused = await _explore(service, tokens[scopes[0]], operation, GenerationMode.NEGATIVE, count)
        assert not {200, 201, 202} & refused.keys() or path in NO_BODY, refused


NO_BODY: Final = {"/v1/ws-tickets", "/v1/agendas/stop", "/v1/agendas/go-on"}
"""Whose body may be left out, and whose headers and path take nothing: a negative call may still be right."""


# -- examples ----------------------------------------------------------------------------------------------------------


def test_the_document_is_complete() -> None:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            assert operation["summary"] and operation["description"], (method, path)
            success = [status for status in operation["responses"] if status.startswith("2")]
            assert success, (method, path)
            for status, response in operation["responses"].items():
                if not status.startswith("2"):
                    assert list(response["content"]) == ["application/problem+json"], (method, path, status)
            parameters = {(p["in"], p["name"]) for p in operation.get("parameters", ())}
            for part in [part for part in path.split("/") if part.startswith("{")]:
                assert ("path", part.strip("{}")) in parameters
    assert meta.is_valid({"$schema": DRAFT, "$defs": DOCUMENT["components"]["schemas"]})


def documented() -> list[type[BaseModel]]:
    """Return the models of bodies that the document names."""
    api(Settings()).openapi()
    return sorted(openapi._MODELS.values(), key=lambda model: model.__name__)


def validator(name: str) -> Draft202012Validator:
    """Return a validator of a schema of the document."""
    components = json.dumps(DOCUMENT["components"]["schemas"]).replace("#/components/schemas/", "#/$defs/")
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": json.loads(components)})


def test_examples_are_valid_for_the_model_and_for_the_document() -> None:
    seen = 0
    for name, schema in DOCUMENT["components"]["schemas"].items():
        if "example" in schema:
            seen += 1
            validator(name).validate(schema["example"])
            if (model := getattr(schemas, name, None)) is not None:  # else an answer
                parse(model, orjson.dumps(schema["example"]))
    assert seen >= 3, "those that everybody starts from: a slot, a request and why there is no place"


@pytest.mark.parametrize("model", documented(), ids=lambda model: model.__name__)
def test_no_body_has_room_for_an_identity(model: type[BaseModel]) -> None:
    """Every object of every body is closed, and no field is named like one of a person."""

    def closed(schema: Any) -> None:
        if isinstance(schema, dict):
            if schema.get("type") == "object":
                assert schema["additionalProperties"] is False, schema
                names = set(schema.get("properties", {}))
                assert not names & {"nom", "prenom", "first_name", "birth_date", "ins", "nir", "street", "email"}
            for part in schema.values():
                closed(part)
        elif isinstance(schema, list):
            for part in schema:
                closed(part)

    closed(model.model_json_schema())


# -- what the hot routes take -----------------------------------------------------------------------------------------

ODD: Final = st.sampled_from(
    [None, True, False, 0, -1, 1, 1.5, 2**70, "", " ", "x" * 200, "1", "\x00", "é", [], {}, [None], {"a": 1}, "CABINET"]
)


def mutated(example: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return documents that are the example, or are wrong in one or two places."""

    def paths(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        found = [at] if at else []
        parts = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for name, part in parts:
            found += paths(part, (*at, name))
        return found

    def change(changes: list[tuple[tuple[Any, ...], str, Any]]) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(json.dumps(example))
        for path, how, value in changes:
            node: Any = document
            for name in path[:-1]:
                node = node[name] if isinstance(node, list) or (isinstance(node, dict) and name in node) else None
                if not isinstance(node, dict | list):
                    break
            else:
                if isinstance(node, dict) and how == "drop":
                    node.pop(path[-1], None)
                elif isinstance(node, dict) and how == "add":
                    node["inconnu"] = value
                elif isinstance(node, dict) or (isinstance(node, list) and path[-1] < len(node)):
                    node[path[-1]] = value
        return document

    one = st.tuples(st.sampled_from(paths(example)), st.sampled_from(("set", "set", "set", "drop", "add")), ODD)
    return st.lists(one, max_size=2).map(change)


def accepts(read: Callable[[bytes], Any], body: Any) -> set[str] | None:
    """Return None when a body is accepted, else the fields that are refused."""
    try:
        read(orjson.dumps(body))
    except SasError as refused:
        return {error["field"] for error in refused.extra.get("errors", [{"field": "vital"}])}
    return None


# What JSON schema cannot say, and the models check beyond it; by the field that is named.
BEYOND: Final = {"professional.rpps", "structure.finess", "specialty", "mt", "start", "end", "valid_at", "corps"}


@pytest.mark.parametrize("model", [schemas.SlotIn, schemas.RequestIn], ids=lambda model: model.__name__)
def test_what_a_hot_route_takes_is_what_is_documented(model: type[BaseModel]) -> None:
    example = {**DOCUMENT["components"]["schemas"][model.__name__]["example"]}
    check = validator(model.__name__)

    @given(mutated(example))
    @settings(max_examples=400, deadline=None, database=None, derandomize=True)
    def agree(body: dict[str, Any]) -> None:
        try:
            text = orjson.dumps(body)
        except TypeError:
            return  # a whole number beyond 64 bits: orjson cannot write it
        documented = check.is_valid(body)
        refused = accepts(partial(parse, model), body)
        if refused is None:
            assert documented, text
        elif documented:
            assert any(field in BEYOND or field.endswith(("label", "name")) for field in refused), (text, refused)

    agree()


def test_a_bulk_of_slots_is_judged_like_each_of_its_slots() -> None:
    """The hot path reads in parts; it must say the same as the model that is documented."""
    good = DOCUMENT["components"]["schemas"]["SlotIn"]["example"]
    loop = asyncio.new_event_loop()

    def read(body: bytes) -> Any:
        return loop.run_until_complete(read_slots(body))

    @given(st.lists(mutated(good), min_size=1, max_size=3), st.sampled_from([0, 249, 250, 251, 400]))
    @settings(
        max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
    )
    def agree(odd: list[Any], place: int) -> None:
        body = {"slots": [*([good] * place), *odd, good]}
        try:
            orjson.dumps(body)
        except TypeError:
            return
        assert accepts(read, body) == accepts(partial(parse, schemas.SlotsIn), body)

    try:
        agree()
        whole = {"slots": [good] * 600}
        same = [slot.model_dump() for slot in parse(schemas.SlotsIn, orjson.dumps(whole)).slots]
        assert read(orjson.dumps(whole)) == same
    finally:
        loop.close()
