"""The completion scripts, each in its shell."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from pathlib import Path

from tests.cli.conftest import Run
from tests.conftest import program

LINES = [
    ("passoproxy ca", "cache"),
    ("passoproxy cache pu", "purge"),
    ("passoproxy cache purge --so", "--soft"),
    ("passoproxy tail --json --cache mi", "miss"),
    ("passoproxy drill --fault clo", "clock_step"),
    ("passoproxy completion zs", "zsh"),
]


def script(run: Run, folder: Path, shell: str) -> Path:
    said = run("completion", shell)
    assert (said.code, said.err) == (0, "")
    path = folder / f"script.{shell}"
    path.write_text(said.out)
    return path


def test_bash_starts_no_program(run: Run, tmp_path: Path) -> None:
    """So it takes no time worth a figure, and needs no Python."""
    asked = 'at() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _passoproxy; echo "${COMPREPLY[*]}"; }; '
    lines = [
        *(line for line, _ in LINES),
        "passoproxy run -- cu",
        "passoproxy serve --config ''",
        "passoproxy status ''",
    ]
    code = f"PATH=; source {script(run, tmp_path, 'bash')}; {asked}" + "; ".join(f"at {line}" for line in lines)
    done = subprocess.run([program("bash"), "--norc", "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    # what bash is given nothing for is completed as a file
    assert done.stdout.splitlines() == [*(word for _, word in LINES), "", "", "--config --state --json --help"]


def test_fish(run: Run, tmp_path: Path) -> None:
    asked = "; ".join(f"complete -C '{line}' | string split -f 1 \\t | head -n 1" for line, _ in LINES)
    code = f"source {script(run, tmp_path, 'fish')}; {asked}"
    environ = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [program("fish"), "--no-config", "-c", code], capture_output=True, text=True, timeout=60, env=environ
    )
    assert (done.stdout.splitlines(), done.stderr) == ([word for _, word in LINES], "")


def test_zsh(run: Run, tmp_path: Path) -> None:
    """On a terminal: zsh completes on no other."""
    path, zsh = script(run, tmp_path, "zsh"), program("zsh")
    terminal, inner = pty.openpty()
    environ = {**os.environ, "TERM": "dumb", "HOME": str(tmp_path)}
    child = subprocess.Popen(
        [zsh, "-f", "-i"], stdin=inner, stdout=inner, stderr=inner, env=environ, start_new_session=True
    )
    os.close(inner)
    try:
        type_in(terminal, f"autoload -U compinit; compinit -D -u; source {path}; echo rea''dy\n", "ready\r\n")
        for line, word in LINES:
            type_in(terminal, f"\x15{line}\t", f" {word} ")  # ^U empties the line
    finally:
        child.kill()
        child.wait(timeout=30)
        os.close(terminal)


def type_in(terminal: int, text: str, wanted: str) -> None:
    os.write(terminal, text.encode())
    seen, end = b"", time.monotonic() + 60
    while wanted.encode() not in seen:
        assert select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0], (wanted, seen)
        seen += os.read(terminal, 4096)


def test_an_unknown_shell(run: Run) -> None:
    said = run("completion", "tcsh")
    assert said.code == 2
    assert "name one of bash, zsh, fish" in said.err
