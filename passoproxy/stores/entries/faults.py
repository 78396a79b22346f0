"""What goes wrong with a folder and a database, told apart by code: a place that cannot be used now, or damage that is thrown away."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import diskcache

from passoproxy.errors import EntryStoreFailure

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

_STUMBLES = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError)
"""What diskcache raises over a planted or rotten row or setting."""


class Damaged(EntryStoreFailure):
    """The database is not what we wrote: it has to be begun anew."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether `error` speaks of what the database holds, and not of the disk or another process being in the way."""
    code = getattr(error, "sqlite_errorcode", None)  # absent where Python itself could not read a column
    if code is None:
        return True
    return code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF not in _AWAY


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
            raise Damaged(f"{folder}: the cache's database is damaged ({error}); it is begun anew") from error
        raise EntryStoreFailure(
            f"{folder}: the cache's database cannot be used now ({error}); see space and rights"
        ) from error
    except OSError as error:
        raise EntryStoreFailure(
            f"{folder}: {error.strerror or error}; see space and rights of the cache's folder"
        ) from error
    except _STUMBLES as error:
        raise Damaged(f"{folder}: the cache's database holds what nobody wrote ({error}); it is begun anew") from error
