"""`Passoproxy-Runway`: what the pair lets answers tell, and when (contract §6)."""

from __future__ import annotations

import math

from passoproxy.tokens.commands import Import
from tests.fakes import Bearers
from tests.tokens.life import Life


async def test_it_is_told_from_the_end_of_the_access_token_to_the_next_pair():
    life = Life()
    keeper = await life.start()
    assert (keeper.usable_until, keeper.runway(unless_usable=True)) == (-math.inf, 0)  # never authorised
    await keeper.execute(Import(life.document()))
    until = life.clock.wall() + 3600
    assert (keeper.usable_until, keeper.runway(unless_usable=True), keeper.runway()) == (until, None, 3600)
    stood_on, life.rotating.faults = keeper.serving, [503] * 10_000
    await life.clock.advance(3599.5)
    assert keeper.runway() == 0  # of half a second
    assert (keeper.serving, keeper.runway(unless_usable=True)) == (stood_on, None)
    await life.clock.advance(1)
    assert (keeper.usable_until, keeper.runway(unless_usable=True)) == (-math.inf, 0)
    assert keeper.serving is not stood_on
    await life.stop()


async def test_what_answers_rest_on_changes_when_the_end_comes_nearer_and_with_the_partition() -> None:
    pair = Bearers()
    pair.becomes(until=pair.now + 60, end=pair.now + 600)
    first = pair.serving
    pair.becomes(until=pair.now + 90, end=pair.now + 600)
    assert pair.serving is first
    pair.becomes(until=pair.now + 30, end=pair.now + 600)
    second = pair.serving
    assert second is not first
    pair.logs_in("another")
    assert pair.serving is not second
