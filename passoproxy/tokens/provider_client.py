"""Token requests on their way out, and the fate of the token that each one presented.

What a reply means is decided in `core/oauth/token_response`, the wire is the TokenEndpoint's; here they meet. Also here: what becomes of a request
when the process ends (`Shutdown`), and the comparison of this machine's clock with the provider's (`ClockWatch`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from passoproxy.core.events import Warned
from passoproxy.core.oauth import grants
from passoproxy.core.oauth.settings import Client, Provider
from passoproxy.core.oauth.token_response import (
    TOLERATED,
    Answer,
    Dead,
    Lost,
    Misconfigured,
    Retryable,
    Unsent,
    classify,
    deviation,
)
from passoproxy.errors import PassoproxyError, TokenAnswerLost, TokenRequestUnsent
from passoproxy.ports import Clock, Observer, RawAnswer, TokenEndpoint, TokenReply, TokenRequest, nobody, sends
from passoproxy.tokens.waits import ended, first_of

T = TypeVar("T")


class ClockWatch:
    """Tells when this machine's clock and the provider's differ, once for each change; nothing is reckoned by it."""

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self._said = 0.0

    def look(self, reply: TokenReply) -> None:
        """Tells `clock_wrong` if the difference has come, gone, or changed by more than is tolerated."""
        found = deviation(reply.headers, reply.body, _content_type(reply), reply.sent_at, reply.received_at)
        if found is None:
            return
        ahead, source = found
        if (ahead == 0.0) == (self._said == 0.0) and abs(ahead - self._said) <= TOLERATED:
            return
        self._said = ahead
        if ahead == 0.0:
            self._observe(Warned("clock_wrong", f"the clock agrees with the provider's again (by {source})", over=True))
            return
        side = "ahead of" if ahead > 0 else "behind"
        text = f"this machine's clock is {abs(ahead):.0f} s {side} the provider's (by {source}); set it right, for example with NTP"
        self._observe(Warned("clock_wrong", text))


def _content_type(reply: TokenReply) -> str:
    return next((value for name, value in reply.headers if name.lower() == "content-type"), "")


Failure = Unsent | Retryable | Misconfigured | Dead | Lost
"""The fate of a token whose request gave no answer to read."""


class Asking:
    """The provider, as the pair's life knows it."""

    def __init__(
        self,
        endpoint: TokenEndpoint,
        provider: Provider,
        client: Client,
        secret: Callable[[], str],
        observe: Observer = nobody,
    ) -> None:
        """`secret` gives the client's secret, '' without one; it is called for each request, so that a changed one counts at once.

        It may raise a PassoproxyError that says why it cannot.
        """
        self._endpoint, self._secret, self._clock_watch = endpoint, secret, ClockWatch(observe)
        self.provider, self.client = provider, client

    async def refresh(
        self, refresh_token: str, timeout: float, about_to_send: Callable[[], Awaitable[bool]] = sends
    ) -> RawAnswer | Failure:
        """Presents a refresh token, once. `about_to_send` is that of the TokenRequest."""
        url, words = self.provider.refresh_url, partial(grants.refresh, refresh_token=refresh_token)
        return await self._ask("refresh_token", words, timeout, (refresh_token,), url, about_to_send)

    async def client_credentials(self, timeout: float) -> RawAnswer | Failure:
        """Asks for the client's own token."""
        return await self._ask("client_credentials", partial(grants.client_credentials, self.provider), timeout)

    async def exchange(self, code: str, verifier: str | None, timeout: float) -> RawAnswer | Failure:
        """Redeems a code, once."""
        words = partial(grants.exchange, self.provider, code=code, verifier=verifier)
        return await self._ask("authorization_code", words, timeout, (code, verifier or ""))

    async def revoke(self, token: str, hint: str, timeout: float) -> Failure | None:
        """Gives a token back (RFC 7009); None when the provider took it."""
        words = partial(grants.revocation, token=token, hint=hint)
        asked = await self._ask("revocation", words, timeout, (token,), self.provider.revocation_url)
        return None if isinstance(asked, RawAnswer) else asked

    async def _ask(
        self,
        grant: str,
        words: Callable[[Client], grants.Posted],
        timeout: float,
        secrets: tuple[str, ...] = (),
        url: str = "",
        about_to_send: Callable[[], Awaitable[bool]] = sends,
    ) -> RawAnswer | Failure:
        try:
            client = replace(self.client, client_secret=self._secret())
        except PassoproxyError as fault:
            return Misconfigured(str(fault))
        posted = words(client)
        request = TokenRequest(url or self.provider.token_url, posted.headers, posted.body, about_to_send, grant)
        try:
            reply = await self._endpoint.post(request, timeout)
        except TokenRequestUnsent as fault:
            return Unsent(str(fault))
        except TokenAnswerLost as fault:
            return Lost(str(fault))
        except Exception as fault:
            # an endpoint that says neither unsent nor lost: it is not known whether the request left
            return Lost(f"the token request failed ({type(fault).__name__})")
        self._clock_watch.look(reply)
        fate = classify(reply.status, reply.headers, reply.body, reply.received_at, (*secrets, client.client_secret))
        return RawAnswer(reply.body, _content_type(reply), reply.sent_at, grant) if isinstance(fate, Answer) else fate


LEAST_TIME = 3.0
"""With fewer seconds left before a stop no refresh is begun: an answer that comes too late is a lost one."""

STOPPING = "passoproxy is shutting down"


class Shutdown:
    """How long a token request may still take once the end of the process is near; not begun until `begin`.

    A request that has not been sent costs nothing and is dropped. One that was sent may have spent the refresh token, so its answer is waited
    for until the deadline; after that its record stays on disk, as that of a lost answer.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun = asyncio.Event()
        self._deadline = math.inf
        self.dropped = False
        """Whether a request was dropped because of it."""

    @property
    def begun(self) -> bool:
        return self._begun.is_set()

    @property
    def left(self) -> float:
        """Seconds until the deadline, infinite while there is none."""
        return max(0.0, self._deadline - self._clock.monotonic())

    def begin(self, within: float) -> None:
        """The keeper ends within so many seconds."""
        self._deadline = self._clock.monotonic() + within
        self._begun.set()

    async def bounded(self, question: Awaitable[T], is_sent: Callable[[], bool]) -> T | Failure:
        """What comes of a token request that begins now. `is_sent` tells whether its first byte may have left."""
        asked = asyncio.ensure_future(question)
        try:
            if not self.begun:
                await first_of(asyncio.wait([asked]), self._begun.wait())
                if not asked.done() and not is_sent():
                    self.dropped = True
                    return Unsent(STOPPING)
            if not asked.done():
                await first_of(asyncio.wait([asked]), self._clock.sleep(self.left))
            if asked.done():
                return asked.result()
            return Lost(f"{STOPPING}, and no answer came until then") if is_sent() else Unsent(STOPPING)
        finally:
            await ended(asked)
