"""The owner as a worker sees it: what the parent says of the pair, and a 401 that it is told of."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from passoproxy.core.oauth.pair import Bearer
from passoproxy.errors import AuthorizationRequired, OwnerGone, PairStoreFailure
from passoproxy.host import remote_owner as module
from passoproxy.host.remote_owner import ParentOwner
from passoproxy.ports import Followed
from passoproxy.tokens.commands import Renew401
from passoproxy.tokens.messages import document_of, fault_document, packed
from tests.fakes import settle


class Told:
    """A channel that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def tell(self, kind: str, **members: object) -> None:
        self.told.append({"kind": kind, **members})


def word(generation: int) -> dict[str, Any]:
    return {"kind": "followed", "followed": document_of(Followed(Bearer("t", generation, 1.0), "p", {}))}


def owner() -> tuple[ParentOwner, Told]:
    channel = Told()
    return ParentOwner(channel), channel  # type: ignore[arg-type]


async def test_the_newest_word_is_given() -> None:
    it, _ = owner()
    heard: list[int] = []

    async def listen() -> None:
        async for followed in it.changes():
            assert followed.bearer is not None
            heard.append(followed.bearer.generation)

    it.take(word(1))
    listening = asyncio.create_task(listen())
    await settle()
    it.take(word(2))
    it.take(word(3))  # the one before was overtaken
    await settle()
    assert heard == [1, 3]
    it.end()
    with pytest.raises(PairStoreFailure, match="gone"):
        await listening
    with pytest.raises(PairStoreFailure):
        it.take({"kind": "followed", "followed": None})


async def test_a_401_is_answered_with_what_came_of_it() -> None:
    it, channel = owner()
    asking = [asyncio.create_task(it.execute(Renew401(generation, "p", again=True))) for generation in (4, 5)]
    await settle()
    assert channel.told == [
        {"kind": "command", "id": number, "command": packed(Renew401(generation, "p", again=True))}
        for number, generation in ((1, 4), (2, 5))
    ]
    it.take({"kind": "reply", "id": 2, "reply": fault_document(AuthorizationRequired("dead", 9))})
    it.take({"kind": "reply", "id": 1, "reply": {"answer": 6}})
    it.take({"kind": "reply", "id": 7, "reply": {"answer": 6}})  # to no question
    assert await asking[0] == 6
    with pytest.raises(AuthorizationRequired, match="dead") as caught:
        await asking[1]
    assert caught.value.fields == (("Retry-After", "9"),)


async def test_a_parent_that_is_gone_or_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    it, _ = owner()
    asking = asyncio.create_task(it.execute(Renew401(1)))
    await settle()
    it.end()
    it.take({"kind": "reply", "id": 1, "reply": {"answer": 2}})
    for waiting in (asking, it.execute(Renew401(1))):
        with pytest.raises(OwnerGone):
            await waiting
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    it, _ = owner()
    with pytest.raises(OwnerGone, match="did not answer"):
        await it.execute(Renew401(1))
