"""Opens an address in the user's browser, hidden from other users of the machine.

Every user can read the arguments of a process, and the address may hold a page session or a login. So the browser is started with an
address of this process, which redirects it, if the kernel says that the connection belongs to the same user.
"""

from __future__ import annotations

import os
import socket
import threading
import time

from passoproxy.peer_credentials import tcp_owner

PATIENCE = 15.0
"""Seconds that a browser has to begin."""

_ANSWER = "HTTP/1.1 303 See Other\r\nLocation: {}\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Opening:
    """An address on its way to a browser. `is_begun` tells whether there is a browser; `wait` returns after the redirect."""

    def __init__(self, url: str) -> None:
        import webbrowser

        self._answer = _ANSWER.format(url).encode("ascii", "replace")
        self._listener = socket.create_server(("127.0.0.1", 0))
        # A text browser holds its starter up: the thread answers it meanwhile, and ends with the process.
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.is_begun = webbrowser.open(f"http://127.0.0.1:{self._listener.getsockname()[1]}/")

    def wait(self) -> None:
        """Until the browser was redirected, or `PATIENCE` is over."""
        self._thread.join()

    def _serve(self) -> None:
        end = time.monotonic() + PATIENCE
        with self._listener as listener:
            while (left := end - time.monotonic()) > 0:
                listener.settimeout(left)
                try:
                    served, client = listener.accept()
                    with served:
                        if self._has_sent_on(served, client):
                            return
                except OSError:
                    pass  # another one may come

    def _has_sent_on(self, served: socket.socket, client: object) -> bool:
        """No answer to another user, nor to a connection without a request, as browsers open ahead of time."""
        if tcp_owner(client, served.getsockname()) != os.getuid():
            return False
        served.settimeout(2.0)
        if not served.recv(4096).startswith(b"GET / "):
            return False
        served.sendall(self._answer)
        return True


def opened(url: str) -> Opening | None:
    """Opens `url` in the user's browser; None without a browser, and under sudo, which would open root's."""
    if "SUDO_UID" in os.environ:
        return None
    try:
        opening = Opening(url)
    except OSError:
        return None
    return opening if opening.is_begun else None
