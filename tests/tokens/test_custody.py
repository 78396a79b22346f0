"""Who holds the pair: owning, following, taking over, and giving up; and that whoever asks notices but the generation."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from passoproxy.core.events import OwnershipChanged, Warned
from passoproxy.errors import (
    AuthorizationRequired,
    CannotCreate,
    OwnerGone,
    PairStoreFailure,
    PairStoreOwned,
    TokenUnavailable,
)
from passoproxy.ports import Followed, RawAnswer
from passoproxy.tokens import recovery
from passoproxy.tokens.commands import Command, Export, Import, Leave, Login, LoginPending, Logout, Refill, Refresh
from passoproxy.tokens.failover import LOOK_EVERY, Custody
from passoproxy.tokens.keeper import Keeper
from passoproxy.tokens.messages import answer_of, answered, packed
from tests.fakes import FakeClock, MemoryPairStore, RememberingObserver, RotatingProvider, settle
from tests.tokens.life import Life


@dataclass
class Wire:
    """The owner's custody as another process sees it, without the process; cut, nobody answers."""

    custody: Custody | None = None
    cut: asyncio.Event = field(default_factory=asyncio.Event)

    async def changes(self) -> AsyncIterator[Followed]:
        custody, cut = self.custody, self.cut
        if custody is None or cut.is_set():
            raise PairStoreFailure("nobody answers")
        async for followed in custody.changes():
            if cut.is_set():
                return
            yield followed

    async def execute(self, command: Command) -> object:
        if self.custody is None:
            raise OwnerGone("nobody answers")
        reply = await answered(self.custody, json.dumps(packed(command)).encode())
        return answer_of(command, json.loads(json.dumps(reply)))


