"""The content of the pair's files: versioned JSON with a checksum, so that a torn or changed file is told from a whole one.

Members have the names and types of the dataclass that a file holds. Names and places of files are decided in `directory`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from functools import cache
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter

from passoproxy.core.oauth.pair import Pair
from passoproxy.ports import ChainRecord, RawAnswer

VERSION = 1

_LATER: Final = frozenset({"client", "upstream", "refresh_url", "others", "candidate"})
"""Members that files of earlier versions lack; every other one is there, or the file is damaged."""

T = TypeVar("T", Pair, ChainRecord, RawAnswer)
_KINDS = {Pair: "pair", ChainRecord: "record", RawAnswer: "answer"}


def encode(value: Pair | ChainRecord | RawAnswer) -> bytes:
    """A file's content."""
    members = asdict(value)
    if isinstance(value, RawAnswer):
        members["body"] = base64.b64encode(value.body).decode()
    whole = {"passoproxy": _KINDS[type(value)], "version": VERSION, "sha256": _checksum(members), "content": members}
    return json.dumps(whole, sort_keys=True, indent=1).encode() + b"\n"


def decode(what: type[T], data: bytes) -> T:
    """The reverse of `encode`. Raises ValueError, which never repeats what the file holds."""
    kind = _KINDS[what]
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON, or torn") from None
    if not isinstance(whole, dict) or whole.get("passoproxy") != kind or not isinstance(whole.get("content"), dict):
        raise ValueError(f"it is no {kind} of passoproxy")
    if whole.get("version") != VERSION:
        raise ValueError("it was written by another version of passoproxy")
    members = whole["content"]
    if whole.get("sha256") != _checksum(members):
        raise ValueError("its checksum is wrong")
    try:
        if not {each.name for each in fields(what)} - _LATER <= members.keys() or not _is_finite(members):
            raise ValueError
        body = base64.b64decode(members.pop("body"), validate=True) if what is RawAnswer else b""
        text = json.dumps({**members, "body": ""} if what is RawAnswer else members)
        found: T = _adapter(kind).validate_json(text, strict=True)
    except (TypeError, ValueError):  # pydantic's error repeats the values
        raise ValueError(f"it is no {kind} that this version can read") from None
    return replace(found, body=body) if isinstance(found, RawAnswer) else found


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    """Made when first needed: it takes milliseconds."""
    return TypeAdapter(next(what for what, name in _KINDS.items() if name == kind))


def _is_finite(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _checksum(members: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(members, sort_keys=True).encode()).hexdigest()
