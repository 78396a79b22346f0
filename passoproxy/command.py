"""A daemon beside a command: it serves from before the command's start until after its end."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from passoproxy.compose.listeners import url_of
from passoproxy.config.load import Loaded
from passoproxy.config.sources import with_values
from passoproxy.daemon import Daemon
from passoproxy.host.gc import collected
from passoproxy.host.system import run_loop

_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_LIMITS = (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)
NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""What shells end with for a command that cannot be started."""

Limits = Mapping[int, tuple[int, int]]


def limits() -> Limits:
    """The limits of this process that a daemon changes for itself, and a command does not want changed."""
    return {each: resource.getrlimit(each) for each in _LIMITS}


def run(loaded: Loaded, reading: Callable[[], Loaded], command: Sequence[str], given: Limits) -> int:
    """Runs daemon and command until the command ends; its exit code, 128 and the number of a signal that ended it. `given` are the limits
    that the command gets. Raises PassoproxyError if the daemon cannot start.
    """
    return run_loop(_run(Daemon(loaded, reading=reading), command, given))


async def _run(daemon: Daemon, command: Sequence[str], given: Limits) -> int:
    began, early = list[subprocess.Popen[bytes]](), list[signal.Signals]()
    has_terminal = sys.stdin is not None and sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()

    def pass_on(number: signal.Signals) -> None:
        if not began:
            early.append(number)
        elif began[0].returncode is None and not (has_terminal and number in (signal.SIGINT, signal.SIGQUIT)):
            began[0].send_signal(number)  # those of the keyboard reach the command by themselves

    for each in _PASSED_ON:
        asyncio.get_running_loop().add_signal_handler(each, pass_on, each)
    async with daemon.running() as wired, collected(wired.clock, lambda: not wired.handler.in_flight):
        is_ready, _, reason = wired.control.readiness(strict=False)
        if not is_ready:
            _say(f"the command starts, and its requests are not answered yet: {reason}")
        if early:
            return 128 + early[0]
        settings = wired.loaded.settings
        environ = _environment(wired.loaded, url_of(settings, daemon.bound.proxy[0]))
        try:
            with _as_given(given):
                # not by the loop: uvloop leaves copies of our streams to the command, and then what that leaves behind keeps pipes open
                process = subprocess.Popen(command, env=environ, close_fds=False)  # noqa: ASYNC220, S603
        except OSError as error:
            _say(f"{command[0]}: cannot be started ({error.strerror})")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        began.append(process)
        for number in early:  # while it was being started
            pass_on(number)
        doom = asyncio.create_task(_tell_doom(daemon))
        code = await asyncio.to_thread(process.wait)
        doom.cancel()
    return code if code >= 0 else 128 - code


async def _tell_doom(daemon: Daemon) -> None:
    await daemon.doomed.wait()
    _say(f"{daemon.doom}; the command runs on without a proxy")


def _environment(loaded: Loaded, url: str) -> dict[str, str]:
    """Ours, without what configures the daemon, secrets among it; commands of passoproxy find the daemon all the same."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PASSOPROXY__")}
    for name in ("CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        environ.pop(name, None)
    if loaded.path is not None:
        environ["PASSOPROXY_CONFIG"] = str(loaded.path.absolute())
    environ["PASSOPROXY_URL"] = url
    kept: dict[str, object] = {"state.directory": str(loaded.settings.state.folder)}
    if loaded.settings.gateway.replay is not None:  # else they miss the account's secrets in the configuration
        kept["gateway.replay"] = str(loaded.settings.gateway.replay)
    return with_values(environ, kept)


@contextmanager
def _as_given(given: Limits) -> Iterator[None]:
    """Has what is started inside inherit the limits that `given` holds."""
    own = limits()
    for which, values in given.items():
        resource.setrlimit(which, values)
    try:
        yield
    finally:
        for which, values in own.items():
            resource.setrlimit(which, values)


def _say(text: str) -> None:
    print(f"passoproxy: {text}", file=sys.stderr, flush=True)  # noqa: T201 the terminal is this command's business
