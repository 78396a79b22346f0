"""Options that several commands share, and the configuration that they lead to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passoproxy.errors import UsageFailure

if TYPE_CHECKING:
    from passoproxy.config.load import Loaded


def option(name: str, metavar: str, help: str, *more: str, **limits: Any) -> Any:
    """An option with a value. `more` are other names of it."""
    # whether a file can be read is told with the other faults of a configuration
    return typer.Option(name, *more, metavar=metavar, help=help, readable=False, **limits)


def flag(name: str, help: str) -> Any:
    """An option without a value."""
    return typer.Option(name, help=help)


_CONFIG = "The configuration file, if it is not in one of the usual places; see 'passoproxy --help'."
_STATE = "The state folder of the daemon, if several run or none is found."

ConfigOption = Annotated[Path | None, option("--config", "PATH", _CONFIG)]
UnreadConfigOption = Annotated[
    Path | None, option("--config", "PATH", "Accepted and not read: this command needs no configuration.")
]
"""For commands that work without a configuration, and are called by the same scripts as the others."""

StateOption = Annotated[Path | None, option("--state", "DIR", _STATE)]
JsonOption = Annotated[bool, flag("--json", "Print JSON.")]


def load(
    config: Path | None, *, secrets: bool = True, state: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Loaded:
    """The configuration that a command works with, with `state` for its state folder. Raises ConfigurationError with every fault.

    `secrets=False` is for commands that only talk to a running daemon, and may not be allowed to read its secrets.
    """
    from passoproxy.config.load import load as read
    from passoproxy.config.sources import with_values

    values = {} if state is None else {"state.directory": str(state.absolute())}
    return read(config, with_values(environ, values), secrets=secrets)


def seconds_of(option: str, text: str, least: float = 0.0) -> float:
    """The seconds that `text` means, `least` or more. Raises UsageFailure naming the option."""
    from passoproxy.core.units import read_duration

    try:
        found = read_duration(text)
    except ValueError as error:
        raise UsageFailure(f"{option}: {error}") from error
    if found < least:
        raise UsageFailure(f"{option}: {text!r} is too short; write {least:g}s or more")
    return found


def bytes_of(text: str | None) -> bytes | None:
    """The bytes of `--data`. Raises UsageFailure for a text that is no UTF-8."""
    try:
        return None if text is None else text.encode()
    except UnicodeEncodeError as error:
        raise UsageFailure("--data: only a body in UTF-8 can be named") from error
