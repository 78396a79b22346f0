"""How many requests went to the origin in the last 24 hours, in steps of ten minutes (`upstream.daily_budget`).

A machine without a clock, by wall time, since it goes on over restarts and machines. A clock that is set back leaves counts in the future: they
count as of now, so that they hold for 24 hours at most. A clock that is set forth ends counts early, once.
"""

from __future__ import annotations

from collections.abc import Mapping

SLOT_SECONDS = 600.0
SLOTS = 144
"""A request counts from the beginning of its ten minutes for so many of them: for 23 h 50 to 24 h."""

FILE_WARNING = "daily_budget_file"
"""The code of the warning that the count is not kept, or was lost."""

Ages = dict[int, int]
"""Requests by age, in slots: 0 is the present one. So places with clocks of their own can tell one another."""


class RequestCount:
    """The count. `now` is epoch seconds."""

    def __init__(self) -> None:
        self._slots: dict[int, int] = {}
        self._at = 0
        self._total = 0

    def add(self, count: int, now: float) -> None:
        """So many more were sent."""
        self._look(now)
        self._slots[self._at] = self._slots.get(self._at, 0) + count
        self._total += count

    def total(self, now: float) -> int:
        """Requests of the last 24 hours."""
        self._look(now)
        return self._total

    def free_at(self, limit: int, now: float) -> float | None:
        """When fewer than `limit` will have been sent in 24 hours, if no more are (epoch seconds); None if that is so now."""
        left, last = self.total(now), self._at
        if left < limit:
            return None
        for last in sorted(self._slots):
            left -= self._slots[last]
            if left < limit:
                break
        return (last + SLOTS) * SLOT_SECONDS

    def ages(self, now: float) -> Ages:
        """The count for another place."""
        self._look(now)
        return {self._at - slot: count for slot, count in self._slots.items()}

    def replace(self, ages: Mapping[int, int], now: float) -> None:
        """The count is another place's from now on."""
        at = int(now // SLOT_SECONDS)
        self._slots = {at - age: count for age, count in ages.items()}
        self._at = at - 1  # so that it is looked at
        self._look(now)

    def _look(self, now: float) -> None:
        if (at := int(now // SLOT_SECONDS)) == self._at:
            return
        slots: dict[int, int] = {}
        for slot, count in self._slots.items():
            if (slot := min(slot, at)) > at - SLOTS and count > 0:
                slots[slot] = slots.get(slot, 0) + count
        self._slots, self._at, self._total = slots, at, sum(slots.values())
