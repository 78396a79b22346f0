"""The commands of contract §2, one file each. `main` is the program; nothing is imported before it is needed."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from passoproxy import __version__

NAME = "passoproxy"


def show_version() -> None:
    """Prints the name and the version."""
    print(f"{NAME} {__version__}")  # noqa: T201 the terminal is this room's business


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code (contract §2)."""
    if arguments is None:  # the program, and not a test
        gc.set_threshold(150_000)  # what imports make is no garbage; a daemon that is ready collects as usual
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
