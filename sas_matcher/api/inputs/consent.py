"""What comes in about consent: rules of which places leave, for whom and when (see ``schemas``)."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from sas_matcher.api.inputs.fields import Clock, Days, Finess, Instant, Rpps, Strict, wrong
from sas_matcher.domain.vocabulary import Profession

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
