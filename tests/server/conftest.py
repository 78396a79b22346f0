"""Listeners for the tests of the wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from passoproxy.server.admin.app import control_application
from passoproxy.server.admin.sessions import PageSessions
from passoproxy.telemetry.live import Live
from tests.server.admin_clients import Admin, AdminListener, Ask, metrics
from tests.server.fake_daemon import FakeDaemon
from tests.server.raw import EchoHop, Listening, listening

Listen = Callable[..., Awaitable[Listening]]


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """Starts listeners that end with the test."""
    started: list[Listening] = []

    async def start(*arguments: object, **options: object) -> Listening:
        started.append(await listening(*arguments, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for running in started:
        await running.close()


@pytest.fixture
async def echo(listen: Listen) -> Listening:
    """A listener that answers with what it understood."""
    return await listen(EchoHop())


@pytest.fixture
def admin(aiohttp_client: Any) -> Admin:
    """Starts admin listeners that end with the test."""

    async def start(daemon: FakeDaemon | None = None, **options: Any) -> AdminListener:
        listener = AdminListener(daemon or FakeDaemon(), **options)
        await listener.begin(aiohttp_client)
        return listener

    return start


@pytest.fixture
def ask(aiohttp_client: Any) -> Ask:
    """Asks the application of `control.sock`."""

    async def asked(daemon: FakeDaemon, method: str, path: str, **more: Any) -> tuple[int, Any, dict[str, str]]:
        client = await aiohttp_client(control_application(daemon, PageSessions(), metrics, Live().watch))
        answer = await client.request(method, path, **more)
        text = await answer.text()
        is_json = answer.headers["Content-Type"].endswith("json")
        return answer.status, json.loads(text) if is_json and text else text, dict(answer.headers)

    return asked
