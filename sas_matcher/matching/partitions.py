"""Places of one profession, mode and square as columns sorted by start."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ROW: Final = np.dtype(
    [
        ("slot_id", np.int64),
        ("start", np.int64),
        ("end", np.int64),
        # how long its professional sees nobody else; the start where he may (a plage, nobody named)
        ("until", np.int64),
        ("lat", np.float64),
        ("lon", np.float64),
        ("offers", np.int32),
        ("left", np.int32),
        ("capacity", np.int32),
        ("professional", np.int32),
        ("specialty", np.int32),
        ("site", np.int32),
        ("source", np.int32),
        ("limits", np.int32),
        ("landmass", np.int16),
        ("walkin", np.bool_),
        # for own patients only, for now
        ("own", np.bool_),
        ("version", np.int64),
        ("seats_version", np.int64),
        ("key", np.uint64),
    ]
)
_COLUMNS: Final = tuple(ROW.names or ())


class Partition:
    """Places of one (profession, mode, square), sorted by start, then slot id, in columns that grow by doubling.

    Many rows at once are only appended; the next reader sorts, once, however many pages were loaded.
    """

    def __init__(self) -> None:
        self.size = 0
        self._sorted = True
        self._data: dict[str, npt.NDArray[Any]] = {name: np.empty(0, ROW[name]) for name in _COLUMNS}
        # views of the rows that there are, until their number changes: requests read far more often
        self._live: dict[str, npt.NDArray[Any]] | None = None

    @classmethod
    def of(cls, rows: npt.NDArray[Any]) -> "Partition":
        """Return a partition of rows (structured) that are sorted by start, then slot id."""
        part = cls()
        part.size = len(rows)
        part._data = {name: rows[name].copy() for name in _COLUMNS}
        return part

    @property
    def columns(self) -> Mapping[str, npt.NDArray[Any]]:
        """The live part of all columns, by name; writing to it writes the market."""
        if not self._sorted:
            self._sort()
        if self._live is None:
            self._live = {name: column[: self.size] for name, column in self._data.items()}
        return self._live

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return the live part of a column; writing to it writes the market."""
        return self.columns[name]

    def _sort(self) -> None:
        order = np.lexsort((self._data["slot_id"][: self.size], self._data["start"][: self.size]))
        for column in self._data.values():
            column[: self.size] = column[order]
        self._sorted = True

    def window(self, low: int, high: int) -> slice:
        """Return the rows whose start lies in [low, high]."""
        starts = self.columns["start"]
        return slice(int(starts.searchsorted(low, "left")), int(starts.searchsorted(high, "right")))

    def find(self, slot_id: int) -> int:
        """Return the row of a slot, or −1."""
        rows = (self.column("slot_id") == slot_id).nonzero()[0]
        return int(rows[0]) if rows.size else -1

    def insert(self, rows: npt.NDArray[Any]) -> None:
        """Add rows (structured, any order)."""
        new_size = self.size + len(rows)
        room = len(self._data["start"])
        if new_size > room:
            room = max(16, 2 * room, new_size)
            for name, column in self._data.items():
                self._data[name] = np.empty(room, column.dtype)
                self._data[name][: self.size] = column[: self.size]
        if len(rows) == 1 and self._sorted:
            # the common case: shift the tail by one, in place
            start, slot_id = rows["start"][0], rows["slot_id"][0]
            same = self.window(start, start)
            at = same.start + int(self._data["slot_id"][same].searchsorted(slot_id))
            for name, column in self._data.items():
                column[at + 1 : new_size] = column[at : self.size]
                column[at] = rows[name][0]
        else:
            for name, column in self._data.items():
                column[self.size : new_size] = rows[name]
            self._sorted = False
        self.size, self._live = new_size, None

    def replace(self, row: int, values: Sequence[Any]) -> bool:
        """Write a row anew (in the order of ROW); False, and nothing is written, where its start is another one."""
        if self.column("start")[row] != values[_COLUMNS.index("start")]:
            return False
        for column, value in zip(self._data.values(), values, strict=True):
            column[row] = value
        return True

    def remove(self, row: int) -> None:
        """Take a row out."""
        for name in _COLUMNS:
            column = self.column(name)
            column[row:-1] = column[row + 1 :]
        self.size, self._live = self.size - 1, None

    def drop_before(self, start: int) -> Ints:
        """Take out rows that start before an instant; return their slot ids."""
        count = int(self.column("start").searchsorted(start, "left"))
        gone: Ints = self.column("slot_id")[:count].copy()
        if count:
            for name in _COLUMNS:
                column = self.column(name)
                column[:-count] = column[count:].copy()
            self.size, self._live = self.size - count, None
        return gone


class Rows:
    """Rows of several partitions, read as one table; only the columns that are asked for are joined.

    Args:
        parts: each partition with some of its rows, ascending: a window, or their numbers.
    """

    def __init__(self, parts: Sequence[tuple[Partition, slice | Ints]]) -> None:
        self.parts = parts
        self._joined: dict[str, npt.NDArray[Any]] = {}
        self._sizes = [rows.stop - rows.start if isinstance(rows, slice) else rows.size for _, rows in parts]

    def __len__(self) -> int:
        return sum(self._sizes)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column of all rows; not to be written to."""
        joined = self._joined.get(name)
        if joined is None:
            columns = [part.columns[name][rows] for part, rows in self.parts]
            if len(columns) == 1:
                joined = columns[0]
            else:
                joined = np.concatenate(columns) if columns else np.empty(0, ROW[name])
            self._joined[name] = joined
        return joined

    def taken(self, numbers: Ints) -> "Rows":
        """Return some of the rows, by their numbers, ascending."""
        parts: list[tuple[Partition, slice | Ints]] = []
        first = low = 0
        for (part, rows), size in zip(self.parts, self._sizes, strict=True):
            high = int(numbers.searchsorted(first + size))
            if high > low:
                some = numbers[low:high] - first
                parts.append((part, some + rows.start if isinstance(rows, slice) else rows[some]))
            first, low = first + size, high
        return Rows(parts)
