"""Answers that are small on the wire and huge once they are decoded, before a whole daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from passoproxy.proxy import codecs
from tests.server.raw import PATIENCE
from tests.server.scene import MIB, answer, answering_by_path, scene

JSON = "Content-Type: application/json"


@pytest.mark.parametrize("coding", codecs.KNOWN)
@pytest.mark.parametrize("accepted", ["", "Accept-Encoding: gzip\r\n"])
async def test_a_bomb_ends_in_a_broken_transfer_and_others_are_served(
    tmp_path: Path, coding: str, accepted: str
) -> None:
    fields = (JSON, f"Content-Encoding: {coding}", "Cache-Control: max-age=60", 'ETag: "v1"')
    bomb = answer(codecs.encoded(bytes(128 * MIB), coding), *fields)
    async with scene(tmp_path, answering_by_path(bomb=bomb)) as it:
        for way in ("a miss", "a hit"):
            raw = f"GET /bomb HTTP/1.1\r\nHost: localhost\r\n{accepted}\r\n".encode()
            client = await it.sends(raw)
            taking = asyncio.ensure_future(client.rest())
            assert (await it.ask("/a")).body == b"small"
            async with asyncio.timeout(3 * PATIENCE):
                taken = await taking
            assert taken.startswith(b"HTTP/1.1 200"), way
            assert not taken.endswith(b"0\r\n\r\n"), way
            assert len(taken) < 40 * MIB, way
        assert len(it.heard("GET /bomb")) == 1
