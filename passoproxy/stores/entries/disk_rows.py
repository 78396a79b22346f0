"""The table of entries: diskcache's, one row an entry, with the few statements that diskcache has no method for.

Rows are named by `names`, valued by `sealing`, tagged by `hints`; the row's file is the body. Metadata, sizes and eviction are
diskcache's. The only module that knows its tables: held by tests against the pinned version. Everything here blocks, and is called
within `faults.translated`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import diskcache
from diskcache.core import DBNAME

from passoproxy.stores.entries.disk_purge_rows import PurgeRows
from passoproxy.stores.entries.faults import Planted
from passoproxy.stores.entries.guarded_disk import GuardedDisk

DATABASE = DBNAME
JOURNALS = (f"{DBNAME}-wal", f"{DBNAME}-shm")
_PAGE = 4096
_OVERHEAD = 2048
"""Bytes that a row takes beside its body's: an estimate to make room by, corrected by what the file really takes."""


class Row(NamedTuple):
    """One row as it lies there, unproven. `hints` and `value` are bytes unless someone meddled."""

    rowid: int
    name: str
    hints: object
    value: object
    filename: str
    stored_after: int = 0
    """The last purge when it was stored, where a purge was being carried out then, else 0."""


_COLUMNS = (
    # as bytes: text that is none must not stop a select; access_count is diskcache's, who only counts under another eviction policy
    "rowid, CAST(key AS BLOB), tag, value, CAST(filename AS BLOB), access_count"
)


def _row(found: tuple[Any, ...]) -> Row:
    rowid, key, hints, value, filename, stored_after = found
    after = stored_after if type(stored_after) is int else 0
    return Row(rowid, (key or b"").decode("latin-1"), hints, value, (filename or b"").decode("latin-1"), after)


