"""The calls about the cache that may be long: lists of a hundred thousand entries, and filling it, told while it goes on.

What is short is in `admin_api`. No answer is put together in one go: the loop has its other work to do meanwhile, and a client that does not
take a list holds no more of it than a block.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from aiohttp import web

from passoproxy.errors import BadRequest
from passoproxy.server.admin_api import answer, document_of
from passoproxy.server.steering import Document, Steering

MOST_ORDERS = 10_000
"""Requests that one call may have fetched."""

LINES = "application/jsonl"
"""Asked for by `Accept`, what came of each request is told on a line of its own, as it comes; an empty line says that it goes on."""

BEAT_SECONDS = 3.0
_DEFAULT_LISTED, _MOST_LISTED = 1_000, 100_000
_BLOCK = 64 * 1024
_OUTCOMES = {"fetched": "warmed", "fresh": "fresh", "failed": "failed"}


class CacheApi:
    """Handlers over a daemon's handle."""

    def __init__(self, daemon: Steering) -> None:
        self._daemon = daemon

    async def entries(self, request: web.Request) -> web.StreamResponse:
        """A list of entries, read from the store as it is taken; `X-Passoproxy-More: true` where `limit` cuts it short."""
        chosen = dict(request.query)
        limit = _limit(chosen.pop("limit", str(_DEFAULT_LISTED)))
        selector, fields = self._daemon.selector(chosen), {"Content-Type": "application/json"}
        if await self._daemon.exceeds(selector, limit):
            fields["X-Passoproxy-More"] = "true"
        async with aclosing(_blocks(self._daemon.entries(selector, limit))) as blocks:
            first, block = await anext(blocks), await anext(blocks, None)
            if block is None:
                return web.Response(body=first, headers=fields)
            reply = web.StreamResponse(headers=fields)
            if request.method == "HEAD":
                return reply
            async with _unbroken(request, reply):
                await reply.write(first)
                while block is not None:
                    await asyncio.sleep(0)  # a write to a client that reads fast waits for nothing
                    await reply.write(block)
                    block = await anext(blocks, None)
            return reply

    async def explain(self, request: web.Request) -> web.Response:
        """Why a request would be a hit, a miss or a pass."""
        return answer(await self._daemon.explain(await document_of(request)))

    async def warm(self, request: web.Request) -> web.StreamResponse:
        """Has the cache fetch `{"urls": […]}`, of URLs, paths and objects; the numbers of what came of it, and the failures by name."""
        filling = self._daemon.warm(_orders(await document_of(request)))
        async with aclosing(filling):
            if LINES in request.headers.get("Accept", ""):
                return await _told(request, filling)
            counts, failures = dict.fromkeys(_OUTCOMES.values(), 0), list[Document]()
            async for each in filling:
                counts[_OUTCOMES[each["outcome"]]] += 1
                if each["outcome"] == "failed":
                    failures.append({"url": each["url"], "status": each["status"], "detail": each["detail"]})
        return answer({**counts, "failures": failures})


async def _blocks(entries: AsyncIterator[Document]) -> AsyncGenerator[bytes, None]:
    """A JSON list of `entries`, in blocks."""
    block, separator = bytearray(b"["), b""
    async with aclosing(entries) as listed:  # type: ignore[type-var]  # a handle's list is a generator
        async for entry in listed:
            block += separator + json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace")
            separator = b", "
            if len(block) >= _BLOCK:
                yield bytes(block)
                block.clear()
    yield bytes(block + b"]")


@asynccontextmanager
async def _unbroken(request: web.Request, reply: web.StreamResponse) -> AsyncIterator[None]:
    """Writes of `reply` are whole at the end of the block; where it raises, the connection ends, so that nothing is taken for the whole."""
    await reply.prepare(request)
    try:
        yield
    except BaseException:
        if request.transport is not None:
            request.transport.abort()
        raise
    await reply.write_eof()


async def _told(request: web.Request, filling: AsyncGenerator[Document, None]) -> web.StreamResponse:
    reply = web.StreamResponse(headers={"Content-Type": LINES})
    coming: asyncio.Task[Document | None] | None = None
    async with _unbroken(request, reply):
        try:
            while True:
                coming = coming or asyncio.ensure_future(anext(filling, None))
                done, _ = await asyncio.wait([coming], timeout=BEAT_SECONDS)
                if not done:
                    await reply.write(b"\n")
                    continue
                found, coming = coming.result(), None
                if found is None:
                    break
                await reply.write(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        finally:
            if coming is not None:  # whoever asked has left
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
    return reply


def _orders(order: Mapping[str, Any]) -> list[object]:
    match dict(order):
        case {"urls": list(urls), **rest} if urls and not rest:
            if len(urls) > MOST_ORDERS:
                raise BadRequest(f"urls: at most {MOST_ORDERS} are taken at once")
            return urls
        case _:
            raise BadRequest('{"urls": […]} is expected: URLs, paths, or objects with url, method, headers and body')


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= _MOST_LISTED):
        raise BadRequest(f"limit: a number from 1 to {_MOST_LISTED} is expected")
    return int(text)
