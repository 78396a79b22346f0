"""The demonstration: what it shows, in a pipe and on a terminal, and that it leaves nothing behind."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import pytest

from passoproxy import demo
from passoproxy.demo import SAMPLES, Sample, ask_twice, authorise, decide, run, stage
from passoproxy.errors import CommandFailure, UsageFailure


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_the_second_answer_comes_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # what configures a person's own daemon has no say here
    monkeypatch.setenv("PASSOPROXY__SERVER__LISTEN", "nonsense")
    monkeypatch.setenv("PASSOPROXY__OAUTH__CLIENT_ID", "somebody")
    monkeypatch.setenv("HTTPS_PROXY", "http://192.0.2.1:1")
    async with stage(3600.0) as at:
        samples = await ask_twice(at)
        assert at.admin.startswith("http://127.0.0.1:")
    assert [sample.name for sample in samples[::2]] == [name for name, _ in SAMPLES]
    assert {sample.status for sample in samples} == {200}
    for first, second in zip(samples[::2], samples[1::2], strict=True):
        assert first.cache_status.startswith("passoproxy; fwd=uri-miss")
        assert second.cache_status.startswith("passoproxy; hit")
        assert first.size == second.size
        assert 3500 < (second.runway or 0) <= 3600
    assert list(tmp_path.iterdir()) == []


async def test_a_sandbox_that_does_not_approve(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(3600.0) as at:
        assert "error=access_denied" in await decide((await at.wired.control.begin_login()).url, "deny")

        async def denied(url: str, decision: str) -> str:
            return "http://127.0.0.1/?error=access_denied"

        monkeypatch.setattr(demo, "decide", denied)
        with pytest.raises(CommandFailure, match="did not approve"):
            await authorise(at.wired)


def test_a_lifetime_that_no_token_can_have() -> None:
    with pytest.raises(UsageFailure, match="lifetime"):
        run(lifetime=-1.0, stay=False)


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_shown(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    out = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert run(stay=False) == 0
    said = out.getvalue()
    assert said.count("  GET /api/v2/") == len(SAMPLES)
    assert "curl" not in said  # it would ask what is gone
    assert said.count("hit; ttl=") == len(SAMPLES)
    assert said.count("fwd=uri-miss") == len(SAMPLES)
    assert ("\x1b[32mhit" in said) is terminal
    assert "status page  http://127.0.0.1:" in said


def test_a_narrow_terminal_shortens_the_longest_column_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    stored = "passoproxy; fwd=uri-miss; fwd-status=200; stored; ttl=3599; detail=OVERRIDE"
    demo._say_samples([Sample("Conditions as PDF", "first", 200, stored, 0.0123, 6_090, 3599.0)])
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if "Conditions as PDF" in line)
    for whole in ("200", "fwd=uri-miss", "12.3 ms", "6,090 B", "59 min 59 s"):
        assert whole in row


def test_a_sample_that_fails_is_a_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def failed(at: object) -> list[Sample]:
        return [Sample("Visa", "first", 502, "passoproxy; fwd=uri-miss", 0.1, 5, None)]

    monkeypatch.setattr(demo, "ask_twice", failed)
    with pytest.raises(CommandFailure, match="not every sample"):
        run(stay=True)
    assert "502" in capsys.readouterr().out
