"""The owner over its control socket: its words, its refusals, and its end, however deep the folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.oauth.snapshot import UNTOLD
from passoproxy.errors import AuthorizationRequired, CommandFailure, OwnerGone, PairStoreFailure, PersonNeeded
from passoproxy.host import control_server, control_socket
from passoproxy.host.control_server import ControlSite
from passoproxy.host.remote_owner import ControlOwner
from passoproxy.ports import Followed
from passoproxy.server.admin.app import control_application
from passoproxy.server.admin.sessions import PageSessions
from passoproxy.telemetry.live import Live
from passoproxy.tokens.commands import Command, Import, Logout, Refresh, Renew401
from passoproxy.tokens.messages import answered, document_of, packed
from tests.fakes import settle
from tests.other_users import OTHER, acting_as, needs_root, opened_to_all, planted_socket, what_came
from tests.server.fake_daemon import FakeDaemon


class Following(FakeDaemon):
    """A daemon whose words a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.words: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self.refusal: Exception | None = None
        self.commands: list[Command] = []

    async def changes(self) -> AsyncIterator[dict[str, object]]:
        while True:
            yield await self.words.get()

    async def execute(self, message: bytes) -> dict[str, object]:
        async def executed(command: Command) -> object:
            if self.refusal is not None:
                raise self.refusal
            self.commands.append(command)
            return command.generation + 1 if isinstance(command, Renew401) else replace(UNTOLD, generation=7)

        return await answered(SimpleNamespace(execute=executed), message)


