"""What comes in about the settings of a territory (see ``schemas``)."""

from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    model_validator,
)

from sas_matcher.api.inputs.fields import (
    Strict,
    Territory,
    Text,
    wrong,
)
from sas_matcher.domain.policy import (
    MOST_AGEING_PCT_PER_H,
    MOST_FAIR_LOAD_MIN,
    MOST_KM,
    MOST_MT_ASK_MIN,
    MOST_RADIUS_PCT,
    MOST_RESERVE_PCT,
    MOST_TELE_BONUS_MIN,
)

Borrow = Annotated[
    dict[Territory, Annotated[int, Field(ge=1, le=100)]],
    Field(max_length=20, json_schema_extra={"additionalProperties": False}),
]
LivePolicy = Literal["firm", "promise", "crisis", "auto"]


class PolicyIn(Strict):
    """When a place becomes firm, by tier; tiers that are left out stay as they are."""

    T0: LivePolicy | None = None
    T1: LivePolicy | None = None
    T2: LivePolicy | None = None
    T3: LivePolicy | None = None


class SettingIn(Strict):
    """What to change in the settings of a territory, and why; what is left out stays as it is."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "policy": {"T0": "firm", "T1": "auto", "T2": "auto", "T3": "auto"},
                "crisis": True,
                "why": "Épidémie de bronchiolite, plan activé ce matin",
            }
        }
    )

    hold_seconds: Annotated[int, Field(ge=15, le=1800, description="Durée d'une réservation provisoire")] | None = None
    mt_rule: Literal["bonus", "first"] | None = None
    mt_ask_min: Annotated[int, Field(ge=0, le=MOST_MT_ASK_MIN)] | None = Field(
        default=None, description="Avec first : minutes laissées au médecin traitant sollicité avant toute autre place"
    )
    policy: PolicyIn | None = None
    crisis_allowed: bool | None = Field(default=None, description="La crise peut être déclarée (ARS, administration)")
    crisis: bool | None = Field(default=None, description="La crise est déclarée")
    ageing_pct_per_h: Annotated[float, Field(ge=0, le=MOST_AGEING_PCT_PER_H)] | None = Field(
        default=None, description="Gain de valeur par heure d'attente, en % de celle du palier"
    )
    fair_load_min: Annotated[float, Field(ge=0, le=MOST_FAIR_LOAD_MIN)] | None = Field(
        default=None, description="Minutes ajoutées au coût d'une place par patient déjà pris chez ce professionnel"
    )
    radius_pct: Annotated[int, Field(ge=100, le=MOST_RADIUS_PCT)] | None = Field(
        default=None, description="Rayon accordé, en % de celui de la demande"
    )
    urgent_reserve_pct: Annotated[int, Field(ge=0, le=MOST_RESERVE_PCT)] | None = Field(
        default=None, description="Part des places gardée pour T0 et T1 jusqu'à une heure avant leur début"
    )
    tele_bonus_min: Annotated[float, Field(ge=0, le=MOST_TELE_BONUS_MIN)] | None = Field(
        default=None, description="Minutes que vaut une téléconsultation pour qui l'accepte"
    )
    borrow: Borrow | None = Field(
        default=None, description="Part des places de départements voisins à portée, en %, par département"
    )
    borrow_km: Annotated[float, Field(ge=0, le=MOST_KM)] | None = Field(
        default=None, description="Jusqu'où vont ces emprunts, quel que soit le rayon de la demande"
    )
    why: Annotated[Text, Field(description="Motif, gardé au journal ; aucune identité de patient")]
    version: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="Version lue : refuse le changement si une autre est en vigueur"
    )

    @model_validator(mode="after")
    def _something(self) -> "SettingIn":
        if not self.changes():
            raise wrong("changes", "indiquez au moins un réglage à changer")
        return self

    def changes(self) -> dict[str, Any]:
        """Return what is to change, by column; of ``policy``, by tier."""
        given = self.model_dump(exclude={"why", "version"}, exclude_none=True)
        # an empty policy names nothing; an empty borrow ends what was borrowed
        return {name: value for name, value in given.items() if value != {} or name == "borrow"}
