"""An alert by a webhook: one POST of a JSON object, through the proxy and TLS settings of `upstream` (contract §3 `alerts.webhook`). Traces go the
same way.

The URL may hold a token, so no error shows more of it than its host.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from passoproxy.errors import AlertUndelivered, BadRequest, ConfigurationError
from passoproxy.outbound.dial import Dialer, DialFailed, Endpoint, endpoint_of
from passoproxy.outbound.post import Exchange, request_bytes

LIMIT: Final = 10.0
"""Seconds that the whole exchange may take."""


class Webhook:
    """An AlertHook. `url` gives the address as it is now, `dialer` the way to it; `key` is where it is configured."""

    name = "webhook"

    def __init__(
        self,
        url: Callable[[], str],
        dialer: Callable[[Endpoint], Dialer],
        limit: float = LIMIT,
        *,
        key: str = "alerts.webhook",
        media_type: str = "application/json",
    ) -> None:
        self._url, self._dialer, self._limit = url, dialer, limit
        self._key, self._fields = key, (("Content-Type", media_type),)

    def where(self) -> str:
        with contextlib.suppress(ConfigurationError):
            return endpoint_of(self._url(), self._key).authority
        return ""

    async def deliver(self, document: bytes) -> str:
        """The status that came back. Raises AlertUndelivered if none came in time, or it is not a success."""
        try:
            url = self._url()
            endpoint = endpoint_of(url, self._key)
            dialer = self._dialer(endpoint)
        except ConfigurationError as error:
            raise AlertUndelivered(str(error)) from error
        where = endpoint.authority
        exchange: Exchange | None = None
        try:
            async with asyncio.timeout(self._limit):
                # the status tells all: a chatty or endless body is not read
                exchange = await dialer.dial(lambda: Exchange(lambda status, body: status > 0, linger=0.0))
                exchange.send(request_bytes(url, endpoint, self._fields, document))
                await exchange.over()
        except DialFailed as failure:
            raise AlertUndelivered(f"{self._key}: {failure}") from failure
        except TimeoutError as error:
            raise AlertUndelivered(f"{self._key}: {where} did not answer within {self._limit:g} s") from error
        except BadRequest:
            raise AlertUndelivered(f"{self._key}: the URL has characters that no request can carry") from None
        finally:
            if exchange is not None:
                exchange.abort()
        if (answer := exchange.answer()) is None:
            raise AlertUndelivered(f"{self._key}: the exchange with {where} broke")
        status = answer.status
        if not 200 <= status < 300:
            more = ", and redirects are not followed" if 300 <= status < 400 else ""
            raise AlertUndelivered(f"{self._key}: {where} answered {status}{more}")
        return f"{where} answered {status}"
