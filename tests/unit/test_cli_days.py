"""The commands about whole days: what they write, that they write it whole or not at all, how they refuse."""

import signal
from collections.abc import Sequence
from dataclasses import replace
from datetime import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.geo import Gazetteer
from sas_matcher.cli import laboratory, supposing
from sas_matcher.cli.french import InputError
from sas_matcher.cli.output import whole_file, whole_folder
from sas_matcher.replay.batches import Batch, mark_line
from sas_matcher.replay.batches import Meta as BatchesMeta
from sas_matcher.replay.daylog import DayLog, Instant
from sas_matcher.replay.daylog_file import day_lines, read_day, write_day
from sas_matcher.replay.score import score
from sas_matcher.replay.simulate import simulate
from sas_matcher.replay.study import study
from sas_matcher.replay.whatif import Practice, local, slots_of, with_slots
from tests.daylog_cases import at, created, day_of, lines_of, published
from tests.fcfs_nearest import fcfs_nearest


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- simulate ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["day.jsonl", "day.jsonl.gz"])
def test_a_story_is_drawn_into_a_file(run: Any, tmp_path: Path, name: str) -> None:
    code, out, err = run("simulate", "--scenario", "s1", "-d", "48", "--seed", "7", "--out", str(tmp_path / name))
    geography = Gazetteer.load()
    day = simulate("S1", geography.communes_of("48"), 7, territories=geography.territories)
    assert (code, err) == (0, "")
    assert read_day(tmp_path / name) == day
    assert f"{len(day.requests)} demandes, {len(day.slots)} créneaux" in out
    assert names(tmp_path) == [name]


def test_level_date_and_people_reach_the_draw(run: Any, tmp_path: Path) -> None:
    asked = ("--scenario", "S7", "-d", "48", "--level", "high", "--people", "3", "--date", "2026-03-02")
    assert run("simulate", *asked, "--out", str(tmp_path / "d.jsonl"))[0] == 0
    day = read_day(tmp_path / "d.jsonl")
    assert day.meta.start.iso() == "2026-03-02T00:00:00+01:00"
    assert {s.slot.professional for s in day.slots} != set()
    for other in (("--level", "low"), ("--people", "4")):
        position = asked.index(other[0])
        changed = (*asked[:position], *other, *asked[position + 2 :])
        assert run("simulate", *changed, "--out", str(tmp_path / "e.jsonl"))[0] == 0
        assert read_day(tmp_path / "e.jsonl") != day


