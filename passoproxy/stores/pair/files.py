"""Files that hold secrets: mode 0600, and written so that a crash leaves the old or the new, never a mixture.

Errors name the path, what is wrong with it, and what to do.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from passoproxy.errors import PairStoreFailure

TEMPORARY = ".new"
"""Ending of a file that is being written; what is found with it at start is a left-over."""


def read_secret(path: Path) -> bytes | None:
    """A file's content, None if there is none. Raises PairStoreFailure if it is open to others, not ours, or unreadable."""
    try:
        # without O_NONBLOCK a pipe of that name would hold us up for ever
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise PairStoreFailure(
            f"{path}: cannot be read ({_why(fault)}); nothing was changed, mend it and start again"
        ) from fault
    try:
        _check(path, os.fstat(descriptor))
        return _read(descriptor)
    except OSError as fault:
        raise PairStoreFailure(f"{path}: cannot be read ({_why(fault)}); nothing was changed") from fault
    finally:
        os.close(descriptor)


def is_refused(path: Path) -> bool:
    """Whether `read_secret` refuses a file for what it is: open to others, not ours, or no file. What cannot be told just now is not refused."""
    try:
        _check(path, os.stat(path, follow_symlinks=False))
    except PairStoreFailure:
        return True
    except OSError:
        return False
    return False


def _check(path: Path, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        raise PairStoreFailure(f"{path}: is not a file; move it away")
    if mode & 0o077:
        raise PairStoreFailure(f"{path}: holds secrets and is open to others (mode {mode:04o}); run 'chmod 600 {path}'")
    if found.st_uid != os.geteuid():
        raise PairStoreFailure(
            f"{path}: belongs to user id {found.st_uid}, not to this one; run 'chown {os.geteuid()} {path}'"
        )


def write_secret(path: Path, data: bytes, *, room: Path | None = None) -> None:
    """`data` as `path`, durable when it returns: temporary file, fsync, rename, fsync of the folder.

    With `room`, a file whose space was taken before (`take_room`), the data is written into that space. Raises PairStoreFailure, and then
    `path` is as it was.
    """
    temporary = room if room is not None and room.exists() else path.with_name(path.name + TEMPORARY)
    try:
        descriptor = created(temporary)
        try:
            _write(descriptor, data)
            os.ftruncate(descriptor, len(data))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
        sync_folder(path.parent)
    except OSError as fault:
        if temporary != room:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise PairStoreFailure(f"{path}: cannot be written ({_why(fault)}); make room or permissions there") from fault


def take_room(path: Path, size: int) -> None:
    """A file of `size` bytes whose space is really taken and synced. Raises PairStoreFailure if the disk has none."""
    try:
        if path.exists() and path.stat().st_size >= size:
            return
        descriptor = created(path)
        try:
            # written and not only allocated: posix_fallocate is not everywhere, and a file system that compresses makes holes of zeros
            _write(descriptor, os.urandom(size))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(path.parent)
    except OSError as fault:
        with contextlib.suppress(OSError):
            path.unlink()
        raise PairStoreFailure(
            f"{path}: no room for an answer ({_why(fault)}); make room or permissions there"
        ) from fault


def set_aside(path: Path, stamp: int, word: str = "damaged") -> Path:
    """Moves a file that cannot be used out of the way under a free name, so that nothing ever overwrites it; returns where it is now.

    `word` says in the name what is wrong with it.
    """
    number = 0
    while True:
        aside = path.with_name(f"{path.name}.{word}-{stamp}" + (f"-{number}" if number else ""))
        if not aside.exists():
            break
        number += 1
    move(path, aside)
    return aside


def move(path: Path, target: Path) -> None:
    """Gives a file another name in its folder, durably. Raises PairStoreFailure."""
    try:
        os.rename(path, target)
        sync_folder(path.parent)
    except OSError as fault:
        raise PairStoreFailure(f"{path}: cannot be moved to {target.name} ({_why(fault)})") from fault


def remove(path: Path) -> None:
    """Removes a file if it is there. Raises PairStoreFailure."""
    try:
        path.unlink(missing_ok=True)
    except OSError as fault:
        raise PairStoreFailure(f"{path}: cannot be removed ({_why(fault)})") from fault


def sync_folder(path: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def created(path: Path) -> int:
    """The descriptor of a file of ours, made if it is missing, mode 0600 whatever the umask. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    os.fchmod(descriptor, 0o600)  # a left-over of the same name may have another mode
    return descriptor


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _read(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def _why(fault: OSError) -> str:
    return fault.strerror or type(fault).__name__
