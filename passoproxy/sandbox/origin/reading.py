"""Reading a request: query and body as one set of fields, whichever way they were written.

Both vocabularies (`nat` and `nationalities`), repeated fields and PHP's brackets mean the same here.
"""

import json
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl

from aiohttp import web

from passoproxy.sandbox.origin.asking import Asked, Invalid
from passoproxy.sandbox.recording import entry_of

ALIASES = {"lang": "language", "countries": "destinations", "destco": "destinations", "nat": "nationalities"}
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")


async def read(request: web.Request) -> Asked:
    """The request's fields; the body's win over the query's. Raises Invalid for a body that cannot be read."""
    fields = _nested(request.query.items())
    if request.can_read_body:
        raw = await request.read()
        entry_of(request).note_body(raw)
        fields |= _body(request.content_type, raw)
    return Asked({ALIASES.get(name, name): value for name, value in fields.items()})


def _body(content_type: str, raw: bytes) -> dict[str, object]:
    if not raw:
        return {}
    if content_type == "application/x-www-form-urlencoded":
        try:
            return _nested(parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=1000))
        except ValueError:
            raise Invalid({"body": "The body is not a valid form."}) from None
    if content_type != "application/json":
        raise Invalid({"body": "The body must be application/json or application/x-www-form-urlencoded."})
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise Invalid({"body": "The body is not valid JSON."}) from None
    if not isinstance(found, dict):
        raise Invalid({"body": "The body must be a JSON object."})
    return found


def _nested(pairs: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Fields as PHP reads them: `a[b]=1` nests, `a[]=1` and repeated names make lists."""
    found: dict[str, object] = {}
    for name, value in pairs:
        head, bracket, _ = name.partition("[")
        _put(found, [head, *_BRACKETS.findall(name)] if bracket and head else [name], value)
    return {name: _lists(value) for name, value in found.items()}


def _put(target: dict[str, object], path: list[str], value: str) -> None:
    for step in path[:-1]:
        inner = target.get(step)
        if not isinstance(inner, dict):
            inner = target[step] = {}
        target = inner
    last = path[-1] if path[-1] or len(path) == 1 else str(len(target))
    before = target.get(last)
    if before is None:
        target[last] = value
    else:
        target[last] = [*before, value] if isinstance(before, list) else [before, value]


def _lists(value: object) -> object:
    """Objects whose names are all numbers are lists."""
    if not isinstance(value, dict):
        return value
    inner = {name: _lists(part) for name, part in value.items()}
    return list(inner.values()) if inner and all(name.isdigit() for name in inner) else inner
