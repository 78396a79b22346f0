"""A model of provider, disk, clock and keeper, explored at random: whatever happens in whatever order, the invariants of docs/refresh.md hold.

Each rule is one thing that can happen; the numbers at the checks are those of the document. Times are the fake clock's.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from passoproxy.core.events import ChainChanged
from passoproxy.core.oauth.transaction import digest
from passoproxy.ports import RawAnswer
from passoproxy.tokens.commands import Import, Login, Refresh
from tests.fakes import FakeClock, PowerLoss, idle, settle
from tests.tokens.life import Life

INVALID_CLIENT = (401, b'{"error": "invalid_client"}')
PLENTY = 10**6
STEPS = int(os.environ.get("PASSOPROXY_STEPS", "40000"))

LOSSES = st.sampled_from(
    [(method, when) for method in ("reserve", "save_record", "keep_answer", "commit") for when in ("before", "after")]
)


class PairsLife(RuleBasedStateMachine):
    """One pair's life. `excused`: something was in memory only when the process died, which no store can bring back."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.life = Life(clock=FakeClock(settled=idle))
        self.life.rotating.replays = PLENTY
        self.excused = False
        self.exhausted: set[str] = set()
        """Digests of tokens that may have been presented twice without an answer: `once` does not allow a third time."""
        self.crashes = 0
        self.failed_only = False
        self.before: Any = None

    def do(self, work: Awaitable[Any]) -> Any:
        async def done() -> Any:
            return await work

        return self.loop.run_until_complete(done())

    def begins(self, failed_only: bool = False) -> None:
        """`failed_only`: what happens now may fail, and must not take a valid token away."""
        type(self).steps += 1
        self.before, self.failed_only = self.life.keeper.current(), failed_only

    @initialize()
    def logs_in(self) -> None:
        self.do(self.life.started_with_pair())

    # ---- what can happen -----------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.5, 3.0, 30.0, 300.0, 1440.0]))
    def time_passes(self, seconds: float) -> None:
        self.begins()
        self.do(self.life.clock.advance(seconds))

    @rule(kind=st.sampled_from([503, 429, 404, 302, "unsent", "lost", "invalid_client"]))
    def provider_will_fail(self, kind: Any) -> None:
        self.begins(True)
        self.life.rotating.faults.append((lambda: INVALID_CLIENT) if kind == "invalid_client" else kind)

    @rule()
    def provider_recovers(self) -> None:
        self.begins(True)
        self.life.rotating.faults.clear()

    @rule(what=st.sampled_from(["commit", "keep_answer", "save_record", "reserve"]))
    def disk_fails(self, what: str) -> None:
        self.begins(True)
        self.life.store.failing = self.life.store.failing | {what}

    @rule()
    def disk_recovers(self) -> None:
        self.begins(True)
        self.life.store.failing = set()

    @rule(seconds=st.sampled_from([-86400.0, -600.0, -2.0, 2.0, 600.0, 86400.0]))
    def clock_steps(self, seconds: float) -> None:
        self.begins()
        self.life.clock.step(seconds)
        self.do(self.life.clock.advance(1))

    @rule(seconds=st.sampled_from([60.0, 1800.0, 5400.0]))
    def machine_sleeps(self, seconds: float) -> None:
        """Nothing runs, and both clocks go on."""
        self.begins()
        self.life.clock._wall += seconds
        self.life.clock._monotonic += seconds
        self.do(self.life.clock.advance(1))

    @rule()
    def origin_refuses(self) -> None:
        self.begins(True)
        if bearer := self.life.keeper.current():
            self._asked(self.life.keeper.renewed(bearer))

    @rule()
    def person_orders_a_refresh(self) -> None:
        self.begins(True)
        self._asked(self.life.keeper.execute(Refresh()))

    @rule()
    def caller_hangs_up(self) -> None:
        self.begins(True)

        async def left() -> None:
            caller = asyncio.ensure_future(self.life.keeper.execute(Refresh()))
            await settle(2)
            caller.cancel()
            await asyncio.gather(caller, return_exceptions=True)
            await self.life.clock.advance(2)

        self.do(left())

    @rule()
    def person_logs_in_again(self) -> None:
        self.begins()
        issued = json.dumps(self.life.rotating.issue()).encode()
        answer = RawAnswer(issued, "application/json", self.life.clock.wall(), "authorization_code")
        self._asked(self.life.keeper.execute(Login(answer)))

    @rule(what=st.sampled_from(["another", "another, and then again", "garbage", "bare", "present", "one from before"]))
    def person_imports(self, what: str) -> None:
        """Whatever it is, it must not cost a pair that lives."""
        self.begins(True)
        life, holding = self.life, self.life.keeper.state
        lives = life.keeper.snapshot().chain in {"healthy", "retrying", "unknown"}
        match what if lives else "another":
            case "garbage":
                document = life.document(refresh_token="def-of-nobody")
            case "bare":
                document = life.document(refresh_token=None)
            case "present" | "one from before" if holding.newest is not None and life.rotating.bodies:
                token = holding.newest.refresh_token if what == "present" else life.rotating.bodies[0]["refresh_token"]
                document = life.document(refresh_token=token)
            case _:
                document = life.document()
        generation, told = life.keeper.snapshot().generation, len(life.observer.events)
        for _ in range(2 if what.endswith("again") else 1):
            self._asked(life.keeper.execute(Import(document)))
        changes = [event for event in life.observer.events[told:] if isinstance(event, ChainChanged)]
        lives = lives and all(event.chain != "dead" for event in changes)  # else it died before the (second) order
        if (
            lives
            and holding.pair is not None
            and holding.pair.generation > generation
            and holding.pair.source == "import"
        ):
            assert holding.pair.access_token != json.loads(document)["access_token"], "10: taken unproved"

    @rule(in_order=st.booleans())
    def process_restarts(self, in_order: bool) -> None:
        self.begins()
        self.do(self._restarted(in_order))

    @precondition(lambda self: not self.life.store.failing)
    @rule(loss=LOSSES)
    def power_is_lost_in_a_refresh(self, loss: tuple[str, str]) -> None:
        self.begins()
        self.do(self._power_lost(loss))

    def _asked(self, order: Awaitable[Any]) -> None:
        async def asked() -> None:
            task = asyncio.ensure_future(order)
            await self.life.clock.advance(2)
            await asyncio.gather(task, return_exceptions=True)

        self.do(asked())

    async def _restarted(self, in_order: bool) -> None:
        life = self.life
        if in_order:
            await life.stop()
            self.excused |= life.keeper.state.saving.unsaved
        else:
            self.excused |= not life.keeper.snapshot().saved or life.keeper.state.saving.unsaved
            await life.crash()
        life.store.owned = False
        failing, life.store.failing = life.store.failing, set()
        await life.start()
        life.store.failing = failing

    async def _power_lost(self, loss: tuple[str, str]) -> None:
        life = self.life
        # what waits to be written is lost by the disk's fault, not by this one
        self.excused |= not life.keeper.snapshot().saved or life.keeper.state.saving.unsaved
        life.store.loss = loss
        presented = len(life.rotating.bodies)
        order = asyncio.ensure_future(life.keeper.execute(Refresh()))
        await life.clock.advance(2)
        order.cancel()
        await asyncio.gather(order, return_exceptions=True)
        assert life.task is not None
        if not life.task.done():
            life.store.loss = None
            return
        assert isinstance(life.task.exception(), PowerLoss)
        self.crashes += 1
        if loss == ("keep_answer", "before") and len(life.rotating.bodies) > presented:
            # the provider has answered, and nobody was left to hear it: the one window of the protocol
            token = life.rotating.bodies[-1]["refresh_token"]
            life.rotating.lose(token)
            life.rotating.losses[token] = life.rotating.losses.get(token, 0) + 1
        await life.crash()
        await life.start()

    # ---- what must hold ------------------------------------------------------------------------------------------------

    @invariant()
    def whatever_happened(self) -> None:
        self.hold()

    def hold(self) -> None:
        life = self.life
        if life.task is None or self.excused:
            return
        keeper, provider = life.keeper, life.rotating
        shown, holding = keeper.snapshot(), keeper.state
        assert provider.told == [], "1: presented after its fate was told"
        assert provider.most_losses() <= 2, "2: presented again more than once after a lost answer"
        assert all(after - earlier > 1 - 1e-5 for earlier, after in pairwise(provider.times)), "3: twice in a second"
        assert shown.runway_seconds is None or 0 <= shown.runway_seconds <= provider.lifetime, "4: the runway"
        candidates = (holding.record.candidate, life.store.record.candidate)
        intents = [each.intent for each in candidates if each is not None]
        for intent in (holding.record.intent, life.store.record.intent, *intents):
            if intent is not None and intent.presented >= 2:
                self.exhausted.add(intent.token)
        bearer = keeper.current()
        if self.failed_only and self.before and self.before.until > life.clock.wall() + 10:
            assert bearer is not None, "5: a failure took a valid token away"
        refused = "the origin refuses the access token too" in shown.reason  # not shown as valid, and tried on
        assert (shown.access == "valid") == (bearer is not None and not refused), "6: what is shown is what is served"
        if shown.chain == "healthy":
            token = holding.newest.refresh_token
            assert provider._fates[token] == "good", "7: healthy, and the provider does not take the token"
            assert digest(token) not in holding.record.spent, "7: healthy with a token known to be spent"
        if shown.saved and not keeper.state.saving.unsaved and holding.pair is not None:
            newest = life.store.generations[max(life.store.generations)]
            kept = life.store.answer is not None or newest.refresh_token == holding.newest.refresh_token
            assert kept, "8: said to be saved, and the disk has another pair"

    def teardown(self) -> None:
        try:
            if self.life.task is not None and not self.excused:
                self.do(self._comes_back())
        finally:
            self.do(self._end())
            self.loop.close()

    async def _end(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _comes_back(self) -> None:
        """9: where the provider takes our token and the disk can be written, the pair is healthy again within five minutes."""
        life = self.life
        life.store.failing.clear()
        life.rotating.faults.clear()
        await life.clock.advance(310)
        self.failed_only = False
        self.hold()
        shown = life.keeper.snapshot()
        token = life.keeper.state.newest.refresh_token
        # all presentations of a token may have come and gone between two looks of ours
        twice = life.rotating.losses.get(token, 0) + self.crashes >= 2 and life.rotating._fates[token] == "lost"
        if not twice and digest(token) not in self.exhausted:
            assert shown.chain == "healthy", "9: it did not come back"


def explored(wanted: int, steps: int) -> int:
    """Explores lives of up to `steps` steps until `wanted` were taken in all; how many were, none of which broke an invariant."""
    PairsLife.steps = 0
    while PairsLife.steps < wanted:
        run_state_machine_as_test(
            PairsLife,
            settings=settings(
                max_examples=6 if wanted < 10_000 else 60,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )
    return PairsLife.steps


@pytest.mark.timeout(600)
def test_short_lives_break_no_invariant() -> None:
    count = explored(300, 50)
    print(f"{count} steps")
    assert count >= 300


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_long_lives_break_no_invariant() -> None:
    count = explored(STEPS, 100)
    print(f"{count} steps")
    assert count >= STEPS
