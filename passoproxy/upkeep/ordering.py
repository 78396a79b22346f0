"""Requests that a person or a program describes as JSON: for `explain` and `cache warm`, in the same words (contract §7)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from passoproxy.core.http.grammar import is_token
from passoproxy.core.http.messages import RequestHead, fields_of
from passoproxy.errors import UsageFailure
from passoproxy.upkeep.filling import Order

_MEMBERS = frozenset({"url", "method", "headers", "data", "body", "number"})


def order_of(described: object, target_of: Callable[[str], str], authority: str, number: int = 0) -> Order:
    """The request that is described: a URL or a path, or `{url, method, headers, body}` (`data` is another word for `body`).

    `target_of` gives path and query of a URL, or raises UsageFailure. A `body` that is no text is sent as JSON. Raises UsageFailure saying what is wrong.
    """
    described = {"url": described} if isinstance(described, str) else described
    if not isinstance(described, Mapping):
        raise UsageFailure("a URL, a path or an object with url, method, headers and body is expected")
    if unknown := set(map(str, described)) - _MEMBERS:
        raise UsageFailure(f"{min(unknown)!r} is not known here; known are url, method, headers and body")
    url = described.get("url")
    if not isinstance(url, str) or not url:
        raise UsageFailure("url: a URL or a path is expected")
    body, is_json = _body_of(described)
    method = described.get("method") or ("GET" if body is None else "POST")
    if not isinstance(method, str) or not is_token(method):
        raise UsageFailure(f"method: the name of a method is expected, such as GET, not {method!r}")
    fields = _fields_of(described.get("headers"))
    if is_json and not any(name.lower() == "content-type" for name, _ in fields):
        fields.append(("Content-Type", "application/json"))
    head = RequestHead(method.upper(), target_of(url), fields_of(fields), authority)
    return Order(number, url, head, body or b"")


def _body_of(described: Mapping[str, object]) -> tuple[bytes | None, bool]:
    """The body, and whether it is to be called JSON where no header says what it is."""
    given = [described[name] for name in ("data", "body") if described.get(name) is not None]
    if len(given) > 1:
        raise UsageFailure("data and body are two words for one thing; give one of them")
    if not given:
        return None, False
    if not isinstance(given[0], str):
        return json.dumps(given[0], ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"), True
    data = given[0].encode("utf-8", "surrogatepass")
    return data, data.lstrip()[:1] in (b"{", b"[")


def _fields_of(given: object) -> list[tuple[str, str]]:
    """From `{"Name": "value"}` (or a list of values), or from a list of `Name: value`."""
    pairs: list[tuple[object, object]] = []
    match given:
        case None:
            return []
        case Mapping():
            for name, value in given.items():
                pairs += [(name, each) for each in value] if isinstance(value, list) else [(name, value)]
        case list():
            for line in given:
                name, colon, value = str(line).partition(":")
                if not colon:
                    begins = (name.split() or [""])[0]  # no more of it: the rest may be a secret
                    raise UsageFailure(
                        f"headers: name and value are expected, as in 'Accept: text/html'; the line that begins with {begins!r} has no colon"
                    )
                pairs.append((name.strip(), value.strip()))
        case _:
            raise UsageFailure("headers: an object of names and values is expected")
    return [_field(name, value) for name, value in pairs]


def _field(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not is_token(name):
        raise UsageFailure("headers: the name of a header field is expected, as in 'Accept: text/html'")
    if not isinstance(value, str) or any(ord(each) < 32 and each != "\t" for each in value):
        raise UsageFailure(f"headers: a text without line breaks is expected for {name}")
    return name, value
