"""The command line: French help, readable errors with their exit codes, files, and what a decision reads like."""

import io
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer

from sas_matcher.cli import app, calls, files, show
from sas_matcher.cli import service as service_commands
from sas_matcher.cli.french import present, usage
from sas_matcher.client import Event, Gap, Position, Request, SasClient
from sas_matcher.config import Settings
from tests.unit.test_client import LIMIT, PLACE, REQUEST, SETTING, SETTING_CHANGE, Fake, ok, refused

SLOT = {
    "external_id": "a-1",
    "professional": {"rpps": "99000000012", "name": "Dr Olive Fictif-Houx"},
    "source_kind": "liberal",
    "location": {"lat": 44.5, "lon": 3.5, "insee": "48095"},
    "start": "2026-11-23T14:00:00+01:00",
    "end": "2026-11-23T14:15:00+01:00",
    "mode": "cabinet",
    "profession": "MG",
}
FIRM = dict.fromkeys(("T0", "T1", "T2", "T3"), "firm")
NONE: dict[str, Any] = {
    **REQUEST,
    "status": "waiting",
    "booking": None,
    "decision": {
        **REQUEST["decision"],
        "place": None,
        "alternatives": [],
        "sentence": "Pas de place pour l'instant : aucun créneau joignable avant l'échéance.",
        "none": {
            "reason": "NO_SLOT_BEFORE_DEADLINE",
            "counts": {"profession": 4, "mode": 3, "needs": 3, "radius": 2, "in_time": 0},
            "sentence": "Pas de place pour l'instant : aucun créneau joignable avant l'échéance.",
        },
    },
}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Fake]:
    """Answer the program's calls with a fake."""

    def answering(*answers: Any) -> Fake:
        fake = Fake(*answers)
        monkeypatch.setattr(calls, "client_of", lambda _url, _key: fake.client())
        return fake

    return answering


# -- help and usage ----------------------------------------------------------------------------------------------

PAGES = [
    [],
    ["serve"],
    ["demo"],
    ["keys"],
    ["keys", "issue"],
    ["keys", "list"],
    ["keys", "operator"],
    ["keys", "revoke"],
    ["publish"],
    ["request"],
    ["watch"],
    ["fhir"],
    ["fhir", "check"],
    ["mock-editor"],
    ["editors"],
    ["editors", "list"],
    ["editors", "check"],
    ["agenda"],
    ["agenda", "set"],
    ["agenda", "add"],
    ["agenda", "stop"],
    ["agenda", "csv"],
    ["en-sus"],
    ["en-sus", "consent"],
    ["en-sus", "accept"],
    ["en-sus", "ladder"],
    ["settings"],
    ["settings", "show"],
    ["settings", "set"],
    ["settings", "log"],
    ["simulate"],
    ["compare"],
    ["whatif"],
    ["version"],
]


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
def test_every_page_of_help_is_french(run: Any, page: list[str]) -> None:
    code, out, _ = run(*page, "--help")
    assert code == 0
    assert out.startswith("Usage : sas-matcher")
    assert "Options :" in out and "Affiche cette aide." in out
    for english in ("Usage:", "Options:", "Arguments:", "Commands:", "default:", "required", "Show this", "env var"):
        assert english not in out
    assert "<=x" not in out and "x>=" not in out


