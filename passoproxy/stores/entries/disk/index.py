"""What a selector means as a condition of SQL over hints, so that SQLite sifts a million rows in C, without the interpreter's lock.

The same as `hints.judged`, held to it by a test. Rows whose hints are not exact are not met by a condition, they have to be asked one by one.

What the database of entries knows of purges: a log, for answers that were asked for before one, and those that are not carried out yet.

An undone purge is in force from the moment it is written down: the rows that it means and that were stored before it are gone, wherever they lie.
Everything here blocks, and is called within `faults.translated`.

What goes wrong with a folder and a database, told apart by code: a place that cannot be used now, or damage that is thrown away.

A database is thrown away for what it holds, never for a mistake of ours. SQLite's codes for a broken file prove damage, and so does what
`guarded_disk` refuses. Whatever else diskcache stumbles over, or SQLite calls a wrong statement, is only suspected: `disk_database` examines
the file then. An exception that arises in our own code is a fault of ours, and no reason to touch anything.

diskcache's `Disk` with every door shut that we do not use ourselves.

diskcache unpickles whatever a row says is pickled, also under `JSONDisk`, and joins a row's file name to its folder unchecked
(CVE-2025-69872). Here keys are row names, values are sealed entries, a file name is one that we would have given, and pickle is
not reachable: each refusal is `faults.Planted`, which is read as damage.

The table of entries: diskcache's, one row an entry, with the few statements that diskcache has no method for.

Rows are named by `names`, valued by `sealing`, tagged by `hints`; the row's file is the body. Metadata, sizes and eviction are
diskcache's. The only module that knows its tables: held by tests against the pinned version. Everything here blocks, and is called
within `faults.translated`.

Whether a database is one of ours and whole: asked only where something else than SQLite's word for damage speaks against it.

The database's life: opened when first needed, opened anew when its file was replaced or lost, begun anew when damaged.

Any thread may ask for `rows`. What was damaged is removed, not kept aside: it would count into the cache's size, and nothing in a
cache is worth mending.

Going through the rows that a selector may mean, a slice at a time, by an index where there is one.

The purges that are in force and not carried out, as readers and writers see them: which rows are gone although they lie there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Never

import diskcache
from diskcache.core import DBNAME, MODE_RAW, UNKNOWN

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries import serialization
from passoproxy.stores.entries.serialization import (
    BODY_PATTERN,
    MAX_TARGET,
    judged,
    key_name,
    label_of,
    partition_hint,
    range_of,
    text_bytes,
)

Condition = tuple[str, tuple[bytes, ...]]
"""SQL over the columns `tag` and `rowid`, and its parameters."""

EXACT = "(typeof(tag) = 'blob' AND substr(tag, -2) = x'003d')"

_TARGET = "substr(tag, 1, instr(tag, x'00') - 1)"
_BEHIND_TARGET = "substr(tag, instr(tag, x'00') + 1)"
_ROUTE = f"substr({_BEHIND_TARGET}, 1, instr({_BEHIND_TARGET}, x'00') - 1)"
_BEHIND_ROUTE = f"substr({_BEHIND_TARGET}, instr({_BEHIND_TARGET}, x'00') + 1)"
_PARTITION = f"substr({_BEHIND_ROUTE}, 1, 16)"
_TAGS = f"substr({_BEHIND_ROUTE}, 18, length({_BEHIND_ROUTE}) - 19)"
_NEVER: Condition = ("0", ())
_RANGE = "tag >= ? AND tag < ?"
_RANGE_BESIDE = "+tag >= ? AND +tag < ?"


def meant(selector: Selector) -> Condition:
    """The rows that `selector` means for certain. `key` is not looked at."""
    return _NEVER if selector.private else _exact(selector)


def _exact(selector: Selector) -> Condition:
    parts: list[str] = [EXACT]
    given: list[bytes] = []
    if selector.prefix is not None:
        prefix = text_bytes(selector.prefix.removesuffix("*"))
        if b"\0" in prefix or len(prefix) > MAX_TARGET:
            return _NEVER
    for value, expression in ((selector.target, _TARGET), (selector.route, _ROUTE)):
        if value is not None:
            parts.append(f"{expression} = ?")
            given.append(text_bytes(value))
    if selector.partition is not None:
        parts.append(f"{_PARTITION} = ?")
        given.append(partition_hint(selector.partition))
    if selector.tag is not None:
        tag = text_bytes(selector.tag)
        if not tag or b"\0" in tag or b"\x1f" in tag:
            return _NEVER
        parts.append(f"instr(CAST(x'1f' || {_TAGS} || x'1f' AS BLOB), ?) > 0")
        given.append(b"\x1f" + tag + b"\x1f")
    within, bounds = possible(selector)
    return " AND ".join((within, *parts)), (*bounds, *given)


def possible(selector: Selector) -> Condition:
    """The range of the index outside of which nothing lies that `selector` means."""
    span = range_of(selector)
    return ("1", ()) if span is None else (_RANGE, span)


def beside(condition: Condition) -> Condition:
    """The same, so written that SQLite seeks by another condition on the index: of two ranges it would take the wider one as well."""
    text, given = condition
    return text.replace(_RANGE, _RANGE_BESIDE), given


def perhaps(selector: Selector) -> Condition:
    """The rows that have to be asked, because their hints do not tell."""
    within, bounds = possible(selector)
    if not selector.private:
        return f"{within} AND NOT {EXACT}", bounds
    text, given = _exact(selector)
    return f"{within} AND (NOT {EXACT} OR ({text}))", (*bounds, *given)


def not_meant(selector: Selector, purge: int) -> Condition:
    """The rows that were not taken by that purge of `selector`, as far as hints tell."""
    text, given = meant(selector)
    return f"NOT (access_count < {int(purge)} AND {text})", given


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


_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_PROTOCOL,
    }
)

_PROVEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})

_STUMBLES = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError)
"""What diskcache raises over a planted or rotten row or setting."""

_STUMBLERS = os.path.dirname(diskcache.__file__)


class Planted(ValueError):
    """The database holds what nobody wrote."""


class Damaged(EntryStoreFailure):
    """The database is not what we wrote, and has to be begun anew; unless `proven` is False: then it may be so, and has to be examined."""

    def __init__(self, text: str, *, proven: bool = True) -> None:
        super().__init__(text)
        self.proven = proven


class OwnFault(EntryStoreFailure):
    """A mistake in this program, met while it used the database; what is stored is as good as before."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether `error` speaks of what the database holds, and not of the disk or another process being in the way."""
    code = getattr(error, "sqlite_errorcode", None)  # absent where Python itself could not read a column
    if code is None:
        return True
    return code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF not in _AWAY


