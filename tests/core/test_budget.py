"""The count behind `upstream.daily_budget`: 24 hours in steps of ten minutes, whatever the clock does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.budget import SLOT_SECONDS, SLOTS, RequestCount

DAY = 86_400.0
NOON = 19_000 * DAY + 12 * 3600.0


def counted(*sent: tuple[float, int]) -> RequestCount:
    count = RequestCount()
    for at, number in sent:
        count.add(number, at)
    return count


@pytest.mark.parametrize(
    ("sent", "now", "total"),
    [
        ((), NOON, 0),
        (((NOON, 1), (NOON + 1, 2)), NOON + 2, 3),
        (((NOON, 1),), NOON + DAY - 1, 1),
        (((NOON, 1),), NOON + DAY, 0),
        (((NOON + 599, 1),), NOON + DAY, 0),  # it counts from the beginning of its ten minutes
        (((NOON, 1), (NOON + DAY / 2, 2)), NOON + DAY, 2),
        (((NOON, 3),), NOON - 40 * DAY, 3),  # the clock was set back
        (((NOON, 3), (NOON - DAY, 1)), NOON - DAY + 1, 4),
        (((NOON, 3), (NOON - DAY, 1)), NOON, 0),  # and what was in the future counts for a day from then on
        (((NOON, 3), (NOON + 40 * DAY, 1)), NOON + 40 * DAY, 1),
    ],
)
def test_total(sent: tuple[tuple[float, int], ...], now: float, total: int) -> None:
    assert counted(*sent).total(now) == total


@pytest.mark.parametrize(
    ("sent", "limit", "free_at"),
    [
        (((NOON, 4),), 5, None),
        (((NOON, 5),), 5, NOON + DAY),
        (((NOON, 1), (NOON + 1200, 5)), 6, NOON + DAY),
        (((NOON, 1), (NOON + 1200, 5)), 5, NOON + 1200 + DAY),
        ((), 0, NOON + DAY),
    ],
)
def test_free_at(sent: tuple[tuple[float, int], ...], limit: int, free_at: float | None) -> None:
    assert counted(*sent).free_at(limit, sent[-1][0] if sent else NOON) == free_at


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 9)), max_size=30), st.integers(0, 40))
def test_another_place_counts_the_same(sent: list[tuple[int, int]], limit: int) -> None:
    """Whose clock may stand elsewhere."""
    here, there, now, away = RequestCount(), RequestCount(), NOON, 3 * DAY
    for steps, number in sent:
        now += steps * SLOT_SECONDS
        here.add(number, now)
    there.replace(here.ages(now), now + away)
    assert there.ages(now + away) == here.ages(now)
    free = here.free_at(limit, now)
    assert there.free_at(limit, now + away) == (None if free is None else free + away)


MOVES = st.lists(st.one_of(st.floats(0, 7200), st.floats(-30 * DAY, 30 * DAY)), max_size=40)


@given(MOVES, st.integers(1, 5))
def test_a_clock_that_steps_blocks_for_a_day_and_gives_one_budget_at_most(moves: list[float], limit: int) -> None:
    count, now, spent, forward_steps = RequestCount(), NOON, 0, 0
    lived = 0.0
    for move in moves:
        is_step = not 0 <= move <= 7200
        now += move
        lived += 0.0 if is_step else move
        forward_steps += is_step and move > 0
        if count.free_at(limit, now) is None:  # background work goes on
            count.add(1, now)
            spent += 1
    # One budget, one more for each step forth and each day that was lived (and one for the day that was begun).
    assert spent <= limit * (1 + forward_steps + 1 + int(lived // (DAY - SLOT_SECONDS)))
    assert (free := count.free_at(limit, now)) is None or free <= now + DAY
    assert count.total(now + DAY) == 0


def test_a_day_of_slots() -> None:
    assert SLOTS * SLOT_SECONDS == DAY
