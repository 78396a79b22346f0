"""The primary key of a request (RFC 9111 §2, §4.1): identity, method class, target as the policy normalises it, named fields, and for a POST that counts
as a read its content. Two requests of one key may still select different variants, see `vary`.

JSON bodies have one form for equal meanings: key order and number forms do not matter, list order does (contract §3). A body that two readers could
take differently (duplicate names, NaN, broken UTF-8), or that is nested too deeply, has no such form and makes its request a pass. A query is
split into names and values, never re-encoded, never re-joined for the origin.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from operator import itemgetter
from typing import NoReturn
from urllib.parse import unquote_plus

from passoproxy.core.cache.policy import BypassPolicy, KeyPolicy, variable
from passoproxy.core.http.content_coding import content_coding
from passoproxy.core.http.messages import Fields, RequestHead
from passoproxy.core.http.syntax import split_list
from passoproxy.values import value

DEEPEST_NESTING = 64

Json = object
"""A JSON value: dict, list, str, int, bool or None; a number that is no small integer is an object with the one member `_NUMBER`."""

_NUMBER = "\0number"
_MOST_DIGITS = 17


class Unreadable(ValueError):
    """The bytes have no canonical form; the text says why."""


def read(data: bytes) -> Json:
    """The value of a JSON text. Raises Unreadable for what is invalid or could be read in two ways."""
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_members,
            parse_int=_integer,
            parse_float=lambda text: _number(Decimal(text)),
            parse_constant=_no_constant,
        )
    except RecursionError:
        raise Unreadable(f"nested deeper than {DEEPEST_NESTING} levels") from None
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
    except json.JSONDecodeError as fault:
        raise Unreadable(f"not JSON: {fault.msg} at {fault.pos}") from None
    except ArithmeticError:
        raise Unreadable("a number beyond all bounds") from None


def without(value: Json, paths: Iterable[str]) -> Json:
    """The value without the members at dotted `paths`; a list on the way means each of its items."""
    for path in paths:
        value = _without(value, path.split("."))
    return value


def text(value: Json) -> str:
    """The canonical text of a value that `member_names` has found to be of bounded depth."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def member_names(value: Json) -> set[str]:
    """Every member name in the value, at whatever depth. Raises Unreadable where it is nested deeper than DEEPEST_NESTING."""
    names: set[str] = set()
    level = [value]
    for _ in range(DEEPEST_NESTING):
        level = [inner for outer in level for inner in _inside(outer, names) if isinstance(inner, (dict, list))]
        if not level:
            return names
    raise Unreadable(f"nested deeper than {DEEPEST_NESTING} levels")


