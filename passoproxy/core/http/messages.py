"""Heads of requests and responses as values: what every room means by a message. Bodies are the business of `ports`.

Field values are text as aiohttp's parser decodes it (UTF-8 with surrogate escapes), so that encoding them back the same way
gives the bytes that came. Field order and repetition are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field

from multidict import CIMultiDict, CIMultiDictProxy

from passoproxy.core.value import value

Fields = CIMultiDictProxy[str]
"""Header fields in their order, read without regard to case, immutable."""


def fields_of(pairs: Iterable[tuple[str, str]] | Mapping[str, str] = ()) -> Fields:
    """Fields from pairs or a mapping, order and repetition kept."""
    return CIMultiDictProxy(CIMultiDict(pairs))


NO_FIELDS: Fields = fields_of()


@value
class RequestHead:
    """A request's head after admission.

    `target` is the origin-form path and query exactly as on the wire (ASCII). `authority` is the effective Host (RFC 9112 §3.2),
    `scheme` how the client reached the proxy. `version` is (1, 0) or (1, 1).
    """

    method: str
    target: str
    fields: Fields = field(default_factory=lambda: NO_FIELDS)
    authority: str = ""
    scheme: str = "http"
    version: tuple[int, int] = (1, 1)

    @property
    def path(self) -> str:
        """The target without its query, still encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str | None:
        """What follows the first `?`, still encoded; None without a `?` (a trailing `?` gives '')."""
        _, mark, query = self.target.partition("?")
        return query if mark else None

    def with_fields(self, fields: Fields) -> RequestHead:
        """The same head with other fields."""
        # Not dataclasses.replace: it costs several microseconds, and every request passes here more than once.
        return RequestHead(self.method, self.target, fields, self.authority, self.scheme, self.version)


@value
class ResponseHead:
    """A response's head."""

    status: int
    fields: Fields = field(default_factory=lambda: NO_FIELDS)

    def with_fields(self, fields: Fields) -> ResponseHead:
        """The same head with other fields."""
        return ResponseHead(self.status, fields)


def changed(fields: Fields, *, without: Iterable[str] = (), having: Iterable[tuple[str, str]] = ()) -> Fields:
    """A copy of `fields` in which the names of `without` are gone and the pairs of `having` replace their namesakes."""
    having = tuple(having)
    kept = CIMultiDict(fields)
    for name in without:
        kept.popall(name, None)
    for name, _ in having:
        kept.popall(name, None)
    kept.extend(having)
    return CIMultiDictProxy(kept)
