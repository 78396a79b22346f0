"""The client's own conditions on GET and HEAD, held against an answer that is at hand (RFC 9110 §13, RFC 9111 §4.3.2).

`If-Match` and `If-Unmodified-Since` are for the origin alone; `If-Range` belongs to ranges.
"""

from __future__ import annotations

import re

from passoproxy.core.http.messages import Fields
from passoproxy.core.http.syntax import parse_date, split_list

CONDITIONS = ("If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range")
"""Every field that makes a request conditional (RFC 9110 §13.1)."""

_TAG = re.compile(r'(?:[Ww]/)?"[^"]*"')


def bare(tag: str) -> str:
    """A tag without its weakness."""
    return tag[2:] if tag[:2] in ("W/", "w/") else tag


def is_weak(tag: str) -> bool:
    """Whether a tag is weak (RFC 9110 §8.8.3)."""
    return tag[:2] in ("W/", "w/")


def readable_tag(text: str) -> str:
    """An entity tag as it is compared: one without quotation marks gets them; '' for what cannot be one."""
    text = text.strip(" \t")
    if _TAG.fullmatch(text):
        return text
    return f'"{text}"' if text and '"' not in text and "," not in text else ""


def readable_tags(value: str) -> list[str]:
    """The tags of an `If-None-Match` list; members that cannot be tags are left out."""
    return [tag for member in split_list(value) if (tag := readable_tag(member))]


def not_modified(request: Fields, fields: Fields, now: float) -> bool:
    """Whether the condition of a GET or HEAD is answered by 304, given the fields of a 200 (RFC 9110 §13.2.2).

    `If-None-Match` is compared weakly and takes precedence; `If-Modified-Since` counts only without it and only if it is a date, and is
    held against `Last-Modified`, or where that is absent against `Date` (RFC 9111 §4.3.2).
    """
    if "If-None-Match" in request:
        return _matches_any(", ".join(request.getall("If-None-Match")), fields.get("ETag", ""))
    if "If-Modified-Since" not in request:
        return False
    since = parse_date(request["If-Modified-Since"], now)
    modified = parse_date(fields.get("Last-Modified", fields.get("Date", "")), now)
    return since is not None and modified is not None and modified <= since


def _matches_any(value: str, tag: str) -> bool:
    if value.strip(" \t") == "*":
        return True
    current = readable_tag(tag)
    return bool(current) and bare(current) in {bare(each) for each in readable_tags(value)}
