"""Leaving with a full tank (`oauth.refresh_on_exit`), and what is never risked for it."""

from __future__ import annotations

import asyncio

import pytest

from passoproxy.core.oauth.terms import Terms
from passoproxy.errors import TokenUnavailable
from passoproxy.ports import TokenReply
from tests.tokens.life import Life


@pytest.fixture
async def life():
    life = Life()
    yield life
    if life.task is not None and not life.task.done():
        life.store.failing.clear()
        await life.stop()


async def test_more_than_a_tenth_used_is_renewed(life):
    keeper = await life.started_with_pair()
    await life.clock.advance(359)
    assert await keeper.refill(20.0) is False
    await life.clock.advance(2)
    assert await keeper.refill(20.0) is True
    assert keeper.current().token == "access-2"
    await life.stop()
    assert life.store.generations[2].access_token == "access-2"
    keeper = await life.start()
    assert keeper.snapshot().runway_seconds == pytest.approx(3600, abs=5)


async def test_without_time_nothing_is_begun(life):
    keeper = await life.started_with_pair()
    await life.clock.advance(1000)
    assert await keeper.refill(2.9) is False
    assert life.rotating.bodies == []


async def test_the_request_ends_with_the_time_that_is_left(life):
    keeper = await life.started_with_pair()
    await life.clock.advance(1000)
    timeouts = []
    real = life.rotating.post

    async def post(request, timeout) -> TokenReply:
        timeouts.append(timeout)
        return await real(request, timeout)

    life.rotating.post = post
    assert await keeper.refill(7.0) is True
    assert timeouts == [7.0]


async def test_a_full_disk_is_no_time_to_spend_the_pair(life):
    """In the last tenth a refresh is made even where it cannot be recorded, but not by a process that is about to end."""
    keeper = await life.started_with_pair()
    life.rotating.faults = ["unsent"] * 100
    await life.clock.advance(3500)
    life.rotating.faults = []
    life.store.failing = {"reserve"}
    sent = len(life.rotating.bodies)
    filling = asyncio.create_task(keeper.refill(20.0))
    await life.clock.advance(1)
    assert await filling is False
    assert len(life.rotating.bodies) == sent


@pytest.mark.parametrize("how", ["nothing", "dead", "unknown", "away", "bare", "credentials"])
async def test_nothing_is_presented_that_would_not_be_otherwise(life, how):
    life.terms = Terms(
        grant="client_credentials" if how == "credentials" else "authorization_code", lost_answer_replay="never"
    )
    keeper = await life.start()
    await life.clock.advance(1)
    match how:
        case "dead" | "unknown":
            await keeper.install(life.document())
            life.rotating.faults = ["lost"] if how == "unknown" else [lambda: (400, b'{"error": "invalid_grant"}')]
            await life.clock.advance(1442)
            assert keeper.snapshot().chain == how
        case "away":
            await keeper.install(life.document())
            await keeper.hand_over()
        case "bare":
            await keeper.install(life.document(refresh_token=None))
    if how not in ("dead", "unknown"):
        await life.clock.advance(1000)
    sent = len(life.rotating.bodies)
    assert await keeper.refill(20.0) is False
    assert len(life.rotating.bodies) == sent


async def test_a_pair_that_waits_to_be_saved_is_not_spent(life):
    keeper = await life.started_with_pair()
    life.store.failing = {"keep_answer", "commit"}
    await life.clock.advance(1442)
    assert keeper.snapshot().saved is False
    await life.clock.advance(1000)
    sent = len(life.rotating.bodies)
    assert await keeper.refill(20.0) is False
    assert len(life.rotating.bodies) == sent


async def test_who_has_left_refuses(life):
    keeper = await life.started_with_pair()
    await life.stop()
    with pytest.raises(TokenUnavailable):
        await keeper.refill(20.0)
