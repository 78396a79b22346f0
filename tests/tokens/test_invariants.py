"""Whatever happens, in whatever order: provider, disk, clock and crashes against the keeper's invariants.

1. No refresh token is presented after an answer told its fate.
2. A token whose answer was lost is presented again at most once (`lost_answer_replay: once`), restarts included.
3. Never more than one attempt a second.
4. The runway is never negative; a valid access token is never taken away by a failed refresh.
5. Where the provider still takes our refresh token, the pair is healthy again within what a twelfth of its life allows (five minutes).
"""

from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passoproxy.tokens.commands import Refresh
from tests.tokens.life import Life

ACTIONS = st.one_of(
    st.tuples(st.just("advance"), st.sampled_from([0.5, 3.0, 30.0, 300.0, 1440.0, 2000.0])),
    st.tuples(st.just("fault"), st.sampled_from([503, 429, 404, 302, "unsent", "lost", "invalid_client"])),
    st.tuples(st.just("disk"), st.sampled_from(["commit", "keep_answer", "save_record", "reserve", "heals"])),
    st.tuples(st.just("step"), st.sampled_from([-86400.0, -600.0, 2.0, 600.0, 86400.0])),
    st.tuples(st.just("refused"), st.none()),
    st.tuples(st.just("refresh"), st.none()),
    st.tuples(st.just("restart"), st.booleans()),
)

INVALID_CLIENT = (401, b'{"error": "invalid_client"}')


class Played:
    """One life under a list of actions."""

    def __init__(self) -> None:
        self.life = Life()
        self.life.rotating.replays = 10**6
        self.memory_only_loss = False

    async def play(self, actions: list[tuple[str, object]]) -> None:
        life = self.life
        await life.started_with_pair()
        for name, value in actions:
            before = life.keeper.current()
            await getattr(self, name)(value)
            self.check(name, before)
            if self.memory_only_loss:
                return
        life.store.failing.clear()
        life.rotating.faults.clear()
        await life.clock.advance(310)
        self.check("end", None)
        shown = life.keeper.snapshot()
        assert shown.chain == "healthy" or (life.rotating.most_losses() == 2 and shown.chain in {"unknown", "dead"})
        await life.stop()

    async def advance(self, seconds: float) -> None:
        await self.life.clock.advance(seconds)

    async def fault(self, kind: object) -> None:
        self.life.rotating.faults.append((lambda: INVALID_CLIENT) if kind == "invalid_client" else kind)

    async def disk(self, what: str) -> None:
        self.life.store.failing = set() if what == "heals" else self.life.store.failing | {what}

    async def step(self, seconds: float) -> None:
        self.life.clock.step(seconds)
        await self.life.clock.advance(1)

    async def refused(self, _: None) -> None:
        if bearer := self.life.keeper.current():
            await self._asked(self.life.keeper.renewed(bearer))

    async def refresh(self, _: None) -> None:
        await self._asked(self.life.keeper.execute(Refresh()))

    async def _asked(self, order) -> None:
        task = asyncio.ensure_future(order)
        await self.life.clock.advance(2)
        await asyncio.gather(task, return_exceptions=True)

    async def restart(self, crash: bool) -> None:
        life = self.life
        if crash:
            self.memory_only_loss = not life.keeper.snapshot().saved or life.keeper.state.saving.unsaved
            await life.crash()
        else:
            await life.stop()
            self.memory_only_loss = life.keeper.state.saving.unsaved
        life.store.owned = False
        failing, life.store.failing = life.store.failing, set()
        await life.start()
        life.store.failing = failing

    def check(self, name: str, before) -> None:
        life = self.life
        if self.memory_only_loss:
            return
        assert life.rotating.told == []
        assert life.rotating.most_losses() <= 2
        assert all(after - earlier > 1 - 1e-5 for earlier, after in pairwise(life.rotating.times))
        shown = life.keeper.snapshot()
        assert shown.runway_seconds is None or shown.runway_seconds >= 0
        if name in {"fault", "disk", "refused", "refresh"} and before and before.until > life.clock.wall() + 10:
            assert life.keeper.current() is not None


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ACTIONS, min_size=3, max_size=25))
async def test_the_pair_survives_whatever_happens(actions):
    played = Played()
    try:
        await played.play(actions)
    finally:
        await played.life.crash()
