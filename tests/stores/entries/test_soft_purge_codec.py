"""Soft purges as bytes: there and back, and what anything else means."""

from __future__ import annotations

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.soft_purge import SoftPurge, SoftPurges
from passoproxy.stores.entries.serialization import decode_soft_purges, encode_soft_purges

KEPT = SoftPurges(
    [
        SoftPurge(Selector(), 1.5),
        SoftPurge(Selector(target="/ä\udce9?x", key="k"), 2.0),
        SoftPurge(Selector(prefix="/p*"), 3.0, 2.0),
        SoftPurge(Selector(route="r"), 4.0),
        SoftPurge(Selector(tag="t"), 5.0),
        SoftPurge(Selector(partition="p"), 6.0),
    ]
)


def test_there_and_back() -> None:
    assert decode_soft_purges(encode_soft_purges(KEPT), 9.0).kept == KEPT.kept
    assert decode_soft_purges(encode_soft_purges(SoftPurges()), 9.0).kept == ()


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"version": 1, "purges": []}',
        b'{"version": 2, "purges": 1}',
        b'{"version": 2, "purges": [[1, "a"]]}',
        b'{"version": 2, "purges": [["x", 0, null, null, null, null, null, null]]}',
        b'{"version": 2, "purges": [[null, 0, null, null, null, null, null]]}',
        b'{"version": 2, "purges": [[NaN, 0, null, null, null, null, null, null]]}',
        b'{"version": 2, "purges": [[0, Infinity, null, null, null, null, null, null]]}',
        b'{"version": 2, "purges": [[1' + b"0" * 400 + b", null, null, null, null, null, null]]}",
        b'{"version": 2, "purges": [[1, 0, 2, null, null, null, null, null]]}',
        b'{"version": 2, "purges": [7]}',
        b'{"version": 2, "purges": [[]]}',
        b'{"version": 2}',
        b"[" * 100_000,
    ],
)
def test_anything_else_means_everything_so_far(damage: bytes) -> None:
    assert decode_soft_purges(damage, 300.0).kept == (SoftPurge(Selector(), 300.0),)
