"""Routes about consent: which places leave, for whom and when; who was shown them."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from sas_matcher.api.fields import Clock, Days, Finess, Instant, Rpps, Strict, wrong
from sas_matcher.api.openapi import problems, takes
from sas_matcher.api.problems import parse_query
from sas_matcher.api.reading import parse
from sas_matcher.api.wire import json, keeper, name_of, wire
from sas_matcher.domain.vocabulary import Profession

router = APIRouter(prefix="/v1", tags=["cabinets et centres"])
LONGEST = timedelta(days=31)


Channel = Literal["sas", "platform"]


def _both() -> list[Channel]:
    return ["sas", "platform"]


class ShareRuleIn(Strict):
    """Which places of some members leave, for whom and when. Where there are rules, one must allow it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"professionals": ["10000000012"], "from": "10:00", "channels": ["sas"], "own_first_min": 120}
        }
    )

    professionals: Annotated[list[Rpps], Field(max_length=200)] = Field(default_factory=list)
    structures: Annotated[list[Finess], Field(max_length=50)] = Field(default_factory=list)
    from_: Clock = Field(default="00:00", alias="from", description="Places qui commencent à partir de, heure locale")
    to: Clock = Field(default="24:00", description="… et avant")
    days: Days = Field(default_factory=lambda: [1, 2, 3, 4, 5, 6, 7], description="Jours, 1 = lundi")
    professions: Annotated[list[Profession], Field(min_length=1, max_length=12)] | None = Field(
        default=None, description="Places de ces professions seulement ; toutes sinon"
    )
    channels: Annotated[list[Channel], Field(min_length=1, max_length=2)] = Field(
        default_factory=_both, description="sas : régulateurs ; platform : plateforme nationale"
    )
    own_first_min: Annotated[int, Field(ge=1, le=10_080)] | None = Field(
        default=None, description="Réservées à ses propres patients jusqu'à tant de minutes avant leur début"
    )
    territory: Annotated[str, StringConstraints(max_length=3)] | None = Field(
        default=None, description="Département dont l'heure locale compte ; sinon l'heure de la métropole"
    )

    @model_validator(mode="after")
    def _whole(self) -> "ShareRuleIn":
        if not self.professionals and not self.structures:
            raise wrong("members", "indiquez au moins un membre : professionals (RPPS) ou structures (FINESS)")
        if self.from_ >= self.to:
            raise wrong("to", "to doit être après from ; pour la nuit, donnez deux règles")
        return self


class ExposuresQuery(BaseModel):
    """A window of a month at the most; the next page ends at the last ``at`` of this one."""

    model_config = ConfigDict(extra="forbid")

    from_: Annotated[Instant, Field(alias="from")]
    to: Instant
    limit: Annotated[int, Field(ge=1, le=1000)] = 200

    @model_validator(mode="after")
    def _month(self) -> "ExposuresQuery":
        if not timedelta(0) < self.to - self.from_ <= LONGEST:
            raise wrong("to", "to doit être après from, de 31 jours au plus")
        return self


@router.get("/share-rules", summary="My rules of consent", responses=problems(401, 403, 429, 503))
async def rules(request: Request) -> Response:
    """Return the rules that this key may change."""
    who = await keeper(request)
    return json({"rules": await wire(request).consenting.all(who.publisher)})


@router.get("/share-rules/{name}", summary="One rule of consent", responses=problems(401, 403, 404, 422, 429, 503))
async def rule(request: Request, name: str) -> Response:
    """Return a rule."""
    who = await keeper(request)
    return json(await wire(request).consenting.one(who.publisher, name_of(name)))


@router.put(
    "/share-rules/{name}",
    summary="Set or change a rule of consent",
    responses=problems(401, 403, 404, 409, 413, 422, 429, 503),
    openapi_extra=takes(ShareRuleIn),
)
async def put_rule(request: Request, name: str) -> Response:
    """Say which places of some members leave; in force at once, what is booked or promised stays.

    A member without a rule shares what it publishes, as its visibility says; with rules, what one of them allows.
    """
    who = await keeper(request)
    wish = parse(ShareRuleIn, await request.body()).model_dump(by_alias=True)
    return json(await wire(request).consenting.put(who.publisher, name_of(name), wish))


@router.delete(
    "/share-rules/{name}", summary="Take a rule of consent back", responses=problems(401, 403, 404, 422, 429, 503)
)
async def remove_rule(request: Request, name: str) -> Response:
    """Take a rule back."""
    who = await keeper(request)
    await wire(request).consenting.remove(who.publisher, name_of(name))
    return json({"removed": name})


@router.get(
    "/exposures",
    summary="Who was shown, given or asked what of mine",
    responses=problems(401, 403, 422, 429, 503),
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
