"""The way to a running daemon: how long a command waits for one that does not answer, and for one that takes its time."""

from __future__ import annotations

import contextlib
import http.server
import os
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from passoproxy.cli import client
from passoproxy.cli.client import Remote
from passoproxy.errors import ServiceUnreachable
from passoproxy.host import control_socket

DEADLINE = 0.4


@contextlib.contextmanager
def daemon(folder: Path, looks: int) -> Iterator[None]:
    """A daemon that lives, and whose orders take until it was looked at so often."""
    looked = threading.Semaphore(0)

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"ok\n")
            looked.release()

        def do_POST(self) -> None:
            assert all(looked.acquire(timeout=60) for _ in range(looks))
            self._answer(b'{"done": true}')

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

        def get_request(self) -> tuple[object, object]:
            sock, _ = self.socket.accept()
            return sock, ("unix", 0)

    with Server(str(folder / control_socket.NAME), Answers) as server:  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_a_stopped_daemon_is_named_when_the_time_is_over(tmp_path: Path) -> None:
    with control_socket.listen(tmp_path):
        remote = Remote(tmp_path, deadline=DEADLINE)
        large = b"x" * 8 * 1024 * 1024  # more than the socket takes
        for body in (None, b"{}", large):
            with pytest.raises(
                ServiceUnreachable, match=rf"control\.sock: .*did not answer within {DEADLINE:g} s"
            ) as told:
                remote.ask("POST", "/api/token/refresh", body)
            assert told.value.exit_code == 69
        with pytest.raises(ServiceUnreachable, match="did not answer"):
            list(remote.warm(["/"]))


def test_an_order_may_take_longer_while_the_daemon_lives(tmp_path: Path) -> None:
    with daemon(tmp_path, 3):  # a look every half of the deadline
        assert Remote(tmp_path, deadline=1.0).ask("POST", "/api/token/refresh", b"") == {"done": True}


def test_a_successor_is_not_the_daemon_that_was_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its process may not be watched, the socket tells; and a follower takes that over at once."""
    processes = iter((7, 7, 8))

    def forbidden(pid: int) -> int:
        raise PermissionError

    monkeypatch.setattr(client, "peer_process", lambda at: next(processes, 8))
    monkeypatch.setattr(control_socket, "connect", lambda *_: socket.socket(socket.AF_UNIX))
    monkeypatch.setattr(os, "pidfd_open", forbidden)
    monkeypatch.setattr(client, "PATIENCE", 0.5)
    monkeypatch.setattr(Remote, "ask", lambda *_: {})
    Remote(tmp_path).quit()
    assert next(processes, None) is None


def test_a_successor_in_another_namespace_is_told_by_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process has no number there (0), and a follower answers as soon as it has gone."""
    starts = iter((1.0, 1.0, 2.0))
    monkeypatch.setattr(client, "peer_process", lambda at: 0)
    monkeypatch.setattr(control_socket, "connect", lambda *_: socket.socket(socket.AF_UNIX))
    monkeypatch.setattr(client, "PATIENCE", 0.5)
    answers = {"/api/status": lambda: {"started_at": next(starts)}, "/api/quit": dict}
    monkeypatch.setattr(Remote, "ask", lambda self, method, path: answers[path]())
    Remote(tmp_path).quit()
    assert next(starts, None) is None
