"""`control.sock`: the unix socket over which commands reach a running daemon (mode 0600, in `state.directory`).

A socket's path may have some 100 bytes only. Where a folder's name is longer, the socket is reached through an open
descriptor of its folder (`/proc/self/fd/N/control.sock`), so that no state folder is too deep.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from passoproxy.errors import CannotCreate, CommandFailure, NotRunning, PairStoreOwned

NAME = "control.sock"
_LONGEST = 100
_NOBODY = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED))
"""What connecting to a socket says where nobody listens on it any more."""


def listen(folder: Path) -> socket.socket:
    """A listening socket in `folder`. Raises PairStoreOwned where a daemon answers there already, CannotCreate where none can be made."""
    path = folder / NAME
    _clear(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The mode is set before anyone can connect: umask is the only way that leaves no gap between bind and chmod.
        before = os.umask(0o177)
        try:
            _through_folder(path, made.bind)
        finally:
            os.umask(before)
        os.chmod(path, 0o600)
        made.listen(64)
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise CannotCreate(f"{path}: cannot be made ({error.strerror}); choose another state.directory") from error
    return made


def connect(folder: Path, timeout: float) -> socket.socket:
    """A connection to the daemon that serves `folder`, made within `timeout` seconds.

    Raises NotRunning where none serves it, CommandFailure where one may and cannot be reached.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(timeout)
    path = folder / NAME
    try:
        path = _found(folder)
        _through_folder(path, made.connect)
    except OSError as error:
        made.close()
        raise _unreached(path, folder, error) from error
    return made


def remove(folder: Path) -> None:
    """Takes the socket's file away at the end."""
    with suppress(OSError):
        (folder / NAME).unlink()


def _unreached(path: Path, folder: Path, error: OSError) -> CommandFailure:
    if error.errno in _NOBODY:
        return NotRunning(
            f"no daemon is running on {folder} (control.sock: {error.strerror}); start one with 'passoproxy serve'"
        )
    if isinstance(error, PermissionError):
        return CommandFailure(f"{path}: not allowed to talk to the daemon; run the command as the daemon's user")
    why = error.strerror or "it does not answer"
    return CommandFailure(f"{path}: the daemon cannot be reached ({why}); see its log")


def _found(folder: Path) -> Path:
    """Where the socket is: in `folder`, or in the folder of its own that a daemon makes in one that belongs to someone else."""
    inner = folder / f"passoproxy-{os.geteuid()}" / NAME
    return inner if not (folder / NAME).exists() and inner.exists() else folder / NAME


def _clear(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(kind):
        raise CannotCreate(f"{path}: is no socket and is left as it is; move it away")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.settimeout(1.0)
    try:
        _through_folder(path, probe.connect)
    except OSError as error:
        if error.errno in _NOBODY:
            with suppress(OSError):
                path.unlink()
            return
        if not isinstance(error, TimeoutError | BlockingIOError):
            return  # bind says what is wrong
    finally:
        probe.close()
    raise PairStoreOwned(
        f"{path.parent}: a daemon is serving this state folder already; stop it, or choose another state.directory"
    )


def _through_folder(path: Path, use: Callable[[str], object]) -> None:
    if len(os.fsencode(path)) <= _LONGEST:
        use(str(path))
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        use(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
