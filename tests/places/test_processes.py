"""How the daemon is started and held: as process 1, by a service manager, with streams that lead nowhere, with little of everything."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import program
from tests.fakes import full_pipe
from tests.journeys.conftest import PROGRAM, Stand, ask, until
from tests.whole import CONTENT


@contextlib.contextmanager
def started(stand: Stand, command: list[str], **how: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program of the test's own; what still runs at the end is killed."""
    given = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **how}
    process = subprocess.Popen(command, env=stand.environment, cwd=stand.folder, **given)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def children(process: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_up(stand: Stand) -> bool:
    return ask(stand.admin_port, "/healthz").status == 200


# ---- process 1 of a container ----------------------------------------------------------------------------------------


@pytest.fixture
def container() -> list[str]:
    """A command that makes what follows it process 1 of a container."""
    command = [program("unshare"), "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() or subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no process namespace can be made here: not root, or not allowed")
    return command


@pytest.mark.slow
def test_process_1_collects_what_alert_commands_leave_behind(stand: Stand, container: list[str]) -> None:
    hook = stand.folder / "hook"
    hook.write_text("#!/bin/sh\ncat > /dev/null\nsleep 0.1 &\n(sleep 0.1; exit 3) &\n")
    hook.chmod(0o700)
    stand.configure(alerts={"command": [str(hook)]})
    with started(stand, [*container, *PROGRAM, "serve"]) as outer:
        assert until(lambda: is_up(stand))
        (daemon,) = children(outer.pid)
        assert stand.run("alert", "test").returncode == 0
        assert until(lambda: len(children(daemon)) >= 2)
        assert until(lambda: not children(daemon))
        os.kill(daemon, signal.SIGTERM)
        assert outer.wait(30) == 0


def test_process_1_ends_on_sigterm_whatever_it_does(stand: Stand, container: list[str]) -> None:
    """The kernel gives process 1 no signal that it has no handler for: here a job that waits for a daemon."""
    with started(stand, [*container, *PROGRAM, "wait", "--timeout", "10m"]) as outer:
        assert until(lambda: children(outer.pid))
        (inner,) = children(outer.pid)

        def ended() -> bool:
            with contextlib.suppress(ProcessLookupError):
                os.kill(inner, signal.SIGTERM)  # Python itself may still be starting
            return outer.poll() is not None

        assert until(ended)
        assert outer.returncode == 128 + signal.SIGTERM


# ---- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_closed_streams_lead_nowhere(stand: Stand) -> None:
    """Else a file that is opened later would be standard error, and what is printed would go into it."""
    closed = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    with started(stand, [*closed, *PROGRAM, "serve"]) as daemon:
        assert until(lambda: is_up(stand))
        assert {os.readlink(f"/proc/{daemon.pid}/fd/{number}") for number in range(3)} == {os.devnull}
        daemon.terminate()
        assert daemon.wait(30) == 0


@pytest.mark.slow
def test_a_log_that_is_not_read_holds_nothing_up(stand: Stand) -> None:
    """A full pipe behind standard error: the daemon answers, renews and ends all the same."""
    reading, writing = full_pipe()
    stand.start_sandbox()
    with open(reading, "rb"), started(stand, [*PROGRAM, "serve"], stderr=writing) as daemon:
        os.close(writing)
        assert until(lambda: is_up(stand))
        stand.login()
        assert stand.run("token", "refresh").returncode == 0
        assert [stand.get(f"/__internal/{turn}").status for turn in range(50)] == [403] * 50
        daemon.terminate()
        assert daemon.wait(40) == 0


# ---- a service manager -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_as_its_unit_starts_it(stand: Stand) -> None:
    """An instance of passoproxy@.service with its socket: folders, credentials and sockets are passed by the manager, and it is told how things are."""
    stand.start_sandbox()
    stand.configure(server={"listen": "fd:proxy"})
    text = "\n".join(line for line in stand.config.read_text().splitlines() if "client_secret_file" not in line)
    stand.config.write_text(
        text.replace(f"state:\n  directory: {stand.folder / 'state'}\n", "").replace(
            f"cache:\n  directory: {stand.folder / 'cache'}", ""
        )
    )
    credentials = stand.folder / "credentials"
    credentials.mkdir()
    (stand.folder / "client_secret").rename(credentials / "client_secret")
    stand.environment |= {
        "STATE_DIRECTORY": str(stand.folder / "lib"),
        "CACHE_DIRECTORY": str(stand.folder / "cached"),
        "CREDENTIALS_DIRECTORY": str(credentials),
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(stand.folder / "notify"))
        manager.settimeout(60)

        def told(what: str) -> str:
            while what not in (heard := manager.recv(4096).decode()):
                pass
            return heard

        passed = [f"--listen=127.0.0.1:{stand.port}", "--fdname=proxy"]
        passed += [f"--setenv=NOTIFY_SOCKET={stand.folder / 'notify'}", "--setenv=WATCHDOG_USEC=1000000"]
        passed += [f"--setenv={name}" for name in stand.environment]
        with started(stand, [program("systemd-socket-activate"), *passed, *PROGRAM, "serve"], stderr=None) as daemon:
            assert until(lambda: stand.get(CONTENT).status == 503)
            assert "STATUS=" in told("READY=1")
            stand.login()
            told("WATCHDOG=1")
            assert "chain healthy" in told("STATUS=ready")
            daemon.send_signal(signal.SIGHUP)
            told("RELOADING=1")
            told("READY=1")
            assert stand.get(CONTENT).status == 200
            daemon.terminate()
            told("STOPPING=1")
            assert daemon.wait(30) == 0
    assert list((stand.folder / "lib").glob("pair.*.json"))
    assert (stand.folder / "cached" / "cache.db").exists()


# ---- little of everything --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_few_descriptors_and_little_memory(stand: Stand) -> None:
    stand.start_sandbox()
    stand.place = {"descriptors": 64, "memory": 640 << 20}
    stand.start_daemon()
    stand.login()
    kept = http.client.HTTPConnection("127.0.0.1", stand.port, timeout=30)
    with contextlib.closing(kept):
        for turn in range(20):
            assert stand.get(f"{CONTENT}&turn={turn}").status == 200
            kept.request("GET", CONTENT)
            assert kept.getresponse().read()
    assert stand.run("token", "refresh").returncode == 0
    assert is_up(stand)
    assert stand.stop_daemon() == 0
    assert '"level": "warning"' not in stand.daemon.said
