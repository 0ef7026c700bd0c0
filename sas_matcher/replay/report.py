"""A comparison as one HTML page in French: plots with their tables beside them, nothing loaded from anywhere.

The page holds one style sheet, allowed by its hash, and no script: it can be mailed, printed, and served under the
strictest content security policy.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from sas_matcher import __version__
from sas_matcher.replay import plots
from sas_matcher.replay.compare import Entry, Group, Outcome, Spread, UnmetMap, unmet_map
from sas_matcher.replay.plots import french

PlaceName = Callable[[float, float], str | None]
"""Name of the commune around a point; None where the territory is invented."""

WORST_CELLS: Final = 10

WORDS: Final = (
    (
        "Bien-être",
        "somme, sur les demandes servies, de la valeur de l'urgence moins trajet et attente ; en % de l'optimum.",
    ),
    (
        "Optimum",
        "ce qu'aurait fait quelqu'un qui connaissait toute la journée d'avance ; calculé exactement, hors d'atteinte.",
    ),
    ("Prévenus", "part des servis dont la place était ferme ou promise deux minutes après l'appel au plus tard."),
    ("T0 + T1", "servis des deux niveaux les plus urgents, en % de ceux de l'optimum."),
    ("Promesses rompues", "par le service lui-même, par journée ; celles que perdent les cabinets sont à part."),
)


def _spread(spread: Spread | None, digits: int = 1) -> str:
    """A cell: the mean, and below it the extremes when there is more than one day."""
    if spread is None:
        return "<td>–</td>"
    low, high = french(spread.low, digits), french(spread.high, digits)
    extremes = "" if low == high else f"<small>[{low}..{high}]</small>"
    return f"<td>{french(spread.mean, digits)}{extremes}</td>"


def _table(caption: str, head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A table that scrolls by itself; rows are (header, cells with their tags)."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = "".join(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>\n' for name, cells in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{columns}</tr></thead>\n<tbody>{lines}</tbody></table></div>"
    )


def _pair(plot: plots.Plot, ident: str, tables: str) -> str:
    return (
        f'<section class="pair"><figure><h3>{escape(plot.title)}</h3>{plots.inline(plot, ident)}'
        f"<figcaption>{escape(plot.text)}</figcaption></figure><div>{tables}</div></section>"
    )


def _best(group: Group) -> Entry:
    """The entry with the highest mean welfare; the first of equals."""

    def mean(entry: Entry) -> float:
        spread = entry.spread(lambda o: o.welfare)
        return -1.0 if spread is None else spread.mean

    return max(group.entries, key=mean)


def _by_entry(group: Group, caption: str, columns: Mapping[str, Callable[[Outcome], float | None]], digits: int) -> str:
    rows = [(entry.label, [_spread(entry.spread(of), digits) for of in columns.values()]) for entry in group.entries]
    return _table(caption, ("politique", *columns), rows)


def _frontier_tables(group: Group) -> str:
    shares = _by_entry(
        group,
        "Bien-être et prévenus, en %",
        {"bien-être": lambda o: o.welfare, "prévenus": lambda o: o.told, "T0 + T1": lambda o: o.urgent},
        1,
    )
    promises = _by_entry(
        group,
        "Promesses, par journée",
        {
            "déplacées": lambda o: o.score.moves,
            "rompues": lambda o: o.score.broken_promises,
            "perdues": lambda o: o.score.lost_to_practices,
        },
        0,
    )
    note = (
        '<p class="note">Moyenne des journées, et [plus basse..plus haute]. Déplacées : la place derrière la promesse '
        "a changé, pas l'échéance. Rompues par le service ; perdues du fait des cabinets.</p>"
    )
    return shares + promises + note


TierFigure = Callable[[str], Callable[[Outcome], float | None]]


def _tier_row(group: Group, entry: Entry, figure_of: TierFigure, digits: int) -> list[str]:
    return [_spread(entry.spread(figure_of(tier)), digits) for tier in group.tiers]


def _of_tiers(group: Group, caption: str, figure_of: TierFigure, digits: int) -> str:
    rows = [(entry.label, _tier_row(group, entry, figure_of, digits)) for entry in group.entries]
    return _table(caption, ("politique", *group.tiers), rows)


def _served_tables(group: Group) -> str:
    shares = _of_tiers(group, "Servis, en % de l'optimum", lambda tier: lambda o: o.of_tier(tier), 1)
    # asked and possible are the day's own, whatever was tried on it
    first, digits = group.entries[0], 0 if group.days == 1 else 1
    rows = [
        ("demandes", _tier_row(group, first, lambda tier: lambda o: o.score.requests[tier], digits)),
        ("optimum", _tier_row(group, first, lambda tier: lambda o: o.best.served[tier], digits)),
    ]
    rows += [
        (entry.label, _tier_row(group, entry, lambda tier: lambda o: o.score.served[tier], digits))
        for entry in group.entries
    ]
    return shares + _table("Servis par journée", ("", *group.tiers), rows)


def _waits_tables(group: Group) -> str:
    waits = _of_tiers(group, "Attente moyenne, minutes", lambda tier: lambda o: o.score.mean_wait_min[tier], 0)
    travel = _by_entry(
        group,
        "Trajet moyen (hors téléconsultation), minutes",
        {"trajet": lambda o: o.score.mean_travel_min},
        1,
    )
    return waits + travel


def _map_table(found: UnmetMap, place_name: PlaceName) -> str:
    worst = [cell for cell in found.cells if cell.unmet > 0][:WORST_CELLS]
    if not worst:
        return "<p>Personne n'est resté sans place.</p>"
    rows = [
        (
            place_name(cell.lat, cell.lon) or f"{french(cell.lat, 3)} ; {french(cell.lon, 3)}",
            (f"<td>{french(cell.unmet)}</td>", f"<td>{french(cell.asked)}</td>"),
        )
        for cell in worst
    ]
    total = sum(cell.unmet for cell in found.cells)
    shown = sum(cell.unmet for cell in worst)
    note = (
        f'<p class="note">Ces {len(worst)} secteurs portent {french(shown)} des {french(total)} demandes sans place '
        "par journée. Un secteur est nommé par sa commune la plus proche, ou par le milieu de son carré.</p>"
    )
    return _table("Secteurs les moins pourvus, par journée", ("secteur", "sans place", "demandes"), rows) + note


def _overview(groups: Sequence[Group]) -> str:
    """All kinds of day in one table: welfare · told, since either alone can be gamed."""
    labels = [entry.label for entry in groups[0].entries]

    def cell(entry: Entry) -> str:
        welfare, told = entry.spread(lambda o: o.welfare), entry.spread(lambda o: o.told)
        if welfare is None or told is None:
            return "<td>–</td>"
        return f"<td>{french(welfare.mean)} · {french(told.mean, 0)}</td>"

    rows = [(f"{g.name} ({g.days})", [cell(entry) for entry in g.entries]) for g in groups]
    return _table("Bien-être · prévenus, en %, par sorte de journée (nombre)", ("journées", *labels), rows)


def _plots_of(group: Group, shown: Sequence[str]) -> list[tuple[plots.Plot, str | UnmetMap]]:
    """The plots of a group with the tables beside them."""
    drawn: list[tuple[plots.Plot, str | UnmetMap]] = [
        (plots.drawn(partial(plots.frontier, group)), _frontier_tables(group)),
        (plots.drawn(partial(plots.served, group)), _served_tables(group)),
        (plots.drawn(partial(plots.waits, group)), _waits_tables(group)),
    ]
    for entry in group.entries:
        if entry.label in shown:
            found = unmet_map(entry.outcomes)
            drawn.append((plots.drawn(partial(plots.unmet, entry, found)), found))
    return drawn


def write_report(
    folder: Path,
    groups: Sequence[Group],
    *,
    title: str,
    lead: str,
    maps: Sequence[str] | None = None,
    place_name: PlaceName = lambda _lat, _lon: None,
) -> None:
    """Write ``index.html`` and each plot as PNG and SVG into a folder; the same figures give the same bytes.

    Args:
        folder: An existing folder.
        groups: At least one kind of day.
        title: Of the page.
        lead: What was compared, in a sentence or two.
        maps: Labels of the entries that get a map of unmet need; by default the one with the highest welfare.
        place_name: How a cell is called.

    Raises:
        OSError: The folder cannot be written to.
    """
    items = "".join(f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>" for word, meaning in WORDS)
    body = [f'<section><h2 class="first">Les mots</h2><dl>{items}</dl></section>']
    if len(groups) > 1:
        body.insert(0, f'<section><h2 class="first">Vue d\'ensemble</h2>{_overview(groups)}</section>')
    for number, group in enumerate(groups):
        plural = "s" if group.days > 1 else ""
        body.append(f"<section><h2>{escape(group.name)} : {group.days} journée{plural}</h2>")
        for position, (plot, beside) in enumerate(_plots_of(group, [_best(group).label] if maps is None else maps)):
            plots.write(plot, folder, f"{group.name}-")
            tables = beside if isinstance(beside, str) else _map_table(beside, place_name)
            body.append(_pair(plot, f"g{number}-{position}", tables))
        body.append("</section>")
    files = resources.files("sas_matcher.replay")
    style = files.joinpath("report.css").read_text("utf-8")
    page = Template(files.joinpath("report.html").read_text("utf-8")).substitute(
        title=escape(title),
        lead=escape(lead),
        style=style,
        digest=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        body="\n".join(body),
        foot=escape(
            f"sas-matcher {__version__}. Les pourcentages valent pour ces journées, pas pour la France ; "
            "les temps de trajet sont des estimations."
        ),
    )
    (folder / "index.html").write_text(page, "utf-8")
