"""diskcache's `Disk` with every door shut that we do not use ourselves.

diskcache unpickles whatever a row says is pickled, also under `JSONDisk`, and joins a row's file name to its folder unchecked
(CVE-2025-69872). Here keys are row names, values are sealed entries, a file name is one that we would have given, and pickle is
not reachable: each refusal is `faults.Planted`, which is read as damage.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Never

import diskcache
from diskcache.core import MODE_RAW, UNKNOWN

from passoproxy.stores.entries.faults import Planted
from passoproxy.stores.entries.names import BODY_PATTERN
from passoproxy.stores.entries.sealing import label_of

BODIES = "bodies"


def _refuse(what: str) -> Never:
    raise Planted(f"it holds {what}")


class GuardedDisk(diskcache.Disk):  # type: ignore[misc]
    """Keys are text, values bytes in the row itself; the row's file is the entry's body, which `remove` takes away with the row.

    `removed` collects the names of bodies that went, until whoever uses the disk empties it.
    """

    def __init__(self, directory: str, **_settings: object) -> None:
        super().__init__(directory)
        self.removed: list[str] = []

    def put(self, key: object) -> tuple[str, bool]:
        if type(key) is not str:
            _refuse("a key that is no text")
        return key, True

    def get(self, key: object, raw: object) -> str:
        if not raw or type(key) is not str:
            _refuse("a key that is no text")
        return key

    def store(self, value: object, read: bool, key: Any = UNKNOWN) -> tuple[int, int, str, bytes]:
        if type(value) is not bytes or type(key) is not str or read:
            _refuse("a value that is no sealed entry")
        label = label_of(key, value)
        return label.size, MODE_RAW, label.filename, value

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> bytes:
        if mode != MODE_RAW or type(value) is not bytes or read:
            _refuse("a value of a kind that we do not write")
        return value

    def filename(self, key: object = UNKNOWN, value: object = UNKNOWN) -> Never:
        _refuse("a value that asks for a file of its own")

    def remove(self, file_path: object) -> None:
        """Takes a body away. A name that is not ours names nothing; never leaves the folder, never follows a link."""
        if type(file_path) is not str or not BODY_PATTERN.fullmatch(file_path):
            return
        self.removed.append(file_path)
        shard, _, name = file_path.partition("/")
        with contextlib.suppress(OSError):
            folder = os.open(
                os.path.join(self._directory, BODIES, shard),
                os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
            )
            try:
                os.unlink(name, dir_fd=folder)
            finally:
                os.close(folder)
