"""What the models refuse, said for a person: the key, the value seen (never a secret), and what a right one looks like."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from passoproxy.config.keys import KeyPath, catalogue, children, dotted, find, names, remedy_for_unknown
from passoproxy.config.layers import Layer
from passoproxy.config.units import quoted
from passoproxy.errors import Fault


def explain(error: ValidationError, layer: Layer) -> tuple[list[Fault], list[KeyPath]]:
    """A fault for each thing that the models refuse, in the order of the keys, and the paths that are to be left out to go on."""
    faults, paths = [], []
    for each in error.errors(include_url=False):
        path = known_part(each)
        problem, remedy = _said(each, path)
        faults.append(Fault(layer.place(path), dotted(path), problem, remedy))
        paths.append(path)
    return faults, paths


def known_part(error: ErrorDetails) -> KeyPath:
    """The path of an error without what pydantic adds for the members of a union."""
    location: KeyPath = error["loc"]
    if error["type"] in ("extra_forbidden", "missing"):
        return location
    end = max(
        (each for each in range(1, len(location) + 1) if names(location[:each]) in catalogue()), default=len(location)
    )
    # a number after a list's key is the item
    return location[: end + 1] if end < len(location) and isinstance(location[end], int) else location[:end]


def _said(error: ErrorDetails, path: KeyPath) -> tuple[str, str]:
    value, kind = error["input"], error["type"]
    context: Mapping[str, Any] = error.get("ctx", {})
    seen = "the value" if _is_secret(path) else quoted(value)
    if kind == "extra_forbidden":
        return "is not a known key", remedy_for_unknown(path)
    if kind == "missing":
        return "is missing", f"add '{path[-1]}: ...'"
    if value is None:
        return "is empty", "give a value, or remove the line for the default"
    match kind:
        case "value_error":
            problem, _, remedy = str(context["error"]).partition("; ")
            return problem, remedy
        case "literal_error":
            return _choice(value, seen, [each or "" for each in re.findall(r"'([^']*)'", str(context["expected"]))])
        case "string_type":
            return f"{seen} is not text", "put it into quotes" if isinstance(
                value, bool | int | float
            ) else "write one text"
        case "bool_type":
            return f"{seen} is neither true nor false", "write true or false, without quotes"
        case "int_type" | "int_from_float" | "int_parsing_size":
            return f"{seen} is not a whole number", "write digits without quotes"
        case "tuple_type":
            return f"{seen} is not a list", f"write [{value}]" if isinstance(value, str | int) and not _is_secret(
                path
            ) else "write [a, b]"
        case "model_type" | "dict_type" | "model_attributes_type":
            return (
                f"{seen} is not a mapping",
                f"indent its keys below it; valid here: {', '.join(children(names(path)))}",
            )
        case "greater_than" | "greater_than_equal":
            return f"{seen} is too small", f"write {context.get('ge', context.get('gt'))} or more"
        case "less_than" | "less_than_equal":
            return f"{seen} is too large", f"write {context.get('le', context.get('lt'))} or less"
        case _:
            return f"{seen} is not valid here: {error['msg'][:1].lower()}{error['msg'][1:]}", ""


def _choice(value: object, seen: str, choices: list[str]) -> tuple[str, str]:
    listed = f"{', '.join(choices[:-1])} or {choices[-1]}"
    close = difflib.get_close_matches(str(value).lower(), choices, 1)
    return f"{seen} is not known here", f"did you mean {close[0]}? Valid: {listed}" if close else f"write {listed}"


def _is_secret(path: KeyPath) -> bool:
    key = find(path)
    return key is not None and key.secret


def without(values: dict[str, Any], paths: list[KeyPath]) -> dict[str, Any]:
    """The values less what was refused, so that the rest can be judged; a list goes as a whole, a route keeps its number."""
    result = dict(values)
    for path in paths:
        if path[0] == "routes" and len(path) > 1 and isinstance(path[1], int):
            routes = list(result["routes"])
            routes[path[1]] = _usable_route(routes[path[1]], path[1], names(path)[1:])
            result["routes"] = routes
        else:
            result = _less(result, names(path))
    return result


def _usable_route(route: Any, index: int, wrong: tuple[str, ...]) -> dict[str, Any]:
    kept = _less(route, wrong) if isinstance(route, dict) and wrong else route if isinstance(route, dict) else {}
    return {"name": f"unnamed-{index}", "match": "/**", **kept}


def _less(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    head, *rest = path
    inner = values.get(head)
    if rest and isinstance(inner, dict):
        return {**values, head: _less(inner, tuple(rest))}
    return {name: each for name, each in values.items() if name != head}
