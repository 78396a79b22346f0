"""A pair that is handed over has one owner at a time, and comes back only while nobody has used it (contract §2, `token export`)."""

from __future__ import annotations

import asyncio
import json

import pytest

from passoproxy.core.events import ChainChanged
from passoproxy.core.oauth.settings import Terms
from passoproxy.errors import CannotCreate, PairStoreFailure, PersonNeeded
from passoproxy.tokens.commands import Export, Import, Refresh
from tests.tokens.life import Life


@pytest.fixture
async def life():
    life = Life()
    yield life
    if life.task is not None and not life.task.done():
        life.store.failing.clear()
        await life.stop()


async def forced(life, keeper):
    task = asyncio.create_task(keeper.execute(Refresh(force=True)))
    await life.clock.advance(2)
    return await task


async def test_it_serves_to_its_last_second_and_is_not_renewed(life):
    keeper = await life.started_with_pair()
    given = await keeper.execute(Export())
    assert given["refresh_token"] == "def-refresh-1"
    shown = keeper.snapshot()
    assert (shown.access, shown.chain, shown.runway_seconds) == ("valid", "unknown", 3600)
    assert shown.handed_over_at == life.clock.wall()
    assert shown.reason.startswith("handed over by 'token export' on ")
    assert "token refresh --force" in shown.remedy
    assert shown.next_refresh_at is None
    await life.clock.advance(3599)
    assert keeper.current().token == "access-1"
    await life.clock.advance(2)
    assert keeper.current() is None
    assert (keeper.snapshot().access, keeper.snapshot().chain, keeper.snapshot().runway_seconds) == (
        "expired",
        "dead",
        0,
    )
    assert "handed over" in keeper.snapshot().reason
    assert life.rotating.bodies == []


async def test_the_mark_is_on_disk_before_anybody_sees_the_pair(life):
    keeper = await life.started_with_pair()
    order = []
    life.store.save_record = lambda record, real=life.store.save_record: (order.append(record.extra), real(record))
    await keeper.execute(Export())
    assert order[0][0][0] == "handed_over"
    await life.crash()
    keeper = await life.start()
    await life.clock.advance(3000)
    assert life.rotating.bodies == []
    assert keeper.snapshot().handed_over_at is not None
    assert keeper.current().token == "access-1"
    assert await keeper.execute(Export()) == life.held()  # asked for again, it is given again
    await life.clock.advance(601)
    assert keeper.snapshot().chain == "dead"


@pytest.mark.parametrize("failing", ["save_record", "commit"])
async def test_what_cannot_be_marked_is_not_given_away(life, failing):
    keeper = await life.started_with_pair()
    life.store.failing = {failing}
    if failing == "commit":
        life.clock.step(100)  # the moved moments wait to be saved
        await life.clock.advance(16)
    with pytest.raises(CannotCreate, match="not exported"):
        await keeper.execute(Export())
    assert (keeper.snapshot().chain, keeper.snapshot().handed_over_at) == ("healthy", None)
    life.store.failing.clear()
    await life.clock.advance(1450)
    assert keeper.current().token == "access-2"


async def test_exactly_one_renews_it(life):
    keeper = await life.started_with_pair()
    given = json.dumps(await keeper.execute(Export())).encode()
    other = Life(clock=life.clock)
    other.endpoint = life.rotating
    elsewhere = await other.start()
    await elsewhere.execute(Import(given))
    await life.clock.advance(3590)
    assert elsewhere.current().token != "access-1"
    assert keeper.current().token == "access-1"
    assert life.rotating.told == []
    with pytest.raises(PersonNeeded, match="handed over"):
        await keeper.execute(Refresh())
    with pytest.raises(PersonNeeded, match="handed over, and has been renewed elsewhere"):
        await forced(life, keeper)
    assert keeper.snapshot().chain == "dead"
    assert "renewed elsewhere" in keeper.snapshot().reason
    assert elsewhere.snapshot().chain == "healthy"
    await other.stop()


async def test_force_takes_it_back_while_it_is_unspent(life):
    keeper = await life.started_with_pair()
    await keeper.execute(Export())
    with pytest.raises(PersonNeeded, match="--force"):
        await keeper.execute(Refresh())
    assert life.rotating.bodies == []
    shown = await forced(life, keeper)
    assert (shown.chain, shown.handed_over_at) == ("healthy", None)
    assert keeper.current().token == "access-2"
    await life.clock.advance(1450)
    assert keeper.current().token == "access-3"


async def test_a_pair_that_was_taken_back_in_vain_is_tried_again(life):
    keeper = await life.started_with_pair()
    await keeper.execute(Export())
    life.rotating.faults = ["unsent"]
    with pytest.raises(Exception, match="no connection"):
        await forced(life, keeper)
    await life.clock.advance(10)
    assert (keeper.snapshot().chain, keeper.current().token) == ("healthy", "access-2")