def _members(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Unreadable("a member name stands twice in one object")
    if _NUMBER in members:  # ours alone, else a body could be made to look like another
        raise Unreadable("a member name that cannot be keyed")
    return members


def _no_constant(word: str) -> NoReturn:
    raise Unreadable(f"{word} is no JSON number")


def _integer(text: str) -> Json:
    return int(text) if len(text) <= _MOST_DIGITS else _number(Decimal(text))


def _number(value: Decimal) -> Json:
    # By its digits: arithmetic of Decimal would round to its context's precision.
    sign, digits, exponent = value.as_tuple()
    significant = "".join(map(str, digits)).lstrip("0")
    shortest = significant.rstrip("0")
    if not shortest:
        return 0
    power = int(exponent) + len(significant) - len(shortest)
    if power >= 0 and len(shortest) + power <= _MOST_DIGITS:
        whole = int(shortest) * 10**power
        return -whole if sign else whole
    return {_NUMBER: f"{'-' if sign else ''}{shortest}E{power}"}


def _without(value: Json, path: list[str]) -> Json:
    if isinstance(value, list):
        return [_without(item, path) for item in value]
    if not isinstance(value, dict) or path[0] not in value:
        return value
    if len(path) == 1:
        return {name: member for name, member in value.items() if name != path[0]}
    return {name: _without(member, path[1:]) if name == path[0] else member for name, member in value.items()}


def _inside(value: Json, names: set[str]) -> Iterable[Json]:
    if isinstance(value, dict):
        names.update(value)
        return value.values()
    return value if isinstance(value, list) else ()


_PLAIN_NAME = re.compile(r"[\w-]*", re.ASCII).fullmatch
"""A name that everybody reads alike."""

_LONGEST_REMEMBERED = 1024
_LONGEST_BODY_REMEMBERED = 2048
_MOST_REMEMBERED = 2048


def pieces(query: str) -> list[str]:
    """The `name=value` pieces in their order, still encoded."""
    return query.split("&")


def name_of(piece: str) -> str:
    """The decoded name of a piece."""
    name = piece.partition("=")[0]
    return unquote_plus(name) if "%" in name or "+" in name else name


def normalised(query: str, ignored: tuple[str, ...] = (), sorts: bool = True) -> str:
    """The query as it stands in a key: without ignored names, sorted by name where the policy says so. Names that PHP reads as equal count
    as equal: they keep their order, since the last of them may be the one that counts.
    """
    if not ignored and (not sorts or "&" not in query):
        return query
    gone = {variable(name) for name in ignored}
    named: list[tuple[str, str]] = []
    for piece in pieces(query):
        name = piece.partition("=")[0]
        read_as = (name, "") if _PLAIN_NAME(name) else variable(name_of(piece))
        if read_as not in gone:
            named.append((read_as[0], piece))
    if sorts:
        # By the variable alone: `a[]=1&a[0]=2` and its reverse are different lists.
        named.sort(key=itemgetter(0))
    return "&".join([piece for _, piece in named])


def form_names(encoded: str) -> frozenset[str]:
    """The names in a form as frameworks see them: decoded, without `[…]`, and as PHP reads them."""
    names: set[str] = set()
    for piece in pieces(encoded):
        name = piece.partition("=")[0]
        if _PLAIN_NAME(name):
            names.add(name)
        else:
            names.update(aliases(name_of(piece)))
    return frozenset(names)


def aliases(name: str) -> tuple[str, ...]:
    """What a decoded name may be read as: itself without its index, and PHP's variable."""
    base = name.lstrip(" ").partition("\0")[0].partition("[")[0]
    return base, variable(base)[0], variable(name)[0]


METHOD_FIELD = "_method"
"""The name by which frameworks turn a POST into another method; its presence always makes a request a pass."""

CREDENTIAL_FIELDS = frozenset(
    {"access_token", "refresh_token", "id_token", "client_secret", "client_assertion", "code_verifier"}
)
"""Names of OAuth whose values are secret (RFC 6750 §2.2, §2.3; RFC 6749, 7521, 7636): a request with one is always a pass, so that no
secret becomes part of what is stored.
"""

_NO_NAMES: frozenset[str] = frozenset()


@value
class Content:
    """A POST body that can be part of a key: `canonical_form` in bytes with its media type, and every name in it."""

    media_type: str
    canonical_form: bytes
    names: frozenset[str]


def primary_key(partition: str, head: RequestHead, policy: KeyPolicy, content: Content | None = None) -> str:
    """The key's digest (SHA-256, hex) of `head` for the identity `partition`; HEAD shares GET's."""
    method, target = "GET" if head.method == "HEAD" else head.method, head.target
    if content is None and not policy.headers:
        make = _remembered_key if len(target) <= _LONGEST_REMEMBERED else _key
        return make(partition, method, target, policy.ignore_query, policy.sort_query)
    named = _named_fields(head.fields, policy.headers) if policy.headers else ()
    return _key(partition, method, target, policy.ignore_query, policy.sort_query, named, content)


def _key(
    partition: str,
    method: str,
    target: str,
    ignored: tuple[str, ...],
    sorts: bool,
    named: Iterable[str] = (),
    content: Content | None = None,
) -> str:
    path, mark, rest = target.partition("?")
    if mark and ((kept := normalised(rest, ignored, sorts)) or not rest):  # a query of which nothing counts is none
        path = f"{path}?{kept}"
    parts = (partition, method, path, *named)
    if content is None:
        return sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
    # The body stands last and behind its length of parts, so that no text can be taken for another part.
    start = "\0".join((*parts, content.media_type, "")).encode("utf-8", "surrogateescape")
    return sha256(start + content.canonical_form).hexdigest()


_remembered_key = lru_cache(maxsize=_MOST_REMEMBERED)(_key)  # hits ask for the same few targets


def content_of(fields: Fields, body: bytes, policy: KeyPolicy) -> Content:
    """What a POST body means for the key. Raises Unreadable where it cannot be keyed: multipart, coded, of a type that is not read here."""
    if content_coding(fields):
        raise Unreadable("the body is coded")
    kinds = fields.getall("Content-Type", ("",))
    if len(kinds) > 1:
        raise Unreadable("the body has several types")
    read = _remembered_content if len(body) + len(kinds[0]) <= _LONGEST_BODY_REMEMBERED else _content_of
    return read(kinds[0], body, policy.ignore_body_fields)


def _content_of(kind: str, body: bytes, ignored: tuple[str, ...]) -> Content:
    essence, parameters = _media_type(kind)
    if essence == "application/x-www-form-urlencoded":
        return Content(_full(essence, parameters), body, form_names(body.decode("utf-8", "replace")))
    if essence in ("application/json", "text/json") or essence.endswith("+json"):
        return _json(essence, parameters, body, ignored)
    if not body:
        return Content(_full(essence, parameters), b"", frozenset())
    raise Unreadable(f"a body of type {essence or 'unknown'} is not read")


_remembered_content = lru_cache(maxsize=512)(_content_of)  # clients ask the same few questions again and again


def side_effects(target: str, bypass: BypassPolicy, content: Content | None = None) -> str:
    """What makes a request a pass by a name in its query or body: METHOD_FIELD, one of CREDENTIAL_FIELDS, or one of `bypass` (contract §3,
    `bypass_when`); '' where nothing does.
    """
    query, of_body = target.partition("?")[2], _NO_NAMES if content is None else content.names
    judge = _remembered_side_effects if len(query) <= _LONGEST_REMEMBERED and content is None else _side_effects
    return judge(query, bypass, of_body)


def _side_effects(query: str, bypass: BypassPolicy, of_body: frozenset[str]) -> str:
    found, names = form_names(query) | of_body if query else of_body, bypass.names
    if METHOD_FIELD in found:
        return METHOD_FIELD
    if not CREDENTIAL_FIELDS.isdisjoint(found):
        return min(found & CREDENTIAL_FIELDS)
    return "" if names.isdisjoint(found) else min(found & names)


_remembered_side_effects = lru_cache(maxsize=_MOST_REMEMBERED)(_side_effects)


def _json(essence: str, parameters: tuple[str, ...], body: bytes, ignored: tuple[str, ...]) -> Content:
    # RFC 8259 §8.1: JSON is UTF-8; a charset that says so says nothing, any other cannot be trusted.
    if any(each not in ("charset=utf-8", 'charset="utf-8"') for each in parameters if each.startswith("charset=")):
        raise Unreadable("JSON in another charset than UTF-8")
    value = read(body)
    kept = without(value, ignored)
    rest = tuple(each for each in parameters if not each.startswith("charset="))
    names = frozenset(member_names(value))
    return Content(_full(essence, rest), text(kept).encode("ascii"), names)


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
