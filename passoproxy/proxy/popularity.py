"""What clients ask for most, counted on the road: so cheaply that a hit does not feel it, in bounded memory, forgetting slowly.

Who asks for it again when the runway shrinks is `upkeep.warming`.
"""

from __future__ import annotations

from heapq import nlargest

from passoproxy.core.http.messages import RequestHead
from passoproxy.ports import BytesBody, Client, Request

MOST_KEYS = 1024
LARGEST_BODY = 8 * 1024
"""Bytes of a POST's body that are worth remembering."""


class _Seen:
    __slots__ = ("body", "count", "head")

    def __init__(self, head: RequestHead, body: bytes) -> None:
        self.head, self.body, self.count = head, body, 1


class Usage:
    """Counts requests by primary key, at most `most` keys; when there is no room all counts are halved, and what is down to nothing goes."""

    def __init__(self, most: int = MOST_KEYS) -> None:
        self._most = most
        self._seen: dict[str, _Seen] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def count(self, key: str, request: Request) -> None:
        """One more request for `key`; the first one's head and body stand for all."""
        seen = self._seen.get(key)
        if seen is not None:
            seen.count += 1
            return
        body = request.body.data if isinstance(request.body, BytesBody) else b""
        if len(body) > LARGEST_BODY:
            return
        if len(self._seen) >= self._most:
            self._forget()
        self._seen[key] = _Seen(request.head, body)

    def most_used(self, number: int) -> list[Request]:
        """The `number` keys that were asked for most, each as a background request of nobody, the most used first."""
        chosen = nlargest(number, self._seen.values(), key=lambda seen: seen.count)
        return [Request(seen.head, BytesBody(seen.body), Client(), background=True) for seen in chosen]

    def _forget(self) -> None:
        while len(self._seen) >= self._most:
            for seen in self._seen.values():
                seen.count //= 2
            self._seen = {key: seen for key, seen in self._seen.items() if seen.count}
