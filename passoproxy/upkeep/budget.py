"""`upstream.daily_budget`: after so many requests to the origin in 24 hours background work rests; clients' own requests never do.

The count is exact within a process that serves. What its workers sent is heard twice a second, what other instances sent every SHARED_SECONDS.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from passoproxy.core import units
from passoproxy.core.budget import FILE_WARNING, RequestCount
from passoproxy.core.events import TaskFailed, Warned
from passoproxy.core.origin import BudgetSpent
from passoproxy.errors import PassoproxyError
from passoproxy.ports import Clock, Ledger, Observer

FILE_SECONDS = 60.0
"""Between two writes of the count's file: a crash loses what was sent meanwhile."""

SHARED_SECONDS = 5.0
"""Between two tellings to the store that instances share."""


class _Told:
    """One ledger, and what it has not been told yet. `due_at` is steady seconds."""

    def __init__(self, ledger: Ledger, every: float) -> None:
        self.ledger, self.every = ledger, every
        self.count, self.due_at, self.has_answered = 0, float("-inf"), False


class DailyBudget:
    """Counts what was `sent`, and has `tell` hear when the budget is used up and when it is not any more. `limit` may change at any time.

    `file` keeps the count over restarts. `shared` has that of all instances, and may be None; while it is away the instance's own requests
    and what the others had sent until then are counted.
    """

    def __init__(
        self,
        limit: int,
        file: Ledger,
        shared: Ledger | None,
        *,
        tell: Callable[[BudgetSpent], None],
        clock: Clock,
        observer: Observer,
    ) -> None:
        self.limit, self._tell, self._clock, self._observer = limit, tell, clock, observer
        self._count = RequestCount()
        self._sent = 0
        self._file = _Told(file, FILE_SECONDS)
        self._shared = None if shared is None else _Told(shared, SHARED_SECONDS)
        self._until: float | None = None
        self._fault = ""

    def sent(self, count: int = 1) -> None:
        """So many requests went to the origin."""
        self._count.add(count, self._clock.wall())
        self._sent += count
        (self._shared or self._file).count += count
        if self._until is not None or self.used >= self.limit:
            self.look()

    @property
    def used(self) -> int:
        """Requests that were sent in 24 hours."""
        return self._count.total(self._clock.wall())

    def shown(self) -> Mapping[str, object]:
        """Its state for `/api/status`; `rests_until` is epoch seconds, None while background work goes on."""
        return {"limit": self.limit, "used": self.used, "rests_until": self._until}

    def look(self) -> None:
        """Tells whether background work rests, if that has changed."""
        now = self._clock.wall()
        before, self._until = self._until, self._count.free_at(self.limit, now)
        if self._until is not None:
            if self._until != before:
                self._tell(BudgetSpent(self._until - now))
            if before is None:
                self._observer(Warned("daily_budget", f"{in_words(self.shown())}; clients' own requests go on"))
        elif before is not None:
            self._tell(BudgetSpent(0.0))
            said = "fewer requests than upstream.daily_budget went to the origin in 24 hours; background work goes on"
            self._observer(Warned("daily_budget", said, over=True))

    async def turn(self) -> None:
        """To be awaited every few seconds: keeps the count, and looks at the clock."""
        await self.settle()
        self.look()

    async def settle(self, *, at_once: bool = False) -> None:
        """Tells the ledgers what they do not know yet, where that is due or `at_once` (then those that know all are not asked), and learns what
        they know."""
        for told in filter(None, (self._file, self._shared)):
            steady, now, sent = self._clock.monotonic(), self._clock.wall(), self._sent
            if not told.count if at_once else steady < told.due_at:
                continue
            # Being cancelled, it may have counted, and must not be told again.
            told.due_at, count, told.count = steady + told.every, told.count, 0
            try:
                ages = await told.ledger.add(count, self._count.ages(now), now)
            except PassoproxyError as fault:
                told.count += count
                self._note_file(told, str(fault))
                continue
            except Exception as fault:  # the count must live on
                told.count += count
                self._observer(TaskFailed("daily budget", type(fault).__name__))
                continue
            self._note_file(told, "")
            told.has_answered = True
            if told is self._file and self._shared is not None and self._shared.has_answered:
                continue  # the file keeps the largest that each ten minutes had, and the store's clock has other ten minutes
            self._count.replace(ages, now)
            self._count.add(self._sent - sent, self._clock.wall())  # sent meanwhile

    def stop(self) -> None:
        """There is no budget any more."""
        self.limit = sys.maxsize
        self.look()

    def _note_file(self, told: _Told, fault: str) -> None:
        if told is self._file and fault != self._fault:
            self._fault = fault
            said = (
                f"origin requests are not counted over a restart: {fault}"
                if fault
                else "origin requests are kept again"
            )
            self._observer(Warned(FILE_WARNING, said, over=not fault))


def in_words(shown: Mapping[str, object]) -> str:
    """The state for people."""
    said = f"{shown['used']} of upstream.daily_budget's {shown['limit']} requests went to the origin in 24 hours"
    until = shown["rests_until"]
    if not isinstance(until, float | int):
        return said
    return (
        f"{said}: background work (refresh ahead, revalidation, change probe, warm) rests until {units.moment(until)}"
    )