def test_successive_seeds_go_into_a_folder(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "days"
    code, out, _ = run("simulate", "--kind", "city-x1", "--seed", "4", "--count", "2", "--out", str(folder))
    assert (code, names(folder)) == (0, ["city-x1-4.jsonl", "city-x1-5.jsonl"])
    assert read_day(folder / "city-x1-5.jsonl") == study("city-x1", 5)
    assert "2 journaux" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--scenario"),
        (["--scenario", "S1", "--kind", "flash", "-d", "48"], "un seul des deux"),
        (["--scenario", "S1"], "--departement"),
        (["--scenario", "S1", "-d", "48", "--france"], "un seul des deux"),
        (["--scenario", "S12", "-d", "48"], "le scénario « S12 » n'existe pas ; valeurs possibles : S0,"),
        (["--scenario", "S1", "-d", "99"], "le département « 99 » n'existe pas"),
        (["--scenario", "S1", "-d", "48", "--level", "top"], "valeurs possibles : low, mid, high"),
        (["--scenario", "S1", "-d", "48", "--seed", "-1"], "au moins 0"),
        (["--scenario", "S1", "-d", "48", "--date", "12/01/2026"], "--date"),
        (["--kind", "town"], "la sorte « town » n'existe pas ; valeurs possibles : city-x1,"),
        (["--kind", "flash", "--level", "low"], "--kind est une géographie inventée"),
    ],
)
def test_a_wrong_wish_is_named_and_nothing_is_written(
    run: Any, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    code, out, err = run("simulate", *arguments, "--out", str(tmp_path / "day.jsonl"))
    assert (code, out) == (2, "")
    assert err.startswith("Erreur : ") and expected in err
    assert names(tmp_path) == []


def test_an_output_that_cannot_be_is_refused(run: Any, tmp_path: Path) -> None:
    wish = ("simulate", "--kind", "city-x1", "--out")
    code, _, err = run(*wish, str(tmp_path / "no" / "day.jsonl"))
    assert code == 2 and "n'existe pas" in err
    code, _, err = run(*wish, str(tmp_path))
    assert code == 2 and "est un dossier" in err
    (tmp_path / "file").touch()
    code, _, err = run(*wish, str(tmp_path / "file"), "--count", "2")
    assert code == 2 and "est un fichier" in err
    assert names(tmp_path) == ["file"]


def test_ctrl_c_leaves_nothing_behind(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(kind: str, seed: int, **_: object) -> object:
        if seed == 1:
            raise KeyboardInterrupt
        return study(kind, seed)

    monkeypatch.setattr(laboratory, "study", stopped)
    assert run("simulate", "--kind", "city-x1", "--count", "3", "--out", str(tmp_path / "days"))[0] == 130
    assert run("simulate", "--kind", "city-x1", "--seed", "1", "--out", str(tmp_path / "day.jsonl"))[0] == 130
    assert names(tmp_path) == []


# -- whole or not at all -----------------------------------------------------------------------------------------


def test_a_file_is_replaced_only_by_a_finished_one(tmp_path: Path) -> None:
    target = tmp_path / "result"
    target.write_text("old")
    with pytest.raises(RuntimeError), whole_file(target) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert (target.read_text(), names(tmp_path)) == ("old", ["result"])
    with whole_file(target) as draft:
        draft.write_text("new")
    assert (target.read_text(), names(tmp_path)) == ("new", ["result"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_ends_the_process_leaves_nothing_behind(tmp_path: Path, number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "result") as draft:
        draft.write_text("half")
        signal.raise_signal(number)
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "report") as folder:
        (folder / "page").write_text("half")
        signal.raise_signal(number)
    assert names(tmp_path) == [] and signal.getsignal(number) == before


def test_a_folder_keeps_what_else_is_in_it(tmp_path: Path) -> None:
    target = tmp_path / "report"
    target.mkdir()
    (target / "mine").write_text("kept")
    with pytest.raises(RuntimeError), whole_folder(target) as draft:
        (draft / "page").write_text("half")
        raise RuntimeError
    assert names(target) == ["mine"] and names(tmp_path) == ["report"]
    with whole_folder(target) as draft:
        (draft / "page").write_text("new")
    assert names(target) == ["mine", "page"] and names(tmp_path) == ["report"]
    with pytest.raises(InputError, match="n'existe pas"), whole_folder(tmp_path / "no" / "report"):
        pass


# -- compare -----------------------------------------------------------------------------------------------------

SAMPLE = Path(__file__).parents[1] / "data" / "daylog"
READY = (
    "--result",
    f"promise={SAMPLE}/result-promise.jsonl",
    "--result",
    f"{SAMPLE.name}:crisis={SAMPLE}/result-crisis.jsonl",
)


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, list[str], int]]:
    """Let the tests' own peer stand for every replay; tells day, policy, days learned from, and seed."""
    asked: list[tuple[str, str, list[str], int]] = []

    def peer(day: DayLog, policy: str, history: Sequence[DayLog], seed: int, **_: object) -> list[bytes]:
        asked.append((day.meta.start.iso(), policy, [past.meta.start.iso() for past in history], seed))
        return lines_of(fcfs_nearest(day, waiting_list=policy == "fcfs-nearest"))

    monkeypatch.setattr(laboratory, "replay", peer)
    return asked


def test_results_of_any_engine_are_compared(run: Any, tmp_path: Path) -> None:
    code, out, err = run("compare", str(SAMPLE / "day.jsonl"), *READY, "--map", "promise", "--out", str(tmp_path / "r"))
    assert (code, err) == (0, "")
    assert "1 journée, promise, daylog" in out
    page = (tmp_path / "r" / "index.html").read_text("utf-8")
    assert all(name in page for name in ("promise", "daylog", "Marseille", "1 journée, 90 demandes"))
    assert "day-carte-promise.png" in names(tmp_path / "r") and names(tmp_path) == ["r"]


def test_every_day_is_replayed_under_every_policy_with_the_past_of_its_territory(
    run: Any, tmp_path: Path, replays: list[Any]
) -> None:
    days = tmp_path / "days"
    for date in ("2026-01-12", "2026-01-13"):
        assert run("simulate", "--kind", "city-x1", "--date", date, "--count", "1", "--out", str(days))[0] == 0
        (days / "city-x1-0.jsonl").rename(days / f"{date}.jsonl")
    assert run("simulate", "--kind", "rural", "--out", str(days / "elsewhere.jsonl"))[0] == 0
    file = str(days / "2026-01-13.jsonl")
    arguments = ("--policies", "fcfs-nearest,firm", "--history", str(days), "--seed", "3", "--out", str(tmp_path / "r"))
    assert run("compare", file, *arguments)[0] == 0
    known = ["2026-01-12T00:00:00+01:00"]
    today = "2026-01-13T00:00:00+01:00"
    assert replays == [(today, "fcfs-nearest", known, 3), (today, "firm", known, 3)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--policies", "firm,best"], "la politique « best » n'existe pas ; valeurs possibles : fcfs-nearest,"),
        (["--policies", ","], "--policies est vide"),
        (["--result", "promise"], "la forme attendue est POLITIQUE=FICHIER"),
        (["--result", "mine=a.jsonl"], "la politique « mine » n'existe pas"),
        (["--result", "promise=no/{day}.jsonl"], "il n'y a pas de résultat no/day.jsonl pour day.jsonl"),
        ([*READY, "--map", "firm"], "--map firm : valeurs possibles : promise, daylog"),
        ([*READY, "--policies", "promise"], "portent le même nom"),
        (["--policies", "firm", "--history", "no"], "le dossier d'historique no n'existe pas"),
    ],
)
def test_a_wrong_comparison_is_named_and_nothing_is_written(
    run: Any, tmp_path: Path, replays: list[Any], arguments: list[str], expected: str
) -> None:
    code, out, err = run("compare", str(SAMPLE / "day.jsonl"), *arguments, "--out", str(tmp_path / "r"))
    assert (code, out) == (2, "")
    assert expected in err and names(tmp_path) == []