def test_without_a_command_the_help_is_shown(run: Any) -> None:
    code, out, err = run()
    assert (code, err) == (2, "")
    assert "Commandes :" in out


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    """It must not cost the second that the service's own imports take."""
    script = (
        "import sys, sas_matcher.cli as cli; sys.argv = ['sas-matcher', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'httpx', 'numpy', 'fastapi', 'pydantic', 'sqlalchemy', 'rich', 'adapters'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    best = float("inf")
    for _ in range(3):
        # the processor's time, not the wall's: other work on the machine must not fail this
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.stderr.strip() == "[]"
    assert best < 0.5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--nope"], "l'option --nope n'existe pas"),
        (["demo", "--foo"], "l'option --foo n'existe pas"),
        (["nope"], "la commande « nope » n'existe pas"),
        (["publish"], "il manque FICHIER"),
        (["demo", "--days"], "l'option --days demande une valeur"),
        (["demo", "--days", "x"], "--days : un nombre est attendu"),
        (["demo", "--days", "9"], "--days : au plus 7"),
        (["demo", "--days", "0"], "--days : au moins 1"),
        (["demo", "--port", "70000"], "--port : au plus 65535"),
        (["serve", "--only", "x"], "--only : valeurs possibles : api, core"),
        (["version", "extra"], "« extra » est de trop"),
        (["keys", "issue", "--name", "n"], "il manque --role"),
        (["request"], "il manque la clé d'accès : donnez --key, ou la variable SAS_KEY"),
        (["watch", "--key", "k é"], "la clé d'accès contient un espace ou un accent"),
        (["watch", "--key", "k", "--url", "ftp://x"], "doit commencer par http:// ou https://"),
        (["keys", "issue", "--role", "chef", "--name", "n"], "le rôle « chef » n'existe pas ; rôles : regulator, osnp"),
        (["keys", "issue", "--role", "osnp", "--name", "n"], "doit être rattachée à un territoire"),
        (
            ["keys", "issue", "--role", "manager", "--professional", "*", "--source", "cds lyon", "--name", "n"],
            "« cds lyon » contient une espace",
        ),
        (["keys", "issue", "--role", "manager", "--name", "n"], "à une structure ou à un professionnel"),
        (["settings", "show", "69"], "il manque la clé d'accès"),
        (["settings", "show", "--key", "k", "../x"], "le territoire « ../x » n'existe pas"),
        (["settings", "set", "69", "--key", "k", "--crisis", "on"], "il manque --why"),
        (["settings", "set", "69", "--key", "k", "--why", "w"], "indiquez au moins un réglage à changer"),
        (["settings", "set", "69", "--why", "w", "--crisis", "oui"], "--crisis : valeurs possibles : on, off"),
        (
            ["settings", "set", "69", "--why", "w", "--policy", "official"],
            "--policy : valeurs possibles : firm, promise",
        ),
        (["settings", "set", "69", "--why", "w", "--tier", "T9=firm"], "avec T0, T1, T2, T3 et firm, promise, crisis"),
        (["settings", "set", "69", "--why", "w", "--tier", "T0"], "--tier « T0 » : attendu PALIER=POLITIQUE"),
        (["settings", "set", "69", "--why", "w", "--hold", "14"], "--hold : "),
        (["settings", "set", "69", "--why", "w", "--ageing", "3"], "--ageing : "),
        (["demo", "-d", "99"], "le département « 99 » n'existe pas"),
    ],
)
def test_bad_input_is_one_french_line_and_exit_code_2(run: Any, arguments: list[str], expected: str) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert err.startswith("Erreur : ") and err.count("\n") == 1
    assert expected in err
    assert "Traceback" not in err


def test_what_nobody_translated_is_shown_as_it_is() -> None:
    assert usage("Something new.") == "Something new."


def test_version(run: Any) -> None:
    assert run("version") == (0, "sas-matcher 0.1.0\n", "")
    assert run("--version") == (0, "sas-matcher 0.1.0\n", "")


def test_environment_gives_url_and_key(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []

    async def watching(url: str, key: str, *_: object, **__: object) -> None:
        seen.append((url, key))

    monkeypatch.setattr(calls, "watch", watching)
    monkeypatch.setenv("SAS_URL", "http://10.0.0.1:1")
    monkeypatch.setenv("SAS_KEY", "sas_x")
    assert run("watch")[0] == 0
    assert seen == [("http://10.0.0.1:1", "sas_x")]


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [
        (OSError(28, "No space left on device", "/data"), 1, "plus de place sur le disque"),
        (PermissionError(13, "Permission denied", "/data"), 1, "accès refusé ; vérifiez les droits"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 1, ""),
    ],
)
def test_troubles_of_the_machine_are_readable(
    capsys: pytest.CaptureFixture[str], raised: BaseException, code: int, text: str
) -> None:
    def command() -> None:
        raise raised

    assert present(command) == code
    err = capsys.readouterr().err
    assert text in err and "Traceback" not in err


def test_faults_of_the_program_are_not_hidden() -> None:
    def command() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        present(command)


