"""What a body says apart from what changes on every call: content hashes, and entity tags made from them (contract §7)."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from hashlib import sha256

from passoproxy.core.cache.canonical import without
from passoproxy.core.http.messages import Fields
from passoproxy.core.http.negotiation import content_coding

_MARK = "pp-"
_LARGEST_DECODED = 8 * 1024 * 1024


def content_digest(body: bytes, fields: Fields, volatile: Iterable[str]) -> str:
    """SHA-256 (hex) of the content without the members at the dotted paths `volatile`, where it is JSON that can be read here (plain or
    gzip); else of the bytes as they are.
    """
    paths = tuple(volatile)
    if paths and is_json(fields):
        plain = _decoded(body, content_coding(fields))
        if plain is not None and (stable := _without_members(plain, paths)) is not None:
            return sha256(stable).hexdigest()
    return sha256(body).hexdigest()


def made_etag(digest: str) -> str:
    """The weak entity tag that stands for a content digest; it is never sent to the origin."""
    return f'W/"{_MARK}{digest[:32]}"'


def is_made(tag: str) -> bool:
    """Whether a tag was made here."""
    return tag.startswith(f'W/"{_MARK}')


def is_json(fields: Fields) -> bool:
    """Whether the content is JSON by its media type."""
    essence = fields.get("Content-Type", "").partition(";")[0].strip().lower()
    return essence == "application/json" or essence.endswith("+json")


def _decoded(body: bytes, coding: str) -> bytes | None:
    if not coding:
        return body
    if coding not in ("gzip", "x-gzip"):
        return None
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, _LARGEST_DECODED)
    except zlib.error:
        return None
    return plain if unpacker.eof and not unpacker.unused_data else None


def _without_members(body: bytes, paths: Iterable[str]) -> bytes | None:
    # The standard reader is good enough here: what it takes for equal (1.0 and 1.00), a weak tag may call equal.
    try:
        return json.dumps(without(json.loads(body), paths)).encode("ascii")
    except (ValueError, RecursionError):
        return None
