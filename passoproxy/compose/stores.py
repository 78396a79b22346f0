"""The stores and the keeper of the pair, and the store of entries, as the settings want them.

With `store.url` the parts of a fleet come from `fleet`, which is imported then.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from pathlib import Path

from passoproxy.compose.pipeline import Outward, made_bytes
from passoproxy.compose.topology import ALONE, Part
from passoproxy.config.load import Loaded
from passoproxy.config.secrets import Secret, read_secret
from passoproxy.config.settings import Settings
from passoproxy.config.types import TcpAddress
from passoproxy.core.oauth.identity import partition_of
from passoproxy.core.oauth.settings import Client, Provider, Terms
from passoproxy.errors import ConfigurationError, Fault, TokenRequestUnsent
from passoproxy.host.system import volatile
from passoproxy.outbound.dial import endpoint_of
from passoproxy.outbound.token_endpoint import ProviderEndpoint
from passoproxy.ports import Clock, Observer, PairStore, TokenEndpoint, TokenReply, TokenRequest
from passoproxy.proxy.cache import SoftPurgeStore
from passoproxy.stores.entries.disk.store import DiskStore
from passoproxy.stores.entries.serialization import secret_in
from passoproxy.stores.entries.tiered import TieredStore
from passoproxy.stores.pair.encryption import FolderCover, Key, key_of
from passoproxy.tokens.commands import PairOwner
from passoproxy.tokens.failover import Custody
from passoproxy.tokens.holder import Holder
from passoproxy.tokens.keeper import Keeper, Withdrawn, nothing_to_do
from passoproxy.tokens.persistence import Saving
from passoproxy.tokens.provider_client import Asking
from passoproxy.tokens.state import State
from passoproxy.tokens.static import StaticToken

LEAST_GRACE = 15.0
"""Seconds that must be left for `oauth.refresh_on_exit: auto` to begin a refresh (contract §3)."""


_READY_SHARE = 8
"""An eighth of `cache.max_size` goes to answers in ready form (`DiskStore.keep_answer`), divided among the processes."""


def cover_of(loaded: Loaded) -> FolderCover:
    """The encryption of the pair's files. Raises ConfigurationError for a key that cannot be read or is invalid."""
    return FolderCover(*keys_of(loaded))


def keys_of(loaded: Loaded) -> tuple[Key | None, Key | None]:
    """The present key and the previous one. Raises ConfigurationError likewise."""
    given = loaded.secrets
    key = None if given.state_key is None else _key(given.state_key, "state.key_file")
    before = None if given.previous_state_key is None else _key(given.previous_state_key, "state.previous_key_file")
    return key, before


def _key(given: Secret, name: str) -> Key:
    try:
        return key_of(given())
    except ValueError as fault:
        raise ConfigurationError(Fault("", name, str(fault), "make one with: openssl rand -base64 32")) from None


def seed_of(loaded: Loaded) -> Callable[[], bytes] | None:
    """Reads `oauth.seed_file` anew; None without one."""
    path = loaded.settings.oauth.seed_file
    return None if path is None else lambda: read_secret(path, "oauth.seed_file").encode()


def leaves_full(loaded: Loaded, folder: Path, grace: float, is_followed: bool) -> bool:
    """Whether the pair is renewed before a stop with `grace` seconds left (`oauth.refresh_on_exit`).

    With `auto` it is not if the new pair would be lost with the machine, or if another process goes on with it.
    """
    wanted = loaded.settings.oauth.refresh_on_exit
    return wanted == "always" or (
        wanted == "auto" and grace >= LEAST_GRACE and not is_followed and not volatile(folder)
    )


def rests_full(loaded: Loaded) -> bool:
    """Whether the pair is renewed before the machine sleeps."""
    return loaded.settings.oauth.grant == "authorization_code" and loaded.settings.oauth.refresh_on_exit != "never"


def entry_store(
    loaded: Loaded, state_folder: Path, cache_folder: Path | None, observer: Observer, part: Part = ALONE
) -> tuple[TieredStore, SoftPurgeStore]:
    """The store of this process, and the store of its soft purges. `cache_folder` is None with `store.url`: a copy on disk would miss the
    purges of other instances while it is down (decision 13).

    Raises CannotCreate naming the folder, and ConfigurationError if the redis library is missing.
    """
    settings = loaded.settings
    memory_bytes = part.memory(settings.cache.memory_size) - 3 * made_bytes(settings, part)
    if cache_folder is None:
        from passoproxy.compose.fleet import shared_store

        shared = shared_store(loaded, state_folder, observer, part)
        return TieredStore(memory_bytes, shared), shared
    most, secret = settings.cache.max_size, secret_in(state_folder)
    ready = most // _READY_SHARE
    disk = DiskStore(
        cache_folder, max_bytes=most - ready, secret=secret, observer=observer, answer_bytes=part.disk(ready)
    )
    return TieredStore(memory_bytes, disk, disk), disk


class LiveProvider:
    """The token endpoint by the present configuration: a reload replaces its way out."""

    def __init__(self, clock: Clock, outward: Outward) -> None:
        self._clock = clock
        self.follow(outward)

    def follow(self, outward: Outward) -> None:
        """From the next request on."""
        self._endpoint = ProviderEndpoint(self._clock, outward.dialer)

    async def post(self, request: TokenRequest, timeout: float) -> TokenReply:
        """See TokenEndpoint. With a misconfigured proxy nothing is sent, so no token is spent."""
        try:
            return await self._endpoint.post(request, timeout)
        except ConfigurationError as error:
            raise TokenRequestUnsent(str(error)) from error


def build_asking(loaded: Loaded, endpoint: TokenEndpoint, outward: Outward, observer: Observer) -> Asking:
    """Raises ConfigurationError for an invalid proxy on the way to the token endpoint."""
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
        endpoint,
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
) -> Holder:
    """The holder of the pair, by `oauth.grant`. If another process holds the store, `owner` is followed; without `owner` that is an error.

    `withdrawn` is awaited when the pair's grant was withdrawn.
    """
    oauth = loaded.settings.oauth
    if oauth.grant == "static":
        read, why = loaded.secrets.static_token, ""
        if read is None:  # checked with the configuration
            why = f"recordings in {loaded.settings.gateway.replay} answer (gateway.replay): there is no account"
        return StaticToken(read=read, provider=asking.provider, clock=clock, observe=observer, why=why)
    lifetime = oauth.refresh_token_lifetime
    agreed = Terms(
        grant=oauth.grant,
        refresh_at=oauth.refresh_at,
        refresh_lifetime=None if lifetime == "unknown" else lifetime,
        lost_answer_replay=oauth.lost_answer_replay,
        link=page_url(loaded.settings),
    )

    def keep() -> Keeper:
        chance, upstream = random.SystemRandom().random, loaded.settings.upstream.url or ""
        saving = Saving(store, observer)
        state = State(asking, saving, agreed, clock, chance, lambda: secrets.token_hex(16), observer, upstream)
        return Keeper(state, seed=seed_of(loaded), withdrawn=withdrawn)

    partition = partition_of(asking.provider, asking.client.client_id, None)
    return Custody(keep=keep, owner=owner, clock=clock, partition=partition, observe=observer)


def page_url(settings: Settings) -> str:
    """The URL of the status page: `admin.public_url`, else the first TCP address of `admin.listen`, else ''."""
    if settings.admin.public_url:
        return settings.admin.public_url
    first = next((each for each in settings.admin.listen if isinstance(each, TcpAddress)), None)
    return f"http://{first.reached_at}/" if first is not None else ""
