"""Clients that are slow and not silent: what they may do, and from where on they are let go."""

from __future__ import annotations

import asyncio
import socket

import pytest

from passoproxy.server.connections import Limits
from tests.fakes import ScriptedHop, response
from tests.server.conftest import Listen

LAST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.slow
async def test_a_client_that_takes_little_by_little_is_waited_for(listen: Listen) -> None:
    """At 20 kB/s none of the waits for room ends within the write deadline, which is about silence."""
    running = await listen(ScriptedHop([response(200, body=b"x" * 300_000)]), Limits(write_timeout=4.0))
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        sock.setblocking(False)
        loop, taken = asyncio.get_running_loop(), 0
        await loop.sock_connect(sock, ("127.0.0.1", running.port))
        await loop.sock_sendall(sock, LAST)
        while part := await loop.sock_recv(sock, 4_000):
            taken += len(part)
            await asyncio.sleep(0.2)
    assert taken > 300_000
