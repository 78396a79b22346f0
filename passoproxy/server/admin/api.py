"""The API of the admin listener and of `control.sock` as one table: bodies are read and checked here, the daemon's handle does the rest.

Long answers (lists of a hundred thousand entries, filling, following) go out in parts: the loop keeps its turns, and a client that reads
slowly holds one block at most. Guards are in `auth`, and paths of the browser in `app`.
"""

from __future__ import annotations

import asyncio
import enum
import json
import re
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from passoproxy.control import Control
from passoproxy.errors import BadRequest, BodyTooLarge, Overloaded
from passoproxy.server.admin.actions import target_of
from passoproxy.server.admin.audit import OUTCOME, TARGET
from passoproxy.server.admin.errors import NotFound
from passoproxy.server.request import Pace
from passoproxy.tokens.messages import command_in, gives_pair
from passoproxy.values import dataclass

Document = dict[str, Any]
"""JSON to be."""
MAX_PAIR_BYTES = 64 * 1024
"""A pair's document, as the token endpoint may answer it at most."""
MIN_RATE: web.AppKey[Callable[[], int]] = web.AppKey("min_rate")
"""The application's `server.limits.min_rate`."""
MASK: web.RequestKey[Callable[[str], str]] = web.RequestKey("mask")
"""What masks URLs in the answer of a request; without it they are shown whole."""

_BODY_SECONDS = 30.0
_RATE_GRACE = 10.0
_FORM: web.RequestKey[dict[str, str]] = web.RequestKey("form", dict)
_MAX_FORM_BYTES, _MOST_FIELDS = 64 * 1024, 16
"""Of a form, which is read before it is known who sends it: its page token is in it."""
_LOGIN_WAIT_SECONDS = 25.0
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
_PURGE_WORDS = ("url", "prefix", "route", "tag")
MOST_ORDERS = 10_000
"""Requests that one call may have fetched."""
LINES = "application/jsonl"
"""Asked for by `Accept`, what came of each request is told on a line of its own, as it comes; an empty line says that it goes on."""
BEAT_SECONDS = 3.0
MOST_A_SECOND = 20
"""Requests that a status page is told of."""
_DEFAULT_LISTED, _MOST_LISTED = 1_000, 100_000
_BLOCK = 64 * 1024
_OUTCOMES = {"fetched": "warmed", "fresh": "fresh", "failed": "failed"}


class Guarded(enum.Enum):
    """Who may call on the admin listener. On `control.sock` every call is open: the kernel has said who connects."""

    READ = "read"
    CHANGE = "change"
    CONTROL_ONLY = "not on the admin listener"


@dataclass(frozen=True, slots=True)
class Call:
    """One row of the API. `answer` gives a document or a whole response, or what to await for it."""

    method: str
    path: str
    guarded: Guarded
    answer: Callable[[Control, web.Request], object]


async def _status(daemon: Control, request: web.Request) -> object:
    await daemon.look_at_store()
    await daemon.look_at_routes()
    return daemon.status()


# ---- tokens and logins -----------------------------------------------------------------------------------------------


async def _refresh(daemon: Control, request: web.Request) -> object:
    order = await document_of(request)
    request[TARGET] = target_of(order)
    return await daemon.refresh(force=_flag(order, "force"))


async def _import_pair(daemon: Control, request: web.Request) -> object:
    force = request.query.get("force", "0") not in ("", "0", "false")
    request[TARGET] = target_of({"force": force})
    return await daemon.import_pair(await body_of(request, MAX_PAIR_BYTES), force)


async def _export_pair(daemon: Control, request: web.Request) -> object:
    return await _handed_over(daemon, request, await daemon.export_pair())


async def _handed_over(daemon: Control, request: web.Request, pair: Document) -> Document:
    """The pair; if the client has left meanwhile, the pair is taken back by a refresh."""
    if request.transport is None or request.transport.is_closing():
        await daemon.refresh(force=True)
    return pair


async def _execute(daemon: Control, request: web.Request) -> object:
    message = await body_of(request, 2 * MAX_PAIR_BYTES)  # a pair's document is in base64 there
    request[TARGET] = word = command_in(message)
    if word in ("renew_401", "login_pending"):
        request[OUTCOME] = ""  # a request's doing, and a wait
    reply = await daemon.execute(message)
    return await _handed_over(daemon, request, reply) if gives_pair(reply) else reply


async def _begin_login(daemon: Control, request: web.Request) -> object:
    ticket = await daemon.begin_login()
    named = {"url": ticket.url, "state": ticket.state, "expires_at": ticket.expires_at}
    return {**named, "arrives": daemon.takes_redirect()}


