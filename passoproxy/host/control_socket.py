"""`control.sock`: the unix socket over which commands reach a running daemon (mode 0600, in `state.directory`).

The name is that of the daemon that owns the pair. Others on the same folder, which follow it, have `control-PID.sock`; a command takes theirs only if
no owner answers. Before anything is sent, the peer must be this user or root, as the kernel tells it; root also takes the folder's owner (contract
§2). A socket's path may have some 100 bytes only: in a folder with a longer name the socket is reached through an open descriptor of the folder
(`/proc/self/fd/N/control.sock`).
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from passoproxy.errors import AccessDenied, CannotCreate, CommandFailure, NotRunning, PairStoreOwned
from passoproxy.folders import weak_step
from passoproxy.peer_credentials import peer_credentials

NAME = "control.sock"
_LONGEST = 100
_FOLLOWER = re.compile(r"control-[0-9]+\.sock")
_INNER = re.compile(r"passoproxy-([0-9]+)")
"""The folder of its own that a daemon makes in one that belongs to someone else; the number is its user's."""
_NOBODY = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED))
"""What connecting to a socket says if no process listens on it any more."""


def follower_name() -> str:
    """The name of this process's socket while it follows."""
    return f"control-{os.getpid()}.sock"


def listen(folder: Path, name: str = NAME) -> socket.socket:
    """A listening socket in `folder`. Raises PairStoreOwned if a daemon answers there already, CannotCreate if none can be made."""
    path = folder / name
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


def connect(folder: Path, timeout: float, name: str = "") -> socket.socket:
    """A connection to the daemon that serves `folder`, the owner of the pair before one that follows, made within `timeout` seconds.

    `name` is the socket of one that is meant alone.

    Raises NotRunning if none serves it, AccessDenied if it is not ours to talk to, CommandFailure if it cannot be reached.
    """
    none: NotRunning | None = None
    for place in _places(folder):
        for each in (name,) if name else (NAME, *_followers(place)):
            try:
                return _connected(place, each, timeout)
            except NotRunning as fault:
                none = none or fault
    assert none is not None  # there is one place at least, and it has this name
    raise none


def followers(folder: Path) -> list[str]:
    """The names of the sockets of those that follow, or followed once."""
    return [name for place in _places(folder) for name in _followers(place)]


def check_peer(connected: socket.socket, folder: Path) -> None:
    """Makes sure, before anything is sent, that the socket in `folder` is served by one whom this user may believe. Raises AccessDenied."""
    user, _ = peer_credentials(connected)
    own = os.geteuid()
    if user in (0, own):
        return
    said = f"{folder}: user {user} answers there"
    if own != 0 or user != os.stat(folder).st_uid:
        raise AccessDenied(f"{said}, and neither this user nor root: nothing was sent")
    if weak := weak_step(folder, user):
        raise AccessDenied(f"{said}, and {weak}: nothing was sent", user=user, state=folder)


def is_own(connected: socket.socket) -> bool:
    """Whether a peer that connected to our socket is of our own user, or root."""
    return peer_credentials(connected)[0] in (0, os.geteuid())


def clear_left_over(folder: Path) -> None:
    """Takes away the sockets of followers that are gone."""
    for name in _followers(folder):
        try:
            _connected(folder, name, 1.0).close()
        except NotRunning:
            remove(folder, name)
        except CommandFailure:
            pass  # it may be alive


def remove(folder: Path, name: str = NAME) -> None:
    """Takes the socket's file away at the end."""
    with suppress(OSError):
        (folder / name).unlink()


class Reach:
    """`path` is how the owner's socket is reached, however deep its folder; until `close`."""

    def __init__(self, folder: Path) -> None:
        self.path, self._descriptor = str(folder / NAME), -1
        if len(os.fsencode(self.path)) > _LONGEST:
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self.path = f"/proc/self/fd/{self._descriptor}/{NAME}"

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _connected(folder: Path, name: str, timeout: float) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(timeout)
    path = folder / name
    try:
        _through_folder(path, made.connect)
        check_peer(made, folder)
    except OSError as error:
        made.close()
        raise _unreached(path, folder, error) from error
    except BaseException:
        made.close()
        raise
    return made


def _places(folder: Path) -> list[Path]:
    """Where a daemon of `folder` has its socket: in a folder of its own in that one, ours first, or in that one itself."""
    own = os.geteuid()
    inner: list[tuple[bool, Path]] = []
    with suppress(OSError), os.scandir(folder) as listed:
        for each in listed:
            named = _INNER.fullmatch(each.name)
            if (
                named
                and each.is_dir(follow_symlinks=False)
                and each.stat(follow_symlinks=False).st_uid == int(named[1])
            ):
                inner.append((int(named[1]) != own, folder / each.name))
    ours = [path for is_other, path in inner if not is_other]
    return [*ours, folder, *(path for is_other, path in inner if is_other and own == 0)]


def _followers(folder: Path) -> list[str]:
    with suppress(OSError):
        return sorted(each for each in os.listdir(folder) if _FOLLOWER.fullmatch(each))
    return []


def _unreached(path: Path, folder: Path, error: OSError) -> CommandFailure:
    if error.errno in _NOBODY:
        return NotRunning(
            f"no daemon is running on {folder} (control.sock: {error.strerror}); start one with 'passoproxy serve'"
        )
    if isinstance(error, PermissionError):
        return AccessDenied(f"{path}: permission denied", user=0, state=folder)
    why = error.strerror or "it does not answer"
    return CommandFailure(f"{path}: the daemon cannot be reached ({why}); see its log")


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
