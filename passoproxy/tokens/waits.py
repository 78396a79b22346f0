"""Waits that clean up after themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any


async def first_of(*ways: Awaitable[object]) -> None:
    """Waits until one of `ways` has ended, and ends the others."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await ended(*tasks)


async def ended(*tasks: asyncio.Future[Any]) -> None:
    """Cancels `tasks` and waits for their end, also if the waiting task is cancelled meanwhile: a task that is cancelled twice cannot put away
    what it has open."""
    for task in tasks:
        task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as again:
            cancelled = again
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, so that the loop does not complain
    if cancelled is not None:
        raise cancelled
