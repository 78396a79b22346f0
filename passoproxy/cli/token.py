"""`passoproxy token …`: the pair's state, a refresh now, and moving a pair in and out. Only `--reveal` prints a token."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passoproxy.cli.options import ConfigOption, JsonOption, StateOption, flag
from passoproxy.cli.output import access, chain, facts, in_short, moment, note, number_of, runway, say, say_json
from passoproxy.errors import CommandFailure, UsageFailure

if TYPE_CHECKING:
    from passoproxy.cli.client import Local, Remote

commands = typer.Typer(no_args_is_help=True, help="Show, refresh, import and export the pair.")


@commands.command("status")
def token_status(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Show the pair's state, never a token.

    \b
    Example:
      passoproxy token status --json
    """
    from passoproxy.cli.client import handle

    token = handle(config, state).call("GET", "/api/status", None, lambda control: control.status())["token"]
    say_json(token) if as_json else _show(token)


@commands.command("refresh")
def refresh(
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    force: Annotated[bool, flag("--force", "Try once even a token that is dead or handed over.")] = False,
) -> None:
    """Refresh the pair now and wait until the new one is in use.

    \b
    Example:
      passoproxy token refresh
    """
    from passoproxy.cli.client import handle, report

    held = handle(config, state)
    token = _refreshed(held, force)
    report(held, token, as_json, f"refreshed; {in_short(token)}")


def _refreshed(held: Remote | Local, force: bool) -> dict[str, Any]:
    body = {"force": True} if force else b""
    return dict(held.call("POST", "/api/token/refresh", body, lambda control: control.refresh(force), keep=True))


@commands.command("import")
def import_pair(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="The pair as JSON, as the token endpoint answers it; - for standard input."
        ),
    ] = "-",
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    force: Annotated[bool, flag("--force", "Take it unproved, even if the pair in use lives.")] = False,
) -> None:
    """Import a pair that was issued elsewhere.

    From now on, only this place may refresh it. If the pair in use lives, the imported one is refreshed at once, and takes its place only
    if that succeeds.

    \b
    Example:
      passoproxy token import pair.json
    """
    from passoproxy.cli.client import handle, report

    held = handle(config, state)
    document = _read(file)
    path = f"/api/token/import{'?force=1' if force else ''}"
    token = held.call("POST", path, document, lambda control: control.import_pair(document, force), keep=True)
    report(held, token, as_json, f"imported; {in_short(token)}")


@commands.command("export")
def export_pair(
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    reveal: Annotated[bool, flag("--reveal", "Print the tokens in clear.")] = False,
) -> None:
    """Hand the pair over: print it for 'token import' elsewhere.

    The JSON gives access to the account. From then on the pair is renewed elsewhere, and serves here until it expires. 'token refresh
    --force', or importing the same pair here again, takes it back if no other place has renewed it.

    \b
    Example:
      passoproxy token export --reveal | ssh other passoproxy token import
    """
    from passoproxy.cli.client import handle, say_who

    if not reveal:
        raise UsageFailure("export prints the tokens in clear and hands the pair over; say so with --reveal")
    held = handle(config, state)
    pair = held.call("GET", "/api/token/export", None, lambda control: control.export_pair(), keep=True)
    try:
        say_json(pair)
        sys.stdout.flush()
    except OSError as error:
        raise _kept(held, error) from error
    if pair.get("refresh_token"):
        note(
            "passoproxy: handed over: this pair is not renewed here any more; "
            "'passoproxy token refresh --force' takes it back if no other place has renewed it"
        )
    say_who(held)


def _kept(held: Remote | Local, error: OSError) -> CommandFailure:
    """The JSON was not printed whole, so the pair is taken back and renewed: the part that left is then worth nothing."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 the interpreter flushes it once more at its end, and would fail again
    said = f"the pair could not be printed ({error.strerror})"
    try:
        _refreshed(held, True)
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
