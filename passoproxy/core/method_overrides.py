"""`_method` fields, by which a POST stands for another method in many frameworks: their values in queries and bodies.

What PHP makes of a body hangs on small things of its `Content-Type` and on parsers with habits of their own (`main/rfc1867.c`,
`main/php_variables.c`). So a body is searched in every reading that it could be given, and a field is found if one of them has it. Header fields
that do the same never leave (`core.http.forwarding`). Which methods are allowed is decided in `core.access`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from urllib.parse import unquote_to_bytes

_LONGEST_METHOD = 64
_LONGEST_VALUE = 4 * _LONGEST_METHOD
# PHP splits a line of a part's head that is longer than 5 KiB, and reads what follows as another line.
_LONGEST_LINE = 4096
# PHP reads a thousand parts unless it is told otherwise.
_MOST_PARTS = 2000

_MOST_FIELDS = 1000
_MOST_LOOKED_AT = 4000
_LOOKED_BACK = 64  # bytes: a name behind more spaces than that counts wherever it is


class _Spelling:
    """How a kind of text spells `_method`, in lower case: `mark` and two hexadecimal digits are an escape, `before` is what ends where `method`
    begins, `lookbehinds` as much of it as has fixed widths, and `after` what follows."""

    def __init__(self, mark: str, before: bytes, lookbehinds: Iterable[str], after: str) -> None:
        escapes = [[f"{mark}{code:02x}" for code in (each, each ^ 0x20)] for each in b"method"]
        escaped = "".join(
            f"(?:{chr(each)}|{'|'.join(map(re.escape, codes))})" for each, codes in zip(b"method", escapes, strict=True)
        )
        self._escapes = [code.encode() for codes in escapes for code in codes]
        self._mark = mark.encode()
        # A pattern that begins with a literal is searched several times as fast, so that the lookbehinds stand behind it.
        behind = "|".join(f"(?<={each}method)" for each in lookbehinds)
        self._plain = re.compile(f"method(?:{behind}){after}".encode())
        self._escaped = re.compile(f"{escaped}{after}".encode())
        self._before = re.compile(before + rb"\Z")

    def places(self, data: bytes) -> Iterator[int]:
        """Where each `_method` ends. Raises UnclearOverride if there are very many that could be one."""
        lowered = data.lower()
        is_escaped = self._mark in lowered and any(code in lowered for code in self._escapes)
        for number, found in enumerate((self._escaped if is_escaped else self._plain).finditer(lowered)):
            if number == _MOST_LOOKED_AT:
                raise UnclearOverride(f"there are more than {number} places that could be one")
            if self._before.search(lowered[max(0, found.start() - _LOOKED_BACK) : found.start()]):
                yield found.end()


# PHP skips spaces before a name and ends it at NUL; `.`, a space and a lone `[` in it are `_`. Case and `;` are other frameworks'.
_FORM = _Spelling(
    "%",
    before=rb"(?:\A|[&;])(?:[+ ]|%20)*(?:[_.+ \[]|%5f|%2e|%20|%5b)",
    lookbehinds=[
        f"{at}{each}" for each in (r"[_.+ \[]", "%5f", "%2e", "%20", "%5b") for at in (r"\A", "[&;+ ]", "%20")
    ],
    after=r"(?=[=&;\0]|%00|\Z)",
)
_JSON = _Spelling("\\u00", before=rb'"(?:_|\\u005f)', lookbehinds=('"_', r'"\\u005f'), after='"')
_FORM_VALUE = re.compile(rb"[^=&;]*=?([^&;]*)")

_DISPOSITION = b"content-disposition:"
_HEAD_END = re.compile(rb"\n\r?\n")
# A line that begins with white space, or has no colon, goes on with the line before.
_FOLD = re.compile(rb"\r?\n(?=[ \t\v\f\r]|[^:\n]*(?:\n|\Z))")
_IN_DISPOSITION = re.compile(rb"name=+\s*[\"']?\s*[_. \[]method(?=[\s;\"']|\Z)")
_PLAIN_VALUE = re.compile(rb"([A-Za-z]{1,%d})\r?\n--" % _LONGEST_METHOD)

_MAY_BE_A_FORM = re.compile("form|urlencoded|multipart|json", re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+[ \t]*(?:;.*)?", re.ASCII)


class UnclearOverride(ValueError):
    """A body in which readers may find different methods; the text says what to write instead."""


def methods_in_query(query: str | None) -> list[str]:
    """The values of `_method` in a query string."""
    return _in_form(query.encode("utf-8", "surrogateescape")) if query else []


def may_hold_method(content_type: str) -> bool:
    """Whether a body of this type could be read as a form of some kind; only what is plainly of another type could not."""
    return _MEDIA_TYPE.fullmatch(content_type) is None or _MAY_BE_A_FORM.search(content_type) is not None


def methods_in_body(content_type: str, data: bytes) -> Sequence[str]:
    """The values of `_method` in a body, read as a form, as JSON, and (with a type that could name a boundary) in parts.

    Raises UnclearOverride where one may be there and its value cannot be told for sure.
    """
    found = _in_form(data)
    if next(_JSON.places(data), None) is not None:
        found += _in_json(data)
    if "multipart" in content_type.lower():
        found += _in_parts(data)
    return found


LONGEST_BODY_REMEMBERED = 2048
"""Bytes of a body and its type for which `remembered_methods_in_body` is meant."""
remembered_methods_in_body = lru_cache(maxsize=512)(
    methods_in_body
)  # clients ask the same few questions again and again


def _in_form(form: bytes) -> list[str]:
    values: set[bytes] = set()
    for number, at in enumerate(_FORM.places(form)):
        if number == _MOST_FIELDS:
            raise UnclearOverride(f"there are more than {_MOST_FIELDS} of them")
        values.add(_FORM_VALUE.findall(form, at, at + _LONGEST_VALUE)[0])
    return sorted(unquote_to_bytes(value.replace(b"+", b" ")).decode("latin-1") for value in values)


def _in_json(data: bytes) -> list[str]:
    try:
        # Numbers stay texts: one of 5,000 digits is a number to PHP, and a ValueError here.
        document = json.loads(data.decode("utf-8", "replace"), parse_int=str, strict=False)
    except ValueError:
        return []
    except RecursionError:
        raise UnclearOverride("the JSON is nested too deeply to be read") from None
    members = document.items() if isinstance(document, dict) else ()
    return [value for name, value in members if name.lower() == "_method" and isinstance(value, str)]


def _in_parts(data: bytes) -> list[str]:
    methods: list[str] = []
    for number, (head, content_at) in enumerate(_heads_of_parts(data)):
        if number == _MOST_PARTS:
            raise UnclearOverride(f"there are more than {_MOST_PARTS} parts")
        if b"\0" in head or any(len(line) > _LONGEST_LINE for line in head.split(b"\n")):
            raise UnclearOverride(f"the head of a part has a NUL or a line of more than {_LONGEST_LINE} bytes")
        if _IN_DISPOSITION.search(_FOLD.sub(b"", head)) is not None:
            value = _PLAIN_VALUE.match(data, content_at)
            if value is None:
                raise UnclearOverride(
                    "its part is not plainly written (a head, an empty line, the name of a method, the next boundary)"
                )
            methods.append(value[1].decode("ascii"))
    return methods


def _heads_of_parts(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Whatever could be the head of a part, wherever the boundaries are: in lower case, each with where its content begins."""
    lowered, at = data.lower(), 0
    while (begun := lowered.find(_DISPOSITION, at)) >= 0:
        end = _HEAD_END.search(lowered, begun)
        stop, at = (end.start(), end.end()) if end else (len(data), len(data))
        yield lowered[lowered.rfind(b"\n", 0, begun) + 1 : stop], at
