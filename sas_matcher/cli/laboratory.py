"""What the commands about whole days do: read, draw, replay, write; the figures come from ``replay``."""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from adapters.geo import Gazetteer
from sas_matcher.cli.french import FailureError, InputError
from sas_matcher.cli.output import progress, whole_file, whole_folder
from sas_matcher.domain.errors import InvalidInputError
from sas_matcher.replay.again import decide_again
from sas_matcher.replay.batches import Batch, read_batches
from sas_matcher.replay.compare import Outcome, grouped, judge
from sas_matcher.replay.daylog import DayLog
from sas_matcher.replay.daylog_file import DayLogError, read_day, write_day
from sas_matcher.replay.hindsight import Hindsight, hindsight
from sas_matcher.replay.joining import joined
from sas_matcher.replay.lawful import POLICIES as KNOWN
from sas_matcher.replay.run import POLICIES as REPLAYED
from sas_matcher.replay.run import replay_day
from sas_matcher.replay.score import ScoreError
from sas_matcher.replay.simulate import SCENARIOS, Level
from sas_matcher.replay.simulate import simulate as draw_story
from sas_matcher.replay.study import KINDS, study

Say = Callable[[str], object]

POLICIES: Final = ("fcfs-nearest", "official", "firm", "promise", "auto", "crisis")
"""In the order of the reports: the peers, then from the strictest to the freest."""

MOST_SHOWN: Final = 20
"""Decisions that came out differently, shown one by one."""

REPLAYABLE: Final = tuple(name for name in POLICIES if name in REPLAYED)
"""Those that the live matcher has."""


class Draw(NamedTuple):
    """A kind of day: its name, for files, and how to draw the day of a seed."""

    name: str
    of_seed: Callable[[int], DayLog]


def story(scenario: str, departement: str | None, level: Level, people: int, day: date | None) -> Draw:
    """Prepare days of the scenario pack; no département means all of France.

    Raises:
        InputError: The scenario or the département does not exist.
    """
    # as people type it: s1, S2X2
    known = {name.upper(): name for name in SCENARIOS}
    found = known.get(scenario.strip().upper())
    if found is None:
        raise InputError(f"le scénario « {scenario} » n'existe pas ; valeurs possibles : {', '.join(SCENARIOS)}")
    geography = Gazetteer.load()
    code = None if departement is None else departement.strip().upper()
    if code is not None and code not in geography.territories:
        raise InputError(f"le département « {departement} » n'existe pas ; donnez 01 à 95, 2A, 2B, ou 971 à 974 et 976")
    codes = [code] if code is not None else list(geography.territories)
    communes = [commune for each in codes for commune in geography.communes_of(each)]

    def of_seed(seed: int) -> DayLog:
        return draw_story(found, communes, seed, level, territories=geography.territories, day=day, people=people)

    return Draw(f"{found}-{code or 'france'}", of_seed)


def study_day(kind: str, people: int, day: date | None) -> Draw:
    """Prepare days of the matching study.

    Raises:
        InputError: There is no such kind of day.
    """
    if kind not in KINDS:
        raise InputError(f"la sorte « {kind} » n'existe pas ; valeurs possibles : {', '.join(KINDS)}")
    when = {} if day is None else {"day": day}
    return Draw(kind, lambda seed: study(kind, seed, territory=people, **when))


def simulate(draw: Draw, seed: int, count: int | None, out: Path, say: Say) -> None:
    """Write the day of a seed to a file, or ``count`` days of successive seeds into a folder: all of them, or none."""
    if count is None:
        with progress(1, draw.name), whole_file(out) as draft:
            day = draw.of_seed(seed)
            write_day(draft, day)
        say(f"{out} : {_size(day)}.")
        return
    with whole_folder(out) as folder, progress(count, draw.name) as advance:
        for number in range(seed, seed + count):
            write_day(folder / f"{draw.name}-{number}.jsonl", draw.of_seed(number))
            advance(f"{draw.name}, graine {number}")
    say(f"{out} : {count} journaux, {draw.name}-{seed}.jsonl à {draw.name}-{seed + count - 1}.jsonl.")


