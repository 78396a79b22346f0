"""The pair's keeper and the provider that it asks."""

from __future__ import annotations

import random
import secrets

from passoproxy.compose.road import Outward
from passoproxy.config.addresses import TcpAddress
from passoproxy.config.reading import Loaded
from passoproxy.config.settings import Settings
from passoproxy.core.oauth.terms import Client, Provider, Terms
from passoproxy.errors import ConfigurationError, TokenRequestUnsent
from passoproxy.outbound.endpoint import endpoint_of
from passoproxy.outbound.provider import ProviderEndpoint
from passoproxy.ports import Clock, Observer, TokenReply, TokenRequest
from passoproxy.stores.pair.directory import DirectoryPairStore
from passoproxy.tokens.asking import Asking
from passoproxy.tokens.fixed import FixedKeeper
from passoproxy.tokens.keeper import Keeper


class LiveProvider:
    """The token endpoint over the way out of the moment: a reload gives it another one."""

    def __init__(self, loaded: Loaded, clock: Clock, outward: Outward) -> None:
        self._clock = clock
        self.follow(loaded, outward)

    def follow(self, loaded: Loaded, outward: Outward) -> None:
        """Goes that way from the next request on."""
        self._endpoint = ProviderEndpoint(
            clock=self._clock,
            tls=outward.tls,
            connect_timeout=loaded.settings.upstream.connect_timeout,
            proxy_for=outward.proxy_for,
        )

    async def post(self, request: TokenRequest, timeout: float) -> TokenReply:
        """As a TokenEndpoint. A way out that is misconfigured sends nothing, and so spends no token."""
        try:
            return await self._endpoint.post(request, timeout)
        except ConfigurationError as error:
            raise TokenRequestUnsent(str(error)) from error


def build_asking(loaded: Loaded, live: LiveProvider, outward: Outward) -> Asking:
    """Raises ConfigurationError where the way to the token endpoint leads through a proxy that is none."""
    oauth = loaded.settings.oauth
    provider = Provider(
        token_url=oauth.token_url or "",
        authorization_url=oauth.authorization_url or "",
        refresh_url=oauth.refresh_url or "",
        revocation_url=oauth.revocation_url or "",
        redirect_url=oauth.redirect_url,
        scope=oauth.scope,
        pkce=oauth.pkce,
    )
    if provider.token_url:
        outward.proxy_for(endpoint_of(provider.token_url, "oauth.token_url"))
    return Asking(
        live,
        provider,
        Client(oauth.client_id or "", "", oauth.client_auth),
        loaded.secrets.client_secret or (lambda: ""),
    )


def build_keeper(
    loaded: Loaded, asking: Asking, store: DirectoryPairStore, clock: Clock, observer: Observer
) -> Keeper | FixedKeeper:
    """The one who owns the pair, by `oauth.grant`."""
    oauth = loaded.settings.oauth
    if oauth.grant == "static":
        assert loaded.secrets.static_token is not None  # checked with the configuration
        return FixedKeeper(read=loaded.secrets.static_token, provider=asking.provider, clock=clock, observe=observer)
    lifetime = oauth.refresh_token_lifetime
    agreed = Terms(
        grant=oauth.grant,
        refresh_at=oauth.refresh_at,
        refresh_lifetime=None if lifetime == "unknown" else lifetime,
        lost_answer_replay=oauth.lost_answer_replay,
        link=page_url(loaded.settings),
    )
    return Keeper(
        asking=asking,
        store=store,
        terms=agreed,
        clock=clock,
        chance=random.SystemRandom().random,
        salt=lambda: secrets.token_hex(16),
        observe=observer,
    )


def page_url(settings: Settings) -> str:
    """Where the status page is for people: `admin.public_url`, else the first admin address; '' where there is none."""
    if settings.admin.public_url:
        return settings.admin.public_url
    first = next((each for each in settings.admin.listen if isinstance(each, TcpAddress)), None)
    return f"http://{first}/" if first is not None else ""
