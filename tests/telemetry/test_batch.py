"""Answered requests are told in batches that stop the loop only for a moment, however long the texts are that clients choose."""

from __future__ import annotations

from passoproxy.core.events import Answered, Repeated, RequestAnswered
from passoproxy.telemetry.batch import MOST, MOST_CHARACTERS, Batch


def event(target: str, method: str = "GET") -> RequestAnswered:
    return RequestAnswered("", method, target, 403, "", "error", "passoproxy; fwd=bypass", 0.001, 0)


async def test_short_ones_are_told_together_and_in_their_order() -> None:
    told: list[list[Answered]] = []
    batch = Batch(told.append, lambda: 1.0)
    common = Repeated(event("/a"))
    for number in range(MOST):
        batch.add((common, float(number), "", 0, 0.0, b""))
    assert [[each[1] for each in all_of_it] for all_of_it in told] == [[float(number) for number in range(MOST)]]


async def test_long_ones_are_told_few_at_once() -> None:
    told: list[list[Answered]] = []
    batch = Batch(told.append, lambda: 1.0)
    long = "x" * (MOST_CHARACTERS // 3)
    for _ in range(6):
        batch.add_event(event("/" + long))
        batch.add_event(event("/", long))
        batch.add_unread((Repeated(event("/" + long)), 1.0, "", 0, 0.0, b""))
    batch.flush()
    assert [len(all_of_it) for all_of_it in told] == [3] * 6
