"""What the pair's files hold: versioned JSON with a checksum, so that a torn or changed file is told from a whole one.

Names and places of files are the business of `directory`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.transaction import Candidate, Intent
from passoproxy.ports import ChainRecord, RawAnswer

VERSION = 1

T = TypeVar("T")


def encode_pair(pair: Pair) -> bytes:
    """A generation's file."""
    return _sealed("pair", _members(pair))


def decode_pair(data: bytes) -> Pair:
    """The reverse of `encode_pair`. Raises ValueError, which never repeats what the file holds."""
    return _opened("pair", data, _pair)


def encode_record(record: ChainRecord) -> bytes:
    """The chain's file."""
    return _sealed("record", _record_members(record))


def decode_record(data: bytes) -> ChainRecord:
    """The reverse of `encode_record`. Raises ValueError."""
    return _opened("record", data, _record)


def encode_answer(answer: RawAnswer) -> bytes:
    """A raw answer's file."""
    members = {name: getattr(answer, name) for name in RawAnswer.__slots__ if name != "body"}
    return _sealed("answer", {**members, "body": base64.b64encode(answer.body).decode()})


def decode_answer(data: bytes) -> RawAnswer:
    """The reverse of `encode_answer`. Raises ValueError."""
    return _opened("answer", data, _answer)


def _record_members(record: ChainRecord) -> dict[str, object]:
    members = {name: getattr(record, name) for name in ("state", "reason", "spent", "asked_at", "extra", "client")}
    candidate = record.candidate
    return {
        **members,
        "intent": _members(record.intent) if record.intent else None,
        "candidate": {"pair": _members(candidate.pair), "intent": _members(candidate.intent)} if candidate else None,
        "others": [_record_members(other) for other in record.others],
    }


def _members(value: Pair | Intent) -> dict[str, object]:
    return {name: getattr(value, name) for name in value.__slots__}


def _sealed(kind: str, members: Mapping[str, object]) -> bytes:
    content = json.dumps(members, sort_keys=True)
    whole = {"passoproxy": kind, "version": VERSION, "sha256": _checksum(content), "content": members}
    return json.dumps(whole, sort_keys=True, indent=1).encode() + b"\n"


def _opened(kind: str, data: bytes, read: Callable[[dict[str, object]], T]) -> T:
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON, or torn") from None
    if not isinstance(whole, dict) or whole.get("passoproxy") != kind or not isinstance(whole.get("content"), dict):
        raise ValueError(f"it is no {kind} of passoproxy")
    if whole.get("version") != VERSION:
        raise ValueError("it was written by another version of passoproxy")
    if whole.get("sha256") != _checksum(json.dumps(whole["content"], sort_keys=True)):
        raise ValueError("its checksum is wrong")
    try:
        return read(whole["content"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"it is no {kind} that this version can read") from None


def _checksum(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _pair(content: dict[str, object]) -> Pair:
    return Pair(
        access_token=_text(content["access_token"]),
        refresh_token=_maybe(_text, content["refresh_token"]),
        obtained_at=_number(content["obtained_at"]),
        access_until=_maybe(_number, content["access_until"]),
        refresh_until=_maybe(_number, content["refresh_until"]),
        lifetime=_maybe(_number, content["lifetime"]),
        scope=_maybe(_text, content["scope"]),
        subject=_maybe(_text, content["subject"]),
        generation=_whole(content["generation"]),
        source=_text(content["source"]),
        salt=_text(content["salt"]),
        client=_text(content.get("client", "")),
        upstream=_text(content.get("upstream", "")),
    )


def _record(content: dict[str, object]) -> ChainRecord:
    intent = content["intent"]
    return ChainRecord(
        state=_text(content["state"]),
        reason=_text(content["reason"]),
        spent=tuple(_text(spent) for spent in _list(content["spent"])),
        asked_at=_number(content["asked_at"]),
        intent=_intent(intent) if isinstance(intent, dict) else None,
        extra=tuple((_text(name), _text(value)) for name, value in map(_list, _list(content["extra"]))),
        client=_text(content.get("client", "")),
        others=tuple(_record(_object(other)) for other in _list(content.get("others", []))),
        candidate=_maybe(_candidate, content.get("candidate")),
    )


def _intent(content: dict[str, object]) -> Intent:
    return Intent(
        token=_text(content["token"]),
        generation=_whole(content["generation"]),
        begun_at=_number(content["begun_at"]),
        presented=_whole(content["presented"]),
        lost=content["lost"] is True,
    )


def _candidate(content: object) -> Candidate:
    found = _object(content)
    return Candidate(_pair(_object(found["pair"])), _intent(_object(found["intent"])))


def _answer(content: dict[str, object]) -> RawAnswer:
    return RawAnswer(
        body=base64.b64decode(_text(content["body"]), validate=True),
        content_type=_text(content["content_type"]),
        sent_at=_number(content["sent_at"]),
        grant=_text(content["grant"]),
        previous_generation=_whole(content["previous_generation"]),
        client=_text(content.get("client", "")),
    )


def _maybe(read: Callable[[object], T], value: object) -> T | None:
    return None if value is None else read(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError
    return value
