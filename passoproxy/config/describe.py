"""The configuration described: the commented example, the JSON Schema for editors, and the effective values with secrets masked."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from passoproxy.config.keys import catalogue, dotted
from passoproxy.config.load import Loaded, leaves
from passoproxy.config.settings import Settings
from passoproxy.config.types import without_password


def commented() -> str:
    """The text of `config init` and of the project's config.example.yaml: every key with its default and what it does."""
    return resources.files("passoproxy.config").joinpath("example.yaml").read_text("utf-8")


_EXPLAINED = re.compile(r"( *)(?:- )?([a-z_]+):(?: .*?)?(?: # ?(.*))?")
_GOES_ON = re.compile(r" {20,}# ?(.*)")


@functools.cache
def texts() -> Mapping[tuple[str, ...], str]:
    """What each key does, from the comments of the example; a key without a line of its own has the text of the one that it belongs to."""
    found, path = dict[tuple[str, ...], str](), list[str]()
    for line in commented().partition("\n\n")[2].splitlines():
        if path and (more := _GOES_ON.fullmatch(line)):
            found[tuple(path)] += f" {more[1]}"
        elif key := _EXPLAINED.fullmatch(line.replace("# ", "", line.lstrip().startswith("# "))):
            depth = len(key[1]) // 2
            is_in_route = path[:1] == ["routes"] and depth > 1  # they stand deeper by the mark of the item
            path[depth - is_in_route :] = [key[2]]
            found[tuple(path)] = key[3] or ""
    for each in catalogue():
        *section, name = each
        plain, file = (*section, name.removesuffix("_file")), (*section, f"{name}_file")
        if each not in found:
            found[each] = (
                f"a file with the value of {plain[-1]}"
                if plain in found
                else f"the value itself, in the place of {file[-1]}"
                if file in found
                else found[tuple(section)]
            )
    return found


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) as plain data. It describes the form; only `config check` tells what keys mean together."""
    schema = Settings.model_json_schema()
    defaults = Settings().plain()
    definitions = schema["$defs"]
    for name, found in definitions.items():
        found.pop("title", None)
        for key in found["properties"].values():
            key.pop("title", None)
        if name != "RouteSettings":
            found.pop("required", None)
    for path in catalogue():
        _tidy(schema, definitions, path, defaults)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "passoproxy configuration",
        **{key: value for key, value in schema.items() if key not in ("title", "description")},
    }


def _tidy(schema: dict[str, Any], definitions: dict[str, Any], path: tuple[str, ...], defaults: dict[str, Any]) -> None:
    """Defaults as the file writes them, and sections that may be left empty."""
    node, value = schema, defaults
    for part in path[:-1]:
        node = definitions[_reference(node["properties"][part])]
        value = value.get(part, {}) if isinstance(value, dict) else {}
    found = node["properties"][path[-1]]
    found.pop("title", None)
    if "$ref" in found:
        node["properties"][path[-1]] = {"anyOf": [{"$ref": found["$ref"]}, {"type": "null"}]}
        return
    found["description"] = texts()[path]
    if path in (("oauth", "lost_answer_replay"), ("routes",)):
        # null keeps what lies below, as an empty section does
        node["properties"][path[-1]] = {
            "anyOf": [{key: each for key, each in found.items() if key != "default"}, {"type": "null"}],
            "default": value[path[-1]],
        }
    elif "default" in found and isinstance(value, dict) and path[-1] in value:
        found["default"] = value[path[-1]]


def _reference(node: dict[str, Any]) -> str:
    while "$ref" not in node:
        node = node["anyOf"][0] if "anyOf" in node else node["items"]
    return str(node["$ref"]).removeprefix("#/$defs/")


def shown(loaded: Loaded) -> dict[str, Any]:
    """The effective configuration, nested as the file is: short durations and sizes, secrets masked."""
    plain = loaded.settings.plain()
    if plain["store"]["url"]:
        plain["store"]["url"] = without_password(plain["store"]["url"])
    return plain


def flat(loaded: Loaded) -> list[tuple[str, str]]:
    """Every key with its value as text, in the order of the contract."""
    return [(dotted(path), _text(value)) for path, value in leaves(shown(loaded), ())]


def _text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case list():
            return f"[{', '.join(map(_text, value))}]"
        case _:
            return str(value)
