"""Places of one profession, mode and square, sorted by start, in the columns of their market."""

from collections.abc import Sequence
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
LEAST_ROOM: Final = 16  # rows; a partition that needs more gets twice as many each time


class Arena:
    """Columns in which every partition of a market has a range: rows of many are read as those of one.

    A partition that needs more room moves to another range; the one it leaves is given to who needs that much.
    """

    def __init__(self) -> None:
        self.columns: dict[str, npt.NDArray[Any]] = {name: np.empty(0, ROW[name]) for name in _COLUMNS}
        self._used = 0
        # first rows of ranges that were left, by how many rows they are sure to hold
        self._left: dict[int, list[int]] = {}

    def take(self, rows: int) -> int:
        """Give out a range of so many rows; returns its first."""
        if left := self._left.get(rows):
            return left.pop()
        first, self._used = self._used, self._used + rows
        if self._used > len(self.columns["start"]):
            self.reserve(self._used)
        return first

    def leave(self, first: int, rows: int) -> None:
        """Take a range back."""
        if rows >= LEAST_ROOM:
            self._left.setdefault(room_for(rows + 1) // 2, []).append(first)

    def reserve(self, rows: int) -> None:
        """Make room for so many rows more, in one go; what nobody writes to takes no memory."""
        if self._used + rows <= len(self.columns["start"]):
            return
        for name, column in self.columns.items():
            self.columns[name] = np.empty(self._used + rows, column.dtype)
            self.columns[name][: column.size] = column


def room_for(rows: int) -> int:
    """Return the room that a partition of so many rows gets."""
    room = LEAST_ROOM
    while room < rows:
        room *= 2
    return room


class Partition:
    """Places of one (profession, mode, square), sorted by start, then slot id; their room grows by doubling.

    Many rows at once are only appended; the next reader sorts, once, however many pages were loaded.
    """

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.size = self.first = self._room = 0
        self._sorted = True

    @classmethod
    def of(cls, arena: Arena, rows: npt.NDArray[Any]) -> "Partition":
        """Return a partition of rows (structured) that are sorted by start, then slot id."""
        part = cls(arena)
        part._make_room(len(rows))
        part.size = len(rows)
        for name in _COLUMNS:
            part._all(name)[:] = rows[name]
        return part

    def _make_room(self, rows: int) -> None:
        before, room_before = self.first, self._room
        self.first, self._room = self.arena.take(rows), rows
        for column in self.arena.columns.values():
            column[self.first : self.first + self.size] = column[before : before + self.size]
        self.arena.leave(before, room_before)

    def _all(self, name: str, size: int | None = None) -> npt.NDArray[Any]:
        return self.arena.columns[name][self.first : self.first + (self.size if size is None else size)]

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return the live part of a column; writing to it writes the market."""
        if not self._sorted:
            self._sort()
        return self.arena.columns[name][self.first : self.first + self.size]

    def _sort(self) -> None:
        order = np.lexsort((self._all("slot_id"), self._all("start")))
        for name in _COLUMNS:
            column = self._all(name)
            column[:] = column[order]
        self._sorted = True

    def window(self, low: int, high: int) -> slice:
        """Return the rows whose start lies in [low, high]."""
        starts = self.column("start")
        return slice(int(starts.searchsorted(low, "left")), int(starts.searchsorted(high, "right")))

    def find(self, slot_id: int) -> int:
        """Return the row of a slot, or −1."""
        rows = (self.column("slot_id") == slot_id).nonzero()[0]
        return int(rows[0]) if rows.size else -1

    def find_at(self, slot_id: int, start: int) -> int:
        """Return the row of a slot that starts at an instant, or −1."""
        starts, slot_ids = self.column("start"), self.column("slot_id")
        row = int(starts.searchsorted(start))
        if row < self.size and slot_ids[row] < slot_id:
            # others start together with it
            row += int(slot_ids[row : starts.searchsorted(start, "right")].searchsorted(slot_id))
        return row if row < self.size and starts[row] == start and slot_ids[row] == slot_id else -1

    def value(self, name: str, row: int) -> Any:
        """Return one value of a column, as a plain number."""
        return self.arena.columns[name].item(self.first + row)

    def insert(self, rows: npt.NDArray[Any]) -> None:
        """Add rows (structured, any order)."""
        new_size = self.size + len(rows)
        if new_size > self._room:
            self._make_room(room_for(max(new_size, self._room + 1)))
        if len(rows) == 1 and self._sorted:
            # the common case: shift the tail by one, in place
            start, slot_id = rows["start"][0], rows["slot_id"][0]
            same = self.window(start, start)
            at = same.start + int(self.column("slot_id")[same].searchsorted(slot_id))
            for name in _COLUMNS:
                column = self._all(name, new_size)
                column[at + 1 :] = column[at:-1]
                column[at] = rows[name][0]
        else:
            for name in _COLUMNS:
                self._all(name, new_size)[self.size :] = rows[name]
            self._sorted = False
        self.size = new_size

    def replace(self, row: int, values: Sequence[Any]) -> bool:
        """Write a row anew (in the order of ROW); False, and nothing is written, where its start is another one."""
        if self.column("start")[row] != values[_COLUMNS.index("start")]:
            return False
        for column, value in zip(self.arena.columns.values(), values, strict=True):
            column[self.first + row] = value
        return True

    def remove(self, row: int) -> None:
        """Take a row out."""
        for name in _COLUMNS:
            column = self.column(name)
            column[row:-1] = column[row + 1 :]
        self.size -= 1

    def drop_before(self, start: int) -> Ints:
        """Take out rows that start before an instant; return their slot ids."""
        count = int(self.column("start").searchsorted(start, "left"))
        gone: Ints = self.column("slot_id")[:count].copy()
        if count:
            for name in _COLUMNS:
                column = self.column(name)
                column[:-count] = column[count:].copy()
            self.size -= count
        return gone


class Rows:
    """Rows of several partitions of one market, read as one table until the market changes."""

    def __init__(self, windows: Sequence[tuple[Partition, slice]]) -> None:
        """Read windows of partitions, one after the other."""
        self._columns = windows[0][0].arena.columns if windows else _NOTHING
        self._ranges = [(part.first + rows.start, part.first + rows.stop) for part, rows in windows]
        self._size: int = sum([last - first for first, last in self._ranges])
        # where they are in the columns; None for ranges that are faster copied whole
        self._at: slice | Ints | None = None
        if len(self._ranges) == 1:
            self._at = slice(*self._ranges[0])
        elif self._size < LONG * len(self._ranges) or not windows:
            self._at = np.concatenate([_NO_ROWS, *(np.arange(*ends) for ends in self._ranges)])

    @classmethod
    def _of(cls, columns: dict[str, npt.NDArray[Any]], at: Ints) -> "Rows":
        rows = cls([])
        rows._columns, rows._at, rows._size = columns, at, at.size
        return rows

    def __len__(self) -> int:
        return self._size

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column of all rows; not to be written to."""
        column = self._columns[name]
        if self._at is None:
            return np.concatenate([column[first:last] for first, last in self._ranges])
        here: npt.NDArray[Any] = column[self._at]
        return here

    def taken(self, numbers: Ints) -> "Rows":
        """Return some of the rows, by their numbers."""
        if isinstance(self._at, slice):
            return self._of(self._columns, numbers + self._at.start)
        if self._at is not None:
            return self._of(self._columns, self._at[numbers])
        first, last = np.array(self._ranges).T
        ends = (last - first).cumsum()
        return self._of(self._columns, numbers + (last - ends)[ends.searchsorted(numbers, "right")])

    def followed_by(self, others: "Rows") -> "Rows":
        """Return some of a market's rows (``taken``) and others."""
        if not len(self):
            return others
        both = np.concatenate([rows._at for rows in (self, others) if isinstance(rows._at, np.ndarray)])
        return self._of(self._columns, both)


LONG: Final = 256  # rows of a range from which on it is copied faster than its rows are gathered
_NO_ROWS: Final = np.empty(0, np.intp)
_NOTHING: Final[dict[str, npt.NDArray[Any]]] = {name: np.empty(0, ROW[name]) for name in _COLUMNS}
