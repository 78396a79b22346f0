"""A request's bytes as they go onto the wire: its head, and its body framed. When they are written is left to `connection`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from passoproxy.core.http.messages import RequestHead
from passoproxy.errors import BadRequest, BodyBroken
from passoproxy.ports import Body

_WITH_CONTENT = frozenset({"POST", "PUT", "PATCH"})


def encoded(head: RequestHead, body: Body) -> bytes:
    """A head as it goes onto the wire, with the fields that frame `body`. Values go out as the bytes that came in.

    Raises BadRequest where a part would break out of its line: a second guard, after what admission checks.
    """
    lines = [f"{head.method} {head.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in head.fields.items()]
    if body.length is None:
        lines.append("Transfer-Encoding: chunked")
    elif body.length or head.method in _WITH_CONTENT:
        lines.append(f"Content-Length: {body.length}")
    data = "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n"
    # Every line ends in CR LF and nothing else does: a CR, LF or NUL within a part shows in the count.
    ends = len(lines) + 1
    if data.count(b"\n") != ends or data.count(b"\r") != ends or b"\0" in data or " " in head.target:
        raise BadRequest(
            "a part of the request would break the message toward the origin; send it without control characters"
        )
    return data


async def framed(body: Body, chunked: bool) -> AsyncIterator[bytes]:
    """The body's parts as they go onto the wire. Raises BodyBroken where it is not as long as it said, and what `body` raises."""
    left = 0 if chunked else body.length or 0
    async for part in body:
        if chunked:
            if part:  # an empty chunk would end the body
                yield b"%x\r\n%b\r\n" % (len(part), part)
            continue
        left -= len(part)
        if left < 0:
            break
        yield part
    if left:
        raise BodyBroken("the request's body is not as long as it said")
    if chunked:
        yield b"0\r\n\r\n"