def _size(day: DayLog) -> str:
    places = sum(event.slot.capacity for event in day.slots)
    return f"{len(day.requests)} demandes, {len(day.slots)} créneaux ({places} places)"


# --- replays


def read(path: Path) -> DayLog:
    """Read a day log.

    Raises:
        InputError: It cannot be read; names the line and what is wrong there.
    """
    try:
        return read_day(path)
    except FileNotFoundError:
        raise InputError(f"le fichier {path} n'existe pas") from None
    except IsADirectoryError:
        raise InputError(f"{path} est un dossier ; donnez un journal .jsonl ou .jsonl.gz") from None
    except DayLogError as wrong:
        raise InputError(f"{path}, ligne {wrong.line} : {wrong.problem.rstrip('.')}") from wrong


def past(folder: Path | None, day: DayLog) -> list[DayLog]:
    """Read the earlier days that a day may learn from: those of a folder, of its territory, never itself.

    Raises:
        InputError: The folder does not exist, or a day log in it cannot be read.
    """
    if folder is None:
        return []
    if not folder.is_dir():
        raise InputError(f"le dossier d'historique {folder} n'existe pas")
    # batches lie beside the days that ``record`` wrote
    names = sorted(path for path in folder.iterdir() if not path.name.endswith(".batches.jsonl"))
    files = [path for path in names if path.name.endswith((".jsonl", ".jsonl.gz"))]
    others = (read(path) for path in files)
    return [other for other in others if other.meta.territory == day.meta.territory and other.events != day.events]


def replay(day: DayLog, policy: str, history: Sequence[DayLog], seed: int, **changes: Any) -> list[bytes]:
    """Decide a day again through the real matching; returns the lines of its result.

    Raises:
        InputError: The service does not have the policy, or knows less tiers than the day.
        FailureError: The result breaks a rule of its policy.
    """
    return played(day, policy, history=history, seed=seed, **changes)[0]


def played(day: DayLog, policy: str, **wishes: Any) -> tuple[list[bytes], dict[str, Any]]:
    """Play a day (see ``run.replay_day``); returns result and summary.

    Raises:
        InputError: The service does not have the policy, or knows less tiers than the day.
        FailureError: The result breaks a rule of its policy.
    """
    try:
        return replay_day(day, policy, **wishes)
    except InvalidInputError as wrong:
        raise InputError(wrong.detail) from wrong
    except ScoreError as wrong:
        raise FailureError(f"le rejeu de « {policy} » enfreint ses règles : {wrong}") from wrong


@contextmanager
def _both_files(out: Path, summary: Path) -> Iterator[Callable[[Sequence[bytes], Mapping[str, Any]], None]]:
    """Give what writes result and summary: both, or none."""
    if out.absolute() == summary.absolute():
        raise InputError("--out et --summary donnent le même fichier ; il en faut deux")
    with whole_file(out) as lines_draft, whole_file(summary) as summary_draft:

        def write(lines: Sequence[bytes], figures: Mapping[str, Any]) -> None:
            lines_draft.write_bytes(b"".join(line + b"\n" for line in lines))
            summary_draft.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))

        yield write


def replay_file(
    path: Path, policy: str, *, history: Path | None, seed: int, out: Path, summary: Path, say: Say
) -> None:
    """Replay the day of a file; write result and summary: both, or none.

    Raises:
        InputError: The day log, a name or a file is wrong.
        FailureError: The result breaks a rule of its policy.
    """
    day = read(path)
    with _both_files(out, summary) as write:
        with progress(len(day.events), f"{path.name} : {policy}") as advance:
            lines, figures = played(
                day,
                policy,
                history=past(history, day),
                seed=seed,
                advance=lambda events: advance(f"{path.name} : {policy}", events),
            )
        write(lines, figures)
    served, asked = sum(figures["served"].values()), sum(figures["requests"].values())
    say(f"{out} : {asked} demandes, {served} servies ({policy}). Résumé : {summary}.")


