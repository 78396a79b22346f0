"""The life of a connection: order, keeping, limits, silence, half-closing, and what is seen of answers that break."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passoproxy.core.events import RequestAnswered, RequestRejected
from passoproxy.core.http.messages import ResponseHead, fields_of
from passoproxy.ports import Request, Response
from passoproxy.server.connection import Limits
from passoproxy.server.listeners import Peer
from tests.fakes import BROKEN, ChunkedBody, ScriptedHop, response, settle
from tests.server.conftest import Listen
from tests.server.raw import PATIENCE, EchoHop, Listening, MemoryHop, listening, parse_answers

GET = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
HIT = b"GET /hit HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
HALF = 512 * 1024
POST_HEAD = b"POST /a HTTP/1.1\r\nHost: localhost\r\n"


class HangingHop:
    """Never answers; tells when it was reached and when it was cancelled."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def send(self, request: Request) -> Response:
        self.reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError


class GatedHop:
    """Answers when told; keeps what it saw."""

    def __init__(self, answer: Response | None = None) -> None:
        self.gate = asyncio.Event()
        self.reached = asyncio.Event()
        self.targets: list[str] = []
        self.answer = answer

    async def send(self, request: Request) -> Response:
        self.targets.append(request.head.target)
        self.reached.set()
        await self.gate.wait()
        return self.answer or response(200, body=request.head.target.encode())


async def within(awaitable: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await awaitable.wait()


async def gone(running: Listening) -> None:
    """Until no connection is left."""
    async with asyncio.timeout(PATIENCE):
        while running.connections.count:
            await asyncio.sleep(0.001)


# ---- keeping and order -------------------------------------------------------------------------------------------------


async def test_a_connection_is_kept_for_the_next_request(echo: Listening) -> None:
    client = await echo.connect()
    for _ in range(3):
        await client.send(GET)
        answer = await client.one()
        assert answer.status == 200
        assert "Connection" not in answer


async def test_connection_close_is_honoured_and_said(echo: Listening) -> None:
    answers = await echo.ask(LAST + GET, half_close=False)

    assert [answer["Connection"] for answer in answers] == ["close"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"GET /a HTTP/1.0\r\n\r\n", "close"),
        (b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "keep-alive"),
        (b"GET /a HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n", "close"),
    ],
)
async def test_http_1_0_keeps_only_what_it_asks_to_keep(echo: Listening, raw: bytes, said: str) -> None:
    client = await echo.connect()
    await client.send(raw)
    assert (await client.one())["Connection"] == said
    client.writer.close()


async def test_pipelined_answers_come_in_order_and_one_is_handled_at_a_time(listen: Listen) -> None:
    hop = GatedHop()
    running = await listen(hop)
    client = await running.connect()
    await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % n for n in range(20)))
    await within(hop.reached)
    await settle()
    assert hop.targets == ["/0"]

    hop.gate.set()
    bodies = [(await client.one()).body for _ in range(20)]
    assert bodies == [b"/%d" % n for n in range(20)]


