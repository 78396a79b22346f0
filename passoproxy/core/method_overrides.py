"""`_method` fields, by which frameworks let a form turn its POST into another method (contract §3): where they stand and what they say.

Whether the method that comes of it is allowed is left to `core.admission`; fields of the head that do the same never leave
(`core.http.forwarding`).
"""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qsl

from passoproxy.core.http.grammar import strip_parameters
from passoproxy.core.http.patterns import decoded_once

_FIELD = "_method"
# PHP reads these characters in a field's name as underscores.
_UNDERSCORES = re.compile(r"[._\[ ]")
_DISPOSITION = re.compile(rb"content-disposition:([^\r\n]*)", re.IGNORECASE)
_NAME = re.compile(rb"[;\s]name\s*=\s*\"?([^\";]*)", re.IGNORECASE)


def methods_in_query(query: str | None) -> list[str]:
    """The values of `_method` in a query string."""
    if not query or "method" not in decoded_once(query).lower():
        return []
    return _methods(query)


def may_hold_method(content_type: str) -> bool:
    """Whether a body of this type is a form of some kind, in which a framework would look for `_method`."""
    kind = strip_parameters(content_type)
    return kind in ("application/x-www-form-urlencoded", "multipart/form-data") or _is_json(kind)


def methods_in_body(content_type: str, data: bytes) -> list[str]:
    """The values of `_method` in a form, multipart form or JSON object."""
    kind = strip_parameters(content_type)
    if kind == "multipart/form-data":
        return _methods_in_parts(data)
    if _is_json(kind):
        return _methods_in_json(data)
    return _methods(data.decode("latin-1"))


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


def _methods(form: str) -> list[str]:
    return [value for name, value in parse_qsl(form, keep_blank_values=True) if _names_method(name)]


def _names_method(name: str) -> bool:
    return _UNDERSCORES.sub("_", name.strip().lower()) == _FIELD


def _methods_in_json(data: bytes) -> list[str]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return []
    members = document.items() if isinstance(document, dict) else ()
    return [value for name, value in members if _names_method(name) and isinstance(value, str)]


def _methods_in_parts(data: bytes) -> list[str]:
    found: list[str] = []
    for line in _DISPOSITION.finditer(data):
        name = _NAME.search(line[1])
        if name is not None and _names_method(name[1].decode("latin-1")):
            # The content begins after the part's empty line; a method is not long.
            _, _, content = data[line.end() : line.end() + 1024].replace(b"\r\n", b"\n").partition(b"\n\n")
            found.append(content.partition(b"\n")[0].decode("latin-1"))
    return found
