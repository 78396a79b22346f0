"""The parts of a fleet, which `store.url` makes: the pair's store is shared, its owner may be another instance, and entries live in the same
store.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from passoproxy.compose.pipeline import spill_folders
from passoproxy.compose.stores import keys_of
from passoproxy.compose.topology import Part
from passoproxy.config.load import Loaded
from passoproxy.core.oauth.chain import Access, Chain, Standing, has_ended
from passoproxy.core.oauth.identity import fleet_of, partition_of
from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.oauth.settings import Terms
from passoproxy.core.oauth.snapshot import snapshot
from passoproxy.ports import Clock, Followed, Observer
from passoproxy.stores.entries.redis.store import RedisStore
from passoproxy.stores.pair.directory import DirectoryPairStore
from passoproxy.stores.pair.encryption import FleetCover
from passoproxy.stores.pair.lease import Pulse
from passoproxy.stores.pair.redis import RedisPairStore
from passoproxy.stores.pair.replication import FleetAlarm, FleetDesk, FleetOwner
from passoproxy.stores.redis_client import Keys, RedisLink
from passoproxy.stores.spill import DiskSpill
from passoproxy.tokens.commands import Command, PairOwner
from passoproxy.tokens.holder import Holder
from passoproxy.tokens.provider_client import Asking
from passoproxy.values import dataclass

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")

READ_BYTES = 256 * 1024 * 1024
"""Of the disk, for large bodies that are read from a shared store and served from here."""


def shared_store(loaded: Loaded, state_folder: Path, observer: Observer, part: Part) -> RedisStore:
    """The store of entries that a fleet shares. Raises ConfigurationError if the redis library is missing."""
    settings, before = loaded.settings, loaded.secrets.previous_state_key
    connect, prefix, shown = of_origin(loaded, "cache")
    return RedisStore(
        connect,
        prefix,
        secret=shared_secret(loaded.secrets.state_key, loaded.secrets.store_password),
        previous_secret=None if before is None else shared_secret(before, None),
        spill=DiskSpill(spill_folders(settings.cache.folder), most_bytes=part.disk(READ_BYTES), most_of_one=READ_BYTES),
        folder=state_folder,
        shown=shown,
        max_bytes=settings.cache.max_size,
        max_entry_bytes=settings.cache.max_size,  # what one entry may take is the pipeline's to say, and may change live
        observer=observer,
    )


def of_origin(loaded: Loaded, what: str) -> tuple[Callable[[float, float], Redis], str, str]:
    """For what instances share of one origin: how to connect (with what time for connecting and for an answer), the beginning of its keys, and the
    store in messages. Raises ConfigurationError if the redis library is missing."""
    settings = loaded.settings
    assert settings.store.url is not None
    link = RedisLink(settings.store.url, loaded.secrets.store_password, settings.store.ca_file)

    def connect(connect_seconds: float, answer_seconds: float) -> Redis:
        return link.asynchronous(connect_seconds=connect_seconds, answer_seconds=answer_seconds)

    origin = blake2b((settings.upstream.url or "").rstrip("/").encode(), digest_size=12).hexdigest()
    return connect, f"passoproxy:{{{origin}}}:{what}:", f"store.url {link.shown}"


def shared_secret(state_key: Callable[[], str] | None, password: Callable[[], str] | None) -> bytes:
    """The secret that seals the entries of a fleet. Only `state.key_file` keeps out a person who can write to the store."""
    given = state_key or password
    material = given().strip().encode() if given is not None else b""
    return blake2b(material, digest_size=32, person=b"passoproxy fleet").digest()


STORE_AWAY = "the shared store is away, and what was known last is served"


@dataclass(frozen=True, slots=True)
class Fleet:
    """One instance's part in it."""

    store: RedisPairStore
    owner: FleetOwner
    desk: FleetDesk
    alarm: FleetAlarm

    def nearest(self, near: PairOwner) -> PairOwner:
        """The owner to follow: `near`, if another process holds this machine's folder, else the fleet's owner."""
        return _Nearest(near, self.owner, lambda: self.store.has_folder)

    def for_folder(self, holder: Holder) -> _ForFolder:
        """The holder for this machine's control socket. A follower of another machine's owner still owns the folder."""
        return _ForFolder(holder, self.store)


def build_fleet(loaded: Loaded, asking: Asking, local: DirectoryPairStore, clock: Clock, observer: Observer) -> Fleet:
    """Raises ConfigurationError for a missing library and for invalid keys."""
    settings = loaded.settings
    assert settings.store.url is not None
    link = RedisLink(settings.store.url, loaded.secrets.store_password, settings.store.ca_file)
    keys = Keys.of(fleet_of(asking.provider, asking.client.client_id, settings.oauth.grant))
    pulse = Pulse(clock.monotonic)
    cover = FleetCover(*keys_of(loaded))
    store = RedisPairStore(link, keys, local, monotonic=clock.monotonic, cover=cover, pulse=pulse, wall=clock.wall)
    terms = Terms(settings.oauth.grant)
    owner = FleetOwner(store, lambda: _known_before(store, asking, terms, clock), clock.wall)
    desk = FleetDesk(store, pulse, clock, observer)
    return Fleet(store, owner, desk, FleetAlarm(link, keys, cover))


def _known_before(store: RedisPairStore, asking: Asking, terms: Terms, clock: Clock) -> Followed | None:
    """The pair of this instance's own folder, to be served while the store is away; None if it has ended."""
    pair, now = store.own_pair(), clock.wall()
    if pair is None or has_ended(pair, now):
        return None
    standing = Standing(Access.VALID, Chain.RETRYING)
    shown = snapshot(pair, standing, terms, now, reason=STORE_AWAY)
    bearer = Bearer(pair.access_token, pair.generation, pair.access_until)
    return Followed(bearer, partition_of(asking.provider, asking.client.client_id, pair), asdict(shown))


class _ForFolder:
    """`holder` with the role that this process has in its folder."""

    def __init__(self, holder: Holder, store: RedisPairStore) -> None:
        self._holder, self._store = holder, store

    @property
    def role(self) -> str:
        return "owner" if self._store.has_folder else self._holder.role

    async def news(self, seconds: float) -> None:
        await self._holder.news(seconds)


class _Nearest:
    """A PairOwner of two."""

    def __init__(self, near: PairOwner, far: PairOwner, is_far: Callable[[], bool]) -> None:
        self._near, self._far, self._is_far = near, far, is_far

    async def changes(self) -> AsyncIterator[Followed]:
        """See PairOwner. Ends when the other owner became the nearest."""
        nearest = self._nearest
        async with aclosing(cast("AsyncGenerator[Followed, None]", nearest.changes())) as changes:
            async for followed in changes:
                yield followed
                if self._nearest is not nearest:
                    return

    async def execute(self, command: Command[T]) -> T:
        """See PairOwner."""
        return await self._nearest.execute(command)

    @property
    def _nearest(self) -> PairOwner:
        return self._far if self._is_far() else self._near
