"""An entry: one stored response with all that RFC 9111 needs to know of it, without its body's bytes."""

from __future__ import annotations

from dataclasses import field, replace

from passoproxy.core.http.messages import NO_FIELDS, Fields, ResponseHead
from passoproxy.values import dataclass, value


@value
class Entry:
    """One stored response. Times are epoch seconds; sizes bytes.

    `key` is the primary key's digest (hex), `identifier` is unique to this stored response, `varies` holds the request fields
    that `Vary` nominated with the value each had (normalised; None where absent), in the order of their names.
    `fields` are as they will be served: hop-by-hop fields gone, the origin's own Date kept. The body is in the coding that
    `Content-Encoding` names. `digest` is the body's SHA-256 (hex), '' until the body is complete. `content_digest` is that of the content
    without the route's volatile fields, '' where none was made.
    """

    key: str
    identifier: str
    partition: str
    method: str
    target: str
    status: int
    fields: Fields = field(default_factory=lambda: NO_FIELDS)
    varies: tuple[tuple[str, str | None], ...] = ()
    request_time: float = 0.0
    response_time: float = 0.0
    stored_at: float = 0.0
    route: str = ""
    tags: tuple[str, ...] = ()
    private: bool = False
    overridden: bool = False
    digest: str = ""
    content_digest: str = ""
    made_etag: str = ""
    size: int = 0
    extra: tuple[tuple[str, str], ...] = field(default=())
    """Notes of single rules, as pairs of text; unknown names are kept."""

    @property
    def head(self) -> ResponseHead:
        """The stored response's head."""
        return ResponseHead(self.status, self.fields)

    @property
    def chosen_length(self) -> int:
        """Characters in it that a client chose."""
        return len(self.target) + sum(len(value or "") for _, value in self.varies)

    def with_content(self, digest: str, size: int, content_digest: str, made_etag: str) -> Entry:
        """The entry with what its body's bytes come to."""
        # Not dataclasses.replace, which costs several microseconds: every stored answer passes here.
        return Entry(
            self.key,
            self.identifier,
            self.partition,
            self.method,
            self.target,
            self.status,
            self.fields,
            self.varies,
            self.request_time,
            self.response_time,
            self.stored_at,
            self.route,
            self.tags,
            self.private,
            self.overridden,
            digest,
            content_digest,
            made_etag,
            size,
            self.extra,
        )

    def note(self, name: str) -> str | None:
        """What a rule noted under `name`."""
        if not self.extra:
            return None
        return next((value for noted, value in self.extra if noted == name), None)

    def noting(self, name: str, value: str | None) -> Entry:
        """The entry with that note in place of the one before; None takes it away."""
        kept = tuple(pair for pair in self.extra if pair[0] != name)
        return replace(self, extra=kept if value is None else (*kept, (name, value)))


@dataclass(frozen=True, slots=True)
class Selector:
    """Which entries a purge or a listing means. Exactly one of the members is set, or none of them: everything.

    `target` is an exact path and query, `prefix` the start of one (`*` at its end allowed). `key` narrows `target` to one primary key,
    `private` narrows `partition` to what belongs to the account alone.
    """

    target: str | None = None
    prefix: str | None = None
    route: str | None = None
    tag: str | None = None
    key: str | None = None
    partition: str | None = None
    private: bool = False

    def matches(self, entry: Entry) -> bool:
        """Whether `entry` is meant."""
        return (
            (self.target is None or entry.target == self.target)
            and (self.prefix is None or entry.target.startswith(self.prefix.removesuffix("*")))
            and (self.route is None or entry.route == self.route)
            and (self.tag is None or self.tag in entry.tags)
            and (self.key is None or entry.key == self.key)
            and (self.partition is None or entry.partition == self.partition)
            and (not self.private or entry.private)
        )
