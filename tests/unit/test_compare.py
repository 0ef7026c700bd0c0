"""Comparisons: figures are the scorer's, the page holds them and nothing from elsewhere, the map counts requests."""

import base64
import hashlib
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import cache, partial
from html import unescape
from pathlib import Path

import pytest

from sas_matcher.replay.compare import Cell, Group, Outcome, Spread, UnmetMap, grouped, judge, kind_of, unmet_map
from sas_matcher.replay.daylog import DayLog
from sas_matcher.replay.daylog_file import read_day
from sas_matcher.replay.hindsight import Hindsight, hindsight
from sas_matcher.replay.plots import drawn, french, near_cells, unmet
from sas_matcher.replay.report import write_report
from sas_matcher.replay.score import ScoreError, score
from sas_matcher.replay.study import study
from tests.daylog_cases import lines_of
from tests.fcfs_nearest import fcfs_nearest

SAMPLE = Path(__file__).parents[1] / "data" / "daylog"
POLICIES = ("fcfs-nearest", "promise", "crisis")


@cache
def sample() -> tuple[DayLog, Hindsight]:
    day = read_day(SAMPLE / "day.jsonl")
    return day, hindsight(day)


def result(policy: str) -> list[bytes]:
    return (SAMPLE / f"result-{policy}.jsonl").read_bytes().splitlines()


@cache
def sample_groups() -> tuple[Group, ...]:
    day, best = sample()
    return grouped({p: [judge("day.jsonl", day, best, p, result(p))] for p in POLICIES})


@cache
def peer(seed: int) -> Outcome:
    day = study("city-x1", seed)
    return judge(f"city-x1-{seed}.jsonl", day, hindsight(day), "fcfs-nearest", lines_of(fcfs_nearest(day)))


