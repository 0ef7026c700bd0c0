"""What comes in, as strict pydantic models: unknown fields and lax types are refused, there is no field for identity.

The same models validate the API, the ingest stream and the CLI's files, and make the OpenAPI document.
"""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from sas_matcher.api.inputs.fields import (
    ACCEPTANCE,
    AcceptMinutes,
    ExternalId,
    Finess,
    HandBackMinutes,
    Insee,
    Instant,
    Latitude,
    Longitude,
    Phone,
    Reason,
    Rpps,
    SlotId,
    Specialty,
    Strict,
    Text,
    Uuid,
    wrong,
)
from sas_matcher.domain.limits import Counts, Period
from sas_matcher.domain.notices import NoticeKind
from sas_matcher.domain.vocabulary import (
    VITAL_PRIORITIES,
    Acceptance,
    AgeBand,
    BookingKind,
    Delay,
    Mode,
    Offer,
    Priority,
    Profession,
    RefusalReason,
    SourceKind,
    Visibility,
)

MOST_SLOTS: Final = 10_000  # a day of a large editor's client; more goes in several calls
_MAIL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+")
_URL = re.compile(r"https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[\x21\x22\x24-\x7e]*)?")


def _priority(value: Any) -> Any:
    if isinstance(value, str) and value in VITAL_PRIORITIES:
        raise PydanticCustomError("vital_priority", "priorité vitale ou vraie : orienter AMU/SMUR")
    return value


class ProfessionalIn(Strict):
    """Who receives the patient."""

    rpps: Rpps
    name: Text


class StructureIn(Strict):
    """The organisation that receives the patient."""

    finess: Finess
    kind: SourceKind
    name: Text


class LocationIn(Strict):
    """The place of practice."""

    lat: Latitude
    lon: Longitude
    insee: Insee
    label: Text | None = None
    phone: Phone | None = None


