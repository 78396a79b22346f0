"""Bad input of each kind: one line that names what, where and what to do, its exit code, no traceback, and nothing lost."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.conftest import program
from tests.journeys.conftest import PROGRAM, Stand, ask, until


def one_line(done: subprocess.CompletedProcess[str], code: int, *words: str, lines: int = 1) -> str:
    """Exactly so many lines on standard error, with every word in them."""
    said = done.stderr.strip()
    assert done.returncode == code, (done.returncode, done.stdout, said)
    assert len(said.splitlines()) == lines, said
    assert "Traceback" not in done.stdout + said
    for word in words:
        assert word in said, (word, said)
    return said


def test_yaml_that_does_not_parse(stand: Stand) -> None:
    stand.config.write_text("provider: passolution\noauth: [\n")
    for command in (["config", "check"], ["serve"], ["status"]):
        one_line(stand.run(*command, "--config", str(stand.config)), 78, "config.yaml", "line", "column")


def test_every_fault_of_the_configuration_is_told_at_once(stand: Stand) -> None:
    stand.configure(upstream={"max_concurency": 3, "connect_timeout": "soon"})
    said = stand.run("config", "check", "--config", str(stand.config))
    one_line(said, 78, "config.yaml", "upstream.max_concurency", "max_concurrency", "connect_timeout", "30s", lines=2)


def test_port_in_use(stand: Stand) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", stand.port))
        taken.listen()
        one_line(stand.run("serve", "--config", str(stand.config)), 69, f"127.0.0.1:{stand.port}", "server.listen")


def test_unwritable_state_folder(stand: Stand) -> None:
    # /proc takes no folders, whoever asks: so the test holds for root as well.
    stand.configure(state={"directory": "/proc/passoproxy-state"})
    one_line(stand.run("serve", "--config", str(stand.config)), 73, "/proc/passoproxy-state", "state.directory")


def test_unreadable_state_is_kept_aside_and_the_daemon_starts(stand: Stand) -> None:
    stand.start_sandbox()
    stand.start_daemon()
    stand.login()
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


@pytest.mark.parametrize("running", [False, True], ids=["no daemon", "daemon"])
def test_an_import_that_is_no_pair(shared_stand: Stand, stand: Stand, running: bool) -> None:
    config = (shared_stand if running else stand).config
    for document, word in (("no json", "JSON"), ('{"refresh_token": "def-planted-secret"}', "access_token"), ("", "")):
        said = one_line(stand.run("token", "import", "-", "--config", str(config), text=document), 1, word)
        assert "planted" not in said
    assert shared_stand.status()["token"]["access"] == "valid"


def test_an_import_from_a_file_that_is_not_there(stand: Stand) -> None:
    one_line(stand.run("token", "import", "nowhere.json", "--config", str(stand.config)), 1, "nowhere.json")


def test_a_redirect_with_a_wrong_state(shared_stand: Stand) -> None:
    answer = ask(shared_stand.admin_port, "/oauth/callback?code=x&state=wrong")
    assert 400 <= answer.status < 500
    assert b"state" in answer.body
    pasted = shared_stand.run(
        "login",
        "--paste",
        "--config",
        str(shared_stand.config),
        text=f"{shared_stand.admin}/oauth/callback?code=x&state=no\n",
    )
    assert pasted.returncode != 0
    assert "state" in pasted.stderr
    assert "Traceback" not in pasted.stderr


def test_a_denied_login(shared_stand: Stand) -> None:
    process, url = shared_stand.begin_login()
    back = shared_stand.approve(url, "deny").partition("?")[2]
    page = ask(shared_stand.admin_port, f"/oauth/callback?{back}")
    assert 400 <= page.status < 500
    assert process.wait(30) == 77
    assert "access_denied" in process.said
    assert shared_stand.status()["token"]["access"] == "valid"


def test_a_second_daemon_on_the_same_state_folder(shared_stand: Stand, stand: Stand) -> None:
    stand.sandbox_port = shared_stand.sandbox_port  # another configuration would not be told the pair
    stand.configure(state={"directory": str(shared_stand.folder / "state")})
    stand.start_daemon(ready=True)  # it follows, and says so
    assert stand.status()["token"]["role"] == "following"
    assert stand.daemon is not None
    assert "this process does not own the pair" in stand.daemon.said
    assert str(shared_stand.folder / "state") in stand.daemon.said
    assert shared_stand.status()["token"]["role"] == "owner"
    assert stand.stop_daemon() == 0
    assert shared_stand.get("/api/v2/languages").status == 200


@pytest.mark.parametrize("running", [False, True], ids=["no daemon", "daemon"])
def test_provider_unreachable_at_login(stand: Stand, running: bool) -> None:
    if running:
        stand.start_daemon()
    process, url = stand.begin_login()
    state = url.partition("state=")[2].partition("&")[0]
    assert until(lambda: ask(stand.admin_port, f"/oauth/callback?code=x&state={state}").status)
    assert process.wait(30) == 69
    assert f"127.0.0.1:{stand.sandbox_port}" in process.said
    assert "Traceback" not in process.said


def test_usage(stand: Stand) -> None:
    for arguments, words in (
        (["srve"], ("srve", "serve")),
        (["serve", "--confg", "x"], ("--confg", "--config")),
        (["cache", "purge", "--all", "--tag", "x"], ("exactly one",)),
        (["sandbox", "--fault", "refresh_lots"], ("refresh_lots", "refresh_lost")),
        (["sandbox", "--lifetime", "soon"], ("soon", "30s")),
        (["sandbox", "--listen", "here"], ("here", "127.0.0.1:8620")),
    ):
        one_line(stand.run(*arguments), 2, *words)


def test_export_asks_for_reveal(shared_stand: Stand) -> None:
    one_line(shared_stand.run("token", "export", "--config", str(shared_stand.config)), 2, "--reveal")


def test_status_of_nothing_is_3(stand: Stand) -> None:
    one_line(stand.run("status", "--config", str(stand.config)), 3, "passoproxy serve")


def test_a_pipe_that_closes_is_no_fault(stand: Stand) -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {' '.join(PROGRAM)} config schema | head -1"],
        capture_output=True,
        text=True,
        cwd=stand.folder,
        env=stand.environment,
    )
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() == "{"


def test_another_user_cannot_use_the_control_socket(shared_stand: Stand) -> None:
    path = Path(shared_stand.folder / "state" / "control.sock")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    if os.geteuid() == 0:
        for folder in list(path.parents)[1:4]:  # those of pytest are closed to others, and that is not what is tried
            folder.chmod(0o711)
        curl = [program("curl"), "-sS", "--unix-socket", str(path), "http://localhost/api/status"]
        own = subprocess.run(curl, capture_output=True, text=True)
        assert "runway_seconds" in own.stdout
        other = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", *curl], capture_output=True, text=True)
        assert other.returncode == 7, other
        assert not other.stdout
