"""A worker in this process, on a channel whose other end is the test; and a daemon here with workers of its own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import math
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from passoproxy import worker as module
from passoproxy.compose import workers as parent_module
from passoproxy.compose.workers import Parent
from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.oauth.snapshot import UNTOLD
from passoproxy.core.origin import Answered
from passoproxy.errors import AuthorizationRequired, CommandFailure
from passoproxy.host.workers import Channel, Document, Worker
from passoproxy.ports import Followed
from passoproxy.tokens.commands import Command, Renew401
from passoproxy.tokens.messages import document_of, packed
from passoproxy.worker import Life
from tests.whole import CONTENT, Place, Running, running, sandboxed


def followed(token: str, generation: int = 1) -> dict[str, Any]:
    shown = dataclasses.replace(UNTOLD, access="valid", chain="healthy", generation=generation)
    return document_of(Followed(Bearer(token, generation, None), "identity", dataclasses.asdict(shown)))


class OtherEnd:
    """The other end of a worker's channel."""

    def __init__(self, channel: Channel, port: int) -> None:
        self.channel, self.url = channel, f"http://127.0.0.1:{port}"
        self.heard: list[Document] = []

    async def listen(self) -> None:
        while (document := await self.channel.hear()) is not None:
            self.heard.append(document)
            if document["kind"] == "hello":
                self.channel.tell("granted", count=2)

    def said(self, kind: str) -> list[Document]:
        return [each for each in self.heard if each["kind"] == kind]

    async def until(self, kind: str, count: int = 1) -> Document:
        async with asyncio.timeout(20):
            while len(self.said(kind)) < count:
                await asyncio.sleep(0.005)
        return self.said(kind)[count - 1]

    async def get(self, target: str) -> int:
        async with aiohttp.ClientSession(trust_env=False) as session, session.get(self.url + target) as answer:
            await answer.read()
            return answer.status


@contextlib.asynccontextmanager
async def working(place: Place, **sections: Any) -> AsyncIterator[tuple[OtherEnd, asyncio.Task[int]]]:
    text = place.write(**{"server": {"listen": "127.0.0.1:0", "workers": 2}, **sections}).read_text()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours, theirs = socket.socketpair()
        parent = OtherEnd(await Channel.over(ours), listener.getsockname()[1])
        listening = asyncio.create_task(parent.listen())
        life = asyncio.create_task(module._live(theirs.detach()))
        parent.channel.tell(
            "begin",
            path=str(place.config),
            text=text,
            place=0,
            sockets=[listener.detach()],
            ports=[1],
            followed=followed("first"),
        )
        try:
            yield parent, life
        finally:
            parent.channel.close()
            await asyncio.wait_for(life, 20)
            await asyncio.wait_for(listening, 20)


