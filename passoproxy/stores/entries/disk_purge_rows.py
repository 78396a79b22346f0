"""What the database of entries knows of purges: a log, for answers that were asked for before one, and those that are not carried out yet.

An undone purge is in force from the moment it is written down: the rows that it means and that were stored before it are gone, wherever they lie.
Everything here blocks, and is called within `faults.translated`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

from passoproxy.stores.entries.disk_matching import Condition, beside

_KEPT_PURGES = 1000


class Undone(NamedTuple):
    """A purge that is in force and not carried out. `selector` is `purge_log`'s."""

    number: int
    selector: bytes


class Place(NamedTuple):
    """A place in the index of hints."""

    hints: bytes
    rowid: int


class PurgeRows:
    """`sql` runs a statement on the calling thread's connection."""

    def __init__(self, sql: Callable[..., Any]) -> None:
        self._sql = sql

    def make(self) -> None:
        """The tables, where they are not there."""
        self._sql("CREATE TABLE IF NOT EXISTS Purges (id INTEGER PRIMARY KEY, at REAL, selector BLOB)")
        self._sql("CREATE TABLE IF NOT EXISTS Undone (id INTEGER PRIMARY KEY, selector BLOB, remaining INTEGER)")

    def since(self, number: int) -> list[bytes]:
        """The selectors of the purges behind `number`."""
        found = self._sql("SELECT selector FROM Purges WHERE id > ?", (number,)).fetchall()
        return [selector if isinstance(selector, bytes) else b"" for (selector,) in found]

    def log(self, after: int, selector: bytes) -> int:
        """Writes down a purge under a number above `after` and every earlier one, which it returns."""
        (last,) = self._sql("SELECT COALESCE(MAX(id), 0) FROM Purges").fetchone()
        number = max(int(last), after) + 1
        self._sql("INSERT INTO Purges VALUES (?, ?, ?)", (number, time.time(), selector))
        self._sql("DELETE FROM Purges WHERE id <= ?", (number - _KEPT_PURGES,))
        return number

    # ---- purges that take a while ----------------------------------------------------------------------------------

    def undone(self) -> list[Undone]:
        """The purges that are in force and whose rows still lie here, the oldest first."""
        found = self._sql("SELECT id, selector FROM Undone ORDER BY id").fetchall()
        return [Undone(number, selector if isinstance(selector, bytes) else b"") for number, selector in found]

    def begin_purge(self, number: int, selector: bytes) -> None:
        """From now on the rows stored before purge `number` that `selector` means are gone, wherever they lie. Within a transaction."""
        self._sql("INSERT OR REPLACE INTO Undone VALUES (?, ?, 0)", (number, selector))

    def count_remaining(self, number: int, count: int) -> None:
        """So many rows of an undone purge still lie here (or, below zero, fewer than before)."""
        self._sql("UPDATE Undone SET remaining = MAX(0, remaining + ?) WHERE id = ?", (count, number))

    def end_purge(self, number: int) -> None:
        """All rows of the purge are gone."""
        self._sql("DELETE FROM Undone WHERE id = ?", (number,))

    def count(self, *conditions: Condition, most: int = 1 << 62) -> int:
        """How many rows meet all conditions of `disk_matching`; counted no further than `most`."""
        where = " AND ".join(f"({text})" for text, _ in conditions)
        select = f"SELECT COUNT(*) FROM (SELECT 1 FROM Cache WHERE {where} LIMIT ?)"  # noqa: S608
        ((found,),) = self._sql(select, (*chain.from_iterable(given for _, given in conditions), most)).fetchall()
        return int(found)

    def meeting(self, condition: Condition, most: int) -> list[int]:
        """Where rows lie that meet a condition."""
        text, given = condition
        select = f"SELECT rowid FROM Cache WHERE {text} LIMIT ?"  # noqa: S608
        return [rowid for (rowid,) in self._sql(select, (*given, most)).fetchall()]

    def window(self, after: Place, size: int) -> Place | None:
        """The last of the next `size` places of the index behind `after`; None where they are fewer."""
        select = "SELECT tag, rowid FROM Cache WHERE (tag, rowid) > (?, ?) ORDER BY tag, rowid LIMIT 1 OFFSET ?"
        found = self._sql(select, (*after, size - 1)).fetchone()
        return Place(*found) if found else None

    def between(self, after: Place, upto: Place | None, condition: Condition) -> list[int]:
        """Where the rows lie between two places of the index (the second included) that meet a condition."""
        text, given = beside(condition)
        until, last = ("", ()) if upto is None else (" AND (tag, rowid) <= (?, ?)", tuple(upto))
        select = f"SELECT rowid FROM Cache WHERE ({text}) AND (tag, rowid) > (?, ?){until}"  # noqa: S608
        return [rowid for (rowid,) in self._sql(select, (*given, *after, *last)).fetchall()]

    def take_out_many(self, rowids: Sequence[int], stored_before: int) -> list[str]:
        """Removes those of the rows that were stored before that purge; their bodies' names, which are not removed. Within a transaction."""
        gone = self._sql(
            "DELETE FROM Cache WHERE rowid IN (SELECT value FROM json_each(?)) AND access_count < ?"
            " RETURNING CAST(filename AS BLOB)",
            (json.dumps(rowids), stored_before),
        ).fetchall()
        return [(body or b"").decode("latin-1") for (body,) in gone]

    def remaining(self) -> int:
        """How many rows of undone purges still lie here."""
        ((purged,),) = self._sql("SELECT COALESCE(SUM(remaining), 0) FROM Undone").fetchall()
        return int(purged)

    def stamp(self, name: str) -> None:
        """The row of that name, just inserted, was stored after all purges until now: those that are undone do not mean it."""
        ((undone,),) = self._sql("SELECT MAX(id) FROM Undone").fetchall()
        if undone is not None:
            self._sql("UPDATE Cache SET access_count = ? WHERE key = ? AND raw = 1", (undone, name))