def test_a_bad_day_log_is_named_with_its_line(run: Any, tmp_path: Path) -> None:
    lines = (SAMPLE / "day.jsonl").read_text("utf-8").splitlines()
    (tmp_path / "day.jsonl").write_text("\n".join([*lines[:4], "{}"]), "utf-8")
    code, _, err = run("compare", str(tmp_path / "day.jsonl"), *READY, "--out", str(tmp_path / "r"))
    assert code == 2 and "day.jsonl, ligne 5 : clé « type » manquante" in err
    assert run("compare", str(tmp_path / "no.jsonl"), *READY, "--out", str(tmp_path / "r"))[0] == 2
    assert names(tmp_path) == ["day.jsonl"]


def test_a_result_that_breaks_the_rules_fails_the_comparison(run: Any, tmp_path: Path) -> None:
    cheat = f"firm={SAMPLE}/result-promise.jsonl"
    code, _, err = run("compare", str(SAMPLE / "day.jsonl"), "--result", cheat, "--out", str(tmp_path / "r"))
    assert code == 1 and "le résultat de « firm » sur day.jsonl enfreint" in err
    assert names(tmp_path) == []


def test_ctrl_c_in_a_comparison_leaves_nothing(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> list[bytes]:
        raise KeyboardInterrupt

    monkeypatch.setattr(laboratory, "replay", stopped)
    assert run("compare", str(SAMPLE / "day.jsonl"), "--out", str(tmp_path / "r"))[0] == 130
    assert names(tmp_path) == []


# -- whatif ------------------------------------------------------------------------------------------------------


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str, dict[str, object]]]:
    """Let the tests' own peer stand for every replay; tells slots of the day, policy, and what else was asked."""
    asked: list[tuple[int, str, dict[str, object]]] = []

    def peer(day: DayLog, policy: str, _history: object, _seed: int, **changes: object) -> list[bytes]:
        asked.append((len(day.slots), policy, changes))
        return lines_of(fcfs_nearest(day))

    monkeypatch.setattr(supposing, "replay", peer)
    return asked


