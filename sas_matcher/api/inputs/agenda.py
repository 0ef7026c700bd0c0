"""What comes in about agendas, as strict models. Times are on the wall clock of the place: no offset."""

from datetime import date, time
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from sas_matcher.api.inputs.fields import (
    ACCEPTANCE,
    AcceptMinutes,
    ExternalId,
    HandBackMinutes,
    Instant,
    Specialty,
    Strict,
    Text,
    wrong,
)
from sas_matcher.api.inputs.schemas import LocationIn, ProfessionalIn, StructureIn
from sas_matcher.domain.agenda import LONGEST_RANGE, QUICK
from sas_matcher.domain.vocabulary import Acceptance, BookingKind, Mode, Offer, Profession, SourceKind, Visibility
from sas_matcher.recurrence import parse_rule

MOST_HOURS: Final = 300  # a centre of 30 professionals with ten ranges a week each
_YEARS: Final = range(2020, 2100)


def _day(text: str) -> str:
    try:
        year = date.fromisoformat(text).year
    except ValueError:
        raise wrong("day", f"{text} n'existe pas au calendrier ; attendu par exemple 2026-11-23") from None
    if year not in _YEARS:
        raise wrong("day", "l'année n'est pas entre 2020 et 2099")
    return text


def _clock(text: str) -> str:
    try:
        time.fromisoformat(text)
    except ValueError:
        raise wrong("clock", f"{text} n'est pas une heure ; attendu par exemple 08:30") from None
    return text


def _local(text: str) -> str:
    _day(text[:10])
    _clock(text[11:])
    return text


def _rule(text: str) -> str:
    try:
        parse_rule(text)
    except ValueError as unusable:
        raise wrong("rule", str(unusable)) from None
    return text


Day = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), AfterValidator(_day)]
ClockTime = Annotated[str, StringConstraints(pattern=r"^[0-9]{2}:[0-9]{2}$"), AfterValidator(_clock)]
LocalTime = Annotated[
    str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}$"), AfterValidator(_local)
]
Rule = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_rule)]
HoursName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,40}$")]
Minutes = Annotated[int, Field(ge=5, le=240)]
Seats = Annotated[int, Field(ge=1, le=200)]
Booked = Literal["keep", "refuse"]


class HoursIn(Strict):
    """A range of a day, once or recurring: individual times (each_min) or a plage (capacity)."""

    id: HoursName
    first: Annotated[Day, Field(description="Premier jour ; la règle compte à partir de lui")]
    start: ClockTime
    end: Annotated[ClockTime, Field(description="Le lendemain s'il n'est pas après le début")]
    repeat: Annotated[Rule, Field(description="RRULE (RFC 5545) ; sans elle, une seule fois")] | None = None
    except_on: Annotated[list[Day], Field(max_length=400)] = Field(default_factory=list)
    also_on: Annotated[list[Day], Field(max_length=100)] = Field(default_factory=list)
    each_min: Annotated[Minutes, Field(description="Durée de chaque rendez-vous")] | None = None
    capacity: Annotated[Seats, Field(description="Patients de toute la plage")] | None = None
    piece_min: Annotated[Minutes, Field(description="La plage est proposée par morceaux de cette durée")] | None = None
    mode: Mode = Mode.CABINET
    booking_kind: BookingKind = BookingKind.ROUTINE
    offers: Annotated[list[Offer], Field(max_length=25)] | None = Field(
        default=None, description="Sinon ceux de l'agenda"
    )
    visibility: Visibility | None = Field(default=None, description="Sinon celle de l'agenda")
    info: Text | None = Field(default=None, description="Pour le régulateur ; sinon celle de l'agenda")
    acceptance: Literal["none", "tacit", "explicit"] | None = Field(
        default=None, description="Sinon celle de l'agenda ; none : chaque réservation vaut sans réponse"
    )
    accept_min: AcceptMinutes | None = None
    hand_back_min: HandBackMinutes | None = Field(default=None, description="Sinon celui de l'agenda ; 0 : jamais")
    open: Annotated[bool, Field(description="false : gardée sans être proposée")] = True

    @model_validator(mode="after")
    def _one_kind(self) -> "HoursIn":
        if (self.each_min is None) == (self.capacity is None):
            raise wrong("kind", "indiquez soit each_min (rendez-vous), soit capacity (plage de tant de patients)")
        if self.piece_min is not None and self.capacity is None:
            raise wrong("pieces", "piece_min ne vaut que pour une plage (capacity)")
        begin, end = time.fromisoformat(self.start), time.fromisoformat(self.end)
        minutes = ((end.hour - begin.hour) * 60 + end.minute - begin.minute) % (24 * 60) or 24 * 60
        longest = int(LONGEST_RANGE.total_seconds()) // 60
        if minutes > longest:
            raise wrong("long", f"de {self.start} à {self.end} : {longest // 60} h au plus ; faites deux plages")
        if self.each_min is not None and self.each_min > minutes:
            raise wrong(
                "short", f"de {self.start} à {self.end} il n'y a pas le temps d'un rendez-vous de {self.each_min} min"
            )
        return self


