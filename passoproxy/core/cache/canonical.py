"""JSON bodies in one form for equal meanings: key order and number forms do not matter, list order does (contract §3).

Whatever two readers could take differently (duplicate names, NaN, broken UTF-8) and whatever is nested deeper than anyone needs has no
such form, and makes its request a pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import NoReturn

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
    if _NUMBER in members:  # nobody but us may write it, else a body could be made to look like another
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
