"""Logins: state once, ten minutes, bound; the exchange; what goes wrong in a person's words."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import parse_qs, urlsplit

import pytest

from passoproxy.core.oauth.settings import Provider
from passoproxy.errors import (
    CommandFailure,
    ConfigurationError,
    PersonNeeded,
    ServiceUnreachable,
    TokenAnswerLost,
    TokenRequestUnsent,
)
from passoproxy.ports import TokenReply
from passoproxy.tokens.login import MOST_TICKETS, Logins
from tests.fakes import ScriptedTokenEndpoint, settle
from tests.tokens.life import PROVIDER, Life

GOOD = {"access_token": "a", "refresh_token": "def-a", "expires_in": 3600}


def reply(status: int = 200, words: object = GOOD) -> TokenReply:
    body = words if isinstance(words, bytes) else json.dumps(words).encode()
    return TokenReply(status, (("Content-Type", "application/json"),), body, 1_700_000_000.0, 1_700_000_000.0)


class Scene:
    def __init__(self, *script: object, provider: Provider = PROVIDER) -> None:
        self.endpoint = ScriptedTokenEndpoint(list(script))
        self.life = Life(endpoint=self.endpoint, provider=provider)
        self.count = 0

    async def __aenter__(self) -> Scene:
        await self.life.start()
        self.logins = Logins(self.life.asking, self.life.keeper, self.life.clock, self.random)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.life.stop()

    def random(self, size: int) -> str:
        self.count += 1
        return f"random-{self.count}-" + "x" * size

    def sent(self) -> dict[str, str]:
        return json.loads(self.endpoint.seen[-1].body)


async def test_a_login_from_beginning_to_end():
    async with Scene(reply()) as scene:
        ticket = await scene.logins.begin()
        asked = parse_qs(urlsplit(ticket.url).query)
        assert asked["state"] == [ticket.state]
        assert asked["code_challenge_method"] == ["S256"]
        assert ticket.state not in repr(ticket)
        waiting = asyncio.create_task(scene.logins.wait(ticket.state, 25))
        await settle()
        shown = await scene.logins.complete(f"code=c&state={ticket.state}")
        assert shown.chain == "healthy"
        assert await waiting == shown
        assert await scene.logins.wait(ticket.state, 25) == shown
        assert scene.sent()["code"] == "c"
        assert len(scene.sent()["code_verifier"]) >= 43
        assert scene.life.keeper.current().token == "a"
        assert scene.life.store.generations[1].source == "login"


async def test_without_pkce_no_verifier_is_sent():
    async with Scene(
        reply(), provider=Provider(token_url="https://p/t", authorization_url="https://p/a", pkce=False)
    ) as scene:
        ticket = await scene.logins.begin()
        assert "code_challenge" not in ticket.url
        await scene.logins.complete(f"http://127.0.0.1:8611/oauth/callback?state={ticket.state}&code=c")
        assert "code_verifier" not in scene.sent()


async def test_a_state_is_good_once_and_for_ten_minutes():
    async with Scene(reply()) as scene:
        ticket = await scene.logins.begin()
        await scene.logins.complete(f"code=c&state={ticket.state}")
        with pytest.raises(CommandFailure, match="no open login"):
            await scene.logins.complete(f"code=c&state={ticket.state}")
        late = await scene.logins.begin()
        await scene.life.clock.advance(600)
        with pytest.raises(CommandFailure, match="ten minutes"):
            await scene.logins.complete(f"code=c&state={late.state}")
        with pytest.raises(CommandFailure, match="ten minutes"):
            await scene.logins.wait(late.state, 1)
        assert len(scene.endpoint.seen) == 1


@pytest.mark.parametrize(
    "redirect", ["", "code=c", "code=c&state=", "code=c&state=other", "code=c&state=ünknown", "#state"]
)
async def test_a_wrong_state_is_refused_and_nothing_is_sent(redirect):
    async with Scene() as scene:
        await scene.logins.begin()
        with pytest.raises(CommandFailure) as told:
            await scene.logins.complete(redirect)
        assert told.value.exit_code == 1
        with pytest.raises(CommandFailure):
            await scene.logins.wait("other", 1)
        assert scene.endpoint.seen == []


@pytest.mark.parametrize(
    ("began", "came", "good"),
    [
        ("cookie", "cookie", True),
        ("cookie", None, False),
        ("cookie", "other", False),
        ("cookie", "", False),
        ("cookie", "command", False),
        (None, None, True),
        (None, "cookie", True),
    ],
)
async def test_a_login_is_bound_to_its_browser_or_to_its_command(began, came, good):
    async with Scene(reply()) as scene:
        ticket = await scene.logins.begin(began)
        if good:
            await scene.logins.complete(f"code=c&state={ticket.state}", came)
        else:
            with pytest.raises(CommandFailure, match="another browser"):
                await scene.logins.complete(f"code=c&state={ticket.state}", came)
            await scene.logins.complete(f"code=c&state={ticket.state}", began)


@pytest.mark.parametrize(
    ("redirect", "words"),
    [
        ("error=access_denied&error_description=The+user%0Adenied", r"access_denied \(The user denied\)"),
        ("error=server_error", "server_error"),
    ],
)
async def test_an_error_redirect_is_told(redirect, words):
    async with Scene() as scene:
        ticket = await scene.logins.begin()
        with pytest.raises(PersonNeeded, match=words) as told:
            await scene.logins.complete(f"{redirect}&state={ticket.state}")
        assert told.value.exit_code == 77
        with pytest.raises(PersonNeeded):
            await scene.logins.wait(ticket.state, 1)


async def test_a_redirect_without_a_code():
    async with Scene() as scene:
        ticket = await scene.logins.begin()
        with pytest.raises(CommandFailure, match="neither a code"):
            await scene.logins.complete(f"state={ticket.state}")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (TokenRequestUnsent("no address for provider.example"), ServiceUnreachable),
        (TokenAnswerLost("timeout"), ServiceUnreachable),
        (ValueError("surprise"), ServiceUnreachable),
        (reply(503), ServiceUnreachable),
        (reply(200, b"garbage"), ServiceUnreachable),
        (reply(400, {"error": "invalid_grant"}), PersonNeeded),
        (reply(401, {"error": "invalid_client"}), ConfigurationError),
    ],
)
async def test_an_exchange_that_fails(answer, error):
    async with Scene(answer) as scene:
        ticket = await scene.logins.begin()
        with pytest.raises(error):
            await scene.logins.complete(f"code=c&state={ticket.state}")
        assert scene.life.keeper.current() is None


async def test_a_secret_that_cannot_be_read_is_told_before_anything_is_sent():
    async with Scene() as scene:

        def secret() -> str:
            raise CommandFailure("/etc/secret: cannot be read")

        scene.life.asking._secret = secret
        ticket = await scene.logins.begin()
        with pytest.raises(ConfigurationError, match="/etc/secret"):
            await scene.logins.complete(f"code=c&state={ticket.state}")
        assert scene.endpoint.seen == []


async def test_a_browser_that_hangs_up_does_not_lose_the_code():
    async with Scene(reply()) as scene:
        ticket = await scene.logins.begin()
        browser = asyncio.create_task(scene.logins.complete(f"code=c&state={ticket.state}"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        browser.cancel()
        assert (await scene.logins.wait(ticket.state, 25)).chain == "healthy"


async def test_a_fault_inside_ends_the_wait():
    async with Scene(reply()) as scene:

        async def broken(*_: object) -> None:
            raise ZeroDivisionError

        ticket = await scene.logins.begin()
        scene.life.asking.exchange = broken
        with pytest.raises(CommandFailure, match="ZeroDivisionError"):
            await scene.logins.complete(f"code=c&state={ticket.state}")


async def test_waiting_ends_without_an_outcome():
    async with Scene() as scene:
        ticket = await scene.logins.begin()
        waiting = asyncio.create_task(scene.logins.wait(ticket.state, 25))
        await scene.life.clock.advance(26)
        assert await waiting is None


async def test_an_end_of_the_process_is_not_held_up_by_whoever_waits():
    async with Scene() as scene:
        ticket = await scene.logins.begin()
        waiting = asyncio.create_task(scene.logins.wait(ticket.state, 25))
        await settle()
        await scene.logins.leave(5)
        with pytest.raises(ServiceUnreachable, match="being stopped"):
            await waiting


async def test_many_logins_give_way_and_old_ones_are_forgotten():
    async with Scene() as scene:
        tickets = [await scene.logins.begin() for _ in range(MOST_TICKETS + 1)]
        with pytest.raises(CommandFailure):
            await scene.logins.complete(f"code=c&state={tickets[0].state}")
        with pytest.raises(CommandFailure, match="neither"):
            await scene.logins.complete(f"state={tickets[-1].state}")
        await scene.life.clock.advance(601)
        await scene.logins.begin()
        assert len(scene.logins._open) == 1
        assert scene.logins._ended == []


async def test_nobody_can_log_in_without_an_authorization_url():
    async with Scene(provider=Provider(token_url="https://p/t")) as scene:
        with pytest.raises(CommandFailure, match="authorization_url"):
            await scene.logins.begin()


async def test_a_login_that_came_to_nothing_is_open_no_more():
    async with Scene() as scene:
        first, second = await scene.logins.begin(), await scene.logins.begin()
        await scene.life.clock.advance(60)
        with pytest.raises(PersonNeeded):
            await scene.logins.complete(f"error=access_denied&state={first.state}")
        shown = scene.life.keeper.snapshot()
        assert shown.login_until == pytest.approx(second.expires_at, abs=0.001)  # the other one still is
        with pytest.raises(PersonNeeded):
            await scene.logins.complete(f"error=access_denied&state={second.state}")
        assert scene.life.keeper.snapshot().login_until is None


async def test_a_login_that_is_denied_wakes_whoever_waits_for_it():
    async with Scene() as scene:
        ticket = await scene.logins.begin()
        news = asyncio.ensure_future(scene.life.keeper.news(1000))
        await settle()
        assert not news.done()
        with pytest.raises(PersonNeeded):
            await scene.logins.complete(f"error=access_denied&state={ticket.state}")
        await settle()
        assert news.done()
