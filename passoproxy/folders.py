"""Folders of passoproxy's own, and what other users of the machine could have put on the way to them (contract §3).

The way is walked step by step over open descriptors, so that nothing is replaced between being judged and being used.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from passoproxy.errors import CannotCreate

_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40
"""As many as the kernel follows."""


def own_folder(path: Path, key: str) -> Path:
    """`path`, made if it is missing, and closed to other users. If it belongs to another user, or is open to all as /tmp is: an own folder
    in it.

    `key` is the configuration's. Raises CannotCreate if that is impossible, and for a symbolic link that another user could have made.
    """
    try:
        return _made(path)
    except OSError as fault:
        remedy = f"set {key} to one that can"
        if fault.errno == errno.EROFS:
            remedy = f"mount a volume there, or {remedy}"
        raise CannotCreate(
            f"{path}: cannot be used as a folder of passoproxy's own ({fault.strerror}); {remedy}"
        ) from fault


def folder_in_use(path: Path) -> Path:
    """Where `own_folder` found or made a folder of this user's for `path` before, else `path`."""
    inner = _inner(path)
    return inner if os.path.isdir(inner) else path


def _inner(path: Path) -> Path:
    return path / f"passoproxy-{os.geteuid()}"


def weak_step(path: Path, user: int | None = None) -> str:
    """The first step on the way to `path` that another user could exchange for something else, in words; '' if there is none.

    `user` is no other user, beside root and this process's. Raises OSError where the way does not lead there, and with EPERM for a link
    as in `own_folder`.
    """
    walk = _Walk(make=False, user=os.geteuid() if user is None else user)
    try:
        walk.go(path)
        return walk.weak
    finally:
        walk.close()


def stamp_of(path: Path) -> tuple[int, ...]:
    """Differs when the file at `path` was changed, or replaced, or is gone (then it is empty)."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _made(path: Path) -> Path:
    walk = _Walk(make=True, user=os.geteuid())
    try:
        walk.go(path)
        found = os.fstat(walk.at)
        if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX:
            path = _inner(path)
            walk.step(path.name, follow=False)
            found = os.fstat(walk.at)
            if found.st_uid != os.geteuid():
                raise _refused(f"{path} belongs to user id {found.st_uid}")
        if stat.S_IMODE(found.st_mode) != 0o700:
            os.chmod(".", 0o700, dir_fd=walk.at)
        return path
    finally:
        walk.close()


@dataclass(slots=True)
class _Walk:
    """A way through the file system, from its root. `at` is the descriptor of the present folder."""

    make: bool
    user: int
    at: int = -1
    weak: str = ""
    _shown: str = ""
    _links: int = 0

    def go(self, path: Path) -> None:
        """Raises OSError; with `make`, missing folders are made (0700)."""
        self._begin()
        left = list(reversed(path.absolute().parts[1:]))
        while left:
            target = self.step(left.pop())
            if target.startswith("/"):
                self._begin()
            left += [each for each in reversed(target.split("/")) if each not in ("", ".")]

    def step(self, name: str, *, follow: bool = True) -> str:
        """Enters the directory `name`. For a symbolic link: its target, without entering it."""
        holder, found = os.fstat(self.at), self._found(name)
        trusted = {
            0,
            os.geteuid(),
            os.stat("/").st_uid,
        }  # the root of a container may be another's, and then all of it is
        is_open = bool(holder.st_mode & stat.S_IWOTH)
        is_fixed = holder.st_uid in trusted and (
            not is_open or bool(holder.st_mode & stat.S_ISVTX and found.st_uid in trusted)
        )
        shown = f"{self._shown}/{name}"
        if stat.S_ISLNK(found.st_mode):
            self._links += 1
            if not (follow and is_fixed and found.st_uid in trusted):
                raise _refused(f"the symbolic link {shown} could be another user's, and is not followed")
            if self._links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            return os.readlink(name, dir_fd=self.at)
        if not is_fixed and not self.weak:
            why = f"belongs to user id {holder.st_uid}" if holder.st_uid not in trusted else "is open to every user"
            self.weak = f"{self._shown or '/'} {why}"
        inner = os.open(name, _DIRECTORY, dir_fd=self.at)
        os.close(self.at)
        self.at, self._shown = inner, shown
        return ""

    def close(self) -> None:
        if self.at >= 0:
            os.close(self.at)
            self.at = -1

    def _begin(self) -> None:
        self.close()
        self.at, self._shown = os.open("/", _DIRECTORY), ""

    def _found(self, name: str) -> os.stat_result:
        try:
            return os.stat(name, dir_fd=self.at, follow_symlinks=False)
        except FileNotFoundError:
            if not self.make:
                raise
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self.at)
            # Whatever the umask; that itself is the whole process's, and folders are made in threads.
            if os.stat(name, dir_fd=self.at, follow_symlinks=False).st_mode & 0o700 != 0o700:
                os.chmod(name, 0o700, dir_fd=self.at)
        return os.stat(name, dir_fd=self.at, follow_symlinks=False)


def _refused(why: str) -> PermissionError:
    return PermissionError(errno.EPERM, why)
