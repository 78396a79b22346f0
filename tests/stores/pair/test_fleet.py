"""The talk of a fleet through a real redis-server: followers hear, ask, and are told what became of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from passoproxy.core.events import TaskFailed, Warned
from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.oauth.snapshot import UNTOLD, TokenSnapshot
from passoproxy.errors import (
    AuthorizationRequired,
    OwnerGone,
    PairStoreFailure,
    PairStoreOwned,
    PersonNeeded,
    TokenUnavailable,
)
from passoproxy.host.clock import SystemClock
from passoproxy.ports import Followed, LoggedOut
from passoproxy.stores.pair import replication
from passoproxy.stores.pair import replication as fleets
from passoproxy.stores.pair.directory import DirectoryPairStore
from passoproxy.stores.pair.encryption import FleetCover, key_of
from passoproxy.stores.pair.lease import Pulse
from passoproxy.stores.pair.redis import RedisPairStore
from passoproxy.stores.pair.replication import FleetDesk, FleetOwner
from passoproxy.stores.redis_client import Keys, RedisLink, heed_cancellation
from passoproxy.tokens.commands import Command, Export, Import, LoginPending, Logout, Refresh, Renew401
from passoproxy.tokens.follower import Follower
from passoproxy.tokens.messages import packed
from tests.fakes import RememberingObserver
from tests.redis_server import RedisServer

KEY = key_of(base64.b64encode(b"k" * 32).decode())
KEYS = Keys.of("y" * 24)


class FakeHolder:
    """Whoever holds the pair in the owner's process."""

    def __init__(self) -> None:
        self.role = "owner"
        self.bearer = Bearer("access-1", 1, 4e9)
        self.turn = asyncio.Event()
        self.stepped_down = asyncio.Event()
        self.taken: list[object] = []
        self.fault: Exception | None = None

    def tell(self, bearer: Bearer) -> None:
        self.bearer = bearer
        self.turn.set()

    async def changes(self) -> AsyncIterator[Followed]:
        while True:
            yield Followed(self.bearer, "part", asdict(self.snapshot()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.turn.wait(), 1.0)
            self.turn.clear()

    def current(self) -> Bearer | None:
        return self.bearer

    def snapshot(self) -> TokenSnapshot:
        return replace(UNTOLD, generation=self.bearer.generation)

    def step_down(self) -> None:
        self.stepped_down.set()
        self.role = "following"

    async def execute(self, command: Command) -> object:
        if self.fault is not None:
            raise self.fault
        self.taken.append(command)
        match command:
            case Renew401(generation):
                self.tell(Bearer("access-9", generation + 1, 4e9))
                return self.bearer.generation
            case Export():
                return {"access_token": "access-1", "refresh_token": "def-1"}
            case Logout():
                return LoggedOut("erased here", "p")
            case LoginPending():
                return None
            case _:
                return self.snapshot()


class Side:
    """One instance."""

    def __init__(self, server: RedisServer, folder: Path, cover: FleetCover) -> None:
        self.link = RedisLink(server.url)
        self.pulse, self.observer, self.holder = Pulse(time.monotonic), RememberingObserver(), FakeHolder()
        self.store = RedisPairStore(
            self.link, KEYS, DirectoryPairStore(folder), monotonic=time.monotonic, cover=cover, lease_seconds=1.5
        )
        self.owner = FleetOwner(self.store)
        self.desk = FleetDesk(self.store, self.pulse, SystemClock(), self.observer)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[FakeHolder]:
        task = asyncio.create_task(self.desk.run(self.holder))
        try:
            yield self.holder
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def server(shared_server):
    if shared_server.process is None:
        shared_server.start()
    shared_server.flush()
    return shared_server


@pytest.fixture
def sides(request, server, tmp_path):
    """The holder and a follower, whose store is sealed unless the test says `plain`."""
    cover = FleetCover() if getattr(request, "param", "") == "plain" else FleetCover(KEY)
    made = [Side(server, tmp_path / name, cover) for name in "ab"]
    made[0].store.acquire()
    made[1].store._local.acquire()
    made[1].store.has_folder = True
    yield made
    for side in made:
        side.store.release()


async def first(changes: AsyncIterator[Followed]) -> Followed:
    return await asyncio.wait_for(anext(changes), 20)


async def heard_of(changes: AsyncIterator[Followed], found: list[Followed]) -> None:
    """All of it, to its end."""
    async for followed in changes:
        found.append(followed)


@pytest.mark.parametrize("sides", ["plain", "sealed"], indirect=True)
async def test_a_follower_hears_what_is_so_and_every_change_at_once(sides, server, monkeypatch):
    monkeypatch.setattr(fleets, "LOOK_EVERY", 600.0)  # by the news alone
    a, b = sides
    async with a.at_work() as holder, contextlib.aclosing(b.owner.changes()) as changes:
        while (followed := await first(changes)).bearer is None:
            pass
        assert (followed.bearer, followed.partition) == (Bearer("access-1", 1, 4e9), "part")
        holder.tell(Bearer("access-2", 2, None))
        while (followed := await first(changes)).bearer != Bearer("access-2", 2, None):
            pass
        assert b.store._memory.seen == 2
    with server.client() as client:
        shown = client.get(KEYS.shown)
    assert (b"access-2" in shown) is not a.store.cover.seals


async def test_a_machine_whose_clock_is_a_day_off_knows_what_is_left(sides, monkeypatch):
    a, b = sides
    now = time.time()
    monkeypatch.setattr(FakeHolder, "snapshot", lambda self: replace(UNTOLD, generation=1, as_of=time.time()))
    a.holder.bearer = Bearer("access-1", 1, now + 3600)
    owner = FleetOwner(b.store, wall=lambda: time.time() + 86400)
    async with a.at_work(), contextlib.aclosing(owner.changes()) as changes:
        while (followed := await first(changes)).bearer is None:
            pass
    assert followed.bearer.until == pytest.approx(now + 86400 + 3600, abs=20)


async def test_what_the_holder_before_left_is_of_its_own_time(sides, monkeypatch):
    a, b = sides
    now = time.time()
    monkeypatch.setattr(FakeHolder, "snapshot", lambda self: replace(UNTOLD, generation=1, as_of=now - 7200))
    a.holder.bearer = Bearer("access-1", 1, now - 3600)
    async with a.at_work(), contextlib.aclosing(b.owner.changes()) as changes:
        while (await first(changes)).bearer is None:
            pass
    a.store.release()
    a.store.acquire()  # and shows nothing yet
    async with contextlib.aclosing(b.owner.changes()) as changes:
        followed = await first(changes)
    assert followed.bearer is not None
    assert followed.bearer.until == pytest.approx(now - 3600)


async def test_what_one_who_is_gone_left_is_told_once(sides):
    a, b = sides
    async with a.at_work(), contextlib.aclosing(b.owner.changes()) as changes:
        while (await first(changes)).bearer is None:
            pass
    a.store.release()
    late: list[Followed] = []
    for _ in range(2):
        with pytest.raises(PairStoreFailure, match="no instance holds"):
            await heard_of(b.owner.changes(), late)
    assert len(late) <= 1  # the last word may have come after that which was heard
    other: list[Followed] = []
    with pytest.raises(PairStoreFailure, match="no instance holds"):
        await heard_of(FleetOwner(b.store).changes(), other)
    assert [each.bearer for each in other] == [a.holder.bearer]


async def test_a_follower_is_told_when_nobody_holds_the_lease(sides):
    a, b = sides
    async with a.at_work(), contextlib.aclosing(b.owner.changes()) as changes:
        await first(changes)
        a.store.release()
        with pytest.raises(PairStoreFailure, match="no instance holds"):
            await heard_of(changes, [])
    with pytest.raises(OwnerGone):
        await b.owner.execute(Refresh())


async def test_a_401_and_orders_go_to_the_holder(sides):
    a, b = sides
    async with a.at_work() as holder:
        commands = [
            Renew401(1, "p", again=True), Refresh(force=True), Logout(), Import(b"\x00document"), LoginPending(5.0, "b"),
        ]  # fmt: skip
        answers = [await b.owner.execute(command) for command in commands]
        assert holder.taken == commands
        assert (answers[0], answers[1].generation, answers[2]) == (2, 2, LoggedOut("erased here", "p"))


@contextlib.asynccontextmanager
async def order_under_way(a: Side, b: Side, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Task[object]]:
    """An order of `b` that `a` has taken and is not done with."""
    taken = asyncio.Event()

    async def execute(command: Command) -> object:
        taken.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(a.holder, "execute", execute)
    order = asyncio.create_task(b.owner.execute(Refresh()))
    try:
        await asyncio.wait_for(taken.wait(), 20)
        yield order
    finally:
        order.cancel()
        await asyncio.wait([order])


async def test_an_order_ends_with_the_holder_that_took_it(sides, server, monkeypatch):
    """It was stopped in the midst of it, and another instance holds the lease by now: no reply will ever come."""
    a, b = sides
    looks, connect = asyncio.Queue[None](), b.link.asynchronous

    def watched():
        client = connect()
        get = client.get

        async def looked(name):
            found = await get(name)
            looks.put_nowait(None)
            return found

        client.get = looked
        return client

    monkeypatch.setattr(b.link, "asynchronous", watched)
    async with a.at_work(), order_under_way(a, b, monkeypatch) as order:
        for _ in range(looks.qsize() + 2):  # the first may have begun before
            await asyncio.wait_for(looks.get(), 20)  # it is seen to be taken
        with server.client() as client:
            client.set(KEYS.lease, b"99|another|one")
        with pytest.raises(OwnerGone, match="does not answer"):
            await asyncio.wait_for(asyncio.shield(order), 20)


async def test_an_order_that_a_holder_leaves_undone_at_its_end_is_told_so(sides, monkeypatch):
    a, b = sides
    async with contextlib.AsyncExitStack() as work:
        await work.enter_async_context(a.at_work())
        async with order_under_way(a, b, monkeypatch) as order:
            await work.aclose()
            with pytest.raises(TokenUnavailable, match="shutting down"):
                await asyncio.wait_for(asyncio.shield(order), 20)


async def test_a_pair_that_was_handed_over_to_nobody_is_taken_back(sides, server, monkeypatch):
    """Whoever asked for it has gone before the reply was there."""
    monkeypatch.setattr(replication, "FETCHED_WITHIN", 0.2)
    a, b = sides
    async with a.at_work() as holder:
        assert (await b.owner.execute(Export()))["refresh_token"] == "def-1"
        await asyncio.sleep(0.5)
        assert holder.taken == [Export()]  # that one was fetched
        body = packed(Export())
        with server.client() as client:
            client.set(KEYS.prefix + "order:gone", fleets.closed(b.store.cover, "order", body))
            client.lpush(KEYS.orders, "gone")
            async with asyncio.timeout(20):
                while holder.taken[-1] != Refresh(force=True):
                    await asyncio.sleep(0.02)
            assert not client.exists(KEYS.prefix + "reply:gone")


@pytest.mark.parametrize("is_back", [True, False])
async def test_a_pair_whose_reply_the_store_did_not_take_is_taken_back(sides, monkeypatch, is_back):
    monkeypatch.setattr(replication, "FETCHED_WITHIN", 0.0)
    a, b = sides

    class Away:
        def pipeline(self, transaction: bool) -> None:
            raise ConnectionError

        async def delete(self, name: str) -> int:
            if is_back:
                return 0
            raise ConnectionError

    order = fleets.closed(b.store.cover, "order", packed(Export()))
    await a.desk._carry_out(Away(), a.holder, "name", order)
    assert a.holder.taken == [Export(), Refresh(force=True)]


async def test_the_holders_refusals_come_back_as_they_are(sides):
    a, b = sides
    async with a.at_work() as holder:
        holder.fault = PersonNeeded("run 'passoproxy login'")
        with pytest.raises(PersonNeeded, match="passoproxy login"):
            await b.owner.execute(Refresh())
        holder.fault = AuthorizationRequired("dead", 17)
        with pytest.raises(AuthorizationRequired) as refused:
            await b.owner.execute(Renew401(1))
        assert ("Retry-After", "17") in refused.value.fields
        holder.fault = ValueError("a fault with access-1 in it")
        with pytest.raises(Exception, match="a fault inside"):
            await b.owner.execute(Refresh())
        assert a.observer.of(TaskFailed) == [TaskFailed("fleet", "an order failed: ValueError")]


async def test_an_order_that_nobody_takes_is_withdrawn(sides, server, monkeypatch):
    monkeypatch.setattr(fleets, "TAKEN_WITHIN", 0.5)
    a, b = sides
    with pytest.raises(OwnerGone, match="does not answer"):
        await b.owner.execute(Refresh())
    async with a.at_work() as holder:  # it comes too late
        await b.owner.execute(Refresh(force=True))
        assert holder.taken == [Refresh(force=True)]
    monkeypatch.setattr(fleets, "PATIENCE", 0.0)
    with pytest.raises(OwnerGone, match="does not answer"):
        await b.owner.execute(Refresh())


async def test_an_instance_that_lost_the_lease_steps_down(sides, server):
    a, _ = sides
    async with a.at_work() as holder:
        with server.client() as client:
            client.set(KEYS.lease, "99|other|somebody")
            client.set(KEYS.fence, "99")
        await asyncio.wait_for(holder.stepped_down.wait(), 5)
        assert a.store.lost
        await asyncio.sleep(0)


async def test_a_store_that_goes_and_comes_is_told_once_each(sides, server):
    a, b = sides
    async with a.at_work() as holder:
        server.kill()
        await said(a, "store_away")
        assert "the access token serves on, and no instance" in a.observer.of(Warned)[0].detail
        with pytest.raises(OwnerGone):
            await b.owner.execute(Refresh())
        server.start()
        await said(a, "store_away", over=True)
        # the first lease had ended: the heart took it up again, or the instance steps down and may take it anew
        if holder.role == "owner":
            assert (await b.owner.execute(Refresh())).generation == 1
    assert [event.code for event in a.observer.of(Warned)] == ["store_away", "store_away"]


async def said(side: Side, code: str, *, over: bool = False) -> None:
    for _ in range(1500):
        if any((event.code, event.over) == (code, over) for event in side.observer.of(Warned)):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(side.observer.events)


async def test_a_store_that_is_away_from_the_start_leaves_nothing_to_serve_with(server, tmp_path):
    side = Side(server, tmp_path / "a", FleetCover())
    server.kill()
    with pytest.raises(PairStoreOwned):
        side.store.acquire()
    side.holder.role, side.holder.bearer = "following", None
    side.holder.changes = _of_nobody
    async with side.at_work():
        await said(side, "store_away")
    assert "there is no access token to serve with" in side.observer.of(Warned)[-1].detail
    side.store.release()


async def _of_nobody() -> AsyncIterator[Followed]:
    while True:
        yield Followed(None, "part")
        await asyncio.sleep(1.0)


async def test_without_a_store_what_was_known_before_is_served(server, tmp_path):
    known = Followed(Bearer("old", 3, 4e9), "part")
    side = Side(server, tmp_path / "a", FleetCover())
    server.kill()
    for before, given in ((lambda: known, [known]), (lambda: None, [])):
        owner, found = FleetOwner(side.store, before), []
        with pytest.raises(PairStoreFailure, match="cannot be used"):
            await heard_of(owner.changes(), found)
        assert found == given
        with pytest.raises(PairStoreFailure, match="cannot be used"):
            await heard_of(owner.changes(), found)
        assert found == given  # an owner who is there would say it again


@pytest.mark.parametrize("data", [b"rubbish", b"[]", b"{}", FleetCover(KEY).close("shown", 0, b"{}")])
async def test_what_cannot_be_read_is_nobodys_word(server, tmp_path, data):
    side = Side(server, tmp_path / "a", FleetCover())
    with server.client() as client:
        client.set(KEYS.shown, data)
    with pytest.raises(PairStoreFailure):
        await first(side.owner.changes())


async def test_a_desk_that_meets_a_fault_is_opened_again(sides):
    a, b = sides
    changes, taken = a.holder.changes, []

    def faulty() -> AsyncIterator[Followed]:
        taken.append(1)
        if len(taken) == 1:
            raise ValueError
        return changes()

    a.holder.changes = faulty
    async with a.at_work(), contextlib.aclosing(b.owner.changes()) as heard:
        while (await first(heard)).bearer is None:
            pass
    assert a.observer.of(TaskFailed) == [TaskFailed("fleet", "ValueError; it is begun again")]


async def test_a_desk_that_closes_lets_go_of_its_work(sides):
    a, b = sides
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(command: Command) -> object:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    a.holder.execute = slow
    async with a.at_work():
        order = asyncio.create_task(b.owner.execute(Refresh()))
        await asyncio.wait_for(begun.wait(), 5)
    await asyncio.wait_for(ended.wait(), 5)
    order.cancel()
    await asyncio.wait([order])


async def test_a_follower_is_idle(sides, server):
    a, _ = sides
    a.holder.role = "following"
    with server.client() as client:
        client.lpush(KEYS.orders, "unknown")
        async with a.at_work():
            await asyncio.sleep(0.4)
        assert (client.llen(KEYS.orders), client.exists(KEYS.shown)) == (1, 0)


async def test_a_follower_ends_whenever_it_is_told_to(sides):
    """The library may swallow a cancellation (see `heed_cancellation`): without that look, one of a few dozen followers never ended."""
    a, b = sides
    async with a.at_work() as holder:
        for number in range(60):
            follower = Follower(owner=b.owner, clock=SystemClock())
            running = asyncio.create_task(follower.run())
            await asyncio.sleep(number % 12 * 0.001)
            holder.tell(Bearer("access", number + 2, 4e9))
            await asyncio.sleep(0)
            await follower.close()
            running.cancel()
            _, late = await asyncio.wait([running], timeout=10)
            assert not late


async def test_a_cancellation_that_was_swallowed_is_heeded():
    begun = asyncio.Event()

    async def swallows() -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        heed_cancellation()
        raise AssertionError("it went on")

    task = asyncio.create_task(swallows())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    heed_cancellation()
