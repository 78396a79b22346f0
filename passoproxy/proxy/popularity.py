"""What clients ask for most, in bounded memory, forgetting slowly. Renewing it when the runway shrinks is the business of `upkeep.prefetch`."""

from __future__ import annotations

from heapq import nlargest

from passoproxy.core.http.messages import RequestHead
from passoproxy.ports import BytesBody, Client, Request

MOST_KEYS = 1024
LARGEST_BODY = 8 * 1024
"""Bytes of a POST's body that are worth remembering."""
LARGEST_HEAD = 8 * 1024
"""The same of a request's target and fields, each field with what it costs beside its text."""
_FIELD_OVERHEAD = 64


class Usage:
    """Counts requests by primary key, at most `most` keys; when there is no room all counts are halved, and what is down to nothing goes.

    Every hit passes here, so a key that is in `counts` is counted there in place; `begin` counts any other.
    """

    def __init__(self, most: int = MOST_KEYS) -> None:
        self._most = most
        self.counts: dict[str, int] = {}
        self._asked: dict[str, tuple[RequestHead, bytes]] = {}

    def begin(self, key: str, request: Request) -> None:
        """The first request for `key`; its head and body stand for all."""
        body = request.body.data if isinstance(request.body, BytesBody) else b""
        if len(body) > LARGEST_BODY or _size(request.head) > LARGEST_HEAD:
            return
        while len(self.counts) >= self._most:
            self.counts = {known: count // 2 for known, count in self.counts.items() if count > 1}
            self._asked = {known: self._asked[known] for known in self.counts}
        self.counts[key], self._asked[key] = 1, (request.head, body)

    def most_used(self, number: int) -> list[Request]:
        """The `number` keys that were asked for most, each as a background request without a client, the most used first."""
        asked = [self._asked[key] for key in self._first(number)]
        return [Request(head, BytesBody(body), Client(), background=True) for head, body in asked]

    def counted(self, number: int) -> list[tuple[str, str, int]]:
        """The same as method, target and count."""
        return [
            (self._asked[key][0].method, self._asked[key][0].target, self.counts[key]) for key in self._first(number)
        ]

    def _first(self, number: int) -> list[str]:
        return nlargest(number, self.counts, key=lambda key: self.counts[key])


def _size(head: RequestHead) -> int:
    fields = head.fields
    return len(head.target) + sum(map(len, fields)) + sum(map(len, fields.values())) + _FIELD_OVERHEAD * len(fields)
