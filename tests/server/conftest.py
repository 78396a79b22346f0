"""Listeners for the tests of the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

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
