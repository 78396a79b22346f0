"""The origin's limits that reach beyond one process and one run: `upstream.daily_budget`, and `upstream.max_concurrency` of all instances of one store.

What they need is imported only where they are set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from passoproxy.core.origin import BudgetSpent
from passoproxy.proxy.places import Grants, PlacePool, PlaceShare

if TYPE_CHECKING:
    from passoproxy.compose.instance import Wired
    from passoproxy.stores.limits import RedisLedger, RedisPlaces
    from passoproxy.upkeep.budget import DailyBudget


LOOK_SECONDS = 5.0
"""Between two looks at the clock and the count: background work goes on so soon after it may."""


class OriginLimits:
    """Those of one daemon: `begin` before the first request, `run` as a task, `follow` after a reload, `close` at the end."""

    def __init__(self, wired: Wired) -> None:
        self._wired, self._changed = wired, asyncio.Event()
        self.budget: DailyBudget | None = None
        self._ledger: RedisLedger | None = None
        self.places: RedisPlaces | None = None
        self._own: PlaceShare | None = None
        self.follow()

    def follow(self) -> None:
        """Takes over the configuration of the moment."""
        upstream = self._wired.loaded.settings.upstream
        limit = upstream.daily_budget
        if self.places is not None:
            self.places.places.patience = upstream.queue_timeout
            self.set_most(upstream.max_concurrency)
        if self._own is not None:
            self._own.follow(upstream.max_concurrency)
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
        file = FileLedger(wired.state_folder, wired.observer)
        if wired.loaded.settings.store.url and self._ledger is None:
            from passoproxy.compose.fleet import of_origin
            from passoproxy.stores.limits import RedisLedger

            self._ledger = RedisLedger(*of_origin(wired.loaded, "limits"))
        return DailyBudget(limit, file, self._ledger, tell=self._tell, clock=wired.clock, observer=wired.observer)

    def _tell(self, told: BudgetSpent) -> None:
        limiter = self._wired.pipeline.limiter
        limiter.hear(told)
        limiter.tell(told)  # the workers

    # ---- places --------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Where a store is shared, places come from it alone from now on. The parent of workers has a pool of its own, see `share_out`."""
        wired = self._wired
        if not (wired.loaded.settings.store.url and wired.part.serves):
            return
        limiter, pool = wired.pipeline.limiter, PlacePool(0, 1)

        def spread(grants: Grants) -> None:
            for count in grants.values():
                share.granted(count)

        def tell(word: str, count: int) -> None:
            spread(pool.wants("own", count) if word == "wants" else pool.holds("own", count))
            self.look()

        def renewed(until: float) -> None:
            limiter.set_limits(lent_until=until)

        self._own = share = PlaceShare(limiter, wired.loaded.settings.upstream.max_concurrency, tell, closely=True)
        pool.join("own", seldom=True)
        self.share_out(pool, spread, renewed)

    def share_out(self, pool: PlacePool, spread: Callable[[Grants], None], renewed: Callable[[float], None]) -> None:
        """Has `pool` lend what the store gives; `spread` carries out its grants, `renewed` hears until when they may be used."""
        from passoproxy.compose.fleet import of_origin
        from passoproxy.proxy.fleet_places import FleetPlaces
        from passoproxy.stores.limits import RedisPlaces

        wired, upstream = self._wired, self._wired.loaded.settings.upstream
        machine = FleetPlaces(
            pool, spread, upstream.max_concurrency, upstream.queue_timeout, wired.observer, renewed=renewed
        )
        self.places = RedisPlaces(*of_origin(wired.loaded, "limits"), machine, wired.clock, wired.observer)

    def look(self) -> None:
        """Something has changed in the pool."""
        if self.places is not None:
            self.places.look()

    def set_most(self, most: int) -> bool:
        """Another number of places of all instances; whether they come from a store at all."""
        if self.places is None:
            return False
        self.places.places.limit = most
        self.places.look()
        return True

    # ---- what is shown -------------------------------------------------------------------------------------------------

    def sent(self, count: int = 1) -> None:
        """So many requests went to the origin."""
        if self.budget is not None:
            self.budget.sent(count)

    def shown(self) -> Mapping[str, object]:
        """What `/api/status` shows of them."""
        shown = {"daily_budget": None if self.budget is None else self.budget.shown()}
        return shown if self.places is None else {**shown, "places": self.places.places.shown()}

    def used(self) -> tuple[int | None, int | None]:
        """What is used of the daily budget, and that; None without one."""
        return (None, None) if self.budget is None else (self.budget.used, self.budget.limit)

    def held(self) -> tuple[int | None, int | None]:
        """The places that this instance holds of the store's, and the number of instances; None without a store."""
        return (None, None) if self.places is None else (self.places.places.held, self.places.places.instances)

    # ---- their tasks ---------------------------------------------------------------------------------------------------

    async def run_budget(self) -> None:
        """Until cancelled."""
        while True:
            if self.budget is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            await self.budget.turn()
            await self._wired.clock.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        """Keeps what was counted, and gives places back."""
        if self.budget is not None:
            await self.budget.settle(at_once=True)
        for each in (self._ledger, self.places):
            if each is not None:
                await each.aclose()
