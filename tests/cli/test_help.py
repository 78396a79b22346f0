"""The help of every command, as people read it."""

from __future__ import annotations

import re

import pytest

from tests.cli.conftest import Run
from tests.command_lines import TREE, parse

COMMANDS = sorted(path for path, each in TREE.items() if not hasattr(each, "commands"))


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command(run: Run, path: str) -> None:
    said = run(*path.split(), "--help")
    assert (said.code, said.err) == (0, "")
    assert f"Usage: passoproxy {path} [OPTIONS]" in said.out
    assert "--config PATH" in said.out
    # typed values, not Python's types; no brackets within brackets
    assert not re.search(r"<\w+|x>=|<=x|\[\[|\{|\[required", said.out)
    assert max(map(len, said.out.splitlines())) <= 80
    examples = re.findall(rf"^    (?:eval \"\$\()?(passoproxy {path}\b[^)\n]*)", said.out, re.M)
    assert examples
    for line in examples:
        parse(line)


@pytest.mark.parametrize("path", sorted(set(TREE) - set(COMMANDS)))
def test_groups_tell_each_command_in_a_whole_line(run: Run, path: str) -> None:
    out = run(*path.split(), "--help").out
    assert max(map(len, out.splitlines())) <= 80
    assert "..." not in out.replace("[ARGS]...", "")
    for name in TREE[path].commands:
        assert re.search(rf"^  {name}  +[A-Z]", out, re.M), name


def test_help_among_other_options(run: Run) -> None:
    assert run("status", "--json", "--help").out == run("status", "--help").out == run("help", "status").out
    assert run("help").out == run("--help").out
    assert run("token", "nothing", "--help").code == 2