# -- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps([SLOT, SLOT])),
        ("a.json", json.dumps({"slots": [SLOT, SLOT]}, indent=2)),
        ("a.ndjson", f"{json.dumps(SLOT)}\n\n{json.dumps(SLOT)}\n"),
        ("a.txt", f"{json.dumps(SLOT)}\n{json.dumps(SLOT)}\n"),
        ("a.txt", json.dumps({"slots": [SLOT, SLOT]})),
        ("bom.json", "\ufeff" + json.dumps([SLOT, SLOT])),
    ],
)
def test_slots_are_read_in_each_form(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [slot.body for slot in files.read_slots(str(tmp_path / name))] == [SLOT, SLOT]


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(SLOT).encode())))
    assert [slot.where for slot in files.read_slots("-")] == ["ligne 1"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.ndjson", f"{json.dumps(SLOT)}\n{{oops\n", "ligne 2, colonne 2 : JSON incorrect"),
        ("a.ndjson", f"{json.dumps(SLOT)}\n\n[1]\n", "ligne 3 : un objet JSON est attendu"),
        ("a.json", '[\n{"a": 1,}\n]', "ligne 2, colonne 9 : JSON incorrect"),
        ("a.json", '{"places": []}', "une liste de créneaux est attendue"),
        ("a.json", "[]", "ne contient aucun créneau"),
        ("a.ndjson", "", "ne contient aucun créneau"),
        (
            "a.ndjson",
            f"{json.dumps(SLOT)}\n{json.dumps({**SLOT, 'start': '2026-11-23T14:00:00'})}\n",
            "ligne 2 : start : précisez le décalage horaire",
        ),
        ("a.json", json.dumps([{**SLOT, "nom_du_patient": "X"}]), "créneau 1 : nom_du_patient : champ inconnu"),
    ],
)
def test_a_wrong_file_names_line_field_and_fix(tmp_path: Path, run: Any, name: str, text: str, expected: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    code, _, err = run("publish", str(tmp_path / name), "--key", "k")
    assert code == 2
    assert expected in err


def test_a_missing_or_unreadable_file_is_told(tmp_path: Path, run: Any) -> None:
    assert "n'existe pas" in run("publish", str(tmp_path / "no.json"), "--key", "k")[2]
    assert "est un dossier" in run("publish", str(tmp_path), "--key", "k")[2]
    (tmp_path / "latin.json").write_bytes(b'["\xe9"]')
    assert "n'est pas en UTF-8 (octet 2)" in run("publish", str(tmp_path / "latin.json"), "--key", "k")[2]


def test_many_errors_are_shortened(tmp_path: Path, run: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{**SLOT, "profession": "XX"}] * 30))
    _, _, err = run("publish", str(tmp_path / "a.json"), "--key", "k")
    assert "créneau 10 : profession" in err and "créneau 11" not in err and "(et 20 autres)" in err


def test_check_publishes_nothing(tmp_path: Path, run: Any, service: Any) -> None:
    fake = service(ok({}))
    (tmp_path / "a.json").write_text(json.dumps([SLOT]))
    code, out, _ = run("publish", str(tmp_path / "a.json"), "--check")
    assert (code, fake.calls) == (0, [])
    assert "1 créneaux corrects" in out


# -- publish -----------------------------------------------------------------------------------------------------


def test_publish_says_what_became_of_the_slots(tmp_path: Path, run: Any, service: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps([SLOT] * 4500))
    fake = service(
        *(
            ok({"counts": counts, "results": []})
            for counts in ({"created": 2000}, {"created": 1999, "stale": 1}, {"booked": 500})
        )
    )
    code, out, _ = run("publish", str(tmp_path / "a.json"), "--key", "k")
    assert code == 0
    assert [len(json.loads(call.content)["slots"]) for call in fake.calls] == [2000, 2000, 500]
    assert out.strip() == (
        "4500 créneaux envoyés : 3999 créés, 1 plus anciens que connus, "
        "500 réservés (date, lieu et personne ne changent plus)."
    )


def test_publish_finds_the_line_that_the_service_refuses(tmp_path: Path, run: Any, service: Any) -> None:
    (tmp_path / "a.ndjson").write_text("\n\n".join([json.dumps(SLOT)] * 3))
    service(refused(422, "invalid_input", errors=[{"field": "slots.2.start", "message": "est déjà passé"}]))
    code, _, err = run("publish", str(tmp_path / "a.ndjson"), "--key", "k")
    assert code == 2
    assert err == "Erreur : ligne 5 : start : est déjà passé ; rien n'a été publié.\n"