def test_ten_more_places_are_told_tier_by_tier(run: Any, tmp_path: Path, replayed: list[Any]) -> None:
    wish = ("--add-slots", "10@43.30,5.40", "--capacity", "2", "--before", "fcfs-nearest", "--hours", "8h-20h")
    code, out, err = run("whatif", str(SAMPLE / "day.jsonl"), *wish, "--out", str(tmp_path / "r"))
    assert (code, err) == (0, "")
    day = read_day(SAMPLE / "day.jsonl")
    assert replayed == [(len(day.slots), "fcfs-nearest", {}), (len(day.slots) + 10, "fcfs-nearest", {})]
    assert "Changement : 10 créneaux de plus (20 places), politique fcfs-nearest." in out
    old = score(day, lines_of(fcfs_nearest(day)), "fcfs-nearest")
    changed = with_slots(day, slots_of(day, Practice(10, 43.3, 5.4, capacity=2, opens=time(8), closes=time(20))))
    new = score(changed, lines_of(fcfs_nearest(changed)), "fcfs-nearest")
    rows = [line.split() for line in out.splitlines()]
    for tier in old.served:
        row = next(row for row in rows if row[:2] == ["servis", f"{tier},"])
        assert [int(n.replace("\u2212", "-").lstrip("+")) for n in row[4:]] == [
            old.served[tier],
            new.served[tier],
            new.served[tier] - old.served[tier],
        ]
    page = (tmp_path / "r" / "index.html").read_text("utf-8")
    assert "avant" in page and "après" in page and "10 créneaux de plus" in page
    assert names(tmp_path) == ["r"]


def test_another_policy_or_a_crisis_is_replayed(run: Any, replayed: list[Any]) -> None:
    day = read_day(SAMPLE / "day.jsonl")
    slots = len(day.slots)
    wish = ("--before", "fcfs-nearest", "--policy", "auto", "--crisis-from", "14:00")
    code, out, _ = run("whatif", str(SAMPLE / "day.jsonl"), *wish)
    assert code == 0
    crisis = {"crisis_from": local(day.meta, time(14))}
    assert replayed == [(slots, "fcfs-nearest", {}), (slots, "auto", crisis)]
    assert "politique fcfs-nearest puis auto, crise déclarée à 14:00" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "rien à changer"),
        (["--add-slots", "10@43.3"], "ni un fichier, ni N@latitude,longitude"),
        (["--add-slots", "0@43.3,5.4"], "de 1 à 10000 créneaux"),
        (["--add-slots", "1@93.3,5.4"], "à une latitude et une longitude"),
        (["--add-slots", "1@43.3,5.4", "--hours", "18:00-9:00"], "la seconde heure doit suivre la première"),
        (["--add-slots", "1@43.3,5.4", "--hours", "9:00"], "deux heures sont attendues"),
        (["--add-slots", "1@43.3,5.4", "--mode", "velo"], "le mode « velo » n'existe pas"),
        (["--crisis-from", "midi"], "« midi » n'est pas une heure"),
        (["--policy", "best"], "la politique « best » n'existe pas"),
        (["--policy", "firm", "--before", "firm"], "rien à changer"),
    ],
)
def test_a_wrong_supposition_is_named(
    run: Any, tmp_path: Path, replayed: list[Any], arguments: list[str], expected: str
) -> None:
    code, out, err = run("whatif", str(SAMPLE / "day.jsonl"), *arguments, "--out", str(tmp_path / "r"))
    assert (code, out) == (2, "") and expected in err
    assert names(tmp_path) == [] and replayed == []


def test_places_of_a_file_are_named_by_line_when_wrong(run: Any, tmp_path: Path, replayed: list[Any]) -> None:
    day = read_day(SAMPLE / "day.jsonl")
    lines = [line for line in day_lines(with_slots(day, slots_of(day, Practice(2, 43.3, 5.4)))) if b"ajout1" in line]
    (tmp_path / "more.jsonl").write_bytes(b"".join(lines))
    before = ("--before", "fcfs-nearest", "--add-slots", str(tmp_path / "more.jsonl"))
    assert run("whatif", str(SAMPLE / "day.jsonl"), *before)[0] == 0
    assert [slots for slots, _, _ in replayed] == [len(day.slots), len(day.slots) + 2]
    (tmp_path / "more.jsonl").write_bytes(lines[0] + lines[1][:40])
    code, _, err = run("whatif", str(SAMPLE / "day.jsonl"), *before)
    assert code == 2 and "more.jsonl, ligne 2 : JSON illisible" in err


