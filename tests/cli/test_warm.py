"""`cache warm` and soft purges from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from passoproxy.cli import cache
from passoproxy.cli.client import Remote
from tests.cli.conftest import Beside, Run
from tests.whole import CONTENT, Place, Running

VISA = {"url": "/api/v2/content/visa/json", "body": {"lang": "en", "countries": ["TR"], "nat": ["DE"]}}


@pytest.fixture
def own(place: Place, beside: Beside) -> Running:
    return beside.daemon(place, authorised=True)


def wanted(folder: Path, *lines: object) -> str:
    path = folder / "wanted.txt"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return str(path)


def test_a_file_is_fetched_and_left_alone_the_second_time(run: Run, own: Running, tmp_path: Path) -> None:
    at = ("--config", str(own.place.config))
    file = wanted(tmp_path, "# what is asked for most", "", CONTENT, own.proxy + CONTENT.replace("ZA", "TR"), VISA)
    said = run("cache", "warm", file, *at)
    assert (said.code, said.out) == (0, "3 fetched, 0 fresh already, 0 failed\n")
    assert said.err.startswith("passoproxy: done by the daemon with pid ")
    again = run("cache", "warm", file, *at, "--json").json
    assert again.pop("daemon")["config"] == str(own.place.config)
    assert again == {"fetched": 0, "fresh": 3, "failed": 0, "failures": []}
    assert run("explain", "GET", CONTENT, *at, "--json").json["outcome"] == "hit"


def test_bad_lines_are_told_by_number_and_the_rest_is_done(run: Run, own: Running, tmp_path: Path) -> None:
    lines = ["{broken", CONTENT, "http://elsewhere/", '{"url": "/a", "metod": 1}', "/api/v2/health", "[1]"]
    file = wanted(tmp_path, *lines)
    said = run("cache", "warm", file, "--config", str(own.place.config))
    assert (said.code, said.out) == (1, "1 fetched, 0 fresh already, 5 failed\n")
    told = sorted(line for line in said.err.splitlines() if "done by the daemon" not in line)
    assert [line.split(":")[2] for line in told] == ["1", "3", "4", "5", "6"]
    assert "is no JSON object" in told[0]
    assert "would not be stored" in told[3]


def test_standard_input_and_a_bar_on_a_terminal(run: Run, own: Running) -> None:
    at = ("--config", str(own.place.config))
    assert run("cache", "warm", "-", *at, text=f"\ufeff{CONTENT}\n").out.startswith("1 fetched")
    said = run("cache", "warm", "-", *at, text=f"{CONTENT}\n/api/v2/health\n", bar=True)
    assert said.code == 1
    assert said.out == "0 fetched, 1 fresh already, 1 failed\n"
    assert "0 fetched, 1 fresh already, 1 failed" in said.err
    assert "-:2: /api/v2/health" in said.err
    assert "2/2" in said.err


def test_a_terminal_is_told_that_urls_are_awaited(run: Run, place: Place) -> None:
    said = run("cache", "warm", "-", "--config", str(place.config), typed="/a\n")
    assert said.err.startswith("type URLs or paths, one a line, then press Ctrl-D:\n")


def test_without_a_daemon_it_is_not_running(run: Run, place: Place, tmp_path: Path) -> None:
    said = run("cache", "warm", wanted(tmp_path, CONTENT), "--config", str(place.config))
    assert said.code == 3
    assert "start one with 'passoproxy serve'" in said.err


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        (None, 1, "(No such file or directory); name a file with a URL or path a line"),
        (b"\xff\xfe/a", 2, "is not UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_read(
    run: Run, place: Place, tmp_path: Path, data: bytes | None, code: int, text: str
) -> None:
    path = tmp_path / "file"
    if data is not None:
        path.write_bytes(data)
    said = run("cache", "warm", str(path), "--config", str(place.config))
    assert said.code == code
    assert text in said.err


def test_ctrl_c_says_how_to_go_on(run: Run, own: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(remote: Remote, described: Any) -> Iterator[Any]:
        yield {"number": 1, "url": "/a", "outcome": "fetched", "status": 200, "detail": ""}
        raise KeyboardInterrupt

    monkeypatch.setattr(Remote, "warm", stopped)
    said = run("cache", "warm", wanted(tmp_path, CONTENT), "--config", str(own.place.config))
    assert said.code == 130
    assert "stopped; 1 fetched" in said.err
    assert "Run it again to go on: fresh entries are not fetched again" in said.err


def test_orders_go_in_bounded_calls_and_none_is_lost(
    run: Run, own: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def short(remote: Remote, described: list[Any]) -> Iterator[Any]:
        calls.append(len(described))
        for each in described[:-1]:  # the last one is not answered for
            yield {"number": each["number"], "url": each["url"], "outcome": "fresh", "status": None, "detail": ""}

    monkeypatch.setattr(Remote, "warm", short)
    monkeypatch.setattr(cache, "MOST_AT_ONCE", 10)
    file = wanted(tmp_path, *(f"/a/{number}" for number in range(25)))
    said = run("cache", "warm", file, "--config", str(own.place.config))
    assert (said.code, said.out, calls) == (1, "0 fetched, 22 fresh already, 3 failed\n", [10, 10, 5])
    assert "the daemon stopped before it came to this" in said.err


def test_a_soft_purge(run: Run, own: Running, tmp_path: Path) -> None:
    at = ("--config", str(own.place.config))
    run("cache", "warm", wanted(tmp_path, CONTENT), *at)
    assert run("cache", "purge", "--route", "content-health", "--soft", *at).out == "1 entry made stale\n"
    assert run("cache", "purge", "--all", "--soft", *at, "--json").json.items() >= {"purged": 1, "soft": True}.items()
    assert "stale" in run("cache", "list", *at).out
    assert run("cache", "purge", "--soft", *at).code == 2
    assert run("cache", "warm", wanted(tmp_path, CONTENT), *at).out.startswith("1 fetched")