# -- request -----------------------------------------------------------------------------------------------------


def test_a_decision_reads_as_place_why_and_alternatives(run: Any, service: Any) -> None:
    fake = service(ok(REQUEST, 201))
    code, out, _ = run("request", "--key", "k", "--insee", "48095", "--delay", "4h", "--need", "pmr")
    assert code == 0
    assert json.loads(fake.calls[0].content) == {
        "insee": "48095",
        "profession": "MG",
        "modes": ["cabinet"],
        "delay": "4H",
        "needs": ["pmr"],
        "priority": "P2",
    }
    assert "Demande r1 : place gardée." in out
    line = "23/11 à 14 h 00 · Dr Olive Fictif-Houx, Cabinet fictif Houx, Mende · 3,2 km, environ 9 min (estimation)"
    assert f"Place       {line}" in out
    assert "Pourquoi    14 h 00, la plus proche." in out
    assert f"Sinon 1.    {line}" in out
    assert "Sans confirmation la place sera rendue" in out
    assert len(fake.calls) == 1


def test_confirm_confirms_what_was_shown(run: Any, service: Any) -> None:
    fake = service(ok(REQUEST, 201), ok({**REQUEST, "status": "firm"}))
    code, out, _ = run("request", "--key", "k", "--insee", "48095", "--confirm")
    assert code == 0
    assert fake.calls[1].url.path == "/v1/requests/r1/confirm"
    assert json.loads(fake.calls[1].content) == {"booking_id": "b1"}
    assert "Confirmée : le cabinet est prévenu." in out


@pytest.mark.parametrize(("answer", "path"), [(True, "/v1/requests/r1/confirm"), (False, "/v1/requests/r1/cancel")])
async def test_in_a_terminal_the_place_is_confirmed_or_given_back(service: Any, answer: bool, path: str) -> None:
    fake = service(ok(REQUEST, 201), ok(REQUEST))
    said: list[str] = []
    await calls.request(
        "http://x", "k", {"insee": "48095"}, None, said.append, confirm=False, ask=lambda _: answer, as_json=False
    )
    assert fake.calls[1].url.path == path


def test_none_is_explained_with_counts_and_what_would_help(run: Any, service: Any) -> None:
    service(ok(NONE, 201))
    code, out, _ = run("request", "--key", "k", "--insee", "48095")
    assert code == 0
    assert "Demande r1 : en attente d'une place." in out
    assert "Pas de place pour l'instant : aucun créneau joignable avant l'échéance." in out
    assert "4 de la profession, 3 dans le mode, 3 avec les besoins, 2 dans le rayon, 0 à temps." in out
    assert "essayez un délai plus long (--delay)" in out


def test_what_would_help_is_shown_with_the_place_it_gives(run: Any, service: Any) -> None:
    way = {"concessions": ["deadline"], "size_min": 15.0, "ask": {"delay": "8H"}, "sentence": "1 h 00 plus tard"}
    none = {**NONE["decision"]["none"], "would_help": [{**way, "place": REQUEST["decision"]["place"]}]}
    service(ok({**NONE, "decision": {**NONE["decision"], "none": none}}, 201))
    _, out, _ = run("request", "--key", "k", "--insee", "48095")
    (line,) = [line for line in out.splitlines() if "Aiderait" in line]
    assert line.startswith("  Aiderait 1. 1 h 00 plus tard : 23/11 à ")
    assert "essayez" not in out, "a place that is there says more than advice"


def test_json_is_the_document(run: Any, service: Any) -> None:
    service(ok(REQUEST, 201))
    assert json.loads(run("request", "--key", "k", "--insee", "48095", "--json")[1]) == REQUEST


def town(code: str, name: str, *postcodes: str) -> dict[str, Any]:
    head = {"code": code, "name": name, "territory": code[:2], "postcodes": postcodes, "population": 1}
    return {**head, "lat": 0.0, "lon": 0.0}


