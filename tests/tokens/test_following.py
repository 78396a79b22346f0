"""A process that follows: it serves with the owner's access token, passes orders on, and outlives an owner that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field, replace

import pytest

from passoproxy.core.events import ChainChanged, TaskFailed
from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.oauth.snapshot import UNTOLD, TokenSnapshot
from passoproxy.errors import (
    AuthorizationRequired,
    CommandFailure,
    OwnerGone,
    PairStoreFailure,
    PersonNeeded,
    ServiceUnreachable,
    TokenUnavailable,
)
from passoproxy.ports import Followed, LoggedOut, RawAnswer
from passoproxy.tokens.commands import Command, Export, Import, Login, LoginPending, Logout, Refill, Refresh, Renew401
from passoproxy.tokens.follower import ALONE, ARRIVAL, FIRST_WORD, Follower
from passoproxy.tokens.holder import CALLER_PATIENCE
from tests.fakes import FakeClock, RememberingObserver, settle
from tests.tokens.life import Life

GONE = PairStoreFailure("control.sock: nobody answers")


@dataclass
class FakeOwner:
    """An owner whose words a test says. `None` among them ends the stream, an exception breaks it."""

    words: asyncio.Queue[Followed | Exception | None] = field(default_factory=asyncio.Queue)
    commands: list[Command] = field(default_factory=list)
    answers: list[object] = field(default_factory=list)
    renewals: list[int] = field(default_factory=list)
    renewed_to: int | Exception = 0
    calls: int = 0

    def say(self, *words: Followed | Exception | None) -> None:
        for word in words:
            self.words.put_nowait(word)

    async def changes(self) -> AsyncIterator[Followed]:
        self.calls += 1
        while (word := await self.words.get()) is not None:
            if isinstance(word, Exception):
                raise word
            yield word

    async def execute(self, command: Command) -> object:
        if isinstance(command, Renew401):
            self.renewals.append(command.generation)
            answer = self.renewed_to
        else:
            self.commands.append(command)
            answer = self.answers.pop(0)
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Following:
    """A follower, its owner, and time."""

    def __init__(self, known: Followed | None = None, client: str = "") -> None:
        self.clock, self.owner, self.observer = FakeClock(), FakeOwner(), RememberingObserver()
        self.follower = Follower(
            owner=self.owner, clock=self.clock, partition="nobody", known=known, observe=self.observer, client=client
        )
        self.task: asyncio.Task[None] | None = None

    def word(self, generation: int = 1, lifetime: float | None = 3600.0, **changes: object) -> Followed:
        now = self.clock.wall()
        until = None if lifetime is None else now + lifetime
        shown = replace(
            UNTOLD,
            access="valid",
            chain="healthy",
            reason="the pair renews itself",
            runway_seconds=lifetime,
            access_until=until,
            generation=generation,
            role="owner",
        )
        bearer = Bearer(f"token-{generation}", generation, until)
        return Followed(bearer, "identity", asdict(replace(shown, **changes)))  # type: ignore[arg-type]

    async def __aenter__(self) -> Following:
        opening = asyncio.create_task(self.follower.open())
        await self.clock.advance(FIRST_WORD)
        await opening
        self.task = asyncio.create_task(self.follower.run())
        await settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.follower.close()
        assert self.task is not None
        await asyncio.wait_for(self.task, 10)


async def test_it_serves_with_what_the_owner_tells() -> None:
    it = Following()
    assert it.follower.current() is None
    assert (it.follower.partition, it.follower.snapshot().reason) == ("nobody", UNTOLD.reason)
    it.owner.say(it.word(1))
    async with it:
        assert it.follower.partition == "identity"
        it.owner.say(it.word(2))
        await settle()
        assert it.follower.current() == Bearer("token-2", 2, it.clock.wall() + 3600)
        assert await it.follower.bearer() == it.follower.current()
        shown = it.follower.snapshot()
        assert (shown.role, shown.access, shown.chain, shown.generation) == ("following", "valid", "healthy", 2)
        assert it.follower.followed() == Followed(it.follower.current(), "identity", asdict(shown))
    assert [(each.access, each.chain) for each in it.observer.of(ChainChanged)] == [("valid", "healthy")]  # type: ignore[attr-defined]


async def test_an_owner_with_another_clock_moves_nothing_that_kept_answers_rest_on() -> None:
    it = Following()
    async with it:
        it.owner.say(it.word(1))
        await settle()
        stood_on, until = it.follower.serving, it.follower.usable_until
        for late in (0.1, -0.3, -0.2):
            it.owner.say(it.word(1, 3600 + late))
            await settle()
        assert (it.follower.serving, it.follower.usable_until) == (stood_on, until)
        it.owner.say(it.word(2, 3600.5))  # another token
        await settle()
        assert it.follower.usable_until == until + 0.5
        it.owner.say(it.word(2, 3600 - 2))
        await settle()
        assert it.follower.serving is not stood_on
        assert it.follower.usable_until == it.clock.wall() + 3598


async def test_an_owner_that_says_nothing_does_not_hold_up_the_start() -> None:
    async with Following() as it:
        waiting = asyncio.create_task(it.follower.bearer())
        await it.clock.advance(CALLER_PATIENCE)
        with pytest.raises(TokenUnavailable, match="has not told anything yet"):
            await waiting
    it = Following()
    it.owner.say(GONE)
    async with it:
        assert it.follower.current() is None


async def test_an_owner_that_is_gone_is_called_again_and_its_token_serves_to_the_end() -> None:
    it = Following()
    it.owner.say(it.word(1, 20.0))
    async with it:
        it.owner.say(it.word(1, 20.0))
        await settle()
        assert not it.follower.left.is_set()
        it.owner.say(GONE)
        await settle()
        assert it.follower.left.is_set()
        await asyncio.wait_for(it.follower.left.wait(), 10)
        assert it.follower.current() is not None
        assert "nobody answers" in it.follower.snapshot().last_error
        calls = it.owner.calls
        await it.clock.advance(19.5)
        assert it.owner.calls > calls
        assert it.follower.current() is not None
        assert it.follower.snapshot().runway_seconds == pytest.approx(0.5)
        await it.clock.advance(1.0)
        assert it.follower.current() is None
        shown = it.follower.snapshot()
        assert (shown.access, shown.runway_seconds, shown.served_until) == ("expired", 0.0, None)
        it.owner.say(it.word(2))
        await settle()
        assert it.follower.current() is not None
        assert it.follower.snapshot().last_error == ""
        it.owner.say(None)  # it ends in order
        await settle()
        assert "has ended" in it.follower.snapshot().last_error


async def test_a_token_of_unknown_life_is_served() -> None:
    it = Following()
    it.owner.say(it.word(1, None))
    async with it:
        await it.clock.advance(1e6)
        assert it.follower.current() == Bearer("token-1", 1, None)


async def test_who_waits_for_a_bearer_gets_the_next_one() -> None:
    async with Following() as it:
        waiting = asyncio.create_task(it.follower.bearer())
        await it.clock.advance(1)
        assert not waiting.done()
        it.owner.say(it.word(1))
        assert (await waiting).generation == 1
        it.owner.say(replace(it.word(1, 5.0, next_refresh_at=it.clock.wall() + 8)))
        await it.clock.advance(6)
        late = asyncio.create_task(it.follower.bearer())
        await it.clock.advance(1)
        it.owner.say(it.word(2))
        assert (await late).generation == 2


async def test_it_refuses_at_once_where_nothing_is_on_its_way() -> None:
    it = Following()
    dead = Followed(
        None, "identity", {**it.word(1).snapshot, "access": "expired", "chain": "dead", "runway_seconds": 0}
    )
    it.owner.say(dead)
    async with it:
        it.owner.say(dead)
        await settle()
        with pytest.raises(AuthorizationRequired):
            await it.follower.bearer()
        it.owner.say(Followed(None, "identity", {**dead.snapshot, "login_until": it.clock.wall() + 60}))
        await settle()
        with pytest.raises(TokenUnavailable, match="login is under way"):
            await it.follower.bearer()


async def test_a_401_is_the_owners_to_renew() -> None:
    it = Following()
    it.owner.say(it.word(1))
    async with it:
        it.owner.say(it.word(1))
        await settle()
        refused = await it.follower.bearer()
        it.owner.renewed_to = 2
        asking = asyncio.create_task(it.follower.renewed(refused))
        await settle()
        assert it.owner.renewals == [1]
        assert not asking.done()  # it is renewed, and its word is on its way
        it.owner.say(it.word(2))
        assert (await asking) == it.follower.current()
        assert (await it.follower.renewed(refused)) == it.follower.current()
        assert it.owner.renewals == [1]  # a newer one was there already
        it.owner.renewed_to = 2
        assert await it.follower.renewed(Bearer("", 2)) is None
        it.owner.renewed_to = OwnerGone(str(GONE))
        gone = asyncio.create_task(it.follower.renewed(Bearer("", 2)))
        await it.clock.advance(ARRIVAL)
        assert await gone is None
        gone = asyncio.create_task(it.follower.renewed(Bearer("", 2)))
        await settle()
        it.owner.say(it.word(3))  # another one is there
        assert await gone == it.follower.current()
        it.owner.renewed_to = CommandFailure("the pair's owner answered 404; see its log")
        assert await it.follower.renewed(Bearer("access-3", 3)) is None
        it.owner.renewed_to = AuthorizationRequired("dead")
        with pytest.raises(AuthorizationRequired):
            await it.follower.renewed(Bearer("", 3))
        it.owner.renewed_to = 4  # whose word never comes
        late = asyncio.create_task(it.follower.renewed(Bearer("", 3)))
        await it.clock.advance(ARRIVAL + 0.1)
        assert await late is None


async def test_orders_are_passed_on_and_answered_when_they_are_in_use_here() -> None:
    it = Following()
    it.owner.say(it.word(1))
    async with it:
        it.owner.answers = [replace(UNTOLD, generation=generation) for generation in (2, 3, 4, 5, 5)]
        asking = asyncio.create_task(it.follower.execute(Refresh()))
        await settle()
        assert not asking.done()
        it.owner.say(it.word(2))
        assert (await asking).generation == 2
        it.owner.say(it.word(5))
        await settle()
        await it.follower.execute(Refresh(force=True))
        await it.follower.execute(Import(b"{}"))
        await it.follower.execute(Import(b"{}", True))
        await it.follower.execute(Login(RawAnswer(b"{}")))
        it.owner.answers = [LoggedOut("erased here", "p"), {"access_token": "b"}]
        assert await it.follower.execute(Logout()) == LoggedOut("erased here", "p")
        assert await it.follower.execute(Export()) == {"access_token": "b"}
        assert await it.follower.execute(Refill(10)) is False  # whoever owns the pair goes on with it
        assert it.owner.commands == [
            Refresh(), Refresh(force=True), Import(b"{}"), Import(b"{}", True), Login(RawAnswer(b"{}")), Logout(), Export(),
        ]  # fmt: skip
        it.owner.answers = [PersonNeeded("log in"), OwnerGone(str(GONE))]
        with pytest.raises(PersonNeeded):
            await it.follower.execute(Refresh())
        with pytest.raises(ServiceUnreachable, match="owns the pair"):
            await it.follower.execute(Refresh())


async def test_a_login_that_is_begun_here_is_told_to_the_owner() -> None:
    it = Following()
    it.owner.say(it.word(1, 0.0, access="expired", chain="dead"))
    async with it:
        until = it.clock.wall() + 600
        it.owner.answers = [CommandFailure("too busy"), None]
        await it.follower.execute(LoginPending(until))
        await settle()
        assert passed_on(it) == [until]
        assert it.follower.snapshot().login_until == it.follower.login_until == until
        await it.follower.execute(LoginPending(until))
        await settle()
        assert passed_on(it) == [until]  # what is known is not told again
        it.owner.say(it.word(2))
        await settle()
        assert it.follower.snapshot().login_until is None  # it has brought its pair


def passed_on(it: Following) -> list[float]:
    """Until when logins are open, as the owner was told; always by the same process."""
    told = [command for command in it.owner.commands if isinstance(command, LoginPending)]
    assert len({command.by for command in told}) <= 1
    return [command.until for command in told]


async def test_a_login_that_is_denied_here_is_over_for_the_owner_too() -> None:
    """Else clients of the owner would be told for ten minutes that a login is under way."""
    it = Following()
    dead = it.word(1, 0.0, access="expired", chain="dead")
    it.owner.say(dead)
    async with it:
        until = it.clock.wall() + 600
        it.owner.answers = [None] * 4
        await it.follower.execute(LoginPending(until))
        await settle()
        turn = it.follower.turn
        await it.follower.execute(LoginPending(it.clock.wall()))
        assert turn.is_set()  # whoever is parked here looks again at once
        await settle()
        assert passed_on(it) == [until, it.clock.wall()]
        assert it.follower.snapshot().login_until is None
        await it.follower.execute(LoginPending(until, "one that follows this one"))
        assert (it.follower.snapshot().login_until, it.follower.login_until) == (until, it.clock.wall())
        await it.follower.execute(LoginPending(it.clock.wall(), "one that follows this one"))
        await settle()
        assert passed_on(it)[-1] == it.clock.wall()


async def test_a_renewal_while_a_login_is_open_leaves_it_open() -> None:
    it = Following()
    it.owner.say(it.word(1))
    async with it:
        until = it.clock.wall() + 600
        it.owner.answers = [ZeroDivisionError("inside"), None, None]
        await it.follower.execute(LoginPending(until))
        await settle()
        assert [each.where for each in it.observer.of(TaskFailed)] == ["following"]
        it.owner.say(it.word(2, login_until=until))
        await settle()
        assert it.follower.login_until == until
        await it.follower.execute(LoginPending(it.clock.wall()))
        await settle()
        assert passed_on(it)[-1] == it.clock.wall()


async def test_an_owner_that_comes_later_hears_of_the_login_too() -> None:
    it = Following()
    it.owner.say(it.word(1, 0.0, access="expired", chain="dead"))
    async with it:
        until = it.clock.wall() + 600
        it.owner.answers = [None, None]
        await it.follower.execute(LoginPending(until))
        await settle()
        it.owner.say(None)
        await settle()
        it.owner.say(it.word(1, 0.0, access="expired", chain="dead"))
        await it.clock.advance(1)
        assert passed_on(it) == [until, until]


async def test_a_word_that_nobody_can_read_makes_no_deaf_follower() -> None:
    it = Following()
    it.owner.say(it.word(1))
    async with it:
        it.owner.say(ZeroDivisionError("inside"))
        await settle()
        assert it.follower.left.is_set()
        assert [each.where for each in it.observer.of(TaskFailed)] == ["following"]
        assert "inside" not in it.follower.snapshot().last_error
        it.owner.say(it.word(2))
        await it.clock.advance(1)
        assert it.follower.current().generation == 2


async def test_those_who_follow_the_follower_hear_every_change() -> None:
    it = Following()
    it.owner.say(it.word(1))
    async with it:
        heard: list[int] = []

        async def listen() -> None:
            async for followed in it.follower.changes():
                heard.append(followed.bearer.generation if followed.bearer else 0)

        listening = asyncio.create_task(listen())
        await settle()
        it.owner.say(it.word(2))
        await settle()
        assert heard == [1, 2]
        await it.clock.advance(1)
        assert heard == [1, 2, 2]
        news = asyncio.create_task(it.follower.news(5))
        await settle()
        it.owner.say(it.word(3))
        await asyncio.wait_for(news, 10)
    await asyncio.wait_for(listening, 10)  # it ends with the follower


async def test_what_was_known_before_counts_from_the_start() -> None:
    known = Following().word(4)
    it = Following(known)
    assert it.follower.current() == known.bearer
    assert it.follower.partition == "identity"


def test_a_snapshot_of_another_version_is_read_as_far_as_it_goes() -> None:
    from passoproxy.core.oauth.snapshot import told

    shown = told(
        {"access": "valid", "chain": 7, "generation": True, "runway_seconds": "long", "saved": False, "new": 1}
    )
    assert isinstance(shown, TokenSnapshot)
    assert (shown.access, shown.chain, shown.generation, shown.runway_seconds) == ("valid", "none", 0, None)
    assert (shown.saved, shown.role) == (False, "following")


# ---- an owner that stays away ------------------------------------------------------------------------------------------


async def test_what_an_owner_said_who_is_gone_for_long_is_not_repeated_as_if_he_were_there() -> None:
    it = Following()
    it.owner.say(it.word(next_refresh_at=it.clock.wall() + 20.0), None)
    async with it:
        it.owner.say(*[GONE] * 10_000)
        await it.clock.advance(ALONE - 5)
        shown = it.follower.snapshot()
        assert (shown.chain, shown.alone, shown.last_error) == ("healthy", False, str(GONE))
        await it.clock.advance(10)
        shown = it.follower.snapshot()
        assert (shown.access, shown.chain, shown.alone) == ("valid", "retrying", True)
        assert shown.reason.startswith("nobody renews the pair")
        assert shown.remedy == "bring back what the last error names before the access token ends"
        assert it.follower.current() is not None
        while not it.owner.words.empty():
            it.owner.words.get_nowait()
        it.owner.say(it.word(2))
        await it.clock.advance(1)
        assert (it.follower.snapshot().chain, it.follower.snapshot().alone) == ("healthy", False)


async def test_one_who_never_heard_the_owner_says_so_and_keeps_nobody_waiting() -> None:
    it = Following()
    it.owner.say(*[GONE] * 10_000)
    async with it:
        await it.clock.advance(CALLER_PATIENCE)
        with pytest.raises(TokenUnavailable, match="not told anything yet"):
            await it.follower.bearer()  # at once: it has been waited for
        await it.clock.advance(ALONE)
        shown = it.follower.snapshot()
        assert (shown.access, shown.alone, shown.remedy) == ("none", True, "bring back what the last error names")
        with pytest.raises(TokenUnavailable, match="nothing is known of the pair"):
            await it.follower.bearer()


# ---- an owner that is stopped ----------------------------------------------------------------------------------------


class StoppedOwner(FakeOwner):
    """Takes every question and answers none."""

    async def execute(self, command: Command) -> object:
        if isinstance(command, Renew401):
            self.renewals.append(command.generation)
        await asyncio.Event().wait()
        raise AssertionError


def stopped() -> Following:
    it = Following()
    owner = StoppedOwner(words=it.owner.words)
    it.owner = it.follower._owner = owner
    it.owner.say(it.word(1), it.word(1))
    return it


async def test_no_question_waits_longer_than_ten_seconds_for_an_owner_that_says_nothing() -> None:
    async with stopped() as it:
        refused = asyncio.create_task(it.follower.renewed(Bearer("", 1)))
        orders = [
            asyncio.ensure_future(order)
            for order in (
                it.follower.execute(Refresh()),
                it.follower.execute(Import(b"{}")),
                it.follower.execute(Login(RawAnswer(b"{}"))),
                it.follower.execute(Export()),
                it.follower.execute(Logout()),
            )
        ]
        await it.clock.advance(10)
        assert await refused is None
        for order in orders:
            with pytest.raises(ServiceUnreachable, match=r"owns the pair does not answer \(it has said nothing for"):
                await order
        again = asyncio.create_task(it.follower.renewed(Bearer("", 1)))  # it is known by now, and is asked all the same
        await it.clock.advance(2 * ARRIVAL)
        assert await again is None
        assert it.owner.renewals == [1, 1]


async def test_an_owner_that_lives_has_the_time_that_an_order_takes() -> None:
    async with stopped() as it:
        asking = asyncio.create_task(it.follower.execute(Refresh()))
        for _ in range(60):
            await it.clock.advance(1)
            it.owner.say(it.word(1))
        assert not asking.done()
        asking.cancel()


async def test_an_owner_for_another_client_is_not_followed() -> None:
    it = Following(client="client ours at https://p/token")
    it.owner.say(it.word(client="client ours at https://p/token"))
    async with it:
        before = it.follower.current()
        assert before.token == "token-1"
        it.owner.say(it.word(7, client="client theirs at https://q/token"))
        await it.clock.advance(1)
        shown = it.follower.snapshot()
        assert (it.follower.current(), it.follower.partition, shown.access, shown.generation) == (
            None,
            "nobody",
            "none",
            0,
        )
        assert shown.reason == "state.directory is served by a daemon for client theirs at https://q/token"
        await it.follower.execute(LoginPending(it.clock.wall() + 60))
        await it.clock.advance(1)
        assert await it.follower.renewed(before) is None
        for order in (
            it.follower.execute(Refresh()),
            it.follower.execute(Export()),
            it.follower.execute(Logout()),
            it.follower.execute(Import(b"{}")),
        ):
            with pytest.raises(
                CommandFailure, match=r"daemon for client theirs.*; give this one another state\.directory"
            ):
                await order
        assert (it.owner.commands, it.owner.renewals) == ([], [])
        it.owner.say(it.word(8, client="client ours at https://p/token"))
        await it.clock.advance(1)
        assert it.follower.current().token == "token-8"


async def test_a_step_of_the_clock_takes_no_token_from_those_who_follow() -> None:
    life = Life()
    keeper = await life.started_with_pair()
    follower = Follower(owner=keeper, clock=life.clock)  # type: ignore[arg-type]
    opening = asyncio.create_task(follower.open())
    await settle()
    await opening
    following = asyncio.create_task(follower.run())
    await settle()
    for seconds in (7200, -7200):
        life.clock.step(seconds)
        await life.clock.advance(1)  # the next heartbeat
        bearer = follower.current()
        assert bearer is not None
        assert bearer.until is not None
        assert 3590 < bearer.until - life.clock.wall() <= 3600
        assert follower.runway(unless_usable=True) is None
    await follower.close()
    await following
    await life.stop()
