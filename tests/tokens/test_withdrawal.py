"""When both tokens are refused before their time the owner has withdrawn the grant, and whoever keeps answers is told first."""

from __future__ import annotations

import asyncio

import pytest

from passoproxy.core.events import ChainChanged, Warned
from passoproxy.core.oauth.pair import Bearer
from passoproxy.errors import AuthorizationRequired
from passoproxy.tokens.commands import Export, Import, Logout, Refresh
from tests.tokens.life import Life

REFUSED = lambda: (400, b'{"error": "invalid_grant"}')  # noqa: E731


@pytest.fixture
async def life():
    life = Life()
    yield life
    if life.task is not None and not life.task.done():
        await life.stop()


async def refused(keeper):
    with pytest.raises(AuthorizationRequired):
        await keeper.renewed(keeper.current())


async def test_once_for_a_pair_before_anybody_is_refused(life):
    keeper = await life.started_with_pair()
    partition = keeper.partition
    life.rotating.faults = [REFUSED]
    await asyncio.gather(*[refused(keeper) for _ in range(5)])
    assert life.withdrawals == [partition]
    assert [each.code for each in life.observer.of(Warned)] == ["grant_withdrawn"]
    await keeper.execute(Import(life.document()))
    assert [(each.code, each.over) for each in life.observer.of(Warned)][1:] == [("grant_withdrawn", True)]
    life.rotating.faults = [REFUSED]
    await life.clock.advance(400)
    await refused(keeper)
    assert len(life.withdrawals) == 2


async def test_a_logout_ends_the_warning(life):
    keeper = await life.started_with_pair()
    life.rotating.faults = [REFUSED]
    await refused(keeper)
    await keeper.execute(Logout())
    assert [(each.code, each.over) for each in life.observer.of(Warned)] == [
        ("grant_withdrawn", False),
        ("grant_withdrawn", True),
    ]


async def test_a_refresh_that_was_refused_before_the_401(life):
    keeper = await life.started_with_pair()
    life.rotating.faults = [REFUSED]
    await life.clock.advance(1450)
    assert (keeper.snapshot().chain, life.withdrawals) == ("dead", [])
    await life.stop()
    keeper = await life.start()
    await refused(keeper)
    assert len(life.withdrawals) == 1


async def test_a_token_that_a_lost_answer_may_have_spent_is_no_withdrawal(life):
    keeper = await life.started_with_pair()
    life.rotating.faults = ["lost"]
    await life.clock.advance(1460)
    assert keeper.snapshot().chain == "dead"
    await refused(keeper)
    assert life.withdrawals == []


async def test_a_pair_that_somebody_else_had_is_no_withdrawal(life):
    keeper = await life.started_with_pair()
    await keeper.execute(Export())
    life.rotating.spend("def-refresh-1")
    forced = asyncio.create_task(keeper.execute(Refresh(force=True)))
    await life.clock.advance(2)
    await asyncio.gather(forced, return_exceptions=True)
    await refused(keeper)
    assert life.withdrawals == []


async def test_an_access_token_whose_time_is_up_is_no_withdrawal(life):
    keeper = await life.started_with_pair()
    life.rotating.faults = [REFUSED]
    await life.clock.advance(3601)
    with pytest.raises(AuthorizationRequired):
        await keeper.renewed(Bearer("access-1", 1))
    assert life.withdrawals == []


async def test_what_the_origin_refuses_is_not_shown_as_valid_and_is_tried_on(life):
    keeper = await life.started_with_pair()
    life.rotating.faults = [REFUSED]
    stood_on = keeper.serving
    assert keeper.runway(unless_usable=True) is None
    await refused(keeper)
    assert (keeper.usable_until, keeper.runway(unless_usable=True)) == (float("-inf"), 0)
    assert keeper.serving is not stood_on
    shown = keeper.snapshot()
    assert (shown.access, shown.chain, shown.served_until, shown.access_until) == (
        "expired",
        "dead",
        None,
        life.clock.wall(),
    )
    assert shown.reason.endswith("; the origin refuses the access token too")
    assert keeper.current() is not None  # one path may be refused alone
    at = life.clock.wall()
    await life.clock.advance(100)
    await refused(keeper)
    life.clock.step(-600)
    await life.clock.advance(20)
    assert keeper.snapshot().access_until == pytest.approx(at - 600)
    await keeper.execute(Import(life.document()))
    assert (keeper.snapshot().access, keeper.snapshot().access_until) == ("valid", life.clock.wall() + 3600)


async def test_a_refusal_after_the_time_was_up_moves_no_moment(life):
    keeper = await life.started_with_pair()
    bearer, until = keeper.current(), keeper.snapshot().access_until
    life.rotating.faults = [REFUSED]
    await life.clock.advance(3601)
    with pytest.raises(AuthorizationRequired):
        await keeper.renewed(bearer)
    assert keeper.snapshot().access_until == until


def died(life) -> list[str]:
    """The chain's states before it died, as they were told."""
    return [each.before for each in life.observer.of(ChainChanged) if each.chain == "dead" and each.before]


async def test_what_the_origin_refused_is_said_once_however_often_it_is_found_out(life):
    keeper = await life.started_with_pair()
    life.rotating.faults = [REFUSED]
    await refused(keeper)
    said = keeper.snapshot().reason
    assert died(life) == ["healthy"]
    for _ in range(2):
        life.clock.step(30)  # the record is saved
        await life.clock.advance(20)
        await life.stop()
        keeper = await life.start()
        shown = keeper.snapshot()
        assert (shown.access, "the origin refuses" in shown.reason) == ("valid", False)
        await refused(keeper)
        assert keeper.snapshot().reason == said
