"""A connection moment by moment: what happens in one turn of the loop, which no real origin can be made to do reliably."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.errors import BodyBroken, ConnectionDropped, OriginInvalid, OriginUnreachable
from passoproxy.outbound.connection import Connection, Limits
from passoproxy.ports import Body, BytesBody, Response, Trail, read_whole
from tests.fakes import ChunkedBody, settle
from tests.outbound.wire import AMPLE, SHORT, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = ("GET", b"GET / HTTP/1.1\r\n\r\n", BytesBody())


class FakeTransport(asyncio.Transport):
    """Remembers what it is told. `unsent` are bytes that the peer has not taken."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock})
        self.written = b""
        self.calls: list[str] = []
        self.unsent = 0

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.written += data

    def is_closing(self) -> bool:
        return bool({"close", "abort"} & set(self.calls))

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def get_write_buffer_size(self) -> int:
        return self.unsent


class Owner:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def released(self, connection: Connection) -> None:
        self.calls.append("released")

    def unasked(self, connection: Connection) -> None:
        self.calls.append("unasked")

    def gone(self, connection: Connection) -> None:
        self.calls.append("gone")


@pytest.fixture
def sockets() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    yield ours
    ours.close()
    theirs.close()


def made(sockets: socket.socket, limits: Limits | None = None) -> tuple[Connection, FakeTransport, Owner]:
    owner, transport = Owner(), FakeTransport(sockets)
    connection = Connection(asyncio.get_running_loop(), "origin.example", limits or Limits(), owner)
    connection.connection_made(transport)
    return connection, transport, owner


async def asked(connection: Connection, message: tuple[str, bytes, Body] = GET) -> asyncio.Task[Response]:
    task = asyncio.ensure_future(connection.exchange(*message))
    await settle(3)
    return task


async def test_an_exchange_from_its_first_byte_to_the_next(sockets: socket.socket) -> None:
    connection, transport, owner = made(sockets)
    assert connection.usable
    for _ in range(2):
        task = await asked(connection)
        assert not connection.usable
        connection.data_received(OK)
        assert await read_whole((await task).body, 9) == b"ok"
        assert connection.usable
    assert transport.written == GET[1] * 2
    assert (owner.calls, connection.served) == (["released", "released"], 2)
    connection.close()
    connection.close()
    assert (owner.calls[2:], transport.calls) == (["gone"], ["close"])
    assert connection.ended


async def test_cancelled_in_the_turn_in_which_the_answer_came(sockets: socket.socket) -> None:
    connection, transport, owner = made(sockets)
    task = await asked(connection)
    connection.data_received(OK)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert owner.calls == ["released"], "the answer was complete, so the connection is good"
    task = await asked(connection)
    connection.data_received(OK[:-1])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (owner.calls, transport.calls) == (["released", "gone"], ["abort"])


async def test_cancelled_in_the_turn_in_which_it_failed(sockets: socket.socket) -> None:
    connection, _, owner = made(sockets)
    task = await asked(connection)
    connection.data_received(b"nonsense")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert owner.calls == ["gone"]


@pytest.mark.parametrize(
    ("arriving", "becomes"),
    [(OK, ["released"]), (OK[:-1], ["gone"]), (b"nonsense", ["gone"])],
)
async def test_an_answer_to_someone_who_has_just_left(
    sockets: socket.socket, arriving: bytes, becomes: list[str]
) -> None:
    connection, transport, owner = made(sockets)
    task = await asked(connection)
    task.cancel()
    connection.data_received(arriving)
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert (owner.calls, transport.calls) == (becomes, ["abort"] if becomes == ["gone"] else [])


async def test_one_that_stays_is_answered_though_its_client_has_left(sockets: socket.socket) -> None:
    connection, transport, owner = made(sockets)
    for arriving in ("before", "in the same turn", "after"):
        task = asyncio.ensure_future(connection.exchange(*GET, trail=Trail(stays=True)))
        await settle(3)
        if arriving == "before":
            connection.data_received(OK)
        task.cancel()
        if arriving == "in the same turn":
            connection.data_received(OK)
        await settle(3)
        assert task.done() == (arriving != "after")
        if arriving == "after":
            connection.data_received(OK)
        assert await read_whole((await task).body, 9) == b"ok"
        assert task.cancelling() == 1
    assert (owner.calls, transport.calls) == (["released"] * 3, [])


