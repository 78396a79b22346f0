"""Odd answers of providers, byte for byte over the real endpoint on loopback: none of them loses a pair that can be kept.

Each row is what a scripted provider sends to one refresh, and what must be so afterwards. `renewed`: the new pair is in use. `kept`: the old one
goes on and its token may be presented again. `lost`: the token may be spent, and is presented once more. `dead`: it is never presented again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from passoproxy.core.oauth.transaction import digest
from passoproxy.errors import PassoproxyError
from passoproxy.outbound.token_endpoint import ProviderEndpoint
from passoproxy.tokens.commands import Refresh
from tests.fakes import FakeClock
from tests.outbound.wire import direct
from tests.tokens.life import PROVIDER, Life

NEW = {"access_token": "access-new", "refresh_token": "def-refresh-new", "token_type": "Bearer", "expires_in": 3600}
HOUR = 3600.0


def answer(body: bytes | str, status: str = "200 OK", *fields: str, length: int | None = None) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    named = [each.partition(":")[0].lower() for each in fields]
    lines = [f"HTTP/1.1 {status}", *fields]
    if "content-type" not in named:
        lines.append("Content-Type: application/json")
    if "transfer-encoding" not in named:
        lines.append(f"Content-Length: {len(data) if length is None else length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + data


def granted(**changes: Any) -> bytes:
    """The usual answer with other members; None leaves one out."""
    return answer(json.dumps({name: value for name, value in {**NEW, **changes}.items() if value is not None}))


def error(code: str, status: str = "400 Bad Request", *fields: str) -> bytes:
    return answer(json.dumps({"error": code, "error_description": "no"}), status, *fields)


@dataclass
class Odd:
    name: str
    raw: bytes
    end: str
    lifetime: float | None = HOUR
    refresh: str = "def-refresh-new"
    said: str = ""
    retry_after: float | None = None


ROWS = [
    Odd("no expires_in: the last known lifetime", granted(expires_in=None), "renewed"),
    Odd("expires_in as text", granted(expires_in="3600"), "renewed"),
    Odd("expires_in as text with spaces", granted(expires_in=" 1800 "), "renewed", 1800.0),
    Odd("expires_in 0", granted(expires_in=0), "renewed"),
    Odd("expires_in negative", granted(expires_in=-5), "renewed"),
    Odd("expires_in huge", granted(expires_in=10**15), "renewed"),
    Odd("expires_in beyond all numbers", answer(json.dumps(NEW).replace("3600", "1e999")), "renewed"),
    Odd("expires_in with a fraction", granted(expires_in=1800.75), "renewed", 1800.75),
    Odd("expires_in true", granted(expires_in=True), "renewed"),
    Odd("no token_type", granted(token_type=None), "renewed"),
    Odd("token_type in another case", granted(token_type="BEARER"), "renewed"),
    Odd("no new refresh token: the old one is kept", granted(refresh_token=None), "renewed", refresh="old"),
    Odd("an empty refresh token: the old one is kept", granted(refresh_token=""), "renewed", refresh="old"),
    Odd(
        "a form",
        answer("access_token=access-new&refresh_token=def-refresh-new&expires_in=3600", "200 OK",
               "Content-Type: application/x-www-form-urlencoded"),
        "renewed",
    ),
    Odd("JSON with a byte order mark", answer(b"\xef\xbb\xbf" + json.dumps(NEW).encode()), "renewed"),
    Odd("JSON as text/html", answer(json.dumps(NEW), "200 OK", "Content-Type: text/html; charset=utf-8"), "renewed"),
    Odd("JSON without a type", answer(json.dumps(NEW), "200 OK", "Content-Type:"), "renewed"),
    Odd("gzip", answer(gzip.compress(json.dumps(NEW).encode()), "200 OK", "Content-Encoding: gzip"), "renewed"),
    Odd("201", answer(json.dumps(NEW), "201 Created"), "renewed"),
    Odd("chunked", answer(f"{len(json.dumps(NEW)):x}\r\n{json.dumps(NEW)}\r\n0\r\n\r\n", "200 OK", "Transfer-Encoding: chunked"), "renewed"),
    Odd("until the connection ends", b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + json.dumps(NEW).encode(), "renewed"),
    Odd("100 Continue first", b"HTTP/1.1 100 Continue\r\n\r\n" + granted(), "renewed"),
    Odd("just 64 KiB", granted(padding="x" * (64 * 1024 - len(json.dumps({**NEW, "padding": ""})))), "renewed"),
    Odd("65 KiB", granted(padding="x" * 65 * 1024), "lost", said="64 KiB"),
    Odd("truncated", answer(json.dumps(NEW)[:60], length=len(json.dumps(NEW))), "lost", said="lost"),
    Odd("truncated JSON of the right length", answer(json.dumps(NEW)[:60]), "lost", said="neither a JSON object"),
    Odd("broken gzip", answer(gzip.compress(json.dumps(NEW).encode())[:40], "200 OK", "Content-Encoding: gzip"), "lost"),
    Odd("200 with an error member", answer('{"error": "invalid_grant"}'), "lost", said="access_token"),
    Odd("200 with nothing", answer(""), "lost"),
    Odd("204", b"HTTP/1.1 204 No Content\r\n\r\n", "lost"),
    Odd("200 with a list", answer("[]"), "lost"),
    Odd("200 with an HTML page", answer("<html>Sign in</html>", "200 OK", "Content-Type: text/html"), "lost"),
    Odd("an access token with a line break", granted(access_token="a\nb"), "lost", said="access_token"),
    Odd("no HTTP at all", b"220 smtp.example ESMTP\r\n", "lost", said="lost"),
    Odd("closed without a byte", b"", "lost", said="lost"),
    Odd("400 invalid_grant", error("invalid_grant"), "dead", said="invalid_grant"),
    Odd("401 invalid_request", error("invalid_request", "401 Unauthorized"), "dead", said="invalid_request"),
    Odd("401 invalid_client", error("invalid_client", "401 Unauthorized"), "kept", said="invalid_client"),
    Odd("400 unauthorized_client", error("unauthorized_client"), "kept", said="unauthorized_client"),
    Odd("403 with a page", answer("<html>Blocked</html>", "403 Forbidden", "Content-Type: text/html"), "kept", said="403"),
    Odd("404", answer("", "404 Not Found"), "kept", said="404"),
    Odd("302", answer("", "302 Found", "Location: https://elsewhere.example/"), "kept", said="redirects"),
    Odd("408", answer("", "408 Request Timeout"), "kept", said="408"),
    Odd("429 with seconds", answer("", "429 Too Many Requests", "Retry-After: 40"), "kept", said="429", retry_after=40.0),
    Odd("429 with a date", answer("", "429 Too Many Requests", "Retry-After: {date}"), "kept", said="429", retry_after=40.0),
    Odd("500 with a page", answer("<html>", "500 Internal Server Error", "Content-Type: text/html"), "kept", said="500"),
    Odd("503 with invalid_grant", error("invalid_grant", "503 Service Unavailable"), "kept", said="503"),
]  # fmt: skip


@dataclass
class Scripted:
    """A provider on loopback that answers one connection after another as it is told; `seen` is what it read."""

    script: list[bytes] = field(default_factory=list)
    seen: list[bytes] = field(default_factory=list)
    pace: Callable[[], Any] | None = None
    port: int = 0

    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            with contextlib.suppress(OSError):
                await self._answer(reader, writer)
        finally:
            writer.close()
            self.tasks.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        length = next(int(each.split(b":")[1]) for each in head if each.startswith(b"content-length"))
        self.seen.append(await reader.readexactly(length))
        raw = self.script.pop(0)
        size = len(raw) if self.pace is None else 1
        for place in range(0, len(raw), size or 1):
            writer.write(raw[place : place + size])
            await writer.drain()
            if self.pace is not None:
                await self.pace()


@contextlib.asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    made = Scripted()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        left = set(made.tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0)


def life_with(provider: Scripted) -> Life:
    clock = FakeClock()
    endpoint = ProviderEndpoint(clock, direct)
    where = replace(PROVIDER, token_url=f"http://127.0.0.1:{provider.port}/oauth/token")
    return Life(clock=clock, endpoint=endpoint, provider=where).having(lost_answer_replay="once")


async def refreshed(life: Life) -> None:
    """One refresh by order, whatever comes of it."""
    with contextlib.suppress(PassoproxyError):
        await asyncio.wait_for(life.keeper.execute(Refresh()), 10)


@pytest.mark.parametrize("odd", ROWS, ids=lambda odd: odd.name)
async def test_an_odd_answer_loses_nothing_that_can_be_kept(odd: Odd) -> None:
    async with scripted() as provider:
        life = life_with(provider)
        keeper = await life.started_with_pair()
        old = life.held()["refresh_token"]
        provider.script.append(odd.raw.replace(b"{date}", _date(life.clock.wall() + 40)))
        await refreshed(life)
        assert len(provider.seen) == 1
        shown, holding = keeper.snapshot(), keeper.state
        bearer = keeper.current()
        assert bearer is not None, "a valid access token is never taken away"
        if odd.end == "renewed":
            pair = life.held()
            assert bearer.token == "access-new"
            assert pair["refresh_token"] == (old if odd.refresh == "old" else odd.refresh)
            assert pair["expires_in"] == odd.lifetime
            assert shown.chain == "healthy"
            assert (digest(str(old)) in holding.record.spent) == (odd.refresh != "old")
        else:
            assert bearer.token == "access-1"
            assert life.held()["refresh_token"] == old
            assert shown.chain == {"kept": "retrying", "lost": "unknown", "dead": "dead"}[odd.end]
            assert odd.said in shown.last_error, shown.last_error
            assert str(old) not in shown.last_error
            await _goes_on(odd, provider, life)
        await life.crash()


async def _goes_on(odd: Odd, provider: Scripted, life: Life) -> None:
    """What becomes of it when the provider is well again."""
    keeper = life.keeper
    if odd.end == "dead":
        await life.clock.advance(1000)
        await refreshed(life)
        assert len(provider.seen) == 1, "a dead token was presented again"
        return
    if odd.retry_after is not None:
        assert keeper.snapshot().next_refresh_at == pytest.approx(life.clock.wall() + odd.retry_after, abs=1.5)
    provider.script.append(granted())
    if odd.end == "lost":
        assert keeper.snapshot().next_refresh_at is not None
        assert keeper.snapshot().next_refresh_at <= life.clock.wall() + 10, "the replay is sent within 10 s"
    async with asyncio.timeout(10):
        await life.clock.advance(odd.retry_after or 61)
        while keeper.snapshot().chain != "healthy":
            await asyncio.sleep(0.005)
            await life.clock.advance(0.5)
    assert len(provider.seen) == 2
    assert provider.seen[0] == provider.seen[1], "the same token, and nothing else"
    assert keeper.current().token == "access-new"


async def test_an_answer_of_one_byte_a_second_is_bounded_as_a_whole() -> None:
    """The endpoint's limit spans the exchange, not the silence between two bytes."""
    async with scripted() as provider:
        provider.script.append(granted())
        provider.pace = lambda: asyncio.sleep(0.05)
        life = life_with(provider)
        asking = life.asking
        began = asyncio.get_running_loop().time()
        fate = await asking.refresh("def-refresh-1", 1.0)
        took = asyncio.get_running_loop().time() - began
        assert fate.word == "lost"
        assert "1 s" in fate.reason
        assert took < 0.05 * len(granted())


def _date(moment: float) -> bytes:
    from passoproxy.core.http.syntax import print_date

    return print_date(moment).encode()
