"""Clients that are slow and not silent: what they may do, and from where on they are let go."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from passoproxy.ports import Request, Response
from passoproxy.server.connection import Limits
from passoproxy.server.request import Pace
from tests.fakes import ScriptedHop, response
from tests.server.conftest import Listen
from tests.server.raw import PATIENCE, EchoHop, parse_answers

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


POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("head", "drip"),
    [
        (b"Content-Length: 100000\r\n\r\n", b"a"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\nX: ", b"t"),
    ],
    ids=["sized", "chunked", "trailers"],
)
async def test_a_body_that_drips_is_refused_in_time(listen: Listen, head: bytes, drip: bytes) -> None:
    running = await listen(EchoHop(), Limits(body_timeout=1000, min_rate=5_000, rate_grace=0.3))
    client = await running.connect()
    await client.send(POST + head)
    async with asyncio.timeout(PATIENCE):
        while not client.reader._buffer:  # type: ignore[attr-defined]
            client.writer.write(drip)
            await asyncio.sleep(0.01)
    (answer,) = parse_answers(await client.rest())
    assert (answer.status, json.loads(answer.body)["code"]) == (408, "request_timeout")
    assert "min_rate" in json.loads(answer.body)["detail"]


async def test_an_unwanted_rest_that_drips_ends_the_connection(listen: Listen) -> None:
    running = await listen(
        ScriptedHop([response(200, body=b"1")]), Limits(body_timeout=1000, min_rate=5_000, rate_grace=0.3)
    )
    client = await running.connect()
    await client.send(POST + b"Content-Length: 60000\r\n\r\n")
    assert (await client.one()).body == b"1"
    async with asyncio.timeout(PATIENCE):
        while running.connections.count:
            client.writer.write(b"a")
            await asyncio.sleep(0.01)
    client.leave()


def test_a_body_has_ten_seconds_and_then_its_rate() -> None:
    pace = Pace(256, 75.0, 10.0)
    assert pace.patience == 10.0
    pace.note(2560, 9.0)
    assert pace.patience == 1.0
    pace.note(2560, 1.0)
    assert pace.patience == 10.0
    pace.note(255, 11.0)
    assert pace.patience < 0


def test_time_in_which_nobody_waits_does_not_count_and_silence_is_bounded_by_the_idle_timeout() -> None:
    pace = Pace(256, 75.0, 10.0)
    pace.note(1 << 20, 0.0)
    assert pace.patience == 75.0


def test_what_came_fast_earns_a_pause_and_not_an_hour_of_single_bytes() -> None:
    pace = Pace(256, 75.0, 10.0)
    pace.note(1 << 20, 1.0)
    assert pace.patience == 75.0
    pace.note(1, 70.0)
    assert pace.patience < 6.0


def test_a_silence_shorter_than_the_grace_leaves_the_grace_as_it_is() -> None:
    pace = Pace(256, 4.0, 10.0)
    assert pace.patience == 4.0
    pace.note(1, 3.0)
    pace.note(1, 3.0)
    assert pace.patience == 4.0
    pace.note(1, 3.0)
    assert pace.patience == 1.0


def test_without_a_rate_only_silence_counts() -> None:
    pace = Pace(0, 75.0, 10.0)
    pace.note(1, 1000.0)
    assert pace.patience == 75.0


async def test_a_body_of_single_bytes_in_chunks_leaves_turns_to_others(listen: Listen) -> None:
    """A quarter of a mebibyte of them in one read took the loop for a fifth of a second."""

    class Counting:
        parts = 0

        async def send(self, request: Request) -> Response:
            async for _ in request.body:
                self.parts += 1
            return response(200)

    hop = Counting()
    running = await listen(hop)
    body = b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n"
    answers = await running.ask(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body + LAST, half_close=False)
    assert [answer.status for answer in answers] == [200, 200]
    assert hop.parts > 20
