"""Patients and notifications of a practice by the client and the terminal: what is sent, and what people read."""

from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest
from typer.testing import CliRunner

from sas_matcher.cli import app
from tests.unit.test_client import Fake, ok

BOOKING: dict[str, Any] = {
    **{"booking_id": "0192-b", "state": "firm", "version": 2, "end_reason": None, "slot_id": 7, "external_id": "x"},
    **{"start": "2026-11-26T14:30:00+00:00", "end": "2026-11-26T14:45:00+00:00", "mode": "cabinet", "tier": "T2"},
    **{"profession": "MG", "needs": ["pmr"], "age_band": None, "own_patient": False, "acceptance": None},
}
WAITS = {"kind": "explicit", "until": "2026-11-26T13:20:00+00:00", "accepted_at": None}
SUBSCRIPTION: dict[str, Any] = {
    **{"name": "agenda", "way": "webhook", "address": "https://x.example/sas", "kinds": ["booking.made"]},
    **{"state": "active", "failing_since": None, "last_error": None, "waiting": 0},
}
COUNTED = {"slot_id": 7, "capacity": 8, "taken": 5, "arrived": 3, "missed": 2}

Run = Callable[..., tuple[Any, str]]


@pytest.fixture
def run(speak: Callable[..., tuple[Fake, str]]) -> Run:
    """Run a command against a fake service; returns the only call and what was said."""

    def running(answer: httpx.Response, *arguments: str) -> tuple[Any, str]:
        fake, said = speak(answer, *arguments)
        (made,) = fake.calls
        return made, said

    return running


@pytest.mark.parametrize(
    ("arguments", "path", "body"),
    [
        (("accept", "0192-b"), "accept", {}),
        (("refuse", "0192-b", "--reason", "absent"), "refuse", {"reason": "absent"}),
        (("refuse", "0192-b", "--keep"), "refuse", {"keep_slot": True, "reason": "practice"}),
        (("refuse", "0192-b", "--close"), "refuse", {"keep_slot": False, "reason": "practice"}),
        (("cancel", "0192-b", "--close"), "cancel", {"keep_slot": False}),
        (("move", "0192-b", "9"), "move", {"slot_id": 9}),
        (("came", "0192-b", "--no"), "outcome", {"outcome": "noshow"}),
    ],
)
def test_what_a_practice_does_with_a_booking(run: Run, arguments: tuple[str, ...], path: str, body: Any) -> None:
    made, said = run(ok(BOOKING), "bookings", *arguments)
    assert (made.method, made.url.path, orjson.loads(made.content)) == ("POST", f"/v1/bookings/0192-b/{path}", body)
    assert said.startswith("0192-b  26/11 à ") and "· pris · MG cabinet · pmr" in said


@pytest.mark.parametrize(("kind", "else_"), [("explicit", "replacé"), ("tacit", "accepté")])
def test_a_list_says_what_is_to_be_accepted(run: Run, kind: str, else_: str) -> None:
    _, said = run(ok({"bookings": [BOOKING | {"acceptance": WAITS | {"kind": kind}}]}), "bookings", "list")
    assert "à accepter avant" in said and f"(sinon {else_})" in said
    assert run(ok({"bookings": []}), "bookings", "list")[1] == "Aucun rendez-vous.\n"


def test_a_plage_is_counted(run: Run) -> None:
    made, said = run(ok(COUNTED), "bookings", "arrived", "7", "3", "--over")
    assert (made.url.path, orjson.loads(made.content)) == ("/v1/slots/7/arrived", {"arrived": 3, "over": True})
    assert said == "3 venu(s) sur 5 attendu(s), 2 absent(s) ; 8 places.\n"


def test_a_webhook_shows_its_secret_once(run: Run) -> None:
    made, said = run(
        ok(SUBSCRIPTION | {"secret": "whsec_abc"}), "notify", "set", "agenda", "--webhook", "https://x.example/sas"
    )
    assert (made.method, made.url.path) == ("PUT", "/v1/subscriptions/agenda")
    assert orjson.loads(made.content)["address"] == "https://x.example/sas"
    assert "whsec_abc" in said and "https://x.example/sas, actif" in said
    made, said = run(ok(SUBSCRIPTION | {"secret": "whsec_new"}), "notify", "rotate", "agenda")
    assert made.url.path == "/v1/subscriptions/agenda/rotate" and "whsec_new" in said


def test_only_one_way_is_chosen() -> None:
    for arguments in ((), ("--screen", "--mail", "a@b.example")):
        result = CliRunner().invoke(app, ["notify", "set", "a", *arguments, "--key", "sas_k_s"])
        assert result.exit_code and "choisissez une voie" in str(result.exception)


def test_what_does_not_arrive_is_said(run: Run) -> None:
    away = {"state": "disabled", "failing_since": "2026-11-23T08:00:00+00:00", "last_error": "l'adresse répond 503"}
    _, said = run(ok({"subscriptions": [SUBSCRIPTION | away | {"waiting": 2}]}), "notify", "list")
    assert "suspendu" in said and "l'adresse répond 503" in said and "2 en attente" in said
    assert run(ok({"subscriptions": []}), "notify", "list")[1] == "Aucun abonnement.\n"
    delivery = {"id": "msg_1", "subscription": "a", "kind": "test", "state": "waiting", "tries": 2, "last_error": "503"}
    made, said = run(ok({"deliveries": [delivery]}), "notify", "deliveries", "a")
    assert made.url.params["subscription"] == "a" and said == "msg_1  a · test · en attente (503) · 2 essai(s)\n"
    assert run(ok({"deliveries": []}), "notify", "deliveries")[1] == "Rien n'a été remis.\n"


def test_a_test_and_a_removal(run: Run) -> None:
    made, said = run(ok(SUBSCRIPTION | {"way": "email"}), "notify", "confirm", "agenda", "0123abcd")
    assert (made.url.path, orjson.loads(made.content)) == ("/v1/subscriptions/agenda/confirm", {"code": "0123abcd"})
    assert "msg_4" in run(ok({"id": "msg_4"}), "notify", "test", "a")[1]
    made, said = run(ok({"removed": "a"}), "notify", "remove", "a")
    assert (made.method, said) == ("DELETE", "Abonnement a supprimé.\n")
