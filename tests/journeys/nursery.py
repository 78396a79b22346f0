"""Starts commands and daemons in a tenth of a second: one process has imported everything, and forks for each.

A child is a command of `passoproxy` as a shell would run it, the test build of `crashing`, or a daemon whose wall clock the test moves.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import importlib
import itertools
import json
import mmap
import os
import pkgutil
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

_DIES_WITH_PARENT = 1
_MOUNTS = 0x00020000
"""CLONE_NEWNS."""

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Child:
    """A command or daemon. `log` is what it writes to standard output and error."""

    nursery: Nursery
    pid: int
    log: Path
    code: int | None = None

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def lines(self) -> list[str]:
        return self.said.splitlines()

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

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = 40.0) -> int:
        """Ends it, by force if it does not end by itself (which is an AssertionError); gives its exit code."""
        if self.poll() is None:
            self.send(signal.SIGCONT)
            self.send(how)
        try:
            return self.wait(seconds)
        except AssertionError:
            self.send(signal.SIGKILL)
            self.wait()
            raise


class Nursery:
    """The process that forks; orders are lines of JSON, answered one by one."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._lock = Lock()
        self._environment = dict(environment)
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
        words = {name: str(value) if isinstance(value, Path) else value for name, value in how.items()}
        return self._forked(self._environment, serve=str(config), **words)

    def start(self, words: Sequence[str], environment: Mapping[str, str], folder: Path, **how: Any) -> Child:
        """A command in the background. `how` is the place in which it runs (`_enter`)."""
        return self._forked(environment, command=list(words), folder=str(folder), **how)

    def run(
        self, words: Sequence[str], environment: Mapping[str, str], folder: Path, text: str, timeout: float, **how: Any
    ) -> subprocess.CompletedProcess[str]:
        """A command to its end, with `text` as its input; `how` as for `start`."""
        given, told = (self._folder / f"{name}-{next(self._numbers)}" for name in ("input", "errors"))
        given.write_text(text)
        files = {"folder": str(folder), "input": str(given), "errors": str(told)}
        child = self._forked(environment, command=list(words), **files, **how)
        try:
            code = child.wait(timeout)
        finally:
            if child.poll() is None:
                child.stop(signal.SIGKILL)
        self._children.remove(child)
        return subprocess.CompletedProcess(list(words), code, child.said, told.read_text(errors="replace"))

    def _forked(self, environment: Mapping[str, str], **words: Any) -> Child:
        log = self._folder / f"log-{next(self._numbers)}"
        log.touch()
        child = Child(self, self.order(log=str(log), environment=dict(environment), **words), log)
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


def environment(folder: Path) -> dict[str, str]:
    """Ours without what would lead a command elsewhere."""
    gone = ("PASSOPROXY_", "XDG_", "STATE_", "CACHE_", "CREDENTIALS_", "NOTIFY_", "LISTEN_", "WATCHDOG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(gone)}
    return {
        **kept,
        "HOME": str(folder),
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "160",
        "PYTHONPATH": str(ROOT),
    }


@functools.cache
def shared() -> Nursery:
    """The one of this process, which ends with it."""
    folder = Path(tempfile.mkdtemp(prefix="passoproxy-nursery-"))
    made = Nursery(environment(folder), folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(made.close)
    made.order(ready=True)  # its imports take seconds on a busy machine: those of no test
    return made


# ---- the forking process ---------------------------------------------------------------------------------------------


def main() -> None:
    import passoproxy.cli.serve
    import passoproxy.daemon
    import passoproxy.sandbox.app
    import passoproxy.worker
    import tests.journeys.crashing  # noqa: F401

    for module in pkgutil.iter_modules(passoproxy.cli.__path__, "passoproxy.cli."):
        importlib.import_module(module.name)
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
        log = os.open(words["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        errors = os.open(words["errors"], os.O_WRONLY | os.O_CREAT, 0o600) if "errors" in words else log
        for number, descriptor in enumerate((os.open(words.get("input", os.devnull), os.O_RDONLY), log, errors)):
            os.dup2(descriptor, number)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 (as long as the process)
        os.environ.clear()
        os.environ.update(words["environment"])
        _enter(words)
        os.chdir(words.get("folder", ROOT))
        code = _live(words)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        code = 1
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _enter(words: dict[str, Any]) -> None:
    """The place that `words` describe: `network` is the file of a network namespace, `mounts` a shell script that a mount namespace of the
    child's own begins with, `beside` the process whose namespaces it shares (as `kubectl exec`), `umask`, `max_file` and `memory` (bytes),
    `descriptors` and `user` (a number) as what and how it may."""
    if "network" in words:
        _join(words["network"])
    if "beside" in words:
        for kind in ("net", "mnt"):
            _join(f"/proc/{words['beside']}/ns/{kind}")
    if "mounts" in words:
        _system("unshare", _MOUNTS)
        script = "set -e; mount --make-rprivate /\n" + words["mounts"]
        subprocess.run(["/bin/sh", "-c", script], check=True, stdin=subprocess.DEVNULL)
    if "umask" in words:
        os.umask(words["umask"])
    if "max_file" in words:
        resource.setrlimit(resource.RLIMIT_FSIZE, (words["max_file"], resource.RLIM_INFINITY))
    if "memory" in words:
        resource.setrlimit(resource.RLIMIT_AS, (words["memory"],) * 2)
    if "descriptors" in words:
        resource.setrlimit(resource.RLIMIT_NOFILE, (words["descriptors"],) * 2)
    if "user" in words:
        os.setgroups([])
        os.setgid(words["user"])
        os.setuid(words["user"])


def _join(namespace: str) -> None:
    with open(namespace) as file:
        _system("setns", file.fileno(), 0)


def _system(call: str, *arguments: int) -> None:
    """A system call that this version of Python has not. Raises OSError."""
    if getattr(ctypes.CDLL(None, use_errno=True), call)(*arguments):
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")


def _live(words: dict[str, Any]) -> int:
    if "plan" in words:
        from tests.journeys.crashing import Crashing

        Crashing(Path(words["state"]), Path(words["plan"]), Path(words["trace"])).install()
    if "clock" in words:
        return _with_clock(words)
    from passoproxy.cli import main as program

    return program(words["command"] if "command" in words else ["serve", "--config", words["serve"]])


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
