"""The origin's limits that reach beyond one process and one run: `upstream.daily_budget`. What they need is imported only where they are set."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from passoproxy.core.origin import BudgetSpent

if TYPE_CHECKING:
    from passoproxy.compose.instance import Wired
    from passoproxy.upkeep.budget import DailyBudget


LOOK_SECONDS = 5.0
"""Between two looks at the clock and the count: background work goes on so soon after it may."""


class OriginLimits:
    """Those of one daemon: `run` as a task, `follow` after a reload, `close` at the end."""

    def __init__(self, wired: Wired) -> None:
        self._wired, self._changed = wired, asyncio.Event()
        self.budget: DailyBudget | None = None
        self.follow()

    def follow(self) -> None:
        """Takes over the configuration of the moment."""
        limit = self._wired.loaded.settings.upstream.daily_budget
        if self.budget is not None and limit is None:
            self.budget.stop()
            self.budget = None
        elif self.budget is not None and limit is not None:
            self.budget.limit = limit
            self.budget.look()
        elif limit is not None:
            self.budget = self._made(limit)
        self._changed.set()

    def _made(self, limit: int) -> DailyBudget:
        from passoproxy.stores.budget import FileLedger
        from passoproxy.upkeep.budget import DailyBudget

        wired = self._wired
        file = FileLedger(wired.state_folder, wired.clock.wall, wired.observer)
        return DailyBudget(limit, file, None, tell=self._tell, clock=wired.clock, observer=wired.observer)

    def _tell(self, told: BudgetSpent) -> None:
        limiter = self._wired.pipeline.limiter
        limiter.hear(told)
        limiter.tell(told)  # the workers

    def sent(self, count: int = 1) -> None:
        """So many requests went to the origin."""
        if self.budget is not None:
            self.budget.sent(count)

    def shown(self) -> Mapping[str, object]:
        """What `/api/status` shows of them."""
        return {"daily_budget": None if self.budget is None else self.budget.shown()}

    def used(self) -> tuple[int | None, int | None]:
        """What is used of the daily budget, and that; None without one."""
        return (None, None) if self.budget is None else (self.budget.used, self.budget.limit)

    async def run(self) -> None:
        while True:
            if self.budget is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            await self.budget.turn()
            await self._wired.clock.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        """Keeps what was counted."""
        if self.budget is not None:
            await self.budget.settle(at_once=True)