async def test_one_that_stays_ends_when_it_is_cancelled_again(sockets: socket.socket) -> None:
    connection, transport, owner = made(sockets)
    task = asyncio.ensure_future(connection.exchange(*GET, trail=Trail(stays=True)))
    for _ in range(2):
        await settle(3)
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (task.cancelled(), owner.calls, transport.calls) == (True, ["gone"], ["abort"])


async def test_the_body_that_no_client_waits_for_ends_in_time(sockets: socket.socket) -> None:
    connection, _, owner = made(sockets, Limits(read_timeout=AMPLE))
    task = asyncio.ensure_future(connection.exchange(*GET, trail=Trail(stays=True)))
    await settle(3)
    task.cancel()
    await settle(3)
    connection.data_received(OK[:-1])
    body = (await task).body
    assert await anext(body) == b"o"
    async with asyncio.timeout(5 * AMPLE):
        while not connection.ended:  # the origin is not silent, but does not come to an end either
            connection.data_received(b"")
            await asyncio.sleep(SHORT)
    with pytest.raises(BodyBroken):
        await anext(body)
    assert owner.calls == ["gone"]


async def test_who_left_just_when_its_answer_was_complete_ends_no_later_one(sockets: socket.socket) -> None:
    connection, _, owner = made(sockets, Limits(read_timeout=SHORT))
    task = asyncio.ensure_future(connection.exchange(*GET, trail=Trail(stays=True)))
    await settle(3)
    connection.data_received(OK)
    task.cancel()
    await task
    connection._limits = Limits()  # those of the later request
    later = await asked(connection)
    connection.data_received(OK[:-1])
    await asyncio.sleep(2 * SHORT)
    connection.data_received(OK[-1:])
    assert await read_whole((await later).body, 9) == b"ok"
    assert owner.calls == ["released"] * 2


async def test_a_request_that_is_not_sent_whole_ends_the_connection_with_its_answer(sockets: socket.socket) -> None:
    connection, transport, owner = made(sockets)
    transport.unsent = 1
    task = await asked(connection)
    connection.data_received(OK)
    assert await read_whole((await task).body, 9) == b"ok"
    assert (owner.calls, transport.calls) == (["gone"], ["abort"])


async def test_the_clients_body_fails_in_the_turn_in_which_the_answer_came(sockets: socket.socket) -> None:
    connection, _, owner = made(sockets)
    gate: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    class Gated(ChunkedBody):
        async def __anext__(self) -> bytes:
            try:
                return await gate
            except asyncio.CancelledError:
                raise BodyBroken("the client left") from None

    task = await asked(connection, ("POST", b"POST / HTTP/1.1\r\n\r\n", Gated()))
    connection.data_received(OK[:-1])
    await settle()
    connection.data_received(OK[-1:])
    answer = await task
    assert await read_whole(answer.body, 9) == b"ok"
    assert owner.calls == ["gone"]


async def test_the_clients_body_ends_in_the_turn_in_which_the_answer_came(sockets: socket.socket) -> None:
    connection, _, owner = made(sockets)
    gate: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    class Gated(ChunkedBody):
        async def __anext__(self) -> bytes:
            try:
                return await gate
            except asyncio.CancelledError:
                raise StopAsyncIteration from None

    task = await asked(connection, ("POST", b"POST / HTTP/1.1\r\n\r\n", Gated()))
    connection.data_received(OK)
    assert await read_whole((await task).body, 9) == b"ok"
    await settle()
    assert owner.calls == ["gone"]


async def test_sending_waits_while_the_transport_is_full_and_ends_with_the_line(sockets: socket.socket) -> None:
    connection, transport, _ = made(sockets)
    connection.pause_writing()
    body = ChunkedBody(b"a", b"b", b"c", length=3)
    task = await asked(connection, ("POST", b"", body))
    await settle()
    assert transport.written == b"a"
    connection.resume_writing()
    connection.resume_writing()
    await settle()
    assert transport.written == b"abc"
    connection.connection_lost(None)
    with pytest.raises(OriginUnreachable):
        await task
    connection._write(b"late")
    assert transport.written == b"abc"


