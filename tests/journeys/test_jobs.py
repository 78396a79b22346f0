"""What scripts and jobs use: `run`, `wait` and `quit`."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.journeys.conftest import PROGRAM, Stand, ask, until

TOLD = """
import json, os, resource, sys, urllib.request
url = os.environ["PASSOPROXY_URL"]
with urllib.request.urlopen(url + "/api/v2/languages") as answer:
    print(json.dumps({"url": url, "status": answer.status, "names": sorted(os.environ), "core": resource.getrlimit(resource.RLIMIT_CORE)}))
sys.exit(7)
"""


@pytest.fixture
def with_token(stand: Stand) -> Stand:
    """A stand whose daemon needs no login: with a token in a file."""
    token = stand.folder / "token"
    token.write_text("a-token\n")
    token.chmod(0o600)
    stand.configure()
    stand.settings["oauth"] = {"grant": "static", "static_token_file": str(token)}
    stand.settings["upstream"]["url"] = stand.origin
    stand.config.write_text(json.dumps(stand.settings))
    return stand


def is_passed_on(descriptor: int) -> bool:
    with contextlib.suppress(OSError):  # that of the listing itself
        return os.get_inheritable(descriptor)
    return False


def without_listen(stand: Stand) -> None:
    del stand.settings["server"]["listen"], stand.settings["admin"]
    stand.config.write_text(json.dumps(stand.settings))


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(stand: Stand, inside: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run` in this process, which is to stay as it is."""
    monkeypatch.setattr("passoproxy.host.system.forbid_dumps", lambda: None)
    return lambda *words: inside("run", "--config", str(stand.config), *words)


# ---- run -------------------------------------------------------------------------------------------------------------


def test_a_command_finds_the_proxy_and_ends_with_its_own_code(with_token: Stand, command: Run) -> None:
    without_listen(with_token)
    with_token.start_sandbox()
    with_token.environment["PASSOPROXY__SERVER__BASE_PATH"] = "/passolution"
    ran = command("--", sys.executable, "-c", TOLD)
    assert ran.returncode == 7, ran.stderr
    assert ran.stderr == ""
    told = json.loads(ran.stdout)
    assert told["status"] == 200
    assert re.fullmatch(r"http://127.0.0.1:\d+/passolution", told["url"])
    # what configures the daemon, secrets among it, is not the command's
    assert [name for name in told["names"] if name.startswith("PASSOPROXY__")] == ["PASSOPROXY__STATE__DIRECTORY"]


def test_a_command_of_passoproxy_finds_the_daemon_whatever_its_folder_is_called(
    with_token: Stand, command: Run
) -> None:
    """What stands in the environment is read as YAML."""
    folder = with_token.folder / "state: of {a} #1"
    with_token.settings["state"] = {"directory": str(folder)}
    with_token.config.write_text(json.dumps(with_token.settings))
    ran = command("--", *PROGRAM, "wait", "--timeout", "0s", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["daemon"]["state_directory"] == str(folder)


def test_a_configured_listener_is_kept(with_token: Stand, command: Run) -> None:
    ran = command("sh", "-c", "echo $PASSOPROXY_URL; kill -TERM $$")
    assert (ran.returncode, ran.stdout) == (143, f"{with_token.proxy}\n")


def test_what_a_command_leaves_behind_keeps_no_pipe_of_ours_open(with_token: Stand, command: Run) -> None:
    """Whoever reads the output to its end would wait for it."""
    script = """
import os, sys
def file(fd):
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
streams, copies = {file(fd) for fd in range(3)}, []
for fd in set(range(3, 256)) - set(map(int, sys.argv[1:])):
    try:
        copies += [fd] if file(fd) in streams else []
    except OSError:
        pass
print(copies)
"""
    inherited = [each for each in map(int, os.listdir("/dev/fd")) if is_passed_on(each)]  # as a shell does, so do we
    ran = command("--", sys.executable, "-c", script, *map(str, inherited))
    assert (ran.returncode, ran.stdout) == (0, "[]\n")


def test_a_command_needs_no_uvloop(with_token: Stand, command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    ran = command("--", "sh", "-c", "exit 3")
    assert (ran.returncode, ran.stderr) == (3, "")


def test_a_command_starts_although_a_person_is_needed(command: Run) -> None:
    ran = command("--", "echo", "here")
    assert (ran.returncode, ran.stdout) == (0, "here\n")
    assert (
        "its requests are not answered yet: nobody has authorised passoproxy yet; run 'passoproxy login'" in ran.stderr
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "name the command, such as 'passoproxy run -- npm test'"),
        (["--", "no-such-command"], 127, "no-such-command: cannot be started (No such file or directory)"),
        (["/etc/passwd"], 126, "/etc/passwd: cannot be started (Permission denied)"),
    ],
)
def test_a_command_that_cannot_be_started(
    with_token: Stand, command: Run, words: list[str], code: int, said: str
) -> None:
    ran = command(*words)
    assert ran.returncode == code
    assert f"passoproxy: {said}" in ran.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1])
