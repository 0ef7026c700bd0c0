"""Routes about what a territory sets: read by all its keys, changed by those who steer it, with a trace."""

from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from sas_matcher.api.inputs.queries import CountQuery, SettingChangesQuery
from sas_matcher.api.inputs.settings import SettingIn
from sas_matcher.api.openapi import OF_ACTION, OF_ONE, answers, takes
from sas_matcher.api.problems import parse_query
from sas_matcher.api.wire import changes_page, json, of_territory, read_action, wire
from sas_matcher.domain.errors import NotAllowedError
from sas_matcher.domain.vocabulary import Role, Scope
from sas_matcher.ports.ledger import SettingChange

router = APIRouter()

MAY_ALLOW_A_CRISIS: Final = frozenset({Role.ARS, Role.PREFECTURE, Role.ADMIN})
"""ARS and prefect activate crises (ACI, crisis mission of a CPTS); within their leave, whoever steers declares them."""


@router.get(
    "/v1/territories/{code}/settings",
    tags=["pilotage"],
    summary="Settings of a territory",
    responses={200: answers("Setting", "As they stand"), **OF_ONE},
)
async def settings(request: Request, code: str) -> Response:
    """Return the policy of each tier, whether a crisis is declared, holds, médecin traitant and ageing."""
    await of_territory(request, code)
    return json(await wire(request).steering.setting(code))


@router.patch(
    "/v1/territories/{code}/settings",
    tags=["pilotage"],
    summary="Change settings of a territory",
    responses={200: answers("Setting", "As they stand now"), **OF_ACTION},
    openapi_extra=takes(SettingIn, once=True),
)
async def change_settings(request: Request, code: str) -> Response:
    """Change what is named and leave the rest; who, when and why is written down and told to the territory's keys.

    In force within three seconds. A crisis can be declared or chosen where it is allowed; only the ARS and
    administrators allow it.
    """
    who = await of_territory(request, code, Scope.COORDINATOR, Scope.ADMIN)
    wanted, named = await read_action(request, who, SettingIn)
    changes = wanted.changes()
    if "crisis_allowed" in changes and who.role not in MAY_ALLOW_A_CRISIS:
        raise NotAllowedError("Seules l'ARS, la préfecture et l'administration permettent la crise (crisis_allowed).")
    change = SettingChange(code, changes, wanted.why, wanted.version)
    return json(await wire(request).steering.change(change, named))


@router.get(
    "/v1/territories/{code}/mt",
    tags=["pilotage"],
    summary="Patients with and without a médecin traitant",
    responses=OF_ONE,
    openapi_extra=takes(query=CountQuery),
)
async def with_mt(request: Request, code: str) -> Response:
    """Count the patients of a window who have a médecin traitant, have none, or of whom it is not known; no identity.

    By commune of the patient; communes with fewer than five requests are counted together.
    """
    await of_territory(request, code, Scope.COORDINATOR, Scope.ADMIN)
    query = parse_query(CountQuery, request)
    return json(await wire(request).steering.with_mt(code, (query.from_, query.to), query.communes))


@router.get(
    "/v1/territories/{code}/settings/log",
    tags=["pilotage"],
    summary="Who changed settings of a territory, when and why",
    responses={200: answers("SettingChanges", "A page, newest first"), **OF_ONE},
    openapi_extra=takes(query=SettingChangesQuery),
)
async def setting_changes(request: Request, code: str) -> Response:
    """Return the changes, newest first; ``next_before`` leads to the next page."""
    await of_territory(request, code)
    query = parse_query(SettingChangesQuery, request)
    return changes_page(code, await wire(request).steering.changes(code, query.before, query.limit))