async def test_interim_heads_while_the_body_is_being_sent(sockets: socket.socket) -> None:
    connection, _, owner = made(sockets)
    gate: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    class Gated(ChunkedBody):
        async def __anext__(self) -> bytes:
            if gate.done():
                raise StopAsyncIteration
            return await gate

    task = await asked(connection, ("POST", b"", Gated()))
    connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
    gate.set_result(b"x")
    await settle()
    connection.data_received(OK)
    await task
    assert owner.calls == ["released"]


async def test_a_body_is_paused_and_read_on(sockets: socket.socket) -> None:
    connection, transport, owner = made(sockets, Limits(held_bytes=4))
    task = await asked(connection)
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n12345")
    connection.data_received(b"67890")
    assert transport.calls == ["pause"]
    answer = await task
    assert await anext(answer.body) == b"1234567890"
    assert transport.calls == ["pause", "resume"]
    connection.data_received(b"12345")
    connection.data_received(b"67890")
    assert transport.calls == ["pause", "resume", "pause", "resume"], (
        "at the end reading goes on, to see what is unasked"
    )
    assert owner.calls == ["released"]
    await answer.body.aclose()
    assert owner.calls == ["released"], "closing what is complete ends nothing"


async def test_reading_on_after_the_line_has_gone(sockets: socket.socket) -> None:
    connection, transport, _ = made(sockets, Limits(held_bytes=4))
    task = await asked(connection)
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n12345")
    answer = await task
    connection.connection_lost(ConnectionResetError())
    assert await anext(answer.body) == b"12345"
    with pytest.raises(BodyBroken):
        await anext(answer.body)
    assert transport.calls == ["pause", "abort"]


async def test_an_old_body_has_no_hold_on_the_next_exchange(sockets: socket.socket) -> None:
    connection, transport, _ = made(sockets)
    first = await asked(connection)
    connection.data_received(OK[:-1])
    body = (await first).body
    connection.data_received(OK[-1:])
    second = await asked(connection)
    connection.wanted(body)  # type: ignore[arg-type]
    connection.abandoned(body)  # type: ignore[arg-type]
    assert transport.calls == []
    connection.data_received(OK)
    assert (await second).head.status == 200


@pytest.mark.parametrize("unasked", [b"x", OK, b"\r\n"])
async def test_bytes_outside_an_answer(sockets: socket.socket, unasked: bytes) -> None:
    connection, transport, owner = made(sockets)
    connection.data_received(unasked)
    connection.data_received(OK)
    connection.abort()
    assert (owner.calls, transport.calls, connection.usable) == (["unasked", "gone"], ["abort"], False)


async def test_bytes_in_the_socket_that_nobody_has_read(sockets: socket.socket) -> None:
    ours, theirs = socket.socketpair()
    connection, _, _ = made(ours)
    assert connection.usable
    theirs.send(b"x")
    assert not connection.usable
    ours.close()
    theirs.close()
    connection.close()


@pytest.mark.parametrize(("served", "kind"), [(0, OriginUnreachable), (1, ConnectionDropped)])
async def test_the_line_goes_before_a_byte_came(sockets: socket.socket, served: int, kind: type[Exception]) -> None:
    connection, _, _ = made(sockets)
    for _ in range(served):
        task = await asked(connection)
        connection.data_received(OK)
        await task
    task = await asked(connection)
    connection.eof_received()
    connection.connection_lost(None)
    with pytest.raises(OriginUnreachable) as caught:
        await task
    assert type(caught.value) is kind


async def test_a_bad_chunk_later_on_breaks_the_body(sockets: socket.socket) -> None:
    connection, _, owner = made(sockets)
    task = await asked(connection)
    connection.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    answer = await task
    connection.data_received(b"zz\r\n")
    assert await anext(answer.body) == b"a"
    with pytest.raises(BodyBroken, match="not valid HTTP"):
        await anext(answer.body)
    assert owner.calls == ["gone"]


