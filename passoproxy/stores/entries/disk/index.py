"""The index of a cache folder: a database of our own (`index.db`) that says which entries there are, what a selector means and what was purged.

    entry    one row an entry; `name` is that of its value in diskcache (`database`) and begins with its primary key's
    tag      the tags of each entry
    purge    one row a purge, in force for all processes once it is committed
    total    number of entries and bytes in body files, kept by triggers

`asked_seq` is the sequence of the last purge that the entry was checked against. A purge that is in force hides every entry with a lower
`asked_seq` that its selector matches; rows that are hidden are deleted later (`recovery`). All methods block and raise sqlite3.Error.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import diskcache
from diskcache.core import DBNAME, MODE_RAW

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.soft_purge import MOST_KEPT, SoftPurge, SoftPurges
from passoproxy.stores.entries.serialization import (
    BODY_PATTERN,
    body_name,
    decode_purge,
    encode_purge,
    key_name,
    text_bytes,
)

INDEX, VALUES = "index.db", DBNAME
DATABASES = (INDEX, VALUES)
VERSION = 2
PAGE_BYTES = 4096
INLINE_BYTES = 32 * 1024
"""A body of at most so many bytes lies in the value, behind the head; a longer one in a file."""

_CUT_SECONDS = 0.1
_UNKNOWN = 1 << 62
"""Free bytes of a file system that tells nothing of itself, as some in user space."""

_KEPT_PURGES = 1000
COUNTED_SECONDS = 60.0
"""The time in which a process counts the rows that its purge hides."""

_MOST_COUNTED = 100
"""Purges in force that a count leaves out; select knows all of them. SQLite bounds the depth of an expression."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, target BLOB NOT NULL, route BLOB NOT NULL, partition BLOB NOT NULL,
    private INTEGER NOT NULL, asked_seq INTEGER NOT NULL, used_at REAL NOT NULL, size INTEGER NOT NULL, digest TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS entry_target ON entry (target);
