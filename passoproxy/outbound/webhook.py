"""An alert by a webhook: one POST of a JSON object, over the way that everything outgoing takes (contract §3 `alerts.webhook`).

The URL may hold a token, so nothing but its host is ever told.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

import aiohttp
from yarl import URL

from passoproxy import __version__
from passoproxy.errors import AlertUndelivered, ConfigurationError
from passoproxy.outbound.dialing import Dialer, DialFailed
from passoproxy.outbound.endpoint import Endpoint, ForwardProxy, endpoint_of
from passoproxy.outbound.provider import OneConnection

LIMIT: Final = 10.0
"""Seconds that the whole exchange may take."""


class Webhook:
    """An AlertHook. `url` gives the address as it is now, `proxy_for` names the proxy on the way to an endpoint, if any."""

    name = "webhook"

    def __init__(
        self,
        url: Callable[[], str],
        *,
        tls: ssl.SSLContext | None = None,
        connect_timeout: float = 5.0,
        proxy_for: Callable[[Endpoint], ForwardProxy | None] = lambda endpoint: None,
        limit: float = LIMIT,
    ) -> None:
        self._url, self._tls, self._connect_timeout = url, tls, connect_timeout
        self._proxy_for, self._limit = proxy_for, limit

    async def deliver(self, document: bytes) -> str:
        """The status that came back. Raises AlertUndelivered where none came in time, or one that is not a success."""
        try:
            url = self._url()
            endpoint = endpoint_of(url, "alerts.webhook")
            proxy = self._proxy_for(endpoint)
        except ConfigurationError as error:
            raise AlertUndelivered(str(error)) from error
        connector = OneConnection(Dialer(endpoint, timeout=self._connect_timeout, tls=self._tls, proxy=proxy))
        try:
            async with asyncio.timeout(self._limit):
                status = await _post(connector, url, document)
        except DialFailed as failure:
            raise AlertUndelivered(f"alerts.webhook: {failure}") from failure
        except TimeoutError as error:
            where = endpoint.authority
            raise AlertUndelivered(f"alerts.webhook: {where} did not answer within {self._limit:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # the library's text may repeat the URL
            text = f"alerts.webhook: the exchange with {endpoint.authority} broke ({type(error).__name__})"
            raise AlertUndelivered(text) from None
        if not 200 <= status < 300:
            more = ", and redirects are not followed" if 300 <= status < 400 else ""
            raise AlertUndelivered(f"alerts.webhook: {endpoint.authority} answered {status}{more}")
        return f"{endpoint.authority} answered {status}"


async def _post(connector: OneConnection, url: str, document: bytes) -> int:
    fields = {"Content-Type": "application/json", "User-Agent": f"passoproxy/{__version__}", "Connection": "close"}
    async with (
        aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            requote_redirect_url=False,
        ) as session,
        session.post(URL(url, encoded=True), data=document, headers=fields, allow_redirects=False) as answer,
    ):
        return answer.status  # the body is nobody's business: a chatty or endless one is not read
