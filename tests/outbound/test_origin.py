"""The last hop against origins that behave, misbehave, and vanish."""

from __future__ import annotations

import asyncio

import pytest
import trustme

from passoproxy.core.cache.policy import BypassPolicy, RoutePolicy
from passoproxy.core.events import OriginAnswered, OriginFailed
from passoproxy.core.http.forwarding import toward_origin
from passoproxy.core.http.messages import RequestHead, ResponseHead, fields_of
from passoproxy.core.oauth.pair import Bearer
from passoproxy.errors import (
    BadRequest,
    BodyBroken,
    ConnectionDropped,
    OriginInvalid,
    OriginTimeout,
    OriginUnreachable,
    RequestTimeout,
)
from passoproxy.outbound.connection import Connection, Limits, encoded
from passoproxy.outbound.dial import Endpoint, tls_context
from passoproxy.outbound.origin import Origin
from passoproxy.outbound.pool import Pool
from passoproxy.ports import Body, BytesBody, read_whole
from tests.fakes import ChunkedBody, FakeClock, request
from tests.outbound.wire import AMPLE, SHORT, Line, answering, caller_of, closing, direct, origin_that, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def drained(body: Body) -> bytes:
    return await read_whole(body, 1 << 30) or b""


# ---- what goes out -----------------------------------------------------------------------------------------------------


