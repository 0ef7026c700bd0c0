"""Instants, identifiers, and what an editor answered: every form the contract has seen, and nothing else."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from adapters.fhir import names
from adapters.fhir.appointments import Operator, appointment, read_appointment
from adapters.fhir.identifiers import Kind, phone, practitioner_id, read_token, structure_id
from adapters.fhir.instants import read_bound, read_instant, written
from adapters.fhir.outcomes import FhirError, FhirRuleError, Issue, outcome_of, read_outcome
from adapters.fhir.reading import Asked, read_searchset
from adapters.fhir.resources import UnreadableError
from sas_matcher.domain.errors import InvalidInputError, TooManyError
from tests.fhir_cases import NOON, OPERATOR, PARIS, TOLD, booked, cpts, of, place, ps, setting, sos

ASKED = Asked(NOON, NOON + timedelta(hours=6), {"810000000001", "810000000002", "399000000000001"})


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-06-12T16:20:00.000+02:00", datetime(2024, 6, 12, 14, 20, tzinfo=UTC)),
        ("2024-06-12T16:20:00.000 02:00", datetime(2024, 6, 12, 14, 20, tzinfo=UTC)),  # "+" decoded to a space
        ("2024-06-12T16:20:00.000", datetime(2024, 6, 12, 14, 20, tzinfo=UTC)),  # no zone: Paris
        ("2021-01-02T10:00:00", datetime(2021, 1, 2, 9, tzinfo=UTC)),
        ("2021-11-04T14:19:35.760+00:00", datetime(2021, 11, 4, 14, 19, 35, 760_000, tzinfo=UTC)),
        ("2021-11-04T14:19:35Z", datetime(2021, 11, 4, 14, 19, 35, tzinfo=UTC)),
        ("2021-11-04T14:19:35.123456789Z", datetime(2021, 11, 4, 14, 19, 35, 123_456, tzinfo=UTC)),
        ("2021-11-04T14:19-04:00", datetime(2021, 11, 4, 18, 19, tzinfo=UTC)),
        ("2022-09-04T14:00:00+0100", datetime(2022, 9, 4, 13, tzinfo=UTC)),  # +01:00 in September: literally
    ],
)
def test_the_ways_an_instant_comes_in(text: str, instant: datetime) -> None:
    assert read_instant(text) == instant
    assert read_bound(f"ge{text}") == ("ge", instant)


NO_INSTANTS = ["", "2024-06-12", "16:20", "2024-13-12T16:20:00", "2024-06-12T25:20:00", "demain"]
# years that the offset moves out of the calendar
NO_INSTANTS += ["0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00", "9999-12-31T23:00:00-14:00"]


@pytest.mark.parametrize("text", NO_INSTANTS)
def test_what_is_no_instant_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="n'est pas un instant") as refused:
        read_instant(text)
    assert not text or text not in str(refused.value)


@pytest.mark.parametrize("text", ["2024-06-12T16:20:00", "gt2024-06-12T16:20:00", "eq2024-06-12T16:20:00", ""])
def test_a_bound_is_from_or_until(text: str) -> None:
    with pytest.raises(ValueError, match="borne"):
        read_bound(text)


def test_instants_are_written_with_milliseconds_and_the_offset_of_their_place() -> None:
    winter, summer = datetime(2026, 1, 12, 8, tzinfo=UTC), datetime(2026, 7, 12, 8, tzinfo=UTC)
    assert written(winter) == "2026-01-12T09:00:00.000+01:00"
    assert written(summer) == "2026-07-12T10:00:00.000+02:00"
    assert written(winter, ZoneInfo("Indian/Reunion")) == "2026-01-12T12:00:00.000+04:00"
    assert written(winter, UTC) == "2026-01-12T08:00:00.000+00:00", "never Z"
    # the hour that happens twice
    twice = [datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1)]
    assert [written(t) for t in twice] == ["2026-10-25T02:30:00.000+02:00", "2026-10-25T02:30:00.000+01:00"]


@pytest.mark.parametrize(
    ("read", "text", "kind", "prefixed"),
    [
        (practitioner_id, "810000000001", Kind.RPPS, "810000000001"),
        (practitioner_id, " 10000000001 ", Kind.RPPS, "810000000001"),
        (practitioner_id, "0691234567", Kind.ADELI, "0691234567"),
        (practitioner_id, "691234567", Kind.ADELI, "0691234567"),
        (structure_id, "690000001", Kind.FINESS, "1690000001"),
        (structure_id, "1690000001", Kind.FINESS, "1690000001"),
        (structure_id, "2A0000001", Kind.FINESS, "12A0000001"),
        (structure_id, "99000000000001", Kind.SIRET, "399000000000001"),
        (structure_id, "399000000000001", Kind.SIRET, "399000000000001"),
        (structure_id, "410000000001001", Kind.RANG, "410000000001001"),
    ],
)
def test_identifiers_with_and_without_prefix(read: Any, text: str, kind: Kind, prefixed: str) -> None:
    assert (read(text).kind, read(text).prefixed) == (kind, prefixed)


@pytest.mark.parametrize("text", ["", "8", "910000000001", "8100000000011", "8１0000000001"])
def test_what_is_no_identifier_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="n'est pas"):
        practitioner_id(text)
    with pytest.raises(ValueError, match="n'est pas"):
        structure_id(text)


def test_tokens_and_phones() -> None:
    assert read_token(" urn:oid:1.2|810000000001") == ("urn:oid:1.2", "810000000001")
    assert read_token("810000000001") == (None, "810000000001")
    assert read_token("urn:oid:1.2|34567/1234") == ("urn:oid:1.2", "34567/1234")
    phones = {"01 23 45 67 89": "+33123456789", "+33 (0)1 23 45 67 89": "+33123456789", "0692123456": "+262692123456"}
    phones |= {"0033123456789": "+33123456789", "0590.12.34.56": "+590590123456", "+594594123456": "+594594123456"}
    assert {text: phone(text) for text in phones} == phones
    assert [phone(text) for text in (None, "", "15", "secrétariat", "+44 20 7946 0000")] == [None] * 5


# -- what an editor answered -------------------------------------------------------------------------------------------


def test_places_come_back_as_they_were_built() -> None:
    first, *others = read_searchset(ps(), ASKED).offered
    assert len(others) == 3
    assert (first.slot_id, first.family, first.given, first.bookable) == ("1", "FICTIF", "Marguerite", True)
    assert (first.start, first.end) == (place(1).start, place(1).end)
    assert (first.modes, first.visibilities, first.specialties) == (("cabinet",), ("PUBLIC",), ("SM54",))
    assert first.site.phone == "+33499000001" and first.site.structure == (Kind.FINESS, "690000001")
    assert [offered.site.id for offered in others] == ["s1", "s2", "s1"]
    assert read_searchset(cpts(), ASKED).offered[0].structures == ("1990000001", "1990000002")
    sites = read_searchset(sos(), ASKED).offered
    assert [(o.practitioner, o.site.id, o.site.structure) for o in sites] == [
        (None, f"c{n}", (Kind.SIRET, "99000000000001")) for n in (1, 2)
    ]


def _in_the_family_of_120(document: dict[str, Any]) -> None:
    of(document, "Practitioner")["identifier"][0]["type"]["coding"][0]["system"] = names.IDENTIFIER_TYPE_120


def _r66(tail: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for concept in of(document, "Slot")["serviceType"][1:]:
            concept["coding"][0]["system"] = names.CATEGORY.split("/FHIR")[0] + tail

    return change


TOLERATED: list[tuple[str, Any, Callable[[dict[str, Any]], Any]]] = [
    ("unknown elements", ps, lambda d: d.update(inconnu={"a": 1})),
    ("several profiles", ps, lambda d: of(d, "Slot")["meta"]["profile"].append("http://example.org/x")),
    ("no search mode", ps, lambda d: [entry.pop("search") for entry in d["entry"]]),
    ("Z", ps, setting("Slot", "start", "2026-11-27T11:20:00Z")),
    ("no milliseconds", ps, setting("Slot", "start", "2026-11-27T12:20:00+01:00")),
    ("no total", ps, lambda d: d.pop("total")),
    ("several links", ps, lambda d: d["link"].append({"relation": "first", "url": "https://a.example"})),
    ("no fullUrl", ps, lambda d: [entry.pop("fullUrl") for entry in d["entry"]]),
    ("relative fullUrl", ps, lambda d: [e.update(fullUrl=e["resource"]["id"]) for e in d["entry"]]),
    ("absolute references", ps, setting("Slot", "schedule.reference", "https://b.example/x/Schedule/10000000001-s1")),
    ("identifier without prefix", ps, setting("Practitioner", "identifier.0.value", "10000000001")),
    ("the other family of code systems", ps, _in_the_family_of_120),
    ("status in capitals", ps, setting("Slot", "status", "FREE")),
    ("R66 without tail", cpts, _r66("")),
    ("R66 with a repeated name", cpts, _r66("/TRE_R66-CategorieEtablissement")),
    ("empty texts", ps, lambda d: of(d, "Practitioner").update(telecom=[{"system": "", "value": ""}], text="")),
    ("a resource that is none of ours", ps, lambda d: d["entry"].append({"resource": {"resourceType": "Device"}})),
    ("an entry without resource", ps, lambda d: d["entry"].append({"fullUrl": "x"})),
]


@pytest.mark.parametrize(("what", "make", "change"), TOLERATED, ids=[what for what, *_ in TOLERATED])
def test_what_is_tolerated(what: str, make: Any, change: Callable[[dict[str, Any]], Any]) -> None:
    document = copy.deepcopy(make())
    change(document)
    found, right = read_searchset(document, ASKED), read_searchset(make(), ASKED)
    assert found.offered == right.offered and not found.dropped


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("status", "busy", "not_free"),
        ("start", "2026-11-26T11:20:00.000+01:00", "outside_window"),
        ("start", "bientôt", "bad_instant"),
        ("end", "2026-11-27T12:20:00.000+01:00", "ends_before_start"),
        ("meta.security", None, "no_visibility"),
        ("serviceType", [{"text": "motif"}], "no_mode"),
        ("schedule.reference", "Schedule/ailleurs", "no_schedule"),
        ("id", None, "no_id"),
        ("start", 12, "unreadable"),
    ],
)
def test_a_slot_is_dropped_alone_and_counted(path: str, value: Any, reason: str) -> None:
    document = ps()
    setting("Slot", path, value)(document)
    found = read_searchset(document, ASKED)
    assert [offered.slot_id for offered in found.offered] == ["2", "3", "4"]
    assert found.dropped == {reason: 1}


def test_what_was_not_asked_is_dropped() -> None:
    asked = ASKED._replace(identifiers={"810000000002"})
    found = read_searchset(ps(), asked)
    assert [o.slot_id for o in found.offered] == ["4"] and found.dropped == {"not_asked": 3}
    page = ps()
    page["link"].append({"relation": "next", "url": "https://a.example/2"})
    assert read_searchset(page, asked).next_url == "https://a.example/2"


@pytest.mark.parametrize(
    "document", [None, [], {"resourceType": "OperationOutcome"}, {"resourceType": "Bundle"}, booked()]
)
def test_what_is_no_searchset_is_an_error(document: Any) -> None:
    with pytest.raises(UnreadableError):
        read_searchset(document, ASKED)


# -- bookings ----------------------------------------------------------------------------------------------------------


def test_a_booking_comes_back_as_it_was_told() -> None:
    told = read_appointment(booked())
    assert told.operator == OPERATOR and told.rpps == "810000000001" and told.status == "booked"
    assert (told.start, told.created, told.sos) == (NOON, NOON, False)
    pending = told._replace(rpps=None, status="pending", sos=True)
    document = appointment(pending, PARIS)
    assert document["participant"][0]["status"] == "needs-action" and "actor" not in document["participant"][0]
    assert read_appointment(document) == pending
    for impossible in (told._replace(rpps=None), told._replace(operator=None)):
        with pytest.raises(ValueError, match="INT_R03"):
            appointment(impossible, PARIS)


def _refused(path: str, value: Any) -> FhirRuleError:
    document = booked()
    setting("", path, value)(document)
    with pytest.raises(FhirRuleError) as caught:
        read_appointment(document)
    return caught.value


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("identifier", None, "Appointment.identifier"),
        ("status", "proposed", "Appointment.status"),
        ("status", "pending", "Appointment.status"),
        ("start", None, "Appointment.start"),
        ("end", "2026-11-27T11:59:00+01:00", "Appointment.end"),
        ("extension", None, "Appointment.extension"),
        ("extension.0.valueReference.identifier.system", "urn:oid:1.2", "Appointment.extension"),
        ("participant", None, "Appointment.participant"),
        ("participant.0.status", "declined", "Appointment.participant.status"),
        ("participant.0.actor", None, "Appointment.participant.actor"),
        ("participant.0.actor.identifier.value", "42", "Appointment.participant.actor.identifier.value"),
        ("participant.0.actor.identifier.type.coding.0.code", "RPPS", "Appointment.participant.actor.identifier.type"),
        (
            "meta.profile.0",
            "http://interopsante.org/fhir/StructureDefinition/FrAppointmentSAS",
            "Appointment.meta.profile",
        ),
        ("identifier", "x", "identifier"),
    ],
)
def test_a_booking_that_breaks_the_contract_is_named(path: str, value: Any, where: str) -> None:
    error = _refused(path, value)
    assert error.status == 422 and error.issues[0].expression[0] == where


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("participant.0.actor.reference", "Patient/42"),
        ("contained", [{"resourceType": "Patient", "name": [{"family": "Martin"}]}]),
        ("participant.0.actor.type", "Patient"),
        ("supportingInformation", [{"display": "Martin"}]),
    ],
)
def test_nothing_on_a_patient_is_taken_and_none_of_it_is_repeated(path: str, value: Any) -> None:
    error = _refused(path, value)
    assert "Martin" not in str(outcome_of(error)) and "42" not in str(outcome_of(error))


def test_a_booking_is_read_in_every_form_that_occurs() -> None:
    document = booked()
    document["status"] = "BOOKED"
    document["start"] = "2026-11-27T11:00:00Z"
    document["participant"][0]["status"] = "needs-action"
    for identifier in (
        document["extension"][0]["valueReference"]["identifier"],
        document["participant"][0]["actor"]["identifier"],
    ):
        identifier["type"]["coding"][0]["system"] = names.IDENTIFIER_TYPE_120
    assert read_appointment(document) == read_appointment(booked())


@pytest.mark.parametrize("issue", [None, 1, "x", {}, [None], [{"details": "x"}], [{"details": None, "code": None}]])
def test_an_outcome_of_any_shape_is_read(issue: Any) -> None:
    assert read_outcome({"resourceType": "OperationOutcome", "issue": issue}) == ""


def test_a_booking_without_a_regulator_of_a_known_system_cannot_be_told() -> None:
    with pytest.raises(ValueError, match="opérateur"):
        appointment(TOLD._replace(operator=Operator("urn:oid:1.2.3", "x")), PARIS)


def test_errors_as_operation_outcomes() -> None:
    error = FhirError(Issue("required", "start : deux bornes", ("start",)))
    document = outcome_of(error)
    assert document == {
        "resourceType": "OperationOutcome",
        "issue": [
            {"severity": "error", "code": "required", "diagnostics": "start : deux bornes", "expression": ["start"]}
        ],
    }
    assert read_outcome(document) == "start : deux bornes" and read_outcome({"resourceType": "Bundle"}) == ""
    assert outcome_of(TooManyError())["issue"][0]["code"] == "throttled"
    assert outcome_of(InvalidInputError.of("a", "b"))["issue"][0]["expression"] == ["a"]
