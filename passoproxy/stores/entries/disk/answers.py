"""Answers in ready form, each made of an entry of the same folder, by the digest of the request that they answer: what the memo of hits
(`server/memo`) has no room for in memory.

They lie in a file of this process alone, which has no name and ends with the process: nothing in it outlives the program or the settings that
made it, and no other process can be asked for it. Each is proven by a key that is nowhere but in memory. Whether its entry still
is what it was made of is asked of the index, for each use (`store`). For the thread of the loop; what goes wrong costs misses.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from hashlib import blake2b
from hmac import compare_digest
from pathlib import Path
from typing import Any, NamedTuple

from passoproxy.stores.entries.disk.index import PAGE_BYTES

_PREFIX = "answers-"
_PROOF = 16
_RESTS_SECONDS = 60.0
"""How long nothing is kept after the file could not be made or written."""


class Answer(NamedTuple):
    """One answer. `row` and `proof` say which entry it was made of, and which state of it; `digest` and `size` are those of the entry's body, which
    is the answer's too (None: the answer has what it needs in `made`). `made` is the memo's: numbers, text and bytes.
    """

    key: str
    row: str
    proof: bytes
    digest: str | None
    size: int
    made: tuple[Any, ...]


class Answers:
    """At most `max_bytes` of them in a file in `folder`; when it is full all go. `retire` has work done elsewhere that may take long."""

    def __init__(self, folder: Path, max_bytes: int, retire: Callable[[Callable[[], None]], object]) -> None:
        self._folder, self._pages, self._retire = folder, max_bytes // PAGE_BYTES, retire
        self._db: sqlite3.Connection | None = None
        self._secret = b""
        self._rests_until = 0.0

    def find(self, digest: bytes) -> Answer | None:
        """The answer to the request with this digest (16 bytes)."""
        if self._db is None:
            return None
        try:
            found = self._db.execute("SELECT made FROM answer WHERE id = ?", (_number(digest),)).fetchone()
        except sqlite3.Error:
            self._begin_anew(rests=True)
            return None
        if found is None or not compare_digest(found[0][:_PROOF], self._proof(digest, data := found[0][_PROOF:])):
            return None
        return Answer._make(marshal.loads(data))  # noqa: S302  # proven to be our own

    def keep(self, digest: bytes, answer: Answer) -> None:
        """Keeps it, in the place of one with this digest."""
        if self._db is None and not self._open():
            return
        assert self._db is not None
        data = marshal.dumps(tuple(answer))
        try:
            self._db.execute(
                "INSERT OR REPLACE INTO answer VALUES (?, ?)", (_number(digest), self._proof(digest, data) + data)
            )
        except sqlite3.Error as error:
            self._begin_anew(rests=error.sqlite_errorcode != sqlite3.SQLITE_FULL)

    def close(self) -> None:
        """Gives the file up; what is kept later lies in another one."""
        db, self._db = self._db, None
        if db is not None:
            self._retire(db.close)

    def _begin_anew(self, *, rests: bool) -> None:
        self.close()
        if rests:
            self._rests_until = time.monotonic() + _RESTS_SECONDS

    def _open(self) -> bool:
        if self._pages < 16 or time.monotonic() < self._rests_until:
            return False
        path = self._folder / f"{_PREFIX}{secrets.token_hex(8)}"
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            db.executescript(
                f"PRAGMA page_size = {PAGE_BYTES}; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;"
                f"PRAGMA cache_size = -1024; PRAGMA mmap_size = 0; PRAGMA max_page_count = {self._pages};"
                "CREATE TABLE answer (id INTEGER PRIMARY KEY, made BLOB NOT NULL); BEGIN;"
            )
        except (OSError, sqlite3.Error):
            self._rests_until = time.monotonic() + _RESTS_SECONDS
            return False
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._db, self._secret = db, secrets.token_bytes(32)
        return True

    def _proof(self, digest: bytes, data: bytes) -> bytes:
        return blake2b(digest + data, digest_size=_PROOF, key=self._secret).digest()


def _number(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little", signed=True)
