"""Errands: one question to the origin each, with all that is known when it is asked. Carried out in `fetching`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from passoproxy.core.cache import validation
from passoproxy.core.cache.directives import Asked
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.partial import completing, rest_of
from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.cache.reuse import Fetch, Revalidate
from passoproxy.core.http.messages import RequestHead
from passoproxy.core.http.ranges import Span
from passoproxy.ports import Request


@dataclass(frozen=True, slots=True)
class Errand:
    """One question: `request` has its body in memory. `keeps` says whether the answer may be stored, `with_conditions` whether the
    client's own conditions go along, `as_asked` whether its `Range` does, so that only a part may come.
    """

    request: Request
    policy: RoutePolicy
    asked: Asked
    key: str
    partition: str
    stored: Sequence[Entry]
    plan: Revalidate | Fetch
    keeps: bool = True
    with_conditions: bool = False
    as_asked: bool = False

    @property
    def crowd(self) -> object:
        """Those whose answers fare alike as to being shared: requests of one key, apart by whether a cookie goes along."""
        return self.key, self.policy.origin_decides

    @property
    def part(self) -> Entry | None:
        """A stored part that is not enough for this request."""
        return self.plan.part if isinstance(self.plan, Fetch) else None

    @property
    def rest(self) -> Span | None:
        """The one piece that is asked for where a stored part lacks nothing else (RFC 9111 §3.3); None where the whole is."""
        part = self.part
        if part is None or self.as_asked or self.with_conditions or self.request.head.method != "GET":
            return None
        return rest_of(part)


def question(errand: Errand) -> RequestHead:
    """The request as it goes to the origin."""
    head, plan = errand.request.head, errand.plan
    if isinstance(plan, Revalidate):
        return validation.question(head, plan.entry, plan.named)
    if errand.as_asked:
        return validation.forwarded_conditions(head)
    if errand.with_conditions:
        return validation.whole(validation.forwarded_conditions(head))
    bare = validation.unconditional(head)
    part, rest = errand.part, errand.rest
    return bare if part is None or rest is None else completing(bare, part, rest)
