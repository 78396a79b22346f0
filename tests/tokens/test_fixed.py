"""A static token: read anew, never refreshed, its partition kept only where its subject is."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from passoproxy.core.events import ChainChanged
from passoproxy.errors import CommandFailure, TokenUnavailable
from passoproxy.ports import RawAnswer
from passoproxy.tokens.commands import Export, Import, Leave, Login, LoginPending, Logout, Refill, Refresh
from passoproxy.tokens.static import StaticToken
from tests.fakes import FakeClock, RememberingObserver, settle
from tests.tokens.life import PROVIDER


def jwt(**claims: object) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJh.{middle}.sig"


class File:
    def __init__(self, text: str | Exception) -> None:
        self.text = text

    def __call__(self) -> str:
        if isinstance(self.text, Exception):
            raise self.text
        return self.text


async def opened(text: str | Exception) -> tuple[StaticToken, File, FakeClock, RememberingObserver]:
    file, clock, observer = File(text), FakeClock(), RememberingObserver()
    keeper = StaticToken(read=file, provider=PROVIDER, clock=clock, observe=observer)
    await keeper.open()
    return keeper, file, clock, observer


async def test_a_static_token_is_used_as_it_is():
    keeper, _, _, observer = await opened(" token-1\n")
    assert keeper.current().token == (await keeper.bearer()).token == "token-1"
    shown = keeper.snapshot()
    assert (shown.access, shown.chain, shown.runway_seconds, shown.grant, shown.remedy) == (
        "valid",
        "none",
        None,
        "static",
        "",
    )
    assert await keeper.execute(Export()) == {"access_token": "token-1", "token_type": "Bearer"}
    assert len(observer.of(ChainChanged)) == 1
    assert "token-1" not in repr(observer.events)
    assert (keeper.usable_until, keeper.runway()) == (float("inf"), None)  # no person is ever needed
    for command in (LoginPending(1e12), Leave(5.0)):
        assert await keeper.execute(command) is None
    assert await keeper.execute(Refill(5.0)) is False


async def test_a_changed_token_is_noticed_and_keeps_its_partition_only_with_its_subject():
    keeper, file, _, _ = await opened(jwt(sub="s", exp=2_000_000_000, jti=1))
    first, bearer = keeper.partition, keeper.current()
    assert bearer.until == 2_000_000_000
    file.text = jwt(sub="s", exp=True, jti=2)
    assert (await keeper.renewed(bearer)).generation == 2
    assert keeper.partition == first
    file.text = "opaque"
    assert (await keeper.bearer()).until is None
    assert keeper.partition != first
    assert await keeper.renewed(keeper.current()) is None


@pytest.mark.parametrize("exp", [10**400, float("inf"), True, "soon", None])
async def test_an_end_that_is_no_moment_is_none(exp):
    keeper, _, _, _ = await opened(jwt(sub="s", exp=exp))
    assert keeper.current().until is None


async def test_it_is_read_again_within_thirty_seconds():
    keeper, file, clock, _ = await opened("one")
    task = asyncio.create_task(keeper.run())
    file.text = "two"
    await settle()
    await clock.advance(30)
    assert keeper.current().token == "two"
    await keeper.close()
    await task


@pytest.mark.parametrize("text", [CommandFailure("/etc/token: cannot be read"), "", "two words", "ü", "a\x00b"])
async def test_a_token_that_cannot_be_used_is_told_and_the_last_one_serves_on(text):
    keeper, file, _, _ = await opened(text)
    assert keeper.current() is None
    assert keeper.snapshot().access == "none"
    with pytest.raises(TokenUnavailable, match="no static token"):
        await keeper.bearer()
    file.text = "good"
    await keeper.bearer()
    file.text = text
    assert (await keeper.bearer()).token == "good"
    assert keeper.snapshot().last_error


async def test_nothing_can_be_done_to_it():
    keeper, _, _, _ = await opened("x")
    for order in (
        keeper.execute(Refresh(True)),
        keeper.execute(Import(b"{}")),
        keeper.execute(Login(RawAnswer(b""))),
        keeper.execute(Logout()),
    ):
        with pytest.raises(CommandFailure, match="static"):
            await order


async def test_its_news_are_that_time_went_by():
    keeper, _, clock, _ = await opened("one")
    news = asyncio.ensure_future(keeper.news(5))
    await clock.advance(4)
    assert not news.done()
    await clock.advance(1.1)
    assert news.done()


async def test_without_a_token_every_caller_hears_why():
    keeper = StaticToken(read=None, provider=PROVIDER, clock=FakeClock(), why="recordings answer")
    await keeper.open()
    assert (keeper.current(), keeper.snapshot().reason) == (None, "recordings answer")
    with pytest.raises(TokenUnavailable, match="recordings answer"):
        await keeper.bearer()
    with pytest.raises(CommandFailure, match="recordings answer"):
        await keeper.execute(Refresh())
