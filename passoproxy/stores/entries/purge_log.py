"""Purges as bytes, and whether one of them counts against an answer that was requested before it, in any process."""

from __future__ import annotations

import json
from collections.abc import Iterable

from passoproxy.core.cache.entry import Entry, Selector


def encode(selector: Selector) -> bytes:
    """A purge for the log."""
    parts = (selector.target, selector.prefix, selector.route, selector.tag, selector.key, selector.partition)
    return json.dumps((*parts, "private") if selector.private else parts).encode("ascii")


def decode(data: bytes) -> Selector:
    """The purge; one that cannot be read means everything, for a purge must not be lost."""
    try:
        parts = json.loads(data)
    except (ValueError, RecursionError):
        return Selector()
    private = isinstance(parts, list) and parts[6:] == ["private"]
    named = parts[:6] if private else parts
    if not isinstance(named, list) or len(named) != 6 or not all(part is None or type(part) is str for part in named):
        return Selector()
    target, prefix, route, tag, key, partition = named
    return Selector(target=target, prefix=prefix, route=route, tag=tag, key=key, partition=partition, private=private)


def counts_against(purges: Iterable[bytes], *entries: Entry) -> bool:
    """Whether a purge of `purges` means one of `entries` (the same answer, as it began and as it ended)."""
    return any(decode(purge).matches(entry) for purge in purges for entry in entries)
