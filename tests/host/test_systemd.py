"""What a service manager is told and gives."""

from __future__ import annotations

import fcntl
import os
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from passoproxy.host import systemd


class Manager:
    """A notification socket, and the environment that names it."""

    def __init__(self, address: str, name: str) -> None:
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.channel.bind(address)
        self.channel.settimeout(5)
        self.environ = {"NOTIFY_SOCKET": name}

    def heard(self) -> list[str]:
        return self.channel.recv(4096).decode().splitlines()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    if request.param == "path":
        found = Manager(str(tmp_path / "n"), str(tmp_path / "n"))
    else:
        name = f"passoproxy-{uuid.uuid4()}"
        found = Manager(f"\0{name}", f"@{name}")
    yield found
    found.channel.close()


def test_states_arrive(manager: Manager) -> None:
    assert systemd.notify("READY=1", "serving", manager.environ)
    assert manager.heard() == ["READY=1", "STATUS=serving"]
    assert systemd.notify("READY=1", environ=manager.environ)
    assert manager.heard() == ["READY=1"]
    assert systemd.notify("STOPPING=1", "draining", manager.environ)
    assert manager.heard() == ["STOPPING=1", "STATUS=draining"]
    assert systemd.notify("WATCHDOG=1", environ=manager.environ)
    assert manager.heard() == ["WATCHDOG=1"]


def test_a_status_is_one_line_whatever_it_holds(manager: Manager) -> None:
    assert systemd.notify("", "runway 3 h\nREADY=1\x00 \ud800", manager.environ)
    (line,) = manager.heard()
    assert line.startswith("STATUS=runway 3 h READY=1")


def test_a_reload_tells_the_time_of_the_clock_that_the_manager_reads(manager: Manager) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert systemd.reloading(manager.environ)
    first, second = manager.heard()
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@pytest.mark.parametrize("name", ["", "relative", "/nowhere/at/all", "@passoproxy-nobody-listens", "/" + "x" * 200])
def test_nobody_to_tell_is_no_failure(name: str) -> None:
    assert not systemd.notify("x", environ={"NOTIFY_SOCKET": name})
    assert not systemd.notify("x", environ={})


def test_a_manager_that_does_not_read_holds_nothing_up(manager: Manager) -> None:
    begun = time.monotonic()
    told = [systemd.notify("WATCHDOG=1", environ=manager.environ) for _ in range(5000)]
    assert not all(told)
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({}, None),
    ],
)
def test_the_watchdog(environ: dict[str, str], seconds: float | None) -> None:
    assert systemd.watchdog_interval(environ) == seconds


def test_sockets_are_handed_over_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as given:
        numbers = [fcntl.fcntl(given.fileno(), fcntl.F_DUPFD, 600 + index) for index in range(3)]
    assert numbers == [600, 601, 602]
    monkeypatch.setattr(systemd, "_FIRST_FD", numbers[0])
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3", "LISTEN_FDNAMES": "proxy:proxy", "OTHER": "x"}
    assert all(os.get_inheritable(each) for each in numbers)
    assert systemd.listen_fds(environ) == {"proxy": numbers[:2], "unknown": numbers[2:]}
    assert environ == {"OTHER": "x"}
    assert not any(os.get_inheritable(each) for each in numbers)
    for each in numbers:
        os.close(each)


@pytest.mark.parametrize(
    "environ", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"}]
)
def test_sockets_for_another_process_are_left(environ: dict[str, str]) -> None:
    assert systemd.listen_fds(environ) == {}
    assert environ == {}


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LISTEN_PID", "1")
    assert not systemd.notify("READY=1")
    assert systemd.watchdog_interval() is None
    assert systemd.listen_fds() == {}
    assert "LISTEN_PID" not in os.environ
