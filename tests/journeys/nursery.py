"""Starts daemons in a tenth of a second: one process has imported everything, and forks for each; hundreds of kills then cost a minute.

A child is the daemon as `passoproxy serve` runs it, or the test build of `crashing`, or one whose wall clock the test moves.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import mmap
import os
import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

_DIES_WITH_PARENT = 1

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Child:
    """A daemon. `log` is what it writes to standard output and error."""

    nursery: Nursery
    pid: int
    log: Path
    code: int | None = None

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def send(self, how: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, how)

    def poll(self) -> int | None:
        """Its exit code (negative: the signal), None while it lives."""
        if self.code is None:
            self.code = self.nursery.order(poll=self.pid)
        return self.code

    def wait(self, seconds: float = 30.0) -> int:
        end = time.monotonic() + seconds
        while (code := self.poll()) is None:
            assert time.monotonic() < end, f"it did not end:\n{self.said[-3000:]}"
            time.sleep(0.005)
        return code

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = 30.0) -> int:
        if self.poll() is None:
            self.send(signal.SIGCONT)
            self.send(how)
        return self.wait(seconds)


class Nursery:
    """The process that forks; orders are lines of JSON, answered one by one."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._lock = Lock()
        self._numbers = itertools.count(1)
        self._folder = folder
        self._children: list[Child] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.journeys.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=dict(environment),
        )

    def order(self, **words: Any) -> Any:
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(words).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def serve(self, config: Path, **how: Any) -> Child:
        """A daemon on `config`. `how`: `plan`, `trace`, `state` for one that crashes; `clock` for one whose clock is moved;
        `user` and `max_file` (bytes) as what and how it may write."""
        log = self._folder / f"daemon-{next(self._numbers)}.log"
        words = {name: str(value) if isinstance(value, Path) else value for name, value in how.items()}
        pid = self.order(serve=str(config), log=str(log), **words)
        child = Child(self, pid, log)
        self._children.append(child)
        return child

    def close(self) -> None:
        for child in self._children:
            if child.poll() is None:
                child.stop(signal.SIGKILL)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


class Hand:
    """Moves the wall clock of a child that was started with it."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(struct.pack("d", 0.0))
        self.path = path
        self.offset = 0.0

    def step(self, seconds: float) -> None:
        self.offset += seconds
        with self.path.open("r+b") as file:
            file.write(struct.pack("d", self.offset))


@contextlib.contextmanager
def nursery(environment: Mapping[str, str], folder: Path) -> Iterator[Nursery]:
    made = Nursery(environment, folder)
    try:
        made.order(ready=True)  # its imports take seconds on a busy machine: those of no test
        yield made
    finally:
        made.close()


# ---- the forking process ---------------------------------------------------------------------------------------------


def main() -> None:
    import passoproxy.cli.serve
    import passoproxy.daemon  # noqa: F401 so that children need not
    import tests.journeys.crashing  # noqa: F401

    for line in sys.stdin.buffer:
        words = json.loads(line)
        answer = "ready" in words or (_poll(words["poll"]) if "poll" in words else _fork(words))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _poll(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _fork(words: dict[str, Any]) -> int:
    if pid := os.fork():
        return pid
    code = 70
    try:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)  # where the tests are killed, nobody is left
        nowhere = os.open(os.devnull, os.O_RDONLY)
        log = os.open(words["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(nowhere, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = _live(words)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _live(words: dict[str, Any]) -> int:
    if "max_file" in words:
        resource.setrlimit(resource.RLIMIT_FSIZE, (words["max_file"], resource.RLIM_INFINITY))
    if "user" in words:
        os.setgroups([])
        os.setgid(words["user"])
        os.setuid(words["user"])
    if "plan" in words:
        from tests.journeys.crashing import Crashing

        Crashing(Path(words["state"]), Path(words["plan"]), Path(words["trace"])).install()
    if "clock" in words:
        return _with_clock(words)
    from passoproxy.cli import main as program

    return program(["serve", "--config", words["serve"]])


def _with_clock(words: dict[str, Any]) -> int:
    import asyncio

    import uvloop

    from passoproxy.config.load import load
    from passoproxy.daemon import Daemon
    from passoproxy.host.clock import SystemClock

    with open(words["clock"], "rb") as file:
        shared = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)

    class MovedClock(SystemClock):
        def wall(self) -> float:
            return super().wall() + struct.unpack("d", shared[:8])[0]  # type: ignore[no-any-return]

    async def serve() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        async with Daemon(load(Path(words["serve"])), clock=MovedClock()).running():
            await stop.wait()

    uvloop.run(serve())
    return 0


if __name__ == "__main__":
    main()
