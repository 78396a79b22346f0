"""Our clock beside the provider's: told when they differ, once for each change, and never reckoned by.

Token requests on their way out, and the fate of the token that each one presented.

Words and meaning are the core's (`grants`, `replies`), the wire is the TokenEndpoint's; here they meet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

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
from passoproxy.ports import Observer, RawAnswer, TokenEndpoint, TokenReply, TokenRequest, nobody, sends


class Comparing:
    """Looks at token replies."""

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self._said = 0.0

    def look(self, reply: TokenReply) -> None:
        """Tells `clock_wrong` where the difference has come, gone, or changed by more than is tolerated."""
        kinds = (value for name, value in reply.headers if name.lower() == "content-type")
        found = deviation(reply.headers, reply.body, next(kinds, ""), reply.sent_at, reply.received_at)
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


Failure = Unsent | Retryable | Misconfigured | Dead | Lost
"""The fate of a token whose request gave no answer to read."""


class Asking:
    """The provider, as the pair's life knows it. `secret` is asked anew for each request, so that a changed one counts at once."""

    def __init__(
        self,
        endpoint: TokenEndpoint,
        provider: Provider,
        client: Client,
        secret: Callable[[], str],
        observe: Observer = nobody,
    ) -> None:
        """`secret` gives the client's secret, '' where it has none; it may raise a PassoproxyError that says why it cannot."""
        self._endpoint = endpoint
        self._secret = secret
        self._comparing = Comparing(observe)
        self.provider = provider
        self.client = client

    async def refresh(
        self, refresh_token: str, timeout: float, about_to_send: Callable[[], Awaitable[bool]] = sends
    ) -> RawAnswer | Failure:
        """Presents a refresh token, once. `about_to_send` is that of the TokenRequest."""
        url = self.provider.refresh_url or self.provider.token_url
        return await self._ask(
            url,
            lambda client: grants.refresh(client, refresh_token),
            timeout,
            "refresh_token",
            (refresh_token,),
            about_to_send,
        )

    async def client_credentials(self, timeout: float) -> RawAnswer | Failure:
        """Asks for the client's own token."""
        provider = self.provider
        return await self._ask(
            provider.token_url,
            lambda client: grants.client_credentials(provider, client),
            timeout,
            "client_credentials",
            (),
        )

    async def exchange(self, code: str, verifier: str | None, timeout: float) -> RawAnswer | Failure:
        """Redeems a code, once."""
        provider = self.provider
        return await self._ask(
            provider.token_url,
            lambda client: grants.exchange(provider, client, code, verifier),
            timeout,
            "authorization_code",
            (code, verifier or ""),
        )

    async def revoke(self, token: str, hint: str, timeout: float) -> Failure | None:
        """Gives a token back (RFC 7009); None when the provider took it."""
        url = self.provider.revocation_url
        asked = await self._ask(
            url, lambda client: grants.revocation(client, token, hint), timeout, "revocation", (token,)
        )
        return None if isinstance(asked, RawAnswer) else asked

    async def _ask(
        self,
        url: str,
        words: Callable[[Client], grants.Posted],
        timeout: float,
        grant: str,
        secrets: tuple[str, ...],
        about_to_send: Callable[[], Awaitable[bool]] = sends,
    ) -> RawAnswer | Failure:
        try:
            client = replace(self.client, client_secret=self._secret())
        except PassoproxyError as fault:
            return Misconfigured(str(fault))
        posted = words(client)
        try:
            reply = await self._endpoint.post(TokenRequest(url, posted.headers, posted.body, about_to_send), timeout)
        except TokenRequestUnsent as fault:
            return Unsent(str(fault))
        except TokenAnswerLost as fault:
            return Lost(str(fault))
        except Exception as fault:
            # an endpoint that says neither unsent nor lost: nobody can know whether the request left
            return Lost(f"the token request failed ({type(fault).__name__})")
        self._comparing.look(reply)
        fate = classify(reply.status, reply.headers, reply.body, reply.received_at, (*secrets, client.client_secret))
        return _raw(reply, grant) if isinstance(fate, Answer) else fate


def _raw(reply: TokenReply, grant: str) -> RawAnswer:
    kinds = (value for name, value in reply.headers if name.lower() == "content-type")
    return RawAnswer(reply.body, next(kinds, ""), reply.sent_at, grant)
