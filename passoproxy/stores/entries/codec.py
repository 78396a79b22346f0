"""Entries as bytes, for every store that keeps them outside this process.

A version byte, then one JSON array in a fixed order: compact, read by C code, and nothing in it can run. JSON's escapes carry
surrogate-escaped text unharmed. Another version is another format: it is not read at all, so it cannot be misread. Whether the
bytes are ours and whole is for the stores to know (`sealing`).
"""

from __future__ import annotations

import json
from itertools import chain
from typing import Any, TypeGuard

from passoproxy.core.cache.entry import Entry
from passoproxy.core.http.messages import fields_of

VERSION = 1

_SHAPE: tuple[type | tuple[type, ...], ...] = (
    *(str,) * 5,
    int,
    list,
    list,
    *((float, int),) * 3,
    str,
    list,
    bool,
    bool,
    *(str,) * 3,
    int,
    list,
)
"""What stands at each place of the array, in the order in which `encode` writes it."""


def encode(entry: Entry) -> bytes:
    """`entry` as bytes of this version."""
    values = [
        entry.key,
        entry.identifier,
        entry.partition,
        entry.method,
        entry.target,
        entry.status,
        list(chain.from_iterable(entry.fields.items())),
        list(chain.from_iterable(entry.varies)),
        entry.request_time,
        entry.response_time,
        entry.stored_at,
        entry.route,
        entry.tags,
        entry.private,
        entry.overridden,
        entry.digest,
        entry.content_digest,
        entry.made_etag,
        entry.size,
        list(chain.from_iterable(entry.extra)),
    ]
    return bytes((VERSION,)) + json.dumps(values, separators=(",", ":")).encode("ascii")


def decode(data: bytes) -> Entry | None:
    """The entry that `encode` made `data` of; None for another version and for whatever is no entry."""
    if data[:1] != bytes((VERSION,)):
        return None
    try:
        values = json.loads(data[1:])
    except (ValueError, RecursionError):
        return None
    return _entry(values) if _has_shape(values) else None


def _has_shape(values: object) -> TypeGuard[list[Any]]:
    return (
        isinstance(values, list)
        and len(values) == len(_SHAPE)
        and all(map(isinstance, values, _SHAPE))
        and all(type(text) is str for at in (6, 12, 19) for text in values[at])
        and all(len(values[at]) % 2 == 0 for at in (6, 7, 19))
        and all(text is None or type(text) is str for text in values[7])
        and None not in values[7][::2]
    )


def _entry(values: list[Any]) -> Entry:
    """Everything by its place, as the class has it; what are tuples there came as lists."""
    values[6], values[7], values[19] = fields_of(_pairs(values[6])), _pairs(values[7]), _pairs(values[19])
    values[12] = tuple(values[12])
    return Entry(*values)


def _pairs(flat: list[Any]) -> tuple[tuple[Any, Any], ...]:
    return tuple(zip(flat[::2], flat[1::2], strict=True))