CREATE INDEX IF NOT EXISTS entry_used_at ON entry (used_at);
CREATE TABLE IF NOT EXISTS tag (
    tag BLOB NOT NULL, entry INTEGER NOT NULL REFERENCES entry ON DELETE CASCADE, PRIMARY KEY (tag, entry)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tag_entry ON tag (entry);
CREATE TABLE IF NOT EXISTS purge (
    sequence INTEGER PRIMARY KEY, selector BLOB NOT NULL, soft INTEGER NOT NULL, time REAL NOT NULL, swept INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS total (id INTEGER PRIMARY KEY CHECK (id = 1), entries INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT OR IGNORE INTO total VALUES (1, 0, 0);
CREATE TRIGGER IF NOT EXISTS entry_stored AFTER INSERT ON entry BEGIN
    UPDATE total SET entries = entries + 1, bytes = bytes + iif(NEW.size > INLINE, NEW.size, 0); END;
CREATE TRIGGER IF NOT EXISTS entry_removed AFTER DELETE ON entry BEGIN
    UPDATE total SET entries = entries - 1, bytes = bytes - iif(OLD.size > INLINE, OLD.size, 0); END;
""".replace("INLINE", str(INLINE_BYTES))
_COLUMNS = {
    "entry": "id, name, target, route, partition, private, asked_seq, used_at, size, digest",
    "tag": "tag, entry",
    "purge": "sequence, selector, soft, time, swept",
    "total": "entries, bytes",
}

_VALUES = f"""
SELECT entry.id, CAST(entry.name AS TEXT), CAST(entry.asked_seq AS INTEGER), Cache.value FROM entry
LEFT JOIN diskcache.Cache ON Cache.key = entry.name AND Cache.raw = 1 AND Cache.mode = {MODE_RAW}
WHERE entry.name >= ? AND entry.name < ? LIMIT ?
"""  # noqa: S608
"""Rows of a key with their values, over both databases: diskcache's own `get` costs as much again for each value."""

_ADDED_UP = f"COUNT(*), COALESCE(SUM(size) FILTER (WHERE size > {INLINE_BYTES}), 0)"

Condition = tuple[str, tuple[object, ...]]
"""SQL over the columns of `entry`, and its parameters."""


class Row(NamedTuple):
    """One row of the table `entry`, as far as it is needed to find value and body."""

    id: int
    name: str
    asked_seq: int
    used_at: float
    size: int
    digest: str

    @property
    def body(self) -> str:
        """The name of the entry's body file; '' if the body lies in the value."""
        return body_name(self.name, self.digest) if self.size > INLINE_BYTES else ""


_ROW = ", ".join(Row._fields)
_ROW_TYPES = (int, str, int, float, int, str)


def _row(found: tuple[Any, ...]) -> Row:
    """A row as it was read; one that this program cannot have written gets a name that no value and no body has."""
    row = Row(*found)
    is_ours = tuple(map(type, found)) == _ROW_TYPES and BODY_PATTERN.fullmatch(body_name(row.name, row.digest))
    return row if is_ours else Row(row.id, "", 0, 0.0, 0, "")


def _text(data: bytes) -> str:
    return data.decode("latin-1")  # damaged text must not stop a query; ours is ASCII


class Purge(NamedTuple):
    """A purge that is in force and whose rows are not all deleted yet."""

    sequence: int
    selector: Selector


def is_hidden(purges: Sequence[Purge], asked_seq: int, entry: Entry) -> bool:
    """Whether one of `purges` removed an entry with that `asked_seq`."""
    return any(asked_seq < purge.sequence and purge.selector.matches(entry) for purge in purges)


def condition(selector: Selector) -> Condition:
    """What `Selector.matches` says, in SQL."""
    parts: list[str] = []
    given: list[object] = []
    for column in ("target", "route", "partition"):
        if (value := getattr(selector, column)) is not None:
            parts.append(f"{column} = ?")
            given.append(text_bytes(value))
    if selector.prefix is not None:
        start = text_bytes(selector.prefix.removesuffix("*"))
        parts.append("target >= ? AND target < ?")
        given += [start, start + b"\xff"]  # no text encodes to a byte as high
    if selector.tag is not None:
        parts.append("id IN (SELECT entry FROM tag WHERE tag = ?)")
        given.append(text_bytes(selector.tag))
    if selector.key is not None:
        parts.append("name >= ? AND name < ?")
        given += _span(selector.key)
    if selector.private:
        parts.append("private")
    return " AND ".join(parts) or "1", tuple(given)


def _span(key: str) -> tuple[str, str]:
    name = key_name(key)
    return f"{name}.", f"{name}/"


class Index:
    """One thread's connection, with the values of the same folder in diskcache."""

    def __init__(self, folder: Path, values: diskcache.Cache, patience: float, journal_pages: int) -> None:
        """`patience` is how many seconds another process that writes is waited for."""
        self.values, self._folder, self._patience = values, folder, patience
        self._files = [folder / f"{name}{end}" for name in DATABASES for end in ("", "-wal", "-shm")]
        self._values_db: sqlite3.Connection | None = None
        self._is_attached = False
        self._db = sqlite3.connect(folder / INDEX, timeout=patience, isolation_level=None, check_same_thread=False)
        self._db.text_factory = _text
        self._sql = self._db.execute
        try:
            if self._one("PRAGMA page_count") == (0,):
                self._sql(
                    "PRAGMA auto_vacuum = INCREMENTAL"
                )  # which writes, so that it must not be set where nothing can be written
            self._db.executescript(
                f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -1024;"
                f"PRAGMA mmap_size = 0; PRAGMA trusted_schema = 0; PRAGMA cell_size_check = 1; PRAGMA foreign_keys = 1;"
                f"PRAGMA wal_autocheckpoint = {journal_pages}; PRAGMA journal_size_limit = {journal_pages * PAGE_BYTES};"
            )
        except BaseException:
            self._db.close()
            raise

    def be_impatient(self) -> None:
        """Waits for no other process from now on."""
        if self._patience:
            self._patience = 0.0
            self._sql("PRAGMA busy_timeout = 0")
            self.values.reset("sqlite_busy_timeout", 0, update=False)  # of this thread's connection

    def close(self) -> None:
        self._db.close()
        if self._values_db is not None:
            self._values_db.close()
        self.values.close()  # diskcache's connection of this thread

    # ---- the file ------------------------------------------------------------------------------------------------------

    def make_tables(self) -> bool:
        """Makes the tables in a new file; whether they are all there, with the columns of this version."""
        try:
            if self._one("PRAGMA user_version") == (0,):
                with self.transaction():
                    for statement in _SCHEMA.split(";\n"):
                        self._sql(statement)
                    self._sql(f"PRAGMA user_version = {VERSION}")
            for table, columns in _COLUMNS.items():
                self._sql(f"SELECT {columns} FROM {table} LIMIT 0")  # noqa: S608  # only our own text
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
            return False
        return self._one("PRAGMA user_version") == (VERSION,)

    def is_sound(self) -> bool:
        """Whether SQLite finds nothing wrong with the file. Takes seconds if much is stored."""
        return self._sql("PRAGMA quick_check(1)").fetchall() == [("ok",)]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes within become visible at once, or none does."""
        self._sql("BEGIN IMMEDIATE")
        try:
            yield
            if self._db.in_transaction:
                self._sql("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._sql("ROLLBACK")
            raise

    def roll_back(self) -> None:
        """Ends the transaction without its changes."""
        self._sql("ROLLBACK")

    # ---- reading ---------------------------------------------------------------------------------------------------------

    def _one(self, statement: str, *given: object) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self._sql(statement, given).fetchone()
        return found

    def variants(self, key: str) -> list[Row]:
        """The rows of a primary key."""
        return list(self._rows("name >= ? AND name < ?", _span(key)))

    def values_of(self, key: str, most: int = -1) -> list[tuple[int, str, int, object]] | None:
        """Id, name, `asked_seq` and value of each row of a primary key; None if there are more than `most`. Nothing is proven of them, if not by
        the value.
        """
        found = self._values(key_name(key), most + 1 if most >= 0 else -1)
        return None if 0 <= most < len(found) else found

    def lone_value(self, name: str) -> object:
        """The value of that row; None if there is no such row, or its primary key has others too."""
        found = self._values(name.partition(".")[0], 2)
        return found[0][3] if len(found) == 1 and found[0][1] == name else None

    def _values(self, key_name: str, most: int) -> list[tuple[int, str, int, object]]:
        # Not for a thread that writes: its transactions would lock diskcache's database too.
        if not self._is_attached:
            self._sql("ATTACH ? AS diskcache", (str(self._folder / VALUES),))
            self._is_attached = True
            self._sql("PRAGMA diskcache.cache_size = -1024")
        return self._sql(_VALUES, (f"{key_name}.", f"{key_name}/", most)).fetchall()

    def find(self, name: str) -> Row | None:
        """The row of that name."""
        return next(self._rows("name = ?", (name,)), None)

    def rows(self, ids: Sequence[int]) -> list[Row]:
        """Those of the rows that still exist."""
        return list(self._rows("id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),)))

    def after(self, id_: int, most: int) -> list[Row]:
        """The next rows by id."""
        return list(self._rows("id > ? ORDER BY id LIMIT ?", (id_, most)))

    def least_used(self, most: int) -> list[Row]:
        """The rows that were not used for longest."""
        return list(self._rows("1 ORDER BY used_at LIMIT ?", (most,)))

    def _rows(self, where: str, given: tuple[object, ...]) -> Iterator[Row]:
        return map(_row, self._sql(f"SELECT {_ROW} FROM entry WHERE {where}", given))  # noqa: S608

    def totals(self) -> tuple[int, int]:
        """How many rows there are, and the bytes of all body files."""
        found = self._sql("SELECT CAST(entries AS INTEGER), CAST(bytes AS INTEGER) FROM total").fetchone()
        entries, size = found or (0, 0)
        return max(0, entries), max(0, size)

    def totals_are_right(self) -> bool:
        """Whether the totals are what the rows add up to. Reads every row."""
        found = self._one(f"SELECT (entries, bytes) = (SELECT {_ADDED_UP} FROM entry) FROM total")  # noqa: S608
        return found == (1,)

    def ids(self, selector: Selector, *visible: Purge, before: int | None = None, most: int = -1) -> array[int]:
        """The rows that `selector` matches: with `asked_seq` below `before`, not hidden by the purges `visible`, at most `most`."""
        where, given = self._where(selector, visible, before)
        found = self._sql(f"SELECT id FROM entry WHERE {where} LIMIT ?", (*given, most))  # noqa: S608
        return array("q", (id_ for (id_,) in found))

    def count(self, selector: Selector, *visible: Purge, before: int | None = None) -> int:
        """How many rows `ids` gives."""
        where, given = self._where(selector, visible, before)
        return int(self._one(f"SELECT COUNT(*) FROM entry WHERE {where}", *given)[0])  # noqa: S608

    def by_route(self, names: Iterable[str]) -> dict[str, int]:
        """How many rows these routes have. Reads every row."""
        found = dict(self._sql("SELECT route, COUNT(*) FROM entry GROUP BY route"))
        return {name: int(found.get(text_bytes(name), 0)) for name in names}

    def _where(self, selector: Selector, visible: Sequence[Purge], before: int | None) -> Condition:
        where, given = condition(selector)
        if before is not None:
            where, given = f"{where} AND asked_seq < ?", (*given, before)
        for purge in visible[:_MOST_COUNTED]:
            hidden, more = condition(purge.selector)
            where, given = f"{where} AND NOT (asked_seq < ? AND {hidden})", (*given, purge.sequence, *more)
        return where, given

    # ---- changing, within a transaction -----------------------------------------------------------------------------------

    def insert(self, name: str, entry: Entry, asked_seq: int) -> None:
        """A row for `entry`, whose body is complete. There must be none of that name."""
        found = self._sql(
            "INSERT INTO entry (name, target, route, partition, private, asked_seq, used_at, size, digest)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (name, *_described(entry), asked_seq, time.time(), entry.size, entry.digest),
        )
        self._insert_tags(found.lastrowid, entry)

    def rewrite(self, row: Row, entry: Entry, asked_seq: int) -> None:
        """The row describes `entry` from now on; the body stays."""
        self._sql(
            "UPDATE entry SET target = ?, route = ?, partition = ?, private = ?, asked_seq = ? WHERE id = ?",
            (*_described(entry), asked_seq, row.id),
        )
        self._sql("DELETE FROM tag WHERE entry = ?", (row.id,))
        self._insert_tags(row.id, entry)

    def _insert_tags(self, id_: int | None, entry: Entry) -> None:
        if entry.tags:
            tags = [(text_bytes(tag), id_) for tag in dict.fromkeys(entry.tags)]
            self._db.executemany("INSERT OR IGNORE INTO tag VALUES (?, ?)", tags)

    def remove(self, ids: Iterable[int], before: int | None = None) -> list[Row]:
        """Deletes those of the rows that exist, and have an `asked_seq` below `before`; returns them."""
        where = "id IN (SELECT value FROM json_each(?1)) AND (?2 IS NULL OR asked_seq < ?2)"
        found = self._sql(f"DELETE FROM entry WHERE {where} RETURNING {_ROW}", (json.dumps(list(ids)), before))  # noqa: S608
        return list(map(_row, found.fetchall()))

    def use(self, keys: Iterable[str]) -> None:
        """Notes that these primary keys were asked for just now."""
        now = time.time()
        self._db.executemany(
            "UPDATE entry SET used_at = ? WHERE name >= ? AND name < ?", ((now, *_span(key)) for key in keys)
        )

    def add_up(self) -> None:
        """Corrects the totals."""
        self._sql(f"INSERT OR REPLACE INTO total SELECT 1, {_ADDED_UP} FROM entry")  # noqa: S608

    # ---- purges -------------------------------------------------------------------------------------------------------------

    def log_purge(self, selector: Selector, after: int, soft: SoftPurge | None = None) -> int:
        """Adds a purge with a sequence above `after` and every earlier one, which it returns. Within a transaction."""
        sequence = max(self.last_purge(), after) + 1
        moment = time.time() if soft is None else soft.at
        row = (sequence, encode_purge(selector), soft is not None, moment, soft is not None)
        self._sql("INSERT INTO purge VALUES (?, ?, ?, ?, ?)", row)
        self._sql("DELETE FROM purge WHERE NOT soft AND swept AND sequence <= ?", (sequence - _KEPT_PURGES,))
        return sequence

    def last_purge(self) -> int:
        """The sequence of the last purge, 0 before the first."""
        return int(self._one("SELECT COALESCE(MAX(sequence), 0) FROM purge")[0])

    def purges_since(self, sequence: int) -> list[tuple[Selector, bool]]:
        """Selector and softness of the purges after that one."""
        found = self._sql("SELECT selector, soft FROM purge WHERE sequence > ?", (sequence,)).fetchall()
        return [(decode_purge(selector), bool(soft)) for selector, soft in found]

    def in_force(self) -> list[Purge]:
        """The purges whose rows are not all deleted, the oldest first."""
        found = self._sql("SELECT sequence, selector FROM purge WHERE NOT swept ORDER BY sequence").fetchall()
        return [Purge(sequence, decode_purge(selector)) for sequence, selector in found]

    def to_sweep(self, counted: Iterable[int]) -> list[Purge]:
        """Those of the purges in force whose rows may be deleted: they are `counted`, or so old that their process was killed before."""
        where = "NOT swept AND (sequence IN (SELECT value FROM json_each(?)) OR ABS(time - ?) > ?) ORDER BY sequence"
        given = (json.dumps(list(counted)), time.time(), COUNTED_SECONDS)
        found = self._sql(f"SELECT sequence, selector FROM purge WHERE {where}", given).fetchall()  # noqa: S608
        return [Purge(sequence, decode_purge(selector)) for sequence, selector in found]

    def end_purge(self, sequence: int) -> None:
        """All rows that the purge hides are deleted."""
        self._sql("UPDATE purge SET swept = 1 WHERE sequence = ?", (sequence,))

    def soft_purges(self) -> SoftPurges:
        """The soft purges in force."""
        found = self._sql("SELECT selector, time FROM purge WHERE soft").fetchall()
        return SoftPurges(SoftPurge(decode_purge(selector), moment) for selector, moment in found)

    def merge_soft_purges(self) -> None:
        """Beyond `MOST_KEPT`, the older half becomes one that means everything: more is validated than has to be, and nothing is fresh that was
        purged.
        """
        found = self._sql("SELECT sequence, time FROM purge WHERE soft ORDER BY time").fetchall()
        if len(found) > MOST_KEPT:
            *old, (last, moment) = found[: len(found) // 2]
            self._db.executemany("DELETE FROM purge WHERE sequence = ?", ((sequence,) for sequence, _ in old))
            self._sql(
                "UPDATE purge SET selector = ?, time = ? WHERE sequence = ?", (encode_purge(Selector()), moment, last)
            )

    # ---- room: of this database and of diskcache's, as files ------------------------------------------------------------------

    def _databases(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        # diskcache has no method for these pragmas; a connection of our own needs nothing but the file.
        if self._values_db is None:
            self._values_db = sqlite3.connect(
                self._folder / VALUES, timeout=self._patience, isolation_level=None, check_same_thread=False
            )
        return self._db, self._values_db

    def volume(self) -> int:
        """Bytes of both databases, their journals and all bodies that have a row."""
        total = self.totals()[1]
        for path in self._files:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(path).st_size
        return total

    def free_bytes(self) -> int:
        """Bytes in pages that deleted rows left, for rows to come."""
        return PAGE_BYTES * sum(free for _, free, _ in self._pages())

    def disk_free(self) -> int:
        """Bytes that the file system of the folder can still take."""
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize if found.f_blocks else _UNKNOWN

    def _pages(self) -> Iterator[tuple[sqlite3.Connection, int, int]]:
        """Free pages and all pages of each database."""
        for db in self._databases():
            ((free,),), ((pages,),) = (
                db.execute("PRAGMA freelist_count").fetchall(),
                db.execute("PRAGMA page_count").fetchall(),
            )
            yield db, free, pages

    def give_back(self, most: int, *, keep: bool = False) -> None:
        """Lets the file system have at most so many free pages. `keep`: an eighth of all pages, and half a mebibyte, stay for the rows that come
        next.
        """
        for db, free, pages in self._pages():
            spare = min(most, free - max(128, pages // 8) if keep else free)
            if spare > 0:
                most -= spare
                db.executescript(
                    f"PRAGMA incremental_vacuum({spare})"
                )  # a script steps through all pages, `execute` stops after the first
                self._empty_journal(db)  # only with this does the file become shorter

    def shorten_journals(self, limit: int) -> None:
        """Empties journals of more than `limit` bytes into their databases; another process that reads may put it off."""
        for db, name in zip(self._databases(), DATABASES, strict=True):
            with contextlib.suppress(OSError):
                if os.stat(self._folder / f"{name}-wal").st_size > limit:
                    self._empty_journal(db)

    def _empty_journal(self, db: sqlite3.Connection) -> None:
        """While the journal is cut nobody can write: what takes long is done before, and those who read are not waited for long."""
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        db.execute(f"PRAGMA busy_timeout = {round(1000 * min(self._patience, _CUT_SECONDS))}")
        try:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            db.execute(f"PRAGMA busy_timeout = {round(1000 * self._patience)}")


def _described(entry: Entry) -> tuple[object, ...]:
    return text_bytes(entry.target), text_bytes(entry.route), text_bytes(entry.partition), int(entry.private)