def replay_recorded(
    path: Path,
    batches: Path,
    policy: str | None,
    *,
    history: Path | None,
    seed: int,
    out: Path,
    summary: Path,
    say: Say,
) -> None:
    """Decide a recorded day again with its batches; write result and summary, and say what came out differently.

    Without a policy it is that of the batches.

    Raises:
        InputError: The day log, the batches, a name or a file is wrong.
    """
    day = read(path)
    try:
        marks = read_batches(batches, day)
    except FileNotFoundError:
        raise InputError(f"le fichier {batches} n'existe pas") from None
    except DayLogError as wrong:
        raise InputError(f"{batches}, ligne {wrong.line} : {wrong.problem.rstrip('.')}") from wrong
    policy = policy or next((mark.policy for mark in marks if isinstance(mark, Batch)), "firm")
    learned = past(history, day)
    with _both_files(out, summary) as write:
        with progress(len(day.events), f"{path.name} : {policy}") as advance:
            try:
                lines, figures, different = decide_again(
                    day,
                    policy,
                    marks,
                    history=learned,
                    seed=seed,
                    advance=lambda events: advance(f"{path.name} : {policy}", events),
                )
            except InvalidInputError as wrong:
                raise InputError(wrong.detail) from wrong
        write(lines, figures)
    say(
        f"{out} : {figures['batches']['decided']} décisions reprises, {len(different)} différentes. Résumé : {summary}."
    )
    for name, before, now in different[:MOST_SHOWN]:
        say(f"  {name} : {before or 'aucune place'} alors, {now or 'aucune place'} à présent")


# --- hindsight


def optimum(paths: Sequence[Path], out: Path, say: Say, *, together: bool = False) -> None:
    """Write the hindsight optimum of days as JSON: per file, the welfare, served per tier, slot per request.

    ``together``: of all of them as one day (under ``ensemble``), in which a slot that several know is there once.

    Raises:
        InputError: A day log cannot be read.
    """
    found = {}
    with progress(len(paths), "optimum") as advance, whole_file(out) as draft:
        days: list[DayLog] = []
        for path in paths:
            days.append(read(path))
            if not together:
                found[str(path)] = _best(days.pop())
            advance(f"{path.name} : optimum")
        if together:
            found["ensemble"] = _best(joined(days))
        draft.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    say(f"{out} : {len(paths)} journaux.")


def _best(day: DayLog) -> dict[str, object]:
    best = hindsight(day)
    return {"welfare": best.welfare, "served": best.served, "slot_of": best.slot_of}


# --- compare


class Ready(NamedTuple):
    """A result that is there already: who made it, by which rules, and the pattern of its file names."""

    label: str
    policy: str
    pattern: str


def policy_of(name: str) -> str:
    """Read the name of one policy.

    Raises:
        InputError: There is none of this name.
    """
    if name not in KNOWN:
        raise InputError(f"la politique « {name} » n'existe pas ; valeurs possibles : {', '.join(POLICIES)}")
    return name


