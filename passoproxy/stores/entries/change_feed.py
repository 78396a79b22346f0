"""A page of memory that all processes on a cache folder share: what was changed, without asking the database.

512 words of 8 bytes, of which 16 are a head: magic, generation, events, purges, bytes of bodies that are being written, changes of soft purges, the
number up to which events are being written, the last purge that no database holds, and whether the store was closed in order. The rest is a ring of
the last 496 events. An event is the 48-bit mark of the primary key that it concerns (0: any) and 16 bits for its process
(0: it concerns that process too). Reading is a load from memory; writing takes a file lock.

If another program cuts the file short (`truncate`, a shell's `>`), the system ends every process that touches the page with SIGBUS, and nothing in user space
can prevent that; to read the file instead would cost a system call at every hit. `mend` makes the moment short. To remove or replace the file is harmless.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

SIZE = 4096
_MAGIC = int.from_bytes(b"pxpage3\0", "little")
_MAGIC_AT, _GENERATION, _EVENTS, _PURGES, _PENDING, _SOFTENED, _BEGUN, _OWED, _CLEAN = range(9)
_RING = 16
SLOTS = SIZE // 8 - _RING
ANYTHING = 0
"""The mark of an event that concerns every key."""

PURGED = 1
"""The mark of a purge as such: it concerns what a process holds that is not on disk."""

_UNTOLD = 1000
"""More purges than processes that were killed can have committed without a word: one that is owed has a number above theirs."""

SOFTENED = 2
"""The mark of a soft purge."""


def _reserve(file: int) -> None:
    """Makes the file as long as the page, with its place on the disk: a mapped page that finds none when it is written ends the process."""
    os.posix_fallocate(file, 0, SIZE)


class SharedPage:
    """The page of one folder, made if it is not there. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._origin = secrets.randbelow(0xFFFF) + 1
        self._kept: list[tuple[int, mmap.mmap]] = []
        self._open(floor=0)

    def _open(self, floor: int) -> None:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(file, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX)
            _reserve(file)
            mapped = mmap.mmap(file, SIZE)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        try:
            self._kept.append((file, mapped))
            self._words = memoryview(mapped).cast("Q")
            if self._words[_MAGIC_AT] != _MAGIC:
                self._begin(floor)
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)

    def _begin(self, floor: int) -> None:
        """Numbers start at the time of day in milliseconds: above what an earlier page can have counted to."""
        start = max(time.time_ns() // 1_000_000, floor)
        for at in range(len(self._words)):
            self._words[at] = 0
        self._words[_GENERATION] = self._words[_EVENTS] = self._words[_PURGES] = self._words[_SOFTENED] = start
        self._words[_MAGIC_AT] = _MAGIC

    def renew_if_lost(self) -> bool:
        """Maps the file anew if another one, or none, lies at its path; whether that was so. Raises OSError."""
        with self._lock:
            with contextlib.suppress(OSError):
                there, mine = os.stat(self._path, follow_symlinks=False), os.fstat(self._file)
                if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                    return False
            generation = self._words[_GENERATION]
            self._open(floor=generation + 1)
            self._words[_GENERATION] = max(self._words[_GENERATION], generation + 1)
            return True

    def mend(self) -> bool:
        """Makes a file that was cut short whole again, as a new page; whether it was. Does not touch the page before. Raises OSError."""
        if os.fstat(self._file).st_size >= SIZE:
            return False
        with self._lock:
            _reserve(self._file)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                if self._words[_MAGIC_AT] != _MAGIC:
                    # What had been counted to cannot be read any more: an hour's worth of milliseconds is above it.
                    self._begin(floor=time.time_ns() // 1_000_000 + 3_600_000)
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        return True

    @property
    def generation(self) -> int:
        """Grows whenever something stored was changed or removed."""
        return self._words[_GENERATION]

    @property
    def events(self) -> int:
        """Grows whenever anything at all happened to what is stored."""
        return self._words[_EVENTS]

    @property
    def purges(self) -> int:
        """The number of the last purge."""
        return self._words[_PURGES]

    @property
    def owed(self) -> int:
        """The number of the last purge of everything that could not be written to the database; 0 if there was none."""
        return self._words[_OWED]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was begun since a process closed the store in order."""
        return bool(self._words[_CLEAN])

    @is_clean.setter
    def is_clean(self, clean: bool) -> None:
        if clean != self._words[_CLEAN]:
            self._words[_CLEAN] = clean
            with contextlib.suppress(OSError):
                self._kept[-1][1].flush()  # a power cut must not leave it set

    @property
    def softened(self) -> int:
        """Grows whenever there are other soft purges."""
        return self._words[_SOFTENED]

    @property
    def pending(self) -> int:
        """Bytes of bodies that are being written by all processes."""
        return self._words[_PENDING]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def tell(self, marks: Sequence[int], *, changed: bool, heeded_by_all: bool = False) -> None:
        """Tells of one event for each mark. `changed`: something that was visible is gone or different."""
        origin = 0 if heeded_by_all else self._origin
        with self._alone():
            events = self._words[_EVENTS]
            # Said first: who reads in the midst of it, or after a process was killed here, sees what is not there any more.
            self._words[_BEGUN] = max(self._words[_BEGUN], events + len(marks))
            for mark in marks:
                events = (events + 1) & (2**63 - 1)
                self._words[_RING + events % SLOTS] = mark << 16 | origin
            self._words[_EVENTS] = events
            if changed:
                self._words[_GENERATION] = (self._words[_GENERATION] + 1) & (2**63 - 1)

    def foreign_since(self, seen: int) -> tuple[int, list[int] | None]:
        """The number of the last event, and the marks told by others since event `seen`; None where they are no longer known."""
        words = self._words  # without the lock: a stopped process that holds it must not stop the loop
        events = words[_EVENTS]
        if not 0 <= events - seen < SLOTS:
            return events, None
        slots = [words[_RING + at % SLOTS] for at in range(seen + 1, events + 1)]
        if max(words[_EVENTS], words[_BEGUN]) - seen >= SLOTS:  # the oldest of them were overwritten meanwhile
            return events, None
        marks = [slot >> 16 for slot in slots if slot & 0xFFFF != self._origin]
        return events, None if ANYTHING in marks else marks

    def raise_purges(self, number: int) -> None:
        """Makes `number` the last purge's unless a later one is known."""
        with self._alone():
            self._words[_PURGES] = max(self._words[_PURGES], number)

    def owe(self) -> None:
        """Purges everything without the database, which cannot be written: what was stored before is hidden from now on."""
        with self._alone():
            self._words[_OWED] = self._words[_PURGES] = self._words[_PURGES] + _UNTOLD
        self.tell([PURGED, ANYTHING], changed=True, heeded_by_all=True)

    def make_up(self, purge: int) -> None:
        """Tells of a purge that is committed but that nobody was told of, because its process was killed; nothing if it is known."""
        if purge > self.purges:
            self.raise_purges(purge)
            self.tell([ANYTHING], changed=True, heeded_by_all=True)

    def soften(self) -> None:
        """There are other soft purges."""
        with self._alone():
            self._words[_SOFTENED] = (self._words[_SOFTENED] + 1) & (2**63 - 1)

    def add_pending(self, amount: int) -> None:
        """Counts `amount` more (or, below zero, fewer) bytes that are being written."""
        with self._alone():
            self._words[_PENDING] = max(0, min(2**62, self._words[_PENDING] + amount))

    def lower_pending(self, most: int) -> None:
        """Corrects the count of bytes that are being written, which killed processes leave too high."""
        with self._alone():
            self._words[_PENDING] = min(most, self._words[_PENDING])

    def close(self) -> None:
        """Closes the file. The numbers stay readable, so that a late `generation` does no harm."""
        last = bytes(self._words)
        self._words.release()
        self._words = memoryview(bytearray(last)).cast("Q")
        for file, mapped in self._kept:
            with contextlib.suppress(BufferError):  # an old page that is being read this instant
                mapped.close()
            os.close(file)
        self._kept.clear()
