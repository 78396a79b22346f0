"""Logout: one of the keeper's commands. Both tokens of the newest pair are revoked, and the pair is erased in any case."""

from __future__ import annotations

import asyncio
import json

import pytest

from passoproxy.core.events import PairErased
from passoproxy.core.oauth.settings import Provider
from passoproxy.errors import CommandFailure, PairStoreFailure, TokenAnswerLost, TokenRequestUnsent
from passoproxy.ports import TokenReply, TokenRequest
from passoproxy.tokens.commands import Export, Import, Leave, Logout, Refresh
from tests.fakes import ScriptedTokenEndpoint
from tests.tokens.life import PROVIDER, Life

GOOD = json.dumps({"access_token": "a", "refresh_token": "def-a", "expires_in": 3600}).encode()
REVOKING = Provider(token_url="https://p/t", authorization_url="https://p/a", revocation_url="https://p/revoke")


def reply(status: int = 200, body: bytes = b"") -> TokenReply:
    return TokenReply(status, (("Content-Type", "application/json"),), body, 1_700_000_000.0, 1_700_000_000.0)


class Scene:
    """A keeper with a pair, and a provider that answers by its script."""

    def __init__(self, *script: object, provider: Provider = REVOKING) -> None:
        self.endpoint = ScriptedTokenEndpoint(list(script))
        self.life = Life(endpoint=self.endpoint, provider=provider)

    async def __aenter__(self) -> Scene:
        self.keeper = await self.life.started_with_pair()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.life.stop()


async def test_both_tokens_are_revoked_and_the_pair_is_erased():
    async with Scene(reply(), reply()) as scene:
        document = json.dumps(scene.life.held()).encode()
        partition = scene.keeper.partition
        done = await scene.keeper.execute(Logout())
        assert (done.revocation, done.partition) == ("revoked at the provider and erased here", partition)
        assert [request.url for request in scene.endpoint.seen] == ["https://p/revoke"] * 2
        assert b"token=def-refresh-1&token_type_hint=refresh_token" in scene.endpoint.seen[0].body
        assert b"token=access-1&token_type_hint=access_token" in scene.endpoint.seen[1].body
        shown = scene.keeper.snapshot()
        assert (scene.keeper.current(), shown.access, shown.chain, shown.runway_seconds) == (None, "none", "none", 0)
        assert scene.life.store.generations == {}
        assert scene.life.observer.of(PairErased) == [PairErased("revoked at the provider and erased here")]
        assert (await scene.keeper.execute(Import(document))).chain == "dead"


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        ([reply(503), reply()], 2),  # one that is refused says nothing of the other
        ([reply(), reply(503)], 2),
        ([TokenRequestUnsent("no connection")], 1),
        ([TokenAnswerLost("no answer within 10 s")], 1),
    ],
)
async def test_the_pair_is_erased_even_where_the_provider_is_away(answers: list[object], asked: int):
    async with Scene(*answers) as scene:
        assert (await scene.keeper.execute(Logout())).revocation.startswith(
            "erased here, but not revoked at the provider: "
        )
        assert len(scene.endpoint.seen) == asked
        assert scene.keeper.current() is None


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([reply()] * 4, "revoked at the provider, but not erased here"),
        ([reply(503)] * 4, "neither revoked nor"),
    ],
)
async def test_what_is_done_is_said_where_the_pair_cannot_be_erased(answers: list[TokenReply], said: str):
    async with Scene(*answers) as scene:
        scene.life.store.failing = {"save_record", "erase"}
        with pytest.raises(PairStoreFailure, match=f"{said}.*then run 'passoproxy logout' again"):
            await scene.keeper.execute(Logout())
        assert scene.keeper.current() is not None
        scene.life.store.failing = set()
        await scene.keeper.execute(Logout())
        assert scene.keeper.current() is None


async def test_without_a_revocation_endpoint_and_without_a_pair():
    async with Scene(provider=PROVIDER) as scene:
        assert "no revocation endpoint" in (await scene.keeper.execute(Logout())).revocation
        with pytest.raises(CommandFailure, match="nothing to log out from: nobody has authorised") as caught:
            await scene.keeper.execute(Logout())
        assert caught.value.exit_code == 1  # no call for a person


async def test_a_pair_that_is_handed_over_is_left_to_whoever_has_it():
    async with Scene() as scene:
        await scene.keeper.execute(Export())
        done = await scene.keeper.execute(Logout())
        assert done.revocation.startswith("erased here, and not revoked: it was handed over")
        assert scene.endpoint.seen == []
        assert scene.keeper.current() is None


async def test_an_import_that_was_not_proved_yet_is_revoked_and_forgotten_too():
    async with Scene(TokenAnswerLost("the connection broke"), *[reply()] * 4) as scene:
        scene.life.having(lost_answer_replay="never")
        order = asyncio.ensure_future(scene.keeper.execute(Import(scene.life.document())))
        await scene.life.clock.advance(2)
        with pytest.raises(CommandFailure, match="both pairs are kept"):
            await order
        assert "a pair that nobody has seen may live on" in (await scene.keeper.execute(Logout())).revocation
        sent = [request.body.split(b"&")[0] for request in scene.endpoint.seen[1:]]
        assert sent == [b"token=def-refresh-1", b"token=access-1", b"token=def-refresh-2", b"token=access-2"]
        assert scene.life.store.record.candidate is None
        assert scene.keeper.snapshot().chain == "none"


async def test_a_pair_that_may_live_on_unseen_is_named():
    async with Scene(TokenAnswerLost("the connection broke"), reply(), reply()) as scene:
        scene.life.having(lost_answer_replay="never")
        with pytest.raises(CommandFailure):
            await scene.keeper.execute(Refresh())
        assert "a pair that nobody has seen may live on" in (await scene.keeper.execute(Logout())).revocation


async def test_a_revocation_under_way_has_the_time_that_is_left_before_a_stop():
    class Silent(ScriptedTokenEndpoint):
        async def post(self, request: TokenRequest, timeout: float) -> TokenReply:
            await life.clock.sleep(timeout)
            raise TokenAnswerLost("no answer")

    life = Life(endpoint=Silent([]), provider=REVOKING)
    keeper = await life.started_with_pair()
    logout = asyncio.create_task(keeper.execute(Logout()))
    await life.clock.advance(1)
    leaving = asyncio.create_task(keeper.execute(Leave(4.0)))
    await life.clock.advance(4.1)
    assert leaving.done()
    assert (await logout).revocation.startswith("erased here, but not revoked at the provider")
    assert life.store.generations == {}
    await life.stop()