class Rows(diskcache.Cache):  # type: ignore[misc]
    """The open database. Each thread that uses it has a connection of its own, and closes it (`close`) when it leaves.

    `max_bytes` bounds what `volume` counts: database, journals, bodies, and what `more` tells. `patience`: seconds to wait for
    another process that writes.
    """

    def __init__(self, folder: Path, max_bytes: int, patience: float, more: Callable[[], int]) -> None:
        self._database = folder / DATABASE
        self._journals = [folder / name for name in JOURNALS]
        self._more = more
        self._cleanup: Callable[[str], None] | None = None
        pages = max(64, min(1000, max_bytes // 32 // _PAGE))
        super().__init__(
            str(folder),
            timeout=patience,
            disk=GuardedDisk,
            eviction_policy="least-recently-used",
            statistics=0,
            tag_index=1,
            size_limit=max_bytes,
            cull_limit=0,  # room is made before a row is written, never within its transaction
            sqlite_journal_mode="wal",
            sqlite_synchronous=1,
            sqlite_auto_vacuum=2,  # incremental: full would move pages at every commit of a purge
            sqlite_cache_size=2048,
            sqlite_mmap_size=0,  # a mapped database that is cut short kills the process
            sqlite_trusted_schema=0,
            sqlite_cell_size_check=1,
            sqlite_wal_autocheckpoint=pages,
            sqlite_journal_size_limit=pages * _PAGE,
            disk_min_file_size=0,
        )
        self._most = max_bytes
        self.purging = PurgeRows(lambda *statement: self._sql(*statement))
        self.purging.make()

    # ---- reading, in any thread ----------------------------------------------------------------------------------

    def of_key(self, key: str) -> list[Row]:
        """All rows of a primary key; `key` is `names.key_name`'s."""
        select = f"SELECT {_COLUMNS} FROM Cache WHERE key >= ? AND key < ? AND raw = 1"  # noqa: S608  # only our own text
        return [_row(found) for found in self._sql(select, (f"{key}.", f"{key}/")).fetchall()]

    def named(self, name: str) -> Row | None:
        """The row of that name."""
        select = f"SELECT {_COLUMNS} FROM Cache WHERE key = ? AND raw = 1"  # noqa: S608
        found = self._sql(select, (name,)).fetchone()
        return _row(found) if found else None

    def at(self, rowid: int) -> Row | None:
        """The row at that place of the table."""
        found = self._sql(f"SELECT {_COLUMNS} FROM Cache WHERE rowid = ?", (rowid,)).fetchone()  # noqa: S608
        return _row(found) if found else None

    def after(self, rowid: int, most: int) -> list[Row]:
        """The next rows in the table's own order."""
        select = f"SELECT {_COLUMNS} FROM Cache WHERE rowid > ? ORDER BY rowid LIMIT ?"  # noqa: S608
        return [_row(found) for found in self._sql(select, (rowid, most)).fetchall()]

    def rowids_after(self, rowid: int, most: int) -> list[int]:
        """Where the next rows lie, in the table's own order."""
        select = "SELECT rowid FROM Cache WHERE rowid > ? ORDER BY rowid LIMIT ?"
        return [found for (found,) in self._sql(select, (rowid, most)).fetchall()]

    def hints_after(self, hints: bytes, rowid: int, end: bytes | None, most: int) -> list[tuple[bytes, int]]:
        """The next (hints, rowid) behind that pair, up to `end`: read from the index alone."""
        if end is None:
            select = "SELECT tag, rowid FROM Cache WHERE (tag, rowid) > (?, ?) ORDER BY tag, rowid LIMIT ?"
            return list(self._sql(select, (hints, rowid, most)).fetchall())
        select = "SELECT tag, rowid FROM Cache WHERE (tag, rowid) > (?, ?) AND tag < ? ORDER BY tag, rowid LIMIT ?"
        return list(self._sql(select, (hints, rowid, end, most)).fetchall())

    def journal_bytes(self) -> int:
        """What the journals take on disk."""
        total = 0
        for journal in self._journals:
            with contextlib.suppress(OSError):
                total += os.stat(journal).st_size
        return total

    def volume(self) -> int:
        """Bytes of all files that belong to the store, near enough; `cull` evicts by it."""
        ((pages,),) = self._sql("PRAGMA page_count").fetchall()
        database = max(
            self._page_size * pages, os.stat(self._database).st_size
        )  # it may be longer than its pages for a while
        return int(database + self.body_bytes() + self.journal_bytes() + self._more())

    def entry_count(self) -> int:
        """How many entries there are."""
        return max(0, self._number("count") - self.purging.remaining())

    def body_bytes(self) -> int:
        """The sum of the bodies' sizes, as the rows tell it."""
        return self._number("size")

    def _number(self, setting: str) -> int:
        value = self.reset(setting)
        if type(value) is not int or value < 0:
            raise Planted(f"its setting {setting!r} is no number")
        return value

    # ---- writing, in the scribe's thread --------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything within becomes visible at once or not at all; bodies of rows that went are removed after that."""
        with self._transact() as (_, self._cleanup):
            yield

    def insert(self, name: str, value: bytes, hints: bytes) -> None:
        """A new row. Within a transaction; there must be no row of that name."""
        self.set(name, value, tag=hints)
        self.purging.stamp(name)

    def rewrite(self, rowid: int, value: bytes, hints: bytes) -> None:
        """Another head for the same body."""
        self._sql("UPDATE Cache SET value = ?, tag = ? WHERE rowid = ?", (value, hints, rowid))

    def take_out(self, row: Row, *, but_not: str = "") -> None:
        """Removes a row, and with the transaction's end its body, unless that has the name `but_not`. Within a transaction."""
        self._sql("DELETE FROM Cache WHERE rowid = ?", (row.rowid,))
        if self._cleanup is not None and row.filename != but_not:
            self._cleanup(row.filename)

    def used(self, keys: Iterable[str], now: float) -> None:
        """Remembers that these primary keys were asked for."""
        update = "UPDATE Cache SET access_time = ? WHERE key >= ? AND key < ? AND raw = 1"
        for key in keys:
            self._sql(update, (now, f"{key}.", f"{key}/"))

    def make_room(self, need: int, rows: int) -> tuple[list[str], bool]:
        """Evicts the least recently used until `need` bytes and `rows` rows fit; the names of the bodies that went, and whether they fit."""
        total = need + rows * _OVERHEAD
        over = self.volume() + total - self._most
        if over > 0 and self.give_back(over // _PAGE + 1):
            over = self.volume() + total - self._most
        if over <= 0:
            return [], True
        spare = self._most // 64  # a little more goes, so that not every entry evicts one
        self.size_limit = max(0, self._most - total - spare)
        self.disk.removed.clear()
        self.cull()
        gone = list(self.disk.removed)
        return gone, self.volume() + total <= self._most + spare  # large bodies may have grown meanwhile

    def has_room(self, need: int, rows: int = 0) -> bool:
        """Whether `need` bytes and `rows` rows more fit."""
        return self.volume() + need + rows * _OVERHEAD <= self._most

    def correct_size(self) -> None:
        """Sums up the bodies' sizes anew. Reads every row, so it is for when the sum is likely to be wrong."""
        self._sql("UPDATE Settings SET value = (SELECT COALESCE(SUM(size), 0) FROM Cache) WHERE key = 'size'")

    def give_back(self, pages: int, *, keep: bool = False) -> int:
        """Lets the file system have at most so many pages that removed rows left; how many that were.

        `keep`: an eighth of all pages, and a mebibyte, stay for the rows that come next.
        """
        ((free,),) = self._sql("PRAGMA freelist_count").fetchall()
        if keep:
            ((count,),) = self._sql("PRAGMA page_count").fetchall()
            free = max(0, free - max(256, count // 8))
        pages = min(pages, int(free))
        if pages:
            # as a script, for only that steps through all pages: `execute` stops after the first
            self._con.executescript(f"PRAGMA incremental_vacuum({pages})")
            self.shorten_journal(0)  # only with this does the file itself become shorter
        return pages

    def shorten_journal(self, limit: int) -> None:
        """Empties the journal into the database if it is over `limit` bytes; another process that reads may put it off."""
        with contextlib.suppress(OSError):
            if os.stat(self._journals[0]).st_size > limit:
                self._sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