def policies_of(text: str) -> list[str]:
    """Read a list of policies.

    Raises:
        InputError: One is unknown, or the list is empty.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        policy_of(name)
    if not names:
        raise InputError(f"--policies est vide ; valeurs possibles : {', '.join(POLICIES)}")
    return list(dict.fromkeys(names))


def ready_of(text: str) -> Ready:
    """Read ``POLICY=FILE`` or ``NAME:POLICY=FILE``, the file with ``{day}`` where the name of the day stands.

    Raises:
        InputError: It is not of that form, or the policy is unknown.
    """
    name, equals, pattern = text.partition("=")
    label, colon, policy = name.partition(":")
    policy = policy if colon else label
    if not (equals and pattern and label):
        raise InputError(f"--result {text} : la forme attendue est POLITIQUE=FICHIER, ou NOM:POLITIQUE=FICHIER")
    return Ready(label, policy_of(policy), pattern)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".jsonl")


def _ready_lines(ready: Ready, path: Path) -> list[bytes]:
    file = Path(ready.pattern.replace("{day}", _stem(path)))
    try:
        return file.read_bytes().splitlines()
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"il n'y a pas de résultat {file} pour {path.name}") from None


def compare(
    paths: Sequence[Path],
    policies: Sequence[str],
    results: Sequence[Ready],
    *,
    history: Path | None,
    seed: int,
    maps: Sequence[str] | None,
    out: Path,
    say: Say,
) -> None:
    """Replay every day under every policy, score, and write the report: all of it, or nothing.

    Raises:
        InputError: A day log, a result or a name is wrong.
        FailureError: A result breaks a rule of its policy, or the plots cannot be drawn here.
    """
    require_plots()
    labels = [*policies, *(ready.label for ready in results)]
    if len(set(labels)) < len(labels):
        raise InputError("deux résultats portent le même nom ; donnez --result NOM:POLITIQUE=FICHIER")
    if unknown := [name for name in maps or () if name not in labels]:
        raise InputError(f"--map {unknown[0]} : valeurs possibles : {', '.join(labels)}")
    days = [read(path) for path in paths]
    outcomes: dict[str, list[Outcome]] = {label: [] for label in labels}
    with whole_folder(out) as folder:
        with progress(len(days) * (1 + len(labels)), "lecture") as advance:
            for path, day in zip(paths, days, strict=True):
                learned = past(history, day) if policies else []
                best = hindsight(day)
                advance(f"{path.name} : optimum")
                for policy in policies:
                    lines = replay(day, policy, learned, seed)
                    outcomes[policy].append(judged(path.name, day, best, policy, lines))
                    advance(f"{path.name} : {policy}")
                for ready in results:
                    lines = _ready_lines(ready, path)
                    outcomes[ready.label].append(judged(path.name, day, best, ready.policy, lines))
                    advance(f"{path.name} : {ready.label}")
        write_page(folder, outcomes, maps, days)
    say(f"{out / 'index.html'} : {_days(days)}, {', '.join(labels)}.")


def _days(days: Sequence[DayLog]) -> str:
    return f"{len(days)} journée{'s' if len(days) > 1 else ''}"


def require_plots() -> None:
    """Make sure that plots can be drawn, before hours of work.

    Raises:
        FailureError: The library that draws is not installed.
    """
    try:
        importlib.import_module("matplotlib")
    except ModuleNotFoundError as missing:
        raise FailureError("il manque matplotlib pour les graphiques ; installez sas-matcher[report]") from missing


def judged(
    name: str, day: DayLog, best: Hindsight, policy: str, lines: Sequence[bytes], *, lawful: bool = True
) -> Outcome:
    """Score a result (see ``compare.judge``).

    Raises:
        FailureError: It breaks a rule of its policy.
    """
    try:
        return judge(name, day, best, policy, lines, lawful=lawful)
    except ScoreError as wrong:
        first = wrong.violations[0]
        raise FailureError(
            f"le résultat de « {policy} » sur {name} enfreint {len(wrong.violations)} règle(s) ; "
            f"ligne {first.line}, {first.request_id} : {first.text}"
        ) from wrong


def write_page(
    folder: Path,
    outcomes: Mapping[str, Sequence[Outcome]],
    maps: Sequence[str] | None,
    days: Sequence[DayLog],
    title: str = "Comparaison des politiques d'appariement",
    lead: str | None = None,
) -> None:
    """Write the report; cells of real territories are called by their communes."""
    from sas_matcher.replay.report import write_report  # noqa: PLC0415 - brings matplotlib with it

    groups = grouped(outcomes)
    requests = sum(len(day.requests) for day in days)
    text = f"{_days(days)}, {requests} demandes ; {', '.join(outcomes)}, et l'optimum de qui saurait tout d'avance."
    real = {*Gazetteer.load().territories, "FR"}.issuperset(day.meta.territory for day in days)
    place_name = _commune if real else lambda *_: None
    write_report(folder, groups, title=title, lead=lead or text, maps=maps, place_name=place_name)


def _commune(lat: float, lon: float) -> str:
    return Gazetteer.load().nearest(lat, lon).name
