"""What comes in about crises: levels, plans, calls, answers (see ``schemas``), and their queries."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from sas_matcher.api.inputs.asking import StepIn
from sas_matcher.api.inputs.fields import Instant, Phone, Strict, Territory, Text
from sas_matcher.api.inputs.settings import PolicyIn
from sas_matcher.domain.policy import (
    MOST_AGEING_PCT_PER_H,
    MOST_KM,
    MOST_RADIUS_PCT,
    MOST_RESERVE_PCT,
    MOST_TELE_BONUS_MIN,
)

Scope = Annotated[
    str,
    StringConstraints(min_length=2, max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$"),
    Field(description="Un département (69), region:NOM ou nation"),
]
LevelIn = Literal["normal", "tension", "crise"]
Why = Annotated[Text, Field(description="Motif, gardé au journal ; aucune identité de patient")]
Long = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1_000, strip_whitespace=True, pattern=r"^[^\x00-\x09\x0b-\x1f\x7f]+$"),
]
Mail = Annotated[str, StringConstraints(max_length=120, pattern=r"^[^\s@<>]{1,64}@[^\s@<>]{1,120}$")]


class DeclareIn(Strict):
    """A level for a scope, and why."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"scope": "69", "level": "tension", "why": "Épidémie de bronchiolite, SAMU saturé depuis 9 h"}
        }
    )

    scope: Scope
    level: LevelIn
    why: Why
    drill: bool = Field(default=False, description="Exercice : rien ne change pour personne, tout le dit")
    version: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="Version lue du niveau de ce périmètre : refuse si une autre est en vigueur"
    )


class WhyIn(Strict):
    """An answer to a proposal."""

    why: Why


class MeasuresIn(Strict):
    """Settings that a level changes; what is left out stays."""

    policy: PolicyIn | None = None
    hold_seconds: Annotated[int, Field(ge=15, le=1800)] | None = None
    ageing_pct_per_h: Annotated[float, Field(ge=0, le=MOST_AGEING_PCT_PER_H)] | None = None
    radius_pct: Annotated[int, Field(ge=100, le=MOST_RADIUS_PCT)] | None = None
    urgent_reserve_pct: Annotated[int, Field(ge=0, le=MOST_RESERVE_PCT)] | None = None
    tele_bonus_min: Annotated[float, Field(ge=0, le=MOST_TELE_BONUS_MIN)] | None = None
    borrow_km: Annotated[float, Field(ge=0, le=MOST_KM)] | None = None


class CallIn(Strict):
    """A call to the practices that have consented to be called for extra capacity."""

    text: Long
    hours: Annotated[int, Field(ge=1, le=72, description="Validité ; 12 h sinon")] | None = None


class CallNowIn(CallIn):
    """The same, now."""

    drill: bool = Field(default=False, description="Dans l'exercice en cours")


class StageIn(Strict):
    """What a level changes in a territory."""

    settings: MeasuresIn = Field(default_factory=MeasuresIn)
    borrow: bool = Field(default=False, description="Emprunte ce que les voisins ont accepté de prêter (leur lends)")
    ladder: Annotated[list[StepIn], Field(min_length=1, max_length=20)] | None = Field(
        default=None, description="Échelle à ce niveau (CPTS voisines, téléconsultation…) ; sinon, elle reste"
    )
    call: CallIn | None = Field(default=None, description="Appel aux cabinets à l'arrivée à ce niveau")
    text: Long | None = Field(default=None, description="Consigne pour les équipes")


class ContactIn(Strict):
    """Whom to reach: a professional contact, never a patient."""

    name: Text
    role: Text
    phone: Phone | None = None
    mailbox: Mail | None = Field(default=None, description="Boîte aux lettres fonctionnelle")


class LendIn(Strict):
    """What this territory agrees to lend to another one: so many percent of its places."""

    to: Territory
    pct: Annotated[int, Field(ge=1, le=100)]


class PlanBody(Strict):
    """A prepared plan."""

    tension: StageIn | None = None
    crise: StageIn | None = None
    contacts: Annotated[list[ContactIn], Field(max_length=50)] = Field(default_factory=list)
    lends: Annotated[list[LendIn], Field(max_length=20)] = Field(default_factory=list)
    text: Long | None = None

    def rows(self) -> dict[str, Any]:
        """Return it as it is kept: only what is given."""
        document: dict[str, Any] = self.model_dump(exclude_none=True)
        return document


class PlanIn(Strict):
    """The plan of a territory, and why it is written so."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "plan": {
                    "tension": {"settings": {"radius_pct": 125, "urgent_reserve_pct": 20}},
                    "crise": {
                        "settings": {
                            "radius_pct": 150,
                            "urgent_reserve_pct": 40,
                            "policy": {"T2": "auto", "T3": "auto"},
                        },
                        "call": {"text": "Merci d'ouvrir des places cet après-midi", "hours": 8},
                    },
                    "contacts": [{"name": "Astreinte ARS", "role": "ARS", "phone": "+33 4 00 00 00 00"}],
                    "lends": [{"to": "01", "pct": 20}],
                },
                "why": "Plan de la CPTS, revu avec l'ARS",
            }
        }
    )

    plan: PlanBody
    why: Why
    version: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None


class AnswerIn(Strict):
    """An answer to a call: so many places are opened in addition; none says no."""

    places: Annotated[int, Field(ge=1, le=200)] | None = None


class StandingQuery(BaseModel):
    """Where to look; all territories of the key otherwise."""

    model_config = ConfigDict(extra="forbid")

    territory: Territory | None = None


class LogQuery(StandingQuery):
    """A page of what was declared; ``before`` is an id."""

    scope: Scope | None = None
    before: Annotated[int, Field(ge=1, le=2**62)] | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class ProposalsQuery(StandingQuery):
    """Levels that detection proposed: of which territory, in which state; newest first."""

    state: Literal["open", "accepted", "refused", "superseded"] | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class CallsQuery(StandingQuery):
    """Calls for extra capacity, newest first."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50


class ReviewQuery(BaseModel):
    """Of what to write the review."""

    model_config = ConfigDict(extra="forbid")

    scope: Scope
    from_: Instant | None = Field(default=None, alias="from")
    to: Instant | None = None
    drill: Literal["true", "false"] = "false"
    format: Literal["json", "html"] = "json"
