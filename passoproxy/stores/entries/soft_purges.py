"""Soft purges as a file in the state folder, beside the secret that proves entries to be ours: who loses that folder loses both.

So no loss of files makes fresh again what was purged. Several processes may share the file; it is replaced whole, under a lock. They hear of a
change by the store whose entries it concerns: its number of purges grows when the file has changed, and costs nothing to look at.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.soft_purge import SoftPurge, SoftPurges
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.serialization import decode_soft_purges, encode_soft_purges

NAME = "soft_purges.json"
_LARGEST = 16 * 1024 * 1024
_NEVER = object()
_NOTHING = Selector(key="soft purge")
"""Means no entry: keys are digests. A purge of it tells every process that there is something new."""


class Purging(Protocol):
    """What is asked of the store of the entries."""

    def purges(self) -> int:
        """Grows with every purge, in any process."""
        ...

    async def purge(self, selector: Selector) -> int: ...


class SoftPurgeFile:
    """The file in `folder`. `now` is the moment (epoch seconds) up to which everything counts as purged where it cannot be read."""

    def __init__(self, folder: Path, store: Purging) -> None:
        self._path, self._store = folder / NAME, store
        self._purges = SoftPurges()
        self._number: int | None = None
        self._seen: object = _NEVER

    def current(self, now: float) -> SoftPurges:
        """What is in force, by any process. The file is read where it has changed, which holds up the loop for the time of that."""
        number = self._store.purges()  # before the file is looked at: whoever writes it counts up afterwards
        if number != self._number:
            stamp = self._stamp()
            if stamp != self._seen:
                self._purges, self._seen = self._read(now), stamp
            self._number = number
        return self._purges

    async def add(self, purge: SoftPurge) -> None:
        """One more: durable, and in force in every process, when it returns. Raises EntryStoreFailure where it cannot be kept; then
        nothing has changed.
        """
        await asyncio.to_thread(self._add, purge)
        self._number = None
        await self._store.purge(_NOTHING)

    def _read(self, now: float) -> SoftPurges:
        try:
            with self._path.open("rb") as file:
                return decode_soft_purges(file.read(_LARGEST), now)
        except FileNotFoundError:
            return SoftPurges()
        except OSError:
            return decode_soft_purges(b"", now)

    def _add(self, purge: SoftPurge) -> None:
        try:
            with self._locked():
                self._write(encode_soft_purges(self._read(purge.at).having(purge)))
        except OSError as fault:
            raise EntryStoreFailure(
                f"{self._path}: cannot be written ({fault.strerror}), and nothing was purged; make room or permissions there"
            ) from fault

    def _write(self, data: bytes) -> None:
        temporary = self._path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # A lock of its own, because the file itself is replaced.
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