async def test_it_serves_counts_and_drains(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as place, running(place, authorised=True) as owner:
        token = owner.wired.keeper.current()
        assert token is not None
        (tmp_path / "worker").mkdir()
        mine = dataclasses.replace(place, folder=tmp_path / "worker")
        async with working(mine) as (parent, life):
            await parent.until("ready")
            asking = asyncio.create_task(parent.get(CONTENT))  # `first` is no token of the sandbox's
            asked = await parent.until("command")
            parent.channel.tell("followed", followed=followed(token.token, 2), level=2)
            parent.channel.tell("reply", id=asked["id"], reply={"answer": 2})
            assert await asking == 200
            await until(lambda: any(each["stored"] for each in parent.said("counted")))
            counted = await parent.until("counted", len(parent.said("counted")) + 1)
            stored = [key for each in parent.said("counted") for key in each["stored"]]
            assert len(stored) == 1
            assert counted["memory"]["tier"] == "memory"
            total = sum(each["recent"]["counts"].get("miss", 0) for each in parent.said("counted"))
            assert total <= 1
            parent.channel.tell("cool", seconds=0.1)
            parent.channel.tell("drain", grace=1.0)
            assert await asyncio.wait_for(life, 30) == 0


async def test_it_sends_the_spans_of_its_requests(tmp_path: Path) -> None:
    from tests.otlp import collector

    async with (
        collector() as found,
        sandboxed(tmp_path) as place,
        working(place, tracing={"otlp_endpoint": found.url}) as (parent, _),
    ):
        await parent.until("ready")
        assert await parent.get("/__internal/x") == 403
    (span,) = found.spans
    assert (span.kind, span["error.type"], span["http.response.status_code"]) == ("server", "path_not_allowed", 403)


async def test_what_the_parent_says_counts_while_it_drains(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as place, running(place, authorised=True) as owner:
        token = owner.wired.keeper.current()
        assert token is not None
        (tmp_path / "worker").mkdir()
        mine = dataclasses.replace(place, folder=tmp_path / "worker")
        async with working(mine) as (parent, life):
            await parent.until("ready")
            asking = asyncio.create_task(parent.get(CONTENT))
            asked = await parent.until("command")
            parent.channel.tell("drain", grace=20.0)
            parent.channel.tell("followed", followed=followed(token.token, 2), level=2)
            parent.channel.tell("reply", id=asked["id"], reply={"answer": 2})
            assert await asking == 200
            assert await asyncio.wait_for(life, 30) == 0


async def test_a_401_whose_renewal_is_refused(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as place, working(place) as (parent, _):
        await parent.until("ready")
        asking = asyncio.create_task(parent.get(CONTENT))
        asked = await parent.until("command")
        fault = {"code": "authorization_required", "exit_code": 1, "detail": "the chain is dead", "retry_after": 30}
        parent.channel.tell("reply", id=asked["id"], reply={"fault": fault})
        assert await asking == 503


async def test_it_takes_a_configuration_over_or_says_why_not(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with working(place) as (parent, _):
        await parent.until("ready")
        good = place.write(upstream={"url": place.origin, "deny_paths": ["/x"], "max_concurrency": 7}).read_text()
        place.config.write_text("the file is another one by now: [")
        parent.channel.tell("reload", text=good)
        assert (await parent.until("reloaded"))["fault"] == ""
        assert await parent.get("/x") == 403
        parent.channel.tell("reload", text="nonsense: [")
        assert "worker 0 refused it" in (await parent.until("reloaded", 2))["fault"]
        assert await parent.get("/x") == 403


async def test_it_ends_with_its_parent_and_on_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ORPHANED", 0.05)
    (tmp_path / "one").mkdir()
    async with working(Place(tmp_path / "one")) as (parent, life):
        await parent.until("ready")
        parent.channel.close()
        assert await asyncio.wait_for(life, 30) == 0
    (tmp_path / "two").mkdir()
    async with working(Place(tmp_path / "two")) as (parent, life):
        await parent.until("ready")
        signal.raise_signal(signal.SIGTERM)
        assert await asyncio.wait_for(life, 30) == 0
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


async def test_one_that_cannot_begin_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    (tmp_path / "cache").write_text("in the way")
    async with working(place) as (parent, life):
        assert await asyncio.wait_for(life, 30) == 1
        assert "cache" in (await parent.until("failed"))["detail"]

    async def broken(self: Life) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Life, "whole", broken)
    async with working(Place(tmp_path)) as (parent, life):
        assert await asyncio.wait_for(life, 30) == 1
        assert "ZeroDivisionError" in (await parent.until("failed"))["detail"]


async def test_one_that_is_told_nothing_ends() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    assert await module._live(theirs.detach()) == 1


# ---- a daemon here, with workers of its own --------------------------------------------------------------------------


async def get(it: Running, target: str, fields: Mapping[str, str] | None = None) -> int:
    async with (
        aiohttp.ClientSession(trust_env=False) as session,
        session.get(it.proxy + target, headers=fields) as answer,
    ):
        await answer.read()
        return answer.status


async def until(condition: Any, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.timeout(120)
async def test_a_parent_serves_by_its_workers(tmp_path: Path) -> None:
    async with (
        sandboxed(tmp_path) as place,
        running(place, authorised=True, server={"listen": "127.0.0.1:0", "workers": 2}) as it,
    ):
        assert len(it.wired.control.status()["workers"]) == 2  # type: ignore[arg-type]
        assert [await get(it, f"{CONTENT}&n={number}") for number in range(6)] == [200] * 6
        await until(lambda: it.wired.telemetry.recent.summary()["requests"]["total"] == 6)  # type: ignore[index]
        assert it.wired.probing is not None
        place.write(
            server={"listen": "127.0.0.1:0", "workers": 2}, upstream={"url": place.origin, "deny_paths": ["/x"]}
        )
        await it.wired.control.reload()
        assert await get(it, "/x") == 403
        parent = it.daemon._parent
        assert parent is not None
        worker = next(iter(parent.supervisor))
        parent._hear(worker, {"kind": "origin", "told": {"what": "Refused", "seconds": 0.2}})
        parent._hear(worker, {"kind": "counted"})  # something is missing in it
        parent._hear(worker, {"kind": "command", "id": 1})
        await until(lambda: it.wired.pipeline.limiter.snapshot().cool_down_until is None)
        await it.wired.control.export_pair()
        assert await get(it, f"{CONTENT}&n=9") == 200


@pytest.mark.timeout(120)
async def test_what_may_go_wrong_between_parent_and_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Place(tmp_path), server={"listen": "127.0.0.1:0", "workers": 1}) as it:
        told: list[Document] = []

        class Line:
            is_clogged = False

            def tell(self, kind: str, **members: object) -> None:
                told.append({"kind": kind, **members})

        line: Any = Line()
        worker = Worker(0, 4711, line, None)  # type: ignore[arg-type]
        parent = Parent(it.wired, it.daemon.bound)
        parent.supervisor._workers[0] = worker
        parent._hear(worker, {"kind": "hello"})
        assert it.wired.control.facts.workers == (4711,)
        assert [each["kind"] for each in told] == ["followed", "granted"]
        it.wired.pipeline.limiter.set_limits(lent_until=7.0)
        parent._hear(Worker(1, 4712, line, None), {"kind": "hello"})  # type: ignore[arg-type]
        assert {"kind": "lent", "until": 7.0} in told  # or it would use what a parent that hangs does not renew
        parent._lost(parent._by_place[1])
        it.wired.pipeline.limiter.set_limits(lent_until=math.inf)

        # a command that comes to nothing
        for fault, code in (
            (AuthorizationRequired("dead", 30), "authorization_required"),
            (CommandFailure("no"), CommandFailure.code),
        ):
            told.clear()

            async def execute(command: Command, fault: Exception = fault) -> object:
                raise fault

            monkeypatch.setattr(it.wired.keeper, "execute", execute)
            parent._hear(worker, {"kind": "command", "id": 3, "command": packed(Renew401(1, "p"))})
            await until(lambda: len(told) == 2)
            assert [each["kind"] for each in told] == ["followed", "reply"]
            assert (told[1]["id"], told[1]["reply"]["fault"]["code"]) == (3, code)

        # places and cool-downs
        told.clear()
        parent._hear(worker, {"kind": "wants", "count": 4})
        parent._hear(worker, {"kind": "holds", "count": 4})
        parent._hear(worker, {"kind": "origin", "told": {"what": "Refused", "seconds": 5.0}})
        it.wired.pipeline.limiter.tell(Answered("/x"))
        assert [each["kind"] for each in told][-2:] == ["granted", "origin"]

        # a reload that a worker refuses, does not answer, or does not live to see
        reloading = asyncio.create_task(parent.reload())
        await until(lambda: told[-1]["kind"] == "reload")
        parent._hear(worker, {"kind": "reloaded", "fault": "worker 0 refused it: why"})
        with pytest.raises(CommandFailure, match="refused it: why; restart"):
            await reloading
        monkeypatch.setattr(parent_module, "RELOAD_PATIENCE", 0.01)
        with pytest.raises(CommandFailure, match="worker 0 did not answer"):
            await parent.reload()
        monkeypatch.setattr(parent_module, "RELOAD_PATIENCE", 5.0)
        reloading = asyncio.create_task(parent.reload())
        await asyncio.sleep(0)
        parent._lost(worker)
        await reloading
        assert it.wired.control.facts.workers == ()
        parent._lost(worker)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_static_token_with_workers(tmp_path: Path) -> None:
    oauth = {"grant": "static", "static_token": "anything"}
    async with (
        sandboxed(tmp_path) as place,
        running(place, oauth=oauth, server={"listen": "127.0.0.1:0", "workers": 2}) as it,
    ):
        assert await get(it, CONTENT) == 401


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_static_token_s_entries_are_known_to_every_worker_from_its_first_question(tmp_path: Path) -> None:
    workers = {"listen": "127.0.0.1:0", "workers": 2}
    async with sandboxed(tmp_path) as place:
        asked = {"grant_type": "client_credentials", "client_id": "demo", "client_secret": "demo"}
        async with (
            aiohttp.ClientSession(trust_env=False) as session,
            session.post(f"{place.origin}/oauth/token", data=asked) as answer,
        ):
            static = {"grant": "static", "static_token": (await answer.json())["access_token"]}
        async with running(place, oauth=static, server=workers) as it:
            assert await get(it, CONTENT) == 200
        async with running(place, oauth=static, server=workers) as it:
            for _ in range(8):
                assert await get(it, CONTENT, {"Cache-Control": "only-if-cached"}) == 200


def test_lines_that_a_clogged_channel_does_not_take_are_counted() -> None:
    told: list[str] = []

    class Line:
        is_clogged = True

        def tell(self, kind: str, *, line: str, asked: object) -> None:
            told.append(json.loads(line)["message"].partition(" lines")[0])

    own = SimpleNamespace(_channel=Line(), _dropped=0)
    for _ in range(3):
        Life._pass_on(own, '{"message": "lost"}', None)  # type: ignore[arg-type]
    own._channel.is_clogged = False
    for _ in range(2):
        Life._pass_on(own, '{"message": "heard"}', None)  # type: ignore[arg-type]
    assert told == ["3", "heard", "heard"]