class Crashing(MemoryPairStore):
    """A store that several processes have; `held_by` is the process that has the lock."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: Exception | None = None

    def acquire(self) -> None:
        if self.refuses is not None:
            raise self.refuses
        super().acquire()


class Machine:
    """One store, one provider, and processes on them."""

    def __init__(self) -> None:
        self.clock, self.store, self.wire = FakeClock(), Crashing(), Wire()
        self.provider = RotatingProvider(self.clock)
        self.lives: list[Life] = []

    def process(self) -> Process:
        return Process(self)

    async def two(self, **document: float) -> tuple[Process, Process, Custody, Custody]:
        """An owner with a pair (as `Life.document` makes it), and one that follows it: both processes, and their custodies."""
        first, second = self.process(), self.process()
        owner = await first.start()
        await owner.execute(Import(first.life.document(**document)))
        return first, second, owner, await second.start()


class Process:
    def __init__(self, machine: Machine) -> None:
        self.machine, self.observer = machine, RememberingObserver()
        self.life = Life(clock=machine.clock, store=machine.store, observer=self.observer, endpoint=machine.provider)
        self.life.rotating = machine.provider
        self.custody = Custody(
            keep=self.life.make, owner=machine.wire, clock=machine.clock, partition="nobody", observe=self.observer
        )
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> Custody:
        opening = asyncio.create_task(self.custody.open())
        await self.machine.clock.advance(2.1)
        await opening
        self.task = asyncio.create_task(self.custody.run())
        await settle()
        if self.custody.role == "owner":
            self.machine.wire.custody, self.machine.wire.cut = self.custody, asyncio.Event()
        return self.custody

    async def die(self) -> None:
        """Kill -9: the stream ends and the lock is free, nothing is finished."""
        assert self.task is not None
        self.machine.wire.cut.set()
        self.machine.wire.custody = None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.machine.store.owned = False

    async def stop(self) -> None:
        assert self.task is not None
        await asyncio.gather(self.custody.close(), self.machine.clock.advance(2))
        await self.task

    def roles(self) -> list[str]:
        return [event.role for event in self.observer.of(OwnershipChanged)]  # type: ignore[attr-defined]


async def test_the_first_owns_the_second_follows_and_takes_over() -> None:
    machine = Machine()
    first, second, owner, follower = await machine.two()
    assert (owner.role, follower.role) == ("owner", "following")
    assert follower.current() == owner.current()
    assert follower.partition == owner.partition
    await machine.clock.advance(1)
    assert (await follower.execute(Refresh())).generation == 2
    assert follower.current() == owner.current()
    before, partition = follower.current(), follower.partition
    await first.die()
    assert follower.current() == before
    await machine.clock.advance(2)
    assert follower.role == "owner"
    assert follower.current() == before
    assert follower.partition == partition
    await machine.clock.advance(2)
    assert (await follower.execute(Refresh())).generation == 3
    assert second.roles() == ["following", "owner"]
    await second.stop()
    assert not machine.store.owned


async def test_one_that_was_told_to_leave_while_it_took_over_takes_nothing_over(monkeypatch) -> None:
    machine = Machine()
    first, second, _, follower = await machine.two(expires_in=100)
    opening, go_on, load = asyncio.Event(), asyncio.Event(), recovery.load

    async def slow(*arguments: object) -> None:
        opening.set()
        await go_on.wait()
        await load(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(recovery, "load", slow)
    await first.die()
    await machine.clock.advance(1.5)
    assert opening.is_set()
    await follower.execute(Leave(4.0))
    go_on.set()
    await machine.clock.advance(60)  # the next renewal is due by then
    assert (follower.role, machine.store.owned, machine.provider.presented) == ("following", False, {})
    await second.stop()


async def test_without_an_owner_to_follow_it_refuses() -> None:
    machine = Machine()
    machine.store.owned = True
    life = Life(clock=machine.clock, store=machine.store)
    with pytest.raises(PairStoreOwned):
        await Custody(keep=life.make, owner=None, clock=machine.clock).open()


async def test_an_orderly_end_of_the_owner_is_a_takeover_too() -> None:
    machine = Machine()
    first, second, _, follower = await machine.two()
    machine.wire.cut.set()
    await first.stop()
    machine.wire.custody = None
    await machine.clock.advance(LOOK_EVERY + 0.2)
    assert follower.role == "owner"
    await second.stop()


async def test_whoever_waits_while_roles_change_is_served() -> None:
    machine = Machine()
    first, second, _, follower = await machine.two(expires_in=30)
    refused = follower.current()
    assert refused is not None
    await first.die()
    asking = asyncio.create_task(follower.renewed(refused))
    await machine.clock.advance(3)
    newer = await asking
    assert newer is not None
    assert newer.generation > refused.generation
    await second.stop()


async def test_a_takeover_that_fails_is_told_once_and_tried_again() -> None:
    machine = Machine()
    first, second, _, follower = await machine.two()
    machine.store.refuses = CannotCreate("/state/lock: cannot be locked")
    await first.die()
    await machine.clock.advance(3)
    assert follower.role == "following"
    assert follower.current() is not None
    assert [each.code for each in second.observer.of(Warned)] == ["take_over_failed"]  # type: ignore[attr-defined]
    machine.store.refuses = None
    await machine.clock.advance(1)
    assert follower.role == "owner"
    assert [each.over for each in second.observer.of(Warned)] == [False, True]  # type: ignore[attr-defined]
    await second.stop()


async def test_what_the_owner_could_not_save_serves_on_and_is_given_up_when_refused() -> None:
    machine = Machine()
    first, second, owner, follower = await machine.two()
    identity_before = owner.partition
    machine.store.failing = {"commit", "save_record", "keep_answer"}
    await owner.execute(Import(first.life.document(), True))  # used, and not saved
    await settle()
    unsaved, identity = follower.current(), follower.partition
    assert unsaved is not None
    assert unsaved.generation == 2
    await first.die()
    machine.store.failing = set()
    await machine.clock.advance(2)
    assert follower.role == "owner"
    assert follower.current() == unsaved
    assert (await follower.bearer()) == unsaved
    assert (
        follower.partition == identity != identity_before
    )  # what it fetches is another identity's than the saved pair's
    older = await follower.renewed(unsaved)
    assert older is not None
    assert older.generation == 1
    assert follower.current() == older
    assert follower.partition == identity_before
    await machine.clock.advance(2)
    assert (await follower.execute(Refresh())).generation == 3  # above all that anybody ever had
    await second.stop()


@pytest.mark.parametrize("ends", ["renewed", "ended"])
async def test_what_the_owner_left_unsaved_gives_way(ends: str) -> None:
    machine = Machine()
    first, second, owner, follower = await machine.two()
    identity = owner.partition
    machine.store.failing = {"commit", "save_record", "keep_answer"}
    await owner.execute(Import(first.life.document(expires_in=20), True))
    await settle()
    await first.die()
    machine.store.failing = set()
    await machine.clock.advance(2)
    assert follower.current().generation == 2  # type: ignore[union-attr]
    if ends == "renewed":
        await follower.execute(Refresh())
        assert follower.current().generation == 3  # type: ignore[union-attr]
    else:
        await machine.clock.advance(25)
        assert follower.current().generation != 2  # type: ignore[union-attr]
    assert follower._held.spare is None
    assert follower.partition == identity
    await second.stop()


async def test_an_ownership_that_is_lost_makes_a_follower() -> None:
    machine = Machine()
    first = machine.process()
    owner = await first.start()
    await owner.execute(Import(first.life.document()))
    before = owner.current()
    machine.provider.faults = [lambda: (400, b'{"error": "invalid_grant"}')]
    with pytest.raises(AuthorizationRequired):
        await owner.renewed(before)  # type: ignore[arg-type]
    machine.store.refuses = PairStoreOwned("another instance holds the lease")
    machine.wire.custody = None
    owner.step_down()
    await machine.clock.advance(1)
    warned = [(each.code, each.over) for each in first.observer.of(Warned)]  # type: ignore[attr-defined]
    assert warned == [("grant_withdrawn", False), ("grant_withdrawn", True)]  # it is the new owner's to tell
    assert owner.role == "following"
    assert owner.current() == before
    assert first.roles() == ["following"]
    machine.store.refuses = None
    await machine.clock.advance(3)
    assert owner.role == "owner"
    await first.stop()


async def test_a_store_that_tells_of_a_lost_ownership_ends_the_keepers_step() -> None:
    machine = Machine()
    first = machine.process()
    owner = await first.start()
    await owner.execute(Import(first.life.document()))
    machine.store.refuses = PairStoreOwned("another instance holds the lease")
    machine.wire.custody = None

    def lost() -> None:
        raise PairStoreOwned("another instance holds the lease")

    machine.store.reserve = lost  # type: ignore[method-assign]
    asking = asyncio.create_task(owner.execute(Refresh()))
    await machine.clock.advance(3)
    with pytest.raises(TokenUnavailable):
        await asking
    assert owner.role == "following"
    await first.stop()


async def test_a_401_in_the_midst_of_a_lost_ownership_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    first, second = machine.process(), machine.process()
    owner = await first.start()
    await owner.execute(Import(first.life.document()))
    machine.store.refuses = PairStoreOwned("another instance holds the lease")

    def lost() -> None:
        raise PairStoreOwned("another instance holds the lease")

    monkeypatch.setattr(machine.store, "reserve", lost)
    refused = owner.current()
    assert refused is not None
    asking = asyncio.create_task(owner.renewed(refused))
    waiting = asyncio.create_task(owner.execute(Refresh()))
    machine.wire.custody = None
    await machine.clock.advance(1)
    assert not asking.done()  # nobody owns the pair now, and somebody may
    monkeypatch.undo()
    machine.store.refuses = None
    await machine.clock.advance(3)
    newer = await asking
    assert newer is not None
    assert newer.generation > refused.generation
    with pytest.raises(TokenUnavailable):
        await waiting
    await first.stop()
    assert second.task is None


async def test_who_waits_for_a_bearer_finds_the_next_holder() -> None:
    machine = Machine()
    first = machine.process()
    owner = await first.start()
    machine.store.refuses = PairStoreOwned("another instance holds the lease")
    machine.wire.custody = None
    owner.step_down()
    await machine.clock.advance(0.5)
    assert owner.role == "following"
    waiting = asyncio.create_task(owner.bearer())
    await machine.clock.advance(0.5)
    assert not waiting.done()
    machine.store.refuses = None
    await machine.clock.advance(2)  # this process owns it again, and nobody has logged in
    with pytest.raises(AuthorizationRequired):
        await waiting
    issued = json.dumps(machine.provider.issue()).encode()
    await owner.execute(Login(RawAnswer(issued, "application/json", machine.clock.wall(), "authorization_code")))
    assert (await owner.bearer()).generation == 1
    await first.stop()


async def test_a_fault_of_the_keepers_task_is_not_hidden() -> None:
    machine = Machine()
    first = machine.process()
    owner = await first.start()

    async def broken() -> None:
        raise ZeroDivisionError

    held = owner._held
    assert isinstance(held, Keeper)
    await first.stop()
    other = Custody(keep=first.life.make, owner=machine.wire, clock=machine.clock)
    await other.open()
    other._held.run = broken  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        await other.run()
    await other.close()


async def test_faces_of_the_keeper_are_passed_through() -> None:
    machine = Machine()
    first = machine.process()
    owner = await first.start()
    await owner.execute(Import(first.life.document()))
    await owner.execute(LoginPending(machine.clock.wall() + 60))
    assert owner.snapshot().login_until is not None
    await owner.execute(LoginPending(machine.clock.wall() + 90, "one that follows"))
    await owner.execute(LoginPending(0))
    assert owner.snapshot().login_until == pytest.approx(machine.clock.wall() + 90)  # that one is still open
    await owner.execute(LoginPending(0, "one that follows"))
    assert owner.snapshot().login_until is None
    news = asyncio.create_task(owner.news(1))
    await machine.clock.advance(1)
    await news
    assert await owner.execute(Refill(5)) is False
    heard = 0
    async for followed in owner.changes():
        heard += 1
        assert followed == owner.followed()
        break
    assert heard == 1
    assert (await owner.execute(Export()))["refresh_token"]
    await owner.execute(Logout())
    assert owner.current() is None
    with contextlib.suppress(Exception):
        await owner.bearer()
    await first.stop()


async def test_closing_in_the_moment_of_a_takeover_gives_the_lock_back() -> None:
    machine = Machine()
    first, second = machine.process(), machine.process()
    owner = await first.start()
    await owner.execute(Import(first.life.document()))
    await second.start()
    await first.die()
    await machine.clock.advance(0.05)
    await second.stop()
    assert not machine.store.owned


async def test_a_login_that_is_open_stays_open_whoever_becomes_the_owner() -> None:
    machine = Machine()
    first, second = machine.process(), machine.process()
    owner, follower = await first.start(), await second.start()
    until = machine.clock.wall() + 600
    await follower.execute(LoginPending(until))
    await settle()
    assert owner.snapshot().login_until == pytest.approx(until)
    await first.die()
    await machine.clock.advance(2)
    assert (follower.role, follower.snapshot().login_until) == ("owner", pytest.approx(until))
    machine.store.refuses = PairStoreOwned("another instance holds the lease")
    follower.step_down()
    await machine.clock.advance(2.5)
    assert (follower.role, follower.snapshot().login_until) == ("following", pytest.approx(until))
    machine.store.refuses = None
    await second.stop()


async def test_what_is_not_ours_to_save_any_more_holds_up_no_end() -> None:
    machine = Machine()
    first = machine.process()
    owner = await first.start()
    await owner.execute(Import(first.life.document()))
    machine.store.failing = {"commit", "save_record"}
    await owner.execute(Import(first.life.document(), True))

    def owned(pair: object) -> None:
        raise PairStoreOwned("another process has made the lock anew")

    machine.store.commit = owned  # type: ignore[method-assign, assignment]
    await first.stop()
    assert not machine.store.owned


# ---- a login's answer, which nobody gets again -----------------------------------------------------------------------


def login_answer(machine: Machine) -> RawAnswer:
    issued = json.dumps(machine.provider.issue()).encode()
    return RawAnswer(issued, "application/json", machine.clock.wall(), "authorization_code")


async def test_a_login_whose_owner_is_gone_is_taken_by_whoever_follows() -> None:
    machine = Machine()
    first, second, _, follower = await machine.two()
    await first.die()
    login = asyncio.create_task(follower.execute(Login(login_answer(machine))))
    await machine.clock.advance(3)
    shown = await login
    assert (follower.role, shown.chain, shown.generation) == ("owner", "healthy", 2)
    assert follower.current().token == "access-2"  # type: ignore[union-attr]
    await second.stop()


async def test_a_login_at_an_owner_that_loses_the_pair_goes_to_the_new_one() -> None:
    machine = Machine()
    first = machine.process()
    owner = await first.start()
    await owner.execute(Import(first.life.document()))
    keeper = owner._held
    assert isinstance(keeper, Keeper)
    keeper._stop()  # it takes nothing any more, and nobody has told
    login = asyncio.create_task(owner.execute(Login(login_answer(machine))))
    await settle()
    machine.wire.custody = None
    owner.step_down()
    await machine.clock.advance(4)
    assert (await login).chain == "healthy"
    assert owner.current().token == "access-2"  # type: ignore[union-attr]
    await first.stop()


async def test_a_login_that_nobody_can_take_is_told_so_in_the_end() -> None:
    machine = Machine()
    first, second, _, follower = await machine.two()
    machine.store.refuses = CannotCreate("/state/lock: cannot be locked")
    await first.die()
    login = asyncio.create_task(follower.execute(Login(login_answer(machine))))
    await machine.clock.advance(9)
    assert not login.done()
    await machine.clock.advance(3)
    with pytest.raises(OwnerGone, match="does not answer"):
        await login
    machine.store.refuses = None
    await second.stop()
