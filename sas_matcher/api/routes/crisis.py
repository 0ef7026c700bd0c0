"""Routes about crises: levels of territories, régions and the nation, plans, proposals, calls, the review."""

from collections.abc import Sequence

from fastapi import APIRouter, Request
from fastapi.responses import Response

from sas_matcher.api.auth import Caller
from sas_matcher.api.inputs.crisis import (
    AnswerIn,
    CallNowIn,
    CallsQuery,
    DeclareIn,
    LogQuery,
    PlanIn,
    ProposalsQuery,
    ReviewQuery,
    StandingQuery,
    WhyIn,
)
from sas_matcher.api.inputs.queries import SettingChangesQuery
from sas_matcher.api.openapi import OF_ACTION, OF_LIST, OF_ONE, answers, problems, takes
from sas_matcher.api.problems import parse_query
from sas_matcher.api.wire import asked_territories, caller, changes_page, json, of_territory, read_action, uuid_of, wire
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.domain.vocabulary import Scope
from sas_matcher.services.crisis.crises import Steerer
from sas_matcher.services.crisis.review import printable

router = APIRouter(prefix="/v1", tags=["crise"])
_READS = (Scope.REGULATOR, Scope.COORDINATOR, Scope.ADMIN)
# a printed page needs its own style, and nothing else
_PRINTED = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


def _steerer(who: Caller) -> Steerer:
    return Steerer(who.role, frozenset("*") if who.scope is Scope.ADMIN else who.territories)


def _codes(request: Request, who: Caller, wanted: str | None) -> Sequence[str]:
    """Return the territories that a question is about: the one that is named, or all of the key."""
    known = wire(request).geography.territories
    return asked_territories(who, wanted, known, known)


@router.get(
    "/crisis",
    summary="Levels of my territories",
    responses={200: answers("CrisisLevels", "Where each stands"), **OF_LIST},
    openapi_extra=takes(query=StandingQuery),
)
async def levels(request: Request) -> Response:
    """Return where the territories of the key stand, and in ``exercise`` the drill beside it."""
    who = await caller(request)
    codes = _codes(request, who, parse_query(StandingQuery, request).territory)
    return json({"territories": await wire(request).crises.standing(codes)})


@router.post(
    "/crisis",
    summary="Declare a level",
    responses={200: answers("CrisisEntry", "As it is written down"), **problems(401, 403, 409, 413, 422, 429, 503)},
    openapi_extra=takes(DeclareIn, once=True),
)
async def declare(request: Request) -> Response:
    """Declare normal, tension or crise for a territory, a région or the nation; who, when and why is written down.

    Each territory goes to the highest level of its scopes, and its prepared plan is applied. Coming down is step by
    step, and restores what was there before but for what somebody has changed meanwhile (``kept``). A drill changes
    nothing for anybody, and says so everywhere.
    """
    who = await caller(request, Scope.COORDINATOR, Scope.ADMIN)
    wish, named = await read_action(request, who, DeclareIn)
    done = await wire(request).crises.declare(
        wish.scope, wish.level, wish.why, _steerer(who), named, drill=wish.drill, version=wish.version
    )
    return json(done)


@router.get(
    "/crisis/log",
    summary="Who declared what, when and why",
    responses=OF_LIST,
    openapi_extra=takes(query=LogQuery),
)
async def log(request: Request) -> Response:
    """Return what was declared for a scope, or concerned a territory, newest first; ``next_before`` leads on."""
    who = await caller(request)
    query = parse_query(LogQuery, request)
    crises = wire(request).crises
    if query.scope is not None:
        for code in crises.members(query.scope):
            _codes(request, who, code)
    elif query.territory is None:
        raise InvalidInputError.of("territory", "indiquez territory ou scope")
    else:
        _codes(request, who, query.territory)
    found = await crises.log(query.scope, query.territory, query.before, query.limit)
    return json({"entries": found, "next_before": found[-1]["id"] if len(found) == query.limit else None})


@router.get(
    "/crisis/proposals",
    summary="Levels that detection proposes",
    responses=OF_LIST,
    openapi_extra=takes(query=ProposalsQuery),
)
async def proposals(request: Request) -> Response:
    """Return what was proposed for the territories of the key, newest first, with the figures behind it."""
    who = await caller(request, Scope.COORDINATOR, Scope.ADMIN)
    query = parse_query(ProposalsQuery, request)
    codes = _codes(request, who, query.territory)
    return json({"proposals": await wire(request).crises.proposals(codes, query.state, query.limit)})


@router.post(
    "/crisis/proposals/{proposal_id}/accept",
    summary="Accept a proposal: its level is declared",
    responses={
        200: answers("CrisisEntry", "As it is written down"),
        **OF_ACTION,
    },
    openapi_extra=takes(WhyIn, once=True),
)
async def accept(request: Request, proposal_id: str) -> Response:
    """Declare the level that was proposed, for its scope."""
    who = await caller(request, Scope.COORDINATOR, Scope.ADMIN)
    wish, named = await read_action(request, who, WhyIn)
    target = uuid_of(proposal_id, "proposal_id")
    return json(await wire(request).crises.accept(target, wish.why, _steerer(who), named))


