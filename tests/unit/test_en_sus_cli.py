"""En sus by the client and the terminal: what is sent, and what people read."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sas_matcher.cli import show
from sas_matcher.client import Event, Position
from tests.unit.test_client import Fake, ok, refused

QUESTION: dict[str, Any] = {
    **{"question_id": "0192-q", "state": "asked", "version": 1, "reason": None, "overflow": "cabinet", "km": 3},
    **{"territory": "69", "professional": "10000000012", "structure": None, "minutes": 15, "modes": ["cabinet"]},
    **{"profession": "MG", "needs": [], "age_band": None, "tier": "T1", "own_patient": False, "booking_id": None},
    **{"deadline": "2026-11-23T12:00:00+00:00", "asked_at": "2026-11-23T08:00:00+00:00", "answered_at": None},
}
CONSENT = {
    **{"name": "cabinet", "professional": "10000000012", "structure": None, "days": [1, 2], "most_a_day": 3},
    **{"ask_from": "09:00", "ask_to": "18:30"},
}
ASKING = {
    **{"asked": 3, "refused": 1, "open": 2, "state": "open"},
    "log": [{"at": "2026-11-23T08:00:00+00:00", "sentence": "Cabinets proches, vague 1 : 3 professionnels."}],
}
LADDER = {"territory": "69", "version": 2, "steps": [{"kind": "tell"}], "sentences": ["1. Réorienter : réorienter"]}


@pytest.fixture
def run(speak: Callable[..., tuple[Fake, str]]) -> Callable[..., tuple[Fake, str]]:
    """Run one of these commands against a fake service."""
    return lambda answer, *arguments, code=0: speak(answer, "en-sus", *arguments, code=code)


def call(fake: Fake) -> tuple[str, str]:
    """Return method and path of the only call."""
    (made,) = fake.calls
    return made.method, made.url.path


def test_questions_read_as_one_line_each(run: Any) -> None:
    fake, said = run(ok({"questions": [QUESTION]}), "questions")
    assert (call(fake), fake.calls[0].url.params["state"]) == (("GET", "/v1/questions"), "asked")
    assert said.startswith("0192-q  attend votre réponse · MG cabinet, 3 km, 15 min, avant le 23/11 à ")
    assert run(ok({"questions": []}), "questions", "--all")[1] == "Aucune question.\n"


def test_a_yes_names_the_hour(run: Any) -> None:
    fake, said = run(ok({**QUESTION, "state": "accepted"}), "accept", "0192-q", "--at", "2026-11-23T18:45:00+01:00")
    assert call(fake) == ("POST", "/v1/questions/0192-q/accept")
    assert json.loads(fake.calls[0].content) == {"start": "2026-11-23T18:45:00+01:00"}
    assert fake.calls[0].headers["idempotency-key"] == "key-0000"
    assert "acceptée" in said and "quand le régulateur confirme" in said
    _, said = run(ok(QUESTION), "accept", "0192-q", "--at", "ce soir", code=2)
    assert "ce soir" in said
    _, said = run(refused(409, "too_late"), "accept", "0192-q", "--at", "2026-11-23T18:45:00+01:00", code=1)
    assert "Non" in said


def test_a_no(run: Any) -> None:
    fake, said = run(ok({**QUESTION, "state": "refused"}), "refuse", "0192-q")
    assert (call(fake), json.loads(fake.calls[0].content)) == (("POST", "/v1/questions/0192-q/refuse"), {})
    assert "refusée" in said


def test_consents_are_given_listed_and_taken_back(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "accord.json"
    file.write_text('{"most_a_day": 3}')
    fake, said = run(ok(CONSENT), "consent", "cabinet", str(file))
    assert (call(fake), json.loads(fake.calls[0].content)) == (("PUT", "/v1/overflow/cabinet"), {"most_a_day": 3})
    line = "cabinet : 10000000012, 3 question(s) par jour au plus, de 09:00 à 18:30 (lun, mar)\n"
    assert said == line
    assert run(ok({"overflow": [CONSENT]}), "consents")[1] == line
    assert "Aucun accord" in run(ok({"overflow": []}), "consents")[1]
    fake, said = run(ok({"removed": "cabinet"}), "remove", "cabinet")
    assert call(fake) == ("DELETE", "/v1/overflow/cabinet") and "plus aucune question" in said
    file.write_text("[1")
    assert "JSON incorrect" in run(ok(CONSENT), "consent", "cabinet", str(file), code=2)[1]
    file.write_text("[]")
    assert "un objet JSON" in run(ok(CONSENT), "consent", "cabinet", str(file), code=2)[1]


def test_a_regulator_reads_what_was_asked(run: Any) -> None:
    fake, said = run(ok(ASKING), "asking", "0192-r")
    assert call(fake) == ("GET", "/v1/requests/0192-r/asking")
    assert said.splitlines()[0] == "3 sollicité(s), 1 refus, 2 sans réponse."
    assert said.splitlines()[1].endswith("Cabinets proches, vague 1 : 3 professionnels.")


def test_a_ladder_is_shown_and_replaced(run: Any, tmp_path: Path) -> None:
    fake, said = run(ok(LADDER), "ladder", "69")
    assert call(fake) == ("GET", "/v1/territories/69/ladder")
    assert said == "Échelle du territoire 69, version 2.\n  1. Réorienter : réorienter\n"
    file = tmp_path / "echelle.json"
    file.write_text('{"steps": [{"kind": "tell"}]}')
    fake, _ = run(ok(LADDER), "ladder", "69", "--set", str(file), "--why", "essai")
    assert call(fake) == ("PUT", "/v1/territories/69/ladder")
    assert json.loads(fake.calls[0].content) == {"steps": [{"kind": "tell"}], "why": "essai"}
    assert "--why" in run(ok(LADDER), "ladder", "69", "--set", str(file), code=2)[1]
    file.write_text("{}")
    assert "steps" in run(ok(LADDER), "ladder", "69", "--set", str(file), "--why", "x", code=2)[1]
    assert "personne n'est sollicité" in run(ok({**LADDER, "sentences": []}), "ladder", "69")[1]


def test_events_read_as_people_speak() -> None:
    event = Event(Position("e", "1-0"), "question.asked", "0192-q", 1, QUESTION)
    assert event.question is not None and event.question.deadline == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert show.event_line(event).startswith("pouvez-vous prendre un patient de plus ? · 0192-q · 3 km, avant ")
    climbed = Event(Position("e", "2-0"), "asking.changed", "asking:0192-r", 1, ASKING)
    assert show.event_line(climbed) == "sollicitations en sus · Cabinets proches, vague 1 : 3 professionnels."
    # what a coordinator hears is a summary
    assert Event(Position("e", "3-0"), "question.asked", "q", 1, {"state": "asked"}).question is None
