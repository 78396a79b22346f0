"""Slow work on a cache folder that nobody waits for: making what was stored durable, and sweeping up what a crash left.

Bodies and rows are in the system's hands when an entry becomes visible, so a killed process loses nothing. Against a power cut they are
synced together within a second after; what a cut takes all the same is told by the hashes, and is a miss.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.disk_bodies import Bodies
from passoproxy.stores.entries.disk_database import Database
from passoproxy.stores.entries.disk_rows import DATABASE, JOURNALS, Row
from passoproxy.stores.entries.faults import translated
from passoproxy.stores.entries.names import row_of_body
from passoproxy.stores.entries.shared_page import SharedPage

SYNC_SECONDS = 0.5
SWEEP_SECONDS = 3600.0
_ONE_BY_ONE = 16
"""With more new bodies than this, one sync of the file system is cheaper than one for each."""

_SLICE = 64
_PAUSE = 0.002


class Caretaker:
    """A thread of its own. `sweep_out` has the scribe remove unsound rows, `correct` adds to the sum of the bodies' sizes."""

    def __init__(
        self,
        folder: Path,
        bodies: Bodies,
        page: SharedPage,
        database: Database,
        sweep_out: Callable[[Sequence[int]], None],
        correct: Callable[[int], None],
    ) -> None:
        self._folder, self._bodies, self._page, self._database = folder, bodies, page, database
        self._sweep_out, self._correct = sweep_out, correct
        self._unsynced: list[str] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._sweep_asked = threading.Event()
        self._swept_at = 0.0
        self._thread = threading.Thread(target=self._run, name="cache-caretaker", daemon=True)

    def start(self) -> None:
        """Begins, with a sweep."""
        self._sweep_asked.set()
        self._thread.start()

    def note(self, names: Sequence[str]) -> None:
        """These bodies were stored and are to be made durable."""
        with self._lock:
            self._unsynced.extend(names)
        self._wake.set()

    def ask_sweep(self) -> None:
        """Something was lost: look through the folder soon."""
        self._sweep_asked.set()
        self._wake.set()

    def stop(self) -> None:
        """Syncs what is left and ends. Blocks."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._sweep_asked.is_set() or time.monotonic() - self._swept_at > SWEEP_SECONDS:
                self._sweep_asked.clear()
                self._swept_at = time.monotonic()
                with contextlib.suppress(OSError, EntryStoreFailure):  # tried again in an hour
                    self.sweep()
            self._wake.wait(60)
            self._wake.clear()
            self._stopping.wait(SYNC_SECONDS)  # what else is stored meanwhile is synced with it
            self.sync()
        self.sync()
        self._database.leave()

    # ---- durability -----------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Makes all that was noted durable; what cannot be synced is left to the system."""
        with self._lock:
            names, self._unsynced = self._unsynced, []
        if not names:
            return
        with contextlib.suppress(OSError):
            if len(names) > _ONE_BY_ONE and _sync_all(self._folder):
                return
        paths = [self._bodies.folder / name for name in names]
        for path in (*paths, *{path.parent for path in paths}, self._folder / JOURNALS[0]):
            with contextlib.suppress(OSError):
                _sync(path)

    # ---- sweeping -------------------------------------------------------------------------------------------------

    def sweep(self) -> bool:
        """Removes what no row names, and rows without a body; then corrects the count of bytes. Raises OSError, EntryStoreFailure.

        One sweep at a time among all processes; False where another one is under way, which is as good.
        """
        folder = os.open(self._bodies.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            self._sweep()
            return True
        finally:
            os.close(folder)

    def _sweep(self) -> None:
        self._page.set_pending(self._sweep_incoming())
        for shard in self._bodies.shards():
            self._sweep_shard(shard)
        self._sweep_rows()

    def _sweep_incoming(self) -> int:
        """Removes bodies that nobody is writing any more; the bytes of those that are being written."""
        total = 0
        for path in self._paused(self._bodies.incoming):
            with self._bodies.claimed(path) as mine, contextlib.suppress(OSError):
                if mine:
                    os.unlink(path)
                else:
                    total += os.stat(path).st_size
        return total

    def _sweep_shard(self, shard: str) -> None:
        with contextlib.suppress(OSError):
            for path in self._paused(self._bodies.folder / shard):
                name = f"{shard}/{path.name}"
                if not self._is_named(name):
                    with self._bodies.claimed(path) as mine:
                        if mine and not self._is_named(name):  # its row may have been committed since
                            os.unlink(path)

    def _is_named(self, body: str) -> bool:
        name = row_of_body(body)
        if name is None:
            return False
        with translated(self._folder):
            row = self._database.rows().named(name)
        return row is not None and row.filename == body

    def _sweep_rows(self) -> None:
        with translated(self._folder):
            before = self._database.rows().body_bytes()
        total, at = 0, 0
        while not self._stopping.is_set():
            with translated(self._folder):
                rows = self._database.rows().after(at, _SLICE)
            if not rows:
                break
            at = rows[-1].rowid
            sizes = [self._body_size(row) for row in rows]
            total += sum(size for size in sizes if size is not None)
            lost = [row.rowid for row, size in zip(rows, sizes, strict=True) if size is None]
            if lost:
                self._sweep_out(lost)
            time.sleep(_PAUSE)
        else:
            return
        with translated(self._folder):
            after = self._database.rows().body_bytes()
        amount = total - max(
            min(total, max(before, after)), min(before, after)
        )  # between the two, it is what happened meanwhile
        if abs(amount) > 1 << 20:
            self._correct(amount)

    def _body_size(self, row: Row) -> int | None:
        if row_of_body(row.filename) != row.name:
            return None
        try:
            return os.stat(self._bodies.folder / row.filename, follow_symlinks=False).st_size
        except OSError:
            return None

    def _paused(self, folder: Path) -> Iterator[Path]:
        """What lies in `folder`, with pauses in which the loop's thread gets its turns; ends early when the store is closed."""
        with os.scandir(folder) as found:
            for count, item in enumerate(found, 1):
                if self._stopping.is_set():
                    return
                if count % _SLICE == 0:
                    time.sleep(_PAUSE)
                yield Path(item.path)


def _sync(path: Path) -> None:
    """Flushes one file or folder; never the database itself, whose locks a second descriptor would drop."""
    assert path.name != DATABASE
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
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
