"""Bodies as files: written to `incoming/`, hashed on the way, renamed into `bodies/`, and served only after their hash was checked.

A file is locked (flock) from its first byte until its row is committed, so that recovery, in any process, can tell a body that is being written
from one that a crash left. `Syncing` makes bodies and rows durable half a second after they became visible: a killed process loses
nothing, and what a power cut takes in that time is found by the hash, and is a miss. All calls block, raise OSError and follow no link.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from passoproxy.core.cache.entry import Entry
from passoproxy.errors import BodyBroken
from passoproxy.ports import Body, BytesBody
from passoproxy.stores.entries.disk.index import DATABASES
from passoproxy.stores.entries.disk.threads import Background, Lane
from passoproxy.stores.entries.serialization import BODY_PATTERN, body_name, row_name

BODIES, INCOMING = "bodies", "incoming"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_PIECE = 1 << 20
SMALL_BYTES = 256 * 1024
"""A body of at most so many bytes is read at once."""

_REMEMBERED = 32_768
_TICK = 50_000_000
"""Nanoseconds within which two changes of a file may bear the same ctime: a body as young as that is checked again next time."""

_Seen = tuple[int, int, int]


def make_private(folder: Path) -> None:
    """Makes `folder`, mode 0700 whatever the umask; a link or a file in its place is an error, a wider mode is narrowed."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    found = os.stat(folder, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(folder))
    if found.st_mode & 0o777 != 0o700:
        os.chmod(folder, 0o700)


class Incoming:
    """A body that is being written. `digest` and `size` are those of what was appended so far."""

    __slots__ = ("_hash", "_path", "file", "size")

    def __init__(self, folder: Path) -> None:
        self._hash = sha256()
        self.size = 0
        self.file = -1
        while self.file < 0:
            self._path = folder / secrets.token_hex(16)
            self.file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            fcntl.flock(self.file, fcntl.LOCK_EX)
            os.fchmod(self.file, 0o600)
            if not os.fstat(self.file).st_nlink:
                self.release()  # recovery, in any process, locked it first and took it for a leftover

    @property
    def digest(self) -> str:
        """SHA-256 (hex)."""
        return self._hash.hexdigest()

    def append(self, data: bytes) -> None:
        """Writes all of `data`."""
        self._hash.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.file, rest) :]
        self.size += len(data)

    def settle(self, target: Path) -> None:
        """Renames the file to `target`; the lock stays until `release`."""
        os.rename(self._path, target)
        self._path = target

    def release(self) -> None:
        """Closes the file, which stays. May be called twice."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def drop(self) -> None:
        """Removes the file, wherever it is by now. May be called twice."""
        if self.file >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            self.release()


class Bodies:
    """The body files of one cache folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / BODIES
        self.incoming = folder / INCOMING
        self._root = f"{self.folder}/"
        self._buffer = memoryview(bytearray(SMALL_BYTES))
        self._shards: set[str] = set()
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._lock = threading.Lock()

    def make_folders(self) -> None:
        """The two folders, private; those within come when needed."""
        make_private(self.folder)
        make_private(self.incoming)
        self._shards.clear()

    def begin(self) -> Incoming:
        """A new body."""
        try:
            return Incoming(self.incoming)
        except FileNotFoundError:  # the folder was taken away
            self.make_folders()
            return Incoming(self.incoming)

    def settle(self, body: Incoming, name: str) -> None:
        """Gives a complete body its name."""
        try:
            self._settle(body, name)
        except FileNotFoundError:  # a folder was taken away, which the second attempt makes, or the file itself
            self.make_folders()
            self._settle(body, name)

    def _settle(self, body: Incoming, name: str) -> None:
        shard = name[:2]
        if shard not in self._shards:
            make_private(self.folder / shard)
            self._shards.add(shard)
        body.settle(self.folder / name)

    def open(self, name: str, digest: str, size: int) -> int | None:
        """A descriptor of the body, after its size and hash were checked; None if it is lost or damaged."""
        try:
            with self._shard_of(name) as (folder, rest):
                file = os.open(rest, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
        except OSError as error:
            if error.errno in _STRANGE:
                return None
            raise
        try:
            if self._is_whole(file, name, digest, size):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        return None

    def read_nowait(self, name: str, digest: str, size: int) -> bytes | None:
        """The body if it is small, whole, and the system has it in memory. For one thread."""
        if size > SMALL_BYTES:
            return None
        try:
            file = os.open(f"{self._root}{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            piece = self._buffer[:size]
            if os.preadv(file, [piece], 0, _NOWAIT) != size:
                return None
            found = os.fstat(file)  # after it was read: what was written to meanwhile has another time
            if found.st_size != size:
                return None
            seen = _seen(found)
            if self._seen.get(name) != seen:
                if sha256(piece).hexdigest() != digest or _seen(os.fstat(file)) != seen:
                    return None
                self._note(name, seen, found)
            return bytes(piece)
        except OSError:  # EAGAIN: not in memory; EOPNOTSUPP: a file system that cannot tell
            return None
        finally:
            os.close(file)

    @contextlib.contextmanager
    def _shard_of(self, name: str) -> Iterator[tuple[int, str]]:
        """The folder of a body, opened, and the body's name there. A link in its place is not followed."""
        if not BODY_PATTERN.fullmatch(name):
            raise FileNotFoundError(errno.ENOENT, "no body's name", name)
        shard, _, rest = name.partition("/")
        folder = os.open(self.folder / shard, _FOLDER)
        try:
            yield folder, rest
        finally:
            os.close(folder)

    def _is_whole(self, file: int, name: str, digest: str, size: int) -> bool:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size or not digest.startswith(name[-16:]):
            return False
        seen = _seen(found)
        if self._seen.get(name) == seen:
            return True
        if _digest(file) != digest or _seen(os.fstat(file)) != seen:
            return False
        self._note(name, seen, found)
        return True

    def _note(self, name: str, seen: _Seen, found: os.stat_result) -> None:
        if time.time_ns() - found.st_ctime_ns > _TICK:
            with self._lock:
                self._seen[name] = seen
                if len(self._seen) > _REMEMBERED:
                    self._seen.popitem(last=False)

    def remove(self, name: str) -> bool:
        """Removes the body; whether it was there."""
        with self._lock:
            self._seen.pop(name, None)
        try:
            with self._shard_of(name) as (folder, rest):
                os.unlink(rest, dir_fd=folder)
        except OSError:
            return False
        return True

    def shards(self) -> list[str]:
        """The folders that hold bodies."""
        return sorted(name for name in os.listdir(self.folder) if len(name) == 2)

    @contextlib.contextmanager
    def claimed(self, path: Path) -> Iterator[bool]:
        """Whether no process is storing the file at `path`; within, no other process takes it for a leftover."""
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            yield False
            return
        except OSError:
            yield True  # a link, a socket: no body
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(file)


_STRANGE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EMLINK})
"""Nothing, or something else, lies where a body should."""


