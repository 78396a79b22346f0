"""What a purge or a listing asks of an entry, kept beside it as one sortable blob, so that a million entries are sifted undecoded.

    target NUL route NUL partition's digest NUL tag US tag US … NUL exactness

It begins with the target, so that an exact target and a prefix are ranges of an index. Long targets are cut; then, and where a part
holds a byte that means something here, exactness is `~` and the entry itself must be asked.
"""

from __future__ import annotations

from hashlib import blake2b

from passoproxy.core.cache.entry import Entry, Selector

MAX_TARGET = 512
"""Bytes of a target that are kept in the index."""

_EXACT, _VAGUE = b"=", b"~"


def text_bytes(text: str) -> bytes:
    """Text as it stands in hints; odd characters of a header are kept."""
    return text.encode("utf-8", "surrogatepass")


def partition_hint(partition: str) -> bytes:
    """16 hex digits that stand for a partition."""
    return blake2b(text_bytes(partition), digest_size=8).hexdigest().encode("ascii")


def hints_of(entry: Entry) -> bytes:
    """The hints of `entry`."""
    target, route, tags = text_bytes(entry.target), text_bytes(entry.route), [text_bytes(tag) for tag in entry.tags]
    vague = (
        len(target) > MAX_TARGET
        or b"" in tags
        or any(byte in part for part in (target, route, *tags) for byte in (b"\0", b"\x1f"))
    )
    parts = (
        target[:MAX_TARGET].replace(b"\0", b""),
        route.replace(b"\0", b""),
        partition_hint(entry.partition),
        b"\x1f".join(tag.replace(b"\0", b"") for tag in tags),
        _VAGUE if vague else _EXACT,
    )
    return b"\0".join(parts)


def range_of(selector: Selector) -> tuple[bytes, bytes] | None:
    """Between which hints (first included, last not) everything lies that `selector` means; None: anywhere."""
    start = selector.target if selector.target is not None else selector.prefix
    if start is None:
        return None
    if selector.target is None:
        start = start.removesuffix("*")
    first = text_bytes(start).replace(b"\0", b"")[:MAX_TARGET]
    return first, first + b"\xff"  # no text encodes to a byte as high, so this ends every target that begins so


def judged(selector: Selector, hints: object) -> bool | None:
    """Whether `selector` means the entry with these hints; None: only the entry itself can tell. `key` is not looked at."""
    parts = hints.split(b"\0") if isinstance(hints, bytes) else []
    if len(parts) != 5 or parts[4] != _EXACT:
        return None
    target, route, partition, tags, _ = parts
    meant = (
        (selector.target is None or target == text_bytes(selector.target))
        and (selector.prefix is None or target.startswith(text_bytes(selector.prefix.removesuffix("*"))))
        and (selector.route is None or route == text_bytes(selector.route))
        and (selector.partition is None or partition == partition_hint(selector.partition))
        and (selector.tag is None or (selector.tag != "" and text_bytes(selector.tag) in tags.split(b"\x1f")))
    )
    return None if meant and selector.private else meant  # whose it is stands in the entry alone