# -- replay ------------------------------------------------------------------------------------------------------


def _wish(tmp_path: Path, day: Path = SAMPLE / "day.jsonl", policy: str = "firm") -> tuple[str, ...]:
    written = ("--out", str(tmp_path / "r.jsonl"), "--summary", str(tmp_path / "s.json"))
    return ("replay", str(day), "--policy", policy, *written)


def test_a_replay_writes_result_and_summary(run: Any, tmp_path: Path) -> None:
    code, out, err = run(*_wish(tmp_path), "--seed", "4")
    assert (code, err, names(tmp_path)) == (0, "", ["r.jsonl", "s.json"])
    assert "81 demandes" in out
    day = read_day(SAMPLE / "day.jsonl")
    lines = (tmp_path / "r.jsonl").read_bytes().splitlines()
    judged = score(day, lines, "firm", strict_reasons=True)
    summary = orjson.loads((tmp_path / "s.json").read_bytes())
    assert judged.violations == () and summary["served"] == judged.served
    assert (summary["policy"], summary["seed"]) == ("firm", 4)
    first = (tmp_path / "r.jsonl").read_bytes()
    assert run(*_wish(tmp_path), "--seed", "4")[0] == 0
    assert (tmp_path / "r.jsonl").read_bytes() == first


def test_a_bad_day_is_not_replayed(run: Any, tmp_path: Path) -> None:
    lines = (SAMPLE / "day.jsonl").read_text("utf-8").splitlines()
    (tmp_path / "bad.jsonl").write_text("\n".join([*lines[:4], "{}"]), "utf-8")
    code, out, err = run(*_wish(tmp_path, tmp_path / "bad.jsonl"))
    assert (code, out) == (2, "") and "bad.jsonl, ligne 5 : clé « type » manquante" in err
    assert names(tmp_path) == ["bad.jsonl"]


@pytest.mark.parametrize(
    ("policy", "more", "expected"),
    [
        ("best", (), "la politique « best » n'existe pas"),
        ("firm", ("--history", "no"), "le dossier d'historique no n'existe pas"),
        ("firm", ("--seed", "-1"), "au moins 0"),
    ],
)
def test_a_wrong_replay_is_named_and_nothing_is_written(
    run: Any, tmp_path: Path, policy: str, more: tuple[str, ...], expected: str
) -> None:
    code, out, err = run(*_wish(tmp_path, policy=policy), *more)
    assert (code, out) == (2, "") and expected in err
    assert names(tmp_path) == []


def test_result_and_summary_are_two_files(run: Any, tmp_path: Path) -> None:
    same = str(tmp_path / "r.jsonl")
    code, _, err = run("replay", str(SAMPLE / "day.jsonl"), "--policy", "firm", "--out", same, "--summary", same)
    assert code == 2 and "il en faut deux" in err and names(tmp_path) == []


def test_a_summary_that_cannot_be_written_keeps_the_result_from_being(run: Any, tmp_path: Path) -> None:
    wish = _wish(tmp_path)
    code, _, err = run(*wish[:-1], str(tmp_path / "no" / "s.json"))
    assert code == 2 and "n'existe pas" in err and names(tmp_path) == []


