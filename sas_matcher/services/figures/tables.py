"""Figures as tables: the same rows for pages, for the API and for CSV, so that none of them counts anything itself."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from sas_matcher.domain.disclosure import LEAST

Kind = Literal["text", "count", "percent", "minutes", "hours", "decimal"]
SMALL: Final = f"< {LEAST}"
"""What is said of a small count (``domain.disclosure``)."""


class Column(NamedTuple):
    """A column: its name in documents, its heading in French, and what its values are."""

    key: str
    label: str
    kind: Kind = "count"


class Table(NamedTuple):
    """Rows under headings.

    Attributes:
        name: in addresses.
        rows: by column; None: not known, or, where the row's ``hidden`` names it, too small to be told.
        note: what one has to know to read it.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: list[dict[str, Any]]
    note: str = ""

    def document(self) -> dict[str, Any]:
        """Return it for the API."""
        return {
            "table": self.name,
            "title": self.title,
            "columns": [column._asdict() for column in self.columns],
            "rows": self.rows,
            "note": self.note,
        }

    def csv(self) -> bytes:
        """Return it for a spreadsheet: UTF-8 with its mark, semicolons and decimal commas, as French ones read them."""
        out = io.StringIO()
        writer = csv.writer(out, delimiter=";", lineterminator="\r\n")
        writer.writerow([column.label for column in self.columns])
        for row in self.rows:
            writer.writerow([_cell(row, column) for column in self.columns])
        return "\ufeff".encode() + out.getvalue().encode()


def _cell(row: Mapping[str, Any], column: Column) -> str:
    value = row.get(column.key)
    if value is None:
        return SMALL if column.key in row.get("hidden", ()) else ""
    if column.kind == "text":
        text = str(value)
        # a spreadsheet takes what begins so for a formula (OWASP, CSV injection): names come from outside
        return f"'{text}" if text[:1] in "=+-@\t\r" else text
    return str(value).replace(".", ",")


def percent(part: float, whole: float) -> float | None:
    """Return a share in percent, to a tenth; None of nothing."""
    return round(100 * part / whole, 1) if whole else None


def total(rows: Sequence[Mapping[str, Any]], key: str) -> int:
    """Return the sum of a column, what is not known left out."""
    return sum(row[key] or 0 for row in rows)
