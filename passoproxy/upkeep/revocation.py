"""What becomes of stored answers when the owner has withdrawn the grant (`cache.on_revoked`). The keeper finds out that it was withdrawn."""

from __future__ import annotations

from typing import Literal

from passoproxy.core.cache.entry import Selector
from passoproxy.core.events import EntriesPurged, StoreFailed
from passoproxy.errors import EntryStoreFailure
from passoproxy.ports import EntryStore, Observer

OnRevoked = Literal["keep", "purge_private", "purge"]


async def remove_revoked(store: EntryStore, what: OnRevoked, observe: Observer, partition: str) -> None:
    """Removes what `what` says of the partition whose grant is gone.

    Never raises: if the store fails, that is an event, and its answers are served within `stale_if_unauthorized` at most.
    """
    if what == "keep":
        return
    try:
        # A purge, and not one entry after the other: it counts for what is being stored right now too.
        count = await store.purge(Selector(partition=partition, private=what == "purge_private"))
    except EntryStoreFailure as fault:
        observe(StoreFailed(f"answers of a withdrawn grant could not be removed: {fault}"))
    else:
        observe(EntriesPurged(count, "revoked"))