def is_proven(error: sqlite3.Error) -> bool:
    """Whether SQLite itself says that the file is broken."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF in _PROVEN


def _is_of_diskcache(error: BaseException) -> bool:
    """Whether it was raised within diskcache: by what it had read, then, for we give it what it takes."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at is not None and at.tb_frame.f_code.co_filename.startswith(_STUMBLERS)


@contextlib.contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Lets nothing of sqlite3, diskcache or the system through but as `EntryStoreFailure` or its child `Damaged`."""
    try:
        yield
    except EntryStoreFailure:
        raise
    except diskcache.Timeout as error:
        raise EntryStoreFailure(
            f"{folder}: the cache's database is busy or cannot be written; storing is put off"
        ) from error
    except sqlite3.Error as error:
        if is_damage(error):
            raise Damaged(
                f"{folder}: the cache's database is damaged ({error}); it is begun anew", proven=is_proven(error)
            ) from error
        raise EntryStoreFailure(
            f"{folder}: the cache's database cannot be used now ({error}); see space and rights"
        ) from error
    except OSError as error:
        raise EntryStoreFailure(
            f"{folder}: {error.strerror or error}; see space and rights of the cache's folder"
        ) from error
    except Planted as error:
        raise Damaged(f"{folder}: the cache's database holds what nobody wrote ({error}); it is begun anew") from error
    except _STUMBLES as error:
        if not _is_of_diskcache(error):
            raise OwnFault(
                f"{folder}: a fault in passoproxy itself ({type(error).__name__}: {error}); the cache is kept, please report it"
            ) from error
        raise Damaged(f"{folder}: the cache's database cannot be understood ({error})", proven=False) from error


BODIES = "bodies"


def _refuse(what: str) -> Never:
    raise Planted(f"it holds {what}")


class GuardedDisk(diskcache.Disk):  # type: ignore[misc]
    """Keys are text, values bytes in the row itself; the row's file is the entry's body, which `remove` takes away with the row.

    `removed` collects the names of bodies that went, until whoever uses the disk empties it.
    """

    def __init__(self, directory: str, **_settings: object) -> None:
        super().__init__(directory)
        self.removed: list[str] = []

    def put(self, key: object) -> tuple[str, bool]:
        if type(key) is not str:
            _refuse("a key that is no text")
        return key, True

    def get(self, key: object, raw: object) -> str:
        if not raw or type(key) is not str:
            _refuse("a key that is no text")
        return key

    def store(self, value: object, read: bool, key: Any = UNKNOWN) -> tuple[int, int, str, bytes]:
        if type(value) is not bytes or type(key) is not str or read:
            _refuse("a value that is no sealed entry")
        label = label_of(key, value)
        return label.size, MODE_RAW, label.filename, value

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> bytes:
        if mode != MODE_RAW or type(value) is not bytes or read:
            _refuse("a value of a kind that we do not write")
        return value

    def filename(self, key: object = UNKNOWN, value: object = UNKNOWN) -> Never:
        _refuse("a value that asks for a file of its own")

    def remove(self, file_path: object) -> None:
        """Takes a body away. A name that is not ours names nothing; never leaves the folder, never follows a link."""
        if type(file_path) is not str or not BODY_PATTERN.fullmatch(file_path):
            return
        self.removed.append(file_path)
        shard, _, name = file_path.partition("/")
        with contextlib.suppress(OSError):
            folder = os.open(
                os.path.join(self._directory, BODIES, shard),
                os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
            )
            try:
                os.unlink(name, dir_fd=folder)
            finally:
                os.close(folder)


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


_TABLES = {
    "Cache": {"rowid", "key", "raw", "access_time", "access_count", "tag", "size", "mode", "filename", "value"},
    "Settings": {"key", "value"},
    "Purges": {"id", "at", "selector"},
    "Undone": {"id", "selector", "remaining"},
}
_COUNTS = ("count", "size")


def is_sound(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with the file at `path`, and the tables are as `disk_rows` makes them. Takes seconds where much is stored."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=10)) as db:
            return _has_our_shape(db) and db.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
    except sqlite3.Error as error:
        return not is_proven(error)  # busy, no memory, no rights: nothing was found


def _has_our_shape(db: sqlite3.Connection) -> bool:
    for table, columns in _TABLES.items():
        found = {name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,))}
        if not columns <= found:
            return False
    counts = dict(db.execute("SELECT key, value FROM Settings WHERE key IN (?, ?)", _COUNTS).fetchall())
    triggers = db.execute("SELECT COUNT(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'Cache'").fetchone()
    return all(type(counts.get(name)) is int and counts[name] >= 0 for name in _COUNTS) and triggers[0] == 5


_LOCK = "lock"
_EXAMINED_AGAIN = 60.0
"""Seconds within which a database that was found sound is not examined again."""


class Database:
    """The database of one folder, for all threads of this process. Raises `EntryStoreFailure` while it cannot be used."""

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        patience: float,
        more: Callable[[], int],
        make_folders: Callable[[], None],
        on_new: Callable[[], None],
    ) -> None:
        """`more` tells what else counts into `max_bytes`; `on_new` is told when a database was begun in place of another."""
        self._folder, self._max_bytes, self._patience, self._more = folder, max_bytes, patience, more
        self._make_folders, self._on_new = make_folders, on_new
        self._path = folder / DATABASE
        self._changing = threading.RLock()
        self._rows: Rows | None = None
        self._file = (0, 0)
        self._mine = threading.local()
        self._found_sound, self._examined_at = (0, 0), 0.0

    def rows(self) -> Rows:
        """The open database, as this thread may use it."""
        rows = self._rows
        if rows is None or self._file_there() != self._file:
            rows = self._opened(rows)
        mine: Rows | None = getattr(self._mine, "rows", None)
        if mine is not rows:
            self.leave()
            self._mine.rows = rows
        return rows

    def is_current(self, rows: Rows) -> bool:
        """Whether it is the database that lies in the folder; else what was met in it tells nothing of the one that does."""
        return rows is self._rows and self._file_there() == self._file

    def condemn(self, rows: Rows, damage: Damaged) -> None:
        """Throws a damaged database away, unless someone has done so already, and begins another. Raises EntryStoreFailure.

        Damage that is only suspected is looked for first; OwnFault where there is none.
        """
        with self._changing:
            if self.is_current(rows):
                self._examine(damage)
        self.replace(rows)

    def replace(self, rows: Rows) -> None:
        """Throws the database away, unless someone has done so already, and begins another, if need be later. Raises EntryStoreFailure."""
        with self._changing:
            if self.is_current(rows):
                with self._alone(), translated(self._folder):
                    self._remove()
            # what cannot be made now is made by whoever asks for it when it can be
            with contextlib.suppress(EntryStoreFailure):
                self._opened(rows)
        self._on_new()

    def leave(self) -> None:
        """Closes this thread's connection; the next `rows` makes another."""
        mine: Rows | None = getattr(self._mine, "rows", None)
        if mine is not None:
            with contextlib.suppress(Exception):  # what cannot be closed properly is let go all the same
                mine.close()
            self._mine.rows = None

    def _file_there(self) -> tuple[int, int]:
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return (0, 0)
        return there.st_dev, there.st_ino

    def _opened(self, seen: Rows | None) -> Rows:
        with self._changing:
            if self._rows is not seen and self._rows is not None and self._file_there() == self._file:
                return self._rows
            replaced = self._rows is not None
            self.leave()
            self._rows = None
            with translated(self._folder):
                self._make_folders()
            with self._alone():
                try:
                    rows = self._open()
                except Damaged as damage:
                    self._examine(damage)
                    replaced = True
                    with translated(self._folder):
                        self._remove()
                    rows = self._open()
            self._rows = rows
            self._mine.rows = rows
        if replaced:
            self._on_new()
        return rows

    def _open(self) -> Rows:
        """Opens or makes the files, private before SQLite writes to them; it gives its journals the same mode."""
        with translated(self._folder):
            self._make_file()
            rows = Rows(self._folder, self._max_bytes, self._patience, self._more)
            rows.volume()
            self._file = self._file_there()
            return rows

    def _make_file(self) -> None:
        """An existing file is not opened here: closing it would drop the locks that SQLite holds on it for this process."""
        with contextlib.suppress(FileNotFoundError):
            mode = os.stat(self._path, follow_symlinks=False).st_mode
            if stat.S_ISREG(mode):
                if mode & 0o777 != 0o600:
                    os.chmod(self._path, 0o600)
                return
            os.unlink(self._path)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(file, 0o600)
        finally:
            os.close(file)

    def _examine(self, damage: Damaged) -> None:
        """Returns where there is damage; else the fault is ours, and nothing may be thrown away for it."""
        if damage.proven:
            return
        there, now = self._file_there(), time.monotonic()
        if self._found_sound != there or now - self._examined_at > _EXAMINED_AGAIN:
            if not is_sound(self._path):
                return
            self._found_sound, self._examined_at = there, now
        raise OwnFault(f"{damage}; nothing is wrong with the file, so it is kept: please report this") from damage

    def _remove(self) -> None:
        for name in (DATABASE, *JOURNALS):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._folder / name)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time opens or replaces the database."""
        try:
            lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EntryStoreFailure(
                f"{self._folder}: {error.strerror}; see space and rights of the cache's folder"
            ) from error
        try:
            os.fchmod(lock, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


HINTS = 1000
"""Hints sifted at once: about a millisecond."""

ROWS = 50
"""Rows taken up at once: a few milliseconds to open or remove."""


class Sifting:
    """One way through the table. `done` once nothing is left; what a selector means is only certain when the entry was asked."""

    def __init__(self, selector: Selector) -> None:
        self._selector = selector
        self.done = self._ended = False
        span = range_of(selector)
        self._by_key = selector.key is not None
        self._by_hints = not self._by_key and selector != Selector()
        self._hints: bytes = span[0] if span else b""
        self._end: bytes | None = span[1] if span else None
        self._rowid = 0
        self._waiting: list[int] = []

    def rowids(self, rows: Rows) -> list[int]:
        """Where the next rows lie, at most `ROWS`; may be empty before it is done."""
        if not self._waiting:
            self._waiting = self._next(rows)
        slice_, self._waiting = self._waiting[:ROWS], self._waiting[ROWS:]
        self.done = self._ended and not self._waiting
        return slice_

    def rows(self, rows: Rows) -> list[Row]:
        """The next rows, at most `ROWS`; may be empty before it is done."""
        return [row for rowid in self.rowids(rows) if (row := rows.at(rowid)) is not None]

    def _next(self, rows: Rows) -> list[int]:
        if self._by_key:
            self._ended = True
            return [row.rowid for row in rows.of_key(key_name(self._selector.key or ""))]
        if not self._by_hints:
            found = rows.rowids_after(self._rowid, HINTS)
            self._ended = len(found) < HINTS
            self._rowid = found[-1] if found else self._rowid
            return found
        pairs = rows.hints_after(self._hints, self._rowid, self._end, HINTS)
        self._ended = len(pairs) < HINTS
        if pairs:
            self._hints, self._rowid = pairs[-1]
        return sorted(rowid for hints, rowid in pairs if judged(self._selector, hints) is not False)


class Undones:
    """Purges with their numbers, the oldest first. False where there are none, which is nearly always so."""

    __slots__ = ("purges",)

    def __init__(self, purges: Sequence[tuple[int, Selector]] = ()) -> None:
        self.purges = purges

    @classmethod
    def of(cls, rows: Rows) -> Undones:
        """Those that the database holds. Blocks."""
        return cls([(each.number, serialization.decode_purge(each.selector)) for each in rows.purging.undone()])

    def __bool__(self) -> bool:
        return bool(self.purges)

    def means(self, row: Row, entry: Entry) -> bool:
        """Whether one of them means the entry in `row`: it is gone then."""
        return self.taker(row, entry) > 0

    def taker(self, row: Row, entry: Entry) -> int:
        """The number of the purge that took the entry in `row`, 0 if none did."""
        taken = (number for number, selector in self.purges if row.stored_after < number and selector.matches(entry))
        return next(taken, 0)


NONE = Undones()
