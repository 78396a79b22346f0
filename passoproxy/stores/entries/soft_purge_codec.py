"""Soft purges as bytes, for the file and the store in which they are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from operator import attrgetter

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.soft_purges import SoftPurge, SoftPurges

_VERSION = 2
_LATEST = 1e12
_PARTS = ("target", "prefix", "route", "tag", "key", "partition")
"""In the order that `Selector` has them."""

_parts_of = attrgetter(*_PARTS)


def encode(purges: SoftPurges) -> bytes:
    """All of them."""
    listed = [[purge.at, purge.leeway, *_parts_of(purge.selector)] for purge in purges.kept]
    return json.dumps({"version": _VERSION, "purges": listed}, separators=(",", ":")).encode("ascii")


def decode(data: bytes, now: float) -> SoftPurges:
    """Those of `encode`. Anything else means everything that was asked for until `now`: a purge must not be lost."""
    try:
        return SoftPurges(_decoded(data))
    except (ValueError, RecursionError):
        return SoftPurges([SoftPurge(Selector(), now)])


def _decoded(data: bytes) -> Iterator[SoftPurge]:
    document = json.loads(data)
    purges = document.get("purges") if isinstance(document, dict) and document.get("version") == _VERSION else None
    if not isinstance(purges, list):
        raise ValueError("another version, or none")
    for each in purges:
        at, leeway, *parts = each if isinstance(each, list) else ("", "")
        if not _is_moment(at) or not _is_moment(leeway) or len(parts) != len(_PARTS):
            raise ValueError("no soft purge")
        if not all(part is None or type(part) is str for part in parts):
            raise ValueError("no selector")
        yield SoftPurge(Selector(*parts), float(at), float(leeway))


def _is_moment(number: object) -> bool:
    return isinstance(number, int | float) and abs(number) < _LATEST
