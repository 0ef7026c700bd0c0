"""Routes about en sus: consents and answers of practices, what was asked for a request, ladders of territories."""

import re

from fastapi import APIRouter, Request
from fastapi.responses import Response

from sas_matcher.api.inputs.asking import AcceptIn, LadderIn, NoIn, OverflowIn
from sas_matcher.api.inputs.queries import QuestionsQuery, SettingChangesQuery
from sas_matcher.api.inputs.reading import parse
from sas_matcher.api.openapi import OF_ACTION, OF_LIST, OF_ONE, OF_OWN, takes
from sas_matcher.api.problems import parse_query
from sas_matcher.api.wire import (
    caller,
    changes_page,
    json,
    keeper,
    name_of,
    of_territory,
    once,
    raw,
    read_action,
    uuid_of,
    wire,
)
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.domain.vocabulary import Scope

router = APIRouter(prefix="/v1", tags=["en sus"])
_KIND = re.compile(r"^(steps\.\d+)\.(?:ask|tell)(?=\.)")


def read_ladder(body: bytes) -> LadderIn:
    """Read a ladder; what is wrong with a step is named as it was sent, without the kind that pydantic adds."""
    try:
        return parse(LadderIn, body)
    except InvalidInputError as wrong:
        errors = [{**error, "field": _KIND.sub(r"\1", error["field"])} for error in wrong.extra["errors"]]
        raise InvalidInputError(f"{errors[0]['field']} : {errors[0]['message']}.", errors=errors) from wrong


@router.get("/overflow", summary="My consents to be asked", responses=OF_OWN)
async def consents(request: Request) -> Response:
    """Return the consents that this key may change."""
    who = await keeper(request)
    return json({"overflow": await wire(request).en_sus.all(who.publisher)})


@router.get("/overflow/{name}", summary="One consent", responses=OF_ONE)
async def consent(request: Request, name: str) -> Response:
    """Return a consent."""
    who = await keeper(request)
    return json(await wire(request).en_sus.one(who.publisher, name_of(name)))


@router.put(
    "/overflow/{name}",
    summary="Consent to be asked for patients beyond one's slots",
    responses=OF_ACTION,
    openapi_extra=takes(OverflowIn),
)
async def put_consent(request: Request, name: str) -> Response:
    """Set or change who may be asked, when, and how often a day; in force at once."""
    who = await keeper(request)
    wish = parse(OverflowIn, await request.body()).model_dump()
    return json(await wire(request).en_sus.put(who.publisher, name_of(name), wish))


@router.delete("/overflow/{name}", summary="Take a consent back", responses=OF_ONE)
async def remove_consent(request: Request, name: str) -> Response:
    """Take a consent back: no further question comes; one that was put may still be answered."""
    who = await keeper(request)
    await wire(request).en_sus.remove(who.publisher, name_of(name))
    return json({"removed": name})


@router.get(
    "/questions",
    summary="Questions put to me",
    responses=OF_LIST,
    openapi_extra=takes(query=QuestionsQuery),
)
async def questions(request: Request) -> Response:
    """Return the questions put to the caller, newest first."""
    who = await keeper(request)
    query = parse_query(QuestionsQuery, request)
    found = await wire(request).en_sus.questions(who.publisher, query.state, query.limit)
    return raw('{"questions":[' + ",".join(found) + "]}")


@router.get("/questions/{question_id}", summary="One question", responses=OF_ONE)
async def question(request: Request, question_id: str) -> Response:
    """Return a question put to the caller."""
    who = await keeper(request)
    return raw(await wire(request).en_sus.question(uuid_of(question_id, "question_id"), who.owns))


@router.post(
    "/questions/{question_id}/accept",
    summary="Yes: I receive this patient",
    responses=OF_ACTION,
    openapi_extra=takes(AcceptIn, once=True),
)
async def accept(request: Request, question_id: str) -> Response:
    """Accept: the first yes gets the patient, the others are told. A slot at ``start`` is held for the regulator."""
    who = await keeper(request)
    asked, named = await read_action(request, who, AcceptIn)
    target = uuid_of(question_id, "question_id")
    return raw(await wire(request).en_sus.accept(target, asked.start, asked.mode, who.owns, named))


@router.post(
    "/questions/{question_id}/refuse",
    summary="No",
    responses=OF_ACTION,
    openapi_extra=takes(NoIn, once=True),
)
async def refuse(request: Request, question_id: str) -> Response:
    """Refuse; when nobody is left to answer, the next are asked at once."""
    who = await keeper(request)
    asked, named = await read_action(request, who, NoIn, bare=True)
    target = uuid_of(question_id, "question_id")
    return raw(await wire(request).en_sus.refuse(target, asked.reason, who.owns, named))


@router.get(
    "/requests/{request_id}/asking",
    summary="What was asked for a request",
    responses=OF_ONE,
)
async def asking(request: Request, request_id: str) -> Response:
    """Return what was asked, of how many who could be, what was answered, and when the next step comes."""
    who = await caller(request, Scope.REGULATOR)
    return raw(await wire(request).en_sus.asking(uuid_of(request_id, "request_id"), who.key_id))


@router.get("/territories/{code}/ladder", summary="Ladder of a territory", responses=OF_ONE)
async def ladder(request: Request, code: str) -> Response:
    """Return what is done, step by step, for a request that finds no place; no step: nobody is asked."""
    await of_territory(request, code)
    return json(await wire(request).en_sus.ladder(code))


@router.put(
    "/territories/{code}/ladder",
    summary="Set the ladder of a territory",
    responses=OF_ACTION,
    openapi_extra=takes(LadderIn, once=True),
)
async def put_ladder(request: Request, code: str) -> Response:
    """Replace the ladder; who, when and why is written down and told to the territory's keys."""
    who = await of_territory(request, code, Scope.COORDINATOR, Scope.ADMIN)
    body = await request.body()
    wish = read_ladder(body)
    named = once(request, who, body)
    return json(await wire(request).en_sus.change_ladder(code, wish.rows(), wish.why, wish.version, named))


@router.get(
    "/territories/{code}/ladder/log",
    summary="Who changed the ladder of a territory, when and why",
    responses=OF_ONE,
    openapi_extra=takes(query=SettingChangesQuery),
)
async def ladder_changes(request: Request, code: str) -> Response:
    """Return the changes, newest first; ``next_before`` leads to the next page."""
    await of_territory(request, code)
    query = parse_query(SettingChangesQuery, request)
    return changes_page(code, await wire(request).en_sus.ladder_changes(code, query.before, query.limit))
