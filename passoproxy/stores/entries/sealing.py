"""Rows that only we can have written: each value carries a keyed digest over itself, its row's name and its hints.

So a row that was changed, cut, swapped with another or planted is not an entry: it is nothing. The key lives outside the cache's folder.
"""

from __future__ import annotations

from hashlib import blake2b
from hmac import compare_digest
from typing import NamedTuple

from passoproxy.core.cache.entry import Entry
from passoproxy.stores.entries import codec
from passoproxy.stores.entries.hints import hints_of
from passoproxy.stores.entries.names import ROW_PATTERN, body_name, row_name

_MAGIC = b"pxe1"
_HEAD = len(_MAGIC) + 16 + 8 + 8
MIN_SECRET = 16


class Label(NamedTuple):
    """What a sealed value says of its body without being opened."""

    size: int
    filename: str


class Seal:
    """Makes and checks sealed values under one secret of at least 16 bytes."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) < MIN_SECRET:
            raise ValueError(f"the cache's secret has {len(secret)} bytes; it needs {MIN_SECRET} or more")
        self._secret = blake2b(secret, digest_size=32, person=b"passoproxy entry").digest()

    def close(self, entry: Entry, bound: str = "") -> bytes:
        """The value for `row_name(entry)`; the entry has its `digest` and `size`. `bound` is what else it must come with to be opened."""
        body = entry.size.to_bytes(8, "big") + bytes.fromhex(entry.digest[:16]) + codec.encode(entry)
        return _MAGIC + self._proof(row_name(entry) + bound, hints_of(entry), body) + body

    def open(self, row: str, hints: object, value: object) -> Entry | None:
        """The entry in `value`, or None if it was not closed by us for this row and these hints."""
        if not isinstance(value, bytes) or not isinstance(hints, bytes) or value[: len(_MAGIC)] != _MAGIC:
            return None
        body = value[len(_MAGIC) + 16 :]
        if not compare_digest(value[len(_MAGIC) : len(_MAGIC) + 16], self._proof(row, hints, body)):
            return None
        return codec.decode(body[16:])

    def open_alone(self, row: str, value: object, bound: str = "") -> Entry | None:
        """As `open`, where no hints are kept beside the value: they follow from the entry."""
        entry = codec.decode(value[_HEAD:]) if isinstance(value, bytes) else None
        return None if entry is None else self.open(row + bound, hints_of(entry), value)

    def _proof(self, row: str, hints: bytes, body: bytes) -> bytes:
        proof = blake2b(b"%s\0%d\0" % (row.encode(), len(hints)), digest_size=16, key=self._secret)
        proof.update(hints)
        proof.update(body)
        return proof.digest()


def label_of(row: str, value: bytes) -> Label:
    """Size and file name of the body that belongs to `value`. Raises ValueError for what no seal has made."""
    if not ROW_PATTERN.fullmatch(row) or value[: len(_MAGIC)] != _MAGIC or len(value) < _HEAD:
        raise ValueError(f"row {row[:60]!r} holds no sealed entry")
    size, digest = value[_HEAD - 16 : _HEAD - 8], value[_HEAD - 8 : _HEAD]
    return Label(int.from_bytes(size, "big"), body_name(row, digest.hex()))
