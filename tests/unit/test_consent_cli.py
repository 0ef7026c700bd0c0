"""Consent, and what taking part gives back, by the client and the terminal: what is sent, and what people read."""

import json
from pathlib import Path
from typing import Any

from tests.unit.test_client import ok

RULE: dict[str, Any] = {
    **{"name": "matin", "professionals": ["10000000012"], "structures": [], "from": "10:00", "to": "24:00"},
    **{"days": [1, 2], "professions": ["MG"], "channels": ["sas"], "own_first_min": 120, "zone": "Europe/Paris"},
}
SEEN = {
    **{"at": "2026-11-23T08:00:00+00:00", "what": "proposed", "sentence": "proposée", "role": "osnp", "key_id": "k1"},
    **{"slot_id": 4, "external_id": "a-1", "starts": "2026-11-23T10:00:00+00:00", "rule": "matin"},
}
WEEK = {
    **{"kind": "structure", "id": "690000001", "name": "Centre fictif", "week": "2026-W48", "hours_offered": 1.5},
    **{"hours_filled": 0.5, "two_hours": False, "patients": 3, "own": 1, "not_own": 2, "unknown": 0, "en_sus": 0},
    **{"noshow": 0, "supplements": 2, "to_check": 1},
}
STATEMENT = {"from": "x", "to": "y", "weeks": [WEEK], "acts": [{"booking_id": "b", "supplement": True}]}


def test_a_rule_is_sent_as_it_is_given_and_read_back(speak: Any) -> None:
    given = ["--professional", "10000000012", "--from", "10:00", "--channel", "sas", "--own-first", "120", "--day", "1"]
    fake, said = speak(ok(RULE), "consent", "set", "matin", *given)
    (made,) = fake.calls
    assert (made.method, made.url.path) == ("PUT", "/v1/share-rules/matin")
    assert json.loads(made.content) == {
        **{"professionals": ["10000000012"], "from": "10:00", "to": "24:00", "days": [1]},
        **{"channels": ["sas"], "own_first_min": 120},
    }
    assert said == (
        "matin : 10000000012 ; places MG de 10:00 à 24:00 (lun, mar) ; régulateurs du SAS, "
        "d'abord ses patients jusqu'à 120 min avant\n"
    )
    assert speak(ok({"rules": []}), "consent", "list")[1].startswith("Aucune règle")
    fake, said = speak(ok({"removed": "matin"}), "consent", "remove", "matin")
    assert (fake.calls[0].method, said) == ("DELETE", "Règle matin supprimée.\n")


def test_who_saw_what_is_a_line_each(speak: Any) -> None:
    fake, said = speak(ok({"exposures": [SEEN]}), "consent", "seen", "--days", "7", "--count", "5")
    assert (fake.calls[0].url.path, fake.calls[0].url.params["limit"]) == ("/v1/exposures", "5")
    assert "proposée · a-1 du 23/11" in said and said.endswith("· osnp k1 · règle : matin\n")
    everyone = {**SEEN, "role": None, "key_id": None, "external_id": None, "starts": None}
    assert "· plateforme nationale ·" in speak(ok({"exposures": [everyone]}), "consent", "seen")[1]
    assert speak(ok({"exposures": []}), "consent", "seen")[1] == "Rien n'a été montré ni donné.\n"


def test_a_statement_is_a_line_a_week_and_its_acts_go_to_a_file(speak: Any, tmp_path: Path) -> None:
    acts = tmp_path / "actes.jsonl"
    fake, said = speak(ok(STATEMENT), "statement", "--from", "2026-11-01", "--to", "2026-12-01", "--acts", str(acts))
    assert fake.calls[0].url.params["from"].startswith("2026-11-01T00:00")
    assert said == (
        "2026-W48 · Centre fictif (690000001) · 1.5 h offertes, 0.5 h remplies · moins de 2 h · 3 patients, "
        "2 d'autres médecins · 2 suppléments, 1 à vérifier\n"
    )
    assert json.loads(acts.read_text()) == STATEMENT["acts"][0]
    assert speak(ok({**STATEMENT, "weeks": []}), "statement")[1] == "Rien sur cette période.\n"