class Role:
    """Who holds the pair."""

    def __init__(self, role: str) -> None:
        self.role = role

    async def news(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def no_metrics(accept: str) -> tuple[bytes, str]:
    return b"", "text/plain"


@contextlib.asynccontextmanager
async def serving(folder: Path, daemon: Following, role: Role | None = None) -> AsyncIterator[ControlSite]:
    folder.mkdir(parents=True, exist_ok=True)
    site = ControlSite(folder, role or Role("owner"))
    site.open()
    await site.start(control_application(daemon, PageSessions(), no_metrics, Live().watch))
    try:
        yield site
    finally:
        await site.close()


def followed(generation: int) -> Followed:
    return Followed(Bearer("token", generation, 5.0), "partition", {"generation": generation})


@pytest.mark.parametrize("deep", [0, 6])
async def test_every_word_comes_through_until_the_owner_ends(tmp_path: Path, deep: int) -> None:
    folder, daemon = tmp_path.joinpath(*["a-folder-with-a-long-name"] * deep), Following()
    heard: list[Followed] = []
    async with serving(folder, daemon) as site:

        async def listen() -> None:
            async for each in ControlOwner(folder).changes():
                heard.append(each)

        listening = asyncio.create_task(listen())
        daemon.words.put_nowait(document_of(followed(1)))
        daemon.words.put_nowait(document_of(followed(2)))
        async with asyncio.timeout(20):
            while len(heard) < 2:
                await asyncio.sleep(0.005)
        assert heard == [followed(1), followed(2)]
        async with asyncio.timeout(20):  # the stream does not hold up its end
            await site.close()
        with contextlib.suppress(PairStoreFailure):
            await asyncio.wait_for(listening, 20)


async def test_a_follower_that_leaves_is_forgotten(tmp_path: Path) -> None:
    daemon = Following()
    async with serving(tmp_path, daemon):
        owner = ControlOwner(tmp_path)
        daemon.words.put_nowait(document_of(followed(1)))
        async for each in owner.changes():
            assert each == followed(1)
            break
        await settle()
        for _ in range(3):
            daemon.words.put_nowait(document_of(followed(2)))
            await asyncio.sleep(0.01)


async def test_what_is_asked_is_answered_or_raised(tmp_path: Path) -> None:
    daemon = Following()
    async with serving(tmp_path, daemon):
        owner = ControlOwner(tmp_path)
        commands = [Renew401(4, "p", again=True), Import(b'{"access_token": "x"}')]
        assert await owner.execute(commands[0]) == 5
        assert (await owner.execute(commands[1])).generation == 7
        assert daemon.commands == commands
        daemon.refusal = AuthorizationRequired("the chain is dead", 30)
        with pytest.raises(AuthorizationRequired, match="the chain is dead") as caught:
            await owner.execute(Renew401(4))
        assert caught.value.fields == (("Retry-After", "30"),)
        daemon.refusal = PersonNeeded("log in")
        with pytest.raises(PersonNeeded, match="log in"):
            await owner.execute(Refresh())
        daemon.refusal = CommandFailure("no")
        with pytest.raises(CommandFailure, match="no"):
            await owner.execute(Refresh())


async def test_nobody_there(tmp_path: Path) -> None:
    owner = ControlOwner(tmp_path)
    with pytest.raises(PairStoreFailure, match=r"control\.sock"):
        async for _ in owner.changes():
            pass
    with pytest.raises(OwnerGone):
        await owner.execute(Renew401(1))
    with pytest.raises(OwnerGone):
        await ControlOwner(tmp_path / ("missing-" * 12)).execute(Refresh())


async def test_another_program_there(tmp_path: Path) -> None:
    async def nonsense(request: web.Request) -> web.Response:
        return web.Response(text="nonsense\n" if request.method == "GET" else json.dumps([]))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", nonsense)
    site = ControlSite(tmp_path, Role("owner"))
    site.open()
    await site.start(app)
    with pytest.raises(PairStoreFailure):
        async for _ in ControlOwner(tmp_path).changes():
            pass
    await site.close()
    site = ControlSite(tmp_path, Role("owner"))
    site.open()
    await site.start(web.Application())
    with pytest.raises(PairStoreFailure, match="404"):
        async for _ in ControlOwner(tmp_path).changes():
            pass
    with pytest.raises(OwnerGone):
        await ControlOwner(tmp_path).execute(Refresh())  # a 404 that is no JSON
    await site.close()


async def test_a_follower_takes_the_owners_name_when_it_becomes_one(tmp_path: Path) -> None:
    first, second, role = Following(), Following(), Role("following")
    own = control_socket.follower_name()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(serving(tmp_path, first))
        async with serving(tmp_path, second, role) as site:
            assert site.name == own
            naming = asyncio.create_task(site.keep_named())
            await settle()
            role.role = "owner"  # though somebody answers there still
            await asyncio.sleep(0.02)
            assert site.name == own
            await stack.aclose()
            await named(site, control_socket.NAME)
            assert [path.name for path in tmp_path.glob("control*")] == [control_socket.NAME]
            assert await ControlOwner(tmp_path).execute(Renew401(1)) == 2
            naming.cancel()
    assert list(tmp_path.glob("control*")) == []


async def named(site: ControlSite, name: str) -> None:
    async with asyncio.timeout(20):
        while site.name != name:
            await asyncio.sleep(0.005)


async def test_one_who_is_the_owner_no_more_leaves_the_name_and_is_not_followed(tmp_path: Path) -> None:
    """A lock that was removed makes a second owner; the first one may have called itself before the name was another's."""
    daemon, role = Following(), Role("owner")
    async with serving(tmp_path, daemon, role) as site:
        naming = asyncio.create_task(site.keep_named())
        heard = []

        async def listen() -> None:
            async for each in ControlOwner(tmp_path).changes():
                heard.append(each)

        listening = asyncio.create_task(listen())
        daemon.words.put_nowait(document_of(followed(1)))
        async with asyncio.timeout(20):
            while not heard:
                await asyncio.sleep(0.005)
        role.role = "following"
        await named(site, control_socket.follower_name())
        with contextlib.suppress(PairStoreFailure):
            await asyncio.wait_for(listening, 20)
        async with serving(tmp_path, Following()) as new:
            assert new.name == control_socket.NAME
            assert await ControlOwner(tmp_path).execute(Renew401(1)) == 2
        control_socket.connect(tmp_path, 1).close()  # and this one is there still
        naming.cancel()
    assert list(tmp_path.glob("control*")) == []


async def test_a_call_that_comes_to_be_heard_after_the_change_is_sent_away_too(tmp_path: Path) -> None:
    daemon, role = Following(), Role("owner")
    async with serving(tmp_path, daemon, role) as site:
        naming = asyncio.create_task(site.keep_named())
        reader, writer = await asyncio.open_unix_connection(tmp_path / control_socket.NAME)
        role.role = "following"
        await named(site, control_socket.follower_name())
        writer.write(b"GET /api/token/follow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        daemon.words.put_nowait(document_of(followed(1)))
        async with asyncio.timeout(20):
            heard = await reader.read()  # to its end: else this process would follow its own word
        assert heard.startswith(b"HTTP/1.1 200")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        naming.cancel()


async def test_a_call_that_is_heard_after_the_last_look_within_the_time_is_sent_away_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_server, "LATE_CALLS", 0.0)
    daemon, role = Following(), Role("owner")
    looks = asyncio.Semaphore(0)

    async def news(seconds: float) -> None:
        await looks.acquire()

    role.news = news  # type: ignore[method-assign]
    async with serving(tmp_path, daemon, role) as site:
        naming = asyncio.create_task(site.keep_named())
        reader, writer = await asyncio.open_unix_connection(tmp_path / control_socket.NAME)
        role.role = "following"
        looks.release()
        await named(site, control_socket.follower_name())
        writer.write(b"GET /api/token/follow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        daemon.words.put_nowait(document_of(followed(1)))
        async with asyncio.timeout(20):
            heard = await reader.readuntil(b"snapshot")
            looks.release()
            heard += await reader.read()
        assert heard.startswith(b"HTTP/1.1 200")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        naming.cancel()


async def test_an_owner_beside_a_daemon_without_a_pair(tmp_path: Path) -> None:
    async with serving(tmp_path, Following()), serving(tmp_path, Following()) as second:
        assert second.name == control_socket.follower_name()
        assert await ControlOwner(tmp_path).execute(Renew401(1)) == 2  # and the first one has seen off whoever looked


async def test_commands_prefer_the_owner_and_left_overs_go(tmp_path: Path) -> None:
    (tmp_path / "control-4.txt").touch()
    control_socket.listen(tmp_path, "control-1.sock").close()
    with control_socket.listen(tmp_path, "control-2.sock"):
        control_socket.connect(tmp_path, 1).close()  # the owner is gone, and this one is not
        control_socket.clear_left_over(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"control-2.sock", "control-4.txt"}
        (tmp_path / "control-3.sock").mkdir()
        control_socket.clear_left_over(tmp_path)


# ---- peers (contract §2) ---------------------------------------------------------------------------------------------


@needs_root
async def test_a_follower_says_nothing_to_a_socket_that_another_user_planted(tmp_path: Path) -> None:
    with planted_socket(tmp_path) as listener:
        with pytest.raises(OwnerGone, match="65534"):
            await ControlOwner(tmp_path).execute(Import(b'{"access_token": "secret"}'))
        with pytest.raises(PairStoreFailure, match="65534"):
            async for _ in ControlOwner(tmp_path).changes():
                pass
        assert await asyncio.to_thread(what_came, listener) == b""


@needs_root
async def test_the_daemon_hears_nobody_but_its_own_user_and_root(tmp_path: Path) -> None:
    """The file's mode decides that on most file systems; on some it says nothing."""
    daemon = Following()
    command = json.dumps(packed(Logout())).encode()
    request = b"POST /api/token/commands HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (
        len(command),
        command,
    )
    async with serving(tmp_path, daemon):
        opened_to_all(tmp_path)
        (tmp_path / "control.sock").chmod(0o666)
        for user, heard in ((OTHER, b""), (0, b"HTTP/1.1 200 OK")):
            with acting_as(user):
                reader, writer = await asyncio.open_unix_connection(tmp_path / "control.sock")
            writer.write(request)
            async with asyncio.timeout(20):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read(15) == heard
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        assert daemon.commands == [Logout()]
