"""`passoproxy token …`: the pair's state, a refresh now, and moving a pair in and out. No token is ever printed but by `--reveal`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from passoproxy.cli.options import ConfigOption, JsonOption
from passoproxy.cli.speaking import facts, moment, note, number, say, say_json
from passoproxy.cli.wording import access, chain, runway
from passoproxy.errors import CommandFailure, UsageFailure

commands = typer.Typer(no_args_is_help=True, help="Show, refresh, import and export the pair.")


@commands.command("status")
def token_status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the pair's state, never a token."""
    from passoproxy.cli.handle import handle

    token = handle(config).status()["token"]
    say_json(token) if as_json else _show(token)


@commands.command("refresh")
def refresh(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    force: Annotated[bool, typer.Option("--force", help="Even with a token remembered as dead, once.")] = False,
) -> None:
    """Refresh the pair now and wait until the new one is in use."""
    from passoproxy.cli.handle import handle

    token = handle(config).refresh(force)
    if as_json:
        say_json(token)
    else:
        say(f"refreshed; {runway(token)}")


@commands.command("import")
def import_pair(
    file: Annotated[
        str, typer.Argument(metavar="[FILE or -]", help="The pair as JSON, as the token endpoint answers it.")
    ] = "-",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import a pair that was issued elsewhere. Exactly one place may refresh it from now on: this one."""
    from passoproxy.cli.handle import handle

    token = handle(config).import_pair(_read(file))
    if as_json:
        say_json(token)
    else:
        say(f"imported; {runway(token)}")


@commands.command("export")
def export_pair(
    config: ConfigOption = None,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Acknowledges that the tokens are printed in clear.")
    ] = False,
) -> None:
    """Print the pair as JSON, for `token import` elsewhere. It is a credential: whoever reads it has the account."""
    from passoproxy.cli.handle import handle

    if not reveal:
        raise UsageFailure("export prints the tokens in clear; say so with --reveal")
    say_json(handle(config).export_pair())
    note("passoproxy: this pair must be used in one place only; stop this daemon before another one refreshes it")


def _read(file: str) -> bytes:
    if file == "-":
        if sys.stdin.isatty():
            note("paste the pair's JSON, then press Ctrl-D:")
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise CommandFailure(
            f"{file}: cannot be read ({error.strerror}); name a file with the pair's JSON, or - for standard input"
        ) from error


def _show(token: dict[str, Any]) -> None:
    facts(
        (
            ("runway", runway(token)),
            ("access token", access(token)),
            ("refresh chain", chain(token)),
            ("next refresh", moment(number(token, "next_refresh_at"))),
            ("obtained", moment(number(token, "obtained_at"))),
            ("grant", str(token.get("grant"))),
            ("generation", str(token.get("generation", 0))),
        )
    )
    if token.get("remedy"):
        say(f"\nwhat to do: {token['remedy']}")
