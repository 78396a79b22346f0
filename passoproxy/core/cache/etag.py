"""What a body says apart from what changes on every call: content hashes, and entity tags made from them (contract §7)."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Generator, Iterable
from hashlib import sha256

from passoproxy.core.http.content_coding import content_coding
from passoproxy.core.http.messages import Fields

LARGEST_READ = 1024 * 1024
"""Bytes of JSON, decoded, that are read for what is volatile; a longer body is hashed as it is."""

_MARK = "pp-"
_STEP_BYTES = 64 * 1024
_STEP_TOKENS = 1024  # a millisecond's work, or two
_MOST_TOKENS = 128 * 1024

_TOKEN = re.compile(
    rb"""[^\]\["{}]*+ (?: (?P<string> "[^"\\]*+(?:\\.[^"\\]*+)*+" ) (?P<colon>\s*+:)?+ | (?P<open>[\[{]) | (?P<close>[\]}]) )""",
    re.DOTALL | re.VERBOSE,
)

_Paths = tuple[tuple[str, ...], ...]


def content_digest(body: bytes, fields: Fields, volatile: Iterable[str]) -> Generator[None, None, str]:
    """SHA-256 (hex) of the content without the members at the dotted paths `volatile`, where it is JSON of at most LARGEST_READ bytes, plain
    or gzip; else of the bytes as they are. Made in steps of a few milliseconds; a list on a path means each of its items.
    """
    paths = tuple(tuple(path.split(".")) for path in volatile)
    if paths and is_json(fields):
        plain = yield from _decoded(body, content_coding(fields))
        if plain is not None and (stable := (yield from _without_members(plain, paths))) is not None:
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


def _decoded(body: bytes, coding: str) -> Generator[None, None, bytes | None]:
    if not coding:
        return body if len(body) <= LARGEST_READ else None
    if coding not in ("gzip", "x-gzip"):
        return None
    unpacker, plain = zlib.decompressobj(wbits=31), bytearray()
    while not unpacker.eof and len(plain) <= LARGEST_READ:
        try:
            piece = unpacker.decompress(body, _STEP_BYTES)
        except zlib.error:
            return None
        if not piece and not unpacker.eof:
            return None  # it breaks off
        plain += piece
        body = unpacker.unconsumed_tail
        yield
    return bytes(plain) if unpacker.eof and not unpacker.unused_data and len(plain) <= LARGEST_READ else None


def _without_members(text: bytes, paths: _Paths) -> Generator[None, None, bytes | None]:
    """The text of a JSON value without what is at `paths`; None where its brackets do not match, or where it is all brackets and strings.

    Read token by token and not by `json`, which holds the loop for as long as it takes, and takes two hundred times the text's size.
    """
    kept: list[bytes] = []
    within: list[_Paths] = []  # for each open container: what is to be left out of it
    coming = paths  # … of the value that comes next
    at = 0  # where the text begins that is not yet in `kept`
    leaving = -1  # how many containers were open where the member begins that is being left out
    for number, found in enumerate(_TOKEN.finditer(text), 1):
        if not number % _STEP_TOKENS:
            yield
            if number > _MOST_TOKENS:
                return None
        kind = found.lastgroup
        if kind == "open":
            within.append(coming)
            continue
        if kind == "string":
            continue  # a value
        if leaving == len(within):
            at, leaving = found.start("string" if kind == "colon" else "close"), -1
        if kind == "close":
            if not within:
                return None
            within.pop()
            coming = within[-1] if within else ()
        elif leaving < 0 and within and within[-1]:
            quoted = found["string"]
            name = _name(quoted) if b"\\" in quoted else quoted[1:-1].decode("utf-8", "replace")
            coming = tuple(path[1:] for path in within[-1] if path[0] == name and len(path) > 1)
            if (name,) in within[-1]:
                kept.append(text[at : found.start("string")])
                leaving = len(within)
        else:
            coming = ()
    kept.append(text[at:])
    return None if within else b"".join(kept)


def _name(quoted: bytes) -> str:
    try:
        return str(json.loads(quoted))
    except ValueError:
        return ""
