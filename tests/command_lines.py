"""Command lines that people read, held against the program's own parser."""

from __future__ import annotations

import re
import shlex
from typing import Any

from passoproxy.cli import app, help

TREE = dict(help.walk(app.build()))
"""Every command and group by its path."""


def parse(line: str) -> None:
    """Raises if a line `passoproxy ...` has an unknown command or option, or a missing argument. Nothing is run."""
    words = shlex.split(re.split(r" [|>#&<]", line)[0])
    for count in (3, 2):
        command: Any = TREE.get(" ".join(words[1:count]))
        if command is not None and (count == 3 or not hasattr(command, "commands")):
            command.make_context(words[1], [each for each in words[count:] if each != "--help"])
            return
    raise ValueError(f"{line}: no such command")
