"""The pair of a fleet: `store.url` becomes a store of the pair, a way to its owner, and the desk where this instance serves the others."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import cast

from passoproxy.compose.custody import keys_of
from passoproxy.config.reading import Loaded
from passoproxy.core.oauth.chain import Access, Chain, Standing, has_ended
from passoproxy.core.oauth.identity import fleet_of, partition_of
from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.oauth.snapshot import snapshot
from passoproxy.core.oauth.terms import Terms
from passoproxy.ports import Clock, Followed, Observer, PairOwner
from passoproxy.stores.pair.alarm import FleetAlarm
from passoproxy.stores.pair.directory import DirectoryPairStore
from passoproxy.stores.pair.fleet import FleetOwner
from passoproxy.stores.pair.fleet_desk import FleetDesk
from passoproxy.stores.pair.lease import Pulse
from passoproxy.stores.pair.redis import RedisPairStore
from passoproxy.stores.pair.redis_link import Keys, RedisLink
from passoproxy.stores.pair.redis_records import FleetCover
from passoproxy.tokens.asking import Asking
from passoproxy.tokens.custody import Holder

STORE_AWAY = "the shared store is away, and what was known last is served"


@dataclass(frozen=True, slots=True)
class Fleet:
    """One instance's part in it."""

    store: RedisPairStore
    owner: FleetOwner
    desk: FleetDesk
    alarm: FleetAlarm

    def nearest(self, near: PairOwner) -> PairOwner:
        """The process that stands for this machine's folder (`near`) where that is another one, else the fleet's owner."""
        return _Nearest(near, self.owner, lambda: self.store.has_folder)

    def for_folder(self, holder: Holder) -> _ForFolder:
        """Who stands for this machine's folder, as far as its control socket is concerned: also a follower of another machine's owner."""
        return _ForFolder(holder, self.store)


def build_fleet(
    loaded: Loaded, asking: Asking, local: DirectoryPairStore, clock: Clock, observer: Observer
) -> Fleet | None:
    """None without `store.url`, and where there is no pair to share. Raises ConfigurationError without the library, and for keys that are none."""
    settings = loaded.settings
    if settings.store.url is None or settings.oauth.grant == "static":
        return None
    link = RedisLink(settings.store.url, loaded.secrets.store_password, settings.store.ca_file)
    keys = Keys.of(fleet_of(asking.provider, asking.client.client_id, settings.oauth.grant))
    pulse = Pulse(clock.monotonic)
    cover = FleetCover(*keys_of(loaded))
    store = RedisPairStore(link, keys, local, monotonic=clock.monotonic, cover=cover, pulse=pulse, wall=clock.wall)
    terms = Terms(settings.oauth.grant)
    owner = FleetOwner(link, keys, store, lambda: _known_before(store, asking, terms, clock), clock.wall)
    desk = FleetDesk(link, keys, store, pulse, clock, observer)
    return Fleet(store, owner, desk, FleetAlarm(link, keys, cover))


def _known_before(store: RedisPairStore, asking: Asking, terms: Terms, clock: Clock) -> Followed | None:
    """What this instance's own folder holds, for as long as the store is away; None where that is of no use any more."""
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
        """See PairOwner. Ends where the other one became the nearest."""
        nearest = self._nearest
        async with aclosing(cast("AsyncGenerator[Followed, None]", nearest.changes())) as changes:
            async for followed in changes:
                yield followed
                if self._nearest is not nearest:
                    return

    async def renewed(self, generation: int, path: str = "", again: bool = False) -> int:
        """See PairOwner."""
        return await self._nearest.renewed(generation, path, again)

    async def order(self, what: str, document: bytes = b"") -> Mapping[str, object]:
        """See PairOwner."""
        return await self._nearest.order(what, document)

    @property
    def _nearest(self) -> PairOwner:
        return self._far if self._is_far() else self._near
