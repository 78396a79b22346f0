"""Where entries live: memory before this machine's disk, or memory before the store that instances share."""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from passoproxy.compose.crew import ALONE, Part
from passoproxy.compose.road import Road, made_bytes
from passoproxy.config.reading import Loaded
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.terms import terms
from passoproxy.ports import Observer
from passoproxy.proxy.softening import Keeping
from passoproxy.stores.entries.disk import DiskStore
from passoproxy.stores.entries.redis import RedisStore, for_a_week
from passoproxy.stores.entries.secret import secret_in
from passoproxy.stores.entries.soft_purge_file import SoftPurgeFile
from passoproxy.stores.entries.tiered import TieredStore
from passoproxy.stores.pair.redis_link import RedisLink

if TYPE_CHECKING:
    from redis.asyncio import Redis

_DAY = 86400.0
MARGIN = 3600.0
"""Seconds that an entry outlives its last use in a shared store: for clocks that differ, and for a route that is given a longer window."""

LONGEST = 400 * _DAY


class Ends:
    """When an entry is of no use any more: by the routes of the moment, once the road that has them stands in `road`."""

    def __init__(self) -> None:
        self.road: Road | None = None

    def __call__(self, entry: Entry) -> float:
        """Epoch seconds: the end of freshness and of every window, and a day for whoever may validate it, with a margin."""
        if self.road is None:
            return for_a_week(entry)
        policy = self.road.routing.table.find(entry.target.partition("?")[0])
        agreed = terms(entry, policy, self.road.caching.mode)
        moments = (agreed.fresh_until, agreed.revalidate_until, agreed.error_until, agreed.unauthorized_until)
        latest = max((moment for moment in moments if math.isfinite(moment)), default=0.0)
        return min(max(latest, entry.stored_at + _DAY), entry.stored_at + LONGEST) + MARGIN


def entry_store(
    loaded: Loaded, state_folder: Path, cache_folder: Path | None, observer: Observer, ends: Ends, part: Part = ALONE
) -> tuple[TieredStore, Keeping]:
    """The store of this process, and what keeps its soft purges. `cache_folder` is None with `store.url`: a copy on disk would not know what
    others purged while it was down (decision 13).

    Raises CannotCreate naming the folder, and ConfigurationError where the redis library is missing.
    """
    settings = loaded.settings
    memory_bytes = part.memory(settings.cache.memory_size) - 2 * made_bytes(settings, part)
    if cache_folder is None:
        assert settings.store.url is not None
        shared = _shared(loaded, settings.store.url, observer, ends)
        return TieredStore(memory_bytes, shared), shared
    disk = DiskStore(cache_folder, max_bytes=settings.cache.max_size, secret=secret_in(state_folder), observer=observer)
    store = TieredStore(memory_bytes, disk)
    return store, SoftPurgeFile(state_folder, store)


def _shared(loaded: Loaded, url: str, observer: Observer, ends: Ends) -> RedisStore:
    settings = loaded.settings
    link = RedisLink(url, loaded.secrets.store_password, settings.store.ca_file)

    def connect(connect_seconds: float, answer_seconds: float) -> Redis:
        return link.asynchronous(connect_seconds=connect_seconds, answer_seconds=answer_seconds)

    origin = blake2b((settings.upstream.url or "").rstrip("/").encode(), digest_size=12).hexdigest()
    return RedisStore(
        connect,
        f"passoproxy:{{{origin}}}:cache:",
        secret=shared_secret(loaded.secrets.state_key, loaded.secrets.store_password),
        shown=f"store.url {link.shown}",
        max_bytes=settings.cache.max_size,
        max_entry_bytes=settings.cache.max_size,  # what one entry may take is the road's to say, and may change live
        ends_at=ends,
        observer=observer,
    )


def shared_secret(state_key: Callable[[], str] | None, password: Callable[[], str] | None) -> bytes:
    """What seals the entries of a fleet. Only one that follows from `state.key_file` stops whoever may write to the store."""
    given = state_key or password
    material = given().strip().encode() if given is not None else b""
    return blake2b(material, digest_size=32, person=b"passoproxy fleet").digest()
