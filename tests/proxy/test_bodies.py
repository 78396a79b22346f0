"""Request bodies that were looked at."""

import pytest

from passoproxy.ports import BytesBody
from passoproxy.proxy.spool import BegunBody, gathered
from tests.fakes import ChunkedBody


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (BytesBody(b"12345"), BytesBody),
        (ChunkedBody(b"12", b"345"), BytesBody),
        (ChunkedBody(), BytesBody),
        (ChunkedBody(b"123", b"456", b"7"), BegunBody),
        (ChunkedBody(b"123", b"456", b"7", length=7), ChunkedBody),
    ],
)
async def test_gathered_loses_nothing(body, kind):
    expected = body.data if isinstance(body, BytesBody) else b"".join(body._chunks)
    found = await gathered(body, 5)
    assert type(found) is kind
    assert b"".join([part async for part in found]) == expected


async def test_a_begun_body_closes_what_is_behind_it():
    behind = ChunkedBody(b"b", length=2)
    begun = BegunBody(BytesBody(b"a"), behind)
    assert begun.length == 2
    await begun.aclose()
    assert behind.closed
    assert [part async for part in begun] == []
