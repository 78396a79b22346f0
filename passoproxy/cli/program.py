"""The program: its commands gathered, and every failure turned into one line on standard error and an exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from passoproxy import __version__
from passoproxy.cli import alert, cache, config, demo, drill, explain, login, logout, sandbox, serve, status, token
from passoproxy.errors import PassoproxyError

NAME = "passoproxy"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{NAME} {__version__}")
        raise typer.Exit


def build() -> typer.Typer:
    """The whole command line."""
    program = typer.Typer(name=NAME, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

    @program.callback(
        help="Holds one OAuth service account for applications that know nothing of OAuth, and caches what it is answered."
    )
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
        ] = False,
        debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of faults.")] = False,
    ) -> None:
        pass

    program.command("serve")(serve.serve)
    program.command("demo")(demo.demo)
    program.command("status")(status.status)
    program.command("login")(login.login)
    program.command("logout")(logout.logout)
    program.add_typer(token.commands, name="token")
    program.add_typer(cache.commands, name="cache")
    program.add_typer(alert.commands, name="alert")
    program.add_typer(config.commands, name="config")
    program.command("explain")(explain.explain)
    program.command("sandbox")(sandbox.sandbox)
    program.command("drill")(drill.drill)
    return program


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code; a traceback is shown only with `--debug`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    own = given[: given.index("--")] if "--" in given else given
    debug = "--debug" in own
    given = [each for each in own if each != "--debug"] + given[len(own) :]
    logging.captureWarnings(True)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that is no text is no reason to fail
    return _to_the_end(_done(given, debug))


def _done(given: list[str], debug: bool) -> int:
    try:
        result = typer.main.get_command(build()).main(args=given, prog_name=NAME, standalone_mode=False)
    except TyperException as error:
        return _usage(error)
    except PassoproxyError as error:
        return _failed(error, debug)
    except typer.Abort:
        return _say("stopped", 130)
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _say(
            f"a fault inside passoproxy: {type(error).__name__}: {error}; run again with --debug for the details", 1
        )
    return result if isinstance(result, int) else 0


def _to_the_end(code: int) -> int:
    """Whoever read our output may have gone: then the interpreter must not find the rest of it at its end, and complain."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _usage(error: TyperException) -> int:
    text = error.format_message().rstrip(".") if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else NAME
    said = " ".join(text.split())
    if not said:
        return 2  # a command group on its own has shown its help already
    return _say(f"{said}{' See' if said.endswith('?') else '; see'} '{command} --help'", 2)


def _failed(error: PassoproxyError, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    for line in str(error).splitlines() or [type(error).__name__]:
        _say(line, error.exit_code)
    return error.exit_code


def _say(line: str, code: int) -> int:
    print(f"{NAME}: {line}", file=sys.stderr)  # noqa: T201 the terminal is this module's business
    return code
