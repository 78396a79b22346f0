"""Options that several commands share, and the configuration that they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passoproxy.errors import UsageFailure

if TYPE_CHECKING:
    from passoproxy.config.reading import Loaded

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="PATH",
        help="The configuration file. Else: $PASSOPROXY_CONFIG, ./config.yaml, $XDG_CONFIG_HOME/passoproxy/config.yaml, /etc/passoproxy/config.yaml.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def load(config: Path | None, *, secrets: bool = True) -> Loaded:
    """The configuration that a command works with. Raises ConfigurationError with every fault.

    `secrets=False` is for commands that only talk to a running daemon, and may not be allowed to read its secrets.
    """
    from passoproxy.config.reading import load as read

    return read(config, secrets=secrets)


def seconds_of(option: str, text: str) -> float:
    """The seconds that `text` means. Raises UsageFailure naming the option."""
    from passoproxy.config.units import duration

    try:
        return duration(text)
    except ValueError as error:
        raise UsageFailure(f"{option}: {error}") from error


def bytes_of(text: str | None) -> bytes | None:
    """What `--data` stands for. Raises UsageFailure for what is no UTF-8."""
    try:
        return None if text is None else text.encode()
    except UnicodeEncodeError as error:
        raise UsageFailure("--data: only a body in UTF-8 can be named") from error
