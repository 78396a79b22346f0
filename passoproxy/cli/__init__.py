"""The commands of contract §2, one file each. `main` is the program; nothing heavy is imported before it is needed."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code (contract §2)."""
    from passoproxy.cli.app import run

    return run(arguments)
