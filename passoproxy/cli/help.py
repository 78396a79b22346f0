"""The help of the commands: plain text in 80 columns, with the kinds of values that people read in the documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperCommand

_RANGE = re.compile(r"(\d+)<=x<=(\d+)")
_LEAST_NONE = re.compile(r"; x>=0|  \[x>=0\]")

_SHARED = ("--config", "--state", "--json", "--help")
"""Options of nearly every command; they stand last."""


class Command(TyperCommand):
    """A command whose help names an argument as its usage line does, without Python's types."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """`[OPTIONS] URL [FILE]`."""
        return ["[OPTIONS]", *(_in_usage(each) for each in arguments_of(self))]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, then options; a default and a range in plain words."""
        told = [(each, record) for each in self.get_params(ctx) if (record := each.get_help_record(ctx))]
        told.sort(key=lambda row: row[0].opts[-1] in _SHARED)
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            rows = [
                (str(each.metavar) if kind == "argument" else record[0], _in_words(record[1]))
                for each, record in told
                if each.param_type_name == kind
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=26)


def arguments_of(command: Any) -> list[Any]:
    """The parameters of a command that are no options."""
    return [each for each in command.params if each.param_type_name == "argument"]


def walk(program: typer.Typer) -> Iterator[tuple[str, Any]]:
    """Every group and command with its path, such as `cache list`; the program itself has the empty path."""

    def below(path: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield path, command
        for name, each in getattr(command, "commands", {}).items():
            yield from below(f"{path} {name}".strip(), each)

    return below("", typer.main.get_command(program))


def text_of(path: str, command: Any, name: str) -> str:
    """The help of a command, without parsing an argument: the parser imports pydantic."""
    return str(command.get_help(typer.Context(command, info_name=f"{name} {path}".strip())))


def _in_usage(argument: Any) -> str:
    is_bare = argument.required or argument.metavar.startswith("--")
    return str(argument.metavar) if is_bare else f"[{argument.metavar}]"


def _in_words(help: str) -> str:
    text = _LEAST_NONE.sub("", help.replace("  [required]", ""))
    return _RANGE.sub(r"\1 to \2", text)