class SlotIn(Strict):
    """One slot; capacity over 1 is a plage."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "external_id": "agenda-12-2026-11-23-1400",
                "professional": {"rpps": "10000000012", "name": "Dr Marguerite Fictif"},
                "structure": None,
                "source_kind": "liberal",
                "location": {"lat": 45.757, "lon": 4.832, "insee": "69382", "label": "Cabinet fictif des Tilleuls"},
                "start": "2026-11-23T14:00:00+01:00",
                "end": "2026-11-23T14:15:00+01:00",
                "capacity": 1,
                "mode": "cabinet",
                "booking_kind": "routine",
                "profession": "MG",
                "offers": ["secteur1", "pmr"],
                "visibility": "snp",
            }
        }
    )

    external_id: ExternalId
    professional: ProfessionalIn | None = None
    structure: StructureIn | None = None
    source_kind: SourceKind
    location: LocationIn
    start: Instant
    end: Instant
    capacity: Annotated[int, Field(ge=1, le=200)] = 1
    mode: Mode
    booking_kind: BookingKind = BookingKind.ROUTINE
    profession: Profession
    specialty: Specialty | None = None
    offers: Annotated[list[Offer], Field(max_length=25)] = Field(default_factory=list)
    visibility: Visibility = Visibility.SNP
    acceptance: Annotated[Acceptance, Field(description=ACCEPTANCE)] | None = None
    accept_min: AcceptMinutes | None = None
    hand_back_min: HandBackMinutes | None = None
    valid_at: Instant | None = None

    @model_validator(mode="after")
    def _accepted(self) -> "SlotIn":
        if self.accept_min is not None and self.acceptance is None:
            raise wrong("accept_min", "accept_min va avec acceptance (tacit ou explicit)")
        return self


class SlotsIn(Strict):
    """Slots to publish or change, at most 10 000."""

    slots: Annotated[list[SlotIn], Field(min_length=1, max_length=MOST_SLOTS)]


class WithdrawIn(Strict):
    """Slots to withdraw: by name, or all that start in a window ("tout arrêter")."""

    external_ids: Annotated[list[ExternalId], Field(min_length=1, max_length=MOST_SLOTS)] | None = None
    from_: Annotated[Instant | None, Field(alias="from")] = None
    to: Instant | None = None
    reason: Reason = "practice"

    @model_validator(mode="after")
    def _one_way(self) -> "WithdrawIn":
        window = self.from_ is not None and self.to is not None
        if (self.external_ids is None) != window or (self.from_ is None) != (self.to is None):
            raise wrong("withdraw", "donnez soit external_ids, soit from et to")
        return self


class RequestIn(Strict):
    """One patient's need. There is no field for a name, a birth date, a phone or a street."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "insee": "69383",
                "profession": "MG",
                "modes": ["cabinet"],
                "delay": "4H",
                "needs": ["enfant"],
                "age_band": "enfant",
                "priority": "P2",
            }
        }
    )

    insee: Insee | None = None
    lat: Latitude | None = None
    lon: Longitude | None = None
    territory: Annotated[str, StringConstraints(max_length=3)] | None = None
    profession: Profession | None = None
    specialty: Specialty | None = None
    modes: Annotated[list[Mode], Field(min_length=1, max_length=3)] = Field(default_factory=lambda: [Mode.CABINET])
    delay: Delay
    radius_km: Annotated[float, Field(gt=0, le=150)] | None = None
    needs: Annotated[list[Offer], Field(max_length=10)] = Field(default_factory=list)
    age_band: AgeBand | None = None
    mt: Rpps | None = None
    has_mt: Literal["yes", "no", "unknown"] | None = Field(
        default=None, description="Le patient a-t-il un médecin traitant, quel qu'il soit ; compté pour la CPTS"
    )
    priority: Annotated[Priority, Field(strict=False), BeforeValidator(_priority)] = Priority.P2
    on_phone: bool = True
    case_ref: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/-]{1,64}$")] | None = Field(
        default=None, description="Jeton de corrélation opaque du logiciel de régulation, sans identité"
    )

    @model_validator(mode="after")
    def _enough(self) -> "RequestIn":
        if (self.lat is None) != (self.lon is None):
            raise wrong("point", "lat et lon vont ensemble")
        if self.insee is None and self.lat is None:
            raise wrong("where", "indiquez insee (commune) ou lat et lon")
        if self.profession is None and self.specialty is None:
            raise wrong("profession", "indiquez profession ou specialty")
        if self.mt is not None and self.has_mt not in (None, "yes"):
            raise wrong("has_mt", "has_mt vaut « yes » quand mt est donné ; retirez l'un des deux")
        return self


class ConfirmIn(Strict):
    """Confirm the hold; ``booking_id`` makes sure that it is the one that was read out."""

    booking_id: Uuid | None = None


class DeclineIn(Strict):
    """Decline the hold: this slot, or this professional, is never proposed again for the request.

    ``gone``: the editor whose booking page it was has the place no more (a phantom): nobody is offered it.
    """

    booking_id: Uuid | None = None
    scope: Literal["slot", "professional", "gone"] = "slot"


class CancelIn(Strict):
    """Cancel the request."""

    reason: Reason = "regulator"


class Nothing(Strict):
    """No parameters."""


class TakeIn(Strict):
    """Hold a place of one's own choice."""

    slot_id: SlotId


class HandIn(Strict):
    """Hand the request to a colleague."""

    to: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{8,16}$", strip_whitespace=True)] = Field(
        description="Clé du collègue (son identifiant), voir /v1/colleagues"
    )


