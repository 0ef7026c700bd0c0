"""What comes in about en sus: consents, answers, ladders (see ``schemas``)."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from sas_matcher.api.inputs.fields import Clock, Days, Finess, Insee, Instant, Reason, Specialty, Strict, Text, wrong
from sas_matcher.api.inputs.schemas import LocationIn, ProfessionalIn, StructureIn
from sas_matcher.domain.vocabulary import Mode, Offer, Profession, SourceKind


class OverflowIn(Strict):
    """Who may be asked for patients beyond their slots, and when. Without one nobody is ever asked."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "professional": {"rpps": "10000000012", "name": "Dr Marguerite Fictif"},
                "source_kind": "liberal",
                "location": {"lat": 45.757, "lon": 4.832, "insee": "69382", "label": "Cabinet fictif des Tilleuls"},
                "profession": "MG",
                "modes": ["cabinet"],
                "ask_from": "09:00",
                "ask_to": "18:30",
                "days": [1, 2, 3, 4, 5],
                "most_a_day": 3,
            }
        }
    )

    professional: ProfessionalIn | None = None
    structure: StructureIn | None = None
    source_kind: SourceKind
    location: LocationIn
    profession: Profession
    specialty: Specialty | None = None
    modes: Annotated[list[Mode], Field(min_length=1, max_length=3)] = Field(default_factory=lambda: [Mode.CABINET])
    offers: Annotated[list[Offer], Field(max_length=25)] = Field(default_factory=list)
    cpts: Finess | None = Field(default=None, description="FINESS de la CPTS dont les membres sont sollicités ensemble")
    ask_from: Clock = Field(default="08:00", description="Aucune question avant, heure locale (heures du SAS)")
    ask_to: Clock = Field(default="20:00", description="Aucune question à partir de, heure locale")
    days: Days = Field(default_factory=lambda: [1, 2, 3, 4, 5], description="Jours de questions, 1 = lundi")
    most_a_day: Annotated[int, Field(ge=1, le=50, description="Questions par jour au plus")]
    minutes: Annotated[int, Field(ge=5, le=240, description="Durée d'une consultation en sus")] = 15
    crisis_calls: bool = Field(
        default=False, description="Accepte les appels à ouvrir des places en tension ou en crise (docs/crisis.md)"
    )

    @model_validator(mode="after")
    def _some_time(self) -> "OverflowIn":
        if self.ask_from >= self.ask_to:
            raise wrong("hours", "ask_to doit être après ask_from ; pour la nuit, donnez deux accords")
        return self


class AcceptIn(Strict):
    """Yes: the patient is received at ``start``."""

    model_config = ConfigDict(json_schema_extra={"example": {"start": "2026-11-23T18:45:00+01:00"}})

    start: Instant
    mode: Mode | None = Field(default=None, description="Nécessaire quand la question en laisse plusieurs")


class NoIn(Strict):
    """No, with a reason."""

    reason: Reason = "practice"


class AskStepIn(Strict):
    """A rung on which professionals who consented are asked, in waves."""

    kind: Literal["ask"]
    name: Text
    radius_km: Annotated[float, Field(gt=0, le=150)] | None = Field(
        default=None, description="Sinon, le rayon de la demande"
    )
    only_mt: bool = Field(default=False, description="Le médecin traitant du patient, seul, où qu'il soit")
    cpts: Annotated[list[Finess], Field(max_length=50)] = Field(
        default_factory=list, description="Membres de ces CPTS seulement"
    )
    communes: Annotated[list[Insee], Field(max_length=1_000)] = Field(
        default_factory=list, description="Patients de ces communes seulement (zone d'intervention)"
    )
    waves: Annotated[int, Field(ge=1, le=20)]
    at_once: Annotated[int, Field(ge=1, le=50, description="Sollicités par vague, au plus")]
    sure_pct: Annotated[int, Field(ge=1, le=100, description="Moins dès que la chance d'un oui atteint cela")] = 100
    wait_min: Annotated[int, Field(ge=1, le=240, description="Minutes laissées à une vague")]


class TellStepIn(Strict):
    """A rung on which the regulator is told what to propose."""

    kind: Literal["tell"]
    name: Text
    what: Literal["tele", "mmg", "reorient"]
    text: Text | None = Field(default=None, description="Adresse ou numéro à donner ; aucune identité")
    communes: Annotated[list[Insee], Field(max_length=1_000)] = Field(default_factory=list)
    wait_min: Annotated[int, Field(ge=1, le=240)] = 1


StepIn = Annotated[AskStepIn | TellStepIn, Field(discriminator="kind")]


class LadderIn(Strict):
    """The whole ladder of a territory, and why; no step: nobody is asked."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "steps": [
                    {"kind": "ask", "name": "Cabinets proches", "waves": 2, "at_once": 3, "wait_min": 5},
                    {"kind": "tell", "name": "Téléconsultation", "what": "tele", "wait_min": 10},
                    {"kind": "tell", "name": "Réorienter", "what": "reorient"},
                ],
                "why": "Essai décidé avec la CPTS",
            }
        }
    )

    steps: Annotated[list[StepIn], Field(max_length=20)]
    why: Annotated[Text, Field(description="Motif, gardé au journal ; aucune identité de patient")]
    version: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="Version lue : refuse le changement si une autre est en vigueur"
    )

    def rows(self) -> list[dict[str, Any]]:
        """Return the steps as they are kept."""
        return [step.model_dump() for step in self.steps]
