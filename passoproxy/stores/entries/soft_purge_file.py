"""Soft purges as a file in the state folder, beside the secret that proves entries to be ours: who loses that folder loses both.

So no loss of files makes fresh again what was purged. Several processes may share the file; it is replaced whole, under a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.soft_purges import SoftPurge, SoftPurges
from passoproxy.errors import EntryStoreFailure

NAME = "soft_purges.json"
_VERSION = 1
_PARTS = ("target", "prefix", "route", "tag", "key", "partition")
_LARGEST = 16 * 1024 * 1024


class SoftPurgeFile:
    """The file in `folder`. Its calls do not hold up the loop, `load` excepted, which is for the start."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._seen: tuple[int, int, int] | None = None

    def load(self, now: float) -> SoftPurges:
        """What is in force. A file that cannot be read means everything that was asked for until `now`: a purge must not be lost."""
        self._seen = self._stamp()
        try:
            with self._path.open("rb") as file:
                return SoftPurges(_decoded(file.read(_LARGEST)))
        except FileNotFoundError:
            return SoftPurges()
        except (OSError, ValueError, RecursionError):
            return SoftPurges([SoftPurge(Selector(), now)])

    async def add(self, purge: SoftPurge) -> SoftPurges:
        """Those in force with one more, durable when it returns. Raises EntryStoreFailure, and then nothing has changed."""
        return await asyncio.to_thread(self._add, purge)

    async def changed(self, now: float) -> SoftPurges | None:
        """Those in force where another process has changed them since they were last read, else None."""
        return await asyncio.to_thread(lambda: self.load(now) if self._stamp() != self._seen else None)

    def _add(self, purge: SoftPurge) -> SoftPurges:
        try:
            with self._locked():
                found = self.load(purge.at).having(purge)
                self._write(_encoded(found))
                self._seen = self._stamp()
                return found
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


def _encoded(purges: SoftPurges) -> bytes:
    listed = [[purge.at, *(getattr(purge.selector, part) for part in _PARTS)] for purge in purges.kept]
    return json.dumps({"version": _VERSION, "purges": listed}, separators=(",", ":")).encode("ascii")


def _decoded(data: bytes) -> Iterator[SoftPurge]:
    """Raises ValueError for what `_encoded` has not made."""
    document = json.loads(data)
    purges = document.get("purges") if isinstance(document, dict) and document.get("version") == _VERSION else None
    if not isinstance(purges, list):
        raise ValueError("another version, or none")
    for each in purges:
        at, *parts = each if isinstance(each, list) else (None,)
        if not isinstance(at, int | float) or len(parts) != len(_PARTS):
            raise ValueError("no soft purge")
        if not all(part is None or isinstance(part, str) for part in parts):
            raise ValueError("no selector")
        yield SoftPurge(Selector(**dict(zip(_PARTS, parts, strict=True))), float(at))
