"""How entries are called on disk: row keys, file names and marks, all of them digests, so that nothing a client sent names a file.

A body's name holds the first part of its own digest: two bodies never share a name, and whoever knows the entry knows the file.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from passoproxy.core.cache.entry import Entry

BODY_PATTERN = re.compile(r"([0-9a-f]{2})/([0-9a-f]{30})\.([0-9a-f]{16})\.[0-9a-f]{16}", re.ASCII)
"""Every body file's name, relative to the bodies' folder. Nothing else is ever opened or removed there."""

ROW_PATTERN = re.compile(r"[0-9a-f]{32}\.[0-9a-f]{16}", re.ASCII)


def key_name(key: str) -> str:
    """The primary key as 32 hex digits."""
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def row_name(entry: Entry) -> str:
    """The row that holds `entry`: its key's name, a dot, its identifier's."""
    identifier = blake2b(entry.identifier.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{key_name(entry.key)}.{identifier}"


def body_name(row: str, digest: str) -> str:
    """The file that holds the body with `digest` (hex) of the entry in `row`."""
    return f"{row[:2]}/{row[2:]}.{digest[:16]}"


def row_of_body(name: str) -> str | None:
    """The row to which a body file belongs; None if `name` is no body's name."""
    found = BODY_PATTERN.fullmatch(name)
    return f"{found[1]}{found[2]}.{found[3]}" if found else None


def mark_of(name: str) -> int:
    """48 bits that stand for a primary key in the shared page; never below 2, which have meanings of their own. `name` is a key's, a row's or a body's name.

    0, which means anything, for a name that somebody planted.
    """
    try:
        return int(name[:13].replace("/", "")[:12], 16) | 2
    except ValueError:
        return 0
