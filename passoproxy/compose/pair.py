"""The pair's keeper and the provider that it asks."""

from __future__ import annotations

import random
import secrets

from passoproxy.compose.custody import seed_of
from passoproxy.compose.road import Outward
from passoproxy.config.addresses import TcpAddress
from passoproxy.config.reading import Loaded
from passoproxy.config.settings import Settings
from passoproxy.core.oauth.identity import partition_of
from passoproxy.core.oauth.terms import Client, Provider, Terms
from passoproxy.errors import ConfigurationError, TokenRequestUnsent
from passoproxy.outbound.endpoint import endpoint_of
from passoproxy.outbound.provider import ProviderEndpoint
from passoproxy.ports import Clock, Observer, PairOwner, PairStore, TokenReply, TokenRequest
from passoproxy.tokens.asking import Asking
from passoproxy.tokens.custody import Custody
from passoproxy.tokens.fixed import FixedKeeper
from passoproxy.tokens.keeper import Keeper
from passoproxy.tokens.obeying import Withdrawn, nothing_to_do


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


def build_asking(loaded: Loaded, live: LiveProvider, outward: Outward, observer: Observer) -> Asking:
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
        observer,
    )


def build_keeper(
    loaded: Loaded,
    asking: Asking,
    store: PairStore,
    clock: Clock,
    observer: Observer,
    owner: PairOwner | None = None,
    withdrawn: Withdrawn = nothing_to_do,
) -> Custody | FixedKeeper:
    """The one who holds the pair, by `oauth.grant`. `owner` is followed where the store is another's; without it that is refused.

    `withdrawn` is awaited when the pair's grant was withdrawn.
    """
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

    def keep() -> Keeper:
        return Keeper(
            asking=asking,
            store=store,
            terms=agreed,
            clock=clock,
            chance=random.SystemRandom().random,
            salt=lambda: secrets.token_hex(16),
            observe=observer,
            seed=seed_of(loaded),
            withdrawn=withdrawn,
            upstream=loaded.settings.upstream.url or "",
        )

    partition = partition_of(asking.provider, asking.client.client_id, None)
    return Custody(keep=keep, owner=owner, clock=clock, partition=partition, observe=observer)


def page_url(settings: Settings) -> str:
    """Where the status page is for people: `admin.public_url`, else the first admin address; '' where there is none."""
    if settings.admin.public_url:
        return settings.admin.public_url
    first = next((each for each in settings.admin.listen if isinstance(each, TcpAddress)), None)
    return f"http://{first.reached_at}/" if first is not None else ""