async def test_a_bad_chunk_that_came_with_the_head_is_told_while_it_can_be(sockets: socket.socket) -> None:
    connection, _, _ = made(sockets)
    task = await asked(connection)
    connection.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nzz\r\n")
    with pytest.raises(OriginInvalid):
        await task


async def test_time_is_watched_by_one_timer(sockets: socket.socket) -> None:
    connection, transport, owner = made(sockets, Limits(read_timeout=SHORT, idle_timeout=AMPLE))
    task = await asked(connection)
    connection.data_received(OK)
    await task
    await asyncio.sleep(SHORT * 2)
    assert connection.usable, "the exchange's limit does not end an idle connection"
    await until(lambda: connection.ended)
    assert (connection.ended, transport.calls, owner.calls) == (True, ["close"], ["released", "gone"])


async def test_an_idle_limit_shorter_than_that_of_an_exchange_is_kept(sockets: socket.socket) -> None:
    connection, _, _ = made(sockets, Limits(read_timeout=600.0, idle_timeout=SHORT))
    task = await asked(connection)
    connection.data_received(OK)
    await task
    await until(lambda: connection.ended)


async def test_thousands_of_tiny_pieces_are_joined(sockets: socket.socket) -> None:
    connection, _, _ = made(sockets)
    task = await asked(connection)
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 10001\r\n\r\n")
    body = (await task).body
    for _ in range(10_000):
        connection.data_received(b"x")
    assert len(body._parts) <= 64  # type: ignore[attr-defined]
    assert await anext(body) == b"x" * 10_000


async def test_a_reader_that_is_cancelled_may_read_on_and_one_that_waits_is_woken_by_the_end(
    sockets: socket.socket,
) -> None:
    connection, _, owner = made(sockets)
    task = await asked(connection)
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    body = (await task).body
    reading = asyncio.ensure_future(anext(body))
    await settle(1)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    connection.data_received(b"x")
    assert await anext(body) == b"x"
    waiting = asyncio.ensure_future(anext(body, None))
    await settle(1)
    await body.aclose()
    assert await waiting is None
    assert owner.calls == ["gone"]


# ---- whatever an origin may say ---------------------------------------------------------------------------------------------

SEEDS = [
    OK,
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a="b"\r\nabc\r\n0\r\nT: u\r\n\r\n',
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n',
]
ODD = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\0", b" ", b":", b"0", b"9", b"\xff", b"chunked", b"Content-Length: 1\r\n"]
)


@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 3), ODD), max_size=3),
    cuts=st.lists(st.integers(0, 150), max_size=5),
)
def test_no_bytes_lead_to_anything_but_an_answer_or_a_named_fault(
    seed: bytes, edits: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    for at, gone, put in edits:
        seed = seed[:at] + put + seed[at + gone :]
    bounds = [0, *sorted(cuts), len(seed)]
    pieces = [seed[start:end] for start, end in itertools.pairwise(bounds) if seed[start:end]]
    whole, in_pieces = asyncio.run(told([seed])), asyncio.run(told(pieces))
    assert whole == in_pieces, "where the bytes are cut makes no difference"


async def told(pieces: list[bytes]) -> tuple[object, ...]:
    """What a caller learns when the origin says `pieces` and then ends the connection."""
    ours, theirs = socket.socketpair()
    connection, _, owner = made(ours)
    task = await asked(connection)
    for piece in pieces:
        connection.data_received(piece)
    await settle(2)
    connection.eof_received()
    connection.connection_lost(None)
    ours.close()
    theirs.close()
    assert owner.calls[-1] == "gone"
    assert owner.calls.count("gone") == 1
    try:
        answer = await task
    except OriginInvalid:
        return ("invalid",)
    except OriginUnreachable:
        return ("unreachable",)
    content = b""
    try:
        async for part in answer.body:
            content += part
    except BodyBroken as broken:
        # A body that is no HTTP is told as OriginInvalid while nothing of it was passed on.
        return ("invalid",) if "not valid" in str(broken) else ("broken", answer.head.status, content)
    return ("whole", answer.head.status, content)
