"""What a selector means as a condition of SQL over hints, so that SQLite sifts a million rows in C, without the interpreter's lock.

The same as `hints.judged`, held to it by a test. Rows whose hints are not exact are not met by a condition, they have to be asked one by one.
"""

from __future__ import annotations

from passoproxy.core.cache.entry import Selector
from passoproxy.stores.entries.hints import MAX_TARGET, partition_hint, range_of, text_bytes

Condition = tuple[str, tuple[bytes, ...]]
"""SQL over the columns `tag` and `rowid`, and its parameters."""

EXACT = "(typeof(tag) = 'blob' AND substr(tag, -2) = x'003d')"

_TARGET = "substr(tag, 1, instr(tag, x'00') - 1)"
_BEHIND_TARGET = "substr(tag, instr(tag, x'00') + 1)"
_ROUTE = f"substr({_BEHIND_TARGET}, 1, instr({_BEHIND_TARGET}, x'00') - 1)"
_BEHIND_ROUTE = f"substr({_BEHIND_TARGET}, instr({_BEHIND_TARGET}, x'00') + 1)"
_PARTITION = f"substr({_BEHIND_ROUTE}, 1, 16)"
_TAGS = f"substr({_BEHIND_ROUTE}, 18, length({_BEHIND_ROUTE}) - 19)"
_NEVER: Condition = ("0", ())
_RANGE = "tag >= ? AND tag < ?"
_RANGE_BESIDE = "+tag >= ? AND +tag < ?"


def meant(selector: Selector) -> Condition:
    """The rows that `selector` means for certain. `key` is not looked at."""
    return _NEVER if selector.private else _exact(selector)


def _exact(selector: Selector) -> Condition:
    parts: list[str] = [EXACT]
    given: list[bytes] = []
    if selector.prefix is not None:
        prefix = text_bytes(selector.prefix.removesuffix("*"))
        if b"\0" in prefix or len(prefix) > MAX_TARGET:
            return _NEVER
    for value, expression in ((selector.target, _TARGET), (selector.route, _ROUTE)):
        if value is not None:
            parts.append(f"{expression} = ?")
            given.append(text_bytes(value))
    if selector.partition is not None:
        parts.append(f"{_PARTITION} = ?")
        given.append(partition_hint(selector.partition))
    if selector.tag is not None:
        tag = text_bytes(selector.tag)
        if not tag or b"\0" in tag or b"\x1f" in tag:
            return _NEVER
        parts.append(f"instr(CAST(x'1f' || {_TAGS} || x'1f' AS BLOB), ?) > 0")
        given.append(b"\x1f" + tag + b"\x1f")
    within, bounds = possible(selector)
    return " AND ".join((within, *parts)), (*bounds, *given)


def possible(selector: Selector) -> Condition:
    """The range of the index outside of which nothing lies that `selector` means."""
    span = range_of(selector)
    return ("1", ()) if span is None else (_RANGE, span)


def beside(condition: Condition) -> Condition:
    """The same, so written that SQLite seeks by another condition on the index: of two ranges it would take the wider one as well."""
    text, given = condition
    return text.replace(_RANGE, _RANGE_BESIDE), given


def perhaps(selector: Selector) -> Condition:
    """The rows that have to be asked, because their hints do not tell."""
    within, bounds = possible(selector)
    if not selector.private:
        return f"{within} AND NOT {EXACT}", bounds
    text, given = _exact(selector)
    return f"{within} AND (NOT {EXACT} OR ({text}))", (*bounds, *given)


def not_meant(selector: Selector, purge: int) -> Condition:
    """The rows that were not taken by that purge of `selector`, as far as hints tell."""
    text, given = meant(selector)
    return f"NOT (access_count < {int(purge)} AND {text})", given
