"""The plots of a comparison, by matplotlib: import this module only where a report is made.

Each is drawn once, for a column of a page as narrow as a telephone, and written three ways: PNG and SVG on white to be
pasted elsewhere, and SVG for inside a page, without any style attribute, so that the strictest content security policy
bears it, and with the page's own ink and letters, so that it follows light and dark.
"""

import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

from sas_matcher.replay.compare import Cell, Entry, Group, Outcome, Spread, UnmetMap
from sas_matcher.replay.study import KM_PER_DEGREE

WIDTH: Final = 4.2
"""Inches: 302 points, legible at 320 pixels and not clumsy at 560."""

SIZES: Final = 12
"""Sizes of discs on the map."""

FAR_KM: Final = 900.0
"""All of the metropole lies within this of its middle, and nothing overseas does."""

INK: Final = "#14181d"
"""Everything that is not a series; the page's own colour of text replaces it."""

LOOKS: Final = {
    "fcfs-nearest": ("#7f868c", "o"),
    "official": ("#9b6b4a", "s"),
    "firm": ("#3d85c6", "^"),
    "promise": ("#1f9a6f", "D"),
    "auto": ("#c77700", "v"),
    "crisis": ("#d1495b", "P"),
}
"""Colour and mark of each policy: at least 3 to 1 on white and on the dark page, told apart by shape as well."""

_OTHERS: Final = tuple(LOOKS.values())
_RC: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.dpi": 200,
}


class Plot(NamedTuple):
    """A drawn plot: its name, for files; what it shows, in a line and in a sentence for who cannot see it."""

    name: str
    title: str
    text: str
    figure: Figure


def looks(label: str, number: int) -> tuple[str, str]:
    """Colour and mark of an entry: a policy's own, else those of its turn."""
    return LOOKS.get(label) or _OTHERS[(2 * number + 2) % len(_OTHERS)]


def french(value: float, digits: int = 1) -> str:
    """A number as the French write it; thousands apart by a narrow space that does not break."""
    text = f"{value:,.{digits}f}".replace(",", "\u202f").replace(".", ",")
    # no −0,0
    return text[1:] if text[:1] == "-" and not text.strip("-0,") else text.replace("-", "\u2212")


def _axis(value: float, _position: object = None) -> str:
    return french(value, 0 if value == round(value) else 1)


