"""Clients that read the source: what one connection, or many, can make a whole daemon hold, and for how long."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from tests.journeys.conftest import Stand, ask, until
from tests.server.raw import Client, parse_answers
from tests.whole import CONTENT, running, sandboxed

PATIENCE = 60.0


@pytest.mark.slow
async def test_a_body_whose_trailers_drip_is_refused_after_ten_seconds(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as place, running(place, authorised=True) as it:
        (port,) = it.wired.control.facts.ports
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        head = f"POST {CONTENT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\nX: "
        await client.send(head.encode())
        async with asyncio.timeout(PATIENCE):
            while not client.reader._buffer:  # type: ignore[attr-defined]
                client.writer.write(b"t")
                await asyncio.sleep(0.5)
        (answer,) = parse_answers(await client.rest())
        assert (answer.status, json.loads(answer.body)["code"]) == (408, "request_timeout")


def test_silent_sockets_beyond_the_limit_of_descriptors_shut_nobody_out(stand: Stand) -> None:
    stand.start_daemon(descriptors=192)
    daemon = stand.daemon
    assert daemon is not None
    silent = [socket.create_connection(("127.0.0.1", stand.port)) for _ in range(300)]
    try:
        assert until(lambda: ask(stand.port).status == 503), "no connection reaches the proxy"
        assert ask(stand.admin_port, "/healthz").status == 200
        assert until(lambda: "descriptors" in daemon.said)
        assert "LimitNOFILE=" in daemon.said
    finally:
        for each in silent:
            each.close()