def _seen(found: os.stat_result) -> _Seen:
    return found.st_ino, found.st_size, found.st_ctime_ns


def _digest(file: int) -> str:
    whole = sha256()
    at = 0
    while piece := os.pread(file, _PIECE, at):
        whole.update(piece)
        at += len(piece)
    return whole.hexdigest()


_READ_PIECE = 256 * 1024


def open_body(bodies: Bodies, lane: Lane, entry: Entry) -> Body | None:
    """The body of `entry`, checked; None if it is lost or damaged. Blocks; raises OSError."""
    file = bodies.open(body_name(row_name(entry), entry.digest), entry.digest, entry.size)
    if file is None:
        return None
    if entry.size > SMALL_BYTES:
        return FileBody(file, entry.size, lane)
    try:
        data = os.pread(file, entry.size + 1, 0)
    finally:
        os.close(file)
    return BytesBody(data) if len(data) == entry.size else None


class FileBody:
    """A checked body in an open file. It can be read to its end when its entry is replaced or evicted; a file that is written to breaks it off."""

    __slots__ = ("_at", "_file", "_lane", "_unchanged", "length")

    def __init__(self, file: int, size: int, lane: Lane) -> None:
        self._file, self._lane, self._at = file, lane, 0
        self.length: int | None = size
        self._unchanged = os.fstat(file).st_mtime_ns

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._file < 0 or self._at == self.length:
            await self.aclose()
            raise StopAsyncIteration
        piece = await self._lane.call(self._next)
        self._at += len(piece)
        return piece

    def _next(self) -> bytes:
        assert self.length is not None
        try:
            piece = os.pread(self._file, min(_READ_PIECE, self.length - self._at), self._at)
            found = os.fstat(self._file)
        except OSError as error:
            raise BodyBroken(f"a stored body could not be read to its end: {error.strerror}") from error
        if not piece or found.st_mtime_ns != self._unchanged or found.st_size != self.length:
            raise BodyBroken("a stored body was changed on disk while it was being served")
        return piece

    async def aclose(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __del__(self) -> None:  # the caller was cancelled and never got it
        if self._file >= 0:
            os.close(self._file)


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
        journals = [self._folder / f"{name}-wal" for name in DATABASES]
        for path in (*paths, *{path.parent for path in paths}, *journals):
            with contextlib.suppress(OSError):
                sync(path)


def sync(path: Path) -> None:
    """Flushes one file or folder; never the database itself, whose locks a second descriptor would drop."""
    assert path.name not in DATABASES
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
