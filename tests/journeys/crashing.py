"""A test build of the daemon that dies by SIGKILL at a chosen point of a refresh: between any two calls that change durable state or the wire.

Nothing of it is in the product. In a process of its own the calls of `os` that change files are watched below the state folder, and the
connection to the provider is one that tells what passes. A point is passed before each such call (and in the middle of each write), so that
dying at point N leaves the world as the first N - 1 calls have made it. Arming is a file that holds N: points count from the refresh after it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from passoproxy.outbound.dial import Dialer, Endpoint
from passoproxy.outbound.token_endpoint import ProviderEndpoint
from passoproxy.ports import Clock

NEVER = 1_000_000
"""A number that no refresh has as many points as: it runs to its end, and the trace names every point."""

_UNWATCHED = ("control.sock", "lock")


@dataclass
class Crashing:
    """Counts the points of a refresh from the moment when `plan` is there, dies at the one it names, and writes each that it passes to `trace`."""

    folder: Path
    plan: Path
    trace: Path
    number: int = 0
    passed: int = 0
    names: dict[int, str] = field(default_factory=dict)
    """Open descriptors below the folder."""

    def point(self, name: str) -> None:
        """Passes a point, or dies there."""
        if not self.number:
            if not self.plan.exists():
                return
            self.number = int(self.plan.read_text())
            self._trace = _REAL["open"](self.trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.passed += 1
        _REAL["write"](self._trace, f"{name}\n".encode())
        if self.passed == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()  # another thread may get here before the signal does

    def install(self) -> None:
        """Watches from now on, in this process."""
        for name in _REAL:
            setattr(os, name, getattr(self, f"_{name}"))
        begun = ProviderEndpoint.__init__

        def begin(endpoint: ProviderEndpoint, clock: Clock, dialer: Callable[[Endpoint], Dialer]) -> None:
            begun(endpoint, clock, lambda to: _watching(self.point, dialer(to)))

        ProviderEndpoint.__init__ = begin  # type: ignore[method-assign]

    # ---- files ---------------------------------------------------------------------------------------------------------

    def _place(self, path: Any) -> str:
        """A path's name below the folder; '' for what is elsewhere, or plays no part."""
        try:
            text = os.fspath(path)
        except TypeError:
            return ""
        if not isinstance(text, str) or not text.startswith(f"{self.folder}"):
            return ""
        name = text[len(str(self.folder)) :].strip("/") or "the folder"
        return "" if name in _UNWATCHED else name

    def _open(self, path: Any, flags: int, *more: Any, **named: Any) -> int:
        name = self._place(path)
        if name and flags & os.O_CREAT:
            self.point(f"create {name}")
        descriptor: int = _REAL["open"](path, flags, *more, **named)
        if name:
            self.names[descriptor] = name
        return descriptor

    def _close(self, descriptor: int) -> None:
        self.names.pop(descriptor, None)
        _REAL["close"](descriptor)

    def _write(self, descriptor: int, data: Any) -> int:
        if name := self.names.get(descriptor):
            self.point(f"write {name}")
            half = len(data) // 2
            written: int = _REAL["write"](descriptor, data[:half])
            if written < half:
                return written
            self.point(f"write the other half of {name}")
            return written + int(_REAL["write"](descriptor, data[half:]))
        return int(_REAL["write"](descriptor, data))

    def _ftruncate(self, descriptor: int, length: int) -> None:
        if name := self.names.get(descriptor):
            self.point(f"truncate {name}")
        _REAL["ftruncate"](descriptor, length)

    def _fsync(self, descriptor: int) -> None:
        if name := self.names.get(descriptor):
            self.point(f"sync {name}")
        _REAL["fsync"](descriptor)

    def _rename(self, source: Any, target: Any, **more: Any) -> None:
        if name := self._place(target):
            self.point(f"rename {self._place(source)} to {name}")
        _REAL["rename"](source, target, **more)

    def _unlink(self, path: Any, **more: Any) -> None:
        if name := self._place(path):
            self.point(f"remove {name}")
        _REAL["unlink"](path, **more)


_REAL: dict[str, Callable[..., Any]] = {
    name: getattr(os, name) for name in ("open", "close", "write", "ftruncate", "fsync", "rename", "unlink")
}


# ---- the wire --------------------------------------------------------------------------------------------------------


def _watching(point: Callable[[str], None], dialer: Dialer) -> Any:
    class WatchingDialer:
        """Tells when a connection is asked for, and what passes on it."""

        async def dial(self, factory: Any) -> Any:
            point("connect to the provider")
            return await dialer.dial(lambda: watched(factory()))

    def watched(protocol: Any) -> Any:
        stands, takes, answered = protocol.connection_made, protocol.data_received, False

        def data_received(data: bytes) -> None:
            nonlocal answered
            if not answered:  # whether it comes in one piece or two is the weather's business
                answered = True
                point("read what the provider answered")
            takes(data)

        protocol.connection_made = lambda transport: stands(_Transport(transport))
        protocol.data_received = data_received
        return protocol

    class _Transport(asyncio.Transport):
        def __init__(self, real: Any) -> None:
            self._real = real

        def write(self, data: Any) -> None:
            point("send the request")
            self._real.write(data)
            # the loop may put bytes on the wire in its next turn only
            asyncio.get_running_loop().call_soon(point, "wait for the answer")

        def writelines(self, parts: Any) -> None:
            self.write(b"".join(parts))

    for name in ("get_extra_info", "is_closing", "close", "abort", "pause_reading", "resume_reading", "is_reading",
                 "set_protocol", "get_protocol", "set_write_buffer_limits", "get_write_buffer_size", "can_write_eof"):  # fmt: skip
        setattr(_Transport, name, _passing(name))
    return WatchingDialer()


def _passing(name: str) -> Callable[..., Any]:
    return lambda self, *given, **named: getattr(self._real, name)(*given, **named)
