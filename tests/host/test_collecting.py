"""Garbage by our own timetable: what is new is looked at soon, everything once an hour, and nothing that is garbage stays."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from passoproxy.host.gc import LOOK_EVERY, MUCH, WHOLE_EVERY, Collecting, collected
from tests.fakes import FakeClock, settle


class Ring:
    """Refers to itself: only a collection finds that it is garbage."""

    def __init__(self) -> None:
        self.itself: Ring | None = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    threshold = gc.get_threshold()
    gc.collect()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


async def test_little_is_left_to_the_interpreter() -> None:
    before = gc.get_threshold()
    async with collected(FakeClock(), lambda: True):
        assert gc.get_threshold()[:2] == before[:2]
        assert gc.get_threshold()[2] > 100_000
        assert gc.get_freeze_count() > 1000  # what lives from the start is not looked at again
        short = weakref.ref(Ring())
        gc.collect(0)
        assert short() is None
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
    assert not any(getattr(each, "__self__", None).__class__ is Collecting for each in gc.callbacks)


async def test_what_is_new_is_looked_at_soon_and_then_set_aside() -> None:
    async with collected(FakeClock(), lambda: True):
        kept = [Ring() for _ in range(500)]
        set_aside = gc.get_freeze_count()
        old = weakref.ref(made := Ring())
        gc.collect(1)
        del made  # it has grown old before it became garbage
        await settle()
        assert old() is not None
        for _ in range(MUCH - 1):
            gc.collect(1)
        await settle()
        assert old() is None
        assert gc.get_freeze_count() >= set_aside + len(kept)
        before = gc.get_freeze_count()
        gc.collect(1)  # counted anew
        await settle()
        assert gc.get_freeze_count() <= before


async def test_cycles_of_every_age_are_collected_while_much_comes_and_goes() -> None:
    """As connections do: some live for a moment, some for long, and each is a cycle."""
    clock = FakeClock()
    async with collected(clock, lambda: True):
        living: list[Ring] = []
        seen: weakref.WeakSet[Ring] = weakref.WeakSet()
        for number in range(60_000):
            seen.add(made := Ring())
            living.append(made)
            if number % 3 or len(living) > 300:
                living.pop(0)
            if number % 500 == 0:
                await settle(2)
        del made
        assert len(seen) < 30_000  # most went on the way
        living.clear()
        await clock.advance(WHOLE_EVERY + LOOK_EVERY)
        await settle()
        assert len(seen) == 0


@pytest.mark.parametrize(("quiet", "after"), [(True, WHOLE_EVERY), (False, 2 * WHOLE_EVERY)])
async def test_everything_is_looked_at_when_it_is_quiet_and_in_any_case_after_a_while(
    quiet: bool, after: float
) -> None:
    clock = FakeClock()
    collecting = Collecting(clock, lambda: quiet)
    old = weakref.ref(made := Ring())
    gc.freeze()
    del made  # garbage that was set aside while it lived
    await clock.advance(after - 1)
    collecting.look()
    assert old() is not None
    await clock.advance(2)
    collecting.look()
    assert old() is None
    assert gc.get_freeze_count() > 1000
    frozen = gc.get_freeze_count()
    collecting.look()
    assert gc.get_freeze_count() == frozen


def test_what_nothing_refers_to_goes_at_once_though_it_was_set_aside() -> None:
    made = Ring()
    plain = weakref.ref(made)
    made.itself = None
    gc.freeze()
    del made
    assert plain() is None


def test_a_loop_that_is_gone_is_no_fault() -> None:
    made: list[Collecting] = []

    async def make() -> None:
        made.append(Collecting(FakeClock(), lambda: True))

    asyncio.run(make())
    for _ in range(2 * MUCH):
        made[0].heed("start", {"generation": 1})
        made[0].heed("stop", {"generation": 0})
        made[0].heed("stop", {"generation": 1})
    assert gc.get_freeze_count() == 0