class ClosureIn(Strict):
    """The practice is away; ``booked`` says what becomes of patients who have a place in it."""

    from_: Annotated[LocalTime, Field(alias="from")]
    to: LocalTime
    booked: Annotated[Booked, Field(description="refuse : ils sont replacés ; keep : ils sont reçus")] = "refuse"

    @model_validator(mode="after")
    def _in_order(self) -> "ClosureIn":
        if self.to <= self.from_:
            raise wrong("order", "to doit être après from")
        return self


class FeedIn(Strict):
    """What to follow: a calendar (available minus busy, cut into individual times), or SMART Scheduling Links."""

    kind: Literal["ics", "smart"] = "ics"
    url: Annotated[
        str, StringConstraints(max_length=500, pattern=r"^https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[\x21-\x7e]*)?$")
    ]
    each_min: Annotated[Minutes, Field(description="ics : durée de chaque rendez-vous")] | None = None
    schedules: Annotated[list[ExternalId], Field(max_length=50)] = Field(
        default_factory=list, description="smart : ids des Schedule de ce lieu, s'il y en a plusieurs"
    )

    @model_validator(mode="after")
    def _fitting(self) -> "FeedIn":
        if (self.kind == "ics") != (self.each_min is not None):
            raise wrong("each", "each_min (durée de chaque rendez-vous) va avec ics, et avec lui seul")
        if self.schedules and self.kind != "smart":
            raise wrong("schedules", "schedules ne vaut que pour smart")
        return self


class AgendaIn(Strict):
    """What a practice says once of its places."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "professional": {"rpps": "10000000012", "name": "Dr Marguerite Fictif"},
                "source_kind": "liberal",
                "location": {"lat": 45.757, "lon": 4.832, "insee": "69382", "label": "Cabinet fictif des Tilleuls"},
                "profession": "MG",
                "hours": [
                    {
                        "id": "matin",
                        "first": "2026-11-23",
                        "start": "08:30",
                        "end": "10:00",
                        "repeat": "FREQ=WEEKLY;BYDAY=MO,TU,TH,FR",
                        "each_min": 15,
                    },
                    {
                        "id": "libre",
                        "first": "2026-11-25",
                        "start": "14:00",
                        "end": "18:00",
                        "repeat": "FREQ=WEEKLY",
                        "capacity": 8,
                        "piece_min": 60,
                        "booking_kind": "walkin",
                    },
                ],
                "closures": [{"from": "2026-12-24T12:00", "to": "2027-01-04T00:00"}],
            }
        }
    )

    professional: ProfessionalIn | None = None
    structure: StructureIn | None = None
    source_kind: SourceKind
    location: LocationIn
    profession: Profession
    specialty: Specialty | None = None
    offers: Annotated[list[Offer], Field(max_length=25)] = Field(default_factory=list)
    visibility: Visibility = Visibility.SNP
    info: Text | None = Field(
        default=None, description="Texte libre pour le régulateur, montré avec le lieu ; aucune identité de patient"
    )
    acceptance: Annotated[Acceptance, Field(description=ACCEPTANCE)] | None = None
    accept_min: AcceptMinutes | None = None
    hand_back_min: HandBackMinutes | None = None
    hours: Annotated[list[HoursIn], Field(max_length=MOST_HOURS)] = Field(default_factory=list)
    closures: Annotated[list[ClosureIn], Field(max_length=MOST_HOURS)] = Field(default_factory=list)
    feed: FeedIn | None = Field(default=None, description="Calendrier ou manifeste repris toutes les dix minutes")
    version: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="Version lue : refuse le changement si une autre est en vigueur"
    )

    @model_validator(mode="after")
    def _names_differ(self) -> "AgendaIn":
        if self.accept_min is not None and self.acceptance is None:
            raise wrong("accept_min", "accept_min va avec acceptance (tacit ou explicit)")
        names = [hours.id for hours in self.hours]
        if reserved := next((name for name in names if name.startswith(QUICK)), None):
            raise wrong("reserved", f"{reserved} : « {QUICK} » est réservé aux ajouts rapides ; choisissez un autre id")
        if twice := next((name for number, name in enumerate(names) if name in names[:number]), None):
            raise wrong("twice", f"deux plages s'appellent {twice} ; donnez à chacune un id")
        return self


class PlacesIn(Strict):
    """So many places more in a range of one day: « +2 places entre 14 h et 16 h »."""

    model_config = ConfigDict(json_schema_extra={"example": {"count": 2, "start": "14:00", "end": "16:00"}})

    count: Annotated[int, Field(ge=1, le=50)]
    start: ClockTime
    end: ClockTime
    day: Day | None = Field(default=None, description="Sinon aujourd'hui, à l'heure du lieu")
    mode: Mode = Mode.CABINET
    booking_kind: BookingKind = BookingKind.ROUTINE


class StopIn(Strict):
    """Stop everything now: of all agendas of the key, or of those named."""

    model_config = ConfigDict(json_schema_extra={"example": {"booked": "keep"}})

    names: Annotated[list[HoursName], Field(min_length=1, max_length=200)] | None = None
    until: Instant | None = Field(default=None, description="Sinon jusqu'à minuit, à l'heure du lieu")
    booked: Annotated[Booked, Field(description="keep : ceux qui ont une place sont reçus")] = "keep"


class GoOnIn(Strict):
    """End a stop: of all agendas of the key, or of those named."""

    names: Annotated[list[HoursName], Field(min_length=1, max_length=200)] | None = None
