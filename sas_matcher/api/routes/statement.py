"""Route of what taking part gives back to a practice: JSON, or a table for a spreadsheet."""

from datetime import timedelta
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sas_matcher.api.auth import Caller
from sas_matcher.api.inputs.fields import Instant, wrong
from sas_matcher.api.openapi import problems, takes
from sas_matcher.api.problems import parse_query
from sas_matcher.api.wire import caller, json, wire
from sas_matcher.domain.errors import NotAllowedError
from sas_matcher.domain.vocabulary import Role, Scope
from sas_matcher.ports.practice import Owners
from sas_matcher.services.statement import ACT_COLUMNS, WEEK_COLUMNS, as_csv

router = APIRouter(prefix="/v1", tags=["cabinets et centres"])
LONGEST: Final = timedelta(days=93)


class StatementQuery(BaseModel):
    """A window of a quarter at the most; as JSON, or one of its two tables as CSV."""

    model_config = ConfigDict(extra="forbid")

    from_: Annotated[Instant, Field(alias="from")]
    to: Instant
    format: Literal["json", "csv"] = "json"
    what: Annotated[Literal["acts", "weeks"], Field(description="Tableau, avec format=csv")] = "acts"

    @model_validator(mode="after")
    def _quarter(self) -> "StatementQuery":
        if not timedelta(0) < self.to - self.from_ <= LONGEST:
            raise wrong("to", "to doit être après from, de 93 jours au plus")
        return self


def owners_of(who: Caller) -> Owners:
    """Return whose statement a key may read: its source, professionals or structures.

    Raises:
        NotAllowedError: it runs no structure and publishes nothing (CPTS, ARS).
    """
    if who.scope is not Scope.PRACTICE and who.role is not Role.GESTIONNAIRE:
        raise NotAllowedError("Ce relevé est celui d'un cabinet, d'un centre ou d'un gestionnaire.")
    every = who.scope is Scope.PRACTICE and "*" in who.professionals
    return who.source if every else None, sorted(who.professionals), sorted(who.structures)


@router.get(
    "/statement",
    summary="What taking part gives back",
    responses=problems(401, 403, 413, 422, 429, 503),
    openapi_extra=takes(query=StatementQuery),
)
async def statement(request: Request) -> Response:
    """Return hours offered and filled a week, patients, and for each act the facts that its supplement asks.

    Of the key's professionals and structures only; no patient in it.
    """
    who = await caller(request, Scope.PRACTICE, Scope.COORDINATOR)
    query = parse_query(StatementQuery, request)
    found = await wire(request).statements.of(owners_of(who), (query.from_, query.to))
    if query.format == "json":
        return json(found)
    columns = ACT_COLUMNS if query.what == "acts" else WEEK_COLUMNS
    # a byte order mark: without one a spreadsheet reads UTF-8 as something else
    return Response(
        "\ufeff" + as_csv(found[query.what], columns),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="releve-{query.what}.csv"', "Cache-Control": "no-store"},
    )