@pytest.mark.parametrize(
    ("typed", "found", "meant"),
    [
        ("mende", [town("48095", "Mende"), town("34156", "Mendelieu")], "48095"),
        ("villeurb", [town("69266", "Villeurbanne")], "69266"),
        ("saint etienne", [town("42218", "Saint-Étienne"), town("42219", "Saint-Étienne-le-Molard")], "42218"),
        (
            "69003",
            [
                town("69383", "Lyon 3e Arrondissement", "69003"),
                town("69003", "Albigny-sur-Saône", "69250"),
                town("69123", "Lyon", "69001", "69003"),
            ],
            "69383",
        ),
    ],
)
def test_a_commune_is_found_as_people_type_it(run: Any, service: Any, typed: str, found: Any, meant: str) -> None:
    fake = service(ok({"communes": found}), ok(REQUEST, 201))
    assert run("request", "--key", "k", "--commune", typed)[0] == 0
    assert json.loads(fake.calls[1].content)["insee"] == meant


def test_when_several_communes_are_meant_the_choice_is_shown(run: Any, service: Any) -> None:
    service(ok({"communes": [town("93066", "Saint-Denis"), town("97411", "Saint-Denis")]}))
    code, _, err = run("request", "--key", "k", "--commune", "Saint-Denis")
    assert code == 2
    assert "Saint-Denis (93) --insee 93066, Saint-Denis (97) --insee 97411." in err
    service(ok({"communes": [town(f"480{n:02d}", f"Lieu {n}", "48000") for n in range(10)]}))
    assert "Lieu 5 (48) --insee 48005 et 4 autres" in run("request", "--key", "k", "--commune", "48000")[2]
    service(ok({"communes": []}))
    assert "aucune commune ne correspond à « Zz »" in run("request", "--key", "k", "--commune", "Zz")[2]


def test_where_must_be_said(run: Any, service: Any) -> None:
    service(ok(REQUEST))
    code, _, err = run("request", "--key", "k", "--lat", "44.5")
    assert code == 2
    assert "indiquez où : --insee, --commune, ou --lat et --lon" in err


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (refused(422, "vital_priority"), 2, "Non"),
        (refused(401, "not_authenticated"), 1, "clé d'accès refusée (Non) ; vérifiez --key ou SAS_KEY"),
        (refused(409, "conflict"), 1, "Non"),
        (refused(500, "internal"), 1, "à citer à l'exploitant : t1"),
        (httpx.ConnectError("refused"), 1, "le service ne répond pas à http://127.0.0.1:9 (refused) ; est-il lancé"),
    ],
)
def test_refusals_are_one_line(run: Any, service: Any, answer: Any, code: int, text: str) -> None:
    service(answer)
    found, _, err = run("request", "--key", "k", "--insee", "48095")
    assert found == code
    assert text in err and err.count("\n") == 1 and "Traceback" not in err


# -- settings ----------------------------------------------------------------------------------------------------


def test_settings_read_as_what_is_in_force(run: Any, service: Any) -> None:
    fake = service(ok({**SETTING, "policy": {**FIRM, "T3": "auto"}, "in_force": {**FIRM, "T3": "crisis"}}))
    code, out, _ = run("settings", "show", "2a", "--key", "k")
    assert (code, fake.calls[0].url.path) == (0, "/v1/territories/2A/settings")
    assert "Réglages du territoire 69, version 2, depuis le " in out
    assert "T0 firm · T1 firm · T2 firm · T3 auto (crisis en ce moment)" in out
    assert "permise, déclarée" in out and "180 s" in out and "0,5 % de la valeur" in out
    assert "2,5 min par patient" in out
    assert run("settings", "show", "69", "--key", "k", "--json")[1] == fake.answers[0].text + "\n"


def test_only_what_is_given_is_changed(run: Any, service: Any) -> None:
    fake = service(ok(SETTING))
    given = ["--policy", "auto", "--tier", "t0=firm", "--crisis", "off", "--why", "fin de l'afflux"]
    assert run("settings", "set", "69", "--key", "k", *given)[0] == 0
    assert (fake.calls[0].method, fake.calls[0].headers["idempotency-key"]) == ("PATCH", "key-0000")
    assert json.loads(fake.calls[0].content) == {
        "policy": {"T0": "firm", "T1": "auto", "T2": "auto", "T3": "auto"},
        "crisis": False,
        "why": "fin de l'afflux",
    }
    others = ["--crisis-allowed", "on", "--hold", "60", "--mt", "first", "--ageing", "0", "--fair", "5", "--why", "w"]
    others += ["--radius", "150", "--reserve", "30", "--tele", "10", "--mt-ask", "4"]
    assert run("settings", "set", "69", "--key", "k", *others)[0] == 0
    assert json.loads(fake.calls[1].content) == {
        "crisis_allowed": True,
        "hold_seconds": 60,
        "mt_rule": "first",
        "mt_ask_min": 4,
        "ageing_pct_per_h": 0.0,
        "fair_load_min": 5.0,
        "radius_pct": 150,
        "urgent_reserve_pct": 30,
        "tele_bonus_min": 10.0,
        "why": "w",
    }


