"""Purges that the shared store could not be told of yet: in memory, and in a file of the state folder, so that a restart does not lose them.

The file is a log that several processes may append to: `+PURGE` when a purge is owed, `-PURGE` when it was carried out. It is emptied when
nothing is owed any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path

from passoproxy.core.cache.entry import Selector
from passoproxy.stores.entries.serialization import decode_purge, encode_purge

NAME = "owed_purges"
MOST = 1000
"""If more purges are owed, they become one of everything."""


class OwedPurges:
    """`folder` is None for a store without a file. A file that cannot be written raises OSError; the purge is then owed in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / NAME
        self.selectors: list[Selector] = []
        if self._path is not None:
            with contextlib.suppress(OSError):
                self.selectors = [decode_purge(line) for line in _owed(self._path.read_bytes())]

    async def add(self, selector: Selector) -> None:
        """One more; durable when it returns. The first of all may be on its way to the store, so it stands for no other."""
        first, later = self.selectors[:1], self.selectors[1:]
        if selector in later or Selector() in later:
            return  # it is owed already, or one that means it too
        if len(self.selectors) < MOST:
            self.selectors.append(selector)
            await self._append((b"+", selector))
        else:
            self.selectors = [*first, Selector()]
            await self._append((b"+", Selector()), *((b"-", each) for each in later))

    async def carried_out(self, selector: Selector) -> None:
        """The store has it."""
        if selector in self.selectors:
            self.selectors.remove(selector)
        await self._append((b"-", selector))

    async def _append(self, *records: tuple[bytes, Selector]) -> None:
        if self._path is not None:
            data = b"".join(b"\n" + sign + encode_purge(selector) + b"\n" for sign, selector in records)
            await asyncio.shield(asyncio.to_thread(_append, self._path, data))


def _append(path: Path, data: bytes) -> None:
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(file, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        os.write(file, data)
        if not _owed(path.read_bytes()):
            os.ftruncate(file, 0)
        os.fsync(file)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # the file's name
        finally:
            os.close(folder)
    finally:
        os.close(file)


def _owed(log: bytes) -> list[bytes]:
    owed: list[bytes] = []
    for line in log.splitlines():
        if line[:1] == b"+":
            owed.append(
                encode_purge(decode_purge(line[1:]))
            )  # a full disk may have left half of it: that means everything
        elif line[1:] in owed:  # else another process of this folder has carried it out as well
            owed.remove(line[1:])
    return owed
