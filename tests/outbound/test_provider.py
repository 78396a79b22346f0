"""The token endpoint's wire: what counts as unsent, what as lost, and that nothing is ever sent twice."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest
import trustme

from passoproxy import __version__
from passoproxy.core.oauth.settings import Terms
from passoproxy.core.oauth.token_response import Answer, Dead, classify, read_answer
from passoproxy.errors import TokenAnswerLost, TokenRequestUnsent
from passoproxy.outbound.dial import Dialer, ForwardProxy, tls_context
from passoproxy.outbound.post import MAX_BODY_BYTES
from passoproxy.outbound.token_endpoint import ProviderEndpoint
from passoproxy.ports import TokenReply, TokenRequest
from tests.fakes import FakeClock, settle
from tests.outbound.wire import AMPLE, SHORT, Line, answering, closing, direct, origin_that

JSON = b'{"access_token": "planted-token"}'
ZIPPED = gzip.compress(JSON, mtime=0)  # without the hour, which would stand in the names of the tests


def answer(body: bytes = JSON, status: bytes = b"200 OK", *fields: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def asking(port: int, scheme: str = "http", host: str = "127.0.0.1") -> TokenRequest:
    return TokenRequest(
        f"{scheme}://{host}:{port}/oauth/token",
        (("Content-Type", "application/json"), ("Accept", "application/json"), ("user-agent", "other")),
        b'{"refresh_token": "planted-secret"}',
    )


async def posted(port: int, timeout: float = 5.0) -> TokenReply:
    return await ProviderEndpoint(FakeClock(), direct).post(asking(port), timeout)


async def test_an_ordinary_exchange() -> None:
    async with origin_that(answering(answer(JSON, b"200 OK", b"Content-Type: application/json"))) as there:
        reply = await posted(there.port)
    assert (reply.status, reply.body, reply.sent_at) == (200, JSON, 1_700_000_000.0)
    assert ("Content-Type", "application/json") in reply.headers
    (asked,) = there.heard
    head, _, body = asked.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /oauth/token HTTP/1.1"
    assert sorted(line.split(b":")[0].lower() for line in lines[1:]) == [
        b"accept", b"accept-encoding", b"connection", b"content-length", b"content-type", b"host", b"user-agent",
    ]  # fmt: skip
    assert f"User-Agent: passoproxy/{__version__}".encode() in lines
    assert body == b'{"refresh_token": "planted-secret"}'


async def test_each_request_has_a_connection_of_its_own() -> None:
    async with origin_that(answering(answer())) as there:
        endpoint = ProviderEndpoint(FakeClock(), direct)
        for _ in range(3):
            await endpoint.post(asking(there.port), 5)
        assert there.accepted == 3


async def test_a_redirect_is_an_answer() -> None:
    moved = answer(b"", b"307 Temporary Redirect", b"Location: /elsewhere")
    async with origin_that(answering(moved)) as there:
        assert (await posted(there.port)).status == 307
    assert len(there.heard) == 1


async def test_cookies_are_not_kept() -> None:
    async with origin_that(answering(answer(JSON, b"200 OK", b"Set-Cookie: a=b"))) as there:
        endpoint = ProviderEndpoint(FakeClock(), direct)
        for _ in range(2):
            await endpoint.post(asking(there.port), 5)
    assert not any(b"cookie" in heard.lower() for heard in there.heard)


@pytest.mark.parametrize(
    ("coding", "sent", "got"),
    [
        (b"gzip", ZIPPED, JSON),
        (b"GZIP", ZIPPED, JSON),
        (b"deflate", zlib.compress(JSON), JSON),
        (b"br", JSON, JSON),
        (b"gzip", JSON, JSON),
        (b"gzip", ZIPPED[:-20], ZIPPED[:-20]),
        (b"gzip", gzip.compress(b"x" * 10_000_000, mtime=0), b"x" * MAX_BODY_BYTES),
    ],
)
async def test_content_codings(coding: bytes, sent: bytes, got: bytes) -> None:
    async with origin_that(answering(answer(sent, b"200 OK", b"Content-Encoding: " + coding))) as there:
        assert (await posted(there.port)).body == got


@pytest.mark.parametrize("size", [MAX_BODY_BYTES - 1, MAX_BODY_BYTES, MAX_BODY_BYTES + 1, 3_000_000])
async def test_an_oversize_answer_is_cut_where_it_can_be_told(size: int) -> None:
    async with origin_that(answering(answer(b"x" * size))) as there:
        assert len((await posted(there.port)).body) == min(size, MAX_BODY_BYTES)


async def test_sloppy_http_does_not_cost_an_answer() -> None:
    sloppy = b"HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: %d\n\n%b" % (len(JSON), JSON)
    async with origin_that(answering(sloppy)) as there:
        assert (await posted(there.port)).body == JSON


async def test_interim_heads_are_passed_over() -> None:
    async with origin_that(answering(b"HTTP/1.1 100 Continue\r\n\r\n" + answer())) as there:
        assert (await posted(there.port)).body == JSON


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HALF = JSON[:9]
SLOPPY = {
    "a head over 8 KiB": answer(JSON, b"200 OK", b"X-Long: " + b"x" * 20_000),
    "200 fields": answer(JSON, b"200 OK", *(b"X-%d: y" % number for number in range(200))),
    "a length too long": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + JSON,
    "a length too short": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(JSON) - 1) + JSON,
    "a length of nothing": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + JSON,
    "two equal lengths": answer(JSON, b"200 OK", b"Content-Length: %d" % len(JSON)),
    "two unequal lengths": answer(JSON, b"200 OK", b"Content-Length: 5"),
    "no number for a length": b"HTTP/1.1 200 OK\r\nContent-Length: planted-token\r\n\r\n" + JSON,
    "a space before a colon": b"HTTP/1.1 200 OK\r\nContent-Length : %d\r\nX-A : b\r\n\r\n%b" % (len(JSON), JSON),
    "a field that is none": answer(JSON, b"200 OK", b"no colon here", b": no name", b"\x00\x01: \xff"),
    "a folded field": answer(JSON, b"200 OK", b"X-A: b\r\n  c"),
    "no reason": answer(JSON, b"200"),
    "another version": answer().replace(b"HTTP/1.1", b"HTTP/2"),
    "bare line feeds": answer().replace(b"\r\n", b"\n"),
    "no head": JSON,
    "no end of the head": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + JSON,
    "no last chunk": CHUNKED + b"%x\r\n%b\r\n" % (len(JSON), JSON),
    "a chunk that is too long": CHUNKED + b"99\r\n" + JSON,
    "a chunk that is too short": CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(JSON) - 2, JSON),
    "a chunk without a size": CHUNKED + b"planted-token\r\n" + JSON,
    "chunks that were not announced": answer(b"%x\r\n%b\r\n0\r\n\r\n" % (len(JSON), JSON)),
    "chunks of wrong sizes": CHUNKED + b"5\r\n%b\r\n99\r\n%b\r\n0\r\n\r\n" % (HALF, JSON[9:]),
    "chunks and a length": CHUNKED[:-2] + b"Content-Length: 7\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(JSON), JSON),
    "announced chunks that are none": CHUNKED + JSON,
    "gzip without its end": answer(ZIPPED[:-8], b"200 OK", b"Content-Encoding: gzip"),
    "gzip in a chunk that is too long": CHUNKED[:-2] + b"Content-Encoding: gzip\r\n\r\nff\r\n" + ZIPPED,
    "something before and after it": answer(b")]}'\n" + JSON + b"\n<!-- 7 ms -->"),
}


@pytest.mark.parametrize("end", ["closed", "reset", "open"])
async def test_a_whole_token_answer_is_taken_however_it_is_framed(end: str) -> None:
    async def token_of(raw: bytes) -> str:
        async def play(line: Line) -> None:
            await line.request()
            for at in range(0, len(raw), 5000):
                await line.say(raw[at : at + 5000])
            if end == "open":
                await line.end()
            elif end == "reset":
                await settle()
                line.reset()

        async with origin_that(play) as there:
            try:
                reply = await posted(there.port, 30.0)
            except TokenAnswerLost as lost:
                return str(lost)
            assert there.accepted == 1
        fate = classify(reply.status, reply.headers, reply.body, reply.received_at)
        assert isinstance(fate, Answer), fate
        return read_answer(reply.body, "", 0.0, "refresh_token", None, Terms(), "").access_token

    # at once, because each that stays open is waited for
    found = await asyncio.gather(*(token_of(raw) for raw in SLOPPY.values()))
    assert {name: got for name, got in zip(SLOPPY, found, strict=True) if got != "planted-token"} == {}


async def test_a_whole_refusal_is_taken_too() -> None:
    raw = b'HTTP/1.1 400 Bad Request\r\nContent-Length: 99\r\n\r\n{"error": "invalid_grant"}'
    async with origin_that(closing(raw)) as there:
        reply = await posted(there.port)
    assert isinstance(classify(reply.status, reply.headers, reply.body, 0.0), Dead)


LOST = {
    "closed at once": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-",
    "no http": b"hello\r\n\r\n",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + JSON[:-1],
    "a body that is no token answer": b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"planted-token": {}}',
    "half a chunk": CHUNKED + b"99\r\n" + JSON[:-1],
    "bad chunk": CHUNKED + b"planted-token\r\n" + JSON[:-1],
    "only an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
    "half a body of a 503": b"HTTP/1.1 503 No\r\nContent-Length: 99\r\n\r\nx",
}


@pytest.mark.parametrize("raw", LOST.values(), ids=LOST.keys())
async def test_faults_after_the_connection_stood_are_lost_answers_and_nothing_is_sent_again(raw: bytes) -> None:
    async with origin_that(closing(raw)) as there:
        with pytest.raises(TokenAnswerLost) as caught:
            await posted(there.port)
        assert there.accepted == 1
        assert len(there.heard) == 1
    assert "planted" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_reset_is_a_lost_answer() -> None:
    async def play(line: Line) -> None:
        await line.request()
        line.reset()

    async with origin_that(play) as there:
        with pytest.raises(TokenAnswerLost):
            await posted(there.port)
    assert there.accepted == 1


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
async def test_silence_is_a_lost_answer(said: bytes) -> None:
    async def play(line: Line) -> None:
        await line.request()
        await line.say(said)
        await line.end()

    async with origin_that(play) as there:
        with pytest.raises(TokenAnswerLost, match="did not come within"):
            await posted(there.port, AMPLE)


async def test_one_byte_at_a_time_is_bounded_as_a_whole() -> None:
    async def play(line: Line) -> None:
        await line.request()
        for byte in answer(b"x" * 1000):
            await line.say(bytes([byte]))
            await asyncio.sleep(SHORT / 5)

    async with origin_that(play) as there:
        with pytest.raises(TokenAnswerLost):
            await posted(there.port, AMPLE)


async def test_nobody_listening_is_unsent() -> None:
    async with origin_that(answering(answer())) as there:
        port = there.port
    with pytest.raises(TokenRequestUnsent, match=str(port)):
        await posted(port)


async def test_a_name_that_does_not_exist_is_unsent() -> None:
    endpoint = ProviderEndpoint(FakeClock(), direct)
    with pytest.raises(TokenRequestUnsent, match=r"nowhere\.invalid"):
        await endpoint.post(asking(80, host="nowhere.invalid"), 5)


@pytest.mark.parametrize(("connect_timeout", "timeout"), [(SHORT, 5.0), (5.0, SHORT)])
async def test_a_handshake_that_never_ends_is_unsent(connect_timeout: float, timeout: float) -> None:
    async def play(line: Line) -> None:
        await line.end()

    async with origin_that(play) as there:
        endpoint = ProviderEndpoint(FakeClock(), lambda at: Dialer(at, timeout=connect_timeout))
        with pytest.raises(TokenRequestUnsent):
            await endpoint.post(asking(there.port, "https", "localhost"), timeout)


async def test_a_certificate_that_is_not_trusted_is_unsent_and_a_trusted_one_is_not() -> None:
    import ssl

    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(served)
    trusting = tls_context()
    authority.configure_trust(trusting)
    async with origin_that(answering(answer()), tls=served) as there:
        request = asking(there.port, "https", "localhost")
        with pytest.raises(TokenRequestUnsent, match="certificate"):
            await ProviderEndpoint(FakeClock(), direct).post(request, 5)
        assert there.heard == []
        endpoint = ProviderEndpoint(FakeClock(), lambda at: Dialer(at, timeout=5, tls=trusting))
        assert (await endpoint.post(request, 5)).body == JSON


async def test_a_refused_tunnel_is_unsent() -> None:
    async def play(line: Line) -> None:
        line.heard.append(await line.reader.readuntil(b"\r\n\r\n"))
        await line.say(b"HTTP/1.1 407 No\r\n\r\n")

    async with origin_that(play) as there:
        proxy = ForwardProxy("127.0.0.1", there.port)
        endpoint = ProviderEndpoint(FakeClock(), lambda at: Dialer(at, timeout=5, proxy=proxy))
        with pytest.raises(TokenRequestUnsent, match="407"):
            await endpoint.post(asking(443, "https", "provider.example"), 5)
    assert len(there.heard) == 1
    assert b"planted" not in there.heard[0]
