"""The command line: its commands, and every failure as one line on standard error with an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from passoproxy.cli import NAME, show_version
from passoproxy.cli.help import Command, text_of, walk
from passoproxy.errors import AccessDenied, PassoproxyError

COMMANDS = (
    *("serve", "run", "demo", "status", "tail", "page", "doctor", "wait", "quit", "login", "logout"),
    *("token", "cache", "alert", "config"),
    *("explain", "sandbox", "drill", "completion"),
)
"""Each is a module here, with a function of the same name, or with a group of `commands`."""

_WITH_FAULTS = ("sandbox", "drill")
"""Those that take `--fault`; their modules have the `names` of what can be given to it."""

_ABOUT = """Holds one OAuth service account for applications without OAuth, adds its token to their requests, and caches the answers.

\b
Example:
  passoproxy demo             try it without an account
  passoproxy config init      write a configuration to start from
  passoproxy serve            run the daemon
  passoproxy login            authorise the account, in a second terminal

The configuration is the file of --config, else $PASSOPROXY_CONFIG, ./config.yaml, $XDG_CONFIG_HOME/passoproxy/config.yaml or
/etc/passoproxy/config.yaml."""

_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def _show_version(wanted: bool) -> None:
    if wanted:
        show_version()
        raise typer.Exit


def build(names: Sequence[str] = COMMANDS) -> typer.Typer:
    """The command line with these commands. The module of a command is imported here, and no other."""
    # plain help: rich takes longer to import than all the rest
    program = typer.Typer(
        name=NAME,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @program.callback(help=_ABOUT)
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
        ] = False,
        debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of faults.")] = False,
    ) -> None:
        pass

    for name in names:
        module = import_module(f"passoproxy.cli.{name}")
        if (group := getattr(module, "commands", None)) is not None:
            for each in group.registered_commands:
                each.cls = Command
            program.add_typer(group, name=name)
        else:
            # what follows the command that `run` runs is that command's
            settings = {"allow_interspersed_args": False} if name == "run" else None
            program.command(name, cls=Command, context_settings=settings)(getattr(module, name))
    return program


def run(given: list[str]) -> int:
    """Runs the command line and returns the exit code; a traceback is shown only with `--debug`."""
    if given[:1] == ["help"]:
        given = [*given[1:], "--help"]
    own = given[: given.index("--")] if "--" in given else given
    debug = "--debug" in own
    given = [each for each in own if each != "--debug"] + given[len(own) :]
    warnings.showwarning = _unheard
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 it is needed to the end of the process
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that is no text is no reason to fail
    return _to_the_end(_done(given, debug))


def _done(given: list[str], debug: bool) -> int:
    try:
        program = build(given[:1] if given and given[0] in COMMANDS else COMMANDS)
        if given[-1:] == ["--help"] and (found := dict(walk(program)).get(path := " ".join(given[:-1]))):
            with contextlib.suppress(BrokenPipeError):  # its reader has gone
                print(text_of(path, found, NAME))  # noqa: T201 the terminal is this module's business
            return 0
        result = typer.main.get_command(program).main(args=given, prog_name=NAME, standalone_mode=False)
    except TyperException as error:
        return _usage(error, given)
    except PassoproxyError as error:
        return _failed(error, debug, given)
    except typer.Abort:
        return _say("stopped", 130)
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, OSError) and error.errno in _NO_ROOM and error.filename is None:
            return _unwritten(error)
        if isinstance(error, FileNotFoundError) and not _has_working_folder():
            return _say("the working folder is gone; change to one that is there, and run this again", 1)
        return _say(
            f"a fault inside passoproxy: {type(error).__name__}: {error}; run again with --debug for the details", 1
        )
    return result if isinstance(result, int) else 0


def _has_working_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _unheard(*_: object, **__: object) -> None:
    """In the place of `warnings.showwarning`: a library's warnings are not for the user of a command."""


def _to_the_end(code: int) -> int:
    """Flushes the output. If its reader has gone, the rest is dropped, so that the interpreter does not complain at its end."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            code = _unwritten(error)
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _unwritten(error: OSError) -> int:
    return _say(f"the output cannot be written ({error.strerror}); send it to where there is room", 1)


def _usage(error: TyperException, given: Sequence[str] = ()) -> int:
    text = error.format_message().rstrip(".") if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else _command_of(given)
    option = str(getattr(error, "option_name", ""))
    said = " ".join(text.split())
    if context is not None and str(error) == context.get_help():  # a group of commands without a command
        print(error, file=sys.stderr)  # noqa: T201 the terminal is this module's business
        return 2
    if option in ("--config", "--json") and command == NAME and len(given) > 1:
        said = f"{option} goes after the command, such as '{NAME} status {option}'"
    elif option == "--fault" and (name := command.removeprefix(f"{NAME} ")) in _WITH_FAULTS:
        said = f"{said}; known are {', '.join(import_module(f'passoproxy.cli.{name}').names())}"
    return _say(f"{said}{' See' if said.endswith('?') else '; see'} '{command} --help'", 2)


def _command_of(given: Sequence[str]) -> str:
    """The command that the arguments name, for the parser's errors that do not tell."""
    known = dict(walk(build()))
    paths = (" ".join(given[:count]) for count in (2, 1))
    return f"{NAME} {next((path for path in paths if path in known), '')}".strip()


def _failed(error: PassoproxyError, debug: bool, given: Sequence[str]) -> int:
    if debug:
        traceback.print_exception(error)
    text = str(error)
    if isinstance(error, AccessDenied) and error.user is not None:
        text += f"; run: {_by(error.user, error.state, given)}"
    for line in text.splitlines() or [type(error).__name__]:
        _say(line, error.exit_code)
    return error.exit_code


def _by(user: int, state: Path | None, given: Sequence[str]) -> str:
    """The same command for a user who may run it. sudo keeps the working folder and few of the variables."""
    named = ["--state", str(state)] if state is not None and "--state" not in given else []
    return shlex.join(["sudo", *(["-u", f"#{user}"] if user else []), NAME, *given, *named])


def _say(line: str, code: int) -> int:
    print(f"{NAME}: {line}", file=sys.stderr)  # noqa: T201 the terminal is this module's business
    return code