def test_a_change_that_is_refused_is_told(run: Any, service: Any) -> None:
    service(refused(409, "crisis_not_allowed"))
    code, _, err = run("settings", "set", "69", "--key", "k", "--crisis", "on", "--why", "w")
    assert (code, err) == (1, "Erreur : Non.\n")


def test_the_trace_says_when_who_what_and_why(run: Any, service: Any) -> None:
    fake = service(ok({"territory": "69", "changes": [SETTING_CHANGE], "next_before": 2}))
    code, out, _ = run("settings", "log", "69", "--key", "k", "--count", "1")
    assert (code, fake.calls[0].url.params["limit"]) == (0, "1")
    assert out.endswith("· cle42 · crisis non → oui, ageing_pct_per_h 0 → 0,5, T3 firm → auto · « afflux »\n")
    assert out.count("\n") == 1
    service(ok({"territory": "69", "changes": [], "next_before": None}))
    assert run("settings", "log", "69", "--key", "k")[1] == "Aucun changement.\n"


# -- events ------------------------------------------------------------------------------------------------------


def event(name: str, data: dict[str, Any]) -> Event:
    return Event(Position("e", "1-0"), name, "x", 1, data)


BOOKING = {
    "booking_id": "0000-aaaabbbbcccc",
    "state": "firm",
    "version": 2,
    "slot_id": 7,
    "external_id": "a-1",
    "start": "2026-11-23T14:00:00+01:00",
    "end": "2026-11-23T14:15:00+01:00",
    "mode": "cabinet",
    "profession": "MG",
    "tier": "T1",
    "needs": [],
    "own_patient": False,
}


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("request.held", REQUEST, "demande place gardée · r1 T1 MG · 23/11 à 14 h 00 · Dr Olive"),
        ("request.waiting", NONE, "demande en attente d'une place · r1 T1 MG · Pas de place pour l'instant"),
        ("request.lapsed", {**REQUEST, "status": "lapsed", "booking": None}, "demande garde expirée · r1 T1 MG"),
        ("booking.firm", BOOKING, "réservation confirmée · aaaabbbbcccc · 23/11 à 14 h 00 · a-1"),
        ("request.firm", {"territory": "48", "tier": "T1", "status": "firm"}, "demande confirmée · 48 T1 firm"),
        ("request.strange", {}, "demande strange"),
        ("settings.changed", SETTING_CHANGE, "réglages du territoire 69 changés · "),
    ],
)
def test_events_read_as_lines(name: str, data: dict[str, Any], expected: str) -> None:
    assert show.event_line(event(name, data)).startswith(expected)


def test_a_promise_reads_as_what_may_be_said_to_the_caller() -> None:
    def local(hour: int, minute: int) -> str:
        # the place's clock, whatever this machine's is
        return datetime(
            2026, 11, 23, hour, minute, tzinfo=datetime.fromisoformat(str(PLACE["start"])).tzinfo
        ).isoformat()

    promise = {
        "since": local(14, 5),
        "seen_before": local(18, 30),
        "told_by": local(16, 10),
        "moves": 2,
        "broken": 0,
        "lost_to_practice": 0,
    }
    document = {**REQUEST, "status": "promised", "promise": promise}
    said = "sera vu avant 18 h 30, lieu et heure au plus tard à 16 h 10"
    text = "\n".join(show.request_lines(Request.of(document)))
    assert said in text
    assert "Dr Olive" not in text, "the seat may still change"
    line = show.event_line(event("request.promised", document))
    assert line.endswith(said) and "Dr Olive" not in line


