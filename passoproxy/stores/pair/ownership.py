"""Who owns the pair's folder: a lock that the kernel holds for the life of the process, with its owner's name inside for people."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path

from passoproxy.core.http.grammar import print_date
from passoproxy.errors import CannotCreate, PairStoreOwned


class Ownership:
    """A flock on one file. Dies with the process, however that ends; never with a file that was left over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def take(self) -> None:
        """Raises PairStoreOwned naming the owner, CannotCreate where the file cannot be made."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as fault:
            raise CannotCreate(
                f"{self._path}: cannot be made ({fault.strerror}); set state.directory to a folder that can be written"
            ) from fault
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(descriptor)
            os.close(descriptor)
            raise PairStoreOwned(
                f"{self._path.parent}: already served by {owner}; stop it, or give this one another state.directory"
            ) from None
        except OSError as fault:
            os.close(descriptor)
            raise CannotCreate(
                f"{self._path}: cannot be locked ({fault.strerror}); set state.directory to a local file system"
            ) from fault
        self._descriptor = descriptor
        self._sign(descriptor)

    def prove(self) -> None:
        """Makes sure that the lock which is held is the one that others ask for: its file may have been removed, and made anew by another process.

        Raises PairStoreOwned where another process holds that one, CannotCreate where it cannot be made again.
        """
        held = os.fstat(self._descriptor)
        with contextlib.suppress(OSError):
            there = os.stat(self._path, follow_symlinks=False)
            if (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino):
                return
        before = self._descriptor
        self.take()
        os.close(before)

    def leave(self) -> None:
        """Gives the lock up; the file stays, because removing it would let two owners hold two files of one name."""
        os.close(self._descriptor)

    def _sign(self, descriptor: int) -> None:
        name = {"pid": os.getpid(), "host": socket.gethostname(), "since": int(time.time())}
        # the name is for people only: a full disk must not keep the lock from being held
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(name).encode(), 0)


def _owner(descriptor: int) -> str:
    try:
        name = json.loads(os.pread(descriptor, 1024, 0))
        return f"process {int(name['pid'])} on {str(name['host'])[:100]} since {print_date(float(name['since']))}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
