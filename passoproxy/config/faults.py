"""What pydantic refuses, said for a person: the key, the value seen (never a secret), and what a right one looks like."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from passoproxy.config.keys import KeyPath, catalogue, children, dotted, find, names, remedy_for_unknown
from passoproxy.config.sources import Layer
from passoproxy.core.units import quoted
from passoproxy.errors import Fault


def explain(error: ValidationError, layer: Layer) -> dict[KeyPath, Fault]:
    """A fault for each path that the models refuse, in the order of the keys."""
    found = {}
    for each in error.errors(include_url=False):
        path = _known_part(each)
        problem, _, remedy = _said(each, path).partition("; ")
        found[path] = Fault(layer.place(path), dotted(path), problem, remedy)
    return found


def _known_part(error: ErrorDetails) -> KeyPath:
    """The path of an error without what pydantic adds for the members of a union."""
    location: KeyPath = error["loc"]
    if error["type"] in ("extra_forbidden", "missing"):
        return location
    ends = range(1, len(location) + 1)
    end = max((each for each in ends if names(location[:each]) in catalogue()), default=len(location))
    # a number after a list's key is the item
    return location[: end + 1] if end < len(location) and isinstance(location[end], int) else location[:end]


def _said(error: ErrorDetails, path: KeyPath) -> str:
    """`problem; remedy`."""
    value, context = error["input"], error.get("ctx", {})
    key = find(path)
    is_secret = key is not None and key.secret
    seen = "the value" if is_secret else quoted(value)
    match error["type"]:
        case "extra_forbidden":
            return f"is not a known key; {remedy_for_unknown(path)}"
        case "missing":
            return f"is missing; add '{path[-1]}: ...'"
        case _ if value is None:
            return "is empty; give a value, or remove the line for the default"
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return f"{seen} is not known here; {_choice(value, context)}"
        case "string_type":
            is_scalar = isinstance(value, bool | int | float)
            return f"{seen} is not text; {'put it into quotes' if is_scalar else 'write one text'}"
        case "bool_type":
            return f"{seen} is neither true nor false; write true or false, without quotes"
        case "int_type" | "int_from_float" | "int_parsing_size":
            return f"{seen} is not a whole number; write digits without quotes"
        case "tuple_type":
            is_item = isinstance(value, str | int) and not is_secret
            return f"{seen} is not a list; write {f'[{value}]' if is_item else '[a, b]'}"
        case "model_type" | "dict_type" | "model_attributes_type":
            valid = ", ".join(children(names(path)))
            # the value may be a secret that slipped a line up
            given = "a list" if isinstance(value, list) else "a single value"
            return f"{given} is not a mapping; indent its keys below it; valid here: {valid}"
        case "greater_than" | "greater_than_equal":
            return f"{seen} is too small; write {context.get('ge', context.get('gt'))} or more"
        case "less_than" | "less_than_equal":
            return f"{seen} is too large; write {context.get('le', context.get('lt'))} or less"
        case _:
            return f"{seen} is not valid here: {error['msg'][:1].lower()}{error['msg'][1:]}"


def _choice(value: object, context: Mapping[str, Any]) -> str:
    choices = re.findall(r"'([^']*)'", str(context["expected"]))
    listed = f"{', '.join(choices[:-1])} or {choices[-1]}"
    close = difflib.get_close_matches(str(value).lower(), choices, 1)
    return f"did you mean {close[0]}? Valid: {listed}" if close else f"write {listed}"


def without(values: dict[str, Any], refused: Mapping[KeyPath, Fault]) -> dict[str, Any]:
    """The values less what was refused, so that the rest can be checked: a list goes as a whole, a route keeps its number."""
    result = dict(values)
    for path in refused:
        if path[0] == "routes" and len(path) > 1 and isinstance(path[1], int):
            routes = list(result["routes"])
            routes[path[1]] = _usable_route(routes[path[1]], path[1], names(path)[1:])
            result["routes"] = routes
        else:
            result = _less(result, names(path))
    return result


def _usable_route(route: Any, index: int, wrong: tuple[str, ...]) -> dict[str, Any]:
    kept = route if isinstance(route, dict) else {}
    return {"name": f"unnamed-{index}", "match": "/**", **(_less(kept, wrong) if wrong else kept)}


def _less(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    head, *rest = path
    inner = values.get(head)
    if rest and isinstance(inner, dict):
        return {**values, head: _less(inner, tuple(rest))}
    return {name: each for name, each in values.items() if name != head}
