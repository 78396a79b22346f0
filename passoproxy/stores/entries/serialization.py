"""Entries as bytes, for every store that keeps them outside this process.

A version byte, then one JSON array in a fixed order: compact, read by C code, and nothing in it can run. JSON's escapes carry
surrogate-escaped text unharmed. Another version is another format: it is not read at all, so it cannot be misread. Whether the
bytes are ours and whole is for the stores to know (`sealing`).

What a purge or a listing asks of an entry, kept beside it as one sortable blob, so that a million entries are sifted undecoded.

    target NUL route NUL partition's digest NUL tag US tag US … NUL exactness

It begins with the target, so that an exact target and a prefix are ranges of an index. Long targets are cut; then, and where a part
holds a byte that means something here, exactness is `~` and the entry itself must be asked.

How entries are called on disk: row keys, file names and marks, all of them digests, so that nothing a client sent names a file.

A body's name holds the first part of its own digest: two bodies never share a name, and whoever knows the entry knows the file.

Purges as bytes, and whether one of them counts against an answer that was requested before it, in any process.

Rows that only we can have written: each value carries a keyed digest over itself, its row's name and its hints.

So a row that was changed, cut, swapped with another or planted is not an entry: it is nothing. The key lives outside the cache's folder.

The secret that proves cache rows to be ours: random, in the state folder, never in the cache's own.

Soft purges as bytes, for the file and the store in which they are kept.

The variants of one primary key: which of them a new entry replaces. The same rule for every store.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from hmac import compare_digest
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.soft_purge import SoftPurge, SoftPurges
from passoproxy.core.cache.vary import MOST_VARIANTS
from passoproxy.core.http.messages import fields_of
from passoproxy.errors import CannotCreate

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


def encode_purge(selector: Selector) -> bytes:
    """A purge for the log."""
    parts = (selector.target, selector.prefix, selector.route, selector.tag, selector.key, selector.partition)
    return json.dumps((*parts, "private") if selector.private else parts).encode("ascii")


def decode_purge(data: bytes) -> Selector:
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
    return any(decode_purge(purge).matches(entry) for purge in purges for entry in entries)


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
        body = entry.size.to_bytes(8, "big") + bytes.fromhex(entry.digest[:16]) + encode(entry)
        return _MAGIC + self._proof(row_name(entry) + bound, hints_of(entry), body) + body

    def open(self, row: str, hints: object, value: object) -> Entry | None:
        """The entry in `value`, or None if it was not closed by us for this row and these hints."""
        if not isinstance(value, bytes) or not isinstance(hints, bytes) or value[: len(_MAGIC)] != _MAGIC:
            return None
        body = value[len(_MAGIC) + 16 :]
        if not compare_digest(value[len(_MAGIC) : len(_MAGIC) + 16], self._proof(row, hints, body)):
            return None
        return decode(body[16:])

    def open_alone(self, row: str, value: object, bound: str = "") -> Entry | None:
        """As `open`, where no hints are kept beside the value: they follow from the entry."""
        entry = decode(value[_HEAD:]) if isinstance(value, bytes) else None
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


NAME = "cache.secret"
_BYTES = 32


def secret_in(folder: Path) -> bytes:
    """The secret of `folder`, made where there is none; a damaged one is made anew (stored answers are misses then). Raises CannotCreate."""
    path = folder / NAME
    return _good(path) or _made(path)


def _good(path: Path) -> bytes | None:
    try:
        found = path.read_bytes()
    except OSError:
        return None  # not there, or not readable: the attempt to make one says what is wrong
    return found if len(found) == _BYTES else None


def _made(path: Path) -> bytes:
    made = secrets.token_bytes(_BYTES)
    temporary = path.with_name(f".{NAME}.{os.getpid()}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(made)
        try:
            # A link and not a rename: of two that make one at the same time, both go on with the first one's.
            os.link(temporary, path)
        except FileExistsError:
            if (theirs := _good(path)) is not None:
                made = theirs
            else:
                os.replace(temporary, path)
    except OSError as error:
        raise CannotCreate(f"{path}: cannot be written ({error.strerror}); choose another state.directory") from error
    finally:
        temporary.unlink(missing_ok=True)
    return made


_VERSION = 2
_LATEST = 1e12
_PARTS = ("target", "prefix", "route", "tag", "key", "partition")
"""In the order that `Selector` has them."""

_parts_of = attrgetter(*_PARTS)


def encode_soft_purges(purges: SoftPurges) -> bytes:
    """All of them."""
    listed = [[purge.at, purge.leeway, *_parts_of(purge.selector)] for purge in purges.kept]
    return json.dumps({"version": _VERSION, "purges": listed}, separators=(",", ":")).encode("ascii")


def decode_soft_purges(data: bytes, now: float) -> SoftPurges:
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


def youngest_first(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """`entries` in the order that `EntryStore.select` promises."""
    if len(entries) < 2:
        return tuple(entries)
    return tuple(sorted(entries, key=lambda entry: entry.response_time, reverse=True))


def with_variant(stored: Sequence[Entry], new: Entry) -> tuple[Entry, ...]:
    """The variants of the key once `new` is among them: those with equal `varies` are gone, and the oldest beyond the limit."""
    others = [entry for entry in stored if entry.varies != new.varies and entry.identifier != new.identifier]
    return (new, *youngest_first(others)[: MOST_VARIANTS - 1])