def test_signals_reach_the_command(with_token: Stand, number: signal.Signals) -> None:
    script = f"trap 'echo got it; exit 5' {number.name.removeprefix('SIG')}; echo begun; while :; do sleep 0.05; done"
    child = with_token.start("run", "--config", str(with_token.config), "--", "sh", "-c", script)
    assert until(lambda: "begun" in child.said), child.said
    child.send(number)
    assert child.wait(30) == 5
    assert "got it" in child.said


def test_quit_inside_a_command_ends_it(with_token: Stand) -> None:
    script = f"trap 'exit 6' TERM; {PROGRAM[0]} {' '.join(PROGRAM[1:])} quit & while :; do sleep 0.05; done"
    ran = with_token.run("run", "--", "sh", "-c", script)
    assert ran.returncode == 6, ran.stderr


# ---- wait and quit ---------------------------------------------------------------------------------------------------


def test_wait_until_it_is_ready(stand: Stand, inside: Run) -> None:
    """It is there, and a person is needed: that is not ready. After the login it is."""
    words = ("wait", "--config", str(stand.config))
    none = inside(*words, "--timeout", "0s")
    assert (none.returncode, none.stdout) == (1, "")
    assert "not ready within 0s: no daemon is running" in none.stderr
    waits: Any = stand.start(*words)
    stand.start_sandbox()
    stand.start_daemon()
    early = inside(*words, "--timeout", "0s", "--json")
    assert early.returncode == 1
    assert json.loads(early.stdout)["ready"] is False
    assert "nobody has authorised" in early.stderr
    assert waits.poll() is None
    stand.login()
    assert waits.wait(30) == 0
    assert "ready" in waits.said


def test_wait_ends_in_its_time_though_the_daemon_is_stopped(with_token: Stand) -> None:
    with_token.start_daemon()
    with_token.daemon.send(signal.SIGSTOP)
    began = time.monotonic()
    ran = with_token.run("wait", "--timeout", "1s")
    took = time.monotonic() - began
    with_token.daemon.send(signal.SIGCONT)
    assert (ran.returncode, took < 6) == (1, True)  # one step of a look may take ten
    assert "does not answer; it is stopped, or too busy" in ran.stderr


def test_wait_with_a_typing_mistake(stand: Stand) -> None:
    ran = stand.run("wait", "--timeout", "soon")
    assert ran.returncode == 2
    assert "--timeout: " in ran.stderr


def test_quit_returns_when_the_daemon_has_ended(stand: Stand, inside: Run) -> None:
    stand.start_daemon()
    ran = inside("quit", "--config", str(stand.config))
    assert (ran.returncode, ran.stdout) == (0, "the daemon has ended\n")
    assert f"state {stand.folder / 'state'}" in ran.stderr
    assert stand.daemon.wait(0.5) == 0
    again = inside("quit", "--config", str(stand.config))
    assert (again.returncode, again.stdout) == (3, "")


def test_quit_where_processes_may_not_be_watched(stand: Stand, inside: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose filter of system calls does not know `pidfd_open`."""

    def forbidden(pid: int) -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    stand.start_daemon()
    monkeypatch.setattr(os, "pidfd_open", forbidden)
    ran = inside("quit", "--config", str(stand.config))
    assert (ran.returncode, ran.stdout) == (0, "the daemon has ended\n")
    assert stand.daemon.wait(5) == 0


def test_quit_is_for_the_control_socket_alone(stand: Stand) -> None:
    stand.start_daemon()
    assert ask(stand.admin_port, "/api/quit", "POST", stand.from_page()).status == 404
