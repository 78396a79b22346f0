"""Commands that stay until a signal: `serve`, `sandbox`, `demo`; in this process, with the signal from a thread."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from passoproxy.cli import main
from passoproxy.demo import SAMPLES
from tests.cli.conftest import Run, Terminal
from tests.whole import Place

Stay = Callable[..., tuple[int, str]]


class Pipe(Terminal):
    """An output whose reader has what was flushed."""

    taken = ""

    def flush(self) -> None:
        self.taken = self.getvalue()


@pytest.fixture
def stay(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stay]:
    """Runs a command until its output matches, then sends the signal."""
    kept = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def stay(*arguments: str, until: Callable[[str], object], how: signal.Signals) -> tuple[int, str]:
        out = Pipe()
        seen: list[bool] = []

        def heeded() -> bool:
            """Whether the command takes the signal: before that it would end the tests."""
            return signal.getsignal(how) is not kept[how]

        def watch() -> None:
            end = time.monotonic() + 60
            while not (found := bool(until(out.taken) and heeded())) and time.monotonic() < end:
                time.sleep(0.02)
            seen.append(found)
            os.kill(os.getpid(), how)

        thread = threading.Thread(target=watch)
        monkeypatch.setattr(sys, "stdout", out)
        thread.start()
        try:
            code = main(list(arguments))
        finally:
            thread.join()
        assert seen == [True], out.getvalue()
        return code, out.getvalue()

    yield stay
    for each, handler in kept.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_sandbox(stay: Stay, how: signal.Signals) -> None:
    code, said = stay("sandbox", "--listen", "127.0.0.1:0", until=lambda out: "token_url" in out, how=how)
    assert code == 0
    base = re.match(r"The sandbox answers at (http://127\.0\.0\.1:\d+) ", said)
    assert base
    assert f"{base[1]}/oauth/token" in said


def test_sandbox_where_somebody_listens(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        said = run("sandbox", "--listen", place)
    why = f"passoproxy: {place}: cannot listen there (Address already in use); choose another --listen\n"
    assert (said.code, said.err) == (69, why)


def test_sandbox_at_a_name_that_nobody_has(run: Run) -> None:
    said = run("sandbox", "--listen", "nobody.invalid:0")
    assert (said.code, "nobody.invalid:0: cannot listen there (" in said.err) == (69, True)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP])
def test_demo(stay: Stay, monkeypatch: pytest.MonkeyPatch, how: signal.Signals) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, said = stay("demo", until=lambda out: "It stays until" in out, how=how)
    assert code == 0
    assert said.endswith("Gone. Nothing was left behind.\n")
    lines = re.sub(r"\x1b\[\d+m", "", said).splitlines()
    to_paste = [line for line in lines if line.startswith("  curl ")]
    assert len(to_paste) == len(SAMPLES)
    assert max(len(line) for line in lines if line not in to_paste) <= 80


def test_serve(stay: Stay, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.write()
    code, _ = stay(
        "serve",
        "--config",
        str(place.config),
        until=lambda _: (tmp_path / "state" / "control.sock").exists(),
        how=signal.SIGTERM,
    )
    assert code == 0
    assert not (tmp_path / "state" / "control.sock").exists()