async def test_target_and_fields_travel_byte_for_byte() -> None:
    target = "/a%2F..//b;x=1/?q=%zz&&a=b+c?#".rstrip("#")
    async with origin_that(answering(OK)) as there, caller_of(there.port) as caller:
        answer = await caller.origin.send(
            request(target=target, fields=[("x-odd-CASE", "caf\udcc3\udca9 \udcff"), ("A", "1"), ("a", "2")])
        )
        assert await drained(answer.body) == b"ok"
    head = there.heard[0]
    assert head.startswith(b"GET " + target.encode() + b" HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nx-odd-CASE: caf\xc3\xa9 \xff\r\nA: 1\r\na: 2\r\nVia: 1.1 passoproxy\r\n\r\n" in head


async def test_own_fields_take_the_place_of_the_clients() -> None:
    async with (
        origin_that(answering(OK)) as there,
        caller_of(there.port, headers={"User-Agent": "mine/1", "X-Api-Key": "k"}) as caller,
    ):
        await caller.origin.send(
            request(fields=[("User-Agent", "theirs"), ("x_api_key", "theirs"), ("X-Api-Key", "theirs")])
        )
    assert b"User-Agent: mine/1\r\nX-Api-Key: k\r\n" in there.heard[0]
    assert b"theirs" not in there.heard[0]


@pytest.mark.parametrize(
    ("method", "body", "framing"),
    [
        ("POST", b"abc", b"Content-Length: 3\r\n\r\nabc"),
        ("POST", b"", b"Content-Length: 0\r\n\r\n"),
        ("DELETE", b"", b"Via: 1.1 passoproxy\r\n\r\n"),
        ("GET", b"x", b"Content-Length: 1\r\n\r\nx"),
        ("PUT", ChunkedBody(b"ab", b"", b"c", length=3), b"Content-Length: 3\r\n\r\nabc"),
    ],
)
async def test_request_bodies_of_known_length(method: str, body: bytes | Body, framing: bytes) -> None:
    if isinstance(body, ChunkedBody):
        body = ChunkedBody(b"ab", b"", b"c", length=3)
    async with origin_that(answering(OK)) as there, caller_of(there.port) as caller:
        await caller.origin.send(request(method, body=body))
        assert there.heard[0].endswith(framing)
        await until(lambda: caller.pool.idle == 1)


async def test_request_body_of_unknown_length_goes_chunked() -> None:
    heard = []

    async def play(line: Line) -> None:
        await line.reader.readuntil(b"\r\n\r\n")
        heard.append(await line.reader.readuntil(b"0\r\n\r\n"))
        await line.say(OK)
        await line.end()

    async with origin_that(play) as there, caller_of(there.port) as caller:
        await caller.origin.send(request("POST", body=ChunkedBody(b"hello", b"", b"x" * 17)))
        await until(lambda: caller.pool.idle == 1)
    assert heard == [b"5\r\nhello\r\n11\r\n" + b"x" * 17 + b"\r\n0\r\n\r\n"]


@pytest.mark.parametrize("body", [ChunkedBody(b"ab", length=3), ChunkedBody(b"abcd", length=3)])
async def test_request_body_that_is_not_as_long_as_it_said_never_completes(body: ChunkedBody) -> None:
    body = ChunkedBody(*body._chunks, length=3)
    ended = asyncio.Event()

    async def play(line: Line) -> None:
        await line.reader.readuntil(b"\r\n\r\n")
        await line.end()
        ended.set()

    async with origin_that(play) as there, caller_of(there.port) as caller:
        with pytest.raises(BodyBroken):
            await caller.origin.send(request("POST", body=body))
        assert caller.pool.open == 0


async def test_fault_of_the_clients_body_is_what_the_caller_hears() -> None:
    async def play(line: Line) -> None:
        await line.end()

    async with origin_that(play) as there, caller_of(there.port) as caller:
        with pytest.raises(RequestTimeout):
            await caller.origin.send(request("POST", body=ChunkedBody(b"ab", RequestTimeout("slow"))))
        assert caller.pool.open == 0


async def test_big_request_body_waits_for_an_origin_that_reads_slowly() -> None:
    size = 0

    async def play(line: Line) -> None:
        nonlocal size
        await line.reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(SHORT)
        while size < 40 * 1000 * 1000:
            size += len(await line.reader.read(1 << 20))
        await line.say(OK)
        await line.end()

    produced = 0

    class Endless:
        length = 40 * 1000 * 1000

        def __aiter__(self) -> Endless:
            return self

        async def __anext__(self) -> bytes:
            nonlocal produced
            if produced == self.length:
                raise StopAsyncIteration
            produced += 100_000
            return b"x" * 100_000

        async def aclose(self) -> None: ...

    async with origin_that(play) as there, caller_of(there.port) as caller:
        sending = asyncio.ensure_future(caller.origin.send(request("POST", body=Endless())))
        await asyncio.sleep(SHORT / 2)
        assert produced < 30 * 1000 * 1000, "it was not held back"
        assert (await sending).head.status == 200
    assert size == produced == 40 * 1000 * 1000


async def test_answer_before_the_body_was_sent_stops_the_sending_and_ends_the_connection() -> None:
    never = asyncio.Event()

    class Waiting(ChunkedBody):
        async def __anext__(self) -> bytes:
            await never.wait()
            return b""

    async def play(line: Line) -> None:
        await line.reader.readuntil(b"\r\n\r\n")
        await line.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await line.end()

    async with origin_that(play) as there, caller_of(there.port) as caller:
        answer = await caller.origin.send(request("POST", body=Waiting()))
        assert (answer.head.status, await drained(answer.body)) == (413, b"no")
        assert caller.pool.open == 0


async def test_origin_that_does_not_read_times_out() -> None:
    async def play(line: Line) -> None:
        line.writer.transport.pause_reading()
        await asyncio.sleep(5)

    async with (
        origin_that(play) as there,
        caller_of(there.port, limits=Limits(read_timeout=SHORT)) as caller,
    ):
        body = ChunkedBody(*[b"x" * 1_000_000] * 40)
        with pytest.raises(OriginTimeout):
            await caller.origin.send(request("POST", body=body))


@pytest.mark.parametrize(
    ("method", "target", "fields"),
    [
        ("GET", "/ x", []),
        ("GET", "/\r\nX: y", []),
        ("GET", "/", [("A", "b\r\nX: y")]),
        ("GET", "/", [("A", "b\nX: y")]),
        ("GET", "/", [("A\r\n", "b")]),
        ("GET", "/", [("A", "b\0")]),
        ("GE\nT", "/", []),
    ],
)
def test_nothing_breaks_out_of_its_line(method: str, target: str, fields: list[tuple[str, str]]) -> None:
    with pytest.raises(BadRequest):
        encoded(toward_origin(RequestHead(method, target, fields_of(fields)), authority="a"), method, BytesBody())


async def test_one_that_would_is_not_sent_and_costs_its_connection() -> None:
    async with origin_that(answering(OK)) as there, caller_of(there.port) as caller:
        with pytest.raises(BadRequest):
            await caller.origin.send(request(fields=[("A", "b\r\nX: y")]))
        await until(lambda: caller.pool.open == 0)
    assert there.heard == []


async def test_the_bearer_is_that_of_the_moment_in_which_the_connection_stands() -> None:
    class Changing:
        partition = "p"
        bearer_now = Bearer("old", 1, None)

        def current(self) -> Bearer:
            return self.bearer_now

    bearers = Changing()

    class Slow(Pool):
        async def acquire(self, *, fresh: bool = False) -> Connection:
            connection = await super().acquire(fresh=fresh)
            bearers.bearer_now = Bearer("new", 2, None)
            return connection

    async with origin_that(answering(OK)) as there:
        pool = Slow(direct(Endpoint("http", "127.0.0.1", there.port)))
        asked = request()
        asked.trail.bearer, asked.trail.authorized_as = bearers.bearer_now, "p"
        try:
            await Origin(pool, clock=FakeClock(), bearers=bearers).send(asked)  # type: ignore[arg-type]
        finally:
            await pool.close()
    assert b"Authorization: Bearer new\r\n" in there.heard[0]


# ---- what comes back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "status", "body", "kept"),
    [
        (OK, 200, b"ok", True),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b"", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, b"ok", True),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1;a=b\r\no\r\n1\r\nk\r\n0\r\nT: x\r\n\r\n",
            200,
            b"ok",
            True,
        ),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok", True),
        (b"HTTP/1.1 500 Odd \xff reason\r\nContent-Length: 0\r\n\r\n", 500, b"", True),
        (OK + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", 200, b"ok", False),
        (OK + b"x", 200, b"ok", False),
        (b"HTTP/1.1 204 No Content\r\n\r\nx", 204, b"", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx", 200, b"", False),
    ],
)
async def test_good_answers_and_whether_the_connection_is_kept(
    raw: bytes, status: int, body: bytes, kept: bool
) -> None:
    async with origin_that(answering(raw)) as there, caller_of(there.port) as caller:
        answer = await caller.origin.send(request())
        assert (answer.head.status, await drained(answer.body)) == (status, body)
        assert "Transfer-Encoding" not in answer.head.fields
        assert (caller.pool.idle, caller.pool.open) == ((1, 1) if kept else (0, 0))
        assert [type(event) for event in caller.observer.events] == [OriginAnswered]


