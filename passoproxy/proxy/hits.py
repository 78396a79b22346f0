"""Hits from memory: the road of a request that waits for nothing, in one function (docs/decisions/0021-hits.md).

There are no rules here: the functions of `access`, `cache` and `representation` are asked as on the road of `send`. What they said is remembered
where it does not depend on the moment: what a request's field lines mean, and the answer that one entry has for one kind of client.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import NamedTuple

from passoproxy.core.access import GLANCED_BYTES, Admission, readable_by
from passoproxy.core.cache import cache_status
from passoproxy.core.cache.policy import for_cookies
from passoproxy.core.cache.reuse import FRESH, Serve
from passoproxy.core.events import TTL, Repeated, RequestAnswered
from passoproxy.core.http.conditional import CONDITIONS
from passoproxy.core.http.forwarding import admitted
from passoproxy.core.http.messages import (
    BODILESS,
    TRACING,
    FieldLines,
    Fields,
    RequestHead,
    ResponseHead,
    declared_length,
    head_text,
)
from passoproxy.errors import OriginInvalid, Refusal
from passoproxy.ports import Body, BytesBody, Client, Request, Response, Trail
from passoproxy.proxy.access import Access, let_in, named
from passoproxy.proxy.cache import Cache, answered
from passoproxy.proxy.representation import Codings, Links, Made, inner_fields, wanted

LARGEST_HIT = 256 * 1024
"""Bytes of a body that are written without waiting for the client."""

_TUPLES = 2560  # bytes that a form takes beside its text and body, with an entry that nothing else holds any more
_SPECIAL = frozenset(map(str.lower, (*CONDITIONS, "Range", "Cache-Control", "Expect")))


class Pieces(NamedTuple):
    """The status line and the fields of an answer, without framing, around the seconds of `Age` and of `ttl` in `Cache-Status`."""

    begin: bytes
    middle: bytes
    end: bytes
    age_first: bool

    def text(self, age: int, ttl: int) -> bytes:
        """Each line with its line end."""
        first, second = (age, ttl) if self.age_first else (ttl, age)
        return b"%b%d%b%d%b" % (self.begin, first, self.middle, second, self.end)


class Form(NamedTuple):
    """The answer that an entry has for one kind of client. `head` has no `Date` unless `dated`. `length` is the value of `Content-Length` (None:
    none), `body` None for the bytes as they are stored. `repeated` is for observers.
    """

    status: int
    head: Pieces
    dated: bool
    length: int | None
    body: bytes | None
    repeated: Repeated
    plan: Serve

    def fits(self, plan: Serve, target: str, route: str) -> bool:
        """Whether it is the answer of this plan too, for another request for `target`."""
        own, event = self.plan, self.repeated.event
        return (
            own.entry is plan.entry
            and own.is_stale is plan.is_stale
            and own.detail == plan.detail
            and event.target == target
            and event.route == route
        )


class Hit(NamedTuple):
    """An answer from memory, as it is at the moment.

    `asked` is the request as the cache saw it. `until` is the wall time up to which the same request has the same answer but for what the clock
    changes, as long as nothing that is stored or configured changes: the end of freshness, or the begin of refresh-ahead. 0: not beyond this request.
    """

    form: Form
    body: bytes
    asked: Request
    plan: Serve
    until: float
    age: int
    ttl: int

    @property
    def head(self) -> bytes:
        """The head as it is now, without framing."""
        return self.form.head.text(self.age, self.ttl)

    @property
    def cache_status(self) -> str:
        """The whole value of `Cache-Status`."""
        return self.form.repeated.event.cache_status.replace(TTL, str(self.ttl))


class Kind(NamedTuple):
    """What a request's fields mean, whatever its method and target are. `admitted` is what may leave of them, `inner` the same as the inner hops
    see it. `plain`: no condition, no range, no wish about caching, no expectation. `look`: what the answer's form depends on, beside the entry.
    """

    authority: str
    client: str
    page: str | None
    admitted: Fields
    inner: Fields
    has_cookie: bool
    plain: bool
    look: tuple[str, str, frozenset[str], str | None, str]


class Hits:
    """The pipeline with both its entrances. `memory_bytes` bounds what is remembered of forms."""

    def __init__(self, access: Access, codings: Codings, links: Links, cache: Cache, memory_bytes: int = 0) -> None:
        self._access, self._codings, self._links, self._cache = access, codings, links, cache
        self._forms = Made[Form](memory_bytes)
        self._remembered_kind = lru_cache(maxsize=512)(self._kind)

    def send(self, request: Request) -> Coroutine[None, None, Response]:
        """The answer to a request that was no hit; one that `try_hit` let pass is not judged again."""
        return self._access.send(request) if request.policy is None else self._codings.send(request)

    def try_hit(
        self,
        head: RequestHead,
        body: Body,
        client: Client,
        received_at: float,
        lines: FieldLines | None = None,
        on_interim: Callable[[ResponseHead], None] | None = None,
    ) -> Hit | Request | None:
        """The answer that `send` would give to this request, if it is a hit and its bytes are in memory. Else the request as `Access` lets it pass, or
        None if `send` has to judge it.

        `lines` are those that the head was read from, if they are remembered: then the head is without the fields of TRACING.
        """
        access = self._access
        method, admission = head.method, access.admission()
        if not isinstance(body, BytesBody) or len(body.data) > GLANCED_BYTES or method not in ("GET", "HEAD", "POST"):
            return None
        try:
            target, policy = access.placed(admission, method, head.target)
            if lines is not None and policy.key.headers and not TRACING.isdisjoint(map(str.lower, policy.key.headers)):
                return None  # a field that the head is without here
            passed = policy.pass_cookies, policy.pass_client_authorization
            if lines is None:
                kind = self._kind(admission, FieldLines(head.fields, head.scheme, head.version), head.authority, passed)
            else:
                kind = self._remembered_kind(admission, lines, head.authority, passed)
            if method == "POST":
                admission.post(head.fields, body.data)
        except Refusal:
            return None
        if kind.has_cookie and policy.pass_cookies:
            policy = for_cookies(policy)
        trail = Trail(policy.name)
        if target is not head.target:
            trail.target = target
        if kind.client:
            trail.client = kind.client
            client = Client(client.address, kind.client)
        inner = RequestHead(method, target, kind.inner, kind.authority, head.scheme, head.version)
        asked = Request(inner, body, client, received_at, policy, trail, lines=lines)
        if not policy.stores or (found := self._cache.find(asked)) is None:
            return _passing(asked, kind, on_interim)
        plan, data, now = found
        key = plan.entry.identifier, method == "HEAD", kind.look
        form = self._forms.get(key) if kind.plain else None
        if form is None or not form.fits(plan, target, policy.name):
            if (form := self._formed(asked, kind, plan, data, now)) is None:
                return _passing(asked, kind, on_interim)
            if kind.plain:
                self._forms.keep(key, form, _size(form))
        terms = plan.terms
        until = (
            min(terms.fresh_until, terms.refresh_from) if kind.plain and plan.why is FRESH and not plan.renew else 0.0
        )
        age, ttl = plan.clock(now)
        return Hit(form, data if form.body is None else form.body, asked, plan, until, age, ttl)

    def _kind(self, admission: Admission, lines: FieldLines, authority: str, passed: tuple[bool, bool]) -> Kind:
        """Raises the refusals of `core.access`."""
        head = RequestHead("GET", "/", lines.fields, authority, lines.scheme, lines.version)
        under, page = named(admission, head)
        own, client = let_in(admission, under)
        leaving = admitted(own, pass_cookies=passed[0], pass_authorization=passed[1]).fields
        inner = inner_fields(leaving)
        return Kind(
            under.authority,
            client,
            page,
            leaving,
            inner,
            "Cookie" in own.fields,
            _SPECIAL.isdisjoint(map(str.lower, own.fields)),
            (self._links.base(under), *wanted(leaving), page, client),
        )

    def _formed(self, request: Request, kind: Kind, plan: Serve, data: bytes, now: float) -> Form | None:
        """None if the body has to be made in a thread, or is too long for one write."""
        response = answered(request.head, plan.entry, BytesBody(data), TTL, cache_status.hit(TTL, plan.detail), now)
        linked = self._links.in_memory(request, response)
        coded = (
            None
            if linked is None
            else self._codings.coded(request.with_head(request.head.with_fields(kind.admitted)), linked)
        )
        if coded is None or not isinstance(coded.body, BytesBody):
            return None
        head, content = coded.head, coded.body.data
        if kind.page is not None:
            head = readable_by(head, kind.page)
        bodiless = request.head.method == "HEAD" or head.status in BODILESS
        if len(content) > LARGEST_HIT:
            return None
        text = head_text(head)
        pieces = text.encode("utf-8", "surrogateescape").split(TTL.encode())
        if len(pieces) != 3:
            raise OriginInvalid("a field of the answer holds NUL")
        trail, body = request.trail, b"" if bodiless else content
        event = RequestAnswered(
            client=trail.client,
            method=request.head.method,
            target=request.head.target,
            status=head.status,
            route=trail.route,
            cache=trail.cache,
            cache_status=", ".join(head.fields.getall("Cache-Status")),
            duration=0.0,
            sent_bytes=len(body),
        )
        return Form(
            head.status,
            Pieces(pieces[0], pieces[1], pieces[2], pieces[0][-5:].lower() == b"age: "),
            "Date" in head.fields,
            declared_length(head) if bodiless else len(content),
            None if content is data else body,
            Repeated(event),
            plan,
        )


def _passing(asked: Request, kind: Kind, told: Callable[[ResponseHead], None] | None) -> Request | None:
    """The request as `Access` would hand it on; None for preflights, and where a page may read refusals."""
    if kind.page is not None:
        return None
    leaving = asked.head.with_fields(kind.admitted)
    return Request(leaving, asked.body, asked.client, asked.received_at, asked.policy, asked.trail, told)


def _size(form: Form) -> int:
    # The target is there in the event and in what the log made of it, and in the entry.
    chosen = 2 * len(form.repeated.event.target) + form.plan.entry.chosen_length
    return sum(map(len, form.head[:3])) + len(form.body or b"") + chosen + _TUPLES
