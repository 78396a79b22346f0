"""What a client asks: query and body as one set of fields, and each field checked as the real framework does.

Both vocabularies (`nat` and `nationalities`), repeated fields and PHP's brackets mean the same here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from aiohttp import web

from passoproxy.sandbox.data.catalogue import LANGUAGE_NAMES
from passoproxy.sandbox.journal import entry_of

MAX_PAIRS = 100
_CODE = re.compile(r"[A-Za-z]{2}")
_FALSE = frozenset({"", "0", "false", "no", "off"})


@dataclass(eq=False)
class Invalid(Exception):
    """What was sent cannot be used: 422, with the fault of each field."""

    errors: dict[str, str]


class Missing(Exception):
    """There is no such record: 404."""


class Forbidden(Exception):
    """The account's plan does not hold what is asked: 403."""


@dataclass(frozen=True, slots=True)
class Place:
    """A destination of a request."""

    code: str
    type: str = "travel"


class Asked:
    """The fields of one request, by their canonical names. Every method that reads a field raises Invalid."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self.fields = fields

    def text(self, name: str) -> str | None:
        """A single text, None where it is absent or empty."""
        value = self.fields.get(name)
        if isinstance(value, list) and value:
            value = value[-1]
        if value is None or value == "":
            return None
        if isinstance(value, (str, int, float)):
            return str(value)
        raise Invalid({name: f"The {name} field must be a string."})

    def choice(self, name: str, allowed: Iterable[str], default: str) -> str:
        """One of a few words."""
        value = self.text(name)
        if value is None:
            return default
        if value not in allowed:
            raise Invalid({name: f"The selected {name} is invalid."})
        return value

    def number(self, name: str, default: int, *, least: int = 1, most: int = 1_000_000) -> int:
        """A whole number within bounds."""
        value = self.text(name)
        if value is None:
            return default
        if not (value.isascii() and value.isdigit() and least <= int(value) <= most):
            raise Invalid({name: f"The {name} field must be an integer between {least} and {most}."})
        return int(value)

    def flag(self, name: str) -> bool | None:
        """A yes or no; None where it is absent."""
        value = self.fields.get(name)
        if isinstance(value, bool) or value is None:
            return value
        text = self.text(name)
        return (text or "").lower() not in _FALSE

    def words(self, name: str) -> list[str]:
        """A list of words: comma-joined, repeated, or an array."""
        value = self.fields.get(name)
        if value is None:
            return []
        found: list[str] = []
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, (str, int)):
                raise Invalid({name: f"The {name} field must be a list of strings."})
            found += [word.strip() for word in str(item).split(",") if word.strip()]
        return found

    def language(self) -> str:
        """The language asked for; German without one."""
        value = (self.text("language") or "de").lower()
        if value not in LANGUAGE_NAMES:
            raise Invalid({"language": "The selected language is invalid."})
        return value

    def nationalities(self, default: str | None = None) -> list[str]:
        """Codes in upper case; one at least, unless there is a default."""
        return self._codes("nationalities", default)

    def destinations(self) -> list[Place]:
        """Destinations in the order asked for, as words or as objects with `destination` and `type`."""
        value = self.fields.get("destinations")
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            return [_place(item) for item in value]
        return [Place(code) for code in self._codes("destinations")]

    def pairs(self, default: str | None = None) -> tuple[list[Place], list[str]]:
        """Destinations and nationalities, which make no more than MAX_PAIRS pairs."""
        places, passports = self.destinations(), self.nationalities(default)
        if len(places) * len(passports) > MAX_PAIRS:
            raise Invalid({"destinations": f"Destinations and nationalities may not make more than {MAX_PAIRS} pairs."})
        return places, passports

    def _codes(self, name: str, default: str | None = None) -> list[str]:
        words = self.words(name) or ([default] if default is not None else [])
        if not words:
            raise Invalid({name: f"The {name} field is required."})
        for word in words:
            if not _CODE.fullmatch(word):
                raise Invalid({name: f"The {name} field must hold two-letter codes, {word[:20]!r} is none."})
        return list(dict.fromkeys(word.upper() for word in words))

    def object(self, name: str) -> dict[str, object] | None:
        """A nested object; None where it is absent."""
        value = self.fields.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise Invalid({name: f"The {name} field must be an object."})
        return value


def _place(item: object) -> Place:
    code = item.get("destination") if isinstance(item, dict) else item
    kind = item.get("type", "travel") if isinstance(item, dict) else "travel"
    if not isinstance(code, str) or not _CODE.fullmatch(code) or kind not in ("travel", "transit"):
        text = "Each of the destinations must have a two-letter destination and a type of travel or transit."
        raise Invalid({"destinations": text})
    return Place(code.upper(), kind)


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
