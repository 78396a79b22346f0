"""Files without a name for the part of a body that memory has no room for: mode 0600, gone with the process whatever ends it.

All disk work is done by one thread, in the order in which it was asked for: so a file is closed after what was begun on it. What is
written where, and when, is the business of `proxy.spool`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from passoproxy.errors import BodyBroken

MOST_BYTES = 512 * 1024 * 1024
MOST_OF_ONE = 64 * 1024 * 1024
LEFT_FREE = 64 * 1024 * 1024
"""Bytes of the disk that are left to others: the pair, above all, may live on it."""


class DiskSpill:
    """Files in the first of `folders` that takes one, `most_bytes` in all and `most_of_one` in each."""

    def __init__(
        self, folders: Sequence[Path], *, most_bytes: int = MOST_BYTES, most_of_one: int = MOST_OF_ONE
    ) -> None:
        self.used_bytes = 0
        """What the files take of the disk, at most."""
        self.most_of_one = most_of_one
        self._folders = folders
        self._most = most_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spill")

    def open(self) -> DiskSpillFile:
        return DiskSpillFile(self)

    def take(self, count: int) -> bool:
        """Whether so many bytes more may be used; then they count as used."""
        if self.used_bytes + count > self._most:
            return False
        self.used_bytes += count
        return True

    def unnamed(self) -> int:
        """The descriptor of a new file. Blocks; raises OSError."""
        for folder in self._folders:
            with contextlib.suppress(OSError):
                return _unnamed_in(folder)
        raise OSError(errno.ENOSPC, "no folder takes a file")

    @property
    def thread(self) -> ThreadPoolExecutor:
        """Where disk work is done."""
        return self._thread


class DiskSpillFile:
    """A ring: a long body that is read while it is written takes no more of the disk than what is not read yet, `most_of_one` at most."""

    def __init__(self, spill: DiskSpill) -> None:
        self._spill = spill
        self._ring = spill.most_of_one
        self._file: int | None = None
        self._base = self._start = self._end = 0  # offsets in the body; `_base` is at the start of the file
        self._size = 0
        self._closed = False

    async def write(self, at: int, data: bytes) -> bool:
        if self._start == self._end:
            self._start = self._end = at
        if not self._size:
            self._base = at
        if self._closed or at + len(data) - self._start > self._ring:
            return False
        place = (at - self._base) % self._ring
        size = max(self._size, min(place + len(data), self._ring))
        if not self._spill.take(size - self._size):
            return False
        self._size = size
        try:
            await asyncio.get_running_loop().run_in_executor(self._spill.thread, self._write, place, data)
        except OSError:  # no folder, a full or a broken disk: whoever writes waits for readers instead
            return False
        self._end = at + len(data)
        return True

    async def read(self, at: int, most: int) -> bytes:
        place = (at - self._base) % self._ring
        most = min(most, self._end - at, self._ring - place)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._spill.thread, self._read, place, most)
        except OSError as error:
            raise BodyBroken(f"a body's part on disk cannot be read ({error.strerror})") from error

    def trim(self, at: int) -> None:
        self._start = max(self._start, min(at, self._end))

    def close(self) -> None:
        if self._size:
            self._spill.used_bytes -= self._size
            self._size = 0
            self._spill.thread.submit(self._close)
        self._closed = True

    def __del__(self) -> None:
        # Whoever forgets a body keeps neither a descriptor nor room. Nothing is under way in the thread, which would refer to this; and it
        # must not be asked: its locks may be held by whoever this interrupts.
        self._spill.used_bytes -= self._size
        self._close()

    # ---- in the thread ---------------------------------------------------------------------------------------------------

    def _write(self, place: int, data: bytes) -> None:
        if self._file is None:
            self._file = self._spill.unnamed()
        disk = os.fstatvfs(self._file)
        if disk.f_bavail * disk.f_frsize < len(data) + LEFT_FREE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file, view[: self._ring - place], place)
            view, place = view[written:], (place + written) % self._ring

    def _read(self, place: int, most: int) -> bytes:
        data = os.pread(self._file, most, place) if self._file is not None else b""
        if not data:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return data

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _unnamed_in(folder: Path) -> int:
    if hasattr(os, "O_TMPFILE"):
        with contextlib.suppress(OSError):  # not every file system can (open(2))
            return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_EXCL | os.O_CLOEXEC, 0o600)
    file, name = tempfile.mkstemp(dir=folder, prefix=".spill-")
    os.unlink(name)
    return file
