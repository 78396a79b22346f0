"""What is the only copy of a pair is not written over, dropped or forgotten, whatever people do meanwhile (contract §4)."""

from __future__ import annotations

import asyncio
import json

import pytest

from passoproxy.errors import CommandFailure, PairStoreFailure
from passoproxy.ports import RawAnswer
from passoproxy.tokens.commands import Import, Login, Logout, Refresh
from tests.tokens.life import Life


@pytest.fixture
async def life():
    life = Life()
    yield life
    if life.task is not None and not life.task.done():
        life.store.failing.clear()
        await life.stop()


async def renewed_but_not_committed(life: Life) -> None:
    """The newest pair is in use, and its raw answer is all that is on the disk of it."""
    await life.started_with_pair()
    life.store.failing = {"commit"}
    await life.clock.advance(1441)
    assert life.keeper.current().token == "access-2"
    assert life.store.answer is not None


async def test_a_login_that_brings_nothing_leaves_the_answer_of_the_newest_pair(life):
    await renewed_but_not_committed(life)
    with pytest.raises(CommandFailure):
        await life.keeper.execute(Login(RawAnswer(b"garbage", "", life.clock.wall(), "authorization_code")))
    await life.crash()
    life.store.failing = set()
    await life.start()
    assert (life.keeper.current().token, life.keeper.snapshot().chain) == ("access-2", "healthy")
    await life.clock.advance(1500)
    assert life.rotating.told == []


async def test_a_login_that_brings_a_pair_takes_its_place(life):
    await renewed_but_not_committed(life)
    issued = json.dumps(life.rotating.issue()).encode()
    shown = await life.keeper.execute(Login(RawAnswer(issued, "", life.clock.wall(), "authorization_code")))
    assert (life.keeper.current().token, shown.saved) == ("access-3", True)
    await life.crash()
    life.store.failing = set()
    await life.start()
    assert (life.keeper.current().token, life.keeper.snapshot().chain) == ("access-3", "healthy")


async def test_a_logout_that_could_not_erase_forgets_no_write(life):
    """The newest pair waits to be written; it does so too when it could not be erased."""
    await life.started_with_pair()
    life.store.failing = {"keep_answer", "commit"}
    await life.clock.advance(1441)
    life.store.failing |= {"erase", "save_record"}
    with pytest.raises(PairStoreFailure):
        await life.keeper.execute(Logout())
    life.store.failing = set()
    await life.clock.advance(6)
    assert life.keeper.snapshot().saved
    assert life.store.generations[2].access_token == "access-2"
    await life.crash()
    await life.start()
    assert (life.keeper.current().token, life.keeper.snapshot().chain) == ("access-2", "healthy")


async def test_a_login_that_is_told_twice_changes_nothing_the_second_time(life):
    """Whoever took it first was gone before it could say so, and its successor has renewed the pair since."""
    keeper = await life.start()
    answer = RawAnswer(json.dumps(life.rotating.issue()).encode(), "", life.clock.wall(), "authorization_code")
    await keeper.execute(Login(answer))
    await asyncio.gather(keeper.execute(Refresh()), life.clock.advance(2))
    shown = await keeper.execute(Login(answer))
    assert (shown.chain, shown.generation, keeper.current().token) == ("healthy", 2, "access-2")


async def test_an_import_that_comes_to_nothing_leaves_an_earlier_one_waiting(life):
    life.having(lost_answer_replay=600.0)
    await life.started_with_pair()
    life.rotating.faults = ["lost"]
    order = asyncio.create_task(life.keeper.execute(Import(life.document())))
    await life.clock.advance(2)
    with pytest.raises(CommandFailure, match="both pairs are kept"):
        await order
    waiting = life.store.record.candidate
    for fault in ("unsent", 503, lambda: (400, b'{"error": "invalid_grant"}')):
        life.rotating.faults = [fault]
        order = asyncio.create_task(life.keeper.execute(Import(life.document())))
        await life.clock.advance(1.1)
        with pytest.raises(CommandFailure):
            await order
        assert life.store.record.candidate.pair == waiting.pair
        assert waiting.intent.token not in life.store.record.spent
    life.rotating.replays = 1
    await life.clock.advance(60)
    assert life.store.record.candidate is None
    assert life.rotating.presented["def-refresh-2"] == 2
    assert life.keeper.current().token != "access-1"


async def test_a_login_that_is_told_twice_leaves_nothing_to_be_found_at_the_next_start(life):
    keeper = await life.start()
    answer = RawAnswer(json.dumps(life.rotating.issue()).encode(), "", life.clock.wall(), "authorization_code")
    await keeper.execute(Login(answer))
    await asyncio.gather(keeper.execute(Refresh()), life.clock.advance(2))
    await keeper.execute(Login(answer))
    await life.crash()
    await life.start()
    assert (life.keeper.current().token, life.keeper.snapshot().chain) == ("access-2", "healthy")
