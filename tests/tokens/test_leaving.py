"""Leaving with a full tank (`oauth.refresh_on_exit`), and what is never risked for it."""

from __future__ import annotations

import asyncio

import pytest

from passoproxy.core.oauth.settings import Terms
from passoproxy.errors import PersonNeeded, ServiceUnreachable, TokenUnavailable
from passoproxy.ports import TokenReply, TokenRequest
from passoproxy.tokens.commands import Export, Import, Leave, Refill, Refresh
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
    assert await keeper.execute(Refill(20.0)) is False
    await life.clock.advance(2)
    assert await keeper.execute(Refill(20.0)) is True
    assert keeper.current().token == "access-2"
    await life.stop()
    assert life.store.generations[2].access_token == "access-2"
    keeper = await life.start()
    assert keeper.snapshot().runway_seconds == pytest.approx(3600, abs=5)


async def test_without_time_nothing_is_begun(life):
    keeper = await life.started_with_pair()
    await life.clock.advance(1000)
    assert await keeper.execute(Refill(2.9)) is False
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
    assert await keeper.execute(Refill(7.0)) is True
    assert timeouts == [7.0]


async def test_a_full_disk_is_no_time_to_spend_the_pair(life):
    """In the last tenth a refresh is made even where it cannot be recorded, but not by a process that is about to end."""
    keeper = await life.started_with_pair()
    life.rotating.faults = ["unsent"] * 100
    await life.clock.advance(3500)
    life.rotating.faults = []
    life.store.failing = {"reserve"}
    sent = len(life.rotating.bodies)
    filling = asyncio.create_task(keeper.execute(Refill(20.0)))
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
            await keeper.execute(Import(life.document()))
            life.rotating.faults = ["lost"] if how == "unknown" else [lambda: (400, b'{"error": "invalid_grant"}')]
            await life.clock.advance(1442)
            assert keeper.snapshot().chain == how
        case "away":
            await keeper.execute(Import(life.document()))
            await keeper.execute(Export())
        case "bare":
            await keeper.execute(Import(life.document(refresh_token=None)))
    if how not in ("dead", "unknown"):
        await life.clock.advance(1000)
    sent = len(life.rotating.bodies)
    assert await keeper.execute(Refill(20.0)) is False
    assert len(life.rotating.bodies) == sent


async def test_a_pair_that_waits_to_be_saved_is_not_spent(life):
    keeper = await life.started_with_pair()
    life.store.failing = {"keep_answer", "commit"}
    await life.clock.advance(1442)
    assert keeper.snapshot().saved is False
    await life.clock.advance(1000)
    sent = len(life.rotating.bodies)
    assert await keeper.execute(Refill(20.0)) is False
    assert len(life.rotating.bodies) == sent


async def test_who_has_left_refuses(life):
    keeper = await life.started_with_pair()
    await life.stop()
    with pytest.raises(TokenUnavailable):
        await keeper.execute(Refill(20.0))


# ---- a refresh that is under way -------------------------------------------------------------------------------------


class Hanging:
    """A provider that does not answer. `stands`: the connection comes about, and the request is sent."""

    def __init__(self, life: Life, stands: bool) -> None:
        self.life, self.stands, self.asked, self.sent = life, stands, 0, 0

    async def post(self, request: TokenRequest, timeout: float) -> TokenReply:
        self.asked += 1
        if self.stands:
            assert await request.about_to_send()
            self.sent += 1
        await asyncio.Event().wait()
        raise AssertionError


async def hanging(life: Life, stands: bool) -> Hanging:
    """A keeper in the midst of a refresh."""
    await life.started_with_pair()
    provider = Hanging(life, stands)
    life.rotating.post = provider.post  # type: ignore[method-assign]
    await life.clock.advance(1441)
    assert provider.asked == 1
    return provider


async def test_a_refresh_that_was_not_sent_is_dropped_at_once(life):
    provider = await hanging(life, stands=False)
    leaving = asyncio.create_task(life.keeper.execute(Leave(20)))
    await life.clock.advance(0)
    await leaving
    assert await life.keeper.execute(Refill(20)) is False  # the provider could not be reached just now
    await life.clock.advance(15)
    assert provider.asked == 1  # and none is begun by the timer
    await life.stop()
    del life.rotating.post
    keeper = await life.start()
    assert keeper.snapshot().chain == "healthy"
    assert life.store.record.intent is None


async def test_a_refresh_that_was_sent_has_the_time_that_is_left_and_then_its_fate_is_unknown(life):
    life.having(lost_answer_replay="never")
    provider = await hanging(life, stands=True)
    leaving = asyncio.create_task(life.keeper.execute(Leave(20)))
    late = asyncio.create_task(life.keeper.execute(Refresh()))
    await life.clock.advance(19)
    assert not leaving.done()
    await life.clock.advance(1)
    await leaving
    with pytest.raises(PersonNeeded):  # nothing more is presented
        await late
    await life.stop()
    assert provider.sent == 1
    del life.rotating.post
    keeper = await life.start()
    assert (keeper.snapshot().chain, keeper.current().token) == ("unknown", "access-1")
    assert life.store.record.intent.presented == 1


async def test_an_answer_that_comes_within_the_time_is_kept(life):
    await life.started_with_pair()
    answer, real = asyncio.Event(), life.rotating.post

    async def slowly(request, timeout) -> TokenReply:
        reply = await real(request, timeout)
        await answer.wait()
        return reply

    life.rotating.post = slowly
    await life.clock.advance(1441)
    leaving = asyncio.create_task(life.keeper.execute(Leave(20)))
    await life.clock.advance(15)
    answer.set()
    await leaving
    await life.stop()
    assert life.store.generations[2].access_token == "access-2"


async def test_with_little_time_left_nothing_is_presented_by_order(life):
    keeper = await life.started_with_pair()
    await keeper.execute(Leave(2.9))
    with pytest.raises(ServiceUnreachable, match="shutting down"):
        await keeper.execute(Refresh())
    assert life.rotating.bodies == []


async def test_client_credentials_are_dropped_for_nothing_is_spent_by_them():
    life = Life(terms=Terms(grant="client_credentials"))
    await life.start()
    await life.clock.advance(1)
    provider = Hanging(life, stands=True)
    life.rotating.post = provider.post  # type: ignore[method-assign]
    await life.clock.advance(1441)
    assert provider.sent == 1
    await life.keeper.execute(Leave(20))
    await life.stop()
