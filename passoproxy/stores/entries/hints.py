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


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _partition(partition: str) -> bytes:
    return blake2b(_bytes(partition), digest_size=8).hexdigest().encode("ascii")


def hints_of(entry: Entry) -> bytes:
    """The hints of `entry`."""
    target, route, tags = _bytes(entry.target), _bytes(entry.route), [_bytes(tag) for tag in entry.tags]
    vague = (
        len(target) > MAX_TARGET
        or b"" in tags
        or any(byte in part for part in (target, route, *tags) for byte in (b"\0", b"\x1f"))
    )
    parts = (
        target[:MAX_TARGET].replace(b"\0", b""),
        route.replace(b"\0", b""),
        _partition(entry.partition),
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
    first = _bytes(start).replace(b"\0", b"")[:MAX_TARGET]
    return first, first + b"\xff"  # no text encodes to a byte as high, so this ends every target that begins so


def judged(selector: Selector, hints: object) -> bool | None:
    """Whether `selector` means the entry with these hints; None: only the entry itself can tell. `key` is not looked at."""
    parts = hints.split(b"\0") if isinstance(hints, bytes) else []
    if len(parts) != 5 or parts[4] != _EXACT:
        return None
    target, route, partition, tags, _ = parts
    return (
        (selector.target is None or target == _bytes(selector.target))
        and (selector.prefix is None or target.startswith(_bytes(selector.prefix.removesuffix("*"))))
        and (selector.route is None or route == _bytes(selector.route))
        and (selector.partition is None or partition == _partition(selector.partition))
        and (selector.tag is None or (selector.tag != "" and _bytes(selector.tag) in tags.split(b"\x1f")))
    )
