"""Routes about consent: which places leave, for whom and when; who was shown them."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from sas_matcher.api.inputs.consent import ExposuresQuery, ShareRuleIn
from sas_matcher.api.inputs.reading import parse
from sas_matcher.api.openapi import OF_ACTION, OF_LIST, OF_ONE, OF_OWN, takes
from sas_matcher.api.problems import parse_query
from sas_matcher.api.wire import json, keeper, name_of, wire

router = APIRouter(prefix="/v1", tags=["cabinets et centres"])


@router.get("/share-rules", summary="My rules of consent", responses=OF_OWN)
async def rules(request: Request) -> Response:
    """Return the rules that this key may change."""
    who = await keeper(request)
    return json({"rules": await wire(request).consenting.all(who.publisher)})


@router.get("/share-rules/{name}", summary="One rule of consent", responses=OF_ONE)
async def rule(request: Request, name: str) -> Response:
    """Return a rule."""
    who = await keeper(request)
    return json(await wire(request).consenting.one(who.publisher, name_of(name)))


@router.put(
    "/share-rules/{name}",
    summary="Set or change a rule of consent",
    responses=OF_ACTION,
    openapi_extra=takes(ShareRuleIn),
)
async def put_rule(request: Request, name: str) -> Response:
    """Say which places of some members leave; in force at once, what is booked or promised stays.

    A member without a rule shares what it publishes, as its visibility says; with rules, what one of them allows.
    """
    who = await keeper(request)
    wish = parse(ShareRuleIn, await request.body()).model_dump(by_alias=True)
    return json(await wire(request).consenting.put(who.publisher, name_of(name), wish))


@router.delete("/share-rules/{name}", summary="Take a rule of consent back", responses=OF_ONE)
async def remove_rule(request: Request, name: str) -> Response:
    """Take a rule back."""
    who = await keeper(request)
    await wire(request).consenting.remove(who.publisher, name_of(name))
    return json({"removed": name})


@router.get(
    "/exposures",
    summary="Who was shown, given or asked what of mine",
    responses=OF_LIST,
    openapi_extra=takes(query=ExposuresQuery),
)
async def exposures(request: Request) -> Response:
    """Return what became known of the caller's places, to whom (role and key), when and under which rule; no patient.

    Kept for 35 days; newest first.
    """
    who = await keeper(request)
    query = parse_query(ExposuresQuery, request)
    window = (query.from_, query.to)
    return json({"exposures": await wire(request).consenting.exposures(who.publisher, window, query.limit)})
