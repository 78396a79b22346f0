"""Bad input as the whole program meets it: one line that names what, where and what to do, its exit code, no traceback, and nothing lost.

What is said of each fault is tested beside what finds it (tests/config, tests/cli).
"""

from __future__ import annotations

import json
import socket

import pytest

from tests.journeys.conftest import Stand, ask, until


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["config", "check"], 78, ["upstream.max_concurency", "max_concurrency"]),
        (["serve"], 78, ["upstream.max_concurency", "max_concurrency"]),
        (["srve"], 2, ["srve", "serve"]),
        (["token", "import", "nowhere.json"], 1, ["nowhere.json"]),
        (["status"], 3, ["passoproxy serve"]),
    ],
)
def test_a_fault_is_one_line_and_an_exit_code(stand: Stand, command: list[str], code: int, words: list[str]) -> None:
    if code == 78:
        stand.configure(upstream={"max_concurency": 3})
    done = stand.run(*command, *(["--config", str(stand.config)] if code != 2 else []))
    assert done.returncode == code, done
    assert (len(done.stderr.strip().splitlines()), "Traceback" in done.stderr) == (1, False)
    assert all(word in done.stderr for word in words), done.stderr


def test_what_keeps_a_daemon_from_starting(stand: Stand) -> None:
    with socket.create_server(("127.0.0.1", stand.port)):
        taken = stand.run("serve")
    assert (taken.returncode, len(taken.stderr.strip().splitlines())) == (69, 1)
    assert f"127.0.0.1:{stand.port}" in taken.stderr
    assert "server.listen" in taken.stderr
    # /proc takes no folders, whoever asks: so this holds for root as well
    stand.configure(state={"directory": "/proc/passoproxy-state"})
    closed = stand.run("serve")
    assert (closed.returncode, len(closed.stderr.strip().splitlines())) == (73, 1)
    assert "/proc/passoproxy-state" in closed.stderr
    assert "state.directory" in closed.stderr


def test_unreadable_state_is_kept_aside_and_the_daemon_starts(stand: Stand) -> None:
    stand.begin()
    stand.stop_daemon()
    files = [
        path for path in (stand.folder / "state").rglob("*") if path.is_file() and b"access_token" in path.read_bytes()
    ]
    assert files
    for path in files:
        path.write_bytes(b"\x00garbage")
    stand.start_daemon()
    status = stand.status()
    assert status["token"]["access"] == "none"
    kept = [
        path for path in (stand.folder / "state").rglob("*") if path.is_file() and path.read_bytes() == b"\x00garbage"
    ]
    assert len(kept) == len(files)
    assert any(path.name in json.dumps(status) or path.name in stand.daemon.said for path in kept)  # type: ignore[union-attr]


def test_a_second_daemon_on_the_same_state_folder(shared_stand: Stand, stand: Stand) -> None:
    stand.sandbox_port = shared_stand.sandbox_port  # another configuration would not be told the pair
    stand.configure(state={"directory": str(shared_stand.folder / "state")})
    stand.start_daemon(ready=True)  # it follows, and says so
    assert stand.token["role"] == "following"
    assert "this process does not own the pair" in stand.daemon.said
    assert str(shared_stand.folder / "state") in stand.daemon.said
    assert shared_stand.token["role"] == "owner"
    assert stand.stop_daemon() == 0
    assert shared_stand.get("/api/v2/languages").status == 200


def test_a_provider_that_is_away_at_a_login(stand: Stand) -> None:
    stand.start_daemon()
    process, url = stand.begin_login()
    state = url.partition("state=")[2].partition("&")[0]
    assert until(lambda: ask(stand.admin_port, f"/oauth/callback?code=x&state={state}").status)
    assert process.wait(30) == 69
    assert f"127.0.0.1:{stand.sandbox_port}" in process.said
    assert "Traceback" not in process.said