@pytest.mark.parametrize("offset", ["+01:00", "+04:00", "-04:00"])
def test_a_hold_ends_on_the_clock_of_its_place(offset: str) -> None:
    """The service answers in UTC; whoever reads compares with the place's hour beside it."""
    place = {**PLACE, "start": f"2026-11-23T16:00:00{offset}", "end": f"2026-11-23T16:15:00{offset}"}
    document = {**REQUEST, "decision": {**REQUEST["decision"], "place": place}}
    hour = 12 + int(offset[:3])
    assert f"Gardée      jusqu'à {hour} h 03 min 00 s" in "\n".join(show.request_lines(Request.of(document)))


def test_modes_read_as_people_say_them() -> None:
    tele = {**PLACE, "mode": "tele", "distance_km": None}
    visit = {**PLACE, "mode": "visite", "is_mt": True}
    held = {**REQUEST, "decision": {**REQUEST["decision"], "place": tele, "alternatives": [visit]}}
    text = "\n".join(show.request_lines(Request.of(held)))
    assert "· téléconsultation\n" in text
    assert "(estimation), à domicile, médecin traitant" in text
    undecided = "\n".join(show.request_lines(Request.of({**REQUEST, "decision": None, "booking": None})))
    assert "Pas encore décidée ; échéance" in undecided


async def test_watch_says_events_gaps_and_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    me = {"key_id": "k", "name": "SAS 48", "role": "osnp", "scope": "regulator", "territories": ["48"]}
    fake = Fake(ok(me), ok({"requests": [REQUEST]}))

    class Stream:
        def __init__(self) -> None:
            self.items: list[Event | Gap] = [Gap(Position("e", "1-0"), "stream_wiped"), event("request.held", REQUEST)]

        async def open(self) -> None: ...
        async def __aenter__(self) -> "Stream":
            return self

        async def __aexit__(self, *_: object) -> None: ...
        def __aiter__(self) -> "Stream":
            return self

        async def __anext__(self) -> Event | Gap:
            return self.items.pop(0)

    def client(_url: str, _key: str) -> SasClient:
        sas = fake.client()
        monkeypatch.setattr(sas, "events", Stream)
        return sas

    monkeypatch.setattr(calls, "client_of", client)
    said: list[str] = []
    await calls.watch("http://x", "k", said.append, count=1, as_json=False)
    assert said[0] == "Suivi de « SAS 48 » (osnp) ; Ctrl-C pour finir."
    assert said[1] == "… des événements ont pu manquer (stream_wiped) ; l'état présent fait foi :"
    assert said[2] == "  Demande r1 : place gardée."
    assert said[3].startswith("demande place gardée")
    fake.answers = [ok(me)]
    said.clear()
    await calls.watch("http://x", "k", said.append, count=1, as_json=True)
    assert [json.loads(line) for line in said] == [
        {"gap": "stream_wiped", "epoch": "e", "offset": "1-0"},
        {"event": "request.held", "epoch": "e", "offset": "1-0", "data": REQUEST},
    ]


# -- keys --------------------------------------------------------------------------------------------------------


def test_keys_without_a_database_say_where_to_look(tmp_path: Path, run: Any) -> None:
    code, _, err = run("keys", "list", "--data", str(tmp_path))
    assert code == 1
    assert f"aucune donnée dans {tmp_path} ; lancez d'abord sas-matcher serve" in err


def test_revoking_what_is_not_in_force_is_told(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_commands, "with_stores", lambda _data, _work: False)
    code, _, err = run("keys", "revoke", "abc")
    assert code == 1
    assert "aucune clé en vigueur ne s'appelle « abc » ; voyez sas-matcher keys list" in err


def test_a_limit_is_set_and_reads_in_french(service: Callable[..., Fake], run: Any) -> None:
    fake = service(ok(LIMIT))
    code, out, _ = run("limits", "set", "quota", "--most", "1", "--key", "k")
    said = out.splitlines()
    assert (code, said[0]) == (0, "quota : au plus 1 enfant par demi-journée (10000000012)")
    assert said[1].endswith("1 sur 1")
    assert json.loads(fake.calls[0].content)["most"] == 1


def test_a_limits_day_begins_where_the_practice_is(service: Callable[..., Fake], run: Any) -> None:
    service(ok({**LIMIT, "zone": "Indian/Reunion"}))
    _, out, _ = run("limits", "set", "quota", "--most", "1", "--key", "k")
    assert out.splitlines()[1] == "  23/11 à 3 h 00 : 1 sur 1"


