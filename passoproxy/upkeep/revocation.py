"""What becomes of stored answers when the owner has withdrawn the grant (`cache.on_revoked`). That it was withdrawn is the keeper's finding."""

from __future__ import annotations

from typing import Literal

from passoproxy.core.cache.entry import Selector
from passoproxy.core.events import EntriesPurged, StoreFailed
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import EntryStore, Observer, nobody

OnRevoked = Literal["keep", "purge_private", "purge"]


class Revoking:
    """Removes what `what` says; called with the partition whose grant is gone."""

    def __init__(self, store: EntryStore, what: OnRevoked, observe: Observer = nobody) -> None:
        self._store = store
        self._what = what
        self._observe = observe

    async def __call__(self, partition: str) -> None:
        """Never raises: a store that fails is told as an event, and what it holds is served within `stale_if_unauthorized` at most."""
        if self._what == "keep":
            return
        # A purge, and not one entry after the other: it counts for what is being stored right now too.
        selector = Selector(partition=partition, private=self._what == "purge_private")
        try:
            count = await self._store.purge(selector)
        except EntryStoreFailure as fault:
            self._observe(StoreFailed(f"answers of a withdrawn grant could not be removed: {fault}"))
        else:
            self._observe(EntriesPurged(count, "revoked"))
