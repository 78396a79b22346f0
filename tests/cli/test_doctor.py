"""`doctor`: what is typed wrongly, and how its findings are shown; what it finds is in tests/journeys/test_doctor.py."""

from __future__ import annotations

import pytest

from passoproxy.cli.doctor import _say
from passoproxy.doctor import Finding, Verdict
from tests.cli.conftest import Run, Terminal


@pytest.mark.parametrize("path", ["api/v2/languages", "http://127.0.0.1:8610/x", "/a b", "/ä"])
def test_a_path_that_can_not_be_asked_for(run: Run, path: str) -> None:
    said = run("doctor", "--path", path)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"passoproxy: --path: {path!r}")


def test_findings_fit_the_terminal_and_a_command_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    command = f"chmod 700 /{'x' * 90}"
    _say(Finding("disk of cache.directory", Verdict.FAILED, "a synced write took 14 ms, " * 4, command), as_json=False)
    *seen, remedy = out.getvalue().splitlines()
    assert [line[:26] for line in seen] == ["✗ disk of cache.directory ", *[" " * 26] * (len(seen) - 1)]
    assert max(map(len, seen)) <= 80
    assert remedy.strip() == f"→ {command}"
