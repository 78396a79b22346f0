"""The pair's keeper and the provider that it asks."""

from __future__ import annotations

import random
import secrets

from passoproxy.compose.road import Outward
from passoproxy.config.addresses import TcpAddress
from passoproxy.config.reading import Loaded
from passoproxy.config.settings import Settings
from passoproxy.core.oauth.terms import Client, Provider, Terms
from passoproxy.outbound.provider import ProviderEndpoint
from passoproxy.ports import Clock, Observer
from passoproxy.stores.pair.directory import DirectoryPairStore
from passoproxy.tokens.asking import Asking
from passoproxy.tokens.fixed import FixedKeeper
from passoproxy.tokens.keeper import Keeper


def build_asking(loaded: Loaded, clock: Clock, outward: Outward) -> Asking:
    oauth, upstream = loaded.settings.oauth, loaded.settings.upstream
    provider = Provider(
        token_url=oauth.token_url or "",
        authorization_url=oauth.authorization_url or "",
        refresh_url=oauth.refresh_url or "",
        revocation_url=oauth.revocation_url or "",
        redirect_url=oauth.redirect_url,
        scope=oauth.scope,
        pkce=oauth.pkce,
    )
    endpoint = ProviderEndpoint(
        clock=clock, tls=outward.tls, connect_timeout=upstream.connect_timeout, proxy_for=outward.proxy_for
    )
    return Asking(
        endpoint,
        provider,
        Client(oauth.client_id or "", "", oauth.client_auth),
        loaded.secrets.client_secret or (lambda: ""),
    )


def build_keeper(
    loaded: Loaded, asking: Asking, store: DirectoryPairStore, clock: Clock, observer: Observer
) -> Keeper | FixedKeeper:
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
