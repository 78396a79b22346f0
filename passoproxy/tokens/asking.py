"""Token requests on their way out, and the fate of the token that each one presented.

Words and meaning are the core's (`grants`, `replies`), the wire is the TokenEndpoint's; here they meet.
"""

from __future__ import annotations

from collections.abc import Callable

from passoproxy.core.oauth import grants
from passoproxy.core.oauth.identity import issued_to
from passoproxy.core.oauth.replies import Answer, Dead, Lost, Misconfigured, Retryable, Unsent, classify
from passoproxy.core.oauth.terms import Client, Provider
from passoproxy.errors import PassoproxyError, TokenAnswerLost, TokenRequestUnsent
from passoproxy.ports import RawAnswer, TokenEndpoint, TokenReply, TokenRequest

Failure = Unsent | Retryable | Misconfigured | Dead | Lost
"""The fate of a token whose request gave no answer to read."""


class Asking:
    """The provider, as the pair's life knows it. `client` is asked anew for each request, so that a changed secret counts at once."""

    def __init__(self, endpoint: TokenEndpoint, provider: Provider, client: Callable[[], Client]) -> None:
        self._endpoint = endpoint
        self.provider = provider
        self._client = client

    @property
    def client_id(self) -> str:
        return self._client().client_id

    @property
    def issued_to(self) -> str:
        """The mark of pairs that this provider issues to this client."""
        return issued_to(self.provider, self.client_id)

    async def refresh(self, refresh_token: str, timeout: float) -> RawAnswer | Failure:
        """Presents a refresh token, once."""
        client = self._client()
        url = self.provider.refresh_url or self.provider.token_url
        posted = grants.refresh(client, refresh_token)
        return await self._ask(url, posted, timeout, "refresh_token", (refresh_token, client.client_secret))

    async def client_credentials(self, timeout: float) -> RawAnswer | Failure:
        """Asks for the client's own token."""
        client = self._client()
        posted = grants.client_credentials(self.provider, client)
        return await self._ask(self.provider.token_url, posted, timeout, "client_credentials", (client.client_secret,))

    async def exchange(self, code: str, verifier: str | None, timeout: float) -> RawAnswer | Failure:
        """Redeems a code, once."""
        client = self._client()
        posted = grants.exchange(self.provider, client, code, verifier)
        secrets = (code, verifier or "", client.client_secret)
        return await self._ask(self.provider.token_url, posted, timeout, "authorization_code", secrets)

    async def revoke(self, token: str, hint: str, timeout: float) -> Failure | None:
        """Gives a token back (RFC 7009); None when the provider took it."""
        client = self._client()
        posted = grants.revocation(client, token, hint)
        secrets = (token, client.client_secret)
        asked = await self._ask(self.provider.revocation_url, posted, timeout, "revocation", secrets)
        return None if isinstance(asked, RawAnswer) else asked

    async def _ask(
        self, url: str, posted: grants.Posted, timeout: float, grant: str, secrets: tuple[str, ...]
    ) -> RawAnswer | Failure:
        try:
            reply = await self._endpoint.post(TokenRequest(url, posted.headers, posted.body), timeout)
        except TokenRequestUnsent as fault:
            return Unsent(str(fault))
        except TokenAnswerLost as fault:
            return Lost(str(fault))
        except (PassoproxyError, OSError) as fault:
            # an endpoint that says neither: nobody can know whether the request left
            return Lost(f"the token request failed ({type(fault).__name__})")
        fate = classify(reply.status, reply.headers, reply.body, reply.received_at, secrets)
        return _raw(reply, grant) if isinstance(fate, Answer) else fate


def _raw(reply: TokenReply, grant: str) -> RawAnswer:
    kinds = (value for name, value in reply.headers if name.lower() == "content-type")
    return RawAnswer(reply.body, next(kinds, ""), reply.sent_at, grant)
