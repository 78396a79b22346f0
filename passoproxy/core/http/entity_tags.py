"""Entity tags (RFC 9110 §8.8.3): reading lists of them, and the forms that a proxy gives to a representation it has changed.

A strong tag names bytes. Where the proxy sends other bytes it sends another tag: the same with the coding's name as a suffix, or
the weak form. What a client sends back in a condition is brought to the forms that the inner rooms know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from passoproxy.core.http.messages import ResponseHead, changed

SUFFIXES = ("-gzip", "-br", "-zstd", "-identity")
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\U0010ffff\udc80-\udcff]*"')
_LIST = re.compile(rf"[ \t,]*(?:{_TAG.pattern}[ \t]*(?:,[ \t,]*|$))*")


def is_tag(value: str) -> bool:
    """Whether `value` is one entity tag."""
    return _TAG.fullmatch(value) is not None


def read_list(value: str) -> tuple[str, ...] | None:
    """The tags of an `If-Match` or `If-None-Match` value, in order; None where it is `*` or no list of tags."""
    if _LIST.fullmatch(value) is None:
        return None
    return tuple(_TAG.findall(value))


def quoted(tag: str) -> str:
    """The tag with the quotation marks that some origins forget: as it is compared, and as it can be given another form."""
    return tag if '"' in tag else f'"{tag}"'


def opaque(tag: str) -> str:
    """The tag without its weakness: what a weak comparison compares."""
    return tag.removeprefix("W/")


def weak(tag: str) -> str:
    """The weak form."""
    return f"W/{opaque(quoted(tag))}"


def suffixed(tag: str, coding: str) -> str:
    """The form of a strong tag for bytes in another coding; a weak tag names no bytes and stays."""
    return tag if tag.startswith("W/") else f'{quoted(tag)[:-1]}-{coding}"'


def unsuffixed(tag: str) -> str:
    """The tag without a suffix of ours, if it has one."""
    for suffix in SUFFIXES:
        if tag.endswith(f'{suffix}"'):
            return f'{tag[: -len(suffix) - 1]}"'
    return tag


def forms_behind(tag: str) -> tuple[str, ...]:
    """The tags of which `tag` may be a form, itself first: it may be the origin's own."""
    strong = opaque(tag)
    return tuple(dict.fromkeys((tag, strong, unsuffixed(strong))))


def with_inner_forms(value: str) -> str:
    """An `If-None-Match` value in which every tag stands beside the form that the inner rooms know; others stay as they are."""
    tags = read_list(value)
    if tags is None:
        return value
    return ", ".join(dict.fromkeys(form for tag in tags for form in (tag, unsuffixed(tag))))


def not_modified_for(head: ResponseHead, sent: str | None) -> ResponseHead:
    """A 304 that names its tag in the form in which the client sent it, so that the client finds its stored response again."""
    tag = head.fields.get("ETag")
    if tag is None or sent is None:
        return head
    for known in read_list(sent) or ():
        if known != tag and opaque(quoted(tag)) in (opaque(known), opaque(unsuffixed(known))):
            return head.with_fields(changed(head.fields, having=(("ETag", known),)))
    return head


def merged_vary(values: Iterable[str], name: str) -> str:
    """`Vary` with `name` in it once; `*` stays alone (RFC 9110 §12.5.5)."""
    members = [member for value in values for member in (each.strip() for each in value.split(",")) if member]
    if "*" in members:
        return "*"
    if name.lower() not in (member.lower() for member in members):
        members.append(name)
    return ", ".join(members)
