"""The live screen of a demonstration, drawn from its board."""

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sas_matcher.demo.board import Board

STATES = {
    "held": "place gardée",
    "promised": "promises",
    "waiting": "en attente",
    "firm": "confirmées",
    "fulfilled": "patients venus",
    "noshow": "absents",
    "cancelled": "annulées",
    "lapsed": "garde expirée",
    "unserved": "sans place",
}
STYLES = {
    "place": "green",
    "promesse": "green",
    "dite": "bold green",
    "rompue": "bold red",
    "confirmée": "bold green",
    "trouvée": "bold green",
    "aucune": "yellow",
    "orientée": "yellow",
    "annulée": "dim",
    "expirée": "dim",
    "refusée": "magenta",
    "retirée": "magenta",
    "publiées": "cyan",
    "coupure": "bold red",
    "refus": "bold red",
}
WIDE = 96
"""Columns of a terminal from which on requests by status take two columns."""
_AROUND = 14
"""Rows of the screen that show neither decisions nor lines: head, figures, frames."""


def milliseconds(value: float | None) -> str:
    """Return an answer time as people read it."""
    return "–" if value is None else f"{value:.0f} ms"


class Screen:
    """A rich renderable: draw it again and again with ``rich.live.Live``.

    Args:
        board: What is shown.
        title: Name of the demonstration.
        note: A remark on the hours, if any.
        tries: Commands to try.
    """

    def __init__(self, board: Board, title: str, note: str | None, tries: Sequence[str]) -> None:
        self._board = board
        self._title = title
        self._note = note
        self._tries = tries

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw for the present size of the terminal."""
        rows = options.height or console.height
        around = _AROUND + len(self._tries) + (2 if self._note else 0)
        parts: list[RenderableType] = [self._head(), self._figures(2 if options.max_width >= WIDE else 1)]
        if self._note:
            parts.append(Text(self._note, style="yellow"))
        free = max(6, rows - around)
        decisions = max(1, free * 2 // 3 // 2)  # two rows each, two thirds of what is free
        parts += [self._decisions(decisions), self._lines(max(2, free - 2 * decisions)), self._foot()]
        yield Group(*parts)

    def _head(self) -> Text:
        head = Text(f" {self._title} ", style="bold reverse")
        head.append(f"  {self._board.now():%H h %M min %S s}", style="not reverse")
        if self._board.virtual:
            head.append(f"  ·  journée virtuelle : {self._board.virtual}", style="not reverse dim")
        head.append("  ·  tout est fictif", style="not reverse dim")
        return head

    def _figures(self, columns: int) -> Table:
        board = self._board
        table = Table.grid(expand=True, padding=(0, 1))
        for _ in range(3):
            table.add_column(ratio=1)
        live = sum(board.live.values())
        places = Text(f"{live}", style="bold cyan").append(" places libres", style="not bold default")
        kinds = "  ".join(f"{name} {count}" for name, count in board.live.most_common(6))
        states = Table.grid(padding=(0, 2))
        shown = [f"{board.states[name]} {text}" for name, text in STATES.items() if board.states[name]]
        for at in range(0, len(shown), columns):
            states.add_row(*shown[at : at + columns])
        times = Table.grid(padding=(0, 2))
        for name, share in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99)):
            times.add_row(name, Text(milliseconds(board.percentile_ms(share)), style="bold green"))
        table.add_row(
            Panel(Group(places, Text(kinds, style="dim")), title="Places", height=6),
            Panel(states, title="Demandes (24 h)", height=6),
            Panel(times, title=f"Réponse ({len(board.answers_ms)} dernières)", height=6),
        )
        return table

    def _decisions(self, count: int) -> Panel:
        """Return the last decisions: for whom and where, then why."""
        rows = []
        for line in list(self._board.decisions)[-count:]:
            head = Text(f"{line.at:%H:%M:%S} ", style="dim", no_wrap=True, overflow="ellipsis")
            head.append(line.about, style=f"not dim bold {STYLES[line.word]}")
            head.append(f"  →  {line.who}" if line.who else "", style="not dim")
            rows += [head, Text(f"         {line.text}", no_wrap=True, overflow="ellipsis")]
        return Panel(Group(*rows), title="Dernières décisions", height=2 * count + 2)

    def _lines(self, count: int) -> Panel:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(style="dim", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, style="bold")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for line in list(self._board.lines)[-count:]:
            word = Text(line.word, style=STYLES.get(line.word, ""))
            table.add_row(f"{line.at:%H:%M:%S}", word, line.about, line.text)
        return Panel(table, title="Régulateurs, patients, cabinets", height=count + 2)

    def _foot(self) -> Panel:
        return Panel(Text("\n".join(self._tries)), title="À essayer dans un autre terminal · Ctrl-C arrête tout")
