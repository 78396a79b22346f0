"""Cache groups (RFC 9875): names by which an origin ties answers together, so that a write can throw out all of them at once.

A group is a tag of its own namespace, so that stores, purges and listings need not know of it. All that is stored is of one origin, so
that the names need none.
"""

from __future__ import annotations

import http_sf

from passoproxy.core.http.messages import Fields

PREFIX = "cache-group:"
"""What the tag of a group begins with."""

MOST_GROUPS = 128
"""Of one answer; the RFC asks for 32 at least."""


def tagged(tags: tuple[str, ...], fields: Fields) -> tuple[str, ...]:
    """The tags of an answer: those of its route, and its groups (RFC 9875 §2)."""
    return (*tags, *_groups(fields, "Cache-Groups")) if "Cache-Groups" in fields else tags


def invalidated_groups(fields: Fields) -> tuple[str, ...]:
    """The tags of the groups that the answer to an unsafe request invalidates (RFC 9875 §3)."""
    return _groups(fields, "Cache-Group-Invalidation") if "Cache-Group-Invalidation" in fields else ()


def _groups(fields: Fields, name: str) -> tuple[str, ...]:
    # Members must be Strings; a field that is no such list is ignored whole, as Structured Fields ask for.
    try:
        parsed = http_sf.parse(", ".join(fields.getall(name)).encode("utf-8", "surrogateescape"), tltype="list")
    except ValueError:
        return ()
    members = parsed if isinstance(parsed, list) else []
    names = [item[0] for item in members if isinstance(item, tuple) and type(item[0]) is str]
    if len(names) < len(members):
        return ()
    return tuple(f"{PREFIX}{each}" for each in dict.fromkeys(names[:MOST_GROUPS]))
