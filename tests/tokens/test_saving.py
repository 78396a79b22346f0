"""Saving beside the loop: in a thread, through damage, and again."""

from __future__ import annotations

from passoproxy.core.events import PairFileDamaged, PairNotSaved
from passoproxy.core.oauth.pair import Pair
from passoproxy.ports import ChainRecord
from passoproxy.tokens.persistence import Saving
from tests.fakes import MemoryPairStore, RememberingObserver


async def test_a_store_that_is_damaged_for_ever_gives_nothing():
    store, observer = MemoryPairStore(), RememberingObserver()
    store.damaged = [f"file {number}" for number in range(50)]
    saving = Saving(store, observer)
    assert (await saving.load())[0] is None
    assert len(observer.of(PairFileDamaged)) == 8
    assert saving.damage == "file 42"


async def test_what_could_not_be_written_is_written_by_the_next_try():
    store, observer = MemoryPairStore(), RememberingObserver()
    saving = Saving(store, observer)
    assert await saving.retry()
    store.failing = {"save_record"}
    await saving.note(ChainRecord("dead"))
    assert not await saving.commit(Pair("a", generation=1), ChainRecord("healthy"))
    await saving.note(ChainRecord("retrying"))
    assert saving.unsaved
    assert len(observer.of(PairNotSaved)) == 3
    store.failing = set()
    assert await saving.retry()
    assert (store.record.state, store.generations[1].access_token, saving.unsaved) == ("retrying", "a", False)
    await saving.note(ChainRecord("dead"))
    assert store.record.state == "dead"