async def _await_login(daemon: Control, request: web.Request) -> object:
    """The outcome of a login; 202 and `pending` if there is none after 25 s, so that the command asks again."""
    outcome = await daemon.wait_login(request.match_info["state"], _LOGIN_WAIT_SECONDS)
    return answer({"pending": True}, status=202) if outcome is None else outcome


async def _complete_login(daemon: Control, request: web.Request) -> object:
    return await daemon.complete_login(query_of(_text(await document_of(request), "url")))


async def _logout(daemon: Control, request: web.Request) -> object:
    order = await document_of(request)
    request[TARGET] = target_of(order)
    return await daemon.logout(keep_cache=_flag(order, "keep_cache"))


async def _test_alerts(daemon: Control, request: web.Request) -> object:
    tried: Document = await daemon.test_alerts()
    if not all(each["ok"] for each in tried["results"]):
        request[OUTCOME] = "failed"
    return tried


async def _quit(daemon: Control, request: web.Request) -> object:
    """Ends the process as SIGTERM does, once this is answered."""
    asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
    return {"ending": True}


# ---- the cache -------------------------------------------------------------------------------------------------------


async def _purge(daemon: Control, request: web.Request) -> object:
    """Removes entries, or with `soft` ends their freshness; `purged` is how many are meant."""
    order = await document_of(request)
    request[TARGET] = target_of(order)
    soft = {"soft": True} if _flag(order, "soft") else {}
    chosen = purge_order({name: value for name, value in order.items() if name != "soft"})
    return {"purged": await daemon.purge({**chosen, **soft}), **soft}


async def _show(daemon: Control, request: web.Request) -> object:
    order = await document_of(request)
    url = _text(order, "url")
    data = order.get("data")
    if data is not None and not isinstance(data, str):
        raise BadRequest("data: a text is expected, the body of the request as it is sent")
    method = order.get("method") or ("GET" if data is None else "POST")
    if not isinstance(method, str):
        raise BadRequest("method: a text is expected")
    found = await daemon.show(url, method, None if data is None else data.encode("utf-8", "surrogateescape"))
    if found is None:
        raise NotFound(f"nothing is stored for {method} {url}")
    return found


async def _explain(daemon: Control, request: web.Request) -> object:
    return await daemon.explain(await document_of(request))


async def _entries(daemon: Control, request: web.Request) -> web.StreamResponse:
    """A list of entries, read from the store as it is taken; `X-Passoproxy-More: true` if `limit` cuts it short."""
    chosen = dict(request.query)
    limit = _limit(chosen.pop("limit", str(_DEFAULT_LISTED)))
    selector, fields = daemon.selector(chosen), {"Content-Type": "application/json"}
    if await daemon.exceeds(selector, limit):
        fields["X-Passoproxy-More"] = "true"
    async with aclosing(_blocks(daemon.entries(selector, limit), request.get(MASK))) as blocks:
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


async def _warm(daemon: Control, request: web.Request) -> object:
    """Has the cache fetch `{"urls": […]}`, of URLs, paths and objects; the numbers of what came of it, and the failures by name."""
    order = await document_of(request)
    request[TARGET] = target_of(order)
    filling = daemon.warm(_orders(order))
    async with aclosing(filling):
        if LINES in request.headers.get("Accept", ""):
            return await _told(request, filling)
        counts, failures = dict.fromkeys(_OUTCOMES.values(), 0), list[Document]()
        async for each in filling:
            if each["outcome"] == "waiting":
                continue
            counts[_OUTCOMES[str(each["outcome"])]] += 1
            if each["outcome"] == "failed":
                failures.append({"url": each["url"], "status": each["status"], "detail": each["detail"]})
    return {**counts, "failures": failures}


async def _blocks(entries: AsyncIterator[Document], mask: Callable[[str], str] | None) -> AsyncGenerator[bytes, None]:
    """A JSON list of `entries`, in blocks, with their URLs masked."""
    block, separator = bytearray(b"["), b""
    async with aclosing(entries) as listed:  # type: ignore[type-var]  # a handle's list is a generator
        async for entry in listed:
            if mask is not None:
                entry = {**entry, "url": mask(str(entry["url"]))}
            block += separator + json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace")
            separator = b", "
            if len(block) >= _BLOCK:
                yield bytes(block)
                block.clear()
    yield bytes(block + b"]")


@asynccontextmanager
async def _unbroken(request: web.Request, reply: web.StreamResponse) -> AsyncIterator[None]:
    """Writes of `reply` are whole at the end of the block; if it raises, the connection ends, so that nothing is taken for the whole."""
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
            if coming is not None:  # the client left
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
    return reply


