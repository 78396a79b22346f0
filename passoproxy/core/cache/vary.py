"""Variants of one key, told apart by what `Vary` nominates (RFC 9111 §4.1). The primary key is made in `key`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from passoproxy.core.cache.entry import Entry
from passoproxy.core.http.messages import Fields
from passoproxy.core.http.syntax import members_of, split_list

MOST_VARIANTS = 64
"""Of one key; beyond it the oldest goes, since a client that makes up `Vary`ing fields must not make every select slow."""

_AROUND_COMMAS = re.compile(r"[ \t]*,[ \t]*")
Varies = tuple[tuple[str, str | None], ...]


def nominated(fields: Fields) -> tuple[str, ...] | None:
    """The request fields that a response varies on, lower-case, sorted, each once; None for `*`."""
    if "Vary" not in fields:
        return ()
    names = {name.lower() for name in members_of(fields, "Vary")}
    return None if "*" in names else tuple(sorted(names))


def varies(names: Iterable[str], request: Fields) -> Varies:
    """What `request` has for each of `names`, normalised: what an entry remembers and a later request is held against."""
    return tuple((name, _normalised(name, request)) for name in names)


def matches(entry: Entry, request: Fields) -> bool:
    """Whether a request selects the entry (RFC 9111 §4.1)."""
    for name, value in entry.varies:  # noqa: SIM110 (a generator costs every hit three times as much)
        if _normalised(name, request) != value:
            return False
    return True


def varies_by(entry: Entry, names: frozenset[str]) -> bool:
    """Whether one of `names` (lower case) tells the entry from other variants."""
    return not names.isdisjoint(name for name, _ in entry.varies)


def selected(stored: Sequence[Entry], request: Fields) -> Entry | None:
    """The stored answer that `request` selects: the youngest of those that match, where `stored` has the youngest first."""
    for entry in stored:
        if not entry.varies or matches(entry, request):
            return entry
    return None


def signature(stored: Sequence[Entry], request: Fields) -> Varies:
    """What is known beforehand to tell variants apart: equal requests with unequal signatures must not wait for one another."""
    names = {name for entry in stored for name, _ in entry.varies}
    return varies(sorted(names), request) if names else ()


def _normalised(name: str, request: Fields) -> str | None:
    # Fields on several lines mean the same as one list (RFC 9110 §5.3); white space around commas means nothing.
    if name not in request:
        return None
    value = ",".join(request.getall(name)).strip(" \t")
    if name == "accept-language":
        return _languages(value)
    return value if '"' in value else _AROUND_COMMAS.sub(",", value)


def _languages(value: str) -> str:
    # Tags know no case, and their order among equal weights means nothing (RFC 9110 §12.5.4).
    return ",".join(sorted("".join(member.lower().split()) for member in split_list(value)))
