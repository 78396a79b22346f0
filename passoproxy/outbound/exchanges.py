"""What goes over a connection to the origin, and within which limits: values only."""

from __future__ import annotations

from dataclasses import dataclass

from passoproxy.core.http.messages import Fields
from passoproxy.ports import Body


@dataclass(frozen=True, slots=True)
class Limits:
    """What a connection lets happen. Times are seconds; `read_timeout` bounds the silence between reads and the whole head of an answer."""

    read_timeout: float = 30.0
    header_bytes: int = 32 * 1024
    max_age: float = 300.0
    idle_timeout: float = 60.0
    held_bytes: int = 256 * 1024
    """Bytes of an answer that may wait for their reader before reading pauses."""
    interim_heads: int = 32
    settling: float = 0.01
    """Rest before a connection is used again, for which another is opened or, at the pool's limit, waited: an answer sent twice arrives
    within it, and ends the connection instead of going to the next request."""
    distrust: float = 60.0
    """For so long after anything arrived outside an answer no connection carries a second request: one that arrives later still, after the
    next request was sent, could not be told from its answer."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request ready to be sent: its head as bytes, and whether its body goes out chunked (else its length is known)."""

    method: str
    head: bytes
    body: Body
    chunked: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose body may still be arriving."""

    status: int
    fields: Fields
    body: Body
