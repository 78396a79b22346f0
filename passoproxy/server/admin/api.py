"""The JSON side of the admin listener and of `control.sock`: bodies are read and checked, the daemon's handle does the rest.

Who may call is decided before, in `admin`.

The calls about the cache that may be long: lists of a hundred thousand entries, and filling it, told while it goes on.

What is short is in `admin_api`. No answer is put together in one go: the loop has its other work to do meanwhile, and a client that does not
take a list holds no more of it than a block.

The stream over which other processes follow the pair's owner: a JSON line for what is so now, and one at every change.

On `control.sock` only, whose file mode decides who may hear it: the lines hold the access token.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from passoproxy.errors import BadRequest, BodyTooLarge
from passoproxy.server.admin.errors import NotFound
from passoproxy.server.admin.interface import Document, Steering
from passoproxy.server.deadline import Pace

MAX_PAIR_BYTES = 64 * 1024
"""A pair's document, as the token endpoint may answer it at most."""
MIN_RATE: web.AppKey[Callable[[], int]] = web.AppKey("min_rate")
"""Where an application has `server.limits.min_rate`."""

_BODY_SECONDS = 30.0
_RATE_GRACE = 10.0
_FORM: web.RequestKey[dict[str, str]] = web.RequestKey("form", dict)
_LOGIN_WAIT_SECONDS = 25.0
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
_PURGE_WORDS = ("url", "prefix", "route", "tag")


class Api:
    """Handlers over a daemon's handle."""

    def __init__(self, daemon: Steering) -> None:
        self._daemon = daemon

    async def status(self, request: web.Request) -> web.Response:
        return answer(self._daemon.status())

    async def refresh(self, request: web.Request) -> web.Response:
        return answer(await self._daemon.refresh(force=_flag(await document_of(request), "force")))

    async def import_pair(self, request: web.Request) -> web.Response:
        force = request.query.get("force", "0") not in ("", "0", "false")
        return answer(await self._daemon.import_pair(await body_of(request, MAX_PAIR_BYTES), force))

    async def purge(self, request: web.Request) -> web.Response:
        """Removes entries, or with `soft` ends their freshness; `purged` is how many are meant."""
        order = await document_of(request)
        soft = _flag(order, "soft")
        chosen = purge_order({name: value for name, value in order.items() if name != "soft"})
        count = await self._daemon.purge({**chosen, "soft": True} if soft else chosen)
        return answer({"purged": count, "soft": True} if soft else {"purged": count})

    # ---- what only commands may ask, over control.sock ---------------------------------------------------------------

    async def daemon(self, request: web.Request) -> web.Response:
        return answer(self._daemon.identity())

    async def begin_login(self, request: web.Request) -> web.Response:
        ticket = self._daemon.begin_login()
        named = {"url": ticket.url, "state": ticket.state, "expires_at": ticket.expires_at}
        return answer({**named, "arrives": self._daemon.takes_redirect()})

    async def await_login(self, request: web.Request) -> web.Response:
        """The outcome of a login; 202 and `pending` where there is none after 25 s, so that the command asks again."""
        outcome = await self._daemon.wait_login(request.match_info["state"], _LOGIN_WAIT_SECONDS)
        return answer({"pending": True}, status=202) if outcome is None else answer(outcome)

    async def complete_login(self, request: web.Request) -> web.Response:
        return answer(await self._daemon.complete_login(query_of(_text(await document_of(request), "url"))))

    async def logout(self, request: web.Request) -> web.Response:
        return answer(await self._daemon.logout(keep_cache=_flag(await document_of(request), "keep_cache")))

    async def export_pair(self, request: web.Request) -> web.Response:
        return await self._given(request, await self._daemon.export_pair())

    async def _given(self, request: web.Request, pair: Document) -> web.Response:
        """A pair that was handed over, to whoever asked; where they have given up meanwhile nobody has it, and it is taken back."""
        if request.transport is None or request.transport.is_closing():
            await self._daemon.refresh(force=True)
        return answer(pair)

    async def cache_stats(self, request: web.Request) -> web.Response:
        return answer(await self._daemon.cache_stats())

    async def show(self, request: web.Request) -> web.Response:
        order = await document_of(request)
        url = _text(order, "url")
        data = order.get("data")
        if data is not None and not isinstance(data, str):
            raise BadRequest("data: a text is expected, the body of the request as it is sent")
        method = order.get("method") or ("GET" if data is None else "POST")
        if not isinstance(method, str):
            raise BadRequest("method: a text is expected")
        found = await self._daemon.show(url, method, None if data is None else data.encode("utf-8", "surrogateescape"))
        if found is None:
            raise NotFound(f"nothing is stored for {method} {url}")
        return answer(found)

    # ---- what only processes that follow the pair's owner ask ----------------------------------------------------------

    async def refused(self, request: web.Request) -> web.Response:
        told = await document_of(request)
        generation = told.get("generation")
        if not isinstance(generation, int) or isinstance(generation, bool):
            raise BadRequest("generation: a number is expected, that of the access token that the origin refused")
        path, again = str(told.get("path") or ""), bool(told.get("again"))
        return answer(await self._daemon.refused(generation, path, again))

    async def obey(self, request: web.Request) -> web.Response:
        body = await body_of(request, 2 * MAX_PAIR_BYTES)  # a pair's document in base64, where it is a login's answer
        what = request.match_info["what"]
        done = await self._daemon.obey(what, body)
        return await self._given(request, done) if what == "hand_over" else answer(done)

    async def test_alerts(self, request: web.Request) -> web.Response:
        return answer(await self._daemon.test_alerts())

    async def reload(self, request: web.Request) -> web.Response:
        return answer(await self._daemon.reload())


