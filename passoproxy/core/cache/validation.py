"""Validation (RFC 9111 §4.3): the question put to the origin, and what its 304, or its answer to a HEAD, makes of stored answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.etag import is_made
from passoproxy.core.cache.expiry import outdated
from passoproxy.core.cache.partial import is_partial
from passoproxy.core.cache.vary import nominated, varies
from passoproxy.core.http.conditional import CONDITIONS, bare, forms_behind, is_weak, readable_tag, readable_tags
from passoproxy.core.http.messages import Fields, RequestHead, ResponseHead, changed
from passoproxy.core.http.representation import OF_STORED_BYTES
from passoproxy.core.http.syntax import members_of, parse_date, print_date
from passoproxy.values import dataclass, value

_GONE = frozenset({404, 410})
_TELLING = ("Content-Length", "ETag", "Last-Modified")

MOST_NAMED = 16
"""How many other variants a validation names: the head of a request has to stay within what origins take."""


@dataclass(frozen=True, slots=True)
class Outdated:
    """A HEAD shows that the stored answer is not what a GET would give now: it is stale (RFC 9111 §4.3.5)."""


def validator_of(entry: Entry) -> str:
    """The origin's own entity tag, quoted; '' where there is none. Made ones are never sent to the origin."""
    return readable_tag(entry.fields.get("ETag", ""))


def can_be_validated(entry: Entry) -> bool:
    """Whether the origin gave anything to ask by (RFC 9111 §4.3.1)."""
    return bool(validator_of(entry)) or "Last-Modified" in entry.fields


def nominees(selected: Entry | None, stored: Sequence[Entry]) -> tuple[Entry, ...]:
    """Whom a validation may name: the selected answer, and every other variant by a strong tag, since that names the same bytes."""
    others = [
        each
        for each in stored
        if each is not selected and not is_partial(each) and (tag := validator_of(each)) and not is_weak(tag)
    ]
    first = [selected] if selected is not None and can_be_validated(selected) else []
    return (*first, *others[:MOST_NAMED])


def question(head: RequestHead, selected: Entry | None, named: Sequence[Entry]) -> RequestHead:
    """The conditional request (RFC 9111 §4.3.1): the client's own conditions are replaced by the stored validators."""
    tags = dict.fromkeys(tag for entry in named if (tag := validator_of(entry)))
    conditions = [("If-None-Match", ", ".join(tags))] if tags else []
    if selected is not None and parse_date(modified := selected.fields.get("Last-Modified", "")) is not None:
        conditions.append(("If-Modified-Since", modified))
    return head.with_fields(changed(head.fields, without=(*CONDITIONS, "Range"), having=conditions))


def unconditional(head: RequestHead) -> RequestHead:
    """The request for the whole answer, without any condition."""
    fields = head.fields
    bare = not has_conditions(fields) and "Range" not in fields and "If-Range" not in fields
    return head if bare else head.with_fields(changed(fields, without=(*CONDITIONS, "Range")))


def whole(head: RequestHead) -> RequestHead:
    """The request for the whole answer, with the client's other conditions."""
    fields = head.fields
    if "Range" not in fields and "If-Range" not in fields:
        return head
    return head.with_fields(changed(fields, without=("Range", "If-Range")))


def has_conditions(fields: Fields) -> bool:
    """Whether a request has a condition of its own; `If-Range` is none but a part of `Range` (RFC 9110 §13.1.5)."""
    return (
        "If-None-Match" in fields
        or "If-Modified-Since" in fields
        or "If-Match" in fields
        or "If-Unmodified-Since" in fields
    )


def forwarded_conditions(head: RequestHead) -> RequestHead:
    """The client's request as it may go to the origin where nothing is stored: tags that were made here are taken out of it."""
    if "If-Range" in head.fields and is_made(
        head.fields["If-Range"]
    ):  # weak, so that it never holds: the whole is meant (RFC 9110 §13.1.5)
        head = whole(head)
    if "If-None-Match" not in head.fields:
        return head
    tags = readable_tags(", ".join(head.fields.getall("If-None-Match")))
    foreign = [tag for tag in tags if not is_made(tag)]
    if len(foreign) == len(tags):
        return head
    # RFC 9110 §13.1.3: If-Modified-Since was to be ignored beside the tags; alone it would begin to count.
    if not foreign:
        return head.with_fields(changed(head.fields, without=("If-None-Match", "If-Modified-Since")))
    return head.with_fields(changed(head.fields, having=[("If-None-Match", ", ".join(foreign))]))


