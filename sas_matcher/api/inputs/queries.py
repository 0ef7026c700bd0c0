"""Queries of URLs, as pydantic models: text as it comes, so not strict; unknown names are refused."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from sas_matcher.api.inputs.fields import Insee, Instant, Latitude, Longitude, Specialty, Uuid, wrong
from sas_matcher.domain.lifecycle import RequestStatus
from sas_matcher.domain.vocabulary import Mode, Offer, Profession


class SettingChangesQuery(BaseModel):
    """A page of the changes of a territory's setting; ``before`` is a version."""

    model_config = ConfigDict(extra="forbid")

    before: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class OffersQuery(BaseModel):
    """Query of the list of offers."""

    model_config = ConfigDict(extra="forbid", use_enum_values=True)

    insee: Insee | None = None
    lat: Latitude | None = None
    lon: Longitude | None = None
    profession: Profession
    specialty: Specialty | None = None
    modes: Annotated[list[Mode], Field(min_length=1, max_length=3)] = Field(default_factory=lambda: [Mode.CABINET])
    needs: Annotated[list[Offer], Field(max_length=10)] = Field(default_factory=list)
    radius_km: Annotated[float, Field(gt=0, le=150)] | None = None

    @model_validator(mode="after")
    def _where(self) -> "OffersQuery":
        if (self.lat is None) != (self.lon is None) or (self.insee is None and self.lat is None):
            raise wrong("where", "indiquez insee (commune), ou lat et lon ensemble")
        return self


class PreviewQuery(BaseModel):
    """Whether to say what would come of it, and write nothing."""

    model_config = ConfigDict(extra="forbid")

    preview: Literal["true", "false"] = "false"


class WindowQuery(BaseModel):
    """A window of starts."""

    model_config = ConfigDict(extra="forbid")

    from_: Annotated[Instant, Field(alias="from")]
    to: Instant
    after: Annotated[int, Field(ge=0, le=2**62)] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 200


class CountQuery(BaseModel):
    """What is counted: a window, at most a year, and communes; all of the territory's when none is named."""

    model_config = ConfigDict(extra="forbid")

    from_: Annotated[Instant, Field(alias="from")]
    to: Instant
    communes: Annotated[list[Insee], Field(max_length=500)] | None = None

    @model_validator(mode="after")
    def _window(self) -> "CountQuery":
        if not timedelta(0) < self.to - self.from_ <= timedelta(days=366):
            raise wrong("to", "doit être après from, d'un an au plus")
        return self


class RequestsQuery(BaseModel):
    """A page of requests."""

    model_config = ConfigDict(extra="forbid")

    status: list[RequestStatus] | None = None
    before: Instant | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class QuestionsQuery(BaseModel):
    """Questions put to a practice."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["asked", "accepted", "refused", "closed", "released"] | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class DeliveriesQuery(BaseModel):
    """A page of what was told; ``before`` is the number of a delivery."""

    model_config = ConfigDict(extra="forbid")

    subscription: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,40}$")] | None = None
    state: Literal["waiting", "sent", "refused"] | None = None
    before: Annotated[int, Field(ge=1, le=2**62)] | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class MessagesQuery(BaseModel):
    """Messages to the national platform."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["waiting", "sent", "refused", "impossible"] | None = None
    booking_id: Uuid | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class CommunesQuery(BaseModel):
    """Completion of a commune."""

    model_config = ConfigDict(extra="forbid")

    q: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    limit: Annotated[int, Field(ge=1, le=50)] = 10
    territory: Annotated[str, StringConstraints(max_length=3)] | None = None


class OverviewQuery(BaseModel):
    """Which territory."""

    model_config = ConfigDict(extra="forbid")

    territory: Annotated[str, StringConstraints(min_length=2, max_length=3)] | None = None


class TerritoryQuery(BaseModel):
    """Which territory; it must be named."""

    model_config = ConfigDict(extra="forbid")

    territory: Annotated[str, StringConstraints(min_length=2, max_length=3)]


class FiguresQuery(BaseModel):
    """Which figures: of a territory, from an instant (default: seven days before ``to``) to another (default: now)."""

    model_config = ConfigDict(extra="forbid")

    territory: Annotated[str, StringConstraints(min_length=2, max_length=3)]
    from_: Annotated[Instant | None, Field(alias="from")] = None
    to: Instant | None = None
    format: Literal["json", "csv"] = "json"
