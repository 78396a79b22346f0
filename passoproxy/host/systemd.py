"""The protocol of systemd's service manager, without a dependency: readiness, status, watchdog (sd_notify(3)), sockets (sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, MutableMapping

_FIRST_FD = 3


def notify(state: str = "", status: str = "", environ: Mapping[str, str] | None = None) -> bool:
    """Sends one state (READY=1, STOPPING=1, WATCHDOG=1, or none), and the line that `systemctl status` shows, to $NOTIFY_SOCKET.

    False if that fails, which must never stop a daemon.
    """
    lines = [state] if state else []
    if status:
        lines.append(f"STATUS={' '.join(status.split())}")
    address = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    # '@' stands for the leading NUL of the abstract namespace
    target = "\0" + address[1:] if address[0] == "@" else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            channel.connect(target)
            channel.sendall("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
    except (OSError, ValueError):
        return False
    return True


def reloading(environ: Mapping[str, str] | None = None) -> bool:
    """A reload has begun; READY=1 must follow (Type=notify-reload compares the time)."""
    return notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}", environ=environ)


def watchdog_interval(environ: Mapping[str, str] | None = None) -> float | None:
    """Seconds within which the watchdog has to be fed; None if it does not wait for this process. Feed it twice as often."""
    environ = os.environ if environ is None else environ
    meant = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if meant and microseconds.isdecimal() and int(microseconds) > 0 else None


def listen_fds(environ: MutableMapping[str, str] | None = None) -> dict[str, list[int]]:
    """The sockets passed to this process, by FileDescriptorName. They are taken out of the environment and closed on exec."""
    environ = os.environ if environ is None else environ
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[int]] = {}
    if pid != str(os.getpid()) or not count.isdecimal():
        return found
    for index in range(int(count)):
        name = names[index] if index < len(names) and names[index] else "unknown"
        os.set_inheritable(_FIRST_FD + index, False)
        found.setdefault(name, []).append(_FIRST_FD + index)
    return found
