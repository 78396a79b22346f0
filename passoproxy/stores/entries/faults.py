"""What goes wrong with a folder and a database, told apart by code: a place that cannot be used now, or damage that is thrown away.

A database is thrown away for what it holds, never for a mistake of ours. SQLite's codes for a broken file prove damage, and so does what
`guarded_disk` refuses. Whatever else diskcache stumbles over, or SQLite calls a wrong statement, is only suspected: `disk_database` examines
the file then. An exception that arises in our own code is a fault of ours, and no reason to touch anything.
"""

from __future__ import annotations

import contextlib
import os
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
