"""Bodies that caching needs: a request body that was partly read to see whether it can be part of a key."""

from __future__ import annotations

from passoproxy.ports import Body, BytesBody


class BegunBody:
    """A body of which a beginning was read already: gives that, then the rest as it comes."""

    __slots__ = ("_begun", "_rest", "length")

    def __init__(self, begun: Body, rest: Body) -> None:
        self._begun: Body | None = begun
        self._rest = rest
        self.length = rest.length

    def __aiter__(self) -> BegunBody:
        return self

    async def __anext__(self) -> bytes:
        if self._begun is not None:
            try:
                return await anext(self._begun)
            except StopAsyncIteration:
                self._begun = None
        return await anext(self._rest)

    async def aclose(self) -> None:
        if self._begun is not None:
            await self._begun.aclose()
        await self._rest.aclose()


async def gathered(body: Body, max_bytes: int) -> BytesBody | Body:
    """The body in memory where it is no longer than `max_bytes`; else the same stream with nothing lost."""
    if isinstance(body, BytesBody) or (body.length is not None and body.length > max_bytes):
        return body
    parts: list[bytes] = []
    size = 0
    async for part in body:
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            return BegunBody(BytesBody(b"".join(parts)), body)
    await body.aclose()
    return BytesBody(b"".join(parts))
