"""Places: network and mount namespaces in which the daemon runs as its users run it. They end with the processes and descriptors that hold them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import program
from tests.journeys.conftest import Stand, shared_stand, stand
from tests.journeys.nursery import ROOT, environment, shared

__all__ = ["shared_stand", "stand"]

_NETWORK = 0x40000000
"""CLONE_NEWNET."""
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Network:
    """A network namespace. Sockets that a thread opens `inside` stay in it, and threads and programs that it starts there too."""

    descriptor: int

    @property
    def path(self) -> str:
        """Where other processes find it while this one lives."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        with open("/proc/thread-self/ns/net") as before:
            _checked(_libc.setns(self.descriptor, _NETWORK))
            try:
                yield
            finally:
                _checked(_libc.setns(before.fileno(), _NETWORK))

    def ip(self, *lines: str) -> None:
        """What `ip` is told, word for word."""
        with self.inside():
            text = "\n".join(lines)
            subprocess.run([program("ip"), "-batch", "-"], input=text, text=True, check=True, capture_output=True)

    def join(self, other: Network, mine: str, others: str) -> None:
        """A cable between two networks, with these addresses (`10.0.0.1/24`) at its ends, both named eth0."""
        self.ip(f"link add eth0 type veth peer name eth0 netns {other.path}")
        for network, address in ((self, mine), (other, others)):
            network.ip(f"addr add {address} dev eth0 nodad", "link set eth0 up")


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextlib.contextmanager
def new_network() -> Iterator[Network]:
    """One with nothing but its loopback interface. Skips where this process may not make one."""
    shared()  # the nursery stays outside
    program("ip")
    found: list[int] = []

    def make() -> None:
        if not _libc.unshare(_NETWORK):
            found.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if not found:
        pytest.skip("no network namespace can be made here: not root, or not allowed")
    try:
        made = Network(found[0])
        made.ip("link set lo up")
        yield made
    finally:
        os.close(found[0])


@pytest.fixture
def network() -> Iterator[Network]:
    """Where the daemon runs."""
    with new_network() as made:
        yield made


@pytest.fixture
def world() -> Iterator[Network]:
    """Where the servers are that it asks."""
    with new_network() as made:
        yield made


@pytest.fixture
def mounting() -> None:
    """Skips where no mount namespace can be made."""
    if os.geteuid() or subprocess.run([program("unshare"), "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespace can be made here: not root, or not allowed")


@pytest.fixture
def public_stand(mounting: None) -> Iterator[Stand]:
    """A stand in a folder that every user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="passoproxy-place-", dir="/tmp"))
    folder.chmod(0o755)
    made = Stand(folder, environment(folder))
    made.configure()
    try:
        yield made
    finally:
        try:
            made.end()
        finally:
            shutil.rmtree(folder)


def programs_for_all(folder: Path) -> str:
    """Mounts through which every user reaches Python and this checkout, wherever they are; `folder` holds them on the way."""
    lines: list[str] = []
    for number, needed in enumerate(dict.fromkeys(map(Path, (sys.base_prefix, sys.prefix, ROOT)))):
        closed = [each for each in reversed(needed.parents) if not each.stat().st_mode & 0o001]
        if closed:
            aside = folder / f"aside-{number}"
            lines.insert(0, f"mkdir -p {aside}; mount --bind {needed} {aside}")
            if f"mount -t tmpfs -o mode=755 tmpfs {closed[0]}" not in lines:
                lines.append(f"mount -t tmpfs -o mode=755 tmpfs {closed[0]}")
            lines.append(f"mkdir -p {needed}; mount --move {aside} {needed}")
    return "\n".join(lines)
