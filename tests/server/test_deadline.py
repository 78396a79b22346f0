"""One deadline of one connection: what it calls, when, and that it holds nobody once it is closed."""

from __future__ import annotations

import asyncio
import gc
import weakref

from passoproxy.server.connection import Deadline


class Owner:
    """Has a deadline, which calls it."""

    def __init__(self) -> None:
        self.expired = asyncio.Event()
        self.deadline = Deadline(asyncio.get_running_loop(), self._expired)

    def _expired(self) -> None:
        self.expired.set()


async def test_it_expires_once_the_time_last_set_is_up() -> None:
    owner = Owner()
    owner.deadline.set(60.0)
    owner.deadline.set(0.0)
    await asyncio.wait_for(owner.expired.wait(), 10)


async def test_lifted_or_closed_it_does_not_expire() -> None:
    lifted, closed = Owner(), Owner()
    for each in (lifted, closed):
        each.deadline.set(0.0)
    lifted.deadline.lift()
    closed.deadline.close()
    closed.deadline.set(0.0)
    await asyncio.sleep(0.01)
    assert not lifted.expired.is_set()
    assert not closed.expired.is_set()


async def test_once_closed_it_holds_its_owner_no_longer() -> None:
    """So that a connection that has ended needs no collection to go (decision 14)."""
    owner = Owner()
    owner.deadline.set(60.0)
    owner.deadline.close()
    gone = weakref.ref(owner)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        del owner
        assert gone() is None
    finally:
        if was_enabled:
            gc.enable()
