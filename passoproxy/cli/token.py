"""`passoproxy token …`: the pair's state, a refresh now, and moving a pair in and out. No token is ever printed but by `--reveal`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption
from passoproxy.cli.output import access, chain, facts, in_short, moment, note, number_of, runway, say, say_json
from passoproxy.errors import CommandFailure, UsageFailure

if TYPE_CHECKING:
    from passoproxy.cli.client import Handle

commands = typer.Typer(no_args_is_help=True, help="Show, refresh, import and export the pair.")


@commands.command("status")
def token_status(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Show the pair's state, never a token."""
    from passoproxy.cli.daemons import handle

    token = handle(config, state).status()["token"]
    say_json(token) if as_json else _show(token)


@commands.command("refresh")
def refresh(
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Even with a token remembered as dead or handed over, once.")
    ] = False,
) -> None:
    """Refresh the pair now and wait until the new one is in use."""
    from passoproxy.cli.daemons import handle, say_who

    held = handle(config, state)
    token = held.refresh(force)
    if as_json:
        say_json({**token, "daemon": held.daemon})
    else:
        say(f"refreshed; {in_short(token)}")
        say_who(held)


@commands.command("import")
def import_pair(
    file: Annotated[
        str, typer.Argument(metavar="[FILE or -]", help="The pair as JSON, as the token endpoint answers it.")
    ] = "-",
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    force: Annotated[bool, typer.Option("--force", help="Take it unproved, also where the pair in use lives.")] = False,
) -> None:
    """Import a pair that was issued elsewhere. Exactly one place may refresh it from now on: this one.

    Where the pair in use lives, the import is proved by a refresh at once, and takes its place only with its success.
    """
    from passoproxy.cli.daemons import handle, say_who

    held = handle(config, state)
    token = held.import_pair(_read(file), force)
    if as_json:
        say_json({**token, "daemon": held.daemon})
    else:
        say(f"imported; {in_short(token)}")
        say_who(held)


@commands.command("export")
def export_pair(
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Acknowledges that the tokens are printed in clear.")
    ] = False,
) -> None:
    """Hand the pair over: print it as JSON, for `token import` elsewhere. Whoever reads it has the account.

    From then on it is renewed elsewhere, and serves here to its last second. 'token refresh --force', or importing the same pair here again,
    takes it back while nobody has renewed it.
    """
    from passoproxy.cli.daemons import handle, say_who

    if not reveal:
        raise UsageFailure("export prints the tokens in clear and hands the pair over; say so with --reveal")
    held = handle(config, state)
    pair = held.export_pair()
    try:
        say_json(pair)
        sys.stdout.flush()
    except OSError as error:
        raise _kept(held, error) from error
    if pair.get("refresh_token"):
        note(
            "passoproxy: handed over: this pair is not renewed here any more; "
            "'passoproxy token refresh --force' takes it back while nobody else has renewed it"
        )
    say_who(held)


def _kept(held: Handle, error: OSError) -> CommandFailure:
    """Nobody has the whole of what was to be printed, so the pair is taken back: renewed, so that the part that left is worth nothing."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 the interpreter flushes it once more at its end, and would fail again
    said = f"the pair could not be printed ({error.strerror})"
    try:
        held.refresh(True)
    except CommandFailure as fault:
        return CommandFailure(
            f"{said}, and is handed over all the same, because it could not be taken back: {fault}; run 'passoproxy token refresh --force'"
        )
    return CommandFailure(f"{said}; it was taken back and renewed, so what was printed of it is worth nothing")


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
            ("next refresh", moment(number_of(token, "next_refresh_at"))),
            ("obtained", moment(number_of(token, "obtained_at"))),
            ("grant", str(token.get("grant"))),
            ("generation", str(token.get("generation", 0))),
            *([("kept", str(token["kept"]))] if token.get("kept") else []),
        )
    )
    if token.get("remedy"):
        say(f"\nwhat to do: {token['remedy']}")
