"""What a client asks, as fields that are checked as the real framework does; `reading.py` finds them in a request."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from passoproxy.sandbox.data.basics import LANGUAGE_NAMES

MAX_PAIRS = 100
_CODE = re.compile(r"[A-Za-z]{2}")
_FALSE = frozenset({"", "0", "false", "no", "off"})


@dataclass(eq=False)
class Invalid(Exception):
    """What was sent cannot be used: 422, with the fault of each field."""

    errors: dict[str, str]


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
        return self._codes("nationalities", self.words("nationalities"), default)

    def destinations(self, default: str | None = None) -> list[Place]:
        """Destinations in the order asked for, as words or as objects with `destination` and `type`."""
        value = self.fields.get("destinations")
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            return [_place(item) for item in value]
        return [Place(code) for code in self._codes("destinations", self.words("destinations"), default)]

    def _codes(self, name: str, words: list[str], default: str | None) -> list[str]:
        if not words and default is not None:
            words = [default]
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
        raise Invalid(
            {
                "destinations": "Each of the destinations must have a two-letter destination and a type of travel or transit."
            }
        )
    return Place(code.upper(), kind)
