"""The same conversations on uvloop, which differs from asyncio's own loop in what it makes of pausing, aborting and half-closing."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from tests.server import test_protocol
from tests.server.raw import EchoHop, Listening, listening

CONVERSATIONS = {
    name: function
    for name, function in vars(test_protocol).items()
    if name.startswith("test_")
    and asyncio.iscoroutinefunction(function)
    and set(inspect.signature(function).parameters) <= {"listen", "echo"}
}


def test_there_are_conversations() -> None:
    assert len(CONVERSATIONS) > 40


@pytest.mark.parametrize("conversation", CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_on_uvloop(conversation: Callable[..., Awaitable[None]]) -> None:
    uvloop.run(_held(conversation))


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("length", [None, 10])
def test_a_broken_answer_ends_by_a_reset_on_uvloop(version: bytes, length: int | None) -> None:
    async def conversation(listen: Any) -> None:
        await test_protocol.test_a_broken_answer_ends_by_a_reset(listen, version, length)

    uvloop.run(_held(conversation))


async def _held(conversation: Callable[..., Awaitable[None]]) -> None:
    started: list[Listening] = []

    async def listen(*arguments: Any, **options: Any) -> Listening:
        started.append(await listening(*arguments, **options))
        return started[-1]

    try:
        if "echo" in inspect.signature(conversation).parameters:
            await conversation(await listen(EchoHop()))
        else:
            await conversation(listen)
    finally:
        for running in started:
            await running.close()
