"""The database's life: opened when first needed, opened anew when its file was replaced or lost, begun anew when damaged.

Any thread may ask for `rows`. What was damaged is removed, not kept aside: it would count into the cache's size, and nothing in a
cache is worth mending.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.disk_rows import DATABASE, JOURNALS, Rows
from passoproxy.stores.entries.disk_soundness import is_sound
from passoproxy.stores.entries.faults import Damaged, OwnFault, translated

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
