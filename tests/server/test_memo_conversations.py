"""The memo changes nothing but the speed: two sides, one without it, have the same random conversations, and nothing tells them apart."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.conversations import Op, Side, make_script


async def play(script: list[Op]) -> int:
    """Plays a script on both sides; how many answers the memo gave."""
    sides = Side(memo=True), Side(memo=False)
    for at, op in enumerate(script):
        for side in sides:
            await side.play(op)
        with_memo, without = (side.got() for side in sides)
        assert with_memo == without, (at, op, script)
    for side in sides:
        await side.leave()
    heard, expected = (side.heard() for side in sides)
    assert heard == expected, script
    return sides[0].hits


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_it_answers_as_the_whole_road_does(seed: int) -> None:
    asyncio.run(play(make_script(Random(seed))))


PARTS, EACH = 4, 5000


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_it_answers_as_the_whole_road_does_in_many_conversations(part: int) -> None:
    async def all_of_them() -> int:
        hits = 0
        for seed in range(part * EACH, (part + 1) * EACH):
            try:
                hits += await play(make_script(Random(seed)))
            except AssertionError as difference:
                raise AssertionError(f"conversation {seed}") from difference
        return hits

    assert asyncio.run(all_of_them()) > 2 * EACH
