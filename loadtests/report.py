"""What a run was worth: figures, verdict, and the page that shows them. Pure functions of what was measured."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, NamedTuple

from loadtests.svg import bars, lines

URGENT: Final = ("T0", "T1")
BAR_SHARE: Final = 0.90
"""Of the urgent requests that hindsight could serve, the share that must be served (Work 1.6)."""
JUDGED: Final = frozenset({"S1", "S2", "S3", "S4"})
"""Stories for which that bar was set."""
SHARES: Final = (0.50, 0.95, 0.99)
WINDOWS: Final = 60
"""Windows of the plots over time."""
MOST_LINES: Final = 30
DECIDED: Final = "demande → décision poussée"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share lies (nearest rank); 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Kind(NamedTuple):
    """What was measured under one name: how often, how often in vain, milliseconds at p50, p95 and p99."""

    name: str
    times: int
    failures: int
    ms: tuple[float, float, float]


class Urgent(NamedTuple):
    """Of the urgent requests that hindsight could serve, how many were served."""

    possible: int
    served: int

    @property
    def share(self) -> float:
        """Served of possible; 1 when nothing was possible."""
        return self.served / self.possible if self.possible else 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the run passes, and what stands against it."""

    faults: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether it passes."""
        return not self.faults


def kinds(run: Mapping[str, Any]) -> list[Kind]:
    """Return what was measured, by name."""
    found: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for _, name, ms, fine in run["samples"]:
        found[name].append((ms, fine))
    table = []
    for name in sorted(found):
        times = [ms for ms, _ in found[name]]
        p50, p95, p99 = (percentile(times, share) for share in SHARES)
        table.append(Kind(name, len(times), sum(not fine for _, fine in found[name]), (p50, p95, p99)))
    return table


def urgent(run: Mapping[str, Any], optimum: Mapping[str, Any] | None) -> Urgent | None:
    """Compare with hindsight on what was recorded; None when nothing was."""
    if optimum is None:
        return None
    requests = run["requests"]
    possible = {name for day in optimum.values() for name in day["slot_of"]}
    known = [name for name in possible if name in requests and requests[name]["tier"] in URGENT]
    return Urgent(len(known), sum(requests[name]["served"] for name in known))


def judge(run: Mapping[str, Any], compared: Urgent | None, ledger: Mapping[str, int]) -> Verdict:
    """Say what stands against a run: the auditor's faults, failed calls, the ledger's own count, urgent people left."""
    faults = list(run["faults"])
    faults += [f"ledger: {count} of « {what} »" for what, count in ledger.items() if count]
    faults += [f"{kind.name}: {kind.failures} failure(s) of {kind.times}" for kind in kinds(run) if kind.failures]
    if not run["requests"]:
        faults.append("nobody asked for anything: nothing is shown by this run")
    if run["scenario"] in JUDGED and compared is not None and compared.share < BAR_SHARE:
        faults.append(
            f"urgent: {compared.served} of {compared.possible} served that hindsight could serve "
            f"({100 * compared.share:.1f} %, bar {100 * BAR_SHARE:.0f} %)"
        )
    return Verdict(tuple(faults))


def tiers(run: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return (asked, served or promised) of each tier, those cancelled by their callers left out."""
    found: dict[str, list[bool]] = defaultdict(list)
    for request in run["requests"].values():
        if request["status"] != "cancelled":
            found[request["tier"]].append(request["served"])
    return {tier: (len(served), sum(served)) for tier, served in sorted(found.items())}


