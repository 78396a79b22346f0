"""The commented configuration to start from; the project's config.example.yaml is the same text.

The JSON Schema (draft 2020-12) of the file, for editors. It describes the form; what keys mean together only `config check` judges.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from passoproxy.config.keys import catalogue
from passoproxy.config.settings import Settings


def commented() -> str:
    """The text of `config init`: every key with its default and what it does."""
    return resources.files("passoproxy.config").joinpath("example.yaml").read_text("utf-8")


def json_schema() -> dict[str, Any]:
    """The schema as plain data."""
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