def matching(head: RequestHead, stored: Sequence[Entry]) -> RequestHead | None:
    """The request with the tags in its `If-Match` turned back into the origin's: into those that are stored, or into all of which they may be
    forms. None where all were made here: these are weak, so that none can match (RFC 9110 §13.1.1).
    """
    given = members_of(head.fields, "If-Match")
    known = {validator_of(entry) for entry in stored}
    meant: list[str] = []
    for tag in given:
        if not is_made(tag):
            behind = forms_behind(tag) if readable_tag(tag) == tag else (tag,)
            meant += [each for each in behind if each in known][:1] or behind
    if given and not meant:
        return None
    return head.with_fields(changed(head.fields, having=[("If-Match", ", ".join(dict.fromkeys(meant)))]))


@value
class Exchange:
    """When an answer was asked for and came, and the fields of its request, which Vary may name."""

    request_time: float
    response_time: float
    request: Fields


def settled(head: ResponseHead, selected: Entry | None, named: Sequence[Entry], exchange: Exchange) -> Entry | None:
    """The stored answer that a 304 speaks of, with what it brought (RFC 9111 §4.3.3, §4.3.4); None if it speaks of nothing that is stored: it must be
    asked again without conditions. `named` are those whose validators were sent, the selected one first."""
    tag = readable_tag(head.fields.get("ETag", ""))
    if tag:
        chosen = next((entry for entry in named if _same(validator_of(entry), tag)), None)
    elif "Last-Modified" in head.fields:
        same = head.fields["Last-Modified"]
        chosen = next((entry for entry in named if entry.fields.get("Last-Modified") == same), None)
    else:
        chosen = selected if selected is not None and selected in named else (named[0] if len(named) == 1 else None)
    if chosen is None:
        return None
    entry = freshened(chosen, head.fields, exchange)
    # Another variant stays one for the requests that select it.
    return entry if chosen is selected else replace(entry, varies=chosen.varies)


def outdates(status: int) -> bool:
    """Whether an answer to GET with that status, though it may not be stored, shows that what is stored is not what the origin has now."""
    return status in _GONE or (200 <= status < 400 and status not in (206, 304))


def settled_by_head(entry: Entry, head: ResponseHead, exchange: Exchange) -> Entry | Outdated | None:
    """The stored answer to GET with what an answer to HEAD brought, or that it is outdated (RFC 9111 §4.3.5); None if the HEAD says nothing of it."""
    if head.status in _GONE and head.status != entry.status:
        return Outdated()
    if head.status != 200 or is_partial(entry):
        return None
    if entry.status != 200 or any(
        name in head.fields and head.fields[name] != entry.fields.get(name) for name in _TELLING
    ):
        return Outdated()
    return freshened(entry, head.fields, exchange)


def freshened(entry: Entry, fields: Fields, exchange: Exchange) -> Entry:
    """The entry with its fields replaced by their namesakes in `fields` (RFC 9111 §3.2), counted anew from now."""
    news = list(changed(fields, without=OF_STORED_BYTES).items())
    if "Date" not in fields:
        news.append(("Date", print_date(exchange.response_time)))
    merged = changed(entry.fields, without=() if "Age" in fields else ("Age",), having=news)
    return replace(
        outdated(entry, None),
        fields=merged,
        varies=varies(nominated(merged) or (), exchange.request),
        request_time=exchange.request_time,
        response_time=exchange.response_time,
        stored_at=exchange.response_time,
    )


def _same(stored: str, told: str) -> bool:
    # A strong tag in the 304 speaks of the same strong one; a weak one of any that corresponds (RFC 9111 §4.3.4).
    return bool(stored) and (bare(stored) == bare(told) if is_weak(told) or is_weak(stored) else stored == told)
