"""`passoproxy config …`: check, show, make a first file, and the JSON Schema."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from passoproxy.cli.options import ConfigOption, JsonOption, UnreadConfigOption, flag, load
from passoproxy.cli.output import note, say, say_json, table
from passoproxy.errors import CannotCreate, CommandFailure, ConfigurationError

commands = typer.Typer(no_args_is_help=True, help="Check, show and write the configuration.")


@commands.command("check")
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the configuration.

    Prints every fault with its place and remedy.

    \b
    Example:
      passoproxy config check --config new.yaml
    """
    from passoproxy.config.load import chosen_file
    from passoproxy.core.units import counted

    try:
        loaded = load(config)
    except ConfigurationError as error:
        if as_json:
            path = chosen_file(config, os.environ, Path.cwd())
            say_json({"ok": False, "path": str(path) if path else None, "faults": [str(each) for each in error.faults]})
        raise
    warnings, more = [str(each) for each in loaded.warnings], ""
    if (folder := loaded.settings.gateway.replay) is not None:
        from passoproxy.gateway.folder import Folder

        found = Folder(folder)
        found.look()
        warnings += [f"{folder}/{fault}" for fault in found.faults]
        more = f", replaying {counted(found.count, 'recording')}"
    for warning in warnings:
        note(f"passoproxy: warning: {warning}")
    if as_json:
        say_json({"ok": True, "path": str(loaded.path) if loaded.path else None, "warnings": warnings})
    else:
        warned = f", {counted(len(warnings), 'warning')}" if warnings else ""
        say(f"{loaded.path or 'defaults and environment'}: fine{more}{warned}")


@commands.command("show")
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the values in effect and where each came from.

    Secrets are masked.

    \b
    Example:
      passoproxy config show --json
    """
    from passoproxy.config.describe import flat, shown

    loaded = load(config)
    if as_json:
        say_json({**shown(loaded), "sources": dict(loaded.sources)})
        return
    rows = [(key, value, loaded.sources.get(key, "default")) for key, value in flat(loaded)]
    table(("key", "value", "from"), rows, whole=("key",))


@commands.command("init")
def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", readable=False, help="Where to write it.")] = Path(
        "config.yaml"
    ),
    config: ConfigOption = None,
    force: Annotated[bool, flag("--force", "Replace a file that is there.")] = False,
) -> None:
    """Write a commented configuration to start from.

    \b
    Example:
      passoproxy config init /etc/passoproxy/config.yaml
    """
    from passoproxy.config.describe import commented
    from passoproxy.config.sources import SYSTEM_CONFIGURATION

    target = config or path
    # A service reads what is below /etc as a user of its own; elsewhere a secret may be written into the file.
    is_for_a_service = SYSTEM_CONFIGURATION.parents[1] in target.absolute().parents
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        with open(os.open(target, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(commented())
            if is_for_a_service:
                os.fchmod(file.fileno(), 0o644)
    except FileExistsError as error:
        raise CommandFailure(
            f"{target}: is there already and was left as it is; name another path, or use --force"
        ) from error
    except OSError as error:
        raise CannotCreate(f"{target}: cannot be written ({error.strerror}); name another path") from error
    secret = "the secret in a file beside it" if is_for_a_service else "the secret in it"
    say(f"{target} written; set oauth.client_id and {secret}, then: passoproxy config check --config {target}")


@commands.command("schema")
def schema(config: UnreadConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the JSON Schema of the configuration, for editors.

    \b
    Example:
      passoproxy config schema > passoproxy.schema.json
    """
    from passoproxy.config.describe import json_schema

    say_json(json_schema())
