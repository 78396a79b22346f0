"""Entity tags (RFC 9110 §8.8.3), and the client's own conditions on GET and HEAD, held against an answer at hand (§13, RFC 9111 §4.3.2).

A strong tag names bytes. If the proxy sends other bytes it sends another tag: the same with the coding's name as a suffix, or the weak form.
What a client sends back in a condition is brought to the forms that the inner hops know. `If-Match` and `If-Unmodified-Since` are for the
origin alone; `If-Range` belongs to ranges.
"""

from __future__ import annotations

import re

from passoproxy.core.http.messages import Fields, ResponseHead, changed
from passoproxy.core.http.syntax import parse_date, split_list

CONDITIONS = ("If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range")
"""Every field that makes a request conditional (RFC 9110 §13.1)."""

_SUFFIX = re.compile(r'-(?:gzip|br|zstd|identity)"\Z')
_TAG = re.compile(r'(?:[Ww]/)?"[^"]*"')

# ---- tags and their forms ----------------------------------------------------------------------------------------------


def bare(tag: str) -> str:
    """A tag without its weakness: what a weak comparison compares."""
    return tag[2:] if tag[:2] in ("W/", "w/") else tag


def is_weak(tag: str) -> bool:
    """Whether a tag is weak (RFC 9110 §8.8.3)."""
    return tag[:2] in ("W/", "w/")


def readable_tag(text: str) -> str:
    """An entity tag as it is compared: one without the quotation marks that some origins forget gets them; '' for what cannot be one."""
    text = text.strip(" \t")
    if _TAG.fullmatch(text):
        return text
    return f'"{text}"' if text and '"' not in text and "," not in text else ""


def readable_tags(value: str) -> list[str]:
    """The tags of an `If-None-Match` list; members that cannot be tags are left out."""
    return [tag for member in split_list(value) if (tag := readable_tag(member))]


def weak(tag: str) -> str:
    """The weak form."""
    return f"W/{bare(readable_tag(tag) or tag)}"


def suffixed(tag: str, coding: str) -> str:
    """The form of a strong tag for bytes in another coding; a weak tag names no bytes and stays."""
    return tag if is_weak(tag) else f'{(readable_tag(tag) or tag)[:-1]}-{coding}"'


def unsuffixed(tag: str) -> str:
    """The tag without a suffix of ours, if it has one."""
    return _SUFFIX.sub('"', tag)


def forms_behind(tag: str) -> tuple[str, ...]:
    """The tags of which `tag` may be a form, itself first: it may be the origin's own."""
    return tuple(dict.fromkeys((tag, bare(tag), unsuffixed(bare(tag)))))


def with_inner_forms(value: str) -> str:
    """An `If-None-Match` value in which every tag with a suffix of ours stands beside the form that the inner hops know."""
    tags = readable_tags(value)
    forms = dict.fromkeys(form for tag in tags for form in (tag, unsuffixed(tag)))
    return ", ".join(forms) if len(forms) > len(set(tags)) else value


def not_modified_for(head: ResponseHead, sent: str | None) -> ResponseHead:
    """A 304 that names its tag in the form in which the client sent it, so that the client finds its stored response again."""
    tag = head.fields.get("ETag")
    if tag is None or sent is None:
        return head
    stored = bare(readable_tag(tag) or tag)
    for known in readable_tags(sent):
        if known != tag and stored in (bare(known), bare(unsuffixed(known))):
            return head.with_fields(changed(head.fields, having=(("ETag", known),)))
    return head


# ---- conditions --------------------------------------------------------------------------------------------------------


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
