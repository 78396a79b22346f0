"""A pair whose ownership can end by itself: nothing is presented unless the store can prove that nobody else does."""

from __future__ import annotations

import asyncio

import pytest

from passoproxy.core.oauth.transaction import floored
from passoproxy.errors import CommandFailure, PairStoreOwned, PairStoreUnproven
from passoproxy.ports import ChainRecord, TokenReply, TokenRequest
from passoproxy.tokens.commands import Refresh
from tests.fakes import FakeClock, MemoryPairStore, RotatingProvider
from tests.tokens.life import Life


class LeasedStore(MemoryPairStore):
    """Its lease can be proven, or not, or is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.proven = True
        self.lost = False

    def may_present(self) -> bool:
        return self.proven

    def reserve(self) -> None:
        if self.lost:
            raise PairStoreOwned("another instance took the pair over")
        if not self.proven:
            raise PairStoreUnproven("the store is away")
        super().reserve()


async def test_without_proof_nothing_is_presented_to_the_very_end():
    store = LeasedStore()
    life = Life(store=store)
    await life.started_with_pair()
    store.proven = False
    await life.clock.advance(3599)
    assert life.keeper.current() is not None
    await life.clock.advance(600)
    assert (life.rotating.presented, life.keeper.current()) == ({}, None)
    with pytest.raises(CommandFailure, match="the store is away"):
        await asyncio.gather(life.keeper.execute(Refresh(force=True)), life.clock.advance(2))
    assert life.rotating.presented == {}
    store.proven = True
    await life.clock.advance(61)
    assert life.keeper.current() is not None
    assert list(life.rotating.presented.values()) == [1]
    await life.stop()


async def test_a_full_disk_at_the_end_is_no_reason_and_the_record_is_tried_all_the_same():
    store = LeasedStore()
    life = Life(store=store)
    await life.started_with_pair()
    store.failing = {"reserve"}
    await life.clock.advance(3400)
    assert list(life.rotating.presented.values()) == [1]
    assert store.calls.index("reserve") < store.calls.index("keep_answer")
    await life.stop()


async def test_a_record_that_the_store_did_not_take_is_no_proof():
    store = LeasedStore()
    life = Life(store=store)
    await life.started_with_pair()
    real, taken = store.save_record, []

    def save_record(record: ChainRecord) -> None:
        if record.intent is not None:
            taken.append(record)
            raise PairStoreUnproven("the store is away")
        real(record)

    store.save_record = save_record
    await life.clock.advance(3599)
    assert (life.rotating.presented, len(taken) > 6) == ({}, True)
    await life.stop()


async def test_the_last_word_is_asked_when_the_connection_stands():
    class Late(RotatingProvider):
        async def post(self, request: TokenRequest, timeout: float) -> TokenReply:
            store.proven = False  # it stood still meanwhile
            return await super().post(request, timeout)

    clock, store = FakeClock(), LeasedStore()
    provider = Late(clock)
    life = Life(clock=clock, store=store, endpoint=provider)
    await life.started_with_pair()
    await life.clock.advance(1500)
    assert provider.presented == {}
    assert store.record.intent is None
    await life.stop()


async def test_an_ownership_that_is_lost_ends_the_keeper():
    store = LeasedStore()
    life = Life(store=store)
    await life.started_with_pair()
    store.lost = True
    await life.clock.advance(1500)
    with pytest.raises(PairStoreOwned):
        await life.task
    assert life.rotating.presented == {}


async def test_new_pairs_are_numbered_above_what_the_store_had():
    store = LeasedStore()
    store.record = ChainRecord(extra=floored((), 41))
    life = Life(store=store)
    keeper = await life.started_with_pair()
    assert keeper.snapshot().generation == 42
    await life.stop()


async def test_a_store_of_one_machine_needs_no_proof():
    life = Life()
    await life.started_with_pair()
    await life.clock.advance(1500)
    assert list(life.rotating.presented.values()) == [1]
    await life.stop()