async def test_after_its_end_force_still_takes_it_back(life):
    life.having(refresh_lifetime=90_000.0)
    keeper = await life.started_with_pair()
    await keeper.execute(Export())
    await life.clock.advance(4000)
    assert keeper.snapshot().chain == "dead"
    assert (await forced(life, keeper)).access == "valid"


async def test_the_same_pair_imported_again_is_renewed_at_once(life):
    keeper = await life.started_with_pair()
    given = json.dumps(await keeper.execute(Export())).encode()
    shown = await keeper.execute(Import(given))
    assert (shown.chain, shown.handed_over_at) == ("healthy", None)
    await life.clock.advance(2)
    assert keeper.current().token == "access-2"


async def test_the_same_pair_imported_again_too_late_says_so(life):
    keeper = await life.started_with_pair()
    given = json.dumps(await keeper.execute(Export())).encode()
    life.rotating.spend("def-refresh-1")
    await keeper.execute(Import(given))
    await life.clock.advance(2)
    assert keeper.snapshot().chain == "dead"
    assert keeper.snapshot().reason.startswith("the pair was handed over, and has been renewed elsewhere: ")
    assert keeper.current().token == "access-1"


async def test_another_pair_takes_its_place(life):
    keeper = await life.started_with_pair()
    await keeper.execute(Export())
    await life.clock.advance(2)
    shown = await keeper.execute(Import(life.document()))
    assert (shown.chain, shown.handed_over_at) == ("healthy", None)
    assert keeper.current().token == "access-3"  # it was proved
    await life.stop()
    keeper = await life.start()
    assert keeper.snapshot().handed_over_at is None


async def test_a_401_while_it_is_away_renews_nothing(life):
    keeper = await life.started_with_pair()
    await keeper.execute(Export())
    assert await keeper.renewed(keeper.current()) is None
    assert life.rotating.bodies == []
    assert life.withdrawals == []


async def test_a_lost_answer_before_the_hand_over_is_not_replayed_here(life):
    life.having(lost_answer_replay=5000.0)
    keeper = await life.started_with_pair()
    life.rotating.faults = ["lost"]
    await life.clock.advance(1440.5)
    assert keeper.snapshot().chain == "unknown"
    await keeper.execute(Export())
    await life.clock.advance(600)
    assert len(life.rotating.bodies) == 1
    await life.stop()
    keeper = await life.start()
    assert (keeper.snapshot().chain, keeper.snapshot().next_refresh_at) == ("unknown", None)


async def test_what_nobody_can_renew_is_given_without_a_mark(life):
    keeper = await life.start()
    with pytest.raises(PersonNeeded, match="no pair to export"):
        await keeper.execute(Export())
    await keeper.execute(Import(life.document(refresh_token=None)))
    assert "refresh_token" not in await keeper.execute(Export())
    assert keeper.snapshot().handed_over_at is None
    await keeper.execute(Import(life.document(refresh_token="def-gone")))
    life.rotating.spend("def-gone")
    with pytest.raises(PersonNeeded):
        await keeper.execute(Refresh())
    assert (await keeper.execute(Export()))["refresh_token"] == "def-gone"
    assert (keeper.snapshot().chain, keeper.snapshot().handed_over_at) == ("dead", None)


async def test_client_credentials_lose_nothing_by_it():
    life = Life(terms=Terms(grant="client_credentials"))
    keeper = await life.start()
    await life.clock.advance(1)
    assert (await keeper.execute(Export()))["access_token"] == "access-1"
    assert keeper.snapshot().chain == "healthy"
    await life.stop()


async def test_it_is_told_as_one_change(life):
    keeper = await life.started_with_pair()
    life.observer.events.clear()
    await keeper.execute(Export())
    (told,) = life.observer.of(ChainChanged)
    assert (told.access, told.chain) == ("valid", "unknown")
    assert told.reason.startswith("handed over")
    await life.stop()
    life.observer.events.clear()
    await life.start()
    assert [each.chain for each in life.observer.of(ChainChanged)] == ["unknown"]


async def test_an_export_whose_mark_may_have_been_written_all_the_same_is_taken_back(life, monkeypatch):
    """A store that is shared takes what it missed with the next heartbeat, and a disk may fail after the name is there."""
    keeper = await life.started_with_pair()
    save, refused = life.store.save_record, []

    def save_and_fail(record):
        save(record)
        if not refused:
            refused.append(record)
            raise PairStoreFailure("no answer")

    monkeypatch.setattr(life.store, "save_record", save_and_fail)
    with pytest.raises(CannotCreate):
        await keeper.execute(Export())
    await life.crash()
    keeper = await life.start()
    assert (len(refused), keeper.snapshot().chain, keeper.snapshot().handed_over_at) == (1, "healthy", None)