async def test_what_is_sent_ahead_is_held_up_to_a_bound(listen: Listen) -> None:
    hop = GatedHop()
    running = await listen(hop)
    client = await running.connect()
    client.writer.write(GET)
    await within(hop.reached)

    # 32 MiB of requests cannot all be in buffers: writing them stalls until answers flow.
    sending = asyncio.create_task(client.send(GET * (32 * 1024 * 1024 // len(GET))))
    done, _ = await asyncio.wait([sending], timeout=0.3)
    assert not done

    sending.cancel()
    client.leave()
    hop.gate.set()
    await gone(running)


class LargeHop:
    """Answers with half a mebibyte that is in memory; counts."""

    def __init__(self) -> None:
        self.asked = 0

    async def send(self, request: Request) -> Response:
        self.asked += 1
        return response(200, body=b"x" * HALF)


async def still(count: Callable[[], int]) -> int:
    """What `count` says once it has begun to grow and does not grow any more."""
    before = 0
    async with asyncio.timeout(PATIENCE):
        while not before or before != count():
            before = count()
            await asyncio.sleep(0.3)
    return before


async def test_no_request_is_begun_while_answers_are_not_taken(listen: Listen) -> None:
    hop = LargeHop()
    running = await listen(hop)
    client = await running.connect()
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(GET * 200)

    asked = await still(lambda: hop.asked)
    assert asked < 20  # what the kernel's buffers take, and one more

    client.reader._transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(200):
        assert (await client.one()).body == b"x" * HALF


async def test_no_hit_is_begun_while_answers_are_not_taken(listen: Listen) -> None:
    hop = MemoryHop(b"x" * 200_000)
    running = await listen(hop)
    client = await running.connect()
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]

    async def flood() -> None:
        while True:
            await client.send(HIT)
            await asyncio.sleep(0)

    flooding = asyncio.create_task(flood())
    assert await still(lambda: hop.hits) < 60
    flooding.cancel()
    client.reader._transport.resume_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(PATIENCE):
        await client.reader.readexactly(1_000_000)
    client.leave()


async def test_hits_and_other_answers_keep_the_order_of_the_requests(listen: Listen) -> None:
    hop = MemoryHop()
    running = await listen(hop)
    client = await running.connect()
    await client.send((HIT + GET + HIT) * 100)
    answers = [(await client.one())["X-Was"] for _ in range(300)]
    assert answers == ["hit", "GET /a localhost", "hit"] * 100
    events = running.observer.of(RequestAnswered)
    assert [(event.target, event.status, event.sent_bytes) for event in events[:3]] == [
        ("/hit", 200, 3),
        ("/a", 200, 0),
        ("/hit", 200, 3),
    ]


async def test_a_hit_is_answered_before_the_read_returns_and_a_long_one_by_the_whole_road(listen: Listen) -> None:
    hop = MemoryHop(b"x" * 256 * 1024)
    running = await listen(hop)
    tasks = len(asyncio.all_tasks())
    client = await running.connect()
    await client.send(HIT)
    assert (await client.one()).body == hop.body
    assert len(asyncio.all_tasks()) == tasks
    hop.body += b"x"
    await client.send(HIT)
    assert ((await client.one())["X-Was"], hop.hits, len(hop.seen)) == ("GET /hit localhost", 1, 1)


@pytest.mark.parametrize("by_hit", [False, True])
async def test_a_client_that_takes_nothing_is_dropped_in_time(listen: Listen, by_hit: bool) -> None:
    hop = MemoryHop(b"x" * 200_000) if by_hit else LargeHop()
    running = await listen(hop, Limits(write_timeout=0.2, idle_timeout=1000))
    client = await running.connect()
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(PATIENCE):
        while running.connections.count:
            client.writer.write(HIT)
            await asyncio.sleep(0.001)
    client.leave()


async def test_what_fails_in_memory_is_answered_by_the_whole_road(listen: Listen) -> None:
    hop = MemoryHop()
    hop.try_hit = lambda *asked: 1 / 0  # type: ignore[assignment,method-assign]
    running = await listen(hop)
    assert [answer["X-Was"] for answer in await running.ask(LAST)] == ["GET /last localhost"]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.sets(st.integers(1, 260), max_size=8))
def test_however_the_bytes_are_cut_the_answers_are_the_same(cuts: set[int]) -> None:
    stream = (
        GET
        + POST_HEAD
        + b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n"
        + POST_HEAD
        + b"Content-Length: 4\r\n\r\nfour"
        + LAST
    )
    assert asyncio.run(_bodies_of(stream, sorted(cuts))) == [b"", b"abcde", b"four", b""]


async def test_every_byte_by_itself_is_read_the_same(echo: Listening) -> None:
    stream = POST_HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n\r\n" + LAST
    client = await echo.connect()
    for byte in stream:
        client.writer.write(bytes((byte,)))
        await asyncio.sleep(0)
    assert [answer.body for answer in parse_answers(await client.rest())] == [b"abc", b""]


async def _bodies_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    running = await listening(EchoHop())
    client = await running.connect()
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        await client.send(stream[start:end])
        await asyncio.sleep(0.001)
    raw = await client.rest()
    await running.close()
    return [answer.body for answer in parse_answers(raw)]


# ---- answers -----------------------------------------------------------------------------------------------------------


async def test_an_answer_has_a_date_a_length_and_a_cache_status(echo: Listening) -> None:
    answer = (await echo.ask(LAST))[0]

    assert answer["Date"].endswith(" GMT")
    assert answer["Content-Length"] == "0"
    assert answer["Cache-Status"] == "passoproxy; fwd=bypass"


async def test_fields_of_the_answer_pass_but_its_framing_is_ours(listen: Listen) -> None:
    fields = [
        ("Date", "Tue, 15 Nov 1994 08:12:31 GMT"),
        ("Content-Length", "999"),
        ("Transfer-Encoding", "gzip"),
        ("Connection", "x-a"),
        ("Keep-Alive", "timeout=5"),
        ("X-A", "1"),
        ("X-A", "2"),
        ("Cache-Status", "passoproxy; hit"),
        ("X-Raw", "\udcff"),
    ]
    answer = (await (await listen(ScriptedHop([response(200, fields, b"body")]))).ask(GET))[0]

    assert answer["Date"] == "Tue, 15 Nov 1994 08:12:31 GMT"
    assert answer["Content-Length"] == "4"
    assert answer["X-A"] == "1, 2"
    assert answer["Cache-Status"] == "passoproxy; hit"
    assert answer["X-Raw"] == "\xff"
    assert "Transfer-Encoding" not in answer
    assert "Keep-Alive" not in answer


async def test_a_body_of_unknown_length_is_chunked(listen: Listen) -> None:
    body = ChunkedBody(b"ab", b"", b"cd")
    answer = (await (await listen(ScriptedHop([response(200, body=body)]))).ask(LAST))[0]

    assert (answer["Transfer-Encoding"], answer.body, answer.complete) == ("chunked", b"abcd", True)
    assert body.closed


async def test_a_body_of_unknown_length_ends_an_http_1_0_connection(listen: Listen) -> None:
    running = await listen(ScriptedHop([response(200, body=ChunkedBody(b"ab", b"cd"))]))
    answer = (await running.ask(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", half_close=False))[0]

    assert (answer["Connection"], answer.body) == ("close", b"abcd")
    assert "Transfer-Encoding" not in answer


async def test_a_stream_of_known_length_is_sent_with_it(listen: Listen) -> None:
    body = ChunkedBody(b"ab", b"cd", length=4)
    answer = (await (await listen(ScriptedHop([response(200, body=body)]))).ask(LAST))[0]

    assert (answer["Content-Length"], answer.body) == ("4", b"abcd")
    assert body.closed


@pytest.mark.parametrize(("status", "method"), [(204, "GET"), (304, "GET"), (200, "HEAD")])
async def test_answers_without_a_body_send_none_and_close_it(listen: Listen, status: int, method: str) -> None:
    body = ChunkedBody(b"never", length=5)
    running = await listen(
        ScriptedHop([response(status, [("Content-Length", "5")], body), response(200, body=b"next")])
    )
    raw = method.encode() + GET[3:]
    answers = await running.ask(raw + LAST, methods=(method, "GET"))

    assert [answer.body for answer in answers] == [b"", b"next"]
    assert answers[0]["Content-Length"] == ("" if status == 204 else "5")
    assert body.closed


async def test_head_of_an_answer_in_memory_tells_its_length(listen: Listen) -> None:
    running = await listen(ScriptedHop([response(200, body=b"12345"), response(200, [("Content-Length", "x")])]))
    answers = await running.ask(b"HEAD" + GET[3:] + b"HEAD" + LAST[3:], methods=("HEAD", "HEAD"))

    assert [answer["Content-Length"] for answer in answers] == ["5", ""]


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("length", [None, 10])
async def test_a_broken_answer_ends_by_a_reset(listen: Listen, version: bytes, length: int | None) -> None:
    body = ChunkedBody(b"abc", BROKEN, length=length)
    running = await listen(ScriptedHop([response(200, body=body)]))
    client = await running.connect()
    await client.send(GET.replace(b"1.1", version))

    assert await client.reset()
    assert body.closed
    await gone(running)
    await settle()
    assert [event.outcome for event in running.observer.of(RequestAnswered)] == ["broken"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "body", [ChunkedBody(b"abc", length=10), ChunkedBody(b"abc", b"defghijklmn", length=10)], ids=["short", "long"]
)
async def test_a_body_of_another_length_than_said_ends_by_a_reset(listen: Listen, body: ChunkedBody) -> None:
    running = await listen(ScriptedHop([response(200, body=body)]))
    client = await running.connect()
    await client.send(GET)

    assert await client.reset()


@pytest.mark.parametrize(
    "body",
    [ChunkedBody(length=10), ChunkedBody(BROKEN, length=10), ChunkedBody(b"abc", length=2)],
    ids=["nothing comes", "breaks at once", "more than said"],
)
async def test_a_body_that_fails_before_anything_is_written_becomes_a_problem(
    listen: Listen, body: ChunkedBody
) -> None:
    answer = (await (await listen(ScriptedHop([response(200, body=body)]))).ask(GET))[0]

    assert (answer.status, json.loads(answer.body)["code"]) == (502, "origin_invalid")


@pytest.mark.parametrize("value", ["a\r\nX-Injected: b", "a\nb", "a\rb", "a\0b"])
async def test_a_field_that_would_split_the_answer_becomes_a_problem(listen: Listen, value: str) -> None:
    running = await listen(ScriptedHop([response(200, [("X-A", value)], b"body")]))
    answer = (await running.ask(GET))[0]

    assert (answer.status, json.loads(answer.body)["code"]) == (502, "origin_invalid")
    assert "X-Injected" not in answer


async def test_an_interim_status_as_the_answer_becomes_a_problem(listen: Listen) -> None:
    answer = (await (await listen(ScriptedHop([response(101)]))).ask(GET))[0]

    assert answer.status == 502


async def test_a_status_without_a_name_is_sent_without_one(listen: Listen) -> None:
    running = await listen(ScriptedHop([response(299)]))
    client = await running.connect()
    await client.send(LAST)

    assert (await client.rest()).startswith(b"HTTP/1.1 299 \r\n")


async def test_interim_answers_reach_http_1_1_clients_only(listen: Listen) -> None:
    class Hinting:
        async def send(self, request: Request) -> Response:
            if request.on_interim is not None:
                request.on_interim(ResponseHead(103, fields_of([("Link", "</a>; rel=preload")])))
            return response(200, body=b"x")

    running = await listen(Hinting())
    answers = await running.ask(LAST)
    assert [(answer.status, answer["Link"]) for answer in answers] == [(103, "</a>; rel=preload"), (200, "")]
    assert [answer.status for answer in await running.ask(b"GET /a HTTP/1.0\r\n\r\n")] == [200]


async def test_a_late_interim_answer_is_not_written_into_the_body(listen: Listen) -> None:
    class Late:
        async def send(self, request: Request) -> Response:
            class Body(ChunkedBody):
                async def __anext__(self) -> bytes:
                    assert request.on_interim is not None
                    request.on_interim(ResponseHead(102))
                    return await super().__anext__()

            return response(200, body=Body(b"ab"))

    answers = await (await listen(Late())).ask(LAST)
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"ab")]


# ---- bodies of requests ------------------------------------------------------------------------------------------------


async def test_100_is_sent_when_the_body_is_asked_for(echo: Listening) -> None:
    client = await echo.connect()
    await client.send(POST_HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert (await client.one()).status == 100
    await client.send(b"abc")
    assert (await client.one()).body == b"abc"


async def test_no_100_where_the_body_is_not_asked_for_and_the_connection_closes(listen: Listen) -> None:
    running = await listen(ScriptedHop([response(403)]))
    raw = POST_HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    answers = await running.ask(raw, half_close=False)

    assert [(answer.status, answer["Connection"]) for answer in answers] == [(403, "close")]


async def test_no_100_where_the_body_has_begun_to_arrive_or_the_client_is_1_0(echo: Listening) -> None:
    whole = await echo.ask(POST_HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc")
    assert [answer.status for answer in whole] == [200]

    client = await echo.connect()
    await client.send(POST_HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\na")
    await settle()
    await client.send(b"bc")
    assert (await client.one()).status == 200

    old = await echo.connect()
    await old.send(b"POST /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    await settle()
    await old.send(b"abc")
    assert (await old.one()).status == 200


async def test_a_short_body_that_nobody_reads_is_read_on(listen: Listen) -> None:
    running = await listen(ScriptedHop([response(200, body=b"1"), response(200, body=b"2")]))
    client = await running.connect()
    await client.send(POST_HEAD + b"Content-Length: 1000\r\n\r\n" + b"a" * 500)
    assert (await client.one()).body == b"1"
    await client.send(b"a" * 500 + GET)
    assert (await client.one()).body == b"2"


@pytest.mark.parametrize("framing", [b"Content-Length: 10000000\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_a_long_body_that_nobody_reads_ends_the_connection_after_the_answer(
    listen: Listen, framing: bytes
) -> None:
    running = await listen(ScriptedHop([response(200, body=b"1")]), Limits(linger_timeout=0.05))
    answers = await running.ask(POST_HEAD + framing + b"\r\n", half_close=False)

    assert [(answer.body, answer["Connection"]) for answer in answers] == [(b"1", "close")]


async def test_an_early_answer_reaches_a_client_that_is_still_sending(listen: Listen) -> None:
    running = await listen(EchoHop(), Limits(body_bytes=1000))
    client = await running.connect()
    await client.send(POST_HEAD + b"Content-Length: 2000000\r\n\r\n")
    await client.send(b"a" * 2_000_000)

    assert [answer.status for answer in parse_answers(await client.rest())] == [413]


async def test_a_client_that_never_stops_sending_is_cut_off(listen: Listen) -> None:
    running = await listen(EchoHop(), Limits(body_bytes=1000, linger_timeout=PATIENCE))
    client = await running.connect()
    await client.send(POST_HEAD + b"Content-Length: 200000000\r\n\r\n")

    async def flood() -> None:
        while True:
            await client.send(b"a" * 1_000_000)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(flood(), PATIENCE)


async def test_a_chunked_body_over_the_limit_is_refused_while_it_arrives(listen: Listen) -> None:
    running = await listen(EchoHop(), Limits(body_bytes=1000))
    chunk = b"64\r\n" + b"a" * 100 + b"\r\n"
    raw = POST_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 11
    answers = await running.ask(raw, half_close=False)

    assert [(answer.status, json.loads(answer.body)["code"]) for answer in answers] == [(413, "body_too_large")]


async def test_wrong_chunks_are_told_even_where_nobody_reads_them(listen: Listen) -> None:
    running = await listen(ScriptedHop([response(200)]))
    answers = await running.ask(POST_HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", half_close=False)

    assert [answer.status for answer in answers] == [400]


async def test_what_comes_after_wrong_chunks_is_not_looked_at(listen: Listen) -> None:
    hop = GatedHop()
    running = await listen(hop)
    client = await running.connect()
    await client.send(POST_HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n")
    await within(hop.reached)
    await client.send(b"3\r\nabc\r\n0\r\n\r\n" + GET)
    await asyncio.sleep(0.02)
    hop.gate.set()
    assert [answer.status for answer in parse_answers(await client.rest())] == [400]
    assert hop.targets == ["/a"]


async def test_a_large_body_passes_in_bounded_memory(listen: Listen) -> None:
    class Counting:
        async def send(self, request: Request) -> Response:
            size = 0
            async for part in request.body:
                size += len(part)
                await asyncio.sleep(0)
            return response(200, body=str(size).encode())

    running = await listen(Counting(), Limits(body_bytes=64 * 1024 * 1024))
    client = await running.connect()
    await client.send(POST_HEAD + b"Content-Length: 33554432\r\n\r\n")
    block = b"a" * 65536
    tracemalloc.start()
    for _ in range(512):
        await client.send(block)
    assert (await client.one()).body == b"33554432"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


async def test_a_body_that_nobody_takes_stops_being_read(listen: Listen) -> None:
    hop = GatedHop()
    running = await listen(hop, Limits(body_bytes=1 << 30))
    client = await running.connect()
    await client.send(POST_HEAD + b"Content-Length: 100000000\r\n\r\n")
    sending = asyncio.create_task(client.send(b"a" * 50_000_000))
    done, _ = await asyncio.wait([sending], timeout=0.3)
    assert not done
    sending.cancel()
    client.leave()


async def test_a_large_answer_waits_for_its_reader(listen: Listen) -> None:
    class Endless(ChunkedBody):
        given = 0

        async def __anext__(self) -> bytes:
            Endless.given += 1
            return b"a" * 65536

    running = await listen(ScriptedHop([response(200, body=Endless())]))
    client = await running.connect()
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(GET)
    given = -1
    while given != Endless.given:
        given = Endless.given
        await asyncio.sleep(0.05)
    assert given * 65536 < 32 * 1024 * 1024
    client.leave()
    await gone(running)
    await settle()
    assert [event.outcome for event in running.observer.of(RequestAnswered)] == ["abandoned"]  # type: ignore[attr-defined]


# ---- silence -----------------------------------------------------------------------------------------------------------


async def test_a_connection_that_sends_nothing_is_closed_without_an_answer(listen: Listen) -> None:
    running = await listen(EchoHop(), Limits(header_timeout=0.05))
    assert await running.ask(b"", half_close=False) == []
    assert await running.ask(b"", half_close=True) == []
    assert await running.ask(b"\r\n", half_close=False) == []


@pytest.mark.parametrize("begun", [b"G", b"\r", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nX"])
async def test_a_head_that_does_not_end_is_refused_in_time(listen: Listen, begun: bytes) -> None:
    running = await listen(EchoHop(), Limits(header_timeout=0.5))
    answers = await running.ask(begun, half_close=False)

    assert [(answer.status, json.loads(answer.body)["code"]) for answer in answers] == [(408, "request_timeout")]


async def test_a_head_that_trickles_has_one_deadline_for_the_whole(listen: Listen) -> None:
    running = await listen(EchoHop(), Limits(header_timeout=0.15))
    client = await running.connect()
    for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nX: aaaaaaaaaaaaaaaaaaaaaaaa":
        if client.reader._eof:  # type: ignore[attr-defined]
            break
        client.writer.write(bytes((byte,)))
        await asyncio.sleep(0.01)
    assert [answer.status for answer in parse_answers(await client.rest())] == [408]


async def test_an_idle_connection_is_closed_without_an_answer(listen: Listen) -> None:
    running = await listen(EchoHop(), Limits(idle_timeout=0.05))
    answers = await running.ask(GET, half_close=False)

    assert [answer.status for answer in answers] == [200]


async def test_an_answer_may_take_longer_than_a_head(listen: Listen) -> None:
    hop = GatedHop()
    running = await listen(hop, Limits(header_timeout=0.5, idle_timeout=PATIENCE))
    client = await running.connect()
    await client.send(GET)
    await within(hop.reached)
    await asyncio.sleep(0.6)
    hop.gate.set()
    assert (await client.one()).status == 200
    await client.send(GET)
    assert (await client.one()).status == 200


async def test_a_body_that_stops_arriving_is_refused_in_time(listen: Listen) -> None:
    running = await listen(EchoHop(), Limits(body_timeout=0.05))
    answers = await running.ask(POST_HEAD + b"Content-Length: 10\r\n\r\nabc", half_close=False)

    assert [(answer.status, json.loads(answer.body)["code"]) for answer in answers] == [(408, "request_timeout")]


async def test_silence_is_counted_anew_with_every_byte_of_a_body(listen: Listen) -> None:
    running = await listen(EchoHop(), Limits(body_timeout=1.0))
    client = await running.connect()
    await client.send(POST_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for byte in b"3\r\nabc\r\n0\r\n\r\n":
        await asyncio.sleep(0.1)
        await client.send(bytes((byte,)))
    assert (await client.one()).body == b"abc"


async def test_a_rest_that_nobody_wanted_and_that_does_not_come_ends_the_connection(listen: Listen) -> None:
    running = await listen(ScriptedHop([response(200, body=b"1")]), Limits(body_timeout=0.05))
    answers = await running.ask(POST_HEAD + b"Content-Length: 1000\r\n\r\n", half_close=False)

    assert [answer.body for answer in answers] == [b"1"]


async def test_a_reader_that_does_not_read_is_dropped_in_time(listen: Listen) -> None:
    body = ChunkedBody(*[b"a" * 1_000_000] * 50)
    running = await listen(ScriptedHop([response(200, body=body)]), Limits(write_timeout=0.05))
    client = await running.connect()
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(GET)
    await gone(running)
    await settle()
    assert body.closed
    client.leave()


async def test_a_last_answer_that_nobody_takes_is_not_waited_for_without_end(listen: Listen) -> None:
    running = await listen(ScriptedHop([response(200, body=b"a" * 50_000_000)]), Limits(write_timeout=0.05))
    client = await running.connect()
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(LAST)
    await gone(running)
    client.leave()


# ---- leaving -----------------------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_cancels_its_request(listen: Listen) -> None:
    hop = HangingHop()
    running = await listen(hop)
    client = await running.connect()
    await client.send(GET)
    await within(hop.reached)
    client.leave()
    await within(hop.cancelled)
    await gone(running)
    await settle()

    events = running.observer.of(RequestAnswered)
    assert [(event.outcome, event.target) for event in events] == [("abandoned", "/a")]  # type: ignore[attr-defined]


async def test_a_half_closed_client_gets_everything_it_asked_for(echo: Listening) -> None:
    answers = await echo.ask(GET + POST_HEAD + b"Content-Length: 3\r\n\r\nabc" + GET)

    assert [answer.body for answer in answers] == [b"", b"abc", b""]


async def test_a_client_that_half_closes_within_a_later_head_gets_the_answers_before_and_a_refusal(
    echo: Listening,
) -> None:
    answers = await echo.ask(GET + b"GET /b HT")

    assert [answer.status for answer in answers] == [200, 400]


async def test_a_client_that_half_closes_within_its_body_is_refused(echo: Listening) -> None:
    client = await echo.connect()
    await client.send(POST_HEAD + b"Content-Length: 10\r\n\r\n")
    await settle()
    await client.send(b"abc")
    client.writer.write_eof()

    assert [answer.status for answer in parse_answers(await client.rest())] == [400]


async def test_a_client_that_half_closes_while_the_rest_is_read_on_is_let_go(listen: Listen) -> None:
    running = await listen(ScriptedHop([response(200, body=b"1")]))
    client = await running.connect()
    await client.send(POST_HEAD + b"Content-Length: 1000\r\n\r\n")
    assert (await client.one()).body == b"1"
    client.writer.write_eof()
    assert await client.rest() == b""


# ---- limits, peers, drain ----------------------------------------------------------------------------------------------


async def test_beyond_the_limit_a_connection_is_told_so(listen: Listen) -> None:
    hop = HangingHop()
    running = await listen(hop, Limits(connections=1))
    first = await running.connect()
    await first.send(GET)
    await within(hop.reached)
    answers = await running.ask(b"", half_close=False)

    assert [(answer.status, json.loads(answer.body)["code"]) for answer in answers] == [(503, "overloaded")]
    assert int(answers[0]["Retry-After"]) >= 1
    assert [event.code for event in running.observer.of(RequestRejected)] == ["overloaded"]  # type: ignore[attr-defined]


async def test_not_every_connection_beyond_the_limit_is_told(listen: Listen) -> None:
    hop = HangingHop()
    running = await listen(hop, Limits(connections=1, linger_timeout=PATIENCE))
    first = await running.connect()
    await first.send(GET)
    await within(hop.reached)
    clients = [await running.connect() for _ in range(70)]
    told = [await client.reader.read(12) for client in clients[:64]]
    untold = [await client.rest() for client in clients[64:]]

    assert told == [b"HTTP/1.1 503"] * 64
    assert untold == [b""] * 6
    for client in clients:
        client.leave()


async def test_an_idle_connection_makes_room_for_a_new_one(listen: Listen) -> None:
    running = await listen(EchoHop(), Limits(connections=1))
    first = await running.connect()
    await first.send(GET)
    await first.one()
    assert [answer.status for answer in await running.ask(LAST)] == [200]
    assert await first.rest() == b""


async def test_a_peer_that_may_not_connect_gets_no_answer(listen: Listen) -> None:
    running = await listen(EchoHop(), peer_check=lambda sock, address: Peer("10.0.0.1", allowed=False))
    client = await running.connect()

    assert await client.rest() == b""
    rejected = running.observer.of(RequestRejected)
    assert [(event.code, event.client) for event in rejected] == [("client_not_allowed", "10.0.0.1")]  # type: ignore[attr-defined]


async def test_a_peers_address_is_the_requests_client(listen: Listen) -> None:
    hop = EchoHop()
    running = await listen(hop, peer_check=lambda sock, address: Peer("10.0.0.1"))
    await running.ask(GET)

    assert [request.client.address for request in hop.seen] == ["10.0.0.1"]


async def test_draining_closes_idle_connections_after_a_moment_and_lets_answers_finish(listen: Listen) -> None:
    hop = GatedHop()
    running = await listen(hop, Limits(drain_timeout=0.05))
    idle, busy = await running.connect(), await running.connect()
    await busy.send(GET)
    await within(hop.reached)
    draining = asyncio.create_task(running.connections.drain(PATIENCE))
    assert await idle.rest() == b""

    hop.gate.set()
    answer = parse_answers(await busy.rest())[0]
    assert (answer.body, answer["Connection"]) == (b"/a", "close")
    await draining
    assert running.connections.count == 0


async def test_while_draining_a_kept_connection_has_one_answer_more(listen: Listen) -> None:
    running = await listen(EchoHop(), Limits(drain_timeout=PATIENCE))
    kept, new = await running.connect(), await running.connect()
    await kept.send(GET)
    assert (await kept.one()).status == 200
    draining = asyncio.create_task(running.connections.drain(PATIENCE))
    await settle()

    for client in (kept, new):
        await client.send(GET + GET)  # the second is not read: `close` says so
        assert [answer["Connection"] for answer in parse_answers(await client.rest())] == ["close"]
    await draining


async def test_while_draining_the_request_after_an_answer_that_promised_to_keep_is_answered(listen: Listen) -> None:
    gate = asyncio.Event()

    class Slow(ChunkedBody):
        async def __anext__(self) -> bytes:
            await gate.wait()
            return await super().__anext__()

    running = await listen(
        ScriptedHop([response(200, body=Slow(b"a")), response(200, body=b"b")]), Limits(drain_timeout=PATIENCE)
    )
    client = await running.connect()
    await client.send(GET)
    async with asyncio.timeout(PATIENCE):
        assert b"Connection: close" not in await client.reader.readuntil(b"\r\n\r\n")
    draining = asyncio.create_task(running.connections.drain(PATIENCE))
    await settle()
    gate.set()
    async with asyncio.timeout(PATIENCE):
        await client.reader.readuntil(b"0\r\n\r\n")
    await client.send(GET)
    assert [(answer.body, answer["Connection"]) for answer in parse_answers(await client.rest())] == [(b"b", "close")]
    await draining


async def test_connections_that_are_to_end_do_so_with_their_next_answer(listen: Listen) -> None:
    hop = GatedHop()
    running = await listen(hop)
    idle, busy = await running.connect(), await running.connect()
    await busy.send(GET)
    await within(hop.reached)
    running.connections.finish()
    assert await idle.rest() == b""
    hop.gate.set()
    assert [answer["Connection"] for answer in parse_answers(await busy.rest())] == ["close"]
    assert len(await running.ask(LAST)) == 1  # new ones are as before


async def test_draining_ends_what_outlasts_its_grace(listen: Listen) -> None:
    hop = HangingHop()
    running = await listen(hop)
    client = await running.connect()
    await client.send(GET)
    await within(hop.reached)
    await running.connections.drain(0.05)

    assert hop.cancelled.is_set()
    assert running.connections.count == 0


async def test_a_kept_connection_closes_after_a_body_that_was_read_on_while_draining(listen: Listen) -> None:
    running = await listen(ScriptedHop([response(200, body=b"1")]), Limits(drain_timeout=0.05))
    client = await running.connect()
    await client.send(POST_HEAD + b"Content-Length: 10\r\n\r\n")
    assert (await client.one()).body == b"1"
    draining = asyncio.create_task(running.connections.drain(PATIENCE))
    await settle()
    await client.send(b"0123456789")
    assert await client.rest() == b""
    await draining


async def test_a_handler_that_fails_without_an_answer_ends_by_a_reset(listen: Listen) -> None:
    running = await listen(EchoHop())

    async def broken(exchange: object, request: object) -> None:
        return None

    running.connections.handler.handle = broken  # type: ignore[method-assign]
    client = await running.connect()
    await client.send(GET)
    assert await client.reset()
