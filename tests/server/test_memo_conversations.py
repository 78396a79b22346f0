"""The memo changes nothing but the speed: two sides, one without it, have the same random conversations, and nothing tells them apart.

With little memory, or none, answers are kept beside their entries on disk.
"""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.conversations import Side, make_script

MEMORY = (72_000, 0, 72_000, 20_000)


async def play(seed: int) -> int:
    """Plays a script on both sides; how many answers the memo gave."""
    script, memory = make_script(Random(seed)), MEMORY[seed % len(MEMORY)]
    sides = Side(memo=True, memory_bytes=memory), Side(memo=False, memory_bytes=memory)
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
    asyncio.run(play(seed))


PARTS, EACH = 4, 5000


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_it_answers_as_the_whole_road_does_in_many_conversations(part: int) -> None:
    async def all_of_them() -> int:
        hits = 0
        for seed in range(part * EACH, (part + 1) * EACH):
            try:
                hits += await play(seed)
            except AssertionError as difference:
                raise AssertionError(f"conversation {seed}") from difference
        return hits

    assert asyncio.run(all_of_them()) > 2 * EACH
