"""Bodies as files: written to `incoming/` and hashed on the way, renamed whole into `bodies/`, believed only once their hash was seen.

A file is locked (flock) from its first byte until its row is committed, so that a sweep, also another process's, can tell what
someone is still writing from what a crash left. Everything here blocks, raises OSError, and follows no link.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from passoproxy.stores.entries.guarded_disk import BODIES
from passoproxy.stores.entries.names import BODY_PATTERN

INCOMING = "incoming"
ASIDE = "removed"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20
_REMEMBERED = 32_768
_TICK = 50_000_000
"""Nanoseconds within which two changes of a file may bear the same ctime: a body as young as that is proven again next time."""

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
    """A body under way. `append` as often as needed, then `digest` and `size` say what came."""

    __slots__ = ("_hash", "_path", "file", "guard", "size")

    def __init__(self, folder: Path) -> None:
        self._path = folder / secrets.token_hex(16)
        self.file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._hash = sha256()
        self.size = 0
        self.guard = threading.Lock()
        fcntl.flock(self.file, fcntl.LOCK_EX)
        os.fchmod(self.file, 0o600)

    @property
    def digest(self) -> str:
        """The SHA-256 of what came so far (hex)."""
        return self._hash.hexdigest()

    def append(self, data: bytes) -> None:
        """Writes all of `data`."""
        self._hash.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.file, rest) :]
        self.size += len(data)

    def settle(self, target: Path) -> None:
        """Becomes the file `target`, in one step; the lock stays until `release`."""
        os.rename(self._path, target)
        self._path = target

    def release(self) -> None:
        """Lets the file go, as it lies. May be called twice."""
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
        self._aside = folder / ASIDE
        self._shards: set[str] = set()
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._lock = threading.Lock()

    def make_folders(self) -> None:
        """The two folders, private; those within come when needed."""
        make_private(self.folder)
        make_private(self.incoming)
        self._shards.clear()

    def begin(self) -> Incoming:
        """A new body under way."""
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
        """A descriptor at the start of the body, proven to have that digest and size; None where it has not, or is not there."""
        try:
            file = self._open(name)
        except OSError as error:
            if error.errno in _STRANGE:
                return None
            raise
        try:
            if self._proven(file, name, digest, size):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        return None

    def _open(self, name: str) -> int:
        if not BODY_PATTERN.fullmatch(name):
            raise FileNotFoundError(errno.ENOENT, "no body's name", name)
        shard, _, rest = name.partition("/")
        folder = os.open(self.folder / shard, _FOLDER)
        try:
            return os.open(rest, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
        finally:
            os.close(folder)

    def _proven(self, file: int, name: str, digest: str, size: int) -> bool:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size or not digest.startswith(name[-16:]):
            return False
        seen = _seen(found)
        if self._seen.get(name) == seen:
            return True
        if _digest(file) != digest or _seen(os.fstat(file)) != seen:
            return False
        if time.time_ns() - found.st_ctime_ns > _TICK:
            self._remember(name, seen)
        return True

    def _remember(self, name: str, seen: _Seen) -> None:
        with self._lock:
            self._seen[name] = seen
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)

    def forget(self, name: str) -> None:
        """The body is gone."""
        with self._lock:
            self._seen.pop(name, None)

    def remove(self, name: str) -> None:
        """Removes the body, if it is one and there."""
        shard, _, rest = name.partition("/")
        if BODY_PATTERN.fullmatch(name):
            with contextlib.suppress(OSError):
                folder = os.open(self.folder / shard, _FOLDER)
                try:
                    os.unlink(rest, dir_fd=folder)
                finally:
                    os.close(folder)
        self.forget(name)

    def set_aside(self) -> None:
        """Takes all bodies away at once; what was set aside is to be removed (`aside`) at leisure. Those being written stay."""
        make_private(self._aside)
        os.rename(self.folder, self._aside / secrets.token_hex(8))
        self.make_folders()
        with self._lock:
            self._seen.clear()

    def aside(self) -> Path | None:
        """The folder of what was set aside and lies there still."""
        return self._aside if self._aside.is_dir() else None

    def shards(self) -> list[str]:
        """The folders that hold bodies."""
        return sorted(name for name in os.listdir(self.folder) if len(name) == 2)

    @contextlib.contextmanager
    def claimed(self, path: Path) -> Iterator[bool]:
        """Whether nobody is storing the file at `path`; while within, nobody's sweep but ours touches it."""
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            yield False
            return
        except OSError:
            yield True  # a link, a socket: nobody's body
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
