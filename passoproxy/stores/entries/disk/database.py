"""Opening, checking and replacing the databases of a cache folder: our index and diskcache's values, which live and die together.

A database is dropped for what it holds, never for a mistake of ours: SQLite's codes for a broken file prove damage; after an error that only may
mean damage, both are opened anew and examined. Nothing in a cache is worth repairing, so what is damaged is removed and begun anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import diskcache
from diskcache.core import MODE_RAW, UNKNOWN

from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.disk.index import DATABASES, PAGE_BYTES, Index
from passoproxy.stores.entries.disk.threads import Reports

T = TypeVar("T")

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
_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_LOCK = "lock"
_LOOKED_AGAIN = 0.05
"""Seconds within which the loop does not look again whether the files are still there."""

_EXAMINED_AGAIN = 60.0
"""Seconds within which databases that were found sound are not examined again."""


class Suspicious(EntryStoreFailure):
    """An error that a damaged database may have caused, or a mistake in this program: the databases have to be examined."""


class Busy(EntryStoreFailure):
    """Another process held a database locked for longer than it was waited for."""


class Damaged(EntryStoreFailure):
    """A database is broken, or not what this program writes."""


@contextlib.contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Translates every error of sqlite3, diskcache and the system to `EntryStoreFailure` or one of its children."""
    try:
        yield
    except EntryStoreFailure:
        raise
    except diskcache.Timeout as error:
        is_busy = getattr(error.__context__, "sqlite_errorcode", 0) & 0xFF in _LOCKED
        raise (Busy if is_busy else EntryStoreFailure)(
            f"{folder}: the cache's database is busy or cannot be written; storing is put off"
        ) from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE)  # Python's own errors have none
        if code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF in _BROKEN:
            raise Damaged(f"{folder}: the cache's database is damaged ({error}); it is begun anew") from error
        if code & 0xFF in _AWAY:
            raise (Busy if code & 0xFF in _LOCKED else EntryStoreFailure)(
                f"{folder}: the cache's database cannot be used now ({error}); see space and rights"
            ) from error
        raise Suspicious(
            f"{folder}: the cache's database gave an error ({error}); the cache is kept, please report it"
        ) from error
    except OSError as error:
        raise EntryStoreFailure(
            f"{folder}: {error.strerror or error}; see space and rights of the cache's folder"
        ) from error
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
        raise Suspicious(
            f"{folder}: a fault in passoproxy itself ({fault}); the cache is kept, please report it"
        ) from error


class RawDisk(diskcache.Disk):  # type: ignore[misc]
    """diskcache's `Disk` for names of ours and bytes alone: what diskcache would unpickle, or open under a name found in a row, is nothing.

    diskcache unpickles a row that says it is pickled and joins a row's file name to its folder unchecked (CVE-2025-69872).
    """

    def __init__(self, directory: str, **_settings: object) -> None:
        super().__init__(directory)

    def put(self, key: object) -> tuple[str, bool]:
        if type(key) is not str:
            raise ValueError("a name is text")
        return key, True

    def get(self, key: object, raw: object) -> str:
        return key if raw and type(key) is str else ""

    def store(self, value: object, read: bool, key: Any = UNKNOWN) -> tuple[int, int, None, bytes]:
        if type(value) is not bytes or read:
            raise ValueError("a value is bytes")
        return 0, MODE_RAW, None, value

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> bytes:
        return value if mode == MODE_RAW and type(value) is bytes and not read else b""

    def filename(self, key: object = UNKNOWN, value: object = UNKNOWN) -> tuple[str, str]:
        raise ValueError("no value has a file of diskcache's")

    def remove(self, file_path: object) -> None:
        """Removes nothing: a row that names a file is none of ours."""