def test_ctrl_c_in_a_replay_leaves_nothing(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(laboratory, "replay_day", stopped)
    assert run(*_wish(tmp_path))[0] == 130
    assert names(tmp_path) == []


def test_days_are_compared_by_real_replays(run: Any, tmp_path: Path) -> None:
    """Without ``--policies``: those that the service has."""
    events = (
        published(at("07:00"), "near", at("09:00")),
        created(at("08:00"), "r1", at("12:00"), tier="T0"),
        created(at("08:01"), "r2", at("12:00")),
    )
    write_day(tmp_path / "day.jsonl", day_of(*events))
    code, out, err = run("compare", str(tmp_path / "day.jsonl"), "--out", str(tmp_path / "r"))
    assert (code, err) == (0, "")
    assert f"1 journée, {', '.join(laboratory.REPLAYABLE)}." in out


def test_more_places_are_tried_by_real_replays(run: Any) -> None:
    wish = ("--add-slots", "10@43.30,5.40")
    code, out, err = run("whatif", str(SAMPLE / "day.jsonl"), *wish)
    assert (code, err) == (0, "") and "politique firm" in out


# -- recorded days -----------------------------------------------------------------------------------------------


def _recorded(tmp_path: Path, *, slots: Sequence[str | None] = ("near", "far"), **changes: Any) -> tuple[str, ...]:
    """A day of two requests that were decided together, with what was chosen for them; the wish to decide it again."""
    events = (
        published(at("07:00"), "near", at("09:00")),
        published(at("07:00"), "far", at("11:00"), lat=44.55),
        created(at("08:00"), "r1", at("12:00"), tier="T0"),
        created(at("08:00:01"), "r2", at("12:00")),
    )
    day = day_of(*events)
    write_day(tmp_path / "2026-01-12.jsonl", day)
    names = ("r1", "r2")
    batch = Batch(
        *(Instant.parse(at("08:00:02")), 4, names, tuple(slots), frozenset(), "firm", False, (None, None), names)
    )
    lines = [mark_line(BatchesMeta(day.meta.territory, day.meta.start)), mark_line(replace(batch, **changes))]
    (tmp_path / "2026-01-12.batches.jsonl").write_bytes(b"".join(lines))
    return (*_wish(tmp_path, tmp_path / "2026-01-12.jsonl"), "--batches", str(tmp_path / "2026-01-12.batches.jsonl"))


def test_a_recorded_day_is_decided_again_with_its_batches(run: Any, tmp_path: Path) -> None:
    code, out, err = run(*_recorded(tmp_path))
    assert (code, err) == (0, "") and "2 décisions reprises, 0 différentes" in out
    rows = [orjson.loads(line) for line in (tmp_path / "r.jsonl").read_bytes().splitlines()]
    assert [(row["slot_id"], row["firm_at"]) for row in rows] == [("near", at("08:00:02")), ("far", at("08:00:02"))]
    assert orjson.loads((tmp_path / "s.json").read_bytes())["batches"] == {"decided": 2, "different": 0}


def test_the_policy_is_that_of_the_batches_unless_told_otherwise(run: Any, tmp_path: Path) -> None:
    wish = list(_recorded(tmp_path))
    at_policy = wish.index("--policy")
    del wish[at_policy : at_policy + 2]
    assert run(*wish)[0] == 0
    assert orjson.loads((tmp_path / "s.json").read_bytes())["policy"] == "firm"
    code, _, err = run(*wish[: wish.index("--batches")])
    assert code == 2 and "donnez --policy ; valeurs possibles : fcfs-nearest, official, firm" in err


def test_what_comes_out_differently_is_said(run: Any, tmp_path: Path) -> None:
    code, out, _ = run(*_recorded(tmp_path, slots=("near", None)))
    assert code == 0 and "2 décisions reprises, 1 différentes" in out
    assert "r2 : aucune place alors, far à présent" in out


def test_who_lost_a_seat_in_the_recorded_day_loses_it_again(run: Any, tmp_path: Path) -> None:
    code, out, _ = run(*_recorded(tmp_path, lost=frozenset({"r1"})))
    assert code == 0 and "2 décisions reprises, 0 différentes" in out
    rows = [orjson.loads(line) for line in (tmp_path / "r.jsonl").read_bytes().splitlines()]
    assert [row["status"] for row in rows] == ["unserved", "served"]


def test_batches_that_do_not_fit_are_refused(run: Any, tmp_path: Path) -> None:
    wish = _recorded(tmp_path, policy="promise")
    before = names(tmp_path)
    code, _, err = run(*wish)
    assert code == 2 and "décidés sous « promise », pas sous « firm »" in err
    code, _, err = run(*_recorded(tmp_path, requests=("r1", "r3")))
    assert code == 2 and "2026-01-12.batches.jsonl, ligne 2 : « r3 » n'est pas dans le journal" in err
    code, _, err = run(*_recorded(tmp_path), "--history", str(tmp_path / "gone"))
    assert code == 2 and "gone n'existe pas" in err
    code, _, err = run(*wish[:-1], "no.jsonl")
    assert code == 2 and "no.jsonl n'existe pas" in err
    assert names(tmp_path) == before


def test_batches_are_no_history(run: Any, tmp_path: Path) -> None:
    _recorded(tmp_path)
    (tmp_path / "out").mkdir()
    wish = _wish(tmp_path / "out")
    assert run(*wish, "--history", str(tmp_path))[0] == 0
