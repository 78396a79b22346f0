"""Entries, purges and names as bytes, for every store that keeps them outside this process.

An entry is a version byte, then one JSON array in a fixed order: compact, read by C code, and nothing in it can run. JSON's escapes carry
surrogate-escaped text unharmed. Bytes of another version are no entry. A value is an entry with a keyed digest (`Seal`), whose secret
lies in the state folder, never in the cache's. Names of rows, files and marks are digests, so that nothing a client sent names a file.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Sequence
from hashlib import blake2b
from hmac import compare_digest
from itertools import chain
from pathlib import Path
from types import NoneType
from typing import Any, TypeGuard

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.vary import MOST_VARIANTS
from passoproxy.core.http.messages import fields_of
from passoproxy.errors import CannotCreate

VERSION = 1

_NUMBERS = {float, int}
_SHAPE = (*(str,) * 5, int, list, list, *(_NUMBERS,) * 3, str, list, bool, bool, *(str,) * 3, int, list)
"""What stands at each place of the array, in the order in which `encode` writes it."""


_json = json.JSONEncoder(separators=(",", ":")).encode


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
    return bytes((VERSION,)) + _json(values).encode("ascii")


def decode(data: bytes) -> Entry | None:
    """The entry that `encode` made `data` of; None for another version and for whatever is no entry."""
    if data[:1] != bytes((VERSION,)):
        return None
    try:
        values = json.loads(str(data[1:], "ascii"))
    except (ValueError, RecursionError):
        return None
    return _entry(values) if _has_shape(values) else None


def _has_shape(values: object) -> TypeGuard[list[Any]]:
    if not isinstance(values, list) or len(values) != len(_SHAPE):
        return False
    for kind, known in zip(map(type, values), _SHAPE, strict=True):
        if kind is not known and (known is not _NUMBERS or kind not in _NUMBERS):
            return False
    return (
        {str}.issuperset(map(type, chain(values[6], values[12], values[19], values[7][::2])))
        and {str, NoneType}.issuperset(map(type, values[7]))
        and not (len(values[6]) | len(values[7]) | len(values[19])) & 1
    )


def _entry(values: list[Any]) -> Entry:
    """Everything by its place, as the class has it; what are tuples there came as lists."""
    fields = values[6]
    values[6] = fields_of(zip(fields[::2], fields[1::2], strict=True))
    values[7], values[19] = _pairs(values[7]), _pairs(values[19])
    values[12] = tuple(values[12])
    return Entry(*values)


def _pairs(flat: list[Any]) -> tuple[tuple[Any, Any], ...]:
    return tuple(zip(flat[::2], flat[1::2], strict=True)) if flat else ()


def text_bytes(text: str) -> bytes:
    """Text as a key of an index; odd characters of a header are kept."""
    return text.encode("utf-8", "surrogatepass")


BODY_PATTERN = re.compile(r"([0-9a-f]{2})/([0-9a-f]{30})\.([0-9a-f]{16})\.[0-9a-f]{16}", re.ASCII)
"""Every body file's name, relative to the bodies' folder. Nothing else is ever opened or removed there."""


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

    0, which means anything, for a name that was planted.
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
    except (ValueError, TypeError, RecursionError):
        return Selector()
    private = isinstance(parts, list) and parts[6:] == ["private"]
    named = parts[:6] if private else parts
    if not isinstance(named, list) or len(named) != 6 or not all(part is None or type(part) is str for part in named):
        return Selector()
    target, prefix, route, tag, key, partition = named
    return Selector(target=target, prefix=prefix, route=route, tag=tag, key=key, partition=partition, private=private)


def means_everything(selector: Selector) -> bool:
    """Whether there is no entry that `selector` does not match."""
    return selector in (Selector(), Selector(prefix=""), Selector(prefix="*"))


_MAGIC = b"pxe2"
_HEAD = len(_MAGIC) + 16
MIN_SECRET = 16


class Seal:
    """Makes and checks sealed values under one secret of at least 16 bytes: a value that was changed, planted or moved is no entry."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) < MIN_SECRET:
            raise ValueError(f"the cache's secret has {len(secret)} bytes; it needs {MIN_SECRET} or more")
        self._secret = blake2b(secret, digest_size=32, person=b"passoproxy entry").digest()

    def close(self, entry: Entry, row: str = "") -> bytes:
        """The value for `row`, which is `row_name(entry)`."""
        head = encode(entry)
        return _MAGIC + self._proof(row or row_name(entry), head) + head

    def proof(self, entry: Entry, row: str) -> bytes:
        """What `proof_in` finds in the value of `entry`."""
        return self._proof(row, encode(entry))

    def open(self, row: str, value: object) -> Entry | None:
        """The entry in `value`, or None if it was not closed by us for this row. A body behind the head is not looked at."""
        if not isinstance(value, bytes) or value[: len(_MAGIC)] != _MAGIC:
            return None
        head = value[_HEAD : _end_of_head(value)]
        return decode(head) if compare_digest(value[len(_MAGIC) : _HEAD], self._proof(row, head)) else None

    def _proof(self, row: str, head: bytes) -> bytes:
        return blake2b(b"%s\0%s" % (row.encode(), head), digest_size=16, key=self._secret).digest()


def with_body(value: bytes, body: bytes) -> bytes:
    """A value with a body behind its head. The head's digest of it is the proof that it is whole."""
    return b"%s\n%s" % (value, body)


def proof_in(value: bytes) -> bytes:
    """The digest in a value that tells its head from every other one; it is not held against the head here."""
    return value[len(_MAGIC) : _HEAD]


def body_in(value: object) -> bytes | None:
    """The body behind the head; None if there is none."""
    if not isinstance(value, bytes) or (end := _end_of_head(value)) == len(value):
        return None
    return value[end + 1 :]


def _end_of_head(value: bytes) -> int:
    end = value.find(b"\n", _HEAD)  # JSON writes no line end
    return len(value) if end < 0 else end


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
            os.fchmod(file.fileno(), 0o600)  # whatever the umask
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


def youngest_first(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """`entries` in the order that `EntryStore.select` promises."""
    if len(entries) < 2:
        return tuple(entries)
    return tuple(sorted(entries, key=lambda entry: entry.response_time, reverse=True))


def with_variant(stored: Sequence[Entry], new: Entry) -> tuple[Entry, ...]:
    """The variants of the key once `new` is among them: those with equal `varies` are gone, and the oldest beyond the limit."""
    others = [entry for entry in stored if entry.varies != new.varies and entry.identifier != new.identifier]
    return (new, *youngest_first(others)[: MOST_VARIANTS - 1])