class Database:
    """The databases of one folder, for all threads of this process. Raises EntryStoreFailure while they cannot be used."""

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        patience: float,
        make_folders: Callable[[], None],
        on_new: Callable[[], None],
        reports: Reports,
    ) -> None:
        """`on_new` is called when databases were begun in place of others, with all entries gone."""
        self._folder, self._patience = folder, patience
        self._paths = [os.path.join(folder, name) for name in DATABASES]
        self._journal_pages = max(64, min(1000, max_bytes // 32 // PAGE_BYTES))
        self._make_folders, self._on_new, self._reports = make_folders, on_new, reports
        self._changing = threading.RLock()
        self._values: diskcache.Cache | None = None
        self._files: tuple[tuple[int, int], ...] = ()
        self._mine = threading.local()
        self._is_new = False
        self._examined_at = -_EXAMINED_AGAIN
        self._looked_at = 0.0

    def run(self, work: Callable[[Index], T]) -> T:
        """What `work` returns; where the databases turn out to be damaged or replaced by another process, it runs once more in the new ones."""
        index = self._current()
        try:
            with translated(self._folder):
                return work(index)
        except Damaged as damage:
            self._reports.failed(str(damage), pause=False)
            self.drop(index)
        except Suspicious:
            self._examine(index)
        except EntryStoreFailure:
            if self.is_current(index):
                raise
        with translated(self._folder):
            return work(self._current())

    def run_nowait(self, work: Callable[[Index], T]) -> T | None:
        """The same in a thread that must not wait for others: None if anything is not as it should be. `run` says what."""
        try:
            index: Index | None = getattr(self._mine, "index", None)
            now = time.monotonic()
            if (
                index is None
                or index.values is not self._values
                or (now > self._looked_at and not self.is_current(index))
            ):
                if not self._changing.acquire(blocking=False):
                    return None
                try:
                    if self._values is None or not self._files or self._files_there() != self._files:
                        return None
                    self.leave()
                    index = self._mine.index = self._index(self._values)
                finally:
                    self._changing.release()
            if now > self._looked_at:
                self._looked_at = now + _LOOKED_AGAIN
            index.be_impatient()
            return work(index)
        except Exception:  # a thread meets it again, and tells of it
            return None

    def look_again(self) -> None:
        """Something was removed: the next `run_nowait` looks whether the databases were."""
        self._looked_at = 0.0

    def drop(self, index: Index) -> None:
        """Removes both databases, unless that has been done already, and begins others."""
        with self._changing:
            if self.is_current(index):
                with self._alone(), translated(self._folder):
                    self._remove()
            self.leave()
            with contextlib.suppress(EntryStoreFailure):  # what cannot be made now is made when it is needed
                self._current()
        self._on_new()

    def leave(self) -> None:
        """Closes this thread's connections; the next `run` opens others."""
        index: Index | None = getattr(self._mine, "index", None)
        self._mine.index = None
        if index is not None:
            with contextlib.suppress(Exception):
                index.close()

    def _current(self) -> Index:
        mine: Index | None = getattr(self._mine, "index", None)
        if mine is None or not self.is_current(mine):
            self.leave()
            mine = self._mine.index = self._open()
        return mine

    def is_current(self, index: Index) -> bool:
        """Whether `index` is of the databases that lie in the folder now."""
        return index.values is self._values and self._files_there() == self._files

    def _files_there(self) -> tuple[tuple[int, int], ...]:
        try:
            return tuple((found.st_dev, found.st_ino) for found in map(os.lstat, self._paths))
        except OSError:
            return ()

    def _open(self) -> Index:
        """This thread's connections; opens or makes the databases first if that is not done yet."""
        with self._changing:
            if self._values is not None and self._files and self._files_there() == self._files:
                with translated(self._folder):
                    return self._index(self._values)
            self._is_new, self._values = self._is_new or self._values is not None, None
            with translated(self._folder):
                self._make_folders()
            with self._alone():
                try:
                    index = self._opened()
                except Damaged as damage:
                    self._reports.failed(str(damage), pause=False)
                    self._is_new = True
                    with translated(self._folder):
                        self._remove()
                    index = self._opened()
            is_new, self._is_new = self._is_new, False
        if is_new:
            self._on_new()
        return index

    def _opened(self) -> Index:
        with translated(self._folder):
            if len([name for name in DATABASES if os.path.lexists(self._folder / name)]) == 1:
                self._remove()  # values without an index are of no use, nor the other way round
            for name in DATABASES:
                self._make_file(self._folder / name)
            try:
                values = diskcache.Cache(
                    str(self._folder),
                    timeout=self._patience,
                    disk=RawDisk,
                    eviction_policy="none",
                    cull_limit=0,  # the index says what is evicted
                    statistics=0,
                    tag_index=0,
                    sqlite_journal_mode="wal",
                    sqlite_synchronous=1,
                    sqlite_auto_vacuum=2,  # incremental: full would move pages at every commit of a purge
                    sqlite_cache_size=-1024,  # KiB, of each thread: the system keeps the file
                    sqlite_mmap_size=0,  # a mapped database that is cut short kills the process
                    sqlite_trusted_schema=0,
                    sqlite_cell_size_check=1,
                    sqlite_wal_autocheckpoint=self._journal_pages,
                    sqlite_journal_size_limit=self._journal_pages * PAGE_BYTES,
                )
            except (OSError, sqlite3.Error, diskcache.Timeout):
                raise
            except Exception as error:  # diskcache stumbles over settings that it did not write
                raise Damaged(
                    f"{self._folder}: the cache's database holds what diskcache cannot read; it is begun anew"
                ) from error
            index = self._index(values)
            if not index.make_tables():
                index.close()
                raise Damaged(f"{self._folder}: the cache's index is of another version or not ours; it is begun anew")
            self._values, self._files = values, self._files_there()
            return index

    def _index(self, values: diskcache.Cache) -> Index:
        return Index(self._folder, values, self._patience, self._journal_pages)

    def _examine(self, index: Index) -> None:
        """Makes this thread, and all others, open the databases anew; drops them first if SQLite finds them broken."""
        with self._changing:
            now = time.monotonic()
            if not self.is_current(index):
                return
            if now - self._examined_at >= _EXAMINED_AGAIN:
                self._examined_at = now
                try:
                    with translated(self._folder):
                        if not index.is_sound():
                            raise Damaged(f"{self._folder}: the cache's database is damaged; it is begun anew")
                except Damaged as damage:
                    self._reports.failed(str(damage), pause=False)
                    self.drop(index)
                    return
            self.leave()
            self._values = None
            self._mine.index = self._open()

    def _make_file(self, path: Path) -> None:
        """Makes a database private before SQLite writes to it; SQLite gives journals the same mode.

        An existing file is not opened: closing it would drop the locks that SQLite holds on it for this process.
        """
        with contextlib.suppress(FileNotFoundError):
            mode = os.stat(path, follow_symlinks=False).st_mode
            if stat.S_ISREG(mode):
                if mode & 0o777 != 0o600:
                    os.chmod(path, 0o600)
                return
            os.unlink(path)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(file, 0o600)
        finally:
            os.close(file)

    def _remove(self) -> None:
        for name in DATABASES:
            for end in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._folder / f"{name}{end}")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time opens or replaces the databases."""
        with translated(self._folder):
            lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(lock, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
