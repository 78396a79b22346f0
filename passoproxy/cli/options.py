"""Options that several commands share, and the configuration that they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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


def load(config: Path | None) -> Loaded:
    """The configuration that a command works with. Raises ConfigurationError with every fault."""
    from passoproxy.config.reading import load as read

    return read(config)