@router.post(
    "/crisis/proposals/{proposal_id}/refuse",
    summary="Refuse a proposal",
    responses=OF_ACTION,
    openapi_extra=takes(WhyIn, once=True),
)
async def refuse(request: Request, proposal_id: str) -> Response:
    """Refuse: nothing changes, and the same level is not proposed again for an hour."""
    who = await caller(request, Scope.COORDINATOR, Scope.ADMIN)
    wish, named = await read_action(request, who, WhyIn)
    target = uuid_of(proposal_id, "proposal_id")
    return json(await wire(request).crises.refuse(target, wish.why, _steerer(who), named))


@router.get(
    "/crisis/calls",
    summary="Calls for extra capacity",
    responses=OF_LIST,
    openapi_extra=takes(query=CallsQuery),
)
async def calls(request: Request) -> Response:
    """Return the calls that came to a practice, or for who steers those of the last month with what was answered."""
    who = await caller(request, Scope.PRACTICE, Scope.COORDINATOR, Scope.ADMIN)
    query = parse_query(CallsQuery, request)
    crises = wire(request).crises
    if who.scope is Scope.PRACTICE:
        return json({"calls": await crises.calls_to(*_owner(who), query.limit)})
    return json({"calls": await crises.calls(_codes(request, who, query.territory), query.limit)})


def _owner(who: Caller) -> tuple[str | None, Sequence[str], Sequence[str]]:
    source = who.source if "*" in who.professionals else None
    return source, sorted(who.professionals), sorted(who.structures)


@router.post(
    "/crisis/calls/{call_id}/answer",
    summary="Answer a call for extra capacity",
    responses=OF_ACTION,
    openapi_extra=takes(AnswerIn, once=True),
)
async def answer(request: Request, call_id: str) -> Response:
    """Say how many places are opened in addition (publish them as always), or that there are none."""
    who = await caller(request, Scope.PRACTICE)
    wish, named = await read_action(request, who, AnswerIn)
    target = uuid_of(call_id, "call_id")
    return json(await wire(request).crises.answer_call(target, _owner(who), wish.places, named))


@router.get(
    "/crisis/review",
    summary="What happened in a crisis or a drill",
    responses=OF_LIST,
    openapi_extra=takes(query=ReviewQuery),
)
async def review(request: Request) -> Response:
    """Return what was asked, met and missed, and what was decided when and by whom; ``format=html`` to print."""
    who = await caller(request, Scope.COORDINATOR, Scope.ADMIN)
    query = parse_query(ReviewQuery, request)
    services = wire(request)
    members = services.crises.members(query.scope)
    for code in members:
        _codes(request, who, code)
    found = await services.reviews.review(query.scope, members, query.from_, query.to, drill=query.drill == "true")
    if query.format == "html":
        return Response(printable(found), media_type="text/html; charset=utf-8", headers=_PRINTED)
    return json(found)


@router.get(
    "/territories/{code}/crisis",
    summary="Where a territory stands",
    responses={200: answers("Crisis", "Level, scopes, plan"), **OF_ONE},
)
async def standing(request: Request, code: str) -> Response:
    """Return the level of a territory, by which scopes, its plan, and what levels have set of its settings."""
    # contacts are in the plan
    await of_territory(request, code, *_READS)
    return json(await wire(request).crises.territory(code))


@router.get(
    "/territories/{code}/crisis/plan",
    summary="Prepared plan of a territory",
    responses=OF_ONE,
)
async def plan(request: Request, code: str) -> Response:
    """Return the plan; without one, levels are told and written down, and change nothing."""
    await of_territory(request, code, *_READS)
    return json(await wire(request).crises.plan(code))


@router.put(
    "/territories/{code}/crisis/plan",
    summary="Prepare the plan of a territory",
    responses=OF_ACTION,
    openapi_extra=takes(PlanIn, once=True),
)
async def put_plan(request: Request, code: str) -> Response:
    """Replace the plan; in force from the next change of level on. Who, when and why is written down."""
    who = await of_territory(request, code, Scope.COORDINATOR, Scope.ADMIN)
    wish, named = await read_action(request, who, PlanIn)
    crises = wire(request).crises
    crises.checked(code, _steerer(who))
    return json(await crises.change_plan(code, wish.plan.rows(), wish.why, wish.version, named))


@router.get(
    "/territories/{code}/crisis/plan/log",
    summary="Who changed the plan, when and why",
    responses=OF_ONE,
    openapi_extra=takes(query=SettingChangesQuery),
)
async def plan_changes(request: Request, code: str) -> Response:
    """Return the versions of the plan, newest first; ``next_before`` leads to the next page."""
    await of_territory(request, code, *_READS)
    query = parse_query(SettingChangesQuery, request)
    return changes_page(code, await wire(request).crises.plan_changes(code, query.before, query.limit))


@router.post(
    "/territories/{code}/crisis/calls",
    summary="Call practices for extra capacity",
    responses=OF_ACTION,
    openapi_extra=takes(CallNowIn, once=True),
)
async def call(request: Request, code: str) -> Response:
    """Call everybody in the territory who has consented to such calls (``crisis_calls`` of ``/v1/overflow``)."""
    who = await of_territory(request, code, Scope.COORDINATOR, Scope.ADMIN)
    wish, named = await read_action(request, who, CallNowIn)
    return json(await wire(request).crises.call(code, wish.text, wish.hours, _steerer(who), named, drill=wish.drill))
