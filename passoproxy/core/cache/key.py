"""The primary key of a request (RFC 9111 §2, §4.1): identity, method class, target as the policy normalises it, named fields, and for a
POST that counts as a read its content. Two requests of one key may still select different variants, see `variants`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from passoproxy.core.cache import canonical, query
from passoproxy.core.cache.canonical import Unreadable
from passoproxy.core.cache.policy import KeyPolicy
from passoproxy.core.http.grammar import split_list
from passoproxy.core.http.messages import Fields, RequestHead
from passoproxy.core.http.negotiation import content_coding

METHOD_FIELD = "_method"
"""The name by which frameworks turn a POST into another method; its presence always makes a request a pass."""

CREDENTIAL_FIELDS = frozenset(
    {"access_token", "refresh_token", "id_token", "client_secret", "client_assertion", "code_verifier"}
)
"""Names of OAuth whose values are secret (RFC 6750 §2.2, §2.3; RFC 6749, 7521, 7636): a request with one is always a pass, so that no
secret becomes part of what is stored.
"""

_NO_NAMES: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Content:
    """A POST body that can be part of a key: `canonical_form` in bytes with its media type, and every name in it."""

    media_type: str
    canonical_form: bytes
    names: frozenset[str]


def primary_key(partition: str, head: RequestHead, policy: KeyPolicy, content: Content | None = None) -> str:
    """The key's digest (SHA-256, hex) of `head` for the identity `partition`; HEAD shares GET's."""
    path, mark, rest = head.target.partition("?")
    if mark and ((kept := query.normalised(rest, policy)) or not rest):  # a query of which nothing counts is none
        path = f"{path}?{kept}"
    parts = [partition, "GET" if head.method == "HEAD" else head.method, path]
    if policy.headers:
        parts += _named_fields(head.fields, policy.headers)
    if content is None:
        return sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
    # The body stands last and behind its length of parts, so that no text can be taken for another part.
    start = "\0".join((*parts, content.media_type, "")).encode("utf-8", "surrogateescape")
    return sha256(start + content.canonical_form).hexdigest()


def content_of(fields: Fields, body: bytes, policy: KeyPolicy) -> Content:
    """What a POST body means for the key. Raises Unreadable where it cannot be keyed: multipart, coded, of a type nobody reads here."""
    if content_coding(fields):
        raise Unreadable("the body is coded")
    kinds = fields.getall("Content-Type", ("",))
    if len(kinds) > 1:
        raise Unreadable("the body has several types")
    essence, parameters = _media_type(kinds[0])
    if essence == "application/x-www-form-urlencoded":
        return Content(_full(essence, parameters), body, query.form_names(body.decode("utf-8", "replace")))
    if essence in ("application/json", "text/json") or essence.endswith("+json"):
        return _json(essence, parameters, body, policy)
    if not body:
        return Content(_full(essence, parameters), b"", frozenset())
    raise Unreadable(f"a body of type {essence or 'unknown'} is not read")


def side_effects(head: RequestHead, names: frozenset[str], content: Content | None = None) -> str:
    """What makes a request a pass by a name in its query or body: METHOD_FIELD, one of CREDENTIAL_FIELDS, or one of `names` (contract §3,
    `bypass_when`); '' where nothing does.
    """
    _, mark, rest = head.target.partition("?")
    if not mark and content is None:
        return ""
    found = query.field_names(rest) if rest else _NO_NAMES
    if content is not None:
        found |= content.names
    if METHOD_FIELD in found:
        return METHOD_FIELD
    if not CREDENTIAL_FIELDS.isdisjoint(found):
        return min(found & CREDENTIAL_FIELDS)
    return "" if names.isdisjoint(found) else min(found & names)


def _json(essence: str, parameters: tuple[str, ...], body: bytes, policy: KeyPolicy) -> Content:
    # RFC 8259 §8.1: JSON is UTF-8; a charset that says so says nothing, any other cannot be trusted.
    if any(each not in ("charset=utf-8", 'charset="utf-8"') for each in parameters if each.startswith("charset=")):
        raise Unreadable("JSON in another charset than UTF-8")
    value = canonical.read(body)
    kept = canonical.without(value, policy.ignore_body_fields)
    rest = tuple(each for each in parameters if not each.startswith("charset="))
    names = frozenset(canonical.member_names(value))
    return Content(_full(essence, rest), canonical.text(kept).encode("ascii"), names)


def _media_type(value: str) -> tuple[str, tuple[str, ...]]:
    essence, *rest = value.split(";")
    return essence.strip(" \t").lower(), tuple(sorted(_parameter(part) for part in rest if part.strip(" \t")))


def _parameter(text: str) -> str:
    # The names know no case (RFC 9110 §5.6.6), the values may; that of a charset does not (§8.3.2).
    name, mark, value = text.strip(" \t").partition("=")
    return f"{name.lower()}{mark}{value.lower() if name.lower() == 'charset' else value}"


def _full(essence: str, parameters: Iterable[str]) -> str:
    return ";".join((essence, *parameters))


def _named_fields(fields: Fields, names: Iterable[str]) -> list[str]:
    named: list[str] = []
    for name in sorted({name.lower() for name in names}):
        lines = fields.getall(name, None)
        named.append(name if lines is None else f"{name}:{','.join(m for line in lines for m in split_list(line))}")
    return named