def _over_time(run: Mapping[str, Any], share: float | None) -> list[tuple[float, float]]:
    """Return decisions a second (share None), or a percentile of their latency, by window."""
    step = run["seconds"] / WINDOWS
    windows: dict[int, list[float]] = defaultdict(list)
    for at, name, ms, _ in run["samples"]:
        if name == DECIDED:
            windows[int(at / step)].append(ms)
    if share is None:
        return [((number + 0.5) * step, len(windows[number]) / step) for number in range(WINDOWS)]
    return [((number + 0.5) * step, percentile(windows[number], share)) for number in sorted(windows)]


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--soft:#5b6470;--line:#d5dae0;--bad:#a3212b;--good:#1d6b3a}
@media(prefers-color-scheme:dark){
:root{--ink:#e6e9ed;--paper:#15181c;--soft:#a3adb8;--line:#3a424b;--bad:#ff8d8d;--good:#7fd6a0}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
body{max-width:52rem;margin:2rem auto;padding:0 1rem}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:right}
th:first-child,td:first-child{text-align:left}
svg{width:100%;height:auto;margin:.5rem 0}svg text{fill:var(--ink);font:11px system-ui,sans-serif}
svg .title{font-weight:600;font-size:13px}
svg .unit{font-weight:400;fill:var(--soft)}svg .grid{stroke:var(--line)}svg .bar{fill:#1f5fa8}
.good{color:var(--good)}.bad{color:var(--bad)}.soft{color:var(--soft)}
"""


def page(
    run: Mapping[str, Any],
    verdict: Verdict,
    compared: Urgent | None,
    ledger: Mapping[str, int],
    machine: Mapping[str, str],
) -> str:
    """Return the report: one HTML page that loads nothing, each plot with its table."""
    asked = tiers(run)
    measured = kinds(run)
    seconds = run["seconds"]
    counts = run["counts"]
    shares = {tier: 100 * served / count for tier, (count, served) in asked.items() if count}
    parts = [f"<h1>{escape(run['scenario'])}, {escape(run['title'])}</h1>"]
    word = '<strong class="good">Réussi.</strong>' if verdict.good else '<strong class="bad">Échoué.</strong>'
    parts.append(
        f"<p>{word} {seconds / 60:.1f} min, {len(run['territories'])} territoire(s), {run['times']:.0f} fois le débit "
        f"réel de l'heure de pointe ({run['rate']:.1f} demandes/s hors rafales), politique "
        f"{escape(run['policy'] or 'firm')}, graine {run['seed']}.</p>"
    )
    if verdict.faults:
        items = "".join(f"<li>{escape(fault)}</li>" for fault in verdict.faults[:MOST_LINES])
        left = len(verdict.faults) - MOST_LINES
        parts.append(f'<ul class="bad">{items}</ul>' + (f"<p>… et {left} autres.</p>" if left > 0 else ""))
    parts.append("<h2>Ce que l'auditeur a vu</h2>")
    rows: list[tuple[object, object]] = [
        ("événements lus", run["events"]),
        ("créneaux publiés (places)", f"{counts['slots']} ({run['places']})"),
        ("réservations", counts["bookings"]),
        ("confirmées", counts["confirmed"]),
        ("promises", counts["promised"]),
        *sorted(run["heard"].items()),
        ("trous annoncés, coupures reprises, appels répétés", f"{run['gaps']}, {run['breaks']}, {run['repeated']}"),
        ("refus clairs (429 ou 503, avec l'heure de revenir)", run["refused"]),
        *((f"registre, « {what} »", count) for what, count in ledger.items()),
    ]
    parts.append(_table(("fait", "nombre"), rows))
    parts.append("<h2>Qui a eu une place</h2>")
    parts.append(bars("Servis ou promis", "%", shares, 100.0))
    parts.append(
        _table(
            ("palier", "demandes", "servies ou promises", "%"),
            [(t, n, s, f"{100 * s / n:.1f}" if n else "–") for t, (n, s) in asked.items()],
        )
    )
    if compared is not None:
        parts.append(
            f"<p>Des {compared.possible} demandes T0 et T1 que l'on aurait pu servir en sachant tout d'avance, "
            f"{compared.served} l'ont été : <strong>{100 * compared.share:.1f} %</strong>.</p>"
        )
    parts.append("<h2>Au fil du temps</h2>")
    parts.append(lines("Décisions poussées", "par seconde", {"décisions": _over_time(run, None)}, seconds))
    parts.append(
        lines(
            "De l'instant prévu de l'appel à la décision poussée",
            "ms",
            {"p50": _over_time(run, 0.5), "p99": _over_time(run, 0.99)},
            seconds,
        )
    )
    parts.append(
        lines("Demandes sans décision", "nombre", {"en attente": [(a, w) for a, w, _ in run["states"]]}, seconds)
    )
    parts.append("<h2>Temps de réponse</h2>")
    parts.append(
        _table(
            ("mesure", "nombre", "échecs", "p50", "p95", "p99"),
            [(k.name, k.times, k.failures, *(f"{ms:.1f} ms" for ms in k.ms)) for k in measured],
        )
    )
    parts.append("<h2>Machine</h2>")
    parts.append(_table(("", ""), list(machine.items())))
    parts.append(
        '<p class="soft">Cabinets, patients et régulateurs sont inventés. Débits, délais et pannes : fiche de faits du '
        "domaine ; beaucoup y sont des suppositions.</p>"
    )
    title = f"{escape(run['scenario'])} : {'réussi' if verdict.good else 'échoué'}"
    return (
        '<!doctype html><html lang="fr"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def markdown(run: Mapping[str, Any], verdict: Verdict, compared: Urgent | None, ledger: Mapping[str, int]) -> str:
    """Return the same in short, for a terminal."""
    text = [f"\n{run['scenario']}, {run['title']} : {len(run['requests'])} demandes, {run['events']} événements lus."]
    text.append("\n| mesure | nombre | échecs | p50 | p95 | p99 |\n|---|---|---|---|---|---|")
    for kind in kinds(run):
        cells = " | ".join(f"{ms:.0f} ms" for ms in kind.ms)
        text.append(f"| {kind.name} | {kind.times} | {kind.failures} | {cells} |")
    text.append("")
    text += [f"{tier} : {served} servies ou promises sur {count}." for tier, (count, served) in tiers(run).items()]
    if compared is not None:
        text.append(
            f"T0 et T1 que l'on aurait pu servir : {compared.served}/{compared.possible}, {compared.share:.1%}."
        )
    text.append(f"Registre : {', '.join(f'{what} {count}' for what, count in ledger.items()) or 'non relu'}.")
    text += [f"  FAUTE : {fault}" for fault in verdict.faults[:MOST_LINES]]
    if verdict.good:
        text.append("  Aucune place donnée deux fois, aucune confirmation perdue, aucune promesse rompue hors crise.")
    return "\n".join(text)
