"""Sweeping up what a crash or damage left in a cache folder: bodies that no row names, rows without a body, wrong sums.

Once at the start, once an hour, and when something was lost; in small steps, so that others get their turns. What is being stored this
moment, by any process, is locked and left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.change_feed import SharedPage
from passoproxy.stores.entries.disk.files import Bodies
from passoproxy.stores.entries.disk.index import Database, Row, translated
from passoproxy.stores.entries.disk.threads import Background
from passoproxy.stores.entries.serialization import row_of_body

SWEEP_SECONDS = 3600.0
_SLICE = 64
_PAUSE = 0.002


class Sweeping(Background):
    """Sweeps at the start, once an hour, and soon after it was asked because something was lost.

    `sweep_out` has the scribe remove unsound rows, `correct` has it sum up the bodies' sizes anew.
    """

    def __init__(
        self,
        folder: Path,
        bodies: Bodies,
        page: SharedPage,
        database: Database,
        sweep_out: Callable[[Sequence[int]], None],
        correct: Callable[[], None],
        on_fault: Callable[[str], None],
    ) -> None:
        self._folder, self._bodies, self._page, self._database = folder, bodies, page, database
        self._sweep_out, self._correct, self._on_fault = sweep_out, correct, on_fault
        super().__init__("cache-sweeping")

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._try_sweep()
            self._wake.wait(SWEEP_SECONDS)
            self._wake.clear()
            self._stopping.wait(1)  # whoever loses one thing mostly loses more
        self._database.leave()

    def _try_sweep(self) -> None:
        try:
            self.sweep()
        except (OSError, EntryStoreFailure):
            pass  # tried again in an hour, or when something else is lost
        except Exception as fault:
            self._on_fault(f"{type(fault).__name__}: {fault}")

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
        self._remove_aside()
        self._page.lower_pending(self._sweep_incoming())
        for shard in self._bodies.shards():
            self._sweep_shard(shard)
        self._sweep_rows()

    def _remove_aside(self) -> None:
        """Removes what a purge of everything set aside, and gives its bytes back as it goes."""
        aside = self._bodies.aside()
        if aside is None:
            return
        for taken in list(self._paused(aside)):
            for shard in list(self._paused(taken)):
                self._remove_shard(shard)
            with contextlib.suppress(OSError):  # ended early, or not a folder
                taken.rmdir()
        with contextlib.suppress(OSError):
            aside.rmdir()

    def _remove_shard(self, shard: Path) -> None:
        removed = 0
        for count, path in enumerate(self._paused(shard), 1):
            with contextlib.suppress(OSError):
                size = os.stat(path, follow_symlinks=False).st_size
                os.unlink(path)
                removed += size
            if count % _SLICE == 0:
                self._page.add_pending(-removed)
                removed = 0
        self._page.add_pending(-removed)
        with contextlib.suppress(OSError):
            shard.rmdir()

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
        amiss = max(total - max(before, after), min(before, after) - total)
        if amiss > max(1 << 20, before // 20):  # more than what was stored and evicted meanwhile makes likely
            self._correct()

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
