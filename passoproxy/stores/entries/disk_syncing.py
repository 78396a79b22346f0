"""Making durable what was stored: bodies and rows together, a moment after they became visible.

Both are in the system's hands by then, so a killed process loses nothing. What a power cut takes in that moment is told by the hashes, and
is a miss.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from passoproxy.stores.entries.background import Background
from passoproxy.stores.entries.disk_rows import DATABASE, JOURNALS
from passoproxy.stores.entries.guarded_disk import BODIES

SYNC_SECONDS = 0.5
_ONE_BY_ONE = 16
"""With more new bodies than this, one sync of the file system is cheaper than one for each."""


class Syncing(Background):
    """Runs for one cache folder from the moment it is made; syncs what is left when it is stopped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unsynced: list[str] = []
        self._is_due = False
        self._lock = threading.Lock()
        super().__init__("cache-syncing")
        self.start()

    def note(self, names: Sequence[str]) -> None:
        """Something was written: these bodies, and rows."""
        with self._lock:
            self._unsynced.extend(names)
            self._is_due = True
        self.ask()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait()
            self._wake.clear()
            self._stopping.wait(SYNC_SECONDS)  # what else is stored meanwhile is synced with it
            self.sync()
        self.sync()

    def sync(self) -> None:
        """Makes all that was noted durable; what cannot be synced is left to the system."""
        with self._lock:
            names, self._unsynced = self._unsynced, []
            is_due, self._is_due = self._is_due, False
        if not is_due:
            return
        with contextlib.suppress(OSError):
            if len(names) > _ONE_BY_ONE and _sync_all(self._folder):
                return
        paths = [self._folder / BODIES / name for name in names]
        for path in (*paths, *{path.parent for path in paths}, self._folder / JOURNALS[0]):
            with contextlib.suppress(OSError):
                _sync(path)


def _sync(path: Path) -> None:
    """Flushes one file or folder; never the database itself, whose locks a second descriptor would drop."""
    assert path.name != DATABASE
    # without waiting: a pipe in the place of a body would not open before its other end does
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _sync_all(folder: Path) -> bool:
    """Flushes the whole file system of `folder`; False where the system has no call for that."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:
        return False
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return bool(call(file) == 0)
    finally:
        os.close(file)