class Streams:
    """Answers of lines that come as things happen, at most `most` at once. `end` ends all, so that none holds up the end of the listener."""

    def __init__(self, most: int = 1000) -> None:
        self._most = most
        self._open: set[asyncio.Task[None]] = set()

    async def send(
        self, request: web.Request, lines: AsyncGenerator[str, None], content_type: str = LINES
    ) -> web.StreamResponse:
        """Writes until the client leaves, or `end`. Raises Overloaded."""
        if len(self._open) >= self._most:
            raise Overloaded(f"{self._most} pages are told of requests as they come; close one")
        reply = web.StreamResponse(headers={"Content-Type": content_type})
        await reply.prepare(request)
        telling = asyncio.ensure_future(_tell(reply, lines))
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


async def _tell(reply: web.StreamResponse, lines: AsyncGenerator[str, None]) -> None:
    async with aclosing(lines):
        async for line in lines:
            await reply.write(line.encode("utf-8", "replace") + b"\n")


async def server_sent(
    lines: AsyncGenerator[str, None],
    may_go_on: Callable[[], bool] = lambda: True,
    now: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[str, None]:
    """Lines as server-sent events (HTML §9.2), so many a second as a person can look at; how many more there were is the event `more`.

    Ends within a beat when `may_go_on` says no.
    """
    second, sent, left = 0, 0, 0
    async with aclosing(lines):
        async for line in lines:
            if (this := int(now())) != second:
                if not may_go_on():
                    return
                if left:
                    yield f"event: more\ndata: {left}\n"
                second, sent, left = this, 0, 0
            if not line:
                yield ": it lives\n"
            elif sent < MOST_A_SECOND:
                sent += 1
                yield f"data: {line}\n"
            else:
                left += 1


async def followed(daemon: Control) -> AsyncGenerator[str, None]:
    """A line for the pair's present state, and one at every change, by which other processes follow its owner. They hold the access token."""
    async for document in daemon.changes():
        yield json.dumps(document)


API = (
    # method, path, guard on the admin listener, answer
    Call("GET", "/api/status", Guarded.READ, _status),
    Call("GET", "/api/cache/entries", Guarded.READ, _entries),
    Call("POST", "/api/token/refresh", Guarded.CHANGE, _refresh),
    Call("POST", "/api/token/import", Guarded.CHANGE, _import_pair),
    Call("POST", "/api/cache/purge", Guarded.CHANGE, _purge),
    Call("POST", "/api/cache/warm", Guarded.CHANGE, _warm),
    Call("POST", "/api/explain", Guarded.CHANGE, _explain),
    Call("GET", "/api/daemon", Guarded.CONTROL_ONLY, lambda daemon, _: daemon.identity()),
    Call("GET", "/api/cache/stats", Guarded.CONTROL_ONLY, lambda daemon, _: daemon.cache_stats()),
    Call("POST", "/api/cache/show", Guarded.CONTROL_ONLY, _show),
    Call("GET", "/api/token/export", Guarded.CONTROL_ONLY, _export_pair),
    Call("POST", "/api/token/commands", Guarded.CONTROL_ONLY, _execute),
    Call("POST", "/api/login/start", Guarded.CONTROL_ONLY, _begin_login),
    Call("GET", "/api/login/{state}", Guarded.CONTROL_ONLY, _await_login),
    Call("POST", "/api/login/complete", Guarded.CONTROL_ONLY, _complete_login),
    Call("POST", "/api/logout", Guarded.CONTROL_ONLY, _logout),
    Call("POST", "/api/reload", Guarded.CONTROL_ONLY, lambda daemon, _: daemon.reload()),
    Call("POST", "/api/quit", Guarded.CONTROL_ONLY, _quit),
    Call("POST", "/api/alert/test", Guarded.CONTROL_ONLY, _test_alerts),
)


# ---- bodies ----------------------------------------------------------------------------------------------------------


def answer(document: object, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(
        body=json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace"),
        status=status,
        headers={"Content-Type": "application/json"},
    )


async def body_of(request: web.Request, max_bytes: int) -> bytes:
    """The whole body. Raises BodyTooLarge, and TimeoutError if it does not arrive within 30 s, or at less than `server.limits.min_rate`."""
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
    """The fields of a form as a browser sends it. Raises as `body_of`, and BadRequest; read once, it can be asked for again."""
    if _FORM not in request:
        text = (await body_of(request, _MAX_FORM_BYTES)).decode("utf-8", "replace")
        try:
            request[_FORM] = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS))
        except ValueError:
            raise BadRequest(f"a form has at most {_MOST_FIELDS} fields here") from None
    return request[_FORM]


async def document_of(request: web.Request) -> Document:
    """The JSON object in the body, empty if there is no body. Raises BadRequest naming what is wrong."""
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
