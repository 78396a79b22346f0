"""What commands print."""

from __future__ import annotations

import json

import pytest

from passoproxy.cli import output

HOSTILE = "a\tb\x9b31mc\x1b[0m\u202e"


def test_nothing_that_steers_a_terminal_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(f"X-A: {HOSTILE}")
    output.note(HOSTILE)
    said = capsys.readouterr()
    assert said.out == "X-A: a\tb\\u009b31mc\\u001b[0m\\u202e\n"
    assert said.err == "a\tb\\u009b31mc\\u001b[0m\\u202e\n"


def test_json_stays_what_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    output.say_json({"fields": [["X-A", HOSTILE]]})
    printed = capsys.readouterr().out
    assert "\x9b" not in printed
    assert json.loads(printed) == {"fields": [["X-A", HOSTILE]]}


def test_a_long_line_hangs_on_a_terminal_and_stays_one_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    text = "origin  http://127.0.0.1:8620/a-long-path/b is away"
    assert output.hung(text, 8) == text
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert output.hung(text, 8) == "origin\n        http://127.0.0.1:8620/a-long-path/b\n        is away"
