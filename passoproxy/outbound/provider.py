"""The provider's endpoints: one request on one connection, no redirect followed, nothing sent again (contract §4).

Over aiohttp's client, because its lenient reading is right here: an answer that is sloppy HTTP may still hold the only copy of a pair.
What an answer means is left to `core.oauth`.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Callable

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.tracing import Trace
from yarl import URL

from passoproxy import __version__
from passoproxy.errors import TokenAnswerLost, TokenRequestUnsent
from passoproxy.outbound.dialing import Dialer, DialFailed
from passoproxy.outbound.endpoint import Endpoint, ForwardProxy, endpoint_of
from passoproxy.ports import Clock, TokenReply, TokenRequest

MAX_ANSWER_BYTES = 64 * 1024 + 1
"""What is read of an answer: one byte more than an answer may have, so that an oversize one can be told."""

_OWN_FIELDS = frozenset({"user-agent", "accept-encoding", "host", "content-length", "connection"})
_CODINGS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""Window bits by content coding, as zlib counts them."""


class ProviderEndpoint:
    """A TokenEndpoint. `proxy_for` names the proxy on the way to an endpoint, if any; `connect_timeout` is seconds."""

    def __init__(
        self,
        *,
        clock: Clock,
        tls: ssl.SSLContext | None = None,
        connect_timeout: float = 5.0,
        proxy_for: Callable[[Endpoint], ForwardProxy | None] = lambda endpoint: None,
    ) -> None:
        self._clock = clock
        self._tls = tls
        self._connect_timeout = connect_timeout
        self._proxy_for = proxy_for

    async def post(self, request: TokenRequest, timeout: float) -> TokenReply:
        """The answer, whatever its status. Raises TokenRequestUnsent before the connection stood, TokenAnswerLost after.

        `timeout` bounds the whole exchange, in seconds. A coded body is decoded; one that cannot be is given as it came.
        """
        endpoint = endpoint_of(request.url, "oauth.token_url")
        dialer = Dialer(endpoint, timeout=self._connect_timeout, tls=self._tls, proxy=self._proxy_for(endpoint))
        connector = OneConnection(dialer, request.may_send)
        sent_at = self._clock.wall()
        try:
            async with asyncio.timeout(timeout):
                return await self._post(connector, request, sent_at)
        except DialFailed as failure:
            raise TokenRequestUnsent(f"the provider cannot be reached: {failure}") from failure
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            where = endpoint.authority
            if not connector.stood:
                text = f"no connection to the provider at {where} within {timeout:g} s; check the network"
                raise TokenRequestUnsent(text) from error
            why = f"it did not come within {timeout:g} s" if isinstance(error, TimeoutError) else type(error).__name__
            # The library's text may repeat bytes of the answer, and so a token: only its kind is told.
            raise TokenAnswerLost(f"the request reached {where} and its answer is lost ({why})") from None

    async def _post(self, connector: OneConnection, request: TokenRequest, sent_at: float) -> TokenReply:
        fields = [pair for pair in request.headers if pair[0].lower() not in _OWN_FIELDS]
        fields += [("User-Agent", f"passoproxy/{__version__}"), ("Accept-Encoding", "gzip"), ("Connection", "close")]
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                skip_auto_headers=("Content-Type",),
                requote_redirect_url=False,
            ) as session,
            session.post(
                URL(request.url, encoded=True), data=request.body, headers=fields, allow_redirects=False
            ) as answer,
        ):
            body = await _capped(answer.content)
            coding = answer.headers.get("Content-Encoding", "").strip().lower()
            headers = tuple((name, value) for name, value in answer.headers.items())
            return TokenReply(answer.status, headers, _decoded(body, coding), sent_at, self._clock.wall())


class OneConnection(aiohttp.BaseConnector):
    """A connector whose one connection comes from a Dialer, so that it is certain whether it stood."""

    def __init__(self, dialer: Dialer, may_send: Callable[[], bool] = lambda: True) -> None:
        super().__init__(force_close=True, limit=1)
        self._dialer = dialer
        self._may_send = may_send
        self.stood = False

    async def _create_connection(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        if self.stood:
            raise aiohttp.ClientConnectionError("what goes over one connection is never sent twice")
        loop = asyncio.get_running_loop()
        protocol = await self._dialer.dial(lambda: ResponseHandler(loop))
        if not self._may_send():
            protocol.abort()
            raise DialFailed("nothing was sent, because another process may renew the pair by now")
        self.stood = True
        return protocol


async def _capped(content: aiohttp.StreamReader) -> bytes:
    parts: list[bytes] = []
    left = MAX_ANSWER_BYTES
    while left and (part := await content.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _decoded(body: bytes, coding: str) -> bytes:
    """`body` without its content coding, at most MAX_ANSWER_BYTES of it; as it came where the coding is unknown or broken."""
    if coding not in _CODINGS or len(body) >= MAX_ANSWER_BYTES:
        return body
    machine = zlib.decompressobj(wbits=_CODINGS[coding])
    try:
        plain = machine.decompress(body, MAX_ANSWER_BYTES)
    except zlib.error:
        return body
    return plain if machine.eof or len(plain) >= MAX_ANSWER_BYTES else body