def _figure(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    _tidy(axes)
    return figure, axes


def _tidy(axes: Any) -> None:
    axes.set_axisbelow(True)
    axes.grid(visible=True, color=INK, alpha=0.14, linewidth=0.5)
    axes.xaxis.set_major_formatter(_axis)
    axes.yaxis.set_major_formatter(_axis)


def _whiskers(spread: Spread) -> list[list[float]]:
    return [[spread.mean - spread.low], [spread.high - spread.mean]]


def frontier(group: Group) -> Plot:
    """Welfare against told: the choice that a territory makes. One mark an entry with its extremes, one dot a day."""
    figure, axes = _figure(3.5)
    for number, entry in enumerate(group.entries):
        told, welfare = entry.spread(lambda o: o.told), entry.spread(lambda o: o.welfare)
        if told is None or welfare is None:
            continue
        colour, mark = looks(entry.label, number)
        days = [(o.told, o.welfare) for o in entry.outcomes if o.told is not None and o.welfare is not None]
        if len(days) > 1:
            axes.scatter(*zip(*days, strict=True), s=7, color=colour, alpha=0.35, linewidths=0)
            axes.errorbar(
                told.mean, welfare.mean, yerr=_whiskers(welfare), xerr=_whiskers(told), color=colour, linewidth=1
            )
        axes.plot(told.mean, welfare.mean, mark, color=colour, markersize=6.5, label=entry.label, linestyle="none")
    axes.set_xlabel("prévenus en deux minutes (% des servis)")
    axes.set_ylabel("bien-être (% de l'optimum)")
    figure.legend(loc="outside upper left", ncols=3, handletextpad=0.2, columnspacing=1.0)
    return Plot(
        "frontiere",
        "Bien-être et appelants prévenus",
        "Chaque repère est une politique, en moyenne des journées ; les traits vont de la pire à la meilleure. "
        "En haut à droite, tout le monde y gagne.",
        figure,
    )


def _by_tier(
    group: Group, axes_of: Sequence[Any], figure_of: Callable[[str], Callable[[Outcome], float | None]]
) -> None:
    """One panel a tier, one row an entry: mean and extremes."""
    for axes, tier in zip(axes_of, group.tiers, strict=False):
        _tidy(axes)
        for number, entry in enumerate(group.entries):
            spread = entry.spread(figure_of(tier))
            if spread is not None:
                colour, mark = looks(entry.label, number)
                axes.errorbar(
                    spread.mean, number, xerr=_whiskers(spread), color=colour, fmt=mark, markersize=5, linewidth=1
                )
        axes.set_title(tier, fontsize=9.5, loc="left")
        axes.set_yticks(range(len(group.entries)), [entry.label for entry in group.entries])
        axes.set_ylim(len(group.entries) - 0.4, -0.6)
        # what every policy reaches needs no decimals
        axes.xaxis.get_major_locator().set_params(nbins=4, min_n_ticks=2)


def _panels(group: Group, label: str) -> tuple[Figure, list[Any]]:
    rows = math.ceil(len(group.tiers) / 2)
    figure = Figure(figsize=(WIDTH, 0.75 + rows * (0.6 + 0.21 * len(group.entries))), layout="constrained")
    axes = figure.subplots(rows, 2, sharey=True, squeeze=False).ravel().tolist()
    for spare in axes[len(group.tiers) :]:
        spare.set_visible(False)
    figure.supxlabel(label, fontsize=9.5)
    return figure, axes


def served(group: Group) -> Plot:
    """Served of each tier against what the optimum serves."""
    figure, axes = _panels(group, "servis (% de ce que sert l'optimum)")
    _by_tier(group, axes, lambda tier: lambda o: o.of_tier(tier))
    return Plot(
        "servis",
        "Servis, par niveau d'urgence",
        "T0 dans l'heure, T1 dans les 4 heures, T2 dans la journée, T3 en deux jours. "
        "Plus de 100 % veut dire que d'autres, plus urgents ou plus proches, ont payé.",
        figure,
    )


def waits(group: Group) -> Plot:
    """Mean wait of those served, by tier."""
    figure, axes = _panels(group, "attente moyenne des servis (minutes)")
    _by_tier(group, axes, lambda tier: lambda o: o.score.mean_wait_min[tier])
    return Plot(
        "attente",
        "Attente, par niveau d'urgence",
        "De l'appel au début de la consultation. Qui sert moins attend parfois moins : à lire avec les servis.",
        figure,
    )


def _scale_bar(axes: Any, width_km: float) -> None:
    """A length in the corner: the largest of 1, 2 or 5 times a power of ten within a third of the width."""
    third = max(width_km / 3, 0.1)
    power = 10.0 ** math.floor(math.log10(third))
    km = max(step * power for step in (1, 2, 5) if step * power <= third)
    axes.plot([0.03, 0.03 + km / width_km], [0.03, 0.03], transform=axes.transAxes, color=INK, linewidth=1.5)
    axes.text(0.03, 0.05, f"{_axis(km)} km", transform=axes.transAxes, fontsize=8.5)


def near_cells(found: UnmetMap) -> list[Cell]:
    """The cells that fit on one map: within ``FAR_KM`` of the middle of all, north–south and east–west."""
    if not found.cells:
        return []
    lat, lon = (median(values) for values in zip(*((c.lat, c.lon) for c in found.cells), strict=True))
    east = KM_PER_DEGREE * math.cos(math.radians(lat))
    return [c for c in found.cells if abs(c.lat - lat) * KM_PER_DEGREE <= FAR_KM and abs(c.lon - lon) * east <= FAR_KM]


def unmet(entry: Entry, found: UnmetMap) -> Plot:
    """The map: where people asked, where they got nothing, where practices are; no background but the cells."""
    figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
    axes: Any = figure.subplots()
    cells = near_cells(found)
    # kilometres east and north: a flat earth is good enough for a map without a background
    east = KM_PER_DEGREE * math.cos(math.radians(median([c.lat for c in cells] or [0.0])))
    points = [(c.lon * east, c.lat * KM_PER_DEGREE, c.asked, c.unmet) for c in cells]
    if points:
        xs, ys, _, _ = zip(*points, strict=True)
        most = max(p[2] for p in points)
        side = max(max(xs) - min(xs), max(ys) - min(ys), found.km) + 2 * found.km
        box = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)

        def discs(column: int, colour: str, alpha: float, label: str) -> None:
            # a few sizes only: matplotlib then writes each shape once, and the page stays small
            sized: dict[int, list[tuple[float, float]]] = {}
            for point in points:
                if point[column] > 0:
                    sized.setdefault(math.ceil(SIZES * point[column] / most), []).append(point[:2])
            for size, centres in sorted(sized.items()):
                axes.scatter(
                    *zip(*centres, strict=True),
                    s=150 * size / SIZES,
                    color=colour,
                    alpha=alpha,
                    linewidths=0,
                    label=label,
                )
                label = "_"  # one entry in the legend

        near = [
            (lon * east, lat * KM_PER_DEGREE)
            for lat, lon in found.practices
            if abs(lon * east - box[0]) <= side / 2 and abs(lat * KM_PER_DEGREE - box[1]) <= side / 2
        ]
        discs(2, INK, 0.16, "demandes")
        discs(3, "#d1495b", 0.85, "sans place")
        if near:
            axes.scatter(*zip(*near, strict=True), s=9, marker="+", color="#3d85c6", linewidths=0.8, label="cabinets")
        axes.set_xlim(box[0] - side / 2, box[0] + side / 2)
        axes.set_ylim(box[1] - side / 2, box[1] + side / 2)
        _scale_bar(axes, side)
        legend: Any = figure.legend(loc="outside upper left", ncols=3, handletextpad=0.2, columnspacing=1.0)
        for handle in legend.legend_handles:
            handle.set_sizes([28])
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["top", "right"]].set_visible(True)
    missing = len(found.cells) - len(cells)
    far = f" Trop loin pour y tenir (outre-mer) : {missing}." if missing else ""
    return Plot(
        # a label is anybody's text, a file name is not
        "carte-" + re.sub(r"[^\w.]+", "-", entry.label).strip("-"),
        f"Besoins non pourvus : {entry.label}",
        f"Carrés d'environ {_axis(found.km)} km, nord en haut, sans fond de carte. "
        f"La surface d'un disque suit le nombre de demandes par jour.{far}",
        figure,
    )


