"""Ports for servers of the tests: each is handed out once, and stays free while its server is down."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 4
# Four workers at once never meet. Above 10080, which browsers refuse.
_PORTS = itertools.count(4 * random.randrange(2_550, 7_500) + _WORKER, 4)


def free_port() -> int:
    """Below those that the kernel gives to connections: what was the port of a server that died is nobody else's when it is started again."""
    for port in _PORTS:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("unreachable")
