"""The fields that describe the bytes of an answer, in one table, and heads for other bytes: encoded, decoded, rewritten, a part, none at all.

Whether an answer gets other bytes is decided elsewhere: codings in `content_coding`, links in `links`, parts in `ranges`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Flag, auto

from passoproxy.core.http.conditional import suffixed, weak
from passoproxy.core.http.messages import ResponseHead, changed


class Of(Flag):
    """Which bytes a field describes: those of the message's content, of the representation in its coding, or of it in no coding."""

    CONTENT = auto()
    CODED = auto()
    PLAIN = auto()


_TABLE = {
    "Content-Length": Of.CONTENT,
    "Content-Range": Of.CONTENT,
    "Content-Digest": Of.CONTENT,  # RFC 9530 §2
    "Content-MD5": Of.CONTENT | Of.CODED,  # RFC 1864; which of the two it is for a part was never agreed upon
    "Content-Encoding": Of.CODED,
    "Accept-Ranges": Of.CODED,
    "Repr-Digest": Of.CODED,  # RFC 9530 §3
    "Digest": Of.CODED,  # RFC 3230, its forerunner
    "ETag": Of.CODED,  # gets another form and is not left out
    "Unencoded-Digest": Of.PLAIN,  # draft-ietf-httpbis-unencoded-digest
    "Content-Type": Of.PLAIN,
    "Content-Language": Of.PLAIN,
}


def _describing(bytes_of: Of, *but: str) -> frozenset[str]:
    return frozenset(name for name, of in _TABLE.items() if of & bytes_of) - set(but)


OF_CONTENT = _describing(Of.CONTENT)
"""What each part of a representation has of its own."""

OF_STORED_BYTES = _describing(Of.CONTENT, "Content-MD5") | {"Content-Encoding"}
"""What a 304 or an answer to HEAD, which has no content, does not say of stored bytes (RFC 9111 §3.2, RFC 9530 §2)."""

OF_ANY_BYTES = _describing(~Of(0), "ETag")
"""What an answer in place of the representation does not have: a 304 (RFC 9110 §15.4.5), a 416."""

_IN_ANOTHER_CODING = _describing(Of.CONTENT | Of.CODED, "ETag")
_WITH_OTHER_CONTENT = _describing(~Of(0), "ETag", "Content-Type", "Content-Language")


def merged_vary(values: Iterable[str], name: str) -> str:
    """`Vary` with `name` in it once; `*` stays alone (RFC 9110 §12.5.5)."""
    members = [member for value in values for member in (each.strip() for each in value.split(",")) if member]
    if "*" in members:
        return "*"
    if name.lower() not in (member.lower() for member in members):
        members.append(name)
    return ", ".join(members)


def in_coding(head: ResponseHead, coding: str, length: int | None) -> ResponseHead:
    """The head of the same representation in `coding` (`identity` for none), of `length` bytes where that is known."""
    having = [("Vary", merged_vary(head.fields.getall("Vary", ()), "Accept-Encoding"))]
    if coding != "identity":
        having.append(("Content-Encoding", coding))
    if (tag := head.fields.get("ETag")) is not None:
        having.append(("ETag", suffixed(tag, coding)))
    return _with(head, _IN_ANOTHER_CODING, having, length)


def rewritten(head: ResponseHead, length: int | None) -> ResponseHead:
    """The head of a representation in which links were rewritten, in no coding: it is the same only by a weak comparison."""
    having = [("ETag", weak(tag))] if (tag := head.fields.get("ETag")) is not None else []
    return _with(head, _WITH_OTHER_CONTENT, having, length)


def _with(
    head: ResponseHead, without: frozenset[str], having: list[tuple[str, str]], length: int | None
) -> ResponseHead:
    if length is not None:
        having.append(("Content-Length", str(length)))
    return head.with_fields(changed(head.fields, without=without, having=having))
