"""Filters of searches: `{"like": "REF-7%"}`, `{">=": "2026-05-01", "<": "2026-06-01"}`, or a bare value."""

import re

from passoproxy.sandbox.origin.asking import Invalid

_OPERATORS = ("like", "=", "<", "<=", ">", ">=")


def conditions(name: str, wanted: object) -> list[tuple[str, str]]:
    """A filter as operators and values; a bare value means equality. Raises Invalid for any other shape."""
    found: list[tuple[str, str]] = []
    for operator, value in (wanted if isinstance(wanted, dict) else {"=": wanted}).items():
        if operator not in _OPERATORS or not isinstance(value, str):
            raise Invalid({name: f"The {name} filter takes {', '.join(_OPERATORS)} with a text each."})
        found.append((operator, value))
    return found


def holds(found: object, wanted: list[tuple[str, str]]) -> bool:
    """Whether a value fulfils every condition; None counts as an empty text."""
    text = "" if found is None else str(found)
    return all(_compares(text, operator, value) for operator, value in wanted)


def _compares(text: str, operator: str, value: str) -> bool:
    match operator:
        case "like":
            pattern = ".*".join(re.escape(part) for part in value.split("%"))
            return re.fullmatch(pattern, text, re.IGNORECASE | re.DOTALL) is not None
        case "=":
            return text == value
        case "<":
            return text < value
        case "<=":
            return text <= value
        case ">":
            return text > value
        case _:
            return text >= value
