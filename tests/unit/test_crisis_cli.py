"""Crisis by the client and the terminal: what is sent, and what people read; an exercise says so first."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sas_matcher.cli import show
from sas_matcher.client import Event, Position
from tests.unit.test_client import Fake, ok, refused

AT = "2026-11-23T12:00:00+00:00"
MOVED = {
    **{"territory": "69", "was": "normal", "level": "tension", "plan": True, "leave": False},
    **{"changes": {"radius_pct": 125, "ladder": [{}, {}]}, "kept": ["hold_seconds"]},
}
ENTRY: dict[str, Any] = {
    **{"id": 4, "scope": "69", "drill": False, "version": 1, "at": AT, "key_id": "k", "role": "cpts"},
    **{"was": "normal", "level": "tension", "why": "afflux", "proposal": None, "territories": [MOVED]},
}
PROPOSAL = {
    **{
        "proposal_id": "0192-p",
        "scope": "69",
        "territories": ["69"],
        "was": "normal",
        "level": "crise",
        "state": "open",
        "drill": False,
    },
    **{"reasons": ["30 demandes en une heure"]},
}
STANDING: dict[str, Any] = {
    **{
        "territory": "69",
        "drill": False,
        "level": "tension",
        "since": AT,
        "version": 1,
        "applied": {"radius_pct": 125},
    },
    **{"before": {"radius_pct": 100}, "exercise": {"drill": True, "level": "crise", "since": AT}},
}
CALL = {
    **{"call_id": "0192-c", "territory": "69", "drill": True, "until": AT, "text": "EXERCICE — places ?", "called": 3},
    **{"state": "called", "places": None},
}
REVIEW: dict[str, Any] = {
    **{
        "scope": "69",
        "drill": True,
        "from": AT,
        "to": AT,
        "timezone": "Europe/Paris",
        "missed_by_reason": {"T0": {"X": 2}},
    },
    "by_tier": {"T0": {"asked": 3, "met": 1, "missed": 2, "cancelled": 0, "open": 0, "met_pct": 33.3, "p95_s": 90.0}},
    "promises": {"broken": 0, "moves": 1, "lost_to_practice": 0},
    **{"decided": [{**ENTRY, "why": "<b>afflux</b>"}], "proposals": [], "calls": [], "by_hour": []},
}


@pytest.fixture
def run(speak: Callable[..., tuple[Fake, str]]) -> Callable[..., tuple[Fake, str]]:
    """Run one of these commands against a fake service."""
    return lambda answer, *arguments, code=0: speak(answer, "crisis", *arguments, code=code)


def sent(fake: Fake) -> tuple[str, str, Any]:
    """Return method, path and body of the only call."""
    (made,) = fake.calls
    return made.method, made.url.path, json.loads(made.content) if made.content else None


def test_a_level_is_declared_with_its_reason_and_says_what_it_changed(run: Any) -> None:
    fake, said = run(ok(ENTRY), "declare", "69", "tension", "--why", "afflux")
    body = {"scope": "69", "level": "tension", "why": "afflux", "drill": False}
    assert sent(fake) == ("POST", "/v1/crisis", body)
    assert fake.calls[0].headers["idempotency-key"] == "key-0000"
    assert "69 : normal → tension" in said and "cpts k · « afflux »" in said
    assert "change radius_pct → 125, ladder → 2 étape(s) ; laissé tel que changé entre-temps : hold_seconds" in said
    fake, said = run(ok({**ENTRY, "drill": True}), "declare", "69", "crise", "--why", "essai", "--drill")
    assert sent(fake)[2]["drill"] is True
    assert said.startswith("EXERCICE · 69") and "changerait" in said
    assert "Non" in run(refused(409, "one_step"), "declare", "69", "normal", "--why", "fin", code=1)[1]


def test_where_territories_stand(run: Any) -> None:
    fake, said = run(ok({"territories": [STANDING]}), "show")
    assert sent(fake)[:2] == ("GET", "/v1/crisis")
    assert "69 : tension depuis le" in said and "EXERCICE : crise" in said and "radius_pct = 125 (avant : 100)" in said
    detail = {**STANDING, "scopes": [{**ENTRY, "changed_at": AT}], "plan": None, "proposal": PROPOSAL}
    fake, said = run(ok(detail), "show", "69")
    assert sent(fake)[:2] == ("GET", "/v1/territories/69/crisis")
    assert "« afflux »" in said and "Proposé pour 69 : crise · 0192-p · 30 demandes en une heure" in said


def test_the_log_of_a_territory_and_of_a_wider_scope(run: Any) -> None:
    page = ok({"entries": [ENTRY], "next_before": None})
    fake, said = run(page, "log", "69")
    assert dict(fake.calls[0].url.params) == {"territory": "69", "limit": "20"} and "→ tension" in said
    fake, _ = run(ok({"entries": [], "next_before": None}), "log", "region:Bretagne", "--count", "5")
    assert dict(fake.calls[0].url.params) == {"scope": "region:Bretagne", "limit": "5"}


def test_a_plan_is_shown_and_replaced(run: Any, tmp_path: Path) -> None:
    document = {"territory": "69", "plan": {"lends": []}, "version": 2, "changed_at": AT}
    fake, said = run(ok(document), "plan", "69")
    assert sent(fake)[:2] == ("GET", "/v1/territories/69/crisis/plan") and json.loads(said) == document
    file = tmp_path / "plan.json"
    file.write_text('{"lends": [{"to": "01", "pct": 20}]}')
    fake, _ = run(ok(document), "plan", "69", "--set", str(file), "--why", "revu")
    assert sent(fake)[0] == "PUT" and sent(fake)[2] == {"plan": {"lends": [{"to": "01", "pct": 20}]}, "why": "revu"}
    assert "--why" in run(ok(document), "plan", "69", "--set", str(file), code=2)[1]
    file.write_text("[1]")
    assert "objet JSON" in run(ok(document), "plan", "69", "--set", str(file), "--why", "revu", code=2)[1]


def test_proposals_are_answered_by_a_person(run: Any) -> None:
    fake, said = run(ok({"proposals": [PROPOSAL]}), "proposals")
    assert fake.calls[0].url.params["state"] == "open" and "0192-p  69 : normal → crise · open" in said
    assert run(ok({"proposals": []}), "proposals", "--all")[1] == "Aucune proposition.\n"
    fake, said = run(ok(ENTRY), "accept", "0192-p", "--why", "vu")
    assert sent(fake) == ("POST", "/v1/crisis/proposals/0192-p/accept", {"why": "vu"}) and "→ tension" in said
    fake, said = run(ok({**PROPOSAL, "state": "refused"}), "refuse", "0192-p", "--why", "pic bref")
    assert sent(fake)[1] == "/v1/crisis/proposals/0192-p/refuse" and "rien n'a changé" in said


def test_calls_and_their_answers(run: Any) -> None:
    fake, said = run(ok(CALL), "call", "69", "--text", "places ?", "--hours", "4", "--drill")
    body = {"text": "places ?", "drill": True, "hours": 4}
    assert sent(fake) == ("POST", "/v1/territories/69/crisis/calls", body)
    assert said.startswith("EXERCICE · 3 cabinet(s) appelé(s)")
    assert "0192-c  69 · EXERCICE — places ?" in run(ok({"calls": [CALL]}), "calls")[1]
    assert run(ok({"calls": []}), "calls")[1] == "Aucun appel.\n"
    fake, said = run(ok({**CALL, "state": "yes"}), "answer", "0192-c", "--places", "4")
    assert sent(fake)[2] == {"places": 4} and "4 place(s)" in said
    fake, said = run(ok({**CALL, "state": "no"}), "answer", "0192-c")
    assert sent(fake)[2] == {} and "aucune place" in said


def test_a_review_is_printed_and_lets_nothing_in(run: Any, tmp_path: Path) -> None:
    fake, said = run(ok(REVIEW), "review", "69", "--drill", "--from", "2026-11-23T08:00:00+01:00")
    assert dict(fake.calls[0].url.params) == {"scope": "69", "from": "2026-11-23T08:00:00+01:00", "drill": "true"}
    assert json.loads(said) == REVIEW
    page = tmp_path / "bilan.html"
    run(ok(REVIEW), "review", "69", "--drill", "--html", str(page))
    text = page.read_text("utf-8")
    assert "EXERCICE — aucun patient réel n'a été déplacé." in text and "&lt;b&gt;afflux&lt;/b&gt;" in text
    assert "<script" not in text and "http" not in text
    assert "hier" in run(ok(REVIEW), "review", "69", "--from", "hier", code=2)[1]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        (
            "crisis.changed",
            {**MOVED, "scope": "69", "drill": True, "why": "essai"},
            "EXERCICE · territoire 69 : normal → tension (69) · « essai »",
        ),
        ("crisis.proposed", PROPOSAL, "69 : niveau crise proposé · 0192-p · 30 demandes en une heure"),
        ("crisis.called", CALL, "EXERCICE · territoire 69 : appel à ouvrir des places · 0192-c · EXERCICE — places ?"),
        ("crisis.plan_changed", {"territory": "69", "why": "revu"}, "territoire 69 : plan de crise changé · « revu »"),
    ],
)
def test_events_read_as_one_line(name: str, data: dict[str, Any], said: str) -> None:
    assert show.event_line(Event(Position("e", "1-1"), name, "a", 1, data)) == said
