"""Answers as caching sends them: the stored or streamed head with `Age` and `Cache-Status`, or a 304 where the client has it already."""

from __future__ import annotations

from multidict import CIMultiDict, CIMultiDictProxy

from passoproxy.core.cache import status
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.freshness import initial_age
from passoproxy.core.http.conditional import not_modified
from passoproxy.core.http.forwarding import reason_for
from passoproxy.core.http.messages import Fields, RequestHead, ResponseHead, changed
from passoproxy.core.http.ranges import RANGE
from passoproxy.ports import Body, BytesBody, Response
from passoproxy.proxy import parts


async def from_store(request: RequestHead, entry: Entry, body: Body, age: float, member: str, now: float) -> Response:
    """A stored answer: `Age` always, in whole seconds (RFC 9111 §5.1)."""
    fields = CIMultiDict(entry.fields)
    fields["Age"] = str(int(age))
    response = await _answered(request, entry.status, fields, entry, body, member, now)
    return await in_parts(request, response, entry, entry.size) if RANGE in request.fields else response


async def streamed(
    request: RequestHead, head: ResponseHead, entry: Entry, body: Body, age: float, member: str, now: float
) -> Response:
    """An answer that is being stored while it is sent; `Age` from one second on."""
    fields = CIMultiDict(head.fields)
    _tell_age(fields, age)
    return await _answered(request, head.status, fields, entry, body, member, now)


async def in_parts(request: RequestHead, response: Response, entry: Entry, size: int) -> Response:
    """The ranges that the request asks for of a complete answer, or of a stored part; the answer as it is where none are to be cut."""
    if response.head.status not in (200, 206) or not parts.is_ranged(request):
        return response
    head, body = await parts.cut_out(request, response.head, entry, response.body, size)
    # The bytes of a part have no name: what outer hops remember, they remember of the whole.
    return Response(head, body, response.content_id if body is response.body else "")


def passed(response: Response, member: str, sent_at: float, came_at: float) -> Response:
    """An answer that the cache has no part in; `Age` from one second on."""
    head = response.head
    fields = CIMultiDict(head.fields)
    _tell_age(fields, initial_age(head.fields, sent_at, came_at))
    fields["Cache-Status"] = status.appended(head.fields, member)
    return response.with_head(ResponseHead(head.status, CIMultiDictProxy(fields), head.reason))


async def _answered(
    request: RequestHead, code: int, fields: CIMultiDict[str], entry: Entry, body: Body, member: str, now: float
) -> Response:
    fields["Cache-Status"] = status.appended(entry.fields, member)
    if entry.made_etag and "ETag" not in fields:
        fields["ETag"] = entry.made_etag
    head = ResponseHead(code, CIMultiDictProxy(fields), reason_for(code))
    if _holds_already(request, code, head.fields, now):
        await body.aclose()
        # What describes content that is not sent is taken off by the outer hop, which looks at it first.
        if entry.size and "Content-Length" not in fields:
            head = head.with_fields(changed(head.fields, having=[("Content-Length", str(entry.size))]))
        return Response(ResponseHead(304, head.fields, reason_for(304)), BytesBody())
    if request.method == "HEAD":
        await body.aclose()
        return Response(head, BytesBody(), entry.digest)
    return Response(head, body, entry.digest)


def _tell_age(fields: CIMultiDict[str], age: float) -> None:
    if age >= 1.0:
        fields["Age"] = str(int(age))
    elif fields.get("Age", "0") != "0":  # what the origin wrote there is no number of seconds (RFC 9111 §5.1)
        del fields["Age"]


def _holds_already(request: RequestHead, code: int, fields: Fields, now: float) -> bool:
    asked = request.fields
    if code not in (200, 203, 206) or ("If-None-Match" not in asked and "If-Modified-Since" not in asked):
        return False
    return request.method != "POST" and not_modified(asked, fields, now)