# --- writing


def drawn(draw: Callable[[], Plot]) -> Plot:
    """Draw with the letters and colours of this module, whatever matplotlib is set to elsewhere."""
    with matplotlib.rc_context(_RC):
        return draw()


def write(plot: Plot, folder: Path, prefix: str) -> tuple[Path, Path]:
    """Write PNG and SVG on white; the same figures give the same bytes.

    Returns:
        Their paths.
    """
    png, svg = folder / f"{prefix}{plot.name}.png", folder / f"{prefix}{plot.name}.svg"
    with matplotlib.rc_context({**_RC, "svg.hashsalt": plot.name}):
        plot.figure.savefig(png, facecolor="white", metadata={"Software": None})
        plot.figure.savefig(svg, facecolor="white", metadata={"Date": None})
    return png, svg


_FONT: Final = re.compile(r"^(?:(\d{3}|bold|normal) )?(?:\S+ )??([\d.]+)px ")


def _plain_style(element: ElementTree.Element) -> None:
    """Turn a style into attributes; the page gives the family of letters."""
    for item in element.attrib.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in item.partition(":"))
        if name == "font":
            found = _FONT.match(value)
            if found is not None:
                element.set("font-size", found[2])
        elif name not in ("", "font-family"):
            element.set(name, value)
    for name in ("fill", "stroke"):
        if element.get(name) == INK:
            element.set(name, "currentColor")
    if element.tag == "text" and element.get("fill") is None:
        element.set("fill", "currentColor")


def inline(plot: Plot, ident: str) -> str:
    """Return the plot as an ``<svg>`` for inside a page.

    Args:
        plot: What to write.
        ident: Prefix of all its ids, unique in the page.
    """
    page = io.BytesIO()
    with matplotlib.rc_context({**_RC, "svg.hashsalt": ident}):
        plot.figure.savefig(page, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(page.getvalue())  # noqa: S314 - what matplotlib has just written
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name in list(element.attrib):
            plain = name.rpartition("}")[2]
            value = element.attrib.pop(name)
            if plain == "id":
                value = f"{ident}-{value}"
            elif plain == "href":
                value = f"#{ident}-{value[1:]}"
            element.set(plain, re.sub(r"url\(#", f"url(#{ident}-", value))
        _plain_style(element)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style"):
                parent.remove(child)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    # what the style sheet of matplotlib said for everything
    root.attrib |= {"role": "img", "aria-label": f"{plot.title}. {plot.text}", "stroke-linejoin": "round"}
    return ElementTree.tostring(root, encoding="unicode")
