"""The commands of contract §2, one file each. `main` is the program; nothing is imported before it is needed."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence

from passoproxy import __version__

NAME = "passoproxy"


def show_version() -> None:
    """Prints the name and the version."""
    print(f"{NAME} {__version__}")  # noqa: T201 the terminal is this room's business


def _take_standard_streams() -> None:
    """Has descriptors 0 to 2 lead nowhere if the parent process closed them: a file that is opened later would become one of them, and what is
    printed would be written into it."""
    for each in range(3):
        try:
            os.fstat(each)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code (contract §2)."""
    if arguments is None:  # the program, and not a test
        gc.set_threshold(150_000)  # what imports make is no garbage; a daemon that is ready collects as usual
        _take_standard_streams()
        if os.getpid() == 1:  # of a container: the kernel keeps from it what it has no handler for
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"] and sys.stdout is not None:
        try:
            show_version()
            sys.stdout.flush()
            return 0
        except OSError:
            pass  # the program tells what is wrong with the output
    from passoproxy.cli.app import run

    return run(given)
