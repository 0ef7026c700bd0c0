"""What the pages keep to without a browser: vendored files, words, passwords, tries."""

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from starlette.requests import Request

from sas_matcher.console import words
from sas_matcher.console.demo_pages import is_of_this_machine
from sas_matcher.console.typography import set_in_french
from sas_matcher.domain.errors import InvalidInputError, NotFoundError
from sas_matcher.domain.vocabulary import AgeBand, Delay, Mode, Offer, Role, SourceKind
from sas_matcher.ports.ledger import KeyRecord
from sas_matcher.services.accounts import FREE_TRIES, Account, suggest_password, wait_before_try
from sas_matcher.services.passwords import hash_password, is_password

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 26, 22, 30, tzinfo=UTC)


@pytest.mark.parametrize("folder", ["sas_matcher/console/static/vendor", "tests/browser/vendor"])
def test_what_is_shipped_of_others_is_what_the_manifest_says(folder: str) -> None:
    entries = json.loads((ROOT / folder / "MANIFEST.json").read_text(encoding="utf-8"))
    files = {path.name for path in (ROOT / folder).iterdir()} - {"MANIFEST.json"}
    assert files == {entry["file"] for entry in entries}
    locked = json.loads((ROOT / "deploy/vendor/package-lock.json").read_text(encoding="utf-8"))["packages"]
    for entry in entries:
        assert hashlib.sha256((ROOT / folder / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
        assert locked[f"node_modules/{entry['package']}"]["version"] == entry["version"]
        assert entry["licence"]


def test_the_lock_names_no_registry() -> None:
    locked = json.loads((ROOT / "deploy/vendor/package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert all("resolved" not in package for package in locked.values())
    assert all("integrity" in package for name, package in locked.items() if name)


@pytest.mark.parametrize(
    ("peer", "host", "let_in"),
    [
        ("127.0.0.1", "127.0.0.1:8069", True),
        ("::1", "localhost:8069", True),
        ("192.0.2.7", "127.0.0.1:8069", False),
        # a name of somebody else that points at this machine
        ("127.0.0.1", "rebound.example:8069", False),
    ],
)
def test_a_demonstration_lets_in_only_this_machine(peer: str, host: str, let_in: bool) -> None:
    scope = {
        "type": "http",
        "scheme": "http",
        "path": "/demo",
        "query_string": b"",
        "headers": [(b"host", host.encode())],
        "client": (peer, 1),
        "server": ("127.0.0.1", 8069),
    }
    assert is_of_this_machine(Request(scope)) is let_in


def test_pages_have_a_word_for_every_code() -> None:
    assert set(words.NEEDS) == set(Offer)
    assert set(words.MODES) == set(Mode)
    assert set(words.SOURCES) == set(SourceKind)
    assert set(words.AGES) == set(AgeBand)
    assert set(words.ROLES) == set(Role) - {Role.FHIR}
    assert set(words.DELAYS) == set(Delay) - {Delay.DEL0}


def test_hours_are_those_of_the_territory() -> None:
    def said(text: str) -> str:
        assert " h" not in text and not re.search(r"\d [hjm]", text), "spaces of an hour do not break"
        return text.replace("\u00a0", " ")

    # 23 h 30 in Paris, the next day in La Réunion
    assert said(words.when(NOW + timedelta(minutes=15), NOW)) == "aujourd'hui 23 h 45"
    assert said(words.when(NOW + timedelta(hours=1), NOW)) == "demain 0 h 30"
    assert said(words.short(NOW + timedelta(minutes=15), NOW)) == "23 h 45"
    assert said(words.when(NOW, NOW, ZoneInfo("Indian/Reunion"))) == "aujourd'hui 2 h 30"
    assert said(words.when(NOW + timedelta(days=5), NOW)) == "mar. 1/12 23 h 30"
    spans = ["moins d'une minute", "25 min", "1 h", "3 h 05", "2 j 4 h"]
    assert [said(words.span(minutes)) for minutes in (0.2, 25, 60, 185, 3120)] == spans


def test_days_and_hours_of_a_rule_are_said_as_people_say_them() -> None:
    assert [words.weekdays(days) for days in ([1, 2, 3, 4, 5], [7, 1, 2, 3, 4, 5, 6], [1, 4], [2], [6, 7])] == [
        *("du lundi au vendredi", "tous les jours", "lundi, jeudi", "mardi", "samedi, dimanche")
    ]
    assert words.between("00:00", "24:00") == "à toute heure"
    assert words.between("09:00", "18:30") == "de 9\u00a0h\u00a000 à 18\u00a0h\u00a030"
    assert words.dated(NOW) == "26/11/2026 à 23\u00a0h\u00a030"
    tomorrow = datetime(2026, 11, 27, 12, tzinfo=UTC)
    assert words.part_of_day(tomorrow, "half_day", NOW) == "demain après-midi"
    assert words.part_of_day(tomorrow, "day", NOW) == "demain"
    assert [words.rule(name) for name in ("publication", "en_sus:visites", "soir")] == [
        *("votre publication", "accord « visites »", "règle « soir »")
    ]
    assert words.with_labels("sans « tiers_payant », à « x » km") == "sans « Tiers payant », à « x » km"


def test_what_is_refused_is_told_in_the_words_of_the_form() -> None:
    told = [
        InvalidInputError.of("radius_pct", "doit être un nombre"),
        InvalidInputError.of("plan/tension/settings/radius_pct", "100 à 300"),
        InvalidInputError.of("address", "format inattendu ; attendu : ^[x]+$"),
        InvalidInputError.of("why", "1 caractère(s) au moins"),
        InvalidInputError.of("most", "indiquez soit most (nombre), soit share (pour cent)"),
        InvalidInputError.of("rayon, marche 2", "doit être un nombre"),
        InvalidInputError.of("nom_du_patient", "champ inconnu"),
        NotFoundError("Agenda introuvable."),
    ]
    assert [words.refusal(error) for error in told] == [
        "Rayon accordé : doit être un nombre",
        "Tension, rayon accordé : 100 à 300",
        "Adresse : n'a pas la forme attendue",
        "Motif : à remplir",
        "Au plus : indiquez soit « au plus », soit « part des places »",
        "Rayon, marche 2 : doit être un nombre",
        "Champ inconnu",
        "Agenda introuvable.",
    ]


def test_french_punctuation_stays_together_and_nothing_else_changes() -> None:
    template = (
        '<p title="a : b">« {{ x if a else " ; " }} » : {% if n %}10 %{% endif %} ?</p>{{ label.split(" :")[0] }}'
    )
    assert set_in_french(template) == (
        '<p title="a : b">«\u00a0{{ x if a else " ; " }}\u00a0»\u00a0: {% if n %}10\u00a0%{% endif %}\u00a0?</p>'
        '{{ label.split(" :")[0] }}'
    )


def test_passwords_are_kept_as_salted_records() -> None:
    record = hash_password("une phrase assez longue", b"s" * 16)
    assert "phrase" not in record and record != hash_password("une phrase assez longue", b"t" * 16)
    assert is_password("une phrase assez longue", record)
    assert not is_password("une phrase assez longue ", record)


def test_wrong_passwords_slow_down_the_next_try() -> None:
    key = KeyRecord("k", b"", "n", "osnp", ("69",), (), (), "k", None, None)

    def waits(failures: int) -> float:
        return wait_before_try(Account("a", key, None, failures, NOW), NOW).total_seconds()

    assert waits(FREE_TRIES - 1) == 0
    assert [waits(FREE_TRIES + more) for more in range(3)] == [2, 4, 8]
    assert waits(FREE_TRIES + 1_000) == 900
    assert wait_before_try(Account("a", key, None, 7, NOW - timedelta(seconds=9)), NOW) < timedelta()


def test_suggested_passwords_are_read_out_easily_and_differ() -> None:
    first, second = suggest_password("a"), suggest_password("b")
    assert first != second and len(first) == 23
    assert not set(first) & set("ilo01")
