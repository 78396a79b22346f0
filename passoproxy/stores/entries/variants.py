"""The variants of one primary key: which of them a new entry replaces. The same rule for every store."""

from __future__ import annotations

from collections.abc import Sequence

from passoproxy.core.cache.entry import Entry

MAX_VARIANTS = 100
"""More than this of one key, and the oldest goes: a client that makes up `Vary`ing fields must not make every select slow."""


def youngest_first(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """`entries` in the order that `EntryStore.select` promises."""
    if len(entries) < 2:
        return tuple(entries)
    return tuple(sorted(entries, key=lambda entry: entry.response_time, reverse=True))


def with_variant(stored: Sequence[Entry], new: Entry) -> tuple[Entry, ...]:
    """The variants of the key once `new` is among them: those with equal `varies` are gone, and the oldest beyond the limit."""
    others = [entry for entry in stored if entry.varies != new.varies and entry.identifier != new.identifier]
    return (new, *youngest_first(others)[: MAX_VARIANTS - 1])
