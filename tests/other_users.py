"""Another user of the machine, for tests of what such a user cannot do. Only root can be somebody else."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

OTHER = 65534
"""nobody, who is on every machine."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@contextlib.contextmanager
def acting_as(user: int = OTHER) -> Iterator[None]:
    """This process with the rights of `user`."""
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)


def opened_to_all(folder: Path) -> Path:
    """`folder`, which every user can reach now, though not change."""
    for each in (folder, *folder.parents):
        if each.stat().st_mode & 0o005 != 0o005:
            each.chmod(0o755)
    return folder


@contextlib.contextmanager
def planted_socket(folder: Path, name: str = "control.sock", user: int = OTHER) -> Iterator[socket.socket]:
    """A socket on which `user` listens, in a `folder` that is opened for this, and to which everybody can connect."""
    opened_to_all(folder)
    mode = folder.stat().st_mode
    folder.chmod(0o777)
    with socket.socket(socket.AF_UNIX) as listener:
        with acting_as(user):
            listener.bind(str(folder / name))
            (folder / name).chmod(0o666)
            listener.listen(8)
        folder.chmod(mode & 0o7777)
        yield listener


def what_came(listener: socket.socket) -> bytes:
    """Everything that was sent to `listener` on the connections that are waiting."""
    listener.settimeout(0.05)
    came = b""
    with contextlib.suppress(TimeoutError):
        while True:
            served, _ = listener.accept()
            with served:
                served.settimeout(5)
                while some := served.recv(4096):
                    came += some
    return came