def test_limits_are_listed_or_there_is_none(service: Callable[..., Fake], run: Any) -> None:
    service(ok({"limits": [{**LIMIT, "most": None, "share": 30, "counts": "visits", "period": "day"}]}))
    _, out, _ = run("limits", "list", "--key", "k")
    assert out.splitlines()[0] == "quota : au plus 30 % de visites parmi les places par jour (10000000012)"
    service(ok({"limits": []}))
    _, out, _ = run("limits", "list", "--key", "k")
    assert out.splitlines() == ["Aucune limite ; fixez-en une avec sas-matcher limits set."]


def test_a_limit_is_removed(service: Callable[..., Fake], run: Any) -> None:
    fake = service(ok({"removed": "quota"}))
    _, out, _ = run("limits", "remove", "quota", "--key", "k")
    assert fake.calls[0].method == "DELETE" and "quota" in out


# -- editors of agendas --------------------------------------------------------------------------------------------


def test_a_file_of_editors_is_checked_without_asking_anybody(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "editors.toml"
    text = '[[editor]]\nname = "a"\nlabel = "A"\nurl = "https://a.example/fhir"\nflows = ["ps"]\npeople = "a.txt"\n'
    file.write_text(text, encoding="utf-8")
    code, _, err = run("editors", "check", str(file))
    assert code == 2 and "a.txt ne peut être lu" in err
    (tmp_path / "a.txt").write_text("10000000001\n", encoding="utf-8")
    assert run("editors", "check", str(file))[:2] == (
        0,
        "a : 1 identifiants, 1 appels par tour, https://a.example/fhir\n",
    )
    file.write_text(text + 'certificate = "absent.pem"\n', encoding="utf-8")
    code, _, err = run("editors", "check", str(file))
    assert code == 2 and "éditeur a, certificat" in err


def test_how_editors_do_is_said_line_by_line(run: Any, service: Callable[..., Fake]) -> None:
    editor = {"name": "a", "sentence": "éditeur A muet depuis 4 min", "places": 12, "tried": 20, "phantoms": 3}
    service(ok({"editors": [{**editor, "dropped": {"not_free": 2}}]}))
    code, out, _ = run("editors", "list", "--key", "sas_x")
    assert code == 0
    assert out.splitlines() == [
        "a : éditeur A muet depuis 4 min",
        "  12 places, 3 fantômes sur 20 places tentées, 2 créneaux inutilisables",
    ]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["fhir", "check", "https://a.example/fhir"], "--rpps"),
        (["fhir", "check", "a.example", "--rpps", "10000000001"], "http"),
        (["fhir", "check", "https://a.example", "--rpps", "12"], "RPPS"),
        (["mock-editor", "--outage", "60/600"], "600/60"),
        (["mock-editor", "-d", "99"], "département"),
    ],
)
def test_wrong_words_about_editors_are_named_with_the_fix(run: Any, words: list[str], problem: str) -> None:
    code, _, err = run(*words)
    assert code == 2 and problem in err


def test_the_options_of_a_limit_become_its_body(run: Any, service: Any) -> None:
    fake = service(ok(LIMIT))
    given = ["--professional", "10000000012", "--structure", "690000001", "--counts", "visits", "--half-day"]
    code, out, _ = run("limits", "set", "quota", "--key", "k", *given, "--share", "30", "--territory", "974")
    assert (code, fake.calls[0].method, fake.calls[0].url.path) == (0, "PUT", "/v1/limits/quota")
    assert out.startswith("quota : au plus ")
    assert json.loads(fake.calls[0].content) == {
        "professionals": ["10000000012"],
        "structures": ["690000001"],
        "counts": "visits",
        "period": "half_day",
        "most": None,
        "share": 30,
        "territory": "974",
    }
    assert run("limits", "set", "quota", "--most", "3")[0] == 2, "without a key"


def test_no_variable_of_a_command_is_refused_as_a_setting() -> None:
    """``serve`` refuses settings that it does not know; one shell may have the variables of all commands."""
    waiting, named = [typer.main.get_command(app)], set()
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        named |= {option.envvar for option in command.params if isinstance(option.envvar, str)}
    assert {"SAS_KEY", "SAS_KEY_FHIR"} <= named
    for name in named:
        Settings.of_environment({name: "1"})