class LimitIn(Strict):
    """How many patients some members take together in a day or half a day; exactly one of most and share."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"professionals": ["10000000012"], "counts": "patients", "period": "day", "most": 6}
        }
    )

    professionals: Annotated[list[Rpps], Field(max_length=200)] = Field(default_factory=list)
    structures: Annotated[list[Finess], Field(max_length=50)] = Field(default_factory=list)
    counts: Counts = Counts.PATIENTS
    period: Period = Period.DAY
    most: Annotated[int, Field(ge=0, le=10_000)] | None = None
    share: Annotated[int, Field(ge=0, le=100, description="Pour cent des places publiées de la période")] | None = None
    territory: Annotated[str, StringConstraints(max_length=3)] | None = Field(
        default=None, description="Département dont l'heure locale fixe la journée ; sinon l'heure de la métropole"
    )

    @model_validator(mode="after")
    def _whole(self) -> "LimitIn":
        if not self.professionals and not self.structures:
            raise wrong("members", "indiquez au moins un membre : professionals (RPPS) ou structures (FINESS)")
        if (self.most is None) == (self.share is None):
            raise wrong("most", "indiquez soit most (nombre), soit share (pour cent des places publiées)")
        return self


class SubscriptionIn(Strict):
    """Who is told of what, and how."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "way": "webhook",
                "address": "https://agenda.example/sas",
                "kinds": ["booking.made", "booking.to_accept", "booking.cancelled"],
            }
        }
    )

    way: Literal["websocket", "email", "webhook"]
    address: Annotated[str, StringConstraints(min_length=3, max_length=500, pattern=r"^[\x21-\x7e]+$")] | None = Field(
        default=None, description="Adresse de courriel, ou adresse https du webhook"
    )
    kinds: Annotated[list[NoticeKind], Field(min_length=1, max_length=20)]
    professionals: Annotated[list[Rpps], Field(max_length=200)] = Field(default_factory=list)
    structures: Annotated[list[Finess], Field(max_length=50)] = Field(default_factory=list)
    most_reminders: Annotated[int, Field(ge=0, le=20, description="Rappels au plus en 24 heures")] = 3

    @model_validator(mode="after")
    def _addressed(self) -> "SubscriptionIn":
        if (self.address is None) != (self.way == "websocket"):
            raise wrong("address", "address va avec email et webhook, et avec eux seuls")
        if self.way == "email" and not _MAIL.fullmatch(self.address or ""):
            raise wrong("mail", "address n'est pas une adresse de courriel")
        if self.way == "webhook" and not _URL.fullmatch(self.address or ""):
            raise wrong("url", "address n'est pas une adresse https, sans mot de passe ni fragment")
        return self


class ConfirmAddressIn(Strict):
    """The code that a new address of mail was sent."""

    code: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]


class RefuseIn(Strict):
    """The practice refuses a booking; ``keep_slot`` says whether its place stays open for others.

    Unsaid, an hour is closed and a plage (``capacity`` over 1) stays.
    """

    reason: RefusalReason = RefusalReason.PRACTICE
    keep_slot: bool | None = None


class CallOffIn(Strict):
    """The patient told the practice that he does not come; ``keep_slot`` false takes the place off as well."""

    keep_slot: bool = True


class MoveIn(Strict):
    """Where the practice moves a patient to: another open slot of its own."""

    slot_id: SlotId


class ArrivedIn(Strict):
    """How many patients of a plage have come so far; ``over``: the others did not."""

    arrived: Annotated[int, Field(ge=0, le=200)]
    over: bool = False


class OutcomeIn(Strict):
    """What became of a booking."""

    outcome: Literal["fulfilled", "noshow"]


class Hello(Strict):
    """First message of a websocket."""

    type: Literal["hello"]
    ticket: Annotated[str, StringConstraints(min_length=20, max_length=64)]
    resume: "Resume | None" = None


class Resume(Strict):
    """Where to go on."""

    epoch: Annotated[str, StringConstraints(max_length=64)]
    offset: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,16}-[0-9]{1,10}$")]


class ChangeIn(Strict):
    """One entry of the ingest stream."""

    action: Literal["publish", "withdraw"]
    slot: SlotIn | None = None
    external_id: ExternalId | None = None

    @model_validator(mode="after")
    def _whole(self) -> "ChangeIn":
        if (self.action == "publish") != (self.slot is not None) or (self.action == "withdraw") != (
            self.external_id is not None
        ):
            raise wrong("change", "publish demande slot, withdraw demande external_id")
        return self