def answer(document: object, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(
        body=json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace"),
        status=status,
        headers={"Content-Type": "application/json"},
    )


async def body_of(request: web.Request, max_bytes: int) -> bytes:
    """The whole body. Raises BodyTooLarge, and TimeoutError where it does not arrive within 30 s, or at less than `server.limits.min_rate`."""
    rate = request.app.get(MIN_RATE)
    pace, loop = Pace(0 if rate is None else rate(), _BODY_SECONDS, _RATE_GRACE), asyncio.get_running_loop()
    body, since = bytearray(), loop.time()
    async with asyncio.timeout(_BODY_SECONDS):
        while part := await asyncio.wait_for(request.content.readany(), pace.patience):
            pace.note(len(part), loop.time() - since)
            since = loop.time()
            body += part
            if len(body) > max_bytes:
                raise BodyTooLarge(f"at most {max_bytes} bytes are taken here")
    return bytes(body)


async def form_of(request: web.Request) -> dict[str, str]:
    """The fields of a form as a browser sends it. Raises as `body_of`; read once, it can be asked for again."""
    if _FORM not in request:
        body = await body_of(request, request.client_max_size)
        request[_FORM] = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    return request[_FORM]


async def document_of(request: web.Request) -> Document:
    """The JSON object in the body, empty where there is no body. Raises BadRequest naming what is wrong."""
    body = await body_of(request, request.client_max_size)
    if not body.strip():
        return {}
    try:
        found = json.loads(body)
        if _HALF_CHARACTER.search(body) is not None:
            json.dumps(found, ensure_ascii=False).encode(
                "utf-8", "surrogateescape"
            )  # as bytes of the command line come
    except json.JSONDecodeError as fault:
        raise BadRequest(f"the body is not JSON: {fault.msg} in line {fault.lineno}, column {fault.colno}") from None
    except UnicodeDecodeError:
        raise BadRequest("the body is not JSON in UTF-8") from None
    except UnicodeEncodeError:
        raise BadRequest("the body is JSON with half of a character (a lone surrogate)") from None
    except (ValueError, RecursionError):
        raise BadRequest("the body is JSON with a number of too many digits, or nested too deeply") from None
    if not isinstance(found, dict):
        raise BadRequest("the body has to be a JSON object")
    return found


def query_of(pasted: str) -> str:
    """The query of a redirected URL, as a person pastes it: the URL, or what follows its `?`."""
    text = pasted.strip().partition("#")[0]
    query = text.partition("?")[2] if "?" in text else text
    if "=" not in query:
        raise BadRequest("the whole redirected URL is expected, with its code and state behind the question mark")
    return query


def purge_order(order: Mapping[str, Any]) -> dict[str, object]:
    """Exactly one of `url`, `prefix`, `route`, `tag` with a text, or `all` with true; beside `url` the body of a POST as `data`."""
    match {name: value for name, value in order.items() if value is not None}:
        case {"all": True, **rest} if not rest:
            return {"all": True}
        case {"url": str(url), "data": str(data), **rest} if url and not rest:
            return {"url": url, "data": data}
        case named if len(named) == 1 and all(
            word in _PURGE_WORDS and value and isinstance(value, str) for word, value in named.items()
        ):
            return dict(named)
        case _:
            raise BadRequest('one of {"url": …}, {"prefix": …}, {"route": …}, {"tag": …} and {"all": true} is expected')


def _flag(order: Mapping[str, Any], name: str) -> bool:
    value = order.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest(f"{name}: true or false is expected")
    return value


def _text(order: Mapping[str, Any], name: str) -> str:
    value = order.get(name)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{name}: a text is expected")
    return value


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


class FollowStream:
    """The handler of `GET /api/token/follow`. `end` ends all streams, so that none holds up the end of the listener."""

    def __init__(self, daemon: Steering) -> None:
        self._daemon = daemon
        self._open: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """How many follow."""
        return len(self._open)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Writes until whoever follows leaves, or `end`."""
        reply = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        await reply.prepare(request)
        telling = asyncio.ensure_future(self._tell(reply))
        self._open.add(telling)
        try:
            await asyncio.wait([telling])
        finally:
            telling.cancel()
            self._open.discard(telling)
            with suppress(asyncio.CancelledError, ConnectionError):
                await telling
        return reply

    async def end(self, app: web.Application) -> None:
        """For the application's `on_shutdown`."""
        for telling in self._open:
            telling.cancel()

    async def _tell(self, reply: web.StreamResponse) -> None:
        async for document in self._daemon.changes():
            await reply.write(json.dumps(document).encode() + b"\n")
