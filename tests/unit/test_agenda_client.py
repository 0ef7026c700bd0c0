"""Agendas from the client and the terminal: what is sent, and what people read."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sas_matcher.cli import calls
from tests.unit.test_client import Fake, ok, refused

REPORT = {"created": 4, "updated": 0, "unchanged": 2, "booked": 0, "closed": 1, "refused": 0, "kept": 1}
AGENDA: dict[str, Any] = {
    "name": "cabinet",
    "version": 3,
    "zone": "Europe/Paris",
    "hours": [],
    "closures": [],
    "quick": {
        "hours": [{"id": "plus-1", "capacity": 2, "first": "2026-11-27", "start": "14:00", "end": "16:00"}],
        "stops": [{"from": "2026-11-26T15:00", "to": "2026-11-27T00:00", "booked": "keep"}],
    },
    "imported": {"origin": None, "at": None, "hours": 0},
    "shown": {"version": 3, "until": "2026-12-03T09:00:00+00:00", "at": None, "report": REPORT, "failed": None},
    "report": REPORT,
}


async def test_every_call_says_what_is_asked() -> None:
    preview = {"lines": 1, "errors": [{"line": 1, "column": "", "field": "ligne 1", "message": "x"}], "slots": []}
    many = {"agendas": [AGENDA]}
    answers: list[dict[str, Any]] = [many, AGENDA, AGENDA, {"slots": []}, AGENDA, AGENDA, many, many, preview, AGENDA]
    fake = Fake(*map(ok, answers), ok({"removed": "cabinet", "report": REPORT}))
    end = datetime(2026, 11, 26, 18, tzinfo=UTC)
    async with fake.client() as sas:
        (found,) = await sas.agendas()
        assert found == await sas.agenda("cabinet") == await sas.put_agenda("cabinet", {"hours": []})
        assert await sas.preview_agenda("cabinet", {"hours": []}) == []
        await sas.add_places("cabinet", {"count": 2}, idempotency_key="un-clic-unique")
        await sas.remove_places("cabinet", "plus-1")
        assert await sas.stop(["cabinet"], until=end, refuse=True) == [found]
        assert await sas.go_on() == [found]
        shown = await sas.preview_table("cabinet", b"date;debut;fin\n")
        assert (shown.lines, shown.errors[0]["field"]) == (1, "ligne 1")
        assert await sas.take_table("cabinet", b"date;debut;fin\n") == found
        assert await sas.remove_agenda("cabinet") == REPORT
    assert found.report == REPORT and found.shown_until == datetime(2026, 12, 3, 9, tzinfo=UTC)
    assert [(call.method, call.url.path.removeprefix("/v1/agendas")) for call in fake.calls] == [
        ("GET", ""),
        ("GET", "/cabinet"),
        ("PUT", "/cabinet"),
        ("POST", "/cabinet/preview"),
        ("POST", "/cabinet/places"),
        ("DELETE", "/cabinet/places/plus-1"),
        ("POST", "/stop"),
        ("POST", "/go-on"),
        ("POST", "/cabinet/csv"),
        ("POST", "/cabinet/csv"),
        ("DELETE", "/cabinet"),
    ]
    assert fake.calls[4].headers["Idempotency-Key"] == "un-clic-unique"
    stop = json.loads(fake.calls[6].content)
    assert stop == {"booked": "refuse", "names": ["cabinet"], "until": end.isoformat()}
    assert fake.calls[8].url.query == b"preview=true" and fake.calls[8].headers["Content-Type"] == "text/csv"
    assert fake.calls[9].content == b"date;debut;fin\n" and not fake.calls[9].url.query


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, run: Any) -> Callable[..., tuple[int, str, str, Fake]]:
    """Run a command against prepared answers."""

    def program(answers: list[Any], *arguments: str) -> tuple[int, str, str, Fake]:
        fake = Fake(*answers)
        monkeypatch.setattr(calls, "client_of", lambda _url, _key: fake.client())
        return (*run("agenda", *arguments, "--key", "sas_k_s"), fake)

    return program


def test_an_agenda_reads_in_french(terminal: Callable[..., Any]) -> None:
    code, out, _, _ = terminal([ok({"agendas": [AGENDA]})], "list")
    assert code == 0
    assert out.splitlines() == [
        "cabinet (version 3, heure Europe/Paris, publié jusqu'au 03/12/2026)",
        "  créneaux : 4 créés, 2 inchangés, 1 retirés, 1 patients gardés hors agenda",
        "  ajout plus-1 : 2 place(s) le 2026-11-27 de 14:00 à 16:00",
        "  arrêt du 2026-11-26 à 15:00 au 2026-11-27 à 00:00",
    ]
    assert terminal([ok({"agendas": []})], "list")[1].startswith("Aucun agenda")


def test_quick_actions_from_the_terminal(terminal: Callable[..., Any]) -> None:
    code, _, _, fake = terminal([ok(AGENDA)], "add", "cabinet", "2", "14:00", "16:00")
    assert code == 0
    assert json.loads(fake.calls[0].content) == {"count": 2, "start": "14:00", "end": "16:00", "day": None}
    code, _, _, fake = terminal([ok({"agendas": [AGENDA]})], "stop", "cabinet", "--until", "2026-11-27T12:00+01:00")
    assert code == 0 and json.loads(fake.calls[0].content)["names"] == ["cabinet"]
    code, _, err, fake = terminal([], "stop", "--until", "midi")
    assert code == 2 and "« midi » n'est pas un instant" in err and fake.calls == []


def test_a_table_is_checked_before_it_is_sent(terminal: Callable[..., Any], tmp_path: Path) -> None:
    table = tmp_path / "places.csv"
    table.write_bytes(b"date;debut;fin\n")
    error = {"line": 4, "column": "fin", "field": "ligne 4, colonne fin", "message": "25h n'est pas une heure"}
    slot = {"hours": "h", "start": "2026-11-27T14:00:00+01:00", "end": "2026-11-27T14:15:00+01:00", "capacity": 1}
    preview = ok({"lines": 4, "errors": [error], "slots": [slot]})
    code, out, err, _ = terminal([preview], "csv", "cabinet", str(table), "--check")
    assert code == 2 and "27/11/2026 14:00 à 14:15, 1 place(s)" in out and "rien n'a été écrit" in out
    assert "ligne 4, colonne fin : 25h n'est pas une heure" in err and "1 erreur(s) sur 4 lignes" in err
    wrong = refused(422, "invalid_input", detail="Rien n'a changé. ligne 4, colonne fin : 25h n'est pas une heure.")
    code, _, err, _ = terminal([wrong], "csv", "cabinet", str(table))
    assert code == 2 and "ligne 4, colonne fin" in err
    code, _, err, _ = terminal([], "csv", "cabinet", str(tmp_path / "rien.csv"))
    assert code == 2 and "ne peut être lu" in err


def test_a_week_is_sent_from_a_file(terminal: Callable[..., Any], tmp_path: Path) -> None:
    week = tmp_path / "semaine.json"
    week.write_text('{"hours": []}', encoding="utf-8")
    code, out, _, fake = terminal([ok(AGENDA)], "set", "cabinet", str(week))
    assert code == 0 and out.startswith("cabinet (version 3") and json.loads(fake.calls[0].content) == {"hours": []}
    code, out, _, fake = terminal([ok({"slots": []})], "set", "cabinet", str(week), "--check")
    assert code == 0 and fake.calls[0].url.path.endswith("/preview") and "0 créneaux" in out
    week.write_text("[", encoding="utf-8")
    assert "JSON incorrect" in terminal([], "set", "cabinet", str(week))[2]