async def test_head_tells_of_a_body_that_does_not_come() -> None:
    async with (
        origin_that(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")) as there,
        caller_of(there.port) as caller,
    ):
        answer = await caller.origin.send(request("HEAD"))
        assert (answer.head.fields["Content-Length"], await drained(answer.body)) == ("99", b"")
        assert caller.pool.idle == 1


@pytest.mark.parametrize("pieces", [1, 3])
async def test_an_answer_in_pieces(pieces: int) -> None:
    raw = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw += b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: u\r\n\r\n"

    async def play(line: Line) -> None:
        line.writer.get_extra_info("socket").setsockopt(6, 1, 1)
        while True:
            await line.request()
            for at in range(0, len(raw), pieces):
                await line.say(raw[at : at + pieces])
                await asyncio.sleep(0)

    hints: list[ResponseHead] = []
    async with origin_that(play) as there, caller_of(there.port) as caller:
        for _ in range(3):
            answer = await caller.origin.send(request(on_interim=hints.append))
            assert await drained(answer.body) == b"abcde"
        assert there.accepted == 1
    assert [(hint.status, hint.fields["Link"]) for hint in hints] == [(103, "a")] * 3


# One of each kind: heads have a table in `test_heads`, framing and chunks in the tests of `core.http.framing`.
BAD = {
    "0.9": b"hello world\r\n\r\n",
    "bare lf": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "equal lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "length list": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
    "both framings": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
    "chunk too long": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
    "trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nbad trailer\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "1xx flood": b"HTTP/1.1 102 Processing\r\n\r\n" * 100 + OK,
    "giant head": b"HTTP/1.1 200 OK\r\n" + b"A: " + b"b" * 40000 + b"\r\nContent-Length: 2\r\n\r\nok",
    "giant unfinished": b"HTTP/1.1 200 OK\r\n" + b"A: bbbbbbbbbbb\r\n" * 4000,
    "websocket key": b"HTTP/1.1 200 OK\r\nSec-WebSocket-Key1: x\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
async def test_bad_answers(raw: bytes) -> None:
    async def play(line: Line) -> None:
        await line.request()
        await line.say(raw)
        await line.end()

    async with origin_that(play) as there, caller_of(there.port) as caller:
        with pytest.raises(OriginInvalid) as caught:
            async with asyncio.timeout(5):
                await caller.origin.send(request())
        assert caller.pool.open == 0
        (event,) = caller.observer.events
        assert isinstance(event, OriginFailed)
        assert event.code == "origin_invalid"
    assert "okay" not in caught.value.detail


async def test_slow_head_is_bounded_as_a_whole() -> None:
    async def play(line: Line) -> None:
        await line.request()
        for byte in b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000:
            await line.say(bytes([byte]))
            await asyncio.sleep(SHORT / 10)

    async with origin_that(play) as there, caller_of(there.port, limits=Limits(read_timeout=SHORT)) as caller:
        with pytest.raises(OriginTimeout) as caught:
            await caller.origin.send(request())
        assert "read_timeout" in caught.value.detail


async def test_silence_in_a_body_breaks_it() -> None:
    async def play(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        await line.end()

    async with origin_that(play) as there, caller_of(there.port, limits=Limits(read_timeout=AMPLE)) as caller:
        answer = await caller.origin.send(request())
        assert await anext(answer.body) == b"abc"
        with pytest.raises(BodyBroken, match="sent nothing"):
            await anext(answer.body)


async def test_a_slow_but_steady_body_is_no_silence() -> None:
    async def play(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n")
        for _ in range(30):
            await line.say(b"x")
            await asyncio.sleep(AMPLE / 20)
        await line.end()

    async with origin_that(play) as there, caller_of(there.port, limits=Limits(read_timeout=AMPLE)) as caller:
        answer = await caller.origin.send(request())
        assert len(await drained(answer.body)) == 30


TRUNCATED = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
    "between chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
}


@pytest.mark.parametrize("by_reset", [False, True])
@pytest.mark.parametrize("raw", TRUNCATED.values(), ids=TRUNCATED.keys())
async def test_truncation_is_visible_in_each_framing(raw: bytes, by_reset: bool) -> None:
    async def play(line: Line) -> None:
        await line.request()
        await line.say(raw)
        await asyncio.sleep(0.02)
        if by_reset:
            line.reset()

    async with origin_that(play) as there, caller_of(there.port) as caller:
        answer = await caller.origin.send(request())
        assert answer.body.length in (9, None)
        assert await anext(answer.body) == b"abc"
        with pytest.raises(BodyBroken, match="broke off"):
            await anext(answer.body)
        assert caller.pool.open == 0


async def test_body_until_close_ends_with_the_connection() -> None:
    async with origin_that(closing(b"HTTP/1.1 200 OK\r\n\r\nabc")) as there, caller_of(there.port) as caller:
        answer = await caller.origin.send(request())
        assert await drained(answer.body) == b"abc"
        assert caller.pool.open == 0


async def test_body_until_close_that_is_reset_is_broken() -> None:
    async def play(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await asyncio.sleep(0.02)
        line.reset()

    async with origin_that(play) as there, caller_of(there.port) as caller:
        answer = await caller.origin.send(request())
        with pytest.raises(BodyBroken):
            await drained(answer.body)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nA:"])
async def test_connection_closed_before_an_answer(said: bytes) -> None:
    async with origin_that(closing(said)) as there, caller_of(there.port) as caller:
        with pytest.raises(OriginUnreachable) as caught:
            await caller.origin.send(request())
        assert not isinstance(caught.value, ConnectionDropped)
    assert len(there.heard) == 1


async def test_body_closed_early_ends_the_connection() -> None:
    async with (
        origin_that(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")) as there,
        caller_of(there.port) as caller,
    ):
        answer = await caller.origin.send(request())
        await answer.body.aclose()
        await answer.body.aclose()
        assert caller.pool.open == 0
        assert [part async for part in answer.body] == []


async def test_slow_reader_is_no_silence_of_the_origin() -> None:
    size = 8 * 1024 * 1024

    async def play(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        await line.end()

    limits = Limits(read_timeout=AMPLE, held_bytes=1024)
    async with origin_that(play) as there, caller_of(there.port, limits=limits) as caller:
        answer = await caller.origin.send(request())
        await asyncio.sleep(AMPLE + SHORT)
        assert len(await drained(answer.body)) == size
        await until(lambda: caller.pool.idle == 1)


# ---- sent again, or not ------------------------------------------------------------------------------------------------

EFFECTS = RoutePolicy(bypass_when=BypassPolicy(query_has=("mark_visited",), body_has=("trip",)))


def dropping_kept() -> tuple[list[bytes], object]:
    """A play that answers the first request of the first connection, and drops that connection at its second request unanswered."""
    asked: list[bytes] = []

    async def play(line: Line) -> None:
        asked.append(await line.request())
        await line.say(OK)
        asked.append(await line.request())
        if line.number:
            await line.say(OK)

    return asked, play


@pytest.mark.parametrize(
    ("method", "target", "fields"),
    [("GET", "/a", []), ("HEAD", "/a", []), ("OPTIONS", "/a?x=y", []), ("GET", "/a?marked=1", [])],
)
async def test_a_harmless_request_on_a_dropped_kept_connection_is_sent_once_more(
    method: str, target: str, fields: list[tuple[str, str]]
) -> None:
    asked, play = dropping_kept()
    async with origin_that(play) as there, caller_of(there.port) as caller:  # type: ignore[arg-type]
        await caller.origin.send(request())
        again = request(method, target, fields, policy=EFFECTS)
        assert (await caller.origin.send(again)).head.status == 200
        assert again.trail.origin_requests == 2
        assert there.accepted == 2
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/a", b""),
        ("PUT", "/a", b"x"),
        ("DELETE", "/a", b""),
        ("GET", "/a", b"x"),
        ("GET", "/a", ChunkedBody(b"x")),
        ("GET", "/a?mark_visited=true", b""),
        ("GET", "/a?x&mark%5Fvisited", b""),
        ("GET", "/a?trip[id]=1", b""),
        ("GET", "/a?mark.visited", b""),
        ("GET", "/a?_method=DELETE", b""),
    ],
)
async def test_what_could_do_harm_twice_is_sent_once(method: str, target: str, body: bytes | Body) -> None:
    _, play = dropping_kept()
    async with origin_that(play) as there, caller_of(there.port) as caller:  # type: ignore[arg-type]
        await caller.origin.send(request())
        once = request(method, target, body=body, policy=EFFECTS)
        with pytest.raises(ConnectionDropped):
            await caller.origin.send(once)
        assert once.trail.origin_requests == 1
        assert there.accepted == 1


async def test_without_a_policy_a_harmless_request_is_sent_once_more_too() -> None:
    _, play = dropping_kept()
    async with origin_that(play) as there, caller_of(there.port) as caller:  # type: ignore[arg-type]
        await caller.origin.send(request())
        assert (await caller.origin.send(request(target="/a?mark_visited"))).head.status == 200


async def test_sent_once_more_and_never_a_third_time() -> None:
    async def play(line: Line) -> None:
        await line.request()
        if line.number == 0:
            await line.say(OK)
            await line.request()

    async with origin_that(play) as there, caller_of(there.port) as caller:
        await caller.origin.send(request())
        with pytest.raises(OriginUnreachable):
            await caller.origin.send(request())
        assert there.accepted == 2
        assert len(there.heard) == 3


async def test_sent_once_more_on_a_connection_that_is_new() -> None:
    """Others that were kept as long may be dead as well."""

    async def play(line: Line) -> None:
        await line.request()
        if line.number < 2:
            await until(lambda: len(there.heard) >= 2)
        await line.say(OK)
        await line.request()  # and is dropped

    async with origin_that(play) as there, caller_of(there.port) as caller:
        await asyncio.gather(caller.origin.send(request()), caller.origin.send(request()))
        assert caller.pool.idle == 2
        assert (await caller.origin.send(request())).head.status == 200
        assert there.accepted == 3


@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 102 Processing\r\n\r\n"])
async def test_not_sent_again_once_a_byte_of_the_answer_or_an_interim_head_came(said: bytes) -> None:
    async def play(line: Line) -> None:
        await line.request()
        await line.say(OK)
        await line.request()
        await line.say(said)

    async with origin_that(play) as there, caller_of(there.port) as caller:
        await caller.origin.send(request())
        with pytest.raises(OriginUnreachable):
            await caller.origin.send(request())
        assert there.accepted == 1


# ---- unreachable, TLS ----------------------------------------------------------------------------------------------------


async def test_nobody_listens() -> None:
    async with origin_that(answering(OK)) as there:
        port = there.port
    async with caller_of(port) as caller:
        with pytest.raises(
            OriginUnreachable, match=rf"^127.0.0.1:{port} cannot be reached \(Connection refused\); check"
        ):
            await caller.origin.send(request())
        assert caller.pool.open == 0


async def test_a_name_that_does_not_exist() -> None:
    async with caller_of(80, host="nowhere.invalid") as caller:
        # the latter where a resolver is slow
        with pytest.raises((OriginUnreachable, OriginTimeout), match=r"nowhere\.invalid"):
            await caller.origin.send(request())


async def test_an_origin_that_accepts_and_never_finishes_the_handshake() -> None:
    async def play(line: Line) -> None:
        await line.end()

    async with (
        origin_that(play) as there,
        caller_of(there.port, tls=tls_context(), host="localhost", timeout=SHORT) as caller,
    ):
        with pytest.raises(OriginTimeout, match="connect_timeout"):
            await caller.origin.send(request())
        assert caller.pool.open == 0


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def served_by(authority: trustme.CA, *names: str) -> object:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def test_tls_with_an_authority_of_ones_own(authority: trustme.CA, tmp_path) -> None:  # type: ignore[no-untyped-def]
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    async with (
        origin_that(answering(OK), tls=served_by(authority, "localhost")) as there,  # type: ignore[arg-type]
        caller_of(there.port, tls=tls_context(ca_file), host="localhost") as caller,
    ):
        for _ in range(3):
            assert await drained((await caller.origin.send(request())).body) == b"ok"
        assert there.accepted == 1
        assert there.heard[0].startswith(b"GET / HTTP/1.1\r\nHost: localhost:")


@pytest.mark.parametrize(("name", "trusted"), [("other.example", True), ("localhost", False)])
async def test_tls_that_must_not_be_trusted(authority: trustme.CA, name: str, trusted: bool) -> None:
    context = tls_context()
    if trusted:
        authority.configure_trust(context)
    async with (
        origin_that(answering(OK), tls=served_by(authority, name)) as there,  # type: ignore[arg-type]
        caller_of(there.port, tls=context, host="localhost") as caller,
    ):
        with pytest.raises(OriginUnreachable, match="certificate"):
            await caller.origin.send(request())
        assert there.heard == []


async def test_tls_toward_a_port_that_speaks_plain_text(authority: trustme.CA) -> None:
    async def play(line: Line) -> None:
        await line.say(b"220 mail\r\n")

    async with origin_that(play) as there, caller_of(there.port, tls=tls_context(), host="localhost") as caller:
        with pytest.raises(OriginUnreachable, match="handshake"):
            await caller.origin.send(request())


@pytest.mark.parametrize("said", [True, False])
async def test_body_until_close_over_tls_needs_a_close_notify(authority: trustme.CA, said: bool) -> None:
    import os
    import socket

    async def play(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await asyncio.sleep(0.02)
        if not said:
            bare = socket.socket(fileno=os.dup(line.writer.get_extra_info("socket").fileno()))
            bare.shutdown(socket.SHUT_WR)
            bare.close()
            await line.end()

    context = tls_context()
    authority.configure_trust(context)
    async with (
        origin_that(play, tls=served_by(authority, "localhost")) as there,  # type: ignore[arg-type]
        caller_of(there.port, tls=context, host="localhost") as caller,
    ):
        answer = await caller.origin.send(request())
        if said:
            assert await drained(answer.body) == b"abc"
        else:
            with pytest.raises(BodyBroken):
                await drained(answer.body)
