"""Restarts behind a socket that the service manager keeps: what clients notice of them."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.journeys.conftest import Stand, ask, until


@contextmanager
def serving(stand: Stand, listener: socket.socket) -> Iterator[None]:
    """A daemon that was passed the socket, as systemd passes it."""
    code = (
        f"import os, sys; os.dup2({listener.fileno()}, 3, inheritable=True); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', "
        f"LISTEN_FDNAMES='web'); os.execv(sys.executable, [sys.executable, '-m', 'passoproxy', 'serve', '--config', {str(stand.config)!r}])"
    )
    command = [sys.executable, "-c", code]
    log = stand.folder / "log"
    with log.open("ab") as said:
        daemon = subprocess.Popen(
            command, env=stand.environment, pass_fds=(listener.fileno(),), stdout=said, stderr=said
        )
    try:
        assert until(lambda: ask(stand.admin_port, "/healthz").status == 200), log.read_text()
        assert until(lambda: stand.status()["reason"] != "starting"), log.read_text()
        yield
        daemon.terminate()
        assert daemon.wait(40) == 0, log.read_text()
    finally:
        daemon.kill()
        daemon.wait()


class Asking(threading.Thread):
    """A client that asks again and again on a connection that it keeps as long as it may, `pause` seconds after each answer."""

    def __init__(self, port: int, pause: float) -> None:
        super().__init__(daemon=True)
        self.port, self.pause = port, pause
        self.stopped = threading.Event()
        self.answered, self.lost = 0, list[str]()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self.stopped.wait(self.pause):
            try:
                connection.request("GET", "/")
                connection.getresponse().read()
                self.answered += 1
            except (OSError, http.client.HTTPException) as fault:
                self.lost.append(repr(fault))
                connection.close()
        connection.close()


@contextmanager
def asking(port: int) -> Iterator[list[Asking]]:
    clients = [Asking(port, pause) for pause in (0.0, 0.001, 0.02, 0.3, 0.7)]
    for client in clients:
        client.start()
    yield clients
    for client in clients:
        client.stopped.set()
    for client in clients:
        client.join(60)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_no_request_is_lost_over_restarts_with_a_passed_socket(stand: Stand, workers: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stand.configure(server={"listen": "fd:web", "workers": workers})
        # what is asked before the first start and between two of them waits in the socket
        with asking(listener.getsockname()[1]) as clients:
            for _ in range(4):
                with serving(stand, listener):
                    before = [client.answered for client in clients]
                    assert until(
                        lambda before=before: all(c.answered > n + 1 for c, n in zip(clients, before, strict=True))
                    )
            for client in clients:
                client.stopped.set()
            with serving(stand, listener):
                for client in clients:
                    client.join(60)
        assert [client.lost for client in clients] == [[]] * len(clients)
