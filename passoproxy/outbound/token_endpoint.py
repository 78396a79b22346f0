"""The provider's endpoints: one request on one connection, no redirect followed, nothing sent again (contract §4).

How an answer is read is in `post`, what it means in `core.oauth`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from passoproxy.core.oauth.token_response import words_with
from passoproxy.errors import BadRequest, TokenAnswerLost, TokenRequestUnsent
from passoproxy.outbound.dial import Dialer, DialFailed, Endpoint, endpoint_of
from passoproxy.outbound.post import Exchange, request_bytes
from passoproxy.ports import Clock, TokenReply, TokenRequest

T = TypeVar("T")


class ProviderEndpoint:
    """A TokenEndpoint. `dialer` gives the way to an endpoint."""

    def __init__(self, clock: Clock, dialer: Callable[[Endpoint], Dialer]) -> None:
        self._clock, self._dialer = clock, dialer

    async def post(self, request: TokenRequest, timeout: float) -> TokenReply:
        """The answer, whatever its status. Raises TokenRequestUnsent before the connection stood, TokenAnswerLost after.

        `timeout` bounds the whole exchange, in seconds. A coded body is decoded; one that cannot be is given as it came.
        """
        endpoint = endpoint_of(request.url, "oauth.token_url")
        where = endpoint.authority
        dialer = self._dialer(endpoint)
        exchange: Exchange | None = None
        is_sent = False
        sent_at, why = self._clock.wall(), "the connection was closed before its end"
        try:
            message = request_bytes(request.url, endpoint, request.headers, request.body)
            async with asyncio.timeout(timeout):
                exchange = await dialer.dial(lambda: Exchange(_is_whole))
                if not await _to_its_end(request.about_to_send()):
                    raise TokenRequestUnsent("nothing was sent, because another process may renew the pair by now")
                if not exchange.stands:
                    raise TokenRequestUnsent(f"nothing was sent, because {where} ended the connection at once")
                is_sent = True
                exchange.send(message)
                await exchange.over()
        except (BadRequest, DialFailed) as failure:
            raise TokenRequestUnsent(f"no connection to the provider: {failure}") from failure
        except TimeoutError as error:
            if exchange is None or not is_sent:
                text = f"no connection to the provider at {where} within {timeout:g} s; check the network"
                raise TokenRequestUnsent(text) from error
            why = f"it did not come within {timeout:g} s"
        finally:
            if exchange is not None:
                exchange.abort()
        answer = exchange.answer()
        if answer is None:
            raise TokenAnswerLost(f"the request reached {where} and its answer is lost ({why})")
        return TokenReply(answer.status, answer.fields, answer.body, sent_at, self._clock.wall())


async def _to_its_end(work: Awaitable[T]) -> T:
    """What `work` gives. It writes the record, and must not do so after what is written about an attempt whose time is over."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _is_whole(status: int, body: bytes) -> bool:
    """Whether a body is all that an answer can be for: a pair, or a refusal in OAuth's words."""
    if 400 <= status < 500:
        return words_with("error", body) is not None
    return status < 300 and words_with("access_token", body) is not None
