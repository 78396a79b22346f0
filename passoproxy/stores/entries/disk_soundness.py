"""Whether a database is one of ours and whole: asked only where something else than SQLite's word for damage speaks against it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from passoproxy.stores.entries.faults import is_proven

_COLUMNS = {
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
    for table, columns in _COLUMNS.items():
        found = {name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,))}
        if not columns <= found:
            return False
    counts = dict(db.execute("SELECT key, value FROM Settings WHERE key IN (?, ?)", _COUNTS).fetchall())
    triggers = db.execute("SELECT COUNT(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'Cache'").fetchone()
    return all(type(counts.get(name)) is int and counts[name] >= 0 for name in _COUNTS) and triggers[0] == 5
