"""`passoproxy run -- COMMAND…`: a daemon for as long as a command runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from passoproxy.cli.options import ConfigOption, load
from passoproxy.errors import UsageFailure

if TYPE_CHECKING:
    from pathlib import Path

_QUIET = {"server.listen": "127.0.0.1:0", "log.level": "warning", "log.access": False}
"""What counts in the place of a default: a free port, and a terminal that belongs to the command."""


def run(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND…", help="The command and its arguments.", show_default=False),
    ] = None,
    config: ConfigOption = None,
) -> int:
    """Start a daemon for as long as a command runs.

    The command finds the proxy in $PASSOPROXY_URL. When it ends, the daemon ends too, and its exit code is returned.

    \b
    Example:
      passoproxy run -- sh -c 'curl "$PASSOPROXY_URL/api/v2/languages"'
    """
    if not command:
        raise UsageFailure("name the command, such as 'passoproxy run -- npm test'")
    from passoproxy import command as beside
    from passoproxy.host.system import forbid_dumps

    given = beside.limits()
    forbid_dumps()
    environ = _environment(config)
    return beside.run(load(config, environ=environ), lambda: load(config, environ=environ), command, given)


def _environment(config: Path | None) -> dict[str, str]:
    """That of the daemon, with `_QUIET` where the configuration says nothing, and a free port for the admin listener if the usual one is taken."""
    from passoproxy.config.sources import with_values
    from passoproxy.config.types import TcpAddress
    from passoproxy.host.system import why_taken

    found = load(config)
    silent = {key: value for key, value in _QUIET.items() if found.is_default(key)}
    if found.is_default("admin.listen"):
        (usual,) = found.settings.admin.listen
        if isinstance(usual, TcpAddress) and why_taken(usual.host, usual.port):
            silent["admin.listen"] = _QUIET["server.listen"]
    return with_values(os.environ, silent)