def text_of(page: str) -> str:
    """What a reader sees, one space between words."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def page_of(folder: Path, groups: Sequence[Group], **more: object) -> str:
    write_report(folder, groups, title="Essai", lead="Pour voir.", **more)  # type: ignore[arg-type]
    return (folder / "index.html").read_text("utf-8")


# -- figures -----------------------------------------------------------------------------------------------------


def test_the_figures_of_the_sample_are_its_own() -> None:
    day, best = sample()
    for entry in sample_groups()[0].entries:
        (outcome,) = entry.outcomes
        theirs = score(day, result(entry.label), entry.label)
        assert outcome.welfare == pytest.approx(100 * theirs.welfare / best.welfare)
        assert outcome.told == pytest.approx(100 * (theirs.told_within_2_min or 0))
        urgent = [theirs.served["T0"] + theirs.served["T1"], best.served["T0"] + best.served["T1"]]
        assert outcome.urgent == pytest.approx(100 * urgent[0] / urgent[1])
        assert len(outcome.unserved) == sum(theirs.requests.values()) - sum(theirs.served.values())


def test_a_result_that_breaks_a_rule_is_worth_nothing() -> None:
    day, best = sample()
    with pytest.raises(ScoreError):
        judge("day.jsonl", day, best, "firm", result("promise"))
    assert judge("day.jsonl", day, best, "firm", result("promise"), lawful=False).score.violations


def test_a_spread_leaves_out_what_does_not_exist() -> None:
    assert Spread.of([4.0, None, 1.0]) == (2.5, 1.0, 4.0)
    assert Spread.of([None]) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("S1-48-7.jsonl", "S1-48"),
        ("S1-48-8.jsonl.gz", "S1-48"),
        ("city-x10-3.jsonl", "city-x10"),
        ("city-x3.jsonl", "city-x3"),
        ("2026-01-12.jsonl", "2026-01"),
        ("7.jsonl", "7"),
    ],
)
def test_the_last_number_of_a_name_is_the_day(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_days_of_a_kind_come_together() -> None:
    day, best = sample()
    other = judge("day.jsonl", day, best, "fcfs-nearest", result("fcfs-nearest"))
    groups = grouped({"fcfs-nearest": [peer(0), other, peer(1)]})
    assert [(g.name, g.days) for g in groups] == [("city-x1", 2), ("day", 1)]
    assert groups[0].entries[0].spread(lambda o: o.welfare) == Spread.of([peer(0).welfare, peer(1).welfare])


def test_the_map_counts_each_request_once_and_cancelled_ones_not_at_all() -> None:
    (cancelled,) = sample_groups()[0].entries[0].outcomes
    only = unmet_map([cancelled])
    assert cancelled.day.cancelled_at
    assert sum(cell.asked for cell in only.cells) == sum(cancelled.score.requests.values())
    outcomes = (peer(0), peer(1))
    found = unmet_map(outcomes)
    asked = sum(sum(o.score.requests.values()) for o in outcomes) / 2
    unserved = sum(len(o.unserved) for o in outcomes) / 2
    assert sum(cell.asked for cell in found.cells) == pytest.approx(asked)
    assert sum(cell.unmet for cell in found.cells) == pytest.approx(unserved) and unserved > 0
    assert all(a.unmet >= b.unmet for a, b in zip(found.cells, found.cells[1:], strict=False))
    assert len({(cell.lat, cell.lon) for cell in found.cells}) == len(found.cells)
    # a request lies within half a cell of one of the centres, and no centre is a request's own point
    request = outcomes[0].day.requests[0].request
    near = min(max(abs(c.lat - request.lat) * 111.2, abs(c.lon - request.lon) * 78.6) for c in found.cells)
    assert near <= found.km / 2 + 0.05


def test_islands_far_away_do_not_shrink_the_map() -> None:
    home, island = (47.0, 2.0), (-21.1, 55.5)
    cells = tuple(Cell(lat, lon, 1.0, 1.0) for lat, lon in (home, (51.0, 2.4), (42.5, 9.0), island))
    entry = sample_groups()[0].entries[0]
    plot = drawn(partial(unmet, entry, UnmetMap(10.0, cells, (home, island))))
    assert [(c.lat, c.lon) for c in near_cells(UnmetMap(10.0, cells, ()))] == [(c.lat, c.lon) for c in cells[:3]]
    assert "outre-mer) : 1" in plot.text
    low, high = plot.figure.axes[0].get_ylim()
    assert high - low < 1500


def test_numbers_are_written_in_french() -> None:
    assert [french(1234.56), french(-0.04), french(-2.0, 0), french(97)] == ["1\u202f234,6", "0,0", "\u22122", "97,0"]


# -- the page ----------------------------------------------------------------------------------------------------


def test_the_page_tells_the_scorers_figures(tmp_path: Path) -> None:
    text = text_of(page_of(tmp_path, sample_groups()))
    day, best = sample()
    for policy in POLICIES:
        theirs = score(day, result(policy), policy)
        urgent = 100 * (theirs.served["T0"] + theirs.served["T1"]) / (best.served["T0"] + best.served["T1"])
        shares = (100 * theirs.welfare / best.welfare, 100 * (theirs.told_within_2_min or 0), urgent)
        assert " ".join((policy, *map(french, shares))) in text
        promises = (theirs.moves, theirs.broken_promises, theirs.lost_to_practices)
        assert " ".join((policy, *map(str, promises))) in text
        assert " ".join((policy, *(str(n) for n in theirs.served.values()))) in text
        waits = (french(w, 0) for w in theirs.mean_wait_min.values() if w is not None)
        assert " ".join((policy, *waits)) in text
        assert f"{policy} {french(theirs.mean_travel_min or 0)}" in text
    assert " ".join(("optimum", *(str(n) for n in best.served.values()))) in text


def test_the_spread_over_the_days_is_shown(tmp_path: Path) -> None:
    text = text_of(page_of(tmp_path, grouped({"fcfs-nearest": [peer(0), peer(1)]})))
    spread = Spread.of([peer(0).welfare, peer(1).welfare])
    assert spread is not None and spread.low < spread.high
    assert f"{french(spread.mean)} [{french(spread.low)}..{french(spread.high)}]" in text


def test_several_kinds_of_day_get_an_overview(tmp_path: Path) -> None:
    day, best = sample()
    other = judge("day.jsonl", day, best, "fcfs-nearest", result("fcfs-nearest"))
    text = text_of(page_of(tmp_path, grouped({"fcfs-nearest": [peer(0), other]})))
    assert f"city-x1 (1) {french(peer(0).welfare or 0)} · {french(peer(0).told or 0, 0)}" in text
    assert f"day (1) {french(other.welfare or 0)} · {french(other.told or 0, 0)}" in text


def test_the_page_needs_nothing_and_bears_the_strictest_policy(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample_groups(), maps=["fcfs-nearest", "crisis"])
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(styles[0].encode()).digest()).decode()
    assert len(styles) == 1 and f"default-src 'none'; style-src 'sha256-{digest}'" in page
    assert not re.search(r"<script|<link|<img|\sstyle=|\son\w+=|https?:|url\((?!#)", page)
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page))
    assert used and {a or b for a, b in used} <= set(ids)
    # the page's own ink, so that it can be read in the dark
    assert "#14181d" not in page.replace(styles[0], "") and "currentColor" in page


def test_plots_are_written_as_files_and_all_is_the_same_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        page_of(tmp_path / name, sample_groups(), maps=["crisis"])
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    plots = ("attente", "carte-crisis", "frontiere", "servis")
    assert files == [*(f"day-{plot}.{kind}" for plot in plots for kind in ("png", "svg")), "index.html"]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_names_are_text_in_the_page(tmp_path: Path) -> None:
    day, best = sample()
    wild = judge("<b>.jsonl", day, best, "promise", result("promise"))
    page = page_of(tmp_path, grouped({"<i> ../Éditeur": [wild]}), place_name=lambda _lat, _lon: "<u>&")
    assert not re.search(r"<[biu]>", page) and "&lt;u&gt;&amp;" in page
    assert "<b>-carte-i-..-Éditeur.png" in {path.name for path in tmp_path.iterdir()}


def test_where_nobody_is_left_out_the_map_says_so(tmp_path: Path) -> None:
    day, best = sample()
    full = Outcome("day.jsonl", day, score(day, result("crisis"), "crisis"), best, frozenset())
    assert "Personne n'est resté sans place." in text_of(page_of(tmp_path, grouped({"crisis": [full]})))


def test_the_service_does_not_pay_for_plots() -> None:
    parts = "sas_matcher.bootstrap.api, sas_matcher.bootstrap.core, sas_matcher.cli.laboratory"
    script = f"import sys, {parts}; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
